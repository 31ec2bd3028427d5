//! What can be permitted, and the roles that permit it.
//!
//! Holds: a permission has one name, in the form `service.action`, the same in configuration, roles,
//! API keys and the audit log; a role of these names means the same in every partition.

use std::fmt;

macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $reach:ident, $kind:ident;)*) => {
        /// What a request wants to do. Each service states exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $($(#[$doc])* $variant,)*
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            const fn reach(self) -> Reach {
                match self { $(Self::$variant => Reach::$reach,)* }
            }

            const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
}

/// How many partitions it works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Exactly one.
    One,
    /// One or more.
    Some,
}

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Looks.
    Reads,
    /// Changes something.
    Changes,
}

permissions!(
    /// Retrieve studies, series, instances, frames, bulk values and pictures.
    Retrieve = "studies.retrieve", One, Reads;
    /// Store instances.
    Store = "studies.store", One, Changes;
    /// Delete studies, series and instances, and undelete them.
    Delete = "studies.delete", One, Changes;
    /// Change attributes of studies, and move what is stored.
    Update = "studies.update", One, Changes;
    /// Search one or more partitions.
    Search = "studies.search", Some, Reads;
    /// Have it checked that instances are safe (storage commitment).
    Commit = "studies.commit", One, Reads;
    /// Have studies exported, as they are or de-identified: who may export may do so de-identified.
    Export = "studies.export", One, Changes;
    /// Have studies exported de-identified.
    ExportDeidentified = "studies.export-deidentified", One, Changes;
    /// List the partitions that the principal may see.
    ListPartitions = "partitions.list", Some, Reads;
    /// Create partitions.
    ManagePartitions = "partitions.manage", Some, Changes;
    /// Read the change feed of one or more partitions.
    ReadChanges = "changes.read", Some, Reads;
    /// See extended query tags: of one partition, or at the root.
    ReadTags = "tags.read", Some, Reads;
    /// Add, change or delete extended query tags: in one partition, or at the root, for all.
    ManageTags = "tags.manage", Some, Changes;
    /// See operations, and what awaits removal.
    ReadOperations = "operations.read", Some, Reads;
    /// Cancel operations, and have what failed tried again.
    ManageOperations = "operations.manage", Some, Changes;
    /// See the webhooks of one partition.
    ReadWebhooks = "webhooks.read", One, Reads;
    /// Add, change, test or remove webhooks of one partition.
    ManageWebhooks = "webhooks.manage", One, Changes;
    /// See who may do what in one partition: principals, roles, API keys.
    ReadPrincipals = "principals.read", One, Reads;
    /// Change who may do what in one partition, and revoke sessions.
    ManagePrincipals = "principals.manage", One, Changes;
    /// See the policy of one partition.
    ReadPolicy = "policy.read", One, Reads;
    /// Change the policy of one partition.
    ManagePolicy = "policy.manage", One, Changes;
    /// Read the audit log of one partition.
    ReadAudit = "audit.read", One, Reads;
    /// Make signed URLs, for what the principal may retrieve itself.
    Share = "links.create", One, Changes;
    /// Search and retrieve workitems of one partition.
    ReadWorkitems = "workitems.read", One, Reads;
    /// Create, claim, change and cancel workitems of one partition.
    ManageWorkitems = "workitems.manage", One, Changes;
    /// Read the metrics of the server.
    ReadMetrics = "metrics.read", Some, Reads;
);

impl Permission {
    /// Whether it works on exactly one partition.
    pub const fn needs_one_partition(self) -> bool {
        matches!(self.reach(), Reach::One)
    }

    /// Whether it changes something, which is then on the record together with the change.
    pub const fn changes(self) -> bool {
        matches!(self.kind(), Kind::Changes)
    }

    /// The permission of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self::of(Permission::ALL);

    /// A set of these, and of what they imply.
    pub const fn of(list: &[Permission]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < list.len() {
            bits |= 1 << list[at] as u32;
            if matches!(list[at], Permission::Export) {
                bits |= 1 << Permission::ExportDeidentified as u32;
            }
            at += 1;
        }
        Self(bits)
    }

    /// Whether it is in the set.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u32) != 0
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of it is in the other.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Its members, in the order of their definition.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(list: T) -> Self {
        list.into_iter().fold(Self::NONE, |set, one| set.or(Self::of(&[one])))
    }
}

