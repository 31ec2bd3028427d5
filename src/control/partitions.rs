//! Partitions: which exist, and how one comes into being.
//!
//! Holds: a partition, once seen to exist, is remembered; that none exists is never remembered, so
//! that one created by another server process is found at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use super::Access;
use crate::{
    audit::Event,
    config::{FeaturesConfig, PartitionsConfig},
    index::{Db, IndexError},
    tenancy::{
        Circumstances, Deed, Denied, Grants, Membership, Named, PartitionId, Permission, Principal,
        Reach, Refused, Scope, check, decide,
    },
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
    access: Access,
    enabled: bool,
    create_on_store: bool,
    known: Arc<RwLock<BTreeSet<PartitionId>>>,
}

impl Partitions {
    /// The registry over an opened index.
    pub fn new(
        db: Db,
        access: Access,
        features: &FeaturesConfig,
        partitions: &PartitionsConfig,
    ) -> Self {
        Self {
            db,
            access,
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
        self.in_use(|partition| !partition.is_default(), true).await
    }

    /// Whether any partition holds instances.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn any_in_use(&self) -> Result<bool, IndexError> {
        Ok(self.in_use(|_| true, false).await?.is_some())
    }

    async fn in_use(
        &self,
        which: impl Fn(&PartitionId) -> bool,
        by_workitems: bool,
    ) -> Result<Option<PartitionId>, IndexError> {
        for partition in self.all().await?.into_iter().filter(which) {
            #[expect(clippy::disallowed_methods, reason = "asked at start, for no request")]
            let scope = Scope::for_maintenance(&partition);
            let mut tx = self.db.begin_in(&scope).await?;
            if tx.partition_in_use().await? || by_workitems && tx.has_workitems().await? {
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
        around: &Circumstances,
        named: &Named,
        permission: Permission,
    ) -> Result<Scope, ControlError> {
        let reach = self.reach_of(who);
        // Who belongs to one partition means that one, whether it is there yet or not.
        let only = match reach {
            Some(these) if these.len() == 1 && permission.needs_one_partition() => these.first(),
            _ => None,
        };
        let meant = only.filter(|_| *named == Named::Nothing).cloned().map(Named::One);
        let named = meant.as_ref().unwrap_or(named);
        // What holds for all partitions takes a credential that permits it by itself: what one of them
        // gave its owner is good in that one.
        let is_of_all = self.enabled && *named == Named::Nothing && reach.is_none();
        if is_of_all && permission == Permission::ManageTags {
            check(who, &Membership::default(), around, permission).map_err(Refused::Denied)?;
        }
        let partitions = match (named, reach) {
            _ if !self.enabled => BTreeSet::from([PartitionId::default()]),
            (Named::Nothing, Some(these)) => self.existing(these).await?,
            (Named::Nothing, None) if permission.needs_one_partition() => BTreeSet::new(),
            (Named::Nothing, None) => self.all().await?,
            (Named::One(one), _) => {
                self.existing([one].into_iter().filter(in_reach(reach))).await?
            }
            (Named::Several(several), _) => {
                self.existing(several.iter().filter(in_reach(reach))).await?
            }
        };
        let may_create = match named {
            Named::One(one) if self.create_on_store && in_reach(reach)(&one) => {
                check(who, &Membership::default(), around, Permission::Store).is_ok()
            }
            _ => false,
        };
        let partitions = self.access.verdicts(who, around, partitions, permission).await?;
        let grants = Grants { partitions, every: reach.is_none(), may_create };
        Ok(decide(self.enabled, named, &grants, permission)?)
    }

    /// The partitions that `who` may see, by id.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn list(
        &self,
        who: &Principal,
        around: &Circumstances,
    ) -> Result<Vec<Partition>, IndexError> {
        let reach = self.reach_of(who);
        let mut partitions = self.db.registry().await?.partition_list().await?;
        partitions.retain(|partition| match self.enabled {
            true => in_reach(reach)(&&partition.id),
            false => partition.id.is_default(),
        });
        let ids = partitions.iter().map(|partition| partition.id.clone()).collect();
        let verdicts = self.access.verdicts(who, around, ids, Permission::ListPartitions).await?;
        // That a partition is suspended takes nobody's knowledge that there is one.
        let is_seen = |verdict: &_| matches!(verdict, Ok(()) | Err(Denied::Partition));
        partitions.retain(|partition| verdicts.get(&partition.id).is_some_and(is_seen));
        Ok(partitions)
    }

    /// Makes a partition come into being; `None`: it exists already.
    ///
    /// # Errors
    /// [`ControlError::Refused`], or a failure of the index.
    pub async fn create(
        &self,
        deed: &Arc<Deed>,
        around: &Circumstances,
        partition: &PartitionId,
    ) -> Result<Option<Partition>, ControlError> {
        let who = &deed.who;
        if !self.enabled && !partition.is_default() {
            return Err(Refused::PartitionsOff.into());
        }
        // What a partition knows of who makes it comes later.
        check(who, &Membership::default(), around, Permission::ManagePartitions)
            .map_err(Refused::Denied)?;
        if !in_reach(self.reach_of(who))(&partition) {
            return Err(Refused::Hidden.into());
        }
        let mut tx = self.db.registry().await?;
        let is_new = tx.partition_create(partition).await?;
        let mut all = tx.partition_list().await?.into_iter();
        if is_new {
            let tell = |event: &mut Event| {
                event.detail.insert("partition".to_owned(), partition.as_str().into());
            };
            tx.commit_for(Some(deed), &self.log(), tell).await?;
            tracing::info!(%partition, "partition created");
        }
        self.remember(partition);
        Ok(all.find(|one| one.id == *partition).filter(|_| is_new))
    }

    /// The partitions that a credential is good for; `None`: every one. While partitions are off,
    /// all is in one, and every credential is good for that.
    fn reach_of<'a>(&self, who: &'a Principal) -> Option<&'a BTreeSet<PartitionId>> {
        match who {
            Principal::Known(known) if self.enabled => match &known.reach {
                Reach::These(these) => Some(these),
                Reach::Every => None,
            },
            _ => None,
        }
    }

    /// Where the audit log has what is done to partitions as such.
    fn log(&self) -> PartitionId {
        if self.enabled { PartitionId::platform() } else { PartitionId::default() }
    }

    /// Makes sure that a partition exists, before the first instance is stored to it, by a request
    /// whose deed is `deed`.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn ensure(
        &self,
        partition: &PartitionId,
        deed: Option<&Arc<Deed>>,
    ) -> Result<(), IndexError> {
        if self.is_known(partition) {
            return Ok(());
        }
        let mut tx = self.db.registry().await?;
        if tx.partition_create(partition).await? {
            tracing::info!(%partition, "partition created");
            // The instance may still fail: only its own transaction says that it did not.
            let creates = |event: &mut Event| {
                event.action = "partitions.create".to_owned();
                event.study = None;
                event.detail.insert("partition".to_owned(), partition.as_str().into());
            };
            tx.commit_beside(deed, &self.log(), creates).await?;
        } else {
            tx.commit().await?;
        }
        self.remember(partition);
        Ok(())
    }

    /// Whether a partition exists.
    ///
    /// # Errors
    /// Where the index fails.
    pub(super) async fn exists(&self, partition: &PartitionId) -> Result<bool, IndexError> {
        Ok(!self.existing([partition]).await?.is_empty())
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

/// Whether a partition is in a reach.
fn in_reach<'a>(reach: Option<&'a BTreeSet<PartitionId>>) -> impl Fn(&&PartitionId) -> bool + 'a {
    move |partition| reach.is_none_or(|these| these.contains(*partition))
}
