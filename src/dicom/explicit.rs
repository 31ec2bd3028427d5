//! Re-encodes a data set as a Part 10 file in Explicit VR Little Endian (PS3.5 §A.2).
//!
//! [`Explicit`] hears a data set from the reader and writes it anew while it arrives: new File Meta
//! Information, values in little endian, sequences and items of undefined length, group lengths
//! left out. What an implicit data set does not tell (private elements) stays UN. Values keep
//! their bytes but for their order; those of odd length are padded.
//!
//! Holds: no more than [`CHUNK`] bytes beyond what the caller has not taken yet; what comes out
//! depends on what goes in, not on the pieces. Absent: codecs; pixel data in fragments passes
//! through as it is.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, mem};

use bytes::{Bytes, BytesMut};

use super::{
    DicomError, Tag, Uid, VR,
    reader::{ElementHeader, Endian, FileMeta, Sink, vr},
    transfer_syntax::EXPLICIT_LITTLE,
};

/// Most bytes of one piece of output.
pub const CHUNK: usize = 64 * 1024;
/// Longest value that a 16-bit length can tell and that is even.
const LONGEST_SHORT: u32 = 65534;
const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// (0002,0012) of File Meta Information that had none.
pub const IMPLEMENTATION_CLASS: &str = "2.25.60830696768768316492454989746651876477";

/// (0002,0013) of what we wrote: at most 16 characters.
pub const IMPLEMENTATION_VERSION: &str =
    concat!("COLLIMATOR_", env!("CARGO_PKG_VERSION_MAJOR"), "_", env!("CARGO_PKG_VERSION_MINOR"));

/// What File Meta Information must name; the archive knows it when a file does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// (0008,0016), for (0002,0002).
    pub sop_class: Uid,
    /// (0008,0018), for (0002,0003).
    pub sop_instance: Uid,
}

/// A sink that writes what it hears as Explicit VR Little Endian.
pub struct Explicit {
    out: Out,
    identity: Option<Identity>,
    /// (0002,0010), where it is not Explicit VR Little Endian or the writer is us.
    rewritten_as: Option<Uid>,
    /// Elements of the File Meta Information but for (0002,0000), by element number.
    meta: Vec<(u16, VR, Vec<u8>)>,
    endian: Endian,
    /// (0028,0100) of the data set.
    bits_allocated: u16,
    depth: u32,
    /// Depth of the outermost UN sequence around: inside, values are little endian.
    unknown_since: Option<u32>,
    bulk: Bulk,
}

/// The bulk value that is being written.
#[derive(Default)]
struct Bulk {
    /// Bytes whose order is reversed together; up to 1: none.
    unit: usize,
    /// The first bytes of a unit whose rest has not come.
    begun: Vec<u8>,
    /// The byte that makes the length even.
    pad: Option<u8>,
}

impl Explicit {
    /// A writer that has heard nothing. `identity` fills in what File Meta Information lacks.
    pub fn new(identity: Option<Identity>) -> Self {
        Self {
            out: Out::default(),
            identity,
            rewritten_as: None,
            meta: Vec::new(),
            endian: Endian::Little,
            bits_allocated: 0,
            depth: 0,
            unknown_since: None,
            bulk: Bulk::default(),
        }
    }

    /// The same, that writes the data set as Implicit VR Little Endian (PS3.5 §A.1), without File
    /// Meta Information.
    pub fn implicit() -> Self {
        let mut it = Self::new(None);
        it.out.implicit = true;
        it
    }

    /// Takes the next piece of output, of [`CHUNK`] bytes, once there is one.
    pub fn take(&mut self) -> Option<Bytes> {
        self.out.ready.pop_front()
    }

    /// Nothing more comes: the pieces that were not taken, the last one of up to [`CHUNK`] bytes.
    pub fn finish(self) -> impl Iterator<Item = Bytes> {
        self.out.all()
    }

    /// A writer for a data set that changes: `identity` and the transfer syntax go before what the
    /// file said, and the implementation that wrote it is ours.
    pub(super) fn rewriting(identity: Identity, transfer_syntax: Uid) -> Self {
        Self { rewritten_as: Some(transfer_syntax), ..Self::new(Some(identity)) }
    }

    /// Writes an element with a value in little endian.
    pub(super) fn write_element(&mut self, tag: Tag, vr: VR, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(UNDEFINED - 1);
        self.out.element(tag, vr, length.saturating_add(length % 2));
        self.out.write(value);
        if length % 2 == 1 {
            self.out.write(&[vr::padding(vr)]);
        }
    }

    /// What was written and not taken, to the last byte.
    pub(super) fn flush(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        mem::take(&mut self.out).all()
    }

    /// Bytes that were written and not taken.
    pub(super) fn written(&self) -> usize {
        self.out.current.len() + self.out.ready.iter().map(Bytes::len).sum::<usize>()
    }

