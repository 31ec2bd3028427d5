//! The change feed of several partitions, in one order.
//!
//! Each event has a number of that order too, its position, which it gets together with its
//! sequence. Those who number events of different partitions do not wait for each other; so a
//! position may become visible after a higher one. Who reads several partitions therefore first
//! waits until nobody is numbering ([`Db::feed_horizon`]), which takes milliseconds, and reads up
//! to the last position that was given by then: below it nothing can appear any more.
//!
//! A span of time that has passed is made complete in the same moment ([`Db::feed_close`]): events
//! that are committed and have no number yet are told to have occurred after it.
//!
//! Statements narrow the scope to one partition after the other, as searches do (`several`).
//! Absent: numbering (`feed`).

use std::collections::BTreeMap;

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Db, FeedEvent, FeedRange, IndexError, ScopedTx,
    feed::{NO_REST, OF_ALL, PATIENCE, live, metadata, read_page, span, told},
    registry,
};
use crate::tenancy::{PartitionId, PartitionScope};

/// `FROM …`: each partition of the scope, as `scope.id`, with what else is in `$columns` and
/// `$lists`.
macro_rules! each {
    ($lists:literal, $columns:literal) => {
        concat!(
            "
    FROM unnest($1::text[]",
            $lists,
            ") AS n(id",
            $columns,
            ")
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope"
        )
    };
}

const UNNUMBERED: &str = concat!(
    "-- feed_unnumbered
    SELECT scope.id",
    each!("", ""),
    "
    CROSS JOIN LATERAL (SELECT event_id FROM change_feed
        WHERE partition_id = scope.id AND sequence IS NULL AND event_id > 0
        ORDER BY event_id LIMIT 1) u"
);

const HEADS: &str = concat!(
    "-- feed_heads
    SELECT scope.id, coalesce(h.sequence, 0), coalesce(h.position, 0), u.event_id IS NOT NULL",
    each!("", ""),
    "
    LEFT JOIN LATERAL (SELECT event_id FROM change_feed
        WHERE partition_id = scope.id AND sequence IS NULL AND event_id > 0
        ORDER BY event_id LIMIT 1) u ON true
    LEFT JOIN LATERAL (SELECT sequence, position FROM change_feed
        WHERE partition_id = scope.id AND sequence > 0 ORDER BY sequence DESC LIMIT 1) h ON true"
);

const KEYS: &str = concat!(
    "-- feed_keys
    SELECT scope.id, k.position",
    each!(", $2::bigint[], $3::bigint[]", ", after, up_to"),
    "
    CROSS JOIN LATERAL (SELECT position FROM change_feed
        WHERE partition_id = scope.id AND position > n.after AND position <= n.up_to
        ORDER BY position LIMIT $4) k"
);

const SPANS: &str = concat!(
    "-- feed_spans
    SELECT scope.id, b.position, e.position",
    each!("", ""),
    "
    CROSS JOIN LATERAL (SELECT position FROM change_feed
        WHERE partition_id = scope.id AND sequence > 0 AND occurred_at >= $2
        ORDER BY occurred_at, sequence LIMIT 1) b
    CROSS JOIN LATERAL (SELECT position FROM change_feed
        WHERE partition_id = scope.id AND sequence > 0 AND occurred_at < $3
        ORDER BY occurred_at DESC, sequence DESC LIMIT 1) e
    WHERE b.position <= e.position"
);

/// Partitions whose first events were removed, the last of them after position `$2` perhaps.
const GONE: &str = concat!(
    "-- feed_gone
    SELECT 1",
    each!("", ""),
    "
    CROSS JOIN LATERAL (SELECT sequence, position FROM change_feed
        WHERE partition_id = scope.id AND sequence > 0 ORDER BY sequence LIMIT 1) o
    WHERE o.sequence > 1 AND o.position > $2
    LIMIT 1"
);

const NEWEST: &str = concat!(
    "-- feed_newest
    SELECT k.position",
    each!("", ""),
    "
    CROSS JOIN LATERAL (SELECT position FROM change_feed
        WHERE partition_id = scope.id AND position <= $2 ORDER BY position DESC LIMIT 1) k"
);

macro_rules! events {
    ($name:literal, $columns:literal, $from:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT ",
            told!("scope.id"),
            $columns,
            "
    FROM unnest($2::text[], $3::bigint[]) AS n(id, position)
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope
    CROSS JOIN LATERAL (SELECT * FROM change_feed
        WHERE partition_id = scope.id AND position >= n.position AND position <= n.position
        ORDER BY position) f",
            live!("scope.id"),
            $from,
            "
    WHERE n.id = ANY($1)"
        )
    };
}

