//! Undelete: deleted instances come back, while their bytes are there.
//!
//! A tombstone says where the bytes are and until when they stay (`delete`). What was read from them
//! is stored as Store does it (`store`), with new watermarks and new events, in the blob where they
//! are. Holds: a blob whose removal was begun is never named again; it is taken off the queue under
//! the lock that the claim takes. A tombstone stays when its instance has come back, since that
//! version was deleted; it just cannot come back twice.
//!
//! Absent: bytes, and reading them (`archive`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, NewBlob, NewInstance, PartitionTx, Stored,
    compaction::{LOCK, UNQUEUE},
    located::{size, uid},
    lookup::one,
    rejection::is_hidden,
    store::Origin,
};
use crate::dicom::Uid;

/// Of each instance of study `$2` that was deleted, the last version, after `$3` and `$4`; as often
/// as it was deleted. (Nothing is added to a watermark but what keeps the planner from looking for
/// the largest among those of the partition. The range is of the last key: one of the first would
/// have each row read all that was deleted of its study.)
const PAGE: &str = concat!(
    "-- undelete_page
    SELECT d.watermark, d.series_instance_uid, d.sop_instance_uid, d.blob_id, d.blob_offset,
        d.length, d.sha256, coalesce(d.restorable_until > now(), false),
        ",
    one!("1", "instance", "sop_instance_uid", "d.sop_instance_uid"),
    " IS NOT NULL, d.received_sha256, coalesce(",
    is_hidden!("d"),
    ", false)
    FROM (SELECT * FROM deleted_instance
        WHERE partition_id = $1 AND version_of IS NULL AND study_instance_uid <= $2
            AND (study_instance_uid, series_instance_uid, sop_instance_uid) > ($2, $3, $4)
        ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid LIMIT $5) p
    CROSS JOIN LATERAL (SELECT max(n.watermark + 0) AS watermark FROM (
        SELECT * FROM deleted_instance
        WHERE partition_id = $1 AND version_of IS NULL
            AND study_instance_uid = p.study_instance_uid
            AND series_instance_uid = p.series_instance_uid
            AND sop_instance_uid >= p.sop_instance_uid
            AND sop_instance_uid <= p.sop_instance_uid
        ORDER BY sop_instance_uid) n) m
    CROSS JOIN LATERAL ",
    one!("*", "deleted_instance", "watermark", "m.watermark"),
    " d"
);

/// The end of the last file of a blob that was queued before its length was kept.
const LENGTH: &str = concat!(
    "-- undelete_length
    SELECT coalesce(max(d.blob_offset + d.length), 0) FROM ",
    one!("*", "deleted_instance", "blob_id", "$2"),
    " d"
);

const TAKE: &str = concat!(
    "-- undelete_take
    UPDATE deleted_instance t SET restorable_until = NULL
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "deleted_instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND t.blob_id = $3 AND t.restorable_until > now()
    RETURNING t.watermark"
);

/// Tombstones that are old enough, of what cannot come back.
const FORGET: &str = "-- undelete_forget
    DELETE FROM deleted_instance t
    USING (SELECT ctid AS at FROM deleted_instance
        WHERE partition_id = $1 AND deleted_at < now() - make_interval(secs => $2)
            AND (restorable_until IS NULL OR restorable_until < now())
        ORDER BY deleted_at LIMIT $3) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] = &[PAGE, LENGTH, TAKE, FORGET];

/// A deleted instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The version that was deleted.
    pub watermark: i64,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// The blob that holds its file.
    pub blob: Uuid,
    /// First byte of the file in the blob.
    pub offset: u64,
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: Vec<u8>,
    /// SHA-256 of what came, where that was another file.
    pub received: Option<Vec<u8>>,
    /// Whether it may come back.
    pub is_restorable: bool,
    /// Whether the partition holds its UID, by whatever bytes.
    pub is_live: bool,
    /// Whether a note hides it.
    pub is_rejected: bool,
}

