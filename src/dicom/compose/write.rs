//! Part 10 files out, in Explicit VR Little Endian (PS3.5 §A.2, §A.4).

use super::{Element, Piece, Place, Value};
use crate::dicom::{Tag, VR, reader::vr};

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// What ends encapsulated pixel data.
pub const FRAMES_END: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];

/// The header of an element whose value, of this even length, follows.
pub fn bulk_header(tag: Tag, vr: VR, length: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    header(&mut out, tag, vr, length);
    out
}

/// The byte that makes the length of a value of this VR even.
pub fn padding(vr: VR) -> u8 {
    vr::padding(vr)
}

/// What begins encapsulated pixel data, up to and with an empty Basic Offset Table.
pub fn frames_header() -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    header(&mut out, super::PIXEL_DATA, VR::OB, UNDEFINED);
    item(&mut out, ITEM, 0);
    out
}

/// What begins a fragment of this even length.
pub fn fragment_header(length: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(8);
    item(&mut out, ITEM, length);
    out
}

/// A file that begins with `meta`.
pub(super) fn pieces(meta: Vec<u8>, elements: &[Element]) -> Vec<Piece> {
    let mut writer = Writer { pieces: Vec::new(), out: meta, implicit: false };
    writer.data_set(elements, true);
    writer.cut();
    writer.pieces
}

/// A data set by itself, in implicit or explicit VR. Values that come from elsewhere are left out.
pub(super) fn data_set(elements: &[Element], implicit: bool) -> Vec<u8> {
    let mut writer = Writer { pieces: Vec::new(), out: Vec::new(), implicit };
    writer.data_set(elements, true);
    let bytes = writer.pieces.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(bytes),
        Piece::Place(_) => None,
    });
    let mut all: Vec<u8> = bytes.flatten().collect();
    all.append(&mut writer.out);
    all
}

/// The values that come from elsewhere.
pub(super) fn places(elements: &[Element], top: bool, found: &mut Vec<Place>) {
    for Element { tag, vr, value } in elements {
        match value {
            Value::Bulk(uri) => found.push(Place { tag: *tag, vr: *vr, uri: uri.clone(), top }),
            Value::Items(items) => items.iter().for_each(|item| places(item, false, found)),
            Value::Bytes(_) => {}
        }
    }
}

struct Writer {
    pieces: Vec<Piece>,
    /// What was written since the last piece.
    out: Vec<u8>,
    implicit: bool,
}

impl Writer {
    fn header(&mut self, tag: Tag, vr: VR, length: u32) {
        if !self.implicit {
            return header(&mut self.out, tag, vr, length);
        }
        write_tag(&mut self.out, tag);
        self.out.extend_from_slice(&length.to_le_bytes());
    }

    fn cut(&mut self) {
        if !self.out.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.out)));
        }
    }

    fn data_set(&mut self, elements: &[Element], top: bool) {
        for Element { tag, vr, value } in elements {
            match value {
                Value::Bytes(bytes) => {
                    let length = bytes.len() as u32;
                    self.header(*tag, *vr, length + length % 2);
                    self.out.extend_from_slice(bytes);
                    if length % 2 == 1 {
                        self.out.push(vr::padding(*vr));
                    }
                }
                Value::Items(items) => {
                    self.header(*tag, VR::SQ, UNDEFINED);
                    for inner in items {
                        item(&mut self.out, ITEM, UNDEFINED);
                        self.data_set(inner, false);
                        item(&mut self.out, ITEM_END, 0);
                    }
                    item(&mut self.out, SEQUENCE_END, 0);
                }
                Value::Bulk(uri) => {
                    self.cut();
                    let uri = uri.clone();
                    self.pieces.push(Piece::Place(Place { tag: *tag, vr: *vr, uri, top }));
                }
            }
        }
    }
}

/// A VR whose length field is too short becomes UN (PS3.18 §8.7.3).
fn header(out: &mut Vec<u8>, tag: Tag, vr: VR, length: u32) {
    let long = vr::has_long_length(vr);
    let vr = if length > 65534 && !long { VR::UN } else { vr };
    write_tag(out, tag);
    out.extend_from_slice(&vr.to_bytes());
    if vr::has_long_length(vr) {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.extend_from_slice(&(length as u16).to_le_bytes());
    }
}

fn item(out: &mut Vec<u8>, tag: Tag, length: u32) {
    write_tag(out, tag);
    out.extend_from_slice(&length.to_le_bytes());
}

fn write_tag(out: &mut Vec<u8>, Tag(group, element): Tag) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&element.to_le_bytes());
}
