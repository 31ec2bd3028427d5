//! A result as it is put together and written: attributes by tag, from where they lie.
//!
//! Holds: what is written is one DICOM JSON object whose attributes ascend, each once. Absent: what
//! is returned of a match.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use super::{super::ArchiveError, project::inconsistent};
use crate::dicom::Tag;

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const UTF_8: &str = r#"{"vr":"CS","Value":["ISO_IR 192"]}"#;

/// An attribute that is made here.
#[derive(Serialize)]
pub(super) struct Made<'a, T> {
    pub(super) vr: &'a str,
    #[serde(rename = "Value", skip_serializing_if = "<[T]>::is_empty")]
    pub(super) values: &'a [T],
}

/// What a result is put together from: a page has a hundred of them, so none of it is copied before
/// it is written.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// In no order; of several with the same tag the first counts.
    parts: Vec<(Tag, Part<'a>)>,
    made: Vec<u8>,
}

/// An attribute as DICOM JSON.
pub(super) enum Part<'a> {
    Given(&'a str),
    Kept(Cow<'a, RawValue>),
    /// Where it lies in [`Parts::made`].
    Made(Range<usize>),
}

impl Part<'_> {
    fn bytes<'a>(&'a self, made: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Given(json) => json.as_bytes(),
            Self::Kept(json) => json.get().as_bytes(),
            Self::Made(at) => made.get(at.clone()).unwrap_or_default(),
        }
    }
}

impl<'a> Parts<'a> {
    /// Adds an attribute; nothing, where one of its tag is there.
    pub(super) fn add(&mut self, tag: Tag, part: Part<'a>) {
        self.parts.push((tag, part));
    }

    /// Adds an attribute with these values.
    pub(super) fn make<T: Serialize>(
        &mut self,
        tag: Tag,
        vr: &str,
        values: &[T],
    ) -> Result<(), ArchiveError> {
        let from = self.made.len();
        serde_json::to_writer(&mut self.made, &Made { vr, values }).map_err(inconsistent)?;
        self.add(tag, Part::Made(from..self.made.len()));
        Ok(())
    }

    /// Writes the object; of what is not ASCII it says that it is UTF-8 (PS3.18 Annex F.2).
    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        // Stable: the first of each tag stays the first.
        self.parts.sort_by_key(|(tag, _)| *tag);
        self.parts.dedup_by_key(|(tag, _)| *tag);
        if self.parts.iter().any(|(_, part)| !part.bytes(&self.made).is_ascii()) {
            let utf8 = (CHARACTER_SET, Part::Given(UTF_8));
            let at = self.parts.partition_point(|(tag, _)| *tag < CHARACTER_SET);
            self.parts.retain(|(tag, _)| *tag != CHARACTER_SET);
            self.parts.insert(at, utf8);
        }
        for (n, (Tag(group, element), part)) in self.parts.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"{\"" } else { b",\"" });
            out.extend([*group, *element].into_iter().flat_map(hexadecimal));
            out.extend_from_slice(b"\":");
            out.extend_from_slice(part.bytes(&self.made));
        }
        out.push(b'}');
    }
}

fn hexadecimal(number: u16) -> [u8; 4] {
    [12, 8, 4, 0].map(|shift| b"0123456789ABCDEF"[usize::from(number >> shift & 0xF)])
}

/// The attributes of a DICOM JSON object, as they come.
pub(super) struct Listed<'a>(pub(super) Vec<(&'a str, &'a RawValue)>);

impl<'de> Deserialize<'de> for Listed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Listed<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Vec::with_capacity(32);
                while let Some(attribute) = map.next_entry()? {
                    attributes.push(attribute);
                }
                Ok(Listed(attributes))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
