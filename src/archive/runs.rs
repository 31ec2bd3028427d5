//! Stretches of blobs, read one after another for one answer, the next ones opened ahead.
//!
//! Holds: what is opened ahead of what is being read is bounded in bytes and in number, and for all
//! answers together, whose clients may take nothing by the thousand; it is opened in order; nothing
//! is read twice. A store's latency is then waited for once, not once for each stretch.

use std::{collections::VecDeque, future::poll_fn, ops::Range, sync::Arc, task::Poll};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{ArchiveError, blob_reads::BlobReads};
use crate::blob::BlobStream;

/// Stretches that are open at once, the current one aside.
const OPEN: usize = 16;

/// What an open stretch holds in memory at most, before anything of it is taken: two chunks.
const HELD: u64 = 1280 << 10;

/// What all answers together may hold of stretches opened ahead.
const HELD_BY_ALL: u64 = 250 << 20;

/// Bytes of a permit.
const PERMIT: u64 = 64 << 10;

/// What is left of [`HELD_BY_ALL`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ahead(Arc<Semaphore>);

impl Default for Ahead {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((HELD_BY_ALL / PERMIT) as usize)))
    }
}

impl Ahead {
    fn has_room(&self) -> bool {
        self.0.available_permits() as u64 >= HELD / PERMIT
    }

    /// The share of a stretch; `None` where others were faster.
    fn share(&self, range: &Range<u64>) -> Option<OwnedSemaphorePermit> {
        let permits = (range.end - range.start).min(HELD).div_ceil(PERMIT);
        self.0.clone().try_acquire_many_owned(permits as u32).ok()
    }
}

/// The stretches of one answer.
pub(super) struct Runs {
    blobs: BlobReads,
    shared: Ahead,
    /// Most bytes between what is being read and the end of what was opened ahead.
    read_ahead: u64,
    current: Option<Run>,
    ahead: VecDeque<Opening>,
}

/// A stretch of one blob that is being read.
struct Run {
    blob: Uuid,
    end: u64,
    stream: BlobStream,
    /// What was read beyond the current instance.
    rest: Bytes,
    /// First byte of the blob that `rest` or else `stream` gives next.
    at: u64,
}

/// A stretch that is being opened, or open.
struct Opening {
    blob: Uuid,
    range: Range<u64>,
    stream: BoxFuture<'static, Result<BlobStream, ArchiveError>>,
    opened: Option<Result<BlobStream, ArchiveError>>,
    /// Of what is opened ahead of its turn.
    _share: Option<OwnedSemaphorePermit>,
}

impl Opening {
    fn new(blobs: &BlobReads, blob: Uuid, range: Range<u64>) -> Self {
        let (blobs, wanted) = (blobs.clone(), range.clone());
        let stream = async move { blobs.read(blob, wanted).await }.boxed();
        Self { blob, range, stream, opened: None, _share: None }
    }

    async fn run(self) -> Result<Run, ArchiveError> {
        let stream = match self.opened {
            Some(opened) => opened?,
            None => self.stream.await?,
        };
        let Range { start: at, end } = self.range;
        Ok(Run { blob: self.blob, end, stream, rest: Bytes::new(), at })
    }
}

impl Runs {
    pub(super) fn new(blobs: BlobReads, shared: Ahead, read_ahead: u64) -> Self {
        Self { blobs, shared, read_ahead, current: None, ahead: VecDeque::new() }
    }

    /// Makes the stretch `range` of a blob, which begins with an instance, the next to stand in,
    /// unless the current one stands there. It is one that was opened ahead, or a new one.
    pub(super) fn go_to(&mut self, blob: Uuid, range: Range<u64>) {
        if let Some(run) = &self.current
            && run.blob == blob
            && run.at == range.start
            && run.at < run.end
        {
            return;
        }
        self.current = None;
        let is_it = |opening: &Opening| opening.blob == blob && opening.range.start == range.start;
        match self.ahead.iter().position(is_it) {
            Some(at) => drop(self.ahead.drain(..at)),
            None => self.ahead.push_front(Opening::new(&self.blobs, blob, range)),
        }
    }

