//! Beginnings of patients' names, made lists in the order of results.
//!
//! A beginning of more than three characters is no term; the first components of names are, whole.
//! Those that begin so are few in one partition, a family's name and what is longer: where they are,
//! the search becomes one for these terms, whose lists need no row to be read and are merged in order.

use sqlx::Row;

use super::{
    IndexError, ScopedTx, SearchPlan,
    columns::PATIENT_NAME,
    like::{after_prefix, prefix, without_nul},
    search::Condition,
};
use crate::dicom::{matching::Test, names};

/// Most first components that are merged; what more begin with is a search like another.
const MAX_COMPONENTS: i64 = 12;

impl ScopedTx {
    /// The same search, said as the index can best answer it at this moment.
    ///
    /// # Errors
    /// As [`ScopedTx::search_page`].
    pub async fn search_told(&mut self, mut plan: SearchPlan) -> Result<SearchPlan, IndexError> {
        let scope = self.scope().clone();
        let Some(partition) = scope.only().filter(|_| !self.citus()) else { return Ok(plan) };
        for condition in &mut plan.conditions {
            let Some((start, end)) = beginning(condition) else { continue };
            self.settle_for(std::slice::from_ref(partition)).await?;
            let next = |sql: &mut super::filter::Sql, operator: &str| {
                sql.push("SELECT x.term FROM study_term x WHERE x.partition_id = ");
                sql.push_bind(partition.as_str().to_owned()).push(" AND x.term ").push(operator);
            };
            let make = |opening| {
                let mut sql = super::filter::Sql::new(opening);
                // From each term right to the next, past all studies that have it.
                sql.push("WITH RECURSIVE t (term) AS ((");
                next(&mut sql, " >= ");
                sql.push_bind(&start).push(" AND x.term < ").push_bind(&end);
                sql.push(" ORDER BY x.term LIMIT 1) UNION ALL SELECT (");
                next(&mut sql, " > t.term");
                sql.push(" AND x.term < ").push_bind(&end);
                sql.push(" ORDER BY x.term LIMIT 1) FROM t WHERE t.term IS NOT NULL)");
                sql.push(" SELECT term FROM t WHERE term IS NOT NULL LIMIT ");
                sql.push_bind(MAX_COMPONENTS + 1);
                Ok(sql)
            };
            let rows = self.fetch("-- search_first_names\n", &make).await?;
            if rows.len() as i64 > MAX_COMPONENTS {
                continue;
            }
            let terms: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            *condition = match terms? {
                none if none.is_empty() => Condition::Never,
                terms => Condition::Terms(terms),
            };
        }
        Ok(plan)
    }
}

/// Between which terms those of the first components lie that the condition asks for, if it asks
/// for nothing else.
fn beginning(condition: &Condition) -> Option<(String, String)> {
    let Condition::Name { column, test: Test::Like(pattern), .. } = condition else { return None };
    let start = prefix(pattern);
    let alone = pattern.len() > start.len() && pattern[start.len()..].chars().all(|c| c == '*');
    let is_long = start.chars().count() > names::PIECE;
    if *column != PATIENT_NAME[0] || !alone || !is_long || start.contains('^') {
        return None;
    }
    let start = format!("f:{}", without_nul(start));
    after_prefix(&start).map(|end| (start, end))
}
