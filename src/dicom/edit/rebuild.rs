//! What edits change of what was read, and the bytes that come of it.

use std::collections::BTreeMap;

use super::{
    CHARACTER_SET, Changes, EditError, Editor, Edits, ORIGINAL,
    encode::{has_charset, is_text},
    survey::Entry,
};
use crate::dicom::{Tag, VR, charset::Charset};

/// What (0008,0005) becomes where a file has none, in this order.
const WIDER: [&str; 2] = ["ISO_IR 100", "ISO_IR 192"];

/// A value without what pads it.
fn trimmed(vr: VR, mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | 0] = value
        && is_text(vr)
    {
        value = rest;
    }
    value
}

impl Editor {
    /// The character set of what stands before `end`, and whether the file tells it.
    pub(super) fn charset(&self, end: u64) -> (Charset, bool) {
        let place = self.survey().elements(end).find(|entry| entry.tag == CHARACTER_SET);
        let value = place.and_then(|entry| entry.value).map(|place| self.bytes_of(&place));
        let value = value.unwrap_or_default();
        let trimmed = value.trim_ascii_end();
        let is_told = !trimmed.is_empty() && trimmed != b"ISO_IR 6";
        (Charset::from_value(&value).0, is_told)
    }

    /// The changes that edits make to what stands before `end`, as the file has values.
    pub(super) fn changes(&self, edits: &Edits, end: u64) -> Result<Changes, EditError> {
        let (charset, is_told) = self.charset(end);
        let mut changes = self.encoded(edits, &charset, end);
        if is_told || !matches!(changes, Err(EditError::Characters(_))) {
            return changes;
        }
        for term in WIDER {
            if term == "ISO_IR 192" && !self.is_ascii(end) {
                break;
            }
            changes = self.encoded(edits, &Charset::from_value(term.as_bytes()).0, end);
            if let Ok(changes) = &mut changes {
                if !changes.is_empty() {
                    changes.insert(CHARACTER_SET, Some((VR::CS, term.into())));
                }
                break;
            }
        }
        changes
    }

    fn encoded(&self, edits: &Edits, charset: &Charset, end: u64) -> Result<Changes, EditError> {
        let mut changes = BTreeMap::new();
        for (tag, edit) in &edits.attributes {
            let old = self.survey().elements(end).find(|entry| entry.tag == *tag);
            let new = match edit {
                None => None,
                Some((vr, value)) => Some((*vr, self.form.value((*tag, *vr), value, charset)?)),
            };
            let is_same = match (old, &new) {
                (None, None) => true,
                (Some(Entry { value: Some(place), .. }), Some((vr, value))) => {
                    let old = self.bytes_of(place);
                    place.vr == *vr && trimmed(*vr, &old) == trimmed(*vr, value)
                }
                _ => false,
            };
            if !is_same {
                changes.insert(*tag, new);
            }
        }
        Ok(changes)
    }

    /// Whether all text before `end` is ASCII.
    fn is_ascii(&self, end: u64) -> bool {
        self.survey().elements(end).all(|entry| match entry.value {
            Some(place) if has_charset(place.vr) || place.vr == VR::SQ => {
                self.bytes_of(&place).is_ascii()
            }
            _ => true,
        })
    }

    /// What is held and stands before `end`, with these changes.
    pub(super) fn rebuild(&self, changes: &Changes, end: u64) -> Result<Vec<u8>, EditError> {
        let source = self.source();
        let mut out = Vec::new();
        let mut cursor = source.base();
        let mut due = changes.iter().peekable();
        let entries: Vec<&Entry> =
            self.survey().elements(end).filter(|entry| entry.start >= source.base()).collect();
        for (at, entry) in entries.iter().enumerate() {
            source.copy_into(&mut out, cursor, entry.start);
            cursor = entry.start;
            let next = entries.get(at + 1).map_or(end, |next| next.start);
            let is_due = |tag: Tag| !entry.is_stray() && tag <= entry.tag || entry.is_padding();
            while let Some((tag, new)) = due.next_if(|(tag, _)| is_due(**tag)) {
                self.write(&mut out, *tag, new.as_ref())?;
            }
            let is_stale = entry.tag.element() == 0
                && entry.tag.group() >= 0x0008
                && (entry.tag.group() == ORIGINAL.group()
                    || changes.keys().any(|tag| tag.group() == entry.tag.group()));
            if changes.contains_key(&entry.tag) || is_stale {
                cursor = next;
            }
        }
        source.copy_into(&mut out, cursor, end);
        for (tag, new) in due {
            self.write(&mut out, *tag, new.as_ref())?;
        }
        Ok(out)
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        tag: Tag,
        new: Option<&(VR, Vec<u8>)>,
    ) -> Result<(), EditError> {
        match new {
            Some((vr, value)) => self.form.element(out, (tag, *vr), value, false),
            None => Ok(()),
        }
    }
}
