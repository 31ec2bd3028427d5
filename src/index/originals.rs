//! First versions of instances that have another one by now (see `update`).
//!
//! The first version stays as long as its instance, and a blob that holds one lives. When the instance
//! is deleted it gets a tombstone of its own, by which it comes back with the instance (`undelete`),
//! is kept by a compaction until then, and is found by an erasure. So does a version between the first
//! and the last, which nobody can have back. Holds: who changes these rows has locked the blobs that
//! they name. Absent: metadata of first versions, which is read from their files (`archive`).

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, PartitionTx,
    lookup::{delete_each, one, series_uid_of_i, study_uid_of_i},
};
use crate::dicom::Uid;

const OF: &str = concat!(
    "-- original_of
    SELECT o.of_watermark, o.blob_id FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("of_watermark, blob_id", "original_instance", "of_watermark", "n.key"),
    " o"
);

/// What is replaced for the first time. It stands for itself until it is told what replaces it.
const KEEP: &str = concat!(
    "-- original_keep
    INSERT INTO original_instance (partition_id, watermark, of_watermark, study_instance_uid,
        series_instance_uid, transfer_syntax_uid, blob_id, blob_offset, length, data_set_offset,
        header_missing, sha256, received_sha256, stored_at)
    SELECT i.partition_id, i.watermark, i.watermark, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ", i.transfer_syntax_uid, i.blob_id, i.blob_offset, i.length, i.data_set_offset,
        i.header_missing, i.sha256, i.received_sha256, i.stored_at
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i
    RETURNING watermark"
);

const FOLLOW: &str = concat!(
    "-- original_follow
    UPDATE original_instance t SET of_watermark = n.new
    FROM unnest($2::bigint[], $3::bigint[]) AS n(key, new) CROSS JOIN LATERAL ",
    one!("ctid AS at", "original_instance", "of_watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// Of a version that is neither the first nor the last any more: it cannot come back.
const RETIRE: &str = concat!(
    "-- version_retire
    INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid,
        series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id,
        blob_offset, length, data_set_offset, sha256, stored_at, version_of)
    SELECT i.partition_id, i.watermark, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ", i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.blob_id, i.blob_offset,
        i.length, i.data_set_offset, i.sha256, i.stored_at, i.watermark
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i
    RETURNING watermark"
);

/// Of first versions whose instances are deleted.
const BURY: &str = concat!(
    "-- original_bury
    INSERT INTO deleted_instance (partition_id, watermark, study_instance_uid,
        series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, blob_id,
        blob_offset, length, data_set_offset, sha256, received_sha256, stored_at,
        restorable_until, version_of)
    SELECT i.partition_id, o.watermark, $3, ",
    series_uid_of_i!(),
    ", i.sop_instance_uid, i.sop_class_uid, o.transfer_syntax_uid, o.blob_id, o.blob_offset,
        o.length, o.data_set_offset, o.sha256, o.received_sha256, o.stored_at,
        now() + make_interval(secs => $4), o.of_watermark
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i CROSS JOIN LATERAL ",
    one!("*", "original_instance", "of_watermark", "n.key"),
    " o
    RETURNING watermark"
);

const DROP: &str = delete_each!("original_drop", "original_instance", "of_watermark", "");

/// The blobs of those that come back with the instances of some tombstones.
const BURIED: &str = concat!(
    "-- original_buried
    SELECT d.blob_id FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("blob_id, restorable_until", "deleted_instance", "version_of", "n.key"),
    " d
    WHERE d.restorable_until > now()"
);

const EXHUME: &str = concat!(
    "-- original_exhume
    INSERT INTO original_instance (partition_id, watermark, of_watermark, study_instance_uid,
        series_instance_uid, transfer_syntax_uid, blob_id, blob_offset, length, data_set_offset,
        sha256, received_sha256, stored_at)
    SELECT d.partition_id, d.watermark, n.new, d.study_instance_uid, d.series_instance_uid,
        d.transfer_syntax_uid, d.blob_id, d.blob_offset, d.length, d.data_set_offset, d.sha256,
        d.received_sha256, d.stored_at
    FROM unnest($2::bigint[], $3::bigint[]) AS n(key, new) CROSS JOIN LATERAL ",
    one!("*", "deleted_instance", "version_of", "n.key"),
    " d
    WHERE d.restorable_until > now()
    RETURNING watermark"
);

const UNBURY: &str = delete_each!("original_unbury", "deleted_instance", "watermark", "");

pub(super) const STATEMENTS: &[&str] =
    &[OF, KEEP, FOLLOW, RETIRE, BURY, DROP, BURIED, EXHUME, UNBURY];

impl PartitionTx {
    /// Of those of some live versions that replaced another: their watermarks, with the blobs of the
    /// first ones.
    pub(super) async fn originals_of(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<(i64, Uuid)>, IndexError> {
        let (query, conn) = self.statement(OF);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Keeps what is about to be replaced, where it is the first version; of a later one, whose
    /// watermarks are `revised`, notes where its bytes are.
    pub(super) async fn versions_keep(
        &mut self,
        watermarks: &[i64],
        revised: &[i64],
    ) -> Result<(), IndexError> {
        let (later, first): (Vec<i64>, Vec<i64>) =
            watermarks.iter().partition(|watermark| revised.contains(watermark));
        for (sql, watermarks) in [(KEEP, first), (RETIRE, later)] {
            if !watermarks.is_empty() {
                let (query, conn) = self.statement(sql);
                query.bind(watermarks).execute(conn).await?;
            }
        }
        Ok(())
    }

    /// Tells first versions which ones replace those that stood for them: pairs of the old and the
    /// new watermark.
    pub(super) async fn originals_follow(
        &mut self,
        replaced: &[(i64, i64)],
    ) -> Result<(), IndexError> {
        let (old, new): (Vec<i64>, Vec<i64>) = replaced.iter().copied().unzip();
        let (query, conn) = self.statement(FOLLOW);
        query.bind(old).bind(new).execute(conn).await?;
        Ok(())
    }

    /// Deletes the first versions of instances that are being deleted of `study`, whose rows are
    /// there still.
    pub(super) async fn originals_bury(
        &mut self,
        revised: &[i64],
        study: &Uid,
        grace: Duration,
    ) -> Result<(), IndexError> {
        if revised.is_empty() {
            return Ok(());
        }
        let (query, conn) = self.statement(BURY);
        let query = query.bind(revised).bind(study.as_str()).bind(grace.as_secs_f64());
        query.execute(conn).await?;
        let (query, conn) = self.statement(DROP);
        query.bind(revised).execute(conn).await?;
        Ok(())
    }

    /// The blobs of first versions that can come back with the instances of some tombstones.
    pub(super) async fn originals_buried(
        &mut self,
        tombstones: &[i64],
    ) -> Result<Vec<Uuid>, IndexError> {
        let (query, conn) = self.statement(BURIED);
        let rows = query.bind(tombstones).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Brings first versions back with their instances: pairs of a tombstone and the new watermark.
    pub(super) async fn originals_exhume(&mut self, back: &[(i64, i64)]) -> Result<(), IndexError> {
        let (old, new): (Vec<i64>, Vec<i64>) = back.iter().copied().unzip();
        let (query, conn) = self.statement(EXHUME);
        let rows = query.bind(old).bind(new).fetch_all(conn).await?;
        let watermarks: Vec<i64> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if !watermarks.is_empty() {
            let (query, conn) = self.statement(UNBURY);
            query.bind(watermarks).execute(conn).await?;
        }
        Ok(())
    }
}
