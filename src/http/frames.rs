//! Retrieve frames (PS3.18 §10.4.1.1.6): as they are stored, native, or encoded anew
//! ([`super::frame_choice`] decides).
//!
//! Holds: an answer begins once its first frame is there, so that what cannot be read or decoded is
//! a status; a frame that turns out damaged later breaks the connection. Absent: codecs.

use axum::{
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, Method, header},
    response::Response,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, candidates, offers},
    admit::{Admitted, Read},
    conditional,
    frame_choice::{Label, available, labels},
    hindered::Hindered,
    multipart::{Boundary, OutPart, PartStream, Related, media_type_with},
    place::Place,
    problem::Problem,
    range, wado,
};
use crate::{
    archive::{ArchiveError, ByteStream, Frames, Given, Target},
    dicom::transfer_syntax::OCTET_STREAM,
    http::urls::PartitionUrls,
};

/// Frames that one request may name.
const MAX_FRAMES: usize = 10_000;

/// Retrieves the frames of a list, in its order.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let numbers = numbers(&params)?;
    let target = place.target()?;
    let (parts, _) = request.into_parts();
    let frames = app.archive.frames(caller.scope, target.clone(), &numbers).await?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let mut choices = candidates(&accept, &offers::FRAMES);
    choices.retain(|choice| choice.form == Form::Multipart || numbers.len() == 1);
    let asked = Asked {
        numbers: &numbers,
        target: &target,
        urls: &caller.urls,
        headers: &parts.headers,
        only_head: parts.method == Method::HEAD,
    };
    asked.best(&frames, &choices).await
}

/// A request for frames.
struct Asked<'a> {
    numbers: &'a [u32],
    target: &'a Target,
    urls: &'a PartitionUrls,
    headers: &'a HeaderMap,
    only_head: bool,
}

impl Asked<'_> {
    /// The answer to the most wanted choice that can be given.
    async fn best(&self, frames: &Frames, choices: &[Choice]) -> Result<Response, Problem> {
        let stored = frames.transfer_syntax();
        let mut hindrance = None;
        for (choice, label) in labels(choices, stored) {
            match self.answer(frames, &choice, &label).await {
                Err(Hindered::By(error)) => {
                    hindrance.get_or_insert(error);
                }
                Err(Hindered::Refused(problem)) => return Err(problem),
                Ok(response) => return Ok(response),
            }
        }
        let available = available(stored, &[Form::Multipart, Form::Single]);
        Err(match hindrance {
            None => Problem::not_acceptable(available),
            Some(ArchiveError::Undecodable(why)) => Problem::undecodable(why, available),
            Some(error) => error.into(),
        })
    }

    async fn answer(
        &self,
        frames: &Frames,
        choice: &Choice,
        label: &Label,
    ) -> Result<Response, Hindered> {
        let content_type = media_type_with(label.media_type, &label.syntax);
        let boundary = self.boundary(frames, choice, label, &content_type);
        let etag = format!("\"{}\"", boundary.as_str());
        if conditional::not_modified(self.headers, &etag) {
            return Ok(conditional::unchanged(&etag));
        }
        let given = frames.given(label.given.clone()).await?;
        let mut first = match self.only_head {
            true => None,
            false => Some(given.first(0).await?),
        };
        let length = |at: usize| match &first {
            Some((_, length)) if at == 0 => *length,
            _ => given.length(at),
        };
        let lengths: Vec<Option<u64>> = (0..self.numbers.len()).map(length).collect();
        let mut streams = (0..self.numbers.len()).map(|at| match first.take() {
            Some((stream, _)) => boxed(stream),
            None => boxed(given.read(at)),
        });
        let response = match choice.form {
            Form::Single => {
                let body = streams.next().unwrap_or_else(|| stream::empty().boxed());
                let mut response = single(body, lengths.first().copied().flatten(), self, &etag)?;
                wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
                if let Some(location) = self.numbers.first().and_then(|n| self.location(*n)) {
                    wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
                }
                response
            }
            Form::Multipart => {
                let parts =
                    streams.zip(lengths).zip(self.numbers).map(|((stream, length), number)| {
                        let mut part = OutPart::new(content_type.clone(), stream);
                        if let Some(length) = length {
                            part = part.with_length(length);
                        }
                        match self.location(*number) {
                            Some(location) => part.with_location(location),
                            None => part,
                        }
                    });
                let octets = choice.media_type == OCTET_STREAM;
                let media_type = if octets { OCTET_STREAM } else { label.media_type };
                let parts = parts.collect();
                Related::new(media_type, boundary).known(parts, self.headers, Some(&etag))?
            }
        };
        Ok(conditional::tagged(response, &etag))
    }

    /// Tells this answer from every other. What the codecs make may differ from release to
    /// release.
    fn boundary(
        &self,
        frames: &Frames,
        choice: &Choice,
        label: &Label,
        content_type: &str,
    ) -> Boundary {
        let version = frames.version().to_be_bytes();
        let list: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let form = format!("{:?} {}", choice.form, choice.media_type);
        let codecs = if label.given == Given::Stored { "" } else { env!("CARGO_PKG_VERSION") };
        let pieces = [&version, content_type.as_bytes(), &list, form.as_bytes(), codecs.as_bytes()];
        Boundary::of(&pieces)
    }

    fn location(&self, number: u32) -> Option<String> {
        match self.target {
            Target::Instance { study, series, instance } => {
                Some(self.urls.frame(study, series, instance, number))
            }
            Target::Study { .. } | Target::Series { .. } => None,
        }
    }
}

/// One frame as the whole answer, by range where its length is known.
fn single(
    body: PartStream,
    length: Option<u64>,
    asked: &Asked<'_>,
    etag: &str,
) -> Result<Response, Problem> {
    let Some(total) = length else { return Ok(Response::new(Body::from_stream(body))) };
    let wanted = range::wanted(asked.headers, total, Some(etag))?;
    Ok(range::answer(wanted, total, |range| Body::from_stream(range::slice(body, range))))
}

fn boxed(stream: ByteStream) -> PartStream {
    stream.map_err(Into::into).boxed()
}

/// The list of a request path: `1,2,5`.
pub(super) fn numbers(params: &RawPathParams) -> Result<Vec<u32>, Problem> {
    let list = params.iter().find(|(name, _)| *name == "frames").map_or("", |(_, value)| value);
    let wrong = || Problem::invalid("frames", "frame numbers from 1, separated by commas");
    let numbers: Result<Vec<u32>, Problem> = list
        .split(',')
        .map(|number| match number.parse() {
            Ok(number) if number > 0 && !list.contains('+') => Ok(number),
            _ => Err(wrong()),
        })
        .collect();
    let numbers = numbers?;
    if numbers.len() > MAX_FRAMES {
        return Err(Problem::invalid("frames", "at most 10000 frames in one request"));
    }
    Ok(numbers)
}
