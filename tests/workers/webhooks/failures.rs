//! What becomes of messages that are not delivered.

use std::time::Duration;

use collimator::{
    config::WebhooksConfig,
    index::{DeadLetter, Disabled},
};
use sqlx::Connection;
use uuid::Uuid;

use super::{ALL, Teller, add, get, number, quick, run, store, until};
use crate::{
    Archive, postgres,
    receiver::{Receiver, Reply},
};

async fn letters(archive: &Archive, id: Uuid) -> Vec<DeadLetter> {
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    tx.dead_letters(id, (100, 0)).await.unwrap()
}

async fn replay(archive: &Archive, id: Uuid) -> u64 {
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    tx.webhook_lock(id).await.unwrap();
    let count = tx.dead_letters_replay(id, None).await.unwrap();
    tx.commit().await.unwrap();
    count
}

async fn enable(archive: &Archive, id: Uuid) {
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    let mut settings = tx.webhook_lock(id).await.unwrap().unwrap().settings;
    settings.is_enabled = true;
    tx.webhook_change(id, &settings).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_message_is_sent_again_until_it_is_taken() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    let elsewhere = format!("http://127.0.0.1:{}/elsewhere", receiver.port);
    receiver.script([
        Reply::Status(500),
        Reply::With(503, "retry-after", "86400".to_owned()),
        Reply::With(429, "retry-after", "Wed, 21 Oct 2015 07:28:00 GMT".to_owned()),
        Reply::With(302, "location", elsewhere.clone()),
        Reply::With(307, "location", elsewhere),
        Reply::Hang,
        Reply::Status(404),
        // Taken, whatever it says besides.
        Reply::Endless,
    ]);
    store(&archive, "north", 1..=2).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let config = WebhooksConfig { batch: 2, timeout: Duration::from_secs(1), ..quick() };
    let teller = Teller::start(&archive, &config);
    until("the first try", async || !receiver.got().is_empty()).await;
    // What comes meanwhile waits behind it, and does not change it.
    store(&archive, "north", [3]).await;
    until("all are told", async || get(&archive, "north", id).await.cursor == 3).await;
    let got = receiver.got();
    assert_eq!(got.len(), 9, "{got:?}");
    for again in &got[..8] {
        assert_eq!((&again.id, &again.body), (&got[0].id, &got[0].body));
        assert_eq!(again.path, "/hook");
    }
    assert_eq!(got[0].sequences(), [1, 2]);
    assert_eq!(got[8].sequences(), [3]);
    assert_ne!(got[8].id, got[0].id);
    let health = get(&archive, "north", id).await;
    let (_, reason, status) = health.last_failure.unwrap();
    assert_eq!((&*reason, status, health.attempts), ("status", Some(404), 0));
    assert!(letters(&archive, id).await.is_empty());
    teller.kill().await;
}

#[tokio::test]
async fn retry_after_holds_up_to_the_cap() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::With(503, "retry-after", "600".to_owned())]);
    store(&archive, "north", [1]).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let config = WebhooksConfig { retry_cap: Duration::from_secs(3600), ..quick() };
    let teller = Teller::start(&archive, &config);
    until("it is noted", async || get(&archive, "north", id).await.last_failure.is_some()).await;
    let webhook = get(&archive, "north", id).await;
    let wait = webhook.next_attempt_at - webhook.last_failure.unwrap().0;
    assert!((599..=601).contains(&wait.whole_seconds()), "{wait}");
    assert!(!webhook.is_due && webhook.holder.is_none());
    teller.kill().await;
}

