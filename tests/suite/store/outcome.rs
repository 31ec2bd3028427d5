//! The Store Instances Response and its status (PS3.18 §10.5.3, Annex I).

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;

use super::{failed, items, stored, text};
use crate::harness::{Dicom, Server, corpus::CT};

#[tokio::test]
async fn one_json_object_that_says_where_everything_is() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let answer = server.store("/studies", &[file]).await.is(200);
    assert_eq!(answer.header("content-type"), "application/dicom+json");
    let study = format!("{}/studies/1.2.1", server.base);
    let instance = format!("{study}/series/1.2.1.1/instances/1.2.1.1.1");
    let expected = json!({
        "00081190": {"vr": "UR", "Value": [study]},
        "00081199": {"vr": "SQ", "Value": [{
            "00081150": {"vr": "UI", "Value": [CT]},
            "00081155": {"vr": "UI", "Value": ["1.2.1.1.1"]},
            "00081190": {"vr": "UR", "Value": [instance]},
        }]},
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("location"), study);
    assert_eq!(answer.header("content-location"), study);
    // What it names can be fetched.
    server.get(&study).await.is(200);
    server.get(&instance).await.is(200);

    // Several studies have no single URL.
    let files = [
        Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file(),
        Dicom::ct("1.2.3", "1.2.3.1", "1.2.3.1.1").file(),
    ];
    let answer = server.store("/studies", &files).await.is(200);
    assert_eq!(answer.json()["00081190"], json!({"vr": "UR"}));
    assert_eq!(answer.header("location"), "");
}

#[tokio::test]
async fn identical_bytes_again_are_fine_and_other_bytes_are_not() {
    let server = Server::start().await;
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let first = ct.file();
    server.store("/studies", &[first.clone()]).await.is(200);
    server.store("/studies", &[first.clone()]).await.is(200);
    let other = ct.text(0x0010, 0x0020, "LO", "OTHER").file();
    let answer = server.store("/studies", &[other.clone()]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0x0111)]);
    assert_eq!(server.get("/studies/1.2.1").await.bodies(), [first.clone()]);
    assert_eq!(server.count("SELECT count(*) FROM instance").await, 1);

    // Beside a new one: 202, and only the new one is there.
    let new = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.2").file();
    let answer = server.store("/studies", &[other, new]).await.is(202);
    assert_eq!((failed(&answer).len(), stored(&answer)), (1, vec!["1.2.1.1.2".to_owned()]));

    let server = server.restart(&[("store.identical", "fail")]).await;
    let answer = server.store("/studies", &[first]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0x0111)]);
}

#[tokio::test]
async fn one_uid_twice_in_one_request() {
    let server = Server::start().await;
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let first = ct.file();
    let other = ct.text(0x0010, 0x0020, "LO", "OTHER").file();
    let files = [first.clone(), first.clone(), other];
    let answer = server.store("/studies", &files).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.1", "1.2.1.1.1"]);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0x0111)]);
    assert_eq!(server.get("/studies/1.2.1").await.bodies(), [first]);
    let found = server.search("/studies").await;
    assert_eq!(found[0]["00201208"]["Value"], json!([1]));
}

