//! Data sets that ask: identifiers of C-FIND, C-GET and C-MOVE (PS3.4 §C.4), read whole into text.
//!
//! Holds: what is read is as short as the message that it came with; values are text as (0008,0005)
//! says, numbers as digits, and what has no text is empty. Absent: what keys mean.

use super::{
    DicomError, Limits, Tag, Uid, VR,
    charset::{Charset, Text},
    json,
    reader::{ElementHeader, Endian, FileMeta, Reader, Sink},
};

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// An attribute of an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Which.
    pub tag: Tag,
    /// Its value representation, as read or as PS3.6 has it.
    pub vr: VR,
    /// What it holds.
    pub value: Value,
}

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Its values, with backslashes between them and without padding.
    Text(String),
    /// The items of a sequence.
    Items(Vec<Vec<Element>>),
}

/// Reads a data set that came in a transfer syntax.
///
/// # Errors
/// [`DicomError`] where it is none.
pub fn read(bytes: &[u8], syntax: &Uid, limits: Limits) -> Result<Vec<Element>, DicomError> {
    let meta = FileMeta {
        transfer_syntax: syntax.clone(),
        media_storage_sop_class: None,
        media_storage_sop_instance: None,
        data_set_offset: 0,
        has_preamble: false,
        endian: Endian::Little,
    };
    let heard =
        Heard { charset: Charset::DEFAULT, levels: vec![Vec::new()], sequences: Vec::new() };
    let mut reader = Reader::of_data_set(heard, limits, u32::MAX, meta)?;
    reader.push(bytes)?;
    Ok(reader.finish()?.levels.pop().unwrap_or_default())
}

/// What was heard so far.
struct Heard {
    charset: Charset,
    /// The data set, and the items around the next element.
    levels: Vec<Vec<Element>>,
    /// The sequences around it, with the items that are complete.
    sequences: Vec<(Tag, Vec<Vec<Element>>)>,
}

impl Heard {
    fn add(&mut self, tag: Tag, vr: VR, value: Value) {
        if let Some(level) = self.levels.last_mut() {
            level.push(Element { tag, vr, value });
        }
    }

    fn text(&self, vr: VR, value: &[u8]) -> String {
        let values = |charset: &Charset, text: Text| {
            let decoded = charset.values(value).map(|one| charset.decode(one, text));
            decoded.collect::<Vec<_>>().join("\\")
        };
        let text = match vr {
            VR::PN => values(&self.charset, Text::PersonName),
            VR::SH | VR::LO | VR::UC => values(&self.charset, Text::Plain),
            VR::ST | VR::LT | VR::UT => self.charset.decode(value, Text::Plain).into_owned(),
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ => String::new(),
            VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD | VR::AT => {
                numbers(vr, value)
            }
            // A private attribute that nobody describes is most likely text.
            VR::UN => values(&self.charset, Text::Plain),
            _ => values(&Charset::DEFAULT, Text::Plain),
        };
        text.trim_matches([' ', '\0']).to_owned()
    }
}

/// Binary values as digits.
fn numbers(vr: VR, value: &[u8]) -> String {
    let mut out = Vec::new();
    json::write_value(&mut out, vr, value, Endian::Little, &Charset::DEFAULT);
    let read: serde_json::Value = serde_json::from_slice(&out).unwrap_or_default();
    let listed = read.get("Value").and_then(|values| values.as_array());
    let texts = listed.into_iter().flatten().map(|value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    });
    texts.collect::<Vec<_>>().join("\\")
}

impl Sink for Heard {
    fn data_set_start(&mut self, _: &FileMeta) -> Result<(), DicomError> {
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        if header.tag == CHARACTER_SET {
            self.charset = Charset::from_value(value).0;
        }
        let text = self.text(header.vr, value);
        self.add(header.tag, header.vr, Value::Text(text));
        Ok(())
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.add(header.tag, header.vr, Value::Text(String::new()));
        Ok(())
    }

    fn bulk_chunk(&mut self, _: &[u8]) -> Result<(), DicomError> {
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.sequences.push((header.tag, Vec::new()));
        Ok(())
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        self.levels.push(Vec::new());
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        let item = self.levels.pop().unwrap_or_default();
        if let Some((_, items)) = self.sequences.last_mut() {
            items.push(item);
        }
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        if let Some((tag, items)) = self.sequences.pop() {
            self.add(tag, VR::SQ, Value::Items(items));
        }
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.bulk_start(header)
    }

    fn fragment_start(&mut self, _: u64, _: u32) -> Result<(), DicomError> {
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::transfer_syntax::IMPLICIT_LITTLE;

    fn element(tag: (u16, u16), value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&tag.0.to_le_bytes());
        out.extend_from_slice(&tag.1.to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
        out
    }

    fn implicit(bytes: &[u8]) -> Result<Vec<Element>, DicomError> {
        let (element_depth, all) = (16, 1 << 20);
        let limits = Limits { element_depth, header_bytes: all, inflated_bytes: all, frames: all };
        read(bytes, &IMPLICIT_LITTLE.parse().unwrap(), limits)
    }

    #[test]
    fn values_are_text_and_sequences_have_their_keys() {
        let item = [element((0x0040, 0x0009), b"S1"), element((0x0040, 0x1001), b"")].concat();
        let bytes = [
            element((0x0008, 0x0005), b"ISO_IR 100"),
            element((0x0010, 0x0010), b"M\xFCller* "),
            element((0x0020, 0x000D), b"1.2\\1.3\0"),
            element((0x0028, 0x0010), &512_u16.to_le_bytes()),
            element((0x0040, 0x0275), &element((0xFFFE, 0xE000), &item)),
        ]
        .concat();
        let read = implicit(&bytes).unwrap();
        let text = |at: usize| match &read[at].value {
            Value::Text(text) => text.as_str(),
            Value::Items(_) => "items",
        };
        assert_eq!((text(1), text(2), text(3)), ("M\u{fc}ller*", "1.2\\1.3", "512"));
        let Value::Items(items) = &read[4].value else { panic!("no items") };
        assert_eq!(items.len(), 1);
        assert_eq!(items[0][0].value, Value::Text("S1".to_owned()));
        assert_eq!(items[0][1].value, Value::Text(String::new()));
    }

    #[test]
    fn what_breaks_off_is_none() {
        assert!(implicit(b"").unwrap().is_empty());
        for bytes in [&b"\x10\0\x20\0\x08\0\0\0P1"[..], b"\x10\0"] {
            assert!(implicit(bytes).is_err(), "{bytes:?}");
        }
    }
}
