//! Retrieve rendered studies and series (PS3.18 §10.4.1.1.3): one part for each picture, text or
//! film, in the form that the client prefers for that kind.
//!
//! Holds: always multipart, as §10.4.4 has it, whatever the study holds just now (a thumbnail is
//! the one picture of a study); 206 where instances are left out because nothing acceptable shows
//! them, 406 where that is all of them. Memory does not grow with the study.

use std::sync::Arc;

use axum::{
    BoxError,
    http::{StatusCode, request::Parts},
    response::Response,
};
use futures::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use super::{
    App,
    accept::{Choice, NotAcceptable, candidates, offers},
    admit::{Admitted, Read},
    conditional,
    multipart::{OutPart, Related},
    problem::Problem,
    rendered::{self, AHEAD},
    urls::PartitionUrls,
    view_query::{self, ViewQuery},
};
use crate::{
    archive::{Archive, ArchiveError, Exhibit, Gallery, Kind, Rendering, Shows, Target},
    render::document::DocumentFormat,
    tenancy::PartitionScope,
};

const DOCUMENTS: [DocumentFormat; 4] =
    [DocumentFormat::Html, DocumentFormat::Text, DocumentFormat::Xml, DocumentFormat::Pdf];

/// How instances are given: for each kind the acceptable media types, the most wanted first.
struct Wishes {
    images: Vec<&'static str>,
    documents: Vec<DocumentFormat>,
    videos: Vec<&'static str>,
}

impl Wishes {
    /// # Errors
    /// 400 where a colour profile is asked for in formats that have no place for one.
    fn of(choices: &[Choice], view: &ViewQuery) -> Result<Self, Problem> {
        let types = || choices.iter().map(|choice| choice.media_type);
        let is_image = |t: &&str| view_query::format(t, 1).is_some();
        let mut images: Vec<&'static str> = types().filter(is_image).collect();
        if let Some(first) = images.first().copied() {
            images.retain(|media_type| view.fits(media_type).is_ok());
            if images.is_empty() {
                view.fits(first)?;
            }
        }
        let document = |t| DOCUMENTS.into_iter().find(|f| f.media_type() == t);
        let documents = types().filter_map(document).collect();
        let videos = types().filter(|t| t.starts_with("video/")).collect();
        Ok(Self { images, documents, videos })
    }

    /// Whether an instance can be given, as far as its row tells.
    fn take(&self, exhibit: &Exhibit) -> bool {
        match exhibit.shows {
            Shows::Image => !self.images.is_empty(),
            Shows::Video(media_type) => self.videos.contains(&media_type),
            Shows::Document => !self.documents.is_empty(),
            Shows::Undecodable | Shows::Nothing => false,
        }
    }
}

