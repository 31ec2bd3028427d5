//! The sink that makes [`Indexed`] of what the reader hears.

use super::{
    BulkEntry, Indexed, Keys,
    keys::{self, Warnings},
    objects::Objects,
};
use crate::dicom::{
    DicomError, Limits, Tag, Uid, VR, attributes,
    charset::Charset,
    frames::{Encapsulated, Fragment, FrameTable, ImagePixel, Subsampling},
    json, normalise,
    reader::{ElementHeader, Endian, FileMeta, Sink},
};

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Longest value, as JSON, that Search returns, in bytes.
const MAX_RETURNED: usize = 64 * 1024;

/// Makes [`Indexed`] of one instance in one pass.
pub struct Indexer {
    limits: Limits,
    meta: Option<FileMeta>,
    objects: Objects,
    /// The data set's, and that of each item around the next element.
    scopes: Vec<Scope>,
    sequences: Vec<Sequence>,
    /// Levels inside an element that is left out.
    muted: u32,
    /// (0008,0005) was in the data set itself.
    charset_told: bool,
    /// What the next bulk bytes are for.
    chunks: Chunks,
    bulk: Vec<BulkEntry>,
    fragments: Option<Fragments>,
    identity: [Option<Uid>; 4],
    keys: Keys,
    warnings: Warnings,
    image: ImagePixel,
    pixels: Pixels,
    encapsulated: Encapsulated,
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

enum Chunks {
    Ignored,
    ExtendedOffsets,
    ExtendedLengths,
    BasicOffsets,
    /// The first bytes of a fragment.
    Prefix {
        held: [u8; Fragment::PREFIX],
        length: usize,
    },
}

/// Encapsulated pixel data while it is read.
struct Fragments {
    path: String,
    vr: VR,
    offset: u64,
    value: Encapsulated,
    /// The Basic Offset Table has begun.
    begun: bool,
    /// It is the image's, not an icon's in some item.
    image: bool,
}

/// The image's pixel data, as far as frames depend on it.
enum Pixels {
    None,
    Native {
        offset: u64,
        length: u64,
        bits: Option<u16>,
    },
    /// In `encapsulated`; its place in `bulk`.
    Encapsulated {
        entry: usize,
    },
}

/// The UIDs without which there is no instance.
const IDENTITY: [Tag; 4] = [SOP_CLASS, SOP_INSTANCE, STUDY, SERIES];

impl Indexer {
    /// An indexer that has heard nothing yet.
    pub fn new(limits: Limits) -> Self {
        let scope = Scope { charset: Charset::DEFAULT, endian: Endian::Little };
        Self {
            limits,
            meta: None,
            objects: Objects::new(),
            scopes: vec![scope],
            sequences: Vec::new(),
            muted: 0,
            charset_told: false,
            chunks: Chunks::Ignored,
            bulk: Vec::new(),
            fragments: None,
            identity: [const { None }; 4],
            keys: Keys::default(),
            warnings: Warnings::default(),
            image: ImagePixel::default(),
            pixels: Pixels::None,
            encapsulated: Encapsulated::default(),
        }
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
        let frames = self.frame_table(&meta.transfer_syntax)?;
        // Text beyond ASCII although no character set was told.
        let assumed = !self.charset_told && !self.objects.out.is_ascii();
        if assumed && self.objects.begin(CHARACTER_SET) {
            write_utf8(&mut self.objects.out);
            let reason = "absent, although there is text beyond ASCII; ISO_IR 100 was assumed";
            self.warnings.add(CHARACTER_SET, reason);
        }
        let (metadata, ranges) = self.objects.finish();
        let level_attributes = returned(&metadata, &ranges);
        Ok(Indexed {
            transfer_syntax: meta.transfer_syntax,
            sop_class,
            study,
            series,
            instance,
            data_set_offset: meta.data_set_offset,
            metadata,
            bulk: self.bulk,
            level_attributes,
            keys: self.keys,
            frames,
            warnings: self.warnings.0,
        })
    }

    fn scope(&self) -> Scope {
        let none = Scope { charset: Charset::DEFAULT, endian: Endian::Little };
        self.scopes.last().copied().unwrap_or(none)
    }

