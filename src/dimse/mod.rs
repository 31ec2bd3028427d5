//! The DIMSE gateway (PS3.7, PS3.8): DICOM's own protocol in front of the same archive as the web
//! services.
//!
//! Owns the listener, associations and the messages C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE as
//! their SCP, and C-STORE as the SCU of a move. The called AE title names the partition; each
//! message is decided, recorded and given a seat as a request of HTTP is, and does what it does by
//! the same calls of `archive`.
//!
//! Holds: peers are hostile: every length is bounded before it is believed, every wait ends, memory
//! does not grow with instances, studies or results; nothing that is sent back or logged repeats a
//! value of a data set. Absent: what is stored and found, and how (`archive`, `query`).

mod answer;
mod association;
#[cfg(test)]
mod bent;
mod command;
mod door;
mod find;
mod link;
mod listen;
mod mover;
mod negotiate;
mod record;
mod retrieve;
mod store;
mod sub;
mod wire;

use std::{ops::Deref, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use listen::serve;
pub use mover::Trust;

use crate::{
    archive::Archive,
    config::{DimseConfig, LimitsConfig, SearchConfig},
    control::{Aside, AuditLog, Partitions, Seats},
    identity::Tls,
};

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>, door::Counts);

/// The parts of [`Gateway`].
pub struct Parts {
    /// The data plane.
    pub archive: Archive,
    /// The registry of partitions.
    pub partitions: Partitions,
    /// The audit log.
    pub audit: AuditLog,
    /// Whose turn it is.
    pub seats: Seats,
    /// Where Stores are worked at.
    pub aside: Aside,
    /// `[dimse]`.
    pub config: DimseConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[search]`.
    pub search: SearchConfig,
    /// Whether callers need to be somebody.
    pub is_auth_on: bool,
    /// TLS of the listener; `None`: it speaks in clear.
    pub tls: Option<Tls>,
    /// Whom destinations are believed by.
    pub trust: Trust,
    /// Cancelled when the server is told to stop: nothing new begins then.
    pub closing: CancellationToken,
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts), door::Counts::default())
    }
}

impl Deref for Gateway {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
