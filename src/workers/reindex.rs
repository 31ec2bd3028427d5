//! The reindex: does what extended query tags leave to the background.
//!
//! In each partition: meets tags of the root that nobody has met there, removes the values of tags
//! that are being deleted, and works on the oldest operation, a bite at a time, so that one tenant's
//! archive does not keep the others' waiting. A share of the time is left to requests.
//!
//! Holds: a root tag leaves the registry only after a round in which no partition had a row of it;
//! nobody makes one meanwhile, since it is being deleted.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, lease, partitions};
use crate::{
    config::OperationsConfig,
    index::{Claim, Db, IndexError, Reindexing, Step, TagStatus, Work},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Time for one partition in a round.
const BITE: Duration = Duration::from_secs(2);
/// Longest pause between two batches: shorter than a lease.
const PAUSE: Duration = Duration::from_secs(1);
/// Values removed with one transaction.
const REMOVED: i64 = 1_000;

/// Works on operations and removes what deleted tags left.
#[derive(Debug)]
pub struct Reindex {
    db: Db,
    /// Who holds claims.
    owner: Uuid,
    share: f64,
    retention: Duration,
}

impl Reindex {
    /// A worker that holds its claims under a name of its own.
    pub fn new(db: Db, config: &OperationsConfig) -> Self {
        let (share, retention) = (config.reindex_share, config.retention);
        Self { db, owner: Uuid::new_v4(), share, retention }
    }

    /// Does a bite of what there is to do in a partition. Takes tags out of `dying` of which the
    /// partition still has something.
    async fn partition(
        &self,
        id: &PartitionId,
        dying: &mut BTreeSet<i64>,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        let known = tx.tags_known().await?;
        if known.iter().any(|tag| !tag.is_met && tag.status == TagStatus::Adding) {
            tx.tags_meet().await?;
        }
        tx.operations_forget(self.retention).await?;
        let work = tx.operation_claim::<Reindexing>(self.owner).await?;
        tx.commit().await?;
        for tag in known.iter().filter(|tag| tag.is_met && tag.status == TagStatus::Deleting) {
            if !self.remove(&scope, tag.id, done).await? {
                dying.remove(&tag.id);
                done.more = true;
            }
        }
        match work {
            Work::Nothing => {}
            Work::Later(wait) => done.come_back(wait),
            Work::Now(claim) => self.work(&scope, claim, done).await?,
        }
        Ok(())
    }

    /// Removes what a tag that is being deleted left; says whether all of it is gone.
    async fn remove(
        &self,
        scope: &PartitionScope,
        id: i64,
        done: &mut Done,
    ) -> Result<bool, WorkerError> {
        let begun = Instant::now();
        while begun.elapsed() < BITE {
            let at = Instant::now();
            let mut tx = self.db.begin_in(scope).await?;
            let gone = tx.tag_values_remove(id, REMOVED).await?;
            if gone == 0 {
                tx.tag_remove(id).await?;
            }
            tx.commit().await?;
            done.items += gone;
            if gone == 0 {
                return Ok(true);
            }
            self.pause(at).await;
        }
        Ok(false)
    }

    /// Works on a claimed operation.
    async fn work(
        &self,
        scope: &PartitionScope,
        mut claim: Claim<Reindexing>,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        let begun = Instant::now();
        let mut has_failed = false;
        while begun.elapsed() < BITE {
            let at = Instant::now();
            match self.db.reindex_step(scope, &mut claim, self.owner).await {
                Ok(Step::Indexed { instances, failed }) => {
                    count("indexed", instances - failed.min(instances));
                    count("failed", failed);
                    done.items += instances;
                }
                Ok(Step::Ended) => {
                    tracing::info!(partition = %scope.partition(), operation = %claim.id, "ended");
                    // There may be another.
                    done.more = true;
                    return Ok(());
                }
                Ok(Step::Lost) => return Ok(()),
                Err(error) => {
                    // A race is tried again at once, by whoever comes first.
                    has_failed = !error.is_retryable();
                    self.failed(scope, &claim, &error);
                    done.failed += 1;
                    break;
                }
            }
            self.pause(at).await;
        }
        lease::release(&self.db, scope, &claim, self.owner, has_failed).await?;
        if has_failed {
            done.come_back(PAUSE);
        } else {
            done.more = true;
        }
        Ok(())
    }

    fn failed(&self, scope: &PartitionScope, claim: &Claim<Reindexing>, error: &IndexError) {
        let (partition, operation) = (scope.partition(), claim.id);
        tracing::warn!(%partition, %operation, error = %Chain(error), "a batch failed");
    }

    /// Leaves to requests the time that is theirs after a batch that began at `at`.
    async fn pause(&self, at: Instant) {
        let rest = at.elapsed().mul_f64((1.0 - self.share) / self.share);
        tokio::time::sleep(rest.min(PAUSE)).await;
    }
}

fn count(outcome: &'static str, instances: u64) {
    metrics::counter!(names::REINDEX_INSTANCES, names::OUTCOME => outcome).increment(instances);
}

impl Worker for Reindex {
    fn name(&self) -> &'static str {
        "reindex"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        let root = self.db.registry().await?.root_tags().await?;
        let deleting = root.iter().filter(|tag| tag.status == TagStatus::Deleting);
        let mut dying: BTreeSet<i64> = deleting.map(|tag| tag.id).collect();
        // Read after the tags: partitions that come later never met one that is being deleted.
        for id in partitions(&self.db).await? {
            self.partition(&id, &mut dying, &mut done).await?;
        }
        if !dying.is_empty() {
            let mut registry = self.db.registry().await?;
            for id in dying {
                registry.root_tag_remove(id).await?;
            }
            registry.commit().await?;
        }
        Ok(done)
    }
}
