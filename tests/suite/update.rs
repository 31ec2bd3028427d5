//! Bulk update as a client sees it: what is found and given afterwards, and what was there before.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Dicom, PARTITIONS, Server, corpus, send, until};

mod composed;
mod moves;
mod races;
mod versions;

const STUDY: &str = "/studies/1.2.1";
const ORIGINAL: (&str, &str) = ("msdicom-request-original", "true");
/// Asks for the files as they are stored.
const STORED: (&str, &str) =
    ("accept", "multipart/related; type=\"application/dicom\"; transfer-syntax=*");

/// Instance `n` of a study, in one of two series.
fn ct(study: u32, n: u32) -> Dicom {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.{}", n % 2));
    let mut ct = Dicom::ct(&study, &series, &format!("{series}.{n}"));
    ct.text(0x0020, 0x0013, "IS", &n.to_string());
    ct
}

/// A change of patient and study.
fn change() -> Value {
    json!({
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Roe^Richard" }] },
        "00100020": { "vr": "LO", "Value": ["NEW-ID"] },
        "00080050": { "vr": "SH", "Value": ["ACC-NEW"] },
        "00101010": { "vr": "AS", "Value": ["041Y"] },
    })
}

async fn ask(server: &Server, within: &str, studies: &[&str], change: &Value) -> Answer {
    let body = json!({ "studyInstanceUids": studies, "changeDataset": change }).to_string();
    server.post(&format!("{within}/studies/$bulkUpdate"), "application/json", body.into()).await
}

/// Has studies changed, and waits; how the operation ended.
async fn update(server: &Server, within: &str, studies: &[&str], change: &Value) -> Value {
    let answer = ask(server, within, studies, change).await.is(202);
    let href = answer.header("location").to_owned();
    assert_eq!(answer.json()["href"], href);
    until("the update ends", async || server.get(&href).await.status == 200).await;
    server.get(&href).await.is(200).json()
}

fn sorted(mut bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bodies.sort();
    bodies
}

async fn files(server: &Server, path: &str, headers: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let mut all = vec![STORED];
    all.extend(headers);
    sorted(server.get_with(path, &all).await.is(200).bodies())
}

/// Metadata by SOP Instance UID.
async fn metadata(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
) -> BTreeMap<String, Value> {
    let all = server.get_with(&format!("{path}/metadata"), headers).await.is(200).json();
    let all = all.as_array().unwrap().iter().cloned();
    all.map(|one| (one["00080018"]["Value"][0].as_str().unwrap().to_owned(), one)).collect()
}

/// Whether verify finds nothing.
async fn is_clean(server: &Server) {
    let (db, blobs) = server.parts().await;
    let lines = super::verify::verified(&db, &blobs, &[], true).await;
    assert_eq!(lines.last().unwrap()["clean"], true, "{lines:#?}");
}

