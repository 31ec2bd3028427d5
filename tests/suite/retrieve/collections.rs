//! All bulk values and all pixel data of a study, series or instance; documents; pixel data as one
//! value.

use std::collections::BTreeMap;

use super::pixels::{INSTANCE, joined, picture, stored};
use crate::harness::{
    Dicom, Server,
    corpus::{EXPLICIT, RLE},
};

const OCTETS: &str = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
const PARTS: &str = "multipart/related; type=\"application/octet-stream\"";

/// A native image with a value of its own beside the pixels, and an RLE one of three frames.
async fn study() -> (Server, Vec<u8>, Vec<Vec<u8>>) {
    let server = Server::with(&[("limits.bulk_threshold", "64")]).await;
    let private: Vec<u8> = (0..200).collect();
    let mut plain = Dicom::ct("1.2.1", "1.2.1.2", "1.2.1.2.1");
    plain.bytes(0x0009, 0x1001, "OB", &private);
    let pictures = picture(16, 1, 3);
    let encoded = stored(&pictures, RLE).unwrap();
    server.store("/studies", &[plain.file(), encoded.file()]).await.is(200);
    (server, private, pictures.frames)
}

#[tokio::test]
async fn all_values_of_a_study_with_their_uris() {
    let (server, private, frames) = study().await;
    let pixels: Vec<u8> = (0..16_u16).flat_map(u16::to_le_bytes).collect();
    let uri = |instance: &str, path: &str| {
        let series = instance.rsplit_once('.').unwrap().0;
        let base = &server.base;
        format!("{base}/studies/1.2.1/series/{series}/instances/{instance}/bulkdata/{path}")
    };
    let expected = BTreeMap::from([
        (uri("1.2.1.2.1", "00091001"), private),
        (uri("1.2.1.2.1", "7FE00010"), pixels),
        (uri("1.2.1.1.1", "7FE00010"), frames.concat()),
    ]);
    let all = server.get_as("/studies/1.2.1/bulkdata", PARTS).await.is(200);
    let found = |answer: &crate::harness::Answer| -> BTreeMap<String, Vec<u8>> {
        let part = |part: crate::harness::client::Part| {
            assert_eq!(part.header("content-type"), OCTETS);
            (part.header("content-location").to_owned(), part.body)
        };
        answer.parts().into_iter().map(part).collect()
    };
    assert_eq!(found(&all), expected);
    // As it was asked for before these resources were there (PS3.18 Table 10.4.4-1).
    let octets = server.get_as("/studies/1.2.1", PARTS).await.is(200);
    assert_eq!(found(&octets), expected);
    let octets = server.get_as(INSTANCE, PARTS).await.is(200);
    assert_eq!(found(&octets).len(), 1);
    let pixels = server.get_as("/studies/1.2.1/pixeldata", PARTS).await.is(200);
    assert_eq!(found(&pixels).len(), 2);
    let series = server.get_as("/studies/1.2.1/series/1.2.1.2/bulkdata", PARTS).await.is(200);
    assert_eq!(found(&series).len(), 2);
    let series = server.get_as("/studies/1.2.1/series/1.2.1.2/pixeldata", PARTS).await.is(200);
    assert_eq!(found(&series).len(), 1);
    let instance = server.get_as(&format!("{INSTANCE}/bulkdata"), PARTS).await.is(200);
    assert_eq!(found(&instance).len(), 1);
    // Each value by the URI that its part says.
    for (uri, value) in &expected {
        let one = server.get_as(uri, "application/octet-stream").await.is(200);
        assert_eq!((&one.body[..], one.header("content-type")), (&value[..], OCTETS), "{uri}");
    }
    // As they are stored: a part for each frame.
    let all = format!("{PARTS}; transfer-syntax=*");
    let stored = server.get_as("/studies/1.2.1/pixeldata", &all).await.is(200);
    let types: Vec<_> =
        stored.parts().iter().map(|part| part.header("content-type").to_owned()).collect();
    assert_eq!(types.iter().filter(|it| it.starts_with("image/dicom-rle")).count(), 3);
    // What cannot be had as asked is left out, and the answer says so.
    let rle = "multipart/related; type=\"image/dicom-rle\"; transfer-syntax=*";
    let some = server.get_as("/studies/1.2.1/bulkdata", rle).await.is(206);
    assert_eq!(some.parts().len(), 3);
    // Unless nothing can; and parts are the only form of several values.
    server.get_as("/studies/1.2.1/bulkdata", "video/mp4").await.problem(406);
    server.get_as("/studies/1.2.1/bulkdata", "application/octet-stream").await.problem(406);
    // The same again.
    let tag = pixels.header("etag").to_owned();
    let same = [("accept", PARTS), ("if-none-match", tag.as_str())];
    server.get_with("/studies/1.2.1/pixeldata", &same).await.is(304);
}

