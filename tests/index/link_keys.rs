//! Keys of signed URLs: one partition's are nothing in another, and what is over is none.

use std::time::Duration;

use collimator::index::LinkSecret;
use uuid::Uuid;

use crate::postgres::{Database, scope};

#[tokio::test]
async fn a_key_is_one_partitions_and_ends() {
    let it = Database::new().await;
    let (id, secret) = (Uuid::new_v4(), LinkSecret::generate());
    for partition in ["a", "b"] {
        let mut tx = it.db.begin_links(&scope(partition)).await.unwrap();
        // The same id in both: each has its own.
        let own = if partition == "a" { secret.clone() } else { LinkSecret::generate() };
        tx.link_key_create(id, &own).await.unwrap();
        tx.commit().await.unwrap();
    }
    let of = async |partition: &str| {
        let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
        tx.link_key(id).await.unwrap()
    };
    assert_eq!(of("a").await.as_ref(), Some(&secret));
    assert!(of("b").await.is_some_and(|other| other != secret));
    assert_eq!(of("c").await, None);

    let mut tx = it.db.begin_links(&scope("a")).await.unwrap();
    tx.link_key_retire(id, Duration::from_secs(3600)).await.unwrap();
    let next = Uuid::new_v4();
    tx.link_key_create(next, &LinkSecret::generate()).await.unwrap();
    let keys = tx.link_keys().await.unwrap();
    let shown: Vec<_> = keys.iter().map(|key| (key.id, key.valid_until.is_some())).collect();
    assert_eq!(shown, [(id, true), (next, false)]);
    tx.commit().await.unwrap();
    assert_eq!(of("a").await.as_ref(), Some(&secret));

    let mut tx = it.db.begin_links(&scope("a")).await.unwrap();
    tx.link_key_retire(id, Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(of("a").await, None);
    let mut tx = it.db.begin_links(&scope("a")).await.unwrap();
    assert!(tx.link_keys().await.unwrap()[0].is_over);
    tx.link_key_remove(id).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.link_keys().await.unwrap().len(), 1);
    assert!(of("b").await.is_some());
}
