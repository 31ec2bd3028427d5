//! Merge and split of patients, and moves of series and studies.

use serde_json::{Value, json};

use super::{ORIGINAL, ct, files, is_clean, metadata, sorted};
use crate::harness::{Dicom, PARTITIONS, Server, until};

/// Asks for a correction, and waits; how the operation ended.
async fn correct(server: &Server, path: &str, body: Value) -> Value {
    let answer = server.post(path, "application/json", body.to_string().into()).await.is(202);
    let href = answer.header("location").to_owned();
    until("the correction ends", async || server.get(&href).await.status == 200).await;
    let ended = server.get(&href).await.is(200).json();
    assert_eq!((&ended["type"], &ended["status"]), (&json!("update"), &json!("succeeded")));
    ended
}

/// Instance `n` of a study of somebody.
fn of(study: u32, n: u32, patient: (&str, &str), issuer: &str) -> Dicom {
    let mut ct = ct(study, n);
    ct.text(0x0010, 0x0020, "LO", patient.0).text(0x0010, 0x0010, "PN", patient.1);
    ct.text(0x0010, 0x0030, "DA", if patient.0 == "A" { "19700101" } else { "19800202" });
    if !issuer.is_empty() {
        ct.text(0x0010, 0x0021, "LO", issuer);
    }
    ct
}

async fn studies_of(server: &Server, patient: &str) -> Vec<String> {
    let found = server.search(&format!("/studies?PatientID={patient}")).await;
    let uid = |one: &Value| one["0020000D"]["Value"][0].as_str().unwrap().to_owned();
    let mut uids: Vec<String> = found.iter().map(uid).collect();
    uids.sort();
    uids
}

#[tokio::test]
async fn patients_are_merged_and_split_again() {
    let server = Server::start().await;
    let (a, b) = (("A", "Right^Name"), ("B", "Wrong^Name"));
    let all = [
        of(1, 1, a, "H").file(),
        of(2, 1, b, "H").file(),
        of(2, 2, b, "H").file(),
        of(3, 1, b, "H").file(),
        // Another hospital's.
        of(4, 1, b, "OTHER").file(),
    ];
    server.store("/studies", &all).await.is(200);
    let source = json!({ "patientId": "B", "issuerOfPatientId": "H" });
    let target = json!({ "patientId": "A", "issuerOfPatientId": "H" });
    let body = json!({ "source": source, "target": target });
    let ended = correct(&server, "/patients/$merge", body.clone()).await;
    assert_eq!(ended["results"]["instanceUpdated"], 3, "{ended}");
    assert_eq!(studies_of(&server, "A").await, ["1.2.1", "1.2.2", "1.2.3"]);
    assert_eq!(studies_of(&server, "B").await, ["1.2.4"]);
    for study in ["1.2.2", "1.2.3"] {
        for (_, one) in metadata(&server, &format!("/studies/{study}"), &[]).await {
            assert_eq!(one["00100010"]["Value"][0]["Alphabetic"], "Right^Name");
            assert_eq!(one["00100030"]["Value"][0], "19700101");
            let was = &one["04000561"]["Value"][0]["04000550"]["Value"][0];
            assert_eq!(was["00100020"]["Value"][0], "B");
        }
    }
    // There is nobody to merge any more.
    let again = server.post("/patients/$merge", "application/json", body.to_string().into()).await;
    again.problem(404);

    // One of them was somebody else's after all, of whom nothing is known.
    let body = json!({
        "studyInstanceUids": ["1.2.3"],
        "target": { "patientId": "C" },
        "changeDataset": {
            "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Third^One" }] },
            "00100030": { "vr": "DA" },
        },
    });
    correct(&server, "/studies/$assignPatient", body).await;
    assert_eq!(studies_of(&server, "A").await, ["1.2.1", "1.2.2"]);
    assert_eq!(studies_of(&server, "C").await, ["1.2.3"]);
    assert_eq!(server.search("/studies?PatientName=Third*").await.len(), 1);
    assert_eq!(files(&server, "/studies/1.2.3", &[ORIGINAL]).await, [all[3].clone()]);
    is_clean(&server).await;
}

