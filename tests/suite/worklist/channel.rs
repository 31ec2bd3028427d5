//! Events of workitems over real WebSockets: what is said, in which order, and to whom.

use reqwest::Method;
use serde_json::{Value, json};

use super::{code, ct, of, performed, post, said, state, workitem};
use crate::harness::{Answer, Client, Dicom, PARTITIONS, Server, Socket, send, until};

const GLOBAL: &str = "1.2.840.10008.5.1.4.34.5";

pub async fn subscribe(client: &Client, path: &str) -> Answer {
    send(client.request(Method::POST, path)).await
}

/// The event, its workitem and its number.
fn told(message: &Value) -> (u64, &str, u64) {
    let number = |tag: &str| message[tag]["Value"][0].as_u64().unwrap();
    (number("00001002"), message["00001000"]["Value"][0].as_str().unwrap(), number("00000110"))
}

fn state_of(message: &Value) -> &str {
    message["00741000"]["Value"][0].as_str().unwrap()
}

#[tokio::test]
async fn who_watches_a_workitem_is_told_what_becomes_of_it() {
    let server = Server::with(&PARTITIONS).await;
    let within = "/partitions/north";
    server.store(&format!("{within}/studies"), &[ct()]).await.is(200);
    let path = format!("{within}/workitems/1.2.5");
    let mut item = workitem("P1", "20260101080000");
    item["00404041"] = of("CS", json!(["INCOMPLETE"]));
    post(&server, &format!("{within}/workitems?1.2.5"), &item).await.is(201);

    let answer = subscribe(&server, &format!("{path}/subscribers/READING%20ROOM")).await.is(201);
    let url = answer.header("content-location").to_owned();
    let expected = format!("{}{within}/subscribers/READING%20ROOM", server.base);
    assert_eq!(url, expected.replacen("http", "ws", 1));
    assert_eq!((said(&answer), answer.text().len()), ("", 0));
    let mut channel = Socket::open(&url).await;
    // The state as it is; then what changes, and nothing else.
    let first = channel.next().await.unwrap();
    let expected = json!({
        "00000002": of("UI", json!(["1.2.840.10008.5.1.4.34.6.4"])),
        "00000110": of("US", json!([1])),
        "00001000": of("UI", json!(["1.2.5"])),
        "00001002": of("US", json!([1])),
        "00404041": of("CS", json!(["INCOMPLETE"])),
        "00741000": of("CS", json!(["SCHEDULED"])),
    });
    assert_eq!(first, expected);
    let label = json!({ "00741204": of("LO", json!(["Other"])) });
    post(&server, &path, &label).await.is(200);
    post(&server, &path, &json!({ "00404041": of("CS", json!(["READY"])) })).await.is(200);
    post(&server, &path, &json!({ "00404025": of("SQ", json!([code("CT9")])) })).await.is(200);
    state(&server, &path, "IN PROGRESS", Some("1.2.6")).await.is(200);
    let progress =
        json!({ "00741004": of("DS", json!(["50"])), "00741006": of("ST", json!(["½"])) });
    let progress = json!({ "00741002": of("SQ", json!([progress])) });
    post(&server, &format!("{path}?1.2.6"), &progress).await.is(200);
    let asked = json!({
        "0074100A": of("UR", json!(["tel:1"])),
        "0074100C": of("LO", json!(["Ward"])),
        "0074100E": of("SQ", json!([code("110500")])),
        "00741236": of("AE", json!(["WARD"])),
        "00741238": of("LT", json!(["Patient left"])),
    });
    let accepted = post(&server, &format!("{path}/cancelrequest"), &asked).await.is(202);
    assert_eq!(said(&accepted), "");
    post(&server, &format!("{path}?1.2.6"), &performed()).await.is(200);
    state(&server, &path, "COMPLETED", Some("1.2.6")).await.is(200);
    let messages = channel.take(6).await;
    let of_all: Vec<(u64, &str, u64)> = messages.iter().map(told).collect();
    let expected = [(1, 2), (5, 3), (1, 4), (3, 5), (2, 6), (1, 7)];
    assert_eq!(of_all, expected.map(|(kind, number)| (kind, "1.2.5", number)));
    assert_eq!(messages[0]["00404041"]["Value"], json!(["READY"]));
    assert_eq!(messages[1]["00404025"]["Value"], json!([code("CT9")]));
    assert_eq!(state_of(&messages[2]), "IN PROGRESS");
    assert_eq!(messages[3]["00741002"], progress["00741002"]);
    assert_eq!(messages[3]["00080005"]["Value"], json!(["ISO_IR 192"]));
    for (tag, value) in asked.as_object().unwrap() {
        assert_eq!(messages[4][tag], *value, "{tag}");
    }
    assert_eq!(state_of(&messages[5]), "COMPLETED");
    for message in &messages {
        let tags: Vec<&String> = message.as_object().unwrap().keys().collect();
        assert!(tags.is_sorted(), "{tags:?}");
        assert!(!message.to_string().contains("1.2.6\""), "no lock is told: {message}");
    }
    // What a client says is not looked at; one that closes and comes back is told nothing twice.
    channel.send("{}").await;
    assert!(channel.is_silent().await);
    channel.close().await;
    let mut channel = Socket::open(&url).await;
    assert!(channel.is_silent().await);
}

