//! Store, retrieve and delete.

use std::time::Duration;

use collimator::{
    dicom::{frames::FrameTable, kept},
    index::{IndexError, NewInstance, Presence, Stored, Target},
};
use sqlx::{PgConnection, Row};

use crate::{
    data::{Sample, is_new, new_blob, series, store, store_in, study, uid},
    postgres::{Database, scope},
};

async fn number(conn: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(conn).await.unwrap().get(0)
}

#[tokio::test]
async fn a_batch_is_stored_and_found() {
    let it = Database::new().await;
    let batch: Vec<Sample> = (1..=5).map(|n| Sample::new(1, n % 2, n)).collect();
    let stored = store(&it.db, "a", &batch).await;
    assert!(stored.iter().all(is_new), "{stored:?}");

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let all = tx.instances_page(&study(1), None, i64::MAX, 100).await.unwrap();
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by_key(|located| located.watermark));
    for (sample, stored) in batch.iter().zip(&stored) {
        let Stored::New { watermark } = stored else { panic!("{stored:?}") };
        let located = all.iter().find(|located| located.watermark == *watermark).unwrap();
        assert_eq!(located.instance, sample.indexed.instance);
        assert_eq!(located.series, sample.indexed.series);
        assert_eq!(located.length, sample.length);
        assert_eq!(located.data_set_offset, 300);
        let one = tx.instances_page(&sample.target(), None, i64::MAX, 2).await.unwrap();
        assert_eq!(one, std::slice::from_ref(located));
    }
    let offsets: std::collections::BTreeSet<u64> = all.iter().map(|one| one.offset).collect();
    assert_eq!(offsets.len(), 5, "each file has its own place in the blob");
    assert_eq!(tx.instances_page(&series(1, 1), None, i64::MAX, 100).await.unwrap().len(), 3);
    assert_eq!(tx.instances_page(&series(2, 1), None, i64::MAX, 100).await.unwrap(), []);

    let two = [all[2].watermark, all[1].watermark];
    let metadata = tx.metadata_of_each(&two).await.unwrap();
    assert_eq!(metadata.iter().map(|one| one.watermark).collect::<Vec<_>>(), two);
    assert_eq!(metadata[1].instance, all[1].instance);
    assert_eq!(metadata[1].series, all[1].series);
    let json = kept::decompress(&metadata[1].metadata).unwrap();
    assert_eq!(json, all[1].instance.as_str().as_bytes());
    let target = Target::Instance {
        study: all[1].study.clone(),
        series: all[1].series.clone(),
        instance: all[1].instance.clone(),
    };
    for version in [None, Some(all[1].watermark)] {
        let (at, _) = tx.metadata_of_one(&target, version).await.unwrap().unwrap();
        assert_eq!(at, all[1]);
    }
    let another = tx.metadata_of_one(&target, Some(all[0].watermark)).await.unwrap();
    assert!(another.is_none());
}

#[tokio::test]
async fn a_repeat_is_identical_and_other_bytes_conflict() {
    let it = Database::new().await;
    let (one, two) = (Sample::new(1, 1, 1), Sample::new(1, 1, 2));
    store(&it.db, "a", std::slice::from_ref(&one)).await;
    let mut moved = one.clone();
    moved.indexed.series = uid("1.2.1.99");
    let again = [one.clone(), one.clone().other_bytes(), moved, two.clone(), two.clone()];
    let stored = store(&it.db, "a", &again).await;
    assert_eq!(stored[..3], [Stored::Identical, Stored::Conflict, Stored::Conflict]);
    assert!(is_new(&stored[3]));
    assert_eq!(stored[4], Stored::Identical);
    let in_one_batch = [Sample::new(1, 1, 3), Sample::new(1, 1, 3).other_bytes()];
    let stored = store(&it.db, "a", &in_one_batch).await;
    assert!(is_new(&stored[0]));
    assert_eq!(stored[1], Stored::Conflict);

    let mut conn = it.superuser().await;
    assert_eq!(number(&mut conn, "SELECT count(*) FROM instance").await, 3);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM series").await, 1, "none for a refused one");
    assert_eq!(number(&mut conn, "SELECT count(*) FROM change_feed").await, 3);
    let unnumbered =
        "SELECT count(*) FROM change_feed WHERE sequence IS NULL AND action = 'create'";
    assert_eq!(number(&mut conn, unnumbered).await, 3);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM blob").await, 3);
    store(&it.db, "a", &[one.clone(), two.clone()]).await;
    assert_eq!(number(&mut conn, "SELECT count(*) FROM blob").await, 3, "no blob for nothing new");

    let stored = store(&it.db, "b", &[one, two]).await;
    assert!(stored.iter().all(is_new), "another partition knows nothing of it");
}