    /// Stands in the stretch gone to, once it is open.
    pub(super) async fn stand(&mut self) -> Result<(), ArchiveError> {
        if self.current.is_some() {
            return Ok(());
        }
        let Some(opening) = self.ahead.pop_front() else { return Ok(()) };
        let mut opening = Box::pin(opening.run());
        let ahead = &mut self.ahead;
        let run = poll_fn(|context| {
            let run = opening.as_mut().poll(context);
            advance(ahead, context);
            run
        });
        self.current = Some(run.await?);
        Ok(())
    }

    /// Whether one more stretch may be opened ahead.
    pub(super) fn has_room(&self) -> bool {
        let current = self.current.as_ref().map_or(0, |run| run.end.saturating_sub(run.at));
        let ahead = self.ahead.iter().map(|opening| opening.range.end - opening.range.start);
        let bytes = ahead.fold(current, u64::saturating_add);
        self.ahead.len() < OPEN && bytes < self.read_ahead && self.shared.has_room()
    }

    /// Opens a stretch ahead; it comes after those opened before.
    pub(super) fn open_ahead(&mut self, blob: Uuid, range: Range<u64>) {
        let share = self.shared.share(&range);
        let opening = Opening::new(&self.blobs, blob, range);
        self.ahead.push_back(Opening { _share: share, ..opening });
    }

    /// Where the current stretch ends, or the one gone to.
    pub(super) fn end(&self) -> Option<(Uuid, u64)> {
        match &self.current {
            Some(run) => Some((run.blob, run.end)),
            None => self.ahead.front().map(|opening| (opening.blob, opening.range.end)),
        }
    }

    /// Undoes reading `chunk`, the last bytes that were read.
    pub(super) fn put_back(&mut self, chunk: Bytes) {
        let Some(run) = &mut self.current else { return };
        run.at -= chunk.len() as u64;
        run.rest = if run.rest.is_empty() {
            chunk
        } else {
            [chunk.as_ref(), run.rest.as_ref()].concat().into()
        };
    }

    /// The next bytes of the current stretch before `end`; `None` at `end`.
    pub(super) async fn next(&mut self, end: u64) -> Result<Option<Bytes>, ArchiveError> {
        let Some(run) = &mut self.current else { return Ok(None) };
        if run.at >= end {
            return Ok(None);
        }
        while run.rest.is_empty() {
            let ahead = &mut self.ahead;
            let next = poll_fn(|context| {
                let next = run.stream.poll_next_unpin(context);
                advance(ahead, context);
                next
            });
            run.rest = match next.await {
                Some(chunk) => chunk?,
                None => {
                    let error = anyhow::anyhow!("blob {} ended at byte {}", run.blob, run.at);
                    return Err(ArchiveError::Internal(error));
                }
            };
        }
        let left = usize::try_from(end - run.at).unwrap_or(usize::MAX);
        let chunk = run.rest.split_to(left.min(run.rest.len()));
        run.at += chunk.len() as u64;
        Ok(Some(chunk))
    }
}

/// Goes on opening what is not open yet.
fn advance(ahead: &mut VecDeque<Opening>, context: &mut std::task::Context<'_>) {
    for opening in ahead.iter_mut().filter(|opening| opening.opened.is_none()) {
        if let Poll::Ready(opened) = opening.stream.poll_unpin(context) {
            opening.opened = Some(opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_answers_together_hold_what_they_may() {
        let ahead = Ahead::default();
        let mut shares = Vec::new();
        while ahead.has_room() {
            shares.push(ahead.share(&(0..8 << 20)).unwrap());
        }
        assert_eq!(shares.len() as u64 * HELD, HELD_BY_ALL, "of a long one two chunks are held");
        shares.pop();
        assert!(ahead.has_room(), "what was given back can be had again");
        shares.push(ahead.share(&(7..8)).unwrap());
        assert!(!ahead.has_room(), "there must be room for a long one");
    }
}
