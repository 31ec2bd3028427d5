//! Search, first phase: the keys of a page, in order.
//!
//! Two phases: this one finds keys; `rows` then reads what is answered about them, so that counts
//! and aggregates are made for the page and never for the whole table.
//!
//! Order: studies by date, newest first, those without a date last, then by arrival, newest first;
//! series and instances by arrival, oldest first, so that what arrives meanwhile moves no page.
//!
//! Several partitions have no common order in any index. They are read a few at a time, each
//! partition in its own order and only down to the row that the page cannot reach beyond: the last
//! of what was found so far, or for the first few partitions one that the first rows of each show.
//! The scope is narrowed to those few meanwhile: the policy names all partitions of the scope, and
//! Postgres (before 17) tries each of them in each access to an index.

use std::cmp::Ordering;

use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, RowKey, ScopedTx, SearchPlan,
    db::Regime,
    registry,
    search::{Over, Sql, alias, push_from},
};
use crate::{dicom::attributes::Level, tenancy::PartitionId};

/// How many partitions are read at a time.
const TOGETHER: usize = 48;

/// Most keys that are held to be put in order here; beyond that Postgres sorts, however long it
/// takes. Far more than a page and the offsets that people reach by turning pages.
const MAX_MERGED: i64 = 100_000;

/// A key with what it is ordered by.
#[derive(Debug)]
struct Found {
    order: i64,
    key: RowKey,
}

impl Found {
    fn read(row: &PgRow) -> Result<Self, IndexError> {
        let key = RowKey { partition: registry::partition(row, 0)?, key: row.try_get(1)? };
        Ok(Self { order: row.try_get(2)?, key })
    }

    /// The order of [`order`].
    fn compare(&self, other: &Self, level: Level) -> Ordering {
        match level {
            Level::Study => (other.order, other.key.key).cmp(&(self.order, self.key.key)),
            Level::Series | Level::Instance => self.key.key.cmp(&other.key.key),
        }
    }
}

/// The key column of a level, with its alias.
fn key(level: Level) -> &'static str {
    ["s.study_key", "e.series_key", "i.watermark"][level as usize]
}

fn order(level: Level) -> &'static str {
    match level {
        Level::Study => " ORDER BY s.study_order DESC, s.study_key DESC",
        Level::Series => " ORDER BY e.series_key",
        Level::Instance => " ORDER BY i.watermark",
    }
}

/// The same order, over the rows of several partitions.
fn order_of_all(level: Level) -> &'static str {
    match level {
        Level::Study => " ORDER BY k.place DESC, k.key DESC",
        Level::Series | Level::Instance => " ORDER BY k.key",
    }
}

