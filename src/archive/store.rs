//! Store: parts of one request in, an outcome out (PS3.18 §10.5).
//!
//! Holds: each part is read once, while it arrives; memory stays flat, whatever an instance's
//! size: small instances wait in groups within a budget, a large one goes to a blob of its own in
//! pieces. A part that fails fails alone.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use super::{
    Archive, ArchiveError,
    writer::{Answer, Pending, Placed},
};
use crate::{
    blob::Upload,
    config::Identical,
    dicom::{
        DicomError, Uid,
        index::{Indexed, Indexer, Warning},
        reader::Reader,
    },
    index::{self, IndexError, NewBlob},
    telemetry::names,
    tenancy::PartitionScope,
};

/// The metadata of an instance is kept as a zstd frame of this level: the fastest one that still
/// folds repeated attribute names away.
const ZSTD_LEVEL: i32 = 1;

/// Bytes that the reader takes before other tasks of the thread get their turn.
const SLICE: usize = 128 * 1024;

/// Why one instance was not stored: the codes of (0008,1197) (PS3.18 Table I.2-2, PS3.7 §C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// 0110H: the archive could not do it.
    Processing,
    /// 0111H: the partition holds other bytes under this SOP Instance UID.
    DuplicateInstance,
    /// A700H: a limit of the archive was exceeded.
    OutOfResources,
    /// A900H: a required attribute is missing or invalid, or the study is not the one of the URL.
    DoesNotMatchSopClass,
    /// C000H: not readable as DICOM.
    CannotUnderstand,
}

impl FailureReason {
    /// The value of (0008,1197).
    pub fn code(self) -> u16 {
        match self {
            Self::Processing => 0x0110,
            Self::DuplicateInstance => 0x0111,
            Self::OutOfResources => 0xA700,
            Self::DoesNotMatchSopClass => 0xA900,
            Self::CannotUnderstand => 0xC000,
        }
    }
}

/// An instance that is in the archive now.
#[derive(Clone, Debug)]
pub struct Stored {
    /// (0008,0016).
    pub sop_class: Uid,
    /// Its place.
    pub study: Uid,
    /// Its place.
    pub series: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// What was wrong but did not hinder.
    pub warnings: Vec<Warning>,
}

/// A part that was not stored.
#[derive(Clone, Debug)]
pub struct Failed {
    /// (0008,0016) and (0008,0018), where the part was readable so far.
    pub sop: Option<(Uid, Uid)>,
    /// Why, as a code.
    pub reason: FailureReason,
    /// Why, in words; never a value of the part.
    pub detail: String,
}

/// What became of the parts of one request, each in its own group in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In the archive (before or now).
    pub stored: Vec<Stored>,
    /// Not in the archive through this request.
    pub failed: Vec<Failed>,
    /// Whether a failure came from a part of the archive that does not answer: the client may
    /// repeat the request.
    pub unavailable: bool,
}

/// What one session must remember about instances that are being written.
struct InFlight {
    answer: oneshot::Receiver<Answer>,
    /// UIDs by position, for the case that the whole group fails.
    sops: Vec<(Uid, Uid)>,
    _budget: Vec<OwnedSemaphorePermit>,
}

/// One Store request.
pub struct StoreSession {
    archive: Archive,
    scope: PartitionScope,
    study: Option<Uid>,
    prepare: Option<BoxFuture<'static, Result<(), IndexError>>>,
    /// `prepare` was tried and failed: nothing may be stored.
    unprepared: bool,
    group: Vec<Pending>,
    group_bytes: u64,
    budget: Vec<OwnedSemaphorePermit>,
    in_flight: Option<InFlight>,
    outcome: Outcome,
}

/// The bytes of instances that wait in groups, all requests together, in KiB permits.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Semaphore::new(permits(bytes).max(1) as usize)))
    }
}

