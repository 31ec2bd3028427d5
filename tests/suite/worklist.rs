//! The Worklist Service as its clients see it: created, claimed, worked off and found.

mod body;
mod channel;
mod search;
mod subscriptions;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Dicom, PARTITIONS, Server, send};

const JSON: &str = "application/dicom+json";

/// An instance, with which its partition comes into being.
fn ct() -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()
}

fn of(vr: &str, values: Value) -> Value {
    json!({ "vr": vr, "Value": values })
}

fn code(value: &str) -> Value {
    json!({
        "00080100": of("SH", json!([value])),
        "00080102": of("SH", json!(["99X"])),
        "00080104": of("LO", json!([format!("Meaning of {value}")])),
    })
}

/// A workitem as it is created, with all that PS3.4 Table CC.2.5-3 demands.
pub fn workitem(patient: &str, start: &str) -> Value {
    let empty = |vr: &str| json!({ "vr": vr });
    json!({
        "00081080": empty("LO"),
        "00081084": empty("SQ"),
        "00081195": empty("UI"),
        "00100010": of("PN", json!([{ "Alphabetic": format!("Doe^{patient}") }])),
        "00100020": of("LO", json!([patient])),
        "00100021": empty("LO"),
        "00100024": empty("SQ"),
        "00100030": of("DA", json!(["19700101"])),
        "00100040": of("CS", json!(["O"])),
        "00101002": empty("SQ"),
        "0020000D": of("UI", json!(["1.2.77"])),
        "00380010": empty("LO"),
        "00380014": empty("SQ"),
        "00400400": empty("LT"),
        "00404005": of("DT", json!([start])),
        "00404018": of("SQ", json!([code("W1")])),
        "00404021": empty("SQ"),
        "00404025": of("SQ", json!([code("CT1"), code("CT2")])),
        "00404026": empty("SQ"),
        "00404027": empty("SQ"),
        "00404041": of("CS", json!(["READY"])),
        "0040A370": of("SQ", json!([{
            "00080050": of("SH", json!([format!("A-{patient}")])),
            "0020000D": of("UI", json!(["1.2.77"])),
            "00401001": of("SH", json!(["RP1"])),
        }])),
        "00741000": of("CS", json!(["SCHEDULED"])),
        "00741002": empty("SQ"),
        "00741200": of("CS", json!(["MEDIUM"])),
        "00741202": of("LO", json!(["Reading room"])),
        "00741204": of("LO", json!([format!("Read {patient}")])),
        "00741210": empty("SQ"),
        "00741216": empty("SQ"),
    })
}

/// What a workitem has to say of how it was performed.
fn performed() -> Value {
    json!({ "00741216": of("SQ", json!([{
        "00404019": of("SQ", json!([code("W1")])),
        "00404028": of("SQ", json!([code("CT1")])),
        "00404033": { "vr": "SQ" },
        "00404050": of("DT", json!(["20260101080000"])),
        "00404051": of("DT", json!(["20260101090000"])),
    }])) })
}

async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    client.post(path, JSON, body.to_string().into_bytes()).await
}

async fn state(client: &Client, path: &str, wanted: &str, key: Option<&str>) -> Answer {
    let mut body = json!({ "00741000": of("CS", json!([wanted])) });
    if let Some(key) = key {
        body["00081195"] = of("UI", json!([key]));
    }
    let request = client.request(Method::PUT, &format!("{path}/state"));
    send(request.header("content-type", JSON).body(body.to_string())).await
}

/// The workitem, as it is now.
async fn now(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await.is(200);
    let mut all = answer.json();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0].get("00081195"), None, "nobody is shown the Transaction UID");
    all[0].take()
}

fn said(answer: &Answer) -> &str {
    answer.header("warning").strip_prefix("299 collimator: ").unwrap_or_default()
}

const INCONSISTENT: &str =
    "The submitted request is inconsistent with the state of the UPS Instance.";

