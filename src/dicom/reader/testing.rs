//! Data sets made for tests, encoded by other code than that under test, and a sink that writes
//! down what it hears.

use proptest::prelude::*;

use super::{ElementHeader, FileMeta, Reader, Sink, vr};
use crate::dicom::{DicomError, Limits, Tag, VR};

pub(in crate::dicom) const LIMITS: Limits =
    Limits { element_depth: 8, header_bytes: 1 << 20, inflated_bytes: 1 << 24, frames: 100 };
pub(in crate::dicom) const THRESHOLD: u32 = 16;

/// What a sink heard, without offsets and lengths.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dicom) enum Node {
    Value(Tag, VR, Vec<u8>),
    Sequence(Tag, Vec<Vec<Node>>),
    Fragments(Tag, Vec<Vec<u8>>),
}

/// Everything that a sink hears, bulk in one piece.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dicom) enum Event {
    Meta(Tag, VR, Vec<u8>),
    Start(FileMeta),
    Element(ElementHeader, Vec<u8>),
    Bulk(ElementHeader, Vec<u8>),
    Sequence(ElementHeader),
    Item,
    ItemEnd,
    SequenceEnd,
    Fragments(ElementHeader),
    Fragment(u64, u32, Vec<u8>),
    FragmentsEnd,
}

#[derive(Debug, Default)]
pub(in crate::dicom) struct Log {
    pub(in crate::dicom) events: Vec<Event>,
    pub(in crate::dicom) whole_bytes: u64,
    open: bool,
}

impl Log {
    fn put(&mut self, event: Event) -> Result<(), DicomError> {
        assert!(!self.open, "{event:?} inside a bulk value");
        self.events.push(event);
        Ok(())
    }

    fn open(&mut self, event: Event) -> Result<(), DicomError> {
        self.put(event)?;
        self.open = true;
        Ok(())
    }

    fn close(&mut self) -> Result<(), DicomError> {
        assert!(std::mem::take(&mut self.open));
        let complete = match self.events.last() {
            Some(Event::Bulk(header, bytes)) => header.length == Some(bytes.len() as u32),
            Some(Event::Fragment(_, length, bytes)) => *length as usize == bytes.len(),
            other => panic!("the end of {other:?}"),
        };
        assert!(complete);
        Ok(())
    }

    /// What was heard, as a tree.
    pub(in crate::dicom) fn tree(&self) -> Vec<Node> {
        let mut events = self.events.iter();
        let nodes = elements(&mut events);
        assert_eq!(events.next(), None);
        nodes
    }
}

fn elements(events: &mut std::slice::Iter<'_, Event>) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Some(event) = events.next() {
        match event {
            Event::Meta(..) | Event::Start(_) => {}
            Event::Element(header, bytes) | Event::Bulk(header, bytes) => {
                nodes.push(Node::Value(header.tag, header.vr, bytes.clone()));
            }
            Event::Sequence(header) => {
                let mut items = Vec::new();
                while events.next() == Some(&Event::Item) {
                    items.push(elements(events));
                }
                nodes.push(Node::Sequence(header.tag, items));
            }
            Event::Fragments(header) => {
                let mut fragments = Vec::new();
                while let Some(Event::Fragment(_, _, bytes)) = events.next() {
                    fragments.push(bytes.clone());
                }
                nodes.push(Node::Fragments(header.tag, fragments));
            }
            Event::ItemEnd => return nodes,
            other => panic!("{other:?} among elements"),
        }
    }
    nodes
}

