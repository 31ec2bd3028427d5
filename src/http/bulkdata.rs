//! Retrieve bulk values (PS3.18 §10.4.1.1.4, §10.4.1.1.7): what a BulkDataURI of the metadata names,
//! and the pixel data of one instance.

use axum::{
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, candidates},
    admit::{Admitted, Read},
    bulk_value::{self, FrameParts, Way, boxed, part},
    conditional,
    frame_choice::available,
    hindered::Hindered,
    multipart::{Boundary, Related},
    place::Place,
    problem::Problem,
    range, wado,
};
use crate::archive::{ArchiveError, Bulk, Values};

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
    let bulk = app.archive.bulk(caller.scope.clone(), target, path).await?;
    one(&app, &caller, &bulk, request).await
}

/// Retrieves the pixel data of one instance.
pub async fn pixels(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let mut values = app.archive.bulk_values(caller.scope.clone(), target, Values::Pixels).await?;
    let bulk = values.next().await?.ok_or_else(Problem::not_found)?;
    one(&app, &caller, &bulk, request).await
}

/// Answers with one value.
async fn one(
    app: &App,
    caller: &Admitted<Read>,
    bulk: &Bulk,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let offers = bulk_value::of_one();
    let choices = candidates(&accept, &offers);
    let asked = Asked {
        bulk,
        location: bulk_value::location(&caller.urls, bulk),
        headers: &parts.headers,
        only_head: parts.method == Method::HEAD,
    };
    let mut hindrance = None;
    for (choice, way) in bulk_value::ways(bulk, &choices).await? {
        match asked.answer(&choice, &way).await {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => {}
            Err(Hindered::By(error)) => _ = hindrance.get_or_insert(error),
            Err(Hindered::Refused(problem)) => return Err(problem),
        }
    }
    let can = || available(bulk.transfer_syntax(), &[Form::Multipart, Form::Single]);
    Err(match hindrance {
        Some(ArchiveError::Undecodable(why)) => Problem::undecodable(why, can()),
        Some(error) => error.into(),
        None if bulk.is_encapsulated() => Problem::not_acceptable(can()),
        None => NotAcceptable::of(&offers).into(),
    })
}

/// A request for one value.
struct Asked<'a> {
    bulk: &'a Bulk,
    location: String,
    headers: &'a HeaderMap,
    only_head: bool,
}

impl Asked<'_> {
    /// The answer; `None` where the choice wants one part and there are several.
    async fn answer(&self, choice: &Choice, way: &Way) -> Result<Option<Response>, Hindered> {
        let content_type = way.content_type();
        let boundary = Boundary::of(&[
            &self.bulk.version().to_be_bytes(),
            self.location.as_bytes(),
            content_type.as_bytes(),
            format!("{:?} {way:?}", choice.form).as_bytes(),
            env!("CARGO_PKG_VERSION").as_bytes(),
        ]);
        let etag = format!("\"{}\"", boundary.as_str());
        if conditional::not_modified(self.headers, &etag) {
            return Ok(Some(conditional::unchanged(&etag)));
        }
        let related = || Related::new(way.media_type(choice), boundary.clone());
        let response = match (way, choice.form) {
            (Way::Octets(..), Form::Single) => self.octets(&etag)?,
            (Way::Octets(..), Form::Multipart) => {
                let total = self.bulk.length();
                let body = boxed(self.bulk.read(0..total));
                let part = part(&content_type, body, Some(total), &self.location);
                related().known(vec![part], self.headers, Some(&etag))?
            }
            (Way::Decoded(_), form) => {
                let (length, body) = match self.only_head {
                    true => (None, stream::empty().boxed()),
                    false => {
                        let (length, body) = self.bulk.native().await?;
                        (Some(length), body)
                    }
                };
                match (form, length) {
                    (Form::Multipart, _) => {
                        let part = part(&content_type, boxed(body), length, &self.location);
                        related().known(vec![part], self.headers, Some(&etag))?
                    }
                    (Form::Single, None) => Body::empty().into_response(),
                    (Form::Single, Some(total)) => {
                        let wanted = range::wanted(self.headers, total, Some(&etag))?;
                        let body = boxed(body);
                        let slice = |range| Body::from_stream(range::slice(body, range));
                        range::answer(wanted, total, slice)
                    }
                }
            }
            (Way::Frames(label), form) => {
                let frames =
                    bulk_value::frames(self.bulk, label, &self.location, self.only_head).await?;
                match form {
                    Form::Multipart => self.parts(related(), frames, &etag)?,
                    Form::Single if frames.count > 1 => return Ok(None),
                    Form::Single => match frames.first.into_iter().next() {
                        Some(part) => part.alone(self.headers, &etag)?,
                        None => return Ok(None),
                    },
                }
            }
        };
        let mut response = response;
        if choice.form == Form::Single {
            wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
            let location = self.location.clone();
            wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
        }
        Ok(Some(conditional::tagged(response, &etag)))
    }

    /// The octets as they are. A range is read as one, not cut out of the whole.
    fn octets(&self, etag: &str) -> Result<Response, Problem> {
        let total = self.bulk.length();
        let wanted = range::wanted(self.headers, total, Some(etag))?;
        Ok(range::answer(wanted, total, |range| Body::from_stream(self.bulk.read(range))))
    }

    fn parts(&self, related: Related, frames: FrameParts, etag: &str) -> Result<Response, Problem> {
        if frames.count <= bulk_value::FRAMES_AT_ONCE {
            return related.known(frames.first, self.headers, Some(etag));
        }
        let first = stream::iter(frames.first.into_iter().map(Ok));
        Ok(related.streamed(first.chain(frames.rest.map_err(Into::into))))
    }
}
