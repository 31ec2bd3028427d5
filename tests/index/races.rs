//! Many stores and deletes at once leave the index whole.

use std::time::Duration;

use collimator::index::{DbOptions, IndexError};
use sqlx::Row;

use crate::{
    data::{Sample, is_new, new_blob, series, store_in, study},
    postgres::{Database, scope},
};

/// A small generator: the races differ, what each task does not.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as u32 % n
    }
}

/// What must hold whatever happened, as queries that find what breaks it.
const BROKEN: &[(&str, &str)] = &[
    (
        "study without series",
        "SELECT FROM study s WHERE NOT EXISTS (SELECT FROM series e WHERE e.partition_id = s.partition_id AND e.study_key = s.study_key)",
    ),
    (
        "series without instance",
        "SELECT FROM series e WHERE NOT EXISTS (SELECT FROM instance i WHERE i.partition_id = e.partition_id AND i.series_key = e.series_key)",
    ),
    (
        "instance under another study than its series",
        "SELECT FROM instance i LEFT JOIN series e USING (partition_id, series_key) WHERE e.study_key IS DISTINCT FROM i.study_key",
    ),
    (
        "term of a study that is not there, or at another place than its own",
        "SELECT FROM study_term t LEFT JOIN study s USING (partition_id, study_key) WHERE s.study_order IS DISTINCT FROM t.study_order",
    ),
    (
        "modality without term",
        "SELECT FROM series e WHERE e.modality IS NOT NULL AND NOT EXISTS (SELECT FROM study_term t WHERE t.partition_id = e.partition_id AND t.study_key = e.study_key AND t.term = 'm:' || e.modality)",
    ),
    (
        "term without modality",
        "SELECT FROM study_term t WHERE t.term LIKE 'm:%' AND NOT EXISTS (SELECT FROM series e WHERE t.partition_id = e.partition_id AND t.study_key = e.study_key AND t.term = 'm:' || e.modality)",
    ),
    (
        "SOP class without term",
        "SELECT FROM instance i WHERE NOT EXISTS (SELECT FROM study_term t WHERE t.partition_id = i.partition_id AND t.study_key = i.study_key AND t.term = 'c:' || i.sop_class_uid)",
    ),
    (
        "term without SOP class",
        "SELECT FROM study_term t WHERE t.term LIKE 'c:%' AND NOT EXISTS (SELECT FROM instance i WHERE t.partition_id = i.partition_id AND t.study_key = i.study_key AND t.term = 'c:' || i.sop_class_uid)",
    ),
    (
        "name without terms",
        "SELECT FROM study s WHERE s.patient_name IS NOT NULL AND NOT EXISTS (SELECT FROM study_term t WHERE t.partition_id = s.partition_id AND t.study_key = s.study_key AND t.term = 'n:' || left(s.patient_name, 3))",
    ),
    (
        "request without series",
        "SELECT FROM series_request r LEFT JOIN series e USING (partition_id, series_key) WHERE e.study_key IS DISTINCT FROM r.study_key",
    ),
    (
        "series without requests",
        "SELECT FROM series e WHERE NOT EXISTS (SELECT FROM series_request r WHERE r.partition_id = e.partition_id AND r.series_key = e.series_key)",
    ),
    (
        "instance without metadata",
        "SELECT FROM instance i WHERE NOT EXISTS (SELECT FROM instance_metadata m WHERE m.partition_id = i.partition_id AND m.watermark = i.watermark)",
    ),
    (
        "metadata without instance",
        "SELECT FROM instance_metadata m WHERE NOT EXISTS (SELECT FROM instance i WHERE m.partition_id = i.partition_id AND m.watermark = i.watermark)",
    ),
    (
        "packed metadata without its first or last instance",
        "SELECT FROM metadata_pack m WHERE 2 > (SELECT count(*) FROM instance i WHERE m.partition_id = i.partition_id AND m.study_key = i.study_key AND i.watermark IN (m.first_watermark, m.last_watermark))",
    ),
    (
        "packed metadata of a study more than once",
        "SELECT FROM metadata_pack m JOIN metadata_pack o USING (partition_id, first_watermark) WHERE m.study_key <> o.study_key",
    ),
    (
        "frame table without instance",
        "SELECT FROM frame_table m WHERE NOT EXISTS (SELECT FROM instance i WHERE m.partition_id = i.partition_id AND m.watermark = i.watermark)",
    ),
    (
        "live blob without instance",
        "SELECT FROM blob b WHERE NOT EXISTS (SELECT FROM instance i WHERE i.partition_id = b.partition_id AND i.blob_id = b.blob_id)",
    ),
    (
        "blob both live and queued",
        "SELECT FROM blob JOIN blob_removal USING (partition_id, blob_id)",
    ),
    (
        "deleted blob not queued",
        "SELECT FROM deleted_instance d WHERE NOT EXISTS (SELECT FROM blob b WHERE b.partition_id = d.partition_id AND b.blob_id = d.blob_id) AND NOT EXISTS (SELECT FROM blob_removal b WHERE b.partition_id = d.partition_id AND b.blob_id = d.blob_id)",
    ),
    (
        "creations not told",
        "SELECT FROM (SELECT watermark FROM instance UNION ALL SELECT watermark FROM deleted_instance) w FULL JOIN (SELECT watermark FROM change_feed WHERE action = 'create') f USING (watermark) WHERE w IS NULL OR f IS NULL",
    ),
    (
        "deletions not told",
        "SELECT FROM (SELECT watermark FROM deleted_instance) w FULL JOIN (SELECT watermark FROM change_feed WHERE action = 'delete') f USING (watermark) WHERE w IS NULL OR f IS NULL",
    ),
];

