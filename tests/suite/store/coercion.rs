//! Coercion at Store (PS3.18 §10.5.3, PS3.3 §C.12.1.1.9): `store.coerce`.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::Row;

use super::{failed, items, stored};
use crate::harness::{
    Answer, Client, Dicom, PARTITIONS, Server,
    corpus::{BIG, CT, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE, multipart_of},
};

const RULES: &str = r#"
[[store.coerce]]
source = "Gateway"
when = { Modality = ["CT", "MR"] }
set = { InstitutionName = "North" }
prefix = { PatientID = "N-" }
issuer_of_patient_id = "NORTH"
remove = ["PatientComments"]
"#;

const STUDY: &str = "/studies/1.2.1";
const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

fn ct() -> Dicom {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    ct.text(0x0008, 0x0080, "LO", "Elsewhere").text(0x0010, 0x4000, "LT", "a remark");
    ct
}

/// A CT image that gets a blob of its own.
fn large() -> Dicom {
    let mut ct = ct();
    ct.short(0x0028, 0x0010, 256).short(0x0028, 0x0011, 256);
    ct.pixels((0..=u16::MAX).collect());
    ct
}

async fn metadata(server: &Client, study: &str) -> Value {
    server.get(&format!("{study}/metadata")).await.is(200).json()[0].clone()
}

fn value<'a>(data_set: &'a Value, tag: &str) -> &'a Value {
    &data_set[tag]["Value"][0]
}

/// Checks that an instance of [`ct`] is as the rules want it, in every place.
async fn is_coerced(server: &Server) {
    let data_set = metadata(server, STUDY).await;
    assert_eq!(value(&data_set, "00100020"), "N-PAT1");
    assert_eq!(value(&data_set, "00100021"), "NORTH");
    assert_eq!(value(&data_set, "00080080"), "North");
    assert!(data_set.get("00104000").is_none());
    let original = value(&data_set, "04000561");
    assert_eq!(value(original, "04000563"), "COLLIMATOR");
    assert_eq!(value(original, "04000564"), "Gateway");
    assert_eq!(value(original, "04000565"), "COERCE");
    assert!(value(original, "04000562").as_str().unwrap().ends_with("+0000"));
    let expected = json!({
        "00080080": {"vr": "LO", "Value": ["Elsewhere"]},
        "00100020": {"vr": "LO", "Value": ["PAT1"]},
        "00100021": {"vr": "LO"},
        "00104000": {"vr": "LT", "Value": ["a remark"]},
    });
    assert_eq!(value(original, "04000550"), &expected);
    // What is searched for, given and hashed is what is stored.
    assert_eq!(server.search("/studies?PatientID=N-PAT1").await.len(), 1);
    assert_eq!(server.search("/studies?PatientID=PAT1").await.len(), 0);
    let given = server.get_as(INSTANCE, "application/dicom; transfer-syntax=*").await.is(200);
    let row = sqlx::query("SELECT sha256, length, received_sha256 FROM instance")
        .fetch_one(&mut server.superuser().await)
        .await
        .unwrap();
    assert_eq!(row.get::<Vec<u8>, _>(0), Sha256::digest(&given.body).to_vec());
    assert_eq!(row.get::<i64, _>(1), given.body.len() as i64);
    assert!(row.get::<Option<Vec<u8>>, _>(2).is_some());
}

