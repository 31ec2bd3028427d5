//! The keeper of change feeds: numbers the events of feeds that nobody reads, so that who begins to
//! read one finds it numbered, and removes what is older than `change_feed.retention`.
//!
//! Holds: an event that has no number is never removed.

use std::time::Duration;

use super::{Done, Worker, WorkerError, partitions};
use crate::{
    config::ChangeFeedConfig,
    index::Db,
    tenancy::{PartitionId, Scope},
};

/// Events numbered or removed in one transaction.
const BATCH: i64 = 5_000;
/// Transactions of each kind for one partition in one round, so that one tenant's backlog does not
/// keep the others' waiting.
const BATCHES: usize = 20;

/// Numbers and removes events.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    retention: Duration,
}

impl Feed {
    /// A keeper by `[change_feed]`.
    pub fn new(db: Db, config: &ChangeFeedConfig) -> Self {
        Self { db, retention: config.retention }
    }

    async fn number(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        for _ in 0..BATCHES {
            if !self.db.begin_in(&scope).await?.feed_pending().await? {
                return Ok(());
            }
            let mut tx = self.db.begin_numbering(&scope).await?;
            done.items += tx.feed_number(BATCH).await?;
            tx.commit().await?;
        }
        done.more = true;
        Ok(())
    }

    async fn forget(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        for _ in 0..BATCHES {
            let mut tx = self.db.begin_in(&scope).await?;
            let gone = tx.feed_forget(self.retention, BATCH).await?;
            tx.commit().await?;
            done.items += gone;
            if gone < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
        done.more = true;
        Ok(())
    }
}

impl Worker for Feed {
    fn name(&self) -> &'static str {
        "feed"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        for id in partitions(&self.db).await? {
            self.number(&id, &mut done).await?;
            if !self.retention.is_zero() {
                self.forget(&id, &mut done).await?;
            }
        }
        Ok(done)
    }
}
