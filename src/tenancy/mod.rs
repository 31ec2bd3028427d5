//! Tenancy: what a partition is called, who asks, and which partitions one request may touch.
//!
//! Owns [`PartitionId`], [`Principal`], [`Scope`] and the one place that makes a request's scope,
//! [`decide`]. Pure: no I/O, no async, no clock.
//!
//! Invariants: a `PartitionId` is folded to lower case and holds nothing but `a-z 0-9 . _ -`, so
//! look-alikes cannot exist and the id is safe as a path segment, host label and SQL literal. A
//! [`Scope`] is never empty of meaning: holding one is the receipt that the question "may they?"
//! was asked. Absent and forbidden partitions are refused alike ([`Refused::Hidden`]).

mod partition;
mod scope;

pub use partition::{InvalidPartitionId, PartitionId};
pub use scope::{Action, Grants, Named, PartitionScope, Principal, Refused, Scope, decide};
