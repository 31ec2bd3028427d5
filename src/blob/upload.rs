//! One blob going up in pieces, with memory flat whatever its size.
//!
//! Owns [`Upload`]. Holds: at most three pieces are in memory ([`PART_BYTES`] each for an object
//! store, [`PIECE_BYTES`] for a folder); [`Upload::push`] waits when the store is slower than the
//! sender; nothing is acknowledged before [`Upload::finish`] returned; an upload that ends any
//! other way leaves nothing behind, unless the process dies, which leaves an orphan or an
//! unfinished multipart upload to the sweeper.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, JoinSet},
};

use super::{
    BlobError, BlobKey,
    folder::{Folder, Partial, blocking},
    meter::{measured, moved},
};

/// Size of every part but the last. All equal, because some stores insist on it; 10,000 of them,
/// the most that S3 takes, make 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// The most parts that S3 takes.
const PARTS: usize = 10_000;
/// Parts on their way at once, while the next one is being gathered.
const PARTS_IN_FLIGHT: usize = 2;
/// What is handed to the thread that writes a file, at least.
const PIECE_BYTES: usize = 4 << 20;
/// Chunks smaller than this are copied together: each would pin the buffer that it was cut from.
const SMALL_BYTES: usize = 16 << 10;

/// A blob that is being written. Dropped without [`Upload::finish`], it is cleaned up.
#[derive(Debug)]
pub struct Upload {
    key: BlobKey,
    gathered: Gather,
    pushed: u64,
    /// Bytes may be missing: an earlier call failed or was cancelled.
    broken: bool,
    target: Target,
    begun: Instant,
    life: Duration,
}

#[derive(Debug)]
enum Target {
    Folder(FolderUpload),
    Store(StoreUpload),
}

impl Upload {
    pub(super) async fn to_folder(
        folder: &Folder,
        key: BlobKey,
        life: Duration,
    ) -> Result<Self, BlobError> {
        let (folder, at) = (folder.clone(), key.clone());
        let partial = blocking(move || folder.create(&at)).await;
        let partial = partial.map_err(|e| BlobError::of_io(&key, e))?;
        let target = Target::Folder(FolderUpload::Idle(partial));
        Ok(Self::new(key, target, life))
    }

    pub(super) fn to_store(store: Arc<dyn ObjectStore>, key: BlobKey, life: Duration) -> Self {
        let target = StoreUpload { store, multipart: None, parts: JoinSet::new(), sent: 0 };
        Self::new(key, Target::Store(target), life)
    }

    fn new(key: BlobKey, target: Target, life: Duration) -> Self {
        let (gathered, begun) = (Gather::default(), Instant::now());
        Self { key, gathered, pushed: 0, broken: false, target, begun, life }
    }

    /// What it holds in memory at most, in bytes.
    pub fn most_held(&self) -> u64 {
        let piece = match &self.target {
            Target::Folder(_) => PIECE_BYTES,
            Target::Store(_) => PART_BYTES,
        };
        (piece * (PARTS_IN_FLIGHT + 1)) as u64
    }

