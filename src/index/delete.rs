//! Delete: a study, a series or an instance, with everything that hangs on it.
//!
//! The study row is locked first and for itself alone: stores to the study hold it shared, other
//! deletes wait, so that from then on nothing under it changes but where its bytes are. Next the
//! blobs: one blob may hold instances of several studies, and who deletes the last live one must
//! know that he does; and compaction, which moves instances, holds the blob that it moves them from.
//!
//! What is deleted leaves a tombstone, which says until when it can come back (`undelete`). A blob
//! without a live instance is queued for removal (`removal`), one with others for compaction.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, PartitionTx, Target,
    lookup::{
        delete_each, one, series_uid_of_i, without_instances, without_series, without_series_row,
    },
    tag_values::{DELETE_ERRORS, DELETE_VALUES},
};
use crate::dicom::Uid;

const STUDY_LOCK: &str = concat!(
    "-- delete_study_lock
    SELECT s.study_key FROM ",
    one!("study_key", "study", "study_instance_uid", "$2", "FOR UPDATE"),
    " s"
);

/// How often a study is looked for. Who waited for an update finds the row gone that it waited for,
/// and the study under a new one at the next look (see `update`).
const STUDY_LOOKS: usize = 3;

/// The watermarks of what goes, and their blobs. `$3` and `$4` narrow to a series, an instance.
const VICTIMS: &str = concat!(
    "-- delete_victims
    SELECT i.watermark, i.series_key, i.blob_id
    FROM ",
    one!("*", "instance", "study_key", "$2", ", watermark"),
    " i
    WHERE ($3::text IS NULL OR ",
    series_uid_of_i!(),
    " = $3)
        AND ($4::text IS NULL OR i.sop_instance_uid = $4)"
);

/// Locks those of some blobs that are live.
pub(super) const BLOB_LOCK: &str = concat!(
    "-- delete_blob_lock
    SELECT b.blob_id FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("blob_id", "blob", "blob_id", "n.key", "FOR UPDATE"),
    " b"
);

const TOMBSTONES: &str = concat!(
    "-- delete_tombstones
    INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid,
        series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id,
        blob_offset, length, data_set_offset, sha256, received_sha256, stored_at,
        restorable_until)
    SELECT i.partition_id, i.watermark, $3, ",
    series_uid_of_i!(),
    ", i.sop_instance_uid,
        i.sop_class_uid, i.transfer_syntax_uid, i.blob_id, i.blob_offset, i.length,
        i.data_set_offset, i.sha256, i.received_sha256, i.stored_at, now() + make_interval(secs => $4)
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i
    RETURNING watermark"
);

const FEED: &str = concat!(
    "-- delete_feed
    INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark)
    SELECT d.partition_id, 'delete', d.study_instance_uid, d.series_instance_uid,
        d.sop_instance_uid, d.watermark
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "deleted_instance", "watermark", "n.key"),
    " d
    RETURNING event_id"
);

const METADATA: &str = delete_each!("delete_metadata", "instance_metadata", "watermark", "");
const FRAMES: &str = delete_each!("delete_frames", "frame_table", "watermark", "");
const INSTANCES: &str = delete_each!("delete_instances", "instance", "watermark", "");
const SERIES: &str = delete_each!("delete_series", "series", "series_key", without_instances!());
const STUDY: &str = delete_each!("delete_study", "study", "study_key", without_series!());

const REQUESTS: &str =
    delete_each!("delete_requests", "series_request", "series_key", without_series_row!());