const EVENTS: &str = events!("feed_events", "", "");
const EVENTS_METADATA: &str =
    events!("feed_events_metadata", ", m.metadata", metadata!("scope.id"));

pub(super) const SCOPED_STATEMENTS: &[&str] =
    &[UNNUMBERED, HEADS, KEYS, SPANS, GONE, NEWEST, EVENTS, EVENTS_METADATA];

const HORIZON: &str = "-- feed_horizon
    SELECT last_value FROM change_feed_position";

const CLOSE: &str = "-- feed_close
    SELECT setval('change_feed_floor', greatest(last_value,
        (extract(epoch FROM least($1, clock_timestamp())) * 1000000)::bigint))
    FROM change_feed_floor";

pub(super) const REGISTRY_STATEMENTS: &[&str] = &[HORIZON, CLOSE];

/// How far the feed of a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The partition.
    pub partition: PartitionId,
    /// The sequence of its newest numbered event; 0: none.
    pub sequence: i64,
    /// The position of that event.
    pub position: i64,
    /// Whether there are events that have no number.
    pub is_pending: bool,
}

/// An event of one of several partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedKey {
    partition: PartitionId,
    position: i64,
}

impl FeedKey {
    /// Its number among the events of all partitions.
    pub fn position(&self) -> i64 {
        self.position
    }
}

impl Db {
    /// The last position that was given, once nobody is numbering: at and below it, no event
    /// appears any more.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where others do not end in time; [`IndexError::Unavailable`].
    pub async fn feed_horizon(&self) -> Result<i64, IndexError> {
        let mut tx = self.registry_holding(&alone()).await?;
        let (query, conn) = tx.statement(HORIZON);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Sees to it that no event that has no number yet will be told to have occurred before `end`,
    /// or before now, where that is sooner. Answers before when none will be, in microseconds since
    /// 1970.
    ///
    /// # Errors
    /// As [`Db::feed_horizon`].
    pub async fn feed_close(&self, end: OffsetDateTime) -> Result<i64, IndexError> {
        let mut tx = self.registry_holding(&alone()).await?;
        let (query, conn) = tx.statement(CLOSE);
        let until = query.bind(end).fetch_one(conn).await?.try_get(0)?;
        tx.commit().await?;
        Ok(until)
    }
}

fn alone() -> [String; 3] {
    let lock = format!("SELECT pg_advisory_xact_lock({OF_ALL}, 0)");
    [PATIENCE.to_owned(), NO_REST.to_owned(), lock]
}

impl ScopedTx {
    /// The partitions that have events without a number.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_unnumbered(&mut self) -> Result<Vec<PartitionScope>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(UNNUMBERED);
        let rows = query.fetch_all(conn).await?;
        let found: Vec<PartitionId> =
            rows.iter().map(|row| registry::partition(row, 0)).collect::<Result<_, _>>()?;
        Ok(self.scope().each().filter(|one| found.contains(one.partition())).collect())
    }