/// Checks what must hold, but for what a test says cannot.
pub async fn assert_whole(it: &Database, but: &[&str]) {
    let mut conn = it.superuser().await;
    for (what, sql) in BROKEN.iter().filter(|(what, _)| !but.contains(what)) {
        let found = sqlx::query(*sql).fetch_all(&mut conn).await.unwrap().len();
        assert_eq!(found, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_and_deletes_at_once_leave_the_index_whole() {
    let options = DbOptions { max_connections: 12, ..DbOptions::default() };
    let it = Database::with(options).await;
    let tasks: Vec<_> = (0..12_u64)
        .map(|task| {
            let db = it.db.clone();
            tokio::spawn(async move {
                let mut dice = Dice(task);
                let (mut done, mut new, mut gone) = (0, 0, 0);
                while done < 30 {
                    let mut tx = db.begin_in(&scope("a")).await.unwrap();
                    let outcome = if dice.below(3) > 0 {
                        // Few studies, series and instances, so that they meet.
                        let batch: Vec<Sample> = (0..6)
                            .map(|_| {
                                let (study, series) = (dice.below(3), dice.below(2));
                                let sample = Sample::new(study, series, dice.below(6));
                                // Some lack what others fill in, in whatever order they come.
                                let lacking =
                                    ["study_date", "patient_name", "modality", "study_id"];
                                let lacking = lacking.get(dice.below(6) as usize);
                                lacking.map_or(sample.clone(), |column| sample.key(column, ""))
                            })
                            .collect();
                        let stored = store_in(&mut tx, &new_blob(), &batch).await;
                        stored.map(|all| (all.iter().filter(|one| is_new(one)).count() as u64, 0))
                    } else {
                        let (in_study, in_series) = (dice.below(3), dice.below(2));
                        let target = match dice.below(3) {
                            0 => study(in_study),
                            1 => series(in_study, in_series),
                            _ => Sample::new(in_study, in_series, dice.below(6)).target(),
                        };
                        tx.delete(&target, Duration::ZERO).await.map(|gone| (0, gone.len() as u64))
                    };
                    match outcome {
                        Ok((stored, deleted)) => {
                            tx.commit().await.unwrap();
                            (new, gone, done) = (new + stored, gone + deleted, done + 1);
                        }
                        Err(IndexError::Busy) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                (new, gone)
            })
        })
        .collect();
    let (mut new, mut gone) = (0, 0);
    for task in tasks {
        let (stored, deleted) = task.await.unwrap();
        (new, gone) = (new + stored, gone + deleted);
    }
    assert_whole(&it, &[]).await;
    let mut conn = it.superuser().await;
    let left: i64 =
        sqlx::query("SELECT count(*) FROM instance").fetch_one(&mut conn).await.unwrap().get(0);
    assert!(new > 0 && gone > 0);
    assert_eq!(u64::try_from(left).unwrap(), new - gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_equal_stores_is_new() {
    let it = Database::new().await;
    let batch: Vec<Sample> = (0..20).map(|n| Sample::new(n % 4, n % 2, n)).collect();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (db, mut batch) = (it.db.clone(), batch.clone());
            batch.rotate_left(task * 2);
            tokio::spawn(async move {
                loop {
                    let mut tx = db.begin_in(&scope("a")).await.unwrap();
                    match store_in(&mut tx, &new_blob(), &batch).await {
                        Ok(stored) => {
                            tx.commit().await.unwrap();
                            return stored.iter().filter(|one| is_new(one)).count();
                        }
                        Err(IndexError::Busy) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += task.await.unwrap();
    }
    assert_eq!(new, 20);
    assert_whole(&it, &[]).await;
}

#[tokio::test]
async fn stores_to_one_study_do_not_wait_for_each_other() {
    let it = Database::new().await;
    crate::data::store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    let mut first = it.db.begin_in(&scope("a")).await.unwrap();
    store_in(&mut first, &new_blob(), &[Sample::new(1, 1, 2)]).await.unwrap();
    // The first has not committed: the second would wait for it for ever.
    let mut second = it.db.begin_in(&scope("a")).await.unwrap();
    store_in(&mut second, &new_blob(), &[Sample::new(1, 1, 3)]).await.unwrap();
    second.commit().await.unwrap();
    first.commit().await.unwrap();
    assert_whole(&it, &[]).await;
}
