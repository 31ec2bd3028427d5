//! A note does the same whichever way it comes: as a file of any size, as metadata, by an import.

use serde_json::{Value, json};

use super::{KEY_OBJECTS, SAFETY, image, is_clean, note, note_path, path, seen, set};
use crate::harness::{
    Dicom, Server,
    corpus::{EXPLICIT, IMPLICIT, multipart_of},
    postgres,
    process::{Process, run},
    until,
};

const EVIDENCE: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];

/// The note as DICOM JSON.
fn metadata(uid: &str) -> Value {
    let ui = |value: &str| json!({ "vr": "UI", "Value": [value] });
    let sq = |items: Value| json!({ "vr": "SQ", "Value": items });
    json!([{
        "00080016": ui(KEY_OBJECTS),
        "00080018": ui(uid),
        "00080060": { "vr": "CS", "Value": ["KO"] },
        "0020000D": ui("1.2.1"),
        "0020000E": ui("1.2.1.9"),
        "0040A043": sq(json!([{
            "00080100": { "vr": "SH", "Value": [SAFETY.0] },
            "00080102": { "vr": "SH", "Value": ["DCM"] },
            "00080104": { "vr": "LO", "Value": [SAFETY.1] },
        }])),
        "0040A375": sq(json!([{
            "00081115": sq(json!([{
                "00081199": sq(json!([{ "00081155": ui("1.2.1.1.1") }])),
                "0020000E": ui("1.2.1.1"),
            }])),
            "0020000D": ui("1.2.1"),
        }])),
    }])
}

#[tokio::test]
async fn files_and_metadata() {
    let server = Server::with(&[("store.own_blob_bytes", "64KiB")]).await;
    server.store("/studies", &[image(1).file(), image(2).file()]).await.is(200);
    let small = |syntax: &str| note("1.2.1.9.1", SAFETY, &EVIDENCE).syntax(syntax).file();
    let mut large = note("1.2.1.9.1", SAFETY, &EVIDENCE);
    large.bytes(0x0009, 0x1001, "OB", &[7; 200_000]).text(0x0009, 0x0010, "LO", "ACME");
    for file in [
        small(EXPLICIT),
        small(IMPLICIT),
        small("1.2.840.10008.1.2.1.99"),
        small("1.2.840.10008.1.2.2"),
        large.file(),
    ] {
        server.store("/studies", &[file]).await.is(200);
        assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.9.1"]));
        server.delete(&note_path("1.2.1.9.1")).await.is(204);
        assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.1.1"]));
    }
    let json = "application/dicom+json";
    let content_type = format!("multipart/related; type=\"{json}\"; boundary=frontier");
    let body = multipart_of(&[(json, metadata("1.2.1.9.2").to_string().as_bytes())]);
    server.post("/studies", &content_type, body).await.is(200);
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.9.2"]));
    // In one request with what it names, whichever comes first.
    server.delete(&note_path("1.2.1.9.2")).await.is(204);
    server.delete("/studies/1.2.1?erase=true").await.is(202);
    let note = note("1.2.1.9.3", SAFETY, &EVIDENCE).file();
    server.store("/studies", &[image(1).file(), note, image(3).file()]).await.is(200);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.3", "1.2.1.9.3"]));
    server.get(&path(1)).await.problem(410);
    is_clean(&server).await;
}

/// A note that names much, of several studies, whose series and studies go as they lose all.
#[tokio::test]
async fn a_note_of_several_studies() {
    let server = Server::start().await;
    let of = |study: u32, n: u32| {
        let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.1"));
        Dicom::ct(&study, &series, &format!("{series}.{n}")).file()
    };
    for study in 1..=3 {
        let files: Vec<Vec<u8>> = (0..40).map(|n| of(study, n)).collect();
        server.store("/studies", &files).await.is(200);
    }
    let uids = |study: u32| (0..40).map(move |n| format!("1.2.{study}.1.{n}"));
    let (two, three): (Vec<String>, Vec<String>) = (uids(2).collect(), uids(3).skip(1).collect());
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    let three: Vec<&str> = three.iter().map(String::as_str).collect();
    let evidence = [("1.2.2", "1.2.2.1", &two[..]), ("1.2.3", "1.2.3.1", &three[..])];
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &evidence).file()]).await.is(200);
    server.get("/studies/1.2.2").await.problem(410);
    let studies = server.search("/studies?includefield=00201208").await;
    let mut counts: Vec<u64> =
        studies.iter().map(|one| one["00201208"]["Value"][0].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 41]);
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    for study in 1..=3 {
        let mut files: Vec<Vec<u8>> = (0..40).map(|n| of(study, n)).collect();
        files.sort();
        assert_eq!(server.get(&format!("/studies/1.2.{study}")).await.is(200).bodies(), files);
    }
    is_clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_takes_notes_and_what_they_name_in_any_order() {
    let (data, files) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let at = |name: &str| files.path().join(name);
    std::fs::write(at("a"), image(1).file()).unwrap();
    std::fs::write(
        at("b"),
        note("1.2.1.9.1", SAFETY, &[("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])]).file(),
    )
    .unwrap();
    std::fs::write(at("c"), image(3).file()).unwrap();
    std::fs::write(at("d"), image(2).file()).unwrap();
    let process = Process::serve(data.path(), &[]);
    let source = files.path().to_str().unwrap();
    let arguments = ["import", "--data-dir", data.path().to_str().unwrap(), source];
    let output = run(&arguments, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("4 files: 4 stored"), "{text}");
    assert_eq!(seen(&process.client).await.0, set(["1.2.1.0.2", "1.2.1.9.1"]));
    // Once more: what is hidden is not taken again, and is told of.
    let output = run(&arguments, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("4 files: 0 stored, 2 there already, 0 no DICOM, 2 failed"), "{text}");
    assert!(text.contains("a rejection note in force names the instance"), "{text}");
}

#[tokio::test]
async fn what_is_hidden_stays_whatever_is_removed_beside_it() {
    let settings = [
        ("delete.grace_period", "0s"),
        ("compaction.linger", "0s"),
        ("compaction.min_bytes", "1B"),
        ("compaction.dead_share", "0.1"),
        ("sweep.interval", "1s"),
    ];
    let server = Server::with(&settings).await;
    // One blob, of which something is hidden, something deleted, and something lives.
    let all = [image(1).file(), image(2).file(), image(3).file()];
    server.store("/studies", &all).await.is(200);
    let before = server.blobs("microsoft.default");
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &EVIDENCE).file()]).await.is(200);
    server.delete(&path(3)).await.is(204);
    until("the blob is rewritten", async || server.blobs("microsoft.default").is_disjoint(&before))
        .await;
    // Then nothing of it lives.
    server.delete(&path(2)).await.is(204);
    until("nothing else awaits removal", async || {
        server.get("/removals").await.is(200).json() == Value::Array(Vec::new())
    })
    .await;
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(server.get(&path(1)).await.is(200).bodies(), [image(1).file()]);
    until("the note's blob goes", async || {
        server.count("SELECT count(*) FROM blob_removal").await == 0
    })
    .await;
    is_clean(&server).await;
}
