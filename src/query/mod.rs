//! The query of a Search request (PS3.18 §8.3.4, §10.6.1.2): parameters in; a plan, filters, and what
//! is returned out.
//!
//! Holds: a known parameter with a bad value is an error that names the parameter and the rule; an
//! unknown one is left alone and told in a warning. Pure: what matches is the index's business.
//!
//! Its rooms: what parameters there are (`parameters`), what names mean (`names`), what values ask
//! (`values`), which of them are one (`moments`), and where each is answered (`placing`); and the same
//! for workitems (`worklist`); and the identifier of a C-FIND, which asks the same (`identifier`).

mod error;
mod identifier;
mod moments;
mod names;
mod naming;
mod parameters;
mod placing;
mod stored;
mod values;
mod whole;
pub mod worklist;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    archive::{Extended, Filter, Returned, SearchPlan, SearchTag, Within},
    config::SearchConfig,
    dicom::{
        Tag, Uid, VR,
        attributes::{self, Level},
        matching::Element,
    },
};
use moments::{Leaf, combine};
use parameters::{Matched, Parameters};
use placing::Placing;
pub use stored::read as read_stored;
use values::Asked;

pub use error::QueryError;
pub use identifier::{Asks, Key};
pub use naming::{Naming, PARTITION_ID, PARTITION_TAG};
pub use whole::{level_of, read_whole};

#[cfg(test)]
mod tests;

/// Parameter names that a `Warning` repeats; more would make the header too long.
const MAX_WARNED: usize = 16;

/// Longest name that a `Warning` repeats, in bytes: a path of three keywords of PS3.6.
const MAX_NAME: usize = 200;

const TIMEZONE: Tag = Tag(0x0008, 0x0201);
const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);

/// A Search request, understood.
#[derive(Debug)]
pub struct SearchQuery {
    /// What to look for, and how much of it.
    pub plan: SearchPlan,
    /// What is to be looked at in each row that the plan finds.
    pub filters: Vec<Filter>,
    /// What to return of each match.
    pub returned: Returned,
    /// Texts for `Warning: 299`.
    pub warnings: Vec<String>,
    /// Parameters of extended query tags some of whose values could not be indexed, as typed.
    pub erroneous: Vec<String>,
}

/// Where a search looks: the level of its results and the parents that the path fixes.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Level of the results.
    pub level: Level,
    /// `/studies/{study}/...`
    pub study: Option<Uid>,
    /// `/series/{series}/...`
    pub series: Option<Uid>,
}

/// Reads the query of a search. `tags`: the extended query tags of its scope.
///
/// # Errors
/// 400, see the module.
pub fn read(
    resource: &Resource,
    query: &str,
    config: &SearchConfig,
    tags: &[SearchTag],
) -> Result<SearchQuery, QueryError> {
    understand(resource, &Parameters::read(query)?, config, tags)
}

/// What parameters ask.
fn understand(
    resource: &Resource,
    parameters: &Parameters,
    config: &SearchConfig,
    tags: &[SearchTag],
) -> Result<SearchQuery, QueryError> {
    let mut placing = Placing {
        level: resource.level,
        tags,
        use_incomplete: parameters.incomplete,
        ways: parameters.ways,
        conditions: Vec::new(),
        filters: Vec::new(),
        ignored: Vec::new(),
        erroneous: Vec::new(),
        incomplete: Vec::new(),
    };
    let mut returned = returned(resource, parameters, tags)?;
    let matched = place(parameters, tags, &mut placing)?;
    for element in matched {
        match element {
            Element::Standard(tag) => _ = returned.tags.insert(tag),
            private => returned.paths.push(vec![private]),
        }
    }
    returned.extended = extended(&returned, tags, resource.level);
    let Placing { conditions, mut filters, erroneous, incomplete, ignored, .. } = placing;
    // What is cheaper to look at goes first.
    filters.sort_by_key(|filter| filter.from);
    let maximum = i64::from(match resource.level {
        Level::Study => config.max_studies,
        Level::Series => config.max_series,
        Level::Instance => config.max_instances,
    });
    let plan = SearchPlan {
        level: resource.level,
        within: match (resource.study.clone(), resource.series.clone()) {
            (Some(study), Some(series)) => Within::Series(study, series),
            (Some(study), None) => Within::Study(study),
            (None, _) => Within::Archive,
        },
        conditions,
        limit: parameters.limit.map_or(maximum, |limit| limit.min(maximum)),
        offset: parameters.offset.unwrap_or(0),
        after: None,
    };
    let unused = parameters.creators.unused();
    let ignored = ignored.iter().chain(&parameters.ignored).map(String::as_str).chain(unused);
    let mut warnings = Vec::new();
    warn(
        &mut warnings,
        "The following query parameters are not supported here and were ignored",
        ignored,
    );
    warn(
        &mut warnings,
        "Results may be incomplete, since these attributes are still being indexed",
        incomplete.iter().map(String::as_str),
    );
    Ok(SearchQuery { plan, filters, returned, warnings, erroneous })
}

/// Whether a query may name an extended query tag: something that has no column.
///
/// # Errors
/// 400, as [`read`].
pub fn may_name_tags(query: &str) -> Result<bool, QueryError> {
    Ok(names_tags(&Parameters::read(query)?))
}

fn names_tags(parameters: &Parameters) -> bool {
    let matched = parameters.keys.iter().map(|key| &key.path);
    let mut all = matched.chain(parameters.fields.iter().map(|(_, path)| path));
    all.any(|path| match path.as_slice() {
        [MODALITIES_IN_STUDY] => false,
        [tag] => attributes::by_tag(*tag).is_none_or(|row| row.column.is_none()),
        _ => false,
    })
}

