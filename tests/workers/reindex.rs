//! The reindex: partitions meet tags of the root, operations are worked on by whoever comes, and
//! what deleted tags left goes.

use std::time::Duration;

use collimator::{
    config::OperationsConfig,
    dicom::{Tag, VR, attributes::Level},
    index::{NewTag, OperationState, Reindexing, TagStatus},
    tenancy::Scope,
    workers::{Reindex, Worker},
};
use uuid::Uuid;

use crate::{Archive, ids, postgres::scope};

const DAY: Duration = Duration::from_secs(86_400);

/// A worker that takes all the time it can.
fn worker(archive: &Archive) -> Reindex {
    let config = OperationsConfig { reindex_share: 1.0, ..OperationsConfig::default() };
    Reindex::new(archive.database.db.clone(), &config)
}

async fn fill(archive: &Archive, partition: &str, instances: u32) {
    for n in 0..instances {
        let json = r#"{"00101010":{"vr":"AS","Value":["041Y"]}}"#;
        let [blob] = ids();
        archive.store(partition, blob, crate::Sample::new(n, 1, 1).json(json)).await;
    }
}

fn age() -> NewTag {
    NewTag { path: Tag(0x0010, 0x1010), creator: None, vr: VR::AS, level: Level::Study }
}

async fn add_to_root(archive: &Archive) -> Uuid {
    let operation = Uuid::new_v4();
    let mut root = archive.database.db.begin_root_tags().await.unwrap();
    root.root_tags_create(&[age()], operation).await.unwrap();
    root.commit().await.unwrap();
    operation
}

async fn state(archive: &Archive, at: &Scope, id: Uuid) -> (OperationState, i64) {
    let mut tx = archive.database.db.begin(at).await.unwrap();
    let operation = tx.operation(id, DAY).await.unwrap().unwrap();
    (operation.state, operation.processed)
}

async fn values(archive: &Archive) -> i64 {
    let mut conn = archive.database.superuser().await;
    sqlx::query_scalar("SELECT count(*) FROM query_tag_value").fetch_one(&mut conn).await.unwrap()
}

#[tokio::test]
async fn workers_share_the_work_and_each_instance_is_read_once() {
    let archive = Archive::new(&["north", "south", "west"]).await;
    for partition in ["north", "south"] {
        fill(&archive, partition, 30).await;
    }
    let operation = add_to_root(&archive).await;
    let (one, other) = (worker(&archive), worker(&archive));
    for partition in ["north", "south"] {
        let at = scope(partition);
        while state(&archive, &at, operation).await.0 != OperationState::Succeeded {
            let (one, other) = tokio::join!(one.run_once(), other.run_once());
            one.unwrap();
            other.unwrap();
        }
        assert_eq!(state(&archive, &at, operation).await.1, 30, "{partition}");
    }
    assert_eq!(values(&archive).await, 60);
    // Nothing is left to do, and nothing is done again.
    let mut done = worker(&archive).run_once().await.unwrap();
    if done.more {
        done = worker(&archive).run_once().await.unwrap();
    }
    assert_eq!((done.items, done.more, done.again), (0, false, None));
}

#[tokio::test]
async fn a_tag_of_the_root_that_is_deleted_leaves_nothing_anywhere() {
    let archive = Archive::new(&["north", "south"]).await;
    for partition in ["north", "south"] {
        fill(&archive, partition, 3).await;
    }
    add_to_root(&archive).await;
    let worker = worker(&archive);
    while worker.run_once().await.unwrap().more {}
    assert_eq!(values(&archive).await, 6);

    let db = &archive.database.db;
    let id = db.registry().await.unwrap().root_tags().await.unwrap()[0].id;
    let mut root = db.begin_root_tags().await.unwrap();
    root.root_tag_delete(id).await.unwrap();
    root.commit().await.unwrap();
    let known = db.begin_in(&scope("north")).await.unwrap().tags_known().await.unwrap();
    assert_eq!(known[0].status, TagStatus::Deleting);
    // A store that comes now writes nothing for it.
    let json = r#"{"00101010":{"vr":"AS","Value":["041Y"]}}"#;
    let [blob] = ids();
    archive.store("north", blob, crate::Sample::new(9, 1, 1).json(json)).await;
    assert_eq!(values(&archive).await, 6);
    while worker.run_once().await.unwrap().more {}
    assert_eq!(values(&archive).await, 0);
    assert!(db.registry().await.unwrap().root_tags().await.unwrap().is_empty());
    for partition in ["north", "south"] {
        let mut tx = db.begin_in(&scope(partition)).await.unwrap();
        assert!(tx.tags_known().await.unwrap().is_empty(), "{partition}");
    }
}

#[tokio::test]
async fn what_another_server_holds_is_come_back_for() {
    let archive = Archive::new(&["north"]).await;
    fill(&archive, "north", 1).await;
    add_to_root(&archive).await;
    let mut tx = archive.database.db.begin_in(&scope("north")).await.unwrap();
    tx.tags_meet().await.unwrap();
    tx.operation_claim::<Reindexing>(Uuid::new_v4()).await.unwrap();
    tx.commit().await.unwrap();
    let done = worker(&archive).run_once().await.unwrap();
    assert_eq!((done.items, done.more), (0, false));
    assert!(done.again.is_some_and(|again| again <= Duration::from_secs(20)));
    let mut conn = archive.database.superuser().await;
    sqlx::query("UPDATE operation SET lease_until = now()").execute(&mut conn).await.unwrap();
    assert_eq!(worker(&archive).run_once().await.unwrap().items, 1);
}
