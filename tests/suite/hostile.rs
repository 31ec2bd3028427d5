//! Junk on every route: a refusal in the server's own words, never a failure of the server.

use std::time::Duration;

use collimator::http::routes;
use futures::{StreamExt, stream};
use tokio::time::timeout;

use crate::harness::{Dicom, Server};

/// What stands for a path parameter, as it is in the request line.
const SEGMENTS: &[&str] = &[
    "%00",
    "%ff%fe",
    "%",
    "%zz",
    "%2e%2e%2f%2e%2e",
    "..",
    "'%20OR%201=1--",
    "1.2.3;DROP%20TABLE%20study",
    "%27%29%3B--",
    "*",
    "1111111111111111111111111111111111111111111111111111111111111111111111111111111111",
    "%E2%80%AE",
    "4294967296,99999999999999999999",
    "\"><script>",
];

const QUERIES: &[&str] = &[
    "limit=1e9&offset=-1",
    "StudyDate=%00&PatientName=%ff%fe",
    "PatientName=%27%3B%20DROP%20TABLE%20study--",
    "PatientID=%5C%25_%5C",
    "PatientName=****************************************************************a*b*c*d*e*f?",
    "StudyInstanceUID=1,2,3,,,,,4",
    "microsoft.partitionId=%27%20OR%20%271%27=%271",
    "microsoft.partitionId=a&microsoft.partitionId=b",
    "includefield=%00,%ff&includefield=",
    "accept=%00/%00;q=nan",
    "&&&===&=&a=b=c",
    "00100020=x&PatientID=y",
    "FFFFFFFF=1&7FE00010=x",
];

const HEADERS: &[&str] = &[
    "Accept: ,,;;q=,*/*;q=nan, multipart/related; type=",
    "Accept: application/dicom; transfer-syntax=\"; q=2",
    "Range: bytes=18446744073709551615-18446744073709551616,5-1,-0,--",
    "Range: bytes=99999999999999999999-",
    "If-None-Match: \"\\\u{ff}\", W/, *",
    "Content-Type: multipart/related; boundary=\"\\",
    "Content-Type: multipart/related; type=application/dicom; boundary=;;;",
    "Content-Type: application/dicom",
    "microsoft.partitionId: \u{ff}",
    "microsoft.partitionId: ../../north",
    "Host: x' OR 1=1",
    "Forwarded: host=\"\x01\"",
    "Expect: nothing",
    "Accept-Encoding: zstd;q=, gzip;q=9, \u{ff}",
];

/// Sends a request as bytes and gives the answer, which must be one that a client can use.
async fn ask(server: &Server, request: &[u8]) -> u16 {
    let shown = String::from_utf8_lossy(request).into_owned();
    let answer = timeout(Duration::from_secs(60), server.raw(request)).await;
    let answer = String::from_utf8_lossy(&answer.expect(&shown)).into_owned();
    let status: u16 = answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| {
        panic!("no answer to {shown}: {answer}");
    });
    assert!((200..500).contains(&status), "{status} to {shown}: {answer}");
    // What is not HTTP at all is answered by the parser, without a body.
    let parser = answer.contains("content-length: 0") && [400, 414, 431].contains(&status);
    if status >= 400 && !parser {
        assert!(answer.contains("content-type: application/problem+json"), "{shown}: {answer}");
        assert!(answer.contains("\"type\":\"urn:collimator:problem:"), "{shown}: {answer}");
        assert!(!answer.contains("DROP") && !answer.contains("<script>"), "{shown}: {answer}");
    }
    status
}

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

async fn check_alive(server: &Server) {
    server.get("/health/ready").await.is(200);
    assert_eq!(server.search("/partitions/north/studies").await.len(), 1);
}

async fn server() -> Server {
    let server = Server::with(&[
        ("features.enable_data_partition", "true"),
        ("tenancy.base_domain", "dicom.test"),
    ])
    .await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/partitions/north/studies", &[file]).await.is(200);
    server
}

