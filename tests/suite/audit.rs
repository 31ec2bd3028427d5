//! The audit log over HTTP: who did what, with what outcome; read by auditors, verified by operators,
//! sent to receivers.

mod export;
mod places;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Dicom, Server, postgres, process, send, until};

/// Partitions, and reads on the record though there are no principals.
const ON: [(&str, &str); 2] =
    [("features.enable_data_partition", "true"), ("audit.reads", "always")];

fn ct(study: &str, n: u32) -> Vec<u8> {
    Dicom::ct(study, &format!("{study}.1"), &format!("{study}.1.{n}")).file()
}

/// Events of a log as it is read, oldest first, without those of reading it.
async fn log(client: &Client, path: &str) -> Vec<Value> {
    let listed = client.get(&format!("{path}?limit=1000")).await.is(200).json();
    let mut events: Vec<Value> =
        listed.as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect();
    events.retain(|event| event["action"] != "audit.read");
    events.reverse();
    events
}

/// Waits until a log has so many events.
async fn logged(client: &Client, path: &str, count: usize) -> Vec<Value> {
    until("the events are there", async || log(client, path).await.len() >= count).await;
    let events = log(client, path).await;
    assert_eq!(events.len(), count, "{events:#?}");
    events
}

fn with_request(answer: Answer, answers: &mut Vec<String>) -> Answer {
    answers.push(answer.header("x-request-id").to_owned());
    answer
}

