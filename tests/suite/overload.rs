//! More than the server does at a time: who is turned away, how, and who is not.
//!
//! What is worked at is held by a lock in the database, or by clients who do not move, so that
//! nothing here depends on time.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{
    Answer, Client, Dicom, PARTITIONS, Server,
    corpus::{RELATED, multipart},
    http, until,
};

const METADATA: &str = "studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/metadata";
const STUDY: &str = "studies/1.2.1/metadata";

/// How long a Store may take that nothing keeps waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Statements that wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

fn with<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&PARTITIONS, settings].concat()
}

async fn stored(server: &Server, partition: &str) {
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store(&format!("/partitions/{partition}/studies"), &[file]).await.is(200);
}

/// Who reads metadata, or stores, waits until this is dropped. Nobody else does.
async fn held(server: &Server) -> PgConnection {
    let mut holder = server.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE instance_metadata IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .unwrap();
    holder
}

async fn waiting(server: &Server, count: i64) {
    until("a request waits for the lock", async || server.count(WAITING).await == count).await;
}

/// Begins a request; it is awaited with the task.
fn begin(client: &Client, path: &str) -> tokio::task::JoinHandle<Answer> {
    let (client, path) = (client.clone(), path.to_owned());
    tokio::spawn(async move { client.get(&path).await })
}

#[track_caller]
fn turned_away(answer: Answer, status: u16, kind: &str) {
    assert!(["1", "5"].contains(&answer.header("retry-after")), "{answer:?}");
    let problem = answer.problem(status);
    assert_eq!(problem["type"], format!("urn:collimator:problem:{kind}"));
}

#[tokio::test]
async fn one_tenants_flood_is_turned_away_and_others_are_served() {
    let server = Server::with(&with(&[
        ("overload.working", "4"),
        ("overload.heavy", "1"),
        ("overload.partition_share", "50"),
        ("overload.queue", "0"),
    ]))
    .await;
    for partition in ["north", "south"] {
        stored(&server, partition).await;
    }
    let holder = held(&server).await;
    let path = format!("/partitions/north/{METADATA}");
    let held = [begin(&server, &path), begin(&server, &path)];
    waiting(&server, 2).await;
    let flood = (0..50).map(|_| server.get(&path));
    let others = (0..50).map(|_| server.get("/partitions/south/studies?PatientID=none"));
    let (flood, others) =
        futures::future::join(futures::future::join_all(flood), serially(others)).await;
    for answer in flood {
        turned_away(answer, 429, "too-many-requests");
    }
    for answer in others {
        answer.is(204);
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        server.get(path).await.is(200);
    }
    let metrics = server.get("/metrics").await.text();
    let shed = r#"collimator_http_requests_shed_total{class="small",reason="share"}"#;
    assert!(metrics.contains(shed), "{metrics}");
    holder.close().await.unwrap();
    for answer in held {
        answer.await.unwrap().is(200);
    }
    server.get(&path).await.is(200);
}

/// One after another: none of them waits for another's seat.
async fn serially(requests: impl Iterator<Item = impl Future<Output = Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await);
    }
    answers
}

#[tokio::test]
async fn heavy_work_is_turned_away_first() {
    let server = Server::with(&[
        ("overload.working", "3"),
        ("overload.heavy", "1"),
        ("overload.queue", "0"),
    ])
    .await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file.clone()]).await.is(200);
    let holder = held(&server).await;
    let heavy = begin(&server, &format!("/{STUDY}"));
    waiting(&server, 1).await;
    turned_away(server.get(&format!("/{STUDY}")).await, 503, "overloaded");
    turned_away(server.get("/studies/1.2.1/rendered").await, 503, "overloaded");
    turned_away(server.store("/studies", &[file]).await, 503, "overloaded");
    server.get("/studies?PatientID=none").await.is(204);
    // With small ones besides it is full, but for what is vital.
    let small = [begin(&server, &format!("/{METADATA}")), begin(&server, &format!("/{METADATA}"))];
    waiting(&server, 3).await;
    turned_away(server.get("/studies?PatientID=none").await, 503, "overloaded");
    server.get("/health/live").await.is(200);
    server.options("/studies", &[]).await.is(200);
    holder.close().await.unwrap();
    heavy.await.unwrap().is(200);
    for answer in small {
        answer.await.unwrap().is(200);
    }
}

