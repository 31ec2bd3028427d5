//! What is read to hold blobs against the store: of studies, of first versions and of
//! Non-Patient Instances alike. See `verify` for the manner.

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{IndexError, PartitionTx, lookup::one};

const BYTES: &str = "-- verify_bytes
    SELECT coalesce(sum(length), 0)::bigint FROM (SELECT length FROM blob
        WHERE partition_id = $1 AND blob_id > '00000000-0000-0000-0000-000000000000'
        ORDER BY blob_id) x";

const BLOBS: &str = "-- verify_blobs
    SELECT b.blob_id, b.length, i.count
    FROM (SELECT blob_id, length FROM blob WHERE partition_id = $1 AND blob_id > $2
        ORDER BY blob_id LIMIT $3) b
    CROSS JOIN LATERAL (SELECT count(*) AS count FROM (
        (SELECT 1 FROM instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)
        UNION ALL (SELECT 1 FROM non_patient_instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)
        UNION ALL (SELECT 1 FROM original_instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)) x) i";

const CONTENT: &str = "-- verify_content
    SELECT i.blob_id, i.watermark, i.blob_offset, i.length, i.sha256, i.walked
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL (
        (SELECT blob_id, watermark, blob_offset, length, sha256, true AS walked FROM instance
            WHERE partition_id = $1 AND blob_id >= n.key AND blob_id <= n.key ORDER BY blob_id)
        UNION ALL (SELECT blob_id, watermark, blob_offset, length, sha256, false
            FROM non_patient_instance
            WHERE partition_id = $1 AND blob_id >= n.key AND blob_id <= n.key
            ORDER BY blob_id)
        UNION ALL (SELECT blob_id, watermark, blob_offset, length, sha256, false
            FROM original_instance
            WHERE partition_id = $1 AND blob_id >= n.key AND blob_id <= n.key
            ORDER BY blob_id)) i";

const ROW: &str = concat!(
    "-- verify_blob
    SELECT b.length, (SELECT count(*) FROM (
        (SELECT 1 FROM instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)
        UNION ALL (SELECT 1 FROM non_patient_instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)
        UNION ALL (SELECT 1 FROM original_instance
            WHERE partition_id = $1 AND blob_id >= b.blob_id AND blob_id <= b.blob_id
            ORDER BY blob_id)) x)
    FROM ",
    one!("blob_id, length", "blob", "blob_id", "$2"),
    " b"
);

pub(super) const STATEMENTS: &[&str] = &[BYTES, BLOBS, CONTENT, ROW];

/// A blob as its row says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyBlob {
    /// Its id.
    pub id: Uuid,
    /// Its length in bytes.
    pub length: i64,
    /// Number of live instances in it, those without a patient and first versions of others among
    /// them.
    pub instances: i64,
}

/// What lies in a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyContent {
    /// The blob.
    pub blob: Uuid,
    /// The instance.
    pub watermark: i64,
    /// First byte of the file in the blob.
    pub offset: i64,
    /// Bytes of the file.
    pub length: i64,
    /// SHA-256 of the file.
    pub sha256: Vec<u8>,
    /// Whether its row is among those of [`PartitionTx::verify_instances`].
    pub walked: bool,
}

impl PartitionTx {
    /// Bytes of all blobs.
    ///
    /// # Errors
    /// [`IndexError::TimedOut`] where there are too many to be counted; [`IndexError`].
    pub async fn verify_bytes(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(BYTES);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// A page of the blobs above an id, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_blobs(
        &mut self,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<VerifyBlob>, IndexError> {
        let (query, conn) = self.statement(BLOBS);
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let read = |row: &PgRow| {
            Ok(VerifyBlob {
                id: row.try_get(0)?,
                length: row.try_get(1)?,
                instances: row.try_get(2)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The instances that lie in some blobs.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_content(
        &mut self,
        blobs: &[Uuid],
    ) -> Result<Vec<VerifyContent>, IndexError> {
        let (query, conn) = self.statement(CONTENT);
        let rows = query.bind(blobs).fetch_all(conn).await?;
        let read = |row: &PgRow| {
            Ok(VerifyContent {
                blob: row.try_get(0)?,
                watermark: row.try_get(1)?,
                offset: row.try_get(2)?,
                length: row.try_get(3)?,
                sha256: row.try_get(4)?,
                walked: row.try_get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// A blob as its row says it now; `None`: it has no row any more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_blob(&mut self, id: Uuid) -> Result<Option<VerifyBlob>, IndexError> {
        let (query, conn) = self.statement(ROW);
        let row = query.bind(id).fetch_optional(conn).await?;
        row.map(|row| Ok(VerifyBlob { id, length: row.try_get(0)?, instances: row.try_get(1)? }))
            .transpose()
    }
}
