//! Bulk values: whatever the metadata names by URI can be fetched.

use serde_json::Value;

use crate::harness::{
    Dicom, Server,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE},
};

const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

/// All BulkDataURIs of a data set, wherever they are.
fn uris(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("BulkDataURI").map(|uri| uri.as_str().unwrap().to_owned()));
            members.values().for_each(|member| uris(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| uris(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_named_value_can_be_fetched() {
    for syntax in [EXPLICIT, IMPLICIT, BIG, DEFLATED] {
        let server = Server::with(&[("limits.bulk_threshold", "64")]).await;
        let blob: Vec<u8> = (0..200).collect();
        let words: Vec<u16> = (0..100).map(|n| 0x0102 + n).collect();
        let mut deep = Dicom::item();
        deep.bytes(0x0042, 0x0011, "OB", &blob).words(0x0028, 0x3006, "OW", words.clone());
        let mut middle = Dicom::item();
        middle.sequence(0x0008, 0x1140, vec![Dicom::item(), deep]);
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
        ct.sequence(0x0040, 0xA730, vec![middle]).pixels((0..400).map(|n| n * 3).collect());
        ct.short(0x0028, 0x0010, 20).short(0x0028, 0x0011, 20);
        server.store("/studies", &[ct.syntax(syntax).file()]).await.is(200);
        let metadata = server.get(&format!("{INSTANCE}/metadata")).await.is(200).json();
        let mut named = Vec::new();
        uris(&metadata, &mut named);
        // The pixels; and the nested values where their VR is known to be binary.
        assert_eq!(named.len(), 3, "{syntax}: {named:?}");
        let le = |words: &[u16]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let pixels: Vec<u16> = (0..400).map(|n| n * 3).collect();
        for uri in &named {
            assert!(uri.starts_with(&format!("{}{INSTANCE}/bulkdata/", server.base)), "{uri}");
            let expected = match uri.rsplit('/').next().unwrap() {
                "00420011" => blob.clone(),
                "00283006" => le(&words),
                "7FE00010" => le(&pixels),
                other => panic!("{other}"),
            };
            let single = server.get_as(uri, "application/octet-stream").await.is(200);
            assert_eq!(single.body, expected, "{syntax} {uri}");
            assert_eq!(single.header("content-location"), uri);
            let parts = server.get(uri).await.is(200).parts();
            assert_eq!((parts.len(), &parts[0].body), (1, &expected), "{syntax} {uri}");
            assert_eq!(parts[0].header("content-location"), uri);
            let range = [("accept", "application/octet-stream"), ("range", "bytes=3-9")];
            let cut = server.get_with(uri, &range).await.is(206);
            assert_eq!(cut.body, expected[3..10], "{syntax} {uri}");
            assert_eq!(cut.header("content-range"), format!("bytes 3-9/{}", expected.len()));
            server.get_as(uri, "image/png").await.problem(406);
        }
    }
}

#[tokio::test]
async fn encapsulated_pixel_data_by_its_uri() {
    let server = Server::start().await;
    let frames: Vec<Vec<u8>> = (0..3).map(|n| vec![0xFF, 0xD8, n, n]).collect();
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    server
        .store("/studies", &[ct.encapsulated(JPEG_BASELINE, frames.clone()).file()])
        .await
        .is(200);
    let metadata = server.get(&format!("{INSTANCE}/metadata")).await.is(200).json();
    let uri = metadata[0]["7FE00010"]["BulkDataURI"].as_str().unwrap();
    let parts = server.get(uri).await.is(200).parts();
    let bodies: Vec<_> = parts.iter().map(|part| part.body.clone()).collect();
    assert_eq!(bodies, frames);
    for part in parts {
        let jpeg = format!("image/jpeg; transfer-syntax={JPEG_BASELINE}");
        assert_eq!(part.header("content-type"), jpeg);
    }
}

#[tokio::test]
async fn values_that_nothing_names() {
    let server = Server::start().await;
    server.store("/studies", &[Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()]).await.is(200);
    for path in ["00100010", "7FE00011", "0040A730/0/00420011", "x", "..", "%2e%2e/1", "7fe00010/"]
    {
        let answer = server.get(&format!("{INSTANCE}/bulkdata/{path}")).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.text());
        let status = answer.status;
        answer.problem(status);
    }
}
