//! The scrubber: what it finds it keeps and clears, where it was it goes on, and what others work on
//! it leaves to them.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use collimator::{
    blob::BlobStore,
    config::{ScrubConfig, SweepConfig},
    index::Db,
    workers::{Done, Scrub, Worker},
};
use sqlx::Row;

use super::{DAY, file, fill, instance, sql};
use crate::harness::{PARTITIONS, Server, until};

/// A server whose own scrubber rests.
async fn server() -> (Server, Db, BlobStore) {
    let settings = [PARTITIONS[0], ("store.own_blob_bytes", "64KiB"), ("scrub.interval", "0s")];
    let server = Server::with(&settings).await;
    let (db, blobs) = server.parts().await;
    (server, db, blobs)
}

fn scrub(db: &Db, blobs: &BlobStore, rate: u64) -> Scrub {
    let config = ScrubConfig { interval: 30 * DAY, rate };
    let sweep = SweepConfig { interval: DAY, orphan_grace: DAY };
    Scrub::new(db.clone(), blobs.clone(), &config, &sweep)
}

const FAST: u64 = 1 << 40;

async fn run(db: &Db, blobs: &BlobStore) -> Done {
    scrub(db, blobs, FAST).run_once().await.unwrap()
}

fn flip(path: &PathBuf, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize + 500] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What the table of damage has: partition, kind, subject, whether it is open.
async fn damage(server: &Server) -> Vec<(String, String, bool)> {
    let mut conn = server.superuser().await;
    let rows = sqlx::query(
        "SELECT partition_id, kind, cleared_at IS NULL FROM damage ORDER BY partition_id, subject",
    );
    let rows = rows.fetch_all(&mut conn).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// Has the next pass fall due.
async fn pass_time(server: &Server) {
    sql(server, "UPDATE scrub_pass SET created_at = created_at - interval '31 days'").await;
}

#[tokio::test]
async fn damage_is_kept_until_it_is_gone() {
    let (server, db, blobs) = server().await;
    for partition in ["north", "south"] {
        fill(&server, partition).await;
    }
    run(&db, &blobs).await;
    assert!(damage(&server).await.is_empty());
    let (path, offset) = file(&server, "north", "1.2.1.1.2").await;
    flip(&path, offset);
    // Nothing is due for a month.
    let done = run(&db, &blobs).await;
    assert_eq!((done.items, done.more), (0, false));
    assert!(done.again.is_some_and(|again| again > 29 * DAY));
    assert!(damage(&server).await.is_empty());

    let open = vec![("north".to_owned(), "bytes_differ".to_owned(), true)];
    for _ in 0..2 {
        pass_time(&server).await;
        run(&db, &blobs).await;
        assert_eq!(damage(&server).await, open, "once, however often it is seen");
    }
    flip(&path, offset);
    pass_time(&server).await;
    run(&db, &blobs).await;
    let cleared = vec![("north".to_owned(), "bytes_differ".to_owned(), false)];
    assert_eq!(damage(&server).await, cleared);
    flip(&path, offset);
    pass_time(&server).await;
    run(&db, &blobs).await;
    assert_eq!(damage(&server).await, open, "it is back");
    let again = "SELECT count(*) FROM damage WHERE found_at = seen_at";
    assert_eq!(server.count(again).await, 1);
    let passes = "SELECT count(*) FROM scrub_pass WHERE partition_id = 'north'";
    assert!(server.count(passes).await <= 2);
    assert_eq!(server.count("SELECT count(*) FROM scrub_pass WHERE ended_at IS NULL").await, 0);
}

#[tokio::test]
async fn a_pass_goes_on_where_it_was_cut_short() {
    let (server, db, blobs) = server().await;
    for n in 1..=6 {
        let mut large = instance(1, 1, n);
        large.pixels((0..40_000).map(|p| p as u16 ^ n as u16).collect());
        server.store("/partitions/north/studies", &[large.file()]).await.is(200);
    }
    let ids = "SELECT blob_id::text FROM blob ORDER BY blob_id";
    let mut conn = server.superuser().await;
    let ids: Vec<String> = sqlx::query_scalar(ids).fetch_all(&mut conn).await.unwrap();
    let place = |after: &str| ids.iter().position(|id| id == after);
    let reached = async || {
        let cursor = "SELECT cursor ->> 'after' FROM scrub_pass
            WHERE partition_id = 'north' AND cursor ->> 'stage' = 'blobs'";
        let mut conn = server.superuser().await;
        let after: Option<String> =
            sqlx::query_scalar(cursor).fetch_optional(&mut conn).await.unwrap();
        after.and_then(|after| place(&after))
    };
    // A blob a second; dropped as soon as one is done, as a kill would.
    let slow = scrub(&db, &blobs, 80 << 10);
    tokio::select! {
        done = slow.run_once() => panic!("{done:?}"),
        () = until("a blob is done", async || reached().await.is_some()) => {}
    }
    let reached = reached().await.unwrap();
    assert!(reached < 5, "{reached}");
    let paths: BTreeSet<PathBuf> = server.blobs("north");
    for id in [&ids[reached], &ids[5]] {
        flip(paths.iter().find(|path| path.ends_with(id)).unwrap(), 0);
    }
    // Whoever holds it is believed to live for a while.
    let done = run(&db, &blobs).await;
    assert!(!done.more && done.again.is_some_and(|again| again <= Duration::from_secs(60)));
    assert!(damage(&server).await.is_empty());
    sql(&server, "UPDATE scrub_pass SET lease_until = now() WHERE ended_at IS NULL").await;
    run(&db, &blobs).await;
    let found = "SELECT count(*) FROM damage WHERE kind = 'bytes_differ'";
    assert_eq!(server.count(found).await, 1, "what was looked at is not looked at again");
    let passes = "SELECT count(*) FROM scrub_pass WHERE partition_id = 'north'";
    assert_eq!(server.count(passes).await, 1);
    pass_time(&server).await;
    run(&db, &blobs).await;
    assert_eq!(server.count(found).await, 2);
}

#[tokio::test]
async fn servers_share_the_partitions() {
    let (server, db, blobs) = server().await;
    for partition in ["a", "b", "c", "d"] {
        fill(&server, partition).await;
    }
    let (one, other) = (scrub(&db, &blobs, FAST), scrub(&db, &blobs, FAST));
    let (one, other) = tokio::join!(one.run_once(), other.run_once());
    // Four instances and two blobs in each, none of them twice.
    assert_eq!(one.unwrap().items + other.unwrap().items, 4 * 6);
    let passes = "SELECT count(*) FROM scrub_pass WHERE ended_at IS NOT NULL";
    let partitions = server.count("SELECT count(*) FROM partition").await;
    assert_eq!(server.count(passes).await, partitions);
    assert!(damage(&server).await.is_empty());
}
