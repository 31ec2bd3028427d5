//! Events of workitems, one row for each subscriber that is still to be told, and the channels by
//! which they are told.
//!
//! Events are written in the transaction of their change. Holds: who writes events for an Application
//! Entity, or notes what it was told, has locked its row, all in the order of their titles: so that its
//! events become visible in the order of their sequences, and nobody waits in a circle. Only the
//! channel that was opened last is told, by whichever server. No more than so many events are kept
//! for one that is not told; what is missing in the sequence was dropped. Absent: who subscribes
//! (`watchers`), what an event says (`dicom::ups`).

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{IndexError, PartitionTx, ScopedTx, lookup::one, registry};
use crate::{
    dicom::{
        AeTitle, Uid,
        ups::events::{EventType, Report, current_state},
    },
    tenancy::PartitionId,
};

/// Subscribers of a workitem, which are locked by that.
const SUBSCRIBERS: &str = "-- workitem_subscribers
    SELECT s.aetitle, s.last_event FROM (SELECT aetitle FROM workitem_subscription
        WHERE partition_id = $1 AND workitem_uid >= $2 AND workitem_uid <= $2
        ORDER BY workitem_uid, aetitle) n
    CROSS JOIN LATERAL (SELECT aetitle, last_event FROM workitem_subscriber
        WHERE partition_id = $1 AND aetitle >= n.aetitle AND aetitle <= n.aetitle
        ORDER BY aetitle FOR UPDATE) s";

const LOCK: &str = "-- workitem_subscriber_lock
    SELECT last_event, told_event, channel, is_down FROM workitem_subscriber
    WHERE partition_id = $1 AND aetitle >= $2 AND aetitle <= $2 ORDER BY aetitle FOR UPDATE";

const ADD: &str = "-- workitem_events_add
    INSERT INTO workitem_event (partition_id, aetitle, sequence, workitem_uid, kind, report)
    SELECT $1, a.aetitle, a.head + e.number, e.uid, e.kind, e.report
    FROM unnest($2::text[], $3::bigint[]) AS a(aetitle, head)
    CROSS JOIN unnest($4::text[], $5::smallint[], $6::text[])
        WITH ORDINALITY AS e(uid, kind, report, number)";

/// An event for each workitem there is, up to some.
const ADD_ALL: &str = "-- workitem_events_add_all
    INSERT INTO workitem_event (partition_id, aetitle, sequence, workitem_uid, kind)
    SELECT $1, $2, $3 + row_number() OVER (), w.workitem_uid, 1
    FROM (SELECT workitem_uid FROM workitem
        WHERE partition_id = $1 AND workitem_uid > '' ORDER BY workitem_uid LIMIT $4) w";

const ADVANCE: &str = "-- workitem_events_advance
    UPDATE workitem_subscriber t SET last_event = t.last_event + $3
    FROM unnest($2::text[]) AS n(aetitle) CROSS JOIN LATERAL (
        SELECT ctid AS at FROM workitem_subscriber
        WHERE partition_id = $1 AND aetitle >= n.aetitle AND aetitle <= n.aetitle
        ORDER BY aetitle) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const DROP: &str = "-- workitem_events_drop
    DELETE FROM workitem_event t
    USING unnest($2::text[], $3::bigint[]) AS n(aetitle, last) CROSS JOIN LATERAL (
        SELECT ctid AS at FROM workitem_event
        WHERE partition_id = $1 AND (aetitle, sequence) > (n.aetitle, 0)
            AND (aetitle, sequence) <= (n.aetitle, n.last)
        ORDER BY aetitle, sequence) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const OPEN: &str = concat!(
    "-- event_channel_open
    UPDATE workitem_subscriber t SET channel = $3, is_down = false
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "workitem_subscriber", "aetitle", "$2")
);

const CLOSE: &str = concat!(
    "-- event_channel_close
    UPDATE workitem_subscriber t SET channel = NULL, is_down = $3
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "workitem_subscriber", "aetitle", "$2")
);

const TOLD: &str = concat!(
    "-- event_channel_told
    UPDATE workitem_subscriber t SET told_event = $3
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "workitem_subscriber", "aetitle", "$2")
);

