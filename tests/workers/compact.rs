//! The compactor: what lives of a blob moves byte for byte, whatever comes between, and an erasure
//! leaves no byte.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use collimator::{
    config::{CompactionConfig, DeleteConfig},
    index::{
        CompactionPlan, CompactionRule, NewBlob, NewInstance, Operation, OperationFilter,
        OperationKind, OperationState, Planned, Target,
    },
    workers::{Compact, Done, Remove, Worker},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Archive, DAY, Sample, data, ids, postgres::scope};

const P: &str = "north";
const ANY: CompactionRule = CompactionRule { dead_share: 0.01, min_bytes: 0 };

/// A sample with a file of its own.
fn sample(study: u32, n: u32) -> Sample {
    let mut sample = Sample::new(study, 1, n);
    let bytes = file(study, n);
    sample.length = bytes.len() as u64;
    sample.sha256 = Sha256::digest(&bytes).into();
    sample
}

fn file(study: u32, n: u32) -> Vec<u8> {
    let mut seed = u64::from(study) << 32 | u64::from(n);
    let byte = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (0..50_000 + n).map(byte).collect()
}

/// Puts files of instances (study, number) into one blob, and stores them.
async fn fill(archive: &Archive, blob: Uuid, instances: &[(u32, u32)]) {
    let bytes = instances.iter().map(|(study, n)| Bytes::from(file(*study, *n))).collect();
    archive.within(P).put(blob, bytes).await.unwrap();
    let samples: Vec<Sample> = instances.iter().map(|(study, n)| sample(*study, *n)).collect();
    let length = samples.iter().map(|sample| sample.length).sum();
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    let stored = data::store_in(&mut tx, &NewBlob { id: blob, length }, &samples).await.unwrap();
    assert!(stored.iter().all(data::is_new));
    tx.commit().await.unwrap();
}

fn compactor(archive: &Archive, dead_share: f64) -> Compact {
    let config = CompactionConfig { dead_share, min_bytes: 0, linger: Duration::ZERO };
    Compact::new(archive.database.db.clone(), archive.store.clone(), &config)
}

fn remover(archive: &Archive) -> Remove {
    Remove::new(archive.database.db.clone(), archive.store.clone(), &DeleteConfig::default())
}

/// Makes all that waits for a time due now.
async fn make_due(archive: &Archive) {
    let mut conn = archive.database.superuser().await;
    let due = "UPDATE blob_compaction SET due_at = now();
        UPDATE operation SET lease_until = now(), next_attempt_at = now() WHERE ended_at IS NULL";
    sqlx::raw_sql(due).execute(&mut conn).await.unwrap();
}

/// Where the live instance is, and that its bytes are its own.
async fn assert_whole(archive: &Archive, study: u32, n: u32) -> Uuid {
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    let target = sample(study, n).target();
    let located = tx.instances_page(&target, None, i64::MAX, 1).await.unwrap().remove(0);
    let range = located.offset..located.offset + located.length;
    let bytes = archive.within(P).read_all(located.blob, range).await.unwrap();
    assert!(bytes == file(study, n), "{study}.{n}");
    located.blob
}

async fn queued(archive: &Archive) -> i64 {
    let mut conn = archive.database.superuser().await;
    let count = sqlx::query_scalar("SELECT count(*) FROM blob_compaction");
    count.fetch_one(&mut conn).await.unwrap()
}

async fn erase(archive: &Archive, target: &Target) -> Uuid {
    let id = Uuid::new_v4();
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    let erased = tx.erase(target, id, "/studies/1").await.unwrap();
    assert!(!erased.live.is_empty() || erased.deleted > 0);
    tx.commit().await.unwrap();
    id
}

async fn operation(archive: &Archive, id: Uuid) -> Operation {
    let mut tx = archive.database.db.begin(&scope(P)).await.unwrap();
    tx.operation(id, DAY).await.unwrap().unwrap()
}

/// Does not find a byte of an instance in any file of the partition.
async fn assert_nowhere(archive: &Archive, study: u32, n: u32) {
    let needle = &file(study, n)[..4_000];
    for blob in archive.blobs(P).await {
        let bytes = std::fs::read(archive.file(P, blob)).unwrap();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{blob}");
    }
}

