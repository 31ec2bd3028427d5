//! Who may do what in a partition, as those change it who may: principals, roles, policy, revocations.
//!
//! Holds: nobody gives more than he has; the last who may change any of it is not taken that away,
//! and nobody locks himself out, unless he insists; changes of one partition come one after the
//! other, and hold for the next request to this server. Absent: API keys (`keys`), what follows from
//! it for requests (`access`).

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Access, keys};
use crate::{
    index::{
        Db, IndexError, Member, MemberFilter, NewMember, NewRevocation, OwnRole, PartitionTx,
        PolicyRow, Revocation,
    },
    tenancy::{
        Circumstances, Known, Membership, PartitionId, PartitionScope, Permission, Permissions,
        Policy, Principal, PrincipalKind, Role, check, is_allowed, role_permits,
    },
};

/// Most roles of a partition's own: all of them are read with whatever is decided.
const MOST_ROLES: usize = 100;
/// Most principals that are known in a partition when one more is named in advance.
const MOST_PRINCIPALS: i64 = 100_000;
/// Most revocations at a time.
const MOST_REVOCATIONS: i64 = 10_000;

/// Why who may do what was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessRefusal {
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// It is there already.
    #[error("it is there already")]
    Exists,
    /// A role that the partition does not have, or cannot give.
    #[error("the partition has no such role")]
    UnknownRole,
    /// A role of that name is built in.
    #[error("roles that are built in cannot be changed")]
    BuiltIn,
    /// More than who gives it has.
    #[error("nobody can give, or take over, more than he has")]
    Beyond,
    /// A key without anything.
    #[error("a key has at least one role or permission")]
    Empty,
    /// Nobody could change who may do what any more.
    #[error("nobody in the partition would have principals.manage any more")]
    LastKeeper,
    /// Who asks would not be let in any more.
    #[error("the policy would not let in who sets it")]
    LocksOut,
    /// Somebody has the role.
    #[error("principals, API keys or the policy have the role")]
    InUse,
    /// A principal without sessions.
    #[error("a certificate has no sessions to end; it can be suspended")]
    NoSessions,
    /// There would be too many.
    #[error("too many")]
    TooMany {
        /// How many there may be.
        limit: i64,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Who changes something, and where.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// In which partition.
    pub scope: &'a PartitionScope,
    /// Who.
    pub who: &'a Principal,
    /// The circumstances of his request.
    pub around: &'a Circumstances,
    /// Whether he insists, whoever is locked out.
    pub insists: bool,
    /// What to call him, where the credential does not say it.
    pub name: Option<&'a str>,
}

/// What somebody wants a principal to be; `None`: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberChange {
    /// Its name for people.
    pub name: Option<String>,
    /// Roles that the partition gives it.
    pub roles: Option<Vec<Box<str>>>,
    /// Whether it is shut out.
    pub is_suspended: Option<bool>,
}

/// What a partition's own roles permit, by name.
pub(super) type OwnRoles = BTreeMap<Box<str>, Permissions>;

pub(super) async fn own_roles(tx: &mut PartitionTx) -> Result<OwnRoles, IndexError> {
    let roles = tx.roles().await?.into_iter();
    Ok(roles.map(|role| (role.name.into(), role.permissions)).collect())
}

/// What roles permit together; each has to be there.
pub(super) fn sum(own: &OwnRoles, names: &[Box<str>]) -> Result<Permissions, AccessRefusal> {
    names.iter().try_fold(Permissions::NONE, |all, name| {
        Ok(all.or(role_permits(own, name).ok_or(AccessRefusal::UnknownRole)?))
    })
}

/// Whether roles that come to those of before are there, and no more than who gives them has.
fn is_within(
    own_roles: &OwnRoles,
    before: &[Box<str>],
    after: &[Box<str>],
    own: Permissions,
) -> Result<(), AccessRefusal> {
    let added: Vec<Box<str>> =
        after.iter().filter(|name| !before.contains(name)).cloned().collect();
    match sum(own_roles, &added)?.is_within(own) {
        true => Ok(()),
        false => Err(AccessRefusal::Beyond),
    }
}

