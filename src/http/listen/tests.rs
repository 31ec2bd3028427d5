//! The loop over real sockets on loopback.

#![expect(clippy::disallowed_methods, reason = "routers made for a test")]

use std::time::Duration;

use axum::{
    Extension,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use futures::stream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::LimitsConfig,
    http::{multipart::PartReader, problem::Problem},
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Drained>,
}

async fn start(router: Router, config: ServerConfig) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let ended = tokio::spawn(async move { serve(listener, router, &config, None, shutdown).await });
    Running { address, stop, ended }
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

/// What the server sends until it closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(stream.read_u8().await.unwrap() as char);
    }
    text
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn one_connection_serves_several_requests_and_ends_on_the_signal() {
    let running = start(hello(), ServerConfig::default()).await;
    let mut client = connect(&running).await;
    for _ in 0..2 {
        client.write_all(GET).await.unwrap();
        assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    }
    running.stop.send(()).unwrap();
    assert_eq!(rest(client).await, "");
    assert_eq!(running.ended.await.unwrap(), Drained { cut_off: 0 });
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port() {
    let running = start(hello(), ServerConfig::default()).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{}/", running.address)).send().await.unwrap();
    assert_eq!(answer.version(), axum::http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");
    drop(client);
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap(), Drained { cut_off: 0 });
}

/// A handler that says when it has begun and answers when it is told to.
fn slow() -> (Router, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel(8);
    let (go, may_go) = mpsc::channel::<()>(8);
    let may_go = Arc::new(tokio::sync::Mutex::new(may_go));
    let handler = move || async move {
        begun.send(()).await.unwrap();
        may_go.lock().await.recv().await;
        "done"
    };
    (Router::new().route("/", get(handler)), has_begun, go)
}

#[tokio::test]
async fn what_is_in_flight_ends_before_the_server_does() {
    let (router, mut begun, go) = slow();
    let running = start(router, ServerConfig::default()).await;
    let mut client = connect(&running).await;
    client.write_all(GET).await.unwrap();
    begun.recv().await.unwrap();
    running.stop.send(()).unwrap();
    go.send(()).await.unwrap();
    assert!(rest(client).await.ends_with("done"));
    assert_eq!(running.ended.await.unwrap(), Drained { cut_off: 0 });
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let (router, mut begun, _go) = slow();
    let config =
        ServerConfig { drain_timeout: Duration::from_millis(10), ..ServerConfig::default() };
    let running = start(router, config).await;
    let mut client = connect(&running).await;
    client.write_all(GET).await.unwrap();
    begun.recv().await.unwrap();
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap(), Drained { cut_off: 1 });
    assert_eq!(rest(client).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_served_as_such() {
    let (router, mut begun, go) = slow();
    let beyond = |crowded: Option<Extension<Crowded>>| async move {
        if crowded.is_some() { "beyond" } else { "served" }
    };
    let router = router.route("/place", get(beyond));
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let running = start(router, config).await;
    let mut first = connect(&running).await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    begun.recv().await.unwrap();
    const PLACE: &[u8] = b"GET /place HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut second = connect(&running).await;
    second.write_all(PLACE).await.unwrap();
    assert!(rest(second).await.ends_with("beyond"));
    go.send(()).await.unwrap();
    assert!(rest(first).await.ends_with("done"));
    // The place is free a moment after its connection was closed.
    loop {
        let mut third = connect(&running).await;
        third.write_all(PLACE).await.unwrap();
        if rest(third).await.ends_with("served") {
            break;
        }
    }
}

#[tokio::test]
async fn silent_clients_are_let_go() {
    for sent in [&b""[..], b"PRI * HTTP/2", b"GET / HTTP/1.1\r\nhost: "] {
        let config =
            ServerConfig { header_timeout: Duration::from_millis(10), ..ServerConfig::default() };
        let running = start(hello(), config).await;
        let mut client = connect(&running).await;
        client.write_all(sent).await.unwrap();
        let text = rest(client).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{sent:?}: {text}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let (held, mut dropped) = mpsc::channel::<()>(1);
    let held = std::sync::Mutex::new(Some(held));
    let handler = move || {
        let held = held.lock().unwrap().take();
        async move {
            let large = Bytes::from(vec![0_u8; 64 << 10]);
            let chunks = stream::unfold((held, large), async |(held, large)| {
                Some((Ok::<_, axum::BoxError>(large.clone()), (held, large)))
            });
            Body::from_stream(chunks)
        }
    };
    let handler = Arc::new(handler);
    let router = Router::new().route("/", get(move || handler()));
    let config =
        ServerConfig { write_timeout: Duration::from_millis(10), ..ServerConfig::default() };
    let running = start(router, config).await;
    let mut client = connect(&running).await;
    client.write_all(GET).await.unwrap();
    // The endless answer holds the other end of the channel until the server gives it up.
    assert_eq!(dropped.recv().await, None);
    drop(client);
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap(), Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ended = serve(listener, hello(), &ServerConfig::default(), None, async {}).await;
    assert_eq!(ended, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_body_is_asked_for_when_it_is_wanted_and_not_when_it_is_too_long() {
    let handler = async |headers: axum::http::HeaderMap, body: Body| {
        let limits = LimitsConfig { request_bytes: 100, ..LimitsConfig::default() };
        let mut reader = PartReader::open(&headers, body, &limits, &["application/dicom"])?;
        let Some(part) = reader.next_part().await? else { return Ok(String::new()) };
        let content = part.collect(100).await?;
        Ok::<_, Problem>(String::from_utf8_lossy(&content).into_owned())
    };
    let running = start(Router::new().route("/", post(handler)), ServerConfig::default()).await;
    for (length, expected) in [(3, "HTTP/1.1 100"), (101, "HTTP/1.1 413")] {
        let mut client = connect(&running).await;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\n\
             content-type: application/dicom\r\ncontent-length: {length}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let first = read_until(&mut client, "\r\n\r\n").await;
        assert!(first.starts_with(expected), "{first}");
        if length == 3 {
            client.write_all(b"abc").await.unwrap();
            assert!(rest(client).await.ends_with("abc"));
        }
    }
}
