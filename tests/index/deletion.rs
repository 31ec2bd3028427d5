//! Stores, deletes, undeletes, compactions and erasures at once leave the index whole, and every
//! byte that somebody may ask for is somewhere.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use collimator::index::{
    CompactionRule, Db, DbOptions, IndexError, NewBlob, NewInstance, PartitionTx, Planned,
    Presence, Stored, Target, Tombstone,
};
use uuid::Uuid;

use crate::{
    data::{Sample, is_new, series, store_in, study, study_uid},
    postgres::{Database, scope},
    races::{Dice, assert_whole},
};

const DAY: Duration = Duration::from_secs(86_400);
const ANY: CompactionRule = CompactionRule { dead_share: 0.01, min_bytes: 0 };

/// What must hold besides what always does, as queries that find what breaks it.
const BROKEN: &[(&str, &str)] = &[
    (
        "live instance without blob",
        "SELECT FROM instance i LEFT JOIN blob b USING (partition_id, blob_id) WHERE b.length IS NULL",
    ),
    (
        "instance beyond the end of its blob",
        "SELECT FROM instance i JOIN blob b USING (partition_id, blob_id) WHERE i.blob_offset + i.length > b.length",
    ),
    (
        "two instances at one place",
        "SELECT FROM instance GROUP BY partition_id, blob_id, blob_offset HAVING count(*) > 1",
    ),
    (
        "instance that can come back, of a blob that is going",
        "SELECT FROM deleted_instance d LEFT JOIN blob b USING (partition_id, blob_id) LEFT JOIN blob_removal r USING (partition_id, blob_id) WHERE d.restorable_until > now() AND b.length IS NULL AND (r.attempts IS DISTINCT FROM 0 OR r.due_at <= now() OR r.moved_to IS NOT NULL)",
    ),
    (
        "instance that lives twice over",
        "SELECT FROM deleted_instance d JOIN instance i USING (partition_id, blob_id, blob_offset) WHERE d.restorable_until > now()",
    ),
    (
        "dead blob with a live instance",
        "SELECT FROM blob_removal r JOIN instance i USING (partition_id, blob_id)",
    ),
    (
        "erased and known still",
        "SELECT FROM deleted_instance WHERE length = 0 AND (blob_offset <> 0 OR sha256 <> '' OR restorable_until IS NOT NULL)",
    ),
];

/// The files of each blob: (hash, offset, length), as the store would hold them.
type Store = Arc<Mutex<BTreeMap<Uuid, Vec<([u8; 32], u64, u64)>>>>;

fn put(store: &Store, blob: &NewBlob, samples: &[Sample]) {
    let mut at = 0;
    let mut files = Vec::new();
    for sample in samples {
        files.push((sample.sha256, at, sample.length));
        at += sample.length;
    }
    store.lock().unwrap().insert(blob.id, files);
}

