//! Search (QIDO-RS, PS3.18 §10.6): six resources, three levels.

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit::{Admitted, Search},
    charset::Charset,
    metadata::XML,
    multipart::{Boundary, OutPart, Related},
    place::Place,
    problem::Problem,
    urls::split_version,
};
use crate::{
    archive::{SearchPage, SearchRow},
    dicom::attributes::Level,
    query::{self, Resource},
};

/// The agent of `Warning: 299` (RFC 7234 §5.5).
pub(super) const AGENT: &str = "collimator";

/// Names the extended query tags of a search some of whose values could not be indexed, as
/// Microsoft's server does.
const ERRONEOUS: HeaderName = HeaderName::from_static("erroneous-dicom-attributes");

/// Longest link to the next page, in bytes: headers are bounded by clients and proxies.
const MAX_LINK: usize = 4096;

/// What a link escapes besides what a URL has to: what ends it in the header.
const LINKED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// `GET /studies`
pub async fn studies(
    State(app): State<App>,
    caller: Admitted<Search>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    search(app, caller, place, Level::Study, request).await
}

/// `GET /series`, `GET /studies/{study}/series`
pub async fn series(
    State(app): State<App>,
    caller: Admitted<Search>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    search(app, caller, place, Level::Series, request).await
}

/// `GET /instances`, `GET /studies/{study}/instances`,
/// `GET /studies/{study}/series/{series}/instances`
pub async fn instances(
    State(app): State<App>,
    caller: Admitted<Search>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    search(app, caller, place, Level::Instance, request).await
}

async fn search(
    app: App,
    caller: Admitted<Search>,
    place: Place,
    level: Level,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let media_type = choose(&accept, &offers::SEARCH)?.media_type;
    let charset = Charset::of(&parts.headers, parts.uri.query(), media_type)?;
    let resource = Resource { level, study: place.study, series: place.series };
    let typed = parts.uri.query().unwrap_or_default();
    let tags = match query::may_name_tags(typed)? {
        true => app.archive.search_tags(&caller.scope).await?,
        false => Vec::new(),
    };
    let mut query = query::read(&resource, typed, &app.search, &tags)?;
    query.returned.partition = app.partitions.enabled();
    let (limit, offset) = (query.plan.limit, query.plan.offset);
    let urls = Arc::new(caller.urls);
    let own = urls.clone();
    let retrieve_url = Arc::new(move |row: &SearchRow| {
        let urls = own.within(&row.partition);
        match (&row.series, &row.instance) {
            (Some(series), Some(instance)) => urls.instance(&row.study, series, instance),
            (Some(series), None) => urls.series(&row.study, series),
            _ => urls.study(&row.study),
        }
    });
    let page = app
        .archive
        .search(caller.scope, query.plan, query.filters, query.returned, retrieve_url)
        .await?;
    let mut warnings = query.warnings;
    let remaining = page.remaining;
    if remaining > 0 {
        warnings.push(format!("There are {remaining} additional results that can be requested"));
    }
    let mut response = if page.results == 0 && app.search.no_match == 204 {
        StatusCode::NO_CONTENT.into_response()
    } else {
        answer(page, media_type, charset, &parts.uri)?
    };
    let headers = response.headers_mut();
    if remaining > 0
        && let Some(link) = next_page(urls.service(), &parts.uri, (limit, offset))
    {
        headers.insert(header::LINK, link);
    }
    if let Ok(names) = HeaderValue::try_from(query.erroneous.join(","))
        && !names.is_empty()
    {
        headers.insert(ERRONEOUS, names);
    }
    for warning in warnings {
        if let Ok(value) = HeaderValue::try_from(format!("299 {AGENT}: {warning}")) {
            headers.append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// `Link` to the next page (RFC 8288), in the client's own style: the query as it was typed, with the
/// offset moved on. `None` where no page follows, or the link would be too long.
pub(super) fn next_page(
    service: &str,
    uri: &Uri,
    (limit, offset): (i64, i64),
) -> Option<HeaderValue> {
    if limit < 1 {
        return None;
    }
    let (_, path) = split_version(uri.path());
    let pages = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        name == "limit" || name == "offset"
    };
    let mut query: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
    query.retain(|pair| !pair.is_empty() && !pages(pair));
    let paging = format!("limit={limit}&offset={}", offset.checked_add(limit)?);
    query.push(&paging);
    let url = format!("{service}{path}?{}", query.join("&"));
    let link = format!("<{}>; rel=\"next\"", utf8_percent_encode(&url, LINKED));
    HeaderValue::try_from(link).ok().filter(|link| link.len() <= MAX_LINK)
}

/// The results. The boundary follows from the question, so that it is the same the next time; no
/// result can hold it at the beginning of a line, since XML is written without ends of lines.
fn answer(
    mut page: SearchPage,
    media_type: &'static str,
    charset: Charset,
    uri: &Uri,
) -> Result<Response, Problem> {
    if media_type == XML {
        let boundary = Boundary::of(&[b"search", uri.to_string().as_bytes()]);
        let content_type = charset.parameterised(XML);
        let documents = page.documents(charset.xml()).map_err(BoxError::from);
        let parts = documents.map_ok(move |xml| OutPart::whole(content_type.clone(), xml));
        return Ok(Related::new(XML, boundary).streamed(parts));
    }
    let body = match page.whole_array()? {
        Some(json) => Body::from(charset.json(json)),
        None => Body::from_stream(page.array().map_ok(move |json| charset.json(json))),
    };
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, charset.content_type(media_type));
    Ok(response)
}
