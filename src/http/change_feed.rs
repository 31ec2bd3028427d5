//! The change feed: what happened to instances, by pages, by waiting, or as it comes.
//!
//! The JSON is that of Microsoft's server, with `partitionId` where partitions are on. A page goes
//! on where the client says that it was: there are no windows of numbers, and an empty page is the
//! end. `text/event-stream` is given to who asks for it; to everybody else JSON, whatever the Accept
//! header says, as Microsoft's server does.

mod query;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future, stream};

use tokio::time::Instant;

use super::{
    App,
    accept::{AcceptSet, choose, offers},
    admit::{self, Admitted, ReadChanges},
    caller::Caller,
    problem::Problem,
    still::{Reading, Still},
    urls::{self, Urls},
};
use crate::{
    archive::{
        ArchiveError, EntryStyle, Feed, FeedReader, FeedScope, Followed, Renew, Told, entry,
    },
    dicom::json::resolve_bulk,
};

const EVENTS: &str = "text/event-stream";

/// Time without an event after which a stream says that it lives: less than what proxies wait.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Bytes of JSON that are sent at once, about.
const CHUNK: usize = 64 * 1024;

/// Tells nginx to pass events on as they come.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Said of events that the client has not seen and that may be gone.
const GAP: HeaderValue = HeaderValue::from_static(
    "299 collimator: Events after this offset are older than change_feed.retention and gone",
);

/// How events are written for one request.
#[derive(Clone)]
struct Shape {
    urls: Urls,
    style: EntryStyle,
}

impl Shape {
    fn of(app: &App, urls: Urls, uri: &Uri) -> Self {
        let capitals = !urls::split_version(uri.path()).0.is_empty();
        Self { urls, style: EntryStyle { partitions: app.partitions.enabled(), capitals } }
    }

    fn write(&self, out: &mut Vec<u8>, told: &Told) {
        let event = &told.event;
        let shown = entry(event, told.number, self.style);
        let text = shown.to_string();
        let Some(metadata) = &told.metadata else {
            out.extend_from_slice(text.as_bytes());
            return;
        };
        out.extend_from_slice(text.trim_end_matches('}').as_bytes());
        out.extend_from_slice(b",\"metadata\":");
        let urls = self.urls.within(&event.partition);
        let (base, query) = urls.bulk_data_around(&event.study, &event.series, &event.instance);
        resolve_bulk(out, metadata, base.trim_end_matches('/'), query);
        out.push(b'}');
    }
}

/// Who reads, and where he reads all that there is, how that is decided again when there is more.
fn reader(
    app: &App,
    caller: &Caller,
    (scope, is_all): (FeedScope, bool),
    reading: &Reading,
) -> FeedReader {
    let (app, caller, reading) = (app.clone(), caller.clone(), reading.clone());
    let renew: Renew = Arc::new(move || {
        let (app, caller, reading) = (app.clone(), caller.clone(), reading.clone());
        async move {
            let scope = admit::all_readable(&app, &caller).await?;
            reading.renew(&scope);
            Ok(scope)
        }
        .boxed()
    });
    FeedReader::new(scope, is_all.then_some(renew))
}

/// `GET /changefeed`
pub async fn page(
    State(app): State<App>,
    caller: Admitted<ReadChanges>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let choice = choose(&accept, &offers::CHANGES);
    let is_stream = choice.is_ok_and(|choice| choice.media_type == EVENTS);
    let shape = Shape::of(&app, caller.urls, &parts.uri);
    let reading = Reading::of(caller.scope.0.scope());
    let mut still = Still::new(&app, &caller.caller, &reading);
    let mut reader = reader(&app, &caller.caller, caller.scope, &reading);
    let asked = query::read(&parts.uri, matches!(reader.scope, FeedScope::Union(_)))?;
    if is_stream {
        let after = query::resumed(&parts.headers, &asked)?;
        return Ok(follow(&app, still, reader, after, asked.query.metadata, shape));
    }
    let wait = asked.wait.min(app.change_feed.max_wait);
    let feed = if wait.is_zero() {
        app.archive.feed(&mut reader, asked.query).await?
    } else {
        let until = async {
            // Each ends the wait.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = app.closing.cancelled() => {}
                () = still.lost() => {}
            }
        };
        let feed = app.archive.feed_wait(reader, asked.query, until).await?;
        still.fresh().await?;
        feed
    };
    let is_after_gap = feed.is_after_gap();
    let mut response = Body::from_stream(array(feed, shape)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_after_gap {
        headers.insert(header::WARNING, GAP);
    }
    Ok(response)
}

