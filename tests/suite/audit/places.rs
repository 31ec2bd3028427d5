//! In whose log an event stands: nobody writes into the log of a partition that he cannot reach.

use serde_json::{Value, json};

use super::{ON, ct, log, logged};
use crate::harness::{
    Client, Server,
    issuer::{self, Issuer, OPERATOR, bearer},
    mint::Forgery,
    postgres, process,
};

const STUDY: &str = "/partitions/north/studies/1.2.1";

fn with_token(server: &Server, token: &str) -> Client {
    server.with_header("authorization", &bearer(token))
}

/// Who did what, why not, and of which partition the log of the platform says so.
fn shown(events: &[Value]) -> Vec<String> {
    let told = events.iter().map(|event| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let subject = event["who"].get("subject").unwrap_or(&event["who"]["kind"]);
        let rest = [&event["action"], &event["outcome"], &event["reason"]];
        let words = [subject].into_iter().chain(rest).chain([&event["detail"]["partition"]]);
        words.map(text).collect::<Vec<_>>().join(" ")
    });
    told.collect()
}

#[tokio::test]
async fn a_partitions_log_has_nothing_of_who_cannot_reach_it() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    let by = |subject: &str, partition: &str, role: &str| {
        with_token(&server, &issuer.token_for(subject, partition, role))
    };
    let ada = by("ada", "north", "partition-admin");
    ada.store("/partitions/north/studies", &[ct("1.2.1", 1)]).await.is(200);

    // Of another partition, without a credential, and with those that are not good.
    let mallory = by("mallory", "south", "partition-admin");
    mallory.get(STUDY).await.problem(404);
    mallory.delete(STUDY).await.problem(404);
    mallory.store("/partitions/north/studies", &[ct("1.2.1", 1)]).await.problem(404);
    server.get(STUDY).await.problem(401);
    with_token(&server, &issuer.forge(Forgery::AlgNone, json!({}))).get(STUDY).await.problem(401);
    server.get_with(STUDY, &[("x-api-key", "cmk_1")]).await.problem(401);
    // Who belongs to it and may not is its own affair, also where he names none.
    let rita = by("rita", "north", "reader");
    rita.delete(STUDY).await.problem(403);
    rita.delete("/studies/1.2.1").await.problem(403);
    // A partition that he would make is not his, and neither is it there.
    let body = json!({ "partitionId": "east" }).to_string().into_bytes();
    rita.post("/partitions", "application/json", body).await.problem(403);
    // Nor is one that a Store was let in to, and nothing came of.
    let wanda = by("wanda", "west", "partition-admin");
    let failed = wanda.store("/partitions/west/studies", &[b"no DICOM".to_vec()]).await;
    assert!(failed.status >= 400, "{}", failed.status);
    wanda.get("/partitions/west/studies/1.2.1").await.problem(404);

    let olga = with_token(&server, &issuer.operator());
    let platform = logged(&olga, "/audit", 10).await;
    let mut told = shown(&platform);
    let store = told.iter().position(|event| event.starts_with("wanda studies.store failed "));
    assert!(told.remove(store.expect("wanda's store")).ends_with(" west"), "{platform:#?}");
    let expected = [
        "ada partitions.create success - north",
        "mallory studies.retrieve refused hidden north",
        "mallory studies.delete refused hidden north",
        "mallory studies.store refused hidden north",
        "unknown studies.retrieve refused credential north",
        "unknown studies.retrieve refused credential north",
        "unknown studies.retrieve refused credential north",
        "rita partitions.manage refused permission east",
        "wanda studies.retrieve refused hidden west",
    ];
    assert_eq!(told, expected);
    assert!(platform.iter().all(|event| event["partition"] == "_platform"));
    let north = shown(&logged(&ada, "/partitions/north/audit", 3).await);
    let expected = [
        "ada studies.store success - -",
        "rita studies.delete refused permission -",
        "rita studies.delete refused permission -",
    ];
    assert_eq!(north, expected);
}

#[tokio::test]
async fn who_could_not_be_asked_about_was_not_refused() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    let olga = with_token(&server, &issuer.operator());
    olga.get("/partitions").await.is(200);
    issuer.rotate(true);
    issuer.is(issuer::Mood::Down);
    let ada = with_token(&server, &issuer.token_for("ada", "north", "reader"));
    ada.get(STUDY).await.problem(503);
    let last = logged(&olga, "/audit", 2).await.pop().unwrap();
    assert_eq!((&last["outcome"], &last["status"]), (&json!("failed"), &json!(503)));
    assert_eq!(last["who"], json!({ "kind": "unknown" }));
    assert_ne!(last["reason"], "credential");
}

#[tokio::test]
async fn a_token_for_less_reads_no_log_of_the_platform() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    let with_scope = |scope: &str| {
        let roles = json!({ "roles": [OPERATOR] });
        let claims = json!({ "sub": "olga", "realm_access": roles, "scope": scope });
        with_token(&server, &issuer.token(claims))
    };
    with_scope("openid").get("/audit").await.is(200);
    with_scope("user/AuditEvent.rs").get("/audit").await.is(200);
    let status = with_scope("user/ImagingStudy.rs").get("/audit").await.status;
    assert!([400, 403].contains(&status), "{status}");
}

#[tokio::test]
async fn each_link_is_on_the_record_with_what_it_is_for() {
    let server = Server::with(&ON).await;
    server.store("/partitions/north/studies", &[ct("1.2.1", 1)]).await.is(200);
    let body = json!({ "path": "/studies/1.2.1/metadata" }).to_string();
    // The first is made with a new key, the second with that.
    for _ in 0..2 {
        let body = body.clone().into_bytes();
        let made = server.post("/partitions/north/links", "application/json", body).await.is(201);
        // At once: with the key, and not behind the answer.
        let mut events = log(&server, "/partitions/north/audit").await;
        events.retain(|event| event["request"] == made.header("x-request-id"));
        let [event] = &events[..] else { panic!("{events:#?}") };
        assert_eq!((&event["action"], &event["study"]), (&json!("links.create"), &json!("1.2.1")));
        let expected = json!({ "link": made.json()["id"], "path": "/studies/1.2.1/metadata" });
        assert_eq!((&event["detail"], &event["status"]), (&expected, &Value::Null));
    }
}

#[tokio::test]
async fn what_is_done_at_the_command_line_is_on_the_record() {
    let data = postgres::tempdir();
    let name = postgres::migrated().await;
    let url = postgres::url(&name).await;
    let settings = [("database.url", url.as_str()), ON[0]];
    let server = process::Process::serve(data.path(), &settings);
    let dir = data.path().to_str().unwrap();
    let key = |arguments: &[&str]| {
        let output = process::run(&[&["key"], arguments, &["--data-dir", dir]].concat(), &settings);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let made = key(&["create", "--partition", "clinic1", "--role", "reader", "--create-partition"]);
    let id = &made.trim()[4..36];
    key(&["list", "--partition", "clinic1"]);
    key(&["disable", "--partition", "clinic1", id]);
    let platform = log(&server.client, "/audit").await;
    let own = log(&server.client, "/partitions/clinic1/audit").await;
    for event in platform.iter().chain(&own) {
        assert_eq!(event["who"], json!({ "kind": "command-line" }));
        assert_eq!(
            (&event["route"], &event["address"]),
            (&json!("collimator key"), &json!("127.0.0.1"))
        );
    }
    assert_eq!(shown(&platform), ["command-line partitions.create success - clinic1"]);
    assert_eq!(shown(&own), ["command-line principals.manage success - -"; 2]);
    assert!(own.iter().all(|event| event["detail"]["key"] == id), "{own:#?}");
}