#[tokio::test]
async fn a_request_to_cancel_is_for_who_can_hear_it() {
    let server = Server::start().await;
    post(&server, "/workitems?1.2.5", &workitem("P", "20260101")).await.is(201);
    post(&server, "/workitems?1.2.7", &workitem("P", "20260101")).await.is(201);
    state(&server, "/workitems/1.2.5", "IN PROGRESS", Some("1.2.6")).await.is(200);
    let ask = async || send(server.request(Method::POST, "/workitems/1.2.5/cancelrequest")).await;
    let nobody = ask().await.is(409);
    assert_eq!(said(&nobody), super::INCONSISTENT);
    for uid in ["1.2.5", "1.2.7"] {
        subscribe(&server, &format!("/workitems/{uid}/subscribers/PERFORMER")).await.is(201);
    }
    ask().await.is(202);
    assert_eq!(
        super::now(&server, "/workitems/1.2.5").await["00741000"]["Value"][0],
        "IN PROGRESS"
    );
    // Of one that nobody has claimed, the way to its end is told.
    send(server.request(Method::POST, "/workitems/1.2.7/cancelrequest")).await.is(202);
    let mut channel = Socket::open(&format!("{}/subscribers/PERFORMER", server.base)).await;
    let messages = channel.take(6).await;
    let of_all: Vec<(u64, &str)> =
        messages.iter().map(told).map(|(kind, uid, _)| (kind, uid)).collect();
    let expected =
        [(1, "1.2.5"), (1, "1.2.7"), (2, "1.2.5"), (2, "1.2.7"), (1, "1.2.7"), (1, "1.2.7")];
    assert_eq!(of_all, expected);
    assert_eq!(messages[2]["00741236"]["Value"], json!(["COLLIMATOR"]));
    assert_eq!([&messages[4], &messages[5]].map(state_of), ["IN PROGRESS", "CANCELED"]);
    assert_eq!(messages[5]["0074100E"]["Value"][0]["00080100"]["Value"][0], "110513");
    // And when he has gone, nobody hears it again.
    server.delete("/workitems/1.2.5/subscribers/PERFORMER").await.is(200);
    ask().await.problem(409);
}

#[tokio::test]
async fn six_subscribers_are_told_the_same_in_the_same_order() {
    let server = Server::start().await;
    let titles: Vec<String> = (0..6).map(|n| format!("AE{n}")).collect();
    for title in &titles {
        let path = format!("/workitems/{GLOBAL}/subscribers/{title}?deletionlock=true");
        subscribe(&server, &path).await.is(201);
    }
    let mut channels = Vec::new();
    for title in &titles {
        channels.push(Socket::open(&format!("{}/subscribers/{title}", server.base)).await);
    }
    let one = async |n: usize| {
        let uid = format!("1.2.{n}");
        post(&server, &format!("/workitems?{uid}"), &workitem("P", "20260101")).await.is(201);
        let path = format!("/workitems/{uid}");
        state(&server, &path, "IN PROGRESS", Some("1.3.1")).await.is(200);
        let at = format!("{path}?1.3.1");
        post(&server, &at, &json!({ "00404041": of("CS", json!(["UNAVAILABLE"])) })).await.is(200);
        post(&server, &at, &performed()).await.is(200);
        state(&server, &path, "COMPLETED", Some("1.3.1")).await.is(200);
    };
    futures::future::join_all((0..20).map(one)).await;
    // Created and assigned, claimed, input, completed.
    let mut all = Vec::new();
    for channel in &mut channels {
        all.push(channel.take(100).await);
    }
    let numbers: Vec<u64> = all[0].iter().map(|message| told(message).2).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<u64>>());
    for other in &all[1..] {
        assert_eq!(*other, all[0]);
    }
    for n in 0..20 {
        let uid = format!("1.2.{n}");
        let own: Vec<&Value> = all[0].iter().filter(|message| told(message).1 == uid).collect();
        let kinds: Vec<u64> = own.iter().map(|message| told(message).0).collect();
        assert_eq!(kinds, [1, 5, 1, 1, 1], "{uid}");
        let states = [0, 2, 3, 4].map(|at| state_of(own[at]));
        assert_eq!(states, ["SCHEDULED", "IN PROGRESS", "IN PROGRESS", "COMPLETED"], "{uid}");
    }
    for channel in &mut channels {
        assert!(channel.is_silent().await);
    }
    assert_eq!(server.count("SELECT count(*) FROM workitem_event").await, 0);
}

