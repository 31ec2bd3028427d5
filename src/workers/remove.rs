//! The remover: removes blobs whose last instance was deleted and whose grace period is over.
//!
//! The store first, the row last: killed in between, the removal is repeated, and removing what is
//! gone is a success. No transaction is open while the store works.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use futures::StreamExt;
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, back_off, partitions};
use crate::{
    blob::BlobStore,
    index::Db,
    tenancy::{PartitionId, Scope},
};

/// Blobs claimed with one transaction.
const BATCH: i64 = 256;
/// Batches of one partition in one round, so that one tenant's large deletion does not keep the
/// others' waiting.
const BATCHES: usize = 16;
/// Wait before a removal that failed is tried again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(60);
/// Longest wait between two tries.
const RETRY_CAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Most failing blobs whose tries are counted; those beyond wait the longest at once.
const COUNTED: usize = 10_000;

/// Removes blobs awaiting removal.
#[derive(Debug)]
pub struct Remove {
    db: Db,
    blobs: BlobStore,
    /// Tries that failed since this server started. Lost at a restart, which then tries sooner.
    failures: Mutex<HashMap<(PartitionId, Uuid), u32>>,
}

impl Remove {
    /// A remover.
    pub fn new(db: Db, blobs: BlobStore) -> Self {
        Self { db, blobs, failures: Mutex::default() }
    }

    /// Removes one batch; says how many were due.
    async fn batch(&self, id: &PartitionId, done: &mut Done) -> Result<usize, WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        let due = tx.blob_removals_due(BATCH).await?;
        tx.commit().await?;
        let count = due.len();
        if count == 0 {
            return Ok(0);
        }
        let mut removals = self.blobs.within(id).remove_many(due);
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        while let Some((blob, outcome)) = removals.next().await {
            match outcome {
                Ok(()) => removed.push(blob),
                Err(error) => {
                    tracing::warn!(partition = %id, %blob, error = %Chain(&error), "blob stays");
                    failed.push(blob);
                }
            }
        }
        let mut tx = self.db.begin_in(&scope).await?;
        tx.blob_removed(&removed).await?;
        for blob in &failed {
            tx.blob_removal_failed(*blob, self.failed_again(id, *blob)).await?;
        }
        tx.commit().await?;
        self.forget(id, &removed);
        done.items += removed.len() as u64;
        done.failed += failed.len() as u64;
        Ok(count)
    }

    /// How long to wait after one more failure.
    fn failed_again(&self, id: &PartitionId, blob: Uuid) -> Duration {
        let mut failures = self.counts();
        let key = (id.clone(), blob);
        if failures.len() >= COUNTED && !failures.contains_key(&key) {
            return RETRY_CAP;
        }
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        back_off(RETRY_FIRST, *count, RETRY_CAP)
    }

    fn forget(&self, id: &PartitionId, removed: &[Uuid]) {
        let mut failures = self.counts();
        if failures.is_empty() {
            return;
        }
        for blob in removed {
            failures.remove(&(id.clone(), *blob));
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<(PartitionId, Uuid), u32>> {
        // Counts cannot be left half-changed.
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Worker for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        for id in partitions(&self.db).await? {
            for batch in 1..=BATCHES {
                let due = self.batch(&id, &mut done).await?;
                if (due as i64) < BATCH {
                    break;
                }
                done.more |= batch == BATCHES;
            }
        }
        Ok(done)
    }
}
