//! The query of a search that no index answers (Non-Patient Instances): every key is a test of what
//! is stored.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    leaf,
    moments::{Key, Leaf, combine, items, moment},
    parameters::Parameters,
    values::Asked,
    warn,
};
use crate::{
    archive::NonPatientQuery,
    dicom::{
        Tag,
        matching::{Element, KeyTest},
        non_patient::{COMMON, Category},
    },
    query::QueryError,
};

/// Made on the way out: character set, availability, RetrieveURL.
const MADE: [Tag; 3] = [Tag(0x0008, 0x0005), Tag(0x0008, 0x0056), Tag(0x0008, 0x1190)];

/// Reads the query of a search of a category, with texts for `Warning: 299`.
///
/// # Errors
/// 400, as [`super::read`].
pub fn read(
    category: &Category,
    query: &str,
    maximum: u32,
) -> Result<(NonPatientQuery, Vec<String>), QueryError> {
    let parameters = Parameters::read(query)?;
    let mut matched: BTreeSet<Element> = BTreeSet::new();
    let mut ignored = parameters.ignored.clone();
    let (mut own, mut tests) = (Vec::new(), Vec::new());
    let mut sequences: BTreeMap<Element, Vec<(Vec<Element>, Leaf)>> = BTreeMap::new();
    for key in &parameters.keys {
        let refuse = |rule: String| QueryError::invalid(key.name.clone(), rule);
        let mut path = parameters.creators.resolve(&key.path, &[]).map_err(refuse)?;
        let leaf = leaf(key, &path, &[], &parameters).map_err(refuse)?;
        let first = path.remove(0);
        let is_made = matches!(&first, Element::Standard(tag) if MADE.contains(tag));
        if leaf.asked == Asked::Unsupported || is_made {
            ignored.push(key.name.clone());
            continue;
        }
        matched.insert(first.clone());
        match path.is_empty() {
            true => own.push(leaf),
            false => sequences.entry(first).or_default().push((path, leaf)),
        }
    }
    for key in combine(own, None)? {
        match key {
            Key::One(leaf) => {
                let name = leaf.name.clone();
                tests.extend(leaf.test()?.map(|test| (name, test)));
            }
            Key::Moment { name, date, time, from, to, .. } => {
                tests.push((name, moment(date, time, from, to)));
            }
        }
    }
    for (at, keys) in sequences {
        let name = keys.first().map(|(_, leaf)| leaf.name.clone()).unwrap_or_default();
        let inner = items(keys)?;
        if !inner.is_empty() {
            tests.push((name, KeyTest::Item { at, tests: inner }));
        }
    }
    let standard = COMMON.iter().chain(category.keys).map(|tag| Element::Standard(*tag));
    let mut paths: Vec<Vec<Element>> = standard.chain(matched).map(|at| vec![at]).collect();
    for (_, field) in &parameters.fields {
        let path = parameters.creators.resolve(field, &[]);
        paths.push(path.map_err(|rule| QueryError::invalid("includefield", rule))?);
    }
    let maximum = i64::from(maximum);
    let mut warnings = Vec::new();
    let unused = parameters.creators.unused();
    warn(
        &mut warnings,
        "The following query parameters are not supported here and were ignored",
        ignored.iter().map(String::as_str).chain(unused),
    );
    let limit = parameters.limit.map_or(maximum, |limit| limit.min(maximum));
    let (all, offset) = (parameters.all, parameters.offset.unwrap_or(0));
    Ok((NonPatientQuery { tests, paths, all, limit, offset }, warnings))
}
