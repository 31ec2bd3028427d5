//! What a row must pass, in SQL: constant pieces, values bound.
//!
//! A condition tests columns of a row that the statement has at hand, as `s`, `e` or `i` by its
//! level, or probes what is kept apart under the key of the row's study or series. Probes are
//! lookups (see `lookup`): they find their index whatever the statistics say.

use sqlx::{Postgres, QueryBuilder};

use super::{
    IndexError, columns,
    columns::{PATIENT_NAME, REFERRING_PHYSICIAN_NAME},
    like::{after_prefix, push_like, without_nul},
    search::{Condition, RequestKey},
    tag_search::{Owner, push_tag},
};
use crate::dicom::{
    Uid,
    attributes::Level,
    matching::{Test, Word},
    normalise::{FIRST_INSTANT, LAST_INSTANT},
};

/// Text and bound values under construction.
pub(super) type Sql = QueryBuilder<Postgres>;

/// Which partition a piece of a statement is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    /// This one.
    One(&'a str),
    /// `scope.id`: each of those that the statement goes through, one after the other.
    Each,
    /// That of the row at hand: where tables are distributed, and a list cannot be joined.
    Row(&'static str),
}

impl Of<'_> {
    pub(super) fn push(self, sql: &mut Sql) {
        match self {
            Of::One(partition) => sql.push_bind(partition.to_owned()),
            Of::Each => sql.push("scope.id"),
            Of::Row(column) => sql.push(column),
        };
    }
}

/// Where a condition stands: the partition, and how the keys of the row's study and series are said.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) of: Of<'a>,
    pub(super) study: &'static str,
    pub(super) series: &'static str,
}

/// The alias of a level's table.
pub(super) fn alias(level: Level) -> &'static str {
    ["s", "e", "i"][level as usize]
}

/// Of which levels a condition needs the row at hand; for others keys do.
pub(super) fn rows_needed(condition: &Condition) -> [bool; 3] {
    let mut needed = [false; 3];
    match condition {
        Condition::Name { test, .. } if is_of_terms(test) => {}
        Condition::Moment { level, offset: Some(_), .. } => {
            needed[Level::Study as usize] = true;
            needed[*level as usize] = true;
        }
        Condition::Column { level, .. }
        | Condition::Name { level, .. }
        | Condition::Moment { level, .. }
        | Condition::Tag { level: level @ Level::Instance, .. } => needed[*level as usize] = true,
        Condition::ModalitiesInStudy(_)
        | Condition::SopClassesInStudy(_)
        | Condition::Terms(_)
        | Condition::Request(_)
        | Condition::Tag { .. }
        | Condition::Never => {}
    }
    needed
}

/// Whether a test of a name asks for words alone.
fn is_of_terms(test: &Test) -> bool {
    match test {
        Test::Fuzzy(_) => true,
        Test::All(tests) | Test::Any(tests) => tests.iter().all(is_of_terms),
        _ => false,
    }
}

/// Adds a condition.
pub(super) fn push_condition(
    sql: &mut Sql,
    condition: &Condition,
    at: At<'_>,
) -> Result<(), IndexError> {
    match condition {
        Condition::Column { level, column, test } => {
            push_test(sql, alias(*level), known(*level, column)?, test);
        }
        Condition::Name { level, column, test } => {
            let groups = name_columns(column)?;
            push_name(sql, alias(*level), groups, test, at);
        }
        Condition::Moment { level, date, time, from, to, offset } => {
            let (table, date, time) = (alias(*level), known(*level, date)?, known(*level, time)?);
            let ends = [from.as_ref(), to.as_ref()];
            match offset {
                Some(offset) => push_moment_in_zone(sql, table, [date, time], ends, *offset),
                None => push_moment(sql, table, [date, time], ends),
            }
        }
        Condition::ModalitiesInStudy(tests) => {
            sql.push("(");
            for (n, test) in tests.iter().enumerate() {
                sql.push(if n == 0 { "" } else { " OR " });
                push_modality(sql, test, at);
            }
            sql.push(if tests.is_empty() { "true)" } else { ")" });
        }
        Condition::SopClassesInStudy(classes) => {
            let classes = classes.iter().map(Uid::as_str).map(|class| format!("c:{class}"));
            push_probe(sql, at, |sql| {
                sql.push("x.term = ANY(").push_bind(Vec::from_iter(classes)).push("::text[])");
            });
        }
        Condition::Terms(terms) => push_probe(sql, at, |sql| {
            sql.push("x.term = ANY(").push_bind(terms.clone()).push("::text[])");
        }),
        Condition::Request(tests) => push_request(sql, tests, at),
        Condition::Never => {
            sql.push("false");
        }
        Condition::Tag { tag, level, test } => {
            let key = [at.study, at.series, "i.watermark"][*level as usize];
            push_tag(sql, *tag, Owner { of: at.of, level: *level, key }, test);
        }
    }
    Ok(())
}

