//! The query of a Search request (PS3.18 §8.3.4, §10.6.1.2): parameters in, a plan out.
//!
//! Holds: a known parameter with a bad value is a 400 that names the parameter and the rule; an
//! unknown one is left alone and told in a `Warning`. Pure: what matches is the index's business.

use std::collections::BTreeSet;

use super::{carrier::PARTITION_ID, problem::Problem};
use crate::{
    archive::{Condition, Returned, SearchPlan, Within},
    config::SearchConfig,
    dicom::{
        Tag, Uid,
        attributes::{self, Level, Matching},
        matching::Test,
        normalise,
    },
};

#[cfg(test)]
mod tests;

/// Matching parameters that one request may have.
const MAX_CONDITIONS: usize = 64;

/// Values that one UID list or modality list may have.
const MAX_LISTED: usize = 1_000;

/// Parameter names that a `Warning` repeats; more would make the header too long.
const MAX_WARNED: usize = 16;

const BACKWARD: &str = "the range ends before it begins";

const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008, 0x0062);

/// A Search request, understood.
#[derive(Debug)]
pub struct SearchQuery {
    /// What to look for, and how much of it.
    pub plan: SearchPlan,
    /// What to return of each match.
    pub returned: Returned,
    /// Texts for `Warning: 299`.
    pub warnings: Vec<String>,
}

/// Where a search looks: the level of its results and the parents that the path fixes.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Level of the results.
    pub level: Level,
    /// `/studies/{study}/...`
    pub study: Option<Uid>,
    /// `/series/{series}/...`
    pub series: Option<Uid>,
}

/// Reads the query of a search.
///
/// # Errors
/// 400, see the module.
pub fn read(
    resource: &Resource,
    query: &str,
    config: &SearchConfig,
) -> Result<SearchQuery, Problem> {
    let maximum = match resource.level {
        Level::Study => config.max_studies,
        Level::Series => config.max_series,
        Level::Instance => config.max_instances,
    };
    let mut reading = Reading {
        level: resource.level,
        seen: BTreeSet::new(),
        conditions: Vec::new(),
        matched: BTreeSet::new(),
        include: BTreeSet::new(),
        include_all: false,
        limit: None,
        offset: None,
        backward: Vec::new(),
        single: BTreeSet::new(),
        ignored: Vec::new(),
        warnings: Vec::new(),
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        reading.parameter(&name, &value)?;
    }
    reading.combine_date_times();
    reading.refuse_backward_times()?;
    reading.warn_ignored();
    if reading.include_all && !reading.include.is_empty() {
        return Err(Problem::invalid(
            "includefield",
            "with `all` there can be no other includefield (PS3.18 §8.3.4.3)",
        ));
    }
    let maximum = i64::from(maximum);
    let limit = reading.limit.map_or(maximum, |limit| limit.min(maximum));
    let mut path = BTreeSet::new();
    path.extend(resource.study.as_ref().map(|_| Tag(0x0020, 0x000D)));
    path.extend(resource.series.as_ref().map(|_| Tag(0x0020, 0x000E)));
    let returned = Returned {
        // Parents that the path names are known to the client; their UIDs are returned still.
        study: resource.level == Level::Study || resource.study.is_none(),
        series: resource.level == Level::Series
            || (resource.level == Level::Instance && resource.series.is_none()),
        all: reading.include_all,
        tags: &(&reading.include | &reading.matched) | &path,
        partition: false,
    };
    let plan = SearchPlan {
        level: resource.level,
        within: match (resource.study.clone(), resource.series.clone()) {
            (Some(study), Some(series)) => Within::Series(study, series),
            (Some(study), None) => Within::Study(study),
            (None, _) => Within::Archive,
        },
        conditions: reading.conditions,
        limit,
        offset: reading.offset.unwrap_or(0),
        after: None,
    };
    Ok(SearchQuery { plan, returned, warnings: reading.warnings })
}

