//! The remover: removes blobs whose last instance was deleted and whose grace period is over, and
//! forgets tombstones that are old enough.
//!
//! What is due in a partition is an operation of kind `purge`, which one server works on at a time.
//! The store first, the row last: killed in between, the removal is repeated, and removing what is
//! gone is a success. No transaction is open while the store works. How often a removal was tried is
//! in the database; a store that does not answer delays removals and loses none.

use std::time::Duration;

use futures::StreamExt;
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, lease, partitions};
use crate::{
    blob::BlobStore,
    config::DeleteConfig,
    index::{Claim, Db, Purging, Waiting, Work},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Blobs claimed with one transaction.
const BATCH: i64 = 256;
/// Batches of one partition in one round, so that one tenant's large deletion does not keep the
/// others' waiting.
const BATCHES: usize = 16;
/// Tombstones forgotten in one transaction.
const FORGOTTEN: i64 = 1_000;
/// Shortest wait before an erasure under way is looked at again.
const ERASURE: Duration = Duration::from_secs(2);

/// Removes blobs awaiting removal.
#[derive(Debug)]
pub struct Remove {
    db: Db,
    blobs: BlobStore,
    /// Who holds claims.
    owner: Uuid,
    tombstones: Duration,
}

impl Remove {
    /// A remover that holds its claims under a name of its own.
    pub fn new(db: Db, blobs: BlobStore, config: &DeleteConfig) -> Self {
        Self { db, blobs, owner: Uuid::new_v4(), tombstones: config.tombstones }
    }

    async fn partition(
        &self,
        scope: &PartitionScope,
        all: &mut Waiting,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        tx.purge_create().await?;
        let work = tx.operation_claim::<Purging>(self.owner).await?;
        tx.commit().await?;
        match work {
            Work::Nothing => {}
            Work::Later(wait) => done.come_back(wait),
            Work::Now(claim) => self.purge(scope, claim, done).await?,
        }
        let mut tx = self.db.begin_in(scope).await?;
        let erasures = tx.erasures_settle().await?;
        let waiting = tx.removals_waiting().await?;
        tx.commit().await?;
        if erasures > 0 {
            done.come_back(waiting.next.map_or(ERASURE, |next| next.max(ERASURE)));
        }
        all.blobs += waiting.blobs;
        all.failed += waiting.failed;
        if !self.tombstones.is_zero() {
            self.forget(scope, done).await?;
        }
        Ok(())
    }

    /// Removes what is due, a bounded part of it.
    async fn purge(
        &self,
        scope: &PartitionScope,
        claim: Claim<Purging>,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        let mut failed = 0;
        for _ in 0..BATCHES {
            let batch = self.batch(scope, &claim, done);
            let Some((due, failures)) = batch.await? else { return Ok(()) };
            failed += failures;
            // A store that removes nothing is not asked for more.
            let is_down = due > 0 && failures == due;
            if due < BATCH as usize || is_down {
                return self.end(scope, &claim).await;
            }
        }
        lease::release(&self.db, scope, &claim, self.owner, failed > 0).await?;
        done.more = true;
        Ok(())
    }

    async fn end(&self, scope: &PartitionScope, claim: &Claim<Purging>) -> Result<(), WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let error = "removals failed; they are tried again, later each time";
        tx.operation_finish(claim.id, error).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Removes one batch; says how many were due and how many failed. `None`: somebody else has the
    /// operation now.
    async fn batch(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Purging>,
        done: &mut Done,
    ) -> Result<Option<(usize, usize)>, WorkerError> {
        let id = scope.partition();
        let mut tx = self.db.begin_in(scope).await?;
        let due = tx.blob_removals_due(BATCH).await?;
        tx.commit().await?;
        let count = due.len();
        if count == 0 {
            return Ok(Some((0, 0)));
        }
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        let removing = async {
            let mut removals = self.blobs.within(id).remove_many(due);
            while let Some((blob, outcome)) = removals.next().await {
                match outcome {
                    Ok(()) => removed.push(blob),
                    Err(error) => {
                        tracing::warn!(partition = %id, %blob, error = %Chain(&error), "blob stays");
                        failed.push((blob, error.to_string()));
                    }
                }
            }
        };
        let held = lease::holding(&self.db, scope, (claim.id, self.owner), removing).await?;
        let mut tx = self.db.begin_in(scope).await?;
        let counts = (removed.len() as i64, failed.len() as i64);
        let advanced = tx.operation_advance((claim.id, self.owner), &Purging {}, counts).await?;
        // That they are gone is true whoever has the operation now.
        tx.blob_removed(&removed).await?;
        let given_up = tx.blob_removals_failed(&failed).await?;
        tx.commit().await?;
        if given_up > 0 {
            tracing::error!(partition = %id, blobs = given_up, "blobs cannot be removed");
        }
        tell("removed", removed.len() as u64);
        tell("failed", failed.len() as u64);
        done.items += removed.len() as u64;
        done.failed += failed.len() as u64;
        Ok(held.and(advanced).map(|_| (count, failed.len())))
    }

    async fn forget(&self, scope: &PartitionScope, done: &mut Done) -> Result<(), WorkerError> {
        for _ in 0..BATCHES {
            let mut tx = self.db.begin_in(scope).await?;
            let gone = tx.tombstones_forget(self.tombstones, FORGOTTEN).await?;
            tx.commit().await?;
            done.items += gone;
            if gone < FORGOTTEN.unsigned_abs() {
                return Ok(());
            }
        }
        done.more = true;
        Ok(())
    }
}

fn tell(outcome: &'static str, blobs: u64) {
    metrics::counter!(names::PURGE_BLOBS, names::OUTCOME => outcome).increment(blobs);
}

impl Worker for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let (mut done, mut all) = (Done::default(), Waiting::default());
        for id in partitions(&self.db).await? {
            let scope = scope(&id);
            self.partition(&scope, &mut all, &mut done).await?;
        }
        metrics::gauge!(names::PURGE_AWAITING).set(all.blobs as f64);
        metrics::gauge!(names::PURGE_FAILED).set(all.failed as f64);
        Ok(done)
    }
}

fn scope(id: &PartitionId) -> PartitionScope {
    #[expect(clippy::disallowed_methods, reason = "a background task")]
    Scope::for_maintenance(id)
}