#[tokio::test]
async fn what_is_given_up_can_be_replayed() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(500), Reply::Status(502)]);
    store(&archive, "north", 1..=3).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let config = WebhooksConfig { batch: 2, max_attempts: 2, disable_after: 100, ..quick() };
    let teller = Teller::start(&archive, &config);
    until("it goes on", async || get(&archive, "north", id).await.cursor == 3).await;
    let dead = letters(&archive, id).await.pop().expect("a dead letter");
    assert_eq!((dead.first, dead.last, dead.events, dead.attempts), (1, 2, 2, 2));
    assert_eq!((&*dead.reason, dead.status, dead.is_to_replay), ("status", Some(502), false));
    assert!(dead.first_attempt_at <= dead.failed_at && dead.failed_at.is_some());
    let got = receiver.got();
    assert_eq!(got[2].sequences(), [3]);
    // In vain: it stays.
    receiver.script([Reply::Status(418)]);
    assert_eq!(replay(&archive, id).await, 1);
    until("it stays", async || {
        letters(&archive, id).await.iter().all(|dead| dead.attempts == 3 && !dead.is_to_replay)
    })
    .await;
    assert_eq!(letters(&archive, id).await[0].status, Some(418));
    // Taken: the same message, under the same id.
    assert_eq!(replay(&archive, id).await, 1);
    until("it is gone", async || letters(&archive, id).await.is_empty()).await;
    let again = receiver.got().pop().unwrap();
    assert_eq!((&again.id, &again.body), (&got[0].id, &got[0].body));
    assert_eq!(get(&archive, "north", id).await.cursor, 3);
    assert_eq!(replay(&archive, id).await, 0);
    // What has left the feed cannot be told.
    receiver.script([Reply::Status(500), Reply::Status(500)]);
    store(&archive, "north", [4]).await;
    until("it is given up", async || letters(&archive, id).await.len() == 1).await;
    store(&archive, "north", [5]).await;
    until("it goes on", async || get(&archive, "north", id).await.cursor == 5).await;
    let sent = receiver.got().len();
    run(&archive, "DELETE FROM change_feed WHERE sequence < 5").await;
    replay(&archive, id).await;
    until("that is said", async || letters(&archive, id).await[0].reason == "removed").await;
    assert_eq!(receiver.got().len(), sent);
    teller.kill().await;
}

#[tokio::test]
async fn a_message_whose_events_are_gone_lends_its_first_try_to_none() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.usually(Reply::Status(500));
    store(&archive, "north", [1]).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let teller = Teller::start(&archive, &quick());
    until("it is tried", async || get(&archive, "north", id).await.attempts > 1).await;
    teller.kill().await;
    store(&archive, "north", [2]).await;
    number(&archive).await;
    run(
        &archive,
        "DELETE FROM change_feed WHERE sequence = 1;
        UPDATE webhook SET first_attempt_at = '2001-01-01Z', lease_until = NULL",
    )
    .await;
    let teller = Teller::start(&archive, &quick());
    until("the next is tried", async || get(&archive, "north", id).await.cursor == 1).await;
    teller.kill().await;
    let webhook = get(&archive, "north", id).await;
    assert_eq!((webhook.batch_until, webhook.lost), (Some(2), 1));
    assert!(webhook.first_attempt_at.is_some_and(|at| at.year() > 2001), "{webhook:?}");
}

#[tokio::test]
async fn who_takes_nothing_is_disabled() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(410)]);
    store(&archive, "north", 1..=2).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let config = WebhooksConfig { batch: 1, max_attempts: 1, disable_after: 2, ..quick() };
    let teller = Teller::start(&archive, &config);
    let disabled = async |because| {
        until("it is disabled", async || {
            get(&archive, "north", id).await.disabled == Some(because)
        })
        .await;
    };
    disabled(Disabled::Gone).await;
    let webhook = get(&archive, "north", id).await;
    assert!(!webhook.settings.is_enabled && webhook.cursor == 0);
    assert!(letters(&archive, id).await.is_empty());
    assert_eq!(receiver.got().len(), 1);
    // Enabled again, it goes on where it was.
    receiver.script([Reply::Status(500), Reply::Status(500)]);
    enable(&archive, id).await;
    teller.news.tell(&postgres::scope("north"));
    disabled(Disabled::Failing).await;
    assert_eq!(letters(&archive, id).await.len(), 2);
    assert_eq!(get(&archive, "north", id).await.cursor, 2);
    enable(&archive, id).await;
    assert_eq!(get(&archive, "north", id).await.disabled, None);
    teller.kill().await;
    // One that has as many dead letters as it may have.
    store(&archive, "north", 3..=4).await;
    receiver.script([Reply::Status(200), Reply::Status(500)]);
    let full = WebhooksConfig { max_dead_letters: 3, disable_after: 100, ..config };
    let teller = Teller::start(&archive, &full);
    disabled(Disabled::Full).await;
    assert_eq!(letters(&archive, id).await.len(), 3);
    teller.kill().await;
}