#[tokio::test]
async fn what_lives_of_a_mostly_dead_blob_moves_byte_for_byte() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (2, 3), (1, 4), (2, 5)]).await;
    for (study, n) in [(1, 1), (2, 3), (1, 4)] {
        archive.delete(P, &sample(study, n), Duration::ZERO).await;
    }
    let compactor = compactor(&archive, 0.45);
    assert_eq!(compactor.run_once().await.unwrap(), Done { items: 1, ..Done::default() });
    let new = assert_whole(&archive, 1, 2).await;
    assert_eq!(assert_whole(&archive, 2, 5).await, new);
    assert_ne!(new, blob);
    // The old one stays for those who know it, until it is due.
    assert_eq!(archive.blobs(P).await, BTreeSet::from([blob, new]));
    assert_eq!(remover(&archive).run_once().await.unwrap().items, 1);
    assert_eq!(archive.blobs(P).await, BTreeSet::from([new]));
    let size = std::fs::metadata(archive.file(P, new)).unwrap().len();
    assert_eq!(size, (file(1, 2).len() + file(2, 5).len()) as u64);
    assert_eq!((queued(&archive).await, archive.awaiting_removal().await), (0, 0));
    assert_eq!(compactor.run_once().await.unwrap(), Done::default());
    // And the new one can be rewritten again, and go.
    archive.delete(P, &sample(1, 2), Duration::ZERO).await;
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    assert_ne!(assert_whole(&archive, 2, 5).await, new);
    archive.delete(P, &sample(2, 5), Duration::ZERO).await;
    compactor.run_once().await.unwrap();
    remover(&archive).run_once().await.unwrap();
    assert!(archive.blobs(P).await.is_empty());
    assert_eq!((queued(&archive).await, archive.awaiting_removal().await), (0, 0));
}

#[tokio::test]
async fn a_blob_below_the_share_stays_until_more_of_it_is_dead() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (1, 3), (1, 4)]).await;
    let compactor = compactor(&archive, 0.45);
    archive.delete(P, &sample(1, 1), Duration::ZERO).await;
    compactor.run_once().await.unwrap();
    assert_eq!((assert_whole(&archive, 1, 2).await, queued(&archive).await), (blob, 0));
    archive.delete(P, &sample(1, 2), Duration::ZERO).await;
    compactor.run_once().await.unwrap();
    assert_ne!(assert_whole(&archive, 1, 3).await, blob);
}

#[tokio::test]
async fn what_can_come_back_moves_along_until_it_cannot() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (1, 3), (1, 4)]).await;
    archive.delete(P, &sample(1, 1), DAY).await;
    archive.delete(P, &sample(1, 2), Duration::ZERO).await;
    archive.delete(P, &sample(1, 3), Duration::ZERO).await;
    make_due(&archive).await;
    let compactor = compactor(&archive, 0.45);
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    let new = assert_whole(&archive, 1, 4).await;
    let study = data::study_uid(1);
    let restorable = async || {
        let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
        let page = tx.undelete_page(&study, None, 10).await.unwrap().0;
        page.into_iter().filter(|one| one.is_restorable).collect::<Vec<_>>()
    };
    let kept = restorable().await;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].blob, kept[0].length), (new, sample(1, 1).length));
    let range = kept[0].offset..kept[0].offset + kept[0].length;
    assert!(archive.within(P).read_all(new, range).await.unwrap() == file(1, 1));
    // Its time is over: the rest is worth rewriting.
    let mut conn = archive.database.superuser().await;
    let over = "UPDATE deleted_instance SET restorable_until = now() - interval '1 second'
        WHERE restorable_until IS NOT NULL";
    sqlx::query(over).execute(&mut conn).await.unwrap();
    make_due(&archive).await;
    assert!(restorable().await.is_empty());
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    assert_ne!(assert_whole(&archive, 1, 4).await, new);
    remover(&archive).run_once().await.unwrap();
    assert_nowhere(&archive, 1, 1).await;
}

#[tokio::test]
async fn what_stays_dead_of_a_blob_that_came_back_is_rewritten() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (1, 3), (2, 4)]).await;
    for n in 1..=3 {
        archive.delete(P, &sample(1, n), Duration::ZERO).await;
    }
    archive.delete(P, &sample(2, 4), DAY).await;
    // All of it is dead, and leaves as a whole.
    let compactor = compactor(&archive, 0.45);
    assert_eq!(compactor.run_once().await.unwrap().items, 0);
    assert_eq!((queued(&archive).await, archive.awaiting_removal().await), (0, 1));
    let mut tx = archive.database.db.begin_store(&scope(P)).await.unwrap();
    let (page, _) = tx.undelete_page(&data::study_uid(2), None, 10).await.unwrap();
    let (back, tombstone) = (sample(2, 4), &page[0]);
    let new = NewInstance {
        blob,
        indexed: &back.indexed,
        metadata: b"metadata",
        offset: tombstone.offset,
        length: tombstone.length,
        sha256: back.sha256,
        received: None,
        rejects: None,
    };
    tx.undelete_batch(blob, &[new], &[tombstone.watermark], None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(assert_whole(&archive, 2, 4).await, blob);
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    assert_ne!(assert_whole(&archive, 2, 4).await, blob);
    assert_eq!(queued(&archive).await, 0);
}