struct Reading {
    level: Level,
    seen: BTreeSet<Tag>,
    conditions: Vec<Condition>,
    matched: BTreeSet<Tag>,
    include: BTreeSet<Tag>,
    include_all: bool,
    limit: Option<i64>,
    offset: Option<i64>,
    /// Ranges of times that end before they begin: parameter and column.
    backward: Vec<(String, &'static str)>,
    /// Columns whose value is a single one, even if it stands for a range (`10`: from 10 to 11).
    single: BTreeSet<&'static str>,
    ignored: Vec<String>,
    warnings: Vec<String>,
}

impl Reading {
    fn parameter(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "limit" => set_count("limit", &mut self.limit, value),
            "offset" => set_count("offset", &mut self.offset, value),
            "includefield" => self.include_fields(value),
            "fuzzymatching" => self.switch(
                name,
                value,
                "The fuzzymatching parameter is not supported. Only literal matching has been \
                 performed.",
            ),
            "emptyvaluematching" => self.switch(
                name,
                value,
                "The emptyvaluematching parameter is not supported. Empty Value Matching has not \
                 been performed.",
            ),
            "multiplevaluematching" => self.switch(
                name,
                value,
                "The multiplevaluematching parameter is not supported. Multiple Value Matching \
                 has not been performed.",
            ),
            // Read where the request is negotiated and admitted.
            "accept" | "charset" | PARTITION_ID => Ok(()),
            _ => match attribute_named(name) {
                Some(tag) => self.match_attribute(name, tag, value),
                None => {
                    self.ignored.push(name.to_owned());
                    Ok(())
                }
            },
        }
    }

    /// A parameter of which only `false` is supported (PS3.18 §8.3.4.2 gives the words).
    fn switch(&mut self, name: &str, value: &str, warning: &str) -> Result<(), Problem> {
        match value {
            "false" => Ok(()),
            "true" => {
                self.warnings.push(warning.to_owned());
                Ok(())
            }
            _ => Err(Problem::invalid(name.to_owned(), "`true` or `false`")),
        }
    }