#[tokio::test]
async fn who_did_what_to_which_study_and_how_it_ended() {
    let server = Server::with(&ON).await;
    let within = "/partitions/north";
    let path = |rest: &str| format!("{within}{rest}");
    let mut ids = Vec::new();
    let files = [ct("1.2.1", 1), ct("1.2.1", 2), ct("1.2.2", 1)];
    with_request(server.store(&path("/studies"), &files).await.is(200), &mut ids);
    with_request(server.store(&path("/studies"), &[ct("1.2.1", 1)]).await.is(200), &mut ids);
    with_request(server.get(&path("/studies?PatientName=Doe*")).await.is(200), &mut ids);
    with_request(server.get(&path("/studies/1.2.1/series/1.2.1.1")).await.is(200), &mut ids);
    with_request(server.get(&path("/studies/1.2.9/metadata")).await.is(404), &mut ids);
    with_request(server.delete(&path("/studies/1.2.9")).await.is(404), &mut ids);
    with_request(server.delete(&path("/studies/1.2.1")).await.is(204), &mut ids);
    with_request(server.get(&path("/studies/1.2.1")).await.is(410), &mut ids);
    let bad = server.post(&path("/studies"), "text/plain", b"x".to_vec()).await;
    assert_eq!(bad.status, 415);

    let events = logged(&server, &path("/audit"), 9).await;
    let of = |request: usize| -> Vec<&Value> {
        events.iter().filter(|event| event["request"] == ids[request].as_str()).collect()
    };
    // One event for each study of a Store, by its transaction.
    let mut studies: Vec<&Value> = of(0);
    studies.sort_by_key(|event| event["study"].to_string());
    assert_eq!(studies.len(), 2);
    assert_eq!(studies[0]["study"], "1.2.1");
    assert_eq!(studies[0]["instances"], json!(["1.2.1.1.1", "1.2.1.1.2"]));
    assert_eq!(studies[0]["detail"], json!({ "stored": 2 }));
    assert_eq!(studies[1]["detail"], json!({ "stored": 1 }));
    for event in &events {
        assert_eq!(event["who"], json!({ "kind": "anonymous" }));
        assert_eq!(
            (&event["partition"], &event["address"]),
            (&json!("north"), &json!("127.0.0.1"))
        );
    }
    let told = |request: usize| {
        let [event] = of(request)[..] else { panic!("{request}: {:#?}", of(request)) };
        let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
        let status = event["status"].as_u64().unwrap_or(0);
        (text("action"), text("outcome"), text("study"), text("reason"), status)
    };
    let expect = |action: &str, outcome: &str, study: &str, reason: &str, status: u64| {
        let words = [action, outcome, study, reason].map(str::to_owned);
        let [action, outcome, study, reason] = words;
        (action, outcome, study, reason, status)
    };
    assert_eq!(told(1), expect("studies.store", "success", "1.2.1", "-", 0));
    assert_eq!(of(1)[0]["detail"], json!({ "identical": 1 }));
    assert_eq!(told(2), expect("studies.search", "success", "-", "-", 200));
    assert_eq!(of(2)[0]["detail"], json!({ "query": "PatientName=Doe*" }));
    assert_eq!(told(3), expect("studies.retrieve", "success", "1.2.1", "-", 200));
    assert_eq!(of(3)[0]["named"], json!({ "study": "1.2.1", "series": "1.2.1.1" }));
    assert_eq!(of(3)[0]["route"], "/partitions/{partition}/studies/{study}/series/{series}");
    assert_eq!(told(4), expect("studies.retrieve", "failed", "1.2.9", "not-found", 404));
    assert_eq!(told(5), expect("studies.delete", "failed", "1.2.9", "not-found", 404));
    assert_eq!(told(6), expect("studies.delete", "success", "1.2.1", "-", 0));
    assert_eq!(of(6)[0]["detail"], json!({ "instances": 2 }));
    assert_eq!(told(7), expect("studies.retrieve", "failed", "1.2.1", "gone", 410));

    // What names a partition that is none stands in the log of the platform, as does its creation.
    server.get("/partitions/nobody/studies/1.2.1").await.is(404);
    server.get("/partitions").await.is(200);
    until("the platform's log has it", async || log(&server, "/audit").await.len() == 3).await;
    let platform = log(&server, "/audit").await;
    let shown = |event: &Value| {
        ["action", "outcome", "reason"].map(|name| event[name].as_str().unwrap_or("-").to_owned())
    };
    let shown: Vec<[String; 3]> = platform.iter().map(shown).collect();
    let expected = [
        ["partitions.create", "success", "-"],
        ["studies.retrieve", "refused", "hidden"],
        ["partitions.list", "success", "-"],
    ];
    assert_eq!(shown, expected.map(|words| words.map(str::to_owned)));
    assert_eq!(platform[0]["detail"], json!({ "partition": "north" }));
    server.get("/partitions/nobody/audit").await.problem(404);
    server.get("/partitions/_platform/audit").await.is(400);

    // The chain is whole, and each reading of the log an event.
    until("all is chained", async || {
        let listed = server.get(&path("/audit?limit=1000")).await.json();
        listed.as_array().unwrap().iter().filter(|entry| !entry["number"].is_null()).count() > 9
    })
    .await;
    let reads = server.get(&path("/audit?action=audit.read")).await.is(200).json();
    assert!(!reads.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn pages_filters_and_lines() {
    let server = Server::with(&ON).await;
    for n in 1..=7 {
        server.store("/partitions/a/studies", &[ct(&format!("1.2.{n}"), 1)]).await.is(200);
    }
    server.delete("/partitions/a/studies/1.2.3").await.is(204);
    let log = "/partitions/a/audit";
    let mut seen = BTreeSet::new();
    let mut next = format!("{log}?action=studies.store&limit=3");
    let mut pages = 0;
    loop {
        let page = server.get(&next).await.is(200);
        pages += 1;
        for entry in page.json().as_array().unwrap() {
            assert!(seen.insert(entry["event"]["id"].to_string()), "twice: {entry}");
        }
        let link = page.header("link");
        let Some(rest) = link.strip_prefix('<') else { break };
        assert!(link.ends_with(">; rel=\"next\""), "{link}");
        next = rest.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!((seen.len(), pages), (7, 3));
    for (query, count) in [
        ("study=1.2.3", 2),
        ("study=1.2.3&action=studies.delete", 1),
        ("outcome=refused", 0),
        ("since=2999-01-01T00:00:00Z", 0),
        ("until=2001-01-01T00:00:00Z", 0),
        ("principal=x", 0),
        ("action=studies.store&limit=2", 2),
    ] {
        let found = server.get(&format!("{log}?{query}")).await.is(200).json();
        assert_eq!(found.as_array().unwrap().len(), count, "{query}");
    }
    for wrong in ["limit=0", "since=then", "study=x", "outcome=fine", "after=x", "principal="] {
        server.get(&format!("{log}?{wrong}")).await.problem(400);
    }
    let lines =
        server.get_as(&format!("{log}?action=studies.store"), "application/x-ndjson").await.is(200);
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert_eq!(lines.text().lines().count(), 7);
    for line in lines.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["event"]["action"], "studies.store");
    }
    // Another partition's log has nothing of it.
    server.store("/partitions/b/studies", &[ct("1.2.1", 1)]).await.is(200);
    let other = server.get("/partitions/b/audit?study=1.2.3").await.is(200);
    assert_eq!(other.text(), "[]");
}

#[tokio::test]
async fn without_principals_reads_leave_nothing_unless_asked_for() {
    let server = Server::start().await;
    server.store("/studies", &[ct("1.2.1", 1)]).await.is(200);
    server.get("/studies/1.2.1").await.is(200);
    server.get("/studies/1.2.9").await.is(404);
    server.delete("/studies/1.2.9").await.is(404);
    let events = logged(&server, "/audit", 2).await;
    let shown: Vec<&Value> = events.iter().map(|event| &event["action"]).collect();
    // Without partitions all is in one log.
    assert_eq!(shown, ["studies.store", "studies.delete"]);
    let body = json!([{ "path": "00101010", "level": "study" }]).to_string();
    server.post("/extendedquerytags", "application/json", body.into_bytes()).await.is(202);
    let last = logged(&server, "/audit", 3).await.pop().unwrap();
    assert_eq!(
        (&last["action"], &last["detail"]["tags"]),
        (&json!("tags.manage"), &json!(["00101010"]))
    );
}

#[tokio::test]
async fn every_kind_of_change_is_on_the_record_once() {
    let server = Server::with(&ON).await;
    let within = "/partitions/north";
    server.store(&format!("{within}/studies"), &[ct("1.2.1", 1)]).await.is(200);
    server.delete(&format!("{within}/studies/1.2.1")).await.is(204);
    let calls: [(&str, &str, &str, u16, &str); 6] = [
        ("POST", "/studies/1.2.1/$undelete", "", 200, "studies.delete"),
        ("DELETE", "/studies/1.2.1?erase=true", "", 202, "studies.delete"),
        (
            "POST",
            "/extendedquerytags",
            r#"[{"path":"00101010","level":"study"}]"#,
            202,
            "tags.manage",
        ),
        (
            "PATCH",
            "/extendedquerytags/00101010",
            r#"{"queryStatus":"disabled"}"#,
            200,
            "tags.manage",
        ),
        ("POST", "/webhooks", r#"{"url":"https://hooks.example.com/x"}"#, 400, "webhooks.manage"),
        ("POST", "/removals/$retry", "", 200, "operations.manage"),
    ];
    for (n, (method, path, body, status, action)) in calls.into_iter().enumerate() {
        let request = server.request(method.parse().unwrap(), &format!("{within}{path}"));
        let request = request.header("content-type", "application/json").body(body);
        let answer = send(request).await;
        // Whether a name resolves is not of interest here.
        assert!(
            answer.status == status || action == "webhooks.manage",
            "{path}: {}",
            answer.text()
        );
        let id = answer.header("x-request-id").to_owned();
        let mut found = Vec::new();
        until("the event is there", async || {
            found = log(&server, &format!("{within}/audit")).await;
            found.retain(|event| event["request"] == id.as_str());
            !found.is_empty()
        })
        .await;
        assert_eq!(found.len(), 1, "{path}: {found:#?}");
        assert_eq!(found[0]["action"], action, "{n} {path}");
    }
    // What was so already changes nothing, and is told of once all the same.
    let same = r#"{"queryStatus":"disabled"}"#;
    let path = format!("{within}/extendedquerytags/00101010");
    let request = server.request(reqwest::Method::PATCH, &path).body(same);
    let answer = send(request.header("content-type", "application/json")).await.is(200);
    let id = answer.header("x-request-id").to_owned();
    let of_it = async || {
        let mut found = log(&server, &format!("{within}/audit")).await;
        found.retain(|event| event["request"] == id.as_str());
        found
    };
    until("the event is there", async || !of_it().await.is_empty()).await;
    let [event] = &of_it().await[..] else { panic!("one event") };
    assert_eq!((&event["outcome"], &event["status"]), (&json!("success"), &json!(200)));
    // At the root: in the log of the platform.
    let body = json!([{ "path": "00101020", "level": "study" }]).to_string();
    server.post("/extendedquerytags", "application/json", body.into_bytes()).await.is(202);
    let last = log(&server, "/audit").await.pop().unwrap();
    assert_eq!((&last["action"], &last["partition"]), (&json!("tags.manage"), &json!("_platform")));
}

#[tokio::test]
async fn what_a_killed_server_acknowledged_is_on_the_record_and_verify_tells_tampering() {
    let data = postgres::tempdir();
    let name = postgres::migrated().await;
    let url = postgres::url(&name).await;
    let settings = [("database.url", url.as_str()), ("audit.reads", "always")];
    let process = process::Process::serve(data.path(), &settings);
    for n in 1..=5 {
        process.client.store("/studies", &[ct(&format!("1.2.{n}"), 1)]).await.is(200);
    }
    process.client.delete("/studies/1.2.5").await.is(204);
    process.signal(libc::SIGKILL);
    process.ended().await;
    let mut conn = sqlx::ConnectOptions::connect(&postgres::owner(&name)).await.unwrap();
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit_event WHERE action IN ('studies.store', 'studies.delete')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(kept, 6);

    // Another server chains what the killed one left.
    let process = process::Process::serve(data.path(), &settings);
    until("all is chained", async || {
        let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_pending")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        pending == 0
    })
    .await;
    let verify = |more: &[&str]| {
        let dir = data.path().to_str().unwrap();
        let arguments = [&["audit", "verify", "--data-dir", dir], more].concat();
        let output = process::run(&arguments, &settings);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, text) = verify(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("microsoft.default: sound, "), "{text}");
    assert!(text.contains("_platform: sound, "), "{text}");
    let (code, text) = verify(&["--partition", "nobody"]);
    assert_eq!(code, Some(1), "{text}");
    sqlx::query("UPDATE audit_event SET record = replace(record, '1.2.5', '1.2.4')")
        .execute(&mut conn)
        .await
        .unwrap();
    let (code, text) = verify(&["--json", "--partition", "microsoft.default"]);
    assert_eq!(code, Some(2), "{text}");
    let report: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(report["findings"][0]["kind"], "event_altered");
    process.signal(libc::SIGTERM);
    process.ended().await;
}
