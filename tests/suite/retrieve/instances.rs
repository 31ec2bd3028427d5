//! Studies, series and instances, as stored and as Explicit VR Little Endian.

use reqwest::Method;
use serde_json::Value;

use super::{STORED, UNUSED};
use crate::harness::{
    Dicom, Server,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE},
    send,
};

const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

#[tokio::test]
async fn study_series_and_instance_byte_for_byte() {
    let server = Server::start().await;
    let ct = |series: &str, n: u32| Dicom::ct("1.2.1", series, &format!("{series}.{n}")).file();
    let mut first: Vec<_> = (1..4).map(|n| ct("1.2.1.1", n)).collect();
    let second: Vec<_> = (1..3).map(|n| ct("1.2.1.2", n)).collect();
    let other = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file();
    let mut all = [first.clone(), second].concat();
    server.store("/studies", &all).await.is(200);
    server.store("/studies", &[other]).await.is(200);
    all.sort();
    first.sort();
    for accept in ["*/*", "multipart/related; type=\"application/dicom\"", STORED] {
        let study = server.get_as("/studies/1.2.1", accept).await.is(200);
        assert_eq!(study.bodies(), all, "{accept}");
        let series = server.get_as("/studies/1.2.1/series/1.2.1.1", accept).await.is(200);
        assert_eq!(series.bodies(), first, "{accept}");
        let instance = server.get_as(INSTANCE, accept).await.is(200);
        assert_eq!(instance.bodies(), [ct("1.2.1.1", 1)], "{accept}");
        let head = &instance.parts()[0];
        let content_type = head.header("content-type");
        assert_eq!(content_type, format!("application/dicom; transfer-syntax={EXPLICIT}"));
        assert_eq!(head.header("content-location"), format!("{}{INSTANCE}", server.base));
        assert_eq!(head.header("content-length"), head.body.len().to_string());
    }
    // Each part says where it is, and is there.
    for part in server.get("/studies/1.2.1").await.parts() {
        let alone = server.get_as(part.header("content-location"), "application/dicom").await;
        assert_eq!(alone.is(200).body, part.body);
    }
}

#[tokio::test]
async fn one_instance_as_one_part_and_never_a_study() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file.clone()]).await.is(200);
    let answer = server.get_as(INSTANCE, "application/dicom").await.is(200);
    assert_eq!(
        answer.header("content-type"),
        format!("application/dicom; transfer-syntax={EXPLICIT}")
    );
    assert_eq!(answer.header("content-length"), file.len().to_string());
    assert_eq!(answer.body, file);
    // By query too, which goes before the header (PS3.18 §8.7.5).
    let path = format!("{INSTANCE}?accept=application/dicom");
    assert_eq!(server.get_as(&path, "*/*").await.is(200).body, file);
    // A study is several items even if it holds one (PS3.18 §10.4.4).
    for path in ["/studies/1.2.1", "/studies/1.2.1/series/1.2.1.1"] {
        let problem = server.get_as(path, "application/dicom").await.problem(406);
        let available = problem["available"].as_array().unwrap();
        assert!(available.iter().any(|a| a.as_str().unwrap().starts_with("multipart/related")));
    }
}

