//! The sweeper removes what no row knows, and nothing else.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use collimator::{
    config::SweepConfig,
    workers::{Done, Sweep, Worker},
};

use crate::{Archive, DAY, Sample, ids};

async fn sweep(archive: &Archive) -> Done {
    let config = SweepConfig { interval: DAY, orphan_grace: DAY };
    let sweep = Sweep::new(archive.database.db.clone(), archive.store.clone(), &config);
    sweep.run_once().await.unwrap()
}

#[tokio::test]
async fn only_old_blobs_that_no_row_knows_go() {
    let archive = Archive::new(&["north", "south"]).await;
    let [live, deleted, orphan, young, foreign] = ids();
    let (kept, gone) = (Sample::new(1, 1, 1), Sample::new(2, 1, 1));
    archive.store("north", live, kept).await;
    archive.store("north", deleted, gone.clone()).await;
    archive.delete("north", &gone, 3 * DAY).await;
    archive.put("north", orphan).await;
    archive.put("north", young).await;
    // The same id in two partitions: a row of one does not vouch for the other's bytes.
    archive.store("south", foreign, Sample::new(3, 1, 1)).await;
    archive.put("north", foreign).await;
    for blob in [live, deleted, orphan, foreign] {
        archive.age("north", blob, 2 * DAY);
    }
    archive.age("south", foreign, 2 * DAY);
    archive.age("north", young, DAY - Duration::from_secs(600));

    assert_eq!(sweep(&archive).await, Done { items: 2, failed: 0, more: false, again: None });
    assert_eq!(archive.blobs("north").await, BTreeSet::from([live, deleted, young]));
    assert_eq!(archive.blobs("south").await, BTreeSet::from([foreign]));
    assert_eq!(sweep(&archive).await, Done::default());
}

#[tokio::test]
async fn blobs_of_non_patient_instances_are_known_until_their_grace_is_over() {
    let archive = Archive::new(&["north", "south"]).await;
    let [live, deleted, orphan, foreign] = ids();
    archive.store_palette("north", live, "1.2.1").await;
    archive.store_palette("north", deleted, "1.2.2").await;
    archive.store_palette("south", foreign, "1.2.3").await;
    archive.put("north", orphan).await;
    archive.put("north", foreign).await;
    for blob in [live, deleted, orphan, foreign] {
        archive.age("north", blob, 2 * DAY);
    }
    let mut tx = archive.database.db.begin_in(&crate::postgres::scope("north")).await.unwrap();
    let instance = "1.2.2".parse().unwrap();
    assert!(tx.non_patient_delete("color-palettes", &instance, DAY).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(sweep(&archive).await.items, 2);
    // What was deleted is the remover's, when its time has come.
    assert_eq!(archive.blobs("north").await, BTreeSet::from([live, deleted]));
    assert_eq!(archive.blobs("south").await, BTreeSet::from([foreign]));
    assert_eq!(archive.awaiting_removal().await, 1);
}

#[tokio::test]
async fn a_blob_whose_rows_are_not_committed_yet_stays() {
    let archive = Archive::new(&["north"]).await;
    let [blob] = ids();
    archive.put("north", blob).await;
    let mut tx = archive.database.db.begin_in(&crate::postgres::scope("north")).await.unwrap();
    let new = collimator::index::NewBlob { id: blob, length: 1 << 20 };
    crate::data::store_in(&mut tx, &new, &[Sample::new(1, 1, 1)]).await.unwrap();
    assert_eq!(sweep(&archive).await, Done::default());
    tx.commit().await.unwrap();
    archive.age("north", blob, 2 * DAY);
    assert_eq!(sweep(&archive).await, Done::default());
    assert_eq!(archive.blobs("north").await, BTreeSet::from([blob]));
}

#[tokio::test]
async fn what_a_killed_server_left_half_written_goes() {
    let archive = Archive::new(&["north"]).await;
    let [half] = ids();
    let mut upload = archive.within("north").upload(half).await.unwrap();
    upload.push(Bytes::from(vec![7; 5 << 20])).await.unwrap();
    // As a kill would: nothing is cleaned up.
    std::mem::forget(upload);
    let (begun, file) = (Instant::now(), archive.file("north", half));
    // What does not fill a buffer waits for more.
    while file.metadata().unwrap().len() < 4 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the piece is not written");
        tokio::task::yield_now().await;
    }
    assert_eq!(sweep(&archive).await, Done::default(), "it may still be written");
    archive.age("north", half, 2 * DAY);
    assert_eq!(sweep(&archive).await.items, 1);
    assert!(archive.blobs("north").await.is_empty());
}

#[tokio::test]
async fn a_partition_that_the_registry_does_not_know_is_left_alone() {
    let archive = Archive::new(&["north"]).await;
    let [blob] = ids();
    archive.put("elsewhere", blob).await;
    archive.age("elsewhere", blob, 30 * DAY);
    assert_eq!(sweep(&archive).await, Done::default());
    assert_eq!(archive.blobs("elsewhere").await, BTreeSet::from([blob]));
}

#[tokio::test]
async fn what_is_not_a_blob_is_not_touched() {
    let archive = Archive::new(&["north"]).await;
    let [blob] = ids();
    archive.put("north", blob).await;
    let folder = archive.file("north", blob).parent().unwrap().to_owned();
    let note = folder.join("README.txt");
    std::fs::write(&note, "not ours").unwrap();
    std::fs::File::options()
        .write(true)
        .open(&note)
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    archive.age("north", blob, 2 * DAY);
    assert_eq!(sweep(&archive).await.items, 1);
    assert!(note.exists());
}
