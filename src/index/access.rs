//! What partitions know of who asks: policy, roles, membership and revocations, in one look for one
//! partition or many.
//!
//! Holds: what cannot be read lets nobody in: a policy with an address that is no network is an
//! error, and a permission that this server does not know gives nothing. Absent: what follows from
//! it (`tenancy::check`), and how long it is believed (`control`).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Db, IndexError, PartitionTx, ScopedTx, feed::PATIENCE, lookup::one, registry, tag_lock,
};
use crate::tenancy::{
    Membership, PartitionId, PartitionScope, PartitionState, Permission, Permissions, Policy,
};

/// First key of the lock of who changes who may do what in a partition.
const OF_PARTITION: i32 = 0x4143_4300;

/// Several partitions, whoever asks.
const POLICIES: &str = "-- access_policies
    SELECT partition_id, state, allowed_addresses, needs_mfa, max_token_age, default_roles
    FROM partition_policy WHERE partition_id = ANY($1)";

/// Several partitions, one after the other, for one who asks.
const LOOK: &str = "-- access_look
    SELECT scope.id, p.state, p.allowed_addresses, p.needs_mfa, p.max_token_age, p.default_roles,
        (SELECT json_object_agg(r.name, r.permissions)::text FROM (SELECT name, permissions
            FROM role WHERE partition_id = scope.id AND name > '' ORDER BY name) r),
        m.roles, coalesce(m.suspended_at IS NOT NULL, false), m.valid_from,
        coalesce(m.last_seen_at > now() - interval '1 hour', false),
        (SELECT 1 FROM revocation WHERE partition_id = scope.id
            AND kind >= 'session' AND kind <= 'session' AND issuer >= $2 AND issuer <= $2
            AND value >= $4 AND value <= $4 AND (expires_at IS NULL OR expires_at > now())
            ORDER BY kind, issuer, value LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM revocation WHERE partition_id = scope.id
            AND kind >= 'token' AND kind <= 'token' AND issuer >= $2 AND issuer <= $2
            AND value >= $5 AND value <= $5 AND (expires_at IS NULL OR expires_at > now())
            ORDER BY kind, issuer, value LIMIT 1) IS NOT NULL
    FROM unnest($1::text[]) AS n(id)
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope
    LEFT JOIN LATERAL (SELECT * FROM partition_policy
        WHERE partition_id >= scope.id AND partition_id <= scope.id
        ORDER BY partition_id LIMIT 1) p ON true
    LEFT JOIN LATERAL (SELECT * FROM principal WHERE partition_id = scope.id
        AND issuer >= $2 AND issuer <= $2 AND subject >= $3 AND subject <= $3
        ORDER BY issuer, subject LIMIT 1) m ON true";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[POLICIES, LOOK];

const POLICY_GET: &str = "-- policy_get
    SELECT partition_id, state, allowed_addresses, needs_mfa, max_token_age, default_roles,
        updated_at, updated_by
    FROM partition_policy WHERE partition_id >= $1 AND partition_id <= $1 ORDER BY partition_id";

const POLICY_PUT: &str = "-- policy_put
    INSERT INTO partition_policy (partition_id, state, allowed_addresses, needs_mfa, max_token_age,
        default_roles, updated_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (partition_id) DO UPDATE SET state = EXCLUDED.state,
        allowed_addresses = EXCLUDED.allowed_addresses, needs_mfa = EXCLUDED.needs_mfa,
        max_token_age = EXCLUDED.max_token_age, default_roles = EXCLUDED.default_roles,
        updated_by = EXCLUDED.updated_by, updated_at = now()";

const ROLES: &str = "-- role_list
    SELECT name, permissions, description, created_at, updated_at
    FROM role WHERE partition_id = $1 AND name > '' ORDER BY name";

const ROLE_PUT: &str = "-- role_put
    INSERT INTO role (partition_id, name, permissions, description) VALUES ($1, $2, $3, $4)
    ON CONFLICT (partition_id, name) DO UPDATE SET permissions = EXCLUDED.permissions,
        description = EXCLUDED.description, updated_at = now()";

const ROLE_REMOVE: &str = concat!(
    "-- role_remove
    DELETE FROM role t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "role", "name", "$2")
);