    fn include_fields(&mut self, value: &str) -> Result<(), Problem> {
        for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            if field == "all" {
                self.include_all = true;
                continue;
            }
            // In every result already, where partitions are on.
            if field == PARTITION_ID {
                continue;
            }
            // A path into a sequence returns the sequence.
            let first = field.split('.').next().unwrap_or(field);
            let Some(tag) = attribute_named(first) else {
                return Err(Problem::invalid(
                    "includefield",
                    "attributes by keyword or 8 hexadecimal digits, or `all` (PS3.18 §8.3.4.3)",
                ));
            };
            self.include.insert(tag);
        }
        Ok(())
    }

    fn match_attribute(&mut self, name: &str, tag: Tag, value: &str) -> Result<(), Problem> {
        if !self.seen.insert(tag) {
            return Err(Problem::invalid(
                name.to_owned(),
                "an attribute can be matched once (PS3.18 §8.3.4.1)",
            ));
        }
        if self.conditions.len() >= MAX_CONDITIONS {
            return Err(Problem::bad_request("a search can match at most 64 attributes"));
        }
        if tag == MODALITIES_IN_STUDY {
            return self.match_modalities(name, value);
        }
        if tag == SOP_CLASSES_IN_STUDY {
            let values = uids(name, value)?;
            if !values.is_empty() {
                let values = values.iter().filter_map(|value| value.parse().ok()).collect();
                self.conditions.push(Condition::SopClassesInStudy(values));
            }
            self.matched.insert(tag);
            return Ok(());
        }
        let known = attributes::by_tag(tag).filter(|row| row.level <= self.level);
        let Some(row) = known else {
            self.ignored.push(name.to_owned());
            return Ok(());
        };
        let Some((column, matching)) = row.column else {
            self.ignored.push(name.to_owned());
            return Ok(());
        };
        self.matched.insert(tag);
        // Universal matching (PS3.4 §C.2.2.2.3): matches everything, and is returned.
        if value.chars().all(|c| c == '*') {
            return Ok(());
        }
        if !value.contains('-') {
            self.single.insert(column);
        }
        let test = test(name, matching, value)?;
        if let Test::Range { from: Some(from), to: Some(to) } = &test
            && from > to
        {
            self.backward.push((name.to_owned(), column));
        }
        self.conditions.extend(Condition::on(row, test));
        Ok(())
    }

    /// ModalitiesInStudy: with several values, studies that have any of them, as viewers expect.
    fn match_modalities(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        self.matched.insert(MODALITIES_IN_STUDY);
        let values: Vec<&str> = split_list(value).collect();
        if values.is_empty() || values.contains(&"*") {
            return Ok(());
        }
        if values.len() > MAX_LISTED {
            return Err(Problem::invalid(name.to_owned(), "at most 1000 values"));
        }
        let tests: Result<Vec<Test>, Problem> =
            values.into_iter().map(|value| text_test(name, Matching::Text, value)).collect();
        self.conditions.push(Condition::ModalitiesInStudy(tests?));
        Ok(())
    }

    /// A date range and the time range of the same pair are one range of instants (PS3.18
    /// §8.3.4.1.1).
    fn combine_date_times(&mut self) {
        for (date, time) in
            [(Tag(0x0008, 0x0020), Tag(0x0008, 0x0030)), (Tag(0x0040, 0x0244), Tag(0x0040, 0x0245))]
        {
            let (Some((level, date)), Some((_, time))) = (column(date), column(time)) else {
                continue;
            };
            let at = |wanted: &str| {
                self.conditions.iter().position(|condition| match condition {
                    Condition::Column { column, test: Test::Range { .. }, .. } => *column == wanted,
                    _ => false,
                })
            };
            // A single time of day beside a range of dates stays a condition of its own.
            let (Some(at_date), Some(at_time)) = (at(date), at(time)) else { continue };
            if self.single.contains(time) {
                continue;
            }
            let ends = |at: usize| match self.conditions.get(at) {
                Some(Condition::Column { test: Test::Range { from, to }, .. }) => {
                    (from.clone(), to.clone())
                }
                _ => (None, None),
            };
            let ((date_from, date_to), (time_from, time_to)) = (ends(at_date), ends(at_time));
            let from = date_from.map(|d| (d, time_from.unwrap_or_else(first_instant)));
            let to = date_to.map(|d| (d, time_to.unwrap_or_else(last_instant)));
            self.conditions.remove(at_date.max(at_time));
            self.conditions.remove(at_date.min(at_time));
            self.conditions.push(Condition::Moment { level, date, time, from, to, offset: None });
        }
    }

    /// A range of times may end before it begins only as a part of a range of instants.
    fn refuse_backward_times(&self) -> Result<(), Problem> {
        let alone = |wanted: &str| {
            self.conditions.iter().any(
                |condition| matches!(condition, Condition::Column { column, .. } if *column == wanted),
            )
        };
        match self.backward.iter().find(|(_, column)| alone(column)) {
            Some((name, _)) => Err(Problem::invalid(name.clone(), BACKWARD)),
            None => Ok(()),
        }
    }

    fn warn_ignored(&mut self) {
        // Names come from outside: only what can be a name is repeated in a header.
        let plain = |name: &&String| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
        };
        let names: Vec<&str> =
            self.ignored.iter().filter(plain).take(MAX_WARNED).map(String::as_str).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.warnings.push(format!(
                "The following query parameters are not supported here and were ignored: {names}"
            ));
        }
    }
}

/// The level and column of an attribute's search key.
fn column(tag: Tag) -> Option<(Level, &'static str)> {
    let row = attributes::by_tag(tag)?;
    row.column.map(|(column, _)| (row.level, column))
}

fn first_instant() -> String {
    "000000.000000".to_owned()
}

fn last_instant() -> String {
    "235959.999999".to_owned()
}

