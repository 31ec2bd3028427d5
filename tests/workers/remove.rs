//! The remover removes what is due, and keeps trying.

use std::{collections::BTreeSet, time::Duration};

use collimator::workers::{Done, Remove, Worker};

use crate::{Archive, DAY, Sample, ids};

fn remover(archive: &Archive) -> Remove {
    Remove::new(archive.database.db.clone(), archive.store.clone())
}

#[tokio::test]
async fn blobs_go_when_their_grace_is_over() {
    let archive = Archive::new(&["north", "south"]).await;
    let [due, later, live, south] = ids();
    let samples = [1, 2, 3].map(|study| Sample::new(study, 1, 1));
    for (blob, sample) in [due, later, live].into_iter().zip(samples.clone()) {
        archive.store("north", blob, sample).await;
    }
    archive.store("south", south, samples[0].clone()).await;
    archive.delete("north", &samples[0], Duration::ZERO).await;
    archive.delete("north", &samples[1], DAY).await;
    archive.delete("south", &samples[0], Duration::ZERO).await;

    let remover = remover(&archive);
    assert_eq!(
        remover.run_once().await.unwrap(),
        Done { items: 2, failed: 0, more: false, again: None }
    );
    assert_eq!(archive.blobs("north").await, BTreeSet::from([later, live]));
    assert!(archive.blobs("south").await.is_empty());
    assert_eq!(archive.awaiting_removal().await, 1);
    assert_eq!(remover.run_once().await.unwrap(), Done::default());
}

#[tokio::test]
async fn a_removal_that_was_cut_short_is_repeated() {
    let archive = Archive::new(&["north"]).await;
    let [blob] = ids();
    let sample = Sample::new(1, 1, 1);
    archive.store("north", blob, sample.clone()).await;
    archive.delete("north", &sample, Duration::ZERO).await;
    // Killed after the store, before the row.
    archive.within("north").remove(blob).await.unwrap();
    assert_eq!(remover(&archive).run_once().await.unwrap().items, 1);
    assert_eq!(archive.awaiting_removal().await, 0);
}

#[tokio::test]
async fn a_blob_that_cannot_be_removed_waits_and_holds_nobody_up() {
    let archive = Archive::new(&["north"]).await;
    let [stuck, fine] = ids();
    let samples = [1, 2].map(|study| Sample::new(study, 1, 1));
    for (blob, sample) in [stuck, fine].into_iter().zip(samples.clone()) {
        archive.store("north", blob, sample.clone()).await;
        archive.delete("north", &sample, Duration::ZERO).await;
    }
    // A folder in the place of the file: no removal succeeds.
    let path = archive.file("north", stuck);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();

    let remover = remover(&archive);
    assert_eq!(
        remover.run_once().await.unwrap(),
        Done { items: 1, failed: 1, more: false, again: None }
    );
    assert!(archive.blobs("north").await.is_empty());
    assert_eq!(remover.run_once().await.unwrap(), Done::default(), "not due for a while");
    let first = wait(&archive).await;

    make_due(&archive).await;
    assert_eq!(
        remover.run_once().await.unwrap(),
        Done { items: 0, failed: 1, more: false, again: None }
    );
    let second = wait(&archive).await;
    assert!(second > first, "the wait doubles: {first}, {second}");

    std::fs::remove_dir(&path).unwrap();
    make_due(&archive).await;
    assert_eq!(
        remover.run_once().await.unwrap(),
        Done { items: 1, failed: 0, more: false, again: None }
    );
    assert_eq!(archive.awaiting_removal().await, 0);
}

/// Seconds until the only removal is due.
async fn wait(archive: &Archive) -> f64 {
    let mut conn = archive.database.superuser().await;
    let wait = "SELECT extract(epoch FROM due_at - now())::float8 FROM blob_removal";
    sqlx::query_scalar(wait).fetch_one(&mut conn).await.unwrap()
}

async fn make_due(archive: &Archive) {
    let mut conn = archive.database.superuser().await;
    let due = "UPDATE blob_removal SET due_at = now()";
    sqlx::query(due).execute(&mut conn).await.unwrap();
}
