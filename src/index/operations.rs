//! Operations: durable work that outlives the request which asked for it, whatever it does.
//!
//! One row for each partition that an operation works in; those of one request share an id. Who
//! works on a row holds it by a lease that each batch renews, in the transaction of the batch: a
//! server that dies loses the lease and nothing else, and one that lost it can commit no more
//! progress. Several servers share the work so. In one partition one operation of a kind runs at a
//! time, the oldest first; kinds do not wait for each other, so that a long reindex holds up no
//! removal.
//!
//! A kind is a type of cursor ([`Progress`]) and a step that moves it: [`Reindexing`] (`reindex`),
//! [`Purging`] (`removal`), [`Compacting`] (`compaction`), [`Updating`] (`update`), `Importing` and
//! `Exporting` (`transfers`). An erasure holds no lease: it ends when
//! others have done its work (`erase`).
//!
//! Holds: what has ended does not change. Absent: what an operation does; how it is shown
//! (`operation_view`).

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, OperationState, PartitionTx, lookup::one};
use crate::audit::Event;

/// How long a claim holds without a sign of life. A batch takes a second or two.
pub const LEASE: Duration = Duration::from_secs(20);
/// Claims without progress after which an operation fails.
const ATTEMPTS: i32 = 10;
/// Wait after the first failure; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const RETRY_CAP: Duration = Duration::from_secs(300);

const CREATE: &str = "-- operation_create
    INSERT INTO operation (partition_id, operation_id, kind, resources, total, cursor)
    VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)
    ON CONFLICT DO NOTHING";

const PENDING: &str = "-- operations_pending
    SELECT operation_id, cursor::text, attempts, is_canceled, total IS NULL,
        coalesce(extract(epoch FROM lease_until - now()), 0)::float8,
        extract(epoch FROM next_attempt_at - now())::float8
    FROM operation
    WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NULL AND kind = $2
    ORDER BY created_at, operation_id FOR UPDATE";

const TAKE: &str = concat!(
    "-- operation_take
    UPDATE operation t SET state = 'running', lease_owner = $3,
        lease_until = now() + make_interval(secs => $4), attempts = t.attempts + 1,
        updated_at = now()
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const ADVANCE: &str = concat!(
    "-- operation_advance
    UPDATE operation t SET processed = t.processed + $4, failed = t.failed + $5,
        cursor = $6::text::jsonb, lease_until = now() + make_interval(secs => $7), attempts = 0,
        updated_at = now()
    WHERE t.partition_id = $1 AND t.lease_owner = $3 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2"),
    "
    RETURNING t.is_canceled"
);

const RENEW: &str = concat!(
    "-- operation_renew
    UPDATE operation t SET lease_until = now() + make_interval(secs => $4)
    WHERE t.partition_id = $1 AND t.lease_owner = $3 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const TOTAL: &str = concat!(
    "-- operation_total
    UPDATE operation t SET total = $3 WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const RELEASE: &str = concat!(
    "-- operation_release
    UPDATE operation t SET lease_owner = NULL, lease_until = NULL,
        next_attempt_at = now() + make_interval(secs => $4)
    WHERE t.partition_id = $1 AND t.lease_owner = $3 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const END: &str = concat!(
    "-- operation_end
    UPDATE operation t SET state = $3, error = $4, lease_owner = NULL, lease_until = NULL,
        ended_at = now(), updated_at = now()
    WHERE t.partition_id = $1 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

/// One that somebody works on is ended by him. What removes deleted bytes is not cancelled.
const CANCEL: &str = concat!(
    "-- operation_cancel
    UPDATE operation t SET is_canceled = true, updated_at = now(),
        state = CASE WHEN t.lease_until > now() THEN t.state ELSE 'canceled' END,
        ended_at = CASE WHEN t.lease_until > now() THEN NULL ELSE now() END
    WHERE t.partition_id = $1 AND t.ended_at IS NULL AND t.kind NOT IN ('purge', 'erase')
        AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const FAILURES: &str = concat!(
    "-- operation_failures
    SELECT o.failed FROM ",
    one!("failed", "operation", "operation_id", "$2"),
    " o"
);

const FORGET: &str = "-- operations_forget
    DELETE FROM operation t
    USING (SELECT ctid AS at FROM operation
        WHERE partition_id = $1 AND ended_at < now() - make_interval(secs => $2)
        ORDER BY ended_at LIMIT 1000) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const RESULTS: &str = concat!(
    "-- operation_results
    UPDATE operation t SET results = $3::text::jsonb WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

pub(super) const STATEMENTS: &[&str] = &[
    CREATE, PENDING, TAKE, ADVANCE, RENEW, TOTAL, RELEASE, END, CANCEL, FAILURES, FORGET, RESULTS,
];

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Indexes for extended query tags what was stored before them.
    Reindex,
    /// Removes blobs whose last instance was deleted, after the grace period.
    Purge,
    /// Rewrites blobs that are mostly dead.
    Compact,
    /// Waits until no byte of what was erased is in the store.
    Erase,
    /// Changes attributes of studies.
    Update,
    /// Stores the files of a place.
    Import,
    /// Copies instances to a place.
    Export,
}

impl OperationKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Reindex,
        Self::Purge,
        Self::Compact,
        Self::Erase,
        Self::Update,
        Self::Import,
        Self::Export,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reindex => "reindex",
            Self::Purge => "purge",
            Self::Compact => "compact",
            Self::Erase => "erase",
            Self::Update => "update",
            Self::Import => "import",
            Self::Export => "export",
        }
    }

    /// The one with that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can be cancelled: removal of what was deleted goes on.
    pub fn can_be_canceled(self) -> bool {
        matches!(self, Self::Reindex | Self::Compact | Self::Update | Self::Import | Self::Export)
    }
}

/// How far an operation of some kind is, as its row keeps it.
pub trait Progress: Serialize + DeserializeOwned + Send + Sync {
    /// The kind.
    const KIND: OperationKind;
}

/// Where a reindex goes on: instances above `after`, up to `until`, by watermark.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Reindexing {
    /// The last one that was dealt with.
    pub after: i64,
    /// The last one there was when the operation began.
    pub until: i64,
}

impl Progress for Reindexing {
    const KIND: OperationKind = OperationKind::Reindex;
}

/// A purge: what is due says where it goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Purging {}

impl Progress for Purging {
    const KIND: OperationKind = OperationKind::Purge;
}

/// A compaction: what is due says where it goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Compacting {}

impl Progress for Compacting {
    const KIND: OperationKind = OperationKind::Compact;
}

/// An update of studies, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Updating {
    /// Study Instance UIDs.
    pub studies: Vec<String>,
    /// What is to be done to each of them; its form is that of `archive`.
    pub correction: serde_json::Value,
    /// How many were dealt with.
    pub done: usize,
    /// What came of it so far.
    pub tally: UpdateTally,
    /// The request that asked for it, as the audit log has it.
    pub asked: Option<Event>,
}

/// What came of an update.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateTally {
    /// Studies that were dealt with.
    pub study_processed: u64,
    /// Those that were changed.
    pub study_updated: u64,
    /// Those that could not be.
    pub study_failed: u64,
    /// Instances that were changed.
    pub instance_updated: u64,
    /// Why studies could not be changed, in words that tell nothing of a patient.
    pub errors: Vec<String>,
}

