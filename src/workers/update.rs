//! The updater: changes attributes of studies, as somebody asked (`archive`, `update`).
//!
//! What was asked for in a partition is an operation of kind `update`, which one server works on at a
//! time, the oldest first. Holds: a partition has its turn for a bite, or for one study where that
//! takes longer, before others have theirs; the lease is renewed while a study is copied.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Done, Worker, WorkerError, lease, partitions};
use crate::{
    archive::{Archive, ArchiveError, Updated},
    index::{Claim, Db, Updating, Work},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Time for one partition in a round.
const BITE: Duration = Duration::from_secs(2);
/// Wait after a failure before the partition is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// Changes studies.
pub struct Update {
    db: Db,
    archive: Archive,
    /// Who holds claims.
    owner: Uuid,
}

impl Update {
    /// An updater that holds its claims under a name of its own.
    pub fn new(db: Db, archive: Archive) -> Self {
        Self { db, archive, owner: Uuid::new_v4() }
    }

    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        let work = tx.operation_claim::<Updating>(self.owner).await?;
        tx.commit().await?;
        match work {
            Work::Nothing => {}
            Work::Later(wait) => done.come_back(wait),
            Work::Now(claim) => self.work(&scope, claim, done).await?,
        }
        Ok(())
    }

    async fn work(
        &self,
        scope: &PartitionScope,
        mut claim: Claim<Updating>,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        let (begun, held) = (Instant::now(), (claim.id, self.owner));
        let mut has_failed = false;
        loop {
            let next = self.archive.update_next(scope, &mut claim, self.owner);
            let Some(next) = lease::holding(&self.db, scope, held, next).await? else {
                return Ok(());
            };
            match next {
                Ok(Updated::Study { instances, has_failed }) => {
                    count("updated", instances);
                    count("failed", u64::from(has_failed));
                    done.items += instances;
                }
                Ok(Updated::Ended) => {
                    tracing::info!(partition = %scope.partition(), operation = %claim.id, "ended");
                    // There may be another.
                    done.more = true;
                    return Ok(());
                }
                Ok(Updated::Lost) => return Ok(()),
                Err(error) => {
                    has_failed = true;
                    failed(scope, claim.id, &error);
                    done.failed += 1;
                    break;
                }
            }
            if begun.elapsed() >= BITE {
                break;
            }
        }
        lease::release(&self.db, scope, &claim, self.owner, has_failed).await?;
        if has_failed {
            done.come_back(PAUSE);
        } else {
            done.more = true;
        }
        Ok(())
    }
}

fn failed(scope: &PartitionScope, operation: Uuid, error: &ArchiveError) {
    let partition = scope.partition();
    tracing::warn!(%partition, %operation, error = %super::Chain(error), "an update could not go on");
}

fn count(outcome: &'static str, instances: u64) {
    metrics::counter!(names::UPDATE_INSTANCES, names::OUTCOME => outcome).increment(instances);
}

impl Worker for Update {
    fn name(&self) -> &'static str {
        "update"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let (mut done, mut failed) = (Done::default(), Ok(()));
        // One that fails must not keep those after it from their turn.
        for id in partitions(&self.db).await? {
            failed = failed.and(self.partition(&id, &mut done).await);
        }
        failed.map(|()| done)
    }
}
