//! Delete: what is gone, what is left, and when the bytes leave.

use collimator::archive::{ArchiveError, Target, Version, Wanted};
use futures::future::join;
use serde_json::json;

use crate::harness::{Dicom, Server, postgres::scope, until};

const STUDY: &str = "/studies/1.2.1";
const CT_SERIES: &str = "/studies/1.2.1/series/1.2.1.1";
const MR_SERIES: &str = "/studies/1.2.1/series/1.2.1.2";

fn ct(n: u32) -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file()
}

fn mr(n: u32) -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.2", &format!("1.2.1.2.{n}")).text(8, 0x60, "CS", "MR").file()
}

#[tokio::test]
async fn three_levels_and_what_is_left_of_the_study() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1), ct(2), ct(3), mr(1), mr(2)]).await.is(200);
    let facts = async || {
        let study = &server.search("/studies?includefield=all").await[0];
        [&study["00080061"]["Value"], &study["00201206"]["Value"], &study["00201208"]["Value"]]
            .map(Clone::clone)
    };
    assert_eq!(facts().await, [json!(["CT", "MR"]), json!([2]), json!([5])]);

    let answer = server.delete(&format!("{CT_SERIES}/instances/1.2.1.1.2")).await.is(204);
    assert!(answer.body.is_empty());
    assert_eq!(facts().await, [json!(["CT", "MR"]), json!([2]), json!([4])]);
    server.get(&format!("{CT_SERIES}/instances/1.2.1.1.2")).await.problem(410);
    assert_eq!(server.get(CT_SERIES).await.bodies(), [ct(1), ct(3)]);

    server.delete(MR_SERIES).await.is(204);
    assert_eq!(facts().await, [json!(["CT"]), json!([1]), json!([2])]);
    assert!(server.search("/studies?ModalitiesInStudy=MR").await.is_empty());
    server.get(MR_SERIES).await.problem(410);
    server.delete(MR_SERIES).await.problem(404);
    assert_eq!(server.get(STUDY).await.bodies(), [ct(1), ct(3)]);

    // The last instances take series and study along.
    server.delete(&format!("{CT_SERIES}/instances/1.2.1.1.1")).await.is(204);
    server.delete(&format!("{CT_SERIES}/instances/1.2.1.1.3")).await.is(204);
    for resource in ["/studies", "/series", "/instances", "/studies/1.2.1/series"] {
        server.get(resource).await.is(204);
    }
    for place in [STUDY, CT_SERIES] {
        server.get(place).await.problem(410);
        server.delete(place).await.problem(404);
    }
    server.delete("/studies/1.2.99").await.problem(404);
    server.get("/studies/1.2.99").await.problem(404);
    // Five creations and five deletions are on the record.
    for (action, expected) in [("create", 5), ("delete", 5)] {
        let sql = "SELECT count(*) FROM change_feed WHERE action = $1";
        let mut conn = server.superuser().await;
        let count: i64 = sqlx::query_scalar(sql).bind(action).fetch_one(&mut conn).await.unwrap();
        assert_eq!(count, expected, "{action}");
    }
}

#[tokio::test]
async fn what_was_deleted_can_be_stored_again() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1)]).await.is(200);
    server.delete(STUDY).await.is(204);
    // With other bytes too: nothing is left that they could be in conflict with.
    let other = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").text(0x10, 0x20, "LO", "NEW").file();
    server.store("/studies", &[other.clone()]).await.is(200);
    assert_eq!(server.get(STUDY).await.is(200).bodies(), [other]);
    assert_eq!(server.search("/studies?PatientID=PAT1").await.len(), 0);
    assert_eq!(server.search("/studies?PatientID=NEW").await.len(), 1);
    server.delete(STUDY).await.is(204);
    server.get(STUDY).await.problem(410);
}

