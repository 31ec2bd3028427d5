//! What principals may do in partitions: what these know of them, held against what is asked.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    index::{Db, IndexError},
    tenancy::{Circumstances, Denied, Membership, PartitionId, Permission, Principal, check},
};

/// Decides what principals may do in partitions. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    #[expect(dead_code, reason = "memberships are read from it")]
    db: Db,
}

impl Access {
    /// One over an opened index.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Whether `who`, whose reach these partitions are in, may do something in each of them.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn verdicts(
        &self,
        who: &Principal,
        around: &Circumstances,
        partitions: BTreeSet<PartitionId>,
        permission: Permission,
    ) -> Result<BTreeMap<PartitionId, Result<(), Denied>>, IndexError> {
        let membership = Membership::default();
        let verdict = check(who, &membership, around, permission);
        Ok(partitions.into_iter().map(|partition| (partition, verdict)).collect())
    }
}
