//! The change feed as its readers see it.

mod follow;

use serde_json::{Value, json};

use crate::harness::{Answer, Dicom, PARTITIONS, Server};

fn ct(n: u32) -> Vec<u8> {
    let (study, series) = (format!("1.2.{n}"), format!("1.2.{n}.1"));
    Dicom::ct(&study, &series, &format!("1.2.{n}.1.1")).file()
}

async fn store(server: &Server, within: &str, numbers: impl IntoIterator<Item = u32>) {
    for n in numbers {
        server.store(&format!("{within}/studies"), &[ct(n)]).await.is(200);
    }
}

async fn events(server: &Server, path: &str) -> Vec<Value> {
    let answer = server.get(path).await.is(200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json().as_array().unwrap().clone()
}

/// What tells events apart: number and study.
fn shown(events: &[Value]) -> Vec<(i64, String)> {
    let one = |event: &Value| {
        (event["sequence"].as_i64().unwrap(), event["studyInstanceUid"].as_str().unwrap().into())
    };
    events.iter().map(one).collect()
}

fn expected(numbers: impl IntoIterator<Item = (i64, u32)>) -> Vec<(i64, String)> {
    numbers.into_iter().map(|(number, n)| (number, format!("1.2.{n}"))).collect()
}

#[tokio::test]
async fn an_event_says_what_happened_and_what_became_of_it() {
    let server = Server::start().await;
    assert_eq!(events(&server, "/changefeed").await, Vec::<Value>::new());
    assert_eq!(server.get("/changefeed/latest").await.is(204).body, "");
    store(&server, "", [1]).await;
    let all = events(&server, "/changefeed").await;
    let event = all[0].as_object().unwrap();
    let names: Vec<&str> = event.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "sequence",
            "studyInstanceUid",
            "seriesInstanceUid",
            "sopInstanceUid",
            "action",
            "timestamp",
            "state",
            "metadata"
        ]
    );
    let metadata = server.get("/studies/1.2.1/metadata").await.is(200).json();
    assert_eq!(event["metadata"], metadata[0]);
    assert_eq!((&event["action"], &event["state"]), (&json!("create"), &json!("current")));
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    let latest = server.get("/changefeed/latest").await.is(200).json();
    assert_eq!(latest, all[0]);
    let bare = server.get("/changefeed/latest?includeMetadata=false").await.is(200).json();
    assert_eq!(bare.get("metadata"), None);
    // As Microsoft's server writes it.
    for version in ["/v1", "/v2"] {
        let event = &events(&server, &format!("{version}/changefeed")).await[0];
        assert_eq!((&event["action"], &event["state"]), (&json!("Create"), &json!("Current")));
        let latest = server.get(&format!("{version}/changefeed/latest")).await.is(200).json();
        assert_eq!(&latest, event);
    }
    // Whatever a client says that it takes.
    let dicom = server.get_as("/changefeed", "application/dicom+json").await.is(200);
    assert_eq!(dicom.header("content-type"), "application/json");
    // Stored again the same: nothing changed.
    store(&server, "", [1]).await;
    assert_eq!(events(&server, "/changefeed").await.len(), 1);
}

#[tokio::test]
async fn states_change_with_the_instance() {
    let server = Server::start().await;
    let states = async || {
        let events = events(&server, "/changefeed").await;
        let one = |event: &Value| {
            let metadata = if event.get("metadata").is_some() { "+" } else { "" };
            let word = |name: &str| event[name].as_str().unwrap().to_owned();
            format!("{} {}{metadata}", word("action"), word("state"))
        };
        events.iter().map(one).collect::<Vec<_>>()
    };
    store(&server, "", [1]).await;
    assert_eq!(states().await, ["create current+"]);
    server.delete("/studies/1.2.1").await.is(204);
    assert_eq!(states().await, ["create deleted", "delete deleted"]);
    store(&server, "", [1]).await;
    assert_eq!(states().await, ["create replaced+", "delete replaced+", "create current+"]);
    // Metadata is that of the version that is there.
    let events = events(&server, "/changefeed").await;
    assert_eq!(events[0]["metadata"], events[2]["metadata"]);
}