impl PartitionTx {
    /// Deleted instances of a study, the last version of each, after the one of that series and UID.
    /// The second part says where to go on, if there may be more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn undelete_page(
        &mut self,
        study: &Uid,
        after: Option<(Uid, Uid)>,
        limit: i64,
    ) -> Result<(Vec<Tombstone>, Option<(Uid, Uid)>), IndexError> {
        const TABLE: &str = "deleted_instance";
        let (series, instance) = after
            .as_ref()
            .map_or(("", ""), |(series, instance)| (series.as_str(), instance.as_str()));
        let (query, conn) = self.statement(PAGE);
        let query = query.bind(study.as_str()).bind(series).bind(instance).bind(limit);
        let rows = query.fetch_all(conn).await?;
        let mut page: BTreeMap<(String, String), Tombstone> = BTreeMap::new();
        for row in &rows {
            let tombstone = Tombstone {
                watermark: row.try_get(0)?,
                series: uid(row, 1, TABLE, "series_instance_uid")?,
                instance: uid(row, 2, TABLE, "sop_instance_uid")?,
                blob: row.try_get(3)?,
                offset: size(row, 4, TABLE, "blob_offset")?,
                length: size(row, 5, TABLE, "length")?,
                sha256: row.try_get(6)?,
                is_restorable: row.try_get(7)?,
                is_live: row.try_get(8)?,
                received: row.try_get(9)?,
                is_rejected: row.try_get(10)?,
            };
            let key = |uid: &Uid| uid.as_str().to_owned();
            page.insert((key(&tombstone.series), key(&tombstone.instance)), tombstone);
        }
        let last =
            page.last_key_value().map(|(_, last)| (last.series.clone(), last.instance.clone()));
        let more = last.filter(|_| rows.len() as i64 >= limit);
        Ok((page.into_values().collect(), more))
    }

    /// Brings instances of one blob back; `watermarks` are those of their tombstones, in the order
    /// of `news`. A note that is being `revoked` says nothing of them any more. The answers are those
    /// of [`PartitionTx::store_batch`]: what is not new was stored anew meanwhile, or a note names it,
    /// and stays as it is; where none is, the transaction is not to be committed.
    ///
    /// # Errors
    /// [`IndexError::Spent`] where the removal of the blob was begun, or something was erased or
    /// moved since it was read: look again. [`IndexError::Busy`]: repeat the whole transaction.
    pub async fn undelete_batch(
        &mut self,
        blob: Uuid,
        news: &[NewInstance<'_>],
        watermarks: &[i64],
        revoked: Option<&Uid>,
    ) -> Result<Vec<Stored>, IndexError> {
        if let Some(note) = revoked {
            let uids: Vec<&str> = news.iter().map(|new| new.indexed.instance.as_str()).collect();
            self.rejection_revoke(note, &uids).await?;
        }
        let originals = self.originals_buried(watermarks).await?;
        let held: BTreeSet<Uuid> = originals.iter().copied().chain([blob]).collect();
        let held: Vec<NewBlob> = held.into_iter().map(|id| NewBlob { id, length: 0 }).collect();
        let (stored, noted) = self.store_rows(&held, Origin::Kept, news).await?;
        let back: Vec<(i64, i64)> = stored
            .iter()
            .zip(watermarks)
            .filter_map(|(stored, old)| match stored {
                Stored::New { watermark } => Some((*old, *watermark)),
                Stored::Identical | Stored::Conflict | Stored::Rejected => None,
            })
            .collect();
        let old: Vec<i64> = back.iter().map(|(old, _)| *old).collect();
        let (query, conn) = self.statement(TAKE);
        let taken = query.bind(old).bind(blob).fetch_all(conn).await?.len();
        if taken < back.len() {
            return Err(IndexError::Spent);
        }
        if !originals.is_empty() {
            self.originals_exhume(&back).await?;
        }
        // With their first versions: what notes hide takes these along.
        self.reject(noted).await?;
        if !originals.is_empty() {
            // Those of instances that were stored anew leave their blobs dead again.
            self.blobs_settle(&originals, Duration::ZERO).await?;
        }
        Ok(stored)
    }

    /// Holds blobs that were there before.
    pub(super) async fn blobs_hold(&mut self, blobs: &[NewBlob]) -> Result<(), IndexError> {
        for blob in blobs {
            self.blob_hold(blob).await?;
        }
        Ok(())
    }

    /// Holds a blob that was there before, taking it off the queue where it awaits removal.
    async fn blob_hold(&mut self, blob: &NewBlob) -> Result<(), IndexError> {
        let (query, conn) = self.statement(LOCK);
        if query.bind(blob.id).fetch_optional(conn).await?.is_some() {
            return Ok(());
        }
        let (query, conn) = self.statement(UNQUEUE);
        let Some(row) = query.bind([blob.id]).fetch_optional(conn).await? else {
            return Err(IndexError::Spent);
        };
        let length = match row.try_get::<Option<i64>, _>(0)? {
            Some(length) => length,
            None => {
                let (query, conn) = self.statement(LENGTH);
                query.bind(blob.id).fetch_one(conn).await?.try_get(0)?
            }
        };
        let length = u64::try_from(length).unwrap_or(0);
        self.blobs_create(&[NewBlob { id: blob.id, length }]).await?;
        // While it was dead nobody looked whether it is mostly dead.
        self.compaction_look(&[blob.id], Duration::ZERO).await
    }

    /// Forgets up to `limit` tombstones of what was deleted longer than `retention` ago and cannot
    /// come back; says how many.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tombstones_forget(
        &mut self,
        retention: Duration,
        limit: i64,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        let query = query.bind(retention.as_secs_f64()).bind(limit);
        Ok(query.execute(conn).await?.rows_affected())
    }
}
