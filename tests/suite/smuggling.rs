//! Requests whose end a proxy could see elsewhere than we do: one answer at the most, and never one
//! to what was hidden in them.

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::{Dicom, Server};

/// A request that must not be seen, and would be answered with 200.
const HIDDEN: &str = "GET /studies/1.2.1/metadata?hidden HTTP/1.1\r\nHost: x\r\n\r\n";

async fn server() -> Server {
    let server = Server::with(&[("server.header_timeout", "1s")]).await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file]).await.is(200);
    server
}

/// The statuses of all answers to what is sent on one connection, which ends.
async fn statuses(server: &Server, request: &str) -> Vec<u16> {
    let bytes: Vec<u8> = request.chars().map(|c| c as u8).collect();
    let answer = timeout(Duration::from_secs(60), server.raw(&bytes)).await.expect(request);
    let text = String::from_utf8_lossy(&answer);
    let codes = text.split("HTTP/1.1 ").skip(1).chain(text.split("HTTP/1.0 ").skip(1));
    codes.map(|rest| rest[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn what_has_two_readings_is_refused_and_nothing_behind_it_is_answered() {
    let server = server().await;
    let length = HIDDEN.len();
    for head in [
        // Both lengths, either way round (CL.TE, TE.CL).
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n".to_owned(),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Two of one (CL.CL, TE.TE).
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Lengths and codings that some take and some do not.
        "Content-Length: +0\r\n\r\n".to_owned(),
        "Content-Length: 0, 0\r\n\r\n".to_owned(),
        "Content-Length: 0x0\r\n\r\n".to_owned(),
        "Content-Length: -0\r\n\r\n".to_owned(),
        "Content-Length:\r\n\r\n".to_owned(),
        "Content-Length : 0\r\n\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: x\r\n chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer\u{0}-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Ends of lines that some take and some do not.
        "X: y\nContent-Length: 0\r\n\r\n".to_owned(),
        "X: y\n\n".to_owned(),
        "X: y\r\n\n".to_owned(),
        "X: y\n\r\n".to_owned(),
        "X: y\rContent-Length: 0\r\n\r\n".to_owned(),
        "X: y\r\r\n\r\n".to_owned(),
        // Chunks.
        "Transfer-Encoding: chunked\r\n\r\n0\n\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n".to_owned(),
    ] {
        for line in ["POST /removals/$retry", "GET /studies/1.2.404"] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{head}{HIDDEN}");
            let answered = statuses(&server, &request).await;
            let is_refused = matches!(answered.as_slice(), [] | [400..=499]);
            // What is read before its body is not judged by that.
            let is_in_body = head.starts_with("Transfer-Encoding: chunked\r\n\r\n");
            let is_closed = is_in_body && matches!(answered.as_slice(), [200]);
            assert!(is_refused || is_closed, "{request:?}: {answered:?}");
        }
    }
}

#[tokio::test]
async fn plain_requests_go_on_one_after_the_other() {
    let server = server().await;
    for first in [
        "POST /removals/$retry HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "POST /removals/$retry HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=b\r\nabc\r\n0\r\n\r\n",
        "GET /studies/1.2.1/metadata HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nGET /studies/1.2.1/metadata HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answered = statuses(&server, &format!("{first}{HIDDEN}")).await;
        assert!(answered.starts_with(&[200, 200]), "{first:?}: {answered:?}");
    }
}

#[tokio::test]
async fn an_old_request_ends_its_connection_and_takes_no_chunks() {
    let server = server().await;
    let get = "GET /studies/1.2.1/metadata HTTP/1.0\r\nHost: x\r\n\r\n";
    assert_eq!(statuses(&server, &format!("{get}{HIDDEN}")).await, [200]);
    let chunked = "POST /removals/$retry HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\
                   Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    // Closed, with or without a word.
    let answered = statuses(&server, &format!("{chunked}{HIDDEN}")).await;
    assert!(matches!(answered.as_slice(), [] | [400]), "{answered:?}");
}

#[tokio::test]
async fn a_whole_url_in_the_request_says_the_host() {
    let server = Server::with(&[
        ("features.enable_data_partition", "true"),
        ("tenancy.base_domain", "dicom.test"),
        ("server.header_timeout", "1s"),
    ])
    .await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/partitions/north/studies", &[file]).await.is(200);
    let ask = async |target: &str, host: &str| {
        let request = format!(
            "GET {target}/studies/1.2.1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        statuses(&server, &request).await
    };
    let (north, south) = ("north.dicom.test", "south.dicom.test");
    assert_eq!(ask("", north).await, [200]);
    assert_eq!(ask("", south).await, [404]);
    // RFC 9112 §3.2.2: what Host says does not count then.
    assert_eq!(ask(&format!("http://{south}"), north).await, [404]);
    assert_eq!(ask(&format!("http://{north}"), south).await, [200]);
    let twice = format!("{north}\r\nHost: {south}");
    assert_eq!(ask("", &twice).await, [400]);
}

#[tokio::test]
async fn what_stands_behind_a_chunk_is_bounded() {
    let server = server().await;
    let long = "x".repeat(1 << 20);
    let request = format!(
        "POST /studies HTTP/1.1\r\nHost: x\r\nContent-Type: application/dicom\r\n\
         Transfer-Encoding: chunked\r\n\r\n1;{long}\r\na\r\n0\r\n\r\n{HIDDEN}"
    );
    let answered = statuses(&server, &request).await;
    assert!(matches!(answered.as_slice(), [] | [400..=499]), "{answered:?}");
}
