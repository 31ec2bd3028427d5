//! Rejection notes (IHE IOCM) as clients see them: what they hide and from whom, whichever way they
//! come, and how it comes back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Client, Dicom, PARTITIONS, Server, send, until};

mod alone;
mod paths;
mod rights;

pub const KEY_OBJECTS: &str = "1.2.840.10008.5.1.4.1.1.88.59";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const STUDY: &str = "/studies/1.2.1";
pub const SAFETY: (&str, &str) = ("113037", "Rejected for Patient Safety Reasons");

fn code(value: &str, meaning: &str) -> Dicom {
    let mut item = Dicom::item();
    item.text(0x0008, 0x0100, "SH", value).text(0x0008, 0x0102, "SH", "DCM");
    item.text(0x0008, 0x0104, "LO", meaning);
    item
}

/// A Key Object Selection Document (PS3.3 §A.35.4) of study 1.2.1, whose title is a code and whose
/// evidence is instances of series of studies.
pub fn note(instance: &str, title: (&str, &str), evidence: &[(&str, &str, &[&str])]) -> Dicom {
    let mut studies = Vec::new();
    for (study, series, instances) in evidence {
        let sops = instances.iter().map(|uid| {
            let mut sop = Dicom::item();
            sop.text(0x0008, 0x1150, "UI", CT).text(0x0008, 0x1155, "UI", uid);
            sop
        });
        let mut of_series = Dicom::item();
        of_series.sequence(0x0008, 0x1199, sops.collect()).text(0x0020, 0x000E, "UI", series);
        let mut of_study = Dicom::item();
        of_study.sequence(0x0008, 0x1115, vec![of_series]).text(0x0020, 0x000D, "UI", study);
        studies.push(of_study);
    }
    let mut note = Dicom::ct("1.2.1", "1.2.1.9", instance);
    for element in [0x0002, 0x0004, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103] {
        note.remove(0x0028, element);
    }
    note.remove(0x7FE0, 0x0010);
    note.text(0x0008, 0x0016, "UI", KEY_OBJECTS)
        .text(0x0008, 0x0060, "CS", "KO")
        .text(0x0020, 0x0011, "IS", "9")
        .text(0x0040, 0xA040, "CS", "CONTAINER")
        .sequence(0x0040, 0xA043, vec![code(title.0, title.1)])
        .text(0x0040, 0xA050, "CS", "SEPARATE")
        .sequence(0x0040, 0xA375, studies);
    note
}

/// Instance `n` of study 1.2.1, in one of two series, of which one is MR.
pub fn image(n: u32) -> Dicom {
    let series = format!("1.2.1.{}", n % 2);
    let mut image = Dicom::ct("1.2.1", &series, &format!("{series}.{n}"));
    image.text(0x0008, 0x0060, "CS", ["CT", "MR"][n as usize % 2]);
    image
}

fn path(n: u32) -> String {
    format!("{STUDY}/series/1.2.1.{}/instances/1.2.1.{0}.{n}", n % 2)
}

fn note_path(instance: &str) -> String {
    format!("{STUDY}/series/1.2.1.9/instances/{instance}")
}

/// What there is of the study, by every way that tells: SOP Instance UIDs, counts, modalities.
async fn seen(client: &Client) -> (BTreeSet<String>, Value) {
    let uid = |one: &Value, tag: &str| one[tag]["Value"][0].as_str().unwrap_or("").to_owned();
    let of = |found: &[Value]| -> BTreeSet<String> {
        found.iter().map(|one| uid(one, "00080018")).collect()
    };
    let instances = of(&client.search("/instances?StudyInstanceUID=1.2.1").await);
    let metadata = match client.get(&format!("{STUDY}/metadata")).await {
        answer if answer.status == 200 => of(answer.json().as_array().unwrap()),
        answer => {
            assert!([404, 410].contains(&answer.status), "{}", answer.text());
            BTreeSet::new()
        }
    };
    assert_eq!(instances, metadata);
    let studies = client
        .search("/studies?StudyInstanceUID=1.2.1&includefield=00201206,00201208,00080061")
        .await;
    let Some(study) = studies.first() else { return (instances, Value::Null) };
    let told = json!([
        study["00201206"]["Value"][0],
        study["00201208"]["Value"][0],
        study["00080061"]["Value"],
    ]);
    assert_eq!(told[1], instances.len());
    (instances, told)
}

