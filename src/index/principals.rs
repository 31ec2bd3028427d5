//! Principals that a partition knows: who was seen, which roles he was given, whether he is shut out.
//!
//! Holds: a principal is named by who vouches for it and who it is there, once in a partition. Rows
//! change in transactions that [`Db::begin_access`](super::Db::begin_access) opened, but for
//! [`PartitionTx::principal_see`], which changes nothing that decides.

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx, access::boxed, lookup::one};
use crate::tenancy::PrincipalKind;

macro_rules! select {
    ($name:literal, $condition:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT principal_id, kind, issuer, subject, name, roles, created_at, last_seen_at,
        suspended_at, valid_from
    FROM principal WHERE partition_id = $1 AND ",
            $condition
        )
    };
}

const GET: &str =
    select!("principal_get", "principal_id >= $2 AND principal_id <= $2 ORDER BY principal_id");

const LOCK: &str = select!(
    "principal_lock",
    "principal_id >= $2 AND principal_id <= $2 ORDER BY principal_id FOR UPDATE"
);

const LIST: &str = select!(
    "principal_list",
    "created_at > '-infinity' AND ($4::text IS NULL OR kind = $4)
        AND ($5::text IS NULL OR issuer = $5) AND ($6::text IS NULL OR subject = $6)
        AND ($7::boolean IS NULL OR (suspended_at IS NOT NULL) = $7)
    ORDER BY created_at, principal_id LIMIT $2 OFFSET $3"
);

const COUNT: &str = "-- principal_count
    SELECT count(*) FROM principal WHERE partition_id = $1 AND created_at > '-infinity'";

const ADD: &str = "-- principal_add
    INSERT INTO principal (partition_id, principal_id, kind, issuer, subject, name, roles)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (partition_id, issuer, subject) DO NOTHING";

const SEE: &str = "-- principal_see
    INSERT INTO principal (partition_id, principal_id, kind, issuer, subject, name, last_seen_at)
    VALUES ($1, $2, $3, $4, $5, $6, now())
    ON CONFLICT (partition_id, issuer, subject) DO UPDATE SET last_seen_at = now(),
        name = coalesce(EXCLUDED.name, principal.name), kind = EXCLUDED.kind";

const CHANGE: &str = concat!(
    "-- principal_change
    UPDATE principal t SET name = $3, roles = $4,
        suspended_at = CASE WHEN $5 THEN coalesce(t.suspended_at, now()) END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "principal", "principal_id", "$2")
);

const SIGN_OUT: &str = concat!(
    "-- principal_sign_out
    UPDATE principal t SET valid_from = now() WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "principal", "principal_id", "$2"),
    "
    RETURNING t.valid_from"
);

const REMOVE: &str = concat!(
    "-- principal_remove
    DELETE FROM principal t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "principal", "principal_id", "$2")
);

pub(super) const STATEMENTS: &[&str] =
    &[GET, LOCK, LIST, COUNT, ADD, SEE, CHANGE, SIGN_OUT, REMOVE];

/// A principal, as somebody names it in advance, or as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// What it is.
    pub kind: PrincipalKind,
    /// Who vouches for it.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// A name for people.
    pub name: Option<String>,
    /// Roles that the partition gives it.
    pub roles: Vec<Box<str>>,
}

/// A principal that a partition knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id in the partition.
    pub id: Uuid,
    /// Who it is, and its roles.
    pub is: NewMember,
    /// When it became known.
    pub created_at: OffsetDateTime,
    /// When it was last seen, to an hour.
    pub last_seen_at: Option<OffsetDateTime>,
    /// Since when it is shut out.
    pub suspended_at: Option<OffsetDateTime>,
    /// Credentials from before are not taken.
    pub valid_from: Option<OffsetDateTime>,
}

/// Which principals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Of this kind.
    pub kind: Option<PrincipalKind>,
    /// Of this issuer.
    pub issuer: Option<String>,
    /// Of this name there.
    pub subject: Option<String>,
    /// Those that are shut out, or those that are not.
    pub is_suspended: Option<bool>,
}

fn read(row: &PgRow) -> Result<Member, IndexError> {
    let kind = PrincipalKind::of(row.try_get(1)?)
        .ok_or(IndexError::Inconsistent { table: "principal", column: "kind" })?;
    let is = NewMember {
        kind,
        issuer: row.try_get(2)?,
        subject: row.try_get(3)?,
        name: row.try_get(4)?,
        roles: boxed(row.try_get(5)?),
    };
    Ok(Member {
        id: row.try_get(0)?,
        is,
        created_at: row.try_get(6)?,
        last_seen_at: row.try_get(7)?,
        suspended_at: row.try_get(8)?,
        valid_from: row.try_get(9)?,
    })
}

/// Names of roles as they are kept.
pub(super) fn texts(roles: &[Box<str>]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}

impl PartitionTx {
    /// A principal.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal(&mut self, id: Uuid) -> Result<Option<Member>, IndexError> {
        let (query, conn) = self.statement(GET);
        query.bind(id).fetch_optional(conn).await?.map(|row| read(&row)).transpose()
    }

    /// A principal whose row stays as it is until this transaction ends.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_lock(&mut self, id: Uuid) -> Result<Option<Member>, IndexError> {
        let (query, conn) = self.statement(LOCK);
        query.bind(id).fetch_optional(conn).await?.map(|row| read(&row)).transpose()
    }

    /// A page of the principals, in the order in which they became known.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principals(
        &mut self,
        filter: &MemberFilter,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<Member>, IndexError> {
        let (query, conn) = self.statement(LIST);
        let query = query.bind(limit).bind(offset).bind(filter.kind.map(PrincipalKind::as_str));
        let query = query.bind(&filter.issuer).bind(&filter.subject).bind(filter.is_suspended);
        query.fetch_all(conn).await?.iter().map(read).collect()
    }

    /// How many principals there are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_count(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Adds a principal, unless it is known; says whether it was not.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_add(&mut self, id: Uuid, new: &NewMember) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ADD);
        let query = query.bind(id).bind(new.kind.as_str()).bind(&new.issuer).bind(&new.subject);
        let done = query.bind(&new.name).bind(texts(&new.roles)).execute(conn).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that a principal was seen; one that is not known becomes known, without roles.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_see(&mut self, seen: &NewMember) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SEE);
        let query = query.bind(Uuid::new_v4()).bind(seen.kind.as_str());
        query.bind(&seen.issuer).bind(&seen.subject).bind(&seen.name).execute(conn).await?;
        Ok(())
    }

    /// Changes what is said of a locked principal.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_change(
        &mut self,
        id: Uuid,
        name: Option<&str>,
        roles: &[Box<str>],
        is_suspended: bool,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CHANGE);
        query.bind(id).bind(name).bind(texts(roles)).bind(is_suspended).execute(conn).await?;
        Ok(())
    }

    /// Takes no credentials of a locked principal any more that were issued before now.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_sign_out(
        &mut self,
        id: Uuid,
    ) -> Result<Option<OffsetDateTime>, IndexError> {
        let (query, conn) = self.statement(SIGN_OUT);
        Ok(query.bind(id).fetch_optional(conn).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// Forgets a locked principal.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn principal_remove(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }
}
