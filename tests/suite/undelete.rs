//! Undelete and erasure as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Dicom, PARTITIONS, Server, send, until};

const STUDY: &str = "/studies/1.2.1";

fn ct(study: u32, n: u32) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.{}", n % 2));
    let mut ct = Dicom::ct(&study, &series, &format!("{series}.{n}"));
    ct.text(0x0010, 0x1010, "AS", "041Y").text(0x0008, 0x0060, "CS", ["CT", "MR"][n as usize % 2]);
    ct.file()
}

async fn undelete(server: &Server, study: &str) -> Answer {
    send(server.request(Method::POST, &format!("{study}/$undelete"))).await
}

/// Everything that can be asked about the study.
async fn seen(server: &Server) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/studies?StudyInstanceUID=1.2.1&includefield=all",
        "/series?StudyInstanceUID=1.2.1&includefield=all",
        "/instances?StudyInstanceUID=1.2.1&includefield=all",
        "/studies?PatientID=PAT1&ModalitiesInStudy=MR",
        "/studies?00101010=041Y",
    ] {
        let mut found = server.search(path).await;
        found.sort_by_key(|one| {
            ["0020000D", "0020000E", "00080018"].map(|tag| one[tag].to_string())
        });
        seen.push(json!(found));
    }
    let metadata = server.get(&format!("{STUDY}/metadata")).await.is(200).json();
    let mut metadata = metadata.as_array().unwrap().clone();
    metadata.sort_by_key(|one| one["00080018"].to_string());
    seen.push(json!(metadata));
    seen
}

fn sorted(mut bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bodies.sort();
    bodies
}

#[tokio::test]
async fn a_study_comes_back_as_it_was_with_new_versions_and_events() {
    let server = Server::start().await;
    let tag = br#"[{"path":"00101010","level":"study"}]"#.to_vec();
    server.post("/extendedquerytags", "application/json", tag).await.is(202);
    until("the tag is ready", async || {
        server.get("/extendedquerytags/00101010").await.json()["status"] == "ready"
    })
    .await;
    let files = [ct(1, 1), ct(1, 2), ct(1, 3)];
    // In one blob with another study, and in one of its own.
    server.store("/studies", &[files[0].clone(), files[1].clone(), ct(2, 1)]).await.is(200);
    server.store("/studies", &[files[2].clone()]).await.is(200);
    let before = seen(&server).await;
    let frame = format!("{STUDY}/series/1.2.1.0/instances/1.2.1.0.2/frames/1");
    let pixels = server.get(&frame).await.is(200).bodies();
    server.delete(&format!("{STUDY}/series/1.2.1.1")).await.is(204);
    server.delete(STUDY).await.is(204);
    server.get(STUDY).await.problem(410);

    let answer = undelete(&server, STUDY).await.is(200).json();
    assert_eq!(answer, json!({ "restored": 3, "notRestored": 0, "instances": [] }));
    assert_eq!(sorted(server.get(STUDY).await.is(200).bodies()), sorted(files.to_vec()));
    assert_eq!(seen(&server).await, before);
    assert_eq!(server.get(&frame).await.is(200).bodies(), pixels);
    assert_eq!(server.count("SELECT count(*) FROM blob_removal").await, 0);
    // It is told as new instances, and the old versions as replaced.
    let feed = server.get("/changefeed?includeMetadata=false").await.is(200).json();
    let told: Vec<(&str, &str)> = feed
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["studyInstanceUid"] == "1.2.1")
        .map(|event| (event["action"].as_str().unwrap(), event["state"].as_str().unwrap()))
        .collect();
    let expected = [("create", "replaced"), ("delete", "replaced"), ("create", "current")];
    for (at, expected) in expected.into_iter().enumerate() {
        assert_eq!(told[at * 3..at * 3 + 3], [expected; 3], "{told:?}");
    }
    // Once is enough.
    undelete(&server, STUDY).await.problem(409);
    undelete(&server, "/studies/1.2.2").await.problem(409);
    undelete(&server, "/studies/1.2.99").await.problem(404);
    undelete(&server, "/studies/no").await.problem(400);
}

