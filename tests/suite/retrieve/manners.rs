//! How instances are given over HTTP: lengths, ranges, entity tags, and stores with latency.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    STORED,
    pixels::{INSTANCE, picture, stored},
};
use crate::harness::{Dicom, Server, corpus::RLE, s3::s3, send};

fn ct(n: u32) -> Vec<u8> {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
    ct.pixels((0..16).map(|p| p * n as u16).collect());
    // So that lengths and numbers have different numbers of digits.
    ct.text(0x0020, 0x4000, "LT", &"x".repeat(n as usize * 7)).file()
}

#[tokio::test]
async fn the_length_of_a_study_is_known_and_so_are_its_pieces() {
    let server = Server::start().await;
    let mut files: Vec<_> = (1..13).map(ct).collect();
    // Without preamble, and without preamble and prefix: both come back with them.
    files.push(ct(13)[128..].to_vec());
    files.push(ct(14)[132..].to_vec());
    let other = Dicom::ct("1.2.1", "1.2.1.2.3.4", "1.2.1.1.99").file();
    files.push(other);
    server.store("/studies", &files).await.is(200);
    for path in ["/studies/1.2.1", "/studies/1.2.1/series/1.2.1.1"] {
        for accept in [STORED, "*/*"] {
            let whole = server.get_as(path, accept).await.is(200);
            assert_eq!(whole.header("content-length"), whole.body.len().to_string(), "{path}");
            assert_eq!(whole.header("transfer-encoding"), "");
            assert_eq!(whole.parts().len(), if path.contains("series") { 14 } else { 15 });
            assert!(whole.bodies().iter().all(|body| body[128..132] == *b"DICM"));
            let total = whole.body.len();
            for (from, to) in
                [(0, 1), (0, total), (700, 5000), (total - 3, total), (total / 2, total)]
            {
                let range = format!("bytes={from}-{}", to - 1);
                let headers = [("accept", accept), ("range", range.as_str())];
                let piece = server.get_with(path, &headers).await.is(206);
                assert_eq!(piece.body, whole.body[from..to], "{path} {range}");
                assert_eq!(
                    piece.header("content-range"),
                    format!("bytes {from}-{}/{total}", to - 1)
                );
            }
            let head = server.request(Method::HEAD, path).header("accept", accept);
            let head = send(head).await.is(200);
            for name in ["content-length", "content-type", "etag"] {
                assert_eq!(head.header(name), whole.header(name), "{path} {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_study_of_several_pages_has_a_length_too() {
    let server = Server::start().await;
    let file = |n: u32| {
        let mut ct = Dicom::ct("1.2.1", &format!("1.2.1.{}", n % 3), &format!("1.2.1.1.{n}"));
        ct.text(0x0020, 0x4000, "LT", &"x".repeat(n as usize)).file()
    };
    let files: Vec<_> = (1..=510).map(file).collect();
    server.store("/studies", &files).await.is(200);
    let whole = server.get("/studies/1.2.1").await.is(200);
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    assert_eq!(whole.parts().len(), 510);
    let from = whole.body.len() - 2000;
    let range = format!("bytes={from}-");
    let piece = server.get_with("/studies/1.2.1", &[("accept", "*/*"), ("range", &range)]).await;
    assert_eq!(piece.is(206).body, whole.body[from..]);
    let series = server.get("/studies/1.2.1/series/1.2.1.1").await.is(200);
    assert_eq!(series.header("content-length"), series.body.len().to_string());
    // Where one of them has to be decoded, it is not known.
    let mut rle = stored(&picture(16, 1, 1), RLE).unwrap();
    rle.text(0x0008, 0x0018, "UI", "1.2.1.1.999");
    server.store("/studies", &[rle.file()]).await.is(200);
    let whole = server.get("/studies/1.2.1").await.is(200);
    assert_eq!(whole.header("content-length"), "");
    assert_eq!(whole.parts().len(), 511);
}

#[tokio::test]
async fn tags_tell_whether_anything_changed() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1)]).await.is(200);
    for path in ["/studies/1.2.1", "/studies/1.2.1/series/1.2.1.1", INSTANCE] {
        let first = server.get_as(path, STORED).await.is(200);
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{path}: a strong tag: {tag}");
        assert!(first.header("cache-control").contains("private"), "{path}");
        let ask = |tag: &str| {
            let headers = [("accept", STORED.to_owned()), ("if-none-match", tag.to_owned())];
            let server = &server;
            async move {
                let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                server.get_with(path, &headers).await
            }
        };
        let same = ask(&tag).await.is(304);
        assert_eq!((same.header("etag"), same.body.len()), (&*tag, 0), "{path}");
        ask("\"other\"").await.is(200);
        // Another form is another representation.
        let explicit = server.get_as(path, "multipart/related; type=\"application/dicom\"").await;
        assert_ne!(explicit.is(200).header("etag"), tag, "{path}");
        let range = [("accept", STORED), ("range", "bytes=0-9"), ("if-range", &tag)];
        assert_eq!(server.get_with(path, &range).await.is(206).body, first.body[..10], "{path}");
        let range = [("accept", STORED), ("range", "bytes=0-9"), ("if-range", "\"other\"")];
        server.get_with(path, &range).await.is(200);
    }
    let before = server.get("/studies/1.2.1").await.header("etag").to_owned();
    server.store("/studies", &[ct(2)]).await.is(200);
    assert_ne!(server.get("/studies/1.2.1").await.header("etag"), before);
}