/// The column of that name, if a search may name it.
pub(super) fn known(level: Level, name: &str) -> Result<&'static str, IndexError> {
    columns::searchable(level)
        .find(|column| *column == name)
        .ok_or(IndexError::Inconsistent { table: "search", column: "column" })
}

/// The columns of a name's groups, by that of the alphabetic one.
pub(super) fn name_columns(column: &str) -> Result<[&'static str; 3], IndexError> {
    [PATIENT_NAME, REFERRING_PHYSICIAN_NAME]
        .into_iter()
        .find(|groups| groups[0] == column)
        .ok_or(IndexError::Inconsistent { table: "search", column: "column" })
}

/// What the terms of words and of sounds of a name begin with.
pub(super) fn word_terms(groups: [&str; 3]) -> (&'static str, &'static str) {
    if groups == PATIENT_NAME { ("w:", "s:") } else { ("rw:", "rs:") }
}

/// A test of one column.
pub(super) fn push_test(sql: &mut Sql, table: &'static str, column: &'static str, test: &Test) {
    let name = |sql: &mut Sql| {
        sql.push(table).push(".").push(column);
    };
    match test {
        Test::Equals(value) => {
            name(sql);
            sql.push(" = ").push_bind(without_nul(value));
        }
        Test::AnyOf(values) => {
            name(sql);
            let values: Vec<String> = values.iter().map(|value| without_nul(value)).collect();
            sql.push(" = ANY(").push_bind(values).push("::text[])");
        }
        Test::Like(pattern) => push_like(sql, name, &without_nul(pattern)),
        Test::Range { from, to } => {
            sql.push("(");
            name(sql);
            sql.push(" IS NOT NULL");
            for (bound, operator) in [(from, " >= "), (to, " <= ")] {
                if let Some(value) = bound {
                    sql.push(" AND ");
                    name(sql);
                    sql.push(operator).push_bind(without_nul(value));
                }
            }
            sql.push(")");
        }
        Test::Empty => {
            name(sql);
            sql.push(" IS NULL");
        }
        Test::All(tests) => push_each(sql, " AND ", tests, |sql, test| {
            push_test(sql, table, column, test);
        }),
        Test::Any(tests) => push_each(sql, " OR ", tests, |sql, test| {
            push_test(sql, table, column, test);
        }),
        // Words are of names alone.
        Test::Fuzzy(_) => {
            sql.push("false");
        }
    }
}

/// Tests joined by `AND` or `OR`; of none, all are passed and not one is.
fn push_each(sql: &mut Sql, between: &'static str, tests: &[Test], push: impl Fn(&mut Sql, &Test)) {
    if tests.is_empty() {
        sql.push(if between == " AND " { "true" } else { "false" });
        return;
    }
    for (n, test) in tests.iter().enumerate() {
        sql.push(if n == 0 { "(" } else { between });
        push(sql, test);
    }
    sql.push(")");
}

