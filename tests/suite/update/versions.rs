//! The versions of an instance: what becomes of them when it is changed again, deleted, brought back,
//! erased, and when their blobs are rewritten.

use reqwest::Method;
use serde_json::json;

use super::{ORIGINAL, STUDY, change, ct, files, is_clean, metadata, sorted, update};
use crate::harness::{Server, send, until};

const SOON: [(&str, &str); 3] =
    [("delete.grace_period", "0s"), ("compaction.linger", "0s"), ("sweep.interval", "1s")];

#[tokio::test]
async fn the_first_version_and_the_last_one_stay() {
    let server = Server::with(&[("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    let stored: Vec<Vec<u8>> = (1..=2).map(|n| ct(1, n).file()).collect();
    server.store("/studies", &stored).await.is(200);
    update(&server, "", &["1.2.1"], &change()).await;
    let first = files(&server, STUDY, &[]).await;
    let again = json!({ "00100020": { "vr": "LO", "Value": ["THIRD"] } });
    update(&server, "", &["1.2.1"], &again).await;
    for (_, one) in metadata(&server, STUDY, &[]).await {
        assert_eq!(one["00100020"]["Value"][0], "THIRD");
        assert_eq!(one["00080050"]["Value"][0], "ACC-NEW");
        let items = one["04000561"]["Value"].as_array().unwrap();
        assert_eq!(items.len(), 2, "each change is told of");
    }
    assert_ne!(files(&server, STUDY, &[]).await, first);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(stored));
    until("the version between is gone", async || server.blobs("microsoft.default").len() == 2)
        .await;
    is_clean(&server).await;
}

#[tokio::test]
async fn a_deletion_takes_all_versions() {
    let server = Server::with(&SOON).await;
    server.store("/studies", &[ct(1, 1).file(), ct(1, 2).file()]).await.is(200);
    for id in ["A", "B"] {
        let change = json!({ "00100020": { "vr": "LO", "Value": [id] } });
        update(&server, "", &["1.2.1"], &change).await;
    }
    server.delete(&format!("{STUDY}/series/1.2.1.0")).await.is(204);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [ct(1, 1).file()]);
    is_clean(&server).await;
    server.delete(STUDY).await.is(204);
    server.get(STUDY).await.problem(410);
    server.get_with(STUDY, &[ORIGINAL]).await.problem(410);
    until("no blob is left", async || server.blobs("microsoft.default").is_empty()).await;
    for count in [
        server.count("SELECT count(*) FROM original_instance").await,
        server.count("SELECT count(*) FROM instance_metadata").await,
        server.count("SELECT count(*) FROM blob").await,
    ] {
        assert_eq!(count, 0);
    }
    is_clean(&server).await;
}

#[tokio::test]
async fn what_comes_back_has_its_first_version() {
    let server = Server::with(&[("sweep.interval", "1s")]).await;
    let stored: Vec<Vec<u8>> = (1..=3).map(|n| ct(1, n).file()).collect();
    server.store("/studies", &stored).await.is(200);
    update(&server, "", &["1.2.1"], &change()).await;
    let changed = files(&server, STUDY, &[]).await;
    for _ in 0..2 {
        server.delete(STUDY).await.is(204);
        server.get_with(STUDY, &[ORIGINAL]).await.problem(410);
        let answer = send(server.request(Method::POST, &format!("{STUDY}/$undelete"))).await;
        assert_eq!(answer.is(200).json()["restored"], 3);
        assert_eq!(files(&server, STUDY, &[]).await, changed);
        assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(stored.clone()));
        assert_eq!(server.search("/studies?PatientID=NEW-ID").await.len(), 1);
        is_clean(&server).await;
    }
    // And can be changed again.
    let again = json!({ "00100020": { "vr": "LO", "Value": ["THIRD"] } });
    update(&server, "", &["1.2.1"], &again).await;
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(stored));
    is_clean(&server).await;
}

#[tokio::test]
async fn an_erasure_leaves_no_byte_of_any_version() {
    let server = Server::with(&[("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    // With another study, which stays.
    server.store("/studies", &[ct(1, 1).file(), ct(2, 1).file()]).await.is(200);
    for id in ["AAAAAAAA", "BBBBBBBB"] {
        let change = json!({ "00100020": { "vr": "LO", "Value": [id] } });
        update(&server, "", &["1.2.1", "1.2.2"], &change).await;
    }
    let answer = server.delete(&format!("{STUDY}?erase=true")).await.is(202);
    let href = answer.header("location").to_owned();
    until("the erasure ends", async || server.get(&href).await.status == 200).await;
    assert_eq!(server.get(&href).await.json()["status"], "succeeded");
    let has = |needle: &[u8]| {
        server.blobs("microsoft.default").iter().any(|blob| {
            let bytes = std::fs::read(blob).unwrap_or_default();
            bytes.windows(needle.len()).any(|window| window == needle)
        })
    };
    assert!(!has(b"1.2.1.1.1"), "nothing but the other study");
    assert!(has(b"1.2.2.1.1"));
    assert_eq!(files(&server, "/studies/1.2.2", &[ORIGINAL]).await, [ct(2, 1).file()]);
    is_clean(&server).await;
}

#[tokio::test]
async fn a_compaction_moves_first_versions_too() {
    let settings = [
        ("delete.grace_period", "0s"),
        ("compaction.linger", "0s"),
        ("compaction.min_bytes", "1B"),
        ("compaction.dead_share", "0.1"),
        ("sweep.interval", "1s"),
    ];
    let server = Server::with(&settings).await;
    // One blob, of which one original stays, and what never changed.
    let all: Vec<Vec<u8>> = (1..=3).map(|study| ct(study, 1).file()).collect();
    server.store("/studies", &all).await.is(200);
    let before = server.blobs("microsoft.default");
    update(&server, "", &["1.2.1"], &change()).await;
    server.delete("/studies/1.2.2").await.is(204);
    until("the blob is rewritten", async || server.blobs("microsoft.default").is_disjoint(&before))
        .await;
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [ct(1, 1).file()]);
    assert_eq!(files(&server, "/studies/1.2.3", &[]).await, [ct(3, 1).file()]);
    is_clean(&server).await;
    // An original alone keeps its blob as well.
    server.delete("/studies/1.2.3").await.is(204);
    until("it is rewritten again", async || {
        server.count("SELECT count(*) FROM blob_compaction").await == 0
            && server.count("SELECT count(*) FROM blob_removal").await == 0
    })
    .await;
    assert_eq!(server.blobs("microsoft.default").len(), 2);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [ct(1, 1).file()]);
    is_clean(&server).await;
}
