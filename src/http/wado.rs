//! Retrieve studies, series and instances (WADO-RS, PS3.18 §10.4.1.1.1–3).

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, Syntax, Syntaxes, candidates},
    admit::{Admitted, Read},
    multipart::{Boundary, OutPart, Related, media_type_with},
    place::Place,
    problem::Problem,
    urls::PartitionUrls,
};
use crate::archive::{ArchiveError, InstanceHead, Instances, Target, Wanted};

const DICOM: &str = "application/dicom";

/// A study or series has several items, whatever it holds just now: multipart only.
const SEVERAL: [Offer; 1] = [Offer::multipart(DICOM, Syntaxes::Any)];
const ONE: [Offer; 2] =
    [Offer::multipart(DICOM, Syntaxes::Any), Offer::single(DICOM, Syntaxes::Any)];

/// Retrieves the instances of a study or series, or one instance.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let offers: &[Offer] = if matches!(target, Target::Instance { .. }) { &ONE } else { &SEVERAL };
    let (parts, _) = request.into_parts();
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let choices = candidates(&accept, offers);
    let mut available = Vec::new();
    let mut forms: Vec<Form> = choices.iter().map(|choice| choice.form).collect();
    forms.dedup();
    for form in forms {
        // Each instance is given in the first of these that it can be given in.
        let wanted = choices.iter().filter(|choice| choice.form == form).map(wanted).collect();
        match app.archive.instances(caller.scope.clone(), target.clone(), wanted).await {
            Ok(instances) => return answer(form, instances, caller.urls).await,
            Err(ArchiveError::NotAcceptable { available: syntaxes }) => available = syntaxes,
            Err(error) => return Err(error.into()),
        }
    }
    if choices.is_empty() {
        // Whether it exists comes before how it could be had.
        app.archive.require(&caller.scope, &target).await?;
        return Err(NotAcceptable::of(offers).into());
    }
    Err(Problem::not_acceptable(
        offers
            .iter()
            .flat_map(|offer| available.iter().map(move |uid| describe(offer, uid)))
            .collect(),
    ))
}

fn describe(offer: &Offer, syntax: &str) -> String {
    match offer.form {
        Form::Single => format!("{}; transfer-syntax={syntax}", offer.media_type),
        Form::Multipart => {
            format!("multipart/related; type=\"{}\"; transfer-syntax={syntax}", offer.media_type)
        }
    }
}

fn wanted(choice: &Choice) -> Wanted {
    match &choice.syntax {
        Syntax::Default => Wanted::Default,
        Syntax::Open => Wanted::Open,
        Syntax::Stored => Wanted::Any,
        Syntax::Uid(uid) => Wanted::Exactly(uid.clone()),
    }
}

pub(super) async fn answer(
    form: Form,
    mut instances: Instances,
    urls: PartitionUrls,
) -> Result<Response, Problem> {
    let first = instances.next().await?.ok_or(ArchiveError::NotFound)?;
    // 206: "some but not all of the target resources" (PS3.18 Table 10.4.3-1).
    let status = if instances.partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let boundary = Boundary::of(&[instances.version.as_bytes()]);
    let mut response = match form {
        Form::Single => {
            let head = first;
            let content_type = media_type_with(DICOM, &head.transfer_syntax);
            let location = location(&urls, &head);
            let mut response =
                Body::from_stream(body(Arc::new(Mutex::new(instances)))).into_response();
            let headers = response.headers_mut();
            set(headers, header::CONTENT_TYPE, content_type);
            set(headers, header::CONTENT_LOCATION, location);
            if let Some(length) = head.length {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            response
        }
        Form::Multipart => Related::new(DICOM, boundary).streamed(parts(first, instances, urls)),
    };
    *response.status_mut() = status;
    Ok(response)
}

/// Sets a header to a value of ours.
pub(super) fn set(headers: &mut axum::http::HeaderMap, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn location(urls: &PartitionUrls, head: &InstanceHead) -> String {
    urls.instance(&head.study, &head.series, &head.instance)
}

/// One part per instance. All parts read from the same source, each to its end before the next
/// one starts, so that instances that lie side by side are read in one go.
fn parts(
    first: InstanceHead,
    instances: Instances,
    urls: PartitionUrls,
) -> impl futures::Stream<Item = Result<OutPart, BoxError>> + Send + 'static {
    let shared = Arc::new(Mutex::new(instances));
    stream::try_unfold((Some(first), shared, urls), |(first, shared, urls)| async move {
        let head = match first {
            Some(first) => first,
            None => match shared.lock().await.next().await? {
                Some(next) => next,
                None => return Ok(None),
            },
        };
        let content_type = media_type_with(DICOM, &head.transfer_syntax);
        let mut part = OutPart::new(content_type, body(shared.clone()).boxed())
            .with_location(location(&urls, &head));
        if let Some(length) = head.length {
            part = part.with_length(length);
        }
        Ok::<_, BoxError>(Some((part, (None, shared, urls))))
    })
}

/// The bytes of the current instance.
fn body(
    shared: Arc<Mutex<Instances>>,
) -> impl futures::Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static {
    let chunks = stream::try_unfold(shared, |shared| async move {
        let chunk = shared.lock().await.chunk().await?;
        Ok::<_, ArchiveError>(chunk.map(|chunk| (chunk, shared)))
    });
    chunks.map_err(BoxError::from)
}
