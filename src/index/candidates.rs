//! The rows that may match, from the index that was chosen, and what is tested of each, in SQL.
//!
//! Holds: each list is read from one index that has all that is asked for (see `lookup`: a scan that
//! needs the table as well is out of the question where another does not), in the order of results;
//! rows are then looked up by key, one by one, as far as the page needs them.

mod sets;

use std::collections::HashSet;

use super::{
    IndexError, SearchPlan,
    columns::PATIENT_NAME,
    driver::{Access, Lane, Rank, Set, choose, rank_of},
    filter::{
        At, Of, Sql, alias, push_begins, push_condition, push_test, push_word, request_column,
        rows_needed,
    },
    places::Places,
    search::Condition,
    tag_search::push_value,
};
use crate::dicom::attributes::Level;

/// A search with how it is answered.
pub(super) struct Candidates<'a> {
    plan: &'a SearchPlan,
    access: Access,
    places: Places,
}

/// Which way the rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// From lanes, in order.
    Lanes,
    /// From the first so many rows of the lanes.
    Window(i64),
    /// From all lists, what is in each of them, in order.
    Lists,
    /// From the sets, put in order.
    Sets,
    /// From the sets, in no order: at most so many rows of each are of use.
    Unordered(Option<i64>),
}

/// Which part of the order is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Rows behind this one.
    pub(super) after: Option<After>,
    /// Rows up to this one.
    pub(super) floor: Option<(i64, i64)>,
}

/// Where an earlier page ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    /// There: place and key.
    Row(i64, i64),
    /// At `n.place` and `n.key`.
    Each,
}

/// How key and place of a row are called in the statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    key: &'static str,
    place: &'static str,
    level: Level,
    /// A column that is NULL in all rows: to the planner that fixes it to no value, so that an index
    /// is in order only where it leads.
    lead: Option<&'static str>,
}

impl Named {
    /// As the columns `key` and `place`.
    pub(super) fn of_list(self) -> Self {
        Self { key: "key", place: "place", lead: None, ..self }
    }

    /// ` ORDER BY …`: the order of results.
    pub(super) fn push_order(self, sql: &mut Sql) {
        sql.push(" ORDER BY ");
        if let Some(lead) = self.lead {
            sql.push(lead).push(", ");
        }
        match self.level {
            Level::Study => {
                sql.push(self.place).push(" DESC, ").push(self.key).push(" DESC");
            }
            Level::Series | Level::Instance => {
                sql.push(self.key);
            }
        }
    }
}

/// Table, key column and the index's place of a level.
const TABLE: [&str; 3] = ["study", "series", "instance"];
const KEY: [&str; 3] = ["study_key", "series_key", "watermark"];
const PLACE: [&str; 3] = ["study_order", "0::bigint", "0::bigint"];
const OWN_KEY: [&str; 3] = ["s.study_key", "e.series_key", "i.watermark"];
const OWN_PLACE: [&str; 3] = ["s.study_order", "0::bigint", "0::bigint"];
const UID: [&str; 3] = ["study_instance_uid", "series_instance_uid", "sop_instance_uid"];

impl<'a> Candidates<'a> {
    /// Chooses how a plan is answered.
    ///
    /// # Errors
    /// [`IndexError::Inconsistent`] for a plan that no search may have.
    pub(super) fn of(plan: &'a SearchPlan) -> Result<Self, IndexError> {
        if plan.conditions.iter().any(|condition| condition.level() > plan.level) {
            // Attributes of lower levels do not match at a higher one (PS3.18 §10.6.1.2).
            return Err(IndexError::Inconsistent { table: "search", column: "level" });
        }
        Ok(Self { plan, access: choose(plan)?, places: Places::of(plan) })
    }

    /// How it is answered.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The way that leads to all rows, in order, where nothing can be counted first.
    pub(super) fn in_order(&self) -> Via {
        let is_rare = self.access.rank.is_some_and(|rank| rank <= Rank::Id);
        let is_long = self.access.rank.is_some_and(|rank| rank <= Rank::Long);
        if !self.access.lists.is_empty() && !is_rare {
            Via::Lists
        } else if self.access.sets.is_empty() || (!self.access.lanes.is_empty() && !is_long) {
            Via::Lanes
        } else {
            Via::Sets
        }
    }