/// The answer for a study or series.
pub(super) async fn answer(
    app: &App,
    caller: Admitted<Read>,
    target: Target,
    view: &ViewQuery,
    parts: &Parts,
) -> Result<Response, Problem> {
    let mut gallery = app.archive.gallery(caller.scope.clone(), target).await?;
    let offers = &offers::RENDERED_PARTS;
    let choices = candidates(&rendered::accept(app, parts), offers);
    let Some(first) = choices.first() else { return Err(NotAcceptable::of(offers).into()) };
    let wishes = Wishes::of(&choices, view)?;
    let types: Vec<&str> = choices.iter().map(|choice| choice.media_type).collect();
    let list = format!("{} {:?}", types.join(" "), rendered::links(&caller.urls));
    let boundary = rendered::boundary(gallery.version(), first, view, &list);
    let etag = format!("\"{}\"", boundary.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let mut left_out = false;
    while let Some(exhibit) = gallery.next().await? {
        left_out |= !wishes.take(&exhibit);
    }
    gallery.rewind();
    let set = Arc::new(Set {
        archive: app.archive.clone(),
        scope: caller.scope,
        urls: caller.urls,
        wishes,
        view: view.clone(),
    });
    let mut pieces = Box::pin(set.pieces(gallery));
    // What cannot be shown is passed over until there is a part to begin with.
    let (part, media_type) = loop {
        match pieces.next().await.transpose()? {
            Some(Piece::Part(part, media_type)) => break (part, media_type),
            Some(Piece::LeftOut) => left_out = true,
            None => return Err(NotAcceptable::of(offers).into()),
        }
    };
    let rest = pieces.filter_map(|piece| async {
        match piece {
            Ok(Piece::Part(part, _)) => Some(Ok(part)),
            Ok(Piece::LeftOut) => None,
            Err(error) => Some(Err(BoxError::from(error))),
        }
    });
    let parts = stream::once(async move { Ok(part) }).chain(rest);
    let mut response = Related::new(media_type, boundary).streamed(parts);
    if left_out {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(conditional::tagged(response, &etag))
}

/// A part, with its media type, or an instance or frame that there is none for.
enum Piece {
    Part(OutPart, &'static str),
    LeftOut,
}

type Making = BoxFuture<'static, Result<Piece, ArchiveError>>;

/// What all parts of an answer have in common.
struct Set {
    archive: Archive,
    scope: PartitionScope,
    urls: PartitionUrls,
    wishes: Wishes,
    view: ViewQuery,
}

impl Set {
    /// The parts, instance by instance; the next ones are made while one is sent.
    fn pieces(
        self: Arc<Self>,
        gallery: Gallery,
    ) -> impl Stream<Item = Result<Piece, ArchiveError>> + Send + 'static {
        let exhibits = stream::try_unfold(gallery, |mut gallery| async move {
            let next = gallery.next().await?;
            Ok::<_, ArchiveError>(next.map(|exhibit| (exhibit, gallery)))
        });
        exhibits
            .try_filter_map(move |exhibit| {
                let set = self.clone();
                async move { Ok(set.wishes.take(&exhibit).then_some((set, exhibit))) }
            })
            .and_then(|(set, exhibit)| async move { set.work(exhibit).await })
            .try_flatten()
            .map(|making| async move { making?.await })
            .buffered(AHEAD)
    }

    /// The work that the parts of one instance are.
    async fn work(
        self: Arc<Self>,
        exhibit: Exhibit,
    ) -> Result<BoxStream<'static, Result<Making, ArchiveError>>, ArchiveError> {
        let rendering = match self.archive.rendering(self.scope.clone(), exhibit.target).await {
            Ok(rendering) => rendering,
            // It went while the answer was on its way.
            Err(error) => return Ok(one(async move { left_out(error) }.boxed())),
        };
        let many = rendering.frames() > 1;
        let image = self.wishes.images.first().copied();
        Ok(match (rendering.kind(), image) {
            (Kind::Image, Some(media_type)) if many && media_type != "image/gif" => {
                let frames = 1..=rendering.frames();
                stream::iter(frames)
                    .map(move |frame| {
                        let (set, rendering) = (self.clone(), rendering.clone());
                        let making = async move {
                            set.picture(rendering, Some(frame), media_type).await.or_else(left_out)
                        };
                        Ok(making.boxed())
                    })
                    .boxed()
            }
            (Kind::Image, Some(media_type)) => one(async move {
                self.picture(rendering, None, media_type).await.or_else(left_out)
            }
            .boxed()),
            (Kind::Document(_), _) => {
                one(async move { self.document(rendering).await.or_else(left_out) }.boxed())
            }
            (Kind::Video(media_type), _) => one(async move {
                let (stream, length) = rendering.video().await?;
                let stream = stream.map_err(BoxError::from).boxed();
                let part = OutPart::new(media_type, stream).with_length(length);
                Ok(self.part(part, &rendering, None, media_type))
            }
            .boxed()),
            _ => one(async { Ok(Piece::LeftOut) }.boxed()),
        })
    }

    async fn picture(
        &self,
        rendering: Rendering,
        frame: Option<u32>,
        media_type: &'static str,
    ) -> Result<Piece, ArchiveError> {
        let (columns, rows) = rendering.size();
        let (Ok(view), Ok(format)) =
            (self.view.view(columns, rows), rendered::format(media_type, &self.view))
        else {
            return Ok(Piece::LeftOut);
        };
        let part = match frame {
            None if rendering.frames() > 1 => {
                let film = rendering.animation(&view, true).await?.map_err(BoxError::from);
                OutPart::new(media_type, film.boxed())
            }
            frame => {
                let number = frame.unwrap_or(1);
                let bytes = rendering.picture(number, &view, format, true).await?;
                OutPart::whole(media_type, bytes)
            }
        };
        Ok(self.part(part, &rendering, frame, media_type))
    }

    async fn document(&self, rendering: Rendering) -> Result<Piece, ArchiveError> {
        let Kind::Document(can) = rendering.kind() else { return Ok(Piece::LeftOut) };
        let wanted = self.wishes.documents.iter().find(|format| can.contains(format));
        let Some(format) = wanted else { return Ok(Piece::LeftOut) };
        let bytes = rendering.document(*format, rendered::links(&self.urls)).await?;
        let media_type = format.media_type();
        let part = OutPart::whole(rendered::content_type(media_type), bytes);
        Ok(self.part(part, &rendering, None, media_type))
    }

    fn part(
        &self,
        part: OutPart,
        rendering: &Rendering,
        frame: Option<u32>,
        media_type: &'static str,
    ) -> Piece {
        let location = rendered::location(&self.urls, rendering.target(), frame);
        Piece::Part(part.with_location(location), media_type)
    }
}

fn one(making: Making) -> BoxStream<'static, Result<Making, ArchiveError>> {
    stream::once(async move { Ok(making) }).boxed()
}

/// An instance that cannot be shown is left out; that the archive does not answer ends it all.
fn left_out(error: ArchiveError) -> Result<Piece, ArchiveError> {
    match error {
        ArchiveError::Unavailable(_) | ArchiveError::Internal(_) => Err(error),
        _ => Ok(Piece::LeftOut),
    }
}
