//! A store is repeated when nobody knows whether its commit took place.

use std::time::Duration;

use collimator::index::{IndexError, NewInstance};

use crate::{
    data::{Sample, new_blob, study},
    postgres::{Database, scope},
};

#[tokio::test]
async fn a_store_whose_commit_was_lost_can_be_repeated() {
    let it = Database::new().await;
    let samples = [Sample::new(1, 1, 1), Sample::new(1, 1, 1), Sample::new(1, 1, 2)];
    let blob = new_blob();
    let news: Vec<NewInstance<'_>> = samples
        .iter()
        .map(|sample| NewInstance {
            blob: blob.id,
            indexed: &sample.indexed,
            metadata: b"metadata",
            offset: 0,
            length: sample.length,
            sha256: sample.sha256,
            received: None,
            rejects: None,
        })
        .collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let first = tx.store_batch(&[blob], &news).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let again = tx.store_batch_again(&[blob], &news).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(again, first, "the same answer, although the rows were there");

    // What was stored is deleted before the repetition: its blob awaits removal now, and no row may
    // name it again.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&study(1), Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let spent = tx.store_batch_again(&[blob], &news).await;
    assert!(matches!(spent, Err(IndexError::Spent)), "{spent:?}");
}

#[tokio::test]
async fn a_repetition_of_what_never_committed_stores_it() {
    let it = Database::new().await;
    let sample = Sample::new(1, 1, 1);
    let (indexed, sha256) = (&sample.indexed, sample.sha256);
    let blob = new_blob();
    let news = [NewInstance {
        blob: blob.id,
        indexed,
        metadata: b"",
        offset: 0,
        length: 1,
        sha256,
        received: None,
        rejects: None,
    }];
    for _ in 0..2 {
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        let stored = tx.store_batch_again(&[blob], &news).await.unwrap();
        assert!(matches!(stored[..], [collimator::index::Stored::New { .. }]), "{stored:?}");
        // Dropped without a commit, once.
    }
}
