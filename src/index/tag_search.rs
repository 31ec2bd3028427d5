//! Extended query tags as Search sees them: which there are in its scope, and how a test of one is
//! said in SQL.
//!
//! Holds: of a study or series, the instance with the smallest watermark that has a value speaks.

use sqlx::Row;

use super::{
    IndexError, ScopedTx, SearchTag, TagState,
    filter::{Of, Sql, push_test},
    like::{after_prefix, without_nul},
    query_tags::definition,
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

/// Root tags with partitions that hold something and have not met them. Whether a partition holds
/// something is looked up: as EXISTS it becomes a join, which reads all instances of the scope.
pub(super) const UNMET: &str = "-- query_tags_unmet
    SELECT r.tag_id, r.operation_id, count(*) FROM query_tag_root r
    CROSS JOIN unnest($1::text[]) AS scope(id)
    WHERE NOT r.is_deleting AND ($2::uuid IS NULL OR r.operation_id = $2)
        AND NOT EXISTS (SELECT FROM query_tag q
            WHERE q.partition_id = scope.id AND q.tag_id = r.tag_id)
        AND (SELECT 1 FROM instance i WHERE i.partition_id = scope.id AND i.watermark > 0
            ORDER BY i.watermark LIMIT 1) IS NOT NULL
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
pub(super) fn is_single(test: &Test) -> bool {
    match test {
        Test::Equals(_) | Test::AnyOf(_) | Test::Like(_) | Test::Range { .. } | Test::Fuzzy(_) => {
            true
        }
        Test::Any(tests) => tests.iter().all(is_single),
        Test::Empty | Test::All(_) => false,
    }
}

/// Where a tag is tested: the partition, and how the key of what the values belong to is said.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) of: Of<'a>,
    pub(super) level: Level,
    pub(super) key: &'static str,
}

/// The condition that a value of the tag passes the test.
pub(super) fn push_tag(sql: &mut Sql, tag: i64, owner: Owner<'_>, test: &Test) {
    match test {
        Test::Empty => push_probe(sql, tag, owner, None),
        Test::All(tests) => push_joined(sql, tests, " AND ", "true", |sql, test| {
            push_tag(sql, tag, owner, test);
        }),
        test if is_single(test) => push_probe(sql, tag, owner, Some(test)),
        Test::Any(tests) => push_joined(sql, tests, " OR ", "false", |sql, test| {
            push_tag(sql, tag, owner, test);
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

/// There is a row that passes the test; without one: there is no row. One index has all that is
/// asked for.
fn push_probe(sql: &mut Sql, tag: i64, owner: Owner<'_>, test: Option<&Test>) {
    let from = |sql: &mut Sql, of_rows: &'static str| {
        sql.push(of_rows).push(".partition_id = ");
        owner.of.push(sql);
        sql.push(" AND ").push(of_rows).push(".tag_id = ").push_bind(tag);
        sql.push(" AND ").push(of_rows).push(".owner_key = ").push(owner.key);
    };
    sql.push("(SELECT 1 FROM query_tag_value v WHERE ");
    from(sql, "v");
    if owner.level < Level::Instance {
        sql.push(" AND v.watermark = (SELECT w.watermark FROM query_tag_value w WHERE ");
        from(sql, "w");
        sql.push(" ORDER BY w.watermark LIMIT 1)");
    }
    if let Some(test) = test {
        sql.push(" AND ");
        push_value(sql, test);
    }
    sql.push(" LIMIT 1) IS ").push(if test.is_some() { "NOT NULL" } else { "NULL" });
}

/// The condition that row `v` passes a test that one row can pass.
pub(super) fn push_value(sql: &mut Sql, test: &Test) {
    match test {
        Test::Any(tests) => push_joined(sql, tests, " OR ", "false", push_value),
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
