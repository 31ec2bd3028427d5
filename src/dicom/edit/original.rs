//! The Original Attributes Sequence (PS3.3 §C.12.1.1.9): who changed what, when and why, with the
//! values that were before.

use std::collections::BTreeSet;

use super::{Changes, EditError, Editor, ORIGINAL, survey::Place};
use crate::dicom::{Tag, VR};

/// (0400,0550) Modified Attributes Sequence.
const MODIFIED: Tag = Tag(0x0400, 0x0550);
pub(super) const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
pub(super) const ISSUER: Tag = Tag(0x0010, 0x0021);
/// Bytes of a delimiter.
const DELIMITER: u64 = 8;

/// (0400,0565) Reason for the Attribute Modification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To fit what a system or its users need.
    Coerce,
    /// Because a value was wrong.
    Correct,
}

/// Who changes attributes, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// (0400,0562) Attribute Modification DateTime, with its zone.
    pub date_time: String,
    /// (0400,0563) Modifying System.
    pub system: String,
    /// (0400,0564) Source of Previous Values; empty where it is not known.
    pub source: String,
    /// (0400,0565).
    pub reason: Reason,
}

impl Editor {
    /// The item that tells of these changes to what stands before `end`.
    pub(super) fn original_item(
        &self,
        changes: &Changes,
        origin: &Origin,
        end: u64,
    ) -> Result<Vec<u8>, EditError> {
        let form = self.form;
        let mut content = Vec::new();
        let modified = form.item(&self.modified(changes, end)?, ORIGINAL)?;
        form.element(&mut content, (MODIFIED, VR::SQ), &modified, false)?;
        let reason = match origin.reason {
            Reason::Coerce => "COERCE",
            Reason::Correct => "CORRECT",
        };
        let charset = self.charset(end).0;
        for (element, vr, text) in [
            (0x0562, VR::DT, origin.date_time.as_str()),
            (0x0563, VR::LO, &origin.system),
            (0x0564, VR::LO, &origin.source),
            (0x0565, VR::CS, reason),
        ] {
            // A name that the file cannot spell is still recognised.
            let mut value = charset.encode(text).unwrap_or_else(|| {
                text.chars()
                    .map(|c| u8::try_from(c).ok().filter(u8::is_ascii))
                    .map(|byte| byte.unwrap_or(b'?'))
                    .collect()
            });
            if value.len() % 2 == 1 {
                value.push(b' ');
            }
            form.element(&mut content, (Tag(0x0400, element), vr), &value, false)?;
        }
        form.item(&content, ORIGINAL)
    }

    /// The previous values: of what changed, and what they cannot be understood without.
    fn modified(&self, changes: &Changes, end: u64) -> Result<Vec<u8>, EditError> {
        let mut tags: BTreeSet<Tag> = changes.keys().copied().collect();
        if tags.contains(&PATIENT_ID) {
            tags.insert(ISSUER);
        }
        let creators = changes.keys().filter(|tag| tag.group() % 2 == 1 && tag.element() > 0xFF);
        tags.extend(creators.map(|tag| Tag(tag.group(), tag.element() >> 8)));
        let mut out = Vec::new();
        for tag in tags {
            let old = self.survey().elements(end).find(|entry| entry.tag == tag);
            if let Some(place) = old.and_then(|entry| entry.value) {
                let value = self.bytes_of(&place);
                self.form.element(&mut out, (tag, place.vr), &value, place.length.is_none())?;
            } else if let Some(Some((vr, _))) = changes.get(&tag) {
                self.form.element(&mut out, (tag, *vr), &[], false)?;
            }
        }
        Ok(out)
    }

    pub(super) fn bytes_of(&self, place: &Place) -> Vec<u8> {
        self.source().copy(place.offset, place.end().unwrap_or(place.offset))
    }

    /// The value of (0400,0561): the items that it has before `end`, and the new one.
    pub(super) fn original_value(&mut self, end: u64) -> Result<Vec<u8>, EditError> {
        let old = self.survey().elements(end).find(|entry| entry.tag == ORIGINAL);
        let mut value = Vec::new();
        if let Some(place) = old.and_then(|entry| entry.value) {
            if place.vr != VR::SQ {
                return Err(EditError::NoSequence);
            }
            value = self.bytes_of(&place);
            if place.length.is_none() {
                value.truncate(value.len().saturating_sub(DELIMITER as usize));
            }
        }
        value.append(&mut self.item);
        Ok(value)
    }
}
