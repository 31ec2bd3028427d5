//! What stands where in the data set itself: the sink of the editor's reader.

use std::collections::BTreeSet;

use crate::dicom::{
    DicomError, Tag, Uid, VR, explicit,
    reader::{ElementHeader, Endian, FileMeta, Sink},
    transfer_syntax::{Encoding, TransferSyntax},
};

use super::encode::Form;

/// A value of the data set itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) vr: VR,
    /// Its first byte.
    pub(super) offset: u64,
    pub(super) length: Option<u32>,
    /// Where it ends, of undefined length, delimiter included.
    end: Option<u64>,
}

impl Place {
    /// The byte behind it, once that is known.
    pub(super) fn end(&self) -> Option<u64> {
        self.length.map(|length| self.offset + u64::from(length)).or(self.end)
    }
}

/// Something of the data set itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) tag: Tag,
    pub(super) start: u64,
    /// `None`: a group length, a superfluous delimiter, padding.
    pub(super) value: Option<Place>,
}

impl Entry {
    pub(super) fn is_padding(&self) -> bool {
        self.tag == Tag(0, 0)
    }

    pub(super) fn is_stray(&self) -> bool {
        self.tag.group() == 0xFFFE
    }
}

#[derive(Default)]
pub(super) struct Survey {
    meta: Option<FileMeta>,
    /// But for (0002,0000).
    meta_elements: Vec<(u16, VR, Vec<u8>)>,
    entries: Vec<Entry>,
    /// How many of them were looked at.
    looked: usize,
    is_explicit: bool,
    depth: u32,
    /// Bytes of a deflated data set since they were last taken.
    pub(super) inflated: Vec<u8>,
    /// Attributes that may not come any more.
    closed: BTreeSet<Tag>,
}

impl Survey {
    pub(super) fn is_deflated(&self) -> bool {
        let encoding = |meta: &FileMeta| TransferSyntax::of(&meta.transfer_syntax).encoding;
        self.meta.as_ref().map(encoding) == Some(Encoding::Deflated)
    }

    pub(super) fn transfer_syntax(&self) -> Result<Uid, DicomError> {
        Ok(self.meta.as_ref().ok_or(DicomError::NotDicom)?.transfer_syntax.clone())
    }

