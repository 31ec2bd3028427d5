//! Blobs awaiting removal, and which blobs the index knows: what the background tasks work from.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, PartitionTx, lookup::one};

/// Claims by moving the due time: a worker that dies leaves the blob to be tried again later.
const REMOVALS_DUE: &str = "-- blob_removals_due
    UPDATE blob_removal t
    SET due_at = now() + make_interval(secs => $3), attempts = t.attempts + 1
    FROM (SELECT ctid AS at FROM blob_removal
        WHERE partition_id = $1 AND due_at <= now()
        ORDER BY due_at LIMIT $2
        FOR UPDATE SKIP LOCKED) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.blob_id";

const REMOVED: &str = concat!(
    "-- blob_removed
    DELETE FROM blob_removal t
    USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const REMOVAL_FAILED: &str = concat!(
    "-- blob_removal_failed
    UPDATE blob_removal t SET due_at = now() + make_interval(secs => $3)
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob_removal", "blob_id", "$2")
);

const KNOWN: &str = concat!(
    "-- blobs_known
    SELECT n.key FROM unnest($2::uuid[]) AS n(key)
    WHERE ",
    one!("1", "blob", "blob_id", "n.key"),
    " IS NOT NULL
        OR ",
    one!("1", "blob_removal", "blob_id", "n.key"),
    " IS NOT NULL"
);

pub(super) const STATEMENTS: &[&str] = &[REMOVALS_DUE, REMOVED, REMOVAL_FAILED, KNOWN];

/// How long a claim on a due removal lasts. Removing a page of blobs takes seconds; removing one
/// twice does no harm.
const CLAIM: Duration = Duration::from_secs(600);

impl PartitionTx {
    /// Claims blobs whose removal is due, at most `limit`. Commit, remove them from the store, and
    /// then report each with [`PartitionTx::blob_removed`] or
    /// [`PartitionTx::blob_removal_failed`]; one that is never reported becomes due again.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blob_removals_due(&mut self, limit: i64) -> Result<Vec<Uuid>, IndexError> {
        let (query, conn) = self.statement(REMOVALS_DUE);
        let rows = query.bind(limit).bind(CLAIM.as_secs_f64()).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The blobs are gone from the store.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blob_removed(&mut self, blobs: &[Uuid]) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVED);
        query.bind(blobs).execute(conn).await?;
        Ok(())
    }

    /// The blob could not be removed; it is tried again after `backoff`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blob_removal_failed(
        &mut self,
        blob: Uuid,
        backoff: Duration,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVAL_FAILED);
        query.bind(blob).bind(backoff.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    /// Which of `blobs` the index knows, live or awaiting removal; the others are orphans (or
    /// belong to a store that has not committed yet).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blobs_known(&mut self, blobs: &[Uuid]) -> Result<Vec<Uuid>, IndexError> {
        let (query, conn) = self.statement(KNOWN);
        let rows = query.bind(blobs).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