#[tokio::test]
async fn a_workitem_is_created_claimed_and_completed() {
    let server = Server::with(&PARTITIONS).await;
    let within = "/partitions/north";
    server.store(&format!("{within}/studies"), &[ct()]).await.is(200);
    let path = format!("{within}/workitems/1.2.5");
    let item = workitem("P1", "20260101080000");
    let created = post(&server, &format!("{within}/workitems?workitem=1.2.5"), &item).await;
    let created = created.is(201);
    let url = format!("{}{path}", server.base);
    assert_eq!((created.header("location"), created.header("content-location")), (&*url, &*url));
    assert_eq!((said(&created), created.text().len()), ("", 0));

    let found = server.get(&url).await.is(200);
    assert_eq!(found.header("content-location"), url);
    let found = now(&server, &path).await;
    assert_eq!(found["00080016"]["Value"], json!(["1.2.840.10008.5.1.4.34.6.1"]));
    assert_eq!(found["00080018"]["Value"], json!(["1.2.5"]));
    assert_eq!(found["00741000"]["Value"], json!(["SCHEDULED"]));
    assert!(found["00404010"]["Value"][0].as_str().unwrap().ends_with("+0000"));
    for (tag, value) in item.as_object().unwrap().iter().filter(|(tag, _)| *tag != "00081195") {
        assert_eq!(found[tag], *value, "{tag}");
    }
    let tags: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert!(tags.is_sorted(), "{tags:?}");

    // While nobody has claimed it, nobody needs a Transaction UID.
    let later = json!({ "00404005": of("DT", json!(["20260102"])) });
    post(&server, &path, &later).await.is(200);
    let refused = post(&server, &format!("{path}?transaction-uid=1.2.6"), &later).await.is(409);
    assert_eq!(said(&refused), "The target URI did not reference a claimed Workitem.");
    for wanted in ["COMPLETED", "CANCELED"] {
        let early = state(&server, &path, wanted, Some("1.2.6")).await.is(409);
        assert_eq!(said(&early), INCONSISTENT);
    }
    let missing = state(&server, &path, "IN PROGRESS", None).await.is(400);
    assert_eq!(said(&missing), "The Transaction UID is missing.");

    state(&server, &path, "IN PROGRESS", Some("1.2.6")).await.is(200);
    let claimed = now(&server, &path).await;
    assert_eq!(claimed["00741000"]["Value"], json!(["IN PROGRESS"]));
    assert_eq!(claimed["00404005"]["Value"], json!(["20260102"]));
    let second = state(&server, &path, "IN PROGRESS", Some("1.2.7")).await.is(409);
    assert_eq!(said(&second), INCONSISTENT);
    let back = state(&server, &path, "SCHEDULED", Some("1.2.6")).await.is(400);
    assert_eq!(said(&back), INCONSISTENT);

    // From here on whoever claimed it has it alone.
    let done = performed();
    for (query, status) in [("", 400), ("?transaction-uid=1.2.7", 400), ("?transaction=1.2.7", 400)]
    {
        post(&server, &format!("{path}{query}"), &done).await.problem(status);
    }
    for key in [None, Some("1.2.7")] {
        state(&server, &path, "COMPLETED", key).await.problem(400);
    }
    let unfinished = state(&server, &path, "COMPLETED", Some("1.2.6")).await;
    assert_eq!(said(&unfinished), INCONSISTENT);
    let problem = unfinished.problem(409);
    let lacks = "UnifiedProcedureStepPerformedProcedureSequence";
    assert_eq!(problem["errors"][0]["field"], lacks);
    post(&server, &format!("{path}?1.2.6"), &done).await.is(200);
    state(&server, &path, "COMPLETED", Some("1.2.6")).await.is(200);
    let completed = now(&server, &path).await;
    assert_eq!(completed["00741000"]["Value"], json!(["COMPLETED"]));
    assert_eq!(completed["00741216"], done["00741216"]);

    // And then nobody changes it.
    let again = state(&server, &path, "COMPLETED", Some("1.2.6")).await.is(200);
    assert_eq!(said(&again), "The UPS is already in the requested state of COMPLETED.");
    let wrong = state(&server, &path, "COMPLETED", Some("1.2.7")).await.is(400);
    assert_eq!(said(&wrong), "The Transaction UID is incorrect.");
    state(&server, &path, "CANCELED", Some("1.2.6")).await.problem(409);
    state(&server, &path, "IN PROGRESS", Some("1.2.6")).await.problem(409);
    let late = post(&server, &format!("{path}?1.2.6"), &later).await.is(400);
    let inconsistent =
        "The submitted request is inconsistent with the current state of the Workitem.";
    assert_eq!(said(&late), inconsistent);
    let cancel = post(&server, &format!("{path}/cancelrequest"), &json!({})).await;
    cancel.problem(409);
    assert_eq!(now(&server, &path).await, completed);
    assert_eq!(server.get("/partitions/south/workitems/1.2.5").await.status, 404);
}

