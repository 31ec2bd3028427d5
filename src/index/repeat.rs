//! Store again, after a commit of which nobody knows whether it took place.
//!
//! The first try may have committed, and what it stored may even have been deleted since. A blob
//! must not be named by rows once it was queued for removal, so that case ends the store.

use std::collections::{HashMap, hash_map::Entry};

use sqlx::Row;
use uuid::Uuid;

use super::{IndexError, NewBlob, NewInstance, PartitionTx, Stored};

const REPEAT_DELETED: &str = "-- repeat_deleted
    SELECT (SELECT watermark FROM deleted_instance
        WHERE partition_id = $1 AND blob_id >= $2 AND blob_id <= $2
        ORDER BY blob_id LIMIT 1) IS NOT NULL";

const REPEAT_STORED: &str = "-- repeat_stored
    SELECT sop_instance_uid, watermark FROM instance
    WHERE partition_id = $1 AND blob_id >= $2 AND blob_id <= $2
    ORDER BY blob_id";

pub(super) const STATEMENTS: &[&str] = &[REPEAT_DELETED, REPEAT_STORED];

impl PartitionTx {
    /// As [`PartitionTx::store_batch`], for a blob whose transaction was tried before. What that
    /// one stored is [`Stored::New`] here too.
    ///
    /// # Errors
    /// [`IndexError::Spent`] where something of the blob was deleted meanwhile; as `store_batch`.
    pub async fn store_batch_again(
        &mut self,
        blob: &NewBlob,
        news: &[NewInstance<'_>],
    ) -> Result<Vec<Stored>, IndexError> {
        let mut answers = self.store_batch(blob, news).await?;
        // After the rows: while ours hold the blob's id no other try of it can commit, and so
        // nothing of it can be deleted any more.
        let (query, conn) = self.statement(REPEAT_DELETED);
        if query.bind(blob.id).fetch_one(conn).await?.try_get(0)? {
            return Err(IndexError::Spent);
        }
        let mut stored = self.stored_in(blob.id).await?;
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

    async fn stored_in(&mut self, blob: Uuid) -> Result<HashMap<String, i64>, IndexError> {
        let (query, conn) = self.statement(REPEAT_STORED);
        let rows = query.bind(blob).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}
