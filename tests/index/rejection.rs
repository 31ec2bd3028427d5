//! Rejection notes: what they hide, whenever it comes, and how it comes back.

use std::time::Duration;

use collimator::{
    dicom::{RejectionTitle, Uid},
    index::{Db, IndexError, NewInstance, Rejects, Stored, Target},
};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::{
    data::{Sample, is_new, new_blob, store, store_in, study, uid},
    postgres::{Database, scope},
};

const GRACE: Duration = Duration::from_secs(3600);

/// Stores a note of a title that hides what it names, or deletes it.
async fn reject_as(
    db: &Db,
    partition: &str,
    note: &Sample,
    named: &[&str],
    title: RejectionTitle,
    deletes: Option<Duration>,
) -> Stored {
    let rejected: Vec<Uid> = named.iter().map(|text| uid(text)).collect();
    let (blob, metadata) = (new_blob(), note.metadata());
    let new = NewInstance {
        blob: blob.id,
        indexed: &note.indexed,
        metadata: &metadata,
        offset: 0,
        length: note.length,
        sha256: note.sha256,
        received: None,
        rejects: Some(Rejects { title, rejected: &rejected, deletes }),
    };
    let mut tx = db.begin_rejecting(&scope(partition)).await.unwrap();
    let stored = tx.store_batch(&[blob], &[new]).await.unwrap();
    tx.commit().await.unwrap();
    stored[0]
}

/// Stores a note that hides what it names.
pub async fn reject(db: &Db, partition: &str, note: &Sample, named: &[&str]) {
    let title = RejectionTitle::PatientSafety;
    let stored = reject_as(db, partition, note, named, title, None).await;
    assert!(is_new(&stored), "{stored:?}");
}