#[tokio::test]
async fn what_nobody_has_claimed_is_cancelled_on_request() {
    let server = Server::start().await;
    let path = "/workitems/1.2.5";
    post(&server, "/workitems?1.2.5", &workitem("P1", "20260101")).await.is(201);
    let asked = json!({
        "00741238": of("LT", json!(["Patient left"])),
        "0074100E": of("SQ", json!([code("110500")])),
        "0074100A": of("UR", json!(["tel:1"])),
    });
    let accepted = post(&server, &format!("{path}/cancelrequest"), &asked).await.is(202);
    assert_eq!((said(&accepted), accepted.text().len()), ("", 0));
    let canceled = now(&server, path).await;
    assert_eq!(canceled["00741000"]["Value"], json!(["CANCELED"]));
    let progress = &canceled["00741002"]["Value"][0];
    assert_eq!(progress["00741238"], asked["00741238"]);
    assert_eq!(progress["0074100E"], asked["0074100E"]);
    assert!(progress["00404052"]["Value"][0].is_string(), "{progress}");
    let again = send(server.request(Method::POST, &format!("{path}/cancelrequest"))).await.is(202);
    assert_eq!(said(&again), "The UPS is already in the requested state of CANCELED.");
    // It was the server that claimed it: nobody has its Transaction UID.
    state(&server, path, "CANCELED", Some("1.2.6")).await.problem(400);

    // Without a reason, it says that there is none; in somebody's hands it is for him to end.
    post(&server, "/workitems?1.2.7", &workitem("P2", "20260101")).await.is(201);
    send(server.request(Method::POST, "/workitems/1.2.7/cancelrequest")).await.is(202);
    let canceled = now(&server, "/workitems/1.2.7").await;
    let reason = &canceled["00741002"]["Value"][0]["0074100E"]["Value"][0];
    assert_eq!(reason["00080100"]["Value"], json!(["110513"]));
    let mine = "/workitems/1.2.8";
    post(&server, "/workitems?1.2.8", &workitem("P3", "20260101")).await.is(201);
    state(&server, mine, "IN PROGRESS", Some("1.2.6")).await.is(200);
    send(server.request(Method::POST, &format!("{mine}/cancelrequest"))).await.problem(409);
    let needs = state(&server, mine, "CANCELED", Some("1.2.6")).await.problem(409);
    let field = "ProcedureStepDiscontinuationReasonCodeSequence";
    assert_eq!(needs["errors"][0]["field"], field);
    let why =
        json!({ "00741002": of("SQ", json!([{ "0074100E": of("SQ", json!([code("1")])) }])) });
    post(&server, &format!("{mine}?transaction-uid=1.2.6"), &why).await.is(200);
    state(&server, mine, "CANCELLED", Some("1.2.6")).await.is(200);
    let again = state(&server, mine, "CANCELED", Some("1.2.6")).await.is(200);
    assert_eq!(said(&again), "The UPS is already in the requested state of CANCELED.");
    let canceled = now(&server, mine).await;
    assert!(canceled["00741002"]["Value"][0]["00404052"]["Value"][0].is_string());
}