#[tokio::test]
async fn nothing_is_stored_without_commit() {
    let it = Database::new().await;
    let sample = Sample::new(1, 1, 1);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    store_in(&mut tx, &new_blob(), std::slice::from_ref(&sample)).await.unwrap();
    drop(tx);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.presence(&sample.target()).await.unwrap(), Presence::Absent);
}

#[tokio::test]
async fn the_first_value_wins_and_later_instances_fill() {
    let it = Database::new().await;
    let empty = r#"{"00100010":{"vr":"PN"}}"#;
    let named = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"N"}]}}"#;
    let first = Sample::new(1, 1, 1).key("patient_name", "").study_attributes(empty);
    let second = Sample::new(1, 1, 2).key("patient_name", "N").study_attributes(named);
    let third = Sample::new(1, 1, 3).key("patient_name", "OTHER").study_attributes(empty);
    let mut conn = it.superuser().await;
    for sample in [first, second, third] {
        store(&it.db, "a", &[sample]).await;
    }
    let row = sqlx::query("SELECT patient_name, attributes, patient_id, xmin::text FROM study")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(row.get::<&str, _>(0), "N");
    assert_eq!(row.get::<&str, _>(1), named);
    assert_eq!(row.get::<&str, _>(2), "P1");
    // Nothing new: the row is not written.
    store(&it.db, "a", &[Sample::new(1, 2, 4).study_attributes(empty)]).await;
    let xmin: String =
        sqlx::query("SELECT xmin::text FROM study").fetch_one(&mut conn).await.unwrap().get(0);
    assert_eq!(xmin, row.get::<&str, _>(3));
}

#[tokio::test]
async fn values_that_break_their_vr_do_not_fail_the_store() {
    let it = Database::new().await;
    // Random letters, so that Postgres cannot shrink them to fit an index.
    let long: String = (0..4000_u32)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
        .collect();
    let sample = Sample::new(1, 1, 1)
        .key("study_description", &long)
        .key("accession_number", "A\0B")
        .key("patient_name", &"\u{5c71}".repeat(3000));
    assert!(store(&it.db, "a", &[sample]).await.iter().all(is_new));
    let mut conn = it.superuser().await;
    let row = sqlx::query("SELECT accession_number, length(study_description) FROM study")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(row.get::<&str, _>(0), "AB");
    assert_eq!(row.get::<i32, _>(1), 512);
}

#[tokio::test]
async fn frames_are_found_whatever_their_form() {
    let it = Database::new().await;
    let native = Sample::new(1, 1, 1).frames(FrameTable::Native {
        offset: 1000,
        length: 30,
        frame_bits: 80,
        frames: 3,
    });
    let single: Vec<(u64, u32)> = (0..5000).map(|n| (u64::from(n) * 10, n)).collect();
    let one_each = Sample::new(1, 1, 2).frames(FrameTable::Fragment { frames: single });
    let many = Sample::new(1, 1, 3).frames(FrameTable::Fragments {
        frames: vec![
            vec![(10, 1), (20, 2)],
            vec![],
            vec![(30, 3)],
            vec![(40, 4), (50, 5), (60, 6)],
        ],
    });
    let mut none = Sample::new(1, 1, 4);
    none.indexed.frames = None;
    store(&it.db, "a", &[native.clone(), one_each.clone(), many.clone(), none.clone()]).await;

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let found = tx.frames_locate(&native.target(), &[3, 1, 4, 0]).await.unwrap().unwrap();
    assert_eq!(found.number_of_frames, 3);
    assert_eq!(found.native.unwrap().frame_bits, 80);
    let expected = [Some(vec![(1020, 10)]), Some(vec![(1000, 10)]), None, None];
    assert_eq!(found.ranges, expected);

    let found =
        tx.frames_locate(&one_each.target(), &[4999, 5000, 5001, 2]).await.unwrap().unwrap();
    assert_eq!(found.number_of_frames, 5000);
    assert_eq!(found.native, None);
    let expected =
        [Some(vec![(49_980, 4998)]), Some(vec![(49_990, 4999)]), None, Some(vec![(10, 1)])];
    assert_eq!(found.ranges, expected);

    let found = tx.frames_locate(&many.target(), &[4, 1, 2, 3, 5]).await.unwrap().unwrap();
    let expected = [
        Some(vec![(40, 4), (50, 5), (60, 6)]),
        Some(vec![(10, 1), (20, 2)]),
        Some(vec![]),
        Some(vec![(30, 3)]),
        None,
    ];
    assert_eq!(found.ranges, expected);
    assert_eq!(tx.frames_locate(&none.target(), &[1]).await.unwrap(), None);
    let elsewhere = Target::Instance {
        study: uid("1.2.1"),
        series: uid("1.2.1.2"),
        instance: native.indexed.instance.clone(),
    };
    assert_eq!(tx.frames_locate(&elsewhere, &[1]).await.unwrap(), None);
}

