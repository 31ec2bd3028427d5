//! The chain of the audit log: links for events that have none, what verifying reads, what retention
//! removes, and how far receivers were sent it.
//!
//! Holds: who adds links has the partition's lock ([`Db::begin_chaining`]), so that numbers count
//! from 1 without holes, and a link never changes. What retention removes is the beginning of the
//! chain, by a function of the owner of the schema which leaves a checkpoint: the chain goes on from
//! there.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Db, IndexError, PartitionTx,
    feed::{NO_REST, PATIENCE},
    lookup::{delete_each, one},
    tag_lock,
};
use crate::{
    audit::{Hash, Link},
    tenancy::PartitionScope,
};

/// First key of the lock of who adds links in a partition.
const OF_PARTITION: i32 = 0x4155_4400;

const PENDING: &str = "-- audit_pending_any
    SELECT (SELECT pending_id FROM audit_pending WHERE partition_id = $1 AND pending_id > 0
        ORDER BY pending_id LIMIT 1) IS NOT NULL";

const PENDING_PAGE: &str = concat!(
    "-- audit_pending_page
    SELECT p.pending_id, p.event_id, e.record, c.number
    FROM (SELECT pending_id, event_id FROM audit_pending
        WHERE partition_id = $1 AND pending_id > 0 ORDER BY pending_id LIMIT $2) p
    LEFT JOIN LATERAL ",
    one!("record", "audit_event", "event_id", "p.event_id"),
    " e ON true
    LEFT JOIN LATERAL ",
    one!("number", "audit_chain", "event_id", "p.event_id"),
    " c ON true"
);

const PENDING_DONE: &str = delete_each!("audit_pending_done", "audit_pending", "pending_id", "");

const LAST: &str = "-- audit_chain_last
    SELECT number, hash FROM audit_chain WHERE partition_id = $1 AND number > 0
    ORDER BY number DESC LIMIT 1";

const CHECKPOINT: &str = "-- audit_checkpoint_get
    SELECT number, hash, event_id FROM audit_checkpoint WHERE partition_id = $1 AND number > 0
    ORDER BY number DESC LIMIT 1";

const CHAIN: &str = "-- audit_chain_add
    INSERT INTO audit_chain (partition_id, number, event_id, hash)
    SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::bytea[])
    RETURNING number";

const PAGE: &str = concat!(
    "-- audit_chain_page
    SELECT c.number, c.hash, c.event_id, e.record, e.occurred_at, e.issuer, e.subject, e.action,
        e.outcome, e.study_instance_uid, e.request_id
    FROM (SELECT number, hash, event_id FROM audit_chain
        WHERE partition_id = $1 AND number > $2 ORDER BY number LIMIT $3) c
    LEFT JOIN LATERAL ",
    one!("*", "audit_event", "event_id", "c.event_id"),
    " e ON true"
);

const EVENTS: &str = concat!(
    "-- audit_event_links
    SELECT e.event_id, e.occurred_at, c.number
    FROM (SELECT event_id, occurred_at FROM audit_event
        WHERE partition_id = $1 AND (occurred_at, event_id) > ($2, $3) AND occurred_at < $4
        ORDER BY occurred_at, event_id LIMIT $5) e
    LEFT JOIN LATERAL ",
    one!("number", "audit_chain", "event_id", "e.event_id"),
    " c ON true"
);

const FORGET: &str = "-- audit_forget
    SELECT audit_forget($1, make_interval(secs => $2), $3, $4)";

const CLAIM: &str = "-- audit_export_claim
    INSERT INTO audit_export AS t (partition_id, target, lease_owner, lease_until)
    VALUES ($1, $2, $3, now() + make_interval(secs => $4))
    ON CONFLICT (partition_id, target) DO UPDATE
        SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
        WHERE t.lease_until IS NULL OR t.lease_until < now() OR t.lease_owner = $3
    RETURNING number";

const MOVE: &str = concat!(
    "-- audit_export_move
    UPDATE audit_export t SET number = $4, lease_until = now() + make_interval(secs => $5)
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "audit_export", "target", "$2"),
    " AND t.lease_owner = $3"
);

const POSITION: &str = "-- audit_export_position
    SELECT number FROM audit_export WHERE partition_id = $1 AND target >= $2 AND target <= $2
    ORDER BY target";

pub(super) const STATEMENTS: &[&str] = &[
    PENDING,
    PENDING_PAGE,
    PENDING_DONE,
    LAST,
    CHECKPOINT,
    CHAIN,
    PAGE,
    EVENTS,
    FORGET,
    CLAIM,
    MOVE,
    POSITION,
];

/// A link with its event, as they are kept: nothing of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLink {
    /// The link's number.
    pub number: i64,
    /// Its hash.
    pub hash: Vec<u8>,
    /// The event that it is of.
    pub event: Uuid,
    /// What is kept of the event; `None`: it is not there.
    pub kept: Option<AuditKept>,
}

/// An event's record, and what was taken from it to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditKept {
    /// The record.
    pub record: String,
    /// When it happened.
    pub at: OffsetDateTime,
    /// Issuer, subject, action, outcome, study and request id.
    pub columns: [Option<String>; 6],
}

/// An event and the number of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLinked {
    /// The event.
    pub event: Uuid,
    /// When it happened.
    pub at: OffsetDateTime,
    /// Its number in the chain, where it has a place there.
    pub number: Option<i64>,
}

