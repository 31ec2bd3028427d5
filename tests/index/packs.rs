//! Metadata of studies and series by packs.

use std::{collections::BTreeSet, time::Duration};

use collimator::{
    dicom::pack::Pack,
    index::{PackedPage, Stored, Target, Whole},
};

use crate::{
    data::{Sample, series, store, study, uid},
    postgres::{Database, scope},
};

const LATER: Duration = Duration::from_secs(3600);

async fn watermarks(it: &Database, samples: &[Sample]) -> Vec<i64> {
    let stored = store(&it.db, "a", samples).await;
    let watermark = |stored: &Stored| match stored {
        Stored::New { watermark } => *watermark,
        other => panic!("{other:?}"),
    };
    stored.iter().map(watermark).collect()
}

async fn first(it: &Database, target: &Target, limit: i64) -> Option<(Whole, PackedPage)> {
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.packed_first(target, limit).await.unwrap()
}

/// The watermarks of all packs of a page.
fn packed(page: &PackedPage) -> BTreeSet<i64> {
    let mut all = BTreeSet::new();
    for (first, bytes) in &page.packs {
        let pack = Pack::open(bytes).unwrap();
        assert_eq!(pack.watermarks().next(), Some(*first));
        for watermark in pack.watermarks() {
            assert!(all.insert(watermark), "{watermark} is in two packs");
        }
    }
    all
}

#[tokio::test]
async fn what_is_stored_together_is_read_together() {
    let it = Database::new().await;
    assert!(first(&it, &study(1), 10).await.is_none());
    // Two studies in one batch, the first with two series; then one alone, then another batch.
    let mut batch: Vec<Sample> = (1..=6).map(|n| Sample::new(1, n % 2, n)).collect();
    batch.extend((1..=3).map(|n| Sample::new(2, 1, n)));
    let mut stored = watermarks(&it, &batch).await;
    let other = stored.split_off(6);
    stored.extend(watermarks(&it, &[Sample::new(1, 1, 7)]).await);
    let alone = stored[6];
    stored.extend(watermarks(&it, &[Sample::new(1, 3, 8), Sample::new(1, 3, 9)]).await);
    let mut ascending = stored.clone();
    ascending.sort_unstable();

    let (whole, page) = first(&it, &study(1), 100).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let summary = tx.summary(&study(1)).await.unwrap().unwrap();
    assert_eq!((whole.newest, whole.count), (summary.newest, summary.count));
    assert_eq!(whole.version, summary.version);
    assert_eq!(page.live, ascending);
    let all: BTreeSet<i64> = stored.iter().copied().filter(|one| *one != alone).collect();
    assert_eq!(packed(&page), all);
    let pack = Pack::open(&page.packs[0].1).unwrap();
    for (sample, watermark) in batch.iter().zip(&stored).take(6) {
        let (series, instance, json) = pack.member(*watermark).unwrap();
        assert_eq!((series, &instance), (&sample.indexed.series, &sample.indexed.instance));
        assert_eq!(json, sample.indexed.instance.as_str().as_bytes());
    }

    // Of a series: its instances, and the packs with some of it.
    let (whole, page) = first(&it, &series(1, 3), 100).await.unwrap();
    assert_eq!((whole.count, &page.live), (2, &stored[7..].iter().copied().collect()));
    assert_eq!(packed(&page), stored[7..].iter().copied().collect());
    let (_, page) = first(&it, &series(1, 1), 100).await.unwrap();
    assert_eq!(page.live.len(), 4);
    assert_eq!(packed(&page), stored[..6].iter().copied().collect());

    // A page of a page has the packs that it needs, those it begins and ends within.
    let more = tx.packed_more(&study(1), ascending[3], ascending[6], 100).await.unwrap();
    assert_eq!(more.live, &ascending[4..7]);
    assert_eq!(packed(&more), ascending[..6].iter().copied().collect());
    let more = tx.packed_more(&study(1), 0, i64::MAX, 2).await.unwrap();
    assert_eq!(more.live, &ascending[..2]);
    let (_, page) = first(&it, &study(2), 100).await.unwrap();
    assert_eq!(packed(&page), other.into_iter().collect());
    let mut tx = it.db.begin_in(&scope("b")).await.unwrap();
    assert!(tx.packed_first(&study(1), 100).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_deleted_is_in_no_pack_and_what_is_left_still_lives() {
    let it = Database::new().await;
    let batch: Vec<Sample> = (1..=4).map(|n| Sample::new(1, 1, n)).collect();
    let mut stored = watermarks(&it, &batch).await;
    let second: Vec<Sample> = (1..=4).map(|n| Sample::new(1, 2, n)).collect();
    let others = watermarks(&it, &second).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&batch[1].target(), LATER).await.unwrap();
    tx.commit().await.unwrap();
    stored.remove(1);

    let (whole, page) = first(&it, &study(1), 100).await.unwrap();
    assert_eq!(whole.count, 7);
    let all: BTreeSet<i64> = stored.iter().chain(&others).copied().collect();
    assert_eq!(page.live.iter().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(packed(&page), others.iter().copied().collect(), "the pack went with what it had");

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&series(1, 2), LATER).await.unwrap();
    tx.commit().await.unwrap();
    let (_, page) = first(&it, &study(1), 100).await.unwrap();
    assert_eq!((page.live.len(), page.packs.len()), (3, 0));
    assert!(first(&it, &series(1, 2), 100).await.is_none());
}

#[tokio::test]
async fn what_cannot_be_packed_is_left_out() {
    let it = Database::new().await;
    let long = format!("\"{}\"", "long".repeat(10_000));
    let batch = [
        Sample::new(1, 1, 1),
        Sample::new(1, 1, 2).json(&long),
        Sample::new(1, 1, 3),
        // Of a study of its own.
        Sample::new(2, 1, 1),
    ];
    let stored = watermarks(&it, &batch).await;
    let (_, page) = first(&it, &study(1), 100).await.unwrap();
    assert_eq!(packed(&page), BTreeSet::from([stored[0], stored[2]]));
    let (_, page) = first(&it, &study(2), 100).await.unwrap();
    assert_eq!((page.live.len(), page.packs.len()), (1, 0));

    // A repeat adds no pack for what is there.
    let mut again = batch.to_vec();
    again.push(Sample::new(1, 1, 4));
    store(&it.db, "a", &again).await;
    let (whole, page) = first(&it, &study(1), 100).await.unwrap();
    assert_eq!((whole.count, page.packs.len()), (4, 1));

    // More than a page may have of compressed packs is not read.
    let noise = |n: u32| {
        let mut state = u64::from(n) + 1;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 33) as u8 % 90)
        };
        (0..16_000).map(|_| noise()).collect::<String>()
    };
    let batch: Vec<Sample> = (1..=400).map(|n| Sample::new(3, 1, n).json(&noise(n))).collect();
    let stored = watermarks(&it, &batch).await;
    let (_, page) = first(&it, &study(3), 1000).await.unwrap();
    assert_eq!(page.live.len(), 400);
    let bytes: usize = page.packs.iter().map(|(_, pack)| pack.len()).sum();
    assert!((1 << 20..=4 << 20).contains(&bytes), "{bytes} bytes");
    let packed = packed(&page);
    assert!(packed.len() < stored.len());
    // Of what is left the next page has the rest.
    let last = *packed.last().unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let more = tx.packed_more(&study(3), last, i64::MAX, 1000).await.unwrap();
    assert_eq!(more.packs.front().map(|(first, _)| *first), Some(last + 1));
    assert_eq!(uid("1.2.3"), batch[0].indexed.study);
}
