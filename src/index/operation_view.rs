//! Operations as a scope sees them: the sum of their rows there.
//!
//! An operation at the root has a row in each partition that met it (`query_tags`); those that did
//! not are counted as waiting. Absent: working on operations (`operations`).

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, OperationKind, ScopedTx, registry};
use crate::tenancy::PartitionId;

/// Operations of a scope, newest first: the one asked for, or a page of all of a kind and a state.
/// `$7` and `$8`: in how many partitions an operation has no row yet.
const LIST: &str = "-- operations_list
    SELECT * FROM (SELECT *,
        CASE WHEN running > 0 OR (waiting > 0 AND failures + cancelations + successes > 0)
                THEN 'running'
            WHEN waiting > 0 THEN 'notStarted'
            WHEN failures > 0 THEN 'failed'
            WHEN cancelations > 0 THEN 'canceled'
            ELSE 'succeeded' END AS state
        FROM (SELECT operation_id, min(kind), min(created_at) AS created_at, max(updated_at),
                min(resources), sum(processed)::bigint, sum(total)::bigint, sum(failed)::bigint,
                min(error), bool_and(total IS NOT NULL) AND min(n.count) IS NULL,
                min(partition_id), min(coalesce(results, cursor -> 'results')::text),
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'notStarted') + coalesce(min(n.count), 0) AS waiting,
                count(*) FILTER (WHERE state = 'failed') AS failures,
                count(*) FILTER (WHERE state = 'canceled') AS cancelations,
                count(*) FILTER (WHERE state = 'succeeded') AS successes
            FROM operation LEFT JOIN unnest($7::uuid[], $8::bigint[]) AS n(id, count)
                ON n.id = operation_id
            WHERE partition_id = ANY($1) AND ($2::uuid IS NULL OR operation_id = $2)
                AND ($3::text IS NULL OR kind = $3)
            GROUP BY operation_id) x) y
    WHERE $4::text IS NULL OR state = $4
    ORDER BY created_at DESC, operation_id LIMIT $5 OFFSET $6";

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
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NotStarted, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "notStarted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

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
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// What it works on: paths of tags of a reindex; else the paths of resources.
    pub resources: Vec<String>,
    /// Things dealt with: instances of a reindex, studies of an update, else blobs.
    pub processed: i64,
    /// Things to deal with; `None`: not counted yet.
    pub total: Option<i64>,
    /// Things that had errors.
    pub failed: i64,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When something last happened.
    pub updated_at: OffsetDateTime,
    /// Why it failed.
    pub error: Option<String>,
    /// What came of it so far, of a kind that keeps that; it is in one partition.
    pub results: Option<serde_json::Value>,
    /// A partition that it works in: the only one, but for a reindex at the root.
    pub partition: Option<PartitionId>,
}

/// Which operations are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Of this kind.
    pub kind: Option<OperationKind>,
    /// In this state.
    pub state: Option<OperationState>,
}

fn read(row: &PgRow) -> Result<Operation, IndexError> {
    let wrong = |column| IndexError::Inconsistent { table: "operation", column };
    let state: &str = row.try_get(17)?;
    let state = OperationState::ALL.into_iter().find(|known| known.name() == state);
    let is_counted = row.try_get(9)?;
    let results = row.try_get::<Option<&str>, _>(11)?.map(serde_json::from_str);
    Ok(Operation {
        id: row.try_get(0)?,
        kind: OperationKind::named(row.try_get(1)?).ok_or(wrong("kind"))?,
        created_at: row.try_get(2)?,
        updated_at: row.try_get(3)?,
        resources: row.try_get(4)?,
        processed: row.try_get(5)?,
        total: row.try_get::<Option<i64>, _>(6)?.filter(|_| is_counted),
        failed: row.try_get(7)?,
        error: row.try_get(8)?,
        results: results.transpose().map_err(|_| wrong("results"))?,
        partition: Some(registry::partition(row, 10)?),
        state: state.ok_or(wrong("state"))?,
    })
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
        let waiting = unmet.iter().find(|(of, _)| *of == id).map_or(0, |(_, count)| *count);
        let filter = OperationFilter::default();
        let found = self.operations_read(Some(id), filter, (1, 0), unmet).await?.pop();
        if found.is_some() {
            return Ok(found);
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
            kind: OperationKind::Reindex,
            state,
            resources,
            processed: 0,
            total,
            failed: 0,
            created_at,
            updated_at: created_at,
            error: None,
            results: None,
            partition: None,
        }))
    }

    /// A page (limit, offset) of the operations that the scope has rows of, newest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn operations(
        &mut self,
        filter: OperationFilter,
        page: (i64, i64),
    ) -> Result<Vec<Operation>, IndexError> {
        let unmet = self.operations_unmet(None).await?;
        self.operations_read(None, filter, page, unmet).await
    }

    async fn operations_read(
        &mut self,
        id: Option<Uuid>,
        filter: OperationFilter,
        (limit, offset): (i64, i64),
        unmet: Vec<(Uuid, i64)>,
    ) -> Result<Vec<Operation>, IndexError> {
        let (ids, counts): (Vec<Uuid>, Vec<i64>) = unmet.into_iter().unzip();
        let (query, conn) = self.statement(LIST);
        let query = query.bind(id).bind(filter.kind.map(OperationKind::name));
        let query = query.bind(filter.state.map(OperationState::name)).bind(limit).bind(offset);
        query.bind(ids).bind(counts).fetch_all(conn).await?.iter().map(read).collect()
    }

    /// In how many partitions of the scope operations at the root have no row yet, where that is
    /// any.
    async fn operations_unmet(&mut self, id: Option<Uuid>) -> Result<Vec<(Uuid, i64)>, IndexError> {
        let mut unmet: Vec<(Uuid, i64)> = Vec::new();
        for (_, operation, count) in self.tags_unmet(id).await? {
            match unmet.iter_mut().find(|(of, _)| *of == operation) {
                Some((_, most)) => *most = count.max(*most),
                None => unmet.push((operation, count)),
            }
        }
        unmet.retain(|(_, count)| *count > 0);
        Ok(unmet)
    }
}