impl Progress for Updating {
    const KIND: OperationKind = OperationKind::Update;
}

/// A claimed operation.
#[derive(Clone, Debug)]
pub struct Claim<P> {
    /// Its id.
    pub id: Uuid,
    /// Where to go on.
    pub cursor: P,
    /// Whether what it deals with has not been counted yet.
    pub wants_total: bool,
    attempts: i32,
}

/// What there is to do in a partition.
#[derive(Clone, Debug)]
pub enum Work<P> {
    /// This, now.
    Now(Claim<P>),
    /// Something, not before this time has passed.
    Later(Duration),
    /// Nothing.
    Nothing,
}

/// `first`, doubled so often, at most `cap`.
pub(super) fn back_off(first: Duration, doublings: i32, cap: Duration) -> Duration {
    first.saturating_mul(1 << doublings.clamp(0, 30)).min(cap)
}

fn cursor<P: Progress>(text: &str) -> Result<P, IndexError> {
    serde_json::from_str(text)
        .map_err(|_| IndexError::Inconsistent { table: "operation", column: "cursor" })
}

impl PartitionTx {
    /// Adds an operation, unless its id is there, or one of its kind that is begun once only is
    /// under way. `total`: what it has to deal with, where that is known.
    pub(super) async fn operation_create<P: Progress>(
        &mut self,
        id: Uuid,
        resources: &[String],
        total: Option<i64>,
        cursor: &P,
    ) -> Result<(), IndexError> {
        self.operation_insert(id, P::KIND, resources, total, &serde_json::json!(cursor)).await
    }

    /// As [`PartitionTx::operation_create`], for a kind that nobody claims too.
    pub(super) async fn operation_insert(
        &mut self,
        id: Uuid,
        kind: OperationKind,
        resources: &[String],
        total: Option<i64>,
        cursor: &serde_json::Value,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        let query = query.bind(id).bind(kind.name()).bind(resources).bind(total);
        query.bind(cursor.to_string()).execute(conn).await?;
        Ok(())
    }

