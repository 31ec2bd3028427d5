//! Who asks: credentials of requests, verified.
//!
//! Owns [`Authenticator`], which turns the credentials that a request brings into a [`Principal`]:
//! access tokens of any number of issuers (OpenID Connect, RFC 9068), with their keys; certificates of
//! clients ([`Certificates`]), signed URLs ([`Link`]), and what holds off who tries credentials out
//! ([`Throttle`]).
//!
//! Holds: what was not verified is nobody; the issuer that a token names is the only one whose keys
//! can vouch for it; no URL and no key in a token is ever followed or believed; requests from outside
//! cannot make this server ask an issuer more often than the configuration says; a refusal says what
//! is wrong with a credential that is genuine, and nothing otherwise; secrets are compared in
//! constant time and never shown.
//!
//! Absent: what somebody may do (`tenancy::check`), and what partitions know of him (`control`).
//!
//! [`Principal`]: crate::tenancy::Principal

pub mod api_key;
mod authenticator;
mod certificate;
mod claims;
mod fetch;
mod flaw;
mod jwk;
mod jws;
mod keys;
mod link;
mod presented;
mod seen;
mod smart;
mod strict_json;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod tokens;

pub use authenticator::{AuthError, Authenticator, Credentials, Identified};
pub use certificate::{Certificates, PeerCertificate};
pub use flaw::Flaw;
pub use link::{Link, Signature};
pub use throttle::{RetryAfter, Throttle};
pub use tls::Tls;
