//! What notes hide, where something else happens to it at the same time or in the same transaction.

use std::time::{Duration, Instant};

use collimator::{
    dicom::{RejectionTitle, Uid},
    index::{
        CompactionRule, Db, IndexError, NewBlob, NewInstance, Planned, Rejects, Replaced, Revision,
        Stored, Target,
    },
};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::{
    data::{Sample, is_new, new_blob, store, store_in, study, study_uid, uid},
    postgres::{Database, scope},
    rejection::reject,
};

const GRACE: Duration = Duration::from_secs(3600);
const ANY: CompactionRule = CompactionRule { dead_share: 0.01, min_bytes: 0 };

/// Rows of a batch, whose last one is a note that hides what `named` names.
fn batch<'a>(
    blob: &NewBlob,
    samples: &'a [Sample],
    metadata: &'a [Vec<u8>],
    named: &'a [Uid],
) -> Vec<NewInstance<'a>> {
    let rejects = Rejects { title: RejectionTitle::Quality, rejected: named, deletes: None };
    let mut news = Vec::new();
    for (sample, metadata) in samples.iter().zip(metadata) {
        news.push(NewInstance {
            blob: blob.id,
            indexed: &sample.indexed,
            metadata,
            offset: sample.length * news.len() as u64,
            length: sample.length,
            sha256: sample.sha256,
            received: None,
            rejects: (news.len() + 1 == samples.len()).then_some(rejects),
        });
    }
    news
}

async fn count(conn: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(conn).await.unwrap().get(0)
}