/// Nothing of the one patient is left to be said of the other; and what is of the study stays there.
#[tokio::test]
async fn whose_patient_becomes_another_says_nothing_of_the_first_one() {
    let server = Server::start().await;
    let mut known = of(1, 1, ("A", "Right^Name"), "");
    known.remove(0x0010, 0x0030);
    known.text(0x0010, 0x1030, "DS", "60").text(0x0010, 0x1010, "AS", "055Y");
    let mut wrong = of(2, 1, ("B", "Wrong^Name"), "H");
    wrong.text(0x0010, 0x1030, "DS", "80").text(0x0010, 0x1000, "LO", "B-2");
    server.store("/studies", &[known.file(), wrong.file()]).await.is(200);
    let body = json!({ "source": { "patientId": "B" }, "target": { "patientId": "A" } });
    correct(&server, "/patients/$merge", body).await;
    let (_, is) = metadata(&server, "/studies/1.2.2", &[]).await.pop_first().unwrap();
    assert_eq!(is["00100020"]["Value"][0], "A");
    assert_eq!(is["00100010"]["Value"][0]["Alphabetic"], "Right^Name");
    assert_eq!(is["00100030"], json!({ "vr": "DA" }));
    assert_eq!((is.get("00100021"), is.get("00101000")), (None, None), "{is}");
    assert_eq!((&is["00101030"]["Value"][0], is.get("00101010")), (&json!(80), None), "{is}");
    // Of whom nothing is stored, the issuer of another ID says nothing.
    let body = json!({ "studyInstanceUids": ["1.2.2"], "target": {
        "patientId": "C", "issuerOfPatientId": "I" } });
    correct(&server, "/studies/$assignPatient", body).await;
    let body = json!({ "studyInstanceUids": ["1.2.2"], "target": { "patientId": "D" } });
    correct(&server, "/studies/$assignPatient", body).await;
    let (_, is) = metadata(&server, "/studies/1.2.2", &[]).await.pop_first().unwrap();
    assert_eq!((&is["00100020"]["Value"][0], is.get("00100021")), (&json!("D"), None), "{is}");
}

#[tokio::test]
async fn a_series_moves_into_a_study_that_is_there_and_into_one_that_is_new() {
    let server = Server::start().await;
    let (a, b) = (("A", "Right^Name"), ("B", "Wrong^Name"));
    let mut target = of(1, 1, a, "");
    target.text(0x0008, 0x1030, "LO", "HEAD").text(0x0008, 0x0050, "SH", "");
    let source: Vec<Vec<u8>> =
        (1..=3).map(|n| of(2, n, b, "").text(0x0010, 0x1030, "DS", "70").file()).collect();
    server.store("/studies", &[target.file()]).await.is(200);
    server.store("/studies", &source).await.is(200);
    let body = json!({ "studyInstanceUid": "1.2.1" });
    let ended = correct(&server, "/studies/1.2.2/series/1.2.2.1/$move", body.clone()).await;
    let base = &server.base;
    let paths = ["/studies/1.2.2/series/1.2.2.1", "/studies/1.2.1"];
    assert_eq!(ended["resources"], json!(paths.map(|path| format!("{base}{path}"))));
    assert_eq!(ended["results"]["instanceUpdated"], 2);

    let found = server.search("/studies?StudyInstanceUID=1.2.1&includefield=all").await;
    assert_eq!(
        (&found[0]["00201206"]["Value"][0], &found[0]["00201208"]["Value"][0]),
        (&json!(2), &json!(3))
    );
    assert_eq!(found[0]["00081030"]["Value"][0], "HEAD");
    assert!(found[0]["00080050"].get("Value").is_none(), "it has no accession number, as before");
    let left = server.search("/studies?StudyInstanceUID=1.2.2").await;
    assert_eq!(
        (&left[0]["00201206"]["Value"][0], &left[0]["00201208"]["Value"][0]),
        (&json!(1), &json!(1))
    );
    for (uid, one) in metadata(&server, "/studies/1.2.1/series/1.2.2.1", &[]).await {
        assert!(["1.2.2.1.1", "1.2.2.1.3"].contains(&&*uid), "SOP Instance UIDs stay: {uid}");
        assert_eq!(one["0020000D"]["Value"][0], "1.2.1");
        assert_eq!(one["00100020"]["Value"][0], "A");
        assert_eq!(one["00081030"]["Value"][0], "HEAD");
        assert!(one["00080050"].get("Value").is_none());
    }
    server.get("/studies/1.2.2/series/1.2.2.1").await.problem(404);
    let was = files(&server, "/studies/1.2.1/series/1.2.2.1", &[ORIGINAL]).await;
    assert_eq!(was, sorted(vec![source[0].clone(), source[2].clone()]));
    // It is told as gone from where it was, and as new where it is.
    let feed = server.get("/changefeed?includeMetadata=false").await.is(200).json();
    let of_one = |event: &&Value| event["sopInstanceUid"] == "1.2.2.1.3";
    let told: Vec<[&str; 3]> = feed
        .as_array()
        .unwrap()
        .iter()
        .filter(of_one)
        .map(|event| {
            ["studyInstanceUid", "action", "state"].map(|name| event[name].as_str().unwrap())
        })
        .collect();
    let expected = [
        ["1.2.2", "create", "deleted"],
        ["1.2.2", "delete", "deleted"],
        ["1.2.1", "create", "current"],
    ];
    assert_eq!(told, expected);
    // Whoever sends it again to where it was sends what is stored.
    server.store("/studies", &[source[0].clone()]).await.is(200);
    assert_eq!(
        server.search("/studies?StudyInstanceUID=1.2.2").await[0]["00201208"]["Value"][0],
        1
    );

    // Into a new study, with a description of its own; and what is left of the old one whole.
    let new = json!({ "studyInstanceUid": "1.2.9", "changeDataset":
        { "00081030": { "vr": "LO", "Value": ["NEW"] } } });
    correct(&server, "/studies/1.2.1/series/1.2.2.1/$move", new).await;
    let found = server.search("/studies?StudyInstanceUID=1.2.9&includefield=all").await;
    assert_eq!(
        (&found[0]["00081030"]["Value"][0], &found[0]["00201208"]["Value"][0]),
        (&json!("NEW"), &json!(2))
    );
    correct(&server, "/studies/1.2.2/$move", json!({ "studyInstanceUid": "1.2.9" })).await;
    server.get("/studies/1.2.2").await.problem(404);
    assert_eq!(files(&server, "/studies/1.2.9", &[]).await.len(), 3);
    assert_eq!(files(&server, "/studies/1.2.9", &[ORIGINAL]).await, sorted(source.clone()));
    is_clean(&server).await;

    // All versions go with it, wherever it was, and come back.
    server.delete("/studies/1.2.9").await.is(204);
    is_clean(&server).await;
    let undelete = server.post("/studies/1.2.9/$undelete", "application/json", Vec::new()).await;
    assert_eq!(undelete.is(200).json()["restored"], 3);
    assert_eq!(files(&server, "/studies/1.2.9", &[ORIGINAL]).await, sorted(source));
    is_clean(&server).await;
}

