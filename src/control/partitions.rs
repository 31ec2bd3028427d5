//! Partitions: which exist, and how one comes into being.
//!
//! Holds: a partition, once seen to exist, is remembered; that none exists is never remembered, so
//! that one created by another server process is found at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    config::{FeaturesConfig, PartitionsConfig},
    index::{Db, IndexError},
    tenancy::{Action, Grants, Named, PartitionId, Principal, Refused, Scope, decide},
};

pub use crate::index::Partition;

/// Why a scope could not be decided.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The request may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The index failed.
    #[error("the registry of partitions could not be read")]
    Index(#[from] IndexError),
}

/// The registry of partitions. Cheap to clone.
#[derive(Clone)]
pub struct Partitions {
    db: Db,
    enabled: bool,
    create_on_store: bool,
    known: Arc<RwLock<BTreeSet<PartitionId>>>,
}

impl Partitions {
    /// The registry over an opened index.
    pub fn new(db: Db, features: &FeaturesConfig, partitions: &PartitionsConfig) -> Self {
        Self {
            db,
            enabled: features.enable_data_partition,
            create_on_store: partitions.create_on_store,
            known: Arc::default(),
        }
    }

    /// Whether partitions other than the default one can be named.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// A partition other than the default one that holds data, if there is one: the feature must
    /// not be turned off then, or the data would be out of reach.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn other_in_use(&self) -> Result<Option<PartitionId>, IndexError> {
        self.in_use(|partition| !partition.is_default()).await
    }

    /// Whether any partition holds data.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn any_in_use(&self) -> Result<bool, IndexError> {
        Ok(self.in_use(|_| true).await?.is_some())
    }

    async fn in_use(
        &self,
        which: impl Fn(&PartitionId) -> bool,
    ) -> Result<Option<PartitionId>, IndexError> {
        for partition in self.all().await?.into_iter().filter(which) {
            #[expect(clippy::disallowed_methods, reason = "asked at start, for no request")]
            let scope = Scope::for_maintenance(&partition);
            if self.db.begin_in(&scope).await?.partition_in_use().await? {
                return Ok(Some(partition));
            }
        }
        Ok(None)
    }

    /// Decides what a request may touch, see [`decide`].
    ///
    /// # Errors
    /// [`ControlError::Refused`], or a failure of the index.
    pub async fn scope(
        &self,
        who: &Principal,
        named: &Named,
        action: Action,
    ) -> Result<Scope, ControlError> {
        let Principal::Anonymous = who;
        let partitions = match named {
            _ if !self.enabled => BTreeSet::new(),
            Named::Nothing if action.needs_one_partition() => BTreeSet::new(),
            Named::Nothing => self.all().await?,
            Named::One(one) => self.existing([one]).await?,
            Named::Several(several) => self.existing(several).await?,
        };
        let grants = Grants { partitions, every: true, may_create: self.create_on_store };
        Ok(decide(self.enabled, who, named, &grants, action)?)
    }

    /// The partitions that `who` may see, by id.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn list(&self, who: &Principal) -> Result<Vec<Partition>, IndexError> {
        let Principal::Anonymous = who;
        let mut partitions = self.db.registry().await?.partition_list().await?;
        if !self.enabled {
            partitions.retain(|partition| partition.id.is_default());
        }
        Ok(partitions)
    }

    /// Makes sure that a partition exists, before the first instance is stored to it.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn ensure(&self, partition: &PartitionId) -> Result<(), IndexError> {
        if self.is_known(partition) {
            return Ok(());
        }
        let mut tx = self.db.registry().await?;
        if tx.partition_create(partition).await? {
            tracing::info!(%partition, "partition created");
        }
        tx.commit().await?;
        self.remember(partition);
        Ok(())
    }

    async fn all(&self) -> Result<BTreeSet<PartitionId>, IndexError> {
        let list = self.db.registry().await?.partition_list().await?;
        Ok(list.into_iter().map(|partition| partition.id).collect())
    }

    async fn existing<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a PartitionId>,
    ) -> Result<BTreeSet<PartitionId>, IndexError> {
        let mut existing = BTreeSet::new();
        for partition in wanted {
            if self.is_known(partition) {
                existing.insert(partition.clone());
            } else if self.db.registry().await?.partition_exists(partition).await? {
                self.remember(partition);
                existing.insert(partition.clone());
            }
        }
        Ok(existing)
    }

    fn is_known(&self, partition: &PartitionId) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(partition)
    }

    fn remember(&self, partition: &PartitionId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(partition.clone());
    }
}
