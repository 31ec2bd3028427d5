//! The levels of a data set (itself, sequences, items, encapsulated pixel data), and how headers
//! are written in each.

use super::{Endian, vr};
use crate::dicom::{Tag, VR};

/// How elements are written here; may change from one level to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) explicit: bool,
    pub(super) endian: Endian,
}

impl Form {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self.endian {
            Endian::Little => u16::from_le_bytes(bytes),
            Endian::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self.endian {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The data set itself, or an item.
    Elements,
    Sequence,
    Fragments,
}

#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) kind: Kind,
    /// Where it ends; `None`: at its delimiter.
    pub(super) end: Option<u64>,
    /// Where it must have ended because something around it ends.
    pub(super) bound: u64,
    pub(super) form: Form,
    /// Pixel Representation says signed.
    pub(super) signed: Option<bool>,
    /// No element of it was read yet.
    pub(super) fresh: bool,
}

/// An element or item header.
pub(super) struct Head {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) length: Option<u32>,
}

impl Level {
    fn tag(&self, raw: &[u8; 12]) -> Tag {
        let form = self.form;
        Tag(form.u16([raw[0], raw[1]]), form.u16([raw[2], raw[3]]))
    }

    /// Settles at the first element of a data set or item how its elements are written.
    pub(super) fn settle_form(&mut self, raw: &[u8; 12], outermost: bool) {
        let tag = self.tag(raw);
        if !self.fresh || self.kind != Kind::Elements || tag.group() == 0xFFFE {
            return;
        }
        self.fresh = false;
        let letters = [raw[4], raw[5]];
        if self.form.explicit {
            self.form.explicit = vr::are_letters(letters) || raw.starts_with(&[0; 8]);
        } else if outermost {
            let carried = vr::from_letters(letters);
            self.form.explicit = carried.is_some() && carried == vr::of_public(tag);
        }
    }

    /// Whether this element's header has a VR.
    fn has_vr(&self, raw: &[u8; 12]) -> bool {
        self.kind == Kind::Elements
            && self.form.explicit
            && self.tag(raw).group() != 0xFFFE
            && vr::are_letters([raw[4], raw[5]])
    }

    /// Bytes of a header, of which the first 8 have arrived.
    pub(super) fn header_size(&self, raw: &[u8; 12]) -> usize {
        let long = || vr::from_letters([raw[4], raw[5]]).is_none_or(vr::has_long_length);
        if self.has_vr(raw) && long() { 12 } else { 8 }
    }

    pub(super) fn decode(&self, raw: &[u8; 12]) -> Head {
        let [_, _, _, _, b4, b5, b6, b7, b8, b9, b10, b11] = *raw;
        let (tag, form) = (self.tag(raw), self.form);
        let defined = |length: u32| (length != u32::MAX).then_some(length);
        if !self.has_vr(raw) {
            let length = defined(form.u32([b4, b5, b6, b7]));
            // Items have none, and their VR is not asked for.
            let vr = if tag.group() == 0xFFFE || self.kind != Kind::Elements {
                VR::UN
            } else {
                vr::implicit(tag, length, self.signed)
            };
            return Head { tag, vr, length };
        }
        match vr::from_letters([b4, b5]) {
            Some(vr) if !vr::has_long_length(vr) => {
                Head { tag, vr, length: Some(u32::from(form.u16([b6, b7]))) }
            }
            vr => Head {
                tag,
                vr: vr.unwrap_or(VR::UN),
                length: defined(form.u32([b8, b9, b10, b11])),
            },
        }
    }
}
