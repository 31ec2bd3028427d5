//! Search, first phase: the keys of a page, in order, and how many rows match.
//!
//! Two phases: this one finds keys; `rows` then reads what is answered about them, so that counts
//! and aggregates are made for the page and never for the whole table.
//!
//! Order: studies by date and time, latest first, those without a date last, then by arrival, newest
//! first; series and instances by arrival, oldest first, so that what arrives meanwhile moves no
//! page.
//!
//! Where a set of rows holds all results (`driver`), it is read and put in order if it is small. How
//! many rows it has is not known before; so it is read up to a bound, or, where its rows are yet to
//! be tested, counted. A larger one is likely to have a page among the first rows in order: these are
//! read instead, up to a bound; and the whole set only where they did not yield one. In the same way
//! rows are tested one by one only where they are few, and no lists of all conditions that are short
//! are there to go through; else long ones are, side by side.

use std::cmp::Ordering;

use sqlx::{Row, postgres::PgRow};

use super::{
    Include, IndexError, RowKey, ScopedTx, SearchPlan,
    candidates::{After, Candidates, Reach, Via},
    db::Regime,
    driver::{Rank, Set},
    filter::{Of, Sql},
    plain::push_plainly,
    registry,
    search::Condition,
};
use crate::{dicom::attributes::Level, tenancy::PartitionId};

/// Rows of a set that are put in order without a thought.
const FEW: i64 = 2_500;

/// Rows that are tested one by one without a thought.
const TESTED: i64 = 1_000;

/// Rows for which no other way is looked for. To look for one takes as long as to test these.
const AT_ONCE: i64 = 20;

/// Rows of lists that are gone through side by side in the time in which one row is tested: a test
/// reads the row itself, a list is an index that has all that is asked for.
const LISTED_FOR_ONE: i64 = 50;

/// Most rows of lists that are counted for that.
const LISTED: i64 = 5_000;

/// Rows that are read in order in the hope of a page.
const WINDOW: i64 = 20_000;

/// Rows that are skipped without a thought. Where more are, every so many rows one is named on the
/// way, so that the next page behind it need not be counted from the start.
const STRIDE: i64 = 5_000;

/// Most rows that are named so.
const MAX_STEPS: i64 = 200;

/// Most keys of several partitions that are held to be put in order here; beyond that Postgres
/// sorts, however long it takes. Far more than a page and the offsets that people reach by turning
/// pages.
const MAX_MERGED: i64 = 100_000;

/// The keys of a page, in order.
#[derive(Debug, Default)]
pub struct Found {
    /// One for each row.
    pub keys: Vec<RowKey>,
    /// How many rows that match lie behind the page, where that turned out on the way.
    pub behind: Option<i64>,
    /// Rows before the page that were met on the way, with the offset that each has from where the
    /// search began: `after` one of them at offset `n`, a page is `n` rows nearer.
    pub steps: Vec<(i64, RowKey)>,
    /// Which way led to them, out of one partition.
    way: Option<Via>,
}

/// How the page of one partition is to be had.
enum Way {
    /// Here it is.
    Page(Found),
    /// By what leads to all of them, and a shorter way to try before, if one is promising.
    Read(Option<Via>, Via),
}

/// The order of results.
pub(super) fn compare(one: &RowKey, other: &RowKey, level: Level) -> Ordering {
    match level {
        Level::Study => (other.place, other.key).cmp(&(one.place, one.key)),
        Level::Series | Level::Instance => one.key.cmp(&other.key),
    }
}

/// What comes behind the row that a plan names.
pub(super) fn reach(plan: &SearchPlan) -> Reach {
    let after = plan.after.as_ref().map(|row| After::Row(row.place, row.key));
    Reach { after, floor: None }
}

/// Whether a plan says that nothing matches.
pub(super) fn is_hopeless(plan: &SearchPlan) -> bool {
    plan.conditions.contains(&Condition::Never)
}

impl ScopedTx {
    /// The keys of the rows that the plan finds, in order.
    ///
    /// # Errors
    /// As [`ScopedTx::search_page`].
    pub async fn search_keys(&mut self, plan: &SearchPlan) -> Result<Vec<RowKey>, IndexError> {
        Ok(self.search_page(plan).await?.keys)
    }

