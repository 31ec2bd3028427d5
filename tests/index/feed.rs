//! The change feed: numbers that a poller can rely on, whatever transactions do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use collimator::{
    index::{DbOptions, FeedAction, FeedEvent, FeedRange, FeedState},
    tenancy::Scope,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    data::{Sample, new_blob, store, store_in},
    postgres::{Database, scope},
    search::several,
};

/// Whether somebody waits for an advisory lock.
const WAITS: &str = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)";

fn above(after: i64, limit: i64) -> FeedRange {
    FeedRange { after, up_to: i64::MAX, limit, metadata: false }
}

/// Numbers what is committed in a partition.
async fn number(it: &Database, partition: &str, limit: i64) -> u64 {
    let mut tx = it.db.begin_numbering(&scope(partition)).await.unwrap();
    let numbered = tx.feed_number(limit).await.unwrap();
    tx.commit().await.unwrap();
    numbered
}

async fn page(it: &Database, partition: &str, range: FeedRange) -> Vec<FeedEvent> {
    let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
    let (events, is_cut) = tx.feed_page(&range).await.unwrap();
    assert!(!is_cut);
    events
}

async fn delete(it: &Database, partition: &str, sample: &Sample) {
    let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
    assert_eq!(tx.delete(&sample.target(), Duration::ZERO).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
}

fn sequences(events: &[FeedEvent]) -> Vec<i64> {
    events.iter().map(|event| event.sequence).collect()
}

fn states(events: &[FeedEvent]) -> Vec<(FeedAction, FeedState)> {
    events.iter().map(|event| (event.action, event.state)).collect()
}

#[tokio::test]
async fn events_are_counted_from_one_as_they_become_readable() {
    let it = Database::new().await;
    let mut slow = it.db.begin_in(&scope("a")).await.unwrap();
    store_in(&mut slow, &new_blob(), &[Sample::new(1, 1, 1)]).await.unwrap();
    store(&it.db, "a", &[Sample::new(2, 1, 1), Sample::new(2, 1, 2)]).await;
    store(&it.db, "b", &[Sample::new(3, 1, 1)]).await;
    assert!(it.db.begin_in(&scope("a")).await.unwrap().feed_pending().await.unwrap());
    assert!(page(&it, "a", above(0, 10)).await.is_empty());
    assert_eq!(number(&it, "a", 1).await, 1);
    assert_eq!(number(&it, "a", 10).await, 1);
    assert_eq!(number(&it, "a", 10).await, 0);
    // What was begun first and is committed last comes last.
    slow.commit().await.unwrap();
    assert_eq!(number(&it, "a", 10).await, 1);
    assert!(!it.db.begin_in(&scope("a")).await.unwrap().feed_pending().await.unwrap());
    let events = page(&it, "a", above(0, 10)).await;
    assert_eq!(sequences(&events), [1, 2, 3]);
    let studies: Vec<&str> = events.iter().map(|event| event.study.as_str()).collect();
    assert_eq!(studies, ["1.2.2", "1.2.2", "1.2.1"]);
    assert!(events.is_sorted_by_key(|event| event.occurred_at));
    assert_eq!(sequences(&page(&it, "a", above(1, 1)).await), [2]);
    assert_eq!(sequences(&page(&it, "a", FeedRange { up_to: 2, ..above(0, 10) }).await), [1, 2]);
    assert!(page(&it, "a", above(3, 10)).await.is_empty());
    assert_eq!(number(&it, "b", 10).await, 1);
    assert_eq!(sequences(&page(&it, "b", above(0, 10)).await), [1]);
}

#[tokio::test]
async fn states_follow_what_became_of_the_instance() {
    use FeedAction::{Create, Delete};
    use FeedState::{Current, Deleted, Replaced};
    let it = Database::new().await;
    let sample = Sample::new(1, 1, 1).json(r#"{"00080018":{"vr":"UI"}}"#);
    let mut expected = Vec::new();
    for (is_store, now) in [
        (true, vec![(Create, Current)]),
        (false, vec![(Create, Deleted), (Delete, Deleted)]),
        (true, vec![(Create, Replaced), (Delete, Replaced), (Create, Current)]),
        (false, vec![(Create, Deleted), (Delete, Deleted), (Create, Deleted), (Delete, Deleted)]),
    ] {
        if is_store {
            store(&it.db, "a", std::slice::from_ref(&sample)).await;
        } else {
            delete(&it, "a", &sample).await;
        }
        number(&it, "a", 10).await;
        let events = page(&it, "a", FeedRange { metadata: true, ..above(0, 10) }).await;
        assert_eq!(states(&events), now);
        for event in &events {
            assert_eq!(event.metadata.is_some(), event.state != Deleted, "{event:?}");
        }
        expected = now;
    }
    // The same UID in another study is another instance.
    let mut elsewhere = Sample::new(2, 1, 1);
    elsewhere.indexed.instance = sample.indexed.instance.clone();
    store(&it.db, "a", &[elsewhere]).await;
    number(&it, "a", 10).await;
    expected.push((Create, Current));
    let events = page(&it, "a", FeedRange { metadata: true, ..above(0, 10) }).await;
    assert_eq!(states(&events), expected);
    let with: Vec<bool> = events.iter().map(|event| event.metadata.is_some()).collect();
    assert_eq!(with, [false, false, false, false, true]);
}

#[tokio::test]
async fn an_update_is_told_as_one() {
    let it = Database::new().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    // As a later version of the same instance.
    let mut conn = it.superuser().await;
    let update = "
        UPDATE instance SET watermark = watermark + 100;
        INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
                sop_instance_uid, watermark)
            SELECT partition_id, 'update', study_instance_uid, series_instance_uid,
                sop_instance_uid, watermark + 100 FROM change_feed";
    sqlx::raw_sql(update).execute(&mut conn).await.unwrap();
    number(&it, "a", 10).await;
    let events = page(&it, "a", above(0, 10)).await;
    use FeedState::{Current, Replaced};
    assert_eq!(states(&events), [(FeedAction::Create, Replaced), (FeedAction::Update, Current)]);
}

#[tokio::test]
async fn metadata_ends_a_page_early_and_never_before_its_first_event() {
    let it = Database::new().await;
    let mut samples: Vec<Sample> = (1..=5).map(|n| Sample::new(1, 1, n)).collect();
    // Does not compress: half a MiB each.
    let mut noise = 1_u64;
    for sample in &mut samples {
        let text: String = (0..600_000)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'0' + (noise >> 33) as u8 % 64)
            })
            .filter(|c| *c != '\\' && *c != '"')
            .collect();
        *sample = sample.clone().json(&format!("{{\"00104000\":\"{text}\"}}"));
    }
    store(&it.db, "a", &samples).await;
    number(&it, "a", 10).await;
    let (mut after, mut found, mut pages) = (0, Vec::new(), 0);
    loop {
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        let range = FeedRange { metadata: true, ..above(after, 10) };
        let (events, is_cut) = tx.feed_page(&range).await.unwrap();
        found.extend(sequences(&events));
        after = found.last().copied().unwrap_or(0);
        pages += 1;
        if !is_cut {
            break;
        }
    }
    assert_eq!(found, [1, 2, 3, 4, 5]);
    assert!(pages > 1, "{pages}");
    let mut tx = it.db.begin(&several(&["a"])).await.unwrap();
    let keys = tx.feed_keys(&above(0, 10), None).await.unwrap();
    let (events, is_cut) = tx.feed_events(&keys, true).await.unwrap();
    assert!(is_cut && events.len() < 5);
}

