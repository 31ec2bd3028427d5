//! The change feed of one partition: numbering, pages, spans of time, and what is removed of it.
//!
//! Events are written without a number, in the transaction of their change; who reads the feed
//! numbers those that are committed ([`PartitionTx::feed_number`]), under a lock of the partition
//! that no store takes. So a number that becomes visible is always above those that were, and who
//! remembers the last one he saw misses nothing, however transactions overlap. Holds:
//! - `sequence` counts from 1 without holes; a numbered event does not change any more.
//! - `occurred_at` never runs backwards along `sequence`, so that a span of time is a range of
//!   numbers.
//! - The newest numbered event is never removed: the next number follows from it.
//!
//! The state of an event is what became of its instance since, and is read with it. Absent: several
//! partitions in one order (`feed_union`), who waits for events (`archive`).

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::{
    Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;

use super::{Db, IndexError, PartitionTx, located::uid, registry, tag_lock};
use crate::{
    dicom::Uid,
    tenancy::{PartitionId, PartitionScope},
};

/// First keys of the locks: of numbering in a partition, and of numbering anywhere, which who
/// numbers holds shared and who wants nobody to be numbering takes alone.
const OF_PARTITION: i32 = 0x4346_4400;
pub(super) const OF_ALL: i32 = 0x4346_4401;

/// Longest wait for another who numbers, which takes milliseconds.
pub(super) const PATIENCE: &str = "SET LOCAL lock_timeout = '5s'";

/// Longest rest of a transaction that holds one of the locks: a server that is held up must not
/// hold up the readers of others.
pub(super) const NO_REST: &str = "SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Metadata in one page, in bytes as it is kept, from which no further event is taken.
pub(super) const METADATA_BYTES: usize = 1024 * 1024;

const PENDING: &str = "-- feed_pending
    SELECT (SELECT event_id FROM change_feed
        WHERE partition_id = $1 AND sequence IS NULL AND event_id > 0
        ORDER BY event_id LIMIT 1) IS NOT NULL";

/// Numbers events in the order in which they were written: of one instance that is the order of
/// its changes, since each waits for the one before. What the last numbered event is, is asked once,
/// before the first row is changed: a join would ask for each, and pass over all those before.
const NUMBER: &str = "-- feed_number
    UPDATE change_feed t SET sequence = x.sequence, position = x.position, occurred_at = x.occurred
    FROM (SELECT o.at, nextval('change_feed_position') AS position,
            coalesce((SELECT sequence FROM change_feed WHERE partition_id = $1 AND sequence > 0
                ORDER BY sequence DESC LIMIT 1), 0)
                + row_number() OVER (ORDER BY o.event_id) AS sequence,
            max(greatest(o.occurred_at, (SELECT occurred_at FROM change_feed
                    WHERE partition_id = $1 AND sequence > 0 ORDER BY sequence DESC LIMIT 1),
                'epoch'::timestamptz
                    + pg_sequence_last_value('change_feed_floor') * interval '1 microsecond'))
                OVER (ORDER BY o.event_id ROWS UNBOUNDED PRECEDING) AS occurred
        FROM (SELECT ctid AS at, event_id, occurred_at FROM change_feed
            WHERE partition_id = $1 AND sequence IS NULL AND event_id > 0
            ORDER BY event_id LIMIT $2) o) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

/// What is told of event `f`, and joined to it, in partition `$partition`.
macro_rules! told {
    ($partition:literal) => {
        concat!(
            "f.partition_id, f.sequence, f.position, f.occurred_at, f.action,
        f.study_instance_uid, f.series_instance_uid, f.sop_instance_uid,
        CASE WHEN i.watermark IS NULL THEN 'deleted'
            WHEN i.watermark = f.watermark AND f.action <> 'delete' THEN 'current'
            WHEN (SELECT study_instance_uid FROM study WHERE partition_id = ",
            $partition,
            "
                    AND study_key >= i.study_key AND study_key <= i.study_key ORDER BY study_key)
                = f.study_instance_uid
                AND (SELECT series_instance_uid FROM series WHERE partition_id = ",
            $partition,
            "
                    AND series_key >= i.series_key AND series_key <= i.series_key
                    ORDER BY series_key) = f.series_instance_uid
            THEN 'replaced' ELSE 'deleted' END"
        )
    };
}

/// The live version of the instance of event `f`, as `i`.
macro_rules! live {
    ($partition:literal) => {
        concat!(
            " LEFT JOIN LATERAL (SELECT watermark, study_key, series_key FROM instance
        WHERE partition_id = ",
            $partition,
            " AND sop_instance_uid >= f.sop_instance_uid
            AND sop_instance_uid <= f.sop_instance_uid ORDER BY sop_instance_uid) i ON true"
        )
    };
}