fn set<const N: usize>(uids: [&str; N]) -> BTreeSet<String> {
    uids.map(str::to_owned).into()
}

async fn is_clean(server: &Server) {
    let (db, blobs) = server.parts().await;
    let lines = super::verify::verified(&db, &blobs, &[], true).await;
    assert_eq!(lines.last().unwrap()["clean"], true, "{lines:#?}");
}

#[tokio::test]
async fn each_title_hides_what_its_note_names_until_the_note_is_deleted() {
    let server = Server::start().await;
    let files: Vec<Vec<u8>> = (0..4).map(|n| image(n).file()).collect();
    server.store("/studies", &files).await.is(200);
    let before = seen(&server).await;
    assert_eq!(before.1, json!([2, 4, ["CT", "MR"]]));
    for (title, meaning) in [
        ("113001", "Rejected for Quality Reasons"),
        SAFETY,
        ("113038", "Incorrect Modality Worklist Entry"),
        ("113039", "Data Retention Policy Expired"),
    ] {
        // Both of the series of MR, and one of CT.
        let evidence: [(&str, &str, &[&str]); 2] = [
            ("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"]),
            ("1.2.1", "1.2.1.0", &["1.2.1.0.2"]),
        ];
        let uid = format!("1.2.1.9.{title}");
        server.store("/studies", &[note(&uid, (title, meaning), &evidence).file()]).await.is(200);
        let left = (set(["1.2.1.0.0", &uid]), json!([2, 2, ["CT", "KO"]]));
        assert_eq!(seen(&server).await, left, "{title}");
        for n in [1, 2, 3] {
            for more in ["", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"] {
                server.get(&format!("{}{more}", path(n))).await.problem(410);
            }
        }
        server.get(&format!("{STUDY}/series/1.2.1.1")).await.problem(410);
        server.get(&format!("{STUDY}/series/1.2.1.1/rendered")).await.problem(410);
        assert!(server.search("/studies?ModalitiesInStudy=MR").await.is_empty());
        let given = server.get(STUDY).await.is(200).bodies();
        assert_eq!(given.len(), 2);
        if title == "113001" {
            // Nothing of it comes back by Undelete.
            let undelete = server.request(reqwest::Method::POST, &format!("{STUDY}/$undelete"));
            let problem = send(undelete).await.problem(409);
            assert!(problem["detail"].as_str().unwrap().contains("rejected"), "{problem}");
        }
        server.delete(&note_path(&uid)).await.is(204);
        assert_eq!(seen(&server).await, before, "{title}");
        for n in [1, 2, 3] {
            let given = server.get(&path(n)).await.is(200).bodies();
            assert_eq!(given, [files[n as usize].clone()]);
        }
    }
    is_clean(&server).await;
    assert_eq!(server.count("SELECT count(*) FROM rejection").await, 0);
}

#[tokio::test]
async fn the_change_feed_tells_of_what_is_hidden_and_comes_back() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file()]).await.is(200);
    let named: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])];
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &named).file()]).await.is(200);
    server.store("/studies", &[image(3).file()]).await.is(200);
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    let feed = server.get("/changefeed?includeMetadata=false").await.is(200).json();
    let told: Vec<String> = feed
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            format!("{} {} {}", text("action"), text("sopInstanceUid"), text("state"))
        })
        .collect();
    let (there, mut back) = (told[..5].to_vec(), told[5..7].to_vec());
    back.sort();
    assert_eq!(back, ["create 1.2.1.1.1 current", "create 1.2.1.1.3 current"]);
    assert_eq!(
        there,
        [
            "create 1.2.1.1.1 replaced",
            "create 1.2.1.9.1 deleted",
            "delete 1.2.1.1.1 replaced",
            "create 1.2.1.1.3 replaced",
            "delete 1.2.1.1.3 replaced",
        ]
    );
    assert_eq!(told[7..], ["delete 1.2.1.9.1 deleted"]);
}

