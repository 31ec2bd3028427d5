//! What frames depend on, gathered while a data set is read: Image Pixel attributes, offset tables,
//! fragments.

use super::{BulkEntry, keys::Warnings};
use crate::dicom::{
    DicomError, Limits, Tag, Uid, VR,
    charset::{Charset, Text},
    frames::{Encapsulated, Fragment, FrameTable, ImagePixel, Subsampling},
    normalise,
    reader::Endian,
};

pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);

/// Gathers them.
pub(super) struct Pixels {
    /// `limits.frames`.
    max_frames: u64,
    image: ImagePixel,
    data: Data,
    /// Offset tables and fragments of the image.
    encapsulated: Encapsulated,
    /// What the next bulk bytes are for.
    chunks: Chunks,
    fragments: Option<Fragments>,
}

/// The image's pixel data.
enum Data {
    None,
    Native {
        offset: u64,
        length: u64,
        bits: Option<u16>,
    },
    /// Its place among the bulk entries.
    Encapsulated {
        entry: usize,
    },
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
    entry: BulkEntry,
    value: Encapsulated,
    /// The Basic Offset Table has begun.
    begun: bool,
    /// It is the image's, not an icon's in some item.
    image: bool,
}

/// Encapsulated pixel data that was read.
pub(super) enum Ended {
    /// None was begun: the element is left out.
    Nothing,
    /// It has no fragment.
    Empty(VR),
    /// Its bytes, or frames, can be retrieved.
    Bulk(BulkEntry),
}

