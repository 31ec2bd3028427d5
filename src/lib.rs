//! Collimator: a DICOMweb server that keeps every request inside its own partition.

pub mod app;
pub mod archive;
pub mod blob;
pub mod cli;
pub mod config;
pub mod control;
pub mod dicom;
pub mod http;
pub mod index;
pub mod postgres;
pub mod telemetry;
pub mod tenancy;
pub mod workers;
