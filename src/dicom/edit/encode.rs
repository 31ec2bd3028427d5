//! Elements as a data set has them: with VRs or without, in its byte order and character set.

use std::collections::BTreeMap;

use super::{EditError, Value};
use crate::dicom::{
    Tag, VR,
    charset::Charset,
    reader::{Endian, vr},
};

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
/// Longest value that a 16-bit length can tell and that is even.
const LONGEST_SHORT: u32 = 65534;

/// How the elements of a data set are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) explicit: bool,
    pub(super) endian: Endian,
}

impl Form {
    pub(super) const EXPLICIT_LITTLE: Self = Self { explicit: true, endian: Endian::Little };

    fn u16(self, number: u16) -> [u8; 2] {
        match self.endian {
            Endian::Little => number.to_le_bytes(),
            Endian::Big => number.to_be_bytes(),
        }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        match self.endian {
            Endian::Little => number.to_le_bytes(),
            Endian::Big => number.to_be_bytes(),
        }
    }

    fn tag(self, out: &mut Vec<u8>, Tag(group, element): Tag) {
        out.extend_from_slice(&self.u16(group));
        out.extend_from_slice(&self.u16(element));
    }

    /// An element whose value is written as the data set has it; `None`: it has its own delimiter.
    pub(super) fn element(
        self,
        out: &mut Vec<u8>,
        (tag, vr): (Tag, VR),
        value: &[u8],
        is_undefined: bool,
    ) -> Result<(), EditError> {
        let length = u32::try_from(value.len()).ok().filter(|length| *length < UNDEFINED);
        let length = length.ok_or(EditError::TooLong(tag))?;
        let length = if is_undefined { UNDEFINED } else { length };
        self.tag(out, tag);
        if !self.explicit {
            out.extend_from_slice(&self.u32(length));
        } else if vr::has_long_length(vr) {
            out.extend_from_slice(&vr.to_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&self.u32(length));
        } else {
            let length = u16::try_from(length).ok().filter(|n| u32::from(*n) <= LONGEST_SHORT + 1);
            let length = length.ok_or(EditError::TooLong(tag))?;
            out.extend_from_slice(&vr.to_bytes());
            out.extend_from_slice(&self.u16(length));
        }
        out.extend_from_slice(value);
        Ok(())
    }

    /// An item of these elements.
    pub(super) fn item(self, content: &[u8], tag: Tag) -> Result<Vec<u8>, EditError> {
        let length = u32::try_from(content.len()).ok().filter(|length| *length < UNDEFINED);
        let mut out = Vec::with_capacity(content.len() + 8);
        self.tag(&mut out, ITEM);
        out.extend_from_slice(&self.u32(length.ok_or(EditError::TooLong(tag))?));
        out.extend_from_slice(content);
        Ok(out)
    }

    /// The value of an attribute, of even length.
    pub(super) fn value(
        self,
        (tag, vr): (Tag, VR),
        value: &Value,
        charset: &Charset,
    ) -> Result<Vec<u8>, EditError> {
        let mut out = match value {
            Value::Items(items) => {
                let mut out = Vec::new();
                for item in items {
                    out.extend(self.item(&self.elements(item, charset)?, tag)?);
                }
                return Ok(out);
            }
            Value::Bytes(bytes) if is_text(vr) => {
                let unfit = EditError::Characters(tag);
                let text = str::from_utf8(bytes).map_err(|_| unfit.clone())?;
                let charset = if has_charset(vr) { charset } else { &Charset::DEFAULT };
                let values: Vec<&str> =
                    if is_single(vr) { vec![text] } else { text.split('\\').collect() };
                let values = values.into_iter().map(|value| charset.encode(value));
                values.collect::<Option<Vec<_>>>().ok_or(unfit)?.join(&b'\\')
            }
            Value::Bytes(bytes) => match (self.endian, vr::swap_unit(vr)) {
                (Endian::Little, _) | (_, 0 | 1) => bytes.clone(),
                (Endian::Big, unit) => {
                    bytes.chunks(unit).flat_map(|unit| unit.iter().rev().copied()).collect()
                }
            },
        };
        if out.len() % 2 == 1 {
            out.push(vr::padding(vr));
        }
        if self.explicit && out.len() > LONGEST_SHORT as usize && !vr::has_long_length(vr) {
            return Err(EditError::TooLong(tag));
        }
        Ok(out)
    }

    fn elements(
        self,
        elements: &BTreeMap<Tag, (VR, Value)>,
        charset: &Charset,
    ) -> Result<Vec<u8>, EditError> {
        let mut out = Vec::new();
        for (tag, (vr, value)) in elements {
            let value = self.value((*tag, *vr), value, charset)?;
            self.element(&mut out, (*tag, *vr), &value, false)?;
        }
        Ok(out)
    }
}

/// Whether values of this VR are characters.
pub(in crate::dicom) fn is_text(vr: VR) -> bool {
    !vr::is_binary(vr) && vr != VR::SQ
}

/// Whether (0008,0005) tells how values of this VR are written (PS3.5 §6.1.2.3).
pub(super) fn has_charset(vr: VR) -> bool {
    matches!(vr, VR::SH | VR::LO | VR::UC | VR::PN | VR::ST | VR::LT | VR::UT)
}

/// Whether an attribute of this VR has one value, in which `\` means itself.
pub(super) fn is_single(vr: VR) -> bool {
    matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR)
}