/// Until somebody waits for a lock.
async fn until_one_waits(conn: &mut PgConnection) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while count(conn, waiting).await == 0 {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

async fn delete(db: Db, target: Target) -> Result<usize, IndexError> {
    let mut tx = db.begin_in(&scope("a")).await?;
    let gone = tx.delete(&target, GRACE).await?;
    tx.commit().await?;
    Ok(gone.len())
}

#[tokio::test]
async fn what_is_erased_while_a_delete_waits_does_not_come_back() {
    let it = Database::new().await;
    let sample = Sample::new(1, 1, 1);
    store(&it.db, "a", std::slice::from_ref(&sample)).await;
    reject(&it.db, "a", &Sample::new(2, 9, 9), &["1.2.1.1.1"]).await;
    let mut erasing = it.db.begin_in(&scope("a")).await.unwrap();
    let erased = erasing.erase(&sample.target(), Uuid::new_v4(), "/").await.unwrap();
    assert_eq!(erased.deleted, 1);
    let waiting = tokio::spawn(delete(it.db.clone(), sample.target()));
    let mut conn = it.superuser().await;
    until_one_waits(&mut conn).await;
    erasing.commit().await.unwrap();
    let late = waiting.await.unwrap();
    assert!(matches!(late, Err(IndexError::Busy)), "{late:?}");
    assert_eq!(delete(it.db.clone(), sample.target()).await.unwrap(), 0, "it is gone");
    let back = "SELECT count(*) FROM deleted_instance WHERE restorable_until IS NOT NULL";
    assert_eq!(count(&mut conn, back).await, 0);
}

/// What a server let come back that was erased has neither place nor bytes: it takes nothing from what
/// lives at the beginning of its blob.
#[tokio::test]
async fn what_lives_is_kept_where_something_was_erased() {
    let it = Database::new().await;
    let samples = [Sample::new(1, 1, 1), Sample::new(1, 1, 2)];
    store(&it.db, "a", &samples).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.erase(&samples[1].target(), Uuid::new_v4(), "/").await.unwrap();
    tx.commit().await.unwrap();
    let mut conn = it.superuser().await;
    let let_come = "UPDATE deleted_instance SET restorable_until = now() + interval '1 hour'";
    sqlx::query(let_come).execute(&mut conn).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let due = tx.compactions_due(10).await.unwrap();
    let planned = tx.compaction_plan(due[0], ANY).await.unwrap();
    let Planned::Copy(plan) = planned else { panic!("{planned:?}") };
    let kept: Vec<(u64, u64)> = plan.kept.iter().map(|kept| (kept.offset, kept.length)).collect();
    assert_eq!(kept, [(0, samples[0].length)]);
}

/// Deletes of one of two instances in a blob, at once for good, before or after the other is hidden.
#[tokio::test]
async fn what_was_deleted_leaves_a_blob_that_stays_for_what_is_hidden() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    for (study, is_hidden_first) in [(1, false), (2, true)] {
        let samples = [Sample::new(study, 1, 1), Sample::new(study, 1, 2)];
        store(&it.db, "a", &samples).await;
        let (note, named) = (Sample::new(9, 9, study), format!("1.2.{study}.1.1"));
        if is_hidden_first {
            reject(&it.db, "a", &note, &[&named]).await;
        }
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        tx.delete(&samples[1].target(), Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        if !is_hidden_first {
            reject(&it.db, "a", &note, &[&named]).await;
        }
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        let due = tx.compactions_due(10).await.unwrap();
        assert_eq!(due.len(), 1, "{study}");
        let planned = tx.compaction_plan(due[0], ANY).await.unwrap();
        tx.commit().await.unwrap();
        let Planned::Copy(plan) = planned else { panic!("{planned:?}") };
        assert_eq!(plan.length(), samples[0].length);
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        assert!(tx.compaction_commit(&plan, Duration::ZERO).await.unwrap());
        tx.commit().await.unwrap();
        // The old one goes, and the new one stays.
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        assert_eq!(tx.blob_removals_due(10).await.unwrap(), [plan.from]);
        tx.blob_removed(&[plan.from]).await.unwrap();
        assert!(tx.compactions_due(10).await.unwrap().is_empty());
        tx.commit().await.unwrap();
        let place = "SELECT d.blob_id = r.blob_id AND d.blob_offset = 0
            FROM deleted_instance d JOIN blob_removal r USING (partition_id, blob_id)
            WHERE d.restorable_until > '9000-01-01' AND r.due_at > '9000-01-01'
                AND d.study_instance_uid = $1";
        let found = sqlx::query(place).bind(format!("1.2.{study}")).fetch_all(&mut conn).await;
        let found: Vec<bool> = found.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(found, [true]);
    }
}

#[tokio::test]
async fn a_repeated_batch_may_hide_something_of_itself() {
    let it = Database::new().await;
    let samples = [Sample::new(1, 1, 1), Sample::new(1, 9, 9)];
    let metadata: Vec<Vec<u8>> = samples.iter().map(Sample::metadata).collect();
    let (blob, named) = (new_blob(), [uid("1.2.1.1.1")]);
    let news = batch(&blob, &samples, &metadata, &named);
    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    let stored = tx.store_batch_again(&[blob], &news).await.unwrap();
    tx.commit().await.unwrap();
    assert!(stored.iter().all(is_new), "{stored:?}");
    let mut conn = it.superuser().await;
    let hidden = "SELECT count(*) FROM deleted_instance WHERE restorable_until > '9000-01-01'";
    assert_eq!(count(&mut conn, hidden).await, 1);
    // What was hidden by the first try of it, which did commit, is not named again.
    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    let spent = tx.store_batch_again(&[blob], &news).await;
    assert!(matches!(spent, Err(IndexError::Spent)), "{spent:?}");
}

/// A note that did nothing when it came, since its title was configured so, and does when it comes
/// back.
#[tokio::test]
async fn a_note_that_comes_back_takes_first_versions_along() {
    let it = Database::new().await;
    let (first, second) = (new_blob(), new_blob());
    let samples = [Sample::new(1, 1, 1), Sample::new(1, 9, 9)];
    let metadata: Vec<Vec<u8>> = samples.iter().map(Sample::metadata).collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    let stored = store_in(&mut tx, &first, &samples).await.unwrap();
    assert!(stored.iter().all(is_new), "{stored:?}");
    tx.commit().await.unwrap();
    // Both have new versions.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.update_blobs(&[second.id]).await.unwrap();
    tx.commit().await.unwrap();
    let named = [uid("1.2.1.1.1")];
    let changed = samples.clone().map(Sample::other_bytes);
    let news = batch(&second, &changed, &metadata, &named);
    let mut revisions = Vec::new();
    for (new, stored) in news.iter().zip(&stored) {
        let Stored::New { watermark } = *stored else { panic!("{stored:?}") };
        let new = NewInstance { rejects: None, ..*new };
        revisions.push(Revision { replaces: watermark, new, shared: None });
    }
    let mut tx = it.db.begin_store(&scope("a")).await.unwrap();
    let replaced =
        tx.study_replace((&study(1), None), &[second], &revisions, Duration::ZERO).await.unwrap();
    assert!(matches!(replaced, Replaced::Done(_)), "{replaced:?}");
    tx.commit().await.unwrap();
    assert_eq!(delete(it.db.clone(), study(1)).await.unwrap(), 2);

    let mut tx = it.db.begin_rejecting(&scope("a")).await.unwrap();
    let (page, _) = tx.undelete_page(&study_uid(1), None, 10).await.unwrap();
    let watermarks: Vec<i64> = page.iter().map(|tombstone| tombstone.watermark).collect();
    let back = tx.undelete_batch(second.id, &news, &watermarks, None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(back.iter().all(is_new), "{back:?}");
    let mut conn = it.superuser().await;
    let live = "SELECT count(*) FROM instance";
    assert_eq!(count(&mut conn, live).await, 1, "the note");
    let orphans = "SELECT count(*) FROM original_instance o
        WHERE NOT EXISTS (SELECT FROM instance i
            WHERE i.partition_id = o.partition_id AND i.watermark = o.of_watermark)";
    assert_eq!(count(&mut conn, orphans).await, 0);
    let hidden = "SELECT count(*) FROM deleted_instance WHERE restorable_until > '9000-01-01'";
    assert_eq!(count(&mut conn, hidden).await, 2, "both versions");
    // So an erasure leaves nothing of it.
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.erase(&samples[0].target(), Uuid::new_v4(), "/").await.unwrap();
    tx.commit().await.unwrap();
    let left = "SELECT count(*) FROM deleted_instance
        WHERE sop_instance_uid = '1.2.1.1.1' AND length > 0";
    assert_eq!(count(&mut conn, left).await, 0);
}
