//! Retrieve rendered instances and frames (PS3.18 §10.4.1.1.3): pictures, texts and films that a
//! browser shows. Studies and series are in [`super::rendered_set`].
//!
//! Holds: what can be had follows from the kind of the instance; a client that has the picture
//! already is told so before anything is decoded. Absent: drawing (`render`), the work on the codec
//! pool (`archive`).

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, candidates, offers},
    admit::{Admitted, Read},
    conditional, frames,
    multipart::{Boundary, OutPart, PartStream, Related},
    place::Place,
    problem::Problem,
    range, rendered_set, rendered_state,
    urls::PartitionUrls,
    view_query::{self, ViewQuery},
    wado,
};
use crate::{
    archive::{ArchiveError, Kind, RENDERING, Rendering, Target},
    render::{
        Format, View,
        document::{DocumentFormat, Links},
    },
};

/// Frames of one answer that are drawn while others are sent.
pub(super) const AHEAD: usize = 2;

/// The agent of `Warning: 299` (RFC 7234 §5.5).
const AGENT: &str = "collimator";

/// Retrieves a study, series or instance as pictures and texts.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let read = view_query::rendered(parts.uri.query().unwrap_or_default())?;
    let target = place.target()?;
    let response = match target {
        Target::Instance { .. } => {
            let rendering = app.archive.rendering(caller.scope, target).await?;
            let accept = accept(&app, &parts);
            answer(&rendering, None, &read.view, &accept, &caller.urls, &parts).await?
        }
        Target::Study { .. } | Target::Series { .. } => {
            rendered_set::answer(&app, caller, target, &read.view, &parts).await?
        }
    };
    Ok(warned(response, &read.unsupported))
}

/// Retrieves frames as pictures, in the order of the list.
pub async fn retrieve_frames(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let numbers = frames::numbers(&params)?;
    let (parts, _) = request.into_parts();
    let read = view_query::rendered(parts.uri.query().unwrap_or_default())?;
    let rendering = app.archive.rendering(caller.scope, place.target()?).await?;
    let frames = Some(numbers.as_slice());
    let accept = accept(&app, &parts);
    let response = answer(&rendering, frames, &read.view, &accept, &caller.urls, &parts).await?;
    Ok(warned(response, &read.unsupported))
}

pub(super) fn accept(app: &App, parts: &Parts) -> AcceptSet {
    AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept)
}