#[tokio::test]
async fn what_was_stored_anew_stays_and_what_is_over_is_told() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1, 1), ct(1, 2), ct(1, 3), ct(1, 4)]).await.is(200);
    server.delete(STUDY).await.is(204);
    let other = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").text(0x10, 0x20, "LO", "NEW").file();
    server.store("/studies", &[other.clone()]).await.is(200);
    let over = "UPDATE deleted_instance SET restorable_until = now()
        WHERE sop_instance_uid = '1.2.1.1.3'";
    sqlx::query(over).execute(&mut server.superuser().await).await.unwrap();
    let answer = undelete(&server, STUDY).await.is(200).json();
    let kept = |instance: &str, reason: &str| json!({ "seriesInstanceUid": "1.2.1.1", "sopInstanceUid": instance, "reason": reason });
    let expected = [kept("1.2.1.1.1", "stored anew"), kept("1.2.1.1.3", "gone for good")];
    assert_eq!(answer, json!({ "restored": 2, "notRestored": 2, "instances": expected }));
    let bodies = server.get(STUDY).await.is(200).bodies();
    assert_eq!(sorted(bodies), sorted(vec![other, ct(1, 2), ct(1, 4)]));
    undelete(&server, STUDY).await.problem(409);
}

#[tokio::test]
async fn after_the_grace_period_nothing_comes_back() {
    let server = Server::with(&[("delete.grace_period", "0s")]).await;
    server.store("/studies", &[ct(1, 1), ct(2, 2)]).await.is(200);
    server.delete(STUDY).await.is(204);
    undelete(&server, STUDY).await.problem(410);
    // Not of a study that lives on, either.
    server.store("/studies", &[ct(1, 2)]).await.is(200);
    undelete(&server, STUDY).await.problem(409);
}

#[tokio::test]
async fn damaged_bytes_do_not_come_back_as_if_they_were_whole() {
    let server = Server::start().await;
    server.store("/studies", &[ct(1, 1), ct(1, 2)]).await.is(200);
    server.delete(STUDY).await.is(204);
    let blob = server.blobs("microsoft.default").pop_first().unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let answer = undelete(&server, STUDY).await.is(200).json();
    assert_eq!((&answer["restored"], &answer["notRestored"]), (&json!(1), &json!(1)));
    assert_eq!(answer["instances"][0]["reason"], "damaged");
    assert_eq!(server.get(STUDY).await.is(200).bodies(), [ct(1, 1)]);
}