#[tokio::test]
async fn bulk_values_are_found_by_path() {
    let it = Database::new().await;
    let sample = Sample::new(1, 1, 1);
    store(&it.db, "a", std::slice::from_ref(&sample)).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let (located, entry) = tx.bulk_locate(&sample.target(), "7FE00010").await.unwrap().unwrap();
    assert_eq!(located.instance, sample.indexed.instance);
    assert_eq!(entry, sample.indexed.bulk[0]);
    for path in ["", "0", "7FE00010/0", "a\0b", &"7".repeat(10_000)] {
        assert_eq!(tx.bulk_locate(&sample.target(), path).await.unwrap(), None, "{path}");
    }
}

#[tokio::test]
async fn a_transaction_has_the_rows_of_several_blobs() {
    let it = Database::new().await;
    let known = Sample::new(1, 1, 1);
    store(&it.db, "a", std::slice::from_ref(&known)).await;
    // The third and the fourth bring nothing new: one that is stored, and one that comes with the
    // first.
    let blobs = [new_blob(), new_blob(), new_blob(), new_blob()];
    let second = Sample::new(1, 1, 2);
    let batch = [
        (blobs[0], second.clone()),
        (blobs[1], Sample::new(1, 1, 3)),
        (blobs[1], Sample::new(2, 1, 1)),
        (blobs[2], known),
        (blobs[3], second),
    ];
    let metadata: Vec<Vec<u8>> = batch.iter().map(|(_, sample)| sample.metadata()).collect();
    let news: Vec<NewInstance<'_>> = batch
        .iter()
        .zip(&metadata)
        .map(|((blob, sample), metadata)| NewInstance {
            blob: blob.id,
            indexed: &sample.indexed,
            metadata,
            offset: 0,
            length: sample.length,
            sha256: sample.sha256,
            received: None,
            rejects: None,
        })
        .collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let stored = tx.store_batch(&blobs, &news).await.unwrap();
    tx.commit().await.unwrap();
    assert!(stored[..3].iter().all(is_new), "{stored:?}");
    assert_eq!(stored[3..], [Stored::Identical; 2]);

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    for ((blob, sample), stored) in batch.iter().zip(&stored).filter(|(_, stored)| is_new(stored)) {
        let found = tx.instances_page(&sample.target(), None, i64::MAX, 2).await.unwrap();
        assert_eq!(found.len(), 1, "{stored:?}");
        assert_eq!(found[0].blob, blob.id);
    }
    let ids = blobs.map(|blob| blob.id);
    let mut kept = tx.blobs_known(&ids).await.unwrap();
    kept.sort_unstable();
    let mut named = ids[..2].to_vec();
    named.sort_unstable();
    assert_eq!(kept, named, "no row of a blob that nothing names");

    // As if nobody knew whether that committed.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.store_batch_again(&blobs, &news).await.unwrap(), stored);
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    for gone in [study(1), study(2)] {
        tx.delete(&gone, Duration::ZERO).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let spent = tx.store_batch_again(&blobs, &news).await;
    assert!(matches!(spent, Err(IndexError::Spent)), "{spent:?}");
}

#[tokio::test]
async fn a_blob_whose_files_all_came_with_another_leaves_no_row() {
    let it = Database::new().await;
    let (blobs, sample) = ([new_blob(), new_blob()], Sample::new(1, 1, 1));
    let metadata = sample.metadata();
    let news = blobs.map(|blob| NewInstance {
        blob: blob.id,
        indexed: &sample.indexed,
        metadata: &metadata,
        offset: 0,
        length: sample.length,
        sha256: sample.sha256,
        received: None,
        rejects: None,
    });
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let stored = tx.store_batch(&blobs, &news).await.unwrap();
    assert!(is_new(&stored[0]) && stored[1] == Stored::Identical, "{stored:?}");
    assert_eq!(tx.blobs_known(&blobs.map(|blob| blob.id)).await.unwrap(), [blobs[0].id]);
}

#[tokio::test]
async fn where_tables_are_distributed_the_same_rows_are_written() {
    const ROWS: &str = "SELECT jsonb_agg(jsonb_build_array(to_jsonb(i) - $2::text[],
                to_jsonb(m) - $2::text[], to_jsonb(f) - $2::text[], to_jsonb(c) - $2::text[],
                to_jsonb(b) - $2::text[]) ORDER BY c.event_id)::text
        FROM instance i JOIN blob b USING (partition_id, blob_id)
        JOIN instance_metadata m USING (partition_id, watermark)
        LEFT JOIN frame_table f USING (partition_id, watermark)
        JOIN change_feed c USING (partition_id, watermark)
        WHERE partition_id = $1";
    let own = ["partition_id", "watermark", "study_key", "series_key", "event_id", "blob_id"];
    let when = ["stored_at", "occurred_at", "created_at"];
    let left_out = [&own[..], &when[..]].concat();
    let it = Database::new().await;
    let mut without_bulk = Sample::new(2, 1, 2);
    without_bulk.indexed.bulk.clear();
    without_bulk.indexed.frames = None;
    without_bulk.indexed.has_preamble = false;
    let many = FrameTable::Fragments { frames: vec![vec![(10, 2), (20, 4)], vec![(30, 6)]] };
    let batch = [
        Sample::new(2, 1, 1).frames(many),
        without_bulk,
        Sample::new(1, 2, 1).json("{}"),
        Sample::new(1, 1, 1),
    ];
    let mut conn = it.superuser().await;
    let mut rows = Vec::new();
    for (partition, db) in [("a", it.db.clone()), ("b", it.db.clone().as_distributed())] {
        // One of them is there already, and nothing is written of it.
        store(&db, partition, &batch[3..]).await;
        let stored = store(&db, partition, &batch).await;
        assert!(stored[..3].iter().all(is_new) && stored[3] == Stored::Identical, "{stored:?}");
        let query = sqlx::query(ROWS).bind(partition).bind(&left_out);
        rows.push(query.fetch_one(&mut conn).await.unwrap().get::<String, _>(0));
    }
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0].matches("\"sop_class_uid\"").count(), 4, "{}", rows[0]);
    let unnamed = "SELECT count(*) FROM instance_metadata m FULL JOIN instance i
        USING (partition_id, watermark) WHERE m.watermark IS NULL OR i.watermark IS NULL";
    assert_eq!(number(&mut conn, unnamed).await, 0);
}