#[tokio::test]
async fn a_poller_goes_on_behind_the_last_number_until_nothing_comes() {
    let server = Server::start().await;
    store(&server, "", 1..=12).await;
    let all = expected((1..=12).map(|n| (i64::from(n), n)));
    for (path, limit) in [("/changefeed", 5), ("/changefeed", 200), ("/v1/changefeed", 0)] {
        let limit = if limit > 0 { format!("&limit={limit}") } else { String::new() };
        let (mut seen, mut offset) = (Vec::new(), 0);
        loop {
            let page = format!("{path}?offset={offset}&includeMetadata=false{limit}");
            let page = shown(&events(&server, &page).await);
            let Some(last) = page.last() else { break };
            offset = last.0;
            seen.extend(page);
        }
        assert_eq!(seen, all, "{path} {limit}");
    }
    assert_eq!(events(&server, "/v1/changefeed").await.len(), 10);
    assert!(events(&server, "/changefeed?offset=12").await.is_empty());
    assert!(events(&server, "/changefeed?offset=9223372036854775807").await.is_empty());
    let answer = server.get("/changefeed?offset=3").await.is(200);
    assert_eq!((answer.header("warning"), answer.header("cache-control")), ("", "no-store"));
}

#[tokio::test]
async fn a_span_of_time_is_complete_once_it_has_passed() {
    let server = Server::start().await;
    store(&server, "", 1..=3).await;
    let first = events(&server, "/changefeed").await;
    let middle = first[2]["timestamp"].as_str().unwrap().to_owned();
    store(&server, "", 4..=6).await;
    let before = format!("/changefeed?endTime={middle}");
    assert_eq!(shown(&events(&server, &before).await), expected([(1, 1), (2, 2)]));
    let from = format!("/v2/changefeed?startTime={middle}");
    let later = expected([(3, 3), (4, 4), (5, 5), (6, 6)]);
    assert_eq!(shown(&events(&server, &from).await), later);
    // With times the offset counts events of the span.
    let second = format!("{from}&offset=1&limit=2");
    assert_eq!(shown(&events(&server, &second).await), later[1..3]);
    assert!(events(&server, &format!("{from}&offset=4")).await.is_empty());
    let both = format!("{from}&endTime=2999-01-01T00:00:00%2B01:00");
    assert_eq!(shown(&events(&server, &both).await), later);
    let none = "/changefeed?startTime=2000-01-01T00:00:00Z&endTime=2001-01-01T00:00:00Z";
    assert!(events(&server, none).await.is_empty());
}

