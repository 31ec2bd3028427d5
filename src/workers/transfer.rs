//! Imports and exports that were asked of the server.
//!
//! One bite of each kind for a partition, then the next has its turn. Holds: a claim is worked at
//! under its lease, and given back after a bite; what cannot be reached now is tried again, and what
//! refuses us, or is not configured any more, ends the operation. Absent: what is done (`exchange`).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Chain, Done, Worker, WorkerError, lease, partitions};
use crate::{
    archive::Archive,
    blob::BlobError,
    config::Config,
    exchange::{ExportError, ExportStep, Exporter, ImportError, ImportStep, Imports, SourceError},
    index::{Claim, Db, Exporting, Importing, OperationState, Progress, Work},
    tenancy::{Deed, PartitionId, PartitionScope, Permission, Scope},
};

/// Time for one operation before others have their turn.
const BITE: Duration = Duration::from_secs(5);
/// Time until one that failed may be due again, at the soonest.
const AGAIN: Duration = Duration::from_secs(1);
/// What the audit log calls who stores files of an import; the request itself has an entry of its
/// own, under the id of the operation.
const BY: &str = "import";

/// Works at imports and exports.
pub struct Transfer {
    db: Db,
    imports: Imports,
    exporter: Exporter,
    /// Who holds claims.
    owner: Uuid,
}

/// What became of a bite.
enum Bite {
    /// There may be more.
    Went(u64),
    /// The operation has ended, by this or somebody else's doing.
    Over,
    /// It has to be tried again.
    Failed,
}

impl Transfer {
    /// A worker that holds its claims under a name of its own.
    pub fn new(archive: Archive, db: Db, config: &Config) -> Self {
        let imports = Imports::new(archive.clone(), db.clone(), config);
        let exporter = Exporter::new(archive, db.clone(), config);
        Self { db, imports, exporter, owner: Uuid::new_v4() }
    }

    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        if let Some(mut claim) = self.claim::<Exporting>(&scope, done).await? {
            let bite = self.export(&scope, &mut claim).await?;
            self.after(&scope, &claim, bite, done).await?;
        }
        if let Some(mut claim) = self.claim::<Importing>(&scope, done).await? {
            let bite = self.import(&scope, &mut claim).await?;
            self.after(&scope, &claim, bite, done).await?;
        }
        Ok(())
    }

    async fn claim<P: Progress>(
        &self,
        scope: &PartitionScope,
        done: &mut Done,
    ) -> Result<Option<Claim<P>>, WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let work = tx.operation_claim::<P>(self.owner).await?;
        tx.commit().await?;
        Ok(match work {
            Work::Now(claim) => Some(claim),
            Work::Later(wait) => {
                done.come_back(wait);
                None
            }
            Work::Nothing => None,
        })
    }

    async fn export(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Exporting>,
    ) -> Result<Bite, WorkerError> {
        let request = self.db.begin_in(scope).await?.transfer_request(claim.id).await?;
        let (begun, mut went, mut goes_on) = (Instant::now(), 0, true);
        while begun.elapsed() < BITE {
            match self.exporter.step(scope, claim, self.owner, &request, goes_on).await {
                Ok(ExportStep::Went(count)) => went += count,
                Ok(ExportStep::Ended | ExportStep::Lost) => return Ok(Bite::Over),
                Err(error) => {
                    let refusal = match &error {
                        ExportError::Destination(error) => refusal(error),
                        ExportError::OtherKey => {
                            Some("the key of pseudonyms is another one than when it began")
                        }
                        _ => None,
                    };
                    return self.failed(scope, claim, &error, refusal).await;
                }
            }
            goes_on = false;
        }
        Ok(Bite::Went(went))
    }

    async fn import(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Importing>,
    ) -> Result<Bite, WorkerError> {
        let request = self.db.begin_in(scope).await?.transfer_request(claim.id).await?;
        let mut deed = Deed::by_command(Permission::Store, BY);
        deed.named = vec![("operation".into(), claim.id.simple().to_string().into())];
        let scope = Scope::clone(scope).for_deed(Arc::new(deed));
        let Ok(scope) = PartitionScope::try_from(scope) else { return Ok(Bite::Over) };
        match self.imports.bite(&scope, claim, self.owner, &request, BITE).await {
            Ok(ImportStep::Went(count)) => Ok(Bite::Went(count)),
            Ok(ImportStep::Ended | ImportStep::Lost) => Ok(Bite::Over),
            Err(error) => {
                let refusal = match &error {
                    ImportError::Place(error) | ImportError::Source(SourceError::Bucket(error)) => {
                        refusal(error)
                    }
                    ImportError::Source(SourceError::Io(error))
                        if error.kind() == std::io::ErrorKind::NotFound =>
                    {
                        Some("there is no such file or folder in the source")
                    }
                    _ => None,
                };
                self.failed(&scope, claim, &error, refusal).await
            }
        }
    }

    /// Notes a failure; one that will not pass ends the operation.
    async fn failed<P: Progress>(
        &self,
        scope: &PartitionScope,
        claim: &Claim<P>,
        error: &(dyn std::error::Error + Send + Sync),
        refusal: Option<&'static str>,
    ) -> Result<Bite, WorkerError> {
        let (partition, operation) = (scope.partition(), claim.id);
        tracing::warn!(%partition, %operation, error = %Chain(error), "a step failed");
        let Some(refusal) = refusal else { return Ok(Bite::Failed) };
        let mut tx = self.db.begin_in(scope).await?;
        tx.audit_nothing();
        tx.operation_end(claim.id, OperationState::Failed, Some(refusal)).await?;
        tx.commit().await?;
        Ok(Bite::Over)
    }

    async fn after<P: Progress>(
        &self,
        scope: &PartitionScope,
        claim: &Claim<P>,
        bite: Bite,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        let has_failed = match bite {
            Bite::Over => {
                tracing::info!(partition = %scope.partition(), operation = %claim.id, "ended");
                // There may be another.
                done.more = true;
                return Ok(());
            }
            Bite::Went(count) => {
                done.items += count;
                done.more = true;
                false
            }
            Bite::Failed => {
                done.failed += 1;
                done.come_back(AGAIN);
                true
            }
        };
        lease::release(&self.db, scope, claim, self.owner, has_failed).await?;
        Ok(())
    }
}

/// What of a place will not pass by itself.
fn refusal(error: &BlobError) -> Option<&'static str> {
    match error {
        BlobError::Denied(_) => Some("the place refuses the credentials that are configured"),
        BlobError::Config { .. } => Some("the place is not configured as it must be"),
        BlobError::Unfit { reason, .. } => Some(reason),
        _ => None,
    }
}

impl Worker for Transfer {
    fn name(&self) -> &'static str {
        "transfer"
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