/// Not before the last of its instances cannot come back any more, whatever the grace period was
/// when that one was deleted.
pub(super) const BLOBS_QUEUE: &str = concat!(
    "-- delete_blobs_queue
    INSERT INTO blob_removal (partition_id, blob_id, due_at, length)
    SELECT b.partition_id, b.blob_id, greatest(now() + make_interval(secs => $3),
        (SELECT max(d.restorable_until) FROM ",
    one!("restorable_until", "deleted_instance", "blob_id", "b.blob_id"),
    " d)), b.length
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "blob", "blob_id", "n.key"),
    " b
    WHERE (SELECT 1 FROM instance i
        WHERE i.partition_id = $1 AND i.blob_id >= b.blob_id AND i.blob_id <= b.blob_id
        ORDER BY i.blob_id LIMIT 1) IS NULL
        AND (SELECT 1 FROM original_instance o
            WHERE o.partition_id = $1 AND o.blob_id >= b.blob_id AND o.blob_id <= b.blob_id
            ORDER BY o.blob_id LIMIT 1) IS NULL
    RETURNING blob_id"
);

pub(super) const BLOBS: &str = concat!(
    "-- delete_blobs
    DELETE FROM blob t
    USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

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
    REQUESTS,
    BLOBS_QUEUE,
    BLOBS,
];

/// Live instances of one study that go, whose study and blobs are locked.
pub(super) struct Victims {
    pub(super) study_key: i64,
    /// Ascending.
    pub(super) watermarks: Vec<i64>,
    /// Keys of their series.
    pub(super) series: Vec<i64>,
    /// The blobs that hold them and their first versions.
    pub(super) blobs: Vec<Uuid>,
    /// Of those with an earlier version: their watermarks.
    pub(super) revised: Vec<i64>,
}

impl Victims {
    /// None of a study yet.
    pub(super) fn none_of(study_key: i64) -> Self {
        let (watermarks, series, blobs, revised) = Default::default();
        Self { study_key, watermarks, series, blobs, revised }
    }
}

impl PartitionTx {
    /// Deletes `target`, also what notes hide of it (`rejection`); answers the watermarks of its
    /// instances (none: it is not there). They can
    /// come back for `grace`, after which blobs without a live instance become due for removal, and
    /// others are looked at.
    ///
    /// # Errors
    /// [`IndexError::Busy`]: repeat the whole transaction. Nothing is deleted before
    /// [`PartitionTx::commit`].
    pub async fn delete(
        &mut self,
        target: &Target,
        grace: Duration,
    ) -> Result<Vec<i64>, IndexError> {
        let mut gone = self.delete_live(target, grace).await?;
        gone.extend(self.hidden_let_go(target, grace).await?);
        Ok(gone)
    }

    /// As [`PartitionTx::delete`], what is live alone.
    pub(super) async fn delete_live(
        &mut self,
        target: &Target,
        grace: Duration,
    ) -> Result<Vec<i64>, IndexError> {
        let Some(victims) = self.victims(target).await? else { return Ok(Vec::new()) };
        self.bury(&victims, target.study(), grace).await?;
        self.blobs_settle(&victims.blobs, grace).await?;
        Ok(victims.watermarks)
    }

    /// Deletes instances of a study, but for what becomes of their blobs.
    pub(super) async fn bury(
        &mut self,
        victims: &Victims,
        study: &Uid,
        grace: Duration,
    ) -> Result<(), IndexError> {
        let watermarks = &victims.watermarks;
        let (query, conn) = self.statement(TOMBSTONES);
        let query = query.bind(watermarks).bind(study.as_str()).bind(grace.as_secs_f64());
        query.execute(conn).await?;
        let (query, conn) = self.statement(FEED);
        query.bind(watermarks).execute(conn).await?;
        self.originals_bury(&victims.revised, study, grace).await?;
        self.victims_remove(victims).await
    }

    /// Locks a study, for itself alone; its key, if it is there.
    pub(super) async fn study_lock(&mut self, study: &Uid) -> Result<Option<i64>, IndexError> {
        for _ in 0..STUDY_LOOKS {
            let (query, conn) = self.statement(STUDY_LOCK);
            if let Some(row) = query.bind(study.as_str()).fetch_optional(conn).await? {
                return Ok(Some(row.try_get(0)?));
            }
        }
        Ok(None)
    }

    /// Locks what is there of `target`, for itself alone: the study, then the blobs.
    pub(super) async fn victims(&mut self, target: &Target) -> Result<Option<Victims>, IndexError> {
        let Some(study_key) = self.study_lock(target.study()).await? else { return Ok(None) };

        let (query, conn) = self.statement(VICTIMS);
        let query = query
            .bind(study_key)
            .bind(target.series().map(|uid| uid.as_str()))
            .bind(target.instance().map(|uid| uid.as_str()));
        let rows = query.fetch_all(conn).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut victims = Victims::none_of(study_key);
        for row in &rows {
            victims.watermarks.push(row.try_get(0)?);
            victims.series.push(row.try_get(1)?);
            victims.blobs.push(row.try_get(2)?);
        }
        self.victims_complete(&mut victims).await?;
        self.blobs_lock(&victims.blobs).await?;
        Ok(Some(victims))
    }

    /// Adds what hangs on the instances, and puts all of it in order.
    pub(super) async fn victims_complete(
        &mut self,
        victims: &mut Victims,
    ) -> Result<(), IndexError> {
        let Victims { watermarks, series, blobs, revised, .. } = victims;
        let originals = self.originals_of(watermarks).await?;
        revised.extend(originals.iter().map(|(of, _)| *of));
        blobs.extend(originals.into_iter().map(|(_, blob)| blob));
        watermarks.sort_unstable();
        series.sort_unstable();
        series.dedup();
        blobs.sort_unstable();
        blobs.dedup();
        Ok(())
    }

    /// Locks blobs, all of which are live.
    pub(super) async fn blobs_lock(&mut self, blobs: &[Uuid]) -> Result<(), IndexError> {
        let (query, conn) = self.statement(BLOB_LOCK);
        if query.bind(blobs).fetch_all(conn).await?.len() < blobs.len() {
            // A compaction replaced one of them since they were read.
            return Err(IndexError::Busy);
        }
        Ok(())
    }

    /// Removes the rows of instances, and of what nothing is left in.
    pub(super) async fn victims_remove(&mut self, victims: &Victims) -> Result<(), IndexError> {
        let Victims { study_key, watermarks, series, .. } = victims;
        for sql in [METADATA, FRAMES, DELETE_VALUES, DELETE_ERRORS, INSTANCES] {
            let (query, conn) = self.statement(sql);
            query.bind(watermarks).execute(conn).await?;
        }
        self.packs_delete(*study_key, watermarks).await?;
        let (query, conn) = self.statement(SERIES);
        query.bind(series).execute(conn).await?;
        let (query, conn) = self.statement(STUDY);
        query.bind([*study_key]).execute(conn).await?;
        let (query, conn) = self.statement(REQUESTS);
        query.bind(series).execute(conn).await?;
        self.terms_gone(*study_key).await
    }

    /// Of blobs that instances left, queues those without any for removal, and lets others be
    /// looked at, after `grace`.
    pub(super) async fn blobs_settle(
        &mut self,
        blobs: &[Uuid],
        grace: Duration,
    ) -> Result<(), IndexError> {
        self.blobs_queue(blobs, grace).await?;
        self.compaction_look(blobs, grace).await
    }

    /// Of blobs that instances left, queues those without any for removal.
    pub(super) async fn blobs_queue(
        &mut self,
        blobs: &[Uuid],
        grace: Duration,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(BLOBS_QUEUE);
        let rows = query.bind(blobs).bind(grace.as_secs_f64()).fetch_all(conn).await?;
        let dead: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if !dead.is_empty() {
            let (query, conn) = self.statement(BLOBS);
            query.bind(dead).execute(conn).await?;
        }
        Ok(())
    }
}