/// The roles that every partition knows. (A partition can have others of its own.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Finds and retrieves.
    Reader,
    /// Stores, and makes and performs workitems.
    Writer,
    /// Deletes and undeletes.
    Deleter,
    /// Finds, retrieves and exports.
    Exporter,
    /// Reads the audit log.
    Auditor,
    /// Everything inside a partition.
    PartitionAdmin,
    /// Keeps the platform, and sees nothing of patients.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Reader,
        Self::Writer,
        Self::Deleter,
        Self::Exporter,
        Self::Auditor,
        Self::PartitionAdmin,
        Self::Operator,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Deleter => "deleter",
            Self::Exporter => "exporter",
            Self::Auditor => "auditor",
            Self::PartitionAdmin => "partition-admin",
            Self::Operator => "operator",
        }
    }

    /// The role of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// What it permits.
    pub const fn permits(self) -> Permissions {
        use Permission as P;
        match self {
            Self::Reader => Permissions::of(&[
                P::Retrieve,
                P::Search,
                P::ReadChanges,
                P::ReadTags,
                P::ReadWorkitems,
                P::ListPartitions,
            ]),
            Self::Writer => {
                Permissions::of(&[P::Store, P::Commit, P::ManageWorkitems, P::ListPartitions])
            }
            Self::Deleter => Permissions::of(&[P::Delete, P::ReadOperations, P::ListPartitions]),
            Self::Exporter => Permissions::of(&[
                P::Retrieve,
                P::Search,
                P::Export,
                P::ReadOperations,
                P::ListPartitions,
            ]),
            Self::Auditor => Permissions::of(&[P::ReadAudit, P::ListPartitions]),
            Self::PartitionAdmin => {
                let platform = Permissions::of(&[P::ManagePartitions, P::ReadMetrics]);
                Permissions(Permissions::ALL.0 & !platform.0)
            }
            Self::Operator => Permissions::of(&[
                P::ListPartitions,
                P::ManagePartitions,
                P::ReadTags,
                P::ManageTags,
                P::ReadOperations,
                P::ManageOperations,
                P::ReadPolicy,
                P::ManagePolicy,
                P::ReadMetrics,
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        assert!(Permission::ALL.len() <= 32, "they are the bits of a number");
        for permission in Permission::ALL {
            assert_eq!(Permission::of(permission.as_str()), Some(*permission));
        }
        for role in Role::ALL {
            assert_eq!(Role::of(role.as_str()), Some(role));
        }
        assert_eq!(Permission::of("studies"), None);
        assert_eq!(Role::of("Reader"), None);
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        let set = Permissions::of(&[Permission::Store, Permission::ReadMetrics]);
        let names: Vec<_> = set.iter().map(Permission::as_str).collect();
        assert_eq!(names, ["studies.store", "metrics.read"]);
        assert!(set.is_within(Permissions::ALL) && !Permissions::ALL.is_within(set));
        assert_eq!(set.and(Permissions::of(&[Permission::Store])).iter().count(), 1);
        assert_eq!(set.iter().collect::<Permissions>(), set);
    }

    #[test]
    fn who_may_export_may_do_so_deidentified_and_not_the_other_way_round() {
        let (export, deidentified) = (Permission::Export, Permission::ExportDeidentified);
        let set = [export].into_iter().collect::<Permissions>();
        assert!(set.has(export) && set.has(deidentified));
        assert!(!Permissions::of(&[deidentified]).has(export));
        assert!(Permissions::of(&[deidentified]).is_within(set));
    }

    #[test]
    fn an_operator_sees_nothing_of_patients() {
        use Permission::*;
        let of_patients = [
            Retrieve,
            Store,
            Delete,
            Update,
            Search,
            Commit,
            Export,
            ExportDeidentified,
            ReadChanges,
            ReadWebhooks,
            ManageWebhooks,
            ReadAudit,
            Share,
            ReadPrincipals,
            ManagePrincipals,
            ReadWorkitems,
            ManageWorkitems,
        ];
        for permission in of_patients {
            assert!(!Role::Operator.permits().has(permission), "{permission}");
        }
    }

    #[test]
    fn a_partition_admin_reaches_nothing_of_the_platform() {
        let own = Role::PartitionAdmin.permits();
        assert!(!own.has(Permission::ManagePartitions) && !own.has(Permission::ReadMetrics));
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
            assert!(role.permits().is_within(own), "{role:?}");
        }
    }
}
