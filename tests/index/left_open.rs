//! Transactions that are left open for the next search (`src/index/held.rs`).

use std::time::{Duration, Instant};

use collimator::{
    dicom::attributes::Level,
    index::{Db, DbOptions, ScopedTx},
    tenancy::Scope,
};
use sqlx::{PgConnection, Row};

use crate::{
    data::{Sample, store},
    postgres::{Database, scope},
    search::plan,
};

async fn found(tx: &mut ScopedTx) -> usize {
    tx.search_keys(&plan(Level::Study, vec![])).await.unwrap().len()
}

/// How many studies a search of the partition finds.
async fn search(db: &Db, partition: &str) -> usize {
    found(&mut db.begin_search(&scope(partition)).await.unwrap()).await
}

/// How many transactions are open that nobody works with.
async fn open(conn: &mut PgConnection) -> i64 {
    let row = sqlx::query(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND state = 'idle in transaction'",
    );
    row.fetch_one(conn).await.unwrap().get(0)
}

async fn clock(conn: &mut PgConnection) -> String {
    sqlx::query("SELECT clock_timestamp()::text").fetch_one(conn).await.unwrap().get(0)
}

/// How many transactions that nobody works with are older than that.
async fn begun_before(conn: &mut PgConnection, time: &str) -> i64 {
    let row = sqlx::query(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND state = 'idle in transaction' AND xact_start < $1::timestamptz",
    );
    row.bind(time).fetch_one(conn).await.unwrap().get(0)
}

/// Searches the partition until its transaction was left open beside `others`.
async fn until_open(it: &Database, conn: &mut PgConnection, partition: &str, others: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        search(&it.db, partition).await;
        if open(conn).await == others + 1 {
            return;
        }
        assert!(Instant::now() < deadline, "no transaction is left open");
    }
}

#[tokio::test]
async fn a_search_finds_the_transaction_of_the_last_open_and_sees_what_was_committed_since() {
    let it = Database::new().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    store(&it.db, "b", &[Sample::new(1, 1, 1), Sample::new(2, 2, 2), Sample::new(3, 3, 3)]).await;
    let mut conn = it.superuser().await;
    // Another connection, for what is stored meanwhile.
    let other = it.db.begin_in(&scope("a")).await.unwrap();
    until_open(&it, &mut conn, "a", 1).await;
    other.commit().await.unwrap();
    store(&it.db, "a", &[Sample::new(2, 2, 2)]).await;
    until_open(&it, &mut conn, "a", 0).await;
    store(&it.db, "a", &[Sample::new(3, 3, 3)]).await;
    let now = clock(&mut conn).await;
    let mut tx = it.db.begin_search(&scope("a")).await.unwrap();
    let older = begun_before(&mut conn, &now).await;
    assert_eq!(older, 1, "it was open before anybody asked");
    // What was committed since is seen, and nothing else.
    assert_eq!(found(&mut tx).await, 3);
    drop(tx);
    assert_eq!(search(&it.db, "a").await, 3);
}

#[tokio::test]
async fn what_was_left_open_is_ended_before_anybody_else_has_the_connection() {
    let options = DbOptions { max_connections: 1, ..DbOptions::default() };
    let it = Database::with(options).await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    store(&it.db, "b", &[Sample::new(1, 1, 1), Sample::new(2, 2, 2)]).await;
    let mut conn = it.superuser().await;
    until_open(&it, &mut conn, "a", 0).await;
    assert_eq!(search(&it.db, "b").await, 2);
    until_open(&it, &mut conn, "b", 0).await;
    assert_eq!(search(&it.db, "a").await, 1);
    until_open(&it, &mut conn, "a", 0).await;
    store(&it.db, "b", &[Sample::new(3, 3, 3)]).await;
    until_open(&it, &mut conn, "b", 0).await;
    it.db.ready().await.unwrap();
    assert_eq!(search(&it.db, "b").await, 3);
}

#[tokio::test]
async fn what_was_left_open_and_nobody_came_for_is_ended() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    until_open(&it, &mut conn, "a", 0).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while open(&mut conn).await > 0 {
        assert!(Instant::now() < deadline, "it stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(search(&it.db, "a").await, 0);
}

#[tokio::test]
async fn a_transaction_left_open_on_a_connection_that_was_lost_is_begun_anew() {
    let it = Database::new().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut conn = it.superuser().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // Some of them idle, some with a transaction.
    let at = scope("a");
    let idle = futures::future::join_all((0..4).map(|_| it.db.begin_in(&at))).await;
    until_open(&it, &mut conn, "a", 4).await;
    drop(idle);
    until_open(&it, &mut conn, "a", 0).await;
    sqlx::raw_sql(end).execute(&mut conn).await.unwrap();
    assert_eq!(search(&it.db, "a").await, 1);
    assert_eq!(search(&it.db, "a").await, 1);
}

#[tokio::test]
async fn behind_a_pooler_and_over_several_partitions_nothing_is_left_open() {
    let options = DbOptions { prepared_statements: false, ..DbOptions::default() };
    let pooled = Database::with(options).await;
    let it = Database::new().await;
    let both = Scope::union([&*scope("a"), &*scope("b")].into_iter());
    for (it, scope) in [(&pooled, &*scope("a")), (&it, &both)] {
        let mut conn = it.superuser().await;
        for _ in 0..5 {
            let now = clock(&mut conn).await;
            let mut tx = it.db.begin_search(scope).await.unwrap();
            assert_eq!(begun_before(&mut conn, &now).await, 0);
            found(&mut tx).await;
        }
    }
}
