//! Store (STOW-RS, PS3.18 §10.5): `POST /studies` and `POST /studies/{study}`.
//!
//! Holds: parts are read once, as they arrive; a part that cannot be read fails alone. Where the
//! body itself breaks off, what was complete before is stored and told. Instances come whole, or as
//! metadata with their values beside it ([`assembly`]).

mod assembly;
mod live;
mod payload;
mod pictures;
mod waiting;

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit,
    caller::Caller,
    carrier::{Carried, FIRST_PART_BYTES},
    charset::Charset,
    multipart::{MultipartError, PartHead, PartReader},
    overload::{Class, Shed},
    place::Place,
    problem::Problem,
    store_response,
    urls::PartitionUrls,
};
use crate::{
    archive::{NoMemory, NoRoom, StoreSession},
    dicom::model::Malformed,
    tenancy::{PartitionScope, Permission},
};
use assembly::{Assembly, Crowded, Form};

/// What the `type` of a request body can be; the last where the root part names the partition.
const TAKEN: [&str; 4] =
    ["application/dicom", "application/dicom+json", "application/dicom+xml", PARTITION];
/// A first part that names the partition.
const PARTITION: &str = "application/json";

/// While a client sends nothing for this long, what is complete is written instead of held.
const LULL: Duration = Duration::from_millis(250);

/// Stores the instances of the request's parts.
pub async fn store(
    State(app): State<App>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let carried = Carried::read(&parts, &app.server, &app.tenancy, Permission::Store)?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let media_type = choose(&accept, &offers::STORED)?.media_type;
    let form = (media_type, Charset::of(&parts.headers, parts.uri.query(), media_type)?);
    let mut reader = PartReader::open(&parts.headers, body, &app.limits, &TAKEN)?;
    if !reader.is_multipart() && reader.content_type().essence() == PARTITION {
        reader.discard().await;
        return Err(unsupported());
    }
    match begin(&app, &parts, carried, &mut reader).await {
        Ok(begun) => take(&app, begun, place, reader, form).await,
        Err(problem) => {
            reader.discard().await;
            Err(problem)
        }
    }
}

/// Only a part can be `application/json`: by itself it holds no instance.
fn unsupported() -> Problem {
    let both = |taken: &str| [format!("multipart/related; type=\"{taken}\""), taken.to_owned()];
    let supported = TAKEN.into_iter().filter(|taken| *taken != PARTITION).flat_map(both).collect();
    MultipartError::Unsupported { supported }.into()
}

/// Why a request was not read to its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Body(#[from] MultipartError),
    #[error("the metadata is {0}")]
    Metadata(#[from] Malformed),
    /// Metadata and values that wait are longer than what may be held, or there was no memory for them.
    #[error("more than may be held has to be held")]
    Staged(NoRoom),
}

impl From<NoRoom> for Broken {
    fn from(none: NoRoom) -> Self {
        Self::Staged(none)
    }
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Body(error) => error.into(),
            Broken::Metadata(malformed) => Self::bad_request(malformed.to_string()),
            Broken::Staged(NoRoom::Limit(limit)) => Self::too_large("limits.staged_bytes", limit),
            Broken::Staged(NoRoom::Memory) => Shed::Memory.answer(Class::Store),
        }
    }
}

/// Where the instances of a request go.
struct Begun {
    scope: PartitionScope,
    urls: PartitionUrls,
    caller: Caller,
    /// The header of the first part that is to be an instance.
    head: PartHead,
}

