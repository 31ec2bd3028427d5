//! The control plane: partitions, what principals may do in them, and readiness.

mod access;
mod health;
mod links;
mod partitions;

pub use access::Access;
pub use health::{Check, Health};
pub use links::{LinkKey, LinkKeys, LinkSecret, Rotated};
pub use partitions::{ControlError, Partition, Partitions};