    /// How far the feed of each partition is.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_heads(&mut self) -> Result<Vec<Head>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(HEADS);
        let rows = query.fetch_all(conn).await?;
        let read = |row: &PgRow| {
            Ok(Head {
                partition: registry::partition(row, 0)?,
                sequence: row.try_get(1)?,
                position: row.try_get(2)?,
                is_pending: row.try_get(3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The first events of a range of positions, ascending; of those that occurred at or after
    /// `start` and before `end`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_keys(
        &mut self,
        range: &FeedRange,
        times: Option<(Option<OffsetDateTime>, Option<OffsetDateTime>)>,
    ) -> Result<Vec<FeedKey>, IndexError> {
        let ids: Vec<PartitionId> = self.scope().partitions().to_vec();
        let mut after = vec![range.after; ids.len()];
        let mut up_to = vec![range.up_to; ids.len()];
        if let Some((start, end)) = times {
            let spans = self.feed_spans(start, end).await?;
            for (at, id) in ids.iter().enumerate() {
                let (first, last) = spans.get(id).copied().unwrap_or((i64::MAX, 0));
                after[at] = range.after.max(first.saturating_sub(1));
                up_to[at] = range.up_to.min(last);
            }
        }
        let wanted = usize::try_from(range.limit).unwrap_or(0);
        let mut best: Vec<FeedKey> = Vec::new();
        let mut open: Vec<usize> = (0..ids.len()).filter(|at| after[*at] < up_to[*at]).collect();
        // In rounds, see `several`: each is asked for a few, and who gave all that it was asked for
        // once more, up to the last that the page can reach.
        while !open.is_empty() && wanted > 0 {
            let asked = range.limit / i64::try_from(open.len()).unwrap_or(i64::MAX) + 1;
            // A partition that is closed has nothing above the highest number.
            let mut from = vec![i64::MAX; ids.len()];
            for at in &open {
                from[*at] = after[*at];
            }
            self.unsettle();
            let (query, conn) = self.statement(KEYS);
            let rows = query.bind(&from).bind(&up_to).bind(asked).fetch_all(conn).await?;
            let mut counts = vec![0_i64; ids.len()];
            for row in &rows {
                let key =
                    FeedKey { partition: registry::partition(row, 0)?, position: row.try_get(1)? };
                if let Ok(at) = ids.binary_search(&key.partition) {
                    counts[at] += 1;
                    after[at] = after[at].max(key.position);
                }
                best.push(key);
            }
            best.sort_unstable_by_key(|key| key.position);
            best.truncate(wanted);
            let reach = best.get(wanted - 1).map(|key| key.position);
            open.retain(|at| counts[*at] >= asked && reach.is_none_or(|last| after[*at] < last));
        }
        Ok(best)
    }

    /// The first and the last position of a span in each partition that has any.
    async fn feed_spans(
        &mut self,
        start: Option<OffsetDateTime>,
        end: Option<OffsetDateTime>,
    ) -> Result<BTreeMap<PartitionId, (i64, i64)>, IndexError> {
        let (start, end) = span(start, end);
        self.unsettle();
        let (query, conn) = self.statement(SPANS);
        let rows = query.bind(start).bind(end).fetch_all(conn).await?;
        let read =
            |row: &PgRow| Ok((registry::partition(row, 0)?, (row.try_get(1)?, row.try_get(2)?)));
        rows.iter().map(read).collect()
    }

    /// Events by their keys, in their order. Ends early, but not before the first, when the
    /// metadata is a MiB; the second value says whether it did.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_events(
        &mut self,
        keys: &[FeedKey],
        metadata: bool,
    ) -> Result<(Vec<FeedEvent>, bool), IndexError> {
        let ids: Vec<String> = keys.iter().map(|key| key.partition.to_string()).collect();
        let positions: Vec<i64> = keys.iter().map(|key| key.position).collect();
        self.unsettle();
        let (query, conn) = self.statement(if metadata { EVENTS_METADATA } else { EVENTS });
        read_page(query.bind(ids).bind(positions), conn, metadata).await
    }

    /// The highest position up to `horizon`; `None` where there is no event.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_newest(&mut self, horizon: i64) -> Result<Option<i64>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(NEWEST);
        let rows = query.bind(horizon).fetch_all(conn).await?;
        let positions = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        Ok(positions.into_iter().max())
    }

    /// Whether events above `after` may have been removed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn feed_gone(&mut self, after: i64) -> Result<bool, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(GONE);
        Ok(query.bind(after).fetch_optional(conn).await?.is_some())
    }
}