/// No more reports than a MiB, but for the first.
const PAGE: &str = "-- workitem_events_page
    SELECT e.sequence, e.workitem_uid, e.kind, e.report, w.state, w.readiness
    FROM (SELECT *, coalesce(sum(octet_length(report))
            OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
        FROM (SELECT sequence, workitem_uid, kind, report FROM workitem_event
            WHERE partition_id = $1 AND (aetitle, sequence) > ($2, $3)
                AND (aetitle, sequence) <= ($2, 9223372036854775807)
            ORDER BY aetitle, sequence LIMIT $4) p) e
    LEFT JOIN LATERAL (SELECT (attributes::json -> '00741000')::text AS state,
            (attributes::json -> '00404041')::text AS readiness
        FROM workitem WHERE partition_id = $1 AND workitem_uid >= e.workitem_uid
            AND workitem_uid <= e.workitem_uid AND e.report IS NULL
        ORDER BY workitem_uid) w ON true
    WHERE e.before < 1048576";

/// Who has events that are too old, and the last of these.
const STALE: &str = "-- workitem_events_stale
    SELECT s.aetitle, o.sequence
    FROM (SELECT aetitle FROM workitem_subscriber
        WHERE partition_id = $1 AND aetitle > '' ORDER BY aetitle) s
    CROSS JOIN LATERAL (SELECT created_at FROM workitem_event
        WHERE partition_id = $1 AND (aetitle, sequence) > (s.aetitle, 0)
            AND (aetitle, sequence) <= (s.aetitle, 9223372036854775807)
        ORDER BY aetitle, sequence LIMIT 1) f
    CROSS JOIN LATERAL (SELECT sequence FROM workitem_event
        WHERE partition_id = $1 AND (aetitle, sequence) > (s.aetitle, 0)
            AND (aetitle, sequence) <= (s.aetitle, 9223372036854775807)
            AND created_at <= now() - make_interval(secs => $2)
        ORDER BY aetitle DESC, sequence DESC LIMIT 1) o
    WHERE f.created_at <= now() - make_interval(secs => $2)";

pub(super) const STATEMENTS: &[&str] =
    &[SUBSCRIBERS, LOCK, ADD, ADD_ALL, ADVANCE, DROP, OPEN, CLOSE, TOLD, PAGE, STALE];

/// Every open channel of some partitions, and how far its events are.
const CHANNELS: &str = "-- workitem_channels
    SELECT scope.id, c.aetitle, c.channel, c.last_event
    FROM unnest($1::text[]) AS n(id)
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope
    CROSS JOIN LATERAL (SELECT aetitle, channel, last_event FROM workitem_subscriber
        WHERE partition_id = scope.id AND aetitle > '' AND channel IS NOT NULL
        ORDER BY aetitle) c";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[CHANNELS];

/// A subscriber whose row is locked: its title, and the sequence of its newest event.
pub type Subscriber = (String, i64);

/// An Application Entity whose row is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedSubscriber {
    /// The sequence of its newest event.
    pub last: i64,
    /// The sequence of the last event that it was told.
    pub told: i64,
    /// Its channel.
    pub channel: Option<Uuid>,
    /// Whether the server of its last channel went down.
    pub is_down: bool,
}

/// An event that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkitemEvent {
    /// Its number for the subscriber.
    pub sequence: i64,
    /// The workitem.
    pub workitem: String,
    /// What is said of it; `None`: nothing any more.
    pub report: Option<Report>,
}

/// An open channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// The partition.
    pub partition: PartitionId,
    /// Whose.
    pub aetitle: String,
    /// Its id.
    pub id: Uuid,
    /// The sequence of the newest event.
    pub last: i64,
}

fn read(row: &PgRow) -> Result<WorkitemEvent, IndexError> {
    let kind = EventType::of(row.try_get(2)?);
    let kind = kind.ok_or(IndexError::Inconsistent { table: "workitem_event", column: "kind" })?;
    let kept: Option<String> = row.try_get(3)?;
    let report = match kept {
        Some(attributes) => Some(Report { kind, attributes }),
        None => {
            let (state, readiness): (Option<&str>, Option<&str>) =
                (row.try_get(4)?, row.try_get(5)?);
            state.zip(readiness).map(|(state, readiness)| current_state(state, readiness))
        }
    };
    Ok(WorkitemEvent { sequence: row.try_get(0)?, workitem: row.try_get(1)?, report })
}