    /// Appends bytes. Waits while the store has enough to do.
    ///
    /// # Errors
    /// What a write of earlier bytes failed with. The upload is then over, as it is when the wait
    /// was cancelled, and is cleaned up when dropped.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.in_time()?;
        // Until the end of this call: bytes may be lost on the way out, so that what follows them
        // must not make up a blob.
        self.begin_work()?;
        self.pushed += bytes.len() as u64;
        self.gathered.push(bytes);
        match &mut self.target {
            Target::Folder(upload) => {
                if self.gathered.bytes() >= PIECE_BYTES {
                    let piece = self.gathered.take_all();
                    upload.write(&self.key, piece).await.map_err(BlobError::of_write)?;
                }
            }
            Target::Store(upload) => {
                while self.gathered.bytes() >= PART_BYTES {
                    let piece = self.gathered.take(PART_BYTES);
                    upload.send(&self.key, piece).await.map_err(BlobError::of_write)?;
                }
            }
        }
        self.broken = false;
        Ok(())
    }

    /// Writes what is left and returns once the whole blob is durable.
    ///
    /// # Errors
    /// Nothing is stored then, as far as can be known; where the store's answer was lost, an orphan
    /// may remain.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        self.in_time()?;
        self.begin_work()?;
        let rest = self.gathered.take_all();
        let (key, target, bytes) = (&self.key, &mut self.target, self.pushed);
        let finish = async {
            match target {
                Target::Folder(upload) => upload.finish(key, rest).await,
                Target::Store(upload) => upload.finish(key, rest, bytes).await,
            }
        };
        measured("upload", finish).await.map_err(BlobError::of_write)?;
        moved("put", self.pushed);
        Ok(())
    }

    /// Gives up, and returns once nothing is left in the store.
    pub async fn abort(mut self) -> Result<(), BlobError> {
        match &mut self.target {
            Target::Folder(upload) => upload.abort(&self.key).await,
            Target::Store(upload) => upload.abort(&self.key).await,
        }
    }

    fn begin_work(&mut self) -> Result<(), BlobError> {
        if std::mem::replace(&mut self.broken, true) {
            let over = "the upload had failed, or a write was cancelled";
            return Err(BlobError::Unavailable(over.into()));
        }
        Ok(())
    }

    /// The sweeper takes a blob without rows for an orphan once it is old enough, and stores date
    /// a large object by the *start* of its upload.
    fn in_time(&self) -> Result<(), BlobError> {
        if self.begun.elapsed() > self.life {
            return Err(BlobError::TooSlow { key: self.key.clone() });
        }
        Ok(())
    }
}

/// Bytes that wait to make up a piece.
#[derive(Debug, Default)]
struct Gather {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Gather {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < SMALL_BYTES {
            self.tail.extend_from_slice(&chunk);
            if self.tail.len() >= SMALL_BYTES {
                self.seal();
            }
        } else {
            self.seal();
            self.chunks.push_back(chunk);
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    fn take_all(&mut self) -> Vec<Bytes> {
        self.seal();
        self.bytes = 0;
        self.chunks.drain(..).collect()
    }

    /// The first `bytes` bytes exactly, or all where there are fewer.
    fn take(&mut self, bytes: usize) -> Vec<Bytes> {
        self.seal();
        let mut piece = Vec::new();
        let mut wanted = bytes;
        while wanted > 0 {
            let Some(mut chunk) = self.chunks.pop_front() else { break };
            let part = chunk.split_to(wanted.min(chunk.len()));
            wanted -= part.len();
            self.bytes -= part.len();
            piece.push(part);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        piece
    }
}

/// A file being written: one piece at a time, on a thread that may block.
#[derive(Debug)]
enum FolderUpload {
    Idle(Partial),
    Writing(JoinHandle<std::io::Result<Partial>>),
    Over,
}

impl FolderUpload {
    /// The file, once what was handed over is written.
    async fn idle(&mut self, key: &BlobKey) -> Result<Partial, BlobError> {
        let partial = match std::mem::replace(self, Self::Over) {
            Self::Idle(partial) => Ok(partial),
            Self::Writing(task) => {
                // Kept in place while waiting, so that a cancelled wait does not lose the file.
                *self = Self::Writing(task);
                let Self::Writing(task) = self else { unreachable!("set above") };
                let done = task.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
                *self = Self::Over;
                done
            }
            Self::Over => Err(std::io::Error::other("the upload failed before")),
        };
        partial.map_err(|e| BlobError::of_io(key, e))
    }

    async fn write(&mut self, key: &BlobKey, piece: Vec<Bytes>) -> Result<(), BlobError> {
        let mut partial = self.idle(key).await?;
        *self = Self::Writing(tokio::task::spawn_blocking(move || {
            partial.write(&piece)?;
            Ok(partial)
        }));
        Ok(())
    }

    async fn finish(&mut self, key: &BlobKey, rest: Vec<Bytes>) -> Result<(), BlobError> {
        let mut partial = self.idle(key).await?;
        let synced = blocking(move || {
            partial.write(&rest)?;
            partial.sync()?;
            Ok(partial)
        });
        synced.await.map_err(|e| BlobError::of_io(key, e))?.keep();
        Ok(())
    }

    async fn abort(&mut self, key: &BlobKey) -> Result<(), BlobError> {
        // A write that failed has removed its file already.
        let Ok(partial) = self.idle(key).await else { return Ok(()) };
        blocking(move || partial.discard()).await.map_err(|e| BlobError::of_io(key, e))
    }
}

/// An object going up in parts; as one request where it fits into one part.
#[derive(Debug)]
struct StoreUpload {
    store: Arc<dyn ObjectStore>,
    multipart: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    sent: usize,
}

impl StoreUpload {
    async fn send(&mut self, key: &BlobKey, piece: Vec<Bytes>) -> Result<(), BlobError> {
        if self.sent == PARTS {
            return Err(BlobError::TooLarge { key: key.clone() });
        }
        while self.parts.len() >= PARTS_IN_FLIGHT {
            self.settle_one(key).await?;
        }
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let begun = self.store.put_multipart(key.path()).await;
                none.insert(begun.map_err(|e| BlobError::of(key, e))?)
            }
        };
        self.parts.spawn(multipart.put_part(PutPayload::from_iter(piece)));
        self.sent += 1;
        Ok(())
    }

