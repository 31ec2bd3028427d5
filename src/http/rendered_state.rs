//! Retrieve what a presentation state shows (PS3.18 §8.3.5.1.6): the frames that it refers to, as
//! it shows them.
//!
//! Holds: a window or region of the request has no place beside that of the state (400); frames
//! that are not here are left out. Absent: what a state means (`archive`).

use axum::{http::request::Parts, response::Response};
use futures::{StreamExt, stream};

use super::{
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, candidates, offers},
    conditional,
    multipart::{OutPart, Related},
    problem::Problem,
    rendered::{self, AHEAD},
    urls::PartitionUrls,
    view_query::ViewQuery,
};
use crate::archive::{ArchiveError, Kind, Rendering, Shot};

/// The answer for a presentation state.
pub(super) async fn answer(
    state: &Rendering,
    view: &ViewQuery,
    accept: &AcceptSet,
    urls: &PartitionUrls,
    parts: &Parts,
) -> Result<Response, Problem> {
    let shots = state.presented().await?;
    if shots.is_empty() {
        return Err(rendered::nothing_to_show());
    }
    let all: &[Offer] = if shots.len() > 1 { &offers::RENDERED_PARTS } else { &offers::RENDERED };
    let offers = rendered::offers(Kind::Image, all);
    let choice = candidates(accept, &offers).into_iter().next();
    let choice = choice.ok_or_else(|| NotAcceptable::of(&offers))?;
    give(state, shots, view, &choice, urls, parts).await
}

/// Frames as the state shows them, at least one; one part only of one frame.
pub(super) async fn give(
    state: &Rendering,
    shots: Vec<Shot>,
    view: &ViewQuery,
    choice: &Choice,
    urls: &PartitionUrls,
    parts: &Parts,
) -> Result<Response, Problem> {
    if let Some(field) = view.overrides() {
        return Err(Problem::invalid(field, "not for a presentation state, which has its own"));
    }
    view.fits(choice.media_type)?;
    let shown = |shot: &Shot| (shot.image.image().version(), shot.frame);
    let list = format!("{:?}", shots.iter().map(shown).collect::<Vec<_>>());
    let version = state.image().version().to_string();
    let boundary = rendered::boundary(&version, choice, view, &list);
    let etag = format!("\"{}\"", boundary.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let format = rendered::format(choice.media_type, view)?;
    let (state_of_parts, wanted) = (state.clone(), view.clone());
    let draw = move |(at, shot): (usize, Shot)| {
        let (state, wanted) = (state_of_parts.clone(), wanted.clone());
        async move {
            let (columns, rows) = shot.image.size();
            let Ok(view) = wanted.view(columns, rows) else {
                return Err(ArchiveError::Undecodable("it cannot be shown so"));
            };
            shot.under(&state).await?.picture(shot.frame, &view, format, at > 0).await
        }
    };
    let mut pictures =
        Box::pin(stream::iter(shots.into_iter().enumerate()).map(draw).buffered(AHEAD));
    let location = rendered::location(urls, state.target(), None);
    let response = match choice.form {
        Form::Single => {
            let bytes = pictures.next().await.ok_or_else(rendered::nothing_to_show)??;
            let media_type = choice.media_type.to_owned();
            rendered::one(media_type, bytes, Some(location), &parts.headers, &etag)?
        }
        Form::Multipart => {
            let media_type = choice.media_type;
            let parts = pictures.map(move |bytes| {
                Ok(OutPart::whole(media_type, bytes?).with_location(location.clone()))
            });
            rendered::begun(Related::new(media_type, boundary), parts).await?
        }
    };
    Ok(conditional::tagged(response, &etag))
}
