//! The channel by which events of workitems are told: a WebSocket (PS3.18 §8.10.4, §8.10.5, §11.13).
//!
//! Holds: who may not read workitems any more is told nothing more; who takes nothing is let go after
//! `server.write_timeout`, and who is silent after [`PATIENCE`]; a page of a browser opens a channel
//! only where it may read answers, since no rule of browsers keeps it from asking. What a client sends
//! is not looked at. Absent: which events there are (`archive`).

use std::time::Duration;

use axum::{
    extract::{
        FromRequestParts as _, Request, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use tokio::time::Instant;
use url::Url;

use super::{
    App,
    admit::Admitted,
    layers::cors::Cors,
    listen::Stay,
    problem::Problem,
    still::{Reading, Still},
    subscriptions::Title,
    workitems::{ReadWorkitems, refused, said},
};
use crate::{
    archive::{EventChannel, Telling},
    tenancy::Permission,
};

/// Time between two pings: less than what proxies wait.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time without a sign of life after which a client is gone: three pings that it did not answer.
const PATIENCE: Duration = Duration::from_secs(50);
/// Longest time for the last words.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a message that a client may send: none is expected.
const MOST_HEARD: usize = 4 << 10;
/// Bytes that are kept for sending before they are written.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// `GET /subscribers/{aetitle}`
pub async fn open(
    State(app): State<App>,
    caller: Admitted<ReadWorkitems>,
    Title(aetitle): Title,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    if !is_of_own_page(&parts.headers, &app, caller.urls.service()) {
        return Err(Problem::forbidden("pages of that origin may not open event channels"));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| not_an_upgrade())?;
    let reading = Reading::of(&caller.scope);
    let still = Still::reading(&app, &caller.caller, &reading, Permission::ReadWorkitems);
    let opened = app.archive.open_event_channel(&caller.scope, &aetitle).await;
    let channel = opened.map_err(|refusal| refused(refusal, said::STATE))?;
    // The connection counts as long as the channel lives.
    let stay = parts.extensions.get::<Stay>().cloned();
    let most = app.worklist.max_workitem_bytes as usize;
    let upgrade = upgrade
        .max_message_size(MOST_HEARD)
        .max_frame_size(MOST_HEARD)
        .write_buffer_size(WRITTEN_AT_ONCE)
        .max_write_buffer_size(WRITTEN_AT_ONCE + 2 * most);
    Ok(upgrade.on_upgrade(async move |socket| {
        let channel = serve(&app, socket, channel, still).await;
        if let Err(error) = channel.0.close(channel.1).await {
            tracing::warn!(%error, "a closed event channel stays open in the index");
        }
        drop(stay);
    }))
}

/// 426.
fn not_an_upgrade() -> Problem {
    let problem = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade-required",
        "Upgrade required",
        "an event channel is a WebSocket (RFC 6455), opened over HTTP/1.1",
    );
    problem
        .with_header(header::CONNECTION, HeaderValue::from_static("upgrade"))
        .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
}

/// Whether a request comes from no page of a browser, or from one that may read answers.
fn is_of_own_page(headers: &HeaderMap, app: &App, service: &str) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = Url::parse(service).map(|url| url.origin().ascii_serialization());
    own.is_ok_and(|own| own.eq_ignore_ascii_case(origin)) || Cors::new(&app.cors).lists(origin)
}

/// Why a channel ends.
enum End {
    /// The client has closed it, or is gone.
    Gone,
    /// It is told why.
    Told(u16, &'static str),
    /// The server ends.
    Down,
}

/// Tells events until one of both ends; then says whether it was the server.
async fn serve(
    app: &App,
    mut socket: WebSocket,
    mut channel: EventChannel,
    mut still: Still,
) -> (EventChannel, bool) {
    let patience = app.server.write_timeout;
    let end = tell(app, &mut socket, &mut channel, &mut still, patience).await;
    let is_down = matches!(end, End::Down);
    let farewell = async {
        match end {
            End::Gone => {}
            End::Told(code, reason) => close(&mut socket, code, reason).await,
            End::Down => {
                let _ = socket.send(Message::text(EventChannel::going_down())).await;
                close(&mut socket, close_code::AWAY, "the server ends").await;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    (channel, is_down)
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        // Its answer, so that the connection is not cut off before it has the frame.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

async fn tell(
    app: &App,
    socket: &mut WebSocket,
    channel: &mut EventChannel,
    still: &mut Still,
    patience: Duration,
) -> End {
    let (mut heard, mut beat) = (Instant::now(), Instant::now() + HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            () = app.closing.cancelled() => return End::Down,
            () = tokio::time::sleep_until(still.due()) => {
                if !still.goes_on().await {
                    return forbidden();
                }
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                Some(Ok(_)) => heard = Instant::now(),
            },
            () = tokio::time::sleep_until(beat) => {
                beat = Instant::now() + HEARTBEAT;
                if heard.elapsed() > PATIENCE {
                    return End::Gone;
                }
                if !sent(socket, Message::Ping(Vec::new().into()), patience).await {
                    return End::Gone;
                }
            }
            () = channel.ready() => {
                if let Some(end) = told(socket, channel, still, patience).await {
                    return end;
                }
            }
        }
    }
}

fn forbidden() -> End {
    End::Told(close_code::POLICY, "workitems may not be read any more")
}

/// Sends what there is to be told; `None`: it goes on.
async fn told(
    socket: &mut WebSocket,
    channel: &mut EventChannel,
    still: &mut Still,
    patience: Duration,
) -> Option<End> {
    const FAILED: End = End::Told(close_code::AGAIN, "events cannot be read just now");
    const TAKEN: End = End::Told(close_code::NORMAL, "another channel was opened");
    let (messages, last) = match channel.read().await {
        Ok(Telling::Messages(messages, last)) => (messages, last),
        Ok(Telling::Lost) => return Some(TAKEN),
        Err(error) => {
            tracing::warn!(%error, "an event channel ends early");
            return Some(FAILED);
        }
    };
    if !messages.is_empty()
        && let Err(problem) = still.fresh().await
    {
        return Some(if problem.status().is_server_error() { FAILED } else { forbidden() });
    }
    for message in messages {
        if !sent(socket, Message::text(message), patience).await {
            return Some(End::Gone);
        }
    }
    match channel.took(last).await {
        Ok(true) => None,
        Ok(false) => Some(TAKEN),
        Err(error) => {
            tracing::warn!(%error, "an event channel ends early");
            Some(FAILED)
        }
    }
}

/// Sends a message; whether the client took it in time.
async fn sent(socket: &mut WebSocket, message: Message, patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, socket.send(message)).await, Ok(Ok(())))
}
