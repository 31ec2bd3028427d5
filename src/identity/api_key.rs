//! API keys: their form, how they are made, and what is kept of them.
//!
//! A key is `cmk_<id>_<secret>_<partition>`: the id in 32 hexadecimal digits, the secret of 256 bits
//! in 43 characters of base64url (RFC 4648 §5, without padding), and the partition, so that its scope
//! can be opened before anything is looked up. The lengths of the first parts are fixed, and the
//! partition comes last: characters that ids of partitions share with separators mislead nobody.
//! Every character may stand in a bearer token (RFC 6750 §2.1).
//!
//! Holds: no `Debug` shows a secret; what is kept is the SHA-256 of it, which is enough for what
//! nobody can guess. Absent: looking keys up (`control`).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Credentials;
use crate::tenancy::PartitionId;

/// What every key begins with.
pub const PREFIX: &str = "cmk_";

/// Digits of an id, and characters of a secret.
const ID: usize = 32;
const SECRET: usize = 43;
/// Digits of the id that are shown to know a key by.
const SHOWN: usize = 8;

/// A key as a request brings it: nothing about it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedKey {
    /// The partition that it says to be of.
    pub partition: PartitionId,
    /// Its id.
    pub id: Uuid,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
}

impl PresentedKey {
    /// Reads a key.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
        let (id, rest) = rest.split_at_checked(ID)?;
        let (secret, rest) = rest.strip_prefix('_')?.split_at_checked(SECRET)?;
        let partition = rest.strip_prefix('_')?.parse().ok()?;
        // One way to write each: a key is a text, and not what could be read into it.
        let id = Uuid::try_parse(id).ok().filter(|read| read.simple().to_string() == id)?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        let secret: &[u8; 32] = secret.as_slice().try_into().ok()?;
        Some(Self { partition, id, hash: hash(secret) })
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, id, .. } = self;
        f.debug_struct("PresentedKey").field("partition", partition).field("id", id).finish()
    }
}

/// A secret that was just made: to be shown once.
pub struct NewSecret(Zeroizing<[u8; 32]>);

impl NewSecret {
    /// One that nobody has seen.
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// The key that it makes.
    pub fn shown(&self, partition: &PartitionId, id: Uuid) -> String {
        format!("{PREFIX}{}_{}_{partition}", id.simple(), URL_SAFE_NO_PAD.encode(&self.0[..]))
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// How a key begins, to know it by where it is listed.
pub fn prefix(id: Uuid) -> String {
    let id = id.simple().to_string();
    format!("{PREFIX}{}", id.get(..SHOWN).unwrap_or_default())
}

/// What a request says by way of API keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Nothing: its credential, where there is one, is of another kind.
    Nothing,
    /// A key.
    Key(PresentedKey),
    /// Something that is no key, or several.
    Wrong,
}

/// Finds the API key of a request: the value of `x-api-key`, or a bearer token that begins as one.
pub fn presented(credentials: &Credentials<'_>) -> Presented {
    let key = |text| PresentedKey::parse(text).map_or(Presented::Wrong, Presented::Key);
    match (credentials.api_key, credentials.authorization) {
        ([], [one]) => match bearer(one) {
            Some(token) if token.starts_with(PREFIX.as_bytes()) => key(token),
            _ => Presented::Nothing,
        },
        ([], _) => Presented::Nothing,
        ([one], []) => key(one),
        // Which one counts is not for the server to guess.
        _ => Presented::Wrong,
    }
}

/// The token of a value of `Authorization`; the scheme's name is read without regard to case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn hash(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(partition: &str) -> (String, Uuid, [u8; 32]) {
        let (secret, id) = (NewSecret::generate(), Uuid::new_v4());
        (secret.shown(&partition.parse().unwrap(), id), id, secret.hash())
    }

    fn of(api_key: &[&str], authorization: &[&str]) -> Presented {
        let bytes = |list: &[&str]| list.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
        let (api_key, authorization) = (bytes(api_key), bytes(authorization));
        let api_key: Vec<&[u8]> = api_key.iter().map(Vec::as_slice).collect();
        let authorization: Vec<&[u8]> = authorization.iter().map(Vec::as_slice).collect();
        presented(&Credentials { authorization: &authorization, api_key: &api_key })
    }

    #[test]
    fn what_is_made_is_read_whatever_the_partition_is_called() {
        for partition in ["a", "microsoft.default", "a_b-c.d", "0_", "a__", &"x".repeat(32)] {
            let (text, id, hash) = made(partition);
            let expected = PresentedKey { partition: partition.parse().unwrap(), id, hash };
            assert_eq!(PresentedKey::parse(text.as_bytes()), Some(expected));
            assert!(text.starts_with(&prefix(id)), "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (text, ..) = made("a");
        let upper = text.to_ascii_uppercase();
        let id_upper = format!("cmk_{}{}", "A".repeat(32), &text[36..]);
        // The last character of a secret has two bits that are always 0.
        let loose = format!("{}B_a", &text[..79]);
        let (no_partition, cut) = (&text[..80], &text[..60]);
        for wrong in ["", "cmk_", &upper, &id_upper, &loose, no_partition, cut, "cmk_é"] {
            assert_eq!(PresentedKey::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(PresentedKey::parse(format!("{text}/b").as_bytes()), None);
        assert_eq!(PresentedKey::parse(b"cmk_\xff"), None);
        // Any byte that is another makes another key or none.
        let key = PresentedKey::parse(text.as_bytes());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_ne!(PresentedKey::parse(&bytes), key, "{at}");
        }
    }

    #[test]
    fn a_key_comes_in_one_place() {
        let (text, ..) = made("a");
        let key = Presented::Key(PresentedKey::parse(text.as_bytes()).unwrap());
        let (bearer, lower) = (format!("Bearer {text}"), format!("bearer  {text}"));
        assert_eq!(of(&[&text], &[]), key);
        assert_eq!(of(&[], &[&bearer]), key);
        assert_eq!(of(&[], &[&lower]), key);
        assert_eq!(of(&[], &[]), Presented::Nothing);
        assert_eq!(of(&[], &["Bearer eyJhbGciOi.a.b"]), Presented::Nothing);
        assert_eq!(of(&[], &["Basic Y21rXw=="]), Presented::Nothing);
        assert_eq!(of(&[], &[&bearer, &bearer]), Presented::Nothing);
        assert_eq!(of(&["junk"], &[]), Presented::Wrong);
        assert_eq!(of(&[], &["Bearer cmk_junk"]), Presented::Wrong);
        assert_eq!(of(&[&text, &text], &[]), Presented::Wrong);
        assert_eq!(of(&[&text], &[&bearer]), Presented::Wrong);
        assert_eq!(of(&[&text], &["Bearer eyJhbGciOi.a.b"]), Presented::Wrong);
    }

    #[test]
    fn no_debug_shows_a_secret() {
        let (text, ..) = made("a");
        let key = PresentedKey::parse(text.as_bytes()).unwrap();
        let shown = format!("{key:?} {:?}", NewSecret(Zeroizing::new([7; 32])));
        assert!(!shown.contains(&text[37..80]) && !shown.contains("hash"), "{shown}");
    }
}