    /// Claims the oldest operation of a kind in the partition that has not ended, unless one is
    /// being worked on. `owner` is who will hold it.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is claimed before [`PartitionTx::commit`].
    pub async fn operation_claim<P: Progress>(
        &mut self,
        owner: Uuid,
    ) -> Result<Work<P>, IndexError> {
        let (query, conn) = self.statement(PENDING);
        let rows = query.bind(P::KIND.name()).fetch_all(conn).await?;
        let mut later: Option<f64> = None;
        let mut chosen = None;
        for row in &rows {
            let (leased, due): (f64, f64) = (row.try_get(5)?, row.try_get(6)?);
            if leased > 0.0 {
                return Ok(Work::Later(Duration::from_secs_f64(leased)));
            }
            if due > 0.0 {
                later = Some(later.map_or(due, |later| later.min(due)));
            } else if chosen.is_none() {
                chosen = Some(Claim {
                    id: row.try_get(0)?,
                    cursor: cursor(row.try_get(1)?)?,
                    attempts: row.try_get(2)?,
                    wants_total: row.try_get(4)?,
                });
            }
        }
        let Some(claim) = chosen else {
            return Ok(later.map_or(Work::Nothing, |due| Work::Later(Duration::from_secs_f64(due))));
        };
        if claim.attempts >= ATTEMPTS {
            let reason = "given up after it ended early again and again";
            self.operation_end(claim.id, OperationState::Failed, Some(reason)).await?;
            return Ok(Work::Later(Duration::ZERO));
        }
        let (query, conn) = self.statement(TAKE);
        query.bind(claim.id).bind(owner).bind(LEASE.as_secs_f64()).execute(conn).await?;
        Ok(Work::Now(claim))
    }

    /// Notes progress, in the transaction that made it, and renews the lease. `None`: the lease was
    /// lost, and nothing that rests on it may be committed; else whether the operation is cancelled.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_advance<P: Progress>(
        &mut self,
        (id, owner): (Uuid, Uuid),
        cursor: &P,
        (processed, failed): (i64, i64),
    ) -> Result<Option<bool>, IndexError> {
        let text = serde_json::json!(cursor).to_string();
        let (query, conn) = self.statement(ADVANCE);
        let query = query.bind(id).bind(owner).bind(processed).bind(failed).bind(text);
        let row = query.bind(LEASE.as_secs_f64()).fetch_optional(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// A sign of life between two steps; whether the lease still holds.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_renew(&mut self, id: Uuid, owner: Uuid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(RENEW);
        let query = query.bind(id).bind(owner).bind(LEASE.as_secs_f64());
        Ok(query.execute(conn).await?.rows_affected() > 0)
    }

    /// Notes what an operation tells of its work besides the counts.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_results(
        &mut self,
        id: Uuid,
        results: &serde_json::Value,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(RESULTS);
        query.bind(id).bind(results.to_string()).execute(conn).await?;
        Ok(())
    }

    pub(super) async fn operation_total(&mut self, id: Uuid, total: i64) -> Result<(), IndexError> {
        let (query, conn) = self.statement(TOTAL);
        query.bind(id).bind(total).execute(conn).await?;
        Ok(())
    }

    /// Lets others go on with a claimed operation; after a failure not at once.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_release<P: Progress>(
        &mut self,
        claim: &Claim<P>,
        owner: Uuid,
        has_failed: bool,
    ) -> Result<(), IndexError> {
        let wait = match has_failed {
            true => back_off(RETRY_FIRST, claim.attempts, RETRY_CAP),
            false => Duration::ZERO,
        };
        let (query, conn) = self.statement(RELEASE);
        query.bind(claim.id).bind(owner).bind(wait.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    /// Ends an operation; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_end(
        &mut self,
        id: Uuid,
        state: OperationState,
        error: Option<&str>,
    ) -> Result<(), IndexError> {
        let state = match state {
            OperationState::Succeeded => "succeeded",
            OperationState::Canceled => "canceled",
            _ => "failed",
        };
        let (query, conn) = self.statement(END);
        query.bind(id).bind(state).bind(error).execute(conn).await?;
        Ok(())
    }

    /// Ends an operation that has dealt with everything: it failed where something of it did, of
    /// which `error` says what, behind how many there are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_finish(&mut self, id: Uuid, error: &str) -> Result<(), IndexError> {
        let (query, conn) = self.statement(FAILURES);
        let row = query.bind(id).fetch_optional(conn).await?;
        match row.map(|row| row.try_get::<i64, _>(0)).transpose()?.unwrap_or(0) {
            0 => self.operation_end(id, OperationState::Succeeded, None).await,
            failed => {
                let error = format!("{failed} {error}");
                self.operation_end(id, OperationState::Failed, Some(&error)).await
            }
        }
    }

    /// Cancels an operation that can be: at once, or where somebody works on it after his batch. Says
    /// whether there was one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_cancel(&mut self, id: Uuid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(CANCEL);
        Ok(query.bind(id).execute(conn).await?.rows_affected() > 0)
    }

    /// Forgets operations that ended longer than `retention` ago, a thousand at most.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operations_forget(&mut self, retention: Duration) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        Ok(query.bind(retention.as_secs_f64()).execute(conn).await?.rows_affected())
    }
}
