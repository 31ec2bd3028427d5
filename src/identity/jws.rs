//! The form of a signed token: JWS in compact serialization (RFC 7515 §7.1), with the rules of
//! RFC 8725 for JWT.
//!
//! Holds: nothing of a header is followed but the name of a key, which is only ever looked up among
//! keys that the issuer published: no URL (`jku`, `x5u`), no key and no certificate in it counts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{flaw::Flaw, strict_json};
use crate::config::Algorithm;

/// Longest token, in bytes. Those of real issuers have one to four thousand.
pub(super) const LONGEST: usize = 16 * 1024;
/// Longest name of a key, in bytes.
const LONGEST_KID: usize = 512;

/// A token that was taken apart, of which nothing is verified yet.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// What is signed: header and payload as they were sent.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    /// By what.
    pub algorithm: Algorithm,
    /// The key's name.
    pub kid: Option<String>,
    /// The claims, which nobody vouches for yet.
    pub claims: Map<String, Value>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Flaw::Malformed`], [`Flaw::Algorithm`], [`Flaw::Critical`] or [`Flaw::Type`].
    pub fn read(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > LONGEST {
            return Err(Flaw::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        // Strict: no padding, and no bits besides; a dot too many is outside of the alphabet.
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed);
        let object = |part: &str| strict_json::object(&decoded(part)?).ok_or(Flaw::Malformed);
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(Flaw::Critical);
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => name.parse().map_err(|()| Flaw::Algorithm)?,
            _ => return Err(Flaw::Algorithm),
        };
        match header.get("typ") {
            None => {}
            Some(Value::String(name)) if is_access_token(name) => {}
            Some(_) => return Err(Flaw::Type),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= LONGEST_KID => Some(kid.clone()),
            Some(_) => return Err(Flaw::Malformed),
        };
        Ok(Self {
            signed: signed.as_bytes(),
            signature: decoded(signature)?,
            algorithm,
            kid,
            claims: object(payload)?,
        })
    }
}

/// Whether a type is one of access tokens (RFC 9068 §2.1), or says no more than that it is a JWT.
fn is_access_token(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "at+jwt" | "jwt")
}