#[tokio::test]
async fn any_server_tells_what_happened_on_another() {
    let first = Server::start().await;
    let second = first.beside(&[]).await;
    subscribe(&first, &format!("/workitems/{GLOBAL}/subscribers/AE")).await.is(201);
    let mut there = Socket::open(&format!("{}/subscribers/AE", second.base)).await;
    for n in 0..5 {
        let (one, other) = if n % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let uid = format!("1.2.{n}");
        post(one, &format!("/workitems?{uid}"), &workitem("P", "20260101")).await.is(201);
        state(other, &format!("/workitems/{uid}"), "IN PROGRESS", Some("1.3.1")).await.is(200);
        let messages = there.take(3).await;
        let kinds: Vec<(u64, &str)> =
            messages.iter().map(told).map(|(kind, uid, _)| (kind, uid)).collect();
        assert_eq!(kinds, [(1, &*uid), (5, &uid), (1, &uid)]);
    }
    // Who opens a channel last has it, wherever.
    let mut here = Socket::open(&format!("{}/subscribers/AE", first.base)).await;
    assert_eq!(there.next().await, Err(1000));
    post(&second, "/workitems?1.2.9", &workitem("P", "20260101")).await.is(201);
    assert_eq!(told(&here.next().await.unwrap()), (1, "1.2.9", 16));
}

