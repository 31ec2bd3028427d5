//! What a study or series row says, and how several instances say it together.
//!
//! The first instance with a value wins; later ones fill what is empty. Search columns follow the
//! attributes that they are of: where one says something, however little of it can be searched, no
//! column of it is taken from another instance.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow};

use super::{IndexError, NewInstance, columns};
use crate::dicom::{
    attributes::{self, Level},
    json,
};

/// Attributes of a DICOM JSON object.
type Object<'a> = BTreeMap<&'a str, &'a RawValue>;

/// What a parent row says: its attributes and its search columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    attributes: String,
    columns: Vec<Option<String>>,
}

impl Facts {
    /// What `new` says at `level`.
    fn of(new: &NewInstance<'_>, level: Level, columns: &[&str]) -> Result<Self, IndexError> {
        let attributes = std::str::from_utf8(new.indexed.attributes(level))
            .map_err(|_| IndexError::Inconsistent { table: "study", column: "attributes" })?;
        let columns = columns
            .iter()
            .map(|name| columns::value(new.indexed, name).map(std::borrow::Cow::into_owned))
            .collect();
        Ok(Self { attributes: attributes.to_owned(), columns })
    }

    /// Reads columns from number `at`: attributes, then `count` search columns.
    pub(super) fn read(row: &PgRow, at: usize, count: usize) -> Result<Self, IndexError> {
        let columns =
            (at + 1..=at + count).map(|n| row.try_get(n)).collect::<Result<_, sqlx::Error>>()?;
        Ok(Self { attributes: row.try_get(at)?, columns })
    }

    /// The attributes, as DICOM JSON.
    pub(super) fn attributes(&self) -> &str {
        &self.attributes
    }

    /// The value of one of its search columns, which are those of the list.
    pub(super) fn column(&self, columns: &[&str], name: &str) -> Option<&str> {
        let at = columns.iter().position(|column| *column == name)?;
        self.columns.get(at)?.as_deref()
    }

    /// Takes from `other` what is empty here; says whether there was anything. `columns` are the
    /// names of the search columns of both.
    pub(super) fn fill(&mut self, other: &Self, columns: &[&str]) -> bool {
        let Self { attributes, columns: mine } = self;
        let (mut filled, mut said) = (false, None);
        for ((name, mine), theirs) in columns.iter().zip(mine).zip(&other.columns) {
            if mine.is_some() || theirs.is_none() {
                continue;
            }
            let said: &Object<'_> =
                said.get_or_insert_with(|| serde_json::from_str(attributes).unwrap_or_default());
            let says = |tag| {
                said.get(json::name(tag).as_str()).is_some_and(|attribute| has_value(attribute))
            };
            if !attributes::of_column(name).is_some_and(|attribute| says(attribute.tag)) {
                mine.clone_from(theirs);
                filled = true;
            }
        }
        if let Some(merged) = merge(&self.attributes, &other.attributes) {
            self.attributes = merged;
            filled = true;
        }
        filled
    }
}

/// An attribute without a value is `{"vr":"…"}` (PS3.18 §F.2.5).
fn has_value(attribute: &RawValue) -> bool {
    serde_json::from_str::<BTreeMap<&str, IgnoredAny>>(attribute.get())
        .is_ok_and(|members| members.keys().any(|name| *name != "vr"))
}

/// `mine` with the values of `theirs` where it has none; `None` where that changes nothing. Both
/// are DICOM JSON objects; keys ascend. Text that is no such object adds nothing.
fn merge(mine: &str, theirs: &str) -> Option<String> {
    if mine == theirs {
        return None;
    }
    let mut merged: Object<'_> = serde_json::from_str(mine).ok()?;
    let mut changed = false;
    for (tag, attribute) in serde_json::from_str::<Object<'_>>(theirs).ok()? {
        match merged.entry(tag) {
            Entry::Vacant(place) => {
                place.insert(attribute);
                changed = true;
            }
            Entry::Occupied(mut place) if !has_value(place.get()) && has_value(attribute) => {
                place.insert(attribute);
                changed = true;
            }
            Entry::Occupied(_) => {}
        }
    }
    if changed { serde_json::to_string(&merged).ok() } else { None }
}

