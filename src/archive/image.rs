//! An instance as makers of pictures and documents want it: header, bulk values, decoded frames.
//!
//! Holds: the header comes from what Store prepared, never from a blob; frames are decoded on the
//! codec pool, and what they take is counted from before they are read until they are dropped.
//! Absent: what pictures look like, encoding.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use tokio::sync::Mutex;

use super::{
    Archive, ArchiveError, Bulk, Frames, Target,
    codec_pool::CodecPool,
    metadata::decompress,
    pixels::{Begun, Decoded, Given, Pixels, collect, run},
};
use crate::{
    codec::{CodecError, Raster},
    dicom::{Uid, data_set::DataSet},
    index::{Located, PartitionTx, Presence},
    tenancy::PartitionScope,
};

/// Frames that are looked up at once.
const FRAMES_AT_ONCE: u32 = 64;
/// Most bytes of all bulk values that are held for one picture or document.
const VALUES_BYTES: u64 = 256 << 20;
/// Metadata from this size as it is kept, in bytes, is parsed away from the threads that serve
/// requests.
const MUCH: usize = 16 * 1024;

/// One stored version of an instance.
pub struct Image {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    located: Located,
    header: Arc<DataSet>,
    number_of_frames: u32,
    /// The frames that were looked up last, and the number (from 1) of the first of them.
    frames: Mutex<(u32, Option<Arc<Frames>>)>,
}