async fn planned(archive: &Archive, blob: Uuid) -> CompactionPlan {
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    let Planned::Copy(plan) = tx.compaction_plan(blob, ANY).await.unwrap() else {
        panic!("nothing to do")
    };
    tx.commit().await.unwrap();
    plan
}

async fn copied(archive: &Archive, plan: &CompactionPlan) {
    let blobs = archive.within(P);
    let mut files = Vec::new();
    for kept in &plan.kept {
        let range = kept.offset..kept.offset + kept.length;
        files.push(blobs.read_all(plan.from, range).await.unwrap());
    }
    blobs.put(plan.into, files).await.unwrap();
}

#[tokio::test]
async fn killed_before_or_after_the_copy_it_is_done_anew_and_nothing_is_left_behind() {
    for has_copied in [false, true] {
        let archive = Archive::new(&[P]).await;
        let [blob] = ids();
        fill(&archive, blob, &[(1, 1), (1, 2), (1, 3)]).await;
        archive.delete(P, &sample(1, 1), Duration::ZERO).await;
        archive.delete(P, &sample(1, 2), Duration::ZERO).await;
        let plan = planned(&archive, blob).await;
        if has_copied {
            copied(&archive, &plan).await;
        }
        // Everything that is in the store is known.
        let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
        assert_eq!(tx.blobs_known(&[blob, plan.into]).await.unwrap().len(), 2);
        drop(tx);
        let (compactor, remover) = (compactor(&archive, 0.45), remover(&archive));
        make_due(&archive).await;
        // The copy has to go first.
        assert_eq!(compactor.run_once().await.unwrap().items, 0);
        assert_eq!(assert_whole(&archive, 1, 3).await, blob);
        remover.run_once().await.unwrap();
        make_due(&archive).await;
        assert_eq!(compactor.run_once().await.unwrap().items, 1);
        let new = assert_whole(&archive, 1, 3).await;
        remover.run_once().await.unwrap();
        assert_eq!(archive.blobs(P).await, BTreeSet::from([new]), "{has_copied}");
        assert_eq!((queued(&archive).await, archive.awaiting_removal().await), (0, 0));
    }
}

#[tokio::test]
async fn one_that_comes_late_moves_nothing() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (1, 3)]).await;
    archive.delete(P, &sample(1, 1), Duration::ZERO).await;
    let late = planned(&archive, blob).await;
    copied(&archive, &late).await;
    // Its copy was removed, or its removal begun, since it was away for so long.
    let mut conn = archive.database.superuser().await;
    let away = "UPDATE blob_removal SET due_at = now()";
    sqlx::query(away).execute(&mut conn).await.unwrap();
    remover(&archive).run_once().await.unwrap();
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    assert!(!tx.compaction_commit(&late, Duration::ZERO).await.unwrap());
    drop(tx);
    assert_eq!(assert_whole(&archive, 1, 2).await, blob);
    make_due(&archive).await;
    assert_eq!(compactor(&archive, 0.1).run_once().await.unwrap().items, 1);
    // The other one's was the way it went: this one finds nothing to move.
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    assert!(!tx.compaction_commit(&late, Duration::ZERO).await.unwrap());
    drop(tx);
    assert_whole(&archive, 1, 2).await;
    assert_whole(&archive, 1, 3).await;
}

