//! Imports and exports as they are asked for: an operation for each, and what a query finds for one.

use std::sync::Arc;

use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Archive, ArchiveError, Filter, Returned, repeated::repeated};
use crate::{
    index::{IndexError, Progress, SearchPlan, SearchRow},
    tenancy::{PartitionScope, Scope},
};

/// Results of a search that are read at a time.
const PAGE: i64 = 500;

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

impl Archive {
    /// What is notified when there is something to import or export.
    pub fn transfers_wake(&self) -> Arc<Notify> {
        self.0.wake_transfers.clone()
    }

    /// Adds an import or an export, and has it begun. `resources` is how the operation shows what it
    /// works on, `place` what the audit log says of where that comes from or goes to.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn begin_transfer<P: Progress>(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        (resources, place): (&[String], &str),
        request: &(impl Serialize + Sync),
        cursor: &P,
    ) -> Result<(), ArchiveError> {
        repeated!(self.try_begin(scope, id, (resources, place), request, cursor))?;
        self.0.wake_transfers.notify_one();
        Ok(())
    }

    async fn try_begin<P: Progress>(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        (resources, place): (&[String], &str),
        request: &(impl Serialize + Sync),
        cursor: &P,
    ) -> Result<(), IndexError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.transfer_create(id, resources, request, cursor).await?;
        tx.audit_note("operation", id.simple().to_string());
        tx.audit_note("place", place);
        if !resources.is_empty() {
            tx.audit_note("resources", resources);
        }
        tx.commit().await
    }

    /// What a search finds, as UIDs joined by slashes, `most` at the most.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn found_resources(
        &self,
        scope: Scope,
        mut plan: SearchPlan,
        (filters, returned): (&[Filter], &Returned),
        most: usize,
    ) -> Result<Vec<String>, TooMany> {
        let named = Arc::new(|row: &SearchRow| {
            let parts = [Some(&row.study), row.series.as_ref(), row.instance.as_ref()];
            let parts: Vec<&str> = parts.into_iter().flatten().map(|uid| uid.as_str()).collect();
            parts.join("/")
        });
        let mut found = Vec::new();
        (plan.limit, plan.offset) = (PAGE, 0);
        loop {
            let (scope, filters, returned) = (scope.clone(), filters.to_vec(), returned.clone());
            let page = self.search(scope, plan.clone(), filters, returned, named.clone()).await?;
            let (results, remaining) = (page.results, page.remaining);
            plan.offset += results as i64;
            if found.len() + results > most {
                return Err(TooMany::Found);
            }
            let json: Vec<u8> = page
                .array()
                .try_fold(Vec::new(), |mut all, bytes| async move {
                    all.extend_from_slice(&bytes);
                    Ok(all)
                })
                .await?;
            let read: Vec<Value> = serde_json::from_slice(&json)
                .map_err(|error| ArchiveError::Internal(error.into()))?;
            let url = |one: &Value| one["00081190"]["Value"][0].as_str().map(str::to_owned);
            found.extend(read.iter().filter_map(url));
            if results == 0 || remaining == 0 {
                return Ok(found);
            }
        }
    }
}
