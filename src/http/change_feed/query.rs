//! What is asked of the change feed: offset, limit, times, metadata and patience.

use std::{ops::RangeInclusive, time::Duration};

use axum::http::{HeaderMap, Uri};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    archive::{FeedQuery, FeedTimes},
    http::{
        problem::Problem,
        query::{FLAG, once, only, pairs},
        urls,
    },
};

/// Most events of a page, and how many where the request does not say.
const LIMIT: (i64, i64) = (200, 100);
/// The same under `/v1`, as in Microsoft's server.
const FIRST_LIMIT: (i64, i64) = (100, 10);

/// Most events of a span that can be left out where several partitions are read: they have to be
/// looked at.
const MOST_PASSED: i64 = 10_000;

const TIME: &str = "a date and time with its zone, such as 2024-01-31T12:00:00Z, once";
const WAIT: &str = "a time such as 30s, once";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The page.
    pub query: FeedQuery,
    /// How long to wait for the first event.
    pub wait: Duration,
}

/// Reads a query; parameters that are not of the change feed are not ours to read. `is_union` says
/// that several partitions are read.
///
/// # Errors
/// 400 where one is not valid, there twice, or two do not go together.
pub fn read(uri: &Uri, is_union: bool) -> Result<Asked, Problem> {
    let is_first_version = urls::split_version(uri.path()).0 == "/v1";
    let (most, default) = if is_first_version { FIRST_LIMIT } else { LIMIT };
    let limits = if is_first_version {
        "a whole number from 1 to 100, once"
    } else {
        "a whole number from 1 to 200, once"
    };
    let (mut offset, mut limit, mut metadata, mut wait) = (None, None, None, None);
    let (mut start, mut end) = (None, None);
    for (name, value) in pairs(uri) {
        let value = value.as_ref();
        match name.as_ref() {
            "offset" => {
                let rule = "a whole number from 0, once";
                once(&mut offset, number(value, 0..=i64::MAX), "offset", rule)?;
            }
            "limit" => once(&mut limit, number(value, 1..=most), "limit", limits)?,
            "includeMetadata" => once(&mut metadata, flag(value), "includeMetadata", FLAG)?,
            "wait" => once(&mut wait, duration(value), "wait", WAIT)?,
            "startTime" => once(&mut start, moment(value), "startTime", TIME)?,
            "endTime" => once(&mut end, moment(value), "endTime", TIME)?,
            _ => {}
        }
    }
    let times = (start.is_some() || end.is_some()).then_some(FeedTimes { start, end });
    let offset = offset.unwrap_or(0);
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        return Err(Problem::invalid("endTime", "later than startTime"));
    }
    if times.is_some() && is_union && offset > MOST_PASSED {
        let rule = "at most 10000 with startTime or endTime where several partitions are read";
        return Err(Problem::invalid("offset", rule));
    }
    let wait = wait.unwrap_or_default();
    if times.is_some() && !wait.is_zero() {
        return Err(Problem::invalid("wait", "not together with startTime or endTime"));
    }
    let (limit, metadata) = (limit.unwrap_or(default), metadata.unwrap_or(true));
    Ok(Asked { query: FeedQuery { offset, limit, times, metadata }, wait })
}

/// Reads the query of the latest event: whether its metadata is wanted.
///
/// # Errors
/// As [`read`].
pub fn metadata(uri: &Uri) -> Result<bool, Problem> {
    Ok(only(uri, "includeMetadata", FLAG, flag)?.unwrap_or(true))
}

/// Where a stream of events begins: behind the event that the client had last, or the offset.
///
/// # Errors
/// 400 where the header is no number, or a span is asked for, which has no place in a stream.
pub fn resumed(headers: &HeaderMap, asked: &Asked) -> Result<i64, Problem> {
    if asked.query.times.is_some() {
        let rule = "not together with text/event-stream";
        return Err(Problem::invalid("startTime, endTime", rule));
    }
    let mut last = None;
    for value in headers.get_all("last-event-id") {
        let id = value.to_str().ok().and_then(|text| number(text.trim(), 0..=i64::MAX));
        once(&mut last, id, "Last-Event-ID", "the id of an event, once")?;
    }
    Ok(last.unwrap_or(asked.query.offset))
}

