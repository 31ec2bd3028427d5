//! API keys of a partition: what is kept of them, which is no key.
//!
//! Holds: rows change in transactions that [`Db::begin_access`](super::Db::begin_access) opened, but
//! for [`PartitionTx::key_use`], which changes nothing that decides. Absent: what a key looks like
//! (`identity`), and whether one that is presented is good (`control`).

use std::{fmt, time::Duration};

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    IndexError, PartitionTx,
    access::{boxed, names, permissions},
    lookup::one,
    principals::texts,
};
use crate::tenancy::Permissions;

macro_rules! select {
    ($name:literal, $condition:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT key_id, name, prefix, hash, CASE WHEN old_hash_until > now() THEN old_hash END,
        old_hash_until, roles, permissions, expires_at, created_at, created_by, last_used_at,
        disabled_at, coalesce(last_used_at > now() - interval '1 hour', false)
    FROM api_key WHERE partition_id = $1 AND ",
            $condition
        )
    };
}

const GET: &str = select!("key_get", "key_id >= $2 AND key_id <= $2 ORDER BY key_id");

const LOCK: &str = select!("key_lock", "key_id >= $2 AND key_id <= $2 ORDER BY key_id FOR UPDATE");

const LIST: &str =
    select!("key_list", "created_at > '-infinity' ORDER BY created_at, key_id LIMIT $2 OFFSET $3");

const COUNT: &str = "-- key_count
    SELECT count(*) FROM api_key WHERE partition_id = $1 AND created_at > '-infinity'";

const ADD: &str = "-- key_add
    INSERT INTO api_key (partition_id, key_id, name, prefix, hash, roles, permissions, expires_at,
        created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const CHANGE: &str = concat!(
    "-- key_change
    UPDATE api_key t SET name = $3, roles = $4, permissions = $5, expires_at = $6,
        disabled_at = CASE WHEN $7 THEN coalesce(t.disabled_at, now()) END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "api_key", "key_id", "$2")
);

const ROTATE: &str = concat!(
    "-- key_rotate
    UPDATE api_key t SET hash = $3, old_hash = t.hash,
        old_hash_until = now() + make_interval(secs => $4)
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "api_key", "key_id", "$2"),
    "
    RETURNING t.old_hash_until"
);

const USE: &str = concat!(
    "-- key_use
    UPDATE api_key t SET last_used_at = now() WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "api_key", "key_id", "$2")
);

const REMOVE: &str = concat!(
    "-- key_remove
    DELETE FROM api_key t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "api_key", "key_id", "$2")
);

pub(super) const STATEMENTS: &[&str] = &[GET, LOCK, LIST, COUNT, ADD, CHANGE, ROTATE, USE, REMOVE];

/// SHA-256 of a secret. Not shown: it is good for nothing but guessing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let wrong = IndexError::Inconsistent { table: "api_key", column: "hash" };
        Ok(Self(bytes.try_into().map_err(|_| wrong)?))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// What somebody says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// What it is for.
    pub name: String,
    /// Its roles.
    pub roles: Vec<Box<str>>,
    /// What it may besides.
    pub permissions: Permissions,
    /// When it ends to be good.
    pub expires_at: Option<OffsetDateTime>,
    /// Whether it is shut out.
    pub is_disabled: bool,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// What somebody said of it.
    pub settings: KeySettings,
    /// How it begins.
    pub prefix: String,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// That of the secret before, and until when that is good as well.
    pub old_hash: Option<(SecretHash, OffsetDateTime)>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// By whom, in words.
    pub created_by: String,
    /// When it was last used, to an hour.
    pub last_used_at: Option<OffsetDateTime>,
    /// Since when it is shut out.
    pub disabled_at: Option<OffsetDateTime>,
    /// Whether it is on record that it was used within the last hour.
    pub is_used: bool,
}

fn read(row: &PgRow) -> Result<ApiKey, IndexError> {
    let old: (Option<&[u8]>, Option<OffsetDateTime>) = (row.try_get(4)?, row.try_get(5)?);
    let old_hash = match old {
        (Some(bytes), Some(until)) => Some((SecretHash::read(bytes)?, until)),
        _ => None,
    };
    let disabled_at: Option<OffsetDateTime> = row.try_get(12)?;
    let settings = KeySettings {
        name: row.try_get(1)?,
        roles: boxed(row.try_get(6)?),
        permissions: permissions(&row.try_get::<Vec<String>, _>(7)?),
        expires_at: row.try_get(8)?,
        is_disabled: disabled_at.is_some(),
    };
    Ok(ApiKey {
        id: row.try_get(0)?,
        settings,
        prefix: row.try_get(2)?,
        hash: SecretHash::read(row.try_get(3)?)?,
        old_hash,
        created_at: row.try_get(9)?,
        created_by: row.try_get(10)?,
        last_used_at: row.try_get(11)?,
        disabled_at,
        is_used: row.try_get(13)?,
    })
}

impl PartitionTx {
    /// A key by its id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key(&mut self, id: Uuid) -> Result<Option<ApiKey>, IndexError> {
        let (query, conn) = self.statement(GET);
        query.bind(id).fetch_optional(conn).await?.map(|row| read(&row)).transpose()
    }

    /// A key whose row stays as it is until this transaction ends.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_lock(&mut self, id: Uuid) -> Result<Option<ApiKey>, IndexError> {
        let (query, conn) = self.statement(LOCK);
        query.bind(id).fetch_optional(conn).await?.map(|row| read(&row)).transpose()
    }

    /// A page of the keys, in the order in which they were made.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn keys(&mut self, (limit, offset): (i64, i64)) -> Result<Vec<ApiKey>, IndexError> {
        let (query, conn) = self.statement(LIST);
        query.bind(limit).bind(offset).fetch_all(conn).await?.iter().map(read).collect()
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_count(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Adds a key, of which `prefix` is shown later on.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_add(
        &mut self,
        id: Uuid,
        settings: &KeySettings,
        (prefix, hash): (&str, SecretHash),
        by: &str,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ADD);
        let query = query.bind(id).bind(&settings.name).bind(prefix).bind(hash.0.to_vec());
        let query = query.bind(texts(&settings.roles)).bind(names(settings.permissions));
        query.bind(settings.expires_at).bind(by).execute(conn).await?;
        Ok(())
    }

    /// Changes what is said of a locked key.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_change(&mut self, id: Uuid, is: &KeySettings) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CHANGE);
        let query = query.bind(id).bind(&is.name).bind(texts(&is.roles));
        let query = query.bind(names(is.permissions)).bind(is.expires_at).bind(is.is_disabled);
        query.execute(conn).await?;
        Ok(())
    }

    /// Gives a locked key another secret; the one before is good for `overlap` as well. Answers until when.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_rotate(
        &mut self,
        id: Uuid,
        hash: SecretHash,
        overlap: Duration,
    ) -> Result<OffsetDateTime, IndexError> {
        let (query, conn) = self.statement(ROTATE);
        let query = query.bind(id).bind(hash.0.to_vec()).bind(overlap.as_secs_f64());
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Notes that a key was used, unless somebody changes it just now.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_use(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(USE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Removes a locked key.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn key_remove(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }
}
