//! What can go wrong with blobs, by meaning.
//!
//! Texts name keys (a partition and a random id) and config keys, never values; what the store
//! itself said is the source, for the operator's log.

use std::{error::Error, io};

use super::BlobKey;

impl BlobError {
    /// Whether the store cannot do it now, but may later.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Full(_) | Self::Denied(_) | Self::Unavailable(_) | Self::TooSlow { .. }
        )
    }
}

/// Why something about blobs failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store holds no such blob.
    #[error("blob {key} is missing")]
    Missing {
        /// The key that was asked for.
        key: BlobKey,
    },
    /// A blob is written once; this key was written before.
    #[error("blob {key} exists already")]
    Exists {
        /// The key that was to be written.
        key: BlobKey,
    },
    /// The blob holds fewer bytes than were asked for: its rows and its bytes disagree.
    #[error("blob {key} is shorter than its rows say")]
    Short {
        /// The key that was read.
        key: BlobKey,
    },
    /// The blob has more parts than object stores take (10,000).
    #[error("blob {key} is larger than the store takes")]
    TooLarge {
        /// The key that was to be written.
        key: BlobKey,
    },
    /// The upload lived longer than the sweeper spares what has no rows yet.
    #[error("the upload of blob {key} took too long")]
    TooSlow {
        /// The key that was to be written.
        key: BlobKey,
    },
    /// No room is left.
    #[error("the blob store is full")]
    Full(#[source] Source),
    /// The store refused who we are, or what we may.
    #[error("the blob store refused the credentials")]
    Denied(#[source] Source),
    /// The store did not answer, or with an error of its own. Trying again later may help.
    #[error("the blob store did not answer as it should")]
    Unavailable(#[source] Source),
    /// A config key holds what cannot be right.
    #[error("{key} {reason}")]
    Config {
        /// The config key.
        key: &'static str,
        /// What is wrong with its value, without the value.
        reason: String,
    },
    /// The store does not keep what the server relies on.
    #[error("this blob store cannot be used: {reason}")]
    Unfit {
        /// What it does wrong.
        reason: &'static str,
        /// What it said, where it said something.
        #[source]
        source: Option<Source>,
    },
}

/// What lies below a [`BlobError`].
pub type Source = Box<dyn Error + Send + Sync>;

impl BlobError {
    pub(super) fn config(key: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { key, reason: reason.into() }
    }

    pub(super) fn unfit(reason: &'static str) -> Self {
        Self::Unfit { reason, source: None }
    }

    /// What the store said about `key`.
    pub(super) fn of(key: &BlobKey, error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::Missing { key: key.clone() },
            E::AlreadyExists { .. } => Self::Exists { key: key.clone() },
            other => Self::of_store(other),
        }
    }

    /// Of a write: what is missing then is no blob, but the place for it (a bucket, a folder, an
    /// upload that the store forgot), and may be back later.
    pub(super) fn of_write(self) -> Self {
        match self {
            Self::Missing { .. } => Self::Unavailable("the place for the blob is missing".into()),
            other => other,
        }
    }

    /// What the store said about no blob in particular.
    pub(super) fn of_store(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(Box::new(error)),
            _ => match io_kind(&error) {
                Some(io::ErrorKind::PermissionDenied) => Self::Denied(Box::new(error)),
                _ => Self::Unavailable(Box::new(error)),
            },
        }
    }

    /// What the file system said about `key`.
    pub(super) fn of_io(key: &BlobKey, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { key: key.clone() },
            io::ErrorKind::AlreadyExists => Self::Exists { key: key.clone() },
            io::ErrorKind::UnexpectedEof => Self::Short { key: key.clone() },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(Box::new(error))
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(Box::new(error))
            }
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// The kind of the file system's error somewhere below.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut below = error.source();
    while let Some(source) = below {
        if let Some(io) = source.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        below = source.source();
    }
    None
}