#[tokio::test]
async fn the_pixel_data_of_an_instance_is_one_value() {
    let (server, _, frames) = study().await;
    for path in [format!("{INSTANCE}/pixeldata"), format!("{INSTANCE}/bulkdata/7FE00010")] {
        let one = server.get_as(&path, "application/octet-stream").await.is(200);
        assert_eq!(one.body, frames.concat(), "{path}");
        assert_eq!(one.header("content-type"), OCTETS);
        let uri = format!("{}{INSTANCE}/bulkdata/7FE00010", server.base);
        assert_eq!(one.header("content-location"), uri);
        assert_eq!(one.header("content-length"), one.body.len().to_string());
        let range = [("accept", "application/octet-stream"), ("range", "bytes=100-199")];
        assert_eq!(server.get_with(&path, &range).await.is(206).body, one.body[100..200]);
        // Three frames are no single item in another syntax.
        server.get_as(&path, "image/dicom-rle").await.problem(406);
        // By query, which goes before the header.
        let query = format!("{path}?accept=multipart/related;type=image/jls");
        let parts = server.get(&query).await.is(200).parts();
        assert_eq!(parts.len(), 3, "{path}: a part for each frame");
        assert!(parts.iter().all(|part| {
            part.header("content-type") == "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"
        }));
    }
    let picture = picture(1, 1, 3);
    let mut bits = stored(&picture, "1.2.840.10008.1.2.1.98").unwrap();
    bits.text(0x0008, 0x0018, "UI", "1.2.1.1.7");
    server.store("/studies", &[bits.file()]).await.is(200);
    let path = format!("{}/pixeldata", INSTANCE.replace("1.2.1.1.1", "1.2.1.1.7"));
    let one = server.get_as(&path, "application/octet-stream").await.is(200);
    let mut expected = joined(&picture);
    expected.resize(expected.len().next_multiple_of(2), 0);
    assert_eq!(one.body, expected);
}

#[tokio::test]
async fn documents_have_their_own_media_type() {
    let server = Server::start().await;
    let pdf = [b"%PDF-1.4 ".as_slice(), &[7; 5001]].concat();
    let mut document = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    document.remove(0x7FE0, 0x0010).bytes(0x0042, 0x0011, "OB", &pdf).text(
        0x0042,
        0x0012,
        "LO",
        "application/pdf",
    );
    server.store("/studies", &[document.file()]).await.is(200);
    let path = format!("{INSTANCE}/bulkdata/00420011");
    for (accept, expected) in
        [("application/pdf", "application/pdf"), ("application/octet-stream", OCTETS)]
    {
        let one = server.get_as(&path, accept).await.is(200);
        assert_eq!((one.header("content-type"), &one.body[..]), (expected, &pdf[..]));
    }
    let part = server.get(&path).await.is(200).parts().remove(0);
    assert_eq!((part.header("content-type"), &part.body), ("application/pdf", &pdf));
    server.get_as(&path, "model/stl").await.problem(406);
    let all = server.get_as("/studies/1.2.1/bulkdata", "multipart/related; type=application/pdf");
    assert_eq!(all.await.is(200).bodies(), [pdf]);
    // There is no pixel data.
    server.get("/studies/1.2.1/pixeldata").await.problem(404);
    server.get(&format!("{INSTANCE}/pixeldata")).await.problem(404);
    assert!(server.get(INSTANCE).await.is(200).parts()[0].head.contains(EXPLICIT));
}
