//! Storage commitment (PS3.18 §13): requests are taken here, and what came of them is asked for.
//! Whoever checks them (`workers`) is told of partitions that have some.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Archive, ArchiveError, repeated::repeated};
use crate::{
    dicom::Uid,
    index::{CommitmentState, IndexError, Reference},
    tenancy::{PartitionId, PartitionScope},
};

/// Most requests of a partition that are open at a time.
const MAX_OPEN: i64 = 100;
/// How long a request is waited for before its client is told to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// First wait before it is asked for again, doubled each time.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Partitions that have requests to be checked, as far as this server took them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ToCommit(Arc<(Mutex<BTreeSet<PartitionId>>, Arc<Notify>)>);

impl ToCommit {
    fn note(&self, partition: &PartitionId) {
        let mut noted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(partition.clone());
        self.0.1.notify_one();
    }

    /// Notes a partition again in which there is more to do, and wakes nobody.
    pub fn put_back(&self, partition: &PartitionId) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone());
    }

    /// Takes what was noted.
    pub fn take(&self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Woken when there is something to take.
    pub fn wake(&self) -> Arc<Notify> {
        self.0.1.clone()
    }
}

/// Why a request for commitment is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CommitmentRefusal {
    /// Its Transaction UID was used before.
    #[error("the Transaction UID was used before")]
    Used,
    /// Too many requests of the partition are open.
    #[error("too many requests are open")]
    TooMany,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<IndexError> for CommitmentRefusal {
    fn from(error: IndexError) -> Self {
        Self::Archive(error.into())
    }
}

/// What came of a request: each reference with 0, or with why it failed (PS3.3 C.14.1.1). `None`:
/// there is more to check.
pub type Committed = Option<Vec<(Reference, u16)>>;

impl Archive {
    /// Where partitions with requests are told of.
    pub fn to_commit(&self) -> ToCommit {
        self.0.to_commit.clone()
    }

    /// Takes a request, whose references all have parents or none, and waits for a while for what
    /// comes of it.
    ///
    /// # Errors
    /// [`CommitmentRefusal`].
    pub async fn commit(
        &self,
        scope: &PartitionScope,
        transaction: &Uid,
        references: &[Reference],
    ) -> Result<Committed, CommitmentRefusal> {
        let transaction = transaction.as_str();
        repeated!(self.try_commit(scope, transaction, references))??;
        self.0.to_commit.note(scope.partition());
        let until = Instant::now() + PATIENCE;
        let mut wait = FIRST_LOOK;
        while Instant::now() < until {
            tokio::time::sleep(wait).await;
            wait *= 2;
            let mut tx = self.0.db.begin_in(scope).await?;
            let state = tx.commitment_state(transaction, self.0.commitment.keep).await?;
            if state != Some(CommitmentState::Open) {
                return Ok(Some(tx.commitment_result(transaction).await?));
            }
        }
        Ok(None)
    }

    async fn try_commit(
        &self,
        scope: &PartitionScope,
        transaction: &str,
        references: &[Reference],
    ) -> Result<Result<(), CommitmentRefusal>, IndexError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        if tx.commitments_open(MAX_OPEN).await? >= MAX_OPEN {
            return Ok(Err(CommitmentRefusal::TooMany));
        }
        if !tx.commitment_add(transaction, references).await? {
            return Ok(Err(CommitmentRefusal::Used));
        }
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// What came of a request.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`] where its result is not kept any more.
    pub async fn committed(
        &self,
        scope: &PartitionScope,
        transaction: &Uid,
    ) -> Result<Committed, ArchiveError> {
        let transaction = transaction.as_str();
        let mut tx = self.0.db.begin_in(scope).await?;
        match tx.commitment_state(transaction, self.0.commitment.keep).await? {
            None => Err(ArchiveError::NotFound),
            Some(CommitmentState::Expired) => Err(ArchiveError::Gone),
            Some(CommitmentState::Open) => Ok(None),
            Some(CommitmentState::Ended) => Ok(Some(tx.commitment_result(transaction).await?)),
        }
    }

    /// Most instances of one request (`commitment.max_instances`).
    pub fn commitment_limit(&self) -> u32 {
        self.0.commitment.max_instances
    }
}
