//! Collimator: a DICOMweb server that keeps every request inside its own partition.

// Outside bytes must not be able to trip a panic, and whoever reads a room finds it explained.
#![warn(
    missing_docs,
    clippy::await_holding_lock,
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::undocumented_unsafe_blocks,
    clippy::unimplemented,
    clippy::unwrap_used
)]

pub mod app;
pub mod archive;
pub mod audit;
pub mod blob;
pub mod cli;
pub mod codec;
pub mod config;
pub mod control;
pub mod dicom;
pub mod dimse;
pub mod exchange;
pub mod http;
pub mod identity;
pub mod index;
pub mod outbound;
pub mod postgres;
pub mod query;
pub mod render;
pub mod telemetry;
pub mod tenancy;
pub mod verify;
pub mod workers;
