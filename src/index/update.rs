//! Update: new versions of all instances of a study take the place of those that are there, in one
//! transaction.
//!
//! The new files are written before, in blobs that await removal until rows name them
//! ([`PartitionTx::update_blob`]): a server that dies leaves nothing unknown. The transaction locks
//! the study as Delete does (`delete`): for itself alone, then the blobs. It goes through only where
//! exactly what was copied is there ([`Replaced::Changed`] otherwise), so that of two updates the
//! second copies what the first one made, and no study has instances of both. Rows of the old
//! versions are removed, those of the new ones are written as Store does it (`store`), parents
//! included, so that what a study says follows from its instances in one way only.
//!
//! First versions are kept (`originals`). Blobs that nothing lives in any more leave after a while, in
//! which those end who read them. Absent: bytes, and what is changed (`archive`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, NewBlob, NewInstance, PartitionTx, Stored, Target, Updating,
    compaction::{QUEUE, UNQUEUE},
    located::bigint,
    lookup::one,
    store::{Origin, Replacing, Version},
};

/// A sign of life of a copy that is being made.
const POSTPONE: &str = concat!(
    "-- update_postpone
    UPDATE blob_removal t SET due_at = now() + make_interval(secs => $3), length = $4
    WHERE t.partition_id = $1 AND t.attempts = 0 AND t.ctid = ",
    one!("ctid", "blob_removal", "blob_id", "$2")
);

/// Updates that have not ended.
const WAITING: &str = "-- updates_waiting
    SELECT count(*) FROM (SELECT FROM operation
        WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NULL
            AND kind = 'update'
        ORDER BY created_at, operation_id) x";

pub(super) const STATEMENTS: &[&str] = &[POSTPONE, WAITING];

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

    /// Notes a blob that is about to be written as one that awaits removal. Commit before writing.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn update_blob(&mut self, blob: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(QUEUE);
        query.bind(blob).bind(LIFE.as_secs_f64()).bind(0_i64).execute(conn).await?;
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
        for blob in blobs {
            let (query, conn) = self.statement(POSTPONE);
            let query = query.bind(blob.id).bind(leave_after.as_secs_f64());
            query.bind(bigint(blob.length)).execute(conn).await?;
        }
        Ok(())
    }

    /// Puts new versions in the place of all instances of a study. Of a transaction that
    /// [`Db::begin_store`](super::Db::begin_store) opened. The old versions' bytes, but for first
    /// ones, leave after `linger`.
    ///
    /// # Errors
    /// [`IndexError::Spent`] where a copy is about to leave: copy again. [`IndexError::Busy`]:
    /// repeat the whole transaction. Nothing is changed before [`PartitionTx::commit`].
    pub async fn study_replace(
        &mut self,
        target: &Target,
        blobs: &[NewBlob],
        revisions: &[Revision<'_>],
        linger: Duration,
    ) -> Result<Replaced, IndexError> {
        let Some(victims) = self.victims(target).await? else { return Ok(Replaced::Gone) };
        let old: HashMap<i64, &Revision<'_>> =
            revisions.iter().map(|revision| (revision.replaces, revision)).collect();
        let is_copied = |watermark| old.contains_key(watermark);
        if old.len() != victims.watermarks.len() || !victims.watermarks.iter().all(is_copied) {
            return Ok(Replaced::Changed);
        }
        for blob in blobs {
            let (query, conn) = self.statement(UNQUEUE);
            if query.bind(blob.id).fetch_optional(conn).await?.is_none() {
                return Err(IndexError::Spent);
            }
        }
        self.versions_keep(&victims.watermarks, &victims.revised).await?;
        self.victims_remove(&victims).await?;
        let replacing: Replacing = revisions
            .iter()
            .map(|revision| {
                let version = Version { watermark: revision.replaces, is_moved: false };
                (revision.new.indexed.instance.as_str().to_owned(), version)
            })
            .collect();
        let mut by_blob: BTreeMap<Uuid, Vec<&Revision<'_>>> = BTreeMap::new();
        for revision in revisions {
            by_blob.entry(revision.new.blob).or_default().push(revision);
        }
        // In the order in which the old ones came: what stands first in a study speaks for it.
        let mut in_order: Vec<(&NewBlob, Vec<&Revision<'_>>)> = blobs
            .iter()
            .filter_map(|blob| Some((blob, by_blob.remove(&blob.id)?)))
            .collect();
        in_order.sort_by_key(|(_, of)| of.iter().map(|revision| revision.replaces).min());
        let mut followed = Vec::with_capacity(revisions.len());
        let mut stored: HashSet<i64> = HashSet::new();
        for (blob, of) in in_order {
            let news: Vec<NewInstance<'_>> = of.iter().map(|revision| revision.new).collect();
            let origin = Origin::Replacing(&replacing);
            let answers = self.store_rows(std::slice::from_ref(blob), origin, &news).await?;
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
