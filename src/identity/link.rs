//! Signed URLs: what is signed, and whether a signature is good.
//!
//! A link is for one resource of one partition and what lies below it, for one method, until some
//! moment. Whoever has it, has that, and nothing of who made it. Holds: the signature covers all of
//! it; it is compared in constant time.
//!
//! Absent: keys (`control`), what may be shared, and how a link is written in a URL (`http`).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::tenancy::{Known, PartitionId, Permission, Permissions, PrincipalKind, Reach};

/// What principals of this kind are vouched for by.
const ISSUER: &str = "link";

/// What a signature is about, and that of another scheme never is.
const SCHEME: &str = "collimator link 1";

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The partition.
    pub partition: PartitionId,
    /// The resource: the path in a partition, from `/studies` on, in its one spelling.
    pub resource: Box<str>,
    /// The end, in seconds since 1970.
    pub expires: i64,
    /// The key that it is signed with.
    pub key: Uuid,
    /// The link's own id.
    pub id: Uuid,
}

/// A signature: not a key, though it is as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Its bytes, for whoever gets the link.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Link {
    /// The one method that links are for. (HEAD is a GET without its body.)
    pub const METHOD: &'static str = "GET";

    /// The signature by a key of the partition.
    pub fn sign(&self, key: &[u8; 32]) -> Signature {
        Signature(self.mac(key).finalize().into_bytes().into())
    }

    /// Whether a signature is that of a key of the partition.
    pub fn is_signed(&self, key: &[u8; 32], signature: &[u8]) -> bool {
        self.mac(key).verify_slice(signature).is_ok()
    }

    fn mac(&self, key: &[u8; 32]) -> Hmac<Sha256> {
        // A key that is shorter than a block is filled up with zeros (RFC 2104).
        let mut block = zeroize::Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        let Self { partition, resource, expires, key, id } = self;
        let expires = expires.to_string();
        let (key, id) = (key.simple().to_string(), id.simple().to_string());
        for part in
            [SCHEME, partition.as_str(), resource, Self::METHOD, expires.as_str(), &key, &id]
        {
            // With its length, so that no two lists of parts are the same text.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    /// Whether it has ended.
    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.expires <= now.unix_timestamp()
    }

    /// Whether it is for a path in its partition: the resource's, or one below. Paths are compared
    /// as they were sent: another spelling of a path is another path.
    pub fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.resource) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Who whoever has it is.
    pub fn principal(&self) -> Known {
        let segments: Vec<&str> = self.resource.split('/').skip(1).collect();
        // What a study or series holds is found by a search below it.
        let permissions = match segments.as_slice() {
            ["studies", _] | ["studies", _, "series", _] => {
                Permissions::of(&[Permission::Retrieve, Permission::Search])
            }
            _ => Permissions::of(&[Permission::Retrieve]),
        };
        Known {
            kind: PrincipalKind::Link,
            issuer: ISSUER.into(),
            subject: self.id.simple().to_string().into(),
            name: None,
            reach: Reach::These([self.partition.clone()].into()),
            roles: Default::default(),
            permissions,
            limit: permissions,
            is_operator: false,
            session: None,
            token: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{Circumstances, Membership, Principal, check};

    fn link(resource: &str) -> Link {
        Link {
            partition: "north".parse().unwrap(),
            resource: resource.into(),
            expires: 1_000,
            key: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
        }
    }

    #[test]
    fn a_signature_covers_everything() {
        let (key, it) = ([7; 32], link("/studies/1.2"));
        let signature = it.sign(&key).0;
        assert!(it.is_signed(&key, &signature));
        for other in [
            Link { partition: "south".parse().unwrap(), ..it.clone() },
            Link { resource: "/studies/1.23".into(), ..it.clone() },
            Link { resource: "/studies/1".into(), ..it.clone() },
            Link { expires: 1_001, ..it.clone() },
            Link { key: Uuid::from_u128(3), ..it.clone() },
            Link { id: Uuid::from_u128(3), ..it.clone() },
        ] {
            assert!(!other.is_signed(&key, &signature), "{other:?}");
        }
        assert!(!it.is_signed(&[8; 32], &signature));
        let mut bent = signature;
        bent[31] ^= 1;
        for wrong in [&bent[..], &signature[..31], &[], &[signature, signature].concat()] {
            assert!(!it.is_signed(&key, wrong));
        }
    }

    #[test]
    fn it_covers_the_resource_and_what_is_below() {
        let it = link("/studies/1.2");
        for (path, is_covered) in [
            ("/studies/1.2", true),
            ("/studies/1.2/", true),
            ("/studies/1.2/series/1/metadata", true),
            ("/studies/1.23", false),
            ("/studies/1.", false),
            ("/studies/1%2E2", false),
            ("/Studies/1.2", false),
            ("//studies/1.2", false),
            ("/studies", false),
            ("/wado", false),
            ("", false),
        ] {
            assert_eq!(it.covers(path), is_covered, "{path}");
        }
        let at = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
        assert!(!it.has_expired(at(999)) && it.has_expired(at(1_000)));
    }

    #[test]
    fn whoever_has_it_may_retrieve_and_search_a_study_and_nothing_else() {
        for (resource, searches) in [
            ("/studies/1", true),
            ("/studies/1/series/2", true),
            ("/studies/1/metadata", false),
            ("/studies/1/series/2/instances/3", false),
            ("/studies/1/series/2/instances/3/frames/1/rendered", false),
        ] {
            let known = link(resource).principal();
            let who = Principal::Known(known.into());
            let mut membership = Membership::default();
            membership.policy.default_roles = vec!["partition-admin".into()];
            for permission in Permission::ALL {
                let may = check(&who, &membership, &Circumstances::default(), *permission).is_ok();
                let expected = match permission {
                    Permission::Retrieve => true,
                    Permission::Search => searches,
                    _ => false,
                };
                assert_eq!(may, expected, "{resource} {permission}");
            }
        }
    }
}
