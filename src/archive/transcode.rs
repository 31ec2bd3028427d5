//! An instance in another transfer syntax: its data set written anew, its frames through the codecs
//! one by one, into the stream.
//!
//! Holds: the first frame was made before the first byte leaves, since it says what the attributes
//! must say and whether the rest can be hoped for; a frame that fails later, or differs from the
//! first in what the attributes say, is an error that ends the answer; memory does not grow with
//! the number of frames. The stored pixel data is not read but as frames, where it can be passed
//! over. Absent: which syntax is wanted.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Archive, ArchiveError, ByteStream, Frames, Target,
    changes::{Recoding, changes},
    given::{GivenFrames, Made},
    pixels::{Given, Pixels},
    retrieve::unreadable,
    splice::PixelWriter,
};
use crate::{
    dicom::{
        Tag, Uid,
        data_set::DataSet,
        explicit::Identity,
        reader::Reader,
        rewrite::{Piece, Rewrite},
        transfer_syntax::{Encoding, PixelForm, TransferSyntax},
    },
    index::{FramesLocated, Located},
    tenancy::PartitionScope,
};

/// Frames that are looked up at once.
const WINDOW: u32 = 256;
/// Bytes in which the end of encapsulated pixel data is looked for at a time.
const LOOK: u64 = 64 * 1024;
/// Items that may follow the last frame of encapsulated pixel data.
const MAX_ITEMS: usize = 1024;
/// Values above this, in bytes, pass through the reader in pieces.
const BULK: u32 = 4096;
/// What is read in place of native pixel data.
static NOTHING: [u8; 64 * 1024] = [0; 64 * 1024];
/// (FFFE,E0DD), which ends encapsulated pixel data.
const SEQUENCE_END: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const NO_FRAMES: &str = "its frames cannot be told apart";

/// An instance on its way out.
pub(super) struct Transcoding {
    reader: Option<Box<Reader<Rewrite>>>,
    source: ByteStream,
    unread: Option<Bytes>,
    ready: VecDeque<Piece>,
    pixels: Option<PixelData>,
}

/// The frames that are still to come.
struct PixelData {
    from: Origin,
    window: Window,
    first: Option<Made>,
    next: u32,
    writer: PixelWriter,
}

/// Where frames come from.
#[derive(Clone)]
struct Origin {
    archive: Archive,
    scope: PartitionScope,
    located: Located,
    file: Option<Bytes>,
}

/// Some frames, by number.
struct Window {
    first: u32,
    frames: Arc<GivenFrames>,
    given: Given,
    pixels: Pixels,
}

impl Archive {
    /// Begins to give an instance in the transfer syntax `wanted`. `file` is the instance, if it is
    /// in memory.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`] where it cannot be given so; [`ArchiveError::TooLarge`];
    /// [`ArchiveError::Unavailable`].
    pub(super) async fn transcode(
        &self,
        scope: &PartitionScope,
        located: &Located,
        wanted: &Uid,
        file: Option<Bytes>,
    ) -> Result<Transcoding, ArchiveError> {
        let header = self.header(scope, located).await?;
        let from = Origin::new(self, scope, located, file);
        let identity = Identity {
            sop_class: located.sop_class.clone(),
            sop_instance: located.instance.clone(),
        };
        let is_native = TransferSyntax::of(wanted).pixels == PixelForm::Native;
        let Some(found) = from.locate(1, WINDOW).await? else {
            if !is_native || has_pixels(&header) {
                return Err(ArchiveError::Undecodable(NO_FRAMES));
            }
            let changes = changes(&header, &identity, wanted, None)?;
            let source = from.bytes(0..located.length);
            return Ok(Transcoding::new(self, Rewrite::new(changes), source, None));
        };
        let native = found.native.map(|native| (native.offset, native.length));
        let (count, given) = (found.number_of_frames, Given::of(wanted));
        let pixels = PixelData::open(from.clone(), found, &header, given).await?;
        let recoding = pixels.recoding(wanted, count);
        let changes = changes(&header, &identity, wanted, recoding.as_ref())?;
        let source = match (TransferSyntax::of(&located.transfer_syntax).encoding, native) {
            (Encoding::Deflated, _) => from.bytes(0..located.length),
            (_, Some((offset, length))) => from.around_native(offset, length),
            (_, None) => from.around_fragments(&pixels.window, count).await?,
        };
        Ok(Transcoding::new(self, Rewrite::new(changes), source, Some(pixels)))
    }

