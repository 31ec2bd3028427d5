//! Pseudonyms under the key of a partition: the same for the same, in each of its instances, and
//! without meaning for whoever has not got the key (PS3.15 §E.3.9, §E.3.6).
//!
//! All are HMAC-SHA-256 of what is replaced, each kind under a label of its own. Without the key
//! they cannot be computed from a list of known identifiers, as a plain hash could.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::dicom::Uid;

/// Dates are moved back by at least so many days.
const LEAST_DAYS: u64 = 30;
/// And by fewer than so many more: ten years.
const DAYS: u64 = 3653;

/// A key, which is never shown; its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PseudonymKey(Zeroizing<[u8; 32]>);

impl PseudonymKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for where it is kept.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey")
    }
}

/// Makes pseudonyms.
#[derive(Clone)]
pub(super) struct Pseudonyms(Hmac<Sha256>);

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

/// One patient, as far as it is told who that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patient {
    code: u64,
    /// Days by which dates are moved, back.
    pub(super) days: i64,
}

impl Patient {
    /// In place of ID and name.
    pub(super) fn id(self) -> String {
        format!("P{:016X}", self.code)
    }
}

impl Pseudonyms {
    pub(super) fn new(key: &PseudonymKey) -> Self {
        // A key that is shorter than a block is filled up with zeros (RFC 2104).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key.expose());
        Self(Hmac::new((&*block).into()))
    }

    fn of(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in [label.as_bytes()].iter().chain(parts) {
            // With its length, so that no two lists of parts are the same text.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// A UID made from a UUID (PS3.5 §B.2), of the version that is for such (RFC 9562 §5.8).
    pub(super) fn uid(&self, original: &[u8]) -> String {
        let mac = self.of("uid", &[original]);
        let mut bytes: [u8; 16] = *mac.first_chunk().unwrap_or(&[0; 16]);
        bytes[6] = bytes[6] & 0x0F | 0x80;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        format!("2.25.{}", u128::from_be_bytes(bytes))
    }

    pub(super) fn uid_of(&self, uid: &Uid) -> Uid {
        // What `uid` makes is one, so that nothing is ever taken over here.
        self.uid(uid.as_str().as_bytes()).parse().unwrap_or_else(|_| uid.clone())
    }

    /// The patient of an ID and its issuer, or of what stands in for an ID that is missing.
    pub(super) fn patient(&self, parts: &[&[u8]]) -> Patient {
        let mac = self.of("patient", parts);
        let number = |at: usize| {
            let bytes = mac.get(at..).and_then(<[u8]>::first_chunk::<8>);
            bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let days = LEAST_DAYS + number(8) % DAYS;
        Patient { code: number(0), days: i64::try_from(days).unwrap_or(0) }
    }

    pub(super) fn fingerprint(&self, text: &str) -> String {
        let mac = self.of("fingerprint", &[text.as_bytes()]);
        let first = mac.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        format!("{first:032x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_stable_and_of_their_key() {
        let (a, b) = (PseudonymKey::new([1; 32]), PseudonymKey::new([2; 32]));
        let (a, b) = (Pseudonyms::new(&a), Pseudonyms::new(&b));
        assert_eq!(a.uid(b"1.2.3"), a.uid(b"1.2.3"));
        assert_ne!(a.uid(b"1.2.3"), a.uid(b"1.2.4"));
        assert_ne!(a.uid(b"1.2.3"), b.uid(b"1.2.3"));
        assert_ne!(a.patient(&[b"1", b""]).id(), a.patient(&[b"", b"1"]).id());
        assert_ne!(a.fingerprint("x"), b.fingerprint("x"));
        for number in 0..1000 {
            let text = number.to_string();
            let uid: Uid = a.uid(text.as_bytes()).parse().unwrap();
            assert!(uid.as_str().starts_with("2.25.") && !uid.has_leading_zero());
            let days = a.patient(&[text.as_bytes()]).days;
            assert!((30..3683).contains(&days), "{days}");
            assert_eq!(a.patient(&[text.as_bytes()]).id().len(), 17);
        }
        assert_eq!(format!("{a:?} {:?}", PseudonymKey::new([7; 32])), "Pseudonyms PseudonymKey");
    }
}
