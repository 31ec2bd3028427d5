//! Storage commitment (PS3.18 §13).

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Dicom, PARTITIONS, Server,
    corpus::{RELATED, multipart_of},
    until,
};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const JSON: &str = "application/dicom+json";
const XML: &str = "application/dicom+xml";

fn ct(study: &str, number: u8) -> Vec<u8> {
    Dicom::ct(study, &format!("{study}.1"), &format!("{study}.1.{number}")).file()
}

fn one(vr: &str, value: impl Into<Value>) -> Value {
    json!({"vr": vr, "Value": [value.into()]})
}

fn sequence(items: Vec<Value>) -> Value {
    json!({"vr": "SQ", "Value": items})
}

/// A reference by class and instance.
fn sop(class: &str, instance: &str) -> Value {
    json!({"00081150": one("UI", class), "00081155": one("UI", instance)})
}

fn failed(class: &str, instance: &str, reason: u16) -> Value {
    json!({
        "00081150": one("UI", class),
        "00081155": one("UI", instance),
        "00081197": one("US", reason),
    })
}

fn body_of(items: Vec<Value>) -> Vec<u8> {
    json!({"00081199": sequence(items)}).to_string().into_bytes()
}

/// What comes of a request, however long it takes.
async fn committed(server: &Server, path: &str, body: Vec<u8>) -> Answer {
    let answer = server.post(path, JSON, body).await;
    if answer.status == 202 {
        assert!(answer.body.is_empty() && !answer.header("retry-after").is_empty());
        until("the request is checked", async || server.get(path).await.status == 200).await;
        return server.get(path).await;
    }
    answer.is(200)
}

