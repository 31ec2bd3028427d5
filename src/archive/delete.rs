//! Delete of a study, series or instance: at once for every reader, for good after the grace
//! period, or, as an erasure, as soon as can be.

use uuid::Uuid;

use super::{Archive, ArchiveError, Target, rejection::Revoked, repeated::repeated};
use crate::{
    index::{Erased, IndexError},
    tenancy::PartitionScope,
};

impl Archive {
    /// Deletes a target: rows, counts and change-feed events in one transaction. It can come back
    /// for `delete.grace_period`; the bytes follow after it. What a rejection note hides comes back
    /// when the note is deleted as an instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where the scope holds nothing of the kind (any more);
    /// [`ArchiveError::Unavailable`] where what a note hides is not back yet: the note is there still.
    pub async fn delete(&self, scope: PartitionScope, target: Target) -> Result<u64, ArchiveError> {
        let revoked = self.revoke(&scope, &target).await?;
        let gone = repeated!(self.try_delete(&scope, &target, revoked.as_ref()))?;
        if gone.is_empty() {
            return Err(ArchiveError::NotFound);
        }
        self.forget(&scope, &gone);
        Ok(gone.len() as u64)
    }

    /// Erases a target, also what was deleted of it before: none of it can come back, and its bytes
    /// leave the store as soon as can be. `resource` is how the operation shows it. The answer is
    /// the operation, whose end says that no byte is left.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where the scope holds nothing of the kind, live or deleted.
    pub async fn erase(
        &self,
        scope: PartitionScope,
        target: Target,
        resource: &str,
    ) -> Result<Uuid, ArchiveError> {
        let revoked = self.revoke(&scope, &target).await?;
        let id = Uuid::new_v4();
        let erased = repeated!(self.try_erase(&scope, &target, revoked.as_ref(), (id, resource)))?;
        if erased.live.is_empty() && erased.deleted == 0 {
            return Err(ArchiveError::NotFound);
        }
        self.forget(&scope, &erased.live);
        let (partition, live, deleted) = (scope.partition(), erased.live.len(), erased.deleted);
        tracing::info!(%partition, operation = %id, live, deleted, "erasure");
        self.wake_removal();
        Ok(id)
    }

    async fn try_delete(
        &self,
        scope: &PartitionScope,
        target: &Target,
        revoked: Option<&Revoked<'_>>,
    ) -> Result<Vec<i64>, IndexError> {
        let mut tx = self.begin_deleting(scope, revoked).await?;
        let gone = tx.delete(target, self.0.delete.grace_period).await?;
        if !gone.is_empty() {
            self.end_note(&mut tx, revoked).await?;
            tx.audit_note("instances", gone.len());
            tx.commit().await?;
        }
        Ok(gone)
    }

    async fn try_erase(
        &self,
        scope: &PartitionScope,
        target: &Target,
        revoked: Option<&Revoked<'_>>,
        (id, resource): (Uuid, &str),
    ) -> Result<Erased, IndexError> {
        let mut tx = self.begin_deleting(scope, revoked).await?;
        let erased = tx.erase(target, id, resource).await?;
        if !erased.live.is_empty() || erased.deleted > 0 {
            self.end_note(&mut tx, revoked).await?;
            tx.audit_note("erased", erased.live.len() as u64 + erased.deleted);
            tx.audit_note("operation", id.simple().to_string());
            tx.commit().await?;
        }
        Ok(erased)
    }

    /// Drops what caches of this server hold of versions that are gone.
    pub(super) fn forget(&self, scope: &PartitionScope, watermarks: &[i64]) {
        self.0.headers.forget(scope.partition(), watermarks);
        self.0.thumbnails.forget(scope.partition(), watermarks);
    }
}