/// Whether somebody has a role.
const ROLE_IN_USE: &str = "-- role_in_use
    SELECT (SELECT 1 FROM principal WHERE partition_id = $1 AND created_at > '-infinity'
            AND $2 = ANY(roles) ORDER BY created_at, principal_id LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM api_key WHERE partition_id = $1 AND created_at > '-infinity'
            AND $2 = ANY(roles) ORDER BY created_at, key_id LIMIT 1) IS NOT NULL";

/// Whether somebody who is let in has one of some roles ($2) or a permission ($3); $4: or none of
/// either, which is what the default is for.
const SOMEBODY_HAS: &str = "-- access_somebody_has
    SELECT (SELECT 1 FROM principal WHERE partition_id = $1 AND created_at > '-infinity'
            AND suspended_at IS NULL AND (roles && $2 OR ($4 AND roles = '{}'))
            ORDER BY created_at, principal_id LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM api_key WHERE partition_id = $1 AND created_at > '-infinity'
            AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now())
            AND (roles && $2 OR $3 = ANY(permissions))
            ORDER BY created_at, key_id LIMIT 1) IS NOT NULL";

pub(super) const STATEMENTS: &[&str] =
    &[POLICY_GET, POLICY_PUT, ROLES, ROLE_PUT, ROLE_REMOVE, ROLE_IN_USE, SOMEBODY_HAS];

/// Who asks, as partitions may know him.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Who vouches for him.
    pub issuer: Box<str>,
    /// Who he is there.
    pub subject: Box<str>,
    /// His session, where the credential names one.
    pub session: Option<Box<str>>,
    /// The token's own id, where it has one.
    pub token: Option<Box<str>>,
}

/// What a partition knows of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintance {
    /// What decides.
    pub membership: Membership,
    /// Credentials from before are not taken.
    pub valid_from: Option<OffsetDateTime>,
    /// Whether it is on record that he was seen within the last hour.
    pub is_seen: bool,
}

/// A partition's policy, and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// The policy.
    pub policy: Policy,
    /// When it was set.
    pub updated_at: OffsetDateTime,
    /// By whom.
    pub updated_by: String,
}

/// A role of a partition's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRole {
    /// Its name.
    pub name: String,
    /// What it permits.
    pub permissions: Permissions,
    /// What it is for.
    pub description: String,
    /// When it came into being.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// Names of permissions, as they are kept.
pub(super) fn names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::as_str).collect()
}

/// Permissions of names; those that are unknown give nothing.
pub(super) fn permissions(names: &[String]) -> Permissions {
    names.iter().filter_map(|name| Permission::of(name)).collect()
}

/// Names of roles as they are used.
pub(super) fn boxed(names: Vec<String>) -> Vec<Box<str>> {
    names.into_iter().map(String::into_boxed_str).collect()
}

fn wrong(column: &'static str) -> IndexError {
    IndexError::Inconsistent { table: "partition_policy", column }
}

/// Reads a policy from columns 1 to 5.
fn policy(row: &PgRow) -> Result<Option<Policy>, IndexError> {
    let Some(state) = row.try_get::<Option<&str>, _>(1)? else { return Ok(None) };
    let addresses: Vec<String> = row.try_get(2)?;
    let addresses =
        addresses.iter().map(|text| text.parse().map_err(|_| wrong("allowed_addresses")));
    let age: Option<i64> = row.try_get(4)?;
    let age = age.map(|seconds| u64::try_from(seconds).map_err(|_| wrong("max_token_age")));
    Ok(Some(Policy {
        state: PartitionState::of(state).ok_or_else(|| wrong("state"))?,
        allowed_addresses: addresses.collect::<Result<_, _>>()?,
        needs_mfa: row.try_get(3)?,
        max_token_age: age.transpose()?.map(std::time::Duration::from_secs),
        default_roles: boxed(row.try_get(5)?),
    }))
}

fn acquaintance(row: &PgRow) -> Result<(PartitionId, Acquaintance), IndexError> {
    let roles: BTreeMap<Box<str>, Vec<String>> = match row.try_get::<Option<&str>, _>(6)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(json)
            .map_err(|_| IndexError::Inconsistent { table: "role", column: "permissions" })?,
    };
    let membership = Membership {
        policy: policy(row)?.unwrap_or_default(),
        roles: roles.into_iter().map(|(name, list)| (name, permissions(&list))).collect(),
        given: row.try_get::<Option<Vec<String>>, _>(7)?.map(boxed).unwrap_or_default(),
        is_suspended: row.try_get(8)?,
        is_revoked: row.try_get(11)?,
    };
    let (valid_from, is_seen) = (row.try_get(9)?, row.try_get(10)?);
    Ok((registry::partition(row, 0)?, Acquaintance { membership, valid_from, is_seen }))
}

