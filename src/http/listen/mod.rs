//! The serve loop: HTTP/1.1 and HTTP/2 (by ALPN or with prior knowledge) on one listener, with TLS or
//! without, and its end.
//!
//! Invariants: at most `server.max_connections` connections are served, and beyond them a few for a
//! moment each, of which requests are told that they are beyond ([`Crowded`]); the next one waits
//! in the listen queue; every wait for a client ends: for the TLS handshake, the first bytes and
//! each header (`server.header_timeout` each), for a client that takes nothing
//! (`server.write_timeout`), for one that sends nothing of its body (`limits.body_idle`, in
//! [`super::multipart`]); after the shutdown signal nothing new is accepted, handshakes end, and
//! what is in flight has `server.drain_timeout`, and so has what a connection was upgraded to
//! ([`Stay`]); of HTTP/1.1 nothing is served whose end could be
//! seen in two places (`strict`).

mod io;
mod strict;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, http::StatusCode};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use self::{io::Timed, strict::Strict};
use super::{
    layers::admission::Crowded,
    urls::{Encrypted, LocalAddress},
};
use crate::{
    config::ServerConfig,
    control::accept,
    identity::{PeerCertificate, Tls},
    telemetry::names,
};

/// Requests side by side on one HTTP/2 connection. Viewers ask for frames by the hundred.
const MAX_STREAMS: u32 = 128;
/// Bytes that an HTTP/2 client may send ahead, for one stream and for all of a connection. They
/// bound what a connection can make the server keep.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of an answer that are kept for sending, per HTTP/2 stream.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes of an HTTP/2 request's header.
const MAX_HEADER_LIST: u32 = 64 << 10;
/// Of connections beyond `server.max_connections`: what part of those they may be, how many at
/// least, and how long each lasts. There are so many of them that somebody who holds all others
/// does not keep health checks out as well.
const CROWD_PART: usize = 16;
const LEAST_CROWD: usize = 16;
const CROWD_TIME: Duration = Duration::from_secs(5);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off at the end of `server.drain_timeout`.
    pub cut_off: usize,
}

/// In the extensions of requests: who goes on with the connection after the answer (a WebSocket) keeps
/// it. Until then the connection counts, and the drain waits for it.
#[derive(Clone)]
pub struct Stay(
    #[expect(dead_code, reason = "what counts is that there is one")] watch::Receiver<()>,
);

/// What every request of a connection is told in its extensions.
#[derive(Clone)]
struct Facts {
    stay: Stay,
    address: SocketAddr,
    local: Option<LocalAddress>,
    is_encrypted: bool,
    peer: Option<Arc<PeerCertificate>>,
    is_crowded: bool,
}

impl Facts {
    fn tell(self, request: &mut Request<Incoming>) {
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo::<SocketAddr>(self.address));
        extensions.insert(self.stay);
        if let Some(local) = self.local {
            extensions.insert(local);
        }
        if self.is_encrypted {
            extensions.insert(Encrypted);
        }
        if self.is_crowded {
            extensions.insert(Crowded);
        }
        if let Some(peer) = self.peer {
            extensions.insert(peer);
        }
    }
}

