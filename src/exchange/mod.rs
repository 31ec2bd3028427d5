//! Import and export: instances between the archive and places outside of it, many at a time.
//!
//! Owns what is found in a place ([`Source`]), the engine that stores files ([`Importer`]), and the
//! one that copies instances out ([`Exporter`], [`Standalone`]) with its layouts, manifest and log of errors. Holds:
//! - Files are stored by the session that serves Store requests, and instances are read as Retrieve
//!   reads them: there is no second way in or out.
//! - Both work in steps that can be done again: what is stored is found to be identical, what is
//!   written is found to be there.
//! - Memory grows neither with a file nor with how many there are. (Names of one folder are sorted in
//!   memory, and a DICOMDIR has an upper bound.)
//!
//! Absent: who asks (`http`, `cli`), when it is worked at (`workers`).

mod copies;
mod export;
mod import;
mod importing;
mod layout;
mod lists;
mod request;
mod source;
mod standalone;
mod tally;

pub use crate::dicom::deidentify::{NoOption, Options};
pub use export::{ExportError, ExportStep, Exporter};
pub use import::{Batch, How, ImportError, Importer, Line, Status};
pub use importing::{ImportRequest, ImportStep, Imports};
pub use layout::Layout;
pub use request::{Deidentify, ExportRequest, is_resource, path_of};
pub use source::{At, Found, Source, SourceError, Within};
pub use standalone::{Begun, Standalone, StandaloneError};
pub use tally::add;
