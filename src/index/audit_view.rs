//! Reading the audit log: pages of events that fit, newest first.
//!
//! A page goes on behind the last event of the one before, by its moment and id, so that what comes
//! meanwhile moves nothing. Where the request names a study, a subject or a request id, the events
//! are found by the index of that; else by their time.

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx, feed::span, lookup::one};

macro_rules! view {
    ($name:literal, $found:literal, $order:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT e.occurred_at, e.event_id, e.record, c.number, c.hash
    FROM (SELECT occurred_at, event_id, record FROM audit_event
        WHERE partition_id = $1 ",
            $found,
            " AND (occurred_at, event_id) < ($2, $3) AND occurred_at >= $4
            AND ($5::text IS NULL OR issuer = $5) AND ($6::text IS NULL OR subject = $6)
            AND ($7::text IS NULL OR action = $7) AND ($8::text IS NULL OR outcome = $8)
            AND ($9::text IS NULL OR study_instance_uid = $9)
            AND ($10::text IS NULL OR request_id = $10)
        ORDER BY ",
            $order,
            "occurred_at DESC, event_id DESC LIMIT $11) e
    LEFT JOIN LATERAL ",
            one!("number, hash", "audit_chain", "event_id", "e.event_id"),
            " c ON true"
        )
    };
}

const BY_TIME: &str = view!("audit_view", "", "");
const BY_STUDY: &str = view!(
    "audit_view_study",
    "AND study_instance_uid >= $9 AND study_instance_uid <= $9",
    "study_instance_uid DESC, "
);
const BY_SUBJECT: &str =
    view!("audit_view_subject", "AND subject >= $6 AND subject <= $6", "subject DESC, ");
const BY_REQUEST: &str =
    view!("audit_view_request", "AND request_id >= $10 AND request_id <= $10", "request_id DESC, ");

pub(super) const STATEMENTS: &[&str] = &[BY_TIME, BY_STUDY, BY_SUBJECT, BY_REQUEST];

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who vouches for the principal.
    pub issuer: Option<String>,
    /// The principal.
    pub subject: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// The study that it was about.
    pub study: Option<String>,
    /// The request.
    pub request: Option<String>,
    /// The first moment.
    pub since: Option<OffsetDateTime>,
    /// The first moment behind.
    pub until: Option<OffsetDateTime>,
}

/// Where a page goes on: behind this event, which is older than all before.
pub type AuditCursor = (OffsetDateTime, Uuid);

/// An event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it happened, and its id.
    pub at: AuditCursor,
    /// Its record.
    pub record: String,
    /// Its number and hash in the chain, where it has a place there.
    pub link: Option<(i64, Vec<u8>)>,
}

impl PartitionTx {
    /// Events that fit, newest first, `limit` at most.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn audit_entries(
        &mut self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, IndexError> {
        let sql = match filter {
            AuditFilter { request: Some(_), .. } => BY_REQUEST,
            AuditFilter { study: Some(_), .. } => BY_STUDY,
            AuditFilter { subject: Some(_), .. } => BY_SUBJECT,
            _ => BY_TIME,
        };
        let (since, until) = span(filter.since, filter.until);
        // No id is smaller: of the moment itself nothing is taken.
        let bound = after.map_or((until, Uuid::nil()), |after| after.min((until, Uuid::nil())));
        let (query, conn) = self.statement(sql);
        let rows = query
            .bind(bound.0)
            .bind(bound.1)
            .bind(since)
            .bind(filter.issuer.clone())
            .bind(filter.subject.clone())
            .bind(filter.action.clone())
            .bind(filter.outcome.clone())
            .bind(filter.study.clone())
            .bind(filter.request.clone())
            .bind(limit)
            .fetch_all(conn)
            .await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let number: Option<i64> = row.try_get(3)?;
            let hash: Option<Vec<u8>> = row.try_get(4)?;
            let (at, record) = ((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
            entries.push(AuditEntry { at, record, link: number.zip(hash) });
        }
        Ok(entries)
    }
}
