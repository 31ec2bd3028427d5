//! Retrieve metadata (PS3.18 §10.4.1.1.5) as DICOM JSON at three levels.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    App,
    accept::{AcceptSet, NotAcceptable, Offer, choose},
    admit::{Admitted, Read},
    conditional,
    place::Place,
    problem::Problem,
};

/// One JSON array, never multipart (PS3.18 Table 10.4.4-1).
const OFFERS: [Offer; 2] =
    [Offer::plain("application/dicom+json"), Offer::plain("application/json")];

/// Retrieves the metadata of a study, series or instance.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let (parts, _) = request.into_parts();
    let urls = Arc::new(caller.urls);
    let base = Arc::new(move |study: &_, series: &_, instance: &_| {
        let (before, after) = urls.bulk_data_around(study, series, instance);
        (before.trim_end_matches('/').to_owned(), after.to_owned())
    });
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let choice = match choose(&accept, &OFFERS) {
        Ok(choice) => choice,
        Err(NotAcceptable { .. }) => {
            app.archive.require(&caller.scope, &target).await?;
            return Err(NotAcceptable::of(&OFFERS).into());
        }
    };
    let metadata = app.archive.metadata(caller.scope, target, base).await?;
    // Weak: the answer may be compressed on its way out, and URLs differ with the host asked.
    let etag = format!("W/\"{}\"", metadata.version);
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let mut response = Body::from_stream(metadata.body).into_response();
    let content_type = HeaderValue::from_static(choice.media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(conditional::tagged(response, &etag))
}
