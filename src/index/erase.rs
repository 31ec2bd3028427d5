//! Erasure: what is to be gone at once, and when it is.
//!
//! An erasure deletes what is live and wipes tombstones, so that nothing of it can come back, and
//! names every blob that may hold its bytes: those of its instances, copies of them that are being
//! written, and blobs that compaction replaced and that linger. Blobs with nothing else to keep are
//! due for removal at once, the others for compaction. The operation ends when none of the blobs is
//! known any more: then no byte is in the store.
//!
//! Absent: the work itself (`removal`, `compaction`).

use std::{collections::BTreeSet, time::Duration};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, OperationKind, OperationState, PartitionTx, Target, delete::BLOB_LOCK, lookup::one,
    removal::ATTEMPTS,
};

/// Tombstones that still say where bytes are. `$3` and `$4` narrow to a series, an instance.
const TOMBSTONES: &str = concat!(
    "-- erase_tombstones
    SELECT d.watermark, d.blob_id, d.length FROM ",
    one!("*", "deleted_instance", "study_instance_uid", "$2"),
    " d
    WHERE ($3::text IS NULL OR d.series_instance_uid = $3)
        AND ($4::text IS NULL OR d.sop_instance_uid = $4)"
);

pub(super) const LOCK_DEAD: &str = concat!(
    "-- erase_lock_dead
    SELECT b.blob_id FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("blob_id", "blob_removal", "blob_id", "n.key", "FOR UPDATE"),
    " b"
);

const WIPE: &str = concat!(
    "-- erase_wipe
    UPDATE deleted_instance t SET restorable_until = NULL, blob_offset = 0, length = 0,
        sha256 = '', received_sha256 = NULL
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "deleted_instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.blob_id"
);

/// Of blobs that hold something else as well, live or able to come back: a compaction, at once.
const WANT: &str = concat!(
    "-- erase_want
    INSERT INTO blob_compaction (partition_id, blob_id, due_at, is_wanted)
    SELECT $1, n.key, now(), true FROM unnest($2::uuid[]) AS n(key)
    WHERE ",
    one!("1", "blob", "blob_id", "n.key"),
    " IS NOT NULL
        OR (SELECT 1 FROM deleted_instance d
            WHERE d.partition_id = $1 AND d.blob_id >= n.key AND d.blob_id <= n.key
                AND d.restorable_until > now()
            ORDER BY d.blob_id LIMIT 1) IS NOT NULL
    ON CONFLICT (partition_id, blob_id) DO UPDATE SET is_wanted = true, due_at = now(),
        attempts = 0
    RETURNING blob_id"
);

/// Of the others: removal. What lingers for those who read it is not cut short.
const HURRY: &str = concat!(
    "-- erase_hurry
    UPDATE blob_removal t SET due_at = least(t.due_at, now())
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at, moved_to", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.moved_to IS NULL
        AND (SELECT 1 FROM deleted_instance d
            WHERE d.partition_id = $1 AND d.blob_id >= n.key AND d.blob_id <= n.key
                AND d.restorable_until > now()
            ORDER BY d.blob_id LIMIT 1) IS NULL"
);