#[tokio::test]
async fn partitions_have_counts_of_their_own_and_a_common_order() {
    let server = Server::with(&PARTITIONS).await;
    for n in 1..=6 {
        let within = if n % 2 == 1 { "/partitions/north" } else { "/partitions/south" };
        store(&server, within, [n]).await;
        // Numbered one by one, so that the common order is known.
        assert_eq!(events(&server, "/changefeed").await.len(), n as usize);
    }
    for path in [
        "/partitions/north/changefeed",
        "/v2/partitions/north/changefeed",
        "/changefeed?microsoft.partitionId=north",
    ] {
        let own = events(&server, path).await;
        assert_eq!(shown(&own), expected([(1, 1), (2, 3), (3, 5)]), "{path}");
        assert!(own.iter().all(|event| event["partitionId"] == "north"));
    }
    let own = server.get_with("/changefeed", &[("microsoft.partitionId", "south")]).await.is(200);
    assert_eq!(shown(own.json().as_array().unwrap()), expected([(1, 2), (2, 4), (3, 6)]));

    let all = expected((1..=6).map(|n| (i64::from(n), n)));
    for path in ["/changefeed", "/changefeed?microsoft.partitionId=north,south"] {
        assert_eq!(shown(&events(&server, path).await), all, "{path}");
    }
    let rest = events(&server, "/changefeed?offset=2&limit=3").await;
    assert_eq!(shown(&rest), all[2..5]);
    let ids: Vec<&str> = rest.iter().map(|event| event["partitionId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["north", "south", "north"]);
    let uri = rest[0]["metadata"]["7FE00010"]["BulkDataURI"].as_str();
    assert!(uri.is_none_or(|uri| uri.contains("/partitions/north/")), "{uri:?}");
    let latest = server.get("/changefeed/latest").await.is(200).json();
    assert_eq!(shown(&[latest]), all[5..]);
    let latest = server.get("/partitions/north/changefeed/latest").await.is(200).json();
    assert_eq!(shown(&[latest]), expected([(3, 5)]));
    // Spans of time, in the common order.
    let third = rest[0]["timestamp"].as_str().unwrap();
    let from = events(&server, &format!("/changefeed?startTime={third}")).await;
    assert_eq!(shown(&from), all[2..]);
    let from = events(&server, &format!("/changefeed?startTime={third}&offset=2&limit=1")).await;
    assert_eq!(shown(&from), all[4..5]);
    // One that holds nothing, and one that is not there.
    assert_eq!(events(&server, "/partitions/microsoft.default/changefeed").await.len(), 0);
    server.get("/partitions/nowhere/changefeed").await.problem(404);
    server.get("/changefeed?microsoft.partitionId=north,nowhere").await.problem(404);
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = Server::start().await;
    let field = |answer: Answer| answer.problem(400)["errors"][0]["field"].clone();
    for (query, name) in [
        ("offset=-1", "offset"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("includeMetadata=perhaps", "includeMetadata"),
        ("startTime=2024-01-01T00:00:00", "startTime"),
        ("endTime=yesterday", "endTime"),
        ("startTime=2024-01-01T00:00:00Z&endTime=2024-01-01T00:00:00Z", "endTime"),
        ("wait=forever", "wait"),
    ] {
        assert_eq!(field(server.get(&format!("/changefeed?{query}")).await), name, "{query}");
    }
    assert_eq!(field(server.get("/v1/changefeed?limit=101").await), "limit");
    let latest = server.get("/changefeed/latest?includeMetadata=1").await;
    assert_eq!(field(latest), "includeMetadata");
    let events = "text/event-stream";
    let id = [("accept", events), ("last-event-id", "x")];
    assert_eq!(field(server.get_with("/changefeed", &id).await), "Last-Event-ID");
    let span = "/changefeed?startTime=2024-01-01T00:00:00Z";
    server.get_as(span, events).await.problem(400);
    server.get("/partitions/north/changefeed").await.problem(400);
}

#[tokio::test]
async fn what_is_gone_is_said() {
    let server = Server::with(&[("change_feed.retention", "1day")]).await;
    store(&server, "", 1..=4).await;
    assert_eq!(events(&server, "/changefeed").await.len(), 4);
    let old = "UPDATE change_feed SET occurred_at = occurred_at - interval '2 days'
        WHERE sequence < 4";
    let mut conn = server.superuser().await;
    sqlx::raw_sql(old).execute(&mut conn).await.unwrap();
    let server = server.restart(&[("change_feed.retention", "1day")]).await;
    // Its first round comes within a minute: this does not wait for it.
    sqlx::raw_sql("DELETE FROM change_feed WHERE sequence < 3").execute(&mut conn).await.unwrap();
    let answer = server.get("/changefeed").await.is(200);
    let left: Vec<Value> = answer.json().as_array().unwrap().clone();
    assert_eq!(shown(&left), expected([(3, 3), (4, 4)]));
    assert!(answer.header("warning").contains("change_feed.retention"));
    let answer = server.get("/changefeed?offset=1").await.is(200);
    assert!(answer.header("warning").contains("gone"));
    assert_eq!(server.get("/changefeed?offset=2").await.is(200).header("warning"), "");
}