#[tokio::test]
async fn what_was_changed_is_found_and_given_and_the_original_as_well() {
    let server = Server::start().await;
    let tag = br#"[{"path":"00101010","level":"study"}]"#.to_vec();
    server.post("/extendedquerytags", "application/json", tag).await.is(202);
    until("the tag is ready", async || {
        server.get("/extendedquerytags/00101010").await.json()["status"] == "ready"
    })
    .await;
    let stored: Vec<Vec<u8>> = (1..=3).map(|n| ct(1, n).file()).collect();
    // In one blob with another study, and in one of its own.
    server
        .store("/studies", &[stored[0].clone(), stored[1].clone(), ct(2, 1).file()])
        .await
        .is(200);
    server.store("/studies", &[stored[2].clone()]).await.is(200);
    let before = metadata(&server, STUDY, &[]).await;
    let numbers = async |server: &Server| -> Vec<Value> {
        let found = server.search(&format!("{STUDY}/instances")).await;
        found.into_iter().map(|one| one["00200013"]["Value"][0].clone()).collect()
    };
    let in_order = numbers(&server).await;
    let frame = format!("{STUDY}/series/1.2.1.0/instances/1.2.1.0.2/frames/1");
    let pixels = server.get(&frame).await.is(200).bodies();
    let etag = server.get(STUDY).await.header("etag").to_owned();

    let ended = update(&server, "", &["1.2.1"], &change()).await;
    assert_eq!((&ended["type"], &ended["status"]), (&json!("update"), &json!("succeeded")));
    assert_eq!((&ended["percentComplete"], &ended["processed"]), (&json!(100), &json!(1)));
    assert_eq!(ended["resources"], json!([format!("{}{STUDY}", server.base)]));
    let results = json!({ "studyProcessed": 1, "studyUpdated": 1, "studyFailed": 0,
        "instanceUpdated": 3, "errors": [] });
    assert_eq!(ended["results"], results);

    // Search, by names and terms, columns and tags.
    for (query, count) in [
        ("PatientID=PAT1", 1),
        ("PatientID=NEW-ID", 1),
        ("PatientName=Roe*", 1),
        ("PatientName=Richard&fuzzymatching=true", 1),
        ("StudyInstanceUID=1.2.1&PatientName=Doe*", 0),
        ("AccessionNumber=ACC-NEW", 1),
        ("PatientAge=041Y", 1),
        ("ModalitiesInStudy=CT", 2),
    ] {
        assert_eq!(server.search(&format!("/studies?{query}")).await.len(), count, "{query}");
    }
    let found = server.search("/studies?PatientID=NEW-ID&includefield=all").await;
    assert_eq!(found[0]["0020000D"]["Value"][0], "1.2.1");
    assert_eq!(found[0]["00201208"]["Value"][0], 3);
    assert_eq!(found[0]["00201206"]["Value"][0], 2);
    assert_eq!(found[0]["00100010"]["Value"][0]["Alphabetic"], "Roe^Richard");
    assert_eq!(server.search("/instances?PatientID=NEW-ID").await.len(), 3);
    assert_eq!(numbers(&server).await, in_order, "in the order in which they came");

    // Metadata: what was asked for, who changed it, and nothing else.
    let after = metadata(&server, STUDY, &[]).await;
    assert_eq!(after.len(), 3);
    for (uid, mut now) in after {
        let mut was = before[&uid].clone();
        let originals = now["04000561"]["Value"].as_array().unwrap().clone();
        assert_eq!(originals.len(), 1);
        assert_eq!(originals[0]["04000565"]["Value"][0], "CORRECT");
        assert!(originals[0]["04000562"]["Value"][0].as_str().unwrap().len() > 14);
        assert_eq!(originals[0]["04000563"]["Value"][0], "COLLIMATOR");
        let modified = &originals[0]["04000550"]["Value"][0];
        assert_eq!(modified["00100010"]["Value"][0]["Alphabetic"], "Doe^Jane");
        assert_eq!(modified["00100020"]["Value"][0], "PAT1");
        assert_eq!(modified["00080050"]["Value"][0], "ACC1");
        for (tag, value) in change().as_object().unwrap() {
            assert_eq!(now[tag], *value, "{tag}");
            was.as_object_mut().unwrap().remove(tag);
            now.as_object_mut().unwrap().remove(tag);
        }
        now.as_object_mut().unwrap().remove("04000561");
        assert_eq!(now, was);
    }
    let answer = server.get(STUDY).await.is(200);
    assert_ne!(answer.header("etag"), etag);
    assert_eq!(answer.bodies().len(), 3);
    assert_ne!(files(&server, STUDY, &[]).await, sorted(stored.clone()));
    assert_eq!(server.get(&frame).await.is(200).bodies(), pixels);
    let picture = format!("{STUDY}/series/1.2.1.0/instances/1.2.1.0.2/rendered");
    server.get_as(&picture, "image/png").await.is(200);
    server.get_as(&format!("{STUDY}/thumbnail"), "image/jpeg").await.is(200);
    // The other study is what it was.
    assert_eq!(files(&server, "/studies/1.2.2", &[]).await, [ct(2, 1).file()]);

    // What was stored, at each level, byte for byte.
    let original = server.get_with(STUDY, &[STORED, ORIGINAL]).await.is(200);
    assert_ne!(original.header("etag"), etag, "it is another answer");
    assert_eq!(sorted(original.bodies()), sorted(stored.clone()));
    let series = format!("{STUDY}/series/1.2.1.1");
    let of_series = sorted(vec![stored[0].clone(), stored[2].clone()]);
    assert_eq!(files(&server, &series, &[ORIGINAL]).await, of_series);
    let instance = format!("{series}/instances/1.2.1.1.3");
    assert_eq!(files(&server, &instance, &[ORIGINAL]).await, [stored[2].clone()]);
    assert_eq!(metadata(&server, STUDY, &[ORIGINAL]).await, before);
    let one = metadata(&server, &instance, &[ORIGINAL]).await;
    assert_eq!(one["1.2.1.1.3"], before["1.2.1.1.3"]);
    // What never changed is its own original.
    assert_eq!(files(&server, "/studies/1.2.2", &[ORIGINAL]).await, [ct(2, 1).file()]);
    let refused =
        server.get_with(STUDY, &[("msdicom-request-original", "maybe")]).await.problem(400);
    assert_eq!(refused["errors"][0]["field"], "msdicom-request-original");
    // Who sends it again sends what is stored.
    server.store("/studies", &[stored[0].clone()]).await.is(200);

    let feed = server.get("/changefeed?includeMetadata=false").await.is(200).json();
    let told: Vec<(&str, &str)> = feed
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["studyInstanceUid"] == "1.2.1")
        .map(|event| (event["action"].as_str().unwrap(), event["state"].as_str().unwrap()))
        .collect();
    assert_eq!(told[..3], [("create", "replaced"); 3]);
    assert_eq!(told[3..], [("update", "current"); 3]);
    is_clean(&server).await;
}