fn number(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

/// In any case: clients of Microsoft's server write `True`.
fn flag(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// Seconds, or a number with its unit.
fn duration(text: &str) -> Option<Duration> {
    match number(text, 0..=i64::from(u32::MAX)) {
        Some(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
        None => humantime::parse_duration(text).ok(),
    }
}

/// RFC 3339, which always has a zone. A plus that nobody escaped has come as a space.
fn moment(text: &str) -> Option<OffsetDateTime> {
    let text = match text.get(19..).and_then(|rest| rest.find(' ')) {
        Some(at) => format!("{}+{}", text.get(..19 + at)?, text.get(20 + at..)?),
        None => text.to_owned(),
    };
    OffsetDateTime::parse(&text, &Rfc3339).ok().filter(|at| (1..=9998).contains(&at.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Result<Asked, Problem> {
        read(&uri.parse().unwrap(), uri.contains("union"))
    }

    fn times(uri: &str) -> (Option<i64>, Option<i64>) {
        let times = asked(uri).unwrap().query.times.unwrap();
        (times.start.map(|at| at.unix_timestamp()), times.end.map(|at| at.unix_timestamp()))
    }

    #[test]
    fn defaults_are_those_of_the_version() {
        let query = FeedQuery { offset: 0, limit: 100, times: None, metadata: true };
        let whole = Asked { query, wait: Duration::ZERO };
        assert_eq!(asked("/changefeed").unwrap(), whole);
        assert_eq!(asked("/v2/changefeed?offset=").map_err(|e| e.status().as_u16()), Err(400));
        assert_eq!(asked("/v2/changefeed").unwrap(), whole);
        assert_eq!(asked("/v1/changefeed").unwrap().query.limit, 10);
        let all = "/changefeed?offset=7&limit=200&includeMetadata=False&wait=1500ms";
        let query = FeedQuery { offset: 7, limit: 200, times: None, metadata: false };
        assert_eq!(asked(all).unwrap(), Asked { query, wait: Duration::from_millis(1500) });
        assert_eq!(asked("/changefeed?wait=30").unwrap().wait, Duration::from_secs(30));
    }

    #[test]
    fn moments_have_a_zone() {
        let span = "/changefeed?startTime=1970-01-01T01:00:01%2B01:00&endTime=1970-01-01T00:00:02Z";
        assert_eq!(times(span), (Some(1), Some(2)));
        assert_eq!(times("/changefeed?startTime=1970-01-01T01:00:00+01:00"), (Some(0), None));
        let fine = "/changefeed?endTime=1970-01-01T00:00:00.1234567-00:30";
        assert_eq!(times(fine), (None, Some(1800)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, field) in [
            ("offset=-1", "offset"),
            ("offset=99999999999999999999", "offset"),
            ("offset=1&offset=1", "offset"),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=+1", "limit"),
            ("includeMetadata=1", "includeMetadata"),
            ("startTime=2024-01-01T00:00:00", "startTime"),
            ("startTime=2024-01-01", "startTime"),
            ("endTime=9999-12-31T23:59:59-12:00", "endTime"),
            ("endTime=2024-01-01T00:00:00%20%20Z", "endTime"),
            ("startTime=2024-01-01T00:00:00Z&endTime=2024-01-01T01:00:00%2B01:00", "endTime"),
            ("startTime=2024-01-01T00:00:00Z&wait=1s", "wait"),
            ("wait=soon", "wait"),
            ("wait=-1s", "wait"),
            ("union&startTime=2024-01-01T00:00:00Z&offset=10001", "offset"),
        ] {
            let problem = asked(&format!("/changefeed?{query}")).unwrap_err();
            assert_eq!(problem.status(), 400, "{query}");
            assert_eq!(problem.errors()[0].field, field, "{query}");
        }
        let problem = asked("/v1/changefeed?limit=101").unwrap_err();
        assert_eq!(problem.errors()[0].field, "limit");
    }
}
