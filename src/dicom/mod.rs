//! DICOM bytes: what a stored file says, and how it is said in JSON and in other encodings.
//!
//! Owns UIDs, the streaming Part 10 reader, frame tables, character sets, person names, the
//! attribute table of the index, and the DICOM JSON Model. Pure and synchronous: bytes in, values
//! out; no I/O, no async, no database, no HTTP.

pub mod ae_title;
pub mod attributes;
pub mod changeable;
pub mod charset;
pub mod coerce;
pub mod compose;
pub mod data_set;
pub mod deidentify;
pub mod directory;
pub mod edit;
pub mod error;
pub mod explicit;
pub mod extract;
pub mod frames;
pub mod identifier;
pub mod index;
pub mod json;
pub mod kept;
pub mod matching;
pub mod model;
pub mod names;
pub mod non_patient;
pub mod normalise;
pub mod pack;
pub mod person_name;
pub mod reader;
pub mod rejection;
pub mod rewrite;
pub mod sent;
pub mod tag_values;
pub mod transfer_syntax;
pub mod uid;
pub mod ups;
pub mod xml;

pub use ae_title::AeTitle;
pub use dicom_core::{Tag, VR};
pub use error::{DicomError, Limits};
pub use rejection::{RejectionNote, RejectionTitle};
pub use uid::Uid;