async fn texts(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn live(conn: &mut PgConnection) -> Vec<String> {
    texts(conn, "SELECT sop_instance_uid FROM instance ORDER BY sop_instance_uid").await
}

/// What notes say, and whether what they name is hidden still.
async fn said(conn: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT r.sop_instance_uid || ' by ' || r.note_uid || CASE
            WHEN d.restorable_until > '9000-01-01' THEN ' hidden'
            WHEN r.watermark IS NOT NULL THEN ' gone' ELSE '' END
        FROM rejection r LEFT JOIN deleted_instance d USING (partition_id, watermark)
        ORDER BY r.sop_instance_uid, r.note_uid";
    texts(conn, sql).await
}

async fn events(conn: &mut PgConnection, instance: &str) -> Vec<String> {
    let sql = format!(
        "SELECT action FROM change_feed WHERE sop_instance_uid = '{instance}' ORDER BY event_id"
    );
    texts(conn, &sql).await
}

async fn delete(db: &Db, target: &Target) -> usize {
    let mut tx = db.begin_in(&scope("a")).await.unwrap();
    let gone = tx.delete(target, GRACE).await.unwrap();
    tx.commit().await.unwrap();
    gone.len()
}

#[tokio::test]
async fn what_a_note_names_goes_with_all_that_counts_it() {
    let it = Database::new().await;
    let batch = [Sample::new(1, 1, 1), Sample::new(1, 1, 2), Sample::new(1, 2, 3)];
    store(&it.db, "a", &batch).await;
    store(&it.db, "a", &[Sample::new(2, 1, 1)]).await;
    store(&it.db, "b", &batch).await;
    // Of two studies, with what has not come, and what is of another partition alone.
    store(&it.db, "b", &[Sample::new(3, 1, 1)]).await;
    let named = ["1.2.1.1.1", "1.2.1.2.3", "1.2.2.1.1", "1.2.3.1.1"];
    reject(&it.db, "a", &Sample::new(1, 9, 9), &named).await;
    let mut conn = it.superuser().await;
    let left = ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.2", "1.2.1.2.3", "1.2.1.9.9", "1.2.3.1.1"];
    assert_eq!(live(&mut conn).await, left, "those of b are untouched");
    let expected = [
        "1.2.1.1.1 by 1.2.1.9.9 hidden",
        "1.2.1.2.3 by 1.2.1.9.9 hidden",
        "1.2.2.1.1 by 1.2.1.9.9 hidden",
        "1.2.3.1.1 by 1.2.1.9.9",
    ];
    assert_eq!(said(&mut conn).await, expected);
    // The series that has nothing left is gone, and the study as well.
    let series = "SELECT series_instance_uid FROM series WHERE partition_id = 'a' ORDER BY 1";
    assert_eq!(texts(&mut conn, series).await, ["1.2.1.1", "1.2.1.9"]);
    let studies = "SELECT study_instance_uid FROM study WHERE partition_id = 'a'";
    assert_eq!(texts(&mut conn, studies).await, ["1.2.1"]);
    let terms = "SELECT term FROM study_term WHERE partition_id = 'a' AND term LIKE 'm:%'
        ORDER BY term";
    assert_eq!(texts(&mut conn, terms).await, ["m:MR"], "CT was that of series 2");
    let events = "SELECT action || ' ' || sop_instance_uid FROM change_feed
        WHERE partition_id = 'a' ORDER BY event_id";
    assert_eq!(
        texts(&mut conn, events).await[4..],
        ["create 1.2.1.9.9", "delete 1.2.1.1.1", "delete 1.2.1.2.3", "delete 1.2.2.1.1"]
    );
    // Bytes stay: nothing is due in this millennium, and nobody is told of it as awaiting removal.
    let due = "SELECT blob_id::text FROM blob_removal WHERE due_at < '9000-01-01'";
    assert!(texts(&mut conn, due).await.is_empty());
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    assert!(tx.removals((10, 0)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_comes_after_its_note_is_hidden_and_what_came_before_is_refused() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    reject(&it.db, "a", &Sample::new(1, 9, 9), &["1.2.1.1.1", "1.2.1.1.2"]).await;
    let batch = [Sample::new(1, 1, 1), Sample::new(1, 1, 3)];
    let stored = store(&it.db, "a", &batch).await;
    assert!(stored.iter().all(is_new), "{stored:?}");
    assert_eq!(live(&mut conn).await, ["1.2.1.1.3", "1.2.1.9.9"]);
    assert_eq!(said(&mut conn).await, ["1.2.1.1.1 by 1.2.1.9.9 hidden", "1.2.1.1.2 by 1.2.1.9.9"]);
    assert_eq!(events(&mut conn, "1.2.1.1.1").await, ["create", "delete"]);
    // The same again, and others under its UID.
    for sample in [Sample::new(1, 1, 1), Sample::new(1, 1, 1).other_bytes()] {
        assert_eq!(store(&it.db, "a", &[sample]).await, [Stored::Rejected]);
    }
    // With the note in one batch.
    let (note, named) = (Sample::new(2, 9, 9), [uid("1.2.2.1.1")]);
    let samples = [Sample::new(2, 1, 1), note];
    let metadata: Vec<Vec<u8>> = samples.iter().map(Sample::metadata).collect();
    let blob = new_blob();
    let rejects = Rejects { title: RejectionTitle::Quality, rejected: &named, deletes: None };
    let news: Vec<NewInstance<'_>> = samples
        .iter()
        .zip(&metadata)
        .enumerate()
        .map(|(at, (sample, metadata))| NewInstance {
            blob: blob.id,
            indexed: &sample.indexed,
            metadata,
            offset: at as u64 * sample.length,
            length: sample.length,
            sha256: sample.sha256,
            received: None,
            rejects: (at == 1).then_some(rejects),
        })
        .collect();
    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    let stored = tx.store_batch(&[blob], &news).await.unwrap();
    tx.commit().await.unwrap();
    assert!(stored.iter().all(is_new), "{stored:?}");
    assert_eq!(live(&mut conn).await, ["1.2.1.1.3", "1.2.1.9.9", "1.2.2.9.9"]);
}

#[tokio::test]
async fn whose_time_was_over_may_come_again_and_lives() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let expired = RejectionTitle::RetentionExpired;
    store(&it.db, "a", &[Sample::new(1, 1, 1), Sample::new(1, 1, 2)]).await;
    let named = ["1.2.1.1.1", "1.2.1.1.2"];
    reject_as(&it.db, "a", &Sample::new(1, 9, 9), &named, expired, None).await;
    assert_eq!(live(&mut conn).await, ["1.2.1.9.9"]);
    let stored = store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    assert!(is_new(&stored[0]));
    assert_eq!(live(&mut conn).await, ["1.2.1.1.1", "1.2.1.9.9"]);
    assert_eq!(said(&mut conn).await, ["1.2.1.1.2 by 1.2.1.9.9 hidden"]);
    // Not where another note says more.
    reject(&it.db, "a", &Sample::new(1, 9, 10), &["1.2.1.1.2"]).await;
    assert_eq!(store(&it.db, "a", &[Sample::new(1, 1, 2)]).await, [Stored::Rejected]);
    // What a note deletes is deleted, and nothing else is said of it.
    let note = Sample::new(1, 9, 11);
    reject_as(&it.db, "a", &note, &["1.2.1.1.1"], expired, Some(GRACE)).await;
    assert_eq!(live(&mut conn).await, ["1.2.1.9.10", "1.2.1.9.11", "1.2.1.9.9"]);
    assert_eq!(said(&mut conn).await.len(), 2);
    let stored = store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    assert!(is_new(&stored[0]));
}

#[tokio::test]
async fn what_is_deleted_is_not_kept_for_a_note() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1), Sample::new(1, 1, 2)]).await;
    store(&it.db, "a", &[Sample::new(1, 1, 3)]).await;
    let named = ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"];
    reject(&it.db, "a", &Sample::new(1, 9, 9), &named).await;
    assert_eq!(delete(&it.db, &Sample::new(1, 1, 1).target()).await, 1);
    let expected = [
        "1.2.1.1.1 by 1.2.1.9.9 gone",
        "1.2.1.1.2 by 1.2.1.9.9 hidden",
        "1.2.1.1.3 by 1.2.1.9.9 hidden",
    ];
    assert_eq!(said(&mut conn).await, expected);
    let due = "SELECT due_at < now() + interval '1 day' AND due_at > now() FROM blob_removal";
    let due = sqlx::query(due).fetch_all(&mut conn).await.unwrap();
    let due: Vec<bool> = due.iter().map(|row| row.get(0)).collect();
    assert_eq!(due, [false, false], "its blob holds another one that is hidden");
    // With the study, which takes the note along: it stays in force.
    assert_eq!(delete(&it.db, &study(1)).await, 3);
    assert_eq!(said(&mut conn).await.iter().filter(|one| one.ends_with("gone")).count(), 3);
    assert_eq!(store(&it.db, "a", &[Sample::new(1, 1, 2)]).await, [Stored::Rejected]);
    let late = "SELECT blob_id::text FROM blob_removal WHERE due_at > now() + interval '1 day'";
    assert!(texts(&mut conn, late).await.is_empty());
    assert_eq!(delete(&it.db, &study(1)).await, 0);
}

