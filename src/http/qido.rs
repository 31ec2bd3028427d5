//! Search (QIDO-RS, PS3.18 §10.6): six resources, three levels.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    App,
    accept::{AcceptSet, Offer, choose},
    admit::{Admitted, Search},
    place::Place,
    problem::Problem,
    search_query::{self, Resource},
};
use crate::{archive::SearchRow, dicom::attributes::Level};

const OFFERS: [Offer; 2] =
    [Offer::plain("application/dicom+json"), Offer::plain("application/json")];

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
    let media_type = choose(&accept, &OFFERS)?.media_type;
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
        let mut response = Body::from_stream(page.body).into_response();
        let content_type = HeaderValue::from_static(media_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    for warning in warnings {
        if let Ok(value) = HeaderValue::try_from(format!("299 {AGENT}: {warning}")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}
