//! Collimator: a DICOMweb server that keeps every request inside its own partition.

pub mod dicom;
pub mod index;
pub mod tenancy;