#[tokio::test]
async fn a_note_that_ends_lets_go_what_it_alone_names() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1), Sample::new(1, 1, 2)]).await;
    let notes = [Sample::new(1, 9, 9), Sample::new(1, 9, 10)];
    reject(&it.db, "a", &notes[0], &["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]).await;
    reject(&it.db, "a", &notes[1], &["1.2.1.1.2"]).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let (page, more) = tx.rejection_page(&uid("1.2.1.9.9"), None, 10).await.unwrap();
    assert_eq!((page.len(), more), (1, None));
    assert_eq!((page[0].0.as_str(), page[0].1.instance.as_str()), ("1.2.1", "1.2.1.1.1"));
    let hidden = page[0].1.watermark;
    let (page, more) = tx.rejection_page(&uid("1.2.1.9.9"), None, 2).await.unwrap();
    assert_eq!((page.len(), more.as_deref()), (1, Some("1.2.1.1.2")));
    let (page, more) = tx.rejection_page(&uid("1.2.1.9.9"), more.as_deref(), 2).await.unwrap();
    assert_eq!((page.len(), more), (0, None));
    drop(tx);
    // Nobody finds it in another partition.
    let mut tx = it.db.begin_in(&scope("b")).await.unwrap();
    assert!(!tx.rejection_is_note(&uid("1.2.1.9.9")).await.unwrap());
    tx.rejection_end(&uid("1.2.1.9.9"), &[], GRACE).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(said(&mut conn).await.len(), 4);

    // Nothing is let go but what is known to be damaged.
    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    let ended = tx.rejection_end(&uid("1.2.1.9.9"), &[], GRACE).await;
    assert!(matches!(ended, Err(IndexError::Busy)), "{ended:?}");
    drop(tx);
    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    tx.rejection_end(&uid("1.2.1.9.9"), &[hidden], GRACE).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(said(&mut conn).await, ["1.2.1.1.2 by 1.2.1.9.10 hidden"]);
    let gone = "SELECT sop_instance_uid FROM deleted_instance
        WHERE restorable_until BETWEEN now() AND now() + interval '1 day'";
    assert_eq!(texts(&mut conn, gone).await, ["1.2.1.1.1"]);
    assert!(is_new(&store(&it.db, "a", &[Sample::new(1, 1, 3)]).await[0]));
    assert!(is_new(&store(&it.db, "a", &[Sample::new(1, 1, 1)]).await[0]));
}

/// Whether an attempt did it. Where others were in the way it is made again, as every server does.
fn is_done(attempt: Result<(), IndexError>, tried: usize) -> bool {
    match attempt {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_retryable() && tried < 20, "{error:?}");
            false
        }
    }
}