/// The invariant: who remembers the last number he saw gets every event once and in order, while
/// many write, some of them slowly, and others number as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_poller_that_never_waits_gets_every_event_once() {
    const WRITERS: u32 = 10;
    const ROUNDS: u32 = 15;
    let it = Database::with(DbOptions { max_connections: 24, ..DbOptions::default() }).await;
    let ids = ["a", "b", "c"];
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = it.db.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let id = ids[((writer + round) % 3) as usize];
                    let batch: Vec<Sample> =
                        (0..=round % 3).map(|n| Sample::new(writer * 100 + round, 1, n)).collect();
                    let mut tx = db.begin_in(&scope(id)).await.unwrap();
                    store_in(&mut tx, &new_blob(), &batch).await.unwrap();
                    if (writer + round) % 4 == 0 {
                        // Others begin, commit and are read meanwhile.
                        for _ in 0..40 {
                            assert!(tx.partition_in_use().await.unwrap());
                            tokio::task::yield_now().await;
                        }
                    }
                    tx.commit().await.unwrap();
                    if round % 5 == 4 {
                        let mut tx = db.begin_in(&scope(id)).await.unwrap();
                        tx.delete(&batch[0].target(), Duration::ZERO).await.unwrap();
                        tx.commit().await.unwrap();
                    }
                }
            })
        })
        .collect();
    let written: u32 =
        WRITERS * (0..ROUNDS).map(|round| 1 + round % 3 + u32::from(round % 5 == 4)).sum::<u32>();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut pollers = Vec::new();
    for (at, id) in ids.into_iter().chain(ids).enumerate() {
        let (db, over) = (it.db.clone(), over.clone());
        // Of two that read a partition, one takes small pages.
        let limit = if at < ids.len() { 200 } else { 3 };
        pollers.push(tokio::spawn(async move {
            let mut seen: Vec<FeedEvent> = Vec::new();
            loop {
                let is_over = over.load(std::sync::atomic::Ordering::Acquire);
                if db.begin_in(&scope(id)).await.unwrap().feed_pending().await.unwrap() {
                    let mut tx = db.begin_numbering(&scope(id)).await.unwrap();
                    tx.feed_number(limit).await.unwrap();
                    tx.commit().await.unwrap();
                }
                let after = seen.last().map_or(0, |event| event.sequence);
                let mut tx = db.begin_in(&scope(id)).await.unwrap();
                let (events, _) = tx.feed_page(&above(after, limit)).await.unwrap();
                let is_end = events.is_empty();
                seen.extend(events);
                if is_over && is_end {
                    return seen;
                }
            }
        }));
    }
    let union = {
        let (db, over) = (it.db.clone(), over.clone());
        tokio::spawn(async move {
            let all: Scope = several(&ids);
            let mut seen: Vec<FeedEvent> = Vec::new();
            loop {
                let is_over = over.load(std::sync::atomic::Ordering::Acquire);
                let pending = db.begin(&all).await.unwrap().feed_unnumbered().await.unwrap();
                for one in pending {
                    let mut tx = db.begin_numbering(&one).await.unwrap();
                    tx.feed_number(50).await.unwrap();
                    tx.commit().await.unwrap();
                }
                let up_to = db.feed_horizon().await.unwrap();
                let after = seen.last().map_or(0, |event| event.position);
                let mut tx = db.begin(&all).await.unwrap();
                let range = FeedRange { up_to, ..above(after, 7) };
                let keys = tx.feed_keys(&range, None).await.unwrap();
                let (events, _) = tx.feed_events(&keys, false).await.unwrap();
                let is_end = events.is_empty();
                seen.extend(events);
                if is_over && is_end {
                    return seen;
                }
            }
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    over.store(true, std::sync::atomic::Ordering::Release);
    let mut of_one: BTreeMap<&str, Vec<Vec<FeedEvent>>> = BTreeMap::new();
    for (poller, id) in pollers.into_iter().zip(ids.into_iter().chain(ids)) {
        of_one.entry(id).or_default().push(poller.await.unwrap());
    }
    let mut all = BTreeSet::new();
    for seen in of_one.values().flatten() {
        let count = i64::try_from(seen.len()).unwrap();
        assert_eq!(sequences(seen), (1..=count).collect::<Vec<_>>());
        assert!(seen.is_sorted_by_key(|event| event.occurred_at));
        assert!(seen.is_sorted_by_key(|event| event.position));
        all.extend(seen.iter().map(|event| event.position));
    }
    for both in of_one.values() {
        assert_eq!(sequences(&both[0]), sequences(&both[1]));
    }
    assert_eq!(all.len() as u32, written);
    let union = union.await.unwrap();
    let positions: Vec<i64> = union.iter().map(|event| event.position).collect();
    assert_eq!(positions, all.into_iter().collect::<Vec<_>>());
    assert_committed_order(&of_one);
}

/// The changes of one instance are told in the order in which they happened.
fn assert_committed_order(of_one: &BTreeMap<&str, Vec<Vec<FeedEvent>>>) {
    let mut deleted = 0;
    for seen in of_one.values().flatten() {
        let mut stored = BTreeSet::new();
        for event in seen {
            match event.action {
                FeedAction::Create => assert!(stored.insert(&event.instance), "{event:?}"),
                _ => {
                    assert!(stored.remove(&event.instance), "{event:?}");
                    deleted += 1;
                }
            }
        }
    }
    assert!(deleted > 0);
}

#[tokio::test]
async fn stores_do_not_wait_for_who_numbers_nor_he_for_them() {
    let it = Database::new().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut writing = it.db.begin_store(&scope("a")).await.unwrap();
    store_in(&mut writing, &new_blob(), &[Sample::new(1, 1, 2)]).await.unwrap();
    let mut numbering = it.db.begin_numbering(&scope("a")).await.unwrap();
    assert_eq!(numbering.feed_number(10).await.unwrap(), 1);
    // Neither has ended: each would wait for ever for the other.
    let mut other = it.db.begin_store(&scope("a")).await.unwrap();
    store_in(&mut other, &new_blob(), &[Sample::new(1, 1, 3)]).await.unwrap();
    other.commit().await.unwrap();
    assert!(page(&it, "a", above(0, 10)).await.is_empty());
    // Others number other partitions meanwhile; who reads several waits until all have ended.
    store(&it.db, "b", &[Sample::new(1, 1, 1)]).await;
    assert_eq!(number(&it, "b", 10).await, 1);
    let db = it.db.clone();
    let horizon = tokio::spawn(async move { db.feed_horizon().await.unwrap() });
    let mut conn = it.superuser().await;
    while !sqlx::query_scalar::<_, bool>(WAITS).fetch_one(&mut conn).await.unwrap() {
        assert!(!horizon.is_finished());
    }
    numbering.commit().await.unwrap();
    assert!(horizon.await.unwrap() >= 2);
    writing.commit().await.unwrap();
    assert_eq!(number(&it, "a", 10).await, 2);
    assert_eq!(sequences(&page(&it, "a", above(0, 10)).await), [1, 2, 3]);
}

#[tokio::test]
async fn a_transaction_that_could_not_begin_leaves_no_broken_connection() {
    let options = DbOptions { max_connections: 1, ..DbOptions::default() };
    let it = Database::with(options).await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut other = it.superuser().await;
    let held = sqlx::query("SELECT pg_advisory_lock($1, 0)").bind(0x4346_4401_i32);
    held.execute(&mut other).await.unwrap();
    // Refused at a lock, behind its BEGIN.
    let Err(error) = it.db.begin_numbering(&scope("a")).await else { panic!("it did not wait") };
    assert!(error.is_retryable(), "{error:?}");
    // There is no other connection to take.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert!(tx.feed_pending().await.unwrap());
    drop(tx);
    // Nor does one that nobody waits for any more.
    let db = it.db.clone();
    let waiting = tokio::spawn(async move { db.begin_numbering(&scope("a")).await.map(drop) });
    while !sqlx::query_scalar::<_, bool>(WAITS).fetch_one(&mut other).await.unwrap() {
        assert!(!waiting.is_finished());
    }
    waiting.abort();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert!(tx.feed_pending().await.unwrap());
    drop(tx);
    let let_go = sqlx::query("SELECT pg_advisory_unlock($1, 0)").bind(0x4346_4401_i32);
    let_go.execute(&mut other).await.unwrap();
    assert_eq!(number(&it, "a", 10).await, 1);
}

async fn at(conn: &mut PgConnection, sql: &'static str) -> OffsetDateTime {
    sqlx::query_scalar(sql).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_span_that_was_closed_stays_as_it_was() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut slow = it.db.begin_in(&scope("a")).await.unwrap();
    store_in(&mut slow, &new_blob(), &[Sample::new(1, 1, 2)]).await.unwrap();
    number(&it, "a", 10).await;
    let end = at(&mut conn, "SELECT clock_timestamp()").await;
    let until = it.db.feed_close(end).await.unwrap();
    assert!(i128::from(until) >= end.unix_timestamp_nanos() / 1_000);
    let span = async |start, end| {
        it.db.begin_in(&scope("a")).await.unwrap().feed_span(start, end).await.unwrap()
    };
    assert_eq!(span(None, Some(end)).await, Some((1, 1)));
    assert_eq!(span(Some(end), None).await, None);
    // Begun within the span, committed after it was read.
    slow.commit().await.unwrap();
    number(&it, "a", 10).await;
    assert_eq!(span(None, Some(end)).await, Some((1, 1)));
    assert_eq!(span(Some(end), None).await, Some((2, 2)));
    assert_eq!(span(None, None).await, Some((1, 2)));
    // What is yet to come is not closed.
    let far = end + Duration::from_secs(3_600);
    let until = it.db.feed_close(far).await.unwrap();
    assert!(i128::from(until) < far.unix_timestamp_nanos() / 1_000);
    // The same in the order of several.
    let mut tx = it.db.begin(&several(&["a", "b"])).await.unwrap();
    let keys = tx.feed_keys(&above(0, 10), Some((None, Some(end)))).await.unwrap();
    assert_eq!(keys.len(), 1);
    let keys = tx.feed_keys(&above(0, 10), Some((Some(end), None))).await.unwrap();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn several_partitions_are_merged_by_position() {
    let it = Database::new().await;
    // One partition has nearly all, one has little, one has none.
    for n in 0..60 {
        let id = if n % 20 == 7 { "b" } else { "a" };
        store(&it.db, id, &[Sample::new(n, 1, 1)]).await;
        number(&it, id, 10).await;
    }
    let all = several(&["a", "b", "c"]);
    let horizon = it.db.feed_horizon().await.unwrap();
    assert_eq!(it.db.begin(&all).await.unwrap().feed_newest(horizon).await.unwrap(), Some(60));
    for limit in [1, 7, 59, 60, 200] {
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let mut tx = it.db.begin(&all).await.unwrap();
            let keys = tx.feed_keys(&above(after, limit), None).await.unwrap();
            let (events, _) = tx.feed_events(&keys, false).await.unwrap();
            assert_eq!(events.len(), keys.len());
            let Some(last) = events.last() else { break };
            after = last.position;
            found.extend(events.iter().map(|event| (event.position, event.study.to_string())));
        }
        let expected: Vec<_> = (0..60).map(|n| (i64::from(n) + 1, format!("1.2.{n}"))).collect();
        assert_eq!(found, expected, "{limit}");
    }
    let heads = it.db.begin(&all).await.unwrap().feed_heads().await.unwrap();
    let heads: Vec<_> = heads
        .iter()
        .map(|head| (head.partition.as_str(), head.sequence, head.position, head.is_pending))
        .collect();
    assert_eq!(heads, [("a", 57, 60, false), ("b", 3, 48, false), ("c", 0, 0, false)]);
    // A scope shows its own partitions only.
    let mut tx = it.db.begin(&several(&["b", "c"])).await.unwrap();
    assert_eq!(tx.feed_keys(&above(0, 200), None).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_old_goes_but_for_the_newest_of_it() {
    let it = Database::new().await;
    for n in 0..6 {
        store(&it.db, "a", &[Sample::new(n, 1, 1)]).await;
    }
    store(&it.db, "b", &[Sample::new(1, 1, 1)]).await;
    number(&it, "b", 10).await;
    number(&it, "a", 4).await;
    let mut conn = it.superuser().await;
    let age = "UPDATE change_feed SET occurred_at = occurred_at - interval '2 days'
        WHERE partition_id = 'a' AND sequence <= 3 OR sequence IS NULL";
    sqlx::raw_sql(age).execute(&mut conn).await.unwrap();
    let day = Duration::from_secs(86_400);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.feed_forget(day, 1).await.unwrap(), 1);
    assert_eq!(tx.feed_forget(day, 10).await.unwrap(), 1);
    assert_eq!(tx.feed_forget(day, 10).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(sequences(&page(&it, "a", above(0, 10)).await), [3, 4]);
    // What had no number keeps its place, and is not told to be older than what came before.
    assert_eq!(number(&it, "a", 10).await, 2);
    let events = page(&it, "a", above(3, 10)).await;
    assert_eq!(sequences(&events), [4, 5, 6]);
    assert!(events.is_sorted_by_key(|event| event.occurred_at));
    let mut tx = it.db.begin(&several(&["a", "b"])).await.unwrap();
    let third = tx.feed_keys(&above(0, 10), None).await.unwrap()[1].position();
    assert!(tx.feed_gone(0).await.unwrap() && tx.feed_gone(third - 1).await.unwrap());
    assert!(!tx.feed_gone(third).await.unwrap());
    assert!(!it.db.begin(&several(&["b"])).await.unwrap().feed_gone(0).await.unwrap());
    // All of it: the last one stays, so that the count goes on.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.feed_forget(Duration::ZERO, 10).await.unwrap(), 3);
    tx.commit().await.unwrap();
    store(&it.db, "a", &[Sample::new(9, 1, 1)]).await;
    number(&it, "a", 10).await;
    assert_eq!(sequences(&page(&it, "a", above(0, 10)).await), [6, 7]);
}