    /// The keys of the rows that the plan finds, in order, and what is known of what lies behind.
    ///
    /// # Errors
    /// [`IndexError::TooBroad`] where it takes longer than a search may; [`IndexError`].
    pub async fn search_page(&mut self, plan: &SearchPlan) -> Result<Found, IndexError> {
        let scope = self.scope().clone();
        let plainly = |keys| Found { keys, ..Found::default() };
        if scope.partitions().is_empty() || plan.limit <= 0 || is_hopeless(plan) {
            return Ok(plainly(Vec::new()));
        }
        let offset = plan.offset.max(0);
        let wanted = plan.limit.saturating_add(offset);
        match scope.only() {
            _ if self.citus() => Ok(plainly(self.keys_of_all(plan, scope.partitions()).await?)),
            Some(partition) => self.page_of_one(plan, partition, wanted).await,
            None if wanted > MAX_MERGED => {
                Ok(plainly(self.keys_of_all(plan, scope.partitions()).await?))
            }
            None => {
                let mut keys = self.keys_merged(plan, scope.partitions(), wanted).await?;
                let skipped = usize::try_from(offset).unwrap_or(usize::MAX).min(keys.len());
                Ok(plainly(keys.split_off(skipped)))
            }
        }
    }

    /// How many rows match the plan, whatever its limit and offset, behind the row that it names: at
    /// most `most`, or all. `found` is a page of the same search, if there is one.
    ///
    /// # Errors
    /// As [`ScopedTx::search_page`].
    pub async fn search_count(
        &mut self,
        plan: &SearchPlan,
        most: Option<i64>,
        found: Option<&Found>,
    ) -> Result<i64, IndexError> {
        let scope = self.scope().clone();
        if scope.partitions().is_empty() || is_hopeless(plan) {
            return Ok(0);
        }
        let names: Vec<&str> = scope.partitions().iter().map(PartitionId::as_str).collect();
        let citus = self.citus();
        self.settle_for(scope.partitions()).await?;
        let candidates = Candidates::of(plan)?;
        let via = match (scope.only(), found.and_then(|found| found.way)) {
            (Some(only), None) if !citus => {
                let all = SearchPlan { limit: 0, offset: 0, ..plan.clone() };
                match self.way(&candidates, &all, only).await? {
                    Way::Page(Found { behind, .. }) => {
                        let count = behind.unwrap_or_default();
                        return Ok(most.map_or(count, |most| count.min(most)));
                    }
                    Way::Read(_, via) => via,
                }
            }
            (Some(_), Some(via)) => via,
            _ => candidates.in_order(),
        };
        // What is only counted need not be put in order.
        let via = match via {
            Via::Sets if candidates.sets_leave() || names.len() > 1 => Via::Unordered(None),
            Via::Sets => Via::Unordered(most),
            other => other,
        };
        let make = |opening: &'static str| -> Result<Sql, IndexError> {
            let mut sql = Sql::new(opening);
            if let (false, Via::Unordered(Some(most)), [only]) = (citus, via, names.as_slice()) {
                candidates.push_distinct_count(&mut sql, Of::One(only), reach(plan), most)?;
                return Ok(sql);
            }
            sql.push("SELECT count(*) FROM (SELECT");
            if citus {
                push_plainly(&mut sql, plan, &names)?;
            } else if let [only] = names.as_slice() {
                sql.push(" FROM (");
                candidates.push(&mut sql, via, Of::One(only), reach(plan))?;
                sql.push(") r");
            } else {
                sql.push(" FROM unnest(").push_bind(&names).push("::text[]) n(id)").push(NARROWED);
                sql.push(" CROSS JOIN LATERAL (");
                candidates.push(&mut sql, via, Of::Each, reach(plan))?;
                // Not to be joined the other way round: what is read must stand behind the scope.
                sql.push(" OFFSET 0) k");
            }
            sql.push(" LIMIT ").push_bind(most).push(") c");
            Ok(sql)
        };
        if names.len() > 1 && !citus {
            self.unsettle();
        }
        let rows = self.fetch("-- search_count\n", &make).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// How Postgres would find, count and read what the plan finds, as EXPLAIN says it of each
    /// statement: for tests and for support.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_explain(&mut self, plan: &SearchPlan) -> Result<Vec<String>, IndexError> {
        self.explain();
        let plan = &self.search_told(plan.clone()).await?;
        // What every page shows of its own level.
        let (study_facts, series_facts) = (plan.level == Level::Study, plan.level == Level::Series);
        let include = Include { study_facts, series_facts, ..Include::default() };
        self.search_few(plan, include, &[], |_| ()).await?;
        let keys = self.search_keys(plan).await?;
        self.search_count(plan, Some(1_000), None).await?;
        self.search_rows(plan.level, &keys, include, &[]).await?;
        Ok(self.explained())
    }

    /// The page, out of one partition.
    async fn page_of_one(
        &mut self,
        plan: &SearchPlan,
        partition: &PartitionId,
        wanted: i64,
    ) -> Result<Found, IndexError> {
        self.settle_for(std::slice::from_ref(partition)).await?;
        let candidates = Candidates::of(plan)?;
        let of = Of::One(partition.as_str());
        let (window, way) = match self.way(&candidates, plan, partition).await? {
            Way::Page(found) => return Ok(found),
            Way::Read(window, way) => (window.filter(|_| wanted < WINDOW), way),
        };
        let mut found = Found { way: Some(way), ..Found::default() };
        let offset = plan.offset.max(0);
        let stride = STRIDE.max(offset / MAX_STEPS);
        for via in window.into_iter().chain([way]) {
            let make = |opening| {
                let mut sql = Sql::new(opening);
                if offset <= STRIDE {
                    candidates.push(&mut sql, via, of, reach(plan))?.push_order(&mut sql);
                    sql.push(" LIMIT ").push_bind(plan.limit);
                    sql.push(" OFFSET ").push_bind(offset);
                    return Ok(sql);
                }
                sql.push("SELECT key, place, n FROM (SELECT key, place, row_number() OVER () AS n");
                sql.push(" FROM (");
                candidates.push(&mut sql, via, of, reach(plan))?.push_order(&mut sql);
                sql.push(" LIMIT ").push_bind(wanted).push(") r) r WHERE n > ").push_bind(offset);
                sql.push(" OR n % ").push_bind(stride).push(" = 0");
                Ok(sql)
            };
            let rows = self.fetch("-- search_keys\n", &make).await?;
            (found.keys, found.steps) = (Vec::with_capacity(rows.len()), Vec::new());
            for row in &rows {
                let key = read(row, 0, partition.clone())?;
                match offset <= STRIDE || row.try_get::<i64, _>(2)? > offset {
                    true => found.keys.push(key),
                    false => found.steps.push((row.try_get(2)?, key)),
                }
            }
            if found.keys.len() as i64 == plan.limit {
                break;
            }
        }
        found.keys.sort_unstable_by(|one, other| compare(one, other, plan.level));
        Ok(found)
    }

    /// How the page of one partition is to be had.
    async fn way(
        &mut self,
        candidates: &Candidates<'_>,
        plan: &SearchPlan,
        partition: &PartitionId,
    ) -> Result<Way, IndexError> {
        let access = candidates.access();
        let (of, has_lists) = (Of::One(partition.as_str()), !access.lists.is_empty());
        if access.sets.is_empty() {
            if !has_lists || access.rank == Some(Rank::Certain) {
                return Ok(Way::Read(None, Via::Lanes));
            }
            let within = (of, reach(plan));
            let count = |sql: &mut Sql| {
                candidates.push_count_of(sql, access.lanes.iter(), within, TESTED + 1)
            };
            let is_tested = self.is_sooner_tested(candidates, within, count).await?;
            return Ok(Way::Read(None, if is_tested { Via::Lanes } else { Via::Lists }));
        }
        let is_certain = access.rank == Some(Rank::Certain);
        if let Some(term) = access.sets.iter().find_map(Set::tested).filter(|_| has_lists) {
            let make = |opening| {
                let mut sql = Sql::new(opening);
                candidates.push_term_count(&mut sql, term, of, reach(plan), TESTED + 1)?;
                Ok(sql)
            };
            if self.counted(&make).await? > TESTED {
                return Ok(Way::Read(None, Via::Lists));
            }
        }
        if access.rank == Some(Rank::Anywhere) && !has_lists {
            return Ok(Way::Read(Some(Via::Window(WINDOW)), Via::Sets));
        }
        if candidates.sets_leave() {
            if is_certain {
                return Ok(Way::Read(None, Via::Sets));
            }
            let count =
                |sql: &mut Sql| candidates.push_sets_count(sql, of, reach(plan), TESTED + 1);
            if self.is_sooner_tested(candidates, (of, reach(plan)), count).await? {
                return Ok(Way::Read(None, Via::Sets));
            }
        } else {
            let page = self.page_of_set(candidates, plan, partition).await?;
            if let Some(page) = page {
                return Ok(Way::Page(page));
            }
            if is_certain {
                return Ok(Way::Read(None, Via::Sets));
            }
        }
        Ok(if has_lists {
            Way::Read(None, Via::Lists)
        } else {
            Way::Read(Some(Via::Window(WINDOW)), Via::Sets)
        })
    }

    /// The page out of the sets, none of whose rows is left to be tested, and how many rows they
    /// have. `None`: more than [`FEW`].
    async fn page_of_set(
        &mut self,
        candidates: &Candidates<'_>,
        plan: &SearchPlan,
        partition: &PartitionId,
    ) -> Result<Option<Found>, IndexError> {
        let (most, offset) = (FEW + 1, plan.offset.max(0));
        let make = |opening| {
            let mut sql = Sql::new(opening);
            sql.push("WITH s (key, place) AS MATERIALIZED (");
            let of = Of::One(partition.as_str());
            let named = candidates.push(&mut sql, Via::Unordered(Some(most)), of, reach(plan))?;
            sql.push(" LIMIT ").push_bind(most);
            sql.push(") SELECT t.total, p.key, p.place FROM (SELECT count(*) AS total FROM s) t");
            sql.push(" LEFT JOIN (SELECT key, place FROM s");
            named.of_list().push_order(&mut sql);
            sql.push(" LIMIT ").push_bind(plan.limit);
            sql.push(" OFFSET ").push_bind(offset).push(") p ON true");
            Ok(sql)
        };
        let rows = self.fetch("-- search_set\n", &make).await?;
        let total: i64 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
        if total > FEW {
            return Ok(None);
        }
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<i64>, _>(1)?.is_some() {
                keys.push(read(row, 1, partition.clone())?);
            }
        }
        keys.sort_unstable_by(|one, other| compare(one, other, plan.level));
        let shown = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let behind = Some((total - offset - shown).max(0));
        Ok(Some(Found { keys, behind, ..Found::default() }))
    }

    /// Whether the rows that `count` counts, up to one more than [`TESTED`], are sooner tested one by
    /// one than the lists of all conditions are gone through.
    async fn is_sooner_tested(
        &mut self,
        candidates: &Candidates<'_>,
        within: (Of<'_>, Reach),
        count: impl Fn(&mut Sql) -> Result<(), IndexError> + Sync,
    ) -> Result<bool, IndexError> {
        let lists = &candidates.access().lists;
        let make = |opening| {
            let mut sql = Sql::new(opening);
            sql.push("SELECT c.rows");
            if !lists.is_empty() {
                sql.push(", CASE WHEN c.rows > ").push_bind(AT_ONCE).push(" AND c.rows <= ");
                sql.push_bind(TESTED).push(" THEN (");
                let lanes = lists.iter().flatten();
                candidates.push_count_of(&mut sql, lanes, within, LISTED + 1)?;
                sql.push(") END");
            }
            sql.push(" FROM (");
            count(&mut sql)?;
            sql.push(") c(rows)");
            Ok(sql)
        };
        let rows = self.fetch("-- search_probe\n", &make).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let tested: i64 = row.try_get(0)?;
        let listed: Option<i64> = if lists.is_empty() { None } else { row.try_get(1)? };
        let sooner = LISTED.min(tested.saturating_mul(LISTED_FOR_ONE));
        Ok(tested <= TESTED && listed.is_none_or(|listed| listed > sooner))
    }

    async fn counted(
        &mut self,
        make: &(impl Fn(&'static str) -> Result<Sql, IndexError> + Sync),
    ) -> Result<i64, IndexError> {
        let rows = self.fetch("-- search_probe\n", make).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// The page, out of several partitions at once, as Postgres finds best.
    async fn keys_of_all(
        &mut self,
        plan: &SearchPlan,
        partitions: &[PartitionId],
    ) -> Result<Vec<RowKey>, IndexError> {
        self.settle(Regime::Search, partitions).await?;
        let names: Vec<&str> = partitions.iter().map(PartitionId::as_str).collect();
        let make = |opening| {
            let mut sql = Sql::new(opening);
            let (columns, order) = match plan.level {
                Level::Study => (
                    "SELECT s.partition_id, s.study_key, s.study_order",
                    " ORDER BY s.study_order DESC, s.study_key DESC",
                ),
                Level::Series => {
                    ("SELECT e.partition_id, e.series_key, 0::bigint", " ORDER BY e.series_key")
                }
                Level::Instance => {
                    ("SELECT i.partition_id, i.watermark, 0::bigint", " ORDER BY i.watermark")
                }
            };
            sql.push(columns);
            push_plainly(&mut sql, plan, &names)?;
            sql.push(order).push(" LIMIT ").push_bind(plan.limit);
            sql.push(" OFFSET ").push_bind(plan.offset.max(0));
            Ok(sql)
        };
        let rows = self.fetch("-- search_keys_plain\n", &make).await?;
        rows.iter().map(|row| read(row, 1, registry::partition(row, 0)?)).collect()
    }
}

/// Reads key and place, from column `at`.
pub(super) fn read(row: &PgRow, at: usize, partition: PartitionId) -> Result<RowKey, IndexError> {
    Ok(RowKey { partition, key: row.try_get(at)?, place: row.try_get(at + 1)? })
}

/// Narrows the scope to partition `n.id`, which is `scope.id` from there on: the policy then names
/// one partition, and not all of the scope, each of which Postgres (before 17) would try in each
/// access to an index. What is read of a partition must stand behind this in the statement.
pub(super) const NARROWED: &str = " CROSS JOIN LATERAL (SELECT \
     set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope";