    /// Goes on writing to `out`; what was written so far.
    pub(super) fn swap(&mut self, out: Out) -> Out {
        mem::replace(&mut self.out, out)
    }

    /// Writes what was written elsewhere.
    pub(super) fn append(&mut self, out: Out) {
        out.all().for_each(|bytes| self.out.write(&bytes));
    }

    fn order(&self, header: &ElementHeader) -> usize {
        let bits = if self.depth == 0 { self.bits_allocated } else { 0 };
        match self.endian {
            Endian::Big if self.unknown_since.is_none() => {
                vr::swap_unit_of(header.tag, header.vr, bits)
            }
            _ => 1,
        }
    }

    /// Writes a header; the byte that must follow the value to make its length even.
    fn begin(&mut self, header: &ElementHeader) -> Option<u8> {
        let length = header.length.unwrap_or(0);
        self.out.element(header.tag, header.vr, length.saturating_add(length % 2));
        (length % 2 == 1).then(|| vr::padding(header.vr))
    }
}

impl Sink for Explicit {
    fn file_meta_element(
        &mut self,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        let element = header.tag.element();
        if !self.meta.iter().any(|(known, ..)| *known == element) {
            self.meta.push((element, header.vr, value.to_vec()));
        }
        Ok(())
    }

    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        self.endian = meta.endian;
        if self.out.implicit {
            return Ok(());
        }
        let mut elements = mem::take(&mut self.meta);
        let mut syntax = EXPLICIT_LITTLE;
        if let Some(rewritten) = &self.rewritten_as {
            syntax = rewritten.as_str();
            elements.retain(|(element, ..)| !matches!(element, 0x0002 | 0x0003));
            written_by_us(&mut elements);
        }
        write_file_meta(&mut self.out, elements, syntax, self.identity.as_ref());
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        if header.tag == vr::BITS_ALLOCATED && self.depth == 0 {
            self.bits_allocated = vr::short(value, self.endian).unwrap_or(0);
        }
        let pad = self.begin(header);
        match self.order(header) {
            0 | 1 => self.out.write(value),
            unit => self.out.write_reversed(value, unit),
        }
        self.out.write(pad.as_slice());
        Ok(())
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        let pad = self.begin(header);
        self.bulk = Bulk { unit: self.order(header), begun: Vec::new(), pad };
        Ok(())
    }

    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        let Bulk { unit, begun, .. } = &mut self.bulk;
        if *unit <= 1 {
            self.out.write(bytes);
            return Ok(());
        }
        let mut rest = bytes;
        if !begun.is_empty() {
            let (now, later) = bytes.split_at((*unit - begun.len()).min(bytes.len()));
            begun.extend_from_slice(now);
            rest = later;
            if begun.len() < *unit {
                return Ok(());
            }
            self.out.write_reversed(begun, *unit);
            begun.clear();
        }
        let (whole, later) = rest.split_at(rest.len() - rest.len() % *unit);
        self.out.write_reversed(whole, *unit);
        begun.extend_from_slice(later);
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        let Bulk { begun, pad, .. } = mem::take(&mut self.bulk);
        self.out.write(&begun);
        self.out.write(pad.as_slice());
        Ok(())
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.depth += 1;
        if header.vr != VR::SQ && self.unknown_since.is_none() {
            self.unknown_since = Some(self.depth);
        }
        // UN too: its items, once read, are written with VRs.
        self.out.element(header.tag, VR::SQ, UNDEFINED);
        Ok(())
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        self.out.item(ITEM, UNDEFINED);
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        self.out.item(ITEM_END, 0);
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        if self.unknown_since == Some(self.depth) {
            self.unknown_since = None;
        }
        self.depth = self.depth.saturating_sub(1);
        self.out.item(SEQUENCE_END, 0);
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        let vr = if header.vr == VR::OW { VR::OW } else { VR::OB };
        self.out.element(header.tag, vr, UNDEFINED);
        Ok(())
    }

    fn fragment_start(&mut self, _offset: u64, length: u32) -> Result<(), DicomError> {
        self.bulk = Bulk::default();
        self.out.item(ITEM, length);
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        self.out.item(SEQUENCE_END, 0);
        Ok(())
    }
}

/// The preamble and File Meta Information (PS3.10 §7.1) of a data set in `transfer_syntax` that has
/// none, as bare data sets have not.
pub fn file_meta(transfer_syntax: &Uid, identity: &Identity) -> Vec<u8> {
    let mut out = Out::default();
    write_file_meta(&mut out, Vec::new(), transfer_syntax.as_str(), Some(identity));
    out.current.to_vec()
}

/// The same of a file that changes, of whose File Meta Information these are the elements but for
/// (0002,0000).
pub(super) fn changed_file_meta(
    mut elements: Vec<(u16, VR, Vec<u8>)>,
    transfer_syntax: &Uid,
) -> Vec<u8> {
    written_by_us(&mut elements);
    let mut out = Out::default();
    write_file_meta(&mut out, elements, transfer_syntax.as_str(), None);
    out.all().flatten().collect()
}

