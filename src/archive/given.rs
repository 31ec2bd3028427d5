//! Frames on their way out: passed through as they are stored, or made by the codecs one by one.
//!
//! Holds: what is passed through is never decoded; while a frame is sent the next ones are made, as
//! far as there is memory that nobody waits for, and everything stops when the client goes away.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ArchiveError, ByteStream, Frames,
    codec_pool::Reserved,
    opened,
    pixels::{Begun, Given, Pixels},
};
use crate::codec::Layout;

/// Frames that are made while one is sent.
const AHEAD: usize = 2;

type Making = AbortOnDropHandle<Result<Made, ArchiveError>>;

/// A frame that the codecs made, counted to the memory that frames may take until its last byte is
/// dropped.
pub(super) struct Made {
    /// What the data set must say about it.
    pub(super) layout: Layout,
    pub(super) data: Bytes,
}

/// The frames of a request, as they are given.
pub struct GivenFrames {
    frames: Frames,
    given: Given,
    /// What is needed to make them; `None` where they pass through.
    pixels: Option<Pixels>,
    /// Frames that are being made or wait to be sent, by their place in the request, ascending.
    ahead: Mutex<VecDeque<(usize, Making)>>,
}

impl Frames {
    /// Prepares to give the frames so; nothing is read yet but, where they are to be decoded, what
    /// the header says of them.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`]; [`ArchiveError::Gone`] where the instance was deleted
    /// meanwhile.
    pub async fn given(&self, given: Given) -> Result<Arc<GivenFrames>, ArchiveError> {
        let pixels = match given {
            Given::Stored => None,
            Given::Native | Given::Encoded(_) => {
                let header = self.archive().header(self.scope(), self.located()).await?;
                Some(Pixels::of(&header, self.transfer_syntax())?)
            }
        };
        Ok(GivenFrames::new(self.again(), given, pixels))
    }
}

impl GivenFrames {
    pub(super) fn new(frames: Frames, given: Given, pixels: Option<Pixels>) -> Arc<Self> {
        Arc::new(Self { frames, given, pixels, ahead: Mutex::default() })
    }

    /// The frames as they are stored.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Bytes of the frame at `index` of the request, where they are known before it is made.
    pub fn length(&self, index: usize) -> Option<u64> {
        match (&self.given, &self.pixels) {
            (Given::Native, Some(pixels)) => pixels.decoded_length(),
            (Given::Stored, _) => Some(self.frames.length(index)),
            _ => None,
        }
    }

    /// The bytes of the frame at `index` of the request, once they have begun to come: what cannot
    /// be read or decoded at all is known before an answer begins. The number of bytes, where it
    /// is known by then.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`], [`ArchiveError::Unavailable`].
    pub async fn first(
        self: &Arc<Self>,
        index: usize,
    ) -> Result<(ByteStream, Option<u64>), ArchiveError> {
        if self.pixels.is_none() {
            return Ok((opened(self.frames.read(index)).await?, self.length(index)));
        }
        let Made { data, .. } = self.made_first(index).await?;
        let length = data.len() as u64;
        Ok((stream::iter([Ok(data)]).boxed(), Some(length)))
    }

    /// The frame at `index`, made by the codecs before anything else is.
    pub(super) async fn made_first(&self, index: usize) -> Result<Made, ArchiveError> {
        let Some(pixels) = &self.pixels else { return Err(ArchiveError::NoSuchFrame) };
        let reserved = self.reserve(index, pixels).await?;
        make(&self.frames, &self.given, index, pixels, reserved, Begun::No).await
    }

    /// The bytes of the frame at `index` of the request. Nothing is read before it is polled.
    pub fn read(self: &Arc<Self>, index: usize) -> ByteStream {
        if self.pixels.is_none() {
            return self.frames.read(index);
        }
        let this = self.clone();
        stream::once(async move { Ok(this.made(index).await?.data) }).boxed()
    }

    /// The frame at `index`, made by the codecs; the next ones are begun.
    pub(super) async fn made(self: &Arc<Self>, index: usize) -> Result<Made, ArchiveError> {
        let Some(pixels) = &self.pixels else { return Err(ArchiveError::NoSuchFrame) };
        let known = self.take(index);
        let made = match known {
            Some(made) => made,
            None => {
                // Only the frame that is wanted now waits for memory: one made ahead that waited
                // could hold what this one needs.
                let reserved = self.reserve(index, pixels).await?;
                self.begin(index, reserved)
            }
        };
        self.make_ahead(index, pixels);
        made.await.map_err(|error| ArchiveError::Internal(error.into()))?
    }

    /// The frame at `index`, if it was begun; earlier ones are not wanted any more.
    fn take(&self, index: usize) -> Option<Making> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((at, made)) = ahead.pop_front() {
            if at == index {
                return Some(made);
            }
            if at > index {
                ahead.push_front((at, made));
                break;
            }
        }
        None
    }

    fn make_ahead(&self, index: usize, pixels: &Pixels) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = ahead.back().map_or(index, |(at, _)| *at);
        let last = index.saturating_add(AHEAD).min(self.frames.len().saturating_sub(1));
        for at in begun.saturating_add(1)..=last {
            let cost = self.frames.cost(at, pixels, &self.given);
            let codecs = self.frames.archive().codecs();
            let Some(reserved) = codecs.reserve_now(self.frames.partition(), cost) else { break };
            ahead.push_back((at, self.begin(at, reserved)));
        }
    }

    /// Makes a frame on a task of its own, which ends with the handle.
    fn begin(&self, index: usize, reserved: Reserved) -> Making {
        // Not the whole: a frame made ahead must not keep the queue that it stands in alive.
        let (frames, given) = (self.frames.again(), self.given.clone());
        let pixels = self.pixels.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let pixels = pixels.ok_or(ArchiveError::NoSuchFrame)?;
            make(&frames, &given, index, &pixels, reserved, Begun::Yes).await
        }))
    }

    async fn reserve(&self, index: usize, pixels: &Pixels) -> Result<Reserved, ArchiveError> {
        let cost = self.frames.cost(index, pixels, &self.given);
        self.frames.archive().codecs().reserve(self.frames.partition(), cost).await
    }
}

async fn make(
    frames: &Frames,
    given: &Given,
    index: usize,
    pixels: &Pixels,
    reserved: Reserved,
    begun: Begun,
) -> Result<Made, ArchiveError> {
    match given {
        Given::Stored | Given::Native => {
            let decoded = frames.decode(index, pixels, reserved, begun).await?;
            Ok(Made { layout: decoded.layout.clone(), data: decoded.into_bytes() })
        }
        Given::Encoded(wanted) => frames.recode(index, pixels, wanted, reserved, begun).await,
    }
}
