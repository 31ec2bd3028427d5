//! Extended query tags and operations as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Dicom, PARTITIONS, Server, send, until};

fn body(tags: Value) -> Vec<u8> {
    tags.to_string().into_bytes()
}

async fn add(client: &Client, base: &str, tags: Value) -> Answer {
    client.post(&format!("{base}/extendedquerytags"), "application/json", body(tags)).await
}

/// Adds tags, and waits until all that was stored is indexed.
async fn added(client: &Client, base: &str, tags: Value) {
    let answer = add(client, base, tags).await.is(202);
    let href = answer.json()["href"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), href);
    ended(client, &href, "succeeded").await;
}

/// Waits for the end of an operation.
async fn ended(client: &Client, href: &str, status: &str) -> Value {
    let mut last = Value::Null;
    until("the operation ends", async || {
        let answer = client.get(href).await;
        last = answer.json();
        if answer.status == 202 {
            assert_eq!(answer.header("location"), href);
            assert!(!answer.header("retry-after").is_empty());
        }
        answer.status == 200
    })
    .await;
    assert_eq!(last["status"], status, "{last}");
    last
}

async fn patch(client: &Client, path: &str, body: &str) -> Answer {
    let request = client.request(Method::PATCH, path).header("content-type", "application/json");
    send(request.body(body.to_owned())).await
}

/// Waits until a path answers with a status.
async fn becomes(client: &Client, path: &str, status: u16) {
    until("the answer is another", async || client.get(path).await.status == status).await;
}

fn aged(study: u32, instance: u32, age: &str) -> Vec<u8> {
    let study = format!("1.2.{study}");
    let (series, instance) = (format!("{study}.1"), format!("{study}.1.{instance}"));
    Dicom::ct(&study, &series, &instance).text(0x0010, 0x1010, "AS", age).file()
}

