//! The File Meta Information (PS3.10 §7.1), pushed in pieces.
//!
//! It ends with its group: (0002,0000) may be absent or wrong. Only before a deflated data set,
//! whose first bytes may be anything, is it believed. Elements without VR are read as implicit:
//! old writers encoded it like their data sets.

use super::{ElementHeader, FileMeta, Sink, vr};
use crate::dicom::{
    DicomError, Limits, Tag, Uid, VR,
    transfer_syntax::{Encoding, TransferSyntax},
};

pub(super) const TRANSFER_SYNTAX_UID: Tag = Tag(0x0002, 0x0010);

pub(super) struct MetaReader {
    limits: Limits,
    /// The element being read, as far as it has arrived.
    held: Vec<u8>,
    /// Offset of its first byte.
    pos: u64,
    has_preamble: bool,
    kept: u64,
    /// Where (0002,0000) says that the data set begins.
    told_end: Option<u64>,
    transfer_syntax: Option<Uid>,
    sop_class: Option<Uid>,
    sop_instance: Option<Uid>,
}

/// What the bytes of an element tell so far.
enum Element {
    /// This many bytes must be there before more can be said.
    Wants(usize),
    /// It belongs to the data set.
    Beyond,
    /// It is all there.
    Whole { tag: Tag, vr: VR, size: usize },
}

/// File Meta Information, complete.
pub(super) struct Complete {
    pub(super) meta: FileMeta,
    /// Bytes of it, for `limits.header_bytes`.
    pub(super) kept: u64,
    /// The bytes that were taken but belong to the data set.
    pub(super) rest: Vec<u8>,
}

impl MetaReader {
    /// File Meta Information that begins at offset `pos`.
    pub(super) fn new(limits: Limits, pos: u64) -> Self {
        Self {
            limits,
            held: Vec::new(),
            pos,
            has_preamble: pos >= super::start::ENOUGH as u64,
            kept: 0,
            told_end: None,
            transfer_syntax: None,
            sop_class: None,
            sop_instance: None,
        }
    }

    /// Takes bytes off the input until the File Meta Information is complete.
    pub(super) fn push<S: Sink>(
        &mut self,
        sink: &mut S,
        input: &mut &[u8],
    ) -> Result<Option<Complete>, DicomError> {
        loop {
            match self.look()? {
                Element::Beyond => return self.complete().map(Some),
                Element::Wants(wanted) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let room = wanted.saturating_sub(self.held.len());
                    let (now, rest) = input.split_at(room.min(input.len()));
                    self.held.extend_from_slice(now);
                    *input = rest;
                }
                Element::Whole { tag, vr, size } => self.element(sink, tag, vr, size)?,
            }
        }
    }

    /// The data ended: a file may consist of its File Meta Information.
    pub(super) fn finish(&mut self) -> Result<Complete, DicomError> {
        if !self.held.is_empty() {
            return Err(DicomError::Truncated { at: self.pos + self.held.len() as u64 });
        }
        self.complete()
    }

    fn look(&self) -> Result<Element, DicomError> {
        let held = self.held.as_slice();
        if held.is_empty() && self.told_end == Some(self.pos) && self.is_deflated() {
            return Ok(Element::Beyond);
        }
        let Some(group) = held.first_chunk::<2>() else { return Ok(Element::Wants(2)) };
        if *group != [0x02, 0x00] {
            return Ok(Element::Beyond);
        }
        let Some([_, _, c, d, e, f, g, h]) = held.first_chunk::<8>().copied() else {
            return Ok(Element::Wants(8));
        };
        let tag = Tag(0x0002, u16::from_le_bytes([c, d]));
        let letters = [e, f];
        let named = vr::from_letters(letters);
        let (vr, size, length) = if !vr::are_letters(letters) {
            let length = u32::from_le_bytes([e, f, g, h]);
            (vr::implicit(tag, Some(length), None), 8, length)
        } else if let Some(vr) = named.filter(|vr| !vr::has_long_length(*vr)) {
            (vr, 8, u32::from(u16::from_le_bytes([g, h])))
        } else {
            let Some(length) = held.get(8..).and_then(<[u8]>::first_chunk::<4>) else {
                return Ok(Element::Wants(12));
            };
            (named.unwrap_or(VR::UN), 12, u32::from_le_bytes(*length))
        };
        if length == u32::MAX || vr == VR::SQ {
            let what = "a sequence or undefined length in the File Meta Information";
            return Err(DicomError::Malformed { at: self.pos, what });
        }
        let whole = size + length as usize;
        let limit = self.limits.header_bytes;
        if self.kept.saturating_add(whole as u64) > limit {
            return Err(DicomError::Limit { key: "limits.header_bytes", limit });
        }
        if held.len() < whole {
            return Ok(Element::Wants(whole));
        }
        Ok(Element::Whole { tag, vr, size })
    }

    fn element<S: Sink>(
        &mut self,
        sink: &mut S,
        tag: Tag,
        vr: VR,
        size: usize,
    ) -> Result<(), DicomError> {
        let mut held = std::mem::take(&mut self.held);
        let value = held.get(size..).unwrap_or_default();
        let header = ElementHeader {
            tag,
            vr,
            length: Some(value.len() as u32),
            offset: self.pos + size as u64,
        };
        self.kept += held.len() as u64;
        self.pos += held.len() as u64;
        match tag.element() {
            0x0000 => {
                let length = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
                self.told_end = length.map(|length| self.pos + u64::from(length));
            }
            0x0002 => self.sop_class = Uid::from_value(value).ok(),
            0x0003 => self.sop_instance = Uid::from_value(value).ok(),
            0x0010 if value.iter().any(|byte| !matches!(byte, 0 | b' ')) => {
                let uid = Uid::from_value(value);
                self.transfer_syntax =
                    Some(uid.map_err(|_| DicomError::InvalidUid { tag: TRANSFER_SYNTAX_UID })?);
            }
            _ => {}
        }
        if tag.element() != 0 {
            sink.file_meta_element(&header, value)?;
        }
        held.clear();
        self.held = held;
        Ok(())
    }

    fn is_deflated(&self) -> bool {
        self.transfer_syntax
            .as_ref()
            .is_some_and(|uid| TransferSyntax::of(uid).encoding == Encoding::Deflated)
    }

    fn complete(&mut self) -> Result<Complete, DicomError> {
        let transfer_syntax =
            self.transfer_syntax.take().ok_or(DicomError::Missing { tag: TRANSFER_SYNTAX_UID })?;
        let endian = TransferSyntax::of(&transfer_syntax).encoding.endian();
        Ok(Complete {
            meta: FileMeta {
                transfer_syntax,
                media_storage_sop_class: self.sop_class.take(),
                media_storage_sop_instance: self.sop_instance.take(),
                data_set_offset: self.pos,
                has_preamble: self.has_preamble,
                endian,
            },
            kept: self.kept,
            rest: std::mem::take(&mut self.held),
        })
    }
}
