//! The query of a search for workitems (PS3.18 §11.9.1.2): as that of any other search, over all
//! attributes that a workitem can have.
//!
//! Holds: the Transaction UID is neither matched nor returned (PS3.4 Table CC.2.5-3); what has no
//! meaning here is told as ignored.

use std::collections::BTreeMap;

use super::{
    Leaf, TIMEZONE, leaf,
    moments::{Key, combine, items, moment},
    names,
    parameters::Parameters,
    values::Asked,
    warn,
};
use crate::{
    archive::WorkitemsWanted,
    dicom::{
        Tag, attributes,
        matching::{Element, KeyTest},
        ups::tags,
    },
    query::QueryError,
};

/// What no workitem has, or nobody may ask for: the character set of the answer, commands, File Meta
/// Information, lengths of groups, and the lock.
fn is_unknown(at: &Element) -> bool {
    match at {
        Element::Standard(tags::TRANSACTION | Tag(0x0008, 0x0005)) => true,
        Element::Standard(Tag(0..=0x0007 | 0xFFFE, _) | Tag(_, 0)) => true,
        Element::Standard(_) | Element::Private { .. } => false,
    }
}

/// A search for workitems, understood; with texts for `Warning: 299`.
///
/// # Errors
/// 400: a known parameter has a bad value.
pub fn read(query: &str, maximum: u32) -> Result<(WorkitemsWanted, Vec<String>), QueryError> {
    let parameters = Parameters::read(query)?;
    let mut wanted = WorkitemsWanted {
        all: parameters.all,
        limit: parameters.limit.map_or(maximum.into(), |limit| limit.min(maximum.into())),
        offset: parameters.offset.unwrap_or(0),
        ..WorkitemsWanted::default()
    };
    let mut ignored = parameters.ignored.clone();
    if parameters.zone_named {
        // Workitems have date times, which say their own.
        ignored.push(attributes::keyword_of(TIMEZONE).unwrap_or_default().to_owned());
    }
    let mut own = Vec::new();
    let mut sequences: BTreeMap<Element, Vec<(Vec<Element>, Leaf)>> = BTreeMap::new();
    for key in &parameters.keys {
        let refuse = |rule: String| QueryError::invalid(key.name.clone(), rule);
        let path = parameters.creators.resolve(&key.path, &[]).map_err(refuse)?;
        let Some(first) = path.first().filter(|at| !is_unknown(at)).cloned() else {
            ignored.push(key.name.clone());
            continue;
        };
        include(&mut wanted, std::slice::from_ref(&first));
        let leaf = leaf(key, &path, &[], &parameters).map_err(refuse)?;
        if leaf.asked == Asked::Unsupported {
            ignored.push(key.name.clone());
            continue;
        }
        wanted.names.push(key.name.clone());
        match path.split_first() {
            Some((_, rest)) if !rest.is_empty() => {
                sequences.entry(first).or_default().push((rest.to_vec(), leaf));
            }
            _ => own.push(leaf),
        }
    }
    for key in combine(own, None)? {
        match key {
            Key::One(leaf) => wanted.tests.extend(leaf.test()?),
            Key::Moment { date, time, from, to, .. } => {
                wanted.tests.push(moment(date, time, from, to));
            }
        }
    }
    for (at, keys) in sequences {
        let tests = items(keys)?;
        if !tests.is_empty() {
            wanted.tests.push(KeyTest::Item { at, tests });
        }
    }
    for (_, field) in &parameters.fields {
        if let [tag] = field.as_slice()
            && names::is_creator(*tag)
        {
            wanted.tags.insert(*tag);
            continue;
        }
        let path = parameters.creators.resolve(field, &[]);
        let path = path.map_err(|rule| QueryError::invalid("includefield", rule))?;
        if path.first().is_some_and(|at| !is_unknown(at)) {
            include(&mut wanted, &path);
        }
    }
    let ignored = ignored.iter().map(String::as_str).chain(parameters.creators.unused());
    let mut warnings = Vec::new();
    warn(
        &mut warnings,
        "The following query parameters are not supported here and were ignored",
        ignored,
    );
    Ok((wanted, warnings))
}

fn include(wanted: &mut WorkitemsWanted, path: &[Element]) {
    match path {
        [Element::Standard(tag)] => _ = wanted.tags.insert(*tag),
        path => wanted.paths.push(path.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::matching::Test;

    fn tests(query: &str) -> Vec<KeyTest> {
        read(query, 200).unwrap().0.tests
    }

    #[test]
    fn attributes_of_items_are_one_item() {
        let query = "ScheduledStationNameCodeSequence.CodeValue=CT1&00404025.00080102=99X";
        let [KeyTest::Item { at, tests }] = &*tests(query) else { panic!("one item") };
        assert_eq!(*at, Element::Standard(Tag(0x0040, 0x4025)));
        assert_eq!(tests.len(), 2);
        let deep = "ReferencedRequestSequence.IssuerOfAccessionNumberSequence.UniversalEntityID=x";
        let [KeyTest::Item { tests, .. }] = &*self::tests(deep) else { panic!("one item") };
        assert!(matches!(&**tests, [KeyTest::Item { .. }]));
    }

    #[test]
    fn what_is_matched_is_returned() {
        let (wanted, warnings) =
            read("PatientName=doe*&0040A370.AccessionNumber=1&includefield=00404010", 9).unwrap();
        let tags = [Tag(0x0010, 0x0010), Tag(0x0040, 0x4010), Tag(0x0040, 0xA370)];
        assert_eq!(wanted.tags, tags.into());
        assert_eq!((wanted.limit, wanted.offset, warnings.len()), (9, 0, 0));
        assert_eq!(read("limit=5&offset=7", 9).unwrap().0.limit, 5);
        assert_eq!(read("limit=10", 9).unwrap().0.limit, 9);
    }

    #[test]
    fn the_lock_is_no_key() {
        for query in ["TransactionUID=1.2", "00081195=1.2", "00081195=&Nonsense=1"] {
            let (wanted, warnings) = read(query, 9).unwrap();
            assert!(wanted.tests.is_empty() && wanted.tags.is_empty(), "{query}");
            assert_eq!(warnings.len(), 1, "{query}");
        }
        let (wanted, _) = read("includefield=TransactionUID", 9).unwrap();
        assert!(wanted.tags.is_empty() && wanted.paths.is_empty());
    }

    #[test]
    fn ranges_of_moments_and_bad_values() {
        let range = tests("ScheduledProcedureStepStartDateTime=20260101-20260131");
        let [KeyTest::Value { test: Test::Range { from: Some(from), to: Some(to) }, .. }] = &*range
        else {
            panic!("a range")
        };
        assert_eq!((&**from, &**to), ("20260101000000.000000", "20260131235959.999999"));
        for query in [
            "ScheduledProcedureStepStartDateTime=yesterday",
            "SOPInstanceUID=x",
            "limit=-1",
            "fuzzymatching=yes",
            "ScheduledStationNameCodeSequence=x",
        ] {
            assert!(read(query, 9).is_err(), "{query}");
        }
        assert!(tests("ScheduledStationNameCodeSequence=&PatientID=*").is_empty());
    }
}
