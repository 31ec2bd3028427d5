//! What can be searched for, and how the rows that match are said in SQL.
//!
//! The one place where a statement's text depends on the request: it is put together from
//! constants of this file, and values are bound.
//!
//! A prefix wildcard becomes a range, which row-level security lets an index answer; `LIKE` is not
//! leakproof and only filters what is left.

use sqlx::{Postgres, QueryBuilder};

use super::{IndexError, RowKey, columns, tag_search::push_tag};
use crate::dicom::{
    Uid, VR,
    attributes::{Attribute, Level, Matching},
    matching::{Element, Test},
};

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchPlan {
    /// What the rows are.
    pub level: Level,
    /// Under which study or series, where the path names one.
    pub within: Within,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Most rows to answer.
    pub limit: i64,
    /// Rows to skip.
    pub offset: i64,
    /// Where an earlier page ended: rows up to and including this one are left out, and `offset`
    /// counts from there.
    pub after: Option<RowKey>,
}

/// The part of the archive that the path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// All of it.
    Archive,
    /// One study.
    Study(Uid),
    /// One series of a study.
    Series(Uid, Uid),
}

/// One condition. Values are normalised as the columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A search column passes the test.
    Column {
        /// Whose column.
        level: Level,
        /// Its name.
        column: &'static str,
        /// The test.
        test: Test,
    },
    /// Any group of a person name passes the test.
    Name {
        /// Whose column.
        level: Level,
        /// The column of the alphabetic group; the others are named after it.
        column: &'static str,
        /// The test.
        test: Test,
    },
    /// A date and a time column, read as one moment, lie between two moments (PS3.18 §8.3.4.1.1).
    /// Rows without a date do not match; rows without a time match where the date alone decides.
    Moment {
        /// Whose columns.
        level: Level,
        /// The column of the date.
        date: &'static str,
        /// The column of the time.
        time: &'static str,
        /// Date and time of the first moment; none: from the beginning.
        from: Option<(String, String)>,
        /// Date and time of the last moment; none: to the end.
        to: Option<(String, String)>,
        /// Offset of both from UTC, in minutes, where the client said one
        /// (TimezoneOffsetFromUTC): rows that say theirs are compared in UTC.
        offset: Option<i32>,
    },
    /// The study has a series whose modality passes one of the tests.
    ModalitiesInStudy(Vec<Test>),
    /// The study has an instance of one of the SOP classes.
    SopClassesInStudy(Vec<Uid>),
    /// One item of the series' Request Attributes Sequence passes all tests.
    Request(Vec<(RequestKey, Test)>),
    /// A value of an extended query tag passes the test.
    Tag {
        /// The tag's id.
        tag: i64,
        /// Its level.
        level: Level,
        /// The test.
        test: Test,
    },
    /// Nothing matches.
    Never,
}

/// A key of (0040,0275) Request Attributes Sequence that Search must match (PS3.18 Table 10.6.1-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKey {
    /// (0040,0009).
    ScheduledProcedureStepId,
    /// (0040,1001).
    RequestedProcedureId,
}

/// An extended query tag as Search sees it in its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTag {
    /// Its id.
    pub id: i64,
    /// The attribute.
    pub at: Element,
    /// Its value representation.
    pub vr: VR,
    /// The level that its values belong to.
    pub level: Level,
    /// Whether its values can be searched.
    pub state: TagState,
    /// Whether values of some instances could not be indexed.
    pub erroneous: bool,
}

/// Whether the values of an extended query tag can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagState {
    /// All that is stored has been indexed.
    Ready,
    /// What was stored before the tag is still being indexed.
    Adding,
    /// Switched off by `queryStatus`.
    Disabled,
}

impl Condition {
    /// The condition that the attribute's column passes `test`; `None` where it has no column.
    pub fn on(attribute: &'static Attribute, test: Test) -> Option<Self> {
        let (column, matching) = attribute.column?;
        let level = attribute.level;
        Some(match matching {
            Matching::PersonName => Self::Name { level, column, test },
            _ => Self::Column { level, column, test },
        })
    }

    /// The level whose columns it names, where it names any.
    fn level(&self) -> Level {
        match self {
            Self::Column { level, .. } | Self::Name { level, .. } | Self::Moment { level, .. } => {
                *level
            }
            Self::Tag { level, .. } => *level,
            Self::Request(_) => Level::Series,
            Self::ModalitiesInStudy(_) | Self::SopClassesInStudy(_) | Self::Never => Level::Study,
        }
    }
}