impl Sink for Log {
    fn file_meta_element(
        &mut self,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        self.put(Event::Meta(header.tag, header.vr, value.to_vec()))
    }
    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        self.put(Event::Start(meta.clone()))
    }
    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        assert_eq!(header.length, Some(value.len() as u32));
        self.whole_bytes += value.len() as u64;
        self.put(Event::Element(*header, value.to_vec()))
    }
    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.open(Event::Bulk(*header, Vec::new()))
    }
    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        assert!(self.open && !bytes.is_empty());
        match self.events.last_mut() {
            Some(Event::Bulk(_, held) | Event::Fragment(_, _, held)) => held.extend(bytes),
            other => panic!("a chunk of {other:?}"),
        }
        Ok(())
    }
    fn bulk_end(&mut self) -> Result<(), DicomError> {
        self.close()
    }
    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.put(Event::Sequence(*header))
    }
    fn item_start(&mut self) -> Result<(), DicomError> {
        self.put(Event::Item)
    }
    fn item_end(&mut self) -> Result<(), DicomError> {
        self.put(Event::ItemEnd)
    }
    fn sequence_end(&mut self) -> Result<(), DicomError> {
        self.put(Event::SequenceEnd)
    }
    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.put(Event::Fragments(*header))
    }
    fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError> {
        self.open(Event::Fragment(offset, length, Vec::new()))
    }
    fn fragment_end(&mut self) -> Result<(), DicomError> {
        self.close()
    }
    fn fragments_end(&mut self) -> Result<(), DicomError> {
        self.put(Event::FragmentsEnd)
    }
}

/// Reads `bytes`, pushed in pieces of `piece`.
pub(in crate::dicom) fn read(bytes: &[u8], piece: usize) -> Result<Log, DicomError> {
    read_within(bytes, piece, LIMITS)
}

pub(in crate::dicom) fn read_within(
    bytes: &[u8],
    piece: usize,
    limits: Limits,
) -> Result<Log, DicomError> {
    let mut reader = Reader::new(Log::default(), limits, THRESHOLD);
    for piece in bytes.chunks(piece) {
        reader.push(piece)?;
    }
    reader.finish()
}

/// How to write a data set.
#[derive(Clone, Copy, Debug)]
pub(in crate::dicom) struct Style {
    pub(in crate::dicom) explicit: bool,
    pub(in crate::dicom) big: bool,
    /// Sequences and items of defined length.
    pub(in crate::dicom) defined: bool,
}

pub(in crate::dicom) const EXPLICIT: Style = Style { explicit: true, big: false, defined: true };
pub(in crate::dicom) const IMPLICIT: Style = Style { explicit: false, big: false, defined: true };
pub(in crate::dicom) const BIG: Style = Style { explicit: true, big: true, defined: true };

