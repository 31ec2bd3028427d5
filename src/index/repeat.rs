//! Store again, after a commit of which nobody knows whether it took place.
//!
//! The first try may have committed, and what it stored may even have been deleted since. A blob
//! must not be named by rows once it was queued for removal, so that case ends the store.

use std::collections::{HashMap, hash_map::Entry};

use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, NewBlob, NewInstance, PartitionTx, Stored, lookup::one};

/// (But for versions `$3`, which a note of the batch hides in the same transaction.)
const REPEAT_DELETED: &str = "-- repeat_deleted
    SELECT d.watermark FROM unnest($2::uuid[]) AS n(id) CROSS JOIN LATERAL (
        SELECT watermark FROM deleted_instance
        WHERE partition_id = $1 AND blob_id >= n.id AND blob_id <= n.id
            AND watermark <> ALL($3::bigint[])
        ORDER BY blob_id LIMIT 1) d";

const REPEAT_STORED: &str = concat!(
    "-- repeat_stored
    SELECT i.sop_instance_uid, i.watermark FROM unnest($2::uuid[]) AS n(id) CROSS JOIN LATERAL ",
    one!("sop_instance_uid, watermark", "instance", "blob_id", "n.id"),
    " i"
);

pub(super) const STATEMENTS: &[&str] = &[REPEAT_DELETED, REPEAT_STORED];

impl PartitionTx {
    /// As [`PartitionTx::store_batch`], for blobs whose transaction was tried before. What that
    /// one stored is [`Stored::New`] here too.
    ///
    /// # Errors
    /// [`IndexError::Spent`] where something of the blobs was deleted meanwhile; as `store_batch`.
    pub async fn store_batch_again(
        &mut self,
        blobs: &[NewBlob],
        news: &[NewInstance<'_>],
    ) -> Result<Vec<Stored>, IndexError> {
        let mut answers = self.store_batch(blobs, news).await?;
        // After the rows: while ours hold the ids of the blobs no other try of them can commit, and
        // so nothing of them can be deleted any more.
        let ids: Vec<Uuid> = blobs.iter().map(|blob| blob.id).collect();
        let new = answers.iter().filter_map(|answer| match answer {
            Stored::New { watermark } => Some(*watermark),
            Stored::Identical | Stored::Conflict | Stored::Rejected => None,
        });
        let new: Vec<i64> = new.collect();
        let (query, conn) = self.statement(REPEAT_DELETED);
        if query.bind(&ids).bind(new).fetch_optional(conn).await?.is_some() {
            return Err(IndexError::Spent);
        }
        let mut stored = self.stored_in(&ids).await?;
        for (new, answer) in news.iter().zip(&mut answers) {
            // Only the first of several with one UID was stored.
            if let (Entry::Occupied(first), Stored::Identical) =
                (stored.entry(new.indexed.instance.as_str().to_owned()), &answer)
            {
                *answer = Stored::New { watermark: first.remove() };
            }
        }
        Ok(answers)
    }

    async fn stored_in(&mut self, blobs: &[Uuid]) -> Result<HashMap<String, i64>, IndexError> {
        let (query, conn) = self.statement(REPEAT_STORED);
        let rows = query.bind(blobs).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}