/// Text and bound values under construction.
pub(super) type Sql = QueryBuilder<Postgres>;

/// Which rows of a level the statement ranges over.
#[derive(Clone, Copy)]
pub(super) enum Over<'a> {
    /// Those of some partitions.
    Partitions(&'a [&'a str]),
    /// Those of `scope.id`, a partition that a surrounding statement enumerates.
    Each,
}

/// The alias of a level's table.
pub(super) fn alias(level: Level) -> &'static str {
    ["s", "e", "i"][level as usize]
}

/// `FROM … WHERE …`: all rows of the level that match.
pub(super) fn push_from(
    sql: &mut Sql,
    plan: &SearchPlan,
    over: Over<'_>,
) -> Result<(), IndexError> {
    let level = plan.level;
    sql.push(match level {
        Level::Study => " FROM study s",
        Level::Series => " FROM series e",
        Level::Instance => " FROM instance i",
    });
    let names = |wanted| plan.conditions.iter().any(|condition| condition.level() == wanted);
    let (in_study, in_series) = match plan.within {
        Within::Archive => (false, false),
        Within::Study(_) => (true, false),
        Within::Series(..) => (true, true),
    };
    if level > Level::Series && (in_series || names(Level::Series)) {
        sql.push(
            " JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key",
        );
    }
    if level > Level::Study && (in_study || names(Level::Study)) {
        sql.push(match level {
            Level::Instance => {
                " JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key"
            }
            _ => " JOIN study s ON s.partition_id = e.partition_id AND s.study_key = e.study_key",
        });
    }
    sql.push(" WHERE ").push(alias(level)).push(".partition_id = ");
    match over {
        Over::Each => sql.push("scope.id"),
        Over::Partitions([only]) => sql.push_bind((*only).to_owned()),
        Over::Partitions(several) => sql.push("ANY(").push_bind(several).push("::text[])"),
    };
    match &plan.within {
        Within::Archive => {}
        Within::Study(study) => push_is(sql, "s.study_instance_uid", study),
        Within::Series(study, series) => {
            push_is(sql, "s.study_instance_uid", study);
            push_is(sql, "e.series_instance_uid", series);
        }
    }
    for condition in &plan.conditions {
        if condition.level() > level {
            // Attributes of lower levels do not match at a higher one (PS3.18 §10.6.1.2).
            return Err(IndexError::Inconsistent { table: "search", column: "level" });
        }
        sql.push(" AND ");
        push_condition(sql, condition)?;
    }
    Ok(())
}

fn push_is(sql: &mut Sql, column: &'static str, uid: &Uid) {
    sql.push(" AND ").push(column).push(" = ").push_bind(uid.as_str().to_owned());
}

fn push_condition(sql: &mut Sql, condition: &Condition) -> Result<(), IndexError> {
    match condition {
        Condition::Column { level, column, test } => {
            push_test(sql, alias(*level), known(*level, column)?, test);
        }
        Condition::Name { level, column, test } => {
            for (n, group) in ["", "_ideographic", "_phonetic"].into_iter().enumerate() {
                sql.push(if n == 0 { "(" } else { " OR " });
                let name = format!("{column}{group}");
                push_test(sql, alias(*level), known(*level, &name)?, test);
            }
            sql.push(")");
        }
        Condition::Moment { level, date, time, from, to, offset: _ } => {
            let (date, time) = (known(*level, date)?, known(*level, time)?);
            let name = |sql: &mut Sql, column| {
                sql.push(alias(*level)).push(".").push(column);
            };
            sql.push("(");
            name(sql, date);
            sql.push(" IS NOT NULL");
            for (bound, wide, strict) in [(from, " >= ", " > "), (to, " <= ", " < ")] {
                let Some((day, moment)) = bound else { continue };
                // The first test is for an index, the others for the edge.
                sql.push(" AND ");
                name(sql, date);
                sql.push(wide).push_bind(without_nul(day)).push(" AND (");
                name(sql, date);
                sql.push(strict).push_bind(without_nul(day)).push(" OR ");
                name(sql, time);
                sql.push(wide).push_bind(without_nul(moment)).push(")");
            }
            sql.push(")");
        }
        Condition::ModalitiesInStudy(tests) => {
            sql.push("EXISTS (SELECT FROM series m WHERE m.partition_id = s.partition_id");
            sql.push(" AND m.study_key = s.study_key AND (");
            for (n, test) in tests.iter().enumerate() {
                sql.push(if n == 0 { "" } else { " OR " });
                push_test(sql, "m", "modality", test);
            }
            sql.push(if tests.is_empty() { "true))" } else { "))" });
        }
        Condition::SopClassesInStudy(classes) => {
            let classes: Vec<&str> = classes.iter().map(Uid::as_str).collect();
            sql.push("EXISTS (SELECT FROM instance c WHERE c.partition_id = s.partition_id");
            sql.push(" AND c.study_key = s.study_key AND c.sop_class_uid = ANY(");
            sql.push_bind(classes).push("::text[]))");
        }
        Condition::Never => {
            sql.push("false");
        }
        Condition::Tag { tag, level, test } => push_tag(sql, *tag, *level, test),
        Condition::Request(_) => {
            return Err(IndexError::Inconsistent { table: "search", column: "condition" });
        }
    }
    Ok(())
}