impl Style {
    pub(in crate::dicom) fn u16(self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    pub(in crate::dicom) fn u32(self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    pub(in crate::dicom) fn tag(self, tag: Tag) -> Vec<u8> {
        [self.u16(tag.0), self.u16(tag.1)].concat()
    }
    /// The header of an element.
    pub(in crate::dicom) fn header(self, tag: Tag, vr: VR, length: u32) -> Vec<u8> {
        let tag = self.tag(tag);
        if !self.explicit {
            return [&tag[..], &self.u32(length)].concat();
        }
        if "OB OD OF OL OV OW SQ SV UC UN UR UT UV".contains(vr.to_string()) {
            return [&tag[..], &vr.to_bytes(), &[0, 0], &self.u32(length)].concat();
        }
        [&tag[..], &vr.to_bytes(), &self.u16(length.try_into().unwrap())].concat()
    }
    pub(in crate::dicom) fn item(self, element: u16, length: u32) -> Vec<u8> {
        [&self.tag(Tag(0xFFFE, element))[..], &self.u32(length)].concat()
    }
    /// An element whose value is given in little endian.
    pub(in crate::dicom) fn element(self, tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
        let mut bytes = self.header(tag, vr, value.len() as u32);
        bytes.extend(if self.big { swapped(vr, value) } else { value.to_vec() });
        bytes
    }
    fn nested(self, open: impl Fn(u32) -> Vec<u8>, content: &[u8], close: u16) -> Vec<u8> {
        if self.defined {
            [&open(content.len() as u32)[..], content].concat()
        } else {
            [&open(u32::MAX)[..], content, &self.item(close, 0)].concat()
        }
    }
    pub(in crate::dicom) fn encode(self, nodes: &[Node]) -> Vec<u8> {
        let mut out = Vec::new();
        for node in nodes {
            match node {
                Node::Value(tag, vr, value) => out.extend(self.element(*tag, *vr, value)),
                Node::Sequence(tag, items) => {
                    let item = |nodes: &Vec<Node>| {
                        self.nested(|n| self.item(0xE000, n), &self.encode(nodes), 0xE00D)
                    };
                    let items: Vec<u8> = items.iter().flat_map(item).collect();
                    out.extend(self.nested(|n| self.header(*tag, VR::SQ, n), &items, 0xE0DD));
                }
                Node::Fragments(tag, fragments) => {
                    out.extend(self.header(*tag, VR::OB, u32::MAX));
                    for fragment in fragments {
                        out.extend(self.item(0xE000, fragment.len() as u32));
                        out.extend(fragment);
                    }
                    out.extend(self.item(0xE0DD, 0));
                }
            }
        }
        out
    }
}

/// A value in the other byte order.
pub(in crate::dicom) fn swapped(vr: VR, value: &[u8]) -> Vec<u8> {
    value.chunks(vr::swap_unit(vr)).flat_map(|unit| unit.iter().rev().copied()).collect()
}

/// A tree as an explicit big endian data set has it.
pub(in crate::dicom) fn all_swapped(nodes: &[Node]) -> Vec<Node> {
    let node = |node: &Node| match node {
        Node::Value(tag, vr, value) => Node::Value(*tag, *vr, swapped(*vr, value)),
        Node::Sequence(tag, items) => {
            Node::Sequence(*tag, items.iter().map(|item| all_swapped(item)).collect())
        }
        fragments => fragments.clone(),
    };
    nodes.iter().map(node).collect()
}

/// A Part 10 file around the bytes of a data set.
pub(in crate::dicom) fn part_10(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let ui = |element, text: &str| {
        let mut value = text.as_bytes().to_vec();
        value.resize(text.len().next_multiple_of(2), 0);
        EXPLICIT.element(Tag(2, element), VR::UI, &value)
    };
    let meta = [
        EXPLICIT.element(Tag(2, 1), VR::OB, &[0, 1]),
        ui(2, "1.2.840.10008.5.1.4.1.1.2"),
        ui(3, "1.2.3.4"),
        ui(0x10, transfer_syntax),
        ui(0x12, "1.2.3.999"),
    ]
    .concat();
    let length = EXPLICIT.element(Tag(2, 0), VR::UL, &(meta.len() as u32).to_le_bytes());
    [&[0; 128][..], b"DICM", &length, &meta, data_set].concat()
}

/// Raw deflate.
pub(in crate::dicom) fn deflated(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Data sets whose elements have the same VR in every encoding. Values are of even length, of
/// whole units; some are bulk.
pub(in crate::dicom) fn data_set() -> impl Strategy<Value = Vec<Node>> {
    let value = prop::sample::select(vec![
        (Tag(0x0008, 0x0005), VR::CS),
        (Tag(0x0008, 0x0018), VR::UI),
        (Tag(0x0010, 0x0010), VR::PN),
        (Tag(0x0009, 0x0010), VR::LO),
        (Tag(0x0009, 0x1001), VR::UN),
        (Tag(0x0028, 0x0010), VR::US),
        (Tag(0x0028, 0x0009), VR::AT),
        (Tag(0x0018, 0x9073), VR::FD),
        (Tag(0x0066, 0x0016), VR::OF),
        (Tag(0x0066, 0x0040), VR::OL),
        (Tag(0x7FE0, 0x0001), VR::OV),
        (Tag(0x7FE0, 0x0009), VR::OD),
        (Tag(0x7FE0, 0x0010), VR::OW),
        (Tag(0x0040, 0xA160), VR::UT),
        (Tag(0x0012, 0x9999), VR::UN),
    ]);
    let value = (value, prop::collection::vec(any::<[u8; 8]>(), 0..4))
        .prop_map(|((tag, vr), bytes)| Node::Value(tag, vr, bytes.concat()));
    let fragments = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)
        .prop_map(|fragments| Node::Fragments(Tag(0x7FE0, 0x0010), fragments));
    let leaf = prop_oneof![8 => value, 1 => fragments];
    let node = leaf.prop_recursive(4, 40, 4, |node| {
        let items = prop::collection::vec(prop::collection::vec(node, 0..4), 0..4);
        items.prop_map(|items| Node::Sequence(Tag(0x0040, 0xA730), items))
    });
    // The first element tells the encoding and must not be mistaken for trailing zeros.
    prop::collection::vec(node, 0..8).prop_map(|mut nodes| {
        nodes.insert(0, Node::Value(Tag(0x0008, 0x0016), VR::UI, b"1.2.3\0".to_vec()));
        nodes
    })
}
