//! Letting go of what an answer holds when the client stops taking it.
//!
//! Over HTTP/1.1 the socket says so ([`crate::http::listen`]). Over HTTP/2 the socket is shared
//! and goes on answering pings while the client leaves one stream's window shut: the answer's body
//! is then simply not asked for more. A watchdog per streamed HTTP/2 answer drops the body, and
//! with it files and buffers, after `server.write_timeout`.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{Request, State},
    http::Version,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::{task::AbortHandle, time::Instant};

/// Answers up to this many bytes hold nothing worth a watchdog.
const SMALL: u64 = 64 << 10;

/// The layer.
pub async fn guard(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    let version = request.version();
    let response = next.run(request).await;
    let is_small = response.body().size_hint().upper().is_some_and(|upper| upper <= SMALL);
    if version != Version::HTTP_2 || is_small || response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(Guarded::new(body, timeout)))
}

/// The client took nothing for `server.write_timeout`.
#[derive(Debug, thiserror::Error)]
#[error("the client took nothing of the answer for longer than server.write_timeout")]
pub(super) struct Stalled;

/// A body that is dropped when nobody asks for more.
pub(super) struct Guarded {
    shared: Arc<Mutex<Shared>>,
    watchdog: AbortHandle,
}

struct Shared {
    /// `None` once the watchdog took it.
    body: Option<Body>,
    /// Since when it is the client's turn; `None` while the body itself has nothing.
    waiting: Option<Instant>,
}

impl Guarded {
    pub(super) fn new(body: Body, timeout: Duration) -> Self {
        let waiting = Some(Instant::now());
        let shared = Arc::new(Mutex::new(Shared { body: Some(body), waiting }));
        let watchdog = tokio::spawn(watch(shared.clone(), timeout)).abort_handle();
        Self { shared, watchdog }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn watch(shared: Arc<Mutex<Shared>>, timeout: Duration) {
    loop {
        let waiting = shared.lock().unwrap_or_else(PoisonError::into_inner).waiting;
        tokio::time::sleep_until(waiting.unwrap_or_else(Instant::now) + timeout).await;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.waiting.is_some_and(|since| since.elapsed() >= timeout) {
            let body = shared.body.take();
            // Dropping it may do work of its own.
            drop(shared);
            drop(body);
            return;
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        self.with(|shared| {
            let Some(body) = &mut shared.body else {
                return Poll::Ready(Some(Err(Stalled.into())));
            };
            let polled = Pin::new(body).poll_frame(context);
            shared.waiting = polled.is_ready().then(Instant::now);
            polled.map_err(Into::into)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|shared| shared.body.as_ref().is_some_and(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|shared| shared.body.as_ref().map(Body::size_hint).unwrap_or_default())
    }
}