#[tokio::test]
async fn every_transfer_syntax_and_its_frames() {
    let server = Server::start().await;
    let mut expected = Vec::new();
    for (n, syntax) in [
        corpus::IMPLICIT,
        corpus::EXPLICIT,
        corpus::BIG,
        corpus::DEFLATED,
        corpus::RLE,
        corpus::JPEG_BASELINE,
    ]
    .into_iter()
    .enumerate()
    {
        let mut ct = ct(1, n as u32);
        if matches!(syntax, corpus::RLE | corpus::JPEG_BASELINE) {
            ct.text(0x0028, 0x0008, "IS", "2");
            ct.encapsulated(syntax, vec![vec![1; 100], vec![2; 31]]);
        } else {
            ct.syntax(syntax);
        }
        server.store("/studies", &[ct.file()]).await.is(200);
        expected.push((ct, syntax));
    }
    let frames = async || {
        let mut frames = Vec::new();
        for (n, (ct, _)) in expected.iter().enumerate() {
            let list = if ct.number(0x0028, 0x0100) == 16 && n >= 4 { "1,2" } else { "1" };
            let path = format!(
                "{STUDY}/series/1.2.1.{}/instances/1.2.1.{}.{n}/frames/{list}",
                n % 2,
                n % 2
            );
            let any = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
            frames.push(server.get_as(&path, any).await.is(200).bodies());
        }
        frames
    };
    let before = frames().await;
    let ended = update(&server, "", &["1.2.1"], &change()).await;
    assert_eq!(ended["results"]["instanceUpdated"], expected.len(), "{ended}");
    assert_eq!(frames().await, before);
    let given = server.get_with(STUDY, &[STORED]).await.is(200).parts();
    let mut syntaxes: Vec<String> = given
        .iter()
        .map(|part| part.header("content-type").rsplit('=').next().unwrap().to_owned())
        .collect();
    let mut stored: Vec<&str> = expected.iter().map(|(_, syntax)| *syntax).collect();
    syntaxes.sort();
    stored.sort_unstable();
    assert_eq!(syntaxes, stored);
    let originals = files(&server, STUDY, &[ORIGINAL]).await;
    assert_eq!(originals, sorted(expected.iter().map(|(ct, _)| ct.file()).collect()));
    for (_, one) in metadata(&server, STUDY, &[]).await {
        assert_eq!(one["00100020"]["Value"][0], "NEW-ID");
    }
    is_clean(&server).await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_its_name() {
    let server = Server::start().await;
    let named =
        |name: &str| json!({ "00100010": { "vr": "PN", "Value": [{ "Alphabetic": name }] } });
    for (studies, change, field) in [
        (json!([]), named("A"), "studyInstanceUids"),
        (json!(vec!["1.2"; 51]), named("A"), "studyInstanceUids"),
        (json!(["1.2", "1.x"]), named("A"), "studyInstanceUids[1]"),
        (json!(["1.2"]), json!({}), "changeDataset"),
        (json!(["1.2"]), json!("x"), "changeDataset"),
        (
            json!(["1.2"]),
            json!({ "0020000D": { "vr": "UI", "Value": ["1"] } }),
            "changeDataset.0020000D",
        ),
        (
            json!(["1.2"]),
            json!({ "00080060": { "vr": "CS", "Value": ["MR"] } }),
            "changeDataset.00080060",
        ),
        (
            json!(["1.2"]),
            json!({ "00100030": { "vr": "DA", "Value": ["soon"] } }),
            "changeDataset.00100030",
        ),
    ] {
        let body = json!({ "studyInstanceUids": studies, "changeDataset": change }).to_string();
        let answer = server.post("/studies/$bulkUpdate", "application/json", body.into()).await;
        assert_eq!(answer.problem(400)["errors"][0]["field"], field);
    }
    let post = async |media_type: &str, body: &str| {
        server.post("/studies/$bulkUpdate", media_type, body.to_owned().into()).await
    };
    post("application/json", "[]").await.problem(400);
    post("application/json", "{").await.problem(400);
    post("text/plain", "{}").await.problem(415);
    let odd = r#"{"studyInstanceUids":["1.2"],"changeDataset":{"00100020":{"vr":"LO"}},"x":1}"#;
    assert_eq!(post("application/json", odd).await.problem(400)["errors"][0]["field"], "x");
    assert_eq!(server.count("SELECT count(*) FROM operation").await, 0);
    // One that is not there is no error; what is there already is not written again.
    server.store("/studies", &[ct(1, 1).file()]).await.is(200);
    let ended = update(&server, "/v2", &["1.2.1", "1.2.99"], &named("Doe^Jane")).await;
    assert_eq!((&ended["status"], &ended["processed"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(ended["results"]["studyUpdated"], 0);
    assert_eq!(files(&server, STUDY, &[]).await, [ct(1, 1).file()]);
    assert_eq!(server.blobs("microsoft.default").len(), 1);
}

#[tokio::test]
async fn a_study_that_cannot_be_changed_hinders_no_other() {
    let server = Server::start().await;
    let greek = json!({ "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Διονυσιος" }] } });
    let latin = ct(1, 1).text(0x0008, 0x0005, "CS", "ISO_IR 100").file();
    let utf8 = ct(2, 1).text(0x0008, 0x0005, "CS", "ISO_IR 192").file();
    server.store("/studies", &[latin.clone(), utf8]).await.is(200);
    let ended = update(&server, "", &["1.2.1", "1.2.2"], &greek).await;
    assert_eq!((&ended["status"], &ended["failed"]), (&json!("failed"), &json!(1)), "{ended}");
    let results = &ended["results"];
    assert_eq!((&results["studyUpdated"], &results["studyFailed"]), (&json!(1), &json!(1)));
    let error = results["errors"][0].as_str().unwrap();
    assert!(error.starts_with("study 1.2.1: ") && error.contains("(0010,0010)"), "{error}");
    assert!(!error.contains("Διονυσιος"), "no value is told");
    assert_eq!(files(&server, STUDY, &[]).await, [latin]);
    assert_eq!(server.search("/studies?PatientName=Διονυσιος").await.len(), 1);
    // What was begun leaves at once.
    until("copies of the first study are gone", async || {
        server.count("SELECT count(*) FROM blob_removal").await == 0
    })
    .await;
    is_clean(&server).await;
}

#[tokio::test]
async fn another_partitions_study_is_one_that_is_not_there() {
    let server = Server::with(&PARTITIONS).await;
    for partition in ["north", "south"] {
        let studies = format!("/partitions/{partition}/studies");
        server.store(&studies, &[ct(1, 1).file()]).await.is(200);
    }
    server.store("/partitions/south/studies", &[ct(2, 1).file()]).await.is(200);
    let ended = update(&server, "/partitions/north", &["1.2.1", "1.2.2"], &change()).await;
    assert_eq!(ended["results"]["studyUpdated"], 1);
    let id = ended["operationId"].as_str().unwrap();
    server.get(&format!("/partitions/south/operations/{id}")).await.problem(404);
    for (study, n) in [(1, 1), (2, 1)] {
        let path = format!("/partitions/south/studies/1.2.{study}");
        assert_eq!(files(&server, &path, &[]).await, [ct(study, n).file()]);
        assert_eq!(files(&server, &path, &[ORIGINAL]).await, [ct(study, n).file()]);
    }
    assert_eq!(server.search("/partitions/south/studies?PatientID=NEW-ID").await.len(), 0);
    assert_eq!(server.search("/partitions/north/studies?PatientID=NEW-ID").await.len(), 1);
    // Who names no partition is told to.
    ask(&server, "", &["1.2.1"], &change()).await.problem(400);
    send(server.request(Method::GET, "/studies/$bulkUpdate")).await.is(405);
}