#[tokio::test]
async fn some_wait_for_their_turn_and_have_it() {
    let server = Server::with(&[
        ("overload.working", "2"),
        ("overload.heavy", "1"),
        ("overload.queue", "1"),
        ("overload.wait", "1h"),
    ])
    .await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file]).await.is(200);
    let holder = held(&server).await;
    let first = begin(&server, &format!("/{STUDY}"));
    waiting(&server, 1).await;
    // Of these one waits, and the others are turned away whichever it is.
    let mut tasks: Vec<_> = (0..3).map(|_| begin(&server, &format!("/{STUDY}"))).collect();
    for _ in 0..2 {
        let (answer, _, rest) = futures::future::select_all(tasks).await;
        turned_away(answer.unwrap(), 503, "overloaded");
        tasks = rest;
    }
    holder.close().await.unwrap();
    first.await.unwrap().is(200);
    tasks.pop().unwrap().await.unwrap().is(200);
}

#[tokio::test]
async fn a_client_that_does_not_move_keeps_nobody_out() {
    let server = Server::with(&[
        ("overload.working", "2"),
        ("overload.heavy", "1"),
        ("overload.queue", "0"),
    ])
    .await;
    let files: Vec<_> =
        (1..=2).map(|n| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file()).collect();
    let body = multipart(&files);
    let head = format!(
        "POST /studies HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: {RELATED}\r\n\r\n",
        body.len()
    );
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut socket = TcpStream::connect(server.authority()).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&body[..body.len() - 300]).await.unwrap();
        slow.push(socket);
    }
    // A seat is had for the moments in which there is something to do.
    until("a Store is let in", async || {
        server.store("/studies/1.2.1", &files[..1]).await.status == 200
    })
    .await;
    server.get(&format!("/{STUDY}")).await.is(200);
    let mut answers = 0;
    for mut socket in slow {
        socket.write_all(&body[body.len() - 300..]).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        // Those that came while another had the seat were turned away, and could read it.
        answers += i32::from(text.starts_with("HTTP/1.1 200"));
        assert!(text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 503"), "{text}");
    }
    assert!(answers > 0);
}

#[tokio::test]
async fn a_store_that_does_not_move_keeps_no_other_waiting_while_somebody_asks() {
    let server = Server::with(&with(&[("overload.stores_beside", "1")])).await;
    for partition in ["north", "south"] {
        stored(&server, partition).await;
    }
    server.get("/partitions/south/studies?limit=1").await.is(200);
    let client = Client::clone(&server);
    let asking = tokio::spawn(async move {
        loop {
            client.get("/partitions/south/studies?limit=1").await.is(200);
        }
    });
    let file = |n| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file();
    let body = multipart(&[file(2)]);
    let head = format!(
        "POST /partitions/north/studies HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         content-length: {}\r\ncontent-type: {RELATED}\r\n\r\n",
        body.len()
    );
    let mut slow = TcpStream::connect(server.authority()).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body[..body.len() - 300]).await.unwrap();
    for n in 3..6 {
        let files = [file(n)];
        let stored = server.store("/partitions/north/studies", &files);
        tokio::time::timeout(PATIENCE, stored).await.expect("its turn comes").is(200);
    }
    slow.write_all(&body[body.len() - 300..]).await.unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(!asking.is_finished(), "it was answered all the time");
    asking.abort();
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_up() {
    // Nothing but the deadline ends a statement.
    let settings = [
        ("overload.deadline", "1s"),
        ("search.timeout", "1h"),
        ("database.statement_timeout", "1h"),
        ("scrub.interval", "0s"),
    ];
    let server = Server::with(&with(&settings)).await;
    stored(&server, "north").await;
    let mut holder = server.superuser().await;
    let lock = "BEGIN; LOCK TABLE study IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let search = "/partitions/north/studies?PatientID=none";
    for _ in 0..3 {
        turned_away(server.get(search).await, 503, "too-late");
    }
    // Nobody goes on waiting in the database.
    waiting(&server, 0).await;
    // A Store is waited for, however long it takes.
    let file = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file();
    let client = (*server).clone();
    let store =
        tokio::spawn(async move { client.store("/partitions/north/studies", &[file]).await });
    waiting(&server, 1).await;
    turned_away(server.get(search).await, 503, "too-late");
    assert!(!store.is_finished());
    holder.close().await.unwrap();
    store.await.unwrap().is(200);
    server.get(search).await.is(204);
}