#[tokio::test]
async fn the_same_request_has_the_same_bytes() {
    let server = Server::start().await;
    let files: Vec<_> =
        (1..4).map(|n| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file()).collect();
    server.store("/studies", &files).await.is(200);
    for path in ["/studies/1.2.1", INSTANCE] {
        let (first, second) = (server.get(path).await.is(200), server.get(path).await.is(200));
        assert_eq!(first.header("content-type"), second.header("content-type"));
        assert_eq!(first.body, second.body);
        let head = send(server.request(Method::HEAD, path)).await.is(200);
        assert_eq!(head.header("content-type"), first.header("content-type"));
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn uncompressed_instances_as_explicit_little_endian() {
    let server = Server::start().await;
    let mut nested = Dicom::item();
    nested.text(0x0008, 0x0100, "SH", "T-1").words(0x0028, 0x0010, "US", vec![258]);
    for (n, syntax) in [IMPLICIT, BIG, DEFLATED, EXPLICIT].into_iter().enumerate() {
        let instance = format!("1.2.1.1.{n}");
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", &instance);
        ct.pixels((0..16).map(|p| 0x0102 * p).collect()).sequence(
            0x0040,
            0xA730,
            vec![nested.clone()],
        );
        let expected = ct.clone();
        server.store("/studies", &[ct.syntax(syntax).file()]).await.is(200);
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{instance}");
        let answer = server.get_as(&path, "application/dicom").await.is(200);
        let content_type = answer.header("content-type").to_owned();
        assert_eq!(
            content_type,
            format!("application/dicom; transfer-syntax={EXPLICIT}"),
            "{syntax}"
        );
        // What came back is a Part 10 file of that syntax with the same attributes and pixels:
        // stored in another archive, its metadata and frames are the same.
        let uid = answer.body.windows(20).filter(|w| *w == b"1.2.840.10008.1.2.1\0").count();
        assert_eq!(uid, 1, "{syntax}: the File Meta Information says the syntax");
        let big = answer.body.windows(4).any(|w| w == [0x02, 0x01, 0x04, 0x02]);
        assert!(big, "{syntax}: little-endian pixels");
        if syntax == DEFLATED || syntax == EXPLICIT {
            assert!(answer.body.ends_with(&pixels(&expected)), "{syntax}");
        }
        let other = Server::start().await;
        other.store("/studies", &[answer.body.to_vec()]).await.is(200);
        let metadata = async |server: &Server| -> Value {
            let text = server.get(&format!("{path}/metadata")).await.is(200).text();
            serde_json::from_str(&text.replace(&server.base, "")).unwrap()
        };
        let (was, is) = (metadata(&server).await, metadata(&other).await);
        let keys = |v: &Value| v[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&was), keys(&is), "{syntax}");
        for key in ["00100010", "0040A730", "00280010", "00200013"] {
            assert_eq!(was[0][key], is[0][key], "{syntax}");
        }
        let frame = format!("{path}/frames/1");
        let octets = "application/octet-stream";
        assert_eq!(
            server.get_as(&frame, octets).await.is(200).body,
            other.get_as(&frame, octets).await.is(200).body,
            "{syntax}"
        );
        // And as it is stored, on demand.
        let exact = format!("application/dicom; transfer-syntax={syntax}");
        assert_eq!(server.get_as(&path, &exact).await.is(200).body, ct.file());
        assert_eq!(
            server.get_as(&path, "application/dicom; transfer-syntax=*").await.body,
            ct.file()
        );
    }
}

fn pixels(dicom: &Dicom) -> Vec<u8> {
    let data_set = dicom.data_set();
    data_set[data_set.len() - 32..].to_vec()
}

#[tokio::test]
async fn what_takes_a_codec_is_refused_with_what_can_be_had() {
    let server = Server::start().await;
    let mut jpeg = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let file = jpeg.encapsulated(JPEG_BASELINE, vec![vec![0xFF, 0xD8, 0xFF, 0xD9]]).file();
    server.store("/studies", &[file.clone()]).await.is(200);
    let exact = format!("application/dicom; transfer-syntax={EXPLICIT}");
    let problem = server.get_as(INSTANCE, &exact).await.problem(406);
    let available = problem["available"].as_array().unwrap();
    let jpeg_part = format!("application/dicom; transfer-syntax={JPEG_BASELINE}");
    assert!(available.contains(&Value::from(jpeg_part)), "{problem}");
    for accept in ["image/gif", "application/pdf"] {
        let problem = server.get_as(INSTANCE, accept).await.problem(406);
        assert!(!problem["available"].as_array().unwrap().is_empty());
    }
    // A study of which some can be given as wanted: 206, with those.
    let ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.2").file();
    server.store("/studies", &[ct.clone()]).await.is(200);
    let both = format!("multipart/related; type=\"application/dicom\"; transfer-syntax={EXPLICIT}");
    let answer = server.get_as("/studies/1.2.1", &both).await.is(206);
    assert_eq!(answer.bodies(), [ct]);
    // A second choice is taken.
    let either = format!("{exact}, application/dicom; transfer-syntax=*; q=0.5");
    assert_eq!(server.get_as(INSTANCE, &either).await.is(200).body, file);
}

#[tokio::test]
async fn absent_deleted_and_wrong() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file]).await.is(200);
    let rests = ["", "/metadata"];
    let unknown = [
        format!("/studies/{UNUSED}"),
        format!("/studies/1.2.1/series/{UNUSED}"),
        format!("/studies/{UNUSED}/series/1.2.1.1"),
        format!("/studies/1.2.1/series/1.2.1.1/instances/{UNUSED}"),
        "/studies/1.2.1/series/1.2.9/instances/1.2.1.1.1".to_owned(),
    ];
    for place in &unknown {
        for rest in rests {
            server.get(&format!("{place}{rest}")).await.problem(404);
            // What does not exist comes before how it could be had.
            server.get_as(&format!("{place}{rest}"), "image/gif").await.problem(404);
        }
    }
    let wrong = ["/studies/x", "/studies/1..2", "/studies/1.2.1/series/%20", "/studies/1.2.1%00"];
    for path in wrong {
        server.get(path).await.problem(400);
    }
    server.delete(INSTANCE).await.is(204);
    for place in ["/studies/1.2.1", "/studies/1.2.1/series/1.2.1.1", INSTANCE] {
        for rest in rests {
            server.get(&format!("{place}{rest}")).await.problem(410);
            server.get_as(&format!("{place}{rest}"), "image/gif").await.problem(410);
        }
    }
    server.get(&format!("{INSTANCE}/frames/1")).await.problem(410);
    server.get(&format!("{INSTANCE}/bulkdata/7FE00010")).await.problem(410);
}

#[tokio::test]
async fn a_missing_accept_is_anything_unless_configured() {
    let server = Server::start().await;
    server.store("/studies", &[Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()]).await.is(200);
    let ask = |authority: &str| {
        format!("GET {INSTANCE} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
    };
    let answer = server.raw(ask(server.authority()).as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let server = server.restart(&[("retrieve.missing_accept", "refuse")]).await;
    let answer = server.raw(ask(server.authority()).as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 406 "));
}