/// Serves until `shutdown` completes, then drains. With `tls`, nothing else is spoken.
///
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`, and its certificate as
/// `Arc<PeerCertificate>`. The router must not use `Router::nest` above what reads the partition
/// from the path.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &ServerConfig,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let builder = Arc::new(builder(config));
    let graceful = GracefulShutdown::new();
    let closing = CancellationToken::new();
    let places = Places::new(config.max_connections);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            // Without a place nothing is accepted.
            let place = places.take().await?;
            Some((place, accept(&listener).await))
        };
        let ((place, is_crowded), (stream, address)) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = next => match next {
                Some(next) => next,
                None => break,
            },
        };
        while let Some(ended) = connections.try_join_next() {
            note(ended);
        }
        let watcher = graceful.watcher();
        let local = stream.local_addr().ok().map(LocalAddress);
        let (stays, stay) = watch::channel(());
        let (is_encrypted, stay) = (tls.is_some(), Stay(stay));
        let facts = Facts { stay, address, local, is_encrypted, peer: None, is_crowded };
        let connection = Connection { builder: builder.clone(), router: router.clone(), facts };
        let timeouts = (config.header_timeout, config.write_timeout);
        let (tls, closing) = (tls.clone(), closing.clone());
        connections.spawn(async move {
            let _open = Open::new();
            let served = async {
                let Some(tls) = tls else {
                    return connection.serve(stream, timeouts, watcher).await;
                };
                let shaken = shake_hands(&tls, stream, timeouts.0);
                if let Some(Some((stream, peer))) = closing.run_until_cancelled(shaken).await {
                    connection.of(peer).serve(stream, timeouts, watcher).await;
                }
            };
            match is_crowded {
                false => served.await,
                true => _ = tokio::time::timeout(CROWD_TIME, served).await,
            }
            stays.closed().await;
            drop(place);
        });
    }
    drop(listener);
    closing.cancel();
    drain(graceful, connections, config.drain_timeout).await
}

/// Places of connections: those that are served, and a few beyond.
struct Places {
    served: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
}

impl Places {
    fn new(most: usize) -> Self {
        let of = |places: usize| Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Self { served: of(most), beyond: of((most / CROWD_PART).max(LEAST_CROWD)) }
    }

    /// The next place, and whether it is beyond. (The semaphores are never closed.)
    async fn take(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        if let Ok(place) = self.served.clone().try_acquire_owned() {
            return Some((place, false));
        }
        tokio::select! {
            biased;
            place = self.served.clone().acquire_owned() => Some((place.ok()?, false)),
            place = self.beyond.clone().acquire_owned() => Some((place.ok()?, true)),
        }
    }
}

/// A connection that is to be served.
struct Connection {
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    facts: Facts,
}

impl Connection {
    fn of(mut self, peer: Option<PeerCertificate>) -> Self {
        self.facts.peer = peer.map(Arc::new);
        self
    }

    /// Serves it to its end; `timeouts` are for the first bytes, and for writes that do not move.
    async fn serve<S>(self, stream: S, timeouts: (Duration, Duration), watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { builder, router, facts } = self;
        let is_upgraded = Arc::new(AtomicBool::new(false));
        let timed = Timed::new(stream, timeouts.0, timeouts.1);
        let stream = Strict::new(timed, is_upgraded.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            facts.clone().tell(&mut request);
            let (mut router, is_upgraded) = (router.clone(), is_upgraded.clone());
            async move {
                let response = infallible(router.call(request).await);
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    is_upgraded.store(true, Ordering::Release);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        // A connection that breaks is the client's matter: it has been told, or is gone.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(cause = %error, "a connection ended early");
        }
    }
}

/// Shakes hands within some time; `None` where nothing comes of it, which is the client's matter.
async fn shake_hands(
    tls: &Tls,
    stream: TcpStream,
    patience: Duration,
) -> Option<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
    let outcome = match tokio::time::timeout(patience, tls.accept(stream)).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => {
            tracing::debug!(cause = %error, "a TLS handshake failed");
            "refused"
        }
        Err(_) => "timeout",
    };
    metrics::counter!(names::TLS_FAILURES, names::OUTCOME => outcome).increment(1);
    None
}

/// Counts a connection while it is open, however it ends.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!(names::CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(names::CONNECTIONS).decrement(1.0);
    }
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn builder(config: &ServerConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Counts from the end of the last answer, so it bounds idle connections too.
        .header_read_timeout(config.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(config.header_timeout)
        .keep_alive_timeout(config.write_timeout);
    builder
}

/// Logs a panic in the body of an answer, which only ends its connection. The message may hold
/// what was being sent and stays out of the log.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a connection ended by a panic");
    }
}

/// Lets in-flight requests end; idle connections are closed at once.
async fn drain(
    graceful: GracefulShutdown,
    mut connections: JoinSet<()>,
    patience: Duration,
) -> Drained {
    let ended = tokio::time::timeout(patience, async {
        graceful.shutdown().await;
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    });
    if ended.await.is_ok() {
        return Drained { cut_off: 0 };
    }
    while connections.try_join_next().is_some() {}
    let cut_off = connections.len();
    tracing::warn!(cut_off, "server.drain_timeout is over; connections are cut off");
    connections.shutdown().await;
    Drained { cut_off }
}
