//! The compactor: rewrites blobs that are mostly dead, and those of which something is to be erased.
//!
//! What is due in a partition is an operation of kind `compact`, which one server works on at a
//! time. Holds: the copy is durable before any row names it, and is known as something to be removed
//! before it is begun, so that a server that dies leaves nothing behind; files are held against
//! their SHA-256 while they are copied, and a blob with a damaged one stays as it is, unless an
//! erasure waits for it. Memory is that of an upload.

use futures::StreamExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, lease, partitions};
use crate::{
    blob::{BlobError, BlobStore},
    config::CompactionConfig,
    index::{Claim, Compacting, CompactionPlan, CompactionRule, Db, OperationState, Planned, Work},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Blobs looked at in one partition in one round, so that one tenant's large deletion does not keep
/// the others' waiting.
const BITE: i64 = 64;

/// Rewrites blobs.
#[derive(Debug)]
pub struct Compact {
    db: Db,
    blobs: BlobStore,
    /// Who holds claims.
    owner: Uuid,
    config: CompactionConfig,
}

/// Why a copy came to nothing.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("a file in the blob is damaged")]
    Damaged,
}

impl Compact {
    /// A compactor that holds its claims under a name of its own.
    pub fn new(db: Db, blobs: BlobStore, config: &CompactionConfig) -> Self {
        Self { db, blobs, owner: Uuid::new_v4(), config: config.clone() }
    }

    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        tx.compact_create().await?;
        let work = tx.operation_claim::<Compacting>(self.owner).await?;
        tx.commit().await?;
        let claim = match work {
            Work::Nothing => return Ok(()),
            Work::Later(wait) => {
                done.come_back(wait);
                return Ok(());
            }
            Work::Now(claim) => claim,
        };
        let mut tx = self.db.begin_in(&scope).await?;
        let due = tx.compactions_due(BITE).await?;
        drop(tx);
        let is_all = (due.len() as i64) < BITE;
        for blob in due {
            match self.blob(&scope, &claim, blob, done).await? {
                Some(false) => {}
                // Cancelled, or somebody else's now: what is left is looked at in another round.
                Some(true) | None => return Ok(()),
            }
        }
        let mut tx = self.db.begin_in(&scope).await?;
        if is_all {
            let error = "blobs were not rewritten; they are tried again, later each time";
            tx.operation_finish(claim.id, error).await?;
        } else {
            tx.operation_release(&claim, self.owner, false).await?;
            done.more = true;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Looks at one blob, and rewrites it if it is to be. Says whether the operation is cancelled;
    /// `None`: somebody else has it now.
    async fn blob(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Compacting>,
        blob: Uuid,
        done: &mut Done,
    ) -> Result<Option<bool>, WorkerError> {
        let held = (claim.id, self.owner);
        let rule =
            CompactionRule { dead_share: self.config.dead_share, min_bytes: self.config.min_bytes };
        let mut tx = self.db.begin_in(scope).await?;
        let planned = tx.compaction_plan(blob, rule).await?;
        let plan = match planned {
            Planned::Copy(plan) => plan,
            Planned::Nothing => {
                let advanced = tx.operation_advance(held, &Compacting {}, (1, 0)).await?;
                tx.commit().await?;
                return self.advanced(scope, claim, advanced).await;
            }
        };
        tx.commit().await?;
        let copying = self.copy(scope.partition(), &plan);
        let Some(copied) = lease::holding(&self.db, scope, held, copying).await? else {
            return Ok(None);
        };
        let outcome = match copied {
            Ok(()) => self.commit(scope, held, &plan).await,
            Err(error) => {
                let partition = scope.partition();
                tracing::warn!(%partition, %blob, error = %Chain(&error), "blob is not rewritten");
                self.failed(scope, held, &plan, Some(&error.to_string())).await
            }
        };
        let (is_rewritten, advanced) = outcome?;
        tell(if is_rewritten { "rewritten" } else { "failed" });
        done.items += u64::from(is_rewritten);
        done.failed += u64::from(!is_rewritten);
        self.advanced(scope, claim, advanced).await
    }

    /// Ends an operation that is cancelled.
    async fn advanced(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Compacting>,
        advanced: Option<bool>,
    ) -> Result<Option<bool>, WorkerError> {
        if advanced == Some(true) {
            let mut tx = self.db.begin_in(scope).await?;
            tx.operation_end(claim.id, OperationState::Canceled, None).await?;
            tx.commit().await?;
        }
        Ok(advanced)
    }

    /// Copies what is kept, in order, into the new blob, and returns once that is durable.
    async fn copy(&self, partition: &PartitionId, plan: &CompactionPlan) -> Result<(), CopyError> {
        let blobs = self.blobs.within(partition);
        let ranges: Vec<_> =
            plan.kept.iter().map(|kept| kept.offset..kept.offset + kept.length).collect();
        let mut bytes = match plan.composed {
            None => blobs.read_ranges(plan.from, ranges).await?,
            Some(composed) => blobs.read_pieces(composed.pieces(&ranges)).await?,
        };
        let mut upload = blobs.upload(plan.into).await?;
        let mut files = plan.kept.iter();
        let (mut file, mut left, mut hash) = (files.next(), 0, Sha256::new());
        if let Some(first) = file {
            left = first.length;
        }
        let copied = async {
            while let Some(chunk) = bytes.next().await {
                let chunk = chunk?;
                let mut rest = &chunk[..];
                while let Some(kept) = file {
                    let part =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    hash.update(&rest[..part]);
                    rest = &rest[part..];
                    left -= part as u64;
                    if left > 0 {
                        break;
                    }
                    let found = std::mem::take(&mut hash).finalize();
                    if found[..] != kept.sha256[..] {
                        if !plan.is_wanted {
                            return Err(CopyError::Damaged);
                        }
                        let (blob, offset) = (plan.from, kept.offset);
                        tracing::error!(%partition, %blob, offset, "a damaged file is copied as it is");
                    }
                    file = files.next();
                    left = file.map_or(0, |next| next.length);
                }
                upload.push(chunk).await?;
                tokio::task::consume_budget().await;
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            // What cannot be taken back now is removed when it is due.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.finish().await?;
        Ok(())
    }

    /// Moves the rows; says whether they were, and what the operation says.
    async fn commit(
        &self,
        scope: &PartitionScope,
        held: (Uuid, Uuid),
        plan: &CompactionPlan,
    ) -> Result<(bool, Option<bool>), WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let moved = match tx.compaction_commit(plan, self.config.linger).await {
            Ok(moved) => moved,
            Err(error) if error.is_retryable() => false,
            Err(error) => return Err(error.into()),
        };
        if moved {
            let advanced = tx.operation_advance(held, &Compacting {}, (1, 0)).await?;
            tx.commit().await?;
            let (partition, blob) = (scope.partition(), plan.from);
            tracing::info!(%partition, %blob, into = %plan.into, kept = plan.length(), "rewritten");
            return Ok((true, advanced));
        }
        drop(tx);
        self.failed(scope, held, plan, None).await
    }

    async fn failed(
        &self,
        scope: &PartitionScope,
        held: (Uuid, Uuid),
        plan: &CompactionPlan,
        error: Option<&str>,
    ) -> Result<(bool, Option<bool>), WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        if tx.compaction_failed(plan, error).await? {
            let (partition, blob) = (scope.partition(), plan.from);
            tracing::error!(%partition, %blob, "blob cannot be rewritten");
        }
        // What changed meanwhile was looked at, and is again.
        let counts = if error.is_some() { (0, 1) } else { (1, 0) };
        let advanced = tx.operation_advance(held, &Compacting {}, counts).await?;
        tx.commit().await?;
        Ok((false, advanced))
    }
}

fn tell(outcome: &'static str) {
    metrics::counter!(names::COMPACTION_BLOBS, names::OUTCOME => outcome).increment(1);
}

impl Worker for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        for id in partitions(&self.db).await? {
            self.partition(&id, &mut done).await?;
        }
        Ok(done)
    }
}
