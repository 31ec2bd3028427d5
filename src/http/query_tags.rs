//! Extended query tags: attributes that Search matches besides its own.
//!
//! The JSON is that of Microsoft's server. A request that names a partition speaks of the tags that
//! the partition sees; one that names none, of those of all partitions.

use std::ops::RangeInclusive;

use axum::{
    Json,
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, ManageTags, ReadTags, TagUrls},
    json_body, new_tags, place,
    problem::Problem,
    query,
};
use crate::{
    archive::{QueryTag, TagError, TagRefusal, TagStatus},
    dicom::{Tag, attributes::Level, json::name},
};

/// Most entries of a page, and how many where the request does not say.
const PAGE: (i64, i64) = (200, 100);

/// `{tag}` of a path: an attribute.
pub struct Named(Tag);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "tag").await?;
        let rule = "eight hexadecimal digits, or a keyword of an attribute";
        new_tags::path(&text).map(Self).ok_or_else(|| Problem::invalid("tag", rule))
    }
}

/// `POST /extendedquerytags`
pub async fn add(
    State(app): State<App>,
    caller: Admitted<ManageTags>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let tags = new_tags::read(body)?;
    let operation = app.archive.add_tags(&caller.scope, &tags).await.map_err(refused)?;
    let href = operation_href(&caller.urls, operation);
    let body = Json(json!({ "id": operation.simple().to_string(), "href": href }));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, href)], body).into_response())
}

/// `GET /extendedquerytags`
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadTags>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let tags = app.archive.tags(&caller.scope, page(&uri)?).await?;
    Ok(Json(tags.iter().map(|tag| entry(tag, &caller.urls)).collect()))
}

/// `GET /extendedquerytags/{tag}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadTags>,
    Named(path): Named,
) -> Result<Json<Value>, Problem> {
    let tag = app.archive.tag(&caller.scope, path).await?;
    Ok(Json(entry(&tag, &caller.urls)))
}

/// `PATCH /extendedquerytags/{tag}`
pub async fn change(
    State(app): State<App>,
    caller: Admitted<ManageTags>,
    Named(path): Named,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let enabled = query_status(json_body::read(&parts.headers, body, &app.limits).await?)?;
    let tag = app.archive.set_tag_query(&caller.scope, path, enabled).await?;
    Ok(Json(entry(&tag, &caller.urls)))
}

/// `DELETE /extendedquerytags/{tag}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManageTags>,
    Named(path): Named,
) -> Result<StatusCode, Problem> {
    app.archive.delete_tag(&caller.scope, path).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /extendedquerytags/{tag}/errors`
pub async fn errors(
    State(app): State<App>,
    caller: Admitted<ReadTags>,
    Named(path): Named,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let errors = app.archive.tag_errors(&caller.scope, path, page(&uri)?).await?;
    Ok(Json(errors.iter().map(error_entry).collect()))
}

/// `limit` and `offset` of a query; others are not ours to read.
///
/// # Errors
/// 400 where one is no number in its range, or there twice.
pub fn page(uri: &Uri) -> Result<(i64, i64), Problem> {
    let number = |text: &str, range: RangeInclusive<i64>| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && range.contains(number))
    };
    let limits = "a whole number from 1 to 200, once";
    let limit = query::only(uri, "limit", limits, |text| number(text, 1..=PAGE.0))?;
    let offsets = "a whole number from 0, once";
    let offset = query::only(uri, "offset", offsets, |text| number(text, 0..=i64::MAX))?;
    Ok((limit.unwrap_or(PAGE.1), offset.unwrap_or(0)))
}

fn query_status(body: Value) -> Result<bool, Problem> {
    let rule = "\"enabled\" or \"disabled\"";
    let Value::Object(object) = body else {
        return Err(Problem::invalid("queryStatus", rule));
    };
    let members = json_body::members(object);
    if members.keys().any(|name| name != "querystatus") {
        return Err(Problem::bad_request("only queryStatus can be changed"));
    }
    let status = members.get("querystatus").and_then(Value::as_str).map(str::to_ascii_lowercase);
    match status.as_deref() {
        Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        _ => Err(Problem::invalid("queryStatus", rule)),
    }
}

fn refused(refusal: TagRefusal) -> Problem {
    match refusal {
        TagRefusal::Exists(places) => {
            let problem = Problem::conflict("one or more of the extended query tags exist already");
            places.into_iter().fold(problem, |problem, place| {
                problem.with_error(format!("[{place}].path"), "exists already")
            })
        }
        TagRefusal::TooMany { limit } => Problem::bad_request(
            "with these there would be more extended query tags than this server allows",
        )
        .with_error("extended_query_tags.max_count", format!("at most {limit}")),
        TagRefusal::OfRoot => Problem::conflict(
            "the extended query tag holds for all partitions; delete it at the root",
        ),
        TagRefusal::Archive(error) => error.into(),
    }
}

/// Where an operation is asked for.
pub fn operation_href(urls: &TagUrls, id: Uuid) -> String {
    urls.at(&format!("/operations/{}", id.simple()))
}

fn entry(tag: &QueryTag, urls: &TagUrls) -> Value {
    let path = name(tag.tag.path);
    let mut entry = json!({
        "path": path,
        "vr": tag.tag.vr.to_string(),
        "level": match tag.tag.level {
            Level::Study => "study",
            Level::Series => "series",
            Level::Instance => "instance",
        },
        "status": match tag.status {
            TagStatus::Adding => "adding",
            TagStatus::Ready => "ready",
            TagStatus::Deleting => "deleting",
        },
        "queryStatus": if tag.is_enabled { "enabled" } else { "disabled" },
    });
    if let Some(creator) = &tag.tag.creator {
        entry["privateCreator"] = json!(creator);
    }
    if tag.errors > 0 {
        let href = urls.at(&format!("/extendedquerytags/{path}/errors"));
        entry["errors"] = json!({ "count": tag.errors, "href": href });
    }
    if tag.status == TagStatus::Adding {
        let (id, href) = (tag.operation.simple().to_string(), operation_href(urls, tag.operation));
        entry["operation"] = json!({ "id": id, "href": href });
    }
    entry
}

fn error_entry(error: &TagError) -> Value {
    json!({
        "partitionName": error.partition.as_str(),
        "studyInstanceUid": error.study.as_str(),
        "seriesInstanceUid": error.series.as_str(),
        "sopInstanceUid": error.instance.as_str(),
        "createdTime": error.created_at.format(&Rfc3339).unwrap_or_default(),
        "errorMessage": error.reason,
    })
}
