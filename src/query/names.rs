//! Names of attributes in a query: keywords, tags, paths into sequences, private attributes (PS3.18
//! §8.3.4.1).
//!
//! Holds: keywords are case-sensitive and those of PS3.6; a private attribute is named by its creator
//! ([`Creators`]), never by the block that the client happened to write.

use std::cell::Cell;

use crate::{
    archive::SearchTag,
    dicom::{Tag, attributes, json::tag_of, matching::Element},
};

/// Deepest path: beyond what data sets nest, and a bound on what one name makes.
const MAX_DEPTH: usize = 16;

/// The tags of a name: one, or a path into sequences with dots between them, keywords and tags
/// mixed. `None`: no name of attributes.
pub(super) fn path(name: &str) -> Option<Vec<Tag>> {
    let tags: Option<Vec<Tag>> = name.split('.').take(MAX_DEPTH + 1).map(one).collect();
    tags.filter(|tags| tags.len() <= MAX_DEPTH)
}

/// A keyword or eight hexadecimal digits.
fn one(name: &str) -> Option<Tag> {
    tag_of(name).or_else(|| attributes::tag_of_keyword(name))
}

/// Whether a tag is that of a private creator (PS3.5 §7.8.1).
pub(super) fn is_creator(tag: Tag) -> bool {
    !tag.group().is_multiple_of(2) && (0x0010..=0x00FF).contains(&tag.element())
}

/// The private creators that a query gives, such as `00230010=ACME`.
#[derive(Debug, Default)]
pub(super) struct Creators(Vec<Creator>);

#[derive(Debug)]
struct Creator {
    parameter: String,
    path: Vec<Tag>,
    creator: String,
    used: Cell<bool>,
}

impl Creators {
    /// Takes a parameter that names a creator. `false`: it was given before.
    pub(super) fn add(&mut self, parameter: &str, path: Vec<Tag>, creator: String) -> bool {
        let first = self.0.iter().all(|known| known.path != path);
        let (parameter, used) = (parameter.to_owned(), Cell::new(false));
        self.0.push(Creator { parameter, path, creator, used });
        first
    }

    /// What a path names. Private attributes of items are of the creator that was given with the
    /// same path, else of the one given for the data set; those of the data set without one, of the
    /// extended query tag that is meant.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub(super) fn resolve(&self, path: &[Tag], tags: &[SearchTag]) -> Result<Vec<Element>, String> {
        let element = |(depth, tag): (usize, &Tag)| {
            if tag.group().is_multiple_of(2) {
                return Ok(Element::Standard(*tag));
            }
            let (group, block) = (tag.group(), tag.element() >> 8);
            if block < 0x10 {
                return Err("no attribute that can be searched (PS3.5 §7.8.1)".to_owned());
            }
            let element = (tag.element() & 0xFF) as u8;
            let own = path.get(..depth).unwrap_or_default();
            let lent = if path.len() == 1 { lent(group, element, tags) } else { None };
            let creator = self.given(own, Tag(group, block)).or(lent).ok_or_else(|| {
                format!(
                    "a private attribute needs its creator: add the parameter \
                     {group:04X}{block:04X} with its name (PS3.18 §8.3.4.1)"
                )
            })?;
            Ok(Element::Private { group, creator, element })
        };
        path.iter().enumerate().map(element).collect()
    }

    fn given(&self, path: &[Tag], tag: Tag) -> Option<String> {
        let at = |path: &[Tag]| {
            let is = |known: &&Creator| known.path.split_last() == Some((&tag, path));
            self.0.iter().find(is)
        };
        let found = at(path).or_else(|| at(&[]))?;
        found.used.set(true);
        Some(found.creator.clone())
    }

    /// The parameters that no attribute needed.
    pub(super) fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|known| !known.used.get()).map(|known| known.parameter.as_str())
    }
}

/// The creator of the extended query tag that is meant, where only one can be.
fn lent(group: u16, element: u8, tags: &[SearchTag]) -> Option<String> {
    let mut creators = tags.iter().filter_map(|tag| match &tag.at {
        Element::Private { group: g, creator, element: e } if (*g, *e) == (group, element) => {
            Some(creator)
        }
        _ => None,
    });
    let only = creators.next()?;
    creators.all(|other| other == only).then(|| only.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keywords_tags_and_paths_of_them() {
        let tags =
            |name| path(name).map(|tags| tags.iter().map(|t| (t.0, t.1)).collect::<Vec<_>>());
        for (name, expected) in [
            ("PatientID", Some(vec![(0x0010, 0x0020)])),
            ("0010002a", Some(vec![(0x0010, 0x002A)])),
            ("OtherPatientIDsSequence.00100020", Some(vec![(0x0010, 0x1002), (0x0010, 0x0020)])),
            ("00101002.PatientID", Some(vec![(0x0010, 0x1002), (0x0010, 0x0020)])),
            ("patientid", None),
            ("PatientID.", None),
            (".PatientID", None),
            ("", None),
            ("0010 020", None),
            ("001000200", None),
        ] {
            assert_eq!(tags(name), expected, "{name}");
        }
        assert!(path(&["00101002"; 16].join(".")).is_some());
        assert!(path(&["00101002"; 17].join(".")).is_none());
        assert!(is_creator(Tag(0x0023, 0x0010)) && !is_creator(Tag(0x0023, 0x1000)));
        assert!(!is_creator(Tag(0x0008, 0x0018)));
    }
}