    async fn settle_one(&mut self, key: &BlobKey) -> Result<(), BlobError> {
        match self.parts.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(BlobError::of(key, error)),
            Some(Err(lost)) => Err(BlobError::Unavailable(Box::new(lost))),
        }
    }

    /// Sends the rest of what are `bytes` in all.
    async fn finish(
        &mut self,
        key: &BlobKey,
        rest: Vec<Bytes>,
        bytes: u64,
    ) -> Result<(), BlobError> {
        if self.multipart.is_none() {
            let whole = self.store.put(key.path(), PutPayload::from_iter(rest)).await;
            return whole.map(drop).map_err(|e| BlobError::of(key, e));
        }
        if !rest.is_empty() {
            self.send(key, rest).await?;
        }
        while !self.parts.is_empty() {
            self.settle_one(key).await?;
        }
        if let Some(multipart) = &mut self.multipart
            && let Err(error) = multipart.complete().await
        {
            // Done, perhaps, and the answer was lost: a store that is asked again knows of no such
            // upload any more. The key is ours alone, so what lies there is what we sent.
            let found = self.store.head(key.path()).await;
            if found.is_ok_and(|object| object.size == bytes) {
                tracing::debug!(blob = %key, "the answer to an upload's end was lost");
            } else {
                return Err(BlobError::of(key, error));
            }
        }
        self.multipart = None;
        Ok(())
    }

    async fn abort(&mut self, key: &BlobKey) -> Result<(), BlobError> {
        self.parts.shutdown().await;
        let Some(mut multipart) = self.multipart.take() else { return Ok(()) };
        match multipart.abort().await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::of(key, error)),
        }
    }
}

impl Drop for StoreUpload {
    fn drop(&mut self) {
        let Some(mut multipart) = self.multipart.take() else { return };
        // Without a runtime the process is ending; the sweeper finds the upload later.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut parts = std::mem::take(&mut self.parts);
        runtime.spawn(async move {
            parts.shutdown().await;
            if let Err(error) = multipart.abort().await {
                tracing::warn!(%error, "an unfinished upload was left to the sweeper");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_exact_and_in_order() {
        let mut gather = Gather::default();
        let mut expected = Vec::new();
        for (i, size) in [1, 0, 100, SMALL_BYTES, 5, SMALL_BYTES * 3 + 1, 7].iter().enumerate() {
            let chunk = Bytes::from(vec![i as u8; *size]);
            expected.extend_from_slice(&chunk);
            gather.push(chunk);
            assert_eq!(gather.bytes(), expected.len());
        }
        let (first, second) = (gather.take(SMALL_BYTES + 50), gather.take(10));
        assert_eq!(first.concat().len(), SMALL_BYTES + 50);
        assert_eq!(second.concat().len(), 10);
        let rest = gather.take_all();
        assert_eq!([first, second, rest].concat().concat(), expected);
        assert_eq!(gather.bytes(), 0);
        assert!(gather.take(1).is_empty());
    }

    #[test]
    fn small_chunks_do_not_pin_their_buffers() {
        let mut gather = Gather::default();
        let buffer = Bytes::from(vec![0; 1 << 20]);
        for i in 0..1000 {
            gather.push(buffer.slice(i..i + 100));
        }
        assert!(gather.take_all().len() <= 100_000 / SMALL_BYTES + 1);
        assert!(buffer.is_unique());
    }
}