/// Checks the answer to a Store of one instance that was coerced.
fn is_told(answer: &Answer) {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let item = items(answer, "00081199").remove(0);
    assert_eq!(value(&item, "00081196"), 0xB000);
    let comments: Vec<&str> = item["00741048"]["Value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|comment| value(comment, "00000902").as_str().unwrap())
        .collect();
    let tags = ["(0008,0080)", "(0010,0020)", "(0010,0021)", "(0010,4000)"];
    assert_eq!(comments, tags.map(|tag| format!("{tag} was coerced")));
}

/// Checks that the answer has what the stored object says of it.
async fn is_told_in_full(server: &Server, answer: &Answer) {
    is_told(answer);
    let original = metadata(server, STUDY).await["04000561"].clone();
    assert_eq!(items(answer, "00081199")[0]["04000561"], original);
}

/// PS3.4 Table B.2-1.
#[tokio::test]
async fn who_stores_by_dimse_is_told_that_attributes_were_coerced() {
    let server = Server::with_file(RULES, &[("dimse.listen", "127.0.0.1:0")]).await;
    let class = crate::dimse::peer::CT;
    let mut peer = crate::dimse::peer::Peer::new(&server, "CT1", "SERVER", &[class]).await;
    let stored = peer.store("1.2.1.1.1", &ct().data_set()).await;
    assert_eq!((stored.status, stored.comment.as_str()), (0xB000, "attributes were coerced"));
    is_coerced(&server).await;
    // Over HTTP it comes as another file, and is coerced at another time.
    server.store("/studies", &[ct().file()]).await.is(409);
}

#[tokio::test]
async fn rules_hold_in_every_transfer_syntax_and_for_small_and_large() {
    for syntax in [EXPLICIT, IMPLICIT, BIG, DEFLATED, JPEG_BASELINE] {
        for mut dicom in [ct(), large()] {
            let server = Server::with_file(RULES, &[("store.own_blob_bytes", "64KiB")]).await;
            dicom.syntax(syntax);
            if syntax == JPEG_BASELINE {
                dicom.encapsulated(syntax, vec![vec![7; 100_000], vec![8; 10]]);
            }
            let file = dicom.file();
            let answer = server.store("/studies", &[file.clone()]).await;
            is_told_in_full(&server, &answer).await;
            is_coerced(&server).await;
            // Frames are where the index says.
            let frames = if syntax == JPEG_BASELINE { 2 } else { 1 };
            let plain = Server::start().await;
            plain.store("/studies", &[file]).await.is(200);
            for frame in 1..=frames {
                let path = format!("{INSTANCE}/frames/{frame}");
                let accept = "multipart/related; type=\"application/octet-stream\"; \
                              transfer-syntax=*, multipart/related; type=\"image/jpeg\"";
                let given = server.get_as(&path, accept).await.is(200).bodies();
                assert_eq!(given, plain.get_as(&path, accept).await.is(200).bodies(), "{syntax}");
            }
        }
    }
}

#[tokio::test]
async fn rules_hold_for_every_form_of_store() {
    let server = Server::with_file(RULES, &[]).await;
    is_told(&server.post("/studies", "application/dicom", ct().file()).await);
    is_coerced(&server).await;

    let server = Server::with_file(RULES, &[]).await;
    let data_set = json!({
        "00080016": {"vr": "UI", "Value": [CT]},
        "00080018": {"vr": "UI", "Value": ["1.2.1.1.1"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00080080": {"vr": "LO", "Value": ["Elsewhere"]},
        "00100020": {"vr": "LO", "Value": ["PAT1"]},
        "00104000": {"vr": "LT", "Value": ["a remark"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.1.1"]},
        "00420011": {"vr": "OB", "BulkDataURI": "document"},
    });
    let json = serde_json::to_vec(&[data_set]).unwrap();
    let parts: [(&str, &[u8]); 2] = [
        ("application/dicom+json", &json),
        ("application/octet-stream\r\nContent-Location: document", &[7; 9000]),
    ];
    let form = "multipart/related; type=\"application/dicom+json\"; boundary=frontier";
    is_told(&server.post("/studies", form, multipart_of(&parts)).await);
    is_coerced(&server).await;
    let stored = metadata(&server, STUDY).await;
    let document = stored["00420011"]["BulkDataURI"].as_str().unwrap();
    let octets = "multipart/related; type=\"application/octet-stream\"";
    assert_eq!(server.get_as(document, octets).await.is(200).bodies(), [vec![7; 9000]]);
}

#[tokio::test]
async fn what_no_rule_changes_is_stored_as_it_came() {
    let server = Server::with_file(RULES, &[("store.own_blob_bytes", "64KiB")]).await;
    for mut dicom in [ct(), large()] {
        dicom.text(0x0008, 0x0060, "CS", "US");
        let study = if dicom.number(0x0028, 0x0010) == 4 { "1.2.1" } else { "1.2.2" };
        dicom.text(0x0020, 0x000D, "UI", study);
        dicom.text(0x0008, 0x0018, "UI", &format!("{study}.1.1"));
        let file = dicom.file();
        server.store("/studies", &[file.clone()]).await.is(200);
        assert_eq!(server.get(&format!("/studies/{study}")).await.bodies(), [file]);
    }
    let sql = "SELECT count(*) FROM instance WHERE received_sha256 IS NOT NULL";
    assert_eq!(server.count(sql).await, 0);
}

#[tokio::test]
async fn a_re_send_is_recognised_whatever_the_rules_are() {
    for dicom in [ct(), large()] {
        let own = ("store.own_blob_bytes", "64KiB");
        let server = Server::with_file(RULES, &[own]).await;
        let file = dicom.file();
        // Twice in one request, and again.
        is_told(&server.store("/studies", &[file.clone(), file.clone()]).await);
        is_told(&server.store("/studies", &[file.clone()]).await);
        // What is given out comes back as it is.
        let given = server.get(STUDY).await.is(200).bodies();
        server.store("/studies", &given).await.is(200);
        // Other bytes are others.
        let other = dicom.clone().text(0x0010, 0x0010, "PN", "Roe").file();
        let answer = server.store("/studies", &[other.clone()]).await.is(409);
        assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0x0111)]);
        // With other rules.
        let server = server.restart_with(&RULES.replace("N-", "M-"), &[own]).await;
        server.store("/studies", &[file.clone()]).await.is(202);
        // And with none.
        let server = server.restart_with("", &[own]).await;
        server.store("/studies", &[file.clone()]).await.is(200);
        server.store("/studies", &[other]).await.is(409);
        assert_eq!(server.count("SELECT count(*) FROM instance").await, 1);
        assert_eq!(server.count("SELECT count(*) FROM change_feed").await, 1);
        is_coerced(&server).await;
        // A deletion that is taken back takes that back too.
        server.delete(STUDY).await.is(204);
        let undelete = server.request(reqwest::Method::POST, &format!("{STUDY}/$undelete"));
        crate::harness::send(undelete).await.is(200);
        server.store("/studies", &[file]).await.is(200);
        is_coerced(&server).await;
    }
}

#[tokio::test]
async fn what_was_stored_before_there_were_rules_is_recognised() {
    let server = Server::start().await;
    let file = ct().file();
    server.store("/studies", &[file.clone()]).await.is(200);
    let server = server.restart_with(RULES, &[]).await;
    server.store("/studies", &[file.clone()]).await.is(202);
    assert_eq!(server.get(STUDY).await.bodies(), [file]);
}

#[tokio::test]
async fn rules_are_for_their_partitions() {
    let rules = RULES.replace("source =", "partitions = [\"North\"]\nsource =");
    let server = Server::with_file(&rules, &PARTITIONS).await;
    let file = ct().file();
    for (partition, status) in [("north", 202), ("south", 200)] {
        let studies = format!("/partitions/{partition}/studies");
        server.store(&studies, &[file.clone()]).await.is(status);
    }
    assert_eq!(server.get("/partitions/south/studies/1.2.1").await.bodies(), [file]);
    let north = metadata(&server, "/partitions/north/studies/1.2.1").await;
    assert_eq!(value(&north, "00100020"), "N-PAT1");
}

#[tokio::test]
async fn rules_are_for_their_senders() {
    let server = Server::start().await;
    let key = server.key("microsoft.default", "writer").await;
    let who = sqlx::query_scalar::<_, String>("SELECT replace(key_id::text, '-', '') FROM api_key")
        .fetch_one(&mut server.superuser().await)
        .await
        .unwrap();
    let rules = RULES.replace("source =", &format!("senders = [\"api-key:{who}\"]\nsource ="));
    let server = server.restart_with(&rules, &[("auth.enabled", "true")]).await;
    let other = server.key("microsoft.default", "writer").await;
    let mut second = ct();
    second.text(0x0008, 0x0018, "UI", "1.2.1.1.2");
    is_told(&server.by(&key).store("/studies", &[ct().file()]).await);
    server.by(&other).store("/studies", &[second.file()]).await.is(200);
}

#[tokio::test]
async fn what_cannot_be_coerced_is_refused_alone() {
    let rules = "[[store.coerce]]\nset = { InstitutionName = \"\u{738B}\" }";
    let server = Server::with_file(rules, &[]).await;
    let mut latin = ct();
    latin.text(0x0008, 0x0005, "CS", "ISO_IR 100");
    let mut other = ct();
    other.text(0x0008, 0x0018, "UI", "1.2.1.1.2");
    let answer = server.store("/studies", &[latin.file(), other.file()]).await.is(202);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0x0110)]);
    assert_eq!(stored(&answer), ["1.2.1.1.2"]);
    let detail = &items(&answer, "00081198")[0]["00741048"]["Value"][0];
    assert!(value(detail, "00000902").as_str().unwrap().starts_with("store.coerce: (0008,0080)"));
    // What is broken is told as without rules.
    let file = ct().file();
    let answer = server.store("/studies", &[file[..file.len() - 3].to_vec()]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0xC000)]);
    server.store("/studies", &[b"no DICOM".to_vec()]).await.is(409);
}

#[tokio::test]
async fn earlier_originals_stay() {
    let server = Server::with_file(RULES, &[]).await;
    let mut earlier = Dicom::item();
    earlier.text(0x0400, 0x0563, "LO", "BEFORE");
    let mut ct = ct();
    ct.sequence(0x0400, 0x0561, vec![earlier]);
    is_told(&server.store("/studies", &[ct.file()]).await);
    let data_set = metadata(&server, STUDY).await;
    let systems: Vec<&Value> = data_set["04000561"]["Value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| value(item, "04000563"))
        .collect();
    assert_eq!(systems, ["BEFORE", "COLLIMATOR"]);
}
