//! The reindex: what is stored already, read for tags that were added since.
//!
//! Batches by watermark, each read in one transaction, derived outside of any, and written with the
//! cursor in another. Holds: killed at any point, what is committed is exactly what the cursor says.
//! Absent: when and how fast (the worker).

use sqlx::Row;
use uuid::Uuid;

use super::{
    Claim, Db, Derived, Deriver, IndexError, KnownTag, OperationState, PartitionTx, Reindexing,
    Source, TagStatus, lookup::one,
};
use crate::tenancy::PartitionScope;

/// Most instances of a batch.
const BATCH: i64 = 200;
/// Most bytes of compressed metadata in a batch, unless one instance has more.
const BATCH_BYTES: i64 = 4 << 20;

const SIZES: &str = "-- reindex_sizes
    SELECT watermark, octet_length(metadata)::bigint FROM instance_metadata
    WHERE partition_id = $1 AND watermark > $2 AND watermark <= $3
    ORDER BY watermark LIMIT $4";

const SOURCES: &str = concat!(
    "-- reindex_sources
    SELECT i.watermark, i.study_key, i.series_key, m.metadata
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("watermark, study_key, series_key", "instance", "watermark", "n.key"),
    " i CROSS JOIN LATERAL ",
    one!("metadata", "instance_metadata", "watermark", "n.key"),
    " m"
);

const COUNT: &str = "-- reindex_count
    SELECT count(*) FROM (SELECT FROM instance
        WHERE partition_id = $1 AND watermark > 0 AND watermark <= $2 ORDER BY watermark) x";

const NEWEST: &str = "-- reindex_newest
    SELECT coalesce((SELECT watermark FROM instance WHERE partition_id = $1 AND watermark > 0
        ORDER BY watermark DESC LIMIT 1), 0)";

pub(super) const STATEMENTS: &[&str] = &[SIZES, SOURCES, COUNT, NEWEST];

/// What became of a step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Instances were indexed; there may be more.
    Indexed {
        /// How many.
        instances: u64,
        /// How many had errors.
        failed: u64,
    },
    /// The operation has ended.
    Ended,
    /// Somebody else has it now.
    Lost,
}