/// Says which keywords of `annotation` are not supported (PS3.18 §8.3.5.1.1).
pub(super) fn warned(mut response: Response, unsupported: &[String]) -> Response {
    if !unsupported.is_empty() {
        let text = format!(
            "299 {AGENT}: The following annotation values are not supported: {}",
            unsupported.join(", ")
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Where links of documents lead.
pub(super) fn links(urls: &PartitionUrls) -> Links {
    let (studies, query) = urls.studies_around();
    Links { studies, query: query.to_owned() }
}

/// The `Content-Type` of a representation.
pub(super) fn content_type(media_type: &str) -> String {
    if media_type.starts_with("text/") {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.to_owned()
    }
}

/// The URL of the rendered representation of a target, or of one of its frames.
pub(super) fn location(urls: &PartitionUrls, target: &Target, frame: Option<u32>) -> String {
    below(urls, target, frame, "/rendered")
}

/// The URL of a resource of a target, or of one of its frames.
pub(super) fn below(
    urls: &PartitionUrls,
    target: &Target,
    frame: Option<u32>,
    resource: &str,
) -> String {
    let mut path = format!("/studies/{}", target.study());
    if let Some(series) = target.series() {
        path += &format!("/series/{series}");
    }
    if let Some(instance) = target.instance() {
        path += &format!("/instances/{instance}");
    }
    if let Some(frame) = frame {
        path += &format!("/frames/{frame}");
    }
    urls.at(&(path + resource))
}

/// What of `all` an instance can be given as; the first of each form is the default of its kind.
pub(super) fn offers(kind: Kind, all: &[Offer]) -> Vec<Offer> {
    let shows = |media_type: &str| match kind {
        Kind::Image => view_query::format(media_type, 1).is_some(),
        Kind::Video(stored) => media_type == stored,
        Kind::Document(formats) => formats.iter().any(|format| format.media_type() == media_type),
        Kind::State | Kind::Other => false,
    };
    let mut offers: Vec<Offer> =
        all.iter().filter(|offer| shows(offer.media_type)).copied().collect();
    if let Kind::Document(formats) = kind {
        // What the document is by itself comes first.
        let place = |offer: &Offer| {
            formats.iter().position(|format| format.media_type() == offer.media_type)
        };
        offers.sort_by_key(place);
    }
    if let Some(first) = offers.first_mut() {
        *first = first.by_default();
    }
    offers
}

/// The answer for an instance, or for a list of its frames.
pub(super) async fn answer(
    rendering: &Rendering,
    frames: Option<&[u32]>,
    view: &ViewQuery,
    accept: &AcceptSet,
    urls: &PartitionUrls,
    parts: &Parts,
) -> Result<Response, Problem> {
    if rendering.kind() == Kind::State && frames.is_none() {
        return rendered_state::answer(rendering, view, accept, urls, parts).await;
    }
    let offers = can(rendering, frames)?;
    let choice = candidates(accept, &offers).into_iter().next();
    let choice = choice.ok_or_else(|| NotAcceptable::of(&offers))?;
    give(rendering, frames, view, &choice, urls, parts).await
}

/// What an instance, or some of its frames, can be given as: at least one thing.
fn can(rendering: &Rendering, frames: Option<&[u32]>) -> Result<Vec<Offer>, Problem> {
    if frames.is_some_and(|list| list.iter().any(|number| *number > rendering.frames())) {
        return Err(ArchiveError::NoSuchFrame.into());
    }
    let several = frames.is_some_and(|list| list.len() > 1);
    let all: &[Offer] = if several { &offers::RENDERED_PARTS } else { &offers::RENDERED };
    let offers = self::offers(rendering.kind(), all);
    if offers.is_empty() { Err(nothing_to_show()) } else { Ok(offers) }
}

/// An instance, or some of its frames, as chosen.
pub(super) async fn give(
    rendering: &Rendering,
    frames: Option<&[u32]>,
    view: &ViewQuery,
    choice: &Choice,
    urls: &PartitionUrls,
    parts: &Parts,
) -> Result<Response, Problem> {
    let kind = rendering.kind();
    if matches!(kind, Kind::Image | Kind::Video(_)) {
        view.fits(choice.media_type)?;
    }
    // Documents hold links, which are of the address that was asked.
    let list = match kind {
        Kind::Document(_) => format!("{:?}", links(urls)),
        _ => format!("{frames:?}"),
    };
    let version = rendering.image().version();
    let boundary = boundary(&version.to_string(), choice, view, &list);
    let etag = format!("\"{}\"", boundary.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let answer = Answer { rendering, view, urls, headers: &parts.headers, etag: &etag };
    let response = match kind {
        Kind::Video(_) => answer.video(choice, boundary).await?,
        Kind::Document(formats) => answer.document(choice, formats, boundary).await?,
        _ => answer.image(choice, frames, boundary).await?,
    };
    Ok(conditional::tagged(response, &etag))
}

/// What tells one answer from another: which bytes, which view of them, and how they are packed.
pub(super) fn boundary(version: &str, choice: &Choice, view: &ViewQuery, list: &str) -> Boundary {
    let how = format!("{:?} {} {view:?}", choice.form, choice.media_type);
    Boundary::of(&[
        b"rendered",
        &RENDERING.to_be_bytes(),
        version.as_bytes(),
        how.as_bytes(),
        list.as_bytes(),
    ])
}

/// The instance has nothing to look at: 406, and there is nothing to list.
pub(super) fn nothing_to_show() -> Problem {
    Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "not-renderable",
        "Not acceptable",
        "there is no rendering of such an instance; it can be had as it is stored",
    )
}

/// An answer in the making.
struct Answer<'a> {
    rendering: &'a Rendering,
    view: &'a ViewQuery,
    urls: &'a PartitionUrls,
    headers: &'a HeaderMap,
    etag: &'a str,
}

impl Answer<'_> {
    /// One representation, whole or by range.
    fn whole(
        &self,
        media_type: &str,
        bytes: Bytes,
        frame: Option<u32>,
    ) -> Result<Response, Problem> {
        let location = location(self.urls, self.rendering.target(), frame);
        one(content_type(media_type), bytes, Some(location), self.headers, self.etag)
    }

    async fn image(
        &self,
        choice: &Choice,
        frames: Option<&[u32]>,
        boundary: Boundary,
    ) -> Result<Response, Problem> {
        let (columns, rows) = self.rendering.size();
        let view = self.view.view(columns, rows)?;
        let count = self.rendering.frames();
        let format = format(choice.media_type, self.view)?;
        let animated = frames.is_none() && count > 1 && choice.media_type == "image/gif";
        if animated {
            let film = self.rendering.animation(&view, false).await?.map_err(BoxError::from);
            let location = location(self.urls, self.rendering.target(), None);
            return Ok(match choice.form {
                Form::Single => streamed(choice.media_type, film.boxed(), location),
                Form::Multipart => {
                    let part = OutPart::new(choice.media_type, film.boxed());
                    let parts = stream::iter([Ok(part.with_location(location))]);
                    Related::new(choice.media_type, boundary).streamed(parts)
                }
            });
        }
        if choice.form == Form::Single {
            // One picture for an instance of many frames: the one that stands for it.
            let frame = match frames {
                Some(list) => list.first().copied(),
                None if count > 1 => Some(self.rendering.representative_frame()),
                None => None,
            };
            let bytes = self.rendering.picture(frame.unwrap_or(1), &view, format, false).await?;
            return self.whole(choice.media_type, bytes, frame);
        }
        let numbers: Vec<u32> = match frames {
            Some(list) => list.to_vec(),
            None => (1..=count).collect(),
        };
        let named = frames.is_some() || count > 1;
        let pictures = pictures(self.rendering.clone(), numbers, view, format);
        let (target, urls) = (self.rendering.target().clone(), self.urls.clone());
        let media_type = choice.media_type;
        let parts = pictures.map(move |drawn| {
            let (frame, bytes) = drawn?;
            let location = location(&urls, &target, named.then_some(frame));
            Ok(OutPart::whole(media_type, bytes).with_location(location))
        });
        begun(Related::new(choice.media_type, boundary), parts).await
    }

    async fn document(
        &self,
        choice: &Choice,
        formats: &[DocumentFormat],
        boundary: Boundary,
    ) -> Result<Response, Problem> {
        let format = formats.iter().find(|format| format.media_type() == choice.media_type);
        let format = format.ok_or_else(nothing_to_show)?;
        let bytes = self.rendering.document(*format, links(self.urls)).await?;
        let mut response = match choice.form {
            Form::Single => self.whole(choice.media_type, bytes, None)?,
            Form::Multipart => self.related(choice, bytes, boundary)?,
        };
        let policy = HeaderValue::from_static(format.content_security_policy());
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        Ok(response)
    }

    async fn video(&self, choice: &Choice, boundary: Boundary) -> Result<Response, Problem> {
        let (stream, total) = self.rendering.video().await?;
        let stream = stream.map_err(BoxError::from).boxed();
        let location = location(self.urls, self.rendering.target(), None);
        match choice.form {
            Form::Single => {
                let wanted = range::wanted(self.headers, total, Some(self.etag))?;
                let body = |range| Body::from_stream(range::slice(stream, range));
                let mut response = range::answer(wanted, total, body);
                let headers = response.headers_mut();
                wado::set(headers, header::CONTENT_TYPE, choice.media_type.to_owned());
                wado::set(headers, header::CONTENT_LOCATION, location);
                Ok(response)
            }
            Form::Multipart => {
                let part = OutPart::new(choice.media_type, stream);
                let part = part.with_length(total).with_location(location);
                Related::new(choice.media_type, boundary).known(
                    vec![part],
                    self.headers,
                    Some(self.etag),
                )
            }
        }
    }

    /// One representation as the only part.
    fn related(
        &self,
        choice: &Choice,
        bytes: Bytes,
        boundary: Boundary,
    ) -> Result<Response, Problem> {
        let location = location(self.urls, self.rendering.target(), None);
        let part = OutPart::whole(content_type(choice.media_type), bytes).with_location(location);
        Related::new(choice.media_type, boundary).known(vec![part], self.headers, Some(self.etag))
    }
}

/// One representation that is made while it is sent.
fn streamed(media_type: &str, body: PartStream, location: String) -> Response {
    let mut response = Response::new(Body::from_stream(body));
    wado::set(response.headers_mut(), header::CONTENT_TYPE, media_type.to_owned());
    wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
    response
}

/// One representation that is in memory, whole or by range.
pub(super) fn one(
    content_type: String,
    bytes: Bytes,
    location: Option<String>,
    headers: &HeaderMap,
    etag: &str,
) -> Result<Response, Problem> {
    let total = bytes.len() as u64;
    let wanted = range::wanted(headers, total, Some(etag))?;
    let mut response = range::answer(wanted, total, |range| {
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        Body::from(bytes.slice(within(range.start)..within(range.end)))
    });
    wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
    if let Some(location) = location {
        wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
    }
    Ok(response)
}

/// The format of pictures of a media type.
pub(super) fn format(media_type: &str, view: &ViewQuery) -> Result<Format, Problem> {
    view_query::format(media_type, view.quality()).ok_or_else(nothing_to_show)
}

/// Pictures of frames in their order, the next ones drawn while one is sent.
pub(super) fn pictures(
    rendering: Rendering,
    numbers: Vec<u32>,
    view: View,
    format: Format,
) -> impl Stream<Item = Result<(u32, Bytes), ArchiveError>> + Send + 'static {
    let view = Arc::new(view);
    let draw = move |(at, frame): (usize, u32)| {
        let (rendering, view) = (rendering.clone(), view.clone());
        async move { Ok((frame, rendering.picture(frame, &view, format, at > 0).await?)) }
    };
    stream::iter(numbers.into_iter().enumerate()).map(draw).buffered(AHEAD)
}

/// A multipart answer whose first part is there: what keeps it from being made has its own status.
/// What fails later ends the answer, since a client may count the parts.
pub(super) async fn begun<S>(related: Related, parts: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<OutPart, ArchiveError>> + Send + 'static,
{
    let mut parts = Box::pin(parts);
    let first = parts.next().await.transpose()?;
    let parts = stream::iter(first.map(Ok)).chain(parts.map_err(BoxError::from));
    Ok(related.streamed(parts))
}