/// The metadata of `i`, as `m`.
macro_rules! metadata {
    ($partition:literal) => {
        concat!(
            " LEFT JOIN LATERAL (SELECT metadata FROM instance_metadata
        WHERE partition_id = ",
            $partition,
            " AND watermark >= i.watermark AND watermark <= i.watermark
        ORDER BY watermark) m ON true"
        )
    };
}

pub(super) use {live, metadata, told};

macro_rules! page {
    ($name:literal, $columns:literal, $from:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT ",
            told!("$1"),
            $columns,
            "
    FROM (SELECT * FROM change_feed
        WHERE partition_id = $1 AND sequence > $2 AND sequence <= $3
        ORDER BY sequence LIMIT $4) f",
            live!("$1"),
            $from
        )
    };
}

const PAGE: &str = page!("feed_page", "", "");
const PAGE_METADATA: &str = page!("feed_page_metadata", ", m.metadata", metadata!("$1"));

const LAST: &str = "-- feed_last
    SELECT sequence FROM change_feed WHERE partition_id = $1 AND sequence > 0
    ORDER BY sequence DESC LIMIT 1";

const FIRST: &str = "-- feed_first
    SELECT sequence FROM change_feed WHERE partition_id = $1 AND sequence > 0
    ORDER BY sequence LIMIT 1";

/// The first event of a span, and the last.
const SPAN: &str = "-- feed_span
    SELECT (SELECT sequence FROM change_feed
            WHERE partition_id = $1 AND sequence > 0 AND occurred_at >= $2
            ORDER BY occurred_at, sequence LIMIT 1),
        (SELECT sequence FROM change_feed
            WHERE partition_id = $1 AND sequence > 0 AND occurred_at < $3
            ORDER BY occurred_at DESC, sequence DESC LIMIT 1)";

const FORGET: &str = "-- feed_forget
    DELETE FROM change_feed t
    USING (SELECT ctid AS at FROM change_feed
        WHERE partition_id = $1 AND occurred_at < now() - make_interval(secs => $2)
            AND sequence < (SELECT sequence FROM change_feed
                WHERE partition_id = $1 AND sequence > 0
                    AND occurred_at < now() - make_interval(secs => $2)
                ORDER BY occurred_at DESC, sequence DESC LIMIT 1)
        ORDER BY occurred_at, sequence LIMIT $3) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] =
    &[PENDING, NUMBER, PAGE, PAGE_METADATA, LAST, FIRST, SPAN, FORGET];

/// What was done to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedAction {
    /// It was stored.
    Create,
    /// Attributes of it were changed.
    Update,
    /// It was deleted.
    Delete,
}

impl FeedAction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The action of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

/// What became of the instance since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// The version that the event speaks of is there.
    Current,
    /// A later version is there.
    Replaced,
    /// It is not there.
    Deleted,
}

/// A numbered event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// The partition of the instance.
    pub partition: PartitionId,
    /// Its number in the partition.
    pub sequence: i64,
    /// Its number among those of all partitions.
    pub position: i64,
    /// When it happened: the beginning of the transaction, or the moment that was told of the event
    /// before it where that is later.
    pub occurred_at: OffsetDateTime,
    /// What was done.
    pub action: FeedAction,
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// What became of the instance.
    pub state: FeedState,
    /// Metadata of the version that is there, as one zstd frame of DICOM JSON; where it was asked
    /// for.
    pub metadata: Option<Vec<u8>>,
}

/// What is read of a feed: events above `after` and up to `up_to`, ascending, at most `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRange {
    /// The last number that is not wanted.
    pub after: i64,
    /// The last number that is.
    pub up_to: i64,
    /// Most events.
    pub limit: i64,
    /// Whether metadata is wanted.
    pub metadata: bool,
}

impl Db {
    /// Opens a transaction that numbers events of a partition. It waits for others who do, and for
    /// no store.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where they do not end in time; [`IndexError::Unavailable`].
    pub async fn begin_numbering(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let locks = [
            PATIENCE.to_owned(),
            NO_REST.to_owned(),
            format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})"),
            format!("SELECT pg_advisory_xact_lock_shared({OF_ALL}, 0)"),
        ];
        let mut tx = self.begin_holding(scope, &locks).await?;
        // Who reads first numbers, whatever he came for.
        tx.audit_nothing();
        Ok(tx)
    }
}

