//! Group commit: instances that wait at the same moment in one partition share blobs, syncs and
//! transactions, whichever requests they came with (design §5).
//!
//! Two stages: what waits is put into blobs, [`PUTS_AT_ONCE`] at a time; blobs that are durable wait
//! for their rows, which all that have come meanwhile get in one transaction, one at a time. While it
//! commits, the next ones' bytes go to the blob store, and the longer it takes the more the next
//! one serves. Rejection notes are kept from others on both: who applies them has to wait for all
//! stores of the partition, and may fail of it.
//!
//! Holds: a blob is durable before the transaction that names it starts; an instance is answered
//! for only after that transaction committed. A failed batch leaves at most blobs without rows,
//! which the sweeper removes; a blob is never removed here, because a commit whose
//! acknowledgement was lost may have made it live.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use super::{ArchiveError, coerce::Coerced, deeds, hash::hash, rejection::Policy};
use crate::{
    blob::BlobStore,
    config::StoreConfig,
    dicom::{frames::FrameTable, index::Indexed},
    index::{Db, IndexError, NewBlob, NewInstance, Stored},
    tenancy::{Deed, PartitionId, PartitionScope},
};

/// Blobs of one partition that are written at once: their syncs overlap.
const PUTS_AT_ONCE: usize = 2;

/// Rows from which a transaction takes no further blob: what waits for a commit must not wait for
/// ever more rows.
const ROWS_OF_COMMIT: usize = 1000;

/// How often a batch whose transaction lost a race (deadlock, serialization, a parent deleted
/// under it) or its connection is tried again before its instances fail.
const ATTEMPTS: u32 = 4;

/// One instance, read completely, whose bytes are not stored yet.
pub(super) struct Pending {
    pub indexed: Indexed,
    /// The metadata as it will be kept: one zstd frame.
    pub metadata: Vec<u8>,
    pub chunks: Vec<Bytes>,
    pub length: u64,
    /// What was coerced, if something was.
    pub coerced: Option<Coerced>,
    /// What [`Pending::weight`] took of the budget of all requests.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// What it holds in memory, about, in bytes. That can be far more than the file: a deflated
    /// one of some KB holds MB of attributes.
    pub fn weight(&self) -> u64 {
        let coerced = self.coerced.as_ref().map_or(0, Coerced::weight);
        self.length + weight(&self.indexed, &self.metadata) + coerced as u64
    }
}

/// What the rows of an instance hold in memory, about, in bytes.
pub(super) fn weight(indexed: &Indexed, metadata: &[u8]) -> u64 {
    const FIXED: usize = 2 * 1024;
    let rejected = indexed.rejection.as_ref().map_or(0, |note| note.rejected.len() * 96);
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
    (metadata.len() + attributes + rejected + keys + bulk + frames + FIXED) as u64
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
    /// What was coerced, if something was.
    pub coerced: Option<Coerced>,
    /// The request that it came with.
    pub deed: Option<Arc<Deed>>,
}

/// What became of each instance of a group, in order; or why none of it was stored.
pub(super) type Answer = Result<Vec<Outcome>, Arc<ArchiveError>>;

/// What became of an instance, and the blob that its bytes are in.
pub(super) type Outcome = (Uuid, Row, Result<Stored, Arc<ArchiveError>>);

struct Group {
    scope: PartitionScope,
    instances: Vec<Pending>,
    /// Whether they are rejection notes.
    are_notes: bool,
    /// What it holds in memory, in bytes.
    bytes: u64,
    answer: oneshot::Sender<Answer>,
}

/// A blob that is durable, and the rows that it waits for.
struct Durable {
    scope: PartitionScope,
    blob: NewBlob,
    rows: Vec<Row>,
    /// Whether they are those of rejection notes.
    are_notes: bool,
    /// The bytes of each row, should the index refuse them together.
    bytes: Vec<Vec<Bytes>>,
    /// Given back when the rows are committed, and the memory of the bytes with it.
    _budget: Vec<OwnedSemaphorePermit>,
    answers: Answers,
}

/// Who hears what became of how many instances, in their order.
struct Answers(Vec<(oneshot::Sender<Answer>, usize)>);

