//! Search (QIDO-RS, PS3.18 §10.6): six resources, three levels.

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit::{Admitted, Search},
    charset::Charset,
    metadata::XML,
    multipart::{Boundary, OutPart, Related},
    place::Place,
    problem::Problem,
    search_query::{self, Resource},
};
use crate::{
    archive::{SearchPage, SearchRow},
    dicom::attributes::Level,
};

/// The agent of `Warning: 299` (RFC 7234 §5.5).
const AGENT: &str = "collimator";

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
    let mut query =
        search_query::read(&resource, parts.uri.query().unwrap_or_default(), &app.search)?;
    query.returned.partition = app.partitions.enabled();
    let urls = caller.urls;
    let retrieve_url = Arc::new(move |row: &SearchRow| {
        let urls = urls.within(&row.partition);
        match (&row.series, &row.instance) {
            (Some(series), Some(instance)) => urls.instance(&row.study, series, instance),
            (Some(series), None) => urls.series(&row.study, series),
            _ => urls.study(&row.study),
        }
    });
    let page = app.archive.search(caller.scope, query.plan, query.returned, retrieve_url).await?;
    let mut warnings = query.warnings;
    if page.remaining > 0 {
        let remaining = page.remaining;
        warnings.push(format!("There are {remaining} additional results that can be requested"));
    }
    let mut response = if page.results == 0 && app.search.no_match == 204 {
        StatusCode::NO_CONTENT.into_response()
    } else {
        answer(page, media_type, charset, &parts.uri)
    };
    for warning in warnings {
        if let Ok(value) = HeaderValue::try_from(format!("299 {AGENT}: {warning}")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// The results. The boundary follows from the question, so that it is the same the next time; no
/// result can hold it at the beginning of a line, since XML is written without ends of lines.
fn answer(page: SearchPage, media_type: &'static str, charset: Charset, uri: &Uri) -> Response {
    if media_type == XML {
        let boundary = Boundary::of(&[b"search", uri.to_string().as_bytes()]);
        let content_type = charset.parameterised(XML);
        let documents = page.documents(charset.xml()).map_err(BoxError::from);
        let parts = documents.map_ok(move |xml| OutPart::whole(content_type.clone(), xml));
        return Related::new(XML, boundary).streamed(parts);
    }
    let body = page.array().map_ok(move |json| charset.json(json));
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, charset.content_type(media_type));
    response
}
