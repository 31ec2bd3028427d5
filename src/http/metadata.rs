//! Retrieve metadata (PS3.18 §10.4.1.1.5) as DICOM JSON or XML at three levels.

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    App,
    accept::{
        AcceptSet, Choice, Form, NotAcceptable, Offer, choose,
        offers::{METADATA, METADATA_ONE},
    },
    admit::{Admitted, Read},
    charset::Charset,
    conditional,
    multipart::{Boundary, OutPart, Related},
    place::Place,
    problem::Problem,
    urls::PartitionUrls,
};
use crate::archive::{ArchiveError, Document, Metadata, Target};

/// The Native DICOM Model.
pub(super) const XML: &str = "application/dicom+xml";

/// What can be had of one instance, and of more: all but the single document.
fn offers(target: &Target) -> &'static [Offer] {
    match target {
        Target::Instance { .. } => &METADATA_ONE,
        Target::Study { .. } | Target::Series { .. } => &METADATA,
    }
}

/// Retrieves the metadata of a study, series or instance.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let (parts, _) = request.into_parts();
    let query = parts.uri.query();
    let accept = AcceptSet::of(&parts.headers, query, app.retrieve.missing_accept);
    let version = super::wado::version(&parts.headers)?;
    let offers = offers(&target);
    let chosen = choose(&accept, offers).map_err(|_| Problem::from(NotAcceptable::of(offers)));
    let chosen = chosen.and_then(|choice| {
        let charset = Charset::of(&parts.headers, query, choice.media_type)?;
        Ok((choice, charset))
    });
    let (choice, charset) = match chosen {
        Ok(chosen) => chosen,
        Err(problem) => {
            app.archive.require(&caller.scope, &target).await?;
            return Err(problem);
        }
    };
    let urls = caller.urls.clone();
    let base = Arc::new(move |study: &_, series: &_, instance: &_| {
        let (before, after) = urls.bulk_data_around(study, series, instance);
        (before.trim_end_matches('/').to_owned(), after.to_owned())
    });
    let metadata = app.archive.metadata(caller.scope, target, version, base).await?;
    let etag = etag(&metadata.version, &choice, charset, &caller.urls);
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let response = if choice.media_type == XML {
        documents(metadata, &choice, charset, caller.urls).await?
    } else {
        let body = metadata.array().map_ok(move |json| charset.json(json));
        let mut response = Body::from_stream(body).into_response();
        let content_type = charset.content_type(choice.media_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    Ok(conditional::tagged(response, &etag))
}

/// Everything that the bytes of the answer depend on: what is stored, the form, the URIs in it,
/// and how this version writes them.
fn etag(version: &str, choice: &Choice, charset: Charset, urls: &PartitionUrls) -> String {
    let form = format!("{:?} {}", choice.form, choice.media_type);
    let place = urls.at("/studies");
    let pieces = [version, &form, charset.mark(), &place, env!("CARGO_PKG_VERSION")];
    format!("\"{}\"", Boundary::of(&pieces.map(str::as_bytes)).as_str())
}

/// One document for each instance; where the answer is no multipart, there is one.
async fn documents(
    metadata: Metadata,
    choice: &Choice,
    charset: Charset,
    urls: PartitionUrls,
) -> Result<Response, Problem> {
    let pieces = [metadata.version.as_bytes(), XML.as_bytes(), charset.mark().as_bytes()];
    let boundary = Boundary::of(&pieces);
    let mut documents = metadata.documents(charset.xml());
    // Made before the status is sent: what goes wrong with it still has a status of its own.
    let first = documents.next().await.ok_or(ArchiveError::NotFound)??;
    let content_type = charset.parameterised(XML);
    if choice.form == Form::Single {
        let location = location(&urls, &first);
        let mut response = Body::from(first.xml).into_response();
        super::wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
        super::wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
        return Ok(response);
    }
    let all = stream::iter([Ok(first)]).chain(documents).map_err(BoxError::from);
    let parts = all.map_ok(move |document| {
        let location = location(&urls, &document);
        OutPart::whole(content_type.clone(), document.xml).with_location(location)
    });
    Ok(Related::new(XML, boundary).streamed(parts))
}

fn location(urls: &PartitionUrls, of: &Document) -> String {
    let Document { study, series, instance, .. } = of;
    urls.at(&format!("/studies/{study}/series/{series}/instances/{instance}/metadata"))
}