impl Db {
    /// Does one batch of a claimed operation, and moves its cursor. What was done is committed.
    ///
    /// # Errors
    /// [`IndexError`]; what earlier steps did stays.
    pub async fn reindex_step(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Reindexing>,
        owner: Uuid,
    ) -> Result<Step, IndexError> {
        if std::mem::take(&mut claim.wants_total) {
            match self.reindex_total(scope, claim).await {
                // Without its total an operation says less, and does as much.
                Ok(()) | Err(IndexError::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        let mut tx = self.begin_in(scope).await?;
        let tags = tx.tags_of(claim.id).await?;
        if tags.is_empty() {
            tx.operation_end(claim.id, OperationState::Canceled, None).await?;
            tx.commit().await?;
            return Ok(Step::Ended);
        }
        let sources = tx.reindex_sources(claim.cursor).await?;
        tx.commit().await?;
        let Some(sources) = sources else {
            return self.reindex_end(scope, claim, owner).await;
        };
        let (mut instances, mut failed) = (0, 0);
        let mut deriver = Deriver::new(tags, sources);
        while let Some(derived) = deriver.next().await? {
            let (count, errors) = (derived.instances.len() as u64, derived.failed() as u64);
            match self.reindex_write(scope, claim, owner, derived).await? {
                Some(step) => return Ok(step),
                None => (instances, failed) = (instances + count, failed + errors),
            }
        }
        Ok(Step::Indexed { instances, failed })
    }

    /// Counts the instances of an operation.
    async fn reindex_total(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Reindexing>,
    ) -> Result<(), IndexError> {
        let mut tx = self.begin_in(scope).await?;
        let total = tx.reindex_count(claim.cursor.until).await?;
        tx.operation_total(claim.id, total).await?;
        tx.commit().await
    }

    /// Writes what was derived; `None` where the operation goes on.
    async fn reindex_write(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Reindexing>,
        owner: Uuid,
        mut derived: Derived,
    ) -> Result<Option<Step>, IndexError> {
        let Some((last, _)) = derived.instances.last().copied() else { return Ok(None) };
        let cursor = Reindexing { after: last, ..claim.cursor };
        let count = derived.instances.len() as i64;
        let mut tx = self.begin_store(scope).await?;
        // Tags that are being deleted since must get no values any more.
        let tags = tx.tags_of(claim.id).await?;
        derived.keep_tags(|id| tags.iter().any(|tag| tag.id == id));
        let progress = (count, derived.failed() as i64);
        tx.index_derived(derived).await?;
        let Some(is_canceled) = tx.operation_advance((claim.id, owner), &cursor, progress).await?
        else {
            return Ok(Some(Step::Lost));
        };
        if is_canceled {
            tx.operation_end(claim.id, OperationState::Canceled, None).await?;
        }
        tx.commit().await?;
        claim.cursor = cursor;
        Ok(is_canceled.then_some(Step::Ended))
    }

    async fn reindex_end(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Reindexing>,
        owner: Uuid,
    ) -> Result<Step, IndexError> {
        let cursor = Reindexing { after: claim.cursor.until, ..claim.cursor };
        let mut tx = self.begin_store(scope).await?;
        let Some(is_canceled) = tx.operation_advance((claim.id, owner), &cursor, (0, 0)).await?
        else {
            return Ok(Step::Lost);
        };
        if is_canceled {
            tx.operation_end(claim.id, OperationState::Canceled, None).await?;
        } else {
            tx.tags_ready(claim.id).await?;
            tx.operation_end(claim.id, OperationState::Succeeded, None).await?;
        }
        tx.commit().await?;
        Ok(Step::Ended)
    }
}

impl PartitionTx {
    /// Asks for what the partition holds to be indexed for tags with these paths: from the first
    /// instance to the last one there is, since later ones are indexed by their stores.
    pub(super) async fn reindex_create(
        &mut self,
        id: Uuid,
        paths: &[String],
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(NEWEST);
        let until = query.fetch_one(conn).await?.try_get(0)?;
        self.operation_create(id, paths, None, &Reindexing { after: 0, until }).await
    }

    /// The tags that an operation indexes still.
    async fn tags_of(&mut self, operation: Uuid) -> Result<Vec<KnownTag>, IndexError> {
        let mut tags = self.tags_known().await?;
        tags.retain(|tag| tag.operation == operation && tag.status == TagStatus::Adding);
        Ok(tags)
    }

    async fn reindex_count(&mut self, until: i64) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.bind(until).fetch_one(conn).await?.try_get(0)?)
    }

    /// The next instances, with their metadata, by watermark; `None` at the end. (None at all:
    /// they were deleted while they were looked at, and others follow.)
    async fn reindex_sources(
        &mut self,
        cursor: Reindexing,
    ) -> Result<Option<Vec<Source>>, IndexError> {
        let (query, conn) = self.statement(SIZES);
        let query = query.bind(cursor.after).bind(cursor.until).bind(BATCH);
        let (mut watermarks, mut bytes) = (Vec::new(), 0);
        for row in query.fetch_all(conn).await? {
            let (watermark, size): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            bytes += size;
            if bytes > BATCH_BYTES && !watermarks.is_empty() {
                break;
            }
            watermarks.push(watermark);
        }
        if watermarks.is_empty() {
            return Ok(None);
        }
        let (query, conn) = self.statement(SOURCES);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        let mut sources = Vec::with_capacity(rows.len());
        for row in &rows {
            let parents = (row.try_get(1)?, row.try_get(2)?);
            let (watermark, metadata) = (row.try_get(0)?, row.try_get(3)?);
            sources.push(Source { watermark, parents, metadata });
        }
        sources.sort_by_key(|source: &Source| source.watermark);
        Ok(Some(sources))
    }
}
