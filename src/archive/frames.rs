//! Frames (PS3.18 §10.4.1.1.6): ranges of a stored instance.
//!
//! Holds: where a value can be read in place, only its bytes are read, and a frame costs the same
//! whatever the size of the object. Only deflated and big-endian data sets, whose values cannot be
//! read in place, are read through.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{
    Archive, ArchiveError, ByteStream, Target,
    retrieve::unreadable,
    streams::{Forward, align, forward},
};
use crate::{
    dicom::{
        Uid,
        extract::Extract,
        reader::Reader,
        transfer_syntax::{Encoding, TransferSyntax},
    },
    index::{FramesLocated, Located, Presence},
    tenancy::{PartitionId, PartitionScope},
};

/// Paths of the pixel data of a data set (integer, float, double), see [`crate::dicom::index::BulkEntry::path`].
const PIXEL_DATA: [&str; 3] = ["7FE00010", "7FE00008", "7FE00009"];

/// Where one frame is in the instance's file.
enum FrameLocation {
    /// Native: `bits` bits from bit `first` of the pixel data, whose value begins at byte `value`.
    Bits { value: u64, first: u64, bits: u64 },
    /// Encapsulated: its fragments, item headers excluded.
    Ranges(Vec<Range<u64>>),
}

/// The frames that a request named, ready to be read one by one.
pub struct Frames {
    archive: Archive,
    scope: PartitionScope,
    located: Located,
    number_of_frames: u32,
    locations: Arc<[FrameLocation]>,
    /// The pixel data, where it cannot be read in place.
    read_through: Arc<Mutex<Forward>>,
    /// The whole file, where it is in memory.
    file: Option<Bytes>,
}

impl Archive {
    /// Finds frames (numbers from 1) of an instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`]; [`ArchiveError::NoSuchFrame`] where any
    /// number is beyond the last frame or there is no pixel data.
    pub async fn frames(
        &self,
        scope: PartitionScope,
        target: Target,
        numbers: &[u32],
    ) -> Result<Frames, ArchiveError> {
        let frames = self.found(scope, &target, numbers).await?;
        if frames.len() < numbers.len() {
            return Err(ArchiveError::NoSuchFrame);
        }
        Ok(frames)
    }

    /// The frames `numbers`, up to the first that does not exist.
    async fn found(
        &self,
        scope: PartitionScope,
        target: &Target,
        numbers: &[u32],
    ) -> Result<Frames, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(found) = tx.frames_locate(target, numbers).await? else {
            return Err(match tx.presence(target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live => ArchiveError::NoSuchFrame,
                Presence::Absent => ArchiveError::NotFound,
            });
        };
        drop(tx);
        Ok(Frames::of(self.clone(), scope, found, numbers))
    }

    /// Finds at most `count` frames of an instance from number `first` on, as many as there are.
    ///
    /// # Errors
    /// As [`Archive::frames`]; [`ArchiveError::NoSuchFrame`] where there is not even the first.
    pub async fn frames_from(
        &self,
        scope: PartitionScope,
        target: Target,
        first: u32,
        count: u32,
    ) -> Result<Frames, ArchiveError> {
        let numbers: Vec<u32> = (first..first.saturating_add(count)).collect();
        let frames = self.found(scope, &target, &numbers).await?;
        if frames.is_empty() { Err(ArchiveError::NoSuchFrame) } else { Ok(frames) }
    }

    /// Streams ranges of one instance's file, one after another.
    pub(super) fn ranges(
        &self,
        scope: &PartitionScope,
        located: &Located,
        ranges: Vec<Range<u64>>,
    ) -> ByteStream {
        let blobs = self.blob_reads(scope);
        let (blob, base) = (located.blob, located.offset);
        stream::iter(merge(ranges))
            .then(move |range| {
                let blobs = blobs.clone();
                async move {
                    let range = base + range.start..base + range.end;
                    Ok::<_, ArchiveError>(blobs.read(blob, range).await?.map_err(Into::into))
                }
            })
            .try_flatten()
            .boxed()
    }

    /// Streams the first value at one of `paths` in little endian, by reading the instance through.
    pub(super) fn extract(
        &self,
        scope: &PartitionScope,
        located: &Located,
        paths: &[&str],
    ) -> ByteStream {
        let limits = self.dicom_limits();
        let reader = Reader::new(Extract::new(paths), limits, self.bulk_threshold());
        let whole = Range { start: 0, end: located.length };
        let source = self.ranges(scope, located, vec![whole]);
        let state = (source, Some(reader), None::<Bytes>);
        stream::try_unfold(state, |(mut source, reader, unread)| async move {
            let Some(mut reader) = reader else { return Ok::<_, ArchiveError>(None) };
            let bytes = match unread {
                Some(bytes) => Some(bytes),
                None => source.try_next().await?,
            };
            let Some(bytes) = bytes else {
                let mut sink = reader.finish().map_err(unreadable)?;
                return Ok(Some((stream::iter(sink.take()).map(Ok), (source, None, None))));
            };
            // Deflated bytes are given to the client piece by piece, as they inflate.
            let mut left = bytes.as_ref();
            let more = reader.push_some(&mut left).map_err(unreadable)?;
            let unread = if more { Some(bytes.slice_ref(left)) } else { None };
            let ready = stream::iter(reader.sink_mut().take()).map(Ok);
            let reader = (!reader.sink().is_done()).then_some(reader);
            Ok(Some((ready, (source, reader, unread))))
        })
        .try_flatten()
        .boxed()
    }
}