#[tokio::test]
async fn what_is_safe_and_what_is_not_is_told() {
    let server = Server::start().await;
    server.store("/studies", &[ct("1.2.1", 1), ct("1.2.1", 2)]).await.is(200);
    server.store("/studies", &[ct("1.2.2", 1)]).await.is(200);
    let before = server.blobs("microsoft.default");
    server.store("/studies", &[ct("1.2.3", 1)]).await.is(200);
    server.store("/studies", &[ct("1.2.4", 1)]).await.is(200);
    server.delete("/studies/1.2.4").await.is(204);
    // One blob is bent, of which each byte counts.
    let after = server.blobs("microsoft.default");
    let bent = after.difference(&before).find(|path| {
        let bytes = fs::read(path).unwrap();
        bytes == ct("1.2.3", 1)
    });
    let bent = bent.unwrap();
    let mut bytes = fs::read(bent).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(bent, bytes).unwrap();

    let path = "/commitment-requests/1.9.1";
    let mr = "1.2.840.10008.5.1.4.1.1.4";
    let body = body_of(vec![
        sop(CT, "1.2.1.1.1"),
        sop(CT, "1.2.3.1.1"),
        sop(CT, "1.2.4.1.1"),
        sop(CT, "1.2.99"),
        sop(mr, "1.2.2.1.1"),
        sop(CT, "1.2.1.1.2"),
        sop(CT, "1.2.1.1.1"),
    ]);
    let answer = committed(&server, path, body.clone()).await;
    assert_eq!(answer.header("content-type"), JSON);
    assert!(answer.header("content-location").ends_with(path));
    let expected = json!({
        "00081195": one("UI", "1.9.1"),
        "00081198": sequence(vec![
            failed(CT, "1.2.3.1.1", 0x0110),
            failed(CT, "1.2.4.1.1", 0x0112),
            failed(CT, "1.2.99", 0x0112),
            failed(mr, "1.2.2.1.1", 0x0119),
        ]),
        "00081199": sequence(vec![
            sop(CT, "1.2.1.1.1"),
            sop(CT, "1.2.1.1.2"),
            sop(CT, "1.2.1.1.1"),
        ]),
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.text(), expected.to_string(), "by tags, ascending");
    // It can be had again, also after a restart, and the UID is taken for good.
    server.post(path, JSON, body).await.problem(409);
    let server = server.restart(&[]).await;
    assert_eq!(server.get(path).await.is(200).json(), expected);
    let xml = server.get_as(path, XML).await.is(200);
    assert_eq!(xml.header("content-type"), XML);
    assert!(xml.text().contains("keyword=\"FailedSOPSequence\""), "{}", xml.text());
    let parts = server.get_as(path, &format!("multipart/related; type=\"{XML}\"")).await.is(200);
    assert_eq!(parts.parts()[0].body, xml.body);
    server.get("/commitment-requests/1.9.2").await.problem(404);
    server.get("/commitment-requests/x").await.problem(400);
    server.get_as(path, "image/png").await.problem(406);
}

#[tokio::test]
async fn by_study_and_series_the_answer_is_too() {
    let server = Server::start().await;
    server.store("/studies", &[ct("1.2.1", 1), ct("1.2.1", 2), ct("1.2.2", 1)]).await.is(200);
    let instance = |uid: &str, reason: Option<u16>| match reason {
        None => json!({"00081155": one("UI", uid)}),
        Some(reason) => json!({"00081155": one("UI", uid), "00081197": one("US", reason)}),
    };
    let study = |study: &str, series: &str, instances: Vec<Value>| {
        json!({
            "00081115": sequence(vec![json!({
                "00081112": sequence(vec![json!({
                    "0008114A": sequence(instances),
                    "00081150": one("UI", CT),
                })]),
                "0020000E": one("UI", series),
            })]),
            "0020000D": one("UI", study),
        })
    };
    let body = json!([{ "00081110": sequence(vec![
        study("1.2.1", "1.2.1.1", vec![instance("1.2.1.1.1", None), instance("1.2.1.1.2", None)]),
        // It is somewhere else.
        study("1.2.2", "1.2.2.9", vec![instance("1.2.2.1.1", None)]),
    ])}]);
    let body = body.to_string().into_bytes();
    let answer = committed(&server, "/commitment-requests/1.9.1", body).await;
    let safe = vec![instance("1.2.1.1.1", None), instance("1.2.1.1.2", None)];
    let expected = json!({
        "00081110": sequence(vec![study("1.2.1", "1.2.1.1", safe)]),
        "00081195": one("UI", "1.9.1"),
        "0008119B": sequence(vec![
            study("1.2.2", "1.2.2.9", vec![instance("1.2.2.1.1", Some(0x0112))]),
        ]),
    });
    assert_eq!(answer.text(), expected.to_string());
}

#[tokio::test]
async fn bodies_are_read_in_every_form_and_refused_by_name() {
    let server = Server::with(&[("commitment.max_instances", "2")]).await;
    server.store("/studies", &[ct("1.2.1", 1)]).await.is(200);
    let xml = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
        <NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
        <DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence"><Item number="1">
        <DicomAttribute tag="00081150" vr="UI"><Value number="1">{CT}</Value></DicomAttribute>
        <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.1.1.1</Value></DicomAttribute>
        </Item></DicomAttribute></NativeDicomModel>"#
    );
    let json = body_of(vec![sop(CT, "1.2.1.1.1")]);
    let related = |media_type| RELATED.replace("application/dicom", media_type);
    let forms = [
        (JSON.to_owned(), json.clone()),
        ("application/json".to_owned(), json.clone()),
        (XML.to_owned(), xml.clone().into_bytes()),
        (related(JSON), multipart_of(&[(JSON, &json)])),
        (related(XML), multipart_of(&[(XML, xml.as_bytes())])),
    ];
    for (at, (content_type, body)) in forms.into_iter().enumerate() {
        let path = format!("/commitment-requests/1.9.{at}");
        let answer = server.post(&path, &content_type, body).await;
        assert!([200, 202].contains(&answer.status), "{content_type}: {}", answer.text());
        until("it is checked", async || server.get(&path).await.status == 200).await;
        let safe = sequence(vec![sop(CT, "1.2.1.1.1")]);
        assert_eq!(server.get(&path).await.json()["00081199"], safe);
    }
    let path = "/commitment-requests/1.9.9";
    let refused = async |content_type: &str, body: &str, status: u16| {
        server.post(path, content_type, body.as_bytes().to_vec()).await.problem(status)
    };
    for body in [
        "",
        "[]",
        "{}",
        "7",
        r#"{"00081199":{"vr":"SQ"}}"#,
        r#"{"00081199":{"vr":"SQ","Value":[7]}}"#,
        r#"{"00081199":{"vr":"SQ","Value":[{}]}}"#,
        r#"{"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["x"]}}]}}"#,
        r#"{"00081199":{"vr":"SQ","Value":[{}]},"00081110":{"vr":"SQ","Value":[{}]}}"#,
    ] {
        refused(JSON, body, 400).await;
    }
    for body in
        ["", "<a/>", "<NativeDicomModel/>", "<NativeDicomModel><Item>", "</a>", "<!DOCTYPE a>"]
    {
        refused(XML, body, 400).await;
    }
    refused("text/plain", "x", 415).await;
    let many = body_of(vec![sop(CT, "1.2.1"), sop(CT, "1.2.2"), sop(CT, "1.2.3")]);
    let problem = server.post(path, JSON, many).await.problem(413);
    assert_eq!(problem["errors"][0]["field"], "commitment.max_instances");
    // Nothing of it was taken.
    server.get(path).await.problem(404);
}