#[tokio::test]
async fn ranges_of_one_instance() {
    let server = Server::start().await;
    let (plain, bare) = (ct(1), ct(2)[132..].to_vec());
    server.store("/studies", &[plain.clone(), bare.clone()]).await.is(200);
    let mut given = vec![0; 128];
    given.extend_from_slice(b"DICM");
    given.extend_from_slice(&bare);
    let second = INSTANCE.replace("1.2.1.1.1", "1.2.1.1.2");
    for (path, whole) in [(INSTANCE.to_owned(), plain), (second, given)] {
        let accept = "application/dicom";
        assert_eq!(server.get_as(&path, accept).await.is(200).body, whole, "{path}");
        for (from, to) in [(0, 10), (100, 140), (130, 132), (132, 200), (150, whole.len())] {
            let range = format!("bytes={from}-{}", to - 1);
            let headers = [("accept", accept), ("range", range.as_str())];
            let piece = server.get_with(&path, &headers).await.is(206);
            assert_eq!(piece.body, whole[from..to], "{path} {range}");
        }
        let beyond = [("accept", accept), ("range", "bytes=100000-")];
        server.get_with(&path, &beyond).await.is(416);
    }
}

/// A proxy before an S3 server that holds back the first answers to GET until several requests are
/// on their way at once.
struct Gate {
    upstream: String,
    client: reqwest::Client,
    is_shut: AtomicBool,
    /// Blobs that were asked for.
    waiting: Mutex<BTreeSet<String>>,
    open: Semaphore,
}

/// Requests that the gate waits for.
const AT_ONCE: usize = 4;

async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && gate.is_shut.load(Ordering::SeqCst) {
        let count = {
            let mut waiting = gate.waiting.lock().unwrap();
            waiting.insert(parts.uri.path().to_owned());
            waiting.len()
        };
        if count >= AT_ONCE {
            gate.open.close();
        }
        // Closed is open: an answer that reads one stretch after another never gets here.
        let _ = gate.open.acquire().await;
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", gate.upstream);
    let mut request = gate.client.request(parts.method, url);
    for (name, value) in &parts.headers {
        // The host too: it is signed.
        request = request.header(name, value);
    }
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let answer = request.body(body).send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = (status, Body::from(answer.bytes().await.unwrap())).into_response();
    *response.headers_mut() = headers;
    // The body is not in chunks any more.
    response.headers_mut().remove("transfer-encoding");
    response
}

#[tokio::test]
async fn the_stretches_of_a_study_are_opened_ahead() {
    let (address, _dir) = s3().await;
    let gate = Arc::new(Gate {
        upstream: format!("http://{address}"),
        client: crate::harness::http().build().unwrap(),
        is_shut: false.into(),
        waiting: Mutex::default(),
        open: Semaphore::new(0),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(pass).with_state(gate.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let server = Server::with(&[
        ("blob.kind", "s3"),
        ("blob.bucket", "test"),
        ("blob.endpoint", &endpoint),
        ("blob.allow_http", "true"),
        ("blob.access_key_id", "testkey"),
        ("blob.secret_access_key", "testsecret"),
    ])
    .await;
    // Each in a blob of its own.
    let mut files = Vec::new();
    for n in 1..=6 {
        files.push(ct(n));
        server.store("/studies", &files[files.len() - 1..]).await.is(200);
    }
    gate.is_shut.store(true, Ordering::SeqCst);
    let answer = server.get_as("/studies/1.2.1", STORED).await.is(200);
    files.sort();
    assert_eq!(answer.bodies(), files);
    assert!(gate.waiting.lock().unwrap().len() >= AT_ONCE);
}