/// A test that some group of a name passes; each part of a test by whichever group.
fn push_name(
    sql: &mut Sql,
    table: &'static str,
    groups: [&'static str; 3],
    test: &Test,
    at: At<'_>,
) {
    match test {
        Test::All(tests) => push_each(sql, " AND ", tests, |sql, test| {
            push_name(sql, table, groups, test, at);
        }),
        Test::Any(tests) => push_each(sql, " OR ", tests, |sql, test| {
            push_name(sql, table, groups, test, at);
        }),
        Test::Fuzzy(word) => push_word(sql, groups, word, at),
        _ => {
            let between = if *test == Test::Empty { " AND " } else { " OR " };
            for (n, group) in groups.into_iter().enumerate() {
                sql.push(if n == 0 { "(" } else { between });
                push_test(sql, table, group, test);
            }
            sql.push(")");
        }
    }
}

/// A word of a name begins with this one, or sounds the same.
pub(super) fn push_word(sql: &mut Sql, groups: [&str; 3], word: &Word, at: At<'_>) {
    let (words, sounds) = word_terms(groups);
    push_probe(sql, at, |sql| {
        let start = format!("{words}{}", without_nul(&word.text));
        push_begins(sql, &start);
        if let Some(sound) = &word.sound {
            sql.push(" OR x.term = ").push_bind(format!("{sounds}{}", without_nul(sound)));
        }
    });
}

/// Term `x.term` begins with a text.
pub(super) fn push_begins(sql: &mut Sql, start: &str) {
    sql.push("(x.term >= ").push_bind(start.to_owned());
    if let Some(end) = after_prefix(start) {
        sql.push(" AND x.term < ").push_bind(end);
    }
    sql.push(")");
}

/// The study has a series whose modality passes the test; [`Test::Empty`]: none has one.
fn push_modality(sql: &mut Sql, test: &Test, at: At<'_>) {
    match test {
        Test::Empty => {
            sql.push("NOT ");
            push_probe(sql, at, |sql| push_begins(sql, "m:"));
        }
        Test::All(tests) => {
            push_each(sql, " AND ", tests, |sql, test| push_modality(sql, test, at));
        }
        Test::Any(tests) => push_each(sql, " OR ", tests, |sql, test| push_modality(sql, test, at)),
        Test::Equals(_) | Test::AnyOf(_) | Test::Like(_) | Test::Range { .. } | Test::Fuzzy(_) => {
            let of_term = |value: &String| format!("m:{value}");
            let test = match test {
                Test::Equals(value) => Test::Equals(of_term(value)),
                Test::AnyOf(values) => Test::AnyOf(values.iter().map(of_term).collect()),
                Test::Like(pattern) => Test::Like(of_term(pattern)),
                Test::Range { from, to } => Test::Range {
                    from: Some(from.as_ref().map_or_else(|| "m:".to_owned(), of_term)),
                    to: Some(to.as_ref().map_or_else(|| "m;".to_owned(), of_term)),
                },
                other => other.clone(),
            };
            push_probe(sql, at, |sql| push_test(sql, "x", "term", &test));
        }
    }
}

/// The study has a term `x` of which `what` holds.
fn push_probe(sql: &mut Sql, at: At<'_>, what: impl FnOnce(&mut Sql)) {
    push_lookup(sql, ["study_term", "study_key", at.study], at.of, what);
}

/// One item of the series' requests passes all tests.
fn push_request(sql: &mut Sql, tests: &[(RequestKey, Test)], at: At<'_>) {
    push_lookup(sql, ["series_request", "series_key", at.series], at.of, |sql| {
        sql.push("true");
        for (key, test) in tests {
            sql.push(" AND ");
            push_test(sql, "x", request_column(*key), test);
        }
    });
}

/// The column of a key of a request.
pub(super) fn request_column(key: RequestKey) -> &'static str {
    match key {
        RequestKey::ScheduledProcedureStepId => "scheduled_procedure_step_id",
        RequestKey::RequestedProcedureId => "requested_procedure_id",
    }
}

/// A table has a row `x` under the key, of which `what` holds.
fn push_lookup(
    sql: &mut Sql,
    [table, column, key]: [&'static str; 3],
    of: Of<'_>,
    what: impl FnOnce(&mut Sql),
) {
    if let Of::Row(_) = of {
        sql.push("EXISTS (SELECT FROM ").push(table).push(" x WHERE x.partition_id = ");
        of.push(sql);
        sql.push(" AND x.").push(column).push(" = ").push(key).push(" AND (");
        what(sql);
        sql.push("))");
        return;
    }
    sql.push("(SELECT 1 FROM ").push(table).push(" x WHERE x.partition_id = ");
    of.push(sql);
    for operator in [" >= ", " <= "] {
        sql.push(" AND x.").push(column).push(operator).push(key);
    }
    sql.push(" AND (");
    what(sql);
    sql.push(") ORDER BY x.").push(column).push(" LIMIT 1) IS NOT NULL");
}

/// The ends of a range of moments: date and time.
type Ends<'a> = [Option<&'a (String, String)>; 2];

