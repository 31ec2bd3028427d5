//! What is read to hold the change feed against instances and tombstones. See `verify` for the
//! manner.
//!
//! No index leads from a watermark to its events, which would cost every store: the feed is read from
//! its beginning to its end instead, and each event looks its instance up.

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    IndexError, PartitionTx,
    lookup::{one, series_uid_of_i, study_uid_of_i},
};

/// A page of events that `$which` says, and what is there of the instance of each.
macro_rules! events {
    ($name:literal, $which:literal, $order:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT f.event_id, f.sequence, f.position, f.occurred_at, f.action = 'delete', f.watermark,
        f.study_instance_uid, f.series_instance_uid, f.sop_instance_uid, i.sop_instance_uid,
        d.sop_instance_uid, r.watermark, f.replaced
    FROM (SELECT * FROM change_feed WHERE partition_id = $1 AND ",
            $which,
            " > $2 ORDER BY ",
            $order,
            " LIMIT $3) f
    LEFT JOIN LATERAL ",
            one!("sop_instance_uid", "instance", "watermark", "f.watermark"),
            " i ON true
    LEFT JOIN LATERAL ",
            one!("sop_instance_uid", "deleted_instance", "watermark", "f.watermark"),
            " d ON true
    LEFT JOIN LATERAL ",
            one!("watermark", "instance", "sop_instance_uid", "f.sop_instance_uid"),
            " r ON true"
        )
    };
}

const NUMBERED: &str = events!("verify_events", "sequence", "sequence");
const UNNUMBERED: &str =
    events!("verify_events_unnumbered", "sequence IS NULL AND event_id", "event_id");

macro_rules! watermarks {
    ($name:literal, $table:literal, $also:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT watermark FROM ",
            $table,
            " WHERE partition_id = $1 AND watermark > $2 ",
            $also,
            " ORDER BY watermark LIMIT $3"
        )
    };
}

const LIVE: &str = watermarks!("verify_live", "instance", "");
/// Without versions that had been replaced: the deletion is told of the last one.
const DELETED: &str = watermarks!("verify_deleted", "deleted_instance", "AND version_of IS NULL");

const FIRST: &str = "-- verify_first_event
    SELECT sequence, occurred_at FROM change_feed WHERE partition_id = $1 AND sequence > 0
    ORDER BY sequence LIMIT 1";

const STANDING: &str = concat!(
    "-- verify_standing
    SELECT n.key, i.stored_at, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ",
        i.sop_instance_uid, d.deleted_at, d.study_instance_uid, d.series_instance_uid, d.sop_instance_uid
    FROM unnest($2::bigint[]) AS n(key)
    LEFT JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i ON true
    LEFT JOIN LATERAL ",
    one!("*", "deleted_instance", "watermark", "n.key"),
    " d ON true"
);

pub(super) const STATEMENTS: &[&str] = &[NUMBERED, UNNUMBERED, LIVE, DELETED, FIRST, STANDING];

/// An event, and what is there of its instance.
#[derive(Clone, Debug)]
pub struct VerifyEvent {
    /// Its id: the order in which events were written.
    pub id: i64,
    /// Its number in the partition.
    pub sequence: Option<i64>,
    /// Its number among those of all partitions.
    pub position: Option<i64>,
    /// When it is told to have occurred.
    pub occurred_at: OffsetDateTime,
    /// Whether it tells a deletion.
    pub is_deletion: bool,
    /// The stored version that it speaks of.
    pub watermark: i64,
    /// Study, Series and SOP Instance UID.
    pub uids: [String; 3],
    /// SOP Instance UID of the live instance of that watermark.
    pub live: Option<String>,
    /// SOP Instance UID of the deleted instance of that watermark.
    pub deleted: Option<String>,
    /// The live version of the instance.
    pub now: Option<i64>,
    /// The version that it replaced, where it did.
    pub replaced: Option<i64>,
}

/// What there is under a watermark.
#[derive(Clone, Debug)]
pub struct VerifyStanding {
    /// The watermark.
    pub watermark: i64,
    /// When the live instance was stored, and its UIDs as far as its parents are there.
    pub live: Option<(OffsetDateTime, [Option<String>; 3])>,
    /// When the deleted instance was deleted, and its UIDs.
    pub deleted: Option<(OffsetDateTime, [Option<String>; 3])>,
}

impl PartitionTx {
    /// A page of numbered events above a sequence, ascending; or of those without a number above an
    /// id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_events(
        &mut self,
        numbered: bool,
        after: i64,
        limit: i64,
    ) -> Result<Vec<VerifyEvent>, IndexError> {
        let (query, conn) = self.statement(if numbered { NUMBERED } else { UNNUMBERED });
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let read = |row: &PgRow| {
            Ok(VerifyEvent {
                id: row.try_get(0)?,
                sequence: row.try_get(1)?,
                position: row.try_get(2)?,
                occurred_at: row.try_get(3)?,
                is_deletion: row.try_get(4)?,
                watermark: row.try_get(5)?,
                uids: [row.try_get(6)?, row.try_get(7)?, row.try_get(8)?],
                live: row.try_get(9)?,
                deleted: row.try_get(10)?,
                now: row.try_get(11)?,
                replaced: row.try_get(12)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Watermarks of live, or of deleted, instances above one, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_watermarks(
        &mut self,
        live: bool,
        after: i64,
        limit: i64,
    ) -> Result<Vec<i64>, IndexError> {
        let (query, conn) = self.statement(if live { LIVE } else { DELETED });
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Sequence and time of the oldest event that has a number.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_first_event(
        &mut self,
    ) -> Result<Option<(i64, OffsetDateTime)>, IndexError> {
        let (query, conn) = self.statement(FIRST);
        let row = query.fetch_optional(conn).await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// What there is under some watermarks.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_standing(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<VerifyStanding>, IndexError> {
        let (query, conn) = self.statement(STANDING);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        let version = |row: &PgRow, at: usize| {
            let when: Option<OffsetDateTime> = row.try_get(at)?;
            let uids = [row.try_get(at + 1)?, row.try_get(at + 2)?, row.try_get(at + 3)?];
            Ok::<_, IndexError>(when.map(|when| (when, uids)))
        };
        let read = |row: &PgRow| {
            let (live, deleted) = (version(row, 1)?, version(row, 5)?);
            Ok(VerifyStanding { watermark: row.try_get(0)?, live, deleted })
        };
        rows.iter().map(read).collect()
    }
}
