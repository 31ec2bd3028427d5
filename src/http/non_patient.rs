//! Non-Patient Instances (PS3.18 chapter 12): Store and Delete. One set of handlers serves all
//! categories; which it is stands in the route.

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit::{Admitted, Remove, Store},
    charset::Charset,
    multipart::{MultipartError, PartReader},
    overload::{Class, Shed},
    place::Place,
    problem::Problem,
    store_response,
};
use crate::{
    archive::{ArchiveError, Failed, FailureReason, NoMemory, NonPatientSink, Outcome, Stored},
    dicom::{Uid, non_patient::Category},
};

const DICOM: &str = "application/dicom";

/// The category of a route.
pub struct Of(pub &'static Category);

impl FromRequestParts<App> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let matched = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let category = matched.split('/').find_map(Category::named);
        category.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The path of an instance of a category.
pub fn path(category: &Category, instance: &str) -> String {
    format!("/{}/{instance}", category.name)
}

/// The UID that the path names.
///
/// # Errors
/// 404 for a path without one: no such route has a handler that asks.
pub fn uid(place: Place) -> Result<Uid, Problem> {
    place.instance.ok_or_else(Problem::not_found)
}

/// `POST /{category}`, `POST /{category}/{instance}`: stores what the parts are.
pub async fn store(
    State(app): State<App>,
    caller: Admitted<Store>,
    Of(category): Of,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let media_type = choose(&accept, &offers::STORED)?.media_type;
    let charset = Charset::of(&parts.headers, parts.uri.query(), media_type)?;
    app.archive.room_for_store(&caller.scope).map_err(|none| {
        let shed = match none {
            NoMemory::Share => Shed::Share,
            NoMemory::All => Shed::Memory,
        };
        shed.answer(Class::Store)
    })?;
    let mut reader = PartReader::open(&parts.headers, body, &app.limits, &[DICOM])?;
    let mut outcome = Outcome::default();
    let broken = take(&app, &caller, (category, place.instance), &mut reader, &mut outcome).await;
    if broken.is_err() {
        // Where the client is still sending: else it may not see the answer.
        reader.discard().await;
    }
    match broken {
        Err(problem) if outcome.stored.is_empty() => return Err(problem),
        Err(_) => {
            let detail = "the body broke off".to_owned();
            let reason = FailureReason::CannotUnderstand;
            outcome.failed.push(Failed { sop: None, reason, detail });
        }
        Ok(()) => {}
    }
    if outcome.stored.is_empty() && outcome.failed.is_empty() {
        return Err(Problem::bad_request("the request has no part of application/dicom"));
    }
    let url = |stored: &Stored| caller.urls.at(&path(category, stored.instance.as_str()));
    let root = match outcome.stored.as_slice() {
        [only] => Some(url(only)),
        _ => None,
    };
    Ok(store_response::answer_at(&outcome, root, url, (media_type, charset)))
}

/// Stores part after part.
async fn take(
    app: &App,
    caller: &Admitted<Store>,
    (category, wanted): (&'static Category, Option<Uid>),
    reader: &mut PartReader,
    outcome: &mut Outcome,
) -> Result<(), Problem> {
    let mut is_ready = false;
    while let Some(head) = reader.next_head().await? {
        let own = head.content_type.as_ref().map(|content_type| content_type.essence());
        if own.is_some_and(|own| own != DICOM) {
            let detail = "the part is not of application/dicom".to_owned();
            let reason = FailureReason::CannotUnderstand;
            outcome.failed.push(Failed { sop: None, reason, detail });
            continue;
        }
        if !is_ready {
            let scope = &caller.scope;
            let ready = app.partitions.ensure(scope.partition(), scope.deed()).await;
            ready.map_err(ArchiveError::from)?;
            is_ready = true;
        }
        let sink = app.archive.store_non_patient(&caller.scope, category, wanted.clone());
        match part(sink, reader).await? {
            Ok(stored) => outcome.stored.push(stored),
            Err(failed) => {
                outcome.unavailable |= failed.reason == FailureReason::Processing;
                outcome.failed.push(failed);
            }
        }
    }
    Ok(())
}

/// Reads one part. One that is too long fails alone; any other error of the reader ends the body.
async fn part(
    mut sink: NonPatientSink,
    reader: &mut PartReader,
) -> Result<Result<Stored, Failed>, MultipartError> {
    loop {
        match reader.chunk().await {
            Ok(Some(bytes)) => sink.push(bytes).await,
            Ok(None) => return Ok(sink.finish().await),
            Err(MultipartError::PartTooLarge { limit }) => {
                return Ok(Err(sink.refuse_too_large(limit).await));
            }
            Err(error) => {
                sink.abandon().await;
                return Err(error);
            }
        }
    }
}

/// `DELETE /{category}/{instance}`: for good; 404 where there is none.
pub async fn delete(
    State(app): State<App>,
    caller: Admitted<Remove>,
    Of(category): Of,
    place: Place,
) -> Result<Response, Problem> {
    app.archive.delete_non_patient(&caller.scope, category, &uid(place)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
