//! Retrieve all bulk values, or all pixel data, of a study, series or instance (PS3.18 §10.4.1.1.4,
//! §10.4.1.1.7): one part for each value, or for each frame of encapsulated pixel data.
//!
//! Each part says by its Content-Location which value it is, by the URI that the metadata names.

use axum::{
    BoxError,
    extract::{Request, State},
    http::{Method, StatusCode, request},
    response::Response,
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, candidates, offers},
    admit::{Admitted, Read},
    bulk_value::{self, Way, boxed, part},
    conditional,
    hindered::Hindered,
    multipart::{Boundary, OutPart, Related},
    place::Place,
    problem::Problem,
    urls::PartitionUrls,
};
use crate::{
    archive::{ArchiveError, Bulk, BulkValues, Target, Values},
    dicom::transfer_syntax::OCTET_STREAM,
};

/// Retrieves every bulk value.
pub async fn values(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    retrieve(app, caller, place.target()?, Values::All, request.into_parts().0).await
}

/// Retrieves the pixel data of every instance of a study or series.
pub async fn pixels(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    retrieve(app, caller, place.target()?, Values::Pixels, request.into_parts().0).await
}

/// Retrieves values of a target, to whoever asks for octets in parts.
pub(super) async fn retrieve(
    app: App,
    caller: Admitted<Read>,
    target: Target,
    wanted: Values,
    parts: request::Parts,
) -> Result<Response, Problem> {
    let values = app.archive.bulk_values(caller.scope, target, wanted).await?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let offers = bulk_value::all(&offers::COLLECTION, false);
    let mut choices = candidates(&accept, &offers);
    choices.retain(|choice| choice.form == Form::Multipart);
    let Some(first) = choices.first() else { return Err(NotAcceptable::of(&offers).into()) };
    let admitted = |stored| bulk_value::admits(&choices, stored);
    let partial = !values.transfer_syntaxes.iter().all(admitted);
    let place = caller.urls.at("/studies");
    let pieces = format!("{wanted:?} {choices:?}");
    let boundary = Boundary::of(&[
        values.version.as_bytes(),
        place.as_bytes(),
        pieces.as_bytes(),
        env!("CARGO_PKG_VERSION").as_bytes(),
    ]);
    let etag = format!("\"{}\"", boundary.as_str());
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    // Parts of several types go under the one that all can be called.
    let media_type = if choices.len() == 1 { first.media_type } else { OCTET_STREAM };
    let related = Related::new(media_type, boundary);
    let only_head = parts.method == Method::HEAD;
    let mut collection =
        Collection { values, choices, urls: caller.urls, only_head, partial, begun: false };
    let first = collection.first().await?;
    let partial = collection.partial;
    let rest = stream::try_unfold(collection, |mut collection| async move {
        let next = collection.next().await?;
        Ok::<_, ArchiveError>(next.map(|parts| (parts, collection)))
    });
    let parts = first.chain(rest.try_flatten()).map_err(BoxError::from);
    let mut response = related.streamed(parts);
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(conditional::tagged(response, &etag))
}

type Parts = BoxStream<'static, Result<OutPart, ArchiveError>>;

/// The values that are still to be given.
struct Collection {
    values: BulkValues,
    choices: Vec<Choice>,
    urls: PartitionUrls,
    only_head: bool,
    /// Whether values are left out because they cannot be given as wanted.
    partial: bool,
    begun: bool,
}

impl Collection {
    /// The parts of the first value that can be given.
    async fn first(&mut self) -> Result<Parts, Problem> {
        let mut hindrance = None;
        let mut is_empty = true;
        while let Some(bulk) = self.values.next().await? {
            is_empty = false;
            match self.parts(&bulk).await {
                Ok(Some(parts)) => {
                    self.begun = true;
                    return Ok(parts);
                }
                Ok(None) => {}
                Err(Hindered::By(error)) => _ = hindrance.get_or_insert(error),
                Err(Hindered::Refused(problem)) => return Err(problem),
            }
            self.partial = true;
        }
        Err(match hindrance {
            Some(error) => error.into(),
            None if is_empty => Problem::not_found(),
            None => NotAcceptable::of(&offers::COLLECTION).into(),
        })
    }

    /// The parts of the next value; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Parts>, ArchiveError> {
        while let Some(bulk) = self.values.next().await? {
            match self.parts(&bulk).await {
                Ok(Some(parts)) => return Ok(Some(parts)),
                Ok(None) => {}
                // No status can tell any more that it was left out: as it is stored, labelled so.
                Err(Hindered::By(_)) => {
                    let location = bulk_value::location(&self.urls, &bulk);
                    let way = bulk_value::as_stored(&bulk)?;
                    return self.given(&bulk, &way, &location).await.map(Some);
                }
                Err(Hindered::Refused(problem)) => {
                    return Err(ArchiveError::Internal(anyhow::anyhow!(
                        "{}",
                        problem.detail().to_owned()
                    )));
                }
            }
        }
        Ok(None)
    }

    /// The parts of one value in the first form that it can be given in; `None` if there is none.
    async fn parts(&self, bulk: &Bulk) -> Result<Option<Parts>, Hindered> {
        let location = bulk_value::location(&self.urls, bulk);
        let mut hindrance = None;
        for (_, way) in bulk_value::ways(bulk, &self.choices).await? {
            match self.given(bulk, &way, &location).await {
                Ok(parts) => return Ok(Some(parts)),
                Err(error @ (ArchiveError::Undecodable(_) | ArchiveError::TooLarge { .. })) => {
                    hindrance.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        hindrance.map_or(Ok(None), |error| Err(Hindered::By(error)))
    }

    async fn given(&self, bulk: &Bulk, way: &Way, location: &str) -> Result<Parts, ArchiveError> {
        let (length, body) = match way {
            Way::Frames(label) => {
                let frames = bulk_value::frames(bulk, label, location, self.only_head).await?;
                let first = stream::iter(frames.first.into_iter().map(Ok));
                return Ok(first.chain(frames.rest).boxed());
            }
            Way::Decoded(_) if self.only_head => (None, stream::empty().boxed()),
            Way::Decoded(_) => {
                let (length, body) = bulk.native().await?;
                (Some(length), body)
            }
            Way::Octets(..) => (Some(bulk.length()), bulk.read(0..bulk.length())),
        };
        let part = part(&way.content_type(), boxed(body), length, location);
        Ok(stream::iter([Ok(part)]).boxed())
    }
}