#[tokio::test]
async fn each_partition_has_its_own_and_results_expire() {
    let server = Server::with(&PARTITIONS).await;
    for partition in ["north", "south"] {
        let path = format!("/partitions/{partition}/studies");
        server.store(&path, &[ct("1.2.1", 1)]).await.is(200);
    }
    server.store("/partitions/north/studies", &[ct("1.2.2", 1)]).await.is(200);
    let body = || body_of(vec![sop(CT, "1.2.1.1.1"), sop(CT, "1.2.2.1.1")]);
    let path = |partition: &str| format!("/partitions/{partition}/commitment-requests/1.9.1");
    let north = committed(&server, &path("north"), body()).await.json();
    assert_eq!(north["00081199"]["Value"].as_array().unwrap().len(), 2);
    let south = committed(&server, &path("south"), body()).await.json();
    assert_eq!(south["00081198"], sequence(vec![failed(CT, "1.2.2.1.1", 0x0112)]));
    server.post("/commitment-requests/1.9.2", JSON, body()).await.problem(400);
    let old = "UPDATE commitment SET ended_at = now() - interval '8 days'
        WHERE partition_id = 'north'";
    sqlx::query(old).execute(&mut server.superuser().await).await.unwrap();
    server.get(&path("north")).await.problem(410);
    server.post(&path("north"), JSON, body()).await.problem(409);
    server.get(&path("south")).await.is(200);
}

#[tokio::test]
async fn a_request_that_a_server_left_is_taken_up_by_the_next() {
    let server = Server::start().await;
    server.store("/studies", &[ct("1.2.1", 1), ct("1.2.1", 2)]).await.is(200);
    let left = format!(
        "INSERT INTO commitment (transaction_uid, sop_classes, instances, outcomes, lease_owner,
            lease_until)
        VALUES ('1.9.1', '{{{CT},{CT}}}', '{{1.2.1.1.1,1.2.1.1.2}}', '{{0}}', gen_random_uuid(),
            now() - interval '1 s')"
    );
    sqlx::query(sqlx::AssertSqlSafe(left)).execute(&mut server.superuser().await).await.unwrap();
    let server = server.restart(&[]).await;
    // Whoever asks for something else wakes the worker, which looks at all partitions first.
    let body = body_of(vec![sop(CT, "1.2.1.1.1")]);
    committed(&server, "/commitment-requests/1.9.2", body).await;
    let path = "/commitment-requests/1.9.1";
    until("it is taken up", async || server.get(path).await.status == 200).await;
    let safe = server.get(path).await.json();
    assert_eq!(safe["00081199"]["Value"].as_array().unwrap().len(), 2);
}
