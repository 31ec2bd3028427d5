//! Keys that pseudonyms of a partition are made with.
//!
//! Holds: the newest key of a partition is the one that holds, and it stays the same until somebody
//! who owns the database removes it; two who make the first one at once get the same. Absent: what
//! pseudonyms are (`dicom`), when they are made (`archive`).

use uuid::Uuid;
use zeroize::Zeroizing;

use sqlx::Row;

use super::{Db, IndexError, PartitionTx, feed::PATIENCE, tag_lock};
use crate::{dicom::deidentify::PseudonymKey, tenancy::PartitionScope};

/// First key of the lock of who makes the key of a partition.
const OF_PARTITION: i32 = 0x5053_4B00;

const GET: &str = "-- pseudonym_key_get
    SELECT secret FROM pseudonym_key WHERE partition_id = $1 AND created_at > '-infinity'
    ORDER BY created_at DESC, pseudonym_key_id DESC LIMIT 1";

const CREATE: &str = "-- pseudonym_key_create
    INSERT INTO pseudonym_key (partition_id, pseudonym_key_id, secret, created_at)
    VALUES ($1, $2, $3, clock_timestamp())";

pub(super) const STATEMENTS: &[&str] = &[GET, CREATE];

impl Db {
    /// The key of a partition; made, where there is none yet.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn pseudonym_key(&self, scope: &PartitionScope) -> Result<PseudonymKey, IndexError> {
        if let Some(key) = self.begin_in(scope).await?.pseudonym_key().await? {
            return Ok(key);
        }
        let lock = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {lock})");
        let mut tx = self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await?;
        // Somebody else may have been faster.
        if let Some(key) = tx.pseudonym_key().await? {
            return Ok(key);
        }
        let key = PseudonymKey::new(rand::random());
        tx.pseudonym_key_create(&key).await?;
        // The request that came upon it tells of itself.
        tx.audit_nothing();
        tx.commit().await?;
        Ok(key)
    }
}

impl PartitionTx {
    async fn pseudonym_key(&mut self) -> Result<Option<PseudonymKey>, IndexError> {
        let (query, conn) = self.statement(GET);
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
        let bytes = Zeroizing::new(row.try_get::<Vec<u8>, _>(0)?);
        let wrong = IndexError::Inconsistent { table: "pseudonym_key", column: "secret" };
        Ok(Some(PseudonymKey::new(bytes.as_slice().try_into().map_err(|_| wrong)?)))
    }

    async fn pseudonym_key_create(&mut self, key: &PseudonymKey) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        query.bind(Uuid::new_v4()).bind(key.expose().to_vec()).execute(conn).await?;
        Ok(())
    }
}
