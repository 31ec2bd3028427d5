//! Data sets that arrive as metadata (PS3.18 §10.5.2), in either model ([`super::model`]), and are
//! written as Part 10 files in Explicit VR Little Endian, with places for the values that come beside
//! them.
//!
//! Holds: input is hostile; what is made of it is bounded by its size, nesting by
//! `limits.element_depth`. A data set with a flaw is known by its UIDs, as far as it tells them, and
//! is never written. Text is written in UTF-8, and (0008,0005) says so. Absent: where the values
//! come from, I/O.

mod build;
mod pixels;
mod write;

#[cfg(test)]
mod tests;

use super::{
    Tag, Uid, VR,
    explicit::Identity,
    model::{self, Malformed},
};

pub use pixels::{Description, PIXEL_DATA};
pub use write::{FRAMES_END, bulk_header, fragment_header, frames_header, padding};

const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// Reads metadata in DICOM JSON: an array of data sets, or one of them.
///
/// # Errors
/// [`Malformed`] where the text is not JSON, not of objects, or takes more than `room` bytes to
/// hold.
pub fn read_json(json: &[u8], depth: u16, room: u64) -> Result<Vec<Composition>, Malformed> {
    model::read_json(json, depth, room, Composition::new)
}

/// Reads metadata as a Native DICOM Model.
///
/// # Errors
/// [`Malformed`] where the text is not XML in UTF-8, or no `NativeDicomModel`, or takes more
/// than `room` bytes to hold.
pub fn read_xml(xml: &[u8], depth: u16, room: u64) -> Result<Composition, Malformed> {
    model::read_xml(xml, depth, room).map(Composition::new)
}

/// What is wrong with one attribute; never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tag} {what}")]
pub struct Flaw {
    /// The attribute.
    pub tag: Tag,
    /// Which rule it breaks.
    pub what: &'static str,
}

/// An attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// In little endian, not padded.
    Bytes(Vec<u8>),
    /// The items of a sequence.
    Items(Vec<Vec<Element>>),
    /// It comes beside the metadata, under this URI.
    Bulk(String),
}

/// A value that comes beside the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The attribute.
    pub tag: Tag,
    /// Its value representation.
    pub vr: VR,
    /// Its BulkDataURI.
    pub uri: String,
    /// Whether it is of the data set itself, not of an item.
    pub top: bool,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of it.
    Bytes(Vec<u8>),
    /// The element of this value belongs here, header included.
    Place(Place),
}

/// One data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Composition {
    /// Ascending, each tag once.
    elements: Vec<Element>,
    flaw: Option<Flaw>,
}

impl Composition {
    /// A data set of these attributes, in whatever order they came.
    fn new(read: model::DataSet) -> Self {
        // What a flaw is told of that no attribute has.
        let mut flaw = read.flaw.map(|what| Flaw { tag: Tag(0, 0), what });
        let mut elements = build::elements(read.attributes, &mut flaw);
        if build::say_utf8(&mut elements) && !elements.iter().any(|e| e.tag == CHARACTER_SET) {
            let value = Value::Bytes(build::UTF_8.to_vec());
            insert(&mut elements, Element { tag: CHARACTER_SET, vr: VR::CS, value });
        }
        Self { elements, flaw }
    }

    /// The attributes, ascending.
    pub(super) fn into_elements(self) -> Vec<Element> {
        self.elements
    }

    /// What is wrong with it, if something is.
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// SOP Class and SOP Instance UID, if it has both.
    pub fn sop(&self) -> Option<(Uid, Uid)> {
        Some((self.uid(SOP_CLASS)?, self.uid(SOP_INSTANCE)?))
    }

    fn uid(&self, tag: Tag) -> Option<Uid> {
        Uid::from_value(self.bytes(tag)?).ok()
    }

    /// The values that come beside it, in the order of the file.
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        write::places(&self.elements, true, &mut places);
        places
    }

    /// About what it holds, in bytes.
    pub fn weight(&self) -> u64 {
        fn weigh(elements: &[Element]) -> usize {
            let inner = |element: &Element| match &element.value {
                Value::Bytes(bytes) => bytes.capacity(),
                Value::Items(items) => items.iter().map(|item| weigh(item)).sum(),
                Value::Bulk(uri) => uri.capacity(),
            };
            elements.iter().map(|element| size_of::<Element>() + inner(element)).sum()
        }
        weigh(&self.elements) as u64
    }

    /// The file in this transfer syntax, which is Explicit VR Little Endian or encapsulated.
    ///
    /// # Errors
    /// The attribute without which there is no file, where it is missing or no UID.
    pub fn pieces(&self, syntax: &Uid) -> Result<Vec<Piece>, Flaw> {
        let required = |tag| {
            let what = "is missing or not a valid UID (PS3.5 §9.1)";
            self.uid(tag).ok_or(Flaw { tag, what })
        };
        let (sop_class, sop_instance) = (required(SOP_CLASS)?, required(SOP_INSTANCE)?);
        let meta = super::explicit::file_meta(syntax, &Identity { sop_class, sop_instance });
        Ok(write::pieces(meta, &self.elements))
    }

    /// The data set alone, in Implicit or Explicit VR Little Endian (PS3.5 §A.1, §A.2). Values that
    /// come beside it are left out.
    pub fn data_set(&self, implicit: bool) -> Vec<u8> {
        write::data_set(&self.elements, implicit)
    }

    fn element(&self, tag: Tag) -> Option<&Element> {
        let at = self.elements.binary_search_by_key(&tag, |element| element.tag).ok()?;
        self.elements.get(at)
    }

    /// The value of an attribute of the data set itself, if it is there and has bytes.
    fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        match &self.element(tag)?.value {
            Value::Bytes(bytes) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    /// The text of an attribute, without what pads it.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        let text = std::str::from_utf8(self.bytes(tag)?).ok()?;
        Some(text.trim_matches([' ', '\0']))
    }

    fn short(&self, tag: Tag) -> Option<u16> {
        super::reader::vr::short(self.bytes(tag)?, super::reader::Endian::Little)
    }

    /// Gives an attribute a value, where it has none.
    pub fn fill(&mut self, tag: Tag, vr: VR, value: &[u8]) {
        let has_value = match self.element(tag).map(|element| &element.value) {
            Some(Value::Bytes(bytes)) => !bytes.is_empty(),
            Some(_) => true,
            None => false,
        };
        if !has_value {
            self.elements.retain(|element| element.tag != tag);
            let value = Value::Bytes(value.to_vec());
            insert(&mut self.elements, Element { tag, vr, value });
        }
    }
}

fn insert(elements: &mut Vec<Element>, element: Element) {
    let at = elements.partition_point(|known| known.tag < element.tag);
    elements.insert(at, element);
}
