//! The sink that makes [`Indexed`] of what the reader hears.

use super::{
    BulkEntry, Indexed, Keys, NonPatient,
    keys::{self, Warnings},
    objects::Objects,
    pixels::{Ended, PIXEL_DATA, Pixels},
};
use crate::dicom::{
    DicomError, Limits, RejectionNote, Tag, Uid, VR, attributes,
    charset::Charset,
    json,
    reader::{ElementHeader, Endian, FileMeta, Sink},
};

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);

/// Longest value, as JSON, that Search returns, in bytes.
const MAX_RETURNED: usize = 64 * 1024;

/// Makes [`Indexed`] of one instance in one pass.
pub struct Indexer {
    meta: Option<FileMeta>,
    objects: Objects,
    /// The data set's, and that of each item around the next element.
    scopes: Vec<Scope>,
    sequences: Vec<Sequence>,
    /// Levels inside an element that is left out.
    muted: u32,
    /// (0008,0005) was in the data set itself.
    charset_told: bool,
    bulk: Vec<BulkEntry>,
    identity: [Option<Uid>; 4],
    keys: Keys,
    warnings: Warnings,
    pixels: Pixels,
}

/// How values of one data set or item are encoded.
#[derive(Clone, Copy)]
struct Scope {
    charset: Charset,
    endian: Endian,
}

struct Sequence {
    tag: Tag,
    items: u32,
    /// UN of undefined length is little endian inside (PS3.5 §6.2.2).
    endian: Option<Endian>,
}

/// The UIDs without which there is no instance.
const IDENTITY: [Tag; 4] = [SOP_CLASS, SOP_INSTANCE, STUDY, SERIES];

impl Indexer {
    /// An indexer that has heard nothing yet.
    pub fn new(limits: Limits) -> Self {
        let scope = Scope { charset: Charset::DEFAULT, endian: Endian::Little };
        Self {
            meta: None,
            objects: Objects::new(),
            scopes: vec![scope],
            sequences: Vec::new(),
            muted: 0,
            charset_told: false,
            bulk: Vec::new(),
            identity: [const { None }; 4],
            keys: Keys::default(),
            warnings: Warnings::default(),
            pixels: Pixels::new(&limits),
        }
    }

    /// SOP Class and SOP Instance UID, once both were heard: by them a failure is reported.
    pub fn sop(&self) -> Option<(Uid, Uid)> {
        let [class, instance, ..] = &self.identity;
        Some((class.clone()?, instance.clone()?))
    }

    /// What it holds by now, about, in bytes.
    pub fn held(&self) -> u64 {
        (self.objects.out.capacity() + self.bulk.capacity() * size_of::<BulkEntry>()) as u64
    }

    /// What was heard, once the reader came to the end.
    ///
    /// # Errors
    /// [`DicomError::Missing`] or [`DicomError::InvalidUid`] for SOP Class, SOP Instance, Study and
    /// Series Instance UID; [`DicomError::Limit`] for too many frames.
    pub fn finish(mut self) -> Result<Indexed, DicomError> {
        let meta = self.meta.take().ok_or(DicomError::NotDicom)?;
        let [sop_class, instance, study, series] = std::mem::take(&mut self.identity);
        let required = |uid: Option<Uid>, tag| uid.ok_or(DicomError::Missing { tag });
        let sop_class = required(sop_class, SOP_CLASS)?;
        let instance = required(instance, SOP_INSTANCE)?;
        let study = required(study, STUDY)?;
        let series = required(series, SERIES)?;
        for (tag, told, uid) in [
            (Tag(0x0002, 0x0002), &meta.media_storage_sop_class, &sop_class),
            (Tag(0x0002, 0x0003), &meta.media_storage_sop_instance, &instance),
        ] {
            if told.as_ref().is_some_and(|told| told != uid) {
                self.warnings.add(tag, "differs from the data set, which counts");
            }
        }
        let Self { pixels, bulk, warnings, .. } = &mut self;
        let frames = pixels.frame_table(&meta.transfer_syntax, bulk, warnings)?;
        // Text beyond ASCII although no character set was told.
        let assumed = !self.charset_told && !self.objects.out.is_ascii();
        if assumed && self.objects.begin(CHARACTER_SET) {
            write_utf8(&mut self.objects.out);
            let reason = "absent, although there is text beyond ASCII; ISO_IR 100 was assumed";
            self.warnings.add(CHARACTER_SET, reason);
        }
        let (metadata, ranges) = self.objects.finish();
        let level_attributes = returned(&metadata, &ranges);
        let rejection = RejectionNote::of(&sop_class, &instance, &metadata);
        Ok(Indexed {
            transfer_syntax: meta.transfer_syntax,
            sop_class,
            study,
            series,
            instance,
            data_set_offset: meta.data_set_offset,
            has_preamble: meta.has_preamble,
            metadata,
            bulk: self.bulk,
            level_attributes,
            keys: self.keys,
            frames,
            rejection,
            warnings: self.warnings.0,
        })
    }