    /// The way to all rows, in order, of a search that finds a few by nature. Not where rows are
    /// tested among many, nor for the instances of a study or series, of which there are hundreds.
    pub(super) fn few(&self) -> Option<Via> {
        let Access { rank, lanes, sets, lists, .. } = &self.access;
        let of_id = |lane: &Lane| match lane {
            Lane::Is(column, _) => rank_of(column) == Rank::Id,
            lane => matches!(lane, Lane::Request(..)),
        };
        match rank {
            Some(Rank::Certain) if !sets.is_empty() => Some(Via::Sets),
            Some(Rank::Id) if !lanes.is_empty() && lists.is_empty() => {
                lanes.iter().all(of_id).then_some(Via::Lanes)
            }
            _ => None,
        }
    }

    /// Whether conditions are left to test of each row of the sets.
    pub(super) fn sets_leave(&self) -> bool {
        let met = self.access.sets_meet.iter().chain(&self.places.meet);
        met.collect::<HashSet<_>>().len() < self.plan.conditions.len()
    }

    fn level(&self) -> usize {
        self.plan.level as usize
    }

    /// `SELECT key, place FROM … WHERE …` of the rows that match, in order but for
    /// [`Via::Unordered`].
    pub(super) fn push(
        &self,
        sql: &mut Sql,
        via: Via,
        of: Of<'_>,
        reach: Reach,
    ) -> Result<Named, IndexError> {
        let level = self.level();
        let meet = match via {
            Via::Lanes | Via::Window(_) => &self.access.lanes_meet,
            Via::Lists => &self.access.lists_meet,
            Via::Sets | Via::Unordered(_) => &self.access.sets_meet,
        };
        let left: Vec<&Condition> = (0..)
            .zip(&self.plan.conditions)
            .filter(|(at, _)| !meet.contains(at) && !self.places.meet.contains(at))
            .map(|(_, condition)| condition)
            .collect();
        let mut rows = [false; 3];
        for condition in &left {
            for (needed, by_this) in rows.iter_mut().zip(rows_needed(condition)) {
                *needed |= by_this;
            }
            // Of which study or series a row is, it says itself.
            let probes = !matches!(condition, Condition::Never);
            rows[level] |= probes && condition.level() < self.plan.level;
        }
        let in_lanes = matches!(via, Via::Lanes | Via::Window(_));
        let direct = in_lanes && self.access.lanes.is_empty();
        let (key, place) =
            if direct { (OWN_KEY[level], OWN_PLACE[level]) } else { ("l.key", "l.place") };
        sql.push("SELECT ").push(key).push(" AS key, ").push(place).push(" AS place FROM ");
        match via {
            Via::Window(rows) if direct => {
                sql.push("(SELECT * FROM ").push(TABLE[level]).push(" WHERE partition_id = ");
                of.push(sql);
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
                self.named(KEY[level], PLACE[level]).push_order(sql);
                sql.push(" LIMIT ").push_bind(rows).push(") ").push(alias(self.plan.level));
            }
            _ if direct => {
                sql.push(TABLE[level]).push(" ").push(alias(self.plan.level));
            }
            Via::Lanes => {
                sql.push("(");
                self.push_lanes(sql, &self.access.lanes, of, reach);
                sql.push(") l");
            }
            Via::Window(rows) => {
                sql.push("(");
                self.push_lanes(sql, &self.access.lanes, of, reach);
                sql.push(" LIMIT ").push_bind(rows).push(") l");
            }
            Via::Lists => {
                sql.push("(SELECT l.key, l.place FROM ");
                self.push_lists(sql, of, reach);
                self.named("l.key", "l.place").push_order(sql);
                // Else each row of the first list would be tested, and not only what is in all.
                sql.push(" OFFSET 0) l");
            }
            Via::Sets => {
                sql.push("(SELECT key, place FROM (");
                self.push_sets(sql, of, reach, " UNION ", None)?;
                // Else the order could be had from an index that has it, and knows nothing of the set.
                sql.push(" OFFSET 0) u");
                self.named("key", "place").push_order(sql);
                // What is tested is tested in order, as far as the page needs it.
                sql.push(if left.is_empty() { ") l" } else { " OFFSET 0) l" });
            }
            Via::Unordered(most) => {
                sql.push("(SELECT key, place FROM (");
                self.push_sets(sql, of, reach, " UNION ", most)?;
                sql.push(" OFFSET 0) u) l");
            }
        }
        if !direct && rows[level] {
            push_row(sql, self.plan.level, "l.key", of);
        }
        for above in [Level::Series, Level::Study] {
            if above < self.plan.level && rows[above as usize] {
                push_row(sql, above, self.key_of(above, key), of);
            }
        }
        sql.push(" WHERE true");
        if direct && !matches!(via, Via::Window(_)) {
            sql.push(" AND ").push(alias(self.plan.level)).push(".partition_id = ");
            of.push(sql);
            self.push_reach(sql, [key, place], reach);
        }
        let at = At {
            of,
            study: self.key_of(Level::Study, key),
            series: self.key_of(Level::Series, key),
        };
        for condition in left {
            sql.push(" AND ");
            push_condition(sql, condition, at)?;
        }
        let led = in_lanes && matches!(self.access.lanes.as_slice(), [Lane::Null(_)]);
        Ok(Named { lead: led.then_some("l.lead"), ..self.named(key, place) })
    }

