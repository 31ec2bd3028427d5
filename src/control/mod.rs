//! The control plane: partitions, what principals may do in them, the audit log, and readiness.

mod access;
mod audit;
mod health;
mod partitions;

pub use access::Access;
pub use audit::{AuditLog, AuditNote, AuditPlace};
pub use health::{Check, Health};
pub use partitions::{ControlError, Partition, Partitions};

/// What reading the audit log takes and gives.
pub use crate::index::{AuditCursor, AuditEntry, AuditFilter, IndexError as AuditError};
