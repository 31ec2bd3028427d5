//! Store: parts of one request in, an outcome out (PS3.18 §10.5).
//!
//! Holds: small instances wait in groups, which are bounded by what they hold in memory, together
//! with those of all other requests, and in time. A part that fails fails alone. Absent: reading a
//! part (`part`), writing a group (`writer`).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use super::{
    Archive, ArchiveError,
    coerce::Coercion,
    part::PartSink,
    rejection::{MayReject, Undecided},
    writer::{Answer, Pending, Row},
};
use crate::{
    blob::Upload,
    config::Identical,
    dicom::{
        Tag, Uid,
        index::{Indexed, Warning},
    },
    index::{self, IndexError, NewBlob},
    telemetry::names,
    tenancy::PartitionScope,
};

/// Longest time that a complete instance waits for others of its request: what a client sends
/// slowly must not hold the budget that all requests share.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Groups of one request that are written while the next one fills: one whose bytes go to the blob
/// store, and one that commits.
const IN_FLIGHT: usize = 2;

/// Why one instance was not stored: the codes of (0008,1197) (PS3.18 Table I.2-2, PS3.7 §C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// 0110H: the archive could not do it.
    Processing,
    /// 0111H: the partition holds other bytes under this SOP Instance UID, or has hidden it for a
    /// rejection note.
    DuplicateInstance,
    /// A700H: a limit of the archive was exceeded.
    OutOfResources,
    /// 0124H: a rejection note by somebody who may not reject.
    NotAuthorized,
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
            Self::NotAuthorized => 0x0124,
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
    /// Its place; of a Non-Patient Instance its own UID.
    pub study: Uid,
    /// Its place; of a Non-Patient Instance its own UID.
    pub series: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// Whether it is known to have been there before, the same.
    pub is_identical: bool,
    /// What was wrong but did not hinder.
    pub warnings: Vec<Warning>,
    /// Attributes that are stored otherwise than they came.
    pub coerced: Vec<Tag>,
    /// The item of (0400,0561) that tells of it, as DICOM JSON, where it was stored now.
    pub original: Option<Box<str>>,
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
}

/// One Store request.
pub struct StoreSession {
    pub(super) archive: Archive,
    pub(super) scope: PartitionScope,
    pub(super) study: Option<Uid>,
    prepare: Option<BoxFuture<'static, Result<(), IndexError>>>,
    /// `prepare` was tried and failed: nothing may be stored.
    unprepared: bool,
    /// See [`StoreSession::rejecting`]; `None` once it was asked, or may not.
    pub(super) may_reject: Option<MayReject>,
    pub(super) rejects: Result<bool, Undecided>,
    /// What is coerced of what comes here; `None`: nothing.
    pub(super) coercion: Option<Arc<Coercion>>,
    group: Vec<Pending>,
    /// What the group holds in memory, and since when; see [`Pending::weight`].
    group_weight: u64,
    group_since: Instant,
    in_flight: VecDeque<InFlight>,
    pub(super) outcome: Outcome,
}

/// What instances hold in memory from when they are complete until they are written, all requests
/// together, in KiB permits. A permit goes with its instance, so that it is given back when the
/// memory is, whatever became of the request.
#[derive(Clone)]
pub(super) struct Budget {
    semaphore: Arc<Semaphore>,
    all: u32,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        Self { semaphore: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Permits for something that weighs `bytes`. What weighs more than there is takes all of it,
    /// and is written alone.
    fn permits(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.all)
    }
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
            coercion: Coercion::of(&self.0.store.coerce, &scope),
            archive: self.clone(),
            scope,
            study,
            prepare: Some(prepare),
            unprepared: false,
            may_reject: None,
            rejects: Ok(false),
            group: Vec::new(),
            group_weight: 0,
            group_since: Instant::now(),
            in_flight: VecDeque::new(),
            outcome: Outcome::default(),
        }
    }
}

