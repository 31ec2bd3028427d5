//! Operations: durable work that outlives the request which asked for it.
//!
//! One row for each partition that an operation works in; those of one request share an id. Who
//! works on a row holds it by a lease that each batch renews, in the transaction of the batch: a
//! server that dies loses the lease and nothing else, and one that lost it can commit no more.
//! Several servers share the work so; in one partition one operation runs at a time, the oldest
//! first.
//!
//! Holds: what has ended does not change. Absent: what an operation does (`reindex`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx, ScopedTx, lookup::one};

/// How long a claim holds without a sign of life. A batch takes a second or two.
const LEASE: Duration = Duration::from_secs(20);
/// Claims without progress after which an operation fails.
const ATTEMPTS: i32 = 10;
/// Wait after the first failure; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const RETRY_CAP: Duration = Duration::from_secs(300);

/// From the first instance to the last one there is: later ones are indexed by their stores.
const CREATE: &str = "-- operation_create
    INSERT INTO operation (partition_id, operation_id, kind, resources, cursor)
    SELECT $1, $2, 'reindex', $3, jsonb_build_object('after', 0, 'until',
        coalesce((SELECT watermark FROM instance WHERE partition_id = $1 AND watermark > 0
            ORDER BY watermark DESC LIMIT 1), 0))
    ON CONFLICT (partition_id, operation_id) DO NOTHING";

const PENDING: &str = "-- operations_pending
    SELECT operation_id, cursor::text, attempts, is_canceled, total IS NULL,
        coalesce(extract(epoch FROM lease_until - now()), 0)::float8,
        extract(epoch FROM next_attempt_at - now())::float8
    FROM operation
    WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NULL
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

/// One that somebody works on is ended by him.
const CANCEL: &str = concat!(
    "-- operation_cancel
    UPDATE operation t SET is_canceled = true, updated_at = now(),
        state = CASE WHEN t.lease_until > now() THEN t.state ELSE 'canceled' END,
        ended_at = CASE WHEN t.lease_until > now() THEN NULL ELSE now() END
    WHERE t.partition_id = $1 AND t.ended_at IS NULL AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const PURGE: &str = "-- operations_purge
    DELETE FROM operation t
    USING (SELECT ctid AS at FROM operation
        WHERE partition_id = $1 AND ended_at < now() - make_interval(secs => $2)
        ORDER BY ended_at LIMIT 1000) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] =
    &[CREATE, PENDING, TAKE, ADVANCE, TOTAL, RELEASE, END, CANCEL, PURGE];

/// Operations of a scope, newest first: the one asked for, or a page of all.
const LIST: &str = "-- operations_list
    SELECT operation_id, min(created_at), max(updated_at), min(resources), sum(processed)::bigint,
        sum(total)::bigint, sum(failed)::bigint, count(*) FILTER (WHERE state = 'notStarted'),
        count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'canceled'), count(*) FILTER (WHERE state = 'succeeded'),
        min(error), bool_and(total IS NOT NULL)
    FROM operation
    WHERE partition_id = ANY($1) AND ($2::uuid IS NULL OR operation_id = $2)
    GROUP BY operation_id ORDER BY min(created_at) DESC, operation_id LIMIT $3 OFFSET $4";

/// Tags of the root that an operation indexes, where no partition has anything to index for them
/// (yet).
const OF_ROOT: &str = "-- operation_of_root
    SELECT path, created_at, is_deleting FROM query_tag_root
    WHERE $1::text[] IS NOT NULL AND operation_id = $2
        AND created_at > now() - make_interval(secs => $3)
    ORDER BY path";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[LIST, OF_ROOT];

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// Nobody has worked on it yet.
    NotStarted,
    /// Somebody works on it, or will go on.
    Running,
    /// Everything is done.
    Succeeded,
    /// It could not be done.
    Failed,
    /// Somebody cancelled it, or what it was for is gone.
    Canceled,
}

impl OperationState {
    /// Whether it will not change any more.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// An operation as it is in a scope: the sum of its rows there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub state: OperationState,
    /// What it works on: paths of tags.
    pub resources: Vec<String>,
    /// Instances dealt with.
    pub processed: i64,
    /// Instances to deal with; `None`: not counted yet.
    pub total: Option<i64>,
    /// Instances dealt with that had errors.
    pub failed: i64,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When something last happened.
    pub updated_at: OffsetDateTime,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where a reindex goes on: instances above `after`, up to `until`, by watermark.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Cursor {
    /// The last one that was dealt with.
    pub after: i64,
    /// The last one there was when the operation began.
    pub until: i64,
}

/// A claimed operation.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its id.
    pub id: Uuid,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether its instances have not been counted yet.
    pub(super) wants_total: bool,
    attempts: i32,
}

/// What there is to do in a partition.
#[derive(Clone, Debug)]
pub enum Work {
    /// This, now.
    Now(Claim),
    /// Something, not before this time has passed.
    Later(Duration),
    /// Nothing.
    Nothing,
}

fn cursor(text: &str) -> Result<Cursor, IndexError> {
    serde_json::from_str(text)
        .map_err(|_| IndexError::Inconsistent { table: "operation", column: "cursor" })
}