async fn compact(db: &Db, store: &Store) -> Result<u64, IndexError> {
    let mut tx = db.begin_in(&scope("a")).await?;
    let Some(blob) = tx.compactions_due(1).await?.pop() else { return Ok(0) };
    let planned = tx.compaction_plan(blob, ANY).await?;
    tx.commit().await?;
    let Planned::Copy(plan) = planned else { return Ok(0) };
    // Nothing is left of the old one where all of it was deleted, and removed, meanwhile.
    let of = store.lock().unwrap().get(&plan.from).cloned().unwrap_or_default();
    let mut at = 0;
    let mut files = Vec::new();
    for kept in &plan.kept {
        let hash = kept.sha256.as_slice().try_into().unwrap();
        if of.contains(&(hash, kept.offset, kept.length)) {
            files.push((hash, at, kept.length));
        }
        at += kept.length;
    }
    store.lock().unwrap().insert(plan.into, files);
    let mut tx = db.begin_in(&scope("a")).await?;
    match tx.compaction_commit(&plan, Duration::ZERO).await {
        Ok(true) => {
            tx.commit().await?;
            Ok(1)
        }
        Ok(false) | Err(IndexError::Busy) => {
            drop(tx);
            let mut tx = db.begin_in(&scope("a")).await?;
            tx.compaction_failed(&plan, None).await?;
            tx.commit().await?;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Removes what is due, after a look that nobody may ask for it.
async fn remove(db: &Db, store: &Store) -> Result<u64, IndexError> {
    let mut tx = db.begin_in(&scope("a")).await?;
    let due = tx.blob_removals_due(3).await?;
    tx.commit().await?;
    for blob in &due {
        store.lock().unwrap().remove(blob);
    }
    let mut tx = db.begin_in(&scope("a")).await?;
    tx.blob_removed(&due).await?;
    tx.commit().await?;
    Ok(due.len() as u64)
}

async fn undelete(db: &Db, number: u32) -> Result<u64, IndexError> {
    let mut tx = db.begin_in(&scope("a")).await?;
    let (page, _) = tx.undelete_page(&study_uid(number), None, 100).await?;
    drop(tx);
    let mut blobs: BTreeMap<Uuid, Vec<Tombstone>> = BTreeMap::new();
    for tombstone in page.into_iter().filter(|one| one.is_restorable && !one.is_live) {
        blobs.entry(tombstone.blob).or_default().push(tombstone);
    }
    let mut back = 0;
    for (blob, tombstones) in blobs {
        let samples: Vec<Sample> = tombstones.iter().map(sample_of).collect();
        let news: Vec<NewInstance<'_>> = samples
            .iter()
            .zip(&tombstones)
            .map(|(sample, tombstone)| NewInstance {
                blob,
                indexed: &sample.indexed,
                metadata: b"metadata",
                offset: tombstone.offset,
                length: tombstone.length,
                sha256: tombstone.sha256.as_slice().try_into().unwrap(),
                received: None,
                rejects: None,
            })
            .collect();
        let watermarks: Vec<i64> = tombstones.iter().map(|one| one.watermark).collect();
        let mut tx = db.begin_store(&scope("a")).await?;
        match tx.undelete_batch(blob, &news, &watermarks, None).await {
            Ok(stored) => {
                let new = stored.iter().filter(|one| is_new(one)).count() as u64;
                if new > 0 {
                    tx.commit().await?;
                }
                back += new;
            }
            Err(IndexError::Spent | IndexError::Busy) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(back)
}

/// The sample that a tombstone is of, by its UID.
fn sample_of(tombstone: &Tombstone) -> Sample {
    let numbers: Vec<u32> =
        tombstone.instance.as_str().split('.').skip(2).map(|n| n.parse().unwrap()).collect();
    Sample::new(numbers[0], numbers[1], numbers[2])
}

fn target(dice: &mut Dice) -> Target {
    let (in_study, in_series) = (dice.below(3), dice.below(2));
    match dice.below(4) {
        0 => study(in_study),
        1 => series(in_study, in_series),
        _ => Sample::new(in_study, in_series, dice.below(6)).target(),
    }
}

async fn store_some(
    tx: &mut PartitionTx,
    dice: &mut Dice,
    files: &Store,
) -> Result<u64, IndexError> {
    let batch: Vec<Sample> =
        (0..6).map(|_| Sample::new(dice.below(3), dice.below(2), dice.below(6))).collect();
    let blob = NewBlob { id: Uuid::new_v4(), length: batch.iter().map(|one| one.length).sum() };
    put(files, &blob, &batch);
    let stored = store_in(tx, &blob, &batch).await?;
    Ok(stored.iter().filter(|one| matches!(one, Stored::New { .. })).count() as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_leaves_the_index_whole_and_every_byte_in_its_place() {
    let options = DbOptions { max_connections: 12, ..DbOptions::default() };
    let it = Database::with(options).await;
    let files = Store::default();
    let tasks: Vec<_> = (0..10_u64)
        .map(|task| {
            let (db, files) = (it.db.clone(), files.clone());
            tokio::spawn(async move {
                let mut dice = Dice(task);
                let mut counts = [0; 6];
                let mut done = 0;
                while done < 40 {
                    let what = dice.below(10);
                    let tried = async {
                        match what {
                            0..=3 => {
                                let mut tx = db.begin_in(&scope("a")).await?;
                                let new = store_some(&mut tx, &mut dice, &files).await?;
                                tx.commit().await?;
                                Ok((0, new))
                            }
                            4 | 5 => {
                                let grace = if dice.below(3) == 0 { Duration::ZERO } else { DAY };
                                let mut tx = db.begin_in(&scope("a")).await?;
                                let gone = tx.delete(&target(&mut dice), grace).await?;
                                tx.commit().await?;
                                Ok((1, gone.len() as u64))
                            }
                            6 => Ok((2, undelete(&db, dice.below(3)).await?)),
                            7 => Ok((3, compact(&db, &files).await?)),
                            8 => Ok((4, remove(&db, &files).await?)),
                            _ => {
                                let mut tx = db.begin_in(&scope("a")).await?;
                                let place =
                                    Sample::new(dice.below(3), dice.below(2), dice.below(6));
                                let erased = tx.erase(&place.target(), Uuid::new_v4(), "/").await?;
                                tx.erasures_settle().await?;
                                tx.commit().await?;
                                Ok((5, erased.live.len() as u64 + erased.deleted))
                            }
                        }
                    };
                    match tried.await {
                        Ok((at, count)) => {
                            counts[at] += count;
                            done += 1;
                        }
                        Err(IndexError::Busy) => {}
                        Err(error) => panic!("{what}: {error:?}"),
                    }
                }
                counts
            })
        })
        .collect();
    let mut counts = [0; 6];
    for task in tasks {
        for (all, count) in counts.iter_mut().zip(task.await.unwrap()) {
            *all += count;
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_whole(&it, &["deleted blob not queued"]).await;
    let mut conn = it.superuser().await;
    for (what, sql) in BROKEN {
        let found = sqlx::query(*sql).fetch_all(&mut conn).await.unwrap().len();
        assert_eq!(found, 0, "{what}");
    }
    // What lives, and what can come back, is in the store where its row says.
    let places = "SELECT blob_id, sha256, blob_offset, length FROM instance
        UNION ALL SELECT blob_id, sha256, blob_offset, length FROM deleted_instance
            WHERE restorable_until > now()";
    let places: Vec<(Uuid, Vec<u8>, i64, i64)> =
        sqlx::query_as(places).fetch_all(&mut conn).await.unwrap();
    let files = files.lock().unwrap();
    for (blob, sha256, offset, length) in places {
        let file = (sha256.try_into().unwrap(), offset as u64, length as u64);
        assert!(files.get(&blob).is_some_and(|files| files.contains(&file)), "{blob} {offset}");
    }
}

#[tokio::test]
async fn what_a_remover_has_claimed_does_not_come_back() {
    let it = Database::new().await;
    crate::data::store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&study(1), DAY).await.unwrap();
    tx.commit().await.unwrap();
    let mut conn = it.superuser().await;
    let due = "UPDATE blob_removal SET due_at = now()";
    sqlx::query(due).execute(&mut conn).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.blob_removals_due(10).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(undelete(&it.db, 1).await.unwrap(), 0);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.presence(&study(1)).await.unwrap(), Presence::Deleted);
}

#[tokio::test]
async fn what_came_back_is_as_if_it_had_just_been_stored() {
    let it = Database::new().await;
    crate::data::store(&it.db, "a", &[Sample::new(1, 1, 1), Sample::new(1, 2, 2)]).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&study(1), DAY).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(undelete(&it.db, 1).await.unwrap(), 2);
    assert_whole(&it, &[]).await;
    // Once: nothing is left to come back.
    assert_eq!(undelete(&it.db, 1).await.unwrap(), 0);
    // Deleted again it can come back again, as its last version.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.delete(&series(1, 1), DAY).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(undelete(&it.db, 1).await.unwrap(), 1);
    assert_whole(&it, &[]).await;
    let mut conn = it.superuser().await;
    let told = "SELECT action, count(*) FROM change_feed GROUP BY action ORDER BY action";
    let told: Vec<(String, i64)> = sqlx::query_as(told).fetch_all(&mut conn).await.unwrap();
    assert_eq!(told, [("create".to_owned(), 5), ("delete".to_owned(), 3)]);
}

#[tokio::test]
async fn a_grace_period_that_was_promised_is_kept_when_it_is_made_shorter() {
    let it = Database::new().await;
    crate::data::store(&it.db, "a", &[Sample::new(1, 1, 1), Sample::new(2, 1, 1)]).await;
    for (number, grace) in [(1, DAY), (2, Duration::ZERO)] {
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        tx.delete(&study(number), grace).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert!(tx.blob_removals_due(10).await.unwrap().is_empty());
    drop(tx);
    assert_eq!(undelete(&it.db, 1).await.unwrap(), 1);
    assert_eq!(undelete(&it.db, 2).await.unwrap(), 0);
}