impl Db {
    /// Opens a transaction that changes who may do what in a partition: one at a time, so that what
    /// is looked at before a change holds until its end.
    ///
    /// # Errors
    /// [`IndexError::Busy`], [`IndexError::Unavailable`].
    pub async fn begin_access(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})");
        self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await
    }
}

impl ScopedTx {
    /// The policies of those partitions of the scope that have one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn access_policies(&mut self) -> Result<BTreeMap<PartitionId, Policy>, IndexError> {
        let (query, conn) = self.statement(POLICIES);
        let rows = query.fetch_all(conn).await?;
        let read = |row| Ok((registry::partition(row, 0)?, policy(row)?.unwrap_or_default()));
        rows.iter().map(read).collect()
    }

    /// What each partition of the scope knows of who asks.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn access_look(
        &mut self,
        who: &Asker,
    ) -> Result<BTreeMap<PartitionId, Acquaintance>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(LOOK);
        let query = query.bind(&*who.issuer).bind(&*who.subject);
        let query = query.bind(who.session.as_deref()).bind(who.token.as_deref());
        query.fetch_all(conn).await?.iter().map(acquaintance).collect()
    }
}

impl PartitionTx {
    /// The policy, where one was set.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn policy(&mut self) -> Result<Option<PolicyRow>, IndexError> {
        let (query, conn) = self.statement(POLICY_GET);
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
        let policy = policy(&row)?.unwrap_or_default();
        Ok(Some(PolicyRow { policy, updated_at: row.try_get(6)?, updated_by: row.try_get(7)? }))
    }

    /// Sets the policy.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn policy_put(&mut self, policy: &Policy, by: &str) -> Result<(), IndexError> {
        let addresses: Vec<String> =
            policy.allowed_addresses.iter().map(ToString::to_string).collect();
        let roles: Vec<String> = policy.default_roles.iter().map(ToString::to_string).collect();
        let age = policy.max_token_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let (query, conn) = self.statement(POLICY_PUT);
        let query = query.bind(policy.state.as_str()).bind(addresses).bind(policy.needs_mfa);
        query.bind(age).bind(roles).bind(by).execute(conn).await?;
        Ok(())
    }

    /// The roles of the partition's own, by name.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn roles(&mut self) -> Result<Vec<OwnRole>, IndexError> {
        let (query, conn) = self.statement(ROLES);
        let rows = query.fetch_all(conn).await?;
        let read = |row: &PgRow| {
            Ok(OwnRole {
                name: row.try_get(0)?,
                permissions: permissions(&row.try_get::<Vec<String>, _>(1)?),
                description: row.try_get(2)?,
                created_at: row.try_get(3)?,
                updated_at: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Adds a role, or makes one what it is to be.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn role_put(
        &mut self,
        name: &str,
        permissions: Permissions,
        description: &str,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ROLE_PUT);
        query.bind(name).bind(names(permissions)).bind(description).execute(conn).await?;
        Ok(())
    }

    /// Removes a role; says whether it was there.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn role_remove(&mut self, name: &str) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ROLE_REMOVE);
        Ok(query.bind(name).execute(conn).await?.rows_affected() == 1)
    }

    /// Whether a principal or an API key has a role.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn role_in_use(&mut self, name: &str) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ROLE_IN_USE);
        Ok(query.bind(name).fetch_one(conn).await?.try_get(0)?)
    }

    /// Whether a principal or an API key that is let in has one of some roles or a permission; where
    /// `by_default`, those who were given no role have it as well.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn access_somebody_has(
        &mut self,
        roles: &BTreeSet<Box<str>>,
        permission: Permission,
        by_default: bool,
    ) -> Result<bool, IndexError> {
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let (query, conn) = self.statement(SOMEBODY_HAS);
        let query = query.bind(roles).bind(permission.as_str()).bind(by_default);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }
}
