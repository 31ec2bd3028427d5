//! The remover removes what is due, and keeps trying.

use std::{collections::BTreeSet, time::Duration};

use collimator::{
    config::DeleteConfig,
    index::{Operation, OperationFilter, OperationKind, OperationState, Presence},
    workers::{Done, Remove, Worker},
};

use crate::{Archive, DAY, Sample, ids, postgres::scope};

fn remover(archive: &Archive) -> Remove {
    Remove::new(archive.database.db.clone(), archive.store.clone(), &DeleteConfig::default())
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
    // Each partition's is an operation of its own, which has ended.
    for partition in ["north", "south"] {
        let operations = purges(&archive, partition).await;
        assert_eq!(operations.len(), 1, "{partition}");
        let one = &operations[0];
        let counts = (one.processed, one.total, one.failed);
        assert_eq!((one.state, counts), (OperationState::Succeeded, (1, Some(1), 0)));
    }
}

async fn purges(archive: &Archive, partition: &str) -> Vec<Operation> {
    let filter = OperationFilter { kind: Some(OperationKind::Purge), state: None };
    let mut tx = archive.database.db.begin(&scope(partition)).await.unwrap();
    tx.operations(filter, (10, 0)).await.unwrap()
}

#[tokio::test]
async fn servers_share_the_work_and_each_blob_is_removed_once() {
    let archive = Archive::new(&["north", "south", "west"]).await;
    for partition in ["north", "south", "west"] {
        for n in 0..20 {
            let ([blob], sample) = (ids(), Sample::new(n, 1, 1));
            archive.store(partition, blob, sample.clone()).await;
            archive.delete(partition, &sample, Duration::ZERO).await;
        }
    }
    let (one, other) = (remover(&archive), remover(&archive));
    let mut items = 0;
    while archive.awaiting_removal().await > 0 {
        let (one, other) = tokio::join!(one.run_once(), other.run_once());
        items += one.unwrap().items + other.unwrap().items;
    }
    assert_eq!(items, 60);
    for partition in ["north", "south", "west"] {
        assert!(archive.blobs(partition).await.is_empty());
        let operations = purges(&archive, partition).await;
        assert_eq!(operations.iter().map(|one| one.processed).sum::<i64>(), 20, "{partition}");
    }
}

#[tokio::test]
async fn what_was_deleted_is_forgotten_when_its_time_is_over() {
    let archive = Archive::new(&["north"]).await;
    let samples = [1, 2, 3].map(|study| Sample::new(study, 1, 1));
    for sample in &samples {
        let [blob] = ids();
        archive.store("north", blob, sample.clone()).await;
    }
    archive.delete("north", &samples[0], Duration::ZERO).await;
    archive.delete("north", &samples[1], 5 * DAY).await;
    archive.delete("north", &samples[2], Duration::ZERO).await;
    let mut conn = archive.database.superuser().await;
    let age = "UPDATE deleted_instance SET deleted_at = deleted_at - interval '2 days'
        WHERE study_instance_uid <> '1.2.3'";
    sqlx::query(age).execute(&mut conn).await.unwrap();
    remover(&archive).run_once().await.unwrap();
    let presence = async |sample: &Sample| {
        let mut tx = archive.database.db.begin_in(&scope("north")).await.unwrap();
        tx.presence(&sample.target()).await.unwrap()
    };
    assert_eq!(presence(&samples[0]).await, Presence::Deleted, "for ever");
    let config = DeleteConfig { tombstones: DAY, ..DeleteConfig::default() };
    let daily = Remove::new(archive.database.db.clone(), archive.store.clone(), &config);
    assert_eq!(daily.run_once().await.unwrap().items, 1);
    assert_eq!(presence(&samples[0]).await, Presence::Absent);
    assert_eq!(presence(&samples[1]).await, Presence::Deleted, "it can come back");
    assert_eq!(presence(&samples[2]).await, Presence::Deleted, "younger than a day");
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
    let operations = purges(&archive, "north").await;
    let one = &operations[0];
    assert_eq!((one.state, one.processed, one.failed), (OperationState::Failed, 1, 1));
    assert!(one.error.as_ref().is_some_and(|error| error.contains("1 removals")), "{one:?}");

    make_due(&archive).await;
    assert_eq!(
        remover.run_once().await.unwrap(),
        Done { items: 0, failed: 1, more: false, again: None }
    );
    let second = wait(&archive).await;
    assert!(second > first, "the wait doubles: {first}, {second}");

    // After as many tries as that it counts as failed, is shown, and is tried once a day.
    let mut conn = archive.database.superuser().await;
    sqlx::query("UPDATE blob_removal SET attempts = 9").execute(&mut conn).await.unwrap();
    make_due(&archive).await;
    remover.run_once().await.unwrap();
    let seen =
        archive.database.db.begin(&scope("north")).await.unwrap().removals((10, 0)).await.unwrap();
    assert_eq!((seen.len(), seen[0].awaiting, seen[0].failed), (1, 1, 1));
    let error = &seen[0].errors[0];
    assert_eq!((&error["blob"], &error["attempts"]), (&stuck.to_string().into(), &10.into()));
    assert!(!error["error"].as_str().unwrap().is_empty());
    assert!(wait(&archive).await > 8.0 * 3600.0);
    // Or when somebody asks.
    let mut tx = archive.database.db.begin_in(&scope("north")).await.unwrap();
    tx.removals_retry().await.unwrap();
    tx.commit().await.unwrap();
    assert!(wait(&archive).await < 1.0);
    let seen =
        archive.database.db.begin(&scope("north")).await.unwrap().removals((10, 0)).await.unwrap();
    assert_eq!((seen[0].awaiting, seen[0].failed), (1, 0));

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
