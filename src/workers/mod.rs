//! Background tasks: what keeps the archive tidy without being asked.
//!
//! Owns the one loop that every task runs in ([`start`]) and the tasks: [`Sweep`] (blobs that no
//! row knows), [`Remove`] (blobs whose last instance was deleted), [`Compact`] (blobs that are
//! mostly dead), [`Reindex`] (extended query tags), [`Update`] (changes of attributes), [`Feed`]
//! (events of change feeds), [`Scrub`] (damage), [`Commit`] (storage commitment), [`Worklist`]
//! (workitems that have ended), [`Transfer`] (imports and exports) and [`Audit`] (the chain of the
//! audit log); and [`Webhooks`] and [`AuditExport`], which have loops of their own. Holds:
//! - A task takes no input, works from the database, and may be stopped or killed at any point and
//!   run again; several servers may run the same task at once.
//! - A task visits one partition at a time, with that partition's scope. (What finds out which of
//!   them have webhooks to be told looks at all, and learns ids alone.)
//! - The loop never ends by itself: an error or a panic is logged, counted, and tried again later.
//!
//! Absent: tasks that belong to a request.

mod audit;
mod audit_export;
mod commit;
mod compact;
mod feed;
mod lease;
mod reindex;
mod remove;
mod scrub;
mod sweep;
mod transfer;
mod update;
mod webhook_delivery;
mod webhooks;
mod worklist;

use std::{error::Error, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use rand::{RngExt, seq::SliceRandom};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use audit::Audit;
pub use audit_export::AuditExport;
pub use commit::Commit;
pub use compact::Compact;
pub use feed::Feed;
pub use reindex::Reindex;
pub use remove::Remove;
pub use scrub::Scrub;
pub use sweep::Sweep;
pub use transfer::Transfer;
pub use update::Update;
pub use webhooks::Webhooks;
pub use worklist::Worklist;

use crate::{
    blob::BlobError,
    index::{Db, IndexError},
    telemetry::names,
    tenancy::PartitionId,
    verify::VerifyError,
};

/// First wait after an error; doubled with each further one, up to the interval.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before the first round. Waits are drawn at random, so that servers that start
/// together do not work in step.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// One kind of background task.
pub trait Worker: Send + Sync + 'static {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Does what there is to do, or a bounded part of it.
    fn run_once(&self) -> impl Future<Output = Result<Done, WorkerError>> + Send;
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Things dealt with.
    pub items: u64,
    /// Things that failed and will be tried again.
    pub failed: u64,
    /// Whether there is more to do at once.
    pub more: bool,
    /// When there will be, where that is known and sooner than the interval.
    pub again: Option<Duration>,
}

