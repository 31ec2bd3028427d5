//! What can go wrong in the archive, by what the caller can do about it.

use crate::{blob::BlobError, dicom::deidentify::Refusal, index::IndexError};

/// An operation of the archive failed. Failing parts of a Store are no errors but data, see
/// [`super::Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The scope holds no such study, series, instance or bulk value.
    #[error("not found")]
    NotFound,
    /// The scope held it once and it was deleted (PS3.18 Table 8.5-1: 410).
    #[error("deleted")]
    Gone,
    /// A frame number beyond the last frame, or no frames at all.
    #[error("no such frame")]
    NoSuchFrame,
    /// The instance cannot be given in any representation that the request accepts.
    #[error("not acceptable")]
    NotAcceptable {
        /// Transfer syntaxes that it can be given in.
        available: Vec<String>,
    },
    /// The pixels cannot be decoded or encoded as wanted; the instance can be had as it is stored.
    #[error("not decodable: {0}")]
    Undecodable(&'static str),
    /// It cannot be de-identified.
    #[error("not de-identifiable: {0}")]
    NotDeidentifiable(Refusal),
    /// More memory than one request may take would be needed.
    #[error("larger than {key} allows")]
    TooLarge {
        /// The configuration key.
        key: &'static str,
        /// Its value, in bytes.
        limit: u64,
    },
    /// A search would have to look at more rows than `search.max_filtered` allows, for keys that no
    /// index answers.
    #[error("more rows than search.max_filtered allows")]
    TooBroad {
        /// The parameters of those keys, as the client wrote them.
        names: Vec<String>,
        /// The most rows.
        limit: u32,
    },
    /// A search took longer than `search.timeout`.
    #[error("longer than search.timeout")]
    TooSlow,
    /// The index or the blob store does not answer now; the request may be repeated.
    #[error("a part of the archive is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// Something that must hold does not: an alarm for the operator.
    #[error("the archive is inconsistent")]
    Internal(#[source] anyhow::Error),
}

impl ArchiveError {
    /// The error with all its causes, for the log.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut below = std::error::Error::source(self);
        while let Some(cause) = below {
            text += &format!(": {cause}");
            below = cause.source();
        }
        text
    }
}

impl From<IndexError> for ArchiveError {
    fn from(error: IndexError) -> Self {
        if matches!(error, IndexError::TooBroad) {
            Self::TooSlow
        } else if error.is_unavailable() {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<BlobError> for ArchiveError {
    fn from(error: BlobError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable(error.into())
        } else {
            // A row names this blob (`blob_reads`): that it is missing is the operator's alarm, not
            // a 404.
            Self::Internal(error.into())
        }
    }
}
