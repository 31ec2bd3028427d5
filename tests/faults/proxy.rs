//! What stands between a server and what it depends on: a proxy before an object store that fails in
//! all the ways that are known of them, and a wire to Postgres that can be cut.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rand::RngExt;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    task::{JoinHandle, JoinSet},
};

use crate::harness::http;

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// One request in four meets one of the faults.
    Moody,
    /// Nothing but 500.
    Ill,
}

/// What may happen to a request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// 500, and nothing was done.
    Error,
    /// 503 SlowDown, and nothing was done.
    SlowDown,
    /// It takes a second or two.
    Slow,
    /// The connection is cut while the request comes in.
    CutInRequest,
    /// It is done, and the answer breaks off.
    CutInAnswer,
    /// It is done, and there is no answer.
    AnswerLost,
}

const FAULTS: [Fault; 6] = [
    Fault::Error,
    Fault::SlowDown,
    Fault::Slow,
    Fault::CutInRequest,
    Fault::CutInAnswer,
    Fault::AnswerLost,
];

/// The connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

/// A proxy before an S3 server.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: String,
    client: reqwest::Client,
    mood: Mutex<Mood>,
    /// How often each of [`FAULTS`] happened.
    happened: [AtomicU64; FAULTS.len()],
}

impl Proxy {
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            client: http().build().unwrap(),
            mood: Mutex::new(Mood::Well),
            happened: Default::default(),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let state = shared.clone();
                let pass = service_fn(move |request| pass(state.clone(), request));
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    // Ends in an error where it was cut.
                    let _ = builder.serve_connection(TokioIo::new(socket), pass).await;
                });
            }
        });
        Self { address, state }
    }

    pub fn be(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// How often each fault happened.
    pub fn told(&self) -> String {
        let counts = FAULTS.iter().zip(&self.state.happened);
        let counts: Vec<String> =
            counts.map(|(fault, count)| format!("{fault:?} {}", count.load(Relaxed))).collect();
        counts.join(", ")
    }
}

impl State {
    fn next_fault(&self) -> Option<Fault> {
        let which = match *self.mood.lock().unwrap() {
            Mood::Well => return None,
            Mood::Ill => 0,
            Mood::Moody => {
                let mut rng = rand::rng();
                if !rng.random_ratio(1, 4) {
                    return None;
                }
                rng.random_range(0..FAULTS.len())
            }
        };
        self.happened[which].fetch_add(1, Relaxed);
        Some(FAULTS[which])
    }
}

async fn pass(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let fault = state.next_fault();
    let (parts, mut body) = request.into_parts();
    if let Some(Fault::CutInRequest) = fault {
        // Some of it, where there is any.
        let _ = body.frame().await;
        return Err(Cut);
    }
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    match fault {
        Some(Fault::Error) => {
            return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
        }
        Some(Fault::SlowDown) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::Slow) => {
            let pause = rand::rng().random_range(500..2500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        _ => {}
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // With all headers, the host too: it is signed.
    let sent = state.client.request(parts.method, format!("{}{path}", state.upstream));
    let answer = sent.headers(parts.headers).body(body).send().await.map_err(|_| Cut)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = answer.bytes().await.map_err(|_| Cut)?;
    let body = match fault {
        Some(Fault::AnswerLost) => return Err(Cut),
        Some(Fault::CutInAnswer) => cut(bytes),
        _ => Body::from(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    // The body is not in chunks any more.
    response.headers_mut().remove("transfer-encoding");
    Ok(response)
}

/// The first half of a body, and then an error.
fn cut(bytes: Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let pieces = stream::iter([Ok(half)]).chain(stream::once(async {
        // So that the half is under way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(Cut)
    }));
    Body::from_stream(pieces)
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// A TCP port that leads to the Unix socket of a Postgres, and can be cut.
pub struct Wire {
    pub port: u16,
    socket: PathBuf,
    task: Option<JoinHandle<Infallible>>,
    /// The port while nobody answers there: kept, so that no other program gets it meanwhile.
    kept: Option<TcpSocket>,
}

/// What a wire does with who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Through,
    /// Nobody answers at the port.
    Refused,
    /// Whoever calls is let in, and hung up on.
    Dropped,
}

impl Wire {
    pub async fn start(socket: PathBuf) -> Self {
        let mut wire = Self { port: 0, socket, task: None, kept: None };
        wire.set(Line::Through).await;
        wire
    }

    /// Cuts all that goes through, and is like this from now on.
    pub async fn set(&mut self, line: Line) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Until the port is free.
            let _ = task.await;
        }
        let port = self.kept.take().unwrap_or_else(|| bound(self.port));
        self.port = port.local_addr().unwrap().port();
        if line == Line::Refused {
            self.kept = Some(port);
            return;
        }
        let listener = port.listen(1024).unwrap();
        let socket = self.socket.clone();
        self.task = Some(tokio::spawn(async move {
            // Ended with the task.
            let mut relays = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                if line == Line::Through {
                    relays.spawn(relay(stream, socket.clone()));
                }
                while relays.try_join_next().is_some() {}
            }
        }));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A port of this machine that is taken, and where nobody answers yet.
fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections that were cut do not keep it.
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket
}

async fn relay(mut stream: TcpStream, socket: PathBuf) {
    let Ok(mut postgres) = UnixStream::connect(socket).await else { return };
    // Ends with either side.
    let _ = copy_bidirectional(&mut stream, &mut postgres).await;
}