impl ScopedTx {
    /// The keys of the rows that the plan finds, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_keys(&mut self, plan: &SearchPlan) -> Result<Vec<RowKey>, IndexError> {
        let scope = self.scope().clone();
        if scope.partitions().is_empty() || plan.limit <= 0 {
            return Ok(Vec::new());
        }
        let offset = plan.offset.max(0);
        let wanted = plan.limit.saturating_add(offset);
        // Citus cannot join a distributed table with a list; it reads its shards side by side.
        if scope.only().is_some() || self.citus() || wanted > MAX_MERGED {
            self.settle(Regime::Search, scope.partitions()).await?;
            let mut sql = page(plan, scope.partitions(), "-- search_keys\n")?;
            let found = self.found(&mut sql).await?;
            return Ok(found.into_iter().map(|found| found.key).collect());
        }
        let mut best: Vec<Found> = Vec::new();
        let enough = usize::try_from(wanted).unwrap_or(usize::MAX);
        for few in scope.partitions().chunks(TOGETHER) {
            self.settle(Regime::Search, few).await?;
            let floor = match best.get(enough - 1) {
                Some(last) => Some((last.order, last.key.key)),
                None => self.floor(plan, few, wanted).await?,
            };
            let mut sql = down_to(plan, few, wanted, floor, "-- search_keys\n")?;
            best.extend(self.found(&mut sql).await?);
            best.sort_by(|a, b| a.compare(b, plan.level));
            best.truncate(enough);
        }
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(best.into_iter().skip(skipped).map(|found| found.key).collect())
    }

    /// How Postgres would find the keys (of many partitions: in the first few), as EXPLAIN says it:
    /// for tests and for support.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_explain(&mut self, plan: &SearchPlan) -> Result<Vec<String>, IndexError> {
        let scope = self.scope().clone();
        self.settle(Regime::Search, scope.partitions()).await?;
        let few = scope.partitions().get(..TOGETHER).unwrap_or(scope.partitions());
        let mut sql = if scope.only().is_some() || self.citus() {
            page(plan, scope.partitions(), "EXPLAIN ")?
        } else {
            let wanted = plan.limit.max(1).saturating_add(plan.offset.max(0));
            let floor = self.floor(plan, few, wanted).await?;
            down_to(plan, few, wanted, floor, "EXPLAIN ")?
        };
        let rows = sql.build().persistent(false).fetch_all(self.conn()).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How many rows match the plan, whatever its limit and offset.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_count(&mut self, plan: &SearchPlan) -> Result<i64, IndexError> {
        let scope = self.scope().clone();
        let mut count = 0;
        for few in scope.partitions().chunks(TOGETHER) {
            self.settle(Regime::Search, few).await?;
            let mut sql = Sql::new("-- search_count\nSELECT count(*)");
            push_from(&mut sql, plan, Over::Partitions(&names(few)))?;
            let row = sql.build().persistent(false).fetch_one(self.conn()).await?;
            count += row.try_get::<i64, _>(0)?;
        }
        Ok(count)
    }

    /// Of the first few rows of each partition, the one at place `wanted`: the page cannot reach
    /// beyond. `None` where there are not so many.
    async fn floor(
        &mut self,
        plan: &SearchPlan,
        partitions: &[PartitionId],
        wanted: i64,
    ) -> Result<Option<(i64, i64)>, IndexError> {
        let heads = wanted / i64::try_from(partitions.len()).unwrap_or(i64::MAX) + 1;
        let mut sql =
            Sql::new("-- search_floor\nSELECT k.partition_id, k.key, k.place FROM unnest(");
        sql.push_bind(names(partitions)).push("::text[]) AS scope(id) CROSS JOIN LATERAL (SELECT ");
        push_keys(&mut sql, plan.level);
        push_from(&mut sql, plan, Over::Each)?;
        sql.push(order(plan.level)).push(" LIMIT ").push_bind(heads);
        sql.push(") AS k").push(order_of_all(plan.level)).push(" LIMIT 1 OFFSET ");
        sql.push_bind(wanted - 1);
        let found = self.found(&mut sql).await?;
        Ok(found.into_iter().next().map(|found| (found.order, found.key.key)))
    }

    async fn found(&mut self, sql: &mut Sql) -> Result<Vec<Found>, IndexError> {
        // Not kept: its plan must fit these values, and texts are many.
        let rows = sql.build().persistent(false).fetch_all(self.conn()).await?;
        rows.iter().map(Found::read).collect()
    }
}

fn names(partitions: &[PartitionId]) -> Vec<&str> {
    partitions.iter().map(PartitionId::as_str).collect()
}

/// The page, in one statement: served by an index in order where it is one partition's.
fn page(
    plan: &SearchPlan,
    partitions: &[PartitionId],
    opening: &'static str,
) -> Result<Sql, IndexError> {
    let mut sql = Sql::new(opening);
    sql.push("SELECT ");
    push_keys(&mut sql, plan.level);
    push_from(&mut sql, plan, Over::Partitions(&names(partitions)))?;
    sql.push(order(plan.level)).push(" LIMIT ").push_bind(plan.limit);
    sql.push(" OFFSET ").push_bind(plan.offset.max(0));
    Ok(sql)
}

/// The first `wanted` rows of some partitions, none beyond `floor`.
fn down_to(
    plan: &SearchPlan,
    partitions: &[PartitionId],
    wanted: i64,
    floor: Option<(i64, i64)>,
    opening: &'static str,
) -> Result<Sql, IndexError> {
    let mut sql = Sql::new(opening);
    sql.push("SELECT k.partition_id, k.key, k.place FROM unnest(");
    sql.push_bind(names(partitions)).push("::text[]) AS scope(id) CROSS JOIN LATERAL (SELECT ");
    push_keys(&mut sql, plan.level);
    push_from(&mut sql, plan, Over::Each)?;
    match (plan.level, floor) {
        // A row comparison is one condition of the index.
        (Level::Study, Some((order, last))) => {
            sql.push(" AND (s.study_order, s.study_key) >= (").push_bind(order);
            sql.push(", ").push_bind(last).push(")");
        }
        (Level::Series | Level::Instance, Some((_, last))) => {
            sql.push(" AND ").push(key(plan.level)).push(" <= ").push_bind(last);
        }
        (_, None) => {}
    }
    sql.push(order(plan.level)).push(" LIMIT ").push_bind(wanted);
    sql.push(") AS k").push(order_of_all(plan.level)).push(" LIMIT ").push_bind(wanted);
    Ok(sql)
}

/// Partition and key of a row, and for studies the date that they are ordered by.
fn push_keys(sql: &mut Sql, level: Level) {
    sql.push(alias(level)).push(".partition_id, ").push(key(level)).push(" AS key");
    sql.push(match level {
        Level::Study => ", s.study_order AS place",
        Level::Series | Level::Instance => ", 0::bigint AS place",
    });
}
