//! Group commit: instances that wait at the same moment in one partition share a blob, a sync and
//! a transaction, whichever requests they came with (design §5).
//!
//! Holds: a blob is durable before the transaction that names it starts; an instance is answered
//! for only after that transaction committed. A failed batch leaves at most a blob without rows,
//! which the sweeper removes; a blob is never removed here, because a commit whose
//! acknowledgement was lost may have made it live.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use super::{ArchiveError, deeds};
use crate::{
    blob::BlobStore,
    config::StoreConfig,
    dicom::{frames::FrameTable, index::Indexed},
    index::{Db, NewBlob, NewInstance, Stored},
    tenancy::{Deed, PartitionId, PartitionScope},
};

/// Batches of one partition that are written at once: while one waits for its commit, the next
/// one's bytes go to the blob store.
const BATCHES_AT_ONCE: usize = 2;

/// How often a batch whose transaction lost a race (deadlock, serialization, a parent deleted
/// under it) or its connection is tried again before its instances fail.
const ATTEMPTS: u32 = 4;

/// One instance, read completely, whose bytes are not stored yet.
pub(super) struct Pending {
    pub indexed: Indexed,
    /// The metadata as it will be kept: one zstd frame.
    pub metadata: Vec<u8>,
    pub sha256: [u8; 32],
    pub chunks: Vec<Bytes>,
    pub length: u64,
    /// What [`Pending::weight`] took of the budget of all requests.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// What it holds in memory, about, in bytes. That can be far more than the file: a deflated
    /// one of some KB holds MB of attributes.
    pub fn weight(&self) -> u64 {
        const FIXED: usize = 2 * 1024;
        let indexed = &self.indexed;
        let attributes: usize = indexed.level_attributes.iter().map(Vec::len).sum();
        let keys: usize = indexed.keys.0.iter().map(|(_, value)| value.len()).sum();
        let bulk: usize = indexed.bulk.iter().map(|b| size_of_val(b) + b.path.len()).sum();
        let frames = match &indexed.frames {
            None | Some(FrameTable::Native { .. }) => 0,
            Some(FrameTable::Fragment { frames }) => size_of_val(&frames[..]),
            Some(FrameTable::Fragments { frames }) => {
                frames.iter().map(|f| size_of_val(f) + size_of_val(&f[..])).sum()
            }
        };
        let beside = self.metadata.len() + attributes + keys + bulk + frames + FIXED;
        self.length + beside as u64
    }
}

/// What the index is told of one instance whose bytes are in a blob.
pub(super) struct Row {
    pub indexed: Indexed,
    /// One zstd frame.
    pub metadata: Vec<u8>,
    /// First byte of the file in the blob.
    pub offset: u64,
    pub length: u64,
    pub sha256: [u8; 32],
    /// The request that it came with.
    pub deed: Option<Arc<Deed>>,
}

/// What became of each instance of a group, in order.
pub(super) type Answer = Vec<(Row, Result<Stored, Arc<ArchiveError>>)>;

struct Group {
    scope: PartitionScope,
    instances: Vec<Pending>,
    /// What it holds in memory, in bytes.
    bytes: u64,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Group>,
    running: usize,
}

/// The writers of all partitions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writers {
    db: Db,
    blobs: BlobStore,
    batch_bytes: u64,
    queues: Arc<Mutex<HashMap<PartitionId, Queue>>>,
}

impl Writers {
    pub fn new(db: Db, blobs: BlobStore, config: &StoreConfig) -> Self {
        Self { db, blobs, batch_bytes: config.batch_bytes, queues: Arc::default() }
    }

    /// Queues a group of instances; the receiver hears when they are durable. The group is written
    /// even if the receiver is dropped: a client that went away may have been told already.
    pub fn submit(
        &self,
        scope: &PartitionScope,
        instances: Vec<Pending>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let bytes = instances.iter().map(Pending::weight).sum();
        let group = Group { scope: scope.clone(), instances, bytes, answer };
        let partition = scope.partition().clone();
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(partition.clone()).or_default();
        queue.waiting.push_back(group);
        if queue.running < BATCHES_AT_ONCE {
            queue.running += 1;
            drop(queues);
            tokio::spawn(self.clone().run(partition));
        }
        receiver
    }

    /// Writes one batch after another until nothing waits.
    async fn run(self, partition: PartitionId) {
        while let Some(batch) = self.take(&partition) {
            // A panic must not end the run: it counts as running, and others would wait for ever.
            // Those whose instances were in the batch hear it by the dropped sender.
            if AssertUnwindSafe(self.write(batch)).catch_unwind().await.is_err() {
                tracing::error!(%partition, "writing a batch panicked");
            }
        }
    }

