//! Import and export: instances between the archive and places outside of it, many at a time.
//!
//! Owns what is found in a place ([`Source`]), the engine that stores files ([`Importer`]), and the
//! one that copies instances out ([`Exporter`]) with its layouts, manifest and log of errors. Holds:
//! - Files are stored by the session that serves Store requests, and instances are read as Retrieve
//!   reads them: there is no second way in or out.
//! - Both work in steps that can be done again: what is stored is found to be identical, what is
//!   written is found to be there.
//! - Memory grows neither with a file nor with how many there are. (Names of one folder are sorted in
//!   memory, and a DICOMDIR has an upper bound.)
//!
//! Absent: who asks (`http`, `cli`), when it is worked at (`workers`).

mod export;
mod import;
mod importing;
mod layout;
mod lists;
mod source;
mod tally;

pub use export::{ExportError, ExportRequest, ExportStep, Exporter};
pub use import::{Batch, How, ImportError, Importer, Line, Status};
pub use importing::{ImportRequest, ImportStep, Imports};
pub use layout::Layout;
pub use source::{At, Found, Source, SourceError, Within};
pub use tally::add;
