//! The two models in which clients send data sets: DICOM JSON (PS3.18 Annex F) and the Native DICOM
//! Model (PS3.19 §A.1), read into one tree.
//!
//! Owns their syntax. Holds: input is hostile; nesting is bounded by the caller, and what is made of
//! a text by the room that he gives. A rule that an attribute breaks is noted with it, so that its
//! data set can still be told by its UIDs; text that is no data set at all is [`Malformed`]. Absent:
//! what values of a VR may be. Who makes files of a data set (`compose`) and who keeps it as DICOM
//! JSON (`sent`) decide that, each for itself.

mod json;
mod scan;
mod xml;

#[cfg(test)]
mod tests;

use super::{Tag, VR};

pub use json::read as read_json;
pub use xml::read as read_xml;

/// The component groups of a person name (PS3.5 §6.2.1), as both models name them.
pub(super) const GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];

/// The text is not what its media type says, or more than that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {what}")]
pub struct Malformed {
    /// Where.
    pub at: usize,
    /// Which rule is broken.
    pub what: &'static str,
}

/// One data set, its attributes as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataSet {
    /// Its attributes.
    pub(super) attributes: Vec<Attribute>,
    /// The first rule that it breaks where no attribute does.
    pub(super) flaw: Option<&'static str>,
}

/// An attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attribute {
    pub(super) tag: Tag,
    /// `None`: it says none, or one that is none.
    pub(super) vr: Option<VR>,
    pub(super) values: Vec<Value>,
    /// Its value in base64.
    pub(super) inline: Option<String>,
    /// Where its value is.
    pub(super) uri: Option<String>,
    /// Whether its object in JSON has members that are none of PS3.18 §F.2.2.
    pub(super) has_more: bool,
    /// The first rule of its model that it breaks.
    pub(super) flaw: Option<&'static str>,
}

/// One of the values of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Empty,
    Text(String),
    /// The digits of a number.
    Number(String),
    /// The component groups of a person name.
    Name(Box<[String; 3]>),
    /// An item of a sequence; without attributes, it may be a name without groups.
    Item(Vec<Attribute>),
}

impl Attribute {
    fn of(tag: Tag) -> Self {
        Self {
            tag,
            vr: None,
            values: Vec::new(),
            inline: None,
            uri: None,
            has_more: false,
            flaw: None,
        }
    }

    fn note(&mut self, what: &'static str) {
        self.flaw.get_or_insert(what);
    }
}

/// What may still be made of a text, in bytes: what is short to write can be long to hold.
struct Room(usize);

impl Room {
    fn new(bytes: u64) -> Self {
        Self(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Takes some of it.
    fn take(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.0 = self.0.checked_sub(bytes).ok_or("holding it takes too much memory")?;
        Ok(())
    }
}