#[tokio::test]
async fn what_was_answered_and_not_written_down_is_sent_again() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Wait]);
    store(&archive, "north", 1..=3).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let teller = Teller::start(&archive, &quick());
    until("it is sent", async || receiver.got().len() == 1).await;
    // Whoever writes down what became of it has to wait for this.
    let mut conn = archive.database.superuser().await;
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM webhook FOR UPDATE").execute(&mut *lock).await.unwrap();
    receiver.open();
    let mut look = archive.database.superuser().await;
    until("it is answered", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
            AND datname = current_database() AND query LIKE '-- webhook_lock%'";
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut look).await.unwrap() == 1
    })
    .await;
    teller.kill().await;
    lock.rollback().await.unwrap();
    assert_eq!(get(&archive, "north", id).await.cursor, 0);
    store(&archive, "north", [4]).await;
    // The lease of who died holds for some seconds more.
    run(&archive, "UPDATE webhook SET lease_until = now()").await;
    let teller = Teller::start(&archive, &quick());
    until("all are told", async || get(&archive, "north", id).await.cursor == 4).await;
    let got = receiver.got();
    assert_eq!((&got[1].id, &got[1].body), (&got[0].id, &got[0].body));
    assert_eq!(receiver.sequences(), [1, 2, 3, 1, 2, 3, 4]);
    teller.kill().await;
}

#[tokio::test]
async fn one_that_is_removed_while_it_is_sent_to_is_gone() {
    let archive = Archive::new(&["north"]).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.script([Reply::Wait]);
    store(&archive, "north", [1]).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let teller = Teller::start(&archive, &quick());
    until("it is sent", async || receiver.got().len() == 1).await;
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    tx.webhook_lock(id).await.unwrap().unwrap();
    tx.dead_letters_remove(id, None).await.unwrap();
    tx.webhook_remove(id).await.unwrap();
    tx.commit().await.unwrap();
    receiver.open();
    let own = add(&archive, "north", &other.url(), &ALL).await;
    teller.news.tell(&postgres::scope("north"));
    store(&archive, "north", [2]).await;
    until("the other is told", async || get(&archive, "north", own).await.cursor == 2).await;
    assert_eq!(receiver.got().len(), 1);
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    assert!(tx.webhook(id).await.unwrap().is_none());
    teller.kill().await;
}

#[tokio::test]
async fn a_lease_that_was_lost_ends_what_is_being_sent() {
    let archive = Archive::new(&["north"]).await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Hang]);
    store(&archive, "north", [1]).await;
    let id = add(&archive, "north", &receiver.url(), &ALL).await;
    let (first, second) = (Teller::start(&archive, &quick()), Teller::start(&archive, &quick()));
    until("it is sent", async || receiver.got().len() == 1).await;
    // As if who sends had been asleep for longer than its lease.
    run(&archive, "UPDATE webhook SET lease_owner = gen_random_uuid(), lease_until = now()").await;
    until("another sends it", async || get(&archive, "north", id).await.cursor == 1).await;
    assert_eq!(receiver.got().len(), 2);
    assert_eq!(receiver.got()[0].id, receiver.got()[1].id);
    first.kill().await;
    second.kill().await;
}