/// Has File Meta Information name us as the implementation that wrote the file.
fn written_by_us(elements: &mut Vec<(u16, VR, Vec<u8>)>) {
    elements.retain(|(element, ..)| !matches!(element, 0x0012 | 0x0013));
    elements.push((0x0013, VR::SH, IMPLEMENTATION_VERSION.into()));
}

fn write_file_meta(
    out: &mut Out,
    mut elements: Vec<(u16, VR, Vec<u8>)>,
    transfer_syntax: &str,
    identity: Option<&Identity>,
) {
    elements.retain(|(element, ..)| !matches!(element, 0x0000 | 0x0010));
    elements.push((0x0010, VR::UI, transfer_syntax.into()));
    let mut fill = |element: u16, vr: VR, value: &[u8]| match elements
        .iter_mut()
        .find(|(known, ..)| *known == element)
    {
        Some((_, _, old)) if old.is_empty() => *old = value.to_vec(),
        Some(_) => {}
        None => elements.push((element, vr, value.to_vec())),
    };
    fill(0x0001, VR::OB, &[0, 1]);
    if let Some(identity) = identity {
        fill(0x0002, VR::UI, identity.sop_class.as_str().as_bytes());
        fill(0x0003, VR::UI, identity.sop_instance.as_str().as_bytes());
    }
    fill(0x0012, VR::UI, IMPLEMENTATION_CLASS.as_bytes());
    elements.sort_by_key(|(element, ..)| *element);

    let mut length = 0;
    for (_, vr, value) in &mut elements {
        if value.len() % 2 == 1 {
            value.push(vr::padding(*vr));
        }
        if value.len() > LONGEST_SHORT as usize && !vr::has_long_length(*vr) {
            *vr = VR::UN;
        }
        length += value.len() + if vr::has_long_length(*vr) { 12 } else { 8 };
    }
    out.write(&[0; 128]);
    out.write(b"DICM");
    out.element(Tag(0x0002, 0x0000), VR::UL, 4);
    out.write(&(length as u32).to_le_bytes());
    for (element, vr, value) in &elements {
        out.element(Tag(0x0002, *element), *vr, value.len() as u32);
        out.write(value);
    }
}

/// Output in pieces.
#[derive(Default)]
pub(super) struct Out {
    ready: VecDeque<Bytes>,
    current: BytesMut,
    /// Headers have no VR.
    implicit: bool,
}

impl Out {
    /// All pieces, the last one of up to [`CHUNK`] bytes.
    fn all(self) -> impl Iterator<Item = Bytes> + use<> {
        let Self { mut ready, current, .. } = self;
        if !current.is_empty() {
            ready.push_back(current.freeze());
        }
        ready.into_iter()
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.current.capacity() == 0 {
                self.current.reserve(CHUNK);
            }
            let room = CHUNK.saturating_sub(self.current.len());
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.extend_from_slice(now);
            bytes = rest;
            if self.current.len() >= CHUNK {
                self.ready.push_back(mem::take(&mut self.current).freeze());
            }
        }
    }

    /// Writes with the bytes of each unit in reverse; what is less than a unit stays as it is.
    fn write_reversed(&mut self, bytes: &[u8], unit: usize) {
        let mut scratch = [0; 4096];
        for piece in bytes.chunks(scratch.len()) {
            let Some(turned) = scratch.get_mut(..piece.len()) else { return };
            turned.copy_from_slice(piece);
            match unit {
                2 => reverse::<2>(turned),
                4 => reverse::<4>(turned),
                _ => reverse::<8>(turned),
            }
            self.write(turned);
        }
    }

    fn tag(&mut self, tag: Tag) {
        let [a, b] = tag.group().to_le_bytes();
        let [c, d] = tag.element().to_le_bytes();
        self.write(&[a, b, c, d]);
    }

    /// The header of an element. A VR whose length field is too short becomes UN (PS3.18 §8.7.3).
    fn element(&mut self, tag: Tag, vr: VR, length: u32) {
        self.tag(tag);
        if self.implicit {
            return self.write(&length.to_le_bytes());
        }
        let vr = if length > LONGEST_SHORT && !vr::has_long_length(vr) { VR::UN } else { vr };
        self.write(&vr.to_bytes());
        if vr::has_long_length(vr) {
            self.write(&[0, 0]);
            self.write(&length.to_le_bytes());
        } else {
            self.write(&(length as u16).to_le_bytes());
        }
    }

    fn item(&mut self, tag: Tag, length: u32) {
        self.tag(tag);
        self.write(&length.to_le_bytes());
    }
}

fn reverse<const UNIT: usize>(bytes: &mut [u8]) {
    let (units, _) = bytes.as_chunks_mut::<UNIT>();
    for unit in units {
        unit.reverse();
    }
}
