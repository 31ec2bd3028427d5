//! The audit log of what changes nothing: reads, refusals and failures, written behind the request;
//! and reading the log.
//!
//! An event of this kind is handed to a queue and written in batches by one task, so that no request
//! waits for it. Holds: where the queue is full the event is lost and counted, and what was lost is
//! itself told in the log of the platform once there is room; who is nobody takes no more than half of
//! the queue; at the end of the server what waits is written. An event is in no log of a partition
//! that does not exist, or that who asked cannot reach. (Changes are on the record by their own
//! transactions, see `index`.)

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Partitions;
use crate::{
    audit::{Event, Outcome},
    config::{AuditConfig, AuditReads},
    index::{AuditCursor, AuditEntry, AuditFilter, Db, IndexError},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Permission, Principal, Scope},
};

/// Most events that one transaction writes.
const BATCH: usize = 500;
/// Time that an event waits for others: each batch is a transaction, which costs far more than an event.
const GATHER: Duration = Duration::from_millis(250);
/// Wait after a batch that the index did not take, doubled with each further one, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(15);
/// Time for all that waits, when the server ends.
const FAREWELL: Duration = Duration::from_secs(10);
/// Partitions of one request that each get the event; beyond, the platform's log has it.
const MANY: usize = 64;

/// Where an event belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditPlace {
    /// In the log of the platform.
    Platform,
    /// In the log of this partition, once it exists; else in that of the platform, with its name.
    Partition(PartitionId),
    /// In the logs of these, which exist; in that of the platform where it is none, or too many.
    Partitions(Vec<PartitionId>),
}

/// An event on its way.
#[derive(Clone, Debug)]
pub struct AuditNote {
    /// What happened. The partition is not read.
    pub event: Event,
    /// Where it belongs.
    pub place: AuditPlace,
    /// Whether a change was asked for.
    pub changes: bool,
}

/// The log, for who adds to it and who reads it. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    db: Db,
    partitions: Partitions,
    notes: mpsc::Sender<AuditNote>,
    /// What the writer takes from, until it has been started.
    taken: Mutex<Option<mpsc::Receiver<AuditNote>>>,
    records_reads: bool,
    queries: bool,
    lost: Lost,
}

/// Events that found no room, since it was last told.
#[derive(Default)]
struct Lost {
    reads: AtomicU64,
    changes: AtomicU64,
}

impl Lost {
    fn add(&self, changes: bool, count: u64) -> u64 {
        let (of, kind) = if changes { (&self.changes, "change") } else { (&self.reads, "read") };
        metrics::counter!(names::AUDIT_LOST, names::KIND => kind).increment(count);
        of.fetch_add(count, Ordering::Relaxed)
    }
}

impl AuditLog {
    /// The log over an index; `is_authenticated`: whether requests have principals.
    pub fn new(
        db: Db,
        partitions: Partitions,
        config: &AuditConfig,
        is_authenticated: bool,
    ) -> Self {
        let (notes, taken) = mpsc::channel(config.queue);
        Self(Arc::new(Inner {
            db,
            partitions,
            notes,
            taken: Mutex::new(Some(taken)),
            records_reads: match config.reads {
                AuditReads::Authenticated => is_authenticated,
                AuditReads::Always => true,
                AuditReads::Never => false,
            },
            queries: config.queries,
            lost: Lost::default(),
        }))
    }

    /// Whether reads are on the record.
    pub fn records_reads(&self) -> bool {
        self.0.records_reads
    }

    /// Whether queries of searches are.
    pub fn records_queries(&self) -> bool {
        self.0.queries
    }

    /// Takes an event to be written; does not wait.
    pub fn put(&self, note: AuditNote) {
        let changes = note.changes;
        if !offer(&self.0.notes, note) && self.0.lost.add(changes, 1) == 0 {
            tracing::error!("too many events of the audit log wait: more are lost from here on");
        }
    }

    /// In whose log is what belongs to no partition: while partitions are off all is in one.
    pub fn platform(&self) -> PartitionId {
        match self.0.partitions.enabled() {
            true => PartitionId::platform(),
            false => PartitionId::default(),
        }
    }