    /// The pixel data of an instance as one native value: its length, and its bytes.
    ///
    /// # Errors
    /// As [`Archive::transcode`].
    pub(super) async fn native_pixels(
        &self,
        scope: &PartitionScope,
        located: &Located,
    ) -> Result<(u64, ByteStream), ArchiveError> {
        let header = self.header(scope, located).await?;
        let from = Origin::new(self, scope, located, None);
        let found = from.locate(1, WINDOW).await?;
        let found = found.ok_or(ArchiveError::Undecodable(NO_FRAMES))?;
        let mut pixels = PixelData::open(from, found, &header, Given::Native).await?;
        let length = pixels.writer.length().unwrap_or(0);
        // The header of the element.
        drop(pixels.writer.take());
        let bytes = stream::try_unfold(pixels, |mut pixels| async move {
            Ok(pixels.chunk().await?.map(|bytes| (bytes, pixels)))
        });
        Ok((length, bytes.boxed()))
    }
}

fn has_pixels(header: &DataSet) -> bool {
    [0x0008, 0x0009, 0x0010].iter().any(|element| header.root().has(Tag(0x7FE0, *element)))
}

impl Origin {
    fn new(
        archive: &Archive,
        scope: &PartitionScope,
        located: &Located,
        file: Option<Bytes>,
    ) -> Self {
        let (archive, scope) = (archive.clone(), scope.clone());
        Self { archive, scope, located: located.clone(), file }
    }

    fn target(&self) -> Target {
        Target::Instance {
            study: self.located.study.clone(),
            series: self.located.series.clone(),
            instance: self.located.instance.clone(),
        }
    }

    /// Looks up `count` frames from number `first` on, as far as they exist. `None`: there are no
    /// frames.
    async fn locate(&self, first: u32, count: u32) -> Result<Option<FramesLocated>, ArchiveError> {
        let numbers: Vec<u32> = (first..first.saturating_add(count)).collect();
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        let found = tx.frames_locate(&self.target(), &numbers).await?;
        match found {
            Some(found) if found.located.watermark != self.located.watermark => {
                Err(ArchiveError::Gone)
            }
            found => Ok(found),
        }
    }

    fn window(&self, first: u32, found: FramesLocated, given: Given, pixels: Pixels) -> Window {
        let numbers: Vec<u32> = (first..first.saturating_add(WINDOW)).collect();
        let mut frames = Frames::of(self.archive.clone(), self.scope.clone(), found, &numbers);
        if let Some(file) = &self.file {
            frames = frames.in_memory(file.clone());
        }
        let frames = GivenFrames::new(frames, given.clone(), Some(pixels.clone()));
        Window { first, frames, given, pixels }
    }