impl Archive {
    /// Opens an instance to look at it.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn image(
        &self,
        scope: PartitionScope,
        target: Target,
    ) -> Result<Image, ArchiveError> {
        let numbers: Vec<u32> = (1..=FRAMES_AT_ONCE).collect();
        let mut tx = self.0.db.begin_in(&scope).await?;
        let found = tx.frames_locate(&target, &numbers).await?;
        let known = match &found {
            Some(found) => self.0.headers.get(scope.partition(), found.located.watermark),
            None => None,
        };
        let (located, header) = match (&found, known) {
            (Some(found), Some(header)) => (found.located.clone(), header),
            _ => self.header_in(&mut tx, &scope, &target, None).await?,
        };
        drop(tx);
        let number_of_frames = found.as_ref().map_or(0, |found| found.number_of_frames);
        let frames = found
            .filter(|found| found.located.watermark == located.watermark)
            .map(|found| Arc::new(Frames::of(self.clone(), scope.clone(), found, &numbers)));
        let archive = self.clone();
        let frames = Mutex::new((1, frames));
        Ok(Image { archive, scope, target, located, header, number_of_frames, frames })
    }

    /// Where codecs run.
    pub fn codecs(&self) -> &CodecPool {
        &self.0.codecs
    }

    /// The header of a version that was found before.
    pub(super) async fn header(
        &self,
        scope: &PartitionScope,
        located: &Located,
    ) -> Result<Arc<DataSet>, ArchiveError> {
        if let Some(header) = self.0.headers.get(scope.partition(), located.watermark) {
            return Ok(header);
        }
        let target = Target::Instance {
            study: located.study.clone(),
            series: located.series.clone(),
            instance: located.instance.clone(),
        };
        let mut tx = self.0.db.begin_in(scope).await?;
        let (_, header) = self.header_in(&mut tx, scope, &target, Some(located.watermark)).await?;
        Ok(header)
    }

    /// The header of an instance, of the given version if one is given.
    async fn header_in(
        &self,
        tx: &mut PartitionTx,
        scope: &PartitionScope,
        target: &Target,
        version: Option<i64>,
    ) -> Result<(Located, Arc<DataSet>), ArchiveError> {
        let found = tx.metadata_of_one(target, version).await?;
        let Some((located, compressed)) = found else {
            return Err(match tx.presence(target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        let small = compressed.len() < MUCH;
        let parse = move || -> Result<(DataSet, usize), ArchiveError> {
            let json = decompress(&compressed)?;
            let header = DataSet::parse(&json);
            let header = header.map_err(|error| ArchiveError::Internal(error.into()))?;
            Ok((header, json.len()))
        };
        let (header, json) = if small {
            parse()?
        } else {
            let task = tokio::task::spawn_blocking(parse);
            task.await.map_err(|error| ArchiveError::Internal(error.into()))??
        };
        let header = Arc::new(header);
        self.0.headers.put(scope.partition(), located.watermark, &header, json);
        Ok((located, header))
    }
}

impl Image {
    /// The attributes, bulk values by their paths.
    pub fn header(&self) -> &Arc<DataSet> {
        &self.header
    }

    /// SOP Class UID.
    pub fn sop_class(&self) -> &Uid {
        &self.located.sop_class
    }

    /// The transfer syntax that it is stored in.
    pub fn transfer_syntax(&self) -> &Uid {
        &self.located.transfer_syntax
    }

    /// Identifies the stored version, for ever.
    pub fn version(&self) -> i64 {
        self.located.watermark
    }

    /// Frames that can be addressed; 0 where there is no pixel data, or it cannot be told apart.
    pub fn number_of_frames(&self) -> u32 {
        self.number_of_frames
    }

    /// The bulk values at `paths` ([`crate::dicom::index::BulkEntry::path`]), in little endian;
    /// those that the instance does not have are left out.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`] where they are more than may be held.
    pub async fn values(
        &self,
        paths: &[String],
    ) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
        let mut values = BTreeMap::new();
        if paths.is_empty() {
            return Ok(values);
        }
        let mut found = Vec::with_capacity(paths.len());
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        for path in paths {
            found.extend(tx.bulk_locate(&self.target, path).await?);
        }
        drop(tx);
        let limit = VALUES_BYTES.min(self.archive.0.retrieve.codec_bytes);
        let mut left = limit;
        for (located, entry) in found {
            if located.watermark != self.located.watermark {
                return Err(ArchiveError::Gone);
            }
            let too_large = ArchiveError::TooLarge { key: "retrieve.codec_bytes", limit };
            left = left.checked_sub(entry.length).ok_or(too_large)?;
            let path = entry.path.clone();
            let bulk = Bulk::of(self.archive.clone(), self.scope.clone(), located, entry);
            let mut value = Vec::with_capacity(usize::try_from(bulk.length()).unwrap_or(0));
            let mut stream = bulk.read(0..bulk.length());
            while let Some(chunk) = stream.try_next().await? {
                value.extend_from_slice(&chunk);
            }
            values.insert(path, value);
        }
        Ok(values)
    }

    /// Frame `frame` (from 1), decoded.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchFrame`]; [`ArchiveError::Undecodable`] where no codec can decode it or
    /// it is damaged; [`ArchiveError::TooLarge`]; [`ArchiveError::Unavailable`] where too much
    /// waits for the codecs.
    pub async fn raster(&self, frame: u32) -> Result<Decoded, ArchiveError> {
        if frame == 0 || frame > self.number_of_frames {
            return Err(ArchiveError::NoSuchFrame);
        }
        let pixels = Pixels::of(&self.header, &self.located.transfer_syntax)?;
        let (first, frames) = self.frames_from(frame).await?;
        let index = frame.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        let index = index.ok_or(ArchiveError::NoSuchFrame)?;
        let cost = frames.cost(index, &pixels, &Given::Native);
        let reserved = self.archive.codecs().reserve(self.scope.partition(), cost).await?;
        frames.decode(index, &pixels, reserved, Begun::No).await
    }

    /// Bytes of memory that `frame` (from 1) takes, stored and decoded.
    ///
    /// # Errors
    /// As [`Image::raster`].
    pub(super) async fn cost(&self, frame: u32) -> Result<u64, ArchiveError> {
        let pixels = Pixels::of(&self.header, &self.located.transfer_syntax)?;
        let (index, frames) = self.frame_at(frame).await?;
        Ok(frames.cost(index, &pixels, &Given::Native))
    }

    /// Reads `frame` (from 1), decodes it and does `work` with it, the latter two as one piece of
    /// work on the codec pool. The caller has reserved the memory ([`Image::cost`]).
    ///
    /// # Errors
    /// As [`Image::raster`].
    pub(super) async fn work_on<T: Send + 'static>(
        &self,
        frame: u32,
        begun: Begun,
        work: impl FnOnce(Raster) -> T + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let pixels = Pixels::of(&self.header, &self.located.transfer_syntax)?;
        let (index, frames) = self.frame_at(frame).await?;
        let stored = collect(frames.read(index), frames.length(index)).await?;
        let work = move || Ok::<_, CodecError>(work(pixels.decode(&stored)?));
        Ok(run(&self.archive, self.scope.partition(), begun, work).await??)
    }

    /// Frames among which `frame` is, and where among them.
    async fn frame_at(&self, frame: u32) -> Result<(usize, Arc<Frames>), ArchiveError> {
        if frame == 0 || frame > self.number_of_frames {
            return Err(ArchiveError::NoSuchFrame);
        }
        let (first, frames) = self.frames_from(frame).await?;
        let index = frame.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        Ok((index.ok_or(ArchiveError::NoSuchFrame)?, frames))
    }

    /// Frames among which `frame` is, and the number of the first of them.
    async fn frames_from(&self, frame: u32) -> Result<(u32, Arc<Frames>), ArchiveError> {
        let mut known = self.frames.lock().await;
        if let (first, Some(frames)) = &*known
            && frame.checked_sub(*first).is_some_and(|index| (index as usize) < frames.len())
        {
            return Ok((*first, frames.clone()));
        }
        let last = frame.saturating_add(FRAMES_AT_ONCE - 1).min(self.number_of_frames);
        let numbers: Vec<u32> = (frame..=last).collect();
        let frames = self.archive.frames(self.scope.clone(), self.target.clone(), &numbers).await?;
        if frames.version() != self.located.watermark {
            return Err(ArchiveError::Gone);
        }
        let frames = Arc::new(frames);
        *known = (frame, Some(frames.clone()));
        Ok((frame, frames))
    }
}