/// Where the frames `numbers` (from 1) are, up to the first that does not exist.
fn locations(found: &FramesLocated, numbers: &[u32]) -> Arc<[FrameLocation]> {
    let locate = |(number, ranges): (&u32, &Option<Vec<(u64, u64)>>)| {
        let ranges = ranges.as_ref()?;
        let Some(native) = found.native else {
            let ranges = ranges.iter().map(|(offset, length)| *offset..offset + length);
            return Some(FrameLocation::Ranges(ranges.collect()));
        };
        let first = u64::from(number.checked_sub(1)?).checked_mul(native.frame_bits)?;
        Some(FrameLocation::Bits { value: native.offset, first, bits: native.frame_bits })
    };
    numbers.iter().zip(&found.ranges).map_while(locate).collect()
}

/// Joins ranges that touch, so that a run of frames is one read.
fn merge(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

/// Whether the bytes of a value can be sent as they lie in the file.
pub(super) fn in_place(located: &Located) -> bool {
    match TransferSyntax::of(&located.transfer_syntax).encoding {
        Encoding::ImplicitLittle | Encoding::ExplicitLittle => true,
        Encoding::ExplicitBig | Encoding::Deflated => false,
    }
}

impl Frames {
    /// The frames `numbers` that were found, up to the first that does not exist.
    pub(super) fn of(
        archive: Archive,
        scope: PartitionScope,
        found: FramesLocated,
        numbers: &[u32],
    ) -> Self {
        let locations = locations(&found, numbers);
        let FramesLocated { located, number_of_frames, .. } = found;
        let open = {
            let (archive, scope, located) = (archive.clone(), scope.clone(), located.clone());
            move || archive.extract(&scope, &located, &PIXEL_DATA)
        };
        let read_through = Arc::new(Mutex::new(Forward::new(open)));
        Self { archive, scope, located, number_of_frames, locations, read_through, file: None }
    }

    /// The same frames, out of the instance's file in memory.
    pub(super) fn in_memory(mut self, file: Bytes) -> Self {
        self.file = Some(file);
        self
    }

    /// The same frames, for another reader; one that cannot read in place goes on with this pass.
    pub(super) fn again(&self) -> Self {
        Self {
            archive: self.archive.clone(),
            scope: self.scope.clone(),
            located: self.located.clone(),
            number_of_frames: self.number_of_frames,
            locations: self.locations.clone(),
            read_through: self.read_through.clone(),
            file: self.file.clone(),
        }
    }

    pub(super) fn scope(&self) -> &PartitionScope {
        &self.scope
    }

    pub(super) fn located(&self) -> &Located {
        &self.located
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    pub(super) fn partition(&self) -> &PartitionId {
        self.scope.partition()
    }

    /// The transfer syntax that the frames are stored in.
    pub fn transfer_syntax(&self) -> &Uid {
        &self.located.transfer_syntax
    }

    /// Number of frames that the instance has.
    pub fn number_of_frames(&self) -> u32 {
        self.number_of_frames
    }

    /// Number of frames that were asked for.
    pub fn len(&self) -> usize {
        self.locations.len()
    }

    /// Whether no frame was asked for.
    pub fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }

    /// Identifies the stored version.
    pub fn version(&self) -> i64 {
        self.located.watermark
    }

    /// Bytes of the frame at `index` of the request.
    pub fn length(&self, index: usize) -> u64 {
        match &self.locations[index] {
            FrameLocation::Bits { bits, .. } => bits.div_ceil(8),
            FrameLocation::Ranges(ranges) => ranges.iter().map(|r| r.end - r.start).sum(),
        }
    }

    /// The bytes of the frame at `index` of the request: its compressed octets without item
    /// headers, or its native pixels in little endian.
    pub fn read(&self, index: usize) -> ByteStream {
        match &self.locations[index] {
            FrameLocation::Ranges(ranges) => self.ranges(ranges.clone()),
            FrameLocation::Bits { value, first, bits } => {
                let bytes = first / 8..(first + bits).div_ceil(8);
                let cut = |range: &Range<u64>| value + range.start..value + range.end;
                let source = if in_place(&self.located) {
                    self.ranges(vec![cut(&bytes)])
                } else {
                    forward(self.read_through.clone(), bytes)
                };
                align(source, first % 8, *bits)
            }
        }
    }
}

impl Frames {
    /// Where the first of the fragments of the frames begins and the last ends, in the file;
    /// `None` for native frames.
    pub(super) fn fragments(&self) -> Option<Range<u64>> {
        let mut span: Option<Range<u64>> = None;
        for location in self.locations.iter() {
            let FrameLocation::Ranges(ranges) = location else { return None };
            for range in ranges {
                span = Some(match span {
                    Some(span) => span.start.min(range.start)..span.end.max(range.end),
                    None => range.clone(),
                });
            }
        }
        span
    }

    fn ranges(&self, ranges: Vec<Range<u64>>) -> ByteStream {
        let Some(file) = &self.file else {
            return self.archive.ranges(&self.scope, &self.located, ranges);
        };
        let cut = |range: Range<u64>| {
            let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
            match (start, end) {
                (Ok(start), Ok(end)) if start <= end && end <= file.len() => {
                    Ok(file.slice(start..end))
                }
                _ => {
                    let error = anyhow::anyhow!("a frame lies outside its file");
                    Err(ArchiveError::Internal(error))
                }
            }
        };
        stream::iter(ranges.into_iter().map(cut).collect::<Vec<_>>()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ranges_are_read_at_once() {
        assert_eq!(merge(vec![0..4, 4..8, 9..10]), [0..8, 9..10]);
    }
}