#[tokio::test]
async fn a_store_that_fails_or_bytes_that_are_damaged_leave_the_blob_as_it_is() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (1, 2), (1, 3)]).await;
    archive.delete(P, &sample(1, 1), Duration::ZERO).await;
    let (path, compactor) = (archive.file(P, blob), compactor(&archive, 0.1));
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let failed = Done { failed: 1, ..Done::default() };
    assert_eq!(compactor.run_once().await.unwrap(), failed);
    let seen = async || {
        let mut conn = archive.database.superuser().await;
        let seen = "SELECT attempts, error FROM blob_compaction";
        sqlx::query_as::<_, (i32, String)>(seen).fetch_one(&mut conn).await.unwrap()
    };
    assert_eq!(seen().await, (1, "a file in the blob is damaged".to_owned()));
    let mut tx = archive.database.db.begin(&scope(P)).await.unwrap();
    let error = &tx.removals((10, 0)).await.unwrap()[0].errors[0];
    assert_eq!((&error["blob"], &error["kind"]), (&blob.to_string().into(), &"compact".into()));
    let filter = OperationFilter { kind: Some(OperationKind::Compact), state: None };
    let told = tx.operations(filter, (10, 0)).await.unwrap().remove(0);
    assert_eq!((told.state, told.processed, told.failed), (OperationState::Failed, 0, 1));
    drop(tx);
    // No copy of it is left.
    let remover = remover(&archive);
    remover.run_once().await.unwrap();
    assert_eq!(archive.blobs(P).await, BTreeSet::from([blob]));
    // The store is away.
    std::fs::remove_file(&path).unwrap();
    make_due(&archive).await;
    assert_eq!(compactor.run_once().await.unwrap(), failed);
    assert_eq!(seen().await.0, 2);
    // And back.
    std::fs::write(&path, &whole).unwrap();
    remover.run_once().await.unwrap();
    make_due(&archive).await;
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    for n in [2, 3] {
        assert_ne!(assert_whole(&archive, 1, n).await, blob);
    }
}

#[tokio::test]
async fn an_erasure_rewrites_whatever_the_share_and_ends_when_no_byte_is_left() {
    let archive = Archive::new(&[P]).await;
    let [shared, alone] = ids();
    fill(&archive, shared, &[(1, 1), (2, 2), (2, 3), (2, 4), (2, 5)]).await;
    fill(&archive, alone, &[(1, 6)]).await;
    let id = erase(&archive, &data::study(1)).await;
    let begun = operation(&archive, id).await;
    assert_eq!((begun.processed, begun.total), (0, Some(2)));
    assert!(!begun.state.has_ended());
    let (compactor, remover) = (compactor(&archive, 1.0), remover(&archive));
    remover.run_once().await.unwrap();
    let half = operation(&archive, id).await;
    assert_eq!((half.state, half.processed), (OperationState::Running, 1));
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    remover.run_once().await.unwrap();
    let ended = operation(&archive, id).await;
    assert_eq!((ended.state, ended.processed), (OperationState::Succeeded, 2));
    for n in [1, 6] {
        assert_nowhere(&archive, 1, n).await;
    }
    for n in 2..=5 {
        assert_whole(&archive, 2, n).await;
    }
    // Nothing of it can come back, and nothing says where it was.
    let mut conn = archive.database.superuser().await;
    let wiped = "SELECT count(*) FROM deleted_instance WHERE restorable_until IS NULL
        AND blob_offset = 0 AND length = 0 AND sha256 = ''";
    let count: i64 = sqlx::query_scalar(wiped).fetch_one(&mut conn).await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn an_erasure_spares_what_others_can_still_get_back() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (2, 2)]).await;
    archive.delete(P, &sample(1, 1), DAY).await;
    archive.delete(P, &sample(2, 2), DAY).await;
    // All of the blob is dead, and both could come back. Now one cannot any more.
    let id = erase(&archive, &data::study(1)).await;
    let (compactor, remover) = (compactor(&archive, 1.0), remover(&archive));
    remover.run_once().await.unwrap();
    assert_eq!(archive.blobs(P).await, BTreeSet::from([blob]));
    assert_eq!(compactor.run_once().await.unwrap().items, 1);
    remover.run_once().await.unwrap();
    assert_eq!(operation(&archive, id).await.state, OperationState::Succeeded);
    assert_nowhere(&archive, 1, 1).await;
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    let (page, _) = tx.undelete_page(&data::study_uid(2), None, 10).await.unwrap();
    assert!(page[0].is_restorable);
    let range = page[0].offset..page[0].offset + page[0].length;
    let bytes = archive.within(P).read_all(page[0].blob, range).await.unwrap();
    assert!(bytes == file(2, 2));
}

