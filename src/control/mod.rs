//! The control plane: partitions, what principals may do in them, who changes that, API keys, the
//! audit log, readiness, new connections, and whose turn it is: seats for work ([`Seats`]) and the threads that step
//! back ([`Aside`]).

mod accepting;
mod access;
mod aside;
mod audit;
mod courtesy;
mod health;
mod keys;
mod links;
mod members;
mod partitions;
mod seats;

pub use accepting::accept;
pub use access::Access;
pub use aside::Aside;
pub use audit::{AuditLog, AuditNote, AuditPlace};
pub use health::{Check, Health};
pub use keys::{KeyHolder, Keys, NotGood};
pub use links::{LinkKey, LinkKeys, LinkSecret, MadeLink, Rotated};
pub use members::{AccessRefusal, By, MemberChange, Members, can_be_named};
pub use partitions::{ControlError, Partition, Partitions};
pub use seats::{Kind, Open, Seat, Seats, Shed};

pub use crate::index::{
    ApiKey, KeySettings, Member, MemberFilter, NewMember, NewRevocation, OwnRole, PolicyRow,
    Revocation, RevocationKind, SecretHash,
};
/// What reading the audit log takes and gives.
pub use crate::index::{AuditCursor, AuditEntry, AuditFilter, IndexError as AuditError};