/// The attribute that a parameter or includefield names: keyword or 8 hexadecimal digits.
fn attribute_named(name: &str) -> Option<Tag> {
    let hex = name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        let number = u32::from_str_radix(name, 16).ok()?;
        return Some(Tag((number >> 16) as u16, number as u16));
    }
    attributes::tag_of_keyword(name)
}

fn set_count(name: &'static str, slot: &mut Option<i64>, value: &str) -> Result<(), Problem> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let count = if digits { Some(value.parse().unwrap_or(i64::MAX)) } else { None };
    match (count, slot.is_some()) {
        (Some(count), false) => {
            *slot = Some(count);
            Ok(())
        }
        (Some(_), true) => Err(Problem::invalid(name, "can be given once")),
        (None, _) => Err(Problem::invalid(name, "a whole number from 0")),
    }
}

/// Values of a list: separated by commas, or by backslashes as DIMSE clients do.
fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', '\\']).map(str::trim).filter(|item| !item.is_empty())
}

fn uids(name: &str, value: &str) -> Result<Vec<String>, Problem> {
    let uids: Result<Vec<String>, _> = split_list(value).map(normalise::uid).collect();
    let uids = uids.map_err(|rule| Problem::invalid(name.to_owned(), rule.to_string()))?;
    if uids.len() > MAX_LISTED {
        return Err(Problem::invalid(name.to_owned(), "at most 1000 UIDs"));
    }
    Ok(uids)
}

/// What the value of a matching parameter asks of its column (PS3.4 §C.2.2.2).
fn test(name: &str, matching: Matching, value: &str) -> Result<Test, Problem> {
    let invalid = |rule: normalise::Invalid| Problem::invalid(name.to_owned(), rule.to_string());
    match matching {
        Matching::Uid => Ok(Test::AnyOf(uids(name, value)?)),
        Matching::Text | Matching::PersonName => text_test(name, matching, value),
        Matching::Integer
        | Matching::Exact
        | Matching::DateTime
        | Matching::Decimal
        | Matching::AttributeTag => Ok(Test::Equals(matching.normalise(value).map_err(invalid)?)),
        Matching::Date => match range(name, value, normalise::date, normalise::date)? {
            Test::Range { from: Some(from), to: Some(to) } if from > to => {
                Err(Problem::invalid(name.to_owned(), BACKWARD))
            }
            test => Ok(test),
        },
        Matching::Time => range(name, value, normalise::time, normalise::time_end),
    }
}

fn text_test(name: &str, matching: Matching, value: &str) -> Result<Test, Problem> {
    let value = matching
        .normalise(value)
        .map_err(|rule| Problem::invalid(name.to_owned(), rule.to_string()))?;
    if value.contains(['*', '?']) { Ok(Test::Like(value)) } else { Ok(Test::Equals(value)) }
}

/// `a`, `a-b`, `a-` or `-b`, inclusive (PS3.4 §C.2.2.2.5). A single value of less than full
/// precision stands for all that it covers. It may end before it begins, which the caller judges.
fn range(
    name: &str,
    value: &str,
    first: fn(&str) -> Result<String, normalise::Invalid>,
    last: fn(&str) -> Result<String, normalise::Invalid>,
) -> Result<Test, Problem> {
    let refuse = |rule: String| Problem::invalid(name.to_owned(), rule);
    let read = |read: fn(&str) -> Result<String, normalise::Invalid>, text: &str| match text.trim()
    {
        "" => Ok(None),
        text => read(text).map(Some).map_err(|rule| refuse(rule.to_string())),
    };
    let (from, to) = match value.split_once('-') {
        None => (read(first, value)?, read(last, value)?),
        Some((from, to)) => (read(first, from)?, read(last, to)?),
    };
    match (&from, &to) {
        (None, None) => Err(refuse("a range needs a beginning or an end".to_owned())),
        (Some(a), Some(b)) if a == b => Ok(Test::Equals(a.clone())),
        _ => Ok(Test::Range { from, to }),
    }
}