#[tokio::test]
async fn an_erasure_meets_a_compaction_halfway() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (2, 2), (2, 3)]).await;
    archive.delete(P, &sample(2, 2), Duration::ZERO).await;
    let plan = planned(&archive, blob).await;
    copied(&archive, &plan).await;
    let id = erase(&archive, &data::study(1)).await;
    assert_eq!(operation(&archive, id).await.total, Some(2), "the copy as well");
    // What was copied must not be named any more.
    let mut tx = archive.database.db.begin_in(&scope(P)).await.unwrap();
    assert!(!tx.compaction_commit(&plan, Duration::ZERO).await.unwrap());
    drop(tx);
    let (compactor, remover) = (compactor(&archive, 1.0), remover(&archive));
    for _ in 0..3 {
        make_due(&archive).await;
        compactor.run_once().await.unwrap();
        remover.run_once().await.unwrap();
    }
    assert_eq!(operation(&archive, id).await.state, OperationState::Succeeded);
    assert_nowhere(&archive, 1, 1).await;
    assert_whole(&archive, 2, 3).await;
}

#[tokio::test]
async fn an_erasure_waits_for_the_blob_that_its_instance_was_moved_from() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (2, 2), (2, 3)]).await;
    archive.delete(P, &sample(2, 2), Duration::ZERO).await;
    let config = CompactionConfig { dead_share: 0.1, min_bytes: 0, linger: DAY };
    let lingers = Compact::new(archive.database.db.clone(), archive.store.clone(), &config);
    assert_eq!(lingers.run_once().await.unwrap().items, 1);
    let id = erase(&archive, &data::study(1)).await;
    let remover = remover(&archive);
    compactor(&archive, 1.0).run_once().await.unwrap();
    remover.run_once().await.unwrap();
    // The first blob lingers for those who read it, with the bytes.
    assert!(archive.blobs(P).await.contains(&blob));
    assert_eq!(operation(&archive, id).await.state, OperationState::Running);
    let mut conn = archive.database.superuser().await;
    let over = "UPDATE blob_removal SET due_at = now()";
    sqlx::query(over).execute(&mut conn).await.unwrap();
    remover.run_once().await.unwrap();
    assert_eq!(operation(&archive, id).await.state, OperationState::Succeeded);
    assert_nowhere(&archive, 1, 1).await;
    assert_whole(&archive, 2, 3).await;
}

#[tokio::test]
async fn an_erasure_that_cannot_be_done_says_so() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1)]).await;
    let path = archive.file(P, blob);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let id = erase(&archive, &data::study(1)).await;
    let remover = remover(&archive);
    remover.run_once().await.unwrap();
    assert!(!operation(&archive, id).await.state.has_ended());
    let mut conn = archive.database.superuser().await;
    let tried = "UPDATE blob_removal SET due_at = now(), attempts = 9";
    sqlx::query(tried).execute(&mut conn).await.unwrap();
    remover.run_once().await.unwrap();
    let failed = operation(&archive, id).await;
    assert_eq!(failed.state, OperationState::Failed);
    assert!(failed.error.unwrap().starts_with("1 blobs"));
    // Asked for again, when the store works: it is found by its tombstone.
    std::fs::remove_dir(&path).unwrap();
    let id = erase(&archive, &data::study(1)).await;
    remover.run_once().await.unwrap();
    assert_eq!(operation(&archive, id).await.state, OperationState::Succeeded);
}

#[tokio::test]
async fn an_erasure_that_is_asked_for_again_waits_for_what_could_not_be_removed() {
    let archive = Archive::new(&[P]).await;
    let [blob] = ids();
    fill(&archive, blob, &[(1, 1), (2, 2)]).await;
    let first = erase(&archive, &data::study(1)).await;
    assert_eq!(compactor(&archive, 1.0).run_once().await.unwrap().items, 1);
    // What was replaced cannot be removed.
    let path = archive.file(P, blob);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut conn = archive.database.superuser().await;
    let tried = "UPDATE blob_removal SET due_at = now(), attempts = 9";
    sqlx::query(tried).execute(&mut conn).await.unwrap();
    let remover = remover(&archive);
    remover.run_once().await.unwrap();
    assert_eq!(operation(&archive, first).await.state, OperationState::Failed);
    // That it failed so often before is no failure of this one; it is tried at once.
    let again = erase(&archive, &data::study(1)).await;
    assert_eq!(remover.run_once().await.unwrap().failed, 1);
    assert!(!operation(&archive, again).await.state.has_ended());
    std::fs::remove_dir(&path).unwrap();
    let due = "UPDATE blob_removal SET due_at = now()";
    sqlx::query(due).execute(&mut conn).await.unwrap();
    remover.run_once().await.unwrap();
    assert_eq!(operation(&archive, again).await.state, OperationState::Succeeded);
    assert_whole(&archive, 2, 2).await;
}
