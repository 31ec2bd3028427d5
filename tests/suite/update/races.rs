//! Updates while others store, delete and update, and ends of servers in the middle.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{ORIGINAL, STUDY, ask, ct, files, is_clean, metadata};
use crate::harness::{Dicom, Server, postgres, process::Process, until};

fn of_patient(id: &str) -> Value {
    json!({ "00100020": { "vr": "LO", "Value": [id] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_deletions_and_updates_at_once_leave_whole_studies() {
    let server = Server::with(&[("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    let first: Vec<Vec<u8>> = (0..20).map(|n| ct(1, n).file()).collect();
    server.store("/studies", &first).await.is(200);
    let updates = async {
        for n in 0..6 {
            ask(&server, "", &["1.2.1"], &of_patient(&format!("U{n}"))).await.is(202);
        }
    };
    let stores = async {
        for n in 20..60 {
            server.store("/studies", &[ct(1, n).file()]).await.is(200);
        }
    };
    let deletes = async {
        for n in 0..10 {
            let series = n % 2;
            let series = format!("{STUDY}/series/1.2.1.{series}/instances/1.2.1.{series}.{n}");
            server.delete(&series).await.is(204);
        }
    };
    let looks = async {
        for _ in 0..40 {
            let found = server.search("/studies?StudyInstanceUID=1.2.1").await;
            assert_eq!(found.len(), 1);
        }
    };
    tokio::join!(updates, stores, deletes, looks);
    until("all updates end", async || {
        let waiting = server.get("/operations?kind=update").await.is(200).json();
        waiting.as_array().unwrap().iter().all(|one| one["status"] == "succeeded")
    })
    .await;
    let now = metadata(&server, STUDY, &[]).await;
    assert_eq!(now.len(), 50);
    // The last one found all of what had been stored before it began.
    let told: Vec<&str> =
        now.values().map(|one| one["00100020"]["Value"][0].as_str().unwrap()).collect();
    assert!(told.iter().filter(|id| **id == "U5").count() >= 10, "{told:?}");
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await.len(), 50);
    is_clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_wait_for_each_other_and_no_more_than_so_many() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1, 1).file()]).await.is(200);
    let fill = "INSERT INTO operation (operation_id, kind, resources, cursor, next_attempt_at)
        SELECT gen_random_uuid(), 'update', '{}', '{\"studies\": [], \"correction\": {},
            \"done\": 0, \"tally\": {\"studyProcessed\": 0, \"studyUpdated\": 0,
            \"studyFailed\": 0, \"instanceUpdated\": 0, \"errors\": []}, \"asked\": null}',
            now() + interval '1 day'
        FROM generate_series(1, 49)";
    sqlx::query(fill).execute(&mut server.superuser().await).await.unwrap();
    let answer = ask(&server, "", &["1.2.1"], &of_patient("A")).await.is(202);
    let href = answer.header("location").to_owned();
    until("it ends", async || server.get(&href).await.status == 200).await;
    let fill = fill.replace("49", "1");
    let more = sqlx::AssertSqlSafe(fill);
    sqlx::query(more).execute(&mut server.superuser().await).await.unwrap();
    let asked = (0..2).map(|_| async { ask(&server, "", &["1.2.1"], &of_patient("B")).await });
    for answer in join_all(asked).await {
        answer.problem(429);
    }
    // A cancelled one changes nothing.
    let waiting = "/operations?kind=update&status=notStarted&limit=1";
    let id = server.get(waiting).await.json()[0]["operationId"].as_str().unwrap().to_owned();
    let canceled = server.delete(&format!("/operations/{id}")).await.is(200).json();
    assert_eq!(canceled["status"], "canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_on_after_kill_9_and_no_study_is_half_changed() {
    let data = postgres::tempdir();
    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();
    let studies: Vec<String> = (0..50).map(|study| format!("1.2.{study}")).collect();
    for study in &studies {
        let files: Vec<Vec<u8>> = (0..20)
            .map(|n| Dicom::ct(study, &format!("{study}.1"), &format!("{study}.1.{n}")).file())
            .collect();
        client.store("/studies", &files).await.is(200);
    }
    let body = json!({ "studyInstanceUids": studies, "changeDataset": of_patient("NEW") });
    let body = body.to_string().into_bytes();
    let answer = client.post("/studies/$bulkUpdate", "application/json", body).await.is(202).json();
    let path = format!("/operations/{}", answer["id"].as_str().unwrap());
    until("a part is changed", async || {
        client.get(&path).await.json()["processed"].as_u64() > Some(0)
    })
    .await;
    process.kill();

    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();
    for study in &studies {
        let all = client.get(&format!("/studies/{study}/metadata")).await.is(200).json();
        let all = all.as_array().unwrap().clone();
        assert_eq!(all.len(), 20);
        let ids: std::collections::BTreeSet<String> =
            all.iter().map(|one| one["00100020"].to_string()).collect();
        assert_eq!(ids.len(), 1, "{study} is of one patient: {ids:?}");
    }
    until("the operation ends", async || client.get(&path).await.status == 200).await;
    let done = client.get(&path).await.is(200).json();
    assert_eq!((&done["status"], &done["processed"]), (&"succeeded".into(), &50.into()));
    let results = &done["results"];
    assert_eq!((&results["studyUpdated"], &results["instanceUpdated"]), (&50.into(), &1000.into()));
    assert_eq!(client.search("/instances?PatientID=NEW&limit=2000").await.len(), 1000);
}
