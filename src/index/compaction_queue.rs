//! The queue of blobs that compaction looks at: those that hold bytes of deleted instances beside
//! others, live or hidden by notes, once what was deleted cannot come back.
//!
//! Absent: looking at them (`compaction`); those that an erasure wants rewritten (`erase`).

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, PartitionTx, lookup::one, operations::Compacting};

const DUE: &str = "-- compactions_due
    SELECT blob_id FROM blob_compaction
    WHERE partition_id = $1 AND due_at <= now() ORDER BY due_at LIMIT $2";

const COUNT_DUE: &str = "-- compactions_count
    SELECT count(*) FROM (SELECT FROM blob_compaction
        WHERE partition_id = $1 AND due_at <= now() ORDER BY due_at LIMIT 100000) x";

/// Blobs to be looked at once what was deleted of them cannot come back: those that live, and those
/// that stay for what notes hide of them.
const LOOK: &str = concat!(
    "-- compaction_look
    INSERT INTO blob_compaction (partition_id, blob_id, due_at)
    SELECT $1, n.key, now() + make_interval(secs => $3) FROM unnest($2::uuid[]) AS n(key)
    WHERE ",
    one!("1", "blob", "blob_id", "n.key"),
    " IS NOT NULL
        OR ",
    one!("due_at", "blob_removal", "blob_id", "n.key"),
    " > '9000-01-01'
    ON CONFLICT (partition_id, blob_id) DO NOTHING"
);

const WAIT: &str = concat!(
    "-- compaction_wait
    UPDATE blob_compaction t SET due_at = now() + make_interval(secs => $3), error = $4,
        attempts = t.attempts - CASE WHEN $5 THEN 1 ELSE 0 END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob_compaction", "blob_id", "$2")
);

const DROP: &str = concat!(
    "-- compaction_drop
    DELETE FROM blob_compaction t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob_compaction", "blob_id", "$2")
);

const RETRY: &str = "-- compactions_retry
    UPDATE blob_compaction t SET due_at = now(), attempts = 0
    FROM (SELECT ctid AS at, error FROM blob_compaction
        WHERE partition_id = $1 AND due_at > now() ORDER BY due_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.error IS NOT NULL";

pub(super) const STATEMENTS: &[&str] = &[DUE, COUNT_DUE, LOOK, WAIT, DROP, RETRY];

impl PartitionTx {
    /// Begins the operation that rewrites what is due, unless one is under way.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn compact_create(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(COUNT_DUE);
        let due: i64 = query.fetch_one(conn).await?.try_get(0)?;
        if due > 0 {
            self.operation_create(Uuid::new_v4(), &[], Some(due), &Compacting {}).await?;
        }
        Ok(due > 0)
    }

    /// Blobs that are due to be looked at, the longest due first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn compactions_due(&mut self, limit: i64) -> Result<Vec<Uuid>, IndexError> {
        let (query, conn) = self.statement(DUE);
        let rows = query.bind(limit).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Lets blobs be looked at after `wait`, at the latest, where they live or stay for what notes
    /// hide.
    pub(super) async fn compaction_look(
        &mut self,
        blobs: &[Uuid],
        wait: Duration,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(LOOK);
        query.bind(blobs).bind(wait.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    pub(super) async fn compactions_retry(&mut self) -> Result<(), IndexError> {
        let (query, conn) = self.statement(RETRY);
        query.execute(conn).await?;
        Ok(())
    }

    pub(super) async fn compaction_wait(
        &mut self,
        blob: Uuid,
        wait: Duration,
        error: Option<&str>,
        is_no_try: bool,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(WAIT);
        let query = query.bind(blob).bind(wait.as_secs_f64()).bind(error).bind(is_no_try);
        Ok(query.execute(conn).await?.rows_affected() > 0)
    }

    pub(super) async fn compaction_drop(&mut self, blob: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(DROP);
        query.bind(blob).execute(conn).await?;
        Ok(())
    }
}