/// A date and a time lie between two moments, as they are written. At the first or last instant of
/// its day, an end is about the date alone.
fn push_moment(
    sql: &mut Sql,
    table: &'static str,
    [date, time]: [&'static str; 2],
    ends: Ends<'_>,
) {
    let name = |sql: &mut Sql, column| {
        sql.push(table).push(".").push(column);
    };
    sql.push("(");
    name(sql, date);
    sql.push(" IS NOT NULL");
    for (bound, [wide, strict]) in ends.into_iter().zip([[" >= ", " > "], [" <= ", " < "]]) {
        let Some((day, moment)) = bound else { continue };
        if matches!((wide, &**moment), (" >= ", FIRST_INSTANT) | (" <= ", LAST_INSTANT)) {
            sql.push(" AND ");
            name(sql, date);
            sql.push(wide).push_bind(without_nul(day));
            continue;
        }
        sql.push(" AND (");
        name(sql, date);
        sql.push(strict).push_bind(without_nul(day)).push(" OR (");
        name(sql, date);
        sql.push(" = ").push_bind(without_nul(day)).push(" AND ");
        name(sql, time);
        sql.push(wide).push_bind(without_nul(moment)).push("))");
    }
    sql.push(")");
}

/// The same for ends in a time zone: a row that says its own, and its time, is compared in UTC.
fn push_moment_in_zone(
    sql: &mut Sql,
    table: &'static str,
    columns: [&'static str; 2],
    ends: Ends<'_>,
    offset: i32,
) {
    let [date, time] = columns;
    sql.push("CASE WHEN s.utc_offset IS NULL OR ").push(table).push(".").push(time);
    sql.push(" IS NULL THEN ");
    push_moment(sql, table, columns, ends);
    sql.push(" ELSE ").push(table).push(".").push(date).push(" IS NOT NULL");
    for (bound, operator) in ends.into_iter().zip([" >= ", " <= "]) {
        let Some(moment) = bound.and_then(|(day, moment)| timestamp(day, moment)) else { continue };
        sql.push(" AND (").push(table).push(".").push(date).push(" || ");
        sql.push(table).push(".").push(time).push(") COLLATE \"C\"").push(operator);
        sql.push("to_char(").push_bind(moment);
        sql.push("::timestamp + make_interval(mins => s.utc_offset - ").push_bind(offset);
        sql.push("), 'YYYYMMDDHH24MISS.US')");
    }
    sql.push(" END");
}

/// A moment as Postgres reads it. `None` where the calendar of Postgres ends, so that an end there
/// is no end, and for what is not written as a date and a time.
fn timestamp(day: &str, moment: &str) -> Option<String> {
    super::order::moment(day, moment)?;
    if !("00010103".."99991230").contains(&day) {
        return None;
    }
    let ([year, month, day], [hour, minute, second]) = (
        [day.get(..4)?, day.get(4..6)?, day.get(6..)?],
        [moment.get(..2)?, moment.get(2..4)?, moment.get(4..)?],
    );
    Some(format!("{year}-{month}-{day} {hour}:{minute}:{second}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_from_the_list_alone() {
        assert!(known(Level::Study, "patient_id").is_ok());
        assert!(known(Level::Instance, "sop_class_uid").is_ok());
        assert!(known(Level::Study, "modality").is_err());
        assert!(known(Level::Study, "attributes").is_err());
        assert!(name_columns("patient_name").is_ok());
        assert!(name_columns("patient_name_phonetic").is_err());
    }

    #[test]
    fn moments_are_written_for_postgres_where_its_calendar_has_them() {
        let at = "235960.5".to_owned() + "00000";
        assert_eq!(timestamp("20240101", &at).as_deref(), Some("2024-01-01 23:59:60.500000"));
        for (day, moment) in
            [("00000101", &*at), ("99991231", &at), ("2024", &at), ("20240101", "")]
        {
            assert_eq!(timestamp(day, moment), None, "{day} {moment}");
        }
    }
}
