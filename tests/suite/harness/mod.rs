//! What the tests stand on: real servers, real files, real requests.

#[allow(dead_code, reason = "shared with the tests of faults")]
pub mod certificates;
#[allow(dead_code, reason = "shared with the tests of faults")]
pub mod client;
pub mod corpus;
pub mod issuer;
pub mod mint;
#[expect(dead_code, reason = "shared with the tests of index and workers")]
pub mod postgres;
#[allow(dead_code, reason = "shared with the tests of faults")]
pub mod process;
#[expect(dead_code, reason = "shared with the tests of workers")]
pub mod receiver;
#[allow(dead_code, reason = "shared with the tests of faults")]
pub mod s3;
pub mod server;
pub mod socket;

pub use client::{Answer, Client, http, send};
pub use corpus::Dicom;
pub use server::{PARTITIONS, Server, until};
pub use socket::Socket;