    pub(super) fn data_set_offset(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.data_set_offset)
    }

    pub(super) fn form(&self) -> Form {
        let endian = self.meta.as_ref().map_or(Endian::Little, |meta| meta.endian);
        Form { explicit: self.is_explicit, endian }
    }

    /// Preamble and File Meta Information of the edited file; `None` where it has none.
    pub(super) fn file_meta(
        &mut self,
        sop_class: Option<Vec<u8>>,
        sop_instance: Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let syntax = self.transfer_syntax().ok()?;
        let mut elements = std::mem::take(&mut self.meta_elements);
        if elements.is_empty() {
            return None;
        }
        for (element, new) in [(0x0002, sop_class), (0x0003, sop_instance)] {
            if let Some(new) = new {
                elements.retain(|(known, ..)| *known != element);
                elements.push((element, VR::UI, new));
            }
        }
        Some(explicit::changed_file_meta(elements, &syntax))
    }

    /// About what it takes, in bytes.
    pub(super) fn held(&self) -> u64 {
        (self.entries.capacity() * size_of::<Entry>() + self.inflated.capacity()) as u64
    }

    /// What begins before `end`, in the order of the file.
    pub(super) fn elements(&self, end: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().take_while(move |entry| entry.start < end)
    }

    /// The attribute that begins here.
    pub(super) fn begins(&self, at: u64) -> Option<Tag> {
        let entry = self.entries.iter().find(|entry| entry.start == at);
        entry.filter(|entry| !entry.is_padding()).map(|entry| entry.tag)
    }

    pub(super) fn begins_padding(&self, at: u64) -> bool {
        self.entries.iter().any(|entry| entry.start == at && entry.is_padding())
    }

    /// Where the first attribute begins that is as `wanted` says, or padding, of those that were not
    /// looked at.
    pub(super) fn find(&mut self, wanted: impl Fn(Tag) -> bool) -> Option<u64> {
        let is_wanted =
            |entry: &&Entry| entry.is_padding() || !entry.is_stray() && wanted(entry.tag);
        let new = self.entries.get(self.looked..).unwrap_or_default();
        let found = new.iter().find(is_wanted).map(|entry| entry.start);
        self.looked = self.entries.len();
        found
    }

    /// Has all be looked at again.
    pub(super) fn look_again(&mut self) {
        self.looked = 0;
    }

    /// Where the last attribute ends, if it ended before `end`; what follows may pad the file.
    pub(super) fn known_end(&self, end: u64) -> u64 {
        match self.entries.last() {
            Some(entry) if entry.is_padding() => entry.start,
            Some(Entry { value: Some(place), .. }) => place.end().map_or(end, |at| at.min(end)),
            Some(entry) if entry.is_stray() => end.min(entry.start + 8),
            // A header whose value has not come, or a group length.
            Some(entry) => end.min(entry.start + 12),
            None => end,
        }
    }

    /// Forgets what began before `at`, but for the last of it.
    pub(super) fn forget(&mut self, at: u64) {
        let gone = self.entries.partition_point(|entry| entry.start < at);
        let gone = if gone == self.entries.len() { gone.saturating_sub(1) } else { gone };
        self.entries.drain(..gone);
        self.looked = self.looked.saturating_sub(gone);
    }

    /// From `end` on these may not come any more.
    pub(super) fn close(&mut self, tags: &[Tag], end: u64) -> Result<(), DicomError> {
        self.closed = tags.iter().copied().collect();
        let late = self
            .entries
            .iter()
            .find(|entry| entry.start >= end && self.closed.contains(&entry.tag));
        late.map_or(Ok(()), |entry| Err(out_of_order(entry.start)))
    }

    fn note(&mut self, header: &ElementHeader) {
        if self.depth == 0
            && let Some(last) = self.entries.last_mut()
        {
            let ElementHeader { vr, offset, length, .. } = *header;
            last.value = Some(Place { vr, offset, length, end: None });
        }
    }
}

fn out_of_order(at: u64) -> DicomError {
    DicomError::Malformed { at, what: "an attribute that is edited stands out of its order" }
}

impl Sink for Survey {
    fn file_meta_element(
        &mut self,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        let element = header.tag.element();
        if !self.meta_elements.iter().any(|(known, ..)| *known == element) {
            self.meta_elements.push((element, header.vr, value.to_vec()));
        }
        Ok(())
    }

    fn inflated(&mut self, bytes: &[u8]) {
        self.inflated.extend_from_slice(bytes);
    }

    fn top_level(&mut self, start: u64, tag: Tag, explicit: bool) -> Result<(), DicomError> {
        if self.closed.contains(&tag) {
            return Err(out_of_order(start));
        }
        self.is_explicit = explicit;
        self.entries.push(Entry { tag, start, value: None });
        Ok(())
    }

    fn top_level_end(&mut self, end: u64) {
        if let Some(Entry { value: Some(place), .. }) = self.entries.last_mut() {
            place.end = Some(end);
        }
    }

    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        let encoding = TransferSyntax::of(&meta.transfer_syntax).encoding;
        self.is_explicit = encoding != Encoding::ImplicitLittle;
        self.meta = Some(meta.clone());
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, _: &[u8]) -> Result<(), DicomError> {
        self.note(header);
        Ok(())
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.note(header);
        Ok(())
    }

    fn bulk_chunk(&mut self, _: &[u8]) -> Result<(), DicomError> {
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.note(header);
        self.depth += 1;
        Ok(())
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.note(header);
        Ok(())
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