fn permits(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl Archive {
    /// Begins a Store request in one partition. With `study`, instances of any other study fail
    /// (`POST /studies/{study}`). `prepare` is awaited once, when there is something to store: it
    /// makes sure that the partition exists.
    pub fn store(
        &self,
        scope: PartitionScope,
        study: Option<Uid>,
        prepare: BoxFuture<'static, Result<(), IndexError>>,
    ) -> StoreSession {
        StoreSession {
            archive: self.clone(),
            scope,
            study,
            prepare: Some(prepare),
            unprepared: false,
            group: Vec::new(),
            group_bytes: 0,
            budget: Vec::new(),
            in_flight: None,
            outcome: Outcome::default(),
        }
    }
}

impl StoreSession {
    /// Begins a part.
    pub fn part(&mut self) -> PartSink<'_> {
        let limits = self.archive.dicom_limits();
        let threshold = self.archive.bulk_threshold();
        let reader = Reader::new(Indexer::new(limits), limits, threshold);
        PartSink { session: self, reader, sha256: Sha256::new(), length: 0, state: State::start() }
    }

    /// Notes a part that is no instance at all, for example of another media type.
    pub fn refuse_part(&mut self, detail: String) {
        self.fail(None, FailureReason::CannotUnderstand, detail);
    }

    /// Writes what waits, because no more bytes are coming for a while: what is complete becomes
    /// durable, and its share of the budget is not held for a slow client.
    pub async fn flush(&mut self) {
        self.submit().await;
        self.settle().await;
    }

    /// Writes what waits and tells what became of everything.
    pub async fn finish(mut self) -> Outcome {
        self.flush().await;
        self.outcome
    }

    fn fail(&mut self, sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String) {
        count("failed");
        self.outcome.failed.push(Failed { sop, reason, detail });
    }

    /// Makes sure that the partition exists, the first time that something is to be stored.
    async fn prepare(&mut self) -> Result<(), ArchiveError> {
        if let Some(prepare) = self.prepare.take() {
            self.unprepared = true;
            prepare.await?;
            self.unprepared = false;
        }
        if self.unprepared {
            let error = anyhow::anyhow!("the partition could not be made ready");
            return Err(ArchiveError::Unavailable(error));
        }
        Ok(())
    }

    async fn add(&mut self, pending: Pending) {
        if self.group_bytes + pending.length > self.archive.0.store.batch_bytes {
            self.submit().await;
        }
        let budget = self.archive.0.budget.0.clone();
        let permit = match budget.clone().try_acquire_many_owned(permits(pending.length)) {
            Ok(permit) => Some(permit),
            Err(_) => {
                // Nothing of ours may be held while we wait, or two such requests could wait for
                // each other.
                self.flush().await;
                budget.acquire_many_owned(permits(pending.length)).await.ok()
            }
        };
        self.budget.extend(permit);
        self.group_bytes += pending.length;
        self.group.push(pending);
    }

    /// Hands the group to the writer; at most one group is in flight while the next one fills.
    async fn submit(&mut self) {
        if self.group.is_empty() {
            return;
        }
        self.settle().await;
        let group = std::mem::take(&mut self.group);
        let sops = group
            .iter()
            .map(|p| (p.indexed.sop_class.clone(), p.indexed.instance.clone()))
            .collect();
        let answer = self.archive.0.writers.submit(&self.scope, group);
        self.group_bytes = 0;
        self.in_flight = Some(InFlight { answer, sops, _budget: std::mem::take(&mut self.budget) });
    }

    async fn settle(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let Ok(outcomes) = in_flight.answer.await else {
            let error = ArchiveError::Internal(anyhow::anyhow!("a batch writer ended early"));
            return self.fail_all(in_flight.sops, &error);
        };
        for (placed, stored) in outcomes {
            match stored {
                Ok(stored) => self.note(placed, stored),
                Err(error) => {
                    let sop = (placed.indexed.sop_class, placed.indexed.instance);
                    self.fail_all(vec![sop], &error);
                }
            }
        }
    }

    fn fail_all(&mut self, sops: Vec<(Uid, Uid)>, error: &ArchiveError) {
        self.outcome.unavailable |= matches!(error, ArchiveError::Unavailable(_));
        for sop in sops {
            let detail = "the archive could not store the instance now".to_owned();
            self.fail(Some(sop), FailureReason::Processing, detail);
        }
    }

    fn note(&mut self, placed: Placed, stored: index::Stored) {
        let Indexed { sop_class, study, series, instance, warnings, .. } = placed.indexed;
        match stored {
            index::Stored::New { .. } => {
                count("stored");
                metrics::counter!(names::STORE_BYTES).increment(placed.length);
            }
            index::Stored::Identical => count("identical"),
            // Counted with every other failure.
            index::Stored::Conflict => {}
        }
        let identical_fails = self.archive.0.store.identical == Identical::Fail;
        match stored {
            index::Stored::Identical if identical_fails => {
                let detail = "the instance is already stored".to_owned();
                self.fail(Some((sop_class, instance)), FailureReason::DuplicateInstance, detail);
            }
            index::Stored::New { .. } | index::Stored::Identical => {
                self.outcome.stored.push(Stored { sop_class, study, series, instance, warnings });
            }
            index::Stored::Conflict => {
                let detail = "other bytes are stored under this SOP Instance UID";
                let reason = FailureReason::DuplicateInstance;
                self.fail(Some((sop_class, instance)), reason, detail.to_owned());
            }
        }
    }
}

