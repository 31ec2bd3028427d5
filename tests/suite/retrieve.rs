//! Retrieve (PS3.18 §10.4): instances, metadata, frames and bulk values.

mod bulkdata;
mod collections;
mod deidentified;
mod frames;
mod instances;
mod manners;
mod metadata;
mod pictures;
pub mod pixels;
mod presentation;
mod rendered;
mod thumbnails;
mod transcode;
mod wado_uri;
mod xml;

/// `multipart/related` with instances as they are stored.
const STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";

/// A UID that nothing has.
const UNUSED: &str = "2.25.404";