#[tokio::test]
async fn bytes_leave_after_the_grace_period_with_the_last_instance_of_their_blob() {
    let settings = [("delete.grace_period", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    let blobs = || server.blobs("microsoft.default");
    server.store("/studies", &[ct(1), ct(2), mr(1)]).await.is(200);
    assert_eq!(blobs().len(), 1, "small instances share a blob");
    let shared = blobs();
    server.store("/studies", &[Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file()]).await.is(200);
    assert_eq!(blobs().len(), 2);

    // The second blob goes while the first, of which two of three are gone, stays readable.
    server.delete(&format!("{CT_SERIES}/instances/1.2.1.1.1")).await.is(204);
    server.delete(MR_SERIES).await.is(204);
    server.delete("/studies/1.2.2").await.is(204);
    until("the blob of the second study is gone", async || blobs() == shared).await;
    assert_eq!(server.get(STUDY).await.is(200).bodies(), [ct(2)]);

    server.delete(STUDY).await.is(204);
    until("all blobs are gone", async || blobs().is_empty()).await;
    until("the queue is empty", async || {
        server.count("SELECT count(*) FROM blob_removal").await == 0
    })
    .await;
    server.get(STUDY).await.problem(410);
}

#[tokio::test]
async fn what_is_deleted_between_being_found_and_being_read_is_no_alarm() {
    let settings = [("delete.grace_period", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    let archive = server.archive().await;
    let find = async || {
        let target = Target::Study { study: "1.2.1".parse().unwrap() };
        let (scope, version) = (scope("microsoft.default"), Version::Current);
        archive.instances(scope, target, version, vec![Wanted::Any]).await.unwrap()
    };
    server.store("/studies", &[ct(1)]).await.is(200);
    let mut found = find().await;
    server.delete(STUDY).await.is(204);
    until("the bytes are gone", async || server.blobs("microsoft.default").is_empty()).await;
    // Who asks again is told that it is gone.
    assert!(matches!(found.next().await, Err(ArchiveError::Unavailable(_))));
    server.get(STUDY).await.problem(410);

    // That the bytes of what is there are missing is one.
    server.store("/studies", &[ct(1)]).await.is(200);
    let mut found = find().await;
    for blob in server.blobs("microsoft.default") {
        std::fs::remove_file(blob).unwrap();
    }
    assert!(matches!(found.next().await, Err(ArchiveError::Internal(_))));
    server.get(STUDY).await.problem(500);
}

#[tokio::test]
async fn bytes_stay_for_the_grace_period() {
    let server = Server::with(&[("delete.grace_period", "1h"), ("sweep.interval", "1s")]).await;
    server.store("/studies", &[ct(1)]).await.is(200);
    server.delete(STUDY).await.is(204);
    let waiting = "SELECT count(*) FROM blob_removal WHERE due_at > now() + interval '50 minutes'";
    assert_eq!(server.count(waiting).await, 1);
    assert_eq!(server.blobs("microsoft.default").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_and_deletes_at_once_leave_a_whole_study() {
    let server = Server::with(&[("delete.grace_period", "0s"), ("sweep.interval", "1s")]).await;
    for _ in 0..8 {
        let stores = async {
            for n in 0..12 {
                let stored = server.store("/studies", &[ct(n), mr(n)]).await;
                stored.is(200);
            }
        };
        let deletes = async {
            for n in 0..12 {
                let place = match n % 3 {
                    0 => STUDY.to_owned(),
                    1 => CT_SERIES.to_owned(),
                    _ => format!("{MR_SERIES}/instances/1.2.1.2.{n}"),
                };
                let status = server.delete(&place).await.status;
                assert!([204, 404].contains(&status), "{status}");
            }
        };
        join(stores, deletes).await;
        // Whatever is left, all ways of looking at it agree.
        let found = server.search("/instances").await;
        let study = server.get(STUDY).await;
        if found.is_empty() {
            study.problem(410);
            continue;
        }
        assert_eq!(study.is(200).parts().len(), found.len());
        let counts = &server.search("/studies").await[0];
        assert_eq!(counts["00201208"]["Value"], json!([found.len()]));
        assert_eq!(server.search("/series").await.len() as u64, counts["00201206"]["Value"][0]);
        let metadata = server.get(&format!("{STUDY}/metadata")).await.is(200).json();
        assert_eq!(metadata.as_array().unwrap().len(), found.len());
    }
}