/// Where the bytes of the part that is being read go.
enum State {
    /// Kept until it is known whether the instance is small.
    Small(Vec<Bytes>),
    /// Too large to wait in a group: already on its way to a blob of its own.
    Large { id: Uuid, upload: Box<Upload> },
    /// Failed; the rest of the part is only counted.
    Failed { sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String },
}

impl State {
    fn start() -> Self {
        Self::Small(Vec::new())
    }
}

/// Takes the bytes of one part. A fault of the part is remembered and told by
/// [`PartSink::finish`]; the bytes that still come are then dropped.
pub struct PartSink<'a> {
    session: &'a mut StoreSession,
    reader: Reader<Indexer>,
    sha256: Sha256,
    length: u64,
    state: State,
}

impl PartSink<'_> {
    /// Takes the next bytes of the part. Waits while the blob store is slower than the sender.
    pub async fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len() as u64;
        if matches!(self.state, State::Failed { .. }) {
            return;
        }
        for slice in bytes.chunks(SLICE) {
            self.sha256.update(slice);
            let mut left = slice;
            loop {
                match self.reader.push_some(&mut left) {
                    Ok(more) => {
                        tokio::task::consume_budget().await;
                        if !more {
                            break;
                        }
                    }
                    Err(error) => return self.fail_reading(&error).await,
                }
            }
        }
        if let Err(error) = self.keep(bytes).await {
            self.fail_storing(error.into()).await;
        }
    }

    async fn keep(&mut self, bytes: Bytes) -> Result<(), crate::blob::BlobError> {
        let own_blob = self.session.archive.0.store.own_blob_bytes;
        match &mut self.state {
            State::Small(chunks) => {
                chunks.push(bytes);
                if self.length > own_blob {
                    let id = Uuid::new_v4();
                    let blobs = self.session.archive.0.blobs.within(self.session.scope.partition());
                    let mut upload = Box::new(blobs.upload(id).await?);
                    for chunk in std::mem::take(chunks) {
                        upload.push(chunk).await?;
                    }
                    self.state = State::Large { id, upload };
                }
                Ok(())
            }
            State::Large { upload, .. } => upload.push(bytes).await,
            State::Failed { .. } => Ok(()),
        }
    }

    /// The part is complete: checks it, and stores it or hands it to the group.
    pub async fn finish(mut self) {
        match std::mem::replace(&mut self.state, State::start()) {
            State::Failed { sop, reason, detail } => self.session.fail(sop, reason, detail),
            State::Small(chunks) => {
                let (length, sha256) = (self.length, self.sha256.finalize().into());
                match read_through(self.session.study.as_ref(), self.reader) {
                    Ok((indexed, metadata)) => {
                        if let Err(error) = self.session.prepare().await {
                            let sop = (indexed.sop_class, indexed.instance);
                            return self.session.fail_all(vec![sop], &error);
                        }
                        let pending = Pending { indexed, metadata, sha256, chunks, length };
                        self.session.add(pending).await;
                    }
                    Err(Failed { sop, reason, detail }) => self.session.fail(sop, reason, detail),
                }
            }
            State::Large { id, upload } => {
                let (length, sha256) = (self.length, self.sha256.finalize().into());
                match read_through(self.session.study.as_ref(), self.reader) {
                    Ok((indexed, metadata)) => {
                        let row = Placed { indexed, metadata, sha256, offset: 0, length };
                        self.session.store_large(id, *upload, row).await;
                    }
                    Err(Failed { sop, reason, detail }) => {
                        discard(*upload).await;
                        self.session.fail(sop, reason, detail);
                    }
                }
            }
        }
    }

    /// Writes what waits from earlier parts, see [`StoreSession::flush`].
    pub async fn flush(&mut self) {
        self.session.flush().await;
    }

    /// The part is longer than an instance may be; its rest is not read.
    pub async fn refuse_too_large(mut self, limit: u64) {
        self.fail_reading(&DicomError::Limit { key: "limits.instance_bytes", limit }).await;
        self.finish().await;
    }

    /// The part ended before it was complete: the client went away or broke its own framing.
    pub async fn abandon(self) {
        if let State::Large { upload, .. } = self.state {
            discard(*upload).await;
        }
    }

    async fn fail_reading(&mut self, error: &DicomError) {
        let sop = self.reader.sink().sop();
        let (reason, detail) = explain(error);
        self.fail_with(sop, reason, detail).await;
    }

    async fn fail_storing(&mut self, error: ArchiveError) {
        tracing::error!(partition = %self.session.scope.partition(), error = &error as &dyn std::error::Error, "an instance could not be written");
        self.session.outcome.unavailable |= matches!(error, ArchiveError::Unavailable(_));
        let sop = self.reader.sink().sop();
        let detail = "the archive could not store the instance now".to_owned();
        self.fail_with(sop, FailureReason::Processing, detail).await;
    }

    async fn fail_with(&mut self, sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String) {
        let failed = State::Failed { sop, reason, detail };
        if let State::Large { upload, .. } = std::mem::replace(&mut self.state, failed) {
            discard(*upload).await;
        }
    }
}