    /// What was heard of an instance that belongs to no study.
    ///
    /// # Errors
    /// As [`Indexer::finish`], without Study and Series Instance UID.
    pub fn finish_non_patient(mut self) -> Result<NonPatient, DicomError> {
        // In place of those that it has not.
        let [_, own, study, series] = &mut self.identity;
        (*study, *series) = (own.clone(), own.clone());
        let indexed = self.finish()?;
        Ok(NonPatient {
            transfer_syntax: indexed.transfer_syntax,
            sop_class: indexed.sop_class,
            instance: indexed.instance,
            data_set_offset: indexed.data_set_offset,
            has_preamble: indexed.has_preamble,
            metadata: indexed.metadata,
            bulk: indexed.bulk,
            warnings: indexed.warnings,
        })
    }

    fn scope(&self) -> Scope {
        let none = Scope { charset: Charset::DEFAULT, endian: Endian::Little };
        self.scopes.last().copied().unwrap_or(none)
    }

    /// Begins an attribute. `false`: it is left out.
    fn begin(&mut self, tag: Tag) -> bool {
        if self.muted > 0 || tag.element() == 0 || matches!(tag.group(), 0x0000 | 0x0002) {
            return false;
        }
        let first = self.objects.begin(tag);
        if !first {
            self.warnings.add(tag, "occurs more than once; the first counts");
        }
        first
    }

    /// The path of an attribute of the innermost item: see [`BulkEntry::path`].
    fn path(&self, tag: Tag) -> String {
        let mut path = Vec::with_capacity(8 + 16 * self.sequences.len());
        for sequence in &self.sequences {
            json::push_hex(&mut path, sequence.tag);
            let item = sequence.items.saturating_sub(1);
            path.extend_from_slice(format!("/{item}/").as_bytes());
        }
        json::push_hex(&mut path, tag);
        String::from_utf8(path).unwrap_or_default()
    }

    fn entry(&self, header: &ElementHeader, length: u64) -> BulkEntry {
        let (vr, offset) = (header.vr, header.offset);
        BulkEntry { path: self.path(header.tag), vr, offset, length }
    }

    /// Writes an attribute, which was begun, as named by URI.
    fn name_by_uri(&mut self, entry: BulkEntry) {
        json::write_bulk(&mut self.objects.out, entry.vr, &entry.path);
        self.bulk.push(entry);
    }

    /// Notes what an attribute of the data set itself means for the index.
    fn note(&mut self, tag: Tag, vr: VR, value: &[u8], scope: Scope) -> Result<(), DicomError> {
        self.pixels.note(tag, vr, value, scope.endian, &mut self.warnings);
        if let Some(place) = IDENTITY.iter().position(|wanted| *wanted == tag) {
            self.identify(place, tag, value)?;
        }
        if let Some(attribute) = attributes::by_tag(tag) {
            let Self { keys, warnings, .. } = self;
            keys::add(keys, warnings, attribute, vr, value, &scope.charset);
        }
        Ok(())
    }

    fn identify(&mut self, place: usize, tag: Tag, value: &[u8]) -> Result<(), DicomError> {
        if value.iter().all(|byte| matches!(byte, b' ' | 0)) {
            return Ok(());
        }
        let uid = Uid::from_value(value).map_err(|_| DicomError::InvalidUid { tag })?;
        if uid.has_leading_zero() {
            self.warnings.add(tag, "a component with a leading zero (PS3.5 §9.1)");
        }
        if let Some(identity) = self.identity.get_mut(place) {
            *identity = Some(uid);
        }
        Ok(())
    }
}