#[tokio::test]
async fn delete_leaves_tombstones_and_no_empty_parents() {
    let it = Database::new().await;
    let batch = [Sample::new(1, 1, 1), Sample::new(1, 1, 2), Sample::new(1, 2, 3)];
    let blob = new_blob();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    // One blob for two studies.
    let shared: Vec<Sample> = batch.iter().cloned().chain([Sample::new(2, 1, 1)]).collect();
    store_in(&mut tx, &blob, &shared).await.unwrap();
    tx.commit().await.unwrap();
    let grace = Duration::ZERO;
    let mut conn = it.superuser().await;

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.delete(&Sample::new(1, 1, 99).target(), grace).await.unwrap().len(), 0);
    assert_eq!(tx.delete(&series(1, 99), grace).await.unwrap().len(), 0);
    assert_eq!(tx.delete(&study(99), grace).await.unwrap().len(), 0);
    assert_eq!(tx.delete(&batch[0].target(), grace).await.unwrap().len(), 1);
    assert_eq!(tx.presence(&batch[0].target()).await.unwrap(), Presence::Deleted);
    assert_eq!(tx.presence(&series(1, 1)).await.unwrap(), Presence::Live);
    assert_eq!(tx.delete(&series(1, 1), grace).await.unwrap().len(), 1);
    assert_eq!(tx.presence(&series(1, 1)).await.unwrap(), Presence::Deleted);
    assert_eq!(tx.presence(&study(1)).await.unwrap(), Presence::Live);
    assert_eq!(tx.delete(&study(1), grace).await.unwrap().len(), 1);
    assert_eq!(tx.presence(&study(1)).await.unwrap(), Presence::Deleted);
    assert_eq!(tx.presence(&study(99)).await.unwrap(), Presence::Absent);
    tx.commit().await.unwrap();
    assert_eq!(number(&mut conn, "SELECT count(*) FROM blob_removal").await, 0, "one lives on");

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.delete(&study(2), Duration::ZERO).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    for table in ["study", "series", "instance", "instance_metadata", "frame_table", "blob"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let left: i64 = sqlx::query(sql).fetch_one(&mut conn).await.unwrap().get(0);
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(number(&mut conn, "SELECT count(*) FROM deleted_instance").await, 4);
    let deletes = "SELECT count(*) FROM change_feed WHERE action = 'delete'";
    assert_eq!(number(&mut conn, deletes).await, 4);

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.blobs_known(&[blob.id, uuid::Uuid::nil()]).await.unwrap(), [blob.id]);
    assert_eq!(tx.blob_removals_due(10).await.unwrap(), [blob.id]);
    assert!(tx.blob_removals_due(10).await.unwrap().is_empty(), "claimed");
    tx.blob_removals_failed(&[(blob.id, "it did not answer".to_owned())]).await.unwrap();
    assert!(tx.blob_removals_due(10).await.unwrap().is_empty(), "it waits");
    tx.removals_retry().await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.blob_removals_due(10).await.unwrap(), [blob.id], "due again");
    tx.blob_removed(&[blob.id]).await.unwrap();
    assert!(tx.blobs_known(&[blob.id]).await.unwrap().is_empty());

    assert!(store(&it.db, "a", &batch).await.iter().all(is_new), "what was deleted may come back");
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.presence(&study(1)).await.unwrap(), Presence::Live);
    assert!(tx.partition_in_use().await.unwrap());
}

