//! Extended query tags as Search sees them: which there are in its scope, and how a test of one is
//! said in SQL.
//!
//! Holds: of a study or series, the instance with the smallest watermark that has a value speaks.

use sqlx::Row;

use super::{
    IndexError, ScopedTx, SearchTag, TagState,
    query_tags::definition,
    search::{Sql, after_prefix, alias, push_test, without_nul},
};
use crate::dicom::{
    attributes::Level,
    matching::{Test, Word},
};

/// The tags that a scope has in common: the root's, and where it is one partition its own.
const TAGS: &str = "-- search_tags
    SELECT d.tag_id, d.path, d.private_creator, d.vr, d.level, d.is_root, p.known, p.ready,
        p.disabled, p.erroneous
    FROM (SELECT tag_id, path, private_creator, vr, level, true AS is_root FROM query_tag_root
            WHERE NOT is_deleting
        UNION ALL
        SELECT tag_id, path, private_creator, vr, level, false FROM query_tag
            WHERE partition_id = ANY($1) AND cardinality($1) = 1 AND NOT is_root
                AND state <> 'deleting') d
    CROSS JOIN LATERAL (SELECT count(*) AS known, count(*) FILTER (WHERE q.state = 'ready') AS ready,
            coalesce(bool_or(q.query_enabled IS FALSE), false) AS disabled,
            coalesce(bool_or(EXISTS (SELECT FROM query_tag_error e
                WHERE e.partition_id = q.partition_id AND e.tag_id = q.tag_id)), false) AS erroneous
        FROM query_tag q WHERE q.partition_id = ANY($1) AND q.tag_id = d.tag_id) p
    ORDER BY d.tag_id";

/// Root tags with partitions that hold something and have not met them.
pub(super) const UNMET: &str = "-- query_tags_unmet
    SELECT r.tag_id, r.operation_id, count(*) FROM query_tag_root r
    CROSS JOIN unnest($1::text[]) AS scope(id)
    WHERE NOT r.is_deleting AND ($2::uuid IS NULL OR r.operation_id = $2)
        AND NOT EXISTS (SELECT FROM query_tag q
            WHERE q.partition_id = scope.id AND q.tag_id = r.tag_id)
        AND EXISTS (SELECT FROM instance i WHERE i.partition_id = scope.id)
    GROUP BY r.tag_id";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[TAGS, UNMET];

impl ScopedTx {
    /// The extended query tags that can be searched by in the scope. Of several partitions those
    /// of the root, ready if they are in each that holds anything.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_tags(&mut self) -> Result<Vec<SearchTag>, IndexError> {
        let partitions = self.scope().partitions().len();
        let (query, conn) = self.statement(TAGS);
        let rows = query.fetch_all(conn).await?;
        let mut tags = Vec::with_capacity(rows.len());
        let mut wants_unmet = false;
        for row in &rows {
            let tag = definition(row, 1)?;
            let is_root: bool = row.try_get(5)?;
            let (known, ready): (i64, i64) = (row.try_get(6)?, row.try_get(7)?);
            wants_unmet |= is_root && (known as u64) < partitions as u64;
            let state = match (row.try_get(8)?, ready == known) {
                (true, _) => TagState::Disabled,
                (false, true) => TagState::Ready,
                (false, false) => TagState::Adding,
            };
            let (id, at) = (row.try_get(0)?, tag.element());
            let erroneous = row.try_get(9)?;
            tags.push(SearchTag { id, at, vr: tag.vr, level: tag.level, state, erroneous });
        }
        if wants_unmet {
            for (unmet, _, _) in self.tags_unmet(None).await? {
                let found = tags.iter_mut().find(|tag| tag.id == unmet);
                if let Some(tag) = found.filter(|tag| tag.state == TagState::Ready) {
                    tag.state = TagState::Adding;
                }
            }
        }
        Ok(tags)
    }

    /// Root tags with their operation and how many partitions of the scope hold something and have
    /// not met them.
    /// With `operation` those that it indexes.
    pub(super) async fn tags_unmet(
        &mut self,
        operation: Option<uuid::Uuid>,
    ) -> Result<Vec<(i64, uuid::Uuid, i64)>, IndexError> {
        let (query, conn) = self.statement(UNMET);
        let rows = query.bind(operation).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }
}

/// Whether a test is passed by one row alone, so that one lookup answers it.
fn is_single(test: &Test) -> bool {
    match test {
        Test::Equals(_) | Test::AnyOf(_) | Test::Like(_) | Test::Range { .. } | Test::Fuzzy(_) => {
            true
        }
        Test::Any(tests) => tests.iter().all(is_single),
        Test::Empty | Test::All(_) => false,
    }
}

/// The condition that a value of the tag passes the test.
pub(super) fn push_tag(sql: &mut Sql, tag: i64, level: Level, test: &Test) {
    match test {
        Test::Empty => push_exists(sql, "NOT EXISTS (", tag, level, None),
        Test::All(tests) => push_joined(sql, tests, " AND ", "true", |sql, test| {
            push_tag(sql, tag, level, test);
        }),
        test if is_single(test) => push_exists(sql, "EXISTS (", tag, level, Some(test)),
        Test::Any(tests) => push_joined(sql, tests, " OR ", "false", |sql, test| {
            push_tag(sql, tag, level, test);
        }),
        _ => {
            sql.push("false");
        }
    }
}

fn push_joined(
    sql: &mut Sql,
    tests: &[Test],
    between: &'static str,
    none: &'static str,
    push: impl Fn(&mut Sql, &Test),
) {
    sql.push("(").push(if tests.is_empty() { none } else { "" });
    for (n, test) in tests.iter().enumerate() {
        sql.push(if n == 0 { "" } else { between });
        push(sql, test);
    }
    sql.push(")");
}

fn push_exists(sql: &mut Sql, open: &'static str, tag: i64, level: Level, test: Option<&Test>) {
    let (row, key) = match level {
        Level::Study => (alias(level), "study_key"),
        Level::Series => (alias(level), "series_key"),
        Level::Instance => (alias(level), "watermark"),
    };
    sql.push(open).push("SELECT FROM query_tag_value v WHERE v.partition_id = ").push(row);
    sql.push(".partition_id AND v.tag_id = ").push_bind(tag).push(" AND v.owner_key = ");
    sql.push(row).push(".").push(key);
    if let Some(test) = test {
        sql.push(" AND ");
        push_row(sql, test);
        if level < Level::Instance {
            sql.push(
                " AND v.watermark = (SELECT w.watermark FROM query_tag_value w \
                 WHERE w.partition_id = v.partition_id AND w.tag_id = v.tag_id \
                 AND w.owner_key = v.owner_key ORDER BY w.watermark LIMIT 1)",
            );
        }
    }
    sql.push(")");
}

/// The condition that row `v` passes a test that one row can pass.
fn push_row(sql: &mut Sql, test: &Test) {
    match test {
        Test::Any(tests) => push_joined(sql, tests, " OR ", "false", push_row),
        Test::Fuzzy(Word { text, sound }) => {
            sql.push("((v.kind = 1 AND v.value >= ").push_bind(without_nul(text));
            if let Some(end) = after_prefix(&without_nul(text)) {
                sql.push(" AND v.value < ").push_bind(end);
            }
            sql.push(")");
            if let Some(sound) = sound {
                sql.push(" OR (v.kind = 2 AND v.value = ").push_bind(without_nul(sound)).push(")");
            }
            sql.push(")");
        }
        test => {
            sql.push("(v.kind = 0 AND ");
            push_test(sql, "v", "value", test);
            sql.push(")");
        }
    }
}