#[tokio::test]
async fn of_several_who_claim_a_workitem_at_once_one_has_it() {
    let server = Server::start().await;
    for round in 0..8 {
        let uid = format!("1.2.{round}");
        post(&server, &format!("/workitems?{uid}"), &workitem("P", "20260101")).await.is(201);
        let path = format!("/workitems/{uid}");
        let keys: Vec<String> = (0..6).map(|n| format!("1.3.{round}.{n}")).collect();
        let claims = keys.iter().map(|key| state(&server, &path, "IN PROGRESS", Some(key)));
        let answers = futures::future::join_all(claims).await;
        let won: Vec<usize> = (0..6).filter(|n| answers[*n].status == 200).collect();
        let lost = answers.iter().filter(|answer| answer.status == 409).count();
        assert_eq!((won.len(), lost), (1, 5), "round {round}");
        // He has it, and nobody else.
        for (n, key) in keys.iter().enumerate() {
            let body = json!({ "00741204": of("LO", json!([format!("of {n}")])) });
            let status = if won == [n] { 200 } else { 400 };
            post(&server, &format!("{path}?transaction-uid={key}"), &body).await.is(status);
        }
        let label = &now(&server, &path).await["00741204"]["Value"][0];
        assert_eq!(*label, format!("of {}", won[0]));
    }
    // Of several who create it at once one does.
    let item = workitem("P", "20260101");
    let answers =
        futures::future::join_all((0..6).map(|_| post(&server, "/workitems?1.2.99", &item))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn what_the_server_adds_is_told_and_what_may_not_be_is_refused() {
    let server = Server::with(&[("worklist.default_label", "Inbox")]).await;
    let least = json!({
        "00404005": of("DT", json!(["20260101"])),
        "00404041": of("CS", json!(["READY"])),
        "00741000": of("CS", json!(["SCHEDULED"])),
        "00741200": of("CS", json!(["HIGH"])),
        "00741204": of("LO", json!(["Größe"])),
    });
    // An array of one is the same; without a UID the server has one.
    let created = post(&server, "/workitems", &json!([least])).await.is(201);
    assert_eq!(said(&created), "The Workitem was created with modifications.");
    let url = created.header("location").to_owned();
    assert!(url.contains("/workitems/2.25."), "{url}");
    let found = now(&server, &url).await;
    assert_eq!(found["00741202"]["Value"], json!(["Inbox"]));
    assert_eq!(found["0040A370"], json!({ "vr": "SQ" }));
    assert_eq!(found["00080005"]["Value"], json!(["ISO_IR 192"]));
    let own = {
        let mut own = workitem("P", "20260101");
        own["00080018"] = of("UI", json!(["1.2.5"]));
        own
    };
    let created = post(&server, "/workitems", &own).await.is(201);
    assert!(created.header("location").ends_with("/workitems/1.2.5"));
    post(&server, "/workitems?workitem=1.2.5", &own).await.problem(409);
    post(&server, "/workitems?workitem=1.2.6", &own).await.problem(400);

    let with = |tag: &str, attribute: Value| {
        let mut item = workitem("P", "20260101");
        item[tag] = attribute;
        item
    };
    for (tag, attribute, field) in [
        ("00081195", of("UI", json!(["1.2"])), "TransactionUID"),
        ("00741000", of("CS", json!(["IN PROGRESS"])), "ProcedureStepState"),
        ("00741000", json!({ "vr": "CS" }), "ProcedureStepState"),
        ("00741200", json!({ "vr": "CS" }), "ScheduledProcedureStepPriority"),
        ("00741200", of("CS", json!(["URGENT"])), "ScheduledProcedureStepPriority"),
        ("00741204", json!({ "vr": "LO" }), "ProcedureStepLabel"),
        ("00404005", json!({ "vr": "DT" }), "ScheduledProcedureStepStartDateTime"),
        ("00404005", of("DT", json!(["SECRET"])), "00404005"),
        ("00404041", of("CS", json!(["SECRET"])), "InputReadinessState"),
        ("00741216", performed()["00741216"].clone(), lacks()),
        ("00404025", of("SQ", json!([{}])), "ScheduledStationNameCodeSequence"),
        ("00080016", of("UI", json!(["1.2"])), "SOPClassUID"),
        ("00100020", of("SH", json!(["SECRET"])), "00100020"),
        ("00100020", json!({ "Value": ["SECRET"] }), "00100020"),
        ("00100020", json!({ "vr": "LO", "BulkDataURI": "http://x/SECRET" }), "00100020"),
    ] {
        let answer = post(&server, "/workitems?1.2.9", &with(tag, attribute)).await;
        let problem = answer.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{tag}: {problem}");
        assert!(!problem.to_string().contains("SECRET"), "{problem}");
    }
    let path = "/workitems/1.2.5";
    for (tag, attribute) in [
        ("00100010", of("PN", json!([{ "Alphabetic": "Other" }]))),
        ("00741000", of("CS", json!(["COMPLETED"]))),
        ("00080018", of("UI", json!(["1.2.6"]))),
        ("0040A370", json!({ "vr": "SQ" })),
        ("00741200", json!({ "vr": "CS" })),
        ("00741202", json!({ "vr": "LO" })),
        ("00741002", of("SQ", json!([{}, {}]))),
    ] {
        post(&server, path, &json!({ tag: attribute })).await.problem(400);
    }
    // Who sends back what he got changes nothing of it.
    let before = now(&server, path).await;
    post(&server, path, &before).await.is(200);
    let mut after = now(&server, path).await;
    after["00404010"] = before["00404010"].clone();
    assert_eq!(after, before);
    for gone in ["/workitems/1.2.404", "/workitems/1.2.404/cancelrequest"] {
        post(&server, gone, &json!({})).await.problem(404);
    }
    state(&server, "/workitems/1.2.404", "IN PROGRESS", Some("1.2")).await.problem(404);
    server.get("/workitems/x").await.problem(400);
    state(&server, path, "LATER", Some("1.2")).await.problem(400);
}

fn lacks() -> &'static str {
    "UnifiedProcedureStepPerformedProcedureSequence"
}

#[tokio::test]
async fn changes_are_on_the_record_and_in_their_partition_alone() {
    let server =
        Server::with(&[("features.enable_data_partition", "true"), ("audit.reads", "always")])
            .await;
    for partition in ["north", "south"] {
        let studies = format!("/partitions/{partition}/studies");
        server.store(&studies, &[ct()]).await.is(200);
    }
    // The same UID in both is two workitems.
    for partition in ["north", "south"] {
        let path = format!("/partitions/{partition}/workitems?1.2.5");
        post(&server, &path, &workitem(partition, "20260101")).await.is(201);
    }
    let path = "/partitions/north/workitems/1.2.5";
    let claimed = state(&server, path, "IN PROGRESS", Some("1.2.6")).await.is(200);
    let other = now(&server, "/partitions/south/workitems/1.2.5").await;
    assert_eq!(other["00741000"]["Value"], json!(["SCHEDULED"]));
    assert_eq!(other["00100020"]["Value"], json!(["south"]));
    post(&server, "/workitems?1.2.5", &workitem("P", "20260101")).await.problem(400);
    server.get("/partitions/nowhere/workitems/1.2.5").await.problem(404);
    let nowhere = "/partitions/nowhere/workitems?1.2.5";
    post(&server, nowhere, &workitem("P", "20260101")).await.problem(404);

    let request = claimed.header("x-request-id").to_owned();
    let log = format!("/partitions/north/audit?request={request}");
    let mut events = Value::Null;
    crate::harness::until("the change is on the record", async || {
        events = server.get(&log).await.is(200).json();
        !events.as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(events.as_array().unwrap().len(), 1);
    let event = &events[0]["event"];
    assert_eq!(
        (&event["action"], &event["outcome"]),
        (&"workitems.manage".into(), &"success".into())
    );
    assert_eq!(event["named"]["workitem"], "1.2.5");
    assert_eq!(event["detail"]["state"], "IN PROGRESS");
    assert!(!event.to_string().contains("1.2.6"), "the lock is in no log: {event}");
    let south = "/partitions/south/audit?action=workitems.manage";
    crate::harness::until("the other change is on the record", async || {
        server.get(south).await.is(200).json().as_array().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn partitions_with_workitems_alone_keep_the_feature_on() {
    let server = Server::with(&PARTITIONS).await;
    let studies = "/partitions/north/studies";
    server.store(studies, &[ct()]).await.is(200);
    let path = "/partitions/north/workitems?1.2.5";
    post(&server, path, &workitem("P", "20260101")).await.is(201);
    server.delete("/partitions/north/studies/1.2.1").await.is(204);
    let refusal = server.refusal(&[]).await;
    assert!(refusal.contains("north"), "{refusal}");
}