impl PartitionTx {
    /// Whether events are committed that have no number.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_pending(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PENDING);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Numbers the first `limit` events that have no number; says how many those were. Of a
    /// transaction that [`Db::begin_numbering`] opened. Nothing of it may be told before
    /// [`PartitionTx::commit`].
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_number(&mut self, limit: i64) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(NUMBER);
        Ok(query.bind(limit).execute(conn).await?.rows_affected())
    }

    /// Events of a range of sequences. Ends early, but not before its first event, when the metadata
    /// is a MiB; the second value says whether it did.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_page(
        &mut self,
        range: &FeedRange,
    ) -> Result<(Vec<FeedEvent>, bool), IndexError> {
        let (query, conn) = self.statement(if range.metadata { PAGE_METADATA } else { PAGE });
        let query = query.bind(range.after).bind(range.up_to).bind(range.limit);
        read_page(query, conn, range.metadata).await
    }

    /// The sequence of the newest numbered event.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_last(&mut self) -> Result<Option<i64>, IndexError> {
        let (query, conn) = self.statement(LAST);
        Ok(query.fetch_optional(conn).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The first sequence that the feed still has.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_first(&mut self) -> Result<Option<i64>, IndexError> {
        let (query, conn) = self.statement(FIRST);
        Ok(query.fetch_optional(conn).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The sequences of the first and of the last event that occurred at or after `start` and
    /// before `end`; `None` where there is none. `None` for a bound: there is no such bound.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_span(
        &mut self,
        start: Option<OffsetDateTime>,
        end: Option<OffsetDateTime>,
    ) -> Result<Option<(i64, i64)>, IndexError> {
        let (query, conn) = self.statement(SPAN);
        let (start, end) = span(start, end);
        let row = query.bind(start).bind(end).fetch_one(conn).await?;
        let ends: (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(match ends {
            (Some(first), Some(last)) if first <= last => Some((first, last)),
            _ => None,
        })
    }

    /// Removes numbered events that occurred longer than `age` ago, the oldest first, `limit` at
    /// most. The newest of them stays: who has read up to it, or further, lacks nothing. Says how
    /// many went.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_forget(&mut self, age: Duration, limit: i64) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        Ok(query.bind(age.as_secs_f64()).bind(limit).execute(conn).await?.rows_affected())
    }
}

/// Bounds of a span as Postgres compares them: all that it can hold lies between those that stand
/// for none.
pub(super) fn span(
    start: Option<OffsetDateTime>,
    end: Option<OffsetDateTime>,
) -> (OffsetDateTime, OffsetDateTime) {
    const FIRST: OffsetDateTime = time::macros::datetime!(0001-01-01 0:00 UTC);
    const LAST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59 UTC);
    (start.unwrap_or(FIRST), end.unwrap_or(LAST))
}

/// Reads events, until their metadata is enough; says whether it was.
pub(super) async fn read_page(
    query: Query<'static, sqlx::Postgres, PgArguments>,
    conn: &mut sqlx::PgConnection,
    metadata: bool,
) -> Result<(Vec<FeedEvent>, bool), IndexError> {
    // Rows that were not read are read over when the connection is used again.
    let (mut rows, mut page, mut bytes) = (query.fetch(conn), Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let event = event(&row, metadata)?;
        bytes += event.metadata.as_ref().map_or(0, Vec::len);
        page.push(event);
        if bytes >= METADATA_BYTES {
            return Ok((page, true));
        }
    }
    Ok((page, false))
}

fn event(row: &PgRow, metadata: bool) -> Result<FeedEvent, IndexError> {
    const TABLE: &str = "change_feed";
    let wrong = |column| IndexError::Inconsistent { table: TABLE, column };
    let state = match row.try_get(8)? {
        "current" => FeedState::Current,
        "replaced" => FeedState::Replaced,
        _ => FeedState::Deleted,
    };
    let kept = if metadata { row.try_get::<Option<Vec<u8>>, _>(9)? } else { None };
    Ok(FeedEvent {
        partition: registry::partition(row, 0)?,
        sequence: row.try_get(1)?,
        position: row.try_get(2)?,
        occurred_at: row.try_get(3)?,
        action: FeedAction::of(row.try_get(4)?).ok_or_else(|| wrong("action"))?,
        study: uid(row, 5, TABLE, "study_instance_uid")?,
        series: uid(row, 6, TABLE, "series_instance_uid")?,
        instance: uid(row, 7, TABLE, "sop_instance_uid")?,
        state,
        // Another instance may be there under its UID, in another study.
        metadata: kept.filter(|_| state != FeedState::Deleted),
    })
}
