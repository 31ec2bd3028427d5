//! What can be wrong with DICOM bytes, and the limits that bound reading them.

use super::Tag;

/// Bounds on what one instance may make the reader keep or do. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nesting of sequences, in levels (`limits.element_depth`).
    pub element_depth: u16,
    /// Bytes of attributes kept in memory: everything but bulk values (`limits.header_bytes`).
    pub header_bytes: u64,
    /// Bytes that a deflated data set may inflate to (`limits.inflated_bytes`).
    pub inflated_bytes: u64,
    /// Fragments and frames that one instance may have (`limits.frames`).
    pub frames: u64,
}

/// Why an instance cannot be read. Offsets count from the first byte of the Part 10 file (of the
/// inflated stream, in a deflated data set).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DicomError {
    /// No `DICM` prefix, and the first bytes are no File Meta Information either.
    #[error("not a DICOM Part 10 file")]
    NotDicom,
    /// The data ended inside a value or header.
    #[error("the data ends at byte {at}, inside an element")]
    Truncated {
        /// Where the data ended.
        at: u64,
    },
    /// The bytes cannot be an element or item where one must be.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: u64,
        /// Which rule is broken.
        what: &'static str,
    },
    /// A required attribute is absent or empty.
    #[error("{tag} is missing or empty")]
    Missing {
        /// The attribute.
        tag: Tag,
    },
    /// A UID that the archive's keys need is not a UID.
    #[error("{tag} is not a valid UID (PS3.5 §9.1)")]
    InvalidUid {
        /// The attribute.
        tag: Tag,
    },
    /// A limit was exceeded.
    #[error("more than {limit} ({key})")]
    Limit {
        /// The configuration key that sets the limit.
        key: &'static str,
        /// Its value.
        limit: u64,
    },
    /// A deflated data set does not inflate.
    #[error("the deflated data set is damaged")]
    Inflate,
}