/// The tags of a study or series that are asked for: which instance speaks, only the index knows.
/// An instance has its own private attributes, in blocks of its own.
fn extended(returned: &Returned, tags: &[SearchTag], level: Level) -> Vec<Extended> {
    let named = |at: &Element| match at {
        Element::Standard(tag) => returned.tags.contains(tag),
        private => {
            level < Level::Instance && returned.paths.iter().any(|path| *path == [private.clone()])
        }
    };
    let tags = tags.iter().filter(|tag| tag.level <= level && tag.level < Level::Instance);
    tags.filter(|tag| named(&tag.at))
        .map(|tag| Extended {
            id: tag.id,
            level: tag.level,
            creator: match &tag.at {
                Element::Standard(_) => None,
                Element::Private { creator, .. } => Some(creator.clone()),
            },
        })
        .collect()
}

/// Gives each matching parameter its place. The attributes that are matched, those of items by their
/// sequence.
fn place(
    parameters: &Parameters,
    tags: &[SearchTag],
    placing: &mut Placing<'_>,
) -> Result<BTreeSet<Element>, QueryError> {
    let mut matched = BTreeSet::new();
    if parameters.zone_named {
        matched.insert(Element::Standard(TIMEZONE));
    }
    let mut own = Vec::new();
    let mut sequences: BTreeMap<Element, Vec<(Vec<Element>, Leaf)>> = BTreeMap::new();
    for key in &parameters.keys {
        let refuse = |rule: String| QueryError::invalid(key.name.clone(), rule);
        let mut path = parameters.creators.resolve(&key.path, tags).map_err(refuse)?;
        let leaf = leaf(key, &path, tags, parameters).map_err(refuse)?;
        let first = path.remove(0);
        if leaf.asked == Asked::Unsupported || !placing.reaches(&first) {
            placing.ignored.push(key.name.clone());
            continue;
        }
        matched.insert(first.clone());
        if !path.is_empty() {
            sequences.entry(first).or_default().push((path, leaf));
        } else if first == Element::Standard(MODALITIES_IN_STUDY) {
            let values: Vec<&str> = key.values.iter().map(String::as_str).collect();
            placing.modalities(&key.name, &values)?;
        } else {
            own.push(leaf);
        }
    }
    for key in combine(own, parameters.zone)? {
        placing.place(key)?;
    }
    for (at, keys) in sequences {
        placing.sequence(at, keys)?;
    }
    Ok(matched)
}

/// A parameter, understood.
fn leaf(
    key: &Matched,
    path: &[Element],
    tags: &[SearchTag],
    parameters: &Parameters,
) -> Result<Leaf, String> {
    let (at, sequences) = path.split_last().ok_or("no attribute")?;
    let is_sequence = |at: &Element| match at {
        Element::Standard(tag) => attributes::vr_of(*tag).is_none_or(|vr| vr == VR::SQ),
        Element::Private { .. } => true,
    };
    if !sequences.iter().all(is_sequence) {
        return Err("an attribute before a dot has to be a sequence (PS3.18 §8.3.4.1)".to_owned());
    }
    let tag = tags.iter().find(|tag| sequences.is_empty() && tag.at == *at);
    let vr = match (tag, at) {
        (Some(tag), _) => Some(tag.vr),
        (None, Element::Standard(tag)) => attributes::vr_of(*tag),
        (None, Element::Private { .. }) => None,
    };
    let values: Vec<&str> = key.values.iter().map(String::as_str).collect();
    let asked = if *at == Element::Standard(MODALITIES_IN_STUDY) {
        // Its list is read where it is placed.
        Asked::Universal
    } else {
        values::asked(vr, &values, parameters.ways)?
    };
    Ok(Leaf { name: key.name.clone(), at: at.clone(), vr, asked })
}

/// What is returned, matched attributes apart.
fn returned(
    resource: &Resource,
    parameters: &Parameters,
    tags: &[SearchTag],
) -> Result<Returned, QueryError> {
    let mut returned = Returned {
        // Parents that the path names are known to the client; their UIDs are returned still.
        study: resource.level == Level::Study || resource.study.is_none(),
        series: resource.level == Level::Series
            || (resource.level == Level::Instance && resource.series.is_none()),
        all: parameters.all,
        tags: BTreeSet::new(),
        paths: Vec::new(),
        extended: Vec::new(),
        partition: false,
    };
    returned.tags.extend(resource.study.as_ref().map(|_| STUDY_UID));
    returned.tags.extend(resource.series.as_ref().map(|_| SERIES_UID));
    for (_, tags_of) in &parameters.fields {
        if let [tag] = tags_of.as_slice()
            && (tag.group().is_multiple_of(2) || names::is_creator(*tag))
        {
            returned.tags.insert(*tag);
            continue;
        }
        let path = parameters.creators.resolve(tags_of, tags);
        returned.paths.push(path.map_err(|rule| QueryError::invalid("includefield", rule))?);
    }
    Ok(returned)
}

/// Adds a text that names parameters. Names come from outside: only what can be a name is repeated
/// in a header.
fn warn<'a>(warnings: &mut Vec<String>, text: &str, names: impl Iterator<Item = &'a str>) {
    let plain = |name: &&str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
    };
    let names: Vec<&str> = names.filter(plain).take(MAX_WARNED).collect();
    if !names.is_empty() {
        warnings.push(format!("{text}: {}", names.join(", ")));
    }
}