    /// A range of the instance's file.
    fn bytes(&self, range: Range<u64>) -> ByteStream {
        let Some(file) = &self.file else {
            return self.archive.ranges(&self.scope, &self.located, vec![range]);
        };
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(file.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        stream::iter([Ok(file.slice(start..end))]).boxed()
    }

    /// The file with `length` bytes of nothing for the value at `offset`.
    fn around_native(&self, offset: u64, length: u64) -> ByteStream {
        let before = self.bytes(0..offset);
        let nothing = stream::unfold(length, |left| async move {
            let step = left.min(NOTHING.len() as u64);
            let bytes = NOTHING.get(..usize::try_from(step).unwrap_or(0)).unwrap_or_default();
            (step > 0).then(|| (Ok(Bytes::from_static(bytes)), left - step))
        });
        let after = offset.saturating_add(length)..self.located.length;
        before.chain(nothing).chain(self.bytes(after)).boxed()
    }

    /// The file without the fragments of its frames, whose number is `count`.
    async fn around_fragments(
        &self,
        window: &Window,
        count: u32,
    ) -> Result<ByteStream, ArchiveError> {
        let whole = || self.bytes(0..self.located.length);
        let Some(mut span) = window.frames.frames().fragments() else { return Ok(whole()) };
        if count > WINDOW
            && let Some(last) = self.locate(count, 1).await?
        {
            let last = Frames::of(self.archive.clone(), self.scope.clone(), last, &[count]);
            span.end = span.end.max(last.fragments().map_or(0, |last| last.end));
        }
        let Some(start) = span.start.checked_sub(8) else { return Ok(whole()) };
        let Some(end) = self.end_of_fragments(span.end).await? else { return Ok(whole()) };
        let before = self.bytes(0..start);
        let delimiter = stream::iter([Ok(Bytes::from_static(&SEQUENCE_END))]);
        let after = self.bytes(end..self.located.length);
        Ok(before.chain(delimiter).chain(after).boxed())
    }

    /// The first byte behind the encapsulated pixel data whose last frame ends at `at`.
    async fn end_of_fragments(&self, at: u64) -> Result<Option<u64>, ArchiveError> {
        // A table may leave out the byte that pads a fragment to even length.
        let mut at = at.saturating_add(at % 2);
        let mut held = (at, Vec::new());
        for _ in 0..MAX_ITEMS {
            let is_held = at >= held.0 && at.saturating_add(8) <= held.0 + held.1.len() as u64;
            if !is_held {
                let range = at..at.saturating_add(LOOK).min(self.located.length);
                if range.end < at.saturating_add(8) {
                    return Ok(None);
                }
                let chunks: Vec<Bytes> = self.bytes(range).try_collect().await?;
                held = (at, chunks.concat());
            }
            let from = usize::try_from(at - held.0).unwrap_or(usize::MAX);
            let Some(head) = held.1.get(from..).and_then(<[u8]>::first_chunk::<8>) else {
                return Ok(None);
            };
            let [tag @ .., a, b, c, d] = *head;
            if *head == SEQUENCE_END {
                return Ok(Some(at + 8));
            }
            if tag != ITEM {
                return Ok(None);
            }
            at = at.saturating_add(8 + u64::from(u32::from_le_bytes([a, b, c, d])));
        }
        Ok(None)
    }
}

impl Transcoding {
    fn new(
        archive: &Archive,
        sink: Rewrite,
        source: ByteStream,
        pixels: Option<PixelData>,
    ) -> Self {
        let reader = Reader::new(sink, archive.dicom_limits(), BULK);
        Self {
            reader: Some(Box::new(reader)),
            source,
            unread: None,
            ready: VecDeque::new(),
            pixels,
        }
    }

    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// Whatever keeps the file from being completed.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            match self.ready.pop_front() {
                Some(Piece::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Piece::Pixels) => {
                    let Some(pixels) = &mut self.pixels else { continue };
                    if let Some(bytes) = pixels.chunk().await? {
                        self.ready.push_front(Piece::Pixels);
                        return Ok(Some(bytes));
                    }
                    self.pixels = None;
                    continue;
                }
                None => {}
            }
            let Some(reader) = &mut self.reader else {
                if self.pixels.is_some() {
                    let error = anyhow::anyhow!("a data set has frames and no pixel data");
                    return Err(ArchiveError::Internal(error));
                }
                return Ok(None);
            };
            let bytes = match self.unread.take() {
                Some(bytes) => Some(bytes),
                None => self.source.try_next().await?,
            };
            let Some(bytes) = bytes else {
                if let Some(reader) = self.reader.take() {
                    self.ready.extend(reader.finish().map_err(unreadable)?.finish());
                }
                continue;
            };
            let mut left = bytes.as_ref();
            if reader.push_some(&mut left).map_err(unreadable)? {
                self.unread = Some(bytes.slice_ref(left));
            }
            self.ready.extend(std::iter::from_fn(|| reader.sink_mut().take()));
            tokio::task::consume_budget().await;
        }
    }
}

impl PixelData {
    /// Makes the first frame.
    async fn open(
        from: Origin,
        found: FramesLocated,
        header: &DataSet,
        given: Given,
    ) -> Result<Self, ArchiveError> {
        let count = found.number_of_frames;
        let pixels = Pixels::of(header, &from.located.transfer_syntax)?;
        let is_native = given == Given::Native;
        let window = from.window(1, found, given, pixels);
        let first = window.frames.made_first(0).await?;
        let writer = PixelWriter::new(is_native, &first.layout, first.data.len(), count)?;
        Ok(Self { from, window, first: Some(first), next: 1, writer })
    }

    /// What there is to say about the frames, before the first was taken.
    fn recoding<'a>(&'a self, wanted: &'a Uid, frames: u32) -> Option<Recoding<'a>> {
        let first = self.first.as_ref()?;
        let decoded = self.window.pixels.decoded_length();
        let decoded = decoded.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = (decoded.unwrap_or(first.data.len()), first.data.len());
        let stored = &self.from.located.transfer_syntax;
        Some(Recoding { stored, wanted, layout: &first.layout, frames, bytes })
    }

    /// The next bytes of the pixel data element; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            if let Some(bytes) = self.writer.take() {
                return Ok(Some(bytes));
            }
            if self.writer.is_done() {
                return Ok(None);
            }
            let made = match self.first.take() {
                Some(first) => first,
                None => self.frame(self.next).await?,
            };
            self.next = self.next.saturating_add(1);
            self.writer.frame(&made.layout, made.data)?;
        }
    }

    async fn frame(&mut self, number: u32) -> Result<Made, ArchiveError> {
        let mut index = number.saturating_sub(self.window.first);
        if index >= WINDOW {
            let found = self.from.locate(number, WINDOW).await?;
            let found = found.ok_or(ArchiveError::Gone)?;
            let Window { given, pixels, .. } = &self.window;
            self.window = self.from.window(number, found, given.clone(), pixels.clone());
            index = 0;
        }
        if index as usize >= self.window.frames.frames().len() {
            return Err(ArchiveError::Undecodable(NO_FRAMES));
        }
        self.window.frames.made(index as usize).await
    }
}