impl StoreSession {
    /// Begins a part.
    pub fn part(&mut self) -> PartSink<'_> {
        PartSink::new(self)
    }

    /// Notes a part that is no instance at all, for example of another media type.
    pub fn refuse_part(&mut self, detail: String) {
        self.fail(None, FailureReason::CannotUnderstand, detail);
    }

    /// Notes an instance that cannot be written, known by these UIDs.
    pub fn refuse_instance(
        &mut self,
        sop: Option<(Uid, Uid)>,
        reason: FailureReason,
        detail: String,
    ) {
        self.fail(sop, reason, detail);
    }

    /// Parts that have failed so far.
    pub fn failures(&self) -> usize {
        self.outcome.failed.len()
    }

    /// Writes what waits, because no more bytes are coming for a while: what is complete becomes
    /// durable, and its share of the budget is not held for a slow client.
    pub async fn flush(&mut self) {
        self.submit().await;
        while self.settle().await {}
    }

    /// Writes what waits and tells what became of everything.
    pub async fn finish(mut self) -> Outcome {
        self.flush().await;
        self.outcome
    }

    pub(super) fn fail(&mut self, sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String) {
        count("failed");
        self.outcome.failed.push(Failed { sop, reason, detail });
    }

    /// Makes sure that the partition exists, the first time that something is to be stored.
    pub(super) async fn prepare(&mut self) -> Result<(), ArchiveError> {
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

    /// Writes the group if it has waited for long.
    pub(super) async fn submit_overdue(&mut self) {
        if !self.group.is_empty() && self.group_since.elapsed() >= LONGEST_WAIT {
            self.submit().await;
        }
    }

    pub(super) async fn add(&mut self, mut pending: Pending) {
        let weight = pending.weight();
        let is_full = self.group_weight + weight > self.archive.0.store.batch_bytes;
        // Notes go with notes: they fail, and wait, without the others.
        let is_note = |one: &Pending| self.archive.0.rejection.of(&one.indexed).is_some();
        let is_other = self.group.last().is_some_and(|last| is_note(last) != is_note(&pending));
        if is_full || is_other {
            self.submit().await;
        }
        let budget = self.archive.0.budget.clone();
        let permits = budget.permits(weight);
        pending.budget = match budget.semaphore.clone().try_acquire_many_owned(permits) {
            Ok(permit) => Some(permit),
            Err(_) => {
                // Nothing of ours may be held while we wait, or two such requests could wait for
                // each other.
                self.submit().await;
                budget.semaphore.acquire_many_owned(permits).await.ok()
            }
        };
        if self.group.is_empty() {
            self.group_since = Instant::now();
        }
        self.group_weight += weight;
        self.group.push(pending);
    }

    /// Hands the group to the writer.
    async fn submit(&mut self) {
        if self.group.is_empty() {
            return;
        }
        while self.in_flight.len() >= IN_FLIGHT {
            self.settle().await;
        }
        let group = std::mem::take(&mut self.group);
        let sops = group
            .iter()
            .map(|p| (p.indexed.sop_class.clone(), p.indexed.instance.clone()))
            .collect();
        let answer = self.archive.0.writers.submit(&self.scope, group);
        self.group_weight = 0;
        self.in_flight.push_back(InFlight { answer, sops });
    }

    /// Waits for the oldest group in flight; `false`: there is none.
    async fn settle(&mut self) -> bool {
        let Some(in_flight) = self.in_flight.pop_front() else { return false };
        let answer = in_flight.answer.await.unwrap_or_else(|_| {
            let error = anyhow::anyhow!("a batch writer ended early");
            Err(Arc::new(ArchiveError::Internal(error)))
        });
        match answer {
            Err(error) => self.fail_all(in_flight.sops, &error),
            Ok(outcomes) => {
                for (blob, row, stored) in outcomes {
                    match stored {
                        Ok(stored) => self.compare_and_note(blob, row, stored).await,
                        Err(error) => {
                            let sop = (row.indexed.sop_class, row.indexed.instance);
                            self.fail_all(vec![sop], &error);
                        }
                    }
                }
            }
        }
        true
    }

    pub(super) fn fail_all(&mut self, sops: Vec<(Uid, Uid)>, error: &ArchiveError) {
        self.outcome.unavailable |= matches!(error, ArchiveError::Unavailable(_));
        for sop in sops {
            let detail = "the archive could not store the instance now".to_owned();
            self.fail(Some(sop), FailureReason::Processing, detail);
        }
    }

    /// Notes what became of an instance whose bytes are in a blob. One whose data set is stored is no
    /// conflict, whatever stands before that in its file.
    async fn compare_and_note(&mut self, blob: Uuid, row: Row, stored: index::Stored) {
        if stored != index::Stored::Conflict {
            return self.note(row, stored);
        }
        let (archive, scope) = (self.archive.clone(), self.scope.clone());
        match archive.is_resent(&scope, blob, &row).await {
            Ok(true) => self.note(row, index::Stored::Identical),
            Ok(false) => self.note(row, stored),
            Err(error) => {
                tracing::error!(
                    partition = %self.scope.partition(),
                    error = %error.chain(),
                    "an instance could not be held against the one that is stored"
                );
                self.fail_all(vec![(row.indexed.sop_class, row.indexed.instance)], &error);
            }
        }
    }

    fn note(&mut self, row: Row, stored: index::Stored) {
        let Indexed { sop_class, study, series, instance, warnings, .. } = row.indexed;
        let (coerced, original) =
            row.coerced.map(|coerced| (coerced.tags, coerced.original)).unwrap_or_default();
        // What is there already was coerced at another time.
        let original = original.filter(|_| matches!(stored, index::Stored::New { .. }));
        match stored {
            index::Stored::New { .. } => {
                count("stored");
                metrics::counter!(names::STORE_BYTES).increment(row.length);
            }
            index::Stored::Identical => count("identical"),
            // Counted with every other failure.
            index::Stored::Conflict | index::Stored::Rejected => {}
        }
        let identical_fails = self.archive.0.store.identical == Identical::Fail;
        match stored {
            index::Stored::Identical if identical_fails => {
                let detail = "the instance is already stored".to_owned();
                self.fail(Some((sop_class, instance)), FailureReason::DuplicateInstance, detail);
            }
            index::Stored::New { .. } | index::Stored::Identical => {
                let is_identical = matches!(stored, index::Stored::Identical);
                self.outcome.stored.push(Stored {
                    sop_class,
                    study,
                    series,
                    instance,
                    is_identical,
                    warnings,
                    coerced,
                    original,
                });
            }
            index::Stored::Conflict => {
                let detail = "other bytes are stored under this SOP Instance UID";
                let reason = FailureReason::DuplicateInstance;
                self.fail(Some((sop_class, instance)), reason, detail.to_owned());
            }
            index::Stored::Rejected => {
                let detail = "a rejection note in force names the instance, which came before";
                let reason = FailureReason::DuplicateInstance;
                self.fail(Some((sop_class, instance)), reason, detail.to_owned());
            }
        }
    }
}

