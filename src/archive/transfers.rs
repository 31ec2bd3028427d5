//! Imports and exports as they are asked for: an operation for each, and what a query finds for one.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Archive, ArchiveError, Filter, repeated::repeated};
use crate::{
    index::{IndexError, PartitionTx, Progress, SearchPlan},
    tenancy::{PartitionScope, Scope},
};

/// A search that finds more than an operation may have.
#[derive(Debug, thiserror::Error)]
pub enum TooMany {
    /// More than so many.
    #[error("the query finds too much")]
    Found,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// What the audit log says of an import or export.
#[derive(Clone, Copy, Debug)]
pub struct TransferOf<'a> {
    /// Where it comes from or goes to.
    pub place: &'a str,
    /// Paths of what is copied, as it is called here.
    pub resources: &'a [String],
    /// Whether it is de-identified on the way.
    pub is_deidentified: bool,
}

impl TransferOf<'_> {
    fn note(self, tx: &mut PartitionTx) {
        tx.audit_note("place", self.place);
        if !self.resources.is_empty() {
            tx.audit_note("resources", self.resources);
        }
        if self.is_deidentified {
            tx.audit_note("deidentified", true);
        }
    }
}

impl Archive {
    /// What is notified when there is something to import or export.
    pub fn transfers_wake(&self) -> Arc<Notify> {
        self.0.wake_transfers.clone()
    }

    /// Adds an import or an export, and has it begun. `of`: how the operation shows what it works on,
    /// and what the audit log says of it.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn begin_transfer<P: Progress>(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        of: (&[String], TransferOf<'_>),
        request: &(impl Serialize + Sync),
        cursor: &P,
    ) -> Result<(), ArchiveError> {
        repeated!(self.try_begin(scope, id, of, request, cursor))?;
        self.0.wake_transfers.notify_one();
        Ok(())
    }

    async fn try_begin<P: Progress>(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        (shown, of): (&[String], TransferOf<'_>),
        request: &(impl Serialize + Sync),
        cursor: &P,
    ) -> Result<(), IndexError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.transfer_create(id, shown, request, cursor).await?;
        tx.audit_note("operation", id.simple().to_string());
        of.note(&mut tx);
        tx.commit().await
    }

    /// Has it on the record that somebody copies instances by a command, to which the scope's deed
    /// belongs.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn note_transfer(
        &self,
        scope: &PartitionScope,
        of: TransferOf<'_>,
    ) -> Result<(), ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        of.note(&mut tx);
        Ok(tx.commit().await?)
    }

    /// What a search finds, as UIDs joined by slashes, `most` at the most.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn found_resources(
        &self,
        scope: &Scope,
        plan: SearchPlan,
        filters: Vec<Filter>,
        most: usize,
    ) -> Result<Vec<String>, TooMany> {
        let found = self.search_whole(scope, plan, filters, most).await?;
        found.ok_or(TooMany::Found)
    }
}
