//! Operations and what awaits removal, as who manages them asks for them.

use uuid::Uuid;

use super::{Archive, ArchiveError, query_tags::Change};
use crate::{
    index::{Operation, OperationFilter, Removals},
    tenancy::Scope,
};

/// What became of a request to cancel an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It is cancelled, or will be after its batch.
    Yes(Box<Operation>),
    /// It had ended.
    Ended,
    /// It removes what was deleted, and is not cancelled.
    Never,
}

impl Archive {
    /// An operation, as it is in the scope.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn operation(&self, scope: &Scope, id: Uuid) -> Result<Operation, ArchiveError> {
        let mut tx = self.0.db.begin(scope).await?;
        let found = tx.operation(id, self.0.operations.retention).await?;
        found.ok_or(ArchiveError::NotFound)
    }

    /// A page (limit, offset) of the operations of the scope, newest first.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn operations(
        &self,
        scope: &Scope,
        filter: OperationFilter,
        page: (i64, i64),
    ) -> Result<Vec<Operation>, ArchiveError> {
        Ok(self.0.db.begin(scope).await?.operations(filter, page).await?)
    }

    /// Cancels an operation in the partitions of the scope.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn cancel_operation(
        &self,
        scope: &Scope,
        id: Uuid,
    ) -> Result<Canceled, ArchiveError> {
        let before = self.operation(scope, id).await?;
        if before.state.has_ended() {
            return Ok(Canceled::Ended);
        }
        if !before.kind.can_be_canceled() {
            return Ok(Canceled::Never);
        }
        self.in_each(scope, Change::Cancel(id)).await?;
        Ok(Canceled::Yes(Box::new(self.operation(scope, id).await?)))
    }

    /// What the partitions of the scope have yet to get rid of, those alone that have something: a
    /// page (limit, offset).
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn removals(
        &self,
        scope: &Scope,
        page: (i64, i64),
    ) -> Result<Vec<Removals>, ArchiveError> {
        Ok(self.0.db.begin(scope).await?.removals(page).await?)
    }

    /// Has everything that could not be removed or rewritten tried again now.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn retry_removals(&self, scope: &Scope) -> Result<(), ArchiveError> {
        self.in_each(scope, Change::RetryRemovals).await?;
        self.wake_removal();
        Ok(())
    }

    /// Has the background look for what is to be removed or rewritten.
    pub(super) fn wake_removal(&self) {
        self.0.wake_remove.notify_one();
        self.0.wake_compact.notify_one();
    }
}