impl By<'_> {
    /// Who it is, in words for people.
    pub fn name(&self) -> String {
        match (self.name, self.who) {
            (Some(name), _) => name.to_owned(),
            (None, Principal::Anonymous) => "anonymous".to_owned(),
            (None, Principal::Known(known)) => format!("{} {}", known.issuer, known.subject),
        }
    }

    /// Makes sure that somebody is left who may change who may do what.
    pub(super) async fn keeps_somebody(&self, tx: &mut PartitionTx) -> Result<(), AccessRefusal> {
        let own = match self.who {
            // Nobody is locked out while everybody is let in.
            Principal::Anonymous => return Ok(()),
            _ if self.insists => return Ok(()),
            Principal::Known(known) => known,
        };
        const NEEDED: Permission = Permission::ManagePrincipals;
        let roles = own_roles(tx).await?;
        let has_it = |name: &str| role_permits(&roles, name).is_some_and(|all| all.has(NEEDED));
        let built_in = Role::ALL.into_iter().map(|role| Box::from(role.as_str()));
        let with_it: BTreeSet<Box<str>> =
            built_in.chain(roles.keys().cloned()).filter(|name| has_it(name)).collect();
        let defaults = tx.policy().await?.map(|row| row.policy.default_roles).unwrap_or_default();
        let by_default = defaults.iter().any(|name| has_it(name));
        if tx.access_somebody_has(&with_it, NEEDED, by_default).await? {
            return Ok(());
        }
        // Who has it by his credential keeps it, unless he shut himself out.
        let by_credential = own.kind != PrincipalKind::ApiKey
            && own.limit.has(NEEDED)
            && (own.permissions.has(NEEDED) || own.roles.iter().any(|name| has_it(name)));
        let is_out = self.is_suspended(tx, own).await?;
        if by_credential && !is_out { Ok(()) } else { Err(AccessRefusal::LastKeeper) }
    }

    async fn is_suspended(&self, tx: &mut PartitionTx, own: &Known) -> Result<bool, IndexError> {
        let filter = MemberFilter {
            issuer: Some(own.issuer.to_string()),
            subject: Some(own.subject.to_string()),
            is_suspended: Some(true),
            ..MemberFilter::default()
        };
        Ok(!tx.principals(&filter, (1, 0)).await?.is_empty())
    }
}

/// Changes who may do what. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    db: Db,
    access: Access,
}

impl Members {
    /// Those over an opened index.
    pub fn new(db: Db, access: Access) -> Self {
        Self { db, access }
    }

