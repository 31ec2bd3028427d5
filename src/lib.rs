//! Collimator: a DICOMweb server that keeps every request inside its own partition.

pub mod config;
pub mod dicom;
pub mod http;
pub mod tenancy;