/// The column of that name, if a search may name it.
fn known(level: Level, name: &str) -> Result<&'static str, IndexError> {
    columns::searchable(level)
        .find(|column| *column == name)
        .ok_or(IndexError::Inconsistent { table: "search", column: "column" })
}

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
        Test::Fuzzy(_) | Test::All(_) | Test::Any(_) => {
            sql.push("false");
        }
    }
}

/// Postgres refuses NUL in text, and no column holds one: a character that none holds either.
pub(super) fn without_nul(value: &str) -> String {
    value.replace('\0', "\u{fffe}")
}

/// A DICOM pattern: the prefix as a range, the rest as `LIKE`.
fn push_like(sql: &mut Sql, name: impl Fn(&mut Sql), pattern: &str) {
    let prefix = &pattern[..pattern.find(['*', '?']).unwrap_or(pattern.len())];
    let rest = &pattern[prefix.len()..];
    if rest.is_empty() {
        name(sql);
        sql.push(" = ").push_bind(prefix.to_owned());
        return;
    }
    sql.push("(");
    name(sql);
    sql.push(" IS NOT NULL");
    if !prefix.is_empty() {
        sql.push(" AND ");
        name(sql);
        sql.push(" >= ").push_bind(prefix.to_owned());
        if let Some(end) = after_prefix(prefix) {
            sql.push(" AND ");
            name(sql);
            sql.push(" < ").push_bind(end);
        }
    }
    if rest.contains(|c| c != '*') {
        sql.push(" AND ");
        name(sql);
        sql.push(" LIKE ").push_bind(like(pattern));
    }
    sql.push(")");
}

/// The smallest text that is greater than every text that begins with `prefix`, in the order of
/// code points, which is that of collation "C" in UTF-8. `None`: there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters: behind U+D7FF comes U+E000.
        let next =
            if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// A DICOM pattern as a `LIKE` pattern.
fn like(pattern: &str) -> String {
    let mut like = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        match c {
            '*' => {
                // Runs of stars mean one star, and cost LIKE dearly.
                if !like.ends_with('%') || like.ends_with("\\%") {
                    like.push('%');
                }
            }
            '?' => like.push('_'),
            '%' | '_' | '\\' => {
                like.push('\\');
                like.push(c);
            }
            _ => like.push(c),
        }
    }
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_escaped() {
        for (dicom, expected) in [
            ("SM*TH?", "SM%TH_"),
            ("100%_\\*", "100\\%\\_\\\\%"),
            ("a**b***", "a%b%"),
            ("%*", "\\%%"),
            ("%**", "\\%%"),
        ] {
            assert_eq!(like(dicom), expected, "{dicom}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_follows_code_points() {
        for (prefix, end) in [
            ("SMITH", Some("SMITI")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("\u{ff}", Some("\u{100}")),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix}");
            if let Some(end) = end {
                assert!(format!("{prefix}\u{10ffff}").as_str() < end);
            }
        }
    }

    #[test]
    fn columns_come_from_the_list_alone() {
        assert!(known(Level::Study, "patient_id").is_ok());
        assert!(known(Level::Instance, "sop_class_uid").is_ok());
        assert!(known(Level::Study, "modality").is_err());
        assert!(known(Level::Study, "attributes").is_err());
    }
}