#[tokio::test]
async fn what_cannot_be_corrected_is_refused_with_its_name() {
    let server = Server::with(&PARTITIONS).await;
    server.store("/partitions/north/studies", &[ct(1, 1).file()]).await.is(200);
    server.store("/partitions/south/studies", &[ct(2, 1).file()]).await.is(200);
    let post = async |path: &str, body: Value| {
        let path = format!("/partitions/north{path}");
        server.post(&path, "application/json", body.to_string().into()).await
    };
    let (a, b) = (json!({ "patientId": "A" }), json!({ "patientId": "B" }));
    for (path, body, field) in [
        ("/patients/$merge", json!({ "target": a }), "source"),
        ("/patients/$merge", json!({ "source": a }), "target"),
        ("/patients/$merge", json!({ "source": a, "target": a }), "target"),
        ("/patients/$merge", json!({ "source": a, "target": b, "x": 1 }), "x"),
        ("/studies/$assignPatient", json!({ "target": a }), "studyInstanceUids"),
        ("/studies/$assignPatient", json!({ "studyInstanceUids": ["1.2"] }), "target"),
        ("/studies/1.2.1/$move", json!({}), "studyInstanceUid"),
        ("/studies/1.2.1/$move", json!({ "studyInstanceUid": "1.2.1" }), "studyInstanceUid"),
        ("/studies/1.2.1/$move", json!({ "studyInstanceUid": "1.x" }), "studyInstanceUid"),
        (
            "/studies/1.2.1/$move",
            json!({ "studyInstanceUid": "1.3", "changeDataset":
                { "0020000E": { "vr": "UI", "Value": ["1.4"] } } }),
            "changeDataset.0020000E",
        ),
    ] {
        assert_eq!(post(path, body).await.problem(400)["errors"][0]["field"], field, "{path}");
    }
    // South's, and nobody's.
    let into = json!({ "studyInstanceUid": "1.2.1" });
    post("/studies/1.2.2/$move", into.clone()).await.problem(404);
    post("/studies/1.2.1/series/1.2.1.7/$move", json!({ "studyInstanceUid": "1.2.9" }))
        .await
        .problem(404);
    post("/patients/$merge", json!({ "source": a, "target": b })).await.problem(404);
    // A study of the same UID in another partition is not the one that is moved into.
    correct(
        &server,
        "/partitions/north/studies/1.2.1/$move",
        json!({ "studyInstanceUid": "1.2.2" }),
    )
    .await;
    assert_eq!(files(&server, "/partitions/south/studies/1.2.2", &[]).await, [ct(2, 1).file()]);
    assert_eq!(files(&server, "/partitions/north/studies/1.2.2", &[]).await.len(), 1);
    is_clean(&server).await;
}