#[tokio::test]
async fn a_tag_is_added_searched_by_changed_and_deleted() {
    let server = Server::start().await;
    server.store("/studies", &[aged(1, 1, "041Y"), aged(2, 1, "007M")]).await.is(200);
    let tag = json!([{"path": "PatientAge", "level": "Study"}]);
    let answer = add(&server, "/v2", tag.clone()).await.is(202);
    let operation = answer.json();
    let (id, href) = (operation["id"].as_str().unwrap(), operation["href"].as_str().unwrap());
    assert_eq!(id.len(), 32);
    assert_eq!(href, format!("{}/v2/operations/{id}", server.base));
    let done = ended(&server, href, "succeeded").await;
    assert_eq!(
        (&done["percentComplete"], &done["processed"], &done["total"]),
        (&json!(100), &json!(2), &json!(2))
    );
    assert_eq!(
        done["resources"],
        json!([format!("{}/v2/extendedquerytags/00101010", server.base)])
    );
    // The first version had another word for it; any form of a UUID will do.
    let dashed = uuid::Uuid::parse_str(id).unwrap().to_string();
    let first = server.get(&format!("/v1/operations/{dashed}")).await.is(200).json();
    assert_eq!(first["status"], "completed");
    let listed = server.get("/operations?limit=1").await.is(200).json();
    assert_eq!(listed[0]["operationId"], id);

    let entry = server.get("/extendedquerytags/00101010").await.is(200).json();
    let expected = json!({"path": "00101010", "vr": "AS", "level": "study", "status": "ready",
        "queryStatus": "enabled"});
    assert_eq!(entry, expected);
    assert_eq!(server.get("/extendedquerytags").await.is(200).json(), json!([expected]));
    assert_eq!(server.get("/extendedquerytags/PatientAge").await.is(200).json(), expected);
    assert_eq!(server.get("/extendedquerytags?offset=1").await.is(200).json(), json!([]));
    add(&server, "", tag.clone()).await.problem(409);

    // What is stored from now on is found at once, on every level.
    server.store("/studies", &[aged(3, 1, "041Y")]).await.is(200);
    for (resource, key) in
        [("studies", "PatientAge"), ("series", "00101010"), ("instances", "00101010")]
    {
        let found = server.search(&format!("/{resource}?{key}=041Y")).await;
        assert_eq!(found.len(), 2, "{resource}");
        assert!(found.iter().all(|one| one["00101010"]["Value"][0] == "041Y"), "{resource}");
    }

    // A value that breaks its rules switches queries off, until somebody says otherwise.
    server.store("/studies", &[aged(4, 1, "OLD"), aged(5, 1, "041Y")]).await;
    let entry = server.get("/extendedquerytags/00101010").await.is(200).json();
    assert_eq!(entry["queryStatus"], "disabled");
    assert_eq!(entry["errors"]["count"], 1);
    let errors = server.get(entry["errors"]["href"].as_str().unwrap()).await.is(200).json();
    assert_eq!(errors[0]["partitionName"], "microsoft.default");
    assert_eq!(errors[0]["sopInstanceUid"], "1.2.4.1.1");
    assert_eq!(errors[0]["studyInstanceUid"], "1.2.4");
    let message = errors[0]["errorMessage"].as_str().unwrap();
    assert!(message.contains("AS") && !message.contains("OLD"), "{message}");
    let refused = server.get("/studies?PatientAge=041Y").await.problem(400);
    assert_eq!(refused["errors"][0]["reason"], "Query is disabled on specified attribute");
    let entry = patch(&server, "/extendedquerytags/00101010", r#"{"queryStatus":"Enabled"}"#).await;
    assert_eq!(entry.is(200).json()["queryStatus"], "enabled");
    let answer = server.get("/studies?PatientAge=041Y&fuzzymatching=false").await.is(200);
    assert_eq!(answer.json().as_array().unwrap().len(), 3);
    assert_eq!(answer.header("erroneous-dicom-attributes"), "PatientAge");
    server.delete("/studies/1.2.4").await.is(204);
    let entry = server.get("/extendedquerytags/00101010").await.is(200).json();
    assert_eq!(entry.get("errors"), None);
    let answer = server.get("/studies?PatientAge=041Y").await.is(200);
    assert_eq!(answer.header("erroneous-dicom-attributes"), "");
    patch(&server, "/extendedquerytags/00101010", r#"{"queryStatus":"disabled"}"#).await.is(200);
    server.get("/series?PatientAge=041Y").await.problem(400);

    server.delete("/extendedquerytags/00101010").await.is(204);
    becomes(&server, "/extendedquerytags/00101010", 404).await;
    assert_eq!(server.count("SELECT count(*) FROM query_tag_value").await, 0);
    assert_eq!(server.count("SELECT count(*) FROM query_tag").await, 0);
    added(&server, "", tag).await;
    assert_eq!(server.search("/studies?PatientAge=041Y").await.len(), 3);
}

#[tokio::test]
async fn tags_of_the_root_are_everywhere_and_those_of_a_partition_nowhere_else() {
    let server = Server::with(&PARTITIONS).await;
    let (north, south) = ("/partitions/north", "/partitions/south");
    for base in [north, south] {
        server.store(&format!("{base}/studies"), &[aged(1, 1, "041Y")]).await.is(200);
    }
    let age = json!([{"path": "00101010", "level": "study"}]);
    let thickness = json!([{"path": "00180050", "level": "instance"}]);
    added(&server, "", age.clone()).await;
    added(&server, north, thickness.clone()).await;

    let paths = async |base: &str| -> Vec<String> {
        let listed = server.get(&format!("{base}/extendedquerytags")).await.is(200).json();
        let listed = listed.as_array().unwrap().clone();
        listed.into_iter().map(|tag| tag["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("").await, ["00101010"]);
    assert_eq!(paths(north).await, ["00101010", "00180050"]);
    assert_eq!(paths(south).await, ["00101010"]);
    server.get("/partitions/south/extendedquerytags/00180050").await.problem(404);
    server.get("/extendedquerytags/00180050").await.problem(404);
    // By any carrier, and never for several.
    let header = [("microsoft.partitionId", "north")];
    server.get_with("/extendedquerytags/00180050", &header).await.is(200);
    server.get("/extendedquerytags/00180050?microsoft.partitionId=north").await.is(200);
    server.get("/extendedquerytags?microsoft.partitionId=north,south").await.problem(400);
    server.get("/partitions/nowhere/extendedquerytags").await.problem(404);
    add(&server, "/partitions/nowhere", thickness.clone()).await.problem(404);

    // A path is in a view once.
    add(&server, north, age.clone()).await.problem(409);
    add(&server, "", thickness.clone()).await.problem(409);
    added(&server, south, thickness).await;
    assert_eq!(server.search("/studies?PatientAge=041Y").await.len(), 2);
    assert_eq!(server.search("/partitions/north/studies?PatientAge=041Y").await.len(), 1);

    // A partition that comes later has the root's.
    server.store("/partitions/west/studies", &[aged(1, 1, "041Y")]).await.is(200);
    let entry = server.get("/partitions/west/extendedquerytags/00101010").await.is(200).json();
    assert_eq!(entry["status"], "ready");
    assert_eq!(server.search("/studies?PatientAge=041Y").await.len(), 3);
    assert_eq!(server.get("/extendedquerytags/00101010").await.json()["status"], "ready");

    // Errors and the switch are each partition's; the root sees all of them.
    let bad = aged(2, 1, "OLD");
    server.store("/partitions/south/studies", &[bad]).await.is(200);
    let status = async |base: &str| -> String {
        let entry = server.get(&format!("{base}/extendedquerytags/00101010")).await.is(200).json();
        entry["queryStatus"].as_str().unwrap().to_owned()
    };
    assert_eq!((&*status(north).await, &*status(south).await), ("enabled", "disabled"));
    assert_eq!(status("").await, "disabled");
    let errors = server.get("/extendedquerytags/00101010/errors").await.is(200).json();
    assert_eq!(errors[0]["partitionName"], "south");
    let errors = server.get("/partitions/north/extendedquerytags/00101010/errors").await;
    assert_eq!(errors.is(200).json(), json!([]));
    server.get("/partitions/south/studies?PatientAge=041Y").await.problem(400);
    assert_eq!(server.search("/partitions/north/studies?PatientAge=041Y").await.len(), 1);
    let of_south = "/partitions/south/extendedquerytags/00101010";
    patch(&server, of_south, r#"{"queryStatus":"enabled"}"#).await.is(200);
    assert_eq!(status("").await, "enabled");
    patch(&server, "/extendedquerytags/00101010", r#"{"queryStatus":"disabled"}"#).await.is(200);
    assert_eq!((&*status(north).await, &*status(south).await), ("disabled", "disabled"));
    patch(&server, "/extendedquerytags/00101010", r#"{"queryStatus":"enabled"}"#).await.is(200);

    // What is the root's is deleted at the root.
    let refused = server.delete(of_south).await.problem(409);
    assert!(refused["detail"].as_str().unwrap().contains("delete it at the root"), "{refused}");
    server.delete("/extendedquerytags/00101010").await.is(204);
    becomes(&server, of_south, 404).await;
    becomes(&server, "/extendedquerytags/00101010", 404).await;
    server.get("/partitions/north/extendedquerytags/00180050").await.is(200);
}

#[tokio::test]
async fn operations_are_of_their_partitions() {
    let server = Server::with(&PARTITIONS).await;
    for base in ["/partitions/north", "/partitions/south"] {
        server.store(&format!("{base}/studies"), &[aged(1, 1, "041Y")]).await.is(200);
    }
    let age = json!([{"path": "00101010", "level": "study"}]);
    let answer = add(&server, "/partitions/north", age).await.is(202).json();
    let (id, href) = (answer["id"].as_str().unwrap(), answer["href"].as_str().unwrap());
    assert_eq!(href, format!("{}/partitions/north/operations/{id}", server.base));
    let done = ended(&server, href, "succeeded").await;
    assert_eq!(
        done["resources"][0].as_str().unwrap(),
        format!("{}/partitions/north/extendedquerytags/00101010", server.base)
    );
    server.get(&format!("/operations/{id}")).await.is(200);
    server.get(&format!("/partitions/south/operations/{id}")).await.problem(404);
    server.delete(&format!("/partitions/south/operations/{id}")).await.problem(404);
    assert_eq!(server.get("/partitions/south/operations").await.is(200).json(), json!([]));
    let unknown = uuid::Uuid::new_v4().simple().to_string();
    server.get(&format!("/operations/{unknown}")).await.problem(404);
    server.get("/operations/none").await.problem(400);

    // One that goes on in one of its partitions goes on.
    let weight = json!([{"path": "00101030", "level": "study"}]);
    let answer = add(&server, "", weight).await.is(202).json();
    let href = answer["href"].as_str().unwrap();
    let done = ended(&server, href, "succeeded").await;
    assert_eq!(done["total"], 2);
    let again = "UPDATE operation SET state = 'running', ended_at = NULL, processed = 0,
        next_attempt_at = now() + interval '1 hour' WHERE partition_id = 'south'";
    sqlx::query(again).execute(&mut server.superuser().await).await.unwrap();
    let running = server.get(href).await.is(202).json();
    assert_eq!((&running["status"], &running["percentComplete"]), (&json!("running"), &json!(50)));
    server.get(&href.replace("/operations", "/partitions/north/operations")).await.is(200);
    // And is cancelled where nobody works on it at once.
    let cancelled = server.delete(href).await.is(200).json();
    assert_eq!(cancelled["status"], "canceled");
    server.delete(&href.replace("/operations", "/partitions/north/operations")).await.problem(409);
    // Each is found by its kind and how far it is.
    let listed = async |query: &str| {
        let all = server.get(&format!("/operations?{query}")).await.is(200).json();
        all.as_array().unwrap().len()
    };
    for (query, expected) in [
        ("kind=reindex", 2),
        ("kind=purge", 0),
        ("status=succeeded", 1),
        ("status=canceled&kind=reindex", 1),
        ("status=running", 0),
    ] {
        assert_eq!(listed(query).await, expected, "{query}");
    }
    for query in ["kind=all", "status=done", "kind=purge&kind=purge"] {
        server.get(&format!("/operations?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn a_tag_of_a_partition_is_seen_when_partitions_are_turned_off() {
    let server = Server::with(&PARTITIONS).await;
    let own = "/partitions/microsoft.default";
    server.store(&format!("{own}/studies"), &[aged(1, 1, "041Y")]).await.is(200);
    added(&server, own, json!([{"path": "00101010", "level": "study"}])).await;
    assert_eq!(server.get("/extendedquerytags").await.is(200).json(), json!([]));
    let server = server.restart(&[]).await;
    let entry = server.get("/extendedquerytags/00101010").await.is(200).json();
    assert_eq!(entry["status"], "ready");
    assert_eq!(server.search("/studies?PatientAge=041Y").await.len(), 1);
    server.delete("/extendedquerytags/00101010").await.is(204);
    becomes(&server, "/extendedquerytags/00101010", 404).await;
    added(&server, "", json!([{"path": "00101010", "level": "study"}])).await;
}

/// A value of each value representation, as it is stored and as it is asked for.
fn every_vr() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |vr, text: &'static str| (vr, text.as_bytes().to_vec(), text);
    vec![
        text("AE", "STORE"),
        text("AS", "041Y"),
        ("AT", vec![0x18, 0, 0x63, 0x10], "00181063"),
        text("CS", "WORD"),
        text("DA", "20240229"),
        ("DS", b"1.50".to_vec(), "1.5"),
        text("DT", "20240229101500"),
        ("FD", 0.1_f64.to_le_bytes().to_vec(), "0.1"),
        ("FL", 2.5_f32.to_le_bytes().to_vec(), "2.5"),
        ("IS", b"+007".to_vec(), "7"),
        text("LO", "Some text"),
        ("PN", b"Meier^Otto".to_vec(), "MEIER^otto"),
        text("SH", "Short"),
        ("SL", (-70_000_i32).to_le_bytes().to_vec(), "-70000"),
        ("SS", (-7_i16).to_le_bytes().to_vec(), "-7"),
        ("SV", i64::MIN.to_le_bytes().to_vec(), "-9223372036854775808"),
        text("TM", "101500"),
        text("UC", "unlimited"),
        text("UI", "1.2.3"),
        ("UL", u32::MAX.to_le_bytes().to_vec(), "4294967295"),
        ("US", u16::MAX.to_le_bytes().to_vec(), "65535"),
        ("UV", u64::MAX.to_le_bytes().to_vec(), "18446744073709551615"),
    ]
}

#[tokio::test]
async fn private_attributes_of_every_value_representation_are_found_by_their_creator() {
    let server = Server::start().await;
    let file = |study: u32, block: u16, syntax: &str, with: bool| {
        let uid = format!("1.2.{study}");
        let mut dicom = Dicom::ct(&uid, &format!("{uid}.1"), &format!("{uid}.1.1"));
        dicom.text(0x0023, block, "LO", "ACME");
        for (n, (vr, value, _)) in (0..).zip(every_vr()) {
            // Somebody else's, in the block that the path names, must not count.
            let at = if with { block << 8 | n } else { 0x5000 | n };
            dicom.bytes(0x0023, at, vr, &value);
        }
        dicom.syntax(syntax).file()
    };
    let (explicit, implicit) = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2");
    let mut other = Dicom::ct("1.2.9", "1.2.9.1", "1.2.9.1.1");
    other.text(0x0023, 0x0010, "LO", "OTHER");
    every_vr().iter().zip(0x1000..).for_each(|((vr, value, _), at)| {
        other.bytes(0x0023, at, vr, value);
    });
    let before = [file(1, 0x10, explicit, true), file(2, 0x11, implicit, true), other.file()];
    server.store("/studies", &before).await.is(200);
    let tags: Vec<Value> = (0x1000..)
        .zip(every_vr())
        .map(|(at, (vr, _, _))| {
            json!({"path": format!("0023{at:04X}"), "vr": vr, "privateCreator": "ACME", "level": "series"})
        })
        .collect();
    added(&server, "", Value::Array(tags)).await;
    server.store("/studies", &[file(3, 0x20, explicit, true)]).await.is(200);
    for (at, (vr, _, asked)) in (0x1000..).zip(every_vr()) {
        let path = format!("0023{at:04X}");
        let entry = server.get(&format!("/extendedquerytags/{path}")).await.is(200).json();
        assert_eq!((&entry["vr"], &entry["privateCreator"]), (&json!(vr), &json!("ACME")));
        assert_eq!(entry.get("errors"), None, "{vr}: {entry}");
        // The tag lends its creator; with the creator any block will do.
        for query in
            [format!("{path}={asked}"), format!("0023{:04X}={asked}&00230033=ACME", at + 0x2300)]
        {
            let found = server.search(&format!("/series?{query}")).await;
            assert_eq!(found.len(), 3, "{vr} {query}");
            assert!(found.iter().any(|one| one["00230020"]["Value"][0] == "ACME"), "{vr}");
            assert!(found.iter().all(|one| one["0020000D"]["Value"][0] != "1.2.9"), "{vr}");
        }
    }
    let dates = server.search("/series?00231004=20240101-20241231").await;
    assert_eq!(dates.len(), 3);
    let fuzzy = server.search("/series?0023100B=meyer&fuzzymatching=true").await;
    assert_eq!(fuzzy.len(), 3);
    let empty = server.search("/series?00231001=%22%22&emptyvaluematching=true").await;
    assert_eq!(empty.len(), 1);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_the_rule() {
    let server = Server::with(&[("extended_query_tags.max_count", "2")]).await;
    let path =
        "The Dicom Tag Property path must be specified and must not be null, empty or whitespace.";
    let level =
        "Input Dicom Tag Level is invalid. It must have value 'Study', 'Series' or 'Instance'.";
    for (tags, text) in [
        (json!([{"level": "study"}]), path),
        (json!([{"path": "00101010", "level": "PATIENT"}]), level),
        (
            json!([{"path": "00100010", "level": "study"}]),
            "The query tag '00100010' is already supported.",
        ),
        (json!([]), "the body names no extended query tag"),
        (
            json!([{"path": "00101010", "level": "study"}, {"path": "00101020", "level": "study"},
                {"path": "00101030", "level": "study"}]),
            "with these there would be more extended query tags than this server allows",
        ),
    ] {
        let problem = add(&server, "", tags).await.problem(400);
        assert_eq!(problem["detail"], text);
    }
    let post = async |content_type: &str, body: &[u8]| {
        server.post("/extendedquerytags", content_type, body.to_vec()).await
    };
    post("application/json", b"{").await.problem(400);
    post("application/json", b"\xff").await.problem(400);
    post("application/dicom", b"[]").await.problem(415);
    post("application/json", &vec![b' '; 300_000]).await.problem(413);
    for path in ["0010101", "0010101G", "none", "00101010%20"] {
        server.get(&format!("/extendedquerytags/{path}")).await.problem(400);
    }
    server.get("/extendedquerytags/00101010").await.problem(404);
    server.get("/extendedquerytags/00101010/errors").await.problem(404);
    server.delete("/extendedquerytags/00101010").await.problem(404);
    for query in ["limit=0", "limit=201", "limit=x", "offset=-1", "limit=1&limit=1", "limit=%2B1"] {
        server.get(&format!("/extendedquerytags?{query}")).await.problem(400);
        server.get(&format!("/operations?{query}")).await.problem(400);
    }
    added(&server, "", json!([{"path": "00101010", "level": "study"}])).await;
    for body in [r#"{"queryStatus":"on"}"#, r#"{"vr":"AS"}"#, "{}", "[]", r#"{"queryStatus":null}"#]
    {
        patch(&server, "/extendedquerytags/00101010", body).await.problem(400);
    }
    let unknown = r#"{"queryStatus":"enabled"}"#;
    patch(&server, "/extendedquerytags/00101020", unknown).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instance_is_found_whatever_was_stored_while_tags_were_added() {
    let server = Server::start().await;
    let stores = (0..4).map(|task| {
        let client: Client = (*server).clone();
        tokio::spawn(async move {
            for n in 0..12 {
                client.store("/studies", &[aged(task, n, "041Y")]).await.is(200);
            }
        })
    });
    let tag = json!([{"path": "00101010", "level": "instance"}]);
    let (stored, ()) = tokio::join!(futures::future::join_all(stores), added(&server, "", tag));
    stored.into_iter().for_each(|task| task.unwrap());
    assert_eq!(server.search("/instances?PatientAge=041Y").await.len(), 48);
}
