//! Who asks: credentials of requests, verified.
//!
//! Owns [`Authenticator`], which turns the credentials that a request brings into a [`Principal`].
//! Holds: what was not verified is nobody; a refusal says what is wrong with a credential and nothing
//! about who else exists; secrets are compared in constant time and never shown.
//!
//! Absent: what somebody may do (`tenancy::check`), and what partitions know of him (`control`).

pub mod api_key;
mod authenticator;

pub use authenticator::{AuthError, Authenticator, Credentials, Identified};
