//! A search takes as long as it may and no longer, and none outlives who asked.

use std::time::{Duration, Instant};

use collimator::{
    dicom::attributes::Level,
    index::{DbOptions, IndexError},
};
use sqlx::{PgConnection, Row};

use crate::{
    data::{Sample, store},
    postgres::{Database, scope},
    search::plan,
};

/// A database with one study, and a connection that keeps everybody from reading it.
async fn blocked(options: DbOptions) -> (Database, PgConnection) {
    let it = Database::with(options).await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut blocker = it.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE study IN ACCESS EXCLUSIVE MODE")
        .execute(&mut blocker)
        .await
        .unwrap();
    (it, blocker)
}

/// How many searches wait for the lock. Waits until they are `wanted`.
async fn until_waiting(conn: &mut PgConnection, wanted: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let waiting: i64 = sqlx::query(
            "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut *conn)
        .await
        .unwrap()
        .get(0);
        if waiting == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{waiting} searches wait and not {wanted}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_so_and_ends() {
    let options = DbOptions {
        max_connections: 1,
        // Long enough for the search behind it, which nothing holds up but the machine.
        search_timeout: Duration::from_secs(2),
        ..DbOptions::default()
    };
    let (it, mut blocker) = blocked(options).await;
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let found = tx.search_keys(&plan(Level::Study, vec![])).await;
    assert!(matches!(found, Err(IndexError::TooBroad)), "{found:?}");
    drop(tx);
    until_waiting(&mut blocker, 0).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    // The only connection is free again, or replaced.
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    assert_eq!(tx.search_keys(&plan(Level::Study, vec![])).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_search_that_nobody_waits_for_is_ended() {
    let options = DbOptions { max_connections: 1, ..DbOptions::default() };
    let (it, mut blocker) = blocked(options).await;
    let db = it.db.clone();
    let search = tokio::spawn(async move {
        let mut tx = db.begin(&scope("a")).await.unwrap();
        tx.search_keys(&plan(Level::Study, vec![])).await
    });
    until_waiting(&mut blocker, 1).await;
    search.abort();
    assert!(search.await.unwrap_err().is_cancelled());
    // The lock is still held: what ended the statement is that its client went away.
    until_waiting(&mut blocker, 0).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    assert_eq!(tx.search_keys(&plan(Level::Study, vec![])).await.unwrap().len(), 1);
}

/// One partition has all that it may have: others do not notice.
#[tokio::test]
async fn a_partition_that_asks_for_much_leaves_connections_to_others() {
    let connect_timeout = Duration::from_secs(5);
    let options = DbOptions {
        max_connections: 4,
        partition_share: 75,
        connect_timeout,
        ..DbOptions::default()
    };
    let it = Database::with(options).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(it.db.begin_in(&scope("a")).await.unwrap());
    }
    assert!(it.db.begin_beside(&scope("a")).await.is_none());
    let waits = it.db.begin_in(&scope("a")).await;
    assert!(matches!(waits, Err(IndexError::Unavailable(_))));
    for other in ["b", "c", "b"] {
        let id = other.parse().unwrap();
        it.db.begin_in(&scope(other)).await.unwrap().commit().await.unwrap();
        assert!(!it.db.registry().await.unwrap().partition_exists(&id).await.unwrap());
    }
    // What is given back is had by who waits, in the same partition too.
    let scope_a = scope("a");
    let (given, waits) = tokio::join!(held.pop().unwrap().commit(), it.db.begin(&scope_a));
    given.unwrap();
    waits.unwrap();
}
