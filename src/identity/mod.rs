//! Who asks: credentials of requests, verified.
//!
//! Owns [`Authenticator`], which turns the credentials that a request brings into a principal;
//! certificates of clients ([`Certificates`]), signed URLs ([`Link`]), and what holds off who tries
//! credentials out ([`Throttle`]).
//! Holds: what was not verified is nobody; a refusal says what is wrong with a credential and nothing
//! about who else exists; secrets are compared in constant time and never shown.
//!
//! Absent: what somebody may do (`tenancy::check`), and what partitions know of him (`control`).

mod authenticator;
mod certificate;
mod link;
mod throttle;

pub use authenticator::{AuthError, Authenticator, Credentials, Identified};
pub use certificate::{Certificates, PeerCertificate};
pub use link::{Link, Signature};
pub use throttle::{RetryAfter, Throttle};
