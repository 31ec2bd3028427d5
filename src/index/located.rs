//! What a request names ([`Target`]) and where its bytes are ([`Located`]).

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::IndexError;
use crate::dicom::Uid;

/// A study, a series of it, or an instance of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of a study.
    Study {
        /// Study Instance UID.
        study: Uid,
    },
    /// All of a series.
    Series {
        /// Study Instance UID.
        study: Uid,
        /// Series Instance UID.
        series: Uid,
    },
    /// One instance.
    Instance {
        /// Study Instance UID.
        study: Uid,
        /// Series Instance UID.
        series: Uid,
        /// SOP Instance UID.
        instance: Uid,
    },
}

impl Target {
    /// Study Instance UID.
    pub fn study(&self) -> &Uid {
        match self {
            Self::Study { study } | Self::Series { study, .. } | Self::Instance { study, .. } => {
                study
            }
        }
    }

    /// Series Instance UID, unless the target is a study.
    pub fn series(&self) -> Option<&Uid> {
        match self {
            Self::Study { .. } => None,
            Self::Series { series, .. } | Self::Instance { series, .. } => Some(series),
        }
    }

    /// SOP Instance UID, if the target is an instance.
    pub fn instance(&self) -> Option<&Uid> {
        match self {
            Self::Study { .. } | Self::Series { .. } => None,
            Self::Instance { instance, .. } => Some(instance),
        }
    }
}

/// What the partition knows of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Live,
    /// It was there and is not any more.
    Deleted,
    /// It never was.
    Absent,
}

/// Where one stored version of an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The id of this version.
    pub watermark: i64,
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// SOP Class UID.
    pub sop_class: Uid,
    /// Transfer Syntax UID of the stored file.
    pub transfer_syntax: Uid,
    /// The blob that holds the file.
    pub blob: Uuid,
    /// First byte of the file in the blob.
    pub offset: u64,
    /// Bytes of the file.
    pub length: u64,
    /// First byte of the data set in the file.
    pub data_set_offset: u64,
    /// Bytes that stand before the file when it is given out, so that it begins as PS3.10 §7.1
    /// says, where that is known before it is read.
    pub header_missing: Option<u64>,
}

/// The columns of [`Located`] but for the UIDs of study and series, in the order in which
/// [`Located::read`] wants them; `i` is the instance.
macro_rules! located_columns {
    () => {
        "i.watermark, i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.blob_id, \
         i.blob_offset, i.length, i.data_set_offset, i.header_missing"
    };
}
pub(super) use located_columns;

/// How many columns that are.
pub(super) const LOCATED_COLUMNS: usize = 9;

impl Located {
    /// Reads a row that begins with [`located_columns`].
    pub(super) fn read(row: &PgRow, study: Uid, series: Uid) -> Result<Self, IndexError> {
        Ok(Self {
            watermark: row.try_get(0)?,
            study,
            series,
            instance: uid(row, 1, "instance", "sop_instance_uid")?,
            sop_class: uid(row, 2, "instance", "sop_class_uid")?,
            transfer_syntax: uid(row, 3, "instance", "transfer_syntax_uid")?,
            blob: row.try_get(4)?,
            offset: size(row, 5, "instance", "blob_offset")?,
            length: size(row, 6, "instance", "length")?,
            data_set_offset: size(row, 7, "instance", "data_set_offset")?,
            header_missing: row.try_get::<Option<i16>, _>(8)?.and_then(|n| u64::try_from(n).ok()),
        })
    }
}

/// Reads a UID from column number `at`.
pub(super) fn uid(
    row: &PgRow,
    at: usize,
    table: &'static str,
    column: &'static str,
) -> Result<Uid, IndexError> {
    let text: &str = row.try_get(at)?;
    text.parse().map_err(|_| IndexError::Inconsistent { table, column })
}

/// Reads a size or offset in bytes from column number `at`.
pub(super) fn size(
    row: &PgRow,
    at: usize,
    table: &'static str,
    column: &'static str,
) -> Result<u64, IndexError> {
    let number: i64 = row.try_get(at)?;
    u64::try_from(number).map_err(|_| IndexError::Inconsistent { table, column })
}

/// A size or offset as Postgres keeps it. Sizes come from files and requests that are bounded far
/// below 2⁶³; one that is not becomes the largest there is, and so lies outside every blob.
pub(super) fn bigint(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
