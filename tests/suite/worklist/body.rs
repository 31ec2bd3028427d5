//! Bodies of workitems: JSON and XML both ways, and those that are neither.

use serde_json::json;

use super::{of, post, workitem};
use crate::harness::{Server, corpus::multipart_of};

const XML: &str = "application/dicom+xml";

#[tokio::test]
async fn what_is_given_as_xml_can_be_sent_as_xml() {
    let server = Server::start().await;
    let mut item = workitem("Größe", "20260101");
    item["00090010"] = of("LO", json!(["ACME"]));
    item["00091001"] = of("US", json!([7]));
    item["00101020"] = of("DS", json!([1.5]));
    item["00404070"] = of("SQ", json!([{}, { "00080054": of("AE", json!(["A", null, "B"])) }]));
    item["00100010"] = of("PN", json!([{ "Alphabetic": "Doe^J & <K>", "Ideographic": "山^太" }]));
    post(&server, "/workitems?1.2.5", &item).await.is(201);
    let given = server.get_as("/workitems/1.2.5", XML).await.is(200);
    assert_eq!(given.header("content-type"), XML);
    assert!(given.header("content-location").ends_with("/workitems/1.2.5"));
    // With its own UID in it, and in the state that it has to be created in.
    let own = given.text().replace("1.2.5<", "1.2.6<");
    server.post("/workitems", XML, own.clone().into_bytes()).await.is(201);
    let one = server.get("/workitems/1.2.5").await.is(200).json();
    let mut other = server.get("/workitems/1.2.6").await.is(200).json();
    other[0]["00080018"] = one[0]["00080018"].clone();
    other[0]["00404010"] = one[0]["00404010"].clone();
    // DS is a text in XML.
    assert_eq!(other[0]["00101020"]["Value"], json!(["1.5"]));
    other[0]["00101020"] = one[0]["00101020"].clone();
    assert_eq!(other, one);

    let parts = "multipart/related; type=\"application/dicom+xml\"";
    let answer = server.get_as("/workitems/1.2.5", parts).await.is(200);
    let [part] = &*answer.parts() else { panic!("one part") };
    assert!(part.header("content-location").ends_with("/workitems/1.2.5"));
    assert_eq!(part.body, given.body);
    let body = multipart_of(&[(XML, own.replace("1.2.6<", "1.2.7<").as_bytes())]);
    let related =
        crate::harness::corpus::RELATED.replace("application/dicom\"", &format!("{XML}\""));
    assert!(related.contains(XML), "{related}");
    server.post("/workitems", &related, body).await.is(201);
    server.get("/workitems/1.2.7").await.is(200);
}

#[tokio::test]
async fn what_is_neither_is_refused() {
    let server = Server::with(&[("worklist.max_workitem_bytes", "8KiB")]).await;
    let item = workitem("P", "20260101");
    let text = item.to_string();
    for (content_type, body, status) in [
        ("application/dicom+json", "", 400),
        ("application/dicom+json", "{", 400),
        ("application/dicom+json", "[]", 400),
        ("application/dicom+json", "[{},{}]", 400),
        ("application/dicom+json", "7", 400),
        ("application/dicom+json", "{\"PatientID\":{\"vr\":\"LO\"}}", 400),
        ("application/dicom+xml", &text, 400),
        ("application/dicom+xml", "<NativeDicomModel>", 400),
        ("application/dicom+xml", "<!DOCTYPE a [<!ENTITY b \"c\">]><NativeDicomModel/>", 400),
        ("application/dicom", "x", 415),
        ("text/plain", &text, 415),
        ("multipart/related; type=\"application/dicom\"; boundary=b", "--b--", 415),
    ] {
        let answer = server.post("/workitems?1.2.5", content_type, body.into()).await;
        answer.problem(status);
    }
    server.get("/workitems/1.2.5").await.problem(404);
    // No longer than it may be, whether at once or by and by.
    let mut long = item.clone();
    long["00400400"] = of("LT", json!(["x".repeat(9_000)]));
    let problem = post(&server, "/workitems?1.2.5", &long).await.problem(413);
    assert_eq!(problem["errors"][0]["field"], "worklist.max_workitem_bytes");
    post(&server, "/workitems?1.2.5", &item).await.is(201);
    let piece = |tag: &str| json!({ tag: of("LT", json!(["x".repeat(4_000)])) });
    post(&server, "/workitems/1.2.5", &piece("00400400")).await.is(200);
    post(&server, "/workitems/1.2.5", &piece("00104000")).await.problem(413);
    let found = server.get("/workitems/1.2.5").await.is(200);
    assert!(!found.text().contains("00104000"));
    // Without a content type it is JSON.
    let request = server.request(reqwest::Method::POST, "/workitems?1.2.6").body(text);
    crate::harness::send(request).await.is(201);
}