/// `GET /changefeed/latest`
pub async fn latest(
    State(app): State<App>,
    caller: Admitted<ReadChanges>,
    uri: Uri,
) -> Result<Response, Problem> {
    let metadata = query::metadata(&uri)?;
    let shape = Shape::of(&app, caller.urls, &uri);
    let reading = Reading::of(caller.scope.0.scope());
    let mut reader = reader(&app, &caller.caller, caller.scope, &reading);
    let latest = app.archive.feed_latest(&mut reader, metadata).await?;
    let mut response = match latest {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(told) => {
            let mut body = Vec::new();
            shape.write(&mut body, &told);
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], body).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A page as a JSON array.
fn array(feed: Feed, shape: Shape) -> impl Stream<Item = Result<Bytes, ArchiveError>> + Send {
    let state = Some((feed.told(), true));
    stream::try_unfold(state, move |state| {
        let shape = shape.clone();
        async move {
            let Some((mut told, mut first)) = state else { return Ok(None) };
            let mut out = Vec::new();
            while out.len() < CHUNK {
                let Some(event) = told.try_next().await? else {
                    out.extend_from_slice(if first { b"[]" } else { b"]" });
                    return Ok(Some((Bytes::from(out), None)));
                };
                out.push(if first { b'[' } else { b',' });
                first = false;
                shape.write(&mut out, &event);
            }
            Ok(Some((Bytes::from(out), Some((told, first)))))
        }
    })
}

/// Events as they come (the HTML standard's server-sent events), until the client or the server
/// goes, or who reads may not any more. One that breaks off is taken up again by `Last-Event-ID`.
fn follow(
    app: &App,
    still: Still,
    reader: FeedReader,
    after: i64,
    metadata: bool,
    shape: Shape,
) -> Response {
    let events = app.archive.feed_follow(reader, after, metadata);
    let closing = app.closing.clone();
    let told = stream::unfold((events, still), move |(mut events, mut still)| {
        let shape = shape.clone();
        async move {
            let beat = Instant::now() + HEARTBEAT;
            let text = loop {
                match tokio::time::timeout_at(beat.min(still.due()), events.next()).await {
                    // A comment.
                    Err(_) if Instant::now() >= beat => break b":\n\n".to_vec(),
                    Err(_) if still.goes_on().await => {}
                    Ok(Some(Ok(followed))) if still.fresh().await.is_ok() => {
                        break written(&shape, &followed);
                    }
                    Ok(Some(Err(error))) => {
                        tracing::warn!(%error, "a stream of events ends early");
                        return None;
                    }
                    _ => return None,
                }
            };
            Some((text, (events, still)))
        }
    });
    // The first bytes tell the client that it is connected, and how soon to come back.
    let first = stream::once(future::ready(b"retry: 2000\n\n".to_vec()));
    let all = first.chain(told).take_until(closing.cancelled_owned());
    let body = Body::from_stream(all.map(|text| Ok::<_, Infallible>(Bytes::from(text))));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNBUFFERED.0, UNBUFFERED.1);
    response
}

fn written(shape: &Shape, followed: &Followed) -> Vec<u8> {
    match followed {
        Followed::Gap => b"event: gap\ndata: {}\n\n".to_vec(),
        Followed::Event(told) => {
            let mut out = format!("id: {}\ndata: ", told.number).into_bytes();
            // JSON as it is written here has no ends of lines.
            shape.write(&mut out, told);
            out.extend_from_slice(b"\n\n");
            out
        }
    }
}