#[tokio::test]
async fn events_wait_for_who_is_away_within_bounds() {
    let server = Server::with(&[("worklist.max_events", "5")]).await;
    let url = format!("{}/subscribers/AE", server.base);
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/AE")).await.is(201);
    for n in 0..2 {
        post(&server, &format!("/workitems?1.2.{n}"), &workitem("P", "20260101")).await.is(201);
    }
    let mut channel = Socket::open(&url).await;
    let numbers: Vec<u64> = channel.take(4).await.iter().map(|one| told(one).2).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(channel.is_silent().await);
    channel.close().await;
    for n in 2..6 {
        post(&server, &format!("/workitems?1.2.{n}"), &workitem("P", "20260101")).await.is(201);
    }
    assert_eq!(server.count("SELECT count(*) FROM workitem_event").await, 5);
    // Of eight the last five are left: that some are missing is told first.
    let mut channel = Socket::open(&url).await;
    let messages = channel.take(6).await;
    assert_eq!(told(&messages[0]), (4, GLOBAL, 0));
    assert_eq!(messages[0]["00741242"]["Value"], json!(["RESTARTED"]));
    assert_eq!(messages[0]["00741244"]["Value"], json!(["WARM START"]));
    assert_eq!(messages[0]["00741246"]["Value"], json!(["WARM START"]));
    let numbers: Vec<u64> = messages[1..].iter().map(|one| told(one).2).collect();
    assert_eq!(numbers, [8, 9, 10, 11, 12]);
    // A subscription to all with locks has more to tell than is kept.
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/B?deletionlock=true"))
        .await
        .is(201);
    let mut other = Socket::open(&format!("{}/subscribers/B", server.base)).await;
    let kinds: Vec<u64> = other.take(6).await.iter().map(|one| told(one).0).collect();
    assert_eq!(kinds, [4, 1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_server_that_ends_says_so_and_the_next_one_that_it_is_back() {
    let server = Server::start().await;
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/AE")).await.is(201);
    let mut channel = Socket::open(&format!("{}/subscribers/AE", server.base)).await;
    post(&server, "/workitems?1.2.5", &workitem("P", "20260101")).await.is(201);
    channel.take(2).await;
    let listening =
        tokio::spawn(async move { (channel.next().await.unwrap(), channel.next().await) });
    let server = server.restart(&[]).await;
    let (down, end) = listening.await.unwrap();
    assert_eq!((told(&down), end), ((4, GLOBAL, 0), Err(1001)));
    assert_eq!(down["00741242"]["Value"], json!(["GOING DOWN"]));
    state(&server, "/workitems/1.2.5", "IN PROGRESS", Some("1.3.1")).await.is(200);
    let mut channel = Socket::open(&format!("{}/subscribers/AE", server.base)).await;
    let messages = channel.take(2).await;
    assert_eq!(messages[0]["00741242"]["Value"], json!(["RESTARTED"]));
    assert_eq!(told(&messages[1]), (1, "1.2.5", 3));
    assert_eq!(state_of(&messages[1]), "IN PROGRESS");
    // That is told once.
    channel.close().await;
    let mut channel = Socket::open(&format!("{}/subscribers/AE", server.base)).await;
    assert!(channel.is_silent().await);
}

#[tokio::test]
async fn a_channel_tells_nothing_of_other_partitions() {
    let server = Server::with(&PARTITIONS).await;
    for partition in ["north", "south"] {
        let own = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        server.store(&format!("/partitions/{partition}/studies"), &[own]).await.is(200);
        let path = format!("/partitions/{partition}/workitems/{GLOBAL}/subscribers/AE");
        subscribe(&server, &path).await.is(201);
    }
    let url = |partition: &str| format!("{}/partitions/{partition}/subscribers/AE", server.base);
    let mut north = Socket::open(&url("north")).await;
    let mut south = Socket::open(&url("south")).await;
    // The same UID in both: each is told of its own.
    post(&server, "/partitions/north/workitems?1.2.5", &workitem("P", "20260101")).await.is(201);
    north.take(2).await;
    assert!(south.is_silent().await);
    post(&server, "/partitions/south/workitems?1.2.5", &workitem("P", "20260101")).await.is(201);
    south.take(2).await;
    state(&server, "/partitions/north/workitems/1.2.5", "IN PROGRESS", Some("1.3.1")).await.is(200);
    assert_eq!(told(&north.next().await.unwrap()), (1, "1.2.5", 3));
    assert!(south.is_silent().await);
    // Nor is there anything of them to be left or suspended.
    let of_north = format!("/workitems/{GLOBAL}/subscribers/NORTH");
    subscribe(&server, &format!("/partitions/north{of_north}")).await.is(201);
    server.delete(&format!("/partitions/south{of_north}")).await.problem(404);
    let suspend = format!("/partitions/south{of_north}/suspend");
    subscribe(&server, &suspend).await.problem(404);
    // The partition is named as for any other route.
    let by_query = format!("{}/subscribers/AE?microsoft.partitionId=south", server.base);
    let mut again = Socket::open(&by_query).await;
    assert_eq!(south.next().await, Err(1000));
    assert!(again.is_silent().await && north.is_silent().await);
    let refused = Socket::try_open(&format!("{}/subscribers/AE", server.base), &[]).await;
    assert_eq!(refused.err(), Some(400));
    let unknown = Socket::try_open(&url("west"), &[]).await;
    assert_eq!(unknown.err(), Some(404));
}

#[tokio::test]
async fn what_opens_no_channel() {
    let server = Server::with(&[("cors.allowed_origins", "https://viewer.example")]).await;
    let url = format!("{}/subscribers/AE", server.base);
    let plain = server.get(&url).await;
    assert_eq!(plain.header("upgrade"), "websocket");
    plain.problem(426);
    for (url, headers, status) in [
        (&*url, [("origin", "https://evil.example")], 403),
        (&url, [("origin", "null")], 403),
        (&url, [("sec-websocket-version", "8")], 426),
    ] {
        let refused = Socket::try_open(url, &headers).await;
        assert_eq!(refused.err(), Some(status), "{headers:?}");
    }
    for title in ["ABCDEFGHIJKLMNOPQ", "%20", "A%5CB", "%C3%84"] {
        let url = format!("{}/subscribers/{title}", server.base);
        assert_eq!(Socket::try_open(&url, &[]).await.err(), Some(400), "{title}");
    }
    for origin in ["https://viewer.example", &server.base] {
        let opened = Socket::try_open(&url, &[("origin", origin)]).await;
        opened.unwrap().close().await;
    }
    until("the channels are closed", async || {
        server.count("SELECT count(*) FROM workitem_subscriber WHERE channel IS NOT NULL").await
            == 0
    })
    .await;
}

/// A long message in one piece, and small ones in many, reach the other side of what looks at HTTP.
#[tokio::test]
async fn frames_of_a_channel_are_not_read_as_requests() {
    let server = Server::start().await;
    let mut channel = Socket::open(&format!("{}/subscribers/AE", server.base)).await;
    for text in ["\n", "\r", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"] {
        channel.send(text).await;
    }
    subscribe(&server, &format!("/workitems/{GLOBAL}/subscribers/AE")).await.is(201);
    let mut item = workitem("P", "20260101");
    let long: Vec<Value> = (0..3_000).map(|n| code(&n.to_string())).collect();
    item["00404025"] = of("SQ", json!(long));
    post(&server, "/workitems?1.2.5", &item).await.is(201);
    let messages = channel.take(2).await;
    assert_eq!(messages[1]["00404025"]["Value"].as_array().unwrap().len(), 3_000);
    // What is longer than a client has to say ends it.
    channel.send(&"x".repeat(10_000)).await;
    assert!(channel.next().await.is_err());
}