#[tokio::test]
async fn a_study_in_the_url_is_the_only_one_taken() {
    let server = Server::start().await;
    let right = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let wrong = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file();
    let answer = server.store("/studies/1.2.1", &[wrong.clone()]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.2.1.1".to_owned(), 0xA900)]);
    let answer = server.store("/studies/1.2.1", &[wrong, right]).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.1"]);
    server.get("/studies/1.2.2").await.problem(404);
    server.store("/studies/1..2", &[]).await.problem(400);
}

#[tokio::test]
async fn uids_that_are_missing_or_wrong() {
    let server = Server::start().await;
    let ct = |n: u32| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
    let long = "1".repeat(66);
    for (n, (group, element)) in
        [(0x0008, 0x0016), (0x0008, 0x0018), (0x0020, 0x000D), (0x0020, 0x000E)]
            .into_iter()
            .enumerate()
    {
        for (m, value) in
            [None, Some(""), Some("1.2.x"), Some("1..2"), Some(&*long)].into_iter().enumerate()
        {
            let mut dicom = ct((10 * n + m) as u32);
            match value {
                Some(value) => dicom.text(group, element, "UI", value),
                None => dicom.remove(group, element),
            };
            let answer = server.store("/studies", &[dicom.file()]).await;
            let case = format!("({group:04X},{element:04X}) {value:?}: {}", answer.text());
            assert_eq!(answer.status, 409, "{case}");
            let reasons: BTreeSet<u64> = failed(&answer)
                .into_iter()
                .map(|(_, reason)| reason)
                .chain(super::others(&answer))
                .collect();
            assert_eq!(reasons, BTreeSet::from([0xA900]), "{case}");
        }
    }
    assert!(server.search("/instances").await.is_empty());

    // Leading zeros are against PS3.5 §9.1 and live in archives: kept, with a warning.
    let file = Dicom::ct("1.2.01", "1.2.01.1", "1.2.01.1.007").file();
    let answer = server.store("/studies", &[file.clone()]).await.is(202);
    let item = &items(&answer, "00081199")[0];
    assert_eq!(text(item, "00081155"), "1.2.01.1.007");
    assert_eq!(item["00081196"], json!({"vr": "US", "Value": [0xB007]}));
    assert!(item["00741048"]["Value"][0]["00000902"]["Value"][0].is_string(), "{item}");
    let path = "/studies/1.2.01/series/1.2.01.1/instances/1.2.01.1.007";
    assert_eq!(server.get(path).await.is(200).bodies(), [file]);
    server.get("/studies/1.2.1").await.problem(404);
}

#[tokio::test]
async fn invalid_values_are_stored_with_a_warning_and_valid_keys_are_found() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1")
        .text(0x0008, 0x0020, "DA", "yesterday")
        .text(0x0008, 0x0030, "TM", "noon")
        .text(0x0010, 0x0030, "DA", "19991399")
        .text(0x0020, 0x0011, "IS", "one")
        .text(0x0010, 0x0020, "LO", "PAT-7")
        .file();
    let answer = server.store("/studies", &[file.clone()]).await.is(202);
    let item = &items(&answer, "00081199")[0];
    assert_eq!(item["00081196"]["Value"], json!([0xB007]));
    let comments = item["00741048"]["Value"].as_array().unwrap();
    let comment = |tag: &str| {
        comments.iter().any(|c| c["00000902"]["Value"][0].as_str().unwrap().starts_with(tag))
    };
    for tag in ["(0008,0020)", "(0008,0030)", "(0010,0030)", "(0020,0011)"] {
        assert!(comment(tag), "{tag} in {item}");
    }
    // No value of the file is repeated.
    assert!(!answer.text().contains("yesterday"));
    assert_eq!(server.search("/studies?PatientID=PAT-7").await.len(), 1);
    assert_eq!(server.search("/series?Modality=CT").await.len(), 1);
    assert!(server.search("/studies?StudyDate=20000101-").await.is_empty());
    assert_eq!(server.get("/studies/1.2.1").await.bodies(), [file]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_stores_of_one_study_at_once() {
    let server = Server::start().await;
    let request = async |n: u32| {
        let modality = if n.is_multiple_of(2) { "CT" } else { "MR" };
        let files: Vec<Vec<u8>> = (0..5)
            .map(|m| {
                let series = format!("1.2.1.{}", 10 + n % 4);
                Dicom::ct("1.2.1", &series, &format!("1.2.1.1.{n}.{m}"))
                    .text(0x0008, 0x0060, "CS", modality)
                    .file()
            })
            .collect();
        server.store("/studies", &files).await.status
    };
    let statuses = join_all((0..24).map(request)).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let study = &server.search("/studies?ModalitiesInStudy=MR").await[0];
    assert_eq!(study["00201206"]["Value"], json!([4]));
    assert_eq!(study["00201208"]["Value"], json!([120]));
    assert_eq!(study["00080061"]["Value"], json!(["CT", "MR"]));
    for series in server.search("/studies/1.2.1/series").await {
        assert_eq!(series["00201209"]["Value"], json!([30]));
    }
    assert_eq!(server.get("/studies/1.2.1").await.parts().len(), 120);
    // Each store wrote its event.
    assert_eq!(server.count("SELECT count(*) FROM change_feed").await, 120);
}

#[tokio::test]
async fn the_answer_as_xml() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let post = async |accept: &str, file: &[u8]| {
        let request = server.request(reqwest::Method::POST, "/studies");
        let request = request.header("content-type", "application/dicom").header("accept", accept);
        crate::harness::client::send(request.body(file.to_vec())).await
    };
    let answer = post("application/dicom+xml", &file).await.is(200);
    assert_eq!(answer.header("content-type"), "application/dicom+xml");
    let study = format!("{}/studies/1.2.1", server.base);
    assert_eq!(answer.header("location"), study);
    let text = answer.text();
    for piece in [
        format!(
            "tag=\"00081190\" vr=\"UR\" keyword=\"RetrieveURL\"><Value number=\"1\">{study}</Value>"
        ),
        "keyword=\"ReferencedSOPSequence\"><Item number=\"1\">".to_owned(),
        format!("<Value number=\"1\">{study}/series/1.2.1.1/instances/1.2.1.1.1</Value>"),
    ] {
        assert!(text.contains(&piece), "{piece} in {text}");
    }
    let answer = post("application/dicom+xml", b"nothing").await.is(409);
    assert!(answer.text().contains("keyword=\"OtherFailuresSequence\""), "{}", answer.text());
    post("text/html", &file).await.problem(406);
}
