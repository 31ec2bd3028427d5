//! Answers that take long end when who reads may not read any more.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{ON, call, get, made, two};
use crate::harness::{Client, Socket, server::DEADLINE};

/// Settings under which a decision is old soon.
const QUICK: [(&str, &str); 3] = [ON[0], ON[1], ("auth.cache", "1s")];

async fn follow(client: &Client, key: &str, path: &str) -> Response {
    let request = client.request(Method::GET, path).header("accept", "text/event-stream");
    let mut response = request.header("x-api-key", key).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.chunk().await.unwrap().expect("the first bytes");
    response
}

/// Reads a stream to its end.
async fn end(mut response: Response) {
    let ended = async { while response.chunk().await.unwrap().is_some() {} };
    timeout(DEADLINE, ended).await.expect("the stream ends");
}

#[tokio::test]
async fn streams_and_long_polls_end_with_what_permits_them() {
    let (server, north, _) = two(&QUICK).await;
    let reader = json!({"name": "r", "roles": ["reader"]});
    let (id, key) = made(&server, &north, "north", reader).await;
    let one = format!("/partitions/north/apikeys/{id}");
    let path = "/partitions/north/changefeed";
    let named = follow(&server, &key, path).await;
    let all = follow(&server, &key, "/changefeed").await;
    let poll = get(&server, &key, "/partitions/north/changefeed?wait=60s");
    let disable = async {
        call(&server, &north, "PATCH", &one, json!({"state": "disabled"})).await.is(200);
    };
    let (polled, ()) = tokio::join!(poll, disable);
    polled.problem(401);
    end(named).await;
    end(all).await;
    // A role that is taken away, and a partition that is suspended.
    call(&server, &north, "PATCH", &one, json!({"state": "active"})).await.is(200);
    let named = follow(&server, &key, path).await;
    call(&server, &north, "PATCH", &one, json!({"roles": ["writer"]})).await.is(200);
    end(named).await;
    let keeper = follow(&server, &north, path).await;
    let suspended = json!({"state": "suspended"});
    call(&server, &north, "PUT", "/partitions/north/policy", suspended).await.is(200);
    end(keeper).await;
    get(&server, &north, path).await.problem(403);
}

#[tokio::test]
async fn a_key_that_expires_meanwhile_ends_its_stream() {
    let (server, north, _) = two(&QUICK).await;
    let (id, key) = made(&server, &north, "north", json!({"name": "r", "roles": ["reader"]})).await;
    let stream = follow(&server, &key, "/changefeed").await;
    let sql = "UPDATE api_key SET expires_at = now() WHERE key_id = $1::text::uuid";
    sqlx::query(sql).bind(&id).execute(&mut server.superuser().await).await.unwrap();
    end(stream).await;
    call(&server, &key, "GET", "/changefeed", Value::Null).await.problem(401);
}

#[tokio::test]
async fn who_may_goes_on_being_told() {
    let (server, north, _) = two(&QUICK).await;
    let mut stream = follow(&server, &north, "/partitions/north/changefeed").await;
    // Longer than a decision holds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let file = crate::harness::Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let request = server.request(Method::POST, "/studies").header("x-api-key", &north);
    let stored = request.header("content-type", "application/dicom").body(file);
    crate::harness::send(stored).await.is(200);
    let told = timeout(DEADLINE, stream.chunk()).await.expect("in time").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told).contains("1.2.1.1.1"));
}

#[tokio::test]
async fn an_event_channel_is_for_who_may_read_workitems() {
    let (server, north, south) = two(&QUICK).await;
    let reader = json!({"name": "r", "roles": ["reader"]});
    let (id, key) = made(&server, &north, "north", reader).await;
    let writer = json!({"name": "w", "roles": ["writer"]});
    let (_, writer) = made(&server, &north, "north", writer).await;
    let url = format!("{}/partitions/north/subscribers/AE", server.base);
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", "nonsense")], 401),
        (&[("x-api-key", &*south)], 404),
        (&[("x-api-key", &writer)], 403),
    ] {
        assert_eq!(Socket::try_open(&url, headers).await.err(), Some(status));
    }
    let global = "/partitions/north/workitems/1.2.840.10008.5.1.4.34.5/subscribers/AE";
    call(&server, &key, "POST", global, Value::Null).await.problem(403);
    call(&server, &south, "POST", global, Value::Null).await.problem(404);
    call(&server, &writer, "POST", global, Value::Null).await.is(201);
    let mut channel = Socket::try_open(&url, &[("x-api-key", &key)]).await.unwrap();
    let create = "/partitions/north/workitems?1.2.5";
    let item = crate::worklist::workitem("P", "20260101");
    call(&server, &writer, "POST", create, item).await.is(201);
    channel.take(2).await;
    let one = format!("/partitions/north/apikeys/{id}");
    call(&server, &north, "PATCH", &one, json!({"state": "disabled"})).await.is(200);
    assert_eq!(channel.next().await, Err(1008));
}
