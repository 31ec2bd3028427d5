//! Who holds the definitions of extended query tags still, and the stores of a partition.
//!
//! Two advisory locks, of the root and of each partition, held to the end of a transaction. Who
//! writes values of tags holds both shared, from before the definitions are read; who adds or
//! deletes a tag holds the one that it belongs to for itself. So, once a tag is added, every
//! instance of the partition was either committed before (the reindex sees it) or is stored by a
//! transaction that sees the tag; and once one is being deleted, nobody writes values of it any
//! more. Who applies or ends a rejection note (`rejection`) holds the partition's lock for himself as
//! well, since all who store hold it shared. The root's lock is always taken first.

use std::time::Duration;

use super::{Db, IndexError, PartitionTx, RegistryTx};
use crate::tenancy::{PartitionId, PartitionScope};

/// The first key of the locks of the root and of partitions.
const OF_ROOT: i32 = 0x5851_5400;
const OF_PARTITIONS: i32 = 0x5851_5401;

/// Longest wait for a lock of who holds one of these for himself, while the stores of a partition
/// queue behind him.
const PATIENCE: Duration = Duration::from_secs(5);

const HOLD: &str = "-- tags_hold
    SELECT $1::text IS NULL, pg_advisory_xact_lock_shared($2, 0), pg_advisory_xact_lock_shared($3, $4)";

pub(super) const STATEMENTS: &[&str] = &[HOLD];

/// The key of a partition. Two partitions with the same one wait for each other, no more.
pub(super) fn key(partition: &PartitionId) -> i32 {
    let hash = partition
        .as_str()
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed()
}

fn root_shared() -> String {
    format!("SELECT pg_advisory_xact_lock_shared({OF_ROOT}, 0)")
}

fn patience() -> String {
    format!("SET LOCAL lock_timeout = {}", PATIENCE.as_millis())
}

impl Db {
    /// Opens a transaction that writes values of extended query tags, as [`Db::begin_in`] does.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn begin_store(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = key(scope.partition());
        let own = format!("SELECT pg_advisory_xact_lock_shared({OF_PARTITIONS}, {key})");
        let mut tx = self.begin_holding(scope, &[root_shared(), own]).await?;
        tx.holds_tags = true;
        Ok(tx)
    }

    /// Opens a transaction that stores or ends rejection notes (`rejection`): as [`Db::begin_store`],
    /// without any other store to the partition beside it, or to one of the same key.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where stores do not end in time; a statement of the transaction as well,
    /// where another lock is not given in that time.
    pub async fn begin_rejecting(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        self.begin_tags(scope).await
    }

    /// Opens a transaction that changes which extended query tags a partition has of its own.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where stores do not end in time.
    pub async fn begin_tags(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = key(scope.partition());
        let own = format!("SELECT pg_advisory_xact_lock({OF_PARTITIONS}, {key})");
        let mut tx = self.begin_holding(scope, &[patience(), root_shared(), own]).await?;
        tx.holds_tags = true;
        Ok(tx)
    }

    /// Opens a transaction that changes which extended query tags the root has.
    ///
    /// # Errors
    /// [`IndexError::Busy`] where stores do not end in time.
    pub async fn begin_root_tags(&self) -> Result<RegistryTx, IndexError> {
        let root = format!("SELECT pg_advisory_xact_lock({OF_ROOT}, 0)");
        self.registry_holding(&[patience(), root]).await
    }
}

impl PartitionTx {
    /// Holds the definitions shared from now on, where the transaction was not opened so.
    pub(super) async fn hold_tags(&mut self) -> Result<(), IndexError> {
        if self.holds_tags {
            return Ok(());
        }
        let key = key(self.partition());
        let (query, conn) = self.statement(HOLD);
        query.bind(OF_ROOT).bind(OF_PARTITIONS).bind(key).execute(conn).await?;
        self.holds_tags = true;
        Ok(())
    }
}