/// A template with its parameters filled in.
fn fill(template: &str, parameter: impl Fn(&str) -> String) -> String {
    template
        .split('/')
        .map(|segment| match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            Some(name) => parameter(name.trim_start_matches('*')),
            None => segment.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/")
}

fn good(name: &str) -> String {
    match name {
        "partition" => "north",
        "study" => "1.2.1",
        "series" => "1.2.1.1",
        "instance" | "workitem" => "1.2.1.1.1",
        "frames" => "1",
        "tag" => "00101010",
        "role" => "role-1",
        "operation" | "webhook" | "principal" | "key" | "revocation" => {
            "00000000000000000000000000000051"
        }
        "letter" => "7",
        "aetitle" => "AE",
        _ => "7FE00010",
    }
    .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_paths_queries_and_headers_of_every_route() {
    let server = server().await;
    let end = "Connection: close\r\nContent-Length: 0\r\n\r\n";
    let mut requests = Vec::new();
    for (method, template) in routes().published() {
        // What deletes must not succeed; every other route may answer as it likes.
        let own = |name: &str| match name {
            "study" if method == "DELETE" => "1.2.404".to_owned(),
            name => good(name),
        };
        let path = fill(&template, own);
        for segment in SEGMENTS {
            let path = fill(&template, |_| (*segment).to_owned());
            requests.push(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{end}"));
        }
        for query in QUERIES {
            requests.push(format!("{method} {path}?{query} HTTP/1.1\r\nHost: x\r\n{end}"));
        }
        for header in HEADERS {
            let host = if header.starts_with("Host") { "" } else { "Host: x\r\n" };
            requests.push(format!("{method} {path} HTTP/1.1\r\n{host}{header}\r\n{end}"));
        }
    }
    // Several at once: there are thousands.
    let asked = stream::iter(requests).for_each_concurrent(8, |request| {
        let server = &server;
        async move {
            ask(server, &latin(&request)).await;
        }
    });
    asked.await;
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_break_http() {
    let server = server().await;
    let long = "x".repeat(1 << 20);
    let many: String = (0..500).map(|n| format!("X-{n}: y\r\n")).collect();
    for request in [
        "\r\n\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /studies\r\n\r\n".to_owned(),
        "GET http://[::1/ HTTP/1.1\r\n\r\n".to_owned(),
        "GET /studies HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "POST /studies HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
            .to_owned(),
        "POST /studies HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST /studies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        format!("GET /studies?{long} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        format!("GET /studies HTTP/1.1\r\nHost: x\r\nX: {long}\r\nConnection: close\r\n\r\n"),
        format!("GET /studies HTTP/1.1\r\nHost: x\r\n{many}Connection: close\r\n\r\n"),
    ] {
        let answered = timeout(Duration::from_secs(60), server.raw(request.as_bytes())).await;
        let answer = String::from_utf8_lossy(&answered.unwrap()).into_owned();
        // Nothing, or a refusal.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:.80}: {answer}");
    }
    // Other methods, and paths that no route has.
    for (method, path) in [
        ("PUT", "/studies"),
        ("PATCH", "/studies/1.2.1"),
        ("POST", "/studies/1.2.1/metadata"),
        ("TRACE", "/studies"),
        ("QQQ", "/studies"),
        ("GET", "/"),
        ("GET", "/studies/"),
        ("GET", "//studies"),
        ("GET", "/v3/studies"),
        ("GET", "/partitions/north"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let status = ask(&server, request.as_bytes()).await;
        assert!([404, 405].contains(&status), "{method} {path}: {status}");
    }
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_cut_and_bent_at_every_place() {
    let server = server().await;
    let mut item = Dicom::item();
    item.text(0x0008, 0x0100, "SH", "T-1");
    let mut ct = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1");
    let file = ct.sequence(0x0040, 0xA730, vec![item]).file();
    let mut bad = Vec::new();
    for at in 0..file.len() {
        bad.push(file[..at].to_vec());
        for byte in [0x00, 0xFF] {
            let mut bent = file.clone();
            bent[at] = byte;
            bad.push(bent);
        }
    }
    // Hundreds in one request: each is stored, or fails alone.
    for some in bad.chunks(400) {
        let answer = server.store("/partitions/junk/studies", some).await;
        assert!([200, 202, 409].contains(&answer.status), "{}", answer.text());
        let count =
            |sequence: &str| answer.json()[sequence]["Value"].as_array().map_or(0, Vec::len);
        let told = count("00081198") + count("00081199") + count("0008119A");
        assert_eq!(told, some.len());
    }
    // Whatever of it was taken can be read.
    for result in server.search("/partitions/junk/instances").await {
        let url = result["00081190"]["Value"][0].as_str().unwrap();
        server.get_as(url, "application/dicom; transfer-syntax=*").await.is(200);
        server.get(&format!("{url}/metadata")).await.is(200).json();
        let frame = server.get(&format!("{url}/frames/1")).await;
        assert!([200, 404].contains(&frame.status), "{url}: {}", frame.text());
    }
    check_alive(&server).await;
}
