//! The keeper of worklists: what has ended goes, unless somebody holds it.

use std::time::Duration;

use collimator::{
    config::WorklistConfig,
    dicom::ups::Keys,
    workers::{Done, Worker, Worklist},
};

use crate::{Archive, DAY, postgres};

fn keeper(archive: &Archive, retention: Duration, event_retention: Duration) -> Worklist {
    let config = WorklistConfig { retention, event_retention, ..WorklistConfig::default() };
    Worklist::new(archive.database.db.clone(), &config)
}

async fn rows(archive: &Archive, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(&mut archive.database.superuser().await).await.unwrap()
}

async fn run(archive: &Archive, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut archive.database.superuser().await).await.unwrap();
}

const WORKITEMS: &str = "SELECT partition_id || ' ' || workitem_uid FROM workitem ORDER BY 1";
const SUBSCRIBERS: &str = "SELECT aetitle FROM workitem_subscriber ORDER BY 1";
const EVENTS: &str =
    "SELECT aetitle || ' ' || sequence FROM workitem_event ORDER BY aetitle, sequence";

/// Workitems of two partitions: two that have ended, of which one is held in `north`, and one that
/// has not.
async fn filled() -> Archive {
    let archive = Archive::new(&["north", "south"]).await;
    for partition in ["north", "south"] {
        let scope = postgres::scope(partition);
        for uid in ["1.1", "1.2", "1.3"] {
            let uid = uid.parse().unwrap();
            let keys = Keys { start: "20260101000000.000000".to_owned(), patient_id: None };
            let mut tx = archive.database.db.begin_worklist(&scope).await.unwrap();
            assert!(tx.workitem_create(&uid, &keys, "{}").await.unwrap());
            for (title, has_lock) in [("A", partition == "north"), ("B", false)] {
                let title = title.parse().unwrap();
                tx.workitem_subscriber_ensure(&title, 9).await.unwrap();
                tx.workitem_subscribe(&uid, &title, has_lock && uid.as_str() == "1.1")
                    .await
                    .unwrap();
            }
            tx.commit().await.unwrap();
        }
    }
    let ended = "UPDATE workitem SET state = 'COMPLETED', state_at = now() - interval '2 days'
        WHERE workitem_uid = '1.1';
        UPDATE workitem SET state = 'CANCELED', state_at = now() - interval '2 days'
        WHERE workitem_uid = '1.2'";
    run(&archive, ended).await;
    archive
}

/// Whose worklist somebody works at for long keeps his own, and nobody else's.
#[tokio::test]
async fn a_partition_that_is_busy_keeps_no_other_from_its_turn() {
    let archive = filled().await;
    let daily = keeper(&archive, DAY, DAY);
    let busy = archive.database.db.begin_worklist(&postgres::scope("north")).await.unwrap();
    assert!(daily.run_once().await.is_err());
    let left = ["north 1.1", "north 1.2", "north 1.3", "south 1.3"];
    assert_eq!(rows(&archive, WORKITEMS).await, left);
    drop(busy);
    assert_eq!(daily.run_once().await.unwrap(), Done { items: 1, ..Done::default() });
}

#[tokio::test]
async fn what_has_ended_goes_unless_it_is_held() {
    let archive = filled().await;
    let all = rows(&archive, WORKITEMS).await;
    for retention in [Duration::ZERO, 3 * DAY] {
        let done = keeper(&archive, retention, DAY).run_once().await.unwrap();
        assert_eq!((done, rows(&archive, WORKITEMS).await), (Done::default(), all.clone()));
    }
    let daily = keeper(&archive, DAY, DAY);
    assert_eq!(daily.run_once().await.unwrap(), Done { items: 3, ..Done::default() });
    assert_eq!(rows(&archive, WORKITEMS).await, ["north 1.1", "north 1.3", "south 1.3"]);
    let subscriptions = "SELECT partition_id || ' ' || workitem_uid || ' ' || aetitle
        FROM workitem_subscription ORDER BY 1";
    let left = ["north 1.1 A", "north 1.1 B", "north 1.3 A", "north 1.3 B"];
    assert_eq!(rows(&archive, subscriptions).await[..4], left);
    // Let go, it goes.
    let mut tx = archive.database.db.begin_worklist(&postgres::scope("north")).await.unwrap();
    let (uid, title) = ("1.1".parse().unwrap(), "A".parse().unwrap());
    tx.workitem_subscribe(&uid, &title, false).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(daily.run_once().await.unwrap(), Done { items: 1, ..Done::default() });
    assert_eq!(rows(&archive, WORKITEMS).await, ["north 1.3", "south 1.3"]);
}

#[tokio::test]
async fn events_that_nobody_takes_go_and_then_who_watches_nothing() {
    let archive = filled().await;
    run(&archive, "DELETE FROM workitem WHERE partition_id = 'south'").await;
    run(&archive, "DELETE FROM workitem_subscription WHERE partition_id = 'south'").await;
    run(&archive, "DELETE FROM workitem_subscriber WHERE partition_id = 'south'").await;
    let mut tx = archive.database.db.begin_worklist(&postgres::scope("north")).await.unwrap();
    let both = tx.workitem_subscribers(&"1.3".parse().unwrap()).await.unwrap();
    assert_eq!(both, [("A".to_owned(), 0), ("B".to_owned(), 0)]);
    let events = [("1.3", None), ("1.3", None), ("1.3", None)];
    tx.workitem_events_add(&both, &events, 2).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rows(&archive, EVENTS).await, ["A 2", "A 3", "B 2", "B 3"]);
    let age = "UPDATE workitem_event SET created_at = now() - interval '2 days' WHERE sequence = 2";
    run(&archive, age).await;
    let keeper_of = |events| keeper(&archive, Duration::ZERO, events);
    assert_eq!(keeper_of(Duration::ZERO).run_once().await.unwrap(), Done::default());
    let done = keeper_of(DAY).run_once().await.unwrap();
    assert_eq!(done, Done { items: 2, ..Done::default() });
    assert_eq!(rows(&archive, EVENTS).await, ["A 3", "B 3"]);
    // Who has something to be told, or a channel, is known still.
    run(&archive, "DELETE FROM workitem_subscription").await;
    keeper_of(DAY).run_once().await.unwrap();
    assert_eq!(rows(&archive, SUBSCRIBERS).await, ["A", "B"]);
    run(&archive, "DELETE FROM workitem_event").await;
    let open = "UPDATE workitem_subscriber SET channel = gen_random_uuid() WHERE aetitle = 'B'";
    run(&archive, open).await;
    keeper_of(DAY).run_once().await.unwrap();
    assert_eq!(rows(&archive, SUBSCRIBERS).await, ["B"]);
    run(&archive, "UPDATE workitem_subscriber SET channel = NULL").await;
    keeper_of(DAY).run_once().await.unwrap();
    assert!(rows(&archive, SUBSCRIBERS).await.is_empty());
}
