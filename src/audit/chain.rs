//! The chain that makes tampering evident: each link is a hash of the one before and of an event.

use sha2::{Digest, Sha256};

/// A link's hash.
pub type Hash = [u8; 32];

/// What stands before the first link.
pub const START: Hash = [0; 32];

/// A place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1; 0 stands for what is before the first.
    pub number: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Link {
    /// What is before the first link.
    pub const START: Self = Self { number: 0, hash: START };

    /// The link behind this one, of an event with this record.
    #[must_use]
    pub fn next(&self, record: &str) -> Self {
        Self { number: self.number + 1, hash: link(&self.hash, record) }
    }
}

/// The hash of a link: SHA-256 of the hash before it and of the bytes of the record.
pub fn link(before: &Hash, record: &str) -> Hash {
    let mut sha = Sha256::new();
    sha.update(before);
    sha.update(record.as_bytes());
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As `(head -c 32 /dev/zero; printf '{"id":"1"}') | sha256sum` has it, and its like for the
    /// second.
    #[test]
    fn a_link_is_the_hash_of_the_one_before_and_of_the_record() {
        let first = Link::START.next("{\"id\":\"1\"}");
        let plain = Sha256::digest([&[0; 32][..], b"{\"id\":\"1\"}"].concat());
        assert_eq!((first.number, &first.hash[..]), (1, &plain[..]));
        assert_eq!(hex(first.hash), FIRST);
        let second = first.next("x");
        assert_eq!(second.number, 2);
        assert_eq!(&second.hash[..], &Sha256::digest([&first.hash[..], b"x"].concat())[..]);
    }

    const FIRST: &str = "19d5e153b801d516fa978978b1a2b8b08cb2cff70f3fbba591b0854dd4f5bbe7";
}
