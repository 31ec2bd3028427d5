//! What a search asks of one attribute, and of the DICOM JSON object that holds it (PS3.4 §C.2.2.2).
//!
//! Owns [`Test`], which the index says in SQL and [`KeyTest`] applies to DICOM JSON, and [`Element`],
//! the name of an attribute inside one data set. Holds: values and tests are normalised by the same
//! functions ([`super::normalise`]), so that equal by meaning is equal as text. As JSON a [`KeyTest`]
//! is kept by the index: what it is called there stays. Absent: reading queries, SQL.

mod evaluate;
mod pattern;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Tag, attributes::Matching};

/// Whether all of a text matches a pattern: `*` any characters, `?` any one.
pub(super) fn is_like(pattern: &str, text: &str) -> bool {
    pattern::matches(pattern, text)
}

/// A DICOM JSON object whose attributes are not looked into before they are wanted.
pub type Object<'a> = BTreeMap<&'a str, &'a RawValue>;

/// How a value is tested. Values of the test are normalised as keys are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Test {
    /// It is this value.
    Equals(String),
    /// It is one of these values.
    AnyOf(Vec<String>),
    /// It matches the pattern: `*` any characters, `?` any one.
    Like(String),
    /// It lies in the range, both ends included; an open end is `None`.
    Range {
        /// Smallest value.
        from: Option<String>,
        /// Largest value.
        to: Option<String>,
    },
    /// It has no value (`emptyvaluematching`).
    Empty,
    /// One word of a person name begins with it or sounds like it (`fuzzymatching`).
    Fuzzy(Word),
    /// Each of the tests is passed, by whichever value (`multiplevaluematching`). One inside another
    /// is passed by one and the same value: by the component groups and words of one name.
    All(Vec<Test>),
    /// One of the tests is passed.
    Any(Vec<Test>),
}

/// A word of a fuzzy search for a person name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Word {
    /// Folded; words of a name are compared with it as a prefix.
    pub text: String,
    /// How it sounds, where its script says; words of a name that sound the same match as well.
    pub sound: Option<String>,
}

/// The name of an attribute in a data set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Element {
    /// An attribute of PS3.6.
    Standard(#[serde(with = "pair")] Tag),
    /// A private attribute (PS3.5 §7.8): which block of the group its creator reserved, each data
    /// set says for itself.
    Private {
        /// The group, which is odd.
        group: u16,
        /// The private creator, without padding.
        creator: String,
        /// The element within the block.
        element: u8,
    },
}

/// A tag, as its two numbers.
mod pair {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Tag;

    pub(super) fn serialize<S: Serializer>(tag: &Tag, to: S) -> Result<S::Ok, S::Error> {
        (tag.0, tag.1).serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Tag, D::Error> {
        <(u16, u16)>::deserialize(from).map(|(group, element)| Tag(group, element))
    }
}

impl Element {
    /// The attribute in an object, under the key that it has there.
    pub fn find<'a>(&self, object: &Object<'a>) -> Option<(String, &'a RawValue)> {
        let key = match self {
            Self::Standard(Tag(group, element)) => format!("{group:04X}{element:04X}"),
            Self::Private { group, creator, element } => {
                let block = reserved(object, *group, creator)?;
                format!("{group:04X}{block:02X}{element:02X}")
            }
        };
        let attribute = object.get(key.as_str())?;
        Some((key, attribute))
    }
}

/// The block of a group that a creator reserved: the first one, where it reserved several.
pub fn reserved(object: &Object<'_>, group: u16, creator: &str) -> Option<u8> {
    #[derive(Deserialize)]
    struct Creator {
        #[serde(rename = "Value", default)]
        value: Vec<Option<String>>,
    }
    let (first, last) = (format!("{group:04X}0010"), format!("{group:04X}00FF"));
    let blocks = object.range::<str, _>((
        std::ops::Bound::Included(first.as_str()),
        std::ops::Bound::Included(last.as_str()),
    ));
    for (key, attribute) in blocks {
        let Ok(found) = serde_json::from_str::<Creator>(attribute.get()) else { continue };
        if let [Some(name)] = found.value.as_slice()
            && name.trim_matches([' ', '\0']) == creator
        {
            return u8::from_str_radix(key.get(6..8)?, 16).ok();
        }
    }
    None
}

/// What a search asks of an object: of an attribute, or of one item of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum KeyTest {
    /// The attribute passes the test by one of its values; without any, only [`Test::Empty`] passes.
    Value {
        /// The attribute.
        at: Element,
        /// How its values are normalised.
        kind: Matching,
        /// The test.
        test: Test,
    },
    /// The attribute, whose value representation only each data set tells (private attributes),
    /// passes the test of the kind that it is there.
    Untyped {
        /// The attribute.
        at: Element,
        /// What the value asked for means for each kind that it can be of.
        tests: Vec<(Matching, Test)>,
    },
    /// A date and a time, read as one moment, lie between two moments, both included (PS3.18
    /// §8.3.4.1.1). Without a date nothing passes; without a time what the date alone decides.
    Moment {
        /// The date.
        date: Element,
        /// The time.
        time: Element,
        /// Date and time of the first moment; none: from the beginning.
        from: Option<(String, String)>,
        /// Date and time of the last moment; none: to the end.
        to: Option<(String, String)>,
    },
    /// The sequence has an item that passes all tests (PS3.4 §C.2.2.2.6).
    Item {
        /// The sequence.
        at: Element,
        /// What one item passes.
        tests: Vec<KeyTest>,
    },
}