impl Answers {
    fn send(self, outcomes: Vec<Outcome>) {
        let mut outcomes = outcomes.into_iter();
        for (answer, count) in self.0 {
            // Nobody listens when the client went away: the instances are stored all the same.
            let _ = answer.send(Ok(outcomes.by_ref().take(count).collect()));
        }
    }

    fn fail(self, error: &Arc<ArchiveError>) {
        for (answer, _) in self.0 {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

#[derive(Default)]
struct Queue {
    /// Whose bytes are in memory alone.
    waiting: VecDeque<Group>,
    putting: usize,
    /// Whose bytes are durable.
    durable: VecDeque<Durable>,
    is_committing: bool,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.durable.is_empty()
            && self.putting == 0
            && !self.is_committing
    }
}

type Queues = HashMap<PartitionId, Queue>;

/// The writers of all partitions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writers {
    db: Db,
    blobs: BlobStore,
    batch_bytes: u64,
    rejection: Policy,
    queues: Arc<Mutex<Queues>>,
}

impl Writers {
    pub fn new(db: Db, blobs: BlobStore, config: &StoreConfig, rejection: Policy) -> Self {
        let batch_bytes = config.batch_bytes;
        Self { db, blobs, batch_bytes, rejection, queues: Arc::default() }
    }

    /// Queues a group of instances, all or none of which are rejection notes; the receiver hears when
    /// they are durable. The group is written even if the receiver is dropped: a client that went away
    /// may have been told already.
    pub fn submit(
        &self,
        scope: &PartitionScope,
        instances: Vec<Pending>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let bytes = instances.iter().map(Pending::weight).sum();
        let are_notes = instances.iter().any(|one| self.rejection.of(&one.indexed).is_some());
        let group = Group { scope: scope.clone(), instances, are_notes, bytes, answer };
        let partition = scope.partition().clone();
        let mut queues = self.queues();
        let queue = queues.entry(partition.clone()).or_default();
        queue.waiting.push_back(group);
        if queue.putting < PUTS_AT_ONCE {
            queue.putting += 1;
            drop(queues);
            tokio::spawn(self.clone().run_puts(partition));
        }
        receiver
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one batch after another until nothing waits.
    async fn run_puts(self, partition: PartitionId) {
        while let Some(batch) = self.take_waiting(&partition) {
            let Some(Some(durable)) = whole(self.put_batch(batch), &partition).await else {
                continue;
            };
            let mut queues = self.queues();
            let queue = queues.entry(partition.clone()).or_default();
            queue.durable.push_back(durable);
            if !queue.is_committing {
                queue.is_committing = true;
                drop(queues);
                tokio::spawn(self.clone().run_commits(partition.clone()));
            }
        }
    }

    /// Commits what is durable until nothing is.
    async fn run_commits(self, partition: PartitionId) {
        while let Some(batches) = self.take_durable(&partition) {
            let _ = whole(self.commit_batches(batches, 1), &partition).await;
        }
    }

    /// The groups of one kind that wait, up to a blob's size (at least one); `None` ends the caller's
    /// run.
    fn take_waiting(&self, partition: &PartitionId) -> Option<Vec<Group>> {
        let mut queues = self.queues();
        let queue = queues.get_mut(partition)?;
        let mut batch: Vec<Group> = Vec::new();
        let mut bytes = 0;
        while let Some(group) = queue.waiting.front() {
            let is_full = bytes + group.bytes > self.batch_bytes;
            if batch.last().is_some_and(|last| is_full || last.are_notes != group.are_notes) {
                break;
            }
            bytes += group.bytes;
            batch.extend(queue.waiting.pop_front());
        }
        if batch.is_empty() {
            queue.putting -= 1;
            forget_idle(&mut queues, partition);
            return None;
        }
        Some(batch)
    }

    /// Blobs that wait for their rows, of one kind (at least one); `None` ends the caller's run.
    fn take_durable(&self, partition: &PartitionId) -> Option<Vec<Durable>> {
        let mut queues = self.queues();
        let queue = queues.get_mut(partition)?;
        let (mut batches, mut rows): (Vec<Durable>, _) = (Vec::new(), 0);
        while let Some(next) = queue.durable.front() {
            rows += next.rows.len();
            let is_full = rows > ROWS_OF_COMMIT;
            if batches.last().is_some_and(|last| is_full || last.are_notes != next.are_notes) {
                break;
            }
            batches.extend(queue.durable.pop_front());
        }
        if batches.is_empty() {
            queue.is_committing = false;
            forget_idle(&mut queues, partition);
            return None;
        }
        Some(batches)
    }

    /// Writes the bytes of groups into one blob. Where that fails they are told so.
    async fn put_batch(&self, batch: Vec<Group>) -> Option<Durable> {
        let (scope, are_notes) = batch.first().map(|one| (one.scope.clone(), one.are_notes))?;
        let (mut answers, mut pendings) = (Answers(Vec::new()), Vec::new());
        for group in batch {
            answers.0.push((group.answer, group.instances.len()));
            let deed = group.scope.deed().cloned();
            pendings.extend(group.instances.into_iter().map(|one| (deed.clone(), one)));
        }
        let id = Uuid::new_v4();
        let files = pendings.iter().map(|(_, pending)| pending.chunks.clone()).collect();
        let hashes = match self.put_and_hash(&scope, id, files).await {
            Ok(hashes) => hashes,
            Err(error) => {
                answers.fail(&told(&scope, error));
                return None;
            }
        };
        let (mut rows, mut bytes, mut budget) = (Vec::new(), Vec::new(), Vec::new());
        let mut length = 0;
        for ((deed, pending), sha256) in pendings.into_iter().zip(hashes) {
            let Pending { indexed, metadata, chunks, length: its, coerced, budget: permit } =
                pending;
            budget.extend(permit);
            bytes.push(chunks);
            rows.push(Row {
                indexed,
                metadata,
                offset: length,
                length: its,
                sha256,
                coerced,
                deed,
            });
            length += its;
        }
        let blob = NewBlob { id, length };
        Some(Durable { scope, blob, rows, are_notes, bytes, _budget: budget, answers })
    }

    /// Writes a blob and takes the SHA-256 of each of its files, at the same time: one waits for the
    /// disk while the other computes. (Chunks are counted references, and copied cheaply.)
    async fn put_and_hash(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        files: Vec<Vec<Bytes>>,
    ) -> Result<Vec<[u8; 32]>, ArchiveError> {
        let all = files.iter().flatten().cloned().collect();
        let blobs = self.blobs.within(scope.partition());
        let (put, hashes) = tokio::join!(blobs.put(id, all), hash_each(&files));
        put?;
        Ok(hashes)
    }

    /// Commits the rows of blobs together. Where the index refuses them, those of each blob alone;
    /// where it refuses these, each instance gets a blob of its own: one that cannot be indexed must
    /// not take others with it, which may have come with other requests.
    async fn commit_batches(&self, mut batches: Vec<Durable>, attempt: u32) {
        let Some(scope) = batches.first().map(|first| first.scope.clone()) else { return };
        let parts: Vec<_> = batches.iter().map(|batch| (batch.blob, &batch.rows[..])).collect();
        let error = match self.commit_from(&scope, &parts, attempt).await {
            Ok(stored) => {
                let mut stored = stored.into_iter();
                for Durable { blob, rows, answers, .. } in batches {
                    let outcomes = rows.into_iter().zip(stored.by_ref());
                    answers.send(outcomes.map(|(row, one)| (blob.id, row, Ok(one))).collect());
                }
                return;
            }
            Err(error) => error,
        };
        let count: usize = batches.iter().map(|batch| batch.rows.len()).sum();
        if count == 1 || !matches!(error, ArchiveError::Internal(_)) {
            let error = told(&scope, error);
            return batches.into_iter().for_each(|batch| batch.answers.fail(&error));
        }
        tracing::warn!(
            partition = %scope.partition(),
            instances = count,
            error = %error.chain(),
            "a batch could not be stored; it is stored in smaller ones"
        );
        if batches.len() > 1 {
            for batch in batches {
                // Whether the first try committed is not always known.
                Box::pin(self.commit_batches(vec![batch], 2)).await;
            }
        } else if let Some(batch) = batches.pop() {
            self.store_one_by_one(batch).await;
        }
    }

    async fn store_one_by_one(&self, batch: Durable) {
        let Durable { scope, rows, bytes, answers, _budget, .. } = batch;
        let mut outcomes = Vec::with_capacity(rows.len());
        for (mut row, chunks) in rows.into_iter().zip(bytes) {
            row.offset = 0;
            let id = Uuid::new_v4();
            let stored = self.put_one(&scope, id, chunks, &row).await;
            outcomes.push((id, row, stored.map_err(|error| told(&scope, error))));
        }
        answers.send(outcomes);
    }

    async fn put_one(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        chunks: Vec<Bytes>,
        row: &Row,
    ) -> Result<Stored, ArchiveError> {
        let blob = NewBlob { id, length: row.length };
        self.blobs.within(scope.partition()).put(blob.id, chunks).await?;
        let stored = self.commit(scope, &blob, std::slice::from_ref(row)).await?;
        stored.first().copied().ok_or_else(|| {
            ArchiveError::Internal(anyhow::anyhow!("the index gave no outcome for an instance"))
        })
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
        self.commit_from(scope, &[(*blob, rows)], 1).await
    }

    /// As [`Writers::commit`], the rows of blobs in their order, beginning with the attempt of that
    /// number.
    async fn commit_from(
        &self,
        scope: &PartitionScope,
        parts: &[(NewBlob, &[Row])],
        mut attempt: u32,
    ) -> Result<Vec<Stored>, ArchiveError> {
        loop {
            match self.try_commit(scope, parts, attempt).await {
                Ok(stored) => return Ok(stored),
                Err(error) if attempt < ATTEMPTS && error_is_passing(&error) => {
                    tokio::time::sleep(Duration::from_millis(5 << (2 * attempt))).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_commit(
        &self,
        scope: &PartitionScope,
        parts: &[(NewBlob, &[Row])],
        attempt: u32,
    ) -> Result<Vec<Stored>, IndexError> {
        let blobs: Vec<NewBlob> = parts.iter().map(|(blob, _)| *blob).collect();
        let placed = || parts.iter().flat_map(|(blob, rows)| rows.iter().map(|row| (blob.id, row)));
        let instances: Vec<NewInstance<'_>> = placed()
            .map(|(blob, row)| NewInstance {
                blob,
                indexed: &row.indexed,
                metadata: &row.metadata,
                offset: row.offset,
                length: row.length,
                sha256: row.sha256,
                received: row.coerced.as_ref().map(|coerced| coerced.received),
                rejects: self.rejection.of(&row.indexed),
            })
            .collect();
        let mut tx = match instances.iter().any(|one| one.rejects.is_some()) {
            true => self.db.begin_rejecting(scope).await?,
            false => self.db.begin_store(scope).await?,
        };
        let stored = match attempt {
            1 => tx.store_batch(&blobs, &instances).await?,
            _ => tx.store_batch_again(&blobs, &instances).await?,
        };
        deeds::tell(
            &mut tx,
            scope.partition(),
            placed().map(|(_, row)| row).zip(&instances),
            &stored,
        );
        tx.commit().await?;
        Ok(stored)
    }
}

/// What a step came to; `None` where it panicked. A panic must not end the run: it counts as
/// running, and others would wait for ever. Those whose instances were in the step hear it by the
/// dropped sender.
async fn whole<T>(step: impl Future<Output = T>, partition: &PartitionId) -> Option<T> {
    let done = AssertUnwindSafe(step).catch_unwind().await;
    if done.is_err() {
        tracing::error!(%partition, "writing a batch panicked");
    }
    done.ok()
}

/// Forgets the queue of a partition for which there is nothing to do.
fn forget_idle(queues: &mut Queues, partition: &PartitionId) {
    if queues.get(partition).is_some_and(Queue::is_idle) {
        queues.remove(partition);
    }
}

/// The SHA-256 of files; other tasks of the thread get their turns meanwhile.
async fn hash_each(files: &[Vec<Bytes>]) -> Vec<[u8; 32]> {
    let mut hashes = Vec::with_capacity(files.len());
    for chunks in files {
        let mut sha256 = Sha256::new();
        for chunk in chunks {
            hash(&mut sha256, chunk).await;
        }
        hashes.push(sha256.finalize().into());
    }
    hashes
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

fn error_is_passing(error: &IndexError) -> bool {
    error.is_retryable() || error.is_unavailable()
}