fn read(row: &PgRow, unmet: i64) -> Result<Operation, IndexError> {
    let count = |at: usize| row.try_get::<i64, _>(at);
    let (waiting, running) = (count(7)? + unmet, count(8)?);
    let (failed, canceled, succeeded) = (count(9)?, count(10)?, count(11)?);
    let ended = failed + canceled + succeeded;
    let state = match () {
        () if running > 0 || (waiting > 0 && ended > 0) => OperationState::Running,
        () if waiting > 0 => OperationState::NotStarted,
        () if failed > 0 => OperationState::Failed,
        () if canceled > 0 => OperationState::Canceled,
        () => OperationState::Succeeded,
    };
    let is_counted = row.try_get(13)? && unmet == 0;
    Ok(Operation {
        id: row.try_get(0)?,
        created_at: row.try_get(1)?,
        updated_at: row.try_get(2)?,
        resources: row.try_get(3)?,
        processed: row.try_get(4)?,
        total: row.try_get::<Option<i64>, _>(5)?.filter(|_| is_counted),
        failed: row.try_get(6)?,
        error: row.try_get(12)?,
        state,
    })
}

impl PartitionTx {
    /// Asks for what the partition holds to be indexed for tags with these paths.
    pub(super) async fn reindex_create(
        &mut self,
        id: Uuid,
        paths: &[String],
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        query.bind(id).bind(paths).execute(conn).await?;
        Ok(())
    }

    /// Claims the oldest operation of the partition that has not ended, unless one is being worked
    /// on. `owner` is who will hold it.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is claimed before [`PartitionTx::commit`].
    pub async fn operation_claim(&mut self, owner: Uuid) -> Result<Work, IndexError> {
        let (query, conn) = self.statement(PENDING);
        let rows = query.fetch_all(conn).await?;
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
    /// lost, and the transaction must not be committed; else whether the operation is cancelled.
    pub(super) async fn operation_advance(
        &mut self,
        (id, owner): (Uuid, Uuid),
        cursor: Cursor,
        (processed, failed): (i64, i64),
    ) -> Result<Option<bool>, IndexError> {
        let text = serde_json::json!(cursor).to_string();
        let (query, conn) = self.statement(ADVANCE);
        let query = query.bind(id).bind(owner).bind(processed).bind(failed).bind(text);
        let row = query.bind(LEASE.as_secs_f64()).fetch_optional(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
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
    pub async fn operation_release(
        &mut self,
        claim: &Claim,
        owner: Uuid,
        has_failed: bool,
    ) -> Result<(), IndexError> {
        let doublings = claim.attempts.clamp(0, 16).unsigned_abs();
        let wait = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_CAP);
        let wait = if has_failed { wait } else { Duration::ZERO };
        let (query, conn) = self.statement(RELEASE);
        query.bind(claim.id).bind(owner).bind(wait.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    pub(super) async fn operation_end(
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

    /// Cancels an operation: at once, or where somebody works on it after his batch.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation_cancel(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CANCEL);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Forgets operations that ended longer than `retention` ago, a thousand at most.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operations_purge(&mut self, retention: Duration) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(PURGE);
        Ok(query.bind(retention.as_secs_f64()).execute(conn).await?.rows_affected())
    }
}

impl ScopedTx {
    /// An operation, as it is in the scope. Of one that was asked for at the root and that no
    /// partition of the scope had anything to do for, for `retention`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operation(
        &mut self,
        id: Uuid,
        retention: Duration,
    ) -> Result<Option<Operation>, IndexError> {
        let unmet = self.operations_unmet(Some(id)).await?;
        let waiting = unmet.iter().filter(|(of, _)| *of == id).map(|(_, count)| count).max();
        let waiting = waiting.copied().unwrap_or(0);
        let (query, conn) = self.statement(LIST);
        let row = query.bind(Some(id)).bind(1_i64).bind(0_i64).fetch_optional(conn).await?;
        if let Some(row) = row {
            return Ok(Some(read(&row, waiting)?));
        }
        let (query, conn) = self.statement(OF_ROOT);
        let rows = query.bind(id).bind(retention.as_secs_f64()).fetch_all(conn).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let created_at = first.try_get(1)?;
        let state = match (first.try_get(2)?, waiting) {
            (true, _) => OperationState::Canceled,
            (false, 0) => OperationState::Succeeded,
            (false, _) => OperationState::NotStarted,
        };
        let resources = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let total = Some(0).filter(|_| state.has_ended());
        Ok(Some(Operation {
            id,
            state,
            resources,
            processed: 0,
            total,
            failed: 0,
            created_at,
            updated_at: created_at,
            error: None,
        }))
    }

    /// A page of the operations that the scope has rows of, newest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operations(
        &mut self,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Operation>, IndexError> {
        let unmet = self.operations_unmet(None).await?;
        let (query, conn) = self.statement(LIST);
        let rows = query.bind(None::<Uuid>).bind(limit).bind(offset).fetch_all(conn).await?;
        rows.iter()
            .map(|row| {
                let id: Uuid = row.try_get(0)?;
                let waiting = unmet.iter().filter(|(of, _)| *of == id).map(|(_, count)| *count);
                read(row, waiting.max().unwrap_or(0))
            })
            .collect()
    }

    async fn operations_unmet(&mut self, id: Option<Uuid>) -> Result<Vec<(Uuid, i64)>, IndexError> {
        let unmet = self.tags_unmet(id).await?;
        Ok(unmet.into_iter().map(|(_, operation, count)| (operation, count)).collect())
    }
}