    /// The groups that wait, up to a blob's size (at least one); `None` ends the caller's run.
    fn take(&self, partition: &PartitionId) -> Option<Vec<Group>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(partition)?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(group) = queue.waiting.front() {
            if !batch.is_empty() && bytes + group.bytes > self.batch_bytes {
                break;
            }
            bytes += group.bytes;
            batch.extend(queue.waiting.pop_front());
        }
        if batch.is_empty() {
            queue.running -= 1;
            if queue.running == 0 {
                queues.remove(partition);
            }
            return None;
        }
        Some(batch)
    }

    async fn write(&self, batch: Vec<Group>) {
        let scope = batch[0].scope.clone();
        let (mut answers, mut pendings) = (Vec::new(), Vec::new());
        for group in batch {
            answers.push((group.answer, group.instances.len()));
            let deed = group.scope.deed().cloned();
            pendings.extend(group.instances.into_iter().map(|one| (deed.clone(), one)));
        }
        let mut outcomes = self.write_all(&scope, pendings).await.into_iter();
        for (answer, count) in answers {
            // Nobody listens when the client went away: the instances are stored all the same.
            let _ = answer.send(outcomes.by_ref().take(count).collect());
        }
    }

    /// Writes instances into one blob. Where the index refuses the batch, each gets a blob and a
    /// transaction of its own, so that one that cannot be indexed does not take others with it,
    /// which may have come with other requests.
    async fn write_all(
        &self,
        scope: &PartitionScope,
        pendings: Vec<(Option<Arc<Deed>>, Pending)>,
    ) -> Answer {
        let mut rows = Vec::with_capacity(pendings.len());
        let mut bytes = Vec::with_capacity(pendings.len());
        // Given back when the batch is written and its memory is.
        let mut budget = Vec::new();
        let mut at = 0;
        for (deed, pending) in pendings {
            let Pending { indexed, metadata, sha256, chunks, length, budget: permit } = pending;
            budget.extend(permit);
            bytes.push(chunks);
            rows.push(Row { indexed, metadata, offset: at, length, sha256, deed });
            at += length;
        }
        // Cheap copies: chunks are counted references.
        let all: Vec<Bytes> = bytes.iter().flatten().cloned().collect();
        match self.put_and_commit(scope, all, &rows).await {
            Ok(stored) => rows.into_iter().zip(stored.into_iter().map(Ok)).collect(),
            Err(ArchiveError::Internal(error)) if rows.len() > 1 => {
                tracing::warn!(
                    partition = %scope.partition(),
                    instances = rows.len(),
                    error = format!("{error:#}"),
                    "a batch could not be stored; its instances are stored one by one"
                );
                let mut answer = Vec::with_capacity(rows.len());
                for (mut row, chunks) in rows.into_iter().zip(bytes) {
                    row.offset = 0;
                    let stored = self.put_one(scope, chunks, &row).await;
                    answer.push((row, stored.map_err(|error| told(scope, error))));
                }
                answer
            }
            Err(error) => {
                let error = told(scope, error);
                rows.into_iter().map(|row| (row, Err(error.clone()))).collect()
            }
        }
    }

    async fn put_one(
        &self,
        scope: &PartitionScope,
        chunks: Vec<Bytes>,
        row: &Row,
    ) -> Result<Stored, ArchiveError> {
        let stored = self.put_and_commit(scope, chunks, std::slice::from_ref(row)).await?;
        stored.first().copied().ok_or_else(|| {
            ArchiveError::Internal(anyhow::anyhow!("the index gave no outcome for an instance"))
        })
    }

    async fn put_and_commit(
        &self,
        scope: &PartitionScope,
        chunks: Vec<Bytes>,
        rows: &[Row],
    ) -> Result<Vec<Stored>, ArchiveError> {
        let id = Uuid::new_v4();
        let length = rows.iter().map(|row| row.length).sum();
        self.blobs.within(scope.partition()).put(id, chunks).await?;
        self.commit(scope, &NewBlob { id, length }, rows).await
    }

    /// Commits the rows of one blob, whose bytes are durable.
    ///
    /// Repeating is safe at every point: where an earlier try did commit, its rows are found again.
    pub async fn commit(
        &self,
        scope: &PartitionScope,
        blob: &NewBlob,
        rows: &[Row],
    ) -> Result<Vec<Stored>, ArchiveError> {
        let instances: Vec<NewInstance<'_>> = rows
            .iter()
            .map(|row| NewInstance {
                indexed: &row.indexed,
                metadata: &row.metadata,
                offset: row.offset,
                length: row.length,
                sha256: row.sha256,
            })
            .collect();
        let mut attempt = 1;
        loop {
            let tried = async {
                let mut tx = self.db.begin_store(scope).await?;
                let stored = match attempt {
                    1 => tx.store_batch(blob, &instances).await?,
                    _ => tx.store_batch_again(blob, &instances).await?,
                };
                deeds::tell(&mut tx, scope.partition(), rows, &stored);
                tx.commit().await?;
                Ok(stored)
            };
            match tried.await {
                Ok(stored) => return Ok(stored),
                Err(error) if attempt < ATTEMPTS && error_is_passing(&error) => {
                    let pause = std::time::Duration::from_millis(5 << (2 * attempt));
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Logs why instances were not stored; what the client is told is constant.
fn told(scope: &PartitionScope, error: ArchiveError) -> Arc<ArchiveError> {
    tracing::error!(
        partition = %scope.partition(),
        error = %error.chain(),
        "instances could not be stored"
    );
    Arc::new(error)
}

fn error_is_passing(error: &crate::index::IndexError) -> bool {
    error.is_retryable() || error.is_unavailable()
}
