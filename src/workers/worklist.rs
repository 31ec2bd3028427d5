//! The keeper of worklists: removes workitems that ended `worklist.retention` ago and that nobody holds
//! by a deletion lock (PS3.4 §CC.2.3.2), events that nobody takes, and Application Entities that watch
//! nothing any more.
//!
//! Holds: a workitem that is held stays, however old; it goes in the round after it was let go.

use std::time::Duration;

use super::{Done, Worker, WorkerError, partitions};
use crate::{
    config::WorklistConfig,
    index::Db,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Workitems removed in one transaction, while which nobody changes any of the partition.
const BATCH: i64 = 500;
/// Transactions for one partition in one round.
const BATCHES: usize = 20;

/// Removes what worklists need no more.
#[derive(Debug)]
pub struct Worklist {
    db: Db,
    retention: Duration,
    event_retention: Duration,
}

impl Worklist {
    /// A keeper by `[worklist]`.
    pub fn new(db: Db, config: &WorklistConfig) -> Self {
        let WorklistConfig { retention, event_retention, .. } = *config;
        Self { db, retention, event_retention }
    }

    async fn purge(&self, scope: &PartitionScope, done: &mut Done) -> Result<(), WorkerError> {
        for _ in 0..BATCHES {
            let mut tx = self.db.begin_worklist_alone(scope).await?;
            let gone = tx.workitems_purge(self.retention, BATCH).await?;
            tx.commit().await?;
            done.items += gone;
            if gone < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
        done.more = true;
        Ok(())
    }

    async fn forget(&self, scope: &PartitionScope, done: &mut Done) -> Result<(), WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let stale = tx.workitem_events_stale(self.event_retention).await?;
        drop(tx);
        for (title, last) in stale {
            let mut tx = self.db.begin_in(scope).await?;
            tx.workitem_subscriber_lock(&title).await?;
            done.items += tx.workitem_events_drop(&title, last).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        if !self.retention.is_zero() && self.db.begin_in(&scope).await?.has_workitems().await? {
            self.purge(&scope, done).await?;
        }
        if !self.db.begin_in(&scope).await?.has_workitem_subscribers().await? {
            return Ok(());
        }
        if !self.event_retention.is_zero() {
            self.forget(&scope, done).await?;
        }
        let mut tx = self.db.begin_worklist_alone(&scope).await?;
        tx.workitem_subscribers_forget().await?;
        Ok(tx.commit().await?)
    }
}

impl Worker for Worklist {
    fn name(&self) -> &'static str {
        "worklist"
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