impl StoreSession {
    async fn store_large(&mut self, id: Uuid, upload: Upload, row: Placed) {
        let stored = async {
            self.prepare().await?;
            upload.finish().await?;
            let blob = NewBlob { id, length: row.length };
            let rows = std::slice::from_ref(&row);
            self.archive.0.writers.commit(&self.scope, &blob, rows).await
        };
        let error = match stored.await.map(|stored| stored.into_iter().next()) {
            Ok(Some(stored)) => return self.note(row, stored),
            Ok(None) => ArchiveError::Internal(anyhow::anyhow!("no outcome for an instance")),
            Err(error) => error,
        };
        tracing::error!(
            partition = %self.scope.partition(),
            error = &error as &dyn std::error::Error,
            "an instance could not be stored"
        );
        self.fail_all(vec![(row.indexed.sop_class, row.indexed.instance)], &error);
    }
}

/// Counts one instance of a Store request.
fn count(outcome: &'static str) {
    metrics::counter!(names::STORE_INSTANCES, names::OUTCOME => outcome).increment(1);
}

/// Takes back what was uploaded. What cannot be taken back now is an orphan, which the sweeper
/// removes.
async fn discard(upload: Upload) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an upload was left to the sweeper"
        );
    }
}

/// Ends the reading of a part: what the index needs to know, and the metadata as it is kept.
fn read_through(
    study: Option<&Uid>,
    reader: Reader<Indexer>,
) -> Result<(Indexed, Vec<u8>), Failed> {
    let sop = reader.sink().sop();
    let indexed = reader.finish().and_then(Indexer::finish).map_err(|error| {
        let (reason, detail) = explain(&error);
        Failed { sop, reason, detail }
    })?;
    let sop = Some((indexed.sop_class.clone(), indexed.instance.clone()));
    if study.is_some_and(|study| *study != indexed.study) {
        return Err(Failed {
            sop,
            reason: FailureReason::DoesNotMatchSopClass,
            detail: "(0020,000D) is not the study of the request URL".to_owned(),
        });
    }
    match zstd::bulk::compress(&indexed.metadata, ZSTD_LEVEL) {
        Ok(metadata) => Ok((indexed, metadata)),
        Err(_) => Err(Failed {
            sop,
            reason: FailureReason::Processing,
            detail: "the metadata could not be compressed".to_owned(),
        }),
    }
}

/// The reason code and words for a part that cannot be read.
fn explain(error: &DicomError) -> (FailureReason, String) {
    let reason = match error {
        DicomError::NotDicom
        | DicomError::Truncated { .. }
        | DicomError::Malformed { .. }
        | DicomError::Inflate => FailureReason::CannotUnderstand,
        DicomError::Missing { .. } | DicomError::InvalidUid { .. } => {
            FailureReason::DoesNotMatchSopClass
        }
        DicomError::Limit { .. } => FailureReason::OutOfResources,
    };
    (reason, error.to_string())
}