/// Decides the scope of a request, after a look at its first part.
async fn begin(
    app: &App,
    parts: &Parts,
    mut carried: Carried,
    reader: &mut PartReader,
) -> Result<Begun, Problem> {
    // The first part may name the partition, so the scope is decided after a look at its header.
    let mut head = reader.next_head().await?;
    if let Some(first) = &head
        && media_type_of(first) == Some(PARTITION)
    {
        let json = collect(reader, FIRST_PART_BYTES).await?;
        carried = carried.with_first_part(&json)?;
        head = reader.next_head().await?;
    }
    let (caller, scope) = admit::decide(app, parts, &carried, Permission::Store).await?;
    let urls = admit::urls(app, parts, &carried)?;
    let (scope, urls) = admit::one(scope, &urls)?;
    app.archive.room_for_store(&scope).map_err(|none| {
        let shed = match none {
            NoMemory::Share => Shed::Share,
            NoMemory::All => Shed::Memory,
        };
        shed.answer(Class::Store)
    })?;
    match head {
        Some(head) => Ok(Begun { scope, urls, caller, head }),
        None => Err(Problem::bad_request("the request has no part to store")),
    }
}

/// Stores part after part.
async fn take(
    app: &App,
    Begun { scope, urls, caller, head }: Begun,
    place: Place,
    mut reader: PartReader,
    answer: (&'static str, Charset),
) -> Result<Response, Problem> {
    let prepare = {
        let (app, scope) = (app.clone(), scope.clone());
        async move { app.partitions.ensure(scope.partition(), scope.deed()).await }
    };
    let may_reject = admit::may_reject(app, &caller, scope.partition());
    let session = app.archive.store(scope, place.study, Box::pin(prepare));
    let mut session = session.rejecting(may_reject);
    let root = reader.content_type();
    let root = root.related_type().unwrap_or_else(|| root.essence().to_owned());
    let form = match media_type_of(&head) {
        Some(media_type) => Form::of(media_type),
        None => Form::of(&root),
    };
    let (crowded, taken) = match form {
        Some(form) => Assembly::new(&mut session, &mut reader, &app.limits, form).take(head).await,
        None => {
            let taken = instances(&mut session, &mut reader, head).await;
            (Crowded::default(), taken.map_err(Broken::from))
        }
    };
    let broken = taken.err();
    if let Some(error) = &broken {
        session.refuse_part(error.to_string());
    }
    let outcome = session.finish().await;
    if broken.is_some() {
        // Where the client is still sending: else it may not see the answer.
        reader.discard().await;
    }
    let broken = broken.or_else(|| crowded.of(&outcome).map(Broken::Staged));
    match broken {
        Some(error) if outcome.stored.is_empty() => Err(error.into()),
        _ => Ok(store_response::answer(&outcome, &urls, answer).into_response()),
    }
}

/// Stores parts that are instances.
async fn instances(
    session: &mut StoreSession,
    reader: &mut PartReader,
    head: PartHead,
) -> Result<(), MultipartError> {
    let mut head = Some(head);
    while let Some(current) = head {
        match media_type_of(&current) {
            // A root part without a type of its own has the one of the request.
            None | Some("application/dicom") => part(session, reader).await?,
            Some(_) => session.refuse_part("the part is not of application/dicom".to_owned()),
        }
        head = reader.next_head().await?;
    }
    Ok(())
}

/// Reads one part into the session. A part that is too long fails alone; any other error of the
/// reader ends the body.
async fn part(session: &mut StoreSession, reader: &mut PartReader) -> Result<(), MultipartError> {
    let mut sink = session.part();
    loop {
        let chunk = match tokio::time::timeout(LULL, reader.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) => {
                sink.flush().await;
                reader.chunk().await
            }
        };
        match chunk {
            Ok(Some(bytes)) => sink.push(bytes).await,
            Ok(None) => {
                sink.finish().await;
                return Ok(());
            }
            Err(MultipartError::PartTooLarge { limit }) => {
                sink.refuse_too_large(limit).await;
                return Ok(());
            }
            Err(error) => {
                sink.abandon().await;
                return Err(error);
            }
        }
    }
}

/// The whole current part, which is known to be small.
async fn collect(reader: &mut PartReader, limit: u64) -> Result<Vec<u8>, MultipartError> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.chunk().await? {
        if (all.len() + chunk.len()) as u64 > limit {
            return Err(MultipartError::NotSmall { limit });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn media_type_of(head: &PartHead) -> Option<&str> {
    head.content_type.as_ref().map(|content_type| content_type.essence())
}
