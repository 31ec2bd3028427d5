//! Retrieve thumbnails (PS3.18 §10.4.1.1.4): one small picture for a study, series, instance or
//! frame.
//!
//! Holds: always exactly one image, whatever there is to show; nothing that the object or we would
//! write into it. Absent: the cache, and which instance stands for a study (`archive`).

use axum::{
    extract::{RawPathParams, Request, State},
    response::Response,
};

use super::{
    App,
    accept::{Form, choose, offers},
    admit::{Admitted, Read},
    conditional, frames,
    multipart::{Boundary, OutPart, Related},
    place::Place,
    problem::Problem,
    rendered, view_query,
};
use crate::archive::{ArchiveError, RENDERING};

/// The frame that a thumbnail is fitted into where the request names none: width and height.
const SIZE: (u32, u32) = (128, 128);

/// Longest side of a thumbnail, in pixels: larger wishes are met by this.
const MAX_SIDE: u32 = 1024;

/// Quality of lossy thumbnails, 1 to 100.
const QUALITY: u8 = 85;

/// Retrieves the thumbnail of a study, series, instance, or of the first frame of a list.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let size = view_query::thumbnail(parts.uri.query().unwrap_or_default())?.unwrap_or(SIZE);
    let size = (size.0.min(MAX_SIDE), size.1.min(MAX_SIDE));
    let of_frames = params.iter().any(|(name, _)| name == "frames");
    let numbers = if of_frames { frames::numbers(&params)? } else { Vec::new() };
    let target = place.target()?;
    let exhibit = app.archive.representative(&caller.scope, &target).await?;
    if numbers.iter().any(|number| *number > exhibit.frames) {
        return Err(ArchiveError::NoSuchFrame.into());
    }
    let frame = numbers.first().copied();
    let accept = rendered::accept(&app, &parts);
    let choice = choose(&accept, &offers::THUMBNAIL)?;
    let tag = Boundary::of(&[
        b"thumbnail",
        &RENDERING.to_be_bytes(),
        &exhibit.version.to_be_bytes(),
        format!("{frame:?} {size:?} {:?} {}", choice.form, choice.media_type).as_bytes(),
    ]);
    let etag = format!("\"{}\"", tag.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let format = view_query::format(choice.media_type, QUALITY);
    let format = format.ok_or_else(rendered::nothing_to_show)?;
    let bytes = app.archive.thumbnail(&caller.scope, &exhibit, frame, size, format).await?;
    let location = rendered::below(&caller.urls, &target, frame, "/thumbnail");
    let response = match choice.form {
        Form::Single => {
            let media_type = choice.media_type.to_owned();
            rendered::one(media_type, bytes, Some(location), &parts.headers, &etag)?
        }
        Form::Multipart => {
            let part = OutPart::whole(choice.media_type, bytes).with_location(location);
            Related::new(choice.media_type, tag).known(vec![part], &parts.headers, Some(&etag))?
        }
    };
    Ok(conditional::tagged(response, &etag))
}