impl PartitionTx {
    /// The subscribers of a locked workitem, whose rows are locked then.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribers(&mut self, uid: &Uid) -> Result<Vec<Subscriber>, IndexError> {
        let (query, conn) = self.statement(SUBSCRIBERS);
        let rows = query.bind(uid.as_str().to_owned()).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// An Application Entity, whose row is locked then.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscriber_lock(
        &mut self,
        aetitle: &AeTitle,
    ) -> Result<Option<LockedSubscriber>, IndexError> {
        let (query, conn) = self.statement(LOCK);
        let row = query.bind(aetitle.as_str().to_owned()).fetch_optional(conn).await?;
        let read = |row: PgRow| {
            let (last, told) = (row.try_get(0)?, row.try_get(1)?);
            let (channel, is_down) = (row.try_get(2)?, row.try_get(3)?);
            Ok(LockedSubscriber { last, told, channel, is_down })
        };
        row.map(read).transpose()
    }

    /// Writes events for locked subscribers, each of the same ones: of a workitem, with what is said
    /// of it, or that its state is to be told. Of those that are not told only `most` are kept.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_events_add(
        &mut self,
        subscribers: &[Subscriber],
        events: &[(&str, Option<&Report>)],
        most: i64,
    ) -> Result<(), IndexError> {
        let (titles, heads): (Vec<String>, Vec<i64>) = subscribers.iter().cloned().unzip();
        let uids: Vec<&str> = events.iter().map(|(uid, _)| *uid).collect();
        let kind = |report: Option<&Report>| report.map_or(EventType::StateReport, |one| one.kind);
        let kinds: Vec<i16> = events.iter().map(|(_, report)| kind(*report).id()).collect();
        let reports: Vec<Option<&str>> =
            events.iter().map(|(_, report)| report.map(|one| &*one.attributes)).collect();
        let (query, conn) = self.statement(ADD);
        let query = query.bind(titles).bind(heads).bind(uids).bind(kinds).bind(reports);
        query.execute(conn).await?;
        self.advance(subscribers, i64::try_from(events.len()).unwrap_or(i64::MAX), most).await
    }

    /// Writes for a locked subscriber that the state of each workitem there is is to be told.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_events_add_all(
        &mut self,
        subscriber: &Subscriber,
        most: i64,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ADD_ALL);
        // One more than are kept: that there were more shows in the sequence.
        let query = query.bind(subscriber.0.clone()).bind(subscriber.1).bind(most + 1);
        let added = query.execute(conn).await?.rows_affected();
        let added = i64::try_from(added).unwrap_or(i64::MAX);
        self.advance(std::slice::from_ref(subscriber), added, most).await
    }

    async fn advance(
        &mut self,
        subscribers: &[Subscriber],
        added: i64,
        most: i64,
    ) -> Result<(), IndexError> {
        let titles: Vec<&str> = subscribers.iter().map(|(title, _)| &**title).collect();
        let (query, conn) = self.statement(ADVANCE);
        query.bind(titles).bind(added).execute(conn).await?;
        let last = |(title, head): &Subscriber| (title.clone(), head + added - most);
        let (titles, lasts): (Vec<String>, Vec<i64>) =
            subscribers.iter().map(last).filter(|(_, last)| *last > 0).unzip();
        if titles.is_empty() {
            return Ok(());
        }
        let (query, conn) = self.statement(DROP);
        query.bind(titles).bind(lasts).execute(conn).await?;
        Ok(())
    }

    /// Drops the events of a locked Application Entity up to one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_events_drop(
        &mut self,
        aetitle: &AeTitle,
        last: i64,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(DROP);
        Ok(query.bind(vec![aetitle.as_str()]).bind(vec![last]).execute(conn).await?.rows_affected())
    }

    /// The next events of an Application Entity above a sequence; none where there are none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_events(
        &mut self,
        aetitle: &AeTitle,
        after: i64,
        limit: i64,
    ) -> Result<Vec<WorkitemEvent>, IndexError> {
        let (query, conn) = self.statement(PAGE);
        let query = query.bind(aetitle.as_str().to_owned()).bind(after).bind(limit);
        let rows = query.fetch_all(conn).await?;
        let mut events: Vec<WorkitemEvent> = rows.iter().map(read).collect::<Result<_, _>>()?;
        events.sort_unstable_by_key(|event| event.sequence);
        Ok(events)
    }

    /// Application Entities with events that were written `age` ago, and the last of these.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_events_stale(
        &mut self,
        age: Duration,
    ) -> Result<Vec<(AeTitle, i64)>, IndexError> {
        const WRONG: IndexError =
            IndexError::Inconsistent { table: "workitem_subscriber", column: "aetitle" };
        let (query, conn) = self.statement(STALE);
        let rows = query.bind(age.as_secs_f64()).fetch_all(conn).await?;
        let read = |row: &PgRow| {
            let title = row.try_get::<&str, _>(0)?.parse().map_err(|_| WRONG)?;
            Ok((title, row.try_get(1)?))
        };
        rows.iter().map(read).collect()
    }

    /// Gives a locked Application Entity a channel, in place of the one that it had.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn event_channel_open(
        &mut self,
        aetitle: &AeTitle,
        id: Uuid,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(OPEN);
        query.bind(aetitle.as_str().to_owned()).bind(id).execute(conn).await?;
        Ok(())
    }

    /// Takes the channel of a locked Application Entity away; `is_down`: since the server ends.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn event_channel_close(
        &mut self,
        aetitle: &AeTitle,
        is_down: bool,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CLOSE);
        query.bind(aetitle.as_str().to_owned()).bind(is_down).execute(conn).await?;
        Ok(())
    }

    /// Notes up to which event a locked Application Entity was told; they are kept no longer.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn event_channel_told(
        &mut self,
        aetitle: &AeTitle,
        last: i64,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(TOLD);
        query.bind(aetitle.as_str().to_owned()).bind(last).execute(conn).await?;
        self.workitem_events_drop(aetitle, last).await?;
        Ok(())
    }
}

impl ScopedTx {
    /// The open channels of all partitions of the scope.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_channels(&mut self) -> Result<Vec<OpenChannel>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(CHANNELS);
        let read = |row: &PgRow| {
            let (partition, aetitle) = (registry::partition(row, 0)?, row.try_get(1)?);
            Ok(OpenChannel { partition, aetitle, id: row.try_get(2)?, last: row.try_get(3)? })
        };
        query.fetch_all(conn).await?.iter().map(read).collect()
    }
}