impl StoreSession {
    pub(super) async fn store_large(&mut self, id: Uuid, upload: Upload, row: Row) {
        let stored = async {
            self.prepare().await?;
            upload.finish().await?;
            let blob = NewBlob { id, length: row.length };
            self.archive.0.writers.commit(&self.scope, &blob, std::slice::from_ref(&row)).await
        };
        let error = match stored.await.map(|stored| stored.into_iter().next()) {
            Ok(Some(stored)) => return self.compare_and_note(id, row, stored).await,
            Ok(None) => ArchiveError::Internal(anyhow::anyhow!("no outcome for an instance")),
            Err(error) => error,
        };
        tracing::error!(
            partition = %self.scope.partition(),
            error = %error.chain(),
            "an instance could not be stored"
        );
        self.fail_all(vec![(row.indexed.sop_class, row.indexed.instance)], &error);
    }
}

/// Counts one instance of a Store request.
fn count(outcome: &'static str) {
    metrics::counter!(names::STORE_INSTANCES, names::OUTCOME => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asks_for_more_than_the_whole_budget() {
        let budget = Budget::new(64 * 1024);
        assert_eq!(budget.permits(1), 1);
        assert_eq!(budget.permits(1025), 2);
        assert_eq!(budget.permits(64 * 1024), 64);
        assert_eq!(budget.permits(u64::MAX), 64, "else it would wait for ever");
        assert_eq!(budget.semaphore.available_permits(), 64);
    }
}