/// Splits facts into arrays, one for the attributes and one for each column.
pub(super) fn transpose<'a>(
    facts: impl Iterator<Item = &'a Facts> + Clone,
    count: usize,
) -> (Vec<&'a str>, Vec<Vec<Option<&'a str>>>) {
    let attributes = facts.clone().map(|facts| facts.attributes.as_str()).collect();
    let columns = (0..count)
        .map(|n| {
            facts.clone().map(|facts| facts.columns.get(n).and_then(|c| c.as_deref())).collect()
        })
        .collect();
    (attributes, columns)
}

/// What some instances together say of their parents, ascending by key.
pub(super) fn gather<'a, K: Ord>(
    news: &[&'a NewInstance<'_>],
    level: Level,
    columns: &[&str],
    key: impl Fn(&'a NewInstance<'_>) -> Option<K>,
) -> Result<BTreeMap<K, Facts>, IndexError> {
    let mut gathered: BTreeMap<K, (Facts, &[u8])> = BTreeMap::new();
    for &new in news {
        let Some(key) = key(new) else { continue };
        let attributes = new.indexed.attributes(level);
        match gathered.entry(key) {
            Entry::Vacant(place) => {
                place.insert((Facts::of(new, level, columns)?, attributes));
            }
            Entry::Occupied(mut place) => {
                let (facts, last) = place.get_mut();
                // Instances of one parent mostly say the same; columns are a part of attributes.
                if *last != attributes {
                    facts.fill(&Facts::of(new, level, columns)?, columns);
                    *last = attributes;
                }
            }
        }
    }
    Ok(gathered.into_iter().map(|(key, (facts, _))| (key, facts)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_fill_what_is_empty_and_change_nothing_else() {
        let check = |mine, theirs, expected: Option<&str>| {
            assert_eq!(merge(mine, theirs).as_deref(), expected, "{mine} + {theirs}");
        };
        let named = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A"}]}}"#;
        let other = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"B"}]}}"#;
        let empty = r#"{"00100010":{"vr":"PN"}}"#;
        check(named, named, None);
        check(named, other, None);
        check(named, empty, None);
        check(empty, named, Some(named));
        check("{}", named, Some(named));
        check(named, "{}", None);
        check(named, "no object", None);
        check("{}", empty, Some(empty));
        check(
            r#"{"00200010":{"vr":"SH"}}"#,
            r#"{"00080020":{"vr":"DA"}}"#,
            Some(r#"{"00080020":{"vr":"DA"},"00200010":{"vr":"SH"}}"#),
        );
    }

    #[test]
    fn columns_come_with_their_attribute() {
        let facts = |attributes: &str, columns: [Option<&str>; 3]| Facts {
            attributes: attributes.to_owned(),
            columns: columns.map(|value| value.map(str::to_owned)).to_vec(),
        };
        let names = ["patient_name", "patient_name_ideographic", "patient_id"];
        let alphabetic = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A"}]}}"#;
        let both = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"B","Ideographic":"C"}]},"00100020":{"vr":"LO","Value":["1"]}}"#;
        let second = facts(both, [Some("b"), Some("c"), Some("1")]);
        // Another name's group is not taken for one of the first.
        let mut first = facts(alphabetic, [Some("a"), None, None]);
        assert!(first.fill(&second, &names));
        assert_eq!(first.columns, [Some("a".into()), None, Some("1".into())]);
        assert!(!first.fill(&second, &names));
        // A name that has no value yet is taken whole.
        let mut first = facts(r#"{"00100010":{"vr":"PN"}}"#, [None, None, None]);
        assert!(first.fill(&second, &names));
        assert_eq!(first, second);
    }
}
