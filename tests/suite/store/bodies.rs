//! Bodies as clients frame them.

use bytes::Bytes;
use futures::stream;
use reqwest::{Body, Method};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{others, stored};
use crate::harness::{
    Dicom, Server,
    corpus::{RELATED, multipart, multipart_of},
    send,
};

#[tokio::test]
async fn content_types_in_every_spelling() {
    let server = Server::start().await;
    let spellings = [
        r#"multipart/related; type="application/dicom"; boundary=frontier"#,
        r#"multipart/related; type=application/dicom; boundary="frontier""#,
        r#"multipart/related;boundary=frontier;type=application/dicom"#,
        r#"Multipart/Related; BOUNDARY=frontier; start="<root>"; Type="application/DICOM""#,
        r#"multipart/related; type="application/dicom; transfer-syntax=*"; boundary=frontier"#,
        r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1; boundary=frontier"#,
        r#"multipart/related; boundary=frontier"#,
    ];
    for (n, content_type) in spellings.into_iter().enumerate() {
        let file = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file();
        let answer = server.post("/studies", content_type, multipart(&[file])).await;
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.text());
    }
    let bare = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.9").file();
    server.post("/studies", "application/dicom", bare).await.is(200);
    assert_eq!(server.search("/studies/1.2.1/instances").await.len(), spellings.len() + 1);
}

#[tokio::test]
async fn bodies_of_unknown_length_in_small_pieces() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let body = multipart(std::slice::from_ref(&file));
    for piece in [1, 7, 64] {
        let pieces: Vec<_> = body
            .chunks(piece)
            .map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c)))
            .collect();
        let request = server.request(Method::POST, "/studies").header("content-type", RELATED);
        let answer = send(request.body(Body::wrap_stream(stream::iter(pieces)))).await.is(200);
        assert_eq!(stored(&answer), ["1.2.1.1.1"]);
    }
    let given = server.get("/studies/1.2.1").await.is(200);
    assert_eq!(given.bodies(), [file]);
}

#[tokio::test]
async fn a_client_may_wait_before_it_sends() {
    let server =
        Server::with(&[("limits.request_bytes", "1MiB"), ("limits.instance_bytes", "1MiB")]).await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let head = |length: usize| {
        format!(
            "POST /studies HTTP/1.1\r\nHost: {}\r\nContent-Type: application/dicom\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            server.authority()
        )
    };
    let mut socket = TcpStream::connect(server.authority()).await.unwrap();
    socket.write_all(head(file.len()).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&file).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    // What will be refused anyway is refused before it is sent.
    let answer = server.raw(head(2 << 20).as_bytes()).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn other_parts_beside_instances_fail_alone() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let parts: [(&str, &[u8]); 4] = [
        ("application/dicom", b"garbage"),
        ("application/dicom", &file),
        ("image/png", b"\x89PNG"),
        ("application/dicom", &file[..file.len() - 10]),
    ];
    let answer = server.post("/studies", RELATED, multipart_of(&parts)).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.1"]);
    assert_eq!(others(&answer), [0xC000, 0xC000]);
    assert_eq!(super::failed(&answer), [("1.2.1.1.1".to_owned(), 0xC000)]);

    let nothing = multipart_of(&[("application/dicom", b"garbage"), ("text/plain", b"x")]);
    let answer = server.post("/studies", RELATED, nothing).await.is(409);
    assert_eq!(others(&answer), [0xC000, 0xC000]);
    assert!(answer.json().get("00081199").is_none(), "{}", answer.text());
}

#[tokio::test]
async fn what_is_no_store_at_all() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    for content_type in [
        "text/plain",
        "application/octet-stream",
        "multipart/form-data; boundary=frontier",
        "multipart/related; type=\"image/png\"; boundary=frontier",
        "nonsense",
    ] {
        let answer = server.post("/studies", content_type, multipart(&[file.clone()])).await;
        let problem = answer.problem(415);
        assert!(problem["available"].as_array().is_some_and(|a| !a.is_empty()), "{problem}");
    }
    // No Content-Type, a coded body.
    send(server.request(Method::POST, "/studies").body(file.clone())).await.problem(415);
    let coded = server.request(Method::POST, "/studies").header("content-encoding", "gzip");
    send(coded.header("content-type", "application/dicom").body(file.clone())).await.problem(415);

    // Nothing in it, or broken framing around nothing.
    for (content_type, body) in [
        (RELATED, ""),
        (RELATED, "--frontier--\r\n"),
        (RELATED, "no delimiter at all"),
        (RELATED, "--frontier\r\nno header\r\n"),
        ("multipart/related; type=\"application/dicom\"", "--frontier--\r\n"),
        ("application/dicom", ""),
    ] {
        let answer = server.post("/studies", content_type, body.into()).await;
        assert_eq!(answer.status, 400, "{content_type} {body:?}: {}", answer.text());
        answer.problem(400);
    }

    // An answer that cannot be given.
    let store = server.request(Method::POST, "/studies").header("content-type", RELATED);
    let answer = send(store.header("accept", "image/png").body(multipart(&[file]))).await;
    let problem = answer.problem(406);
    assert!(problem["available"].as_array().unwrap().contains(&"application/dicom+json".into()));
    assert!(server.search("/studies").await.is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_keeps_what_was_whole() {
    let server = Server::start().await;
    let files: Vec<Vec<u8>> =
        (1..4).map(|n| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file()).collect();
    let mut body = multipart(&files);
    body.truncate(body.len() - 40);
    let answer = server.post("/studies", RELATED, body).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.1", "1.2.1.1.2"]);
    assert_eq!(others(&answer), [0xC000]);
    assert_eq!(server.get("/studies/1.2.1").await.is(200).bodies().len(), 2);

    // The connection is lost: whatever was stored is whole, and the server goes on.
    let mut socket = TcpStream::connect(server.authority()).await.unwrap();
    let head = format!(
        "POST /studies HTTP/1.1\r\nHost: x\r\nContent-Type: {RELATED}\r\nContent-Length: 1000000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let lost = multipart(&[Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file()]);
    socket.write_all(&lost[..lost.len() / 2]).await.unwrap();
    drop(socket);
    server.store("/studies", &files).await.is(200);
    server.get("/studies/1.2.2").await.problem(404);
}
