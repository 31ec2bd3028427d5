//! Update: new versions of all instances of a study, or of a series of it, take the place of those that
//! are there, in one transaction; in the same study or in another.
//!
//! The new files are written before, in blobs that await removal until rows name them
//! ([`PartitionTx::update_blobs`]): a server that dies leaves nothing unknown. The transaction locks
//! the study as Delete does (`delete`): for itself alone, then the blobs. It goes through only where
//! exactly what was copied is there ([`Replaced::Changed`] otherwise), so that of two updates the
//! second copies what the first one made, and no study has instances of both. Rows of the old
//! versions are removed, those of the new ones are written as Store does it (`store`), parents
//! included, so that what a study says follows from its instances in one way only.
//!
//! First versions are kept (`originals`), and new ones may share bytes with them (`composed`). Blobs
//! that nothing lives in any more leave after a while, in which those end who read them. Absent: bytes,
//! and what is changed (`archive`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, NewBlob, NewInstance, PartitionTx, Shared, Stored, Target, Updating,
    compaction::{QUEUE, UNQUEUE},
    located::{bigint, uid},
    lookup::{one, series_uid_of_i},
    store::{Origin, Replacing, Version},
};
use crate::dicom::Uid;

/// A sign of life of copies that are being made.
const POSTPONE: &str = concat!(
    "-- update_postpone
    UPDATE blob_removal t SET due_at = now() + make_interval(secs => $4), length = n.length
    FROM unnest($2::uuid[], $3::bigint[]) AS n(key, length) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.attempts = 0 AND t.ctid = x.at"
);

/// Updates that have not ended.
const WAITING: &str = "-- updates_waiting
    SELECT count(*) FROM (SELECT FROM operation
        WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NULL
            AND kind = 'update'
        ORDER BY created_at, operation_id) x";

/// Instances left the study and series that they were in.
const LEFT: &str = concat!(
    "-- update_left
    INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark)
    SELECT i.partition_id, 'delete', $3, ",
    series_uid_of_i!(),
    ", i.sop_instance_uid, i.watermark
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i
    RETURNING event_id"
);

/// Studies of a patient, latest first.
const OF_PATIENT: &str = "-- studies_of_patient
    SELECT s.study_instance_uid, s.attributes FROM (SELECT * FROM study
        WHERE partition_id = $1 AND patient_id >= $2 AND patient_id <= $2
        ORDER BY patient_id, study_order DESC, study_key DESC) s
    WHERE $3::text IS NULL OR s.issuer_of_patient_id = $3
    LIMIT $4";

const ATTRIBUTES: &str = concat!(
    "-- study_attributes
    SELECT s.attributes FROM ",
    one!("attributes", "study", "study_instance_uid", "$2"),
    " s"
);

pub(super) const STATEMENTS: &[&str] = &[POSTPONE, WAITING, LEFT, OF_PATIENT, ATTRIBUTES];

/// Instances from which no further blob is stored with others.
const AT_ONCE: usize = 500;

/// Most updates of a partition that have not ended.
const MOST_WAITING: i64 = 50;

/// Time after which a copy leaves that no row names.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// A new version, and the one that it replaces.
#[derive(Debug)]
pub struct Revision<'a> {
    /// The watermark of the old one.
    pub replaces: i64,
    /// The new one.
    pub new: NewInstance<'a>,
    /// What its file shares with the first version, where its blob is a composed one.
    pub shared: Option<Shared>,
}

/// What became of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// All of its instances have new versions. The watermarks of the old ones.
    Done(Vec<i64>),
    /// It holds other versions than those that were copied; nothing was changed, and the transaction
    /// is to be left without a commit.
    Changed,
    /// It is not there.
    Gone,
}

impl PartitionTx {
    /// Asks for an update, unless too many wait; says whether it did. `resources` are the paths of
    /// its studies.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is asked for before [`PartitionTx::commit`].
    pub async fn update_create(
        &mut self,
        id: Uuid,
        resources: &[String],
        updating: &Updating,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(WAITING);
        let waiting: i64 = query.fetch_one(conn).await?.try_get(0)?;
        if waiting >= MOST_WAITING {
            return Ok(false);
        }
        let total = i64::try_from(updating.studies.len()).ok();
        self.operation_create(id, resources, total, updating).await?;
        Ok(true)
    }