    /// A page of the principals of a partition, in the order in which they became known.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn list(
        &self,
        scope: &PartitionScope,
        filter: &MemberFilter,
        page: (i64, i64),
    ) -> Result<Vec<Member>, IndexError> {
        self.db.begin_in(scope).await?.principals(filter, page).await
    }

    /// A principal.
    ///
    /// # Errors
    /// [`AccessRefusal::NotFound`], or a failure of the index.
    pub async fn get(&self, scope: &PartitionScope, id: Uuid) -> Result<Member, AccessRefusal> {
        self.db.begin_in(scope).await?.principal(id).await?.ok_or(AccessRefusal::NotFound)
    }

    /// Makes a principal known in advance.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn add(&self, by: &By<'_>, new: &NewMember) -> Result<Member, AccessRefusal> {
        let own = self.own(by).await?;
        let mut tx = self.db.begin_access(by.scope).await?;
        is_within(&own_roles(&mut tx).await?, &[], &new.roles, own)?;
        if tx.principal_count().await? >= MOST_PRINCIPALS {
            return Err(AccessRefusal::TooMany { limit: MOST_PRINCIPALS });
        }
        let id = Uuid::new_v4();
        if !tx.principal_add(id, new).await? {
            return Err(AccessRefusal::Exists);
        }
        let added = tx.principal(id).await?.ok_or(AccessRefusal::NotFound)?;
        self.commit(by, tx).await?;
        Ok(added)
    }

    /// Changes what is said of a principal.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn change(
        &self,
        by: &By<'_>,
        id: Uuid,
        change: MemberChange,
    ) -> Result<Member, AccessRefusal> {
        let own = self.own(by).await?;
        let mut tx = self.db.begin_access(by.scope).await?;
        let Member { is, suspended_at, .. } =
            tx.principal_lock(id).await?.ok_or(AccessRefusal::NotFound)?;
        let roles = change.roles.unwrap_or_else(|| is.roles.clone());
        let is_suspended = change.is_suspended.unwrap_or(suspended_at.is_some());
        // Who is let in again is given all of his roles.
        let returns = suspended_at.is_some() && !is_suspended;
        let before: &[Box<str>] = if returns { &[] } else { &is.roles };
        is_within(&own_roles(&mut tx).await?, before, &roles, own)?;
        let name = change.name.or(is.name);
        tx.principal_change(id, name.as_deref(), &roles, is_suspended).await?;
        by.keeps_somebody(&mut tx).await?;
        let changed = tx.principal(id).await?.ok_or(AccessRefusal::NotFound)?;
        self.commit(by, tx).await?;
        Ok(changed)
    }

    /// Forgets a principal. While its credentials are good it becomes known again at its next
    /// request, without the roles that it was given: to keep it out, suspend it.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn remove(&self, by: &By<'_>, id: Uuid) -> Result<(), AccessRefusal> {
        let mut tx = self.db.begin_access(by.scope).await?;
        tx.principal_lock(id).await?.ok_or(AccessRefusal::NotFound)?;
        tx.principal_remove(id).await?;
        by.keeps_somebody(&mut tx).await?;
        self.commit(by, tx).await
    }

    /// Signs a principal out everywhere: credentials that were issued before now are not taken any
    /// more. Says from when on they are.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn sign_out(&self, by: &By<'_>, id: Uuid) -> Result<OffsetDateTime, AccessRefusal> {
        let mut tx = self.db.begin_access(by.scope).await?;
        let member = tx.principal_lock(id).await?.ok_or(AccessRefusal::NotFound)?;
        if member.is.kind == PrincipalKind::Certificate {
            return Err(AccessRefusal::NoSessions);
        }
        let from = tx.principal_sign_out(id).await?.ok_or(AccessRefusal::NotFound)?;
        self.commit(by, tx).await?;
        Ok(from)
    }

    /// The roles of a partition's own, by name.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn roles(&self, scope: &PartitionScope) -> Result<Vec<OwnRole>, IndexError> {
        self.db.begin_in(scope).await?.roles().await
    }

    /// Adds a role, or changes one; says whether it was not there.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn put_role(
        &self,
        by: &By<'_>,
        name: &str,
        permissions: Permissions,
        description: &str,
    ) -> Result<(OwnRole, bool), AccessRefusal> {
        if Role::of(name).is_some() {
            return Err(AccessRefusal::BuiltIn);
        }
        let own = self.own(by).await?;
        if !permissions.is_within(own) {
            return Err(AccessRefusal::Beyond);
        }
        let mut tx = self.db.begin_access(by.scope).await?;
        let before = tx.roles().await?;
        let is_new = !before.iter().any(|role| role.name == name);
        if is_new && before.len() >= MOST_ROLES {
            return Err(AccessRefusal::TooMany { limit: MOST_ROLES as i64 });
        }
        tx.role_put(name, permissions, description).await?;
        if !is_new {
            by.keeps_somebody(&mut tx).await?;
        }
        let mut roles = tx.roles().await?.into_iter();
        let role = roles.find(|role| role.name == name).ok_or(AccessRefusal::NotFound)?;
        self.commit(by, tx).await?;
        Ok((role, is_new))
    }

    /// Removes a role that nobody has.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn remove_role(&self, by: &By<'_>, name: &str) -> Result<(), AccessRefusal> {
        if Role::of(name).is_some() {
            return Err(AccessRefusal::BuiltIn);
        }
        let mut tx = self.db.begin_access(by.scope).await?;
        if !tx.role_remove(name).await? {
            return Err(AccessRefusal::NotFound);
        }
        let defaults = tx.policy().await?.map(|row| row.policy.default_roles).unwrap_or_default();
        if defaults.iter().any(|role| &**role == name) || tx.role_in_use(name).await? {
            return Err(AccessRefusal::InUse);
        }
        self.commit(by, tx).await
    }

    /// The policy of a partition; `None`: none was set.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn policy(&self, scope: &PartitionScope) -> Result<Option<PolicyRow>, IndexError> {
        self.db.begin_in(scope).await?.policy().await
    }

    /// Sets the policy of a partition.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn put_policy(
        &self,
        by: &By<'_>,
        policy: &Policy,
    ) -> Result<PolicyRow, AccessRefusal> {
        let known = self.access.membership(by.who, by.scope.partition()).await?;
        let own = crate::tenancy::permissions(by.who, &known);
        let mut tx = self.db.begin_access(by.scope).await?;
        let roles = own_roles(&mut tx).await?;
        let before = tx.policy().await?.map(|row| row.policy).unwrap_or_default();
        is_within(&roles, &before.default_roles, &policy.default_roles, own)?;
        tx.policy_put(policy, &by.name()).await?;
        if !by.insists {
            let is_operator = matches!(by.who, Principal::Known(known) if known.is_operator);
            let is_in = is_operator || is_allowed(&policy.allowed_addresses, by.around.address);
            let after = Membership { policy: policy.clone(), ..known };
            let may = check(by.who, &after, by.around, Permission::ManagePolicy);
            if !is_in || may.is_err() {
                return Err(AccessRefusal::LocksOut);
            }
        }
        let keeps = |names: &[Box<str>]| {
            sum(&roles, names).map(|all| all.has(Permission::ManagePrincipals))
        };
        if matches!(keeps(&before.default_roles), Ok(true))
            && !matches!(keeps(&policy.default_roles), Ok(true))
        {
            by.keeps_somebody(&mut tx).await?;
        }
        let set = tx.policy().await?.ok_or(AccessRefusal::NotFound)?;
        self.commit(by, tx).await?;
        let state = set.policy.state.as_str();
        tracing::info!(partition = %by.scope.partition(), state, "policy set");
        Ok(set)
    }

    /// A page of the revocations of a partition, the oldest first.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn revocations(
        &self,
        scope: &PartitionScope,
        page: (i64, i64),
    ) -> Result<Vec<Revocation>, IndexError> {
        self.db.begin_in(scope).await?.revocations(page).await
    }

    /// Revokes a session or a token.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn revoke(
        &self,
        by: &By<'_>,
        new: &NewRevocation,
    ) -> Result<Revocation, AccessRefusal> {
        let mut tx = self.db.begin_access(by.scope).await?;
        tx.revocation_drop_ended().await?;
        if tx.revocation_count().await? >= MOST_REVOCATIONS {
            return Err(AccessRefusal::TooMany { limit: MOST_REVOCATIONS });
        }
        let added = tx.revocation_add(new).await?;
        self.commit(by, tx).await?;
        Ok(added)
    }

    /// Takes a revocation back.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn unrevoke(&self, by: &By<'_>, id: Uuid) -> Result<(), AccessRefusal> {
        let mut tx = self.db.begin_access(by.scope).await?;
        if !tx.revocation_remove(id).await? {
            return Err(AccessRefusal::NotFound);
        }
        self.commit(by, tx).await
    }

    async fn own(&self, by: &By<'_>) -> Result<Permissions, IndexError> {
        self.access.permissions(by.who, by.scope.partition()).await
    }

    /// Commits a change, and lets it hold at once. What was read of the partition is forgotten also
    /// where it is unknown whether the commit took place.
    async fn commit(&self, by: &By<'_>, tx: PartitionTx) -> Result<(), AccessRefusal> {
        let done = tx.commit().await;
        self.access.forget(by.scope.partition());
        Ok(done?)
    }
}

/// Whether principals of an issuer can be named in advance: those that the server vouches for itself
/// come into being otherwise.
pub fn can_be_named(issuer: &str) -> bool {
    // Issuers are called by names of this form in the configuration.
    let is_name = issuer.parse::<PartitionId>().is_ok_and(|name| name.as_str() == issuer);
    is_name && ![keys::ISSUER, "link"].contains(&issuer)
}