impl Pixels {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_frames: limits.frames,
            image: ImagePixel::default(),
            data: Data::None,
            encapsulated: Encapsulated::default(),
            chunks: Chunks::Ignored,
            fragments: None,
        }
    }

    /// Takes note of a value of the data set itself.
    pub(super) fn note(
        &mut self,
        tag: Tag,
        vr: VR,
        value: &[u8],
        endian: Endian,
        warnings: &mut Warnings,
    ) {
        let short = || {
            let &bytes = value.first_chunk::<2>().filter(|_| vr == VR::US)?;
            Some(match endian {
                Endian::Little => u16::from_le_bytes(bytes),
                Endian::Big => u16::from_be_bytes(bytes),
            })
        };
        match tag {
            Tag(0x0028, 0x0002) => self.image.samples_per_pixel = short(),
            Tag(0x0028, 0x0004) => self.image.subsampling = Subsampling::of(value),
            NUMBER_OF_FRAMES => self.number_of_frames(value, warnings),
            Tag(0x0028, 0x0010) => self.image.rows = short(),
            Tag(0x0028, 0x0011) => self.image.columns = short(),
            Tag(0x0028, 0x0100) => self.image.bits_allocated = short(),
            EXTENDED_OFFSETS => self.encapsulated.extended_offsets = value.to_vec(),
            EXTENDED_LENGTHS => self.encapsulated.extended_lengths = value.to_vec(),
            _ => {}
        }
    }

    fn number_of_frames(&mut self, value: &[u8], warnings: &mut Warnings) {
        let text = Charset::DEFAULT.decode(value, Text::Plain);
        if text.trim_matches([' ', '\0']).is_empty() {
            return;
        }
        let frames = normalise::integer(&text).ok().and_then(|number| number.parse().ok());
        self.image.number_of_frames = frames.filter(|&frames| frames > 0);
        if self.image.number_of_frames.is_none() {
            warnings.add(NUMBER_OF_FRAMES, "not a number of frames; 1 was assumed");
        }
    }

    /// Takes a value of the data set itself for native pixel data, and returns whether it is.
    pub(super) fn native(&mut self, tag: Tag, offset: u64, length: u64) -> bool {
        // Bits of a sample where Bits Allocated does not say (PS3.3 §C.7.6.24, §C.7.6.25).
        let bits = match tag {
            PIXEL_DATA => None,
            Tag(0x7FE0, 0x0008) => Some(32),
            Tag(0x7FE0, 0x0009) => Some(64),
            _ => return false,
        };
        self.data = Data::Native { offset, length, bits };
        true
    }

    /// A bulk value of the data set itself begins.
    pub(super) fn bulk_start(&mut self, tag: Tag, length: u32) -> Result<(), DicomError> {
        self.chunks = match tag {
            EXTENDED_OFFSETS => Chunks::ExtendedOffsets,
            EXTENDED_LENGTHS => Chunks::ExtendedLengths,
            _ => return Ok(()),
        };
        self.check_table(length, 8)
    }

    pub(super) fn chunk(&mut self, bytes: &[u8]) {
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
    }

    /// A bulk value or fragment ended.
    pub(super) fn chunks_end(&mut self) {
        let chunks = std::mem::replace(&mut self.chunks, Chunks::Ignored);
        if let Chunks::Prefix { held, length } = chunks
            && let Some(fragments) = &mut self.fragments
            && let Some(fragment) = fragments.value.fragments.last_mut()
        {
            fragment.first = Fragment::begins_codestream(held.get(..length).unwrap_or_default());
        }
    }

    /// Encapsulated pixel data begins: the image's, or another's.
    pub(super) fn fragments_start(&mut self, entry: BulkEntry, image: bool) {
        let value = Encapsulated::default();
        self.fragments = Some(Fragments { entry, value, begun: false, image });
    }

    pub(super) fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError> {
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

    /// Encapsulated pixel data ended. If it is the image's, its entry will be number `number`.
    pub(super) fn fragments_end(&mut self, number: usize) -> Ended {
        let Some(Fragments { mut entry, value, image, .. }) = self.fragments.take() else {
            return Ended::Nothing;
        };
        if value.fragments.is_empty() {
            return Ended::Empty(entry.vr);
        }
        if image {
            self.data = Data::Encapsulated { entry: number };
            self.encapsulated.basic_offsets = value.basic_offsets;
            self.encapsulated.fragments = value.fragments;
        } else {
            name_fragments(&mut entry, &value);
        }
        Ended::Bulk(entry)
    }

    /// The frames of the image, once all was heard.
    pub(super) fn frame_table(
        &self,
        transfer_syntax: &Uid,
        bulk: &mut [BulkEntry],
        warnings: &mut Warnings,
    ) -> Result<Option<FrameTable>, DicomError> {
        let table = match self.data {
            Data::None => return Ok(None),
            Data::Native { offset, length, bits } => self.image.native(offset, length, bits),
            Data::Encapsulated { .. } => self.encapsulated.table(&self.image, transfer_syntax),
        };
        match &table {
            None => {
                warnings.add(PIXEL_DATA, "its frames cannot be told apart");
                if let Data::Encapsulated { entry } = self.data
                    && let Some(entry) = bulk.get_mut(entry)
                {
                    name_fragments(entry, &self.encapsulated);
                }
            }
            Some(table) if u64::from(table.len()) > self.max_frames => {
                return Err(self.too_many());
            }
            Some(FrameTable::Native { frames, .. }) if *frames < self.image.frames() => {
                warnings.add(PIXEL_DATA, "too short for its number of frames");
            }
            Some(_) => {}
        }
        Ok(table)
    }

    /// Refuses a table of offsets of more frames than an instance may have.
    fn check_table(&self, length: u32, entry: u32) -> Result<(), DicomError> {
        if u64::from(length / entry) > self.max_frames { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> DicomError {
        DicomError::Limit { key: "limits.frames", limit: self.max_frames }
    }
}

/// Without frames, what can be retrieved is the only fragment, or all as they are encoded.
fn name_fragments(entry: &mut BulkEntry, value: &Encapsulated) {
    (entry.offset, entry.length) = match value.fragments.as_slice() {
        [only] => (only.offset, u64::from(only.length)),
        _ => value.span().unwrap_or((entry.offset, 0)),
    };
}
