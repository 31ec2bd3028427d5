//! Retrieve bulk values (PS3.18 §10.4.1.1.4): what a BulkDataURI of the metadata names.

use axum::{
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, Syntax, Syntaxes, candidates},
    admit::{Admitted, Read},
    frame_choice::{Label, labels},
    multipart::{Boundary, OutPart, PartStream, Related, media_type_with},
    place::Place,
    problem::Problem,
    range, wado,
};
use crate::{
    archive::{Archive, ArchiveError, Bulk, Given, Target},
    dicom::{
        Uid,
        transfer_syntax::{EXPLICIT_LITTLE, OCTET_STREAM, TransferSyntax},
    },
    tenancy::PartitionScope,
};

const OFFERS: [Offer; 2] =
    [Offer::multipart(OCTET_STREAM, Syntaxes::Any), Offer::single(OCTET_STREAM, Syntaxes::Any)];

/// Frames that are looked up at once while encapsulated pixel data is given.
const FRAMES_AT_ONCE: u32 = 256;

/// Longest path of a value: far above what `limits.element_depth` levels need.
const MAX_PATH: usize = 4096;

/// Retrieves one bulk value.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let path = params.iter().find(|(name, _)| *name == "path").map_or("", |(_, value)| value);
    if path.len() > MAX_PATH {
        return Err(Problem::not_found());
    }
    let (parts, _) = request.into_parts();
    let bulk = app.archive.bulk(caller.scope.clone(), target.clone(), path).await?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let location = match &target {
        Target::Instance { study, series, instance } => {
            caller.urls.bulk_data(study, series, instance, path)
        }
        Target::Study { .. } | Target::Series { .. } => return Err(Problem::not_found()),
    };
    if bulk.is_encapsulated() {
        return encapsulated(&app.archive, caller.scope, target, &bulk, &accept, location).await;
    }
    let choice = candidates(&accept, &OFFERS)
        .into_iter()
        .find(|choice| match &choice.syntax {
            Syntax::Uid(uid) => uid.as_str() == EXPLICIT_LITTLE || uid == bulk.transfer_syntax(),
            Syntax::Default | Syntax::Stored | Syntax::Open => true,
        })
        .ok_or_else(|| NotAcceptable::of(&OFFERS))?;
    native(&bulk, path, &choice, location, &parts.headers)
}

fn native(
    bulk: &Bulk,
    path: &str,
    choice: &Choice,
    location: String,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let total = bulk.length();
    let syntax: Uid = EXPLICIT_LITTLE.parse().map_err(Problem::internal)?;
    let content_type = media_type_with(OCTET_STREAM, &syntax);
    let boundary = Boundary::of(&[bulk.version().to_string().as_bytes(), path.as_bytes()]);
    let etag = format!("\"{}\"", boundary.as_str());
    let mut response = match choice.form {
        Form::Single => {
            // A range is read as one, not cut out of the whole.
            let wanted = range::wanted(headers, total, Some(&etag))?;
            let mut response =
                range::answer(wanted, total, |range| Body::from_stream(bulk.read(range)));
            wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
            wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
            response
        }
        Form::Multipart => {
            let body: PartStream = bulk.read(0..total).map_err(Into::into).boxed();
            let part = OutPart::new(content_type, body).with_length(total).with_location(location);
            Related::new(OCTET_STREAM, boundary).known(vec![part], headers, Some(&etag))?
        }
    };
    if let Ok(etag) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Encapsulated pixel data: its frames, one part each, as they are stored and labelled so. (Octets
/// of another syntax would need a codec; `/frames` is strict about that, a bulk value is opaque.)
async fn encapsulated(
    archive: &Archive,
    scope: PartitionScope,
    target: Target,
    bulk: &Bulk,
    accept: &AcceptSet,
    location: String,
) -> Result<Response, Problem> {
    let entry = TransferSyntax::of(bulk.transfer_syntax());
    let offers = [
        OFFERS[0],
        OFFERS[1],
        Offer::multipart(entry.media_type, Syntaxes::Any),
        Offer::single(entry.media_type, Syntaxes::Any),
    ];
    let first = archive.frames(scope.clone(), target.clone(), &[1]).await?;
    let count = first.number_of_frames();
    let stored = bulk.transfer_syntax();
    let choice = candidates(accept, &offers)
        .into_iter()
        .filter(|choice| choice.form == Form::Multipart || count == 1)
        .find(|choice| {
            let passes = |(_, label): &(Choice, Label)| label.given == Given::Stored;
            labels(std::slice::from_ref(choice), stored).iter().any(passes)
                || choice.syntax == Syntax::Default
        })
        .ok_or_else(|| NotAcceptable::of(&offers))?;
    let content_type = media_type_with(entry.media_type, stored);
    if choice.form == Form::Single {
        let body: PartStream = first.read(0).map_err(Into::into).boxed();
        let mut response = Response::new(Body::from_stream(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(first.length(0)));
        wado::set(headers, header::CONTENT_TYPE, content_type);
        wado::set(headers, header::CONTENT_LOCATION, location);
        return Ok(response);
    }
    let boundary = Boundary::of(&[bulk.version().to_string().as_bytes(), b"frames"]);
    let archive = archive.clone();
    let parts = stream::try_unfold(1_u32, move |next| {
        let (archive, scope, target) = (archive.clone(), scope.clone(), target.clone());
        let (content_type, location) = (content_type.clone(), location.clone());
        async move {
            if next > count {
                return Ok(None);
            }
            let last = count.min(next.saturating_add(FRAMES_AT_ONCE - 1));
            let numbers: Vec<u32> = (next..=last).collect();
            let frames = archive.frames(scope, target, &numbers).await?;
            let parts: Vec<OutPart> = (0..frames.len())
                .map(|at| {
                    let body: PartStream = frames.read(at).map_err(Into::into).boxed();
                    OutPart::new(content_type.clone(), body)
                        .with_length(frames.length(at))
                        .with_location(location.clone())
                })
                .collect();
            Ok::<_, ArchiveError>(Some((stream::iter(parts).map(Ok::<_, ArchiveError>), last + 1)))
        }
    });
    let media_type =
        if choice.media_type == OCTET_STREAM { OCTET_STREAM } else { entry.media_type };
    let parts = parts.try_flatten().map_err(Into::into);
    Ok(Related::new(media_type, boundary).streamed(parts))
}