    /// What reads the log of the platform, for who may: operators whose credential is not for less,
    /// and everybody while there are no principals.
    pub fn platform_scope(&self, who: &Principal) -> Option<PartitionScope> {
        let may = match who {
            Principal::Anonymous => true,
            Principal::Known(known) => known.is_operator && known.limit.has(Permission::ReadAudit),
        };
        #[expect(clippy::disallowed_methods, reason = "it is no partition that anybody decides of")]
        may.then(|| Scope::for_maintenance(&self.platform()))
    }

    /// Events of a log that fit, newest first, `limit` at most.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn entries(
        &self,
        scope: &PartitionScope,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, IndexError> {
        self.0.db.begin_in(scope).await?.audit_entries(filter, after, limit).await
    }

    /// Starts what writes events, until `end`; then it writes those that wait.
    pub fn start(&self, end: CancellationToken) -> JoinHandle<()> {
        let log = self.clone();
        tokio::spawn(async move {
            let Some(taken) = log.0.taken.lock().await.take() else { return };
            log.write(taken, Ending { end, until: OnceLock::new() }).await;
        })
    }

    async fn write(&self, mut taken: mpsc::Receiver<AuditNote>, end: Ending) {
        let mut notes = Vec::with_capacity(BATCH);
        loop {
            notes.clear();
            let ended = tokio::select! {
                biased;
                count = taken.recv_many(&mut notes, BATCH) => count == 0,
                () = end.end.cancelled() => true,
            };
            if ended && notes.is_empty() {
                break;
            }
            let _ = tokio::time::timeout(GATHER, gather(&mut taken, &mut notes, &end)).await;
            metrics::gauge!(names::AUDIT_WAITING).set(taken.len() as f64);
            self.write_all(std::mem::take(&mut notes), &end).await;
            self.tell_lost(&end).await;
        }
        metrics::gauge!(names::AUDIT_WAITING).set(0.0);
    }

    /// Writes events, each in its log.
    async fn write_all(&self, notes: Vec<AuditNote>, end: &Ending) {
        let mut logs: BTreeMap<PartitionId, Vec<(Event, bool)>> = BTreeMap::new();
        for note in notes {
            let AuditNote { mut event, place, changes } = note;
            let places = self.places(&mut event, place, end).await;
            for partition in places {
                let event = Event {
                    id: uuid::Uuid::new_v4(),
                    partition: partition.as_str().to_owned(),
                    ..event.clone()
                };
                logs.entry(partition).or_default().push((event, changes));
            }
        }
        for (partition, events) in logs {
            for batch in events.chunks(BATCH) {
                self.write_in(&partition, batch, end).await;
            }
        }
    }

    /// The logs that an event belongs in.
    async fn places(&self, event: &mut Event, place: AuditPlace, end: &Ending) -> Vec<PartitionId> {
        let platform = self.platform();
        match place {
            AuditPlace::Partitions(several) if (1..=MANY).contains(&several.len()) => several,
            AuditPlace::Partitions(_) | AuditPlace::Platform => vec![platform],
            AuditPlace::Partition(one) if one == platform => vec![one],
            AuditPlace::Partition(one) => {
                match retried(end, || self.0.partitions.exists(&one)).await {
                    Some(true) => vec![one],
                    Some(false) | None => {
                        event.detail.insert("partition".to_owned(), one.as_str().into());
                        vec![platform]
                    }
                }
            }
        }
    }

    async fn write_in(&self, partition: &PartitionId, batch: &[(Event, bool)], end: &Ending) {
        #[expect(clippy::disallowed_methods, reason = "behind the request, which may be over")]
        let scope = Scope::for_maintenance(partition);
        let events: Vec<Event> = batch.iter().map(|(event, _)| event.clone()).collect();
        let written = retried(end, || async {
            let mut tx = self.0.db.begin_in(&scope).await?;
            tx.audit_insert(&events).await?;
            tx.commit().await
        });
        if written.await.is_some() {
            metrics::counter!(names::AUDIT_WRITTEN).increment(events.len() as u64);
            self.0.db.unchained().note(partition);
        } else {
            for changes in [false, true] {
                let count = batch.iter().filter(|(_, own)| *own == changes).count() as u64;
                if count > 0 {
                    self.0.lost.add(changes, count);
                }
            }
        }
    }