impl Done {
    /// There will be something to do after `wait`.
    fn come_back(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
    }
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The index failed.
    #[error("the index failed a background task")]
    Index(#[from] IndexError),
    /// The blob store failed.
    #[error("the blob store failed a background task")]
    Blob(#[from] BlobError),
    /// The scrubber could not go on.
    #[error("what is stored could not be looked through")]
    Verify(#[from] VerifyError),
}

/// Runs the worker every `interval` (a tenth more or less), at once when woken by `wake`, until
/// `stop` is cancelled, which also cuts short the round under way.
pub fn start<W: Worker>(
    worker: W,
    interval: Duration,
    wake: Arc<Notify>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let work = keep_running(&worker, interval, &wake);
        // The round under way may be dropped anywhere: see the module's invariants.
        stop.run_until_cancelled(work).await;
    })
}

async fn keep_running<W: Worker>(worker: &W, interval: Duration, wake: &Notify) {
    let mut wait = interval.min(FIRST_WAIT).mul_f64(rand::rng().random_range(0.0..1.0));
    let mut failures = 0;
    loop {
        // Either will do; a wake-up that came during the round is kept by `Notify`.
        let _ = tokio::time::timeout(wait, wake.notified()).await;
        let round = run(worker).await;
        wait = match round {
            Round::Ok { next } => {
                failures = 0;
                next.map_or(interval, |next| next.min(interval))
            }
            Round::Failed => {
                failures += 1;
                back_off(RETRY_FIRST, failures, interval)
            }
        };
        wait = wait.mul_f64(rand::rng().random_range(0.9..1.1));
    }
}

enum Round {
    /// When the next one is wanted, where that is known.
    Ok {
        next: Option<Duration>,
    },
    Failed,
}

/// One round, with whatever may happen in it.
async fn run<W: Worker>(worker: &W) -> Round {
    let (name, begun) = (worker.name(), Instant::now());
    // A worker that panicked is used again: it holds no state that a round could leave half-made.
    let ended = AssertUnwindSafe(worker.run_once()).catch_unwind().await;
    let round = match ended {
        Ok(Ok(done)) => {
            if done != Done::default() {
                tracing::info!(worker = name, items = done.items, failed = done.failed, "round");
            }
            metrics::counter!(names::WORKER_ITEMS, names::WORKER => name).increment(done.items);
            Round::Ok { next: if done.more { Some(Duration::ZERO) } else { done.again } }
        }
        Ok(Err(error)) => {
            tracing::error!(worker = name, error = %Chain(&error), "round failed");
            Round::Failed
        }
        Err(_) => {
            tracing::error!(worker = name, "round panicked");
            Round::Failed
        }
    };
    let outcome = if matches!(round, Round::Ok { .. }) { "ok" } else { "error" };
    metrics::counter!(names::WORKER_RUNS, names::WORKER => name, names::OUTCOME => outcome)
        .increment(1);
    metrics::histogram!(names::WORKER_SECONDS, names::WORKER => name).record(begun.elapsed());
    round
}

/// `first`, doubled with each failure after the first, at most `cap`.
fn back_off(first: Duration, failures: u32, cap: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(cap)
}

/// The partitions to visit, in random order: one that fails every round must not keep those after
/// it from ever being visited.
async fn partitions(db: &Db) -> Result<Vec<PartitionId>, IndexError> {
    let listed = db.registry().await?.partition_list().await?;
    let mut ids: Vec<PartitionId> = listed.into_iter().map(|partition| partition.id).collect();
    ids.shuffle(&mut rand::rng());
    Ok(ids)
}

/// An error and what lies below it, on one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut below = self.0.source();
        while let Some(error) = below {
            write!(f, ": {error}")?;
            below = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;

    /// Tells of each round, and ends it as told.
    struct Told {
        rounds: mpsc::UnboundedSender<()>,
        ends: Mutex<mpsc::UnboundedReceiver<&'static str>>,
    }

    impl Worker for Told {
        fn name(&self) -> &'static str {
            "told"
        }

        async fn run_once(&self) -> Result<Done, WorkerError> {
            self.rounds.send(()).unwrap();
            let end = self.ends.lock().unwrap().try_recv().unwrap_or("done");
            match end {
                "error" => Err(IndexError::Busy.into()),
                "panic" => std::panic::resume_unwind(Box::new("told to")),
                "more" => Ok(Done { items: 1, more: true, ..Done::default() }),
                "again" => Ok(Done { again: Some(Duration::from_millis(1)), ..Done::default() }),
                "hang" => std::future::pending().await,
                _ => Ok(Done::default()),
            }
        }
    }

    #[tokio::test]
    async fn the_loop_outlives_errors_and_panics_and_ends_when_told() {
        let (rounds, mut seen) = mpsc::unbounded_channel();
        let (tell, ends) = mpsc::unbounded_channel();
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let worker = Told { rounds, ends: Mutex::new(ends) };
        let day = Duration::from_secs(86_400);
        let task = start(worker, day, wake.clone(), stop.clone());
        for end in ["error", "panic", "done", "hang"] {
            tell.send(end).unwrap();
            wake.notify_one();
            seen.recv().await.unwrap();
        }
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_round_that_has_more_to_do_is_followed_by_another() {
        let (rounds, mut seen) = mpsc::unbounded_channel();
        let (tell, ends) = mpsc::unbounded_channel();
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        for end in ["more", "again", "done"] {
            tell.send(end).unwrap();
        }
        let worker = Told { rounds, ends: Mutex::new(ends) };
        let day = Duration::from_secs(86_400);
        let task = start(worker, day, wake.clone(), stop.clone());
        wake.notify_one();
        for _ in 0..3 {
            seen.recv().await.unwrap();
        }
        stop.cancel();
        task.await.unwrap();
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let (first, cap) = (Duration::from_secs(1), Duration::from_secs(10));
        let waits = [1, 2, 3, 4, 5, u32::MAX].map(|n| back_off(first, n, cap).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }
}