    fn named(&self, key: &'static str, place: &'static str) -> Named {
        Named { key, place, level: self.plan.level, lead: None }
    }

    /// How the key of a row's parent is said; of the row itself it is `key`.
    fn key_of(&self, level: Level, key: &'static str) -> &'static str {
        match (level, self.plan.level) {
            (Level::Study, Level::Series) => "e.study_key",
            (Level::Study, Level::Instance) => "i.study_key",
            (Level::Series, Level::Instance) => "i.series_key",
            _ => key,
        }
    }

    /// How many rows lanes have, counted in each of them, at most `most`: `SELECT count(*) …`.
    pub(super) fn push_count_of<'l>(
        &self,
        sql: &mut Sql,
        lanes: impl Iterator<Item = &'l Lane>,
        (of, reach): (Of<'_>, Reach),
        most: i64,
    ) -> Result<(), IndexError> {
        push_count(sql, most, |sql| {
            for (n, lane) in lanes.enumerate() {
                sql.push(if n == 0 { "(" } else { " UNION ALL (" });
                self.push_lane(sql, lane, of, reach);
                sql.push(")");
            }
            Ok(())
        })
    }

    /// Conditions on place and key.
    fn push_reach(&self, sql: &mut Sql, [key, place]: [&'static str; 2], reach: Reach) {
        if let Some(from) = self.places.from {
            sql.push(" AND ").push(place).push(" >= ").push_bind(from);
        }
        // Of two upper ends Postgres would begin to read at either: one is said.
        if let (Some(to), None) = (self.places.to, reach.after) {
            sql.push(" AND ").push(place).push(" <= ").push_bind(to);
        }
        for other in &self.places.not {
            sql.push(" AND ").push(place).push(" <> ").push_bind(*other);
        }
        // A comparison of rows is one condition of the index.
        match (self.plan.level, reach.after) {
            (_, None) => {}
            (Level::Study, Some(After::Row(last, row))) => {
                let end = (self.places.to.unwrap_or(i64::MAX), i64::MAX);
                let (last, row) = (last, row).min(end);
                sql.push(" AND (").push(place).push(", ").push(key).push(") < (");
                sql.push_bind(last).push(", ").push_bind(row).push(")");
            }
            (Level::Study, Some(After::Each)) => {
                sql.push(" AND (").push(place).push(", ").push(key).push(") < (n.place, n.key)");
            }
            (_, Some(After::Row(_, row))) => {
                sql.push(" AND ").push(key).push(" > ").push_bind(row);
            }
            (_, Some(After::Each)) => {
                sql.push(" AND ").push(key).push(" > n.key");
            }
        }
        match (self.plan.level, reach.floor) {
            (_, None) => {}
            (Level::Study, Some((last, row))) => {
                sql.push(" AND (").push(place).push(", ").push(key).push(") >= (");
                sql.push_bind(last).push(", ").push_bind(row).push(")");
            }
            (_, Some((_, row))) => {
                sql.push(" AND ").push(key).push(" <= ").push_bind(row);
            }
        }
    }

    /// Lists in order, joined by going through all of them side by side.
    fn push_lists(&self, sql: &mut Sql, of: Of<'_>, reach: Reach) {
        const NAMES: [&str; 5] = ["l", "l2", "l3", "l4", "l5"];
        for (n, (lanes, name)) in self.access.lists.iter().zip(NAMES).enumerate() {
            sql.push(if n == 0 { "(" } else { " JOIN (" });
            self.push_lanes(sql, lanes, of, reach);
            sql.push(") ").push(name);
            if n == 0 {
                continue;
            }
            sql.push(" ON ").push(name).push(".key = l.key");
            if self.plan.level == Level::Study {
                sql.push(" AND ").push(name).push(".place = l.place");
            }
        }
    }

    fn push_lanes(&self, sql: &mut Sql, lanes: &[Lane], of: Of<'_>, reach: Reach) {
        match lanes {
            [lane] if !matches!(lane, Lane::Request(..)) => self.push_lane(sql, lane, of, reach),
            lanes => {
                // Lists in order merge without a sort, and what is in several comes once.
                sql.push(match self.plan.level {
                    Level::Study => "SELECT DISTINCT ON (place, key) key, place FROM (",
                    _ => "SELECT DISTINCT ON (key) key, place FROM (",
                });
                for (n, lane) in lanes.iter().enumerate() {
                    sql.push(if n == 0 { "(" } else { " UNION ALL (" });
                    self.push_lane(sql, lane, of, reach);
                    sql.push(")");
                }
                sql.push(") u");
                self.named("key", "place").push_order(sql);
            }
        }
    }

    fn push_lane(&self, sql: &mut Sql, lane: &Lane, of: Of<'_>, reach: Reach) {
        let level = self.level();
        let table = match lane {
            Lane::Term(_) => "study_term",
            Lane::Request(..) => "series_request",
            Lane::Is(..) | Lane::Null(_) | Lane::Study(_) | Lane::Series(..) => TABLE[level],
        };
        let lead = if let Lane::Null(column) = lane { *column } else { "" };
        sql.push("SELECT ").push(lead).push(if lead.is_empty() { "" } else { " AS lead, " });
        self.push_select(sql, [table, "x"], of);
        match lane {
            Lane::Term(term) => {
                sql.push(" AND term = ").push_bind(super::like::without_nul(term));
            }
            Lane::Is(column, value) => {
                sql.push(" AND ").push(*column).push(" = ");
                sql.push_bind(super::like::without_nul(value));
            }
            Lane::Null(column) => {
                sql.push(" AND ").push(*column).push(" IS NULL");
            }
            Lane::Request(key, value) => {
                sql.push(" AND ").push(request_column(*key)).push(" = ");
                sql.push_bind(super::like::without_nul(value));
            }
            Lane::Study(study) => {
                sql.push(" AND study_key = ");
                push_study_key(sql, study.as_str(), of);
            }
            Lane::Series(study, series) => {
                sql.push(" AND series_key = (SELECT series_key FROM series WHERE partition_id = ");
                of.push(sql);
                sql.push(" AND study_key = ");
                push_study_key(sql, study.as_str(), of);
                for operator in [" >= ", " <= "] {
                    sql.push(" AND series_instance_uid").push(operator);
                    sql.push_bind(series.as_str().to_owned());
                }
                sql.push(" ORDER BY series_instance_uid)");
            }
        }
        self.push_reach(sql, [KEY[level], PLACE[level]], reach);
        let lead = if let Lane::Null(column) = lane { Some(*column) } else { None };
        Named { lead, ..self.named(KEY[level], PLACE[level]) }.push_order(sql);
    }

    /// `… AS key, … AS place FROM table name WHERE name.partition_id = …`.
    fn push_select(&self, sql: &mut Sql, [table, name]: [&'static str; 2], of: Of<'_>) {
        let level = self.level();
        sql.push(KEY[level]).push(" AS key, ").push(PLACE[level]).push(" AS place FROM ");
        sql.push(table).push(" ").push(name).push(" WHERE ").push(name).push(".partition_id = ");
        of.push(sql);
    }
}

/// `SELECT count(*) …`: how many rows there are of those that `rows` names, at most `most`.
fn push_count(
    sql: &mut Sql,
    most: i64,
    rows: impl FnOnce(&mut Sql) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    sql.push("SELECT count(*) FROM (SELECT FROM (");
    rows(sql)?;
    sql.push(") r LIMIT ").push_bind(most).push(") c");
    Ok(())
}

/// ` CROSS JOIN LATERAL …`: the row of a level by its key, under the alias of the level.
fn push_row(sql: &mut Sql, level: Level, key: &'static str, of: Of<'_>) {
    let (table, column) = (TABLE[level as usize], KEY[level as usize]);
    sql.push(" CROSS JOIN LATERAL (SELECT * FROM ").push(table).push(" x WHERE x.partition_id = ");
    of.push(sql);
    for operator in [" >= ", " <= "] {
        sql.push(" AND x.").push(column).push(operator).push(key);
    }
    sql.push(" ORDER BY x.").push(column).push(") ").push(alias(level));
}

/// The key of a study, by its UID.
fn push_study_key(sql: &mut Sql, study: &str, of: Of<'_>) {
    sql.push("(SELECT study_key FROM study WHERE partition_id = ");
    of.push(sql);
    for operator in [" >= ", " <= "] {
        sql.push(" AND study_instance_uid").push(operator).push_bind(study.to_owned());
    }
    sql.push(" ORDER BY study_instance_uid)");
}
