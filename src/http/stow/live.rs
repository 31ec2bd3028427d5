//! A part that is being read for an instance.

use bytes::Bytes;

use super::{
    Broken, LULL,
    payload::Refusal,
    waiting::{Held, Waiting},
};
use crate::{
    archive::{Chunks, FailureReason, NoRoom, PartSink, StoreSession},
    codec::probe::HEAD,
    http::multipart::{MultipartError, PartHead, PartReader},
};

/// Why a file is not finished.
pub(super) enum Stop {
    Refused(Refusal),
    Broken(Broken),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoRoom> for Stop {
    fn from(none: NoRoom) -> Self {
        Self::Refused(none.into())
    }
}

impl From<MultipartError> for Stop {
    fn from(error: MultipartError) -> Self {
        match error {
            // The next part can still be read.
            MultipartError::PartTooLarge { .. } => {
                let detail = "a value is longer than limits.instance_bytes allows";
                Self::Refused(Refusal::new(FailureReason::OutOfResources, detail))
            }
            error => Self::Broken(error.into()),
        }
    }
}

/// Who has something to do while a client sends nothing.
pub(super) trait Lull {
    /// Writes what is complete, instead of holding it for a slow client.
    async fn lull(&mut self);
}

impl Lull for StoreSession {
    async fn lull(&mut self) {
        self.flush().await;
    }
}

impl Lull for PartSink<'_> {
    async fn lull(&mut self) {
        self.flush().await;
    }
}

/// The next bytes of the current part.
pub(super) async fn chunk(
    reader: &mut PartReader,
    idle: &mut impl Lull,
) -> Result<Option<Bytes>, MultipartError> {
    match tokio::time::timeout(LULL, reader.chunk()).await {
        Ok(chunk) => chunk,
        Err(_) => {
            idle.lull().await;
            reader.chunk().await
        }
    }
}

/// A part whose content is being read.
pub(super) struct Live {
    pub(super) head: PartHead,
    /// What was read of it.
    pub(super) chunks: Chunks,
    /// Bytes of that.
    pub(super) read: u64,
    /// Whether that is all.
    pub(super) whole: bool,
    /// Bytes of it that are counted.
    pub(super) staged: u64,
    /// Its `Content-Length`.
    announced: Option<u64>,
}

impl Live {
    /// A part of which nothing was read.
    pub(super) fn new(head: PartHead) -> Self {
        let announced = head.headers.get("content-length");
        let announced = announced.and_then(|length| length.to_str().ok()?.trim().parse().ok());
        let chunks = Chunks::default();
        Self { head, chunks, read: 0, whole: false, staged: 0, announced }
    }

    /// A part that was read before.
    pub(super) fn of_held(held: Held) -> Self {
        let Held { head, chunks, length } = held;
        Self { head, chunks, read: length, whole: true, staged: length, announced: None }
    }

    /// Its length, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        if self.whole { Some(self.read) } else { self.announced }
    }

    /// The first bytes of it, [`HEAD`] of them or all, as far as they were read.
    pub(super) fn first(&self) -> Vec<u8> {
        self.chunks.first(HEAD)
    }

    /// Reads the first bytes.
    pub(super) async fn read_first(
        &mut self,
        reader: &mut PartReader,
        idle: &mut impl Lull,
    ) -> Result<(), Stop> {
        while !self.whole && self.read < HEAD as u64 {
            self.read_some(reader, idle).await?;
        }
        Ok(())
    }

    /// Reads the rest, and holds it.
    pub(super) async fn read_all(
        &mut self,
        reader: &mut PartReader,
        waiting: &mut Waiting,
        idle: &mut impl Lull,
    ) -> Result<(), Stop> {
        loop {
            let new = self.read - self.staged;
            waiting.staged.hold(new).await?;
            self.staged += new;
            if self.whole {
                break;
            }
            self.read_some(reader, idle).await?;
        }
        Ok(())
    }

    async fn read_some(
        &mut self,
        reader: &mut PartReader,
        idle: &mut impl Lull,
    ) -> Result<(), Stop> {
        match chunk(reader, idle).await? {
            Some(chunk) => {
                self.read += chunk.len() as u64;
                self.chunks.push(chunk);
            }
            None if self.announced.is_some_and(|announced| announced != self.read) => {
                let detail = "a part is not as long as its Content-Length says";
                return Err(Refusal::new(FailureReason::CannotUnderstand, detail).into());
            }
            None => self.whole = true,
        }
        Ok(())
    }

    /// What was read whole, and is counted.
    pub(super) fn into_held(self) -> Held {
        Held { head: self.head, chunks: self.chunks, length: self.staged }
    }

    /// Gives back what is held.
    pub(super) fn release(self, waiting: &mut Waiting) {
        waiting.staged.give_back(self.staged);
    }
}
