//! Blobs awaiting removal: those whose last instance was deleted, copies that came to nothing, and
//! what compaction replaced.
//!
//! Holds: a claimed blob never comes back, since it may be gone (`attempts` counts claims); one that
//! cannot be removed is tried again later and later, in the end once a day, and stays on the record
//! until it is gone. Those that hold nothing but what rejection notes hide are due in a far time, and
//! count as awaiting nothing. Absent: who removes them, and when (the workers).

use std::time::Duration;

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx, ScopedTx, lookup::one, operations::Purging, registry};
use crate::tenancy::PartitionId;

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

const REMOVALS_FAILED: &str = concat!(
    "-- blob_removals_failed
    UPDATE blob_removal t SET error = n.error,
        due_at = now() + make_interval(secs =>
            least($5::float8, $4::float8 * 2 ^ least(t.attempts - 1, 30)))
    FROM unnest($2::uuid[], $3::text[]) AS n(key, error) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.attempts"
);

/// What failed before is due at once, with as many tries as at first.
const RETRY: &str = "-- blob_removals_retry
    UPDATE blob_removal t SET due_at = now(), attempts = least(t.attempts, 1)
    FROM (SELECT ctid AS at, error FROM blob_removal
        WHERE partition_id = $1 AND due_at > now()
        ORDER BY due_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.error IS NOT NULL";

const COUNT_DUE: &str = "-- blob_removals_count
    SELECT count(*) FROM (SELECT FROM blob_removal
        WHERE partition_id = $1 AND due_at <= now() ORDER BY due_at LIMIT $2) x";

const WAITING: &str = "-- blob_removals_waiting
    SELECT count(*), count(*) FILTER (WHERE attempts >= $3 AND error IS NOT NULL),
        (extract(epoch FROM min(due_at) - now()))::float8
    FROM (SELECT attempts, error, due_at FROM blob_removal
        WHERE partition_id = $1 AND due_at > '-infinity' AND due_at < '9000-01-01'
        ORDER BY due_at LIMIT $2) x";

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

pub(super) const STATEMENTS: &[&str] =
    &[REMOVALS_DUE, REMOVED, REMOVALS_FAILED, RETRY, COUNT_DUE, WAITING, KNOWN];

/// What partitions of a scope have yet to get rid of, those alone that have something.
const LIST: &str = "-- removals_list
    SELECT p.id, r.count, r.bytes, r.next, r.failed, c.count, c.failed, f.blobs
    FROM unnest($1::text[]) AS p(id)
    CROSS JOIN LATERAL (SELECT count(*) AS count, coalesce(sum(length), 0)::bigint AS bytes,
            min(due_at) AS next,
            count(*) FILTER (WHERE attempts >= $2 AND error IS NOT NULL) AS failed
        FROM blob_removal WHERE partition_id = p.id AND due_at < '9000-01-01') r
    CROSS JOIN LATERAL (SELECT count(*) AS count,
            count(*) FILTER (WHERE attempts >= $2 AND error IS NOT NULL) AS failed
        FROM blob_compaction WHERE partition_id = p.id) c
    CROSS JOIN LATERAL (SELECT array_agg(jsonb_build_object('blob', blob_id, 'kind', kind,
            'attempts', attempts, 'nextAttempt', due_at, 'error', error)::text) AS blobs
        FROM ((SELECT 'purge' AS kind, blob_id, attempts, due_at, error FROM blob_removal
                WHERE partition_id = p.id AND error IS NOT NULL ORDER BY due_at LIMIT 20)
            UNION ALL (SELECT 'compact', blob_id, attempts, due_at, error FROM blob_compaction
                WHERE partition_id = p.id AND error IS NOT NULL ORDER BY due_at LIMIT 20)
            ORDER BY due_at LIMIT 20) x) f
    WHERE r.count > 0 OR c.count > 0
    ORDER BY p.id LIMIT $3 OFFSET $4";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[LIST];

/// How long a claim on a due removal lasts. Removing a page of blobs takes seconds; removing one
/// twice does no harm.
const CLAIM: Duration = Duration::from_secs(600);
/// Wait before a removal (or a compaction) that failed is tried again; doubled each time.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(60);
/// Longest wait between two tries.
pub(super) const RETRY_CAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Tries after which a removal (or a compaction) counts as failed, until somebody looks after it: it
/// is tried once a day from then on.
pub(super) const ATTEMPTS: i32 = 10;
/// Most blobs that are counted.
const COUNTED: i64 = 100_000;

/// What a partition has yet to get rid of.
#[derive(Clone, Debug, PartialEq)]
pub struct Removals {
    /// The partition.
    pub partition: PartitionId,
    /// Blobs that await removal.
    pub awaiting: i64,
    /// Their bytes, as far as they are known.
    pub bytes: i64,
    /// When the next one is due.
    pub next_at: Option<OffsetDateTime>,
    /// Those of them that could not be removed again and again.
    pub failed: i64,
    /// Blobs that hold bytes of deleted instances beside others.
    pub compactions: i64,
    /// Those of them that could not be rewritten again and again.
    pub compactions_failed: i64,
    /// The first twenty of both whose last try failed: JSON objects.
    pub errors: Vec<serde_json::Value>,
}

/// What awaits removal in a partition, counted up to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Blobs.
    pub blobs: i64,
    /// Those that count as failed.
    pub failed: i64,
    /// Time until the next one is due.
    pub next: Option<Duration>,
}