/// The blobs that must go, with copies that are being written of them, and with those that they
/// are copies of.
const AWAIT: &str = concat!(
    "-- erase_await
    INSERT INTO erasure_blob (partition_id, blob_id, operation_id)
    SELECT $1, k.id, $3
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL (
        SELECT n.key AS id
        UNION ALL SELECT c.into_blob_id FROM ",
    one!("into_blob_id", "blob_compaction", "blob_id", "n.key"),
    " c WHERE c.into_blob_id IS NOT NULL
        UNION ALL SELECT r.blob_id FROM ",
    one!("blob_id", "blob_removal", "moved_to", "n.key"),
    " r) k
    WHERE ",
    one!("1", "blob", "blob_id", "k.id"),
    " IS NOT NULL
        OR ",
    one!("1", "blob_removal", "blob_id", "k.id"),
    " IS NOT NULL
    ON CONFLICT (partition_id, blob_id, operation_id) DO NOTHING"
);

/// What was tried before and is there still has as many tries as at first.
const ANEW: &str = concat!(
    "-- erase_anew
    UPDATE blob_removal t SET due_at = least(t.due_at, now()), attempts = 1
    FROM ",
    one!("blob_id", "erasure_blob", "operation_id", "$2"),
    " e CROSS JOIN LATERAL ",
    one!("ctid AS at, attempts", "blob_removal", "blob_id", "e.blob_id"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.attempts > 0"
);

/// Those that are gone by now.
const GONE: &str = concat!(
    "-- erase_gone
    DELETE FROM erasure_blob t
    USING (SELECT e.ctid AS at, e.blob_id FROM erasure_blob e
        WHERE e.partition_id = $1 AND e.blob_id >= '00000000-0000-0000-0000-000000000000'
        ORDER BY e.blob_id) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
        AND ",
    one!("1", "blob", "blob_id", "x.blob_id"),
    " IS NULL
        AND ",
    one!("1", "blob_removal", "blob_id", "x.blob_id"),
    " IS NULL
    RETURNING t.operation_id"
);

const PROCESSED: &str = concat!(
    "-- erase_processed
    UPDATE operation t SET processed = t.processed + $3, updated_at = now(),
        state = CASE WHEN t.ended_at IS NULL THEN 'running' ELSE t.state END
    WHERE t.partition_id = $1 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

/// Erasures under way; whether something is left of each, and how much of that failed again and
/// again.
const PENDING: &str = concat!(
    "-- erase_pending
    SELECT o.operation_id,
        (SELECT 1 FROM erasure_blob e
            WHERE e.partition_id = $1 AND e.operation_id >= o.operation_id
                AND e.operation_id <= o.operation_id
            ORDER BY e.operation_id LIMIT 1) IS NULL,
        (SELECT count(*) FROM ",
    one!("blob_id", "erasure_blob", "operation_id", "o.operation_id"),
    " e WHERE ",
    one!("attempts", "blob_removal", "blob_id", "e.blob_id"),
    " >= $2 OR ",
    one!("attempts", "blob_compaction", "blob_id", "e.blob_id"),
    " >= $2)
    FROM (SELECT operation_id FROM operation
        WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NULL
            AND kind = 'erase'
        ORDER BY created_at, operation_id LIMIT 1000) o"
);

const GIVE_UP: &str = concat!(
    "-- erase_give_up
    DELETE FROM erasure_blob t USING ",
    one!("ctid AS at", "erasure_blob", "operation_id", "$2"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

pub(super) const STATEMENTS: &[&str] =
    &[TOMBSTONES, LOCK_DEAD, WIPE, WANT, HURRY, AWAIT, ANEW, GONE, PROCESSED, PENDING, GIVE_UP];

/// What an erasure found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Watermarks of instances that were live.
    pub live: Vec<i64>,
    /// How many were deleted before.
    pub deleted: u64,
}

impl PartitionTx {
    /// Erases `target`: deletes what is live and wipes what was deleted before. The operation
    /// `id`, shown as working on `resource`, ends when no byte of it is in the store.
    ///
    /// # Errors
    /// [`IndexError::Busy`]: repeat the whole transaction. Nothing is erased before
    /// [`PartitionTx::commit`]; where nothing was found there is no operation either.
    pub async fn erase(
        &mut self,
        target: &Target,
        id: Uuid,
        resource: &str,
    ) -> Result<Erased, IndexError> {
        let live = self.delete_live(target, Duration::ZERO).await?;
        let (query, conn) = self.statement(TOMBSTONES);
        let query = query
            .bind(target.study().as_str())
            .bind(target.series().map(|uid| uid.as_str()))
            .bind(target.instance().map(|uid| uid.as_str()));
        let rows = query.fetch_all(conn).await?;
        let mut watermarks: Vec<i64> = Vec::new();
        let mut blobs: BTreeSet<Uuid> = BTreeSet::new();
        for row in &rows {
            // What was wiped before may still wait for its blob.
            blobs.insert(row.try_get(1)?);
            if row.try_get::<i64, _>(2)? > 0 {
                watermarks.push(row.try_get(0)?);
            }
        }
        let deleted = (rows.len() - live.len()) as u64;
        if rows.is_empty() {
            return Ok(Erased::default());
        }
        let blobs: Vec<Uuid> = blobs.into_iter().collect();
        for sql in [BLOB_LOCK, LOCK_DEAD] {
            let (query, conn) = self.statement(sql);
            query.bind(&blobs).execute(conn).await?;
        }
        let (query, conn) = self.statement(WIPE);
        for row in query.bind(&watermarks).fetch_all(conn).await? {
            // A compaction moved it between the look and the lock.
            if blobs.binary_search(&row.try_get(0)?).is_err() {
                return Err(IndexError::Busy);
            }
        }
        for sql in [WANT, HURRY] {
            let (query, conn) = self.statement(sql);
            query.bind(&blobs).execute(conn).await?;
        }
        let (query, conn) = self.statement(AWAIT);
        let awaited = query.bind(&blobs).bind(id).execute(conn).await?.rows_affected();
        let (query, conn) = self.statement(ANEW);
        query.bind(id).execute(conn).await?;
        let (resources, total) = ([resource.to_owned()], i64::try_from(awaited).ok());
        let cursor = serde_json::json!({});
        self.operation_insert(id, OperationKind::Erase, &resources, total, &cursor).await?;
        Ok(Erased { live, deleted })
    }

    /// Notes what is gone of what erasures wait for, and ends those that wait for nothing more, or
    /// for what cannot be removed. Says how many there are still.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn erasures_settle(&mut self) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(PENDING);
        if query.bind(ATTEMPTS).fetch_all(conn).await?.is_empty() {
            return Ok(0);
        }
        let (query, conn) = self.statement(GONE);
        let mut gone: std::collections::BTreeMap<Uuid, i64> = std::collections::BTreeMap::new();
        for row in query.fetch_all(conn).await? {
            *gone.entry(row.try_get(0)?).or_default() += 1;
        }
        for (id, count) in gone {
            let (query, conn) = self.statement(PROCESSED);
            query.bind(id).bind(count).execute(conn).await?;
        }
        let (query, conn) = self.statement(PENDING);
        let (mut pending, rows) = (0, query.bind(ATTEMPTS).fetch_all(conn).await?);
        for row in rows {
            let (id, is_done, failed): (Uuid, bool, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if is_done {
                self.operation_end(id, OperationState::Succeeded, None).await?;
            } else if failed > 0 {
                let (query, conn) = self.statement(GIVE_UP);
                query.bind(id).execute(conn).await?;
                let error = format!(
                    "{failed} blobs could not be removed; they are tried again once a day, \
                     or when asked to"
                );
                self.operation_end(id, OperationState::Failed, Some(&error)).await?;
            } else {
                pending += 1;
            }
        }
        Ok(pending)
    }
}
