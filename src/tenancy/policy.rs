//! What one partition lets one principal do: roles, the partition's policy, and the circumstances
//! of the request. Pure, so that all of it can be tested exhaustively.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use time::OffsetDateTime;

use super::{Circumstances, Known, Permission, Permissions, Principal, PrincipalKind, Role};

/// Whether a partition serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionState {
    /// It does.
    #[default]
    Active,
    /// Nothing that it holds changes; it can be read.
    ReadOnly,
    /// Nobody but who manages it gets in.
    Suspended,
}

impl PartitionState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::ReadOnly, Self::Suspended];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReadOnly => "read-only",
            Self::Suspended => "suspended",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a partition asks of everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether it serves.
    pub state: PartitionState,
    /// Networks that requests may come from; empty: any.
    pub allowed_addresses: Vec<IpNet>,
    /// Whether people must have shown more than one factor.
    pub needs_mfa: bool,
    /// Age of access tokens from which they are not taken any more, however long they are valid.
    pub max_token_age: Option<Duration>,
    /// Roles of who has none, neither by the credential nor in the partition.
    pub default_roles: Vec<Box<str>>,
}

/// What a partition knows of a principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The policy.
    pub policy: Policy,
    /// Roles of the partition's own, by name.
    pub roles: BTreeMap<Box<str>, Permissions>,
    /// Roles that the partition gave the principal.
    pub given: Vec<Box<str>>,
    /// Whether the partition shut it out.
    pub is_suspended: bool,
    /// Whether the partition shut out the session or token, or all that were issued before some time.
    pub is_revoked: bool,
}

/// Why somebody who belongs to a partition may not do something there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The roles do not permit it.
    #[error("the permission {0} is missing")]
    Permission(Permission),
    /// The principal is suspended.
    #[error("the principal is suspended")]
    Principal,
    /// The session or token was revoked.
    #[error("the credential was revoked")]
    Revoked,
    /// The partition is suspended.
    #[error("the partition is suspended")]
    Partition,
    /// The partition is read-only.
    #[error("the partition is read-only")]
    ReadOnly,
    /// Requests may not come from there.
    #[error("the address is not allowed by the partition's policy")]
    Address,
    /// More than one factor is needed.
    #[error("the partition's policy asks for more than one factor")]
    Mfa,
    /// The token is too old.
    #[error("the partition's policy asks for a newer token")]
    Age,
}

impl Denied {
    /// The word for it, for the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permission(_) => "permission",
            Self::Principal => "principal-suspended",
            Self::Revoked => "revoked",
            Self::Partition => "partition-suspended",
            Self::ReadOnly => "read-only",
            Self::Address => "address",
            Self::Mfa => "mfa",
            Self::Age => "token-age",
        }
    }
}

/// What a role permits in a partition that has `own` ones; `None`: the partition cannot give it.
pub fn role_permits(own: &BTreeMap<Box<str>, Permissions>, name: &str) -> Option<Permissions> {
    match Role::of(name) {
        // Whoever keeps a partition makes nobody an operator of the platform.
        Some(Role::Operator) => None,
        Some(role) => Some(role.permits()),
        None => own.get(name).map(|permits| permits.and(Role::PartitionAdmin.permits())),
    }
}

/// What somebody may do in a partition, policies aside.
pub fn permissions(who: &Principal, membership: &Membership) -> Permissions {
    let Principal::Known(who) = who else { return Permissions::ALL };
    let by_name = |name: &str| role_permits(&membership.roles, name).unwrap_or_default();
    let sum = |names: &mut dyn Iterator<Item = &Box<str>>| {
        names.fold(Permissions::NONE, |all, name| all.or(by_name(name)))
    };
    let named = sum(&mut who.roles.iter().chain(&membership.given)).or(who.permissions);
    // Keys and links have what they were made with, and nothing by default.
    let has_default =
        !who.is_operator && !matches!(who.kind, PrincipalKind::ApiKey | PrincipalKind::Link);
    let is_nobody =
        who.roles.is_empty() && membership.given.is_empty() && who.permissions == Permissions::NONE;
    let named = match is_nobody && has_default {
        true => sum(&mut membership.policy.default_roles.iter()),
        false => named,
    };
    let operator = if who.is_operator { Role::Operator.permits() } else { Permissions::NONE };
    named.or(operator).and(who.limit)
}

/// Decides whether somebody who belongs to a partition may do something there.
///
/// The partition's own keepers (who may manage its policy) are let in while it is suspended or
/// read-only, to what concerns its policy: somebody has to be able to change that back. While it is
/// read-only, who may do what can be changed as well: a credential that leaked has to be taken back.
///
/// # Errors
/// [`Denied`].
pub fn check(
    who: &Principal,
    membership: &Membership,
    around: &Circumstances,
    permission: Permission,
) -> Result<(), Denied> {
    let policy = &membership.policy;
    if membership.is_suspended {
        return Err(Denied::Principal);
    }
    if membership.is_revoked {
        return Err(Denied::Revoked);
    }
    if let Principal::Known(known) = who {
        known_may(known, policy, around)?;
    }
    if !permissions(who, membership).has(permission) {
        return Err(Denied::Permission(permission));
    }
    let of_policy = matches!(permission, Permission::ReadPolicy | Permission::ManagePolicy);
    let of_keepers = of_policy || permission == Permission::ManagePrincipals;
    match policy.state {
        PartitionState::Suspended if !of_policy => Err(Denied::Partition),
        PartitionState::ReadOnly if permission.changes() && !of_keepers => Err(Denied::ReadOnly),
        _ => Ok(()),
    }
}

/// What a policy asks of a credential and where it comes from.
fn known_may(known: &Known, policy: &Policy, around: &Circumstances) -> Result<(), Denied> {
    // An operator keeps partitions from the platform's own network.
    if !known.is_operator && !is_allowed(&policy.allowed_addresses, around.address) {
        return Err(Denied::Address);
    }
    if policy.needs_mfa && known.kind == PrincipalKind::User && !around.has_mfa {
        return Err(Denied::Mfa);
    }
    let is_token = matches!(known.kind, PrincipalKind::User | PrincipalKind::Service);
    match policy.max_token_age {
        Some(most) if is_token && is_older(around.issued_at, around.now, most) => Err(Denied::Age),
        _ => Ok(()),
    }
}

/// Whether requests may come from an address.
pub fn is_allowed(allowed: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    allowed.is_empty() || allowed.iter().any(|net| net.contains(&address))
}

/// A token that does not say when it was issued is older than anything.
fn is_older(issued_at: Option<OffsetDateTime>, now: OffsetDateTime, most: Duration) -> bool {
    issued_at.is_none_or(|issued_at| now - issued_at > most)
}

#[cfg(test)]
mod tests;
