//! Composed blobs share bytes with the first version of their instance and with no other, wherever
//! that is.

use std::time::Duration;

use collimator::index::{
    Db, IndexError, NewBlob, NewInstance, Replaced, Revision, Shared, composed_id,
};
use uuid::Uuid;

use crate::{
    data::{Sample, is_new, new_blob, store_in, study},
    postgres::{Database, scope},
};

const HEAD: u64 = 300;
const AT: u64 = 400;

/// Replaces the one instance of study 1, whose last version is `old`, by a file of `length` bytes.
async fn replace(
    db: &Db,
    old: i64,
    (blob, length): (Uuid, u64),
    shared: Option<Shared>,
) -> Result<i64, IndexError> {
    let sample = Sample::new(1, 1, 1).other_bytes();
    let metadata = sample.metadata();
    let blob = NewBlob { id: blob, length: HEAD };
    let mut tx = db.begin_in(&scope("a")).await?;
    tx.update_blobs(&[blob.id]).await?;
    tx.commit().await?;
    let new = NewInstance {
        blob: blob.id,
        indexed: &sample.indexed,
        metadata: &metadata,
        offset: 0,
        length,
        sha256: sample.sha256,
        received: None,
        rejects: None,
    };
    let revision = Revision { replaces: old, new, shared };
    let mut tx = db.begin_store(&scope("a")).await?;
    let replaced =
        tx.study_replace((&study(1), None), &[blob], &[revision], Duration::ZERO).await?;
    assert_eq!(replaced, Replaced::Done(vec![old]));
    let page = tx.instances_page(&study(1), None, i64::MAX, 10).await?;
    tx.commit().await?;
    assert_eq!(page.len(), 1);
    Ok(page[0].watermark)
}

#[tokio::test]
async fn what_is_shared_is_that_of_the_first_version_and_of_no_other() {
    let it = Database::new().await;
    let (first, sample) = (new_blob(), Sample::new(1, 1, 1));
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let stored = store_in(&mut tx, &first, std::slice::from_ref(&sample)).await.unwrap();
    assert!(is_new(&stored[0]));
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let original = tx.instances_page(&study(1), None, i64::MAX, 1).await.unwrap()[0].watermark;
    let shareable = tx.shareable(&[(original, first.id)]).await.unwrap();
    assert_eq!(shareable[&original], Shared { original, head: 0, at: 0 });
    drop(tx);

    let (length, shared) = (sample.length - AT + HEAD, Shared { original, head: HEAD, at: AT });
    // Another version, another length, and more than there is.
    let wrong = [
        (length, Shared { original: original + 1, ..shared }),
        (length + 1, shared),
        (HEAD, Shared { at: sample.length + 1, ..shared }),
    ];
    for (length, shared) in wrong {
        let made = replace(&it.db, original, (composed_id(), length), Some(shared)).await;
        assert!(matches!(made, Err(IndexError::Inconsistent { .. })), "{shared:?}");
    }
    let second = composed_id();
    let last = replace(&it.db, original, (second, length), Some(shared)).await.unwrap();
    let rest = (first.id, AT, sample.length - AT);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let found = tx.composed(&[second, Uuid::new_v4(), composed_id()]).await.unwrap();
    assert_eq!((found.len(), found[&second].rest), (1, rest));
    assert_eq!(found[&second].length(), length);
    assert_eq!(tx.shareable(&[(last, second)]).await.unwrap()[&last], shared);
    drop(tx);
    let mut foreign = it.db.begin_in(&scope("b")).await.unwrap();
    assert!(foreign.composed(&[second]).await.unwrap().is_empty());
    drop(foreign);

    // The next one shares with the first one as well, and cannot with the one between.
    let chained = Shared { original: last, ..shared };
    let third = composed_id();
    let made = replace(&it.db, last, (third, length), Some(chained)).await;
    assert!(matches!(made, Err(IndexError::Inconsistent { .. })));
    let third = composed_id();
    let last = replace(&it.db, last, (third, length), Some(shared)).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let found = tx.composed(&[second, third]).await.unwrap();
    assert_eq!((found[&second].rest, found[&third].rest), (rest, rest));
    // Whoever reads what was deleted finds it, until it is erased.
    tx.delete(&study(1), Duration::from_secs(60)).await.unwrap();
    assert_eq!(tx.composed(&[third]).await.unwrap()[&third].rest, rest);
    drop(tx);
    // A version that was written as a whole is like no other.
    let whole = Uuid::new_v4();
    let last = replace(&it.db, last, (whole, sample.length), None).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert!(tx.shareable(&[(last, whole)]).await.unwrap().is_empty());
    tx.erase(&study(1), Uuid::new_v4(), "/studies/1.2.1").await.unwrap();
    assert!(tx.composed(&[second, third]).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    // A row goes with its object.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.blob_removed(&[second, third, whole]).await.unwrap();
    tx.commit().await.unwrap();
    let mut conn = it.superuser().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM composed_blob")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
