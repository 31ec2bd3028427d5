//! Receivers are told of changes: in order, at least once, whatever they answer and whoever dies.

mod failures;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use collimator::{
    app,
    archive::WebhookNews,
    config::{Destination, WebhooksConfig},
    index::{FeedAction, Webhook, WebhookSecret, WebhookSettings},
    outbound::Sender,
    workers::Webhooks,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Archive, Sample, postgres,
    receiver::{Receiver, Reply},
};

const ALL: [FeedAction; 3] = [FeedAction::Create, FeedAction::Update, FeedAction::Delete];

/// Quick, and free to call loopback.
fn quick() -> WebhooksConfig {
    WebhooksConfig {
        allow_http: true,
        allow_private: true,
        retry_first: Duration::from_millis(10),
        retry_cap: Duration::from_millis(100),
        timeout: Duration::from_secs(30),
        ..WebhooksConfig::default()
    }
}

/// A teller that runs until it is stopped, or dropped.
struct Teller {
    stop: CancellationToken,
    news: Arc<WebhookNews>,
    task: JoinHandle<()>,
}

impl Teller {
    fn start(archive: &Archive, config: &WebhooksConfig) -> Self {
        app::choose_cryptography();
        let (stop, news) = (CancellationToken::new(), Arc::<WebhookNews>::default());
        let db = archive.database.db.clone();
        let webhooks = Webhooks::new(db, Sender::new(config), config, true);
        let task = webhooks.start(news.clone(), stop.clone());
        Self { stop, news, task }
    }

    /// Ends it as a kill does: nothing is written down any more.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }

