//! Those who wait for changes, and those who follow them.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::{events, expected, shown, store};
use crate::harness::{Client, PARTITIONS, Server, until};

/// Sooner than those who wait for 60 seconds would be told without reason.
const SOON: Duration = Duration::from_secs(50);

/// A stream of events, read line by line.
struct Stream {
    response: Response,
    text: String,
}

/// One of its blocks: the id, and the data.
#[derive(Debug)]
struct Block {
    id: Option<i64>,
    kind: Option<String>,
    data: Option<Value>,
}

impl Stream {
    async fn open(client: &Client, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = client.request(Method::GET, path).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new() };
        let first = stream.next().await.expect("the first block");
        assert!(first.data.is_none());
        stream
    }

    /// The next block that is no comment; `None` at the end.
    async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block.starts_with(':') {
                    continue;
                }
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
                };
                return Some(Block {
                    id: field("id:").map(|id| id.parse().unwrap()),
                    kind: field("event:"),
                    data: field("data:").map(|data| serde_json::from_str(&data).unwrap()),
                });
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("in time");
            self.text += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }

    /// The next events, which must have their numbers as ids.
    async fn take(&mut self, count: usize) -> Vec<(i64, String)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let block = self.next().await.expect("an event");
            assert_eq!(block.kind, None);
            let event = block.data.expect("data");
            assert_eq!(event["sequence"].as_i64(), block.id);
            taken.push(event);
        }
        shown(&taken)
    }
}

#[tokio::test]
async fn who_waits_is_told_of_what_comes() {
    let server = Server::with(&PARTITIONS).await;
    store(&server, "/partitions/north", [1]).await;
    // What there is already is told at once.
    let there = events(&server, "/partitions/north/changefeed?wait=60s").await;
    assert_eq!(shown(&there), expected([(1, 1)]));
    assert_eq!(events(&server, "/changefeed?wait=60").await.len(), 1);
    let waiting: Vec<_> = [
        "/partitions/north/changefeed?offset=1&wait=60s",
        "/partitions/north/changefeed?offset=1&wait=60s&includeMetadata=false",
        "/v2/partitions/north/changefeed?offset=1&wait=60s&limit=1",
        "/changefeed?offset=1&wait=60s",
        "/changefeed?offset=1&wait=60s&microsoft.partitionId=north,microsoft.default",
    ]
    .into_iter()
    .chain(std::iter::repeat_n("/partitions/north/changefeed?offset=1&wait=60s", 40))
    .map(|path| {
        let client = Client::clone(&server);
        tokio::spawn(async move { (path, client.get(path).await.is(200).json()) })
    })
    .collect();
    // One who waits elsewhere is not woken.
    let south = Client::clone(&server);
    store(&server, "/partitions/south", [7]).await;
    assert_eq!(events(&server, "/partitions/south/changefeed").await.len(), 1);
    let elsewhere = "/partitions/south/changefeed?offset=1&wait=1s";
    let elsewhere = tokio::spawn(async move { south.get(elsewhere).await.is(200).json() });
    store(&server, "/partitions/north", [2]).await;
    for task in waiting {
        let (path, told) = timeout(SOON, task).await.expect("in time").unwrap();
        let told = told.as_array().unwrap();
        // Who waits for several may be told of the store to another of them.
        let studies: Vec<&str> =
            told.iter().map(|event| event["studyInstanceUid"].as_str().unwrap()).collect();
        match path.starts_with("/changefeed?offset=1&wait=60s") && !path.contains("north") {
            true => assert!(["1.2.7", "1.2.2"].contains(&studies[0]), "{path}: {studies:?}"),
            false => assert_eq!(studies, ["1.2.2"], "{path}"),
        }
        let with_metadata = !path.contains("includeMetadata");
        assert_eq!(told[0].get("metadata").is_some(), with_metadata, "{path}");
    }
    assert_eq!(elsewhere.await.unwrap(), serde_json::json!([]));
}

#[tokio::test]
async fn who_waits_in_vain_gets_an_empty_page() {
    let server = Server::with(&[("change_feed.max_wait", "1s")]).await;
    // Cut to what is allowed.
    assert!(events(&server, "/changefeed?wait=1h").await.is_empty());
    assert!(events(&server, "/changefeed?wait=10ms").await.is_empty());
    let off = server.restart(&[("change_feed.max_wait", "0s")]).await;
    assert!(events(&off, "/changefeed?wait=1h").await.is_empty());
}

