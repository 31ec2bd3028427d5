//! Retrieve (PS3.18 §10.4): instances, metadata, frames and bulk values.

mod bulkdata;
mod frames;
mod instances;
mod metadata;
mod pictures;
mod presentation;
mod rendered;
mod thumbnails;
mod wado_uri;
mod xml;

/// `multipart/related` with instances as they are stored.
const STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";

/// A UID that nothing has.
const UNUSED: &str = "2.25.404";