impl Db {
    /// Opens a transaction that adds links to a partition's chain. It waits for others who do.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where they do not end in time; [`IndexError::Unavailable`].
    pub async fn begin_chaining(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})");
        let mut tx =
            self.begin_holding(scope, &[PATIENCE.to_owned(), NO_REST.to_owned(), lock]).await?;
        tx.audit_nothing();
        Ok(tx)
    }
}

impl PartitionTx {
    /// Whether events wait for their place in the chain.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_pending(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PENDING);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Gives the first `limit` events that wait their places; says how many those were. Of a
    /// transaction that [`Db::begin_chaining`] opened.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_chain(&mut self, limit: i64) -> Result<u64, IndexError> {
        let mut last = self.audit_last().await?;
        let (query, conn) = self.statement(PENDING_PAGE);
        let rows = query.bind(limit).fetch_all(conn).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let (mut done, mut numbers, mut events, mut hashes) = (vec![], vec![], vec![], vec![]);
        for row in &rows {
            done.push(row.try_get::<i64, _>(0)?);
            // One that has its place is in the queue twice, which the server never does.
            if row.try_get::<Option<i64>, _>(3)?.is_some() {
                continue;
            }
            let event: Uuid = row.try_get(1)?;
            if events.contains(&event) {
                continue;
            }
            // Of an event that is not there any more the place is kept: verifying tells of it.
            let record: Option<&str> = row.try_get(2)?;
            last = last.next(record.unwrap_or_default());
            numbers.push(last.number);
            events.push(event);
            hashes.push(last.hash.to_vec());
        }
        let (query, conn) = self.statement(CHAIN);
        query.bind(numbers).bind(events).bind(hashes).execute(conn).await?;
        let (query, conn) = self.statement(PENDING_DONE);
        query.bind(&done).execute(conn).await?;
        Ok(done.len() as u64)
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_last(&mut self) -> Result<Link, IndexError> {
        let (query, conn) = self.statement(LAST);
        match query.fetch_optional(conn).await? {
            Some(row) => link(&row, "audit_chain"),
            None => Ok(self.audit_checkpoint().await?.map_or(Link::START, |(link, _)| link)),
        }
    }

    /// Where what is left of the chain begins, and the event that tells of it; `None` where nothing
    /// was removed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_checkpoint(&mut self) -> Result<Option<(Link, Uuid)>, IndexError> {
        let (query, conn) = self.statement(CHECKPOINT);
        let row = query.fetch_optional(conn).await?;
        row.map(|row| Ok((link(&row, "audit_checkpoint")?, row.try_get(2)?))).transpose()
    }

    /// Links above a number, ascending, with their events.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_links(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditLink>, IndexError> {
        let (query, conn) = self.statement(PAGE);
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let mut links = Vec::with_capacity(rows.len());
        for row in &rows {
            let kept = match row.try_get::<Option<String>, _>(3)? {
                Some(record) => Some(AuditKept {
                    record,
                    at: row.try_get(4)?,
                    columns: [
                        row.try_get(5)?,
                        row.try_get(6)?,
                        row.try_get(7)?,
                        row.try_get(8)?,
                        row.try_get(9)?,
                        row.try_get(10)?,
                    ],
                }),
                None => None,
            };
            let (number, hash, event) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            links.push(AuditLink { number, hash, event, kept });
        }
        Ok(links)
    }

    /// Events behind one, by time, that happened before `until`, with their places in the chain.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_linked(
        &mut self,
        after: (OffsetDateTime, Uuid),
        until: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<AuditLinked>, IndexError> {
        let (query, conn) = self.statement(EVENTS);
        let query = query.bind(after.0).bind(after.1).bind(until).bind(limit);
        let rows = query.fetch_all(conn).await?;
        let linked = |row: &PgRow| {
            let (event, at, number) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(AuditLinked { event, at, number })
        };
        rows.iter().map(linked).collect()
    }

    /// Removes events up to a number that are older than `age`, and than a day; `limit` at most. Says
    /// how many went.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_forget(
        &mut self,
        age: Duration,
        up_to: i64,
        limit: i32,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        let query = query.bind(age.as_secs_f64()).bind(up_to).bind(limit);
        let gone: i64 = query.fetch_one(conn).await?.try_get(0)?;
        Ok(gone.unsigned_abs())
    }

    /// Takes over sending to a receiver for `lease`, unless another does; answers the last number
    /// that it was sent.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_export_claim(
        &mut self,
        target: &str,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Option<i64>, IndexError> {
        let (query, conn) = self.statement(CLAIM);
        let query = query.bind(target.to_owned()).bind(owner).bind(lease.as_secs_f64());
        Ok(query.fetch_optional(conn).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// Notes the last number that a receiver was sent, and holds on for `lease`; says whether it was
    /// still held.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_export_move(
        &mut self,
        target: &str,
        owner: Uuid,
        number: i64,
        lease: Duration,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(MOVE);
        let query = query.bind(target.to_owned()).bind(owner).bind(number);
        Ok(query.bind(lease.as_secs_f64()).execute(conn).await?.rows_affected() == 1)
    }

    /// The last number that a receiver was sent.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_export_position(&mut self, target: &str) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(POSITION);
        let row = query.bind(target.to_owned()).fetch_optional(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }
}

fn link(row: &PgRow, table: &'static str) -> Result<Link, IndexError> {
    let hash = Hash::try_from(row.try_get::<&[u8], _>(1)?);
    let hash = hash.map_err(|_| IndexError::Inconsistent { table, column: "hash" })?;
    Ok(Link { number: row.try_get(0)?, hash })
}
