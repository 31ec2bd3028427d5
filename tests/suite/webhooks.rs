//! Webhooks as their owners see them: added, told, changed, tried out, removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Dicom, PARTITIONS, Server, postgres,
    process::Process,
    receiver::{Receiver, Reply, secret},
    send, until,
};

/// Settings under which loopback may be called, and failures are quick.
const QUICK: [(&str, &str); 5] = [
    ("webhooks.allow_http", "true"),
    ("webhooks.allow_private", "true"),
    ("webhooks.retry_first", "10ms"),
    ("webhooks.retry_cap", "100ms"),
    ("webhooks.max_attempts", "2"),
];

async fn server(more: &[(&str, &str)]) -> Server {
    Server::with(&[&QUICK[..], more].concat()).await
}

async fn post(client: &Client, path: &str, body: Value) -> Answer {
    client.post(path, "application/json", body.to_string().into_bytes()).await
}

async fn patch(client: &Client, path: &str, body: Value) -> Answer {
    let request = client.request(reqwest::Method::PATCH, path);
    send(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn store(server: &Client, within: &str, n: u32) {
    let ct = Dicom::ct(&format!("1.2.{n}"), &format!("1.2.{n}.1"), &format!("1.2.{n}.1.1")).file();
    server.store(&format!("{within}/studies"), &[ct]).await.is(200);
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_store_is_told_as_the_feed_tells_it() {
    let server = server(&PARTITIONS).await;
    let receiver = Receiver::start().await;
    store(&server, "/partitions/north", 1).await;
    let within = "/partitions/north";
    let path = format!("{within}/webhooks");
    let added = post(&server, &path, json!({ "url": receiver.url(), "description": "PACS" })).await;
    let added = added.is(201);
    let webhook = added.json();
    let shown = webhook["secret"].as_str().unwrap().to_owned();
    assert_eq!(secret(&shown).len(), 32);
    assert_eq!(added.header("cache-control"), "no-store");
    assert_eq!(added.header("location"), format!("{}{path}/{}", server.base, id(&added)));
    assert_eq!(webhook["actions"], json!(["create", "update", "delete"]));
    assert_eq!((&webhook["state"], &webhook["description"]), (&"enabled".into(), &"PACS".into()));
    // It begins now: after what there was.
    assert_eq!((webhook["sequence"].as_i64(), webhook["lag"].as_i64()), (Some(1), Some(0)));
    store(&server, "/partitions/south", 7).await;
    store(&server, within, 2).await;
    until("it is told", async || receiver.sequences().len() == 1).await;
    let got = receiver.got().remove(0);
    assert!(got.is_signed_with(&[&secret(&shown)]));
    let feed = format!("{within}/changefeed?offset=1&includeMetadata=false");
    assert_eq!(Value::Array(got.events()), server.get(&feed).await.is(200).json());
    // The secret is not shown again.
    let one = format!("{path}/{}", id(&added));
    until("it is noted", async || server.get(&one).await.json()["sequence"] == 2).await;
    for path in [&path, &one] {
        let text = server.get(path).await.is(200).text();
        assert!(!text.contains("whsec_") && !text.contains(&shown[6..]), "{text}");
        assert!(text.contains("lastSuccessTime") && !text.contains("lastFailure"), "{text}");
    }
    // Nor is it another partition's.
    assert_eq!(server.get("/partitions/south/webhooks").await.is(200).json(), json!([]));
    let foreign = one.replace("north", "south");
    server.get(&foreign).await.problem(404);
    patch(&server, &foreign, json!({})).await.problem(404);
    server.delete(&foreign).await.problem(404);
    server.get("/webhooks").await.problem(400);
    server.delete(&one).await.is(204);
    server.delete(&one).await.problem(404);
    store(&server, within, 3).await;
    let rows = "SELECT (SELECT count(*) FROM webhook) + (SELECT count(*) FROM webhook_dead_letter)";
    assert_eq!(server.count(rows).await, 0);
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn a_webhook_begins_where_it_is_told_to_and_can_be_changed() {
    let server = server(&[]).await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    for n in 1..=3 {
        store(&server, "", n).await;
    }
    let all = post(&server, "/webhooks", json!({"url": first.url(), "from": "beginning"})).await;
    let rest = post(&server, "/v2/webhooks", json!({"url": second.url(), "from": 2})).await;
    let (all, rest) = (all.is(201), rest.is(201));
    until("both are told", async || first.sequences().len() == 3 && second.sequences().len() == 1)
        .await;
    assert_eq!(second.sequences(), [3]);
    let one = format!("/webhooks/{}", id(&all));
    until("it is noted", async || server.get(&one).await.json()["lag"] == 0).await;
    let off = patch(&server, &one, json!({"state": "disabled"})).await.is(200).json();
    assert_eq!((&off["state"], &off["disabledBecause"]), (&"disabled".into(), &"request".into()));
    store(&server, "", 4).await;
    until("the other is told", async || second.sequences().len() == 2).await;
    assert_eq!(first.sequences().len(), 3);
    // On again, at another place, and for deletions alone.
    let third = Receiver::start().await;
    let change = json!({"state": "enabled", "url": third.url(), "actions": ["delete"]});
    let on = patch(&server, &one, change).await.is(200).json();
    assert_eq!((&on["state"], on.get("disabledBecause")), (&"enabled".into(), None));
    server.delete("/studies/1.2.4").await.is(204);
    until("the deletion is told", async || third.sequences() == [5]).await;
    assert_eq!(third.got()[0].events()[0]["action"], "delete");
    let listed = server.get("/webhooks").await.is(200).json();
    let ids: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [id(&all), id(&rest)]);
    assert_eq!(server.get("/webhooks?limit=1&offset=1").await.json()[0]["id"], listed[1]["id"]);
}

#[tokio::test]
async fn a_secret_is_replaced_and_a_webhook_tried_out() {
    let server = server(&[]).await;
    let receiver = Receiver::start().await;
    let added = post(&server, "/webhooks", json!({"url": receiver.url()})).await.is(201);
    let one = format!("/webhooks/{}", id(&added));
    let test = format!("{one}/$test");
    let tried = async || server.post(&test, "application/json", Vec::new()).await.is(200).json();
    assert_eq!(tried().await, json!({"delivered": true}));
    let old = secret(added.json()["secret"].as_str().unwrap());
    let rotate = format!("{one}/$rotateSecret");
    let rotated = server.post(&rotate, "application/json", Vec::new()).await.is(200);
    assert_eq!(rotated.header("cache-control"), "no-store");
    let new = secret(rotated.json()["secret"].as_str().unwrap());
    assert_ne!(new, old);
    assert!(server.get(&one).await.json().get("previousSecretUntil").is_some());
    receiver.script([Reply::Status(403)]);
    let refused = json!({"delivered": false, "reason": "status", "status": 403});
    assert_eq!(tried().await, refused);
    let got = receiver.got();
    assert_eq!(got[0].json()["type"], "webhook.test");
    assert!(got[0].is_signed_with(&[&old]) && got[1].is_signed_with(&[&new, &old]));
    assert_ne!(got[0].id, got[1].id);
    let off = server.restart(&[("webhooks.allow_http", "true")]).await;
    let refused = off.post(&test, "application/json", Vec::new()).await.is(200).json();
    assert_eq!(refused, json!({"delivered": false, "reason": "address"}));
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_removed() {
    let server = server(&[("webhooks.batch", "1"), ("webhooks.disable_after", "100")]).await;
    let receiver = Receiver::start().await;
    receiver.usually(Reply::Status(500));
    let added = post(&server, "/webhooks", json!({"url": receiver.url()})).await.is(201);
    let one = format!("/webhooks/{}", id(&added));
    for n in 1..=3 {
        store(&server, "", n).await;
    }
    until("all are given up", async || server.get(&one).await.json()["deadLetters"]["count"] == 3)
        .await;
    let health = server.get(&one).await.json();
    assert_eq!(health["lastFailure"]["status"], 500);
    let href = health["deadLetters"]["href"].as_str().unwrap();
    let letters = server.get(href).await.is(200).json();
    let letter = &letters[1];
    for (name, value) in [
        ("firstSequence", json!(2)),
        ("lastSequence", json!(2)),
        ("events", json!(1)),
        ("reason", json!("status")),
        ("status", json!(500)),
        ("attempts", json!(2)),
        ("replay", json!("none")),
        ("available", json!("all")),
    ] {
        assert_eq!(letter[name], value, "{name}");
    }
    assert_eq!(server.get(&format!("{href}?limit=1&offset=1")).await.json(), json!([letter]));
    assert_eq!(server.get(&format!("{href}/2")).await.is(200).json(), *letter);
    let mut conn = server.superuser().await;
    sqlx::raw_sql("DELETE FROM change_feed WHERE sequence = 1").execute(&mut conn).await.unwrap();
    assert_eq!(server.get(&format!("{href}/1")).await.json()["available"], "none");
    server.delete(&format!("{href}/1")).await.is(204);
    server.delete(&format!("{href}/1")).await.problem(404);
    server.get(&format!("{href}/1")).await.problem(404);
    server.get(&format!("{href}/x")).await.problem(400);
    receiver.usually(Reply::Status(200));
    let before = receiver.got().len();
    let replay = async |path: &str| server.post(path, "application/json", Vec::new()).await;
    replay(&format!("{href}/1/$replay")).await.problem(404);
    assert_eq!(replay(&format!("{href}/3/$replay")).await.is(202).json(), json!({"count": 1}));
    until("it is told", async || server.get(href).await.json().as_array().unwrap().len() == 1)
        .await;
    assert_eq!(replay(&format!("{href}/$replay")).await.is(202).json(), json!({"count": 1}));
    until("all are told", async || server.get(href).await.json() == json!([])).await;
    let told: Vec<_> = receiver.got()[before..].iter().flat_map(|got| got.sequences()).collect();
    assert_eq!(told, [3, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_message_and_changes_none() {
    let data = postgres::tempdir();
    let receiver = Receiver::start().await;
    let settings = [&QUICK[..], &[("webhooks.batch", "2")]].concat();
    let mut stored = 0;
    for round in 0..3 {
        let before = receiver.got().len();
        if round < 2 {
            receiver.script([Reply::Status(200), Reply::Hang]);
        }
        let process = Process::serve(data.path(), &settings);
        let client = process.client.clone();
        if round == 0 {
            let body = json!({"url": receiver.url(), "from": "beginning"});
            post(&client, "/webhooks", body).await.is(201);
        }
        for _ in 0..6 {
            stored += 1;
            store(&client, "", stored).await;
        }
        if round < 2 {
            until("one is on its way", async || receiver.got().len() >= before + 2).await;
            process.kill();
        } else {
            let last = i64::from(stored);
            until("all are told", async || receiver.sequences().last() == Some(&last)).await;
        }
    }
    let mut messages = BTreeMap::new();
    let mut told: Vec<i64> = Vec::new();
    for got in receiver.got() {
        let sequences = got.sequences();
        match messages.get(&got.id) {
            Some(first) => assert_eq!(*first, sequences, "{got:?}"),
            None => told.extend(&sequences),
        }
        messages.insert(got.id, sequences);
    }
    assert_eq!(told, (1..=i64::from(stored)).collect::<Vec<_>>());
    assert!(receiver.sequences().len() > told.len(), "what was on its way comes again");
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let strict = Server::with(&[("webhooks.max_per_partition", "2")]).await;
    for (url, field) in [
        ("http://hooks.example/", "url"),
        ("https://127.0.0.1/", "url"),
        ("https://localhost/", "url"),
        ("https://SECRET@hooks.example/", "url"),
        ("SECRET", "url"),
        ("https://[::ffff:10.0.0.1]/SECRET", "url"),
    ] {
        let problem = post(&strict, "/webhooks", json!({ "url": url })).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{url}: {problem}");
        assert!(!problem.to_string().contains("SECRET"), "{problem}");
    }
    post(&strict, "/webhooks", json!({})).await.problem(400);
    post(&strict, "/webhooks", json!({"url": "x", "from": "never"})).await.problem(400);
    strict.post("/webhooks", "text/plain", b"{}".to_vec()).await.problem(415);
    strict.post("/webhooks", "application/json", vec![b' '; 1 << 20]).await.problem(413);
    strict.get("/webhooks/1").await.problem(400);
    let free = strict.restart(&[&QUICK[..], &[("webhooks.max_per_partition", "2")]].concat()).await;
    let receiver = Receiver::start().await;
    let body = || json!({"url": receiver.url()});
    for _ in 0..2 {
        post(&free, "/webhooks", body()).await.is(201);
    }
    let problem = post(&free, "/webhooks", body()).await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "webhooks.max_per_partition");
    let url = free.get("/webhooks").await.json()[0]["id"].as_str().unwrap().to_owned();
    patch(&free, &format!("/webhooks/{url}"), json!({"url": "ftp://x/"})).await.problem(400);
}
