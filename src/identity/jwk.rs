//! Keys that an issuer publishes (RFC 7517, RFC 7518 §6, RFC 8037), and signatures verified by them.

use std::ops::RangeInclusive;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

use crate::config::Algorithm;

/// Most keys of one issuer; Entra ID has some ten. What comes after them is left out.
const MOST_KEYS: usize = 128;
/// Sizes of RSA keys that are taken, in bits: from the least of RFC 7518 §3.3 to what *ring* takes.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, uncompressed.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set. Keys that cannot verify what this server takes are left out: other types,
    /// those for encryption, RSA keys that are too short.
    ///
    /// `None` where it is none, or nothing is left.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let set: Value = serde_json::from_slice(bytes).ok()?;
        let listed = set.get("keys")?.as_array()?.iter().take(MOST_KEYS);
        let keys: Vec<Key> = listed.filter_map(|key| Key::read(key.as_object()?)).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The key of that name that verifies that algorithm. A token without a name needs an issuer
    /// with one such key.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_for_signatures = match jwk.get("use") {
            None => true,
            Some(purpose) => purpose == "sig",
        } && match jwk.get("key_ops") {
            None => true,
            Some(purposes) => purposes.as_array()?.iter().any(|purpose| purpose == "verify"),
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (without_zeros(bytes("n")?), without_zeros(bytes("e")?));
                // What does not fill its first byte has fewer bits than its bytes hold.
                let bits = 8 * n.len() - n.first()?.leading_zeros() as usize;
                RSA_BITS.contains(&bits).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Material::P256(point(&bytes("x")?, &bytes("y")?, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(&bytes("x")?, &bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => {
                Material::Ed25519(bytes("x").filter(|key| key.len() == 32)?)
            }
            _ => return None,
        };
        let owned = |name: &str| text(name).map(str::to_owned);
        is_for_signatures.then_some(Self { kid: owned("kid"), algorithm: owned("alg"), material })
    }

    /// Whether it verifies an algorithm: by its type, and by what it says itself.
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        let has_type = match algorithm {
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => {
                matches!(self.material, Material::Rsa { .. })
            }
            A::Es256 => matches!(self.material, Material::P256(_)),
            A::Es384 => matches!(self.material, Material::P384(_)),
            A::EdDsa => matches!(self.material, Material::Ed25519(_)),
        };
        // RFC 9864 has another name for it.
        let own = match self.algorithm.as_deref() {
            Some("Ed25519") => Some("EdDSA"),
            own => own,
        };
        has_type && own.is_none_or(|own| own == algorithm.as_str())
    }

    /// Whether a signature is this key's, by that algorithm.
    pub fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let verified = match &self.material {
            Material::Rsa { n, e } => match rsa(algorithm) {
                Some(by) => RsaPublicKeyComponents { n, e }.verify(by, signed, signature),
                None => return false,
            },
            Material::P256(key) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                .verify(signed, signature),
            Material::P384(key) => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key)
                .verify(signed, signature),
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature)
            }
        };
        verified.is_ok()
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

fn point(x: &[u8], y: &[u8], size: usize) -> Option<Vec<u8>> {
    let has_size = x.len() == size && y.len() == size;
    has_size.then(|| [&[4], x, y].concat())
}
