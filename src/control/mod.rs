//! The control plane: partitions and readiness. (Grants, keys, tags and operations get their rooms
//! here.)

mod health;
mod partitions;

pub use health::{Check, Health};
pub use partitions::{ControlError, Partition, Partitions};
