//! Who may reject, and what the audit log has of it.

use serde_json::{Value, json};

use super::{SAFETY, image, note, note_path, path, seen, set};
use crate::harness::{Client, Server};

const ON: [(&str, &str); 3] = [
    ("features.enable_data_partition", "true"),
    ("auth.enabled", "true"),
    ("store.own_blob_bytes", "64KiB"),
];
const EVIDENCE: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])];

async fn by(server: &Server, role: &str) -> Client {
    let key = server.key("north", role).await;
    server.with_header("x-api-key", &key)
}

#[tokio::test]
async fn who_may_only_store_rejects_nothing() {
    let server = Server::with(&ON).await;
    let sql = "INSERT INTO partition (partition_id) VALUES ('north')";
    sqlx::query(sql).execute(&mut server.superuser().await).await.unwrap();
    let (writer, admin) = (by(&server, "writer").await, by(&server, "partition-admin").await);
    writer.store("/studies", &[image(1).file(), image(3).file()]).await.is(200);
    let all = set(["1.2.1.1.1", "1.2.1.1.3"]);
    let mut large = note("1.2.1.9.1", SAFETY, &EVIDENCE);
    large.bytes(0x0009, 0x1001, "OB", &[7; 200_000]).text(0x0009, 0x0010, "LO", "ACME");
    for file in [note("1.2.1.9.1", SAFETY, &EVIDENCE).file(), large.file()] {
        // Alone, and with what may be stored.
        let answer = writer.store("/studies", &[file.clone()]).await.is(409).json();
        let failed = &answer["00081198"]["Value"][0];
        assert_eq!(failed["00081155"]["Value"], json!(["1.2.1.9.1"]));
        assert_eq!(failed["00081197"]["Value"], json!([0x0124]));
        writer.store("/studies", &[file, image(1).file()]).await.is(202);
        assert_eq!(seen(&admin).await.0, all);
    }
    assert_eq!(server.count("SELECT count(*) FROM rejection").await, 0);
    // Of what is no rejection nobody asks.
    let of_interest = note("1.2.1.9.5", ("113000", "Of Interest"), &EVIDENCE).file();
    writer.store("/studies", &[of_interest]).await.is(200);
    writer.delete(&note_path("1.2.1.9.5")).await.problem(403);
    admin.delete(&note_path("1.2.1.9.5")).await.is(204);

    admin.store("/studies", &[note("1.2.1.9.1", SAFETY, &EVIDENCE).file()]).await.is(200);
    admin.get(&path(1)).await.problem(410);
    writer.store("/studies", &[image(3).file()]).await.is(409);
    writer.delete(&note_path("1.2.1.9.1")).await.problem(403);
    admin.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(seen(&admin).await.0, all);

    let log = admin.get("/audit?study=1.2.1&outcome=success").await.is(200).json();
    let changes: Vec<Value> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["event"])
        .filter(|event| event["who"]["name"] == "partition-admin")
        .map(|event| json!([event["action"], event["detail"]]))
        .filter(|one| ["studies.store", "studies.delete"].contains(&one[0].as_str().unwrap()))
        .collect();
    let expected = json!([
        ["studies.delete", { "instances": 1, "revoked": "1.2.1.9.1" }],
        ["studies.delete", { "undeleted": 2 }],
        ["studies.store", { "stored": 1, "rejects": 2 }],
        ["studies.delete", { "instances": 1 }],
    ]);
    assert_eq!(json!(changes), expected, "{log:#}");
    let refused = admin.get("/audit?action=studies.store&outcome=failed").await.is(200).json();
    assert!(!refused.as_array().unwrap().is_empty());
}