#[tokio::test]
async fn a_change_of_another_server_is_told_as_well() {
    let server = Server::start().await;
    let client = Client::clone(&server);
    let waiting =
        tokio::spawn(async move { client.get("/changefeed?wait=60s").await.is(200).json() });
    // As another process would write and number it.
    let mut conn = server.superuser().await;
    let written = "INSERT INTO change_feed (action, study_instance_uid, series_instance_uid,
            sop_instance_uid, watermark, sequence, position)
        VALUES ('delete', '1.2.1', '1.2.1.1', '1.2.1.1.1', 1, 1, nextval('change_feed_position'))";
    sqlx::raw_sql(written).execute(&mut conn).await.unwrap();
    let told = timeout(SOON, waiting).await.expect("in time").unwrap();
    assert_eq!(shown(told.as_array().unwrap()), expected([(1, 1)]));
    assert_eq!((&told[0]["action"], &told[0]["state"]), (&"delete".into(), &"deleted".into()));
}

#[tokio::test]
async fn a_stream_tells_what_there_is_and_what_comes() {
    let server = Server::with(&PARTITIONS).await;
    store(&server, "/partitions/north", 1..=3).await;
    let path = "/partitions/north/changefeed";
    for client in [&*server, &server.over_http2()] {
        let mut from_start = Stream::open(client, path, &[]).await;
        assert_eq!(from_start.take(3).await, expected([(1, 1), (2, 2), (3, 3)]));
        let mut resumed =
            Stream::open(client, &format!("{path}?offset=1"), &[("last-event-id", "2")]).await;
        assert_eq!(resumed.take(1).await, expected([(3, 3)]));
    }
    let mut own = Stream::open(&server, &format!("{path}?offset=3"), &[]).await;
    let mut another =
        Stream::open(&server, &format!("{path}?offset=3&includeMetadata=false"), &[]).await;
    let mut all = Stream::open(&server, "/changefeed", &[]).await;
    assert_eq!(all.take(3).await, expected([(1, 1), (2, 2), (3, 3)]));
    store(&server, "/partitions/south", [4]).await;
    assert_eq!(all.take(1).await, expected([(4, 4)]));
    for n in 5..=8 {
        store(&server, "/partitions/north", [n]).await;
        let number = i64::from(n) - 1;
        assert_eq!(own.take(1).await, expected([(number, n)]));
        assert_eq!(another.take(1).await, expected([(number, n)]));
        assert_eq!(all.take(1).await, expected([(i64::from(n), n)]));
    }
    // As long as it has not ended, it may not keep the server from ending.
    let server = timeout(SOON, server.restart(&PARTITIONS)).await.expect("in time");
    for stream in [&mut own, &mut another, &mut all] {
        assert!(stream.next().await.is_none(), "the stream ends whole");
    }
    let mut resumed = Stream::open(&server, path, &[("last-event-id", "6")]).await;
    assert_eq!(resumed.take(1).await, expected([(7, 8)]));
}

#[tokio::test]
async fn who_waits_does_not_keep_the_server_from_ending() {
    let server = Server::with(&[("server.drain_timeout", "60s")]).await;
    let client = Client::clone(&server);
    let waiting = tokio::spawn(async move { client.get("/changefeed?wait=60s").await });
    // It has been asked once the look at the heads runs.
    until("somebody looks", async || {
        let look = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database()
                AND (query LIKE '-- feed_heads%' OR query LIKE '-- partition_count%')";
        server.count(look).await > 0
    })
    .await;
    let ended = timeout(SOON, server.restart(&[])).await;
    assert!(ended.is_ok(), "the server waits for who waits");
    assert_eq!(waiting.await.unwrap().is(200).json(), serde_json::json!([]));
}

#[tokio::test]
async fn a_stream_says_where_events_are_gone() {
    let server = Server::start().await;
    store(&server, "", 1..=3).await;
    assert_eq!(events(&server, "/changefeed").await.len(), 3);
    let mut conn = server.superuser().await;
    sqlx::raw_sql("DELETE FROM change_feed WHERE sequence < 3").execute(&mut conn).await.unwrap();
    let mut stream = Stream::open(&server, "/changefeed?offset=1", &[]).await;
    assert_eq!(stream.next().await.unwrap().kind.as_deref(), Some("gap"));
    assert_eq!(stream.take(1).await, expected([(3, 3)]));
}
