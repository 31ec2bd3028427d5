//! The registry of partitions: which exist.

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, RegistryTx};
use crate::tenancy::PartitionId;

const PARTITION_LIST: &str = "-- partition_list
    SELECT partition_id, created_at, partition_key FROM partition ORDER BY partition_id";

const PARTITION_COUNT: &str = "-- partition_count
    SELECT count(*) FROM partition";

const PARTITION_EXISTS: &str = "-- partition_exists
    SELECT EXISTS (SELECT FROM partition WHERE partition_id = $1)";

const PARTITION_CREATE: &str = "-- partition_create
    INSERT INTO partition (partition_id) VALUES ($1) ON CONFLICT DO NOTHING";

const SCHEMA_VERSION: &str = "-- schema_version
    SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";

const ARCHIVE_ID: &str = "-- archive_id
    SELECT archive_id FROM archive";

pub(super) const STATEMENTS: &[&str] = &[
    ARCHIVE_ID,
    PARTITION_LIST,
    PARTITION_COUNT,
    PARTITION_EXISTS,
    PARTITION_CREATE,
    SCHEMA_VERSION,
];

/// One partition of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its id.
    pub id: PartitionId,
    /// When it came into being.
    pub created_at: OffsetDateTime,
    /// Its number, which clients of Microsoft's server know it by as well.
    pub key: i32,
}

impl RegistryTx {
    /// All partitions, ascending by id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_list(&mut self) -> Result<Vec<Partition>, IndexError> {
        let (query, conn) = self.statement(PARTITION_LIST);
        let rows = query.fetch_all(conn).await?;
        rows.iter()
            .map(|row| {
                let (created_at, key) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Partition { id: partition(row, 0)?, created_at, key })
            })
            .collect()
    }

    /// How many partitions there are. They are never removed: as long as it is the same number, they
    /// are the same partitions.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_count(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(PARTITION_COUNT);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Whether the partition exists.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_exists(&mut self, id: &PartitionId) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PARTITION_EXISTS);
        Ok(query.bind(id.as_str()).fetch_one(conn).await?.try_get(0)?)
    }

    /// Creates the partition unless it exists; says whether it did not.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_create(&mut self, id: &PartitionId) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PARTITION_CREATE);
        Ok(query.bind(id.as_str()).execute(conn).await?.rows_affected() == 1)
    }

    /// The id that the archive has had since its schema was made.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn archive_id(&mut self) -> Result<Uuid, IndexError> {
        let (query, conn) = self.statement(ARCHIVE_ID);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// The version of the newest migration that was run.
    pub(super) async fn schema_version(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(SCHEMA_VERSION);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }
}

/// Reads a partition id.
pub(super) fn partition(
    row: &sqlx::postgres::PgRow,
    column: usize,
) -> Result<PartitionId, IndexError> {
    row.try_get::<&str, _>(column)?
        .parse()
        .map_err(|_| IndexError::Inconsistent { table: "partition", column: "partition_id" })
}
