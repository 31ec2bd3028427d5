//! Re-encodes a data set as [`super::explicit`] does, with other attributes and without its pixel
//! data, in whose place the caller puts frames.
//!
//! Changes are made to the attributes of the data set itself, not to those of items. Offset tables
//! of the old pixel data are left out. An Icon Image Sequence whose pixels are encapsulated is left
//! out too: icons are optional, and their fragments would be in the old transfer syntax; whatever
//! else is encapsulated in an item loses its value.
//!
//! Holds: attributes that are added stand in their order; one that changes is written once, however
//! often it occurred. Absent: codecs, and what the changes are.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use bytes::Bytes;

use super::{
    DicomError, Tag, Uid, VR,
    explicit::{Explicit, Identity, Out},
    reader::{ElementHeader, FileMeta, Sink},
};

const ICON: Tag = Tag(0x0088, 0x0200);
/// Most bytes of an icon that is kept.
const LARGEST_ICON: usize = 1 << 20;

/// What a data set becomes.
#[derive(Clone, Debug)]
pub struct Changes {
    /// (0002,0010).
    pub transfer_syntax: Uid,
    /// (0002,0002) and (0002,0003), whatever the file says.
    pub identity: Identity,
    /// Attributes by tag: the new value in little endian, or `None` for one that is left out.
    pub attributes: BTreeMap<Tag, Option<(VR, Vec<u8>)>>,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the file.
    Bytes(Bytes),
    /// The element of the pixel data belongs here.
    Pixels,
}

/// A sink that writes what it hears anew.
pub struct Rewrite {
    inner: Explicit,
    attributes: BTreeMap<Tag, Option<(VR, Vec<u8>)>>,
    /// The last tag up to which added attributes were written.
    written: Option<Tag>,
    ready: VecDeque<Piece>,
    /// Sequences around what is being heard.
    depth: u32,
    /// Whether the value that is being heard is left out.
    skips_value: bool,
    /// Depth of the sequence that is left out.
    skips_sequence: Option<u32>,
    has_pixels: bool,
    /// What was written before the icon, while that is held back.
    before_icon: Option<Out>,
    spoilt_icon: bool,
}

impl Rewrite {
    /// A writer that has heard nothing.
    pub fn new(changes: Changes) -> Self {
        let mut attributes = changes.attributes;
        for element in [0x0001, 0x0002, 0x0003] {
            attributes.entry(Tag(0x7FE0, element)).or_insert(None);
        }
        Self {
            inner: Explicit::rewriting(changes.identity, changes.transfer_syntax),
            attributes,
            written: None,
            ready: VecDeque::new(),
            depth: 0,
            skips_value: false,
            skips_sequence: None,
            has_pixels: false,
            before_icon: None,
            spoilt_icon: false,
        }
    }

    /// The next piece of output.
    pub fn take(&mut self) -> Option<Piece> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(piece);
        }
        match self.before_icon {
            Some(_) => None,
            None => self.inner.take().map(Piece::Bytes),
        }
    }

    /// Nothing more comes: the pieces that were not taken.
    pub fn finish(mut self) -> impl Iterator<Item = Piece> {
        self.add_until(None);
        let rest = self.inner.finish().map(Piece::Bytes);
        self.ready.into_iter().chain(rest)
    }

    /// Writes the attributes to be added before `tag`.
    fn add_until(&mut self, tag: Option<Tag>) {
        let is_due = |known: &Tag| {
            self.written.is_none_or(|written| *known > written)
                && tag.is_none_or(|tag| *known < tag)
        };
        let due: Vec<Tag> = self.attributes.keys().filter(|known| is_due(known)).copied().collect();
        due.into_iter().for_each(|known| self.write(known));
        self.written = self.written.max(tag);
    }

    fn write(&mut self, tag: Tag) {
        let change = self.attributes.get_mut(&tag).and_then(Option::take);
        if let Some((vr, value)) = change {
            self.inner.write_element(tag, vr, &value);
        }
    }

    /// Whether the element that begins is passed on.
    fn passes(&mut self, tag: Tag) -> bool {
        if self.skips_sequence.is_some() {
            return false;
        }
        if self.depth > 0 {
            return true;
        }
        self.add_until(Some(tag));
        if matches!(tag, Tag(0x7FE0, 0x0008..=0x0010)) {
            if !mem::replace(&mut self.has_pixels, true) {
                let before = self.inner.flush();
                self.ready.extend(before.map(Piece::Bytes));
                self.ready.push_back(Piece::Pixels);
            }
            return false;
        }
        self.write(tag);
        !self.attributes.contains_key(&tag)
    }
}

impl Sink for Rewrite {
    fn file_meta_element(
        &mut self,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        self.inner.file_meta_element(header, value)
    }

    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        self.inner.data_set_start(meta)
    }

    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        if self.passes(header.tag) { self.inner.element(header, value) } else { Ok(()) }
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.skips_value = !self.passes(header.tag);
        if self.skips_value { Ok(()) } else { self.inner.bulk_start(header) }
    }

    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        if self.skips_value || self.spoilt_icon {
            return Ok(());
        }
        self.inner.bulk_chunk(bytes)?;
        if self.before_icon.is_some() && self.inner.written() > LARGEST_ICON {
            self.spoilt_icon = true;
            drop(self.inner.swap(Out::default()));
        }
        Ok(())
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        if mem::take(&mut self.skips_value) { Ok(()) } else { self.inner.bulk_end() }
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        let passes = self.passes(header.tag);
        self.depth += 1;
        if !passes {
            self.skips_sequence.get_or_insert(self.depth);
            return Ok(());
        }
        if self.depth == 1 && header.tag == ICON {
            self.before_icon = Some(self.inner.swap(Out::default()));
        }
        self.inner.sequence_start(header)
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        if self.skips_sequence.is_some() { Ok(()) } else { self.inner.item_start() }
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        if self.skips_sequence.is_some() { Ok(()) } else { self.inner.item_end() }
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        let depth = self.depth;
        self.depth = depth.saturating_sub(1);
        if let Some(skipped) = self.skips_sequence {
            if skipped == depth {
                self.skips_sequence = None;
            }
            return Ok(());
        }
        self.inner.sequence_end()?;
        if depth == 1
            && let Some(before) = self.before_icon.take()
        {
            let icon = self.inner.swap(before);
            if !mem::take(&mut self.spoilt_icon) {
                self.inner.append(icon);
            }
        }
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.skips_value = true;
        if self.before_icon.is_some() {
            self.spoilt_icon = true;
        } else if self.passes(header.tag) {
            self.inner.write_element(header.tag, VR::OB, &[]);
        }
        Ok(())
    }

    fn fragment_start(&mut self, _: u64, _: u32) -> Result<(), DicomError> {
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        self.skips_value = false;
        Ok(())
    }
}