    /// Puts on the record how much is not.
    async fn tell_lost(&self, end: &Ending) {
        let reads = self.0.lost.reads.swap(0, Ordering::Relaxed);
        let changes = self.0.lost.changes.swap(0, Ordering::Relaxed);
        if reads == 0 && changes == 0 {
            return;
        }
        tracing::error!(reads, changes, "events of the audit log were lost");
        let platform = self.platform();
        let mut event = Event::by_server("audit.lost", &platform, OffsetDateTime::now_utc());
        event.outcome = Outcome::Failed;
        event.detail.insert("reads".to_owned(), reads.into());
        event.detail.insert("changes".to_owned(), changes.into());
        self.write_in(&platform, &[(event, false)], end).await;
    }
}

/// Takes more events, until it is a batch, or the server ends. What was taken stays taken wherever this
/// is dropped.
async fn gather(taken: &mut mpsc::Receiver<AuditNote>, notes: &mut Vec<AuditNote>, end: &Ending) {
    while notes.len() < BATCH {
        let room = BATCH - notes.len();
        tokio::select! {
            count = taken.recv_many(notes, room) => if count == 0 { break },
            () = end.end.cancelled() => break,
        }
    }
}

/// Puts an event in the queue, if there is room for its like: who is nobody finds none in the second
/// half, so that a flood of requests without a credential leaves room for those that have one.
fn offer(notes: &mpsc::Sender<AuditNote>, note: AuditNote) -> bool {
    let is_nobody = note.event.who.kind == "unknown";
    if is_nobody && notes.capacity() <= notes.max_capacity() / 2 {
        return false;
    }
    notes.try_send(note).is_ok()
}

/// The end of the server, and of the time that is left then.
struct Ending {
    end: CancellationToken,
    until: OnceLock<Instant>,
}

impl Ending {
    /// Until when something is tried; `None`: as long as it takes. One moment for all that waits, so
    /// that a database which takes nothing does not hold up the end with each event.
    fn until(&self) -> Option<Instant> {
        self.end.is_cancelled().then(|| *self.until.get_or_init(|| Instant::now() + FAREWELL))
    }
}

/// Tries something until it succeeds, cannot, or time is up; `None`: it did not.
async fn retried<T, F>(end: &Ending, mut attempt: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, IndexError>>,
{
    let mut wait = RETRY_FIRST;
    loop {
        if end.until().is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let error = match attempt().await {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        tracing::warn!(error = %error, "an event of the audit log could not be written");
        if !error.is_unavailable() {
            return None;
        }
        if end.until().is_some() {
            wait = RETRY_FIRST;
            tokio::time::sleep(wait).await;
        } else {
            let _ = tokio::time::timeout(wait, end.end.cancelled()).await;
            wait = (wait * 2).min(RETRY_CAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::audit::Who;

    fn note(kind: &str) -> AuditNote {
        let at = OffsetDateTime::UNIX_EPOCH;
        let mut event = Event::by_server("studies.retrieve", &PartitionId::default(), at);
        event.who = Who::plain(kind);
        AuditNote { event, place: AuditPlace::Platform, changes: false }
    }

    #[test]
    fn a_flood_of_nobody_leaves_room_for_others() {
        let (notes, mut taken) = mpsc::channel(10);
        let nobody = (0..20).filter(|_| offer(&notes, note("unknown"))).count();
        let others = (0..20).filter(|_| offer(&notes, note("user"))).count();
        assert_eq!((nobody, others), (5, 5));
        assert!(taken.try_recv().is_ok() && !offer(&notes, note("unknown")));
        // The smallest queue takes what comes first.
        let (notes, _taken) = mpsc::channel(1);
        assert!(offer(&notes, note("unknown")) && !offer(&notes, note("user")));
    }

    #[tokio::test]
    async fn the_end_waits_once_for_a_database_that_is_gone() {
        let ending = Ending { end: CancellationToken::new(), until: OnceLock::new() };
        assert_eq!(ending.until(), None);
        ending.end.cancel();
        let until = ending.until();
        assert!(until.is_some() && ending.until() == until);
        // Once it is over, nothing is tried any more.
        let over = OnceLock::from(Instant::now());
        let ending = Ending { until: over, ..ending };
        let tried = AtomicUsize::new(0);
        for _ in 0..3 {
            let attempt = || async {
                tried.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(IndexError::Busy)
            };
            assert_eq!(retried(&ending, attempt).await, None);
        }
        assert_eq!(tried.into_inner(), 0);
    }
}