    /// Begins an attribute. `false`: it is left out.
    fn begin(&mut self, tag: Tag) -> bool {
        if self.muted > 0 || tag.element() == 0 || tag.group() <= 0x0002 {
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

    /// Writes an attribute, which was begun, as named by URI.
    fn name_by_uri(&mut self, vr: VR, path: String, offset: u64, length: u64) {
        json::write_bulk(&mut self.objects.out, vr, &path);
        self.bulk.push(BulkEntry { path, vr, offset, length });
    }

    /// Notes what an attribute of the data set itself means for the index.
    fn note(&mut self, tag: Tag, vr: VR, value: &[u8], scope: Scope) -> Result<(), DicomError> {
        let short = |value: &[u8]| {
            let &[a, b] = value.first_chunk::<2>().filter(|_| vr == VR::US)?;
            Some(match scope.endian {
                Endian::Little => u16::from_le_bytes([a, b]),
                Endian::Big => u16::from_be_bytes([a, b]),
            })
        };
        match tag {
            Tag(0x0028, 0x0002) => self.image.samples_per_pixel = short(value),
            Tag(0x0028, 0x0004) => self.image.subsampling = Subsampling::of(value),
            NUMBER_OF_FRAMES => self.number_of_frames(value),
            Tag(0x0028, 0x0010) => self.image.rows = short(value),
            Tag(0x0028, 0x0011) => self.image.columns = short(value),
            Tag(0x0028, 0x0100) => self.image.bits_allocated = short(value),
            EXTENDED_OFFSETS => self.encapsulated.extended_offsets = value.to_vec(),
            EXTENDED_LENGTHS => self.encapsulated.extended_lengths = value.to_vec(),
            _ => {}
        }
        if let Some(place) = IDENTITY.iter().position(|wanted| *wanted == tag) {
            self.identify(place, tag, value)?;
        }
        if let Some(attribute) = attributes::by_tag(tag) {
            let Self { keys, warnings, .. } = self;
            keys::add(keys, warnings, attribute, vr, value, &scope.charset);
        }
        Ok(())
    }

    fn number_of_frames(&mut self, value: &[u8]) {
        let text = Charset::DEFAULT.decode(value, crate::dicom::charset::Text::Plain);
        if text.trim_matches([' ', '\0']).is_empty() {
            return;
        }
        let frames = normalise::integer(&text).ok().and_then(|number| number.parse().ok());
        self.image.number_of_frames = frames.filter(|&frames| frames > 0);
        if self.image.number_of_frames.is_none() {
            self.warnings.add(NUMBER_OF_FRAMES, "not a number of frames; 1 was assumed");
        }
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

    fn frame_table(&mut self, transfer_syntax: &Uid) -> Result<Option<FrameTable>, DicomError> {
        let told = self.image.number_of_frames;
        let table = match self.pixels {
            Pixels::None => return Ok(None),
            Pixels::Native { offset, length, bits } => self.image.native(offset, length, bits),
            Pixels::Encapsulated { entry } => {
                let table = self.encapsulated.table(&self.image, transfer_syntax);
                if table.is_none()
                    && let Some((offset, length)) = self.encapsulated.span()
                    && let Some(entry) = self.bulk.get_mut(entry)
                {
                    (entry.offset, entry.length) = (offset, length);
                }
                table
            }
        };
        match &table {
            None => self.warnings.add(PIXEL_DATA, "its frames cannot be told apart"),
            Some(table) if u64::from(table.len()) > self.limits.frames => {
                let limit = self.limits.frames;
                return Err(DicomError::Limit { key: "limits.frames", limit });
            }
            Some(FrameTable::Native { frames, .. }) if *frames < told.unwrap_or(1) => {
                self.warnings.add(PIXEL_DATA, "too short for its number of frames");
            }
            Some(_) => {}
        }
        Ok(table)
    }

    /// Refuses a table of offsets of more frames than an instance may have.
    fn check_table(&self, length: u32, entry: u32) -> Result<(), DicomError> {
        let limit = self.limits.frames;
        if u64::from(length / entry) > limit {
            return Err(DicomError::Limit { key: "limits.frames", limit });
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
        if top
            && !value.is_empty()
            && let Some(bits) = pixel_bits(tag)
        {
            let length = value.len() as u64;
            self.pixels = Pixels::Native { offset: header.offset, length, bits };
            self.name_by_uri(vr, self.path(tag), header.offset, length);
            return Ok(());
        }
        json::write_value(&mut self.objects.out, vr, value, scope.endian, &scope.charset);
        if top { self.note(tag, vr, value, scope) } else { Ok(()) }
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.chunks = Chunks::Ignored;
        let tag = header.tag;
        if !self.begin(tag) {
            return Ok(());
        }
        let length = header.length.unwrap_or(0);
        self.name_by_uri(header.vr, self.path(tag), header.offset, u64::from(length));
        if !self.objects.at_top() {
            return Ok(());
        }
        if let Some(bits) = pixel_bits(tag) {
            let length = u64::from(length);
            self.pixels = Pixels::Native { offset: header.offset, length, bits };
        }
        if matches!(tag, EXTENDED_OFFSETS | EXTENDED_LENGTHS) {
            self.check_table(length, 8)?;
            let offsets = tag == EXTENDED_OFFSETS;
            self.chunks = if offsets { Chunks::ExtendedOffsets } else { Chunks::ExtendedLengths };
        }
        Ok(())
    }

    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        match &mut self.chunks {
            Chunks::Ignored => {}
            Chunks::ExtendedOffsets => self.encapsulated.extended_offsets.extend_from_slice(bytes),
            Chunks::ExtendedLengths => self.encapsulated.extended_lengths.extend_from_slice(bytes),
            Chunks::BasicOffsets => {
                if let Some(fragments) = &mut self.fragments {
                    fragments.value.basic_offsets.extend_from_slice(bytes);
                }
            }
            Chunks::Prefix { held, length } => {
                for (place, byte) in held.iter_mut().skip(*length).zip(bytes) {
                    *place = *byte;
                    *length += 1;
                }
            }
        }
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        self.chunks = Chunks::Ignored;
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
        if !self.begin(header.tag) {
            self.muted += 1;
            return Ok(());
        }
        self.fragments = Some(Fragments {
            path: self.path(header.tag),
            vr: header.vr,
            offset: header.offset,
            value: Encapsulated::default(),
            begun: false,
            image: self.objects.at_top() && header.tag == PIXEL_DATA,
        });
        Ok(())
    }

    fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError> {
        self.chunks = Chunks::Ignored;
        let Some(fragments) = &mut self.fragments else { return Ok(()) };
        if std::mem::replace(&mut fragments.begun, true) {
            fragments.value.fragments.push(Fragment { offset, length, first: false });
            self.chunks = Chunks::Prefix { held: [0; Fragment::PREFIX], length: 0 };
        } else if fragments.image {
            self.chunks = Chunks::BasicOffsets;
            self.check_table(length, 4)?;
        }
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        if let Chunks::Prefix { held, length } = &self.chunks
            && let Some(fragments) = &mut self.fragments
            && let Some(fragment) = fragments.value.fragments.last_mut()
        {
            fragment.first = Fragment::begins_codestream(held.get(..*length).unwrap_or_default());
        }
        self.chunks = Chunks::Ignored;
        Ok(())
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        let Some(Fragments { path, vr, offset, value, image, .. }) = self.fragments.take() else {
            self.muted = self.muted.saturating_sub(1);
            return Ok(());
        };
        let (offset, length) = match value.fragments.as_slice() {
            [] => {
                json::open(&mut self.objects.out, vr);
                self.objects.out.push(b'}');
                return Ok(());
            }
            _ if image => (offset, 0),
            [only] => (only.offset, u64::from(only.length)),
            _ => value.span().unwrap_or((offset, 0)),
        };
        if image {
            self.pixels = Pixels::Encapsulated { entry: self.bulk.len() };
            self.encapsulated.basic_offsets = value.basic_offsets;
            self.encapsulated.fragments = value.fragments;
        }
        self.name_by_uri(vr, path, offset, length);
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

/// For the tags of pixel data, the bits of a sample where Bits Allocated does not say.
fn pixel_bits(tag: Tag) -> Option<Option<u16>> {
    match tag {
        PIXEL_DATA => Some(None),
        Tag(0x7FE0, 0x0008) => Some(Some(32)),
        Tag(0x7FE0, 0x0009) => Some(Some(64)),
        _ => None,
    }
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