    /// Notes blobs that are about to be written as ones that await removal. Commit before writing.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn update_blobs(&mut self, blobs: &[Uuid]) -> Result<(), IndexError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let (query, conn) = self.statement(QUEUE);
        query.bind(blobs).bind(LIFE.as_secs_f64()).bind(0_i64).execute(conn).await?;
        Ok(())
    }

    /// Says how long blobs have become, which no row names yet, or that they are wanted no more
    /// (`leave_after`).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn update_blobs_leave(
        &mut self,
        blobs: &[NewBlob],
        leave_after: Duration,
    ) -> Result<(), IndexError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let (ids, lengths): (Vec<Uuid>, Vec<i64>) =
            blobs.iter().map(|blob| (blob.id, bigint(blob.length))).unzip();
        let (query, conn) = self.statement(POSTPONE);
        query.bind(ids).bind(lengths).bind(leave_after.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    /// The studies of a patient, of an issuer where one is given, latest first, with the attributes
    /// that Search returns of them, as DICOM JSON.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn studies_of_patient(
        &mut self,
        patient: &str,
        issuer: Option<&str>,
        limit: i64,
    ) -> Result<Vec<(Uid, String)>, IndexError> {
        let (query, conn) = self.statement(OF_PATIENT);
        let rows = query.bind(patient).bind(issuer).bind(limit).fetch_all(conn).await?;
        let read = |row| Ok((uid(row, 0, "study", "study_instance_uid")?, row.try_get(1)?));
        rows.iter().map(read).collect()
    }

    /// The attributes that Search returns of a study, as DICOM JSON.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn study_attributes(&mut self, study: &Uid) -> Result<Option<String>, IndexError> {
        let (query, conn) = self.statement(ATTRIBUTES);
        let row = query.bind(study.as_str()).fetch_optional(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Puts new versions in the place of all instances of a study or series; with `into` in that
    /// study, which is another. Of a transaction that
    /// [`Db::begin_store`](super::Db::begin_store) opened. The old versions' bytes, but for first
    /// ones, leave after `linger`.
    ///
    /// # Errors
    /// [`IndexError::Spent`] where a copy is about to leave: copy again. [`IndexError::Busy`]:
    /// repeat the whole transaction. Nothing is changed before [`PartitionTx::commit`].
    pub async fn study_replace(
        &mut self,
        (target, into): (&Target, Option<&Uid>),
        blobs: &[NewBlob],
        revisions: &[Revision<'_>],
        linger: Duration,
    ) -> Result<Replaced, IndexError> {
        if let Some(into) = into.filter(|into| into.as_str() < target.study().as_str()) {
            self.study_lock(into).await?;
        }
        let Some(victims) = self.victims(target).await? else { return Ok(Replaced::Gone) };
        let old: HashMap<i64, &Revision<'_>> =
            revisions.iter().map(|revision| (revision.replaces, revision)).collect();
        let is_copied = |watermark| old.contains_key(watermark);
        if old.len() != victims.watermarks.len() || !victims.watermarks.iter().all(is_copied) {
            return Ok(Replaced::Changed);
        }
        if let Some(into) = into {
            if into.as_str() > target.study().as_str() {
                self.study_lock(into).await?;
            }
            let (query, conn) = self.statement(LEFT);
            query.bind(&victims.watermarks).bind(target.study().as_str()).execute(conn).await?;
        }
        let ids: Vec<Uuid> = blobs.iter().map(|blob| blob.id).collect();
        let (query, conn) = self.statement(UNQUEUE);
        let unqueued = query.bind(&ids).execute(conn).await?.rows_affected();
        if unqueued < ids.len() as u64 {
            return Err(IndexError::Spent);
        }
        self.versions_keep(&victims.watermarks, &victims.revised).await?;
        let composed: Vec<(Uuid, i64, Shared, u64)> = revisions
            .iter()
            .filter_map(|it| Some((it.new.blob, it.replaces, it.shared?, it.new.length)))
            .collect();
        self.composed_create(&composed).await?;
        self.victims_remove(&victims).await?;
        let replacing: Replacing = revisions
            .iter()
            .map(|revision| {
                let version = Version { watermark: revision.replaces, is_moved: into.is_some() };
                (revision.new.indexed.instance.as_str().to_owned(), version)
            })
            .collect();
        let mut by_blob: BTreeMap<Uuid, Vec<&Revision<'_>>> = BTreeMap::new();
        for revision in revisions {
            by_blob.entry(revision.new.blob).or_default().push(revision);
        }
        // In the order in which the old ones came: what stands first in a study speaks for it.
        let mut in_order: Vec<(&NewBlob, Vec<&Revision<'_>>)> =
            blobs.iter().filter_map(|blob| Some((blob, by_blob.remove(&blob.id)?))).collect();
        in_order.sort_by_key(|(_, of)| of.iter().map(|revision| revision.replaces).min());
        let mut followed = Vec::with_capacity(revisions.len());
        let mut stored: HashSet<i64> = HashSet::new();
        let mut in_order = in_order.into_iter().peekable();
        while in_order.peek().is_some() {
            // Several blobs at once: a large instance has one of its own.
            let (mut blobs, mut of) = (Vec::new(), Vec::new());
            while of.len() < AT_ONCE
                && let Some((blob, more)) = in_order.next()
            {
                blobs.push(*blob);
                of.extend(more);
            }
            let news: Vec<NewInstance<'_>> = of.iter().map(|revision| revision.new).collect();
            // No note speaks of a version that replaces another.
            let (answers, _) =
                self.store_rows(&blobs, Origin::Replacing(&replacing), &news).await?;
            for (revision, answer) in of.iter().zip(answers) {
                let Stored::New { watermark } = answer else { return Err(IndexError::Busy) };
                followed.push((revision.replaces, watermark));
                stored.insert(revision.replaces);
            }
        }
        if stored.len() < revisions.len() {
            return Err(IndexError::Inconsistent { table: "blob", column: "blob_id" });
        }
        self.originals_follow(&followed).await?;
        self.blobs_settle(&victims.blobs, linger).await?;
        Ok(Replaced::Done(victims.watermarks))
    }
}