#[tokio::test]
async fn everything_works_without_prepared_statements() {
    let options = collimator::index::DbOptions {
        prepared_statements: false,
        ..collimator::index::DbOptions::default()
    };
    let it = Database::with(options).await;
    let sample = Sample::new(1, 1, 1);
    store(&it.db, "a", std::slice::from_ref(&sample)).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.presence(&sample.target()).await.unwrap(), Presence::Live);
    let mut registry = it.db.registry().await.unwrap();
    assert!(registry.partition_exists(&"microsoft.default".parse().unwrap()).await.unwrap());
}

#[tokio::test]
async fn targets_of_every_level_are_counted_where_they_are() {
    let it = Database::new().await;
    let batch: Vec<Sample> = (1..=6).map(|n| Sample::new(n % 2, n % 3, n)).collect();
    store(&it.db, "a", &batch).await;
    let mut targets: Vec<Target> = batch.iter().map(Sample::target).collect();
    // Under another series, and not there at all.
    let Target::Instance { study: of, instance, .. } = batch[0].target() else { unreachable!() };
    targets.push(Target::Instance { study: of, series: uid("1.2.9"), instance });
    targets.push(Sample::new(1, 1, 99).target());
    // Without the first one: five of six are there.
    let some: Vec<&Target> = targets[1..].iter().collect();
    let more = [series(1, 1), study(0), study(7)];
    let all: Vec<&Target> = some.iter().copied().chain(&more).collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.count(&some).await.unwrap(), 5);
    assert_eq!(tx.count(&all).await.unwrap(), 5 + 1 + 3);
    assert_eq!(tx.count(&[]).await.unwrap(), 0);
    let mut tx = it.db.begin_in(&scope("b")).await.unwrap();
    assert_eq!(tx.count(&all).await.unwrap(), 0);
}