/// Notes and what they name come at once, with deletes between them: nothing that a note in force
/// names is live.
#[tokio::test]
async fn notes_and_stores_at_once_leave_nothing_named_live() {
    let it = Database::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40_u32 {
        let db = it.db.clone();
        tasks.spawn(async move {
            let samples = [Sample::new(n % 3, 1, n), Sample::new(n % 3, 1, 100 + n)];
            for tried in 1.. {
                let attempt = async {
                    let mut tx = db.begin_store(&scope("a")).await?;
                    store_in(&mut tx, &new_blob(), &samples).await?;
                    tx.commit().await
                };
                if is_done(attempt.await, tried) {
                    break;
                }
            }
        });
        let db = it.db.clone();
        tasks.spawn(async move {
            let named = format!("1.2.{}.1.{n}", n % 3);
            let note = Sample::new(3, 9, n);
            let rejected = [uid(&named)];
            for tried in 1.. {
                let (blob, metadata) = (new_blob(), note.metadata());
                let new = NewInstance {
                    blob: blob.id,
                    indexed: &note.indexed,
                    metadata: &metadata,
                    offset: 0,
                    length: note.length,
                    sha256: note.sha256,
                    received: None,
                    rejects: Some(Rejects {
                        title: RejectionTitle::Quality,
                        rejected: &rejected,
                        deletes: None,
                    }),
                };
                let attempt = async {
                    let mut tx = db.begin_rejecting(&scope("a")).await?;
                    tx.store_batch(&[blob], &[new]).await?;
                    tx.commit().await
                };
                if is_done(attempt.await, tried) {
                    break;
                }
            }
        });
        if n % 8 == 0 {
            let db = it.db.clone();
            tasks.spawn(async move {
                let mut tx = db.begin_in(&scope("a")).await.unwrap();
                // What loses the race is of no account here.
                if tx.delete(&study(n % 3), GRACE).await.is_ok() {
                    let _ = tx.commit().await;
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut conn = it.superuser().await;
    let named = "SELECT i.sop_instance_uid FROM instance i JOIN rejection USING (partition_id, sop_instance_uid)";
    assert!(texts(&mut conn, named).await.is_empty());
    assert_eq!(said(&mut conn).await.len(), 40);
    let lost = "SELECT d.sop_instance_uid FROM deleted_instance d LEFT JOIN rejection r USING (partition_id, watermark) WHERE d.restorable_until > '9000-01-01' AND r.note_uid IS NULL";
    assert!(texts(&mut conn, lost).await.is_empty(), "hidden by nobody");
}