#[tokio::test]
async fn health_is_answered_when_all_connections_are_taken() {
    let server = Server::with(&[("server.max_connections", "1")]).await;
    let mut taken = TcpStream::connect(server.authority()).await.unwrap();
    taken.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    taken.read_u8().await.unwrap();
    for client in [(*server).clone(), server.over_http2()] {
        for _ in 0..3 {
            client.get("/health/live").await.is(200);
            turned_away(client.get("/studies").await, 503, "overloaded");
            turned_away(client.store("/studies", &[vec![0; 300_000]]).await, 503, "overloaded");
        }
    }
    drop(taken);
    until("there is a place again", async || {
        let client = server.through(http().build().unwrap());
        client.get("/studies").await.status == 204
    })
    .await;
}

#[tokio::test]
async fn what_is_somebody_elses_is_answered_like_what_does_not_exist_under_load() {
    let server = Server::with(&with(&[
        ("auth.enabled", "true"),
        ("overload.working", "2"),
        ("overload.heavy", "1"),
        ("overload.queue", "0"),
    ]))
    .await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    for partition in ["north", "south"] {
        let writer = server.by(&server.key(partition, "writer").await);
        writer.store(&format!("/partitions/{partition}/studies"), &[file.clone()]).await.is(200);
    }
    let (north, south) = (server.key("north", "reader").await, server.key("south", "reader").await);
    let (north, south) = (server.by(&north), server.by(&south));
    let holder = held(&server).await;
    let full = begin(&south, &format!("/partitions/south/{METADATA}"));
    waiting(&server, 1).await;
    // Its share is one seat.
    let path = |partition: &str| format!("/partitions/{partition}/{METADATA}");
    turned_away(south.get(&path("south")).await, 429, "too-many-requests");
    let (theirs, nobodys) = (north.get(&path("south")).await, north.get(&path("nowhere")).await);
    assert_eq!((theirs.status, &theirs.body), (404, &nobodys.body));
    let stranger = server.by("cmk_nobody");
    let (theirs, nobodys) =
        (stranger.get(&path("south")).await, stranger.get(&path("nowhere")).await);
    assert_eq!((theirs.status, &theirs.body), (401, &nobodys.body));
    north.get("/partitions/north/studies?PatientID=none").await.is(204);
    holder.close().await.unwrap();
    full.await.unwrap().is(200);
}

#[tokio::test]
async fn parts_that_do_not_come_hold_so_much_memory_and_no_more() {
    let settings = [("store.upload_bytes", "1MiB"), ("overload.partition_share", "50")];
    let server = Server::with(&with(&settings)).await;
    for partition in ["north", "south"] {
        stored(&server, partition).await;
    }
    let mut slow = Vec::new();
    for _ in 0..8 {
        let head = format!(
            "POST /partitions/north/studies HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\
             content-type: {RELATED}\r\n\r\n--frontier\r\ncontent-type: application/dicom\r\n\r\n"
        );
        let mut socket = TcpStream::connect(server.authority()).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&start_of_an_instance(100_000)).await.unwrap();
        slow.push(socket);
    }
    let file = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file();
    // North's half is nearly held by parts that do not come, and it is told so.
    until("a Store is turned away", async || {
        server.store("/partitions/north/studies", &[file.clone()]).await.status == 429
    })
    .await;
    let answer = server.store("/partitions/north/studies", &[file.clone()]).await;
    turned_away(answer, 429, "too-many-requests");
    // South stores, and all else goes on.
    server.store("/partitions/south/studies", &[file.clone()]).await.is(200);
    server.get(&format!("/partitions/south/{METADATA}")).await.is(200);
    server.get("/partitions/north/studies?PatientID=none").await.is(204);
    server.get("/health/ready").await.is(200);
    drop(slow);
    until("what was held is given back", async || {
        server.store("/partitions/north/studies", &[file.clone()]).await.status == 200
    })
    .await;
}

/// So many bytes of an instance whose pixels do not end there.
fn start_of_an_instance(bytes: usize) -> Vec<u8> {
    let mut file = Dicom::ct("1.2.3", "1.2.3.1", "1.2.3.1.1").pixels(vec![7; bytes]).file();
    file.truncate(bytes);
    file
}
