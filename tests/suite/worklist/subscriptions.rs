//! Who watches what (PS3.4 Table CC.2.3-2): subscriptions to one workitem, to all and by a filter.

use reqwest::Method;
use serde_json::json;

use super::{channel::subscribe, code, of, post, said, state, workitem};
use crate::harness::{Server, Socket, send};

const GLOBAL: &str = "1.2.840.10008.5.1.4.34.5";
const FILTERED: &str = "1.2.840.10008.5.1.4.34.5.1";

/// Who watches which workitem, and whether he holds it.
async fn watches(server: &Server) -> Vec<String> {
    let sql = "SELECT workitem_uid || ' ' || aetitle || CASE WHEN has_lock THEN ' lock' ELSE '' END
        FROM workitem_subscription ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(&mut server.superuser().await).await.unwrap()
}

async fn create(server: &Server, uid: &str, patient: &str) {
    let item = workitem(patient, "20260101");
    post(server, &format!("/workitems?{uid}"), &item).await.is(201);
}

/// Types of the events that wait for an Application Entity, of which workitem.
async fn waiting(server: &Server, title: &str) -> Vec<String> {
    let sql = "SELECT kind || ' ' || workitem_uid FROM workitem_event WHERE aetitle = $1
        ORDER BY sequence";
    sqlx::query_scalar(sql).bind(title).fetch_all(&mut server.superuser().await).await.unwrap()
}

#[tokio::test]
async fn one_workitem_with_a_lock_and_without() {
    let server = Server::start().await;
    create(&server, "1.2.1", "P1").await;
    create(&server, "1.2.2", "P2").await;
    let path = "/workitems/1.2.1/subscribers/AE";
    let lock = format!("{path}?deletionlock=true");
    // Each is confirmed by the state, whatever it was before.
    for (path, expected) in [
        (path, "1.2.1 AE"),
        (&lock, "1.2.1 AE lock"),
        (&lock, "1.2.1 AE lock"),
        (path, "1.2.1 AE"),
        (&lock, "1.2.1 AE lock"),
    ] {
        subscribe(&server, path).await.is(201);
        assert_eq!(watches(&server).await, [expected]);
    }
    assert_eq!(waiting(&server, "AE").await, ["1 1.2.1"; 5]);
    server.delete(path).await.is(200);
    assert!(watches(&server).await.is_empty());
    server.delete(path).await.problem(404);
    // What there is not cannot be watched, nor left, nor suspended.
    for path in ["/workitems/1.2.3/subscribers/AE", "/workitems/1.2.3/subscribers/AE/suspend"] {
        subscribe(&server, path).await.problem(404);
        server.delete(path.trim_end_matches("/suspend")).await.problem(404);
    }
    subscribe(&server, &format!("{path}/suspend")).await.problem(404);
    for path in [
        "/workitems/x/subscribers/AE",
        "/workitems/1.2.1/subscribers/ABCDEFGHIJKLMNOPQ",
        "/workitems/1.2.1/subscribers/A%5CB",
        "/workitems/1.2.1/subscribers/AE?deletionlock=yes",
        "/workitems/1.2.1/subscribers/AE?filter=PatientID=P1",
        "/workitems/1.2.840.10008.5.1.4.34.5/subscribers/AE?filter=PatientID=P1",
        "/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/AE",
        "/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/AE?filter=Nonsense=1",
    ] {
        subscribe(&server, path).await.problem(400);
    }
    assert!(watches(&server).await.is_empty());
}

#[tokio::test]
async fn all_workitems_and_those_to_come() {
    let server = Server::start().await;
    let global = |title: &str| format!("/workitems/{GLOBAL}/subscribers/{title}");
    create(&server, "1.2.1", "P1").await;
    create(&server, "1.2.2", "P2").await;
    subscribe(&server, "/workitems/1.2.1/subscribers/A").await.is(201);
    // Those that are watched stay as they are; without locks nobody is told of what there is.
    subscribe(&server, &global("A")).await.is(201);
    assert_eq!(watches(&server).await, ["1.2.1 A", "1.2.2 A"]);
    assert_eq!(waiting(&server, "A").await, ["1 1.2.1"]);
    subscribe(&server, &format!("{}?deletionlock=true", global("B"))).await.is(201);
    let both = ["1.2.1 A", "1.2.1 B lock", "1.2.2 A", "1.2.2 B lock"];
    assert_eq!(watches(&server).await, both);
    assert_eq!(waiting(&server, "B").await, ["1 1.2.1", "1 1.2.2"]);
    create(&server, "1.2.3", "P3").await;
    assert_eq!(watches(&server).await[4..], ["1.2.3 A", "1.2.3 B lock"]);
    assert_eq!(waiting(&server, "A").await[1..], ["1 1.2.3", "5 1.2.3"]);
    // With a lock from now on, for those to come.
    subscribe(&server, &format!("{}?deletionlock=true", global("A"))).await.is(201);
    assert_eq!(watches(&server).await[0], "1.2.1 A");
    create(&server, "1.2.4", "P4").await;
    assert_eq!(watches(&server).await[6..], ["1.2.4 A lock", "1.2.4 B lock"]);

    // Suspended, he stays with those that there are.
    subscribe(&server, &format!("{}/suspend", global("A"))).await.is(200);
    subscribe(&server, &format!("{}/suspend", global("A"))).await.problem(404);
    create(&server, "1.2.5", "P5").await;
    assert_eq!(watches(&server).await[8..], ["1.2.5 B lock"]);
    let before = waiting(&server, "A").await.len();
    state(&server, "/workitems/1.2.4", "IN PROGRESS", Some("1.3.1")).await.is(200);
    assert_eq!(waiting(&server, "A").await[before..], ["1 1.2.4"]);

    // Who leaves all leaves each (PS3.4 §CC.2.3.1), with his locks.
    server.delete(&global("A")).await.is(200);
    server.delete(&global("A")).await.problem(404);
    let of_b = ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"].map(|uid| format!("{uid} B lock"));
    assert_eq!(watches(&server).await, of_b);
    server.delete("/workitems/1.2.1/subscribers/B").await.is(200);
    create(&server, "1.2.6", "P6").await;
    assert_eq!(watches(&server).await.len(), 5);
}

