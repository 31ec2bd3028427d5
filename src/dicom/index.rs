//! What Store keeps of one instance besides its bytes: identity, search keys, metadata, frames.
//!
//! Owns [`Indexed`] and [`Indexer`], which makes it in one pass behind the
//! [`Reader`](super::reader::Reader). Holds: the metadata is one JSON object whose attributes, at
//! every level, are unique and ascend; memory is proportional to the header and the number of
//! fragments. Absent: reading bytes, storing anything.
//!
//! Decisions:
//! - Of an attribute that occurs twice in one data set or item the first counts; the sender is
//!   told.
//! - Search keys come from the data set itself, never from items; of several values, from the
//!   first.
//! - Values that break the rules of their VR are in the metadata as they came. Those that cannot
//!   be matched (no date, no number, control characters) are not indexed; text that is only too
//!   long is, since nobody is helped by a patient who cannot be found. Either way the sender is
//!   told, if the attribute is one that the index knows.
//! - A UN value of an attribute that PS3.6 defines is taken for what it is (PS3.5 §6.2.2 note).
//! - Pixel data of the data set itself is always named by URI, however short.

mod indexer;
mod keys;
mod objects;
mod pixels;

use super::{RejectionNote, Tag, Uid, VR, attributes::Level, frames::FrameTable};

pub use indexer::Indexer;

/// A value of one instance that the metadata names by URI instead of carrying it (PS3.18 §F.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkEntry {
    /// Where the value stands: tags and item numbers (from 0) joined by `/`, for example
    /// `7FE00010` or `00540016/0/00181072`. Unique in an instance; the last part of the URI.
    pub path: String,
    /// Its value representation.
    pub vr: VR,
    /// First byte of the value in the file (in the inflated stream where deflated).
    pub offset: u64,
    /// Bytes of the value. For encapsulated pixel data 0: its bytes are its frames. (Where there is
    /// no frame table, and in items: its only fragment, or all of them with their item headers.)
    pub length: u64,
}

/// Search keys: normalised values by column name ([`super::attributes`]), columns without a value
/// left out. A value holds no NUL and fits an index entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<(&'static str, String)>);

impl Keys {
    /// The value of a column, if there is one.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == column).map(|(_, value)| value.as_str())
    }
}

/// Something worth telling the sender although the instance was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The attribute.
    pub tag: Tag,
    /// Which rule its value breaks; never the value itself.
    pub reason: String,
}

/// All that Store indexes of one instance.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// (0002,0010) of the file.
    pub transfer_syntax: Uid,
    /// (0008,0016).
    pub sop_class: Uid,
    /// (0020,000D).
    pub study: Uid,
    /// (0020,000E).
    pub series: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// First byte of the data set in the file.
    pub data_set_offset: u64,
    /// Whether the file begins with the preamble (PS3.10 §7.1).
    pub has_preamble: bool,
    /// The DICOM JSON Model object of the data set (PS3.18 Annex F), UTF-8, attributes ascending.
    /// A value named by URI reads `"BulkDataURI":"@<path>"`; [`super::json::resolve_bulk`] puts
    /// the real URI in on the way out.
    pub metadata: Vec<u8>,
    /// The values that `metadata` names by URI.
    pub bulk: Vec<BulkEntry>,
    /// DICOM JSON objects with the attributes that Search returns at each level: study (patient
    /// attributes included), series, instance. Only attributes of [`super::attributes::TABLE`] that
    /// have a value of at most 64 KiB; text beyond ASCII is UTF-8, not escaped; no bulk values.
    /// Specific Character Set is not among them.
    pub level_attributes: [Vec<u8>; 3],
    /// Values of the search columns ([`super::attributes`]), normalised.
    pub keys: Keys,
    /// Where the frames are, if there is pixel data whose frames can be told apart.
    pub frames: Option<FrameTable>,
    /// What it says as a rejection note, if it is one.
    pub rejection: Option<RejectionNote>,
    /// What was wrong but did not hinder.
    pub warnings: Vec<Warning>,
}

/// All that Store indexes of a Non-Patient Instance (PS3.18 chapter 12).
#[derive(Clone, Debug)]
pub struct NonPatient {
    /// (0002,0010) of the file.
    pub transfer_syntax: Uid,
    /// (0008,0016).
    pub sop_class: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// As in [`Indexed`].
    pub data_set_offset: u64,
    /// As in [`Indexed`].
    pub has_preamble: bool,
    /// As in [`Indexed`].
    pub metadata: Vec<u8>,
    /// As in [`Indexed`].
    pub bulk: Vec<BulkEntry>,
    /// What was wrong but did not hinder.
    pub warnings: Vec<Warning>,
}

impl Indexed {
    /// The attributes that Search returns at `level`.
    pub fn attributes(&self, level: Level) -> &[u8] {
        &self.level_attributes[level as usize]
    }
}

#[cfg(test)]
mod tests;
