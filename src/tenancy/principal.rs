//! Who asks, from where, and what was found out about how they said so.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use time::OffsetDateTime;

use super::{PartitionId, Permissions};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: authentication is off.
    Anonymous,
    /// Somebody whose credential was verified.
    Known(Arc<Known>),
}

/// What kind of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A person, by an access token of an issuer.
    User,
    /// A program, by an access token that it got for itself (client credentials).
    Service,
    /// Whoever holds an API key.
    ApiKey,
    /// A program, by the certificate of its TLS connection.
    Certificate,
    /// Whoever holds a signed URL.
    Link,
}

impl PrincipalKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::User, Self::Service, Self::ApiKey, Self::Certificate, Self::Link];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::ApiKey => "api-key",
            Self::Certificate => "certificate",
            Self::Link => "link",
        }
    }

    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Partitions that a credential is good for, whether they exist or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every partition, those to come included.
    Every,
    /// These.
    These(BTreeSet<PartitionId>),
}

impl Reach {
    /// Whether a partition is among them.
    pub fn has(&self, partition: &PartitionId) -> bool {
        match self {
            Self::Every => true,
            Self::These(these) => these.contains(partition),
        }
    }
}

/// A principal whose credential was verified. `issuer` and `subject` together name it for ever: the
/// same subject of another issuer is somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What kind it is.
    pub kind: PrincipalKind,
    /// Who vouches for it: the name of an issuer of the configuration, `api-key`, `certificate` or
    /// `link`.
    pub issuer: Box<str>,
    /// Who it is there.
    pub subject: Box<str>,
    /// A name for people, where one is known.
    pub name: Option<Box<str>>,
    /// Where it may be.
    pub reach: Reach,
    /// Names of the roles that the credential gives it, in each partition that it reaches. A name
    /// that a partition does not know gives nothing there.
    pub roles: BTreeSet<Box<str>>,
    /// What the credential gives besides roles.
    pub permissions: Permissions,
    /// What the credential is good for at the most (scopes of SMART, a key's own permissions);
    /// `Permissions::ALL` where it says nothing.
    pub limit: Permissions,
    /// Whether it is an operator of the platform.
    pub is_operator: bool,
    /// Session and token, as the issuer names them, to be revoked by.
    pub session: Option<Box<str>>,
    /// The token's own id.
    pub token: Option<Box<str>>,
}

/// What a request brings along that policies look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Where it comes from, as far as proxies are trusted.
    pub address: IpAddr,
    /// When it came.
    pub now: OffsetDateTime,
    /// When the credential was issued, where it says so.
    pub issued_at: Option<OffsetDateTime>,
    /// Whether more than one factor was asked for (`amr`, `acr`).
    pub has_mfa: bool,
}

impl Default for Circumstances {
    /// From this machine, at the beginning of 1970.
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            now: OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            has_mfa: false,
        }
    }
}
