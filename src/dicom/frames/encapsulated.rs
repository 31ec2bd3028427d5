//! Encapsulated pixel data (PS3.5 §A.4): which fragments are which frame's.
//!
//! In this order, the first that holds:
//! 1. a video stream is one frame, however many fragments it has;
//! 2. the Extended Offset Table, where its entries are fragments and as many as frames;
//! 3. the Basic Offset Table, likewise;
//! 4. as many fragments as frames: one each (empty ones may be left out of the count);
//! 5. one frame: all of them;
//! 6. the Basic Offset Table, where only its number of entries differs from Number of Frames;
//! 7. one fragment a frame where the transfer syntax knows nothing else;
//! 8. the fragments that begin like a codestream, where they are as many as frames.
//!
//! Else the frames cannot be told apart: no table is better than a wrong picture.

use super::{Encapsulated, FrameTable, Framing, ImagePixel};
use crate::dicom::Uid;

/// One fragment of encapsulated pixel data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// First byte of its value in the file, after the item header.
    pub offset: u64,
    /// Bytes of its value.
    pub length: u32,
    /// Whether it begins like a codestream: [`Fragment::begins_codestream`] of its first bytes.
    pub first: bool,
}

/// Bytes of tag and length before a fragment.
const ITEM_HEADER: u64 = 8;

impl Fragment {
    /// How many bytes [`Fragment::begins_codestream`] looks at.
    pub const PREFIX: usize = 12;

    /// Whether these bytes begin a JPEG or JPEG-LS, JPEG 2000 or HTJ2K, or JPEG XL codestream, bare
    /// or in its box.
    pub fn begins_codestream(bytes: &[u8]) -> bool {
        const JP2_BOX: &[u8] = b"\0\0\0\x0CjP  \r\n\x87\n";
        const JXL_BOX: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";
        let starts: [&[u8]; 5] =
            [b"\xFF\xD8\xFF", b"\xFF\x4F\xFF\x51", b"\xFF\x0A", JP2_BOX, JXL_BOX];
        starts.iter().any(|start| bytes.starts_with(start))
    }

    fn range(&self) -> (u64, u32) {
        (self.offset, self.length)
    }
}

impl Encapsulated {
    /// The table of an image in this transfer syntax.
    pub fn table(&self, image: &ImagePixel, transfer_syntax: &Uid) -> Option<FrameTable> {
        let fragments = self.fragments.as_slice();
        if fragments.is_empty() {
            return None;
        }
        let framing = Framing::of(transfer_syntax);
        let frames = usize::try_from(image.frames()).ok()?;
        if framing == Framing::Stream {
            return Some(table(vec![fragments]));
        }
        if let Some(table) = self.by_extended_offsets(frames) {
            return Some(table);
        }
        let by_offsets = self.by_basic_offsets();
        if let Some(groups) = by_offsets.as_ref().filter(|groups| groups.len() == frames) {
            return Some(table(groups.clone()));
        }
        if fragments.len() == frames {
            return Some(singles(fragments));
        }
        let full: Vec<_> = fragments.iter().filter(|f| f.length > 0).copied().collect();
        if full.len() == frames {
            return Some(singles(&full));
        }
        if frames == 1 {
            return Some(table(vec![fragments]));
        }
        if let Some(groups) = by_offsets {
            return Some(table(groups));
        }
        if framing == Framing::Single {
            return Some(singles(fragments.get(..frames).unwrap_or(fragments)));
        }
        self.by_markers(frames).map(table)
    }

    /// PS3.3 §C.7.6.3.1.8: 64-bit offsets, one fragment a frame.
    fn by_extended_offsets(&self, frames: usize) -> Option<FrameTable> {
        let (offsets, _) = self.extended_offsets.as_chunks::<8>();
        if offsets.len() != frames {
            return None;
        }
        let starts = offsets.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let groups = self.groups(starts)?;
        let (lengths, _) = self.extended_lengths.as_chunks::<8>();
        let mut lengths = lengths.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut ranges = Vec::with_capacity(frames);
        for group in &groups {
            let [fragment] = group else { return Some(table(groups)) };
            let length = u64::from(fragment.length);
            // The table may leave out the byte that pads a fragment to even length.
            let told = lengths.next().filter(|&told| told + 1 == length);
            let length = told.and_then(|told| u32::try_from(told).ok()).unwrap_or(fragment.length);
            ranges.push((fragment.offset, length));
        }
        Some(FrameTable::Fragment { frames: ranges })
    }

    /// The Basic Offset Table: 32-bit offsets.
    fn by_basic_offsets(&self) -> Option<Vec<&[Fragment]>> {
        let (offsets, _) = self.basic_offsets.as_chunks::<4>();
        self.groups(offsets.iter().map(|bytes| u64::from(u32::from_le_bytes(*bytes))))
    }

    /// Groups of fragments that start at these offsets, which count from the item header of the
    /// first fragment. `None` unless they ascend from 0 and each is a fragment's.
    fn groups(&self, starts: impl Iterator<Item = u64>) -> Option<Vec<&[Fragment]>> {
        let base = self.fragments.first()?.offset;
        let mut boundaries = Vec::new();
        let mut at = 0;
        for start in starts {
            let wanted = base.checked_add(start)?;
            let rest = self.fragments.get(at..)?;
            let found = rest.binary_search_by_key(&wanted, |fragment| fragment.offset).ok()?;
            if boundaries.is_empty() && found != 0 || !boundaries.is_empty() && at + found == 0 {
                return None;
            }
            boundaries.push(at + found);
            at += found + 1;
        }
        if boundaries.is_empty() {
            return None;
        }
        let mut groups = Vec::with_capacity(boundaries.len());
        let ends = boundaries.iter().skip(1).copied().chain([self.fragments.len()]);
        for (start, end) in boundaries.iter().copied().zip(ends) {
            groups.push(self.fragments.get(start..end)?);
        }
        Some(groups)
    }

    fn by_markers(&self, frames: usize) -> Option<Vec<&[Fragment]>> {
        if !self.fragments.first()?.first {
            return None;
        }
        let groups: Vec<_> = self.fragments.chunk_by(|_, next| !next.first).collect();
        (groups.len() == frames).then_some(groups)
    }

    /// The bytes `(offset, length)` from the header of the first fragment to the end of the last:
    /// the value as it is encoded, for want of frames.
    pub fn span(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.fragments.first()?, self.fragments.last()?);
        let start = first.offset.checked_sub(ITEM_HEADER)?;
        let end = last.offset.checked_add(u64::from(last.length))?;
        Some((start, end.checked_sub(start)?))
    }
}

fn singles(fragments: &[Fragment]) -> FrameTable {
    FrameTable::Fragment { frames: fragments.iter().map(Fragment::range).collect() }
}

fn table(groups: Vec<&[Fragment]>) -> FrameTable {
    if groups.iter().all(|group| group.len() == 1) {
        let frames = groups.iter().flat_map(|group| group.iter().map(Fragment::range)).collect();
        return FrameTable::Fragment { frames };
    }
    let ranges = |group: &&[Fragment]| group.iter().map(Fragment::range).collect();
    FrameTable::Fragments { frames: groups.iter().map(ranges).collect() }
}
