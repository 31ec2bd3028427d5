//! Which instance stands for a study or series, and which have frames.

use crate::{
    data::{Sample, series, store, study},
    postgres::{Database, scope},
};

/// `series.instance` at the end of a UID.
fn short(row: &collimator::index::PictureRow) -> String {
    let uid = row.located.instance.as_str();
    uid.strip_prefix("1.2.1.").unwrap_or(uid).to_owned()
}

#[tokio::test]
async fn the_middle_of_each_series_in_the_order_of_their_numbers() {
    let it = Database::new().await;
    let mut batch: Vec<Sample> = (1..=5).map(|n| Sample::new(1, 10, n)).collect();
    batch.extend((1..=4).map(|n| Sample::new(1, 9, n)));
    let mut document = Sample::new(1, 3, 1).key("series_number", "");
    document.indexed.frames = None;
    batch.push(document);
    batch.push(Sample::new(2, 1, 1));
    store(&it.db, "a", &batch).await;
    store(&it.db, "b", &[Sample::new(1, 1, 1)]).await;

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let found = tx.representatives(&study(1)).await.unwrap();
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), ["9.3", "10.3", "3.1"]);
    assert_eq!(found.iter().map(|row| row.frames).collect::<Vec<_>>(), [Some(1), Some(1), None]);
    let of_series = tx.representatives(&series(1, 10)).await.unwrap();
    assert_eq!(of_series, [found[1].clone()]);
    let of_instance = tx.representatives(&batch[9].target()).await.unwrap();
    assert_eq!(of_instance, [found[2].clone()]);
    assert_eq!(tx.representatives(&study(3)).await.unwrap(), []);
    assert_eq!(tx.representatives(&series(1, 99)).await.unwrap(), []);
    assert_eq!(tx.representatives(&series(2, 10)).await.unwrap(), []);
}

#[tokio::test]
async fn pages_tell_what_has_frames() {
    let it = Database::new().await;
    let mut batch: Vec<Sample> = (1..=3).map(|n| Sample::new(1, n, 1)).collect();
    batch[1].indexed.frames = None;
    store(&it.db, "a", &batch).await;

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let all = tx.pictures_page(&study(1), None, i64::MAX, 10).await.unwrap();
    let frames = |uid: &str| all.iter().find(|row| short(row) == uid).map(|row| row.frames);
    assert_eq!(all.len(), 3);
    assert_eq!(
        [frames("1.1"), frames("2.1"), frames("3.1")],
        [Some(Some(1)), Some(None), Some(Some(1))]
    );
    assert!(all.is_sorted_by_key(|row| row.located.watermark));
    let located = tx.instances_page(&study(1), None, i64::MAX, 10).await.unwrap();
    assert_eq!(all.iter().map(|row| row.located.clone()).collect::<Vec<_>>(), located);
    let after = Some(all[0].located.watermark);
    assert_eq!(tx.pictures_page(&study(1), after, i64::MAX, 1).await.unwrap(), [all[1].clone()]);
    let of_series = tx.pictures_page(&series(1, 2), None, i64::MAX, 10).await.unwrap();
    assert_eq!(of_series.iter().map(short).collect::<Vec<_>>(), ["2.1"]);
    let up_to = all[0].located.watermark;
    assert_eq!(tx.pictures_page(&series(1, 2), None, up_to.min(0), 10).await.unwrap(), []);
}
