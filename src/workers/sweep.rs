//! The sweeper: removes blobs that no row knows.
//!
//! An orphan is what a store left that never committed: its client went away, the server was
//! killed, the database failed. Its bytes may be whole or, in a folder, cut off; nobody has its id.
//!
//! **Why no blob of a store in flight is ever removed**: a blob counts as an orphan only once it is
//! older than `sweep.orphan_grace` *and* neither the blob rows nor the blobs awaiting removal name
//! it, asked after its age was seen. Between a blob's last byte and the commit of its rows lie
//! seconds. An upload lives no longer than half the grace ([`BlobStore::with_upload_life`]), because
//! stores date a large object by the start of its upload. The start's probe refuses a store whose
//! clock is off.
//!
//! Only partitions that the registry knows are visited: what lies beside them is not ours to judge.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, partitions};
use crate::{
    blob::{BlobStore, PartitionBlobs},
    config::SweepConfig,
    index::Db,
    tenancy::{PartitionId, Scope},
};

/// Blobs looked up with one statement.
const LOOKUP: usize = 1_000;

/// Removes blobs without rows.
#[derive(Debug)]
pub struct Sweep {
    db: Db,
    blobs: BlobStore,
    grace: Duration,
}

impl Sweep {
    /// A sweeper that spares what is younger than `sweep.orphan_grace`. The store must have been
    /// given half of that as the life of uploads.
    pub fn new(db: Db, blobs: BlobStore, config: &SweepConfig) -> Self {
        Self { db, blobs, grace: config.orphan_grace }
    }

    async fn partition(&self, id: &PartitionId, old: SystemTime) -> Result<Done, WorkerError> {
        let blobs = self.blobs.within(id);
        let mut done = Done::default();
        let old = blobs.list().try_filter(|blob| std::future::ready(blob.modified < old));
        let mut batches = old.map_ok(|blob| blob.id).try_chunks(LOOKUP);
        while let Some(batch) = batches.next().await {
            // What was listed before an error is left to the next round.
            let orphans = self.orphans(id, batch.map_err(|cut| cut.1)?).await?;
            self.remove(&blobs, orphans, &mut done).await;
        }
        Ok(done)
    }

    /// Which of the blobs no row knows.
    async fn orphans(
        &self,
        partition: &PartitionId,
        mut blobs: Vec<Uuid>,
    ) -> Result<Vec<Uuid>, WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(partition);
        let mut tx = self.db.begin_in(&scope).await?;
        let known: HashSet<Uuid> = tx.blobs_known(&blobs).await?.into_iter().collect();
        blobs.retain(|blob| !known.contains(blob));
        Ok(blobs)
    }

    async fn remove(&self, blobs: &PartitionBlobs, orphans: Vec<Uuid>, done: &mut Done) {
        let mut removals = blobs.remove_many(orphans);
        while let Some((blob, outcome)) = removals.next().await {
            match outcome {
                Ok(()) => done.items += 1,
                Err(error) => {
                    done.failed += 1;
                    let partition = blobs.partition();
                    tracing::warn!(%partition, %blob, error = %Chain(&error), "orphan stays");
                }
            }
        }
    }
}

impl Worker for Sweep {
    fn name(&self) -> &'static str {
        "sweep"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut all = Done::default();
        // Before the first listing: what is listed later can only be younger than it looks.
        let Some(old) = SystemTime::now().checked_sub(self.grace) else { return Ok(all) };
        for id in partitions(&self.db).await? {
            let done = self.partition(&id, old).await?;
            all.items += done.items;
            all.failed += done.failed;
        }
        all.items += self.blobs.remove_unfinished(old).await?;
        Ok(all)
    }
}