#[tokio::test]
async fn what_was_hidden_is_refused_when_it_is_sent_again() {
    let server = Server::start().await;
    let named: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])];
    // The note comes first.
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &named).file()]).await.is(200);
    server.store("/studies", &[image(1).file(), image(2).file()]).await.is(200);
    let left = set(["1.2.1.0.2", "1.2.1.9.1"]);
    assert_eq!(seen(&server).await.0, left);
    server.get(&path(1)).await.problem(410);
    let answer = server.store("/studies", &[image(1).file(), image(3).file()]).await.is(202).json();
    let failed = &answer["00081198"]["Value"];
    assert_eq!(failed[0]["00081155"]["Value"], json!(["1.2.1.1.1"]));
    assert_eq!(failed[0]["00081197"]["Value"], json!([0x0111]));
    assert_eq!(failed.as_array().unwrap().len(), 1, "the other one had not come yet");
    server.store("/studies", &[image(1).file()]).await.is(409);
    assert_eq!(seen(&server).await.0, left);
    // A note that is sent again is the same note.
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &named).file()]).await.is(200);
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.1.1", "1.2.1.1.3"]));
    // And after it was deleted it rejects anew.
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &named).file()]).await.is(200);
    assert_eq!(seen(&server).await.0, left);
    is_clean(&server).await;
}

#[tokio::test]
async fn several_notes_hide_until_the_last_one_goes() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file(), image(3).file()]).await.is(200);
    let both: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])];
    let one: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &both).file()]).await.is(200);
    let quality = ("113001", "Rejected for Quality Reasons");
    server.store("/studies", &[note("1.2.1.9.2", quality, &one).file()]).await.is(200);
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.3", "1.2.1.9.2"]));
    server.delete(&note_path("1.2.1.9.2")).await.is(204);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.1", "1.2.1.1.3"]));
    is_clean(&server).await;
}

#[tokio::test]
async fn a_deleted_study_keeps_what_was_rejected_hidden() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file(), image(2).file()]).await.is(200);
    let named: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    let rejection = note("1.2.1.9.1", SAFETY, &named);
    server.store("/studies", &[rejection.file()]).await.is(200);
    server.delete(STUDY).await.is(204);
    assert!(seen(&server).await.0.is_empty());
    // What is rejected does not come back with the rest, which has the note.
    let undelete = || send(server.request(reqwest::Method::POST, &format!("{STUDY}/$undelete")));
    let answer = undelete().await.is(200).json();
    assert_eq!((&answer["restored"], &answer["notRestored"]), (&json!(2), &json!(1)));
    assert_eq!(answer["instances"][0]["reason"], "rejected");
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.9.1"]));
    server.store("/studies", &[image(1).file()]).await.is(409);
    // It was deleted with the study: the note has nothing to give back, but says nothing any more.
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2"]));
    let answer = undelete().await.is(200).json();
    assert_eq!(answer["restored"], 2, "with the note, which rejects it again");
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.9.1"]));
    is_clean(&server).await;
    // An erasure leaves no byte of what is hidden.
    let answer = server.delete(&format!("{STUDY}?erase=true")).await.is(202);
    let href = answer.header("location").to_owned();
    until("the erasure ends", async || server.get(&href).await.json()["status"] == "succeeded")
        .await;
    // (What was refused lies in blobs that no row names, for the sweeper.)
    for sql in ["SELECT count(*) FROM blob", "SELECT count(*) FROM blob_removal"] {
        assert_eq!(server.count(sql).await, 0, "{sql}");
    }
}

