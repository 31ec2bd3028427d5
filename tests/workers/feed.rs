//! The keeper of change feeds numbers what nobody reads, and removes what is old.

use std::time::Duration;

use collimator::{
    config::ChangeFeedConfig,
    workers::{Done, Feed, Worker},
};

use crate::{Archive, DAY, Sample, ids, postgres};

fn keeper(archive: &Archive, retention: Duration) -> Feed {
    let config = ChangeFeedConfig { retention, ..ChangeFeedConfig::default() };
    Feed::new(archive.database.db.clone(), &config)
}

/// Partitions and sequences of the events that are there.
async fn feed(archive: &Archive) -> Vec<(String, Option<i64>)> {
    let mut conn = archive.database.superuser().await;
    let all = "SELECT partition_id, sequence FROM change_feed ORDER BY partition_id, event_id";
    sqlx::query_as(all).fetch_all(&mut conn).await.unwrap()
}

#[tokio::test]
async fn events_are_numbered_and_old_ones_removed() {
    let archive = Archive::new(&["north", "south"]).await;
    let [one, two, three, four] = ids();
    for (n, blob) in [one, two, three].into_iter().enumerate() {
        archive.store("north", blob, Sample::new(n as u32, 1, 1)).await;
    }
    archive.store("south", four, Sample::new(1, 1, 1)).await;
    let forever = keeper(&archive, Duration::ZERO);
    assert_eq!(forever.run_once().await.unwrap(), Done { items: 4, ..Done::default() });
    let of = |id: &str, sequence| (id.to_owned(), Some(sequence));
    let all = [of("north", 1), of("north", 2), of("north", 3), of("south", 1)];
    assert_eq!(feed(&archive).await, all);
    let mut conn = archive.database.superuser().await;
    let age = "UPDATE change_feed SET occurred_at = occurred_at - interval '2 days'
        WHERE sequence < 3";
    sqlx::raw_sql(age).execute(&mut conn).await.unwrap();
    assert_eq!(forever.run_once().await.unwrap(), Done::default());
    let daily = keeper(&archive, DAY);
    assert_eq!(daily.run_once().await.unwrap(), Done { items: 1, ..Done::default() });
    // The newest of what is old says up to where it is gone.
    assert_eq!(feed(&archive).await, [of("north", 2), of("north", 3), of("south", 1)]);
    assert_eq!(daily.run_once().await.unwrap(), Done::default());
}

#[tokio::test]
async fn what_has_no_number_is_not_removed() {
    let archive = Archive::new(&["north"]).await;
    let [one, two] = ids();
    archive.store("north", one, Sample::new(1, 1, 1)).await;
    archive.store("north", two, Sample::new(2, 1, 1)).await;
    let mut conn = archive.database.superuser().await;
    let age = "UPDATE change_feed SET occurred_at = occurred_at - interval '2 days'";
    sqlx::raw_sql(age).execute(&mut conn).await.unwrap();
    let mut tx = archive.database.db.begin_in(&postgres::scope("north")).await.unwrap();
    assert_eq!(tx.feed_forget(DAY, 10).await.unwrap(), 0);
    drop(tx);
    let daily = keeper(&archive, DAY);
    assert_eq!(daily.run_once().await.unwrap(), Done { items: 3, ..Done::default() });
    assert_eq!(feed(&archive).await, [("north".to_owned(), Some(2))]);
}