#[tokio::test]
async fn an_erasure_leaves_nothing_and_cannot_be_undone() {
    let settings = [("compaction.linger", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    server.store("/studies", &[ct(1, 1), ct(1, 2), ct(2, 1)]).await.is(200);
    server.store("/studies", &[ct(1, 3)]).await.is(200);
    let before = server.blobs("microsoft.default");
    // Some of it was deleted before.
    server.delete(&format!("{STUDY}/series/1.2.1.0")).await.is(204);
    let answer = server.delete(&format!("{STUDY}?erase=true")).await.is(202);
    let href = answer.header("location").to_owned();
    assert_eq!(answer.json()["href"], href);
    server.get(STUDY).await.problem(410);
    undelete(&server, STUDY).await.problem(410);
    until("the erasure ends", async || server.get(&href).await.status == 200).await;
    let ended = server.get(&href).await.is(200).json();
    assert_eq!((&ended["type"], &ended["status"]), (&json!("erase"), &json!("succeeded")));
    assert_eq!((&ended["processed"], &ended["percentComplete"]), (&json!(2), &json!(100)));
    assert_eq!(ended["resources"], json!([format!("{}{STUDY}", server.base)]));
    let after = server.blobs("microsoft.default");
    assert!(before.is_disjoint(&after), "{after:?}");
    assert_eq!(after.len(), 1);
    let file = std::fs::read(after.first().unwrap()).unwrap();
    assert!(file == ct(2, 1), "nothing but what lives");
    assert_eq!(server.get("/studies/1.2.2").await.is(200).bodies(), [ct(2, 1)]);
    // Others of its kind go on, and it is not cancelled once it has ended.
    server.delete(&href).await.problem(409);
    let listed = server.get("/operations?kind=erase").await.is(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    server.delete("/studies/1.2.99?erase=true").await.problem(404);
    server.delete("/studies/1.2.2?erase=yes").await.problem(400);
    // What has been erased can be stored anew.
    server.store("/studies", &[ct(1, 1)]).await.is(200);
    assert_eq!(server.get(STUDY).await.is(200).bodies(), [ct(1, 1)]);
}

#[tokio::test]
async fn an_erasure_under_way_is_not_cancelled() {
    let server = Server::with(&[("compaction.linger", "1day")]).await;
    server.store("/studies", &[ct(1, 1), ct(2, 1)]).await.is(200);
    let answer = server.delete(&format!("{STUDY}?erase=true")).await.is(202);
    server.delete(answer.header("location")).await.problem(409);
    server.get(answer.header("location")).await.is(202);
}

#[tokio::test]
async fn what_awaits_removal_is_shown_to_its_own() {
    let server = Server::with(&PARTITIONS).await;
    for partition in ["north", "south"] {
        let studies = format!("/partitions/{partition}/studies");
        server.store(&studies, &[ct(1, 1), ct(1, 2)]).await.is(200);
    }
    assert_eq!(server.get("/removals").await.is(200).json(), json!([]));
    server.delete("/partitions/north/studies/1.2.1").await.is(204);
    let shown = server.get("/removals").await.is(200).json();
    let only = &shown.as_array().unwrap()[0];
    let bytes = ct(1, 1).len() + ct(1, 2).len();
    assert_eq!((&only["partitionName"], &only["blobs"]), (&json!("north"), &json!(1)));
    assert_eq!((&only["bytes"], &only["failed"]), (&json!(bytes), &json!(0)));
    assert!(only["next"].as_str().unwrap().ends_with('Z'), "{only}");
    let own = "/partitions/north/removals";
    assert_eq!(server.get(own).await.is(200).json(), shown);
    assert_eq!(server.get("/partitions/south/removals").await.is(200).json(), json!([]));
    let retried = server.post(&format!("{own}/$retry"), "application/json", Vec::new()).await;
    assert_eq!(retried.is(200).json(), shown, "nothing has failed");
}

#[tokio::test]
async fn another_partitions_study_is_neither_erased_nor_undeleted() {
    let server = Server::with(&PARTITIONS).await;
    for study in [1, 2] {
        server.store("/partitions/north/studies", &[ct(study, 1)]).await.is(200);
    }
    server.store("/partitions/south/studies", &[ct(9, 1)]).await.is(200);
    server.delete("/partitions/north/studies/1.2.1").await.is(204);
    let blobs = server.blobs("north");
    for study in ["1.2.1", "1.2.2", "1.2.77"] {
        let path = format!("/partitions/south/studies/{study}");
        let erased = server.delete(&format!("{path}?erase=true")).await.problem(404);
        let undeleted = undelete(&server, &path).await.problem(404);
        assert_eq!(erased["detail"], undeleted["detail"]);
    }
    assert_eq!(server.blobs("north"), blobs);
    server.get("/partitions/north/studies/1.2.2").await.is(200);
    // The owner's erasure is seen at the root, and not from another partition.
    let answer = server.delete("/partitions/north/studies/1.2.2?erase=true").await.is(202);
    let (id, href) = (answer.json()["id"].clone(), answer.header("location").to_owned());
    assert!(href.contains("/partitions/north/operations/"), "{href}");
    let resources = json!([format!("{}/partitions/north/studies/1.2.2", server.base)]);
    for path in ["/partitions/north/operations", "/operations"] {
        let shown = &server.get(&format!("{path}?kind=erase")).await.is(200).json()[0];
        assert_eq!((&shown["operationId"], &shown["resources"]), (&id, &resources), "{path}");
    }
    server.get(&href.replace("/north/", "/south/")).await.problem(404);
    server.delete(&href.replace("/north/", "/south/")).await.problem(404);
    assert_eq!(server.get("/partitions/south/operations").await.is(200).json(), json!([]));
    undelete(&server, "/partitions/north/studies/1.2.1").await.is(200);
    server.get("/partitions/north/studies/1.2.1").await.is(200);
}
