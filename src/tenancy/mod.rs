//! Tenancy: what a partition is called, who asks, and which partitions one request may touch.
//!
//! Owns [`PartitionId`], [`Principal`], [`Permission`] and roles, what a partition's [`Policy`] lets
//! somebody do ([`check`]), [`Scope`] and the one place that makes a request's scope, [`decide`], and
//! whose turn it is where partitions wait for each other ([`Weights`]).
//! Pure: no I/O, no async, no clock.
//!
//! Invariants: a `PartitionId` is folded to lower case and holds nothing but `a-z 0-9 . _ -`, so
//! look-alikes cannot exist and the id is safe as a path segment, host label and SQL literal. A
//! [`Scope`] is never empty of meaning: holding one is the receipt that the question "may they?"
//! was asked. Partitions that are absent and those out of reach are refused alike
//! ([`Refused::Hidden`]).

mod deed;
mod partition;
mod party;
mod permission;
mod policy;
mod principal;
mod scope;

pub use deed::Deed;
pub use partition::{InvalidPartitionId, PartitionId};
pub use party::{Having, Party, Weights};
pub use permission::{Permission, Permissions, Role};
pub use policy::{
    Denied, Membership, PartitionState, Policy, check, is_allowed, permissions, role_permits,
};
pub use principal::{Circumstances, Known, Principal, PrincipalKind, Reach};
pub use scope::{Grants, Named, PartitionScope, Refused, Scope, decide};