    /// Ends it as a server ends.
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Adds a webhook that is told from the beginning.
async fn add(archive: &Archive, partition: &str, url: &str, actions: &[FeedAction]) -> Uuid {
    let settings = WebhookSettings {
        url: url.to_owned(),
        description: String::new(),
        actions: actions.to_vec(),
        is_enabled: true,
    };
    let id = Uuid::new_v4();
    let scope = postgres::scope(partition);
    let mut tx = archive.database.db.begin_webhooks(&scope).await.unwrap();
    tx.webhook_create(id, &settings, &WebhookSecret::generate(), 0).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn get(archive: &Archive, partition: &str, id: Uuid) -> Webhook {
    let scope = postgres::scope(partition);
    let mut tx = archive.database.db.begin_in(&scope).await.unwrap();
    tx.webhook(id).await.unwrap().expect("a webhook").0
}

/// Stores instances of studies with these numbers, one after the other.
async fn store(archive: &Archive, partition: &str, numbers: impl IntoIterator<Item = u32>) {
    for n in numbers {
        archive.store(partition, Uuid::new_v4(), Sample::new(n, 1, 1)).await;
    }
}

/// Waits until a condition is true.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Gives numbers to events of north that have none.
async fn number(archive: &Archive) {
    let mut tx = archive.database.db.begin_numbering(&postgres::scope("north")).await.unwrap();
    tx.feed_number(10).await.unwrap();
    tx.commit().await.unwrap();
}

/// Has a statement run as the superuser.
async fn run(archive: &Archive, sql: &'static str) {
    let mut conn = archive.database.superuser().await;
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn messages_come_in_order_signed_and_in_batches() {
    let archive = Archive::new(&["north"]).await;
    store(&archive, "north", 1..=7).await;
    let receiver = Receiver::start().await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let secret = *get(&archive, "north", id).await.secret.expose();
    let teller = Teller::start(&archive, &WebhooksConfig { batch: 3, ..quick() });
    until("all are told", async || receiver.sequences().len() >= 7).await;
    let got = receiver.got();
    let batches: Vec<_> = got.iter().map(|got| got.sequences()).collect();
    assert_eq!(batches, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
    for (at, got) in got.iter().enumerate() {
        assert!(got.is_signed_with(&[&secret]), "{got:?}");
        assert!(!got.is_signed_with(&[&[1; 32]]));
        assert_eq!(got.content_type, "application/json");
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        assert!((now - got.timestamp.parse::<i64>().unwrap()).abs() < 300);
        let message = got.json();
        assert_eq!(message["type"], "changefeed.events");
        let data = &message["data"];
        assert_eq!(data["webhookId"], id.simple().to_string());
        let ends = [&data["firstSequence"], &data["lastSequence"]].map(|n| n.as_i64().unwrap());
        assert_eq!(ends, [[1, 3], [4, 6], [7, 7]][at]);
        let last = got.events().pop().unwrap();
        assert_eq!(message["timestamp"], last["timestamp"]);
        assert_eq!((&last["action"], &last["partitionId"]), (&"create".into(), &"north".into()));
        assert!(last.get("metadata").is_none());
    }
    // What comes later comes later.
    store(&archive, "north", [8]).await;
    until("the next one is told", async || receiver.sequences().len() >= 8).await;
    until("it is noted", async || get(&archive, "north", id).await.cursor == 8).await;
    assert_eq!(receiver.sequences(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let health = get(&archive, "north", id).await;
    assert!(health.last_success_at.is_some() && health.last_failure.is_none());
    assert_eq!((health.batch_until, health.attempts, health.lost), (None, 0, 0));
    teller.kill().await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_signs_for_a_while() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let old = *get(&archive, "north", id).await.secret.expose();
    let new = WebhookSecret::generate();
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    tx.webhook_lock(id).await.unwrap();
    tx.webhook_rotate(id, &new, Duration::from_secs(3600)).await.unwrap();
    tx.commit().await.unwrap();
    store(&archive, "north", [1]).await;
    let teller = Teller::start(&archive, &quick());
    until("both sign", async || receiver.got().len() == 1).await;
    assert!(receiver.got()[0].is_signed_with(&[new.expose(), &old]));
    run(&archive, "UPDATE webhook SET old_secret_until = now()").await;
    store(&archive, "north", [2]).await;
    until("one signs", async || receiver.got().len() == 2).await;
    assert!(receiver.got()[1].is_signed_with(&[new.expose()]));
    assert_eq!(format!("{new:?}"), "********");
    teller.stop().await;
    // It is not kept for longer than it is needed.
    let mut conn = archive.database.superuser().await;
    let kept = "SELECT count(*) FROM webhook WHERE old_secret IS NOT NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&mut conn).await.unwrap(), 0);
}

#[tokio::test]
async fn receivers_are_told_of_what_they_want_and_of_their_partition() {
    let archive = Archive::new(&["north", "south"]).await;
    let (all, deletions, south) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    add(&archive, "north", &all.url(), &ALL).await;
    let id = add(&archive, "north", &deletions.url(), &[FeedAction::Delete]).await;
    add(&archive, "south", &south.url(), &ALL).await;
    let teller = Teller::start(&archive, &WebhooksConfig { batch: 2, ..quick() });
    let sample = Sample::new(1, 1, 1);
    archive.store("north", Uuid::new_v4(), sample.clone()).await;
    store(&archive, "north", 2..=5).await;
    archive.delete("north", &sample, Duration::ZERO).await;
    store(&archive, "south", [9]).await;
    until("all are told", async || {
        all.sequences().len() == 6 && !deletions.got().is_empty() && !south.got().is_empty()
    })
    .await;
    assert_eq!(all.sequences(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(deletions.sequences(), [6]);
    let told = &south.got()[0].events();
    assert_eq!((told.len(), &told[0]["partitionId"]), (1, &"south".into()));
    // What is passed over is dealt with as well.
    store(&archive, "north", 6..=8).await;
    until("it is passed over", async || get(&archive, "north", id).await.cursor == 9).await;
    assert_eq!(deletions.got().len(), 1);
    teller.kill().await;
}

#[tokio::test]
async fn a_slow_receiver_holds_up_nobody() {
    let archive = Archive::new(&["north", "south"]).await;
    let (slow, fast, south) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    slow.usually(Reply::Hang);
    for _ in 0..6 {
        add(&archive, "north", &slow.url(), &ALL).await;
    }
    let own = add(&archive, "north", &fast.url(), &ALL).await;
    add(&archive, "south", &south.url(), &ALL).await;
    // Eight places, of which a partition gets one at a time: north's are taken by those that hang.
    store(&archive, "north", [1]).await;
    let few = Teller::start(&archive, &WebhooksConfig { max_concurrent: 8, ..quick() });
    until("one hangs", async || !slow.got().is_empty()).await;
    store(&archive, "south", 1..=5).await;
    until("south is told", async || south.sequences().len() == 5).await;
    few.kill().await;
    run(&archive, "UPDATE webhook SET lease_until = now()").await;
    // With places for all of them the others do not matter.
    let many = Teller::start(&archive, &quick());
    store(&archive, "north", 2..=5).await;
    until("the fast one is told", async || get(&archive, "north", own).await.cursor == 5).await;
    assert_eq!(fast.sequences(), [1, 2, 3, 4, 5]);
    many.kill().await;
}

#[tokio::test]
async fn a_server_that_ends_lets_others_go_on_at_once() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Hang]);
    store(&archive, "north", [1]).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let teller = Teller::start(&archive, &quick());
    until("it is sent", async || receiver.got().len() == 1).await;
    assert!(get(&archive, "north", id).await.holder.is_some());
    teller.stop().await;
    let left = get(&archive, "north", id).await;
    assert_eq!((left.holder, left.cursor, left.batch_until), (None, 0, Some(1)));
    let teller = Teller::start(&archive, &quick());
    until("it is told", async || get(&archive, "north", id).await.cursor == 1).await;
    assert_eq!(receiver.got()[0].id, receiver.got()[1].id);
    teller.stop().await;
}

#[tokio::test]
async fn two_servers_tell_once_and_in_order() {
    let archive = Archive::new(&["north", "south"]).await;
    let mut receivers = Vec::new();
    for partition in ["north", "north", "north", "south", "south"] {
        let receiver = Receiver::start().await;
        add(&archive, partition, &receiver.url(), &ALL).await;
        receivers.push(receiver);
    }
    let config = WebhooksConfig { batch: 2, ..quick() };
    let tellers = [Teller::start(&archive, &config), Teller::start(&archive, &config)];
    for n in 1..=15 {
        store(&archive, "north", [n]).await;
        store(&archive, "south", [n]).await;
    }
    let all: Vec<i64> = (1..=15).collect();
    until("all are told", async || receivers.iter().all(|one| one.sequences().len() >= 15)).await;
    for receiver in &receivers {
        assert_eq!(receiver.sequences(), all);
    }
    for teller in tellers {
        teller.kill().await;
    }
}

#[tokio::test]
async fn what_is_not_public_is_not_called() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    let port = receiver.port;
    let mut ids = Vec::new();
    for url in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
    ] {
        ids.push(add(&archive, "north", &url, &ALL).await);
    }
    store(&archive, "north", [1]).await;
    let strict = WebhooksConfig { allow_private: false, ..quick() };
    let teller = Teller::start(&archive, &strict);
    for id in &ids {
        until("it is refused", async || get(&archive, "north", *id).await.last_failure.is_some())
            .await;
        let (_, reason, status) = get(&archive, "north", *id).await.last_failure.unwrap();
        assert_eq!((&*reason, status), ("address", None));
    }
    teller.kill().await;
    assert!(receiver.got().is_empty());
    // Named, it is called.
    run(&archive, "UPDATE webhook SET lease_until = NULL, next_attempt_at = now()").await;
    let allowed = vec![Destination::Host("localhost".to_owned())];
    let teller = Teller::start(&archive, &WebhooksConfig { allowed, ..strict });
    until("it is told", async || get(&archive, "north", ids[0]).await.cursor == 1).await;
    assert_eq!(receiver.sequences(), [1]);
    teller.kill().await;
}

#[tokio::test]
async fn events_that_left_the_feed_are_counted() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    store(&archive, "north", 1..=5).await;
    number(&archive).await;
    run(&archive, "DELETE FROM change_feed WHERE sequence < 4").await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let teller = Teller::start(&archive, &quick());
    until("the rest is told", async || get(&archive, "north", id).await.cursor == 5).await;
    assert_eq!(receiver.sequences(), [4, 5]);
    let data = &receiver.got()[0].json()["data"];
    assert_eq!((data["firstSequence"].as_i64(), data["lostEvents"].as_i64()), (Some(4), Some(3)));
    assert_eq!(get(&archive, "north", id).await.lost, 3);
    // One that is added is found when somebody says so.
    let other = Receiver::start().await;
    add(&archive, "north", &other.url(), &ALL).await;
    teller.news.tell(&postgres::scope("north"));
    until("it is told", async || !other.got().is_empty()).await;
    teller.kill().await;
}
