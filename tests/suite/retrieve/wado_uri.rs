//! WADO-URI (PS3.18 chapter 9).

use reqwest::Method;

use super::{
    UNUSED,
    pictures::{RAW, Read, gif, greys, multi_frame, png, report, without_pixels},
};
use crate::harness::{
    Dicom, PARTITIONS, Server,
    corpus::{EXPLICIT, IMPLICIT},
    send,
};

/// The request for an instance of the usual series.
fn wado(instance: &str) -> String {
    format!("/wado?requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1&objectUID={instance}")
}

const WINDOW: &str = "&windowCenter=8&windowWidth=16";

fn ct(syntax: &str) -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").syntax(syntax).file()
}

async fn server(files: &[Vec<u8>]) -> Server {
    let server = Server::start().await;
    server.store("/studies", files).await.is(200);
    server
}

#[tokio::test]
async fn a_picture_unless_something_else_is_asked() {
    let server = server(&[ct(EXPLICIT), report("1.2.1.1.5").file()]).await;
    let path = wado("1.2.1.1.1");
    for (more, accept, expected) in [
        ("", "*/*", "image/jpeg"),
        ("", "image/png", "image/png"),
        ("", "application/dicom", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        ("&contentType=image/png", "*/*", "image/png"),
        ("&contentType=image%2Fpng", "image/jpeg", "image/png"),
        ("&contentType=image/jpeg;q=0.1,image/gif", "*/*", "image/gif"),
        ("&contentType=image/webp,image/png", "*/*", "image/png"),
        ("&accept=image/png", "*/*", "image/jpeg"),
        // What the parameter names cannot be had: the default (PS3.18 §8.3.3.1).
        ("&contentType=image/webp", "image/png", "image/jpeg"),
        ("&contentType=text/html", "*/*", "image/jpeg"),
        (
            "&contentType=application/dicom",
            "*/*",
            "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        ),
    ] {
        let answer = server.get_as(&format!("{path}{more}"), accept).await.is(200);
        assert_eq!(answer.header("content-type"), expected, "{more} {accept}");
        assert!(!answer.body.is_empty());
    }
    for (more, accept) in [("", "text/html"), ("", "multipart/related; type=\"image/jpeg\"")] {
        server.get_as(&format!("{path}{more}"), accept).await.problem(406);
    }
    let text = server.get(&wado("1.2.1.1.5")).await.is(200);
    assert_eq!(text.header("content-type"), "text/html; charset=utf-8");
    let text = server.get(&format!("{}&contentType=text/plain", wado("1.2.1.1.5"))).await.is(200);
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn the_picture_is_as_the_parameters_say() {
    let server = server(&[ct(EXPLICIT)]).await;
    let get = async |more: &str| {
        let path = format!("{}{WINDOW}&contentType=image/png{more}", wado("1.2.1.1.1"));
        png(&server.get(&path).await.is(200).body)
    };
    assert_eq!(get("").await, Read { width: 4, height: 4, pixels: greys() });
    let corner = get("&region=0.5,0.5,1,1").await;
    assert_eq!(corner, Read { width: 2, height: 2, pixels: vec![170, 187, 238, 255] });
    let size = |read: Read| (read.width, read.height);
    assert_eq!(size(get("&rows=8&columns=100").await), (8, 8));
    assert_eq!(size(get("&rows=2").await), (2, 2));
    assert_eq!(size(get("&columns=8&region=0,0,1,0.5").await), (8, 4));
    let path = format!("{}&imageAnnotation=patient,dose", wado("1.2.1.1.1"));
    let answer = server.get(&path).await.is(200);
    assert!(answer.header("warning").ends_with("not supported: dose"));
    let tag = answer.header("etag").to_owned();
    server.get_with(&path, &[("if-none-match", &tag)]).await.is(304);
    let head = send(server.request(Method::HEAD, &path)).await.is(200);
    assert_eq!(head.header("content-length"), answer.header("content-length"));
}

#[tokio::test]
async fn one_frame_of_many() {
    let server = server(&[multi_frame("1.2.1.1.1", 3).file(), ct_as("1.2.1.1.2")]).await;
    let path = format!("{}{WINDOW}&contentType=image/png", wado("1.2.1.1.1"));
    let answer = server.get(&format!("{path}&frameNumber=3")).await.is(200);
    assert_eq!(png(&answer.body).pixels, [51; 16]);
    let answer = server.get(&path).await.is(200);
    assert_eq!(png(&answer.body).pixels, [17; 16]);
    let film = format!("{}&contentType=image/gif", wado("1.2.1.1.1"));
    assert_eq!(gif(&server.get(&film).await.is(200).body).len(), 3);
    for frame in ["0", "4", "x", "1.0", "99999999999"] {
        let problem = server.get(&format!("{path}&frameNumber={frame}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "frameNumber", "{frame}");
    }
    let single = format!("{}&frameNumber=1", wado("1.2.1.1.2"));
    server.get(&single).await.problem(400);
}

fn ct_as(instance: &str) -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.1", instance).file()
}

#[tokio::test]
async fn the_instance_itself() {
    let stored = ct(IMPLICIT);
    let server = server(&[stored.clone()]).await;
    let path = format!("{}&contentType=application/dicom", wado("1.2.1.1.1"));
    let answer = server.get(&path).await.is(200);
    let expected = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1";
    assert_eq!(answer.header("content-type"), expected);
    assert_ne!(&answer.body[..], stored);
    assert_eq!(&answer.body[128..132], b"DICM");
    let same = server.get(&format!("{path}&transferSyntax={IMPLICIT}")).await.is(200);
    assert_eq!(&same.body[..], stored);
    server.get(&format!("{path}&transferSyntax=1.2.840.10008.1.2.4.100")).await.problem(406);
    let problem = server.get(&format!("{path}&transferSyntax=none")).await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "transferSyntax");
    let problem = server.get(&format!("{path}{WINDOW}")).await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "windowCenter");
    // What has no picture is given as it is.
    let raw = without_pixels("1.2.1.1.9", RAW, "OT").file();
    server.store("/studies", &[raw]).await.is(200);
    let answer = server.get(&wado("1.2.1.1.9")).await.is(200);
    assert!(answer.header("content-type").starts_with("application/dicom"));
    server.get(&format!("{}&contentType=image/jpeg", wado("1.2.1.1.9"))).await.problem(406);
}

#[tokio::test]
async fn nothing_identified_is_given_as_de_identified() {
    let server = server(&[ct(EXPLICIT)]).await;
    for content_type in ["application/dicom", "image/jpeg", "image/png"] {
        for value in ["yes", "no", "", "YES"] {
            let path =
                format!("{}&contentType={content_type}&anonymize={value}", wado("1.2.1.1.1"));
            if (content_type, value) == ("application/dicom", "yes") {
                server.get(&path).await.is(200);
                continue;
            }
            let problem = server.get(&path).await.problem(400);
            assert_eq!(problem["errors"][0]["field"], "anonymize", "{value}");
        }
    }
    server.get(&format!("{}&anonymize=yes", wado("1.2.1.1.1"))).await.problem(400);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let server = server(&[ct(EXPLICIT)]).await;
    for (query, field) in [
        ("", "requestType"),
        ("requestType=QIDO", "requestType"),
        ("requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1", "objectUID"),
        ("requestType=WADO&studyUID=1.2.1&objectUID=1.2.1.1.1", "seriesUID"),
    ] {
        let problem = server.get(&format!("/wado?{query}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    server.get(&wado(UNUSED)).await.problem(404);
    let elsewhere =
        format!("/wado?requestType=WADO&studyUID=1.2.1&seriesUID={UNUSED}&objectUID=1.2.1.1.1");
    server.get(&elsewhere).await.problem(404);
    server.delete("/studies/1.2.1").await.is(204);
    server.get(&wado("1.2.1.1.1")).await.problem(410);
}

#[tokio::test]
async fn in_a_partition_and_by_version() {
    let server = Server::with(&PARTITIONS).await;
    server.store("/partitions/north/studies", &[ct(EXPLICIT)]).await.is(200);
    let path = wado("1.2.1.1.1");
    for prefix in ["/partitions/north", "/v1/partitions/north", "/v2/partitions/north"] {
        let answer = server.get(&format!("{prefix}{path}")).await.is(200);
        assert_eq!(answer.header("content-type"), "image/jpeg", "{prefix}");
    }
    let by_query = format!("{path}&microsoft.partitionId=north");
    server.get(&by_query).await.is(200);
    server.get(&format!("/partitions/south{path}")).await.problem(404);
}
