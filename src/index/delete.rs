//! Delete: a study, a series or an instance, with everything that hangs on it.
//!
//! The study row is locked first and for itself alone: stores to the study hold it shared, other
//! deletes wait, so that from then on nothing under it changes. Next the blobs: one blob may hold
//! instances of several studies, and who deletes the last live one must know that he does.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, PartitionTx, Target};

const STUDY_LOCK: &str = "-- delete_study_lock
    SELECT study_key FROM study WHERE partition_id = $1 AND study_instance_uid = $2 FOR UPDATE";

/// The watermarks of what goes, and their blobs. `$3` and `$4` narrow to a series, an instance.
const VICTIMS: &str = "-- delete_victims
    SELECT i.watermark, i.series_key, i.blob_id
    FROM instance i
    WHERE i.partition_id = $1 AND i.study_key = $2
        AND ($3::text IS NULL OR i.series_key = (
            SELECT series_key FROM series
            WHERE partition_id = $1 AND study_key = $2 AND series_instance_uid = $3))
        AND ($4::text IS NULL OR i.sop_instance_uid = $4)";

const BLOB_LOCK: &str = "-- delete_blob_lock
    SELECT blob_id FROM blob WHERE partition_id = $1 AND blob_id = ANY($2::uuid[])
    ORDER BY blob_id FOR UPDATE";

const TOMBSTONES: &str = "-- delete_tombstones
    INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid,
        series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id,
        blob_offset, length, data_set_offset, sha256, stored_at)
    SELECT i.partition_id, i.watermark, $3, e.series_instance_uid, i.sop_instance_uid,
        i.sop_class_uid, i.transfer_syntax_uid, i.blob_id, i.blob_offset, i.length,
        i.data_set_offset, i.sha256, i.stored_at
    FROM instance i
    JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key
    WHERE i.partition_id = $1 AND i.watermark = ANY($2::bigint[])
    RETURNING watermark";

const FEED: &str = "-- delete_feed
    INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark)
    SELECT partition_id, 'delete', study_instance_uid, series_instance_uid, sop_instance_uid,
        watermark
    FROM deleted_instance
    WHERE partition_id = $1 AND watermark = ANY($2::bigint[])
    ORDER BY watermark
    RETURNING event_id";

const METADATA: &str = "-- delete_metadata
    DELETE FROM instance_metadata WHERE partition_id = $1 AND watermark = ANY($2::bigint[])";

const FRAMES: &str = "-- delete_frames
    DELETE FROM frame_table WHERE partition_id = $1 AND watermark = ANY($2::bigint[])";

const INSTANCES: &str = "-- delete_instances
    DELETE FROM instance WHERE partition_id = $1 AND watermark = ANY($2::bigint[])";

const SERIES: &str = "-- delete_series
    DELETE FROM series WHERE partition_id = $1 AND series_key = ANY($2::bigint[])
        AND NOT EXISTS (SELECT FROM instance i
            WHERE i.partition_id = $1 AND i.series_key = series.series_key)";

const STUDY: &str = "-- delete_study
    DELETE FROM study WHERE partition_id = $1 AND study_key = $2
        AND NOT EXISTS (SELECT FROM series e
            WHERE e.partition_id = $1 AND e.study_key = study.study_key)";

const BLOBS_QUEUE: &str = "-- delete_blobs_queue
    INSERT INTO blob_removal (partition_id, blob_id, due_at)
    SELECT b.partition_id, b.blob_id, now() + make_interval(secs => $3)
    FROM blob b
    WHERE b.partition_id = $1 AND b.blob_id = ANY($2::uuid[])
        AND NOT EXISTS (SELECT FROM instance i
            WHERE i.partition_id = $1 AND i.blob_id = b.blob_id)
    RETURNING blob_id";

const BLOBS: &str = "-- delete_blobs
    DELETE FROM blob WHERE partition_id = $1 AND blob_id = ANY($2::uuid[])";

pub(super) const STATEMENTS: &[&str] = &[
    STUDY_LOCK,
    VICTIMS,
    BLOB_LOCK,
    TOMBSTONES,
    FEED,
    METADATA,
    FRAMES,
    INSTANCES,
    SERIES,
    STUDY,
    BLOBS_QUEUE,
    BLOBS,
];

impl PartitionTx {
    /// Deletes `target`; answers how many instances that were (0: it is not there). Blobs without
    /// a live instance become due for removal after `grace`.
    ///
    /// # Errors
    /// [`IndexError::Busy`]: repeat the whole transaction. Nothing is deleted before
    /// [`PartitionTx::commit`].
    pub async fn delete(&mut self, target: &Target, grace: Duration) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(STUDY_LOCK);
        let study = target.study().as_str();
        let Some(row) = query.bind(study).fetch_optional(conn).await? else { return Ok(0) };
        let study_key: i64 = row.try_get(0)?;

        let (query, conn) = self.statement(VICTIMS);
        let query = query
            .bind(study_key)
            .bind(target.series().map(|uid| uid.as_str()))
            .bind(target.instance().map(|uid| uid.as_str()));
        let rows = query.fetch_all(conn).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut watermarks: Vec<i64> = Vec::with_capacity(rows.len());
        let (mut series, mut blobs): (Vec<i64>, Vec<Uuid>) = (Vec::new(), Vec::new());
        for row in &rows {
            watermarks.push(row.try_get(0)?);
            series.push(row.try_get(1)?);
            blobs.push(row.try_get(2)?);
        }
        series.sort_unstable();
        series.dedup();
        blobs.sort_unstable();
        blobs.dedup();

        let (query, conn) = self.statement(BLOB_LOCK);
        query.bind(&blobs).execute(conn).await?;
        let (query, conn) = self.statement(TOMBSTONES);
        query.bind(&watermarks).bind(study).execute(conn).await?;
        for sql in [FEED, METADATA, FRAMES, INSTANCES] {
            let (query, conn) = self.statement(sql);
            query.bind(&watermarks).execute(conn).await?;
        }
        let (query, conn) = self.statement(SERIES);
        query.bind(&series).execute(conn).await?;
        let (query, conn) = self.statement(STUDY);
        query.bind(study_key).execute(conn).await?;

        let (query, conn) = self.statement(BLOBS_QUEUE);
        let rows = query.bind(&blobs).bind(grace.as_secs_f64()).fetch_all(conn).await?;
        let dead: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if !dead.is_empty() {
            let (query, conn) = self.statement(BLOBS);
            query.bind(dead).execute(conn).await?;
        }
        Ok(watermarks.len() as u64)
    }
}
