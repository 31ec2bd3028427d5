//! Signatures of messages, as Standard Webhooks has them (version 1): HMAC-SHA256 over the id, the
//! time and the body, in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with where it is shown.
const PREFIX: &str = "whsec_";

/// A secret as a receiver gets it.
pub fn shown(secret: &[u8; 32]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(secret))
}

/// The value of `webhook-signature`: one signature for each secret, by spaces. `timestamp` is in
/// seconds since 1970.
pub fn sign<'a>(
    secrets: impl IntoIterator<Item = &'a [u8; 32]>,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> String {
    let one = |secret: &[u8; 32]| {
        // A key that is shorter than a block is filled up with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by another implementation: Python's `hmac`.
    #[test]
    fn signatures_are_those_of_another_implementation() {
        let secret: [u8; 32] = std::array::from_fn(|at| at as u8);
        assert_eq!(shown(&secret), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let signed = sign([&secret], "msg_1", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,GWvjEzx3AphU7wha3hNZPXJnymF9Fg+ZdvPQqWPOjZ0=");
        let other = [7; 32];
        let both = sign([&secret, &other], "msg_1", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(both, format!("{signed} v1,4tb+MnkCTqymlrGQQ6f66PPeMjMas7AHx6XI40qL5MA="));
    }
}
