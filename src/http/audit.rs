//! The audit log for auditors: `GET /audit`, of a partition; at the root, for operators, that of the
//! platform.
//!
//! A page, newest first, or as `application/x-ndjson` all that fits, as it is read. A page goes on
//! behind the last event of the one before, so that what happens meanwhile moves nothing. The reading
//! is itself an event of the log.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, State},
    http::{HeaderValue, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit,
    carrier::Carried,
    layers::audit::Trail,
    problem::Problem,
    shown::no_store,
    urls::PartitionUrls,
};
use crate::{
    archive::ArchiveError,
    audit::Outcome,
    control::{AuditCursor, AuditEntry, AuditFilter},
    dicom::Uid,
    tenancy::{Named, PartitionScope, Permission},
};

/// Most events of a page, and how many where the request does not say.
const PAGE: (i64, i64) = (1000, 100);
/// Events that are read at a time for an export.
const CHUNK: i64 = 500;
/// Longest value of a filter, in bytes.
const LONGEST: usize = 256;
const LINES: &str = "application/x-ndjson";

/// A request that may read a log.
pub struct Reader {
    scope: PartitionScope,
    /// Where the log is, without the query.
    href: String,
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        const PERMISSION: Permission = Permission::ReadAudit;
        let carried = Carried::read(parts, &app.server, &app.tenancy, PERMISSION)?;
        let urls = admit::urls(app, parts, &carried)?;
        if app.partitions.enabled() && carried.named == Named::Nothing {
            let caller = admit::identify(app, parts, PERMISSION, &carried.named).await?;
            // Who is no operator may mean its only partition.
            if let Some(scope) = app.audit.platform_scope(&caller.who) {
                let deed = std::sync::Arc::new(caller.deed(parts, PERMISSION));
                Trail::of(parts).admitted_to_platform(&deed);
                return Ok(Self { scope, href: format!("{}/audit", urls.service()) });
            }
        }
        let (_, scope) = admit::decide(app, parts, &carried, PERMISSION).await?;
        let (scope, urls): (_, PartitionUrls) = admit::one(scope, &urls)?;
        Ok(Self { scope, href: urls.at("/audit") })
    }
}