#[tokio::test]
async fn those_that_pass_a_filter_and_those_to_come() {
    let server = Server::start().await;
    let filtered = format!("/workitems/{FILTERED}/subscribers/A");
    create(&server, "1.2.1", "P1").await;
    create(&server, "1.2.2", "P2").await;
    let answer =
        subscribe(&server, &format!("{filtered}?filter=PatientID=P1,PatientName=doe*")).await;
    assert!(answer.is(201).header("content-location").ends_with("/subscribers/A"));
    assert_eq!(watches(&server).await, ["1.2.1 A"]);
    assert!(waiting(&server, "A").await.is_empty());
    create(&server, "1.2.3", "P1").await;
    create(&server, "1.2.4", "P2").await;
    assert_eq!(watches(&server).await, ["1.2.1 A", "1.2.3 A"]);
    assert_eq!(waiting(&server, "A").await, ["1 1.2.3", "5 1.2.3"]);
    // Another filter takes its place; keys of items; each that passes is confirmed where it is held.
    let query = "ScheduledStationNameCodeSequence.CodeValue=CT9&deletionlock=true";
    let mut item = workitem("P9", "20260101");
    item["00404025"] = of("SQ", json!([code("CT9")]));
    post(&server, "/workitems?1.2.5", &item).await.is(201);
    subscribe(&server, &format!("{filtered}?{query}")).await.is(201);
    assert_eq!(watches(&server).await, ["1.2.1 A", "1.2.3 A", "1.2.5 A lock"]);
    assert_eq!(waiting(&server, "A").await[2..], ["1 1.2.5"]);
    create(&server, "1.2.6", "P1").await;
    post(&server, "/workitems?1.2.7", &item).await.is(201);
    assert_eq!(watches(&server).await[3..], ["1.2.7 A lock"]);
    // Besides one to all, it says what is held.
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/A")).await.is(201);
    post(&server, "/workitems?1.2.8", &item).await.is(201);
    create(&server, "1.2.9", "P1").await;
    assert_eq!(watches(&server).await[7..], ["1.2.8 A lock", "1.2.9 A"]);
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/A/suspend")).await.is(200);
    // Suspended and left.
    subscribe(&server, &format!("{filtered}/suspend")).await.is(200);
    post(&server, "/workitems?1.2.10", &item).await.is(201);
    assert!(!watches(&server).await.contains(&"1.2.10 A lock".to_owned()));
    subscribe(&server, "/workitems/1.2.4/subscribers/A").await.is(201);
    server.delete(&filtered).await.is(200);
    let left = watches(&server).await;
    assert!(left.contains(&"1.2.4 A".to_owned()) && !left.contains(&"1.2.1 A".to_owned()));
    server.delete(&filtered).await.problem(404);
}

#[tokio::test]
async fn nothing_that_happens_beside_a_subscription_is_missed() {
    let server = Server::start().await;
    for round in 0..4 {
        let global = format!("/workitems/{GLOBAL}/subscribers/AE?deletionlock=true");
        let one = async |n: usize| {
            let uid = format!("1.2.{round}.{n}");
            create(&server, &uid, "P").await;
            let path = format!("/workitems/{uid}");
            state(&server, &path, "IN PROGRESS", Some("1.3.1")).await.is(200);
        };
        let work = futures::future::join_all((0..12).map(one));
        let (_, answer) = futures::join!(work, subscribe(&server, &global));
        answer.is(201);
        let mut channel = Socket::open(&format!("{}/subscribers/AE", server.base)).await;
        // However they met, the last that is told of each is how it is.
        let mut last = std::collections::BTreeMap::new();
        while last.values().filter(|state| *state == "IN PROGRESS").count() < 12 {
            let message = channel.next().await.unwrap();
            if let Some(state) = message["00741000"]["Value"][0].as_str() {
                let uid = message["00001000"]["Value"][0].as_str().unwrap().to_owned();
                if uid.starts_with(&format!("1.2.{round}.")) {
                    last.insert(uid, state.to_owned());
                }
            }
        }
        channel.close().await;
        server.delete(&format!("/workitems/{GLOBAL}/subscribers/AE")).await.is(200);
    }
}

#[tokio::test]
async fn a_partition_has_so_many_subscribers() {
    let server = Server::with(&[("worklist.max_subscribers", "2")]).await;
    create(&server, "1.2.1", "P1").await;
    for title in ["A", "B", "A"] {
        subscribe(&server, &format!("/workitems/1.2.1/subscribers/{title}")).await.is(201);
    }
    let problem = subscribe(&server, "/workitems/1.2.1/subscribers/C").await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "worklist.max_subscribers");
    let refused = Socket::try_open(&format!("{}/subscribers/C", server.base), &[]).await;
    assert_eq!(refused.err(), Some(400));
    Socket::open(&format!("{}/subscribers/B", server.base)).await;
    let answer = send(server.request(Method::PUT, "/workitems/1.2.1/subscribers/A")).await;
    assert_eq!((answer.status, said(&answer)), (405, ""));
}
