//! Metadata as XML (PS3.19 §A.1) and in other character sets than UTF-8 (PS3.18 §8.7.9).

use serde_json::json;

use crate::harness::{Dicom, Server};

const XML: &str = "application/dicom+xml";
const PARTS: &str = "multipart/related; type=\"application/dicom+xml\"";
const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/metadata";

/// A study of three instances in two series, with text that XML has to escape.
async fn filled() -> Server {
    let server = Server::start().await;
    let ct = |series: &str, n: u32| {
        Dicom::ct("1.2.1", series, &format!("{series}.{n}"))
            .text(0x0008, 0x0005, "CS", "ISO_IR 192")
            .text(0x0018, 0x1400, "LO", "Kopf <b>&\u{1}]]>")
            .text(0x0010, 0x0010, "PN", "Müller^Jörg=山田^太郎")
            .text(0x0009, 0x0010, "LO", "ACME")
            .text(0x0009, 0x1001, "LO", "private")
            .file()
    };
    let files = [ct("1.2.1.1", 1), ct("1.2.1.1", 2), ct("1.2.1.2", 1)];
    server.store("/studies", &files).await.is(200);
    server
}

#[tokio::test]
async fn one_document_for_each_instance() {
    let server = filled().await;
    for (path, count) in [
        ("/studies/1.2.1/metadata", 3),
        ("/studies/1.2.1/series/1.2.1.1/metadata", 2),
        (INSTANCE, 1),
    ] {
        let answer = server.get_as(path, PARTS).await.is(200);
        let parts = answer.parts();
        assert_eq!(parts.len(), count, "{path}");
        for part in &parts {
            assert_eq!(part.header("content-type"), XML);
            let text = String::from_utf8(part.body.clone()).unwrap();
            let uid = text.split("keyword=\"SOPInstanceUID\"><Value number=\"1\">").nth(1).unwrap();
            let uid = uid.split('<').next().unwrap();
            let series = uid.rsplit_once('.').unwrap().0;
            let path = format!("/studies/1.2.1/series/{series}/instances/{uid}");
            let own = format!("{}{path}", server.base);
            assert_eq!(part.header("content-location"), format!("{own}/metadata"));
            assert!(
                text.contains(&format!("<BulkData uri=\"{own}/bulkdata/7FE00010\"/>")),
                "{text}"
            );
            assert!(text.contains("<Value number=\"1\">Kopf &lt;b&gt;&amp;\u{FFFD}]]&gt;</Value>"));
            assert!(text.contains("<Ideographic><FamilyName>山田</FamilyName>"), "{text}");
            assert!(text.contains("tag=\"00090001\" vr=\"LO\" privateCreator=\"ACME\""), "{text}");
        }
        // Part order and boundary are the same the next time.
        assert_eq!(server.get_as(path, PARTS).await.is(200).body, answer.body);
    }
    // What a part names can be fetched.
    let part = &server.get_as(INSTANCE, PARTS).await.parts()[0];
    let again = server.get_as(part.header("content-location"), XML).await.is(200);
    assert_eq!(again.header("content-type"), XML);
    assert_eq!(again.header("content-location"), part.header("content-location"));
    assert_eq!(again.body, part.body);
}

#[tokio::test]
async fn a_single_document_is_for_a_single_instance() {
    let server = filled().await;
    let problem = server.get_as("/studies/1.2.1/metadata", XML).await.problem(406);
    let available = problem["available"].as_array().unwrap();
    assert!(available.contains(&json!(PARTS)), "{problem}");
    assert!(!available.contains(&json!(XML)), "{problem}");
    server.get_as("/studies/1.2.9/metadata", XML).await.problem(404);
    let mixed = format!("{PARTS};q=0.5, application/json;q=0.6");
    let answer = server.get_as("/studies/1.2.1/metadata", &mixed).await.is(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let path = format!("{INSTANCE}?accept=application%2Fdicom%2Bxml");
    assert_eq!(server.get(&path).await.is(200).header("content-type"), XML);
}

#[tokio::test]
async fn each_form_has_a_tag_of_its_own() {
    let server = filled().await;
    let mut tags = Vec::new();
    for accept in ["application/dicom+json", XML, PARTS, "application/dicom+xml; charset=latin1"] {
        let answer = server.get_as(INSTANCE, accept).await.is(200);
        let tag = answer.header("etag").to_owned();
        let headers = [("accept", accept), ("if-none-match", &tag)];
        assert!(server.get_with(INSTANCE, &headers).await.is(304).body.is_empty());
        assert!(!tags.contains(&tag), "{tag}");
        tags.push(tag);
    }
}

#[tokio::test]
async fn other_character_sets_hold_the_same() {
    let server = filled().await;
    let plain = server.get(INSTANCE).await.is(200);
    assert!(plain.text().contains("Müller"));
    for (query, headers) in [
        ("?charset=ISO-8859-1", vec![]),
        ("", vec![("accept-charset", "iso-8859-1")]),
        ("", vec![("accept", "application/dicom+json; charset=ISO-8859-1")]),
        ("?charset=\"ISO_IR%20100\"", vec![("accept-charset", "utf-8")]),
    ] {
        let answer = server.get_with(&format!("{INSTANCE}{query}"), &headers).await.is(200);
        assert_eq!(answer.header("content-type"), "application/dicom+json; charset=ISO-8859-1");
        assert!(answer.body.is_ascii());
        assert_eq!(answer.json(), plain.json());
        assert_eq!(answer.json()[0]["00080005"]["Value"], json!(["ISO_IR 192"]));
    }
    let headers = [("accept", XML), ("accept-charset", "gbk, utf-8;q=0.5")];
    let answer = server.get_with(INSTANCE, &headers).await.is(200);
    assert_eq!(answer.header("content-type"), "application/dicom+xml; charset=GBK");
    assert!(answer.text().starts_with("<?xml version=\"1.0\" encoding=\"GBK\"?>"));
    assert!(answer.body.is_ascii() && answer.text().contains("M&#252;ller"));

    let headers = [("accept-charset", "klingon")];
    let answer = server.get_with(INSTANCE, &headers).await.is(200);
    assert_eq!(answer.header("content-type"), "application/dicom+json");
    let nothing = [("accept-charset", "utf-8;q=0, klingon")];
    let problem = server.get_with(INSTANCE, &nothing).await.problem(406);
    assert!(problem["available"].as_array().unwrap().contains(&json!("charset=UTF-8")));
    server.get_with("/studies/1.2.9/metadata", &nothing).await.problem(404);
}