/// `GET /audit`
pub async fn read(
    State(app): State<App>,
    reader: Reader,
    uri: Uri,
    headers: axum::http::HeaderMap,
) -> Result<Response, Problem> {
    let accept = AcceptSet::of(&headers, uri.query(), app.retrieve.missing_accept);
    let media_type = choose(&accept, &offers::AUDIT)?.media_type;
    let asked = Asked::read(uri.query().unwrap_or_default())?;
    if media_type == LINES {
        return Ok(export(app, reader.scope, asked));
    }
    let limit = asked.limit;
    let found = app.audit.entries(&reader.scope, &asked.filter, asked.after, limit).await;
    let entries = found.map_err(ArchiveError::from)?;
    let shown: Vec<Value> = entries.iter().map(shown).collect();
    let mut response = axum::Json(shown).into_response();
    if let Some(last) = entries.last().filter(|_| entries.len() as i64 == limit) {
        let next = format!("<{}?{}>; rel=\"next\"", reader.href, asked.going_on(&last.at));
        if let Ok(next) = HeaderValue::from_str(&next) {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(no_store(response))
}

/// All that fits, one event a line.
fn export(app: App, scope: PartitionScope, asked: Asked) -> Response {
    let most = asked.wants_all.then_some(asked.limit);
    let state = Some((app, scope, asked.filter, asked.after, most));
    let lines = stream::try_unfold(state, |state| async move {
        let Some((app, scope, filter, after, left)) = state else { return Ok(None) };
        let limit = left.unwrap_or(CHUNK).min(CHUNK);
        let entries = app.audit.entries(&scope, &filter, after, limit).await?;
        let mut text = String::new();
        for entry in &entries {
            text.push_str(&shown(entry).to_string());
            text.push('\n');
        }
        let left = left.map(|left| left - entries.len() as i64);
        let goes_on = entries.len() as i64 == limit && left != Some(0);
        let after = entries.last().map(|entry| entry.at);
        let next = goes_on.then_some((app, scope, filter, after, left));
        Ok::<_, crate::control::AuditError>(Some((Bytes::from(text), next)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    no_store(response)
}

/// An event as it is shown: its place in the chain, and its record as it is kept.
fn shown(entry: &AuditEntry) -> Value {
    let mut shown = json!({});
    if let Some((number, hash)) = &entry.link {
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        shown = json!({ "number": number, "hash": hash });
    }
    let record = serde_json::from_str::<Box<RawValue>>(&entry.record).ok();
    let record = record.and_then(|raw| serde_json::to_value(raw).ok());
    shown["event"] = record.unwrap_or(Value::Null);
    shown
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    filter: AuditFilter,
    after: Option<AuditCursor>,
    limit: i64,
    /// Whether the request says how many.
    wants_all: bool,
    /// The query without the cursor.
    rest: Vec<(String, String)>,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut asked = Self { limit: PAGE.1, ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let text = || match value.len() {
                1..=LONGEST if !value.contains('\0') => Ok(Some(value.clone().into_owned())),
                _ => Err(Problem::invalid(own(&name), "1 to 256 bytes, without NUL")),
            };
            let filter = &mut asked.filter;
            match &*name {
                "issuer" => filter.issuer = text()?,
                "principal" => filter.subject = text()?,
                "action" => filter.action = text()?,
                "request" => filter.request = text()?,
                "outcome" => {
                    let rule = "one of success, refused and failed";
                    let outcome = Outcome::of(&value);
                    let outcome = outcome.ok_or_else(|| Problem::invalid("outcome", rule))?;
                    filter.outcome = Some(outcome.as_str().to_owned());
                }
                "study" => {
                    let uid: Result<Uid, _> = value.parse();
                    let uid = uid.map_err(|_| Problem::invalid("study", "a UID"))?;
                    filter.study = Some(uid.as_str().to_owned());
                }
                "since" => filter.since = Some(moment("since", &value)?),
                "until" => filter.until = Some(moment("until", &value)?),
                "after" => asked.after = Some(cursor(&value)?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE.0).contains(limit));
                    let rule = "a whole number from 1 to 1000";
                    asked.limit = limit.ok_or_else(|| Problem::invalid("limit", rule))?;
                    asked.wants_all = true;
                }
                _ => continue,
            }
            if name != "after" {
                asked.rest.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(asked)
    }

    /// The query of the page behind an event.
    fn going_on(&self, (at, id): &AuditCursor) -> String {
        let after = format!("{}-{}", at.unix_timestamp_nanos() / 1000, id.simple());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.rest).append_pair("after", &after);
        query.finish()
    }
}

/// The name of a parameter as it is written here.
fn own(name: &str) -> &'static str {
    let names = ["issuer", "principal", "action", "request"];
    names.into_iter().find(|own| *own == name).unwrap_or("query")
}

fn moment(name: &'static str, text: &str) -> Result<OffsetDateTime, Problem> {
    let read = OffsetDateTime::parse(text, &Rfc3339).ok();
    // What Postgres can hold, and more than anybody asks for.
    let read = read.filter(|at| (1..=9998).contains(&at.year()));
    read.ok_or_else(|| Problem::invalid(name, "a moment with its time zone, as in RFC 3339"))
}

fn cursor(text: &str) -> Result<AuditCursor, Problem> {
    let read = || {
        let (micros, id) = text.split_once('-')?;
        let micros: i128 = micros.parse::<i64>().ok()?.into();
        let at = OffsetDateTime::from_unix_timestamp_nanos(micros * 1000).ok()?;
        let id = Uuid::try_parse(id).ok()?;
        (1..=9998).contains(&at.year()).then_some((at, id))
    };
    read().ok_or_else(|| Problem::invalid("after", "as in the link of a page"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_page_leads_to_the_next_with_the_same_question() {
        let query = "principal=a%26b&since=2026-01-01T00:00:00Z&limit=2&x=1";
        let asked = Asked::read(query).unwrap();
        assert_eq!(asked.filter.subject.as_deref(), Some("a&b"));
        assert_eq!(asked.filter.since, Some(datetime!(2026-01-01 0:00 UTC)));
        assert_eq!(asked.limit, 2);
        let at = (datetime!(2026-01-02 3:04:05.123456 UTC), Uuid::from_u128(7));
        let next = Asked::read(&asked.going_on(&at)).unwrap();
        assert_eq!(next.after, Some(at));
        assert_eq!((next.filter, next.limit, next.rest), (asked.filter, 2, asked.rest));
    }

    #[test]
    fn what_is_no_filter_is_refused_by_its_name() {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("since=yesterday", "since"),
            ("until=2026-01-01", "until"),
            ("study=1..2", "study"),
            ("outcome=fine", "outcome"),
            ("after=1", "after"),
            ("after=99999999999999999999-00000000000000000000000000000000", "after"),
            ("after=9223372036854775807-00000000000000000000000000000000", "after"),
            ("principal=", "principal"),
            ("action=%00", "action"),
        ] {
            let problem = Asked::read(query).unwrap_err();
            assert_eq!(problem.errors()[0].field, field, "{query}");
        }
    }
}