impl PartitionTx {
    /// Begins the operation that removes what is due, if anything is and none is under way.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn purge_create(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(COUNT_DUE);
        let due: i64 = query.bind(COUNTED).fetch_one(conn).await?.try_get(0)?;
        if due > 0 {
            self.operation_create(Uuid::new_v4(), &[], Some(due), &Purging {}).await?;
        }
        Ok(due > 0)
    }

    /// Claims blobs whose removal is due, at most `limit`. Commit, remove them from the store, and
    /// then report them with [`PartitionTx::blob_removed`] or
    /// [`PartitionTx::blob_removals_failed`]; one that is never reported becomes due again.
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
        self.composed_removed(blobs).await?;
        let (query, conn) = self.statement(REMOVED);
        query.bind(blobs).execute(conn).await?;
        Ok(())
    }

    /// These blobs could not be removed, for reasons that tell nothing of anybody; they are tried
    /// again later, and later each time. Says how many of them count as failed now.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blob_removals_failed(
        &mut self,
        blobs: &[(Uuid, String)],
    ) -> Result<u64, IndexError> {
        let (ids, errors): (Vec<Uuid>, Vec<&str>) =
            blobs.iter().map(|(id, error)| (*id, error.as_str())).unzip();
        let (query, conn) = self.statement(REMOVALS_FAILED);
        let query = query.bind(ids).bind(errors).bind(RETRY_FIRST.as_secs_f64());
        let mut failed = 0;
        for row in query.bind(RETRY_CAP.as_secs_f64()).fetch_all(conn).await? {
            failed += u64::from(row.try_get::<i32, _>(0)? == ATTEMPTS);
        }
        Ok(failed)
    }

    /// Makes everything whose last try failed due at once.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn removals_retry(&mut self) -> Result<(), IndexError> {
        let (query, conn) = self.statement(RETRY);
        query.execute(conn).await?;
        self.compactions_retry().await
    }

    /// What awaits removal.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn removals_waiting(&mut self) -> Result<Waiting, IndexError> {
        let (query, conn) = self.statement(WAITING);
        let row = query.bind(COUNTED).bind(ATTEMPTS).fetch_one(conn).await?;
        let next: Option<f64> = row.try_get(2)?;
        let next = next.map(|next| Duration::from_secs_f64(next.max(0.0)));
        Ok(Waiting { blobs: row.try_get(0)?, failed: row.try_get(1)?, next })
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

impl ScopedTx {
    /// What partitions of the scope have yet to get rid of, those alone that have something: a page
    /// (limit, offset), by partition.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn removals(&mut self, page: (i64, i64)) -> Result<Vec<Removals>, IndexError> {
        let (query, conn) = self.statement(LIST);
        let rows = query.bind(ATTEMPTS).bind(page.0).bind(page.1).fetch_all(conn).await?;
        rows.iter()
            .map(|row| {
                let wrong = |_| IndexError::Inconsistent { table: "blob_removal", column: "error" };
                let errors: Option<Vec<String>> = row.try_get(7)?;
                let read = |text: &String| serde_json::from_str(text).map_err(wrong);
                Ok(Removals {
                    partition: registry::partition(row, 0)?,
                    awaiting: row.try_get(1)?,
                    bytes: row.try_get(2)?,
                    next_at: row.try_get(3)?,
                    failed: row.try_get(4)?,
                    compactions: row.try_get(5)?,
                    compactions_failed: row.try_get(6)?,
                    errors: errors.iter().flatten().map(read).collect::<Result<_, _>>()?,
                })
            })
            .collect()
    }
}