impl Sink for Indexer {
    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        if let Some(scope) = self.scopes.first_mut() {
            scope.endian = meta.endian;
        }
        self.meta = Some(meta.clone());
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        let tag = header.tag;
        if !self.begin(tag) {
            return Ok(());
        }
        let mut scope = self.scope();
        let vr = meaning(header);
        if vr != header.vr {
            scope.endian = Endian::Little;
        }
        if tag == CHARACTER_SET {
            self.charset_told |= self.objects.at_top();
            let (charset, problem) = Charset::from_value(value);
            if let Some(scope) = self.scopes.last_mut() {
                scope.charset = charset;
            }
            if let Some(problem) = problem {
                self.warnings.add(tag, problem.to_string());
            }
            write_utf8(&mut self.objects.out);
            return Ok(());
        }
        let top = self.objects.at_top();
        let length = value.len() as u64;
        if top && length > 0 && self.pixels.native(tag, header.offset, length) {
            self.name_by_uri(self.entry(&ElementHeader { vr, ..*header }, length));
            return Ok(());
        }
        json::write_value(&mut self.objects.out, vr, value, scope.endian, &scope.charset);
        if top { self.note(tag, vr, value, scope) } else { Ok(()) }
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        if !self.begin(header.tag) {
            return Ok(());
        }
        let length = header.length.unwrap_or(0);
        self.name_by_uri(self.entry(header, u64::from(length)));
        if !self.objects.at_top() {
            return Ok(());
        }
        self.pixels.native(header.tag, header.offset, u64::from(length));
        self.pixels.bulk_start(header.tag, length)
    }

    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        self.pixels.chunk(bytes);
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        self.pixels.chunks_end();
        Ok(())
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        if !self.begin(header.tag) {
            self.muted += 1;
            return Ok(());
        }
        json::open(&mut self.objects.out, VR::SQ);
        let endian = (header.vr == VR::UN).then_some(Endian::Little);
        self.sequences.push(Sequence { tag: header.tag, items: 0, endian });
        Ok(())
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        if self.muted > 0 {
            return Ok(());
        }
        let mut scope = self.scope();
        if let Some(sequence) = self.sequences.last_mut() {
            let first = sequence.items == 0;
            self.objects.out.extend_from_slice(if first { b",\"Value\":[" } else { b"," });
            sequence.items = sequence.items.saturating_add(1);
            scope.endian = sequence.endian.unwrap_or(scope.endian);
        }
        self.objects.open();
        self.scopes.push(scope);
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        if self.muted > 0 {
            return Ok(());
        }
        self.objects.close();
        self.scopes.pop();
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        if self.muted > 0 {
            self.muted -= 1;
            return Ok(());
        }
        if let Some(sequence) = self.sequences.pop() {
            let end: &[u8] = if sequence.items > 0 { b"]}" } else { b"}" };
            self.objects.out.extend_from_slice(end);
        }
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        if self.begin(header.tag) {
            let image = self.objects.at_top() && header.tag == PIXEL_DATA;
            self.pixels.fragments_start(self.entry(header, 0), image);
        }
        Ok(())
    }

    fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError> {
        self.pixels.fragment_start(offset, length)
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        self.pixels.chunks_end();
        Ok(())
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        match self.pixels.fragments_end(self.bulk.len()) {
            Ended::Nothing => {}
            Ended::Empty(vr) => {
                json::open(&mut self.objects.out, vr);
                self.objects.out.push(b'}');
            }
            Ended::Bulk(entry) => self.name_by_uri(entry),
        }
        Ok(())
    }
}

/// What a value is: its VR; for UN, what PS3.6 says that the attribute is, unless a sequence.
fn meaning(header: &ElementHeader) -> VR {
    if header.vr != VR::UN {
        return header.vr;
    }
    attributes::vr_of(header.tag).filter(|vr| *vr != VR::SQ).unwrap_or(VR::UN)
}

/// The value of (0008,0005) in JSON, which is UTF-8 whatever the data set was (PS3.18 §F.2.3).
fn write_utf8(out: &mut Vec<u8>) {
    json::open(out, VR::CS);
    out.extend_from_slice(b",\"Value\":[\"ISO_IR 192\"]}");
}

/// The attributes that Search returns at each level.
fn returned(metadata: &[u8], ranges: &[(Tag, std::ops::Range<usize>)]) -> [Vec<u8>; 3] {
    /// `"GGGGEEEE":{"vr":"XX"}`
    const EMPTY: usize = 22;
    let mut levels = [const { Vec::new() }; 3];
    for (tag, range) in ranges {
        let Some(attribute) = attributes::by_tag(*tag) else { continue };
        let bytes = metadata.get(range.clone()).unwrap_or_default();
        if bytes.len() <= EMPTY || bytes.len() > MAX_RETURNED || json::has_bulk(bytes) {
            continue;
        }
        let Some(level) = levels.get_mut(attribute.level as usize) else { continue };
        level.push(if level.is_empty() { b'{' } else { b',' });
        level.extend_from_slice(bytes);
    }
    for level in &mut levels {
        let end: &[u8] = if level.is_empty() { b"{}" } else { b"}" };
        level.extend_from_slice(end);
    }
    levels
}