#[tokio::test]
async fn titles_do_as_they_are_configured() {
    let settings = [
        ("rejection.quality", "show"),
        ("rejection.retention_expired", "delete"),
        ("delete.grace_period", "1h"),
    ];
    let server = Server::with(&settings).await;
    server.store("/studies", &[image(1).file(), image(3).file()]).await.is(200);
    let one: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    let quality = ("113001", "Rejected for Quality Reasons");
    server.store("/studies", &[note("1.2.1.9.1", quality, &one).file()]).await.is(200);
    let all = set(["1.2.1.1.1", "1.2.1.1.3", "1.2.1.9.1"]);
    assert_eq!(seen(&server).await.0, all);
    let expired = ("113039", "Data Retention Policy Expired");
    server.store("/studies", &[note("1.2.1.9.2", expired, &one).file()]).await.is(200);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.3", "1.2.1.9.1", "1.2.1.9.2"]));
    let undelete = send(server.request(reqwest::Method::POST, &format!("{STUDY}/$undelete")));
    assert_eq!(undelete.await.is(200).json()["restored"], 1);
    // Other titles, and other documents, are instances like any other.
    let of_interest = ("113000", "Of Interest");
    server.store("/studies", &[note("1.2.1.9.3", of_interest, &one).file()]).await.is(200);
    assert_eq!(seen(&server).await.0.len(), 5);
    is_clean(&server).await;
}

#[tokio::test]
async fn first_versions_come_back_with_what_was_rejected() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file(), image(2).file()]).await.is(200);
    let change = json!({
        "studyInstanceUids": ["1.2.1"],
        "changeDataset": { "00100020": { "vr": "LO", "Value": ["NEW"] } },
    });
    let json_type = "application/json";
    let body = change.to_string().into_bytes();
    let answer = server.post("/studies/$bulkUpdate", json_type, body).await.is(202);
    let href = answer.header("location").to_owned();
    until("the update ends", async || server.get(&href).await.status == 200).await;
    let named: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &named).file()]).await.is(200);
    let original = [("msdicom-request-original", "true")];
    server.get_with(&path(1), &original).await.problem(410);
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    let given = server.get_with(&path(1), &original).await.is(200).bodies();
    assert_eq!(given, [image(1).file()]);
    let metadata = server.get(&format!("{}/metadata", path(1))).await.is(200).json();
    assert_eq!(metadata[0]["00100020"]["Value"], json!(["NEW"]));
    is_clean(&server).await;
}

#[tokio::test]
async fn a_note_reaches_nothing_of_another_partition() {
    let server = Server::with(&PARTITIONS).await;
    let within = |partition: &str| {
        let mut client = (*server).clone();
        client.base = format!("{}/partitions/{partition}", server.base);
        client
    };
    let (north, south) = (within("north"), within("south"));
    south.store("/studies", &[image(1).file(), image(3).file()]).await.is(200);
    north.store("/studies", &[image(2).file()]).await.is(200);
    // Names what is south's alone, and what is nobody's: answered alike.
    let foreign: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    let unknown: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.7"])];
    let mut answers = Vec::new();
    for (uid, named) in [("1.2.1.9.1", foreign), ("1.2.1.9.2", unknown)] {
        let answer = north.store("/studies", &[note(uid, SAFETY, &named).file()]).await.is(200);
        answers.push(answer.text().replace(uid, ""));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(seen(&south).await.0, set(["1.2.1.1.1", "1.2.1.1.3"]));
    // It holds in north, and in north alone.
    north.store("/studies", &[image(1).file()]).await.is(200);
    assert_eq!(seen(&north).await.0, set(["1.2.1.0.2", "1.2.1.9.1", "1.2.1.9.2"]));
    south.get(&path(1)).await.is(200);
    // Nor is a note of north one that south could revoke.
    south.delete(&note_path("1.2.1.9.1")).await.problem(404);
    north.get(&path(1)).await.problem(410);
    is_clean(&server).await;
}
