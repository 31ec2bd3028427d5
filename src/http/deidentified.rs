//! Answers whose instances are de-identified (`anonymize=yes`, PS3.18 §9.1.2.1.4; for WADO-RS a
//! parameter of our own).
//!
//! Holds: nothing is said of what instances were called, so there is no `Content-Location`; entity
//! tags change with options and key; the audit log has that it was de-identified. Lengths are not
//! known, and there are no ranges. Absent: what is done to instances (`dicom`).

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{
    App,
    accept::Form,
    conditional,
    layers::audit::Trail,
    multipart::{Boundary, OutPart, Related, media_type_with},
    problem::Problem,
    query,
    urls::PartitionUrls,
    wado,
};
use crate::{
    archive::{ArchiveError, Deidentified, InstanceHead, Instances},
    tenancy::PartitionScope,
};

const DICOM: &str = "application/dicom";
/// What `anonymize` has to be.
pub(super) const RULE: &str = "`yes`, once, if there at all";

/// Whether a request of WADO-RS asks for it.
///
/// # Errors
/// 400.
pub(super) fn is_asked(uri: &Uri) -> Result<bool, Problem> {
    let yes = |text: &str| (text == "yes").then_some(());
    Ok(query::only(uri, "anonymize", RULE, yes)?.is_some())
}

/// The instances, de-identified.
///
/// # Errors
/// 406 where none may be given so.
pub(super) async fn answer(
    app: &App,
    scope: &PartitionScope,
    urls: &PartitionUrls,
    parts: &Parts,
    form: Form,
    instances: Instances,
) -> Result<Response, Problem> {
    Trail::of(parts).deidentified();
    let profile = app.archive.deidentification(scope).await?;
    let instances = instances.deidentified(profile);
    let wanted = format!("{form:?} {:?}", instances.instances().wanted());
    let (version, place) = (instances.version(), urls.at("/studies"));
    let pieces = ["deidentified", &version, &place, &wanted, env!("CARGO_PKG_VERSION")];
    let boundary = Boundary::of(&pieces.map(str::as_bytes));
    let etag = format!("\"{}\"", boundary.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let response = match form {
        Form::Single => one(instances).await?,
        Form::Multipart => several(instances, Related::new(DICOM, boundary)).await?,
    };
    Ok(conditional::tagged(response, &etag))
}

/// The first instance that can be given.
async fn first(instances: &mut Deidentified) -> Result<InstanceHead, Problem> {
    instances.next().await?.ok_or_else(Problem::not_found)
}

async fn one(mut instances: Deidentified) -> Result<Response, Problem> {
    let head = first(&mut instances).await?;
    let body = Body::from_stream(body(Arc::new(Mutex::new(instances))));
    let mut response = body.into_response();
    let headers: &mut HeaderMap = response.headers_mut();
    wado::set(headers, header::CONTENT_TYPE, media_type_with(DICOM, &head.transfer_syntax));
    Ok(response)
}

/// Instances that may not be given are left out.
async fn several(mut instances: Deidentified, related: Related) -> Result<Response, Problem> {
    let head = first(&mut instances).await?;
    let partial = instances.partial;
    let shared = Arc::new(Mutex::new(instances));
    let parts = stream::try_unfold((Some(head), shared), |(first, shared)| async move {
        let head = match first {
            Some(first) => first,
            None => match shared.lock().await.next().await? {
                Some(next) => next,
                None => return Ok(None),
            },
        };
        let content_type = media_type_with(DICOM, &head.transfer_syntax);
        let part = OutPart::new(content_type, body(shared.clone()).boxed());
        Ok::<_, BoxError>(Some((part, (None, shared))))
    });
    let content_type = related.content_type();
    let mut response = related.streamed(parts);
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// The bytes of the current instance.
fn body(
    shared: Arc<Mutex<Deidentified>>,
) -> impl futures::Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static {
    let chunks = stream::try_unfold(shared, |shared| async move {
        let chunk = shared.lock().await.chunk().await?;
        Ok::<_, ArchiveError>(chunk.map(|chunk| (chunk, shared)))
    });
    chunks.map_err(BoxError::from)
}
