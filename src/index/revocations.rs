//! Sessions and tokens that a partition does not take any more, until they have ended anyway.

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx, lookup::one};

const LIST: &str = "-- revocation_list
    SELECT revocation_id, kind, issuer, value, revoked_at, expires_at FROM revocation
    WHERE partition_id = $1 AND revoked_at > '-infinity'
    ORDER BY revoked_at, revocation_id LIMIT $2 OFFSET $3";

const COUNT: &str = "-- revocation_count
    SELECT count(*) FROM revocation WHERE partition_id = $1 AND revoked_at > '-infinity'";

const ADD: &str = "-- revocation_add
    INSERT INTO revocation (partition_id, revocation_id, kind, issuer, value, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (partition_id, kind, issuer, value) DO UPDATE SET expires_at = EXCLUDED.expires_at
    RETURNING revocation_id, kind, issuer, value, revoked_at, expires_at";

/// Those that have ended since.
const DROP_ENDED: &str = "-- revocation_drop_ended
    DELETE FROM revocation t USING (SELECT ctid AS at FROM revocation
        WHERE partition_id = $1 AND revoked_at > '-infinity' AND expires_at <= now()
        ORDER BY revoked_at, revocation_id LIMIT 1000) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const REMOVE: &str = concat!(
    "-- revocation_remove
    DELETE FROM revocation t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "revocation", "revocation_id", "$2")
);

pub(super) const STATEMENTS: &[&str] = &[LIST, COUNT, ADD, DROP_ENDED, REMOVE];

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationKind {
    /// All tokens of a session (`sid`).
    Session,
    /// One token (`jti`).
    Token,
}

impl RevocationKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Session, Self::Token].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What somebody wants to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    /// What it is.
    pub kind: RevocationKind,
    /// Who issued it.
    pub issuer: String,
    /// Its id there.
    pub value: String,
    /// When it ends anyway.
    pub expires_at: Option<OffsetDateTime>,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its id.
    pub id: Uuid,
    /// What is revoked.
    pub of: NewRevocation,
    /// Since when.
    pub revoked_at: OffsetDateTime,
}

fn read(row: &PgRow) -> Result<Revocation, IndexError> {
    let kind = RevocationKind::of(row.try_get(1)?)
        .ok_or(IndexError::Inconsistent { table: "revocation", column: "kind" })?;
    let (issuer, value) = (row.try_get(2)?, row.try_get(3)?);
    let of = NewRevocation { kind, issuer, value, expires_at: row.try_get(5)? };
    Ok(Revocation { id: row.try_get(0)?, of, revoked_at: row.try_get(4)? })
}

impl PartitionTx {
    /// A page of the revocations, the oldest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn revocations(
        &mut self,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<Revocation>, IndexError> {
        let (query, conn) = self.statement(LIST);
        query.bind(limit).bind(offset).fetch_all(conn).await?.iter().map(read).collect()
    }

    /// How many revocations there are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn revocation_count(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Revokes something; what is revoked already stays so, until what is said now.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn revocation_add(&mut self, new: &NewRevocation) -> Result<Revocation, IndexError> {
        let (query, conn) = self.statement(ADD);
        let query = query.bind(Uuid::new_v4()).bind(new.kind.as_str()).bind(&new.issuer);
        read(&query.bind(&new.value).bind(new.expires_at).fetch_one(conn).await?)
    }

    /// Forgets revocations of what has ended since.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn revocation_drop_ended(&mut self) -> Result<(), IndexError> {
        let (query, conn) = self.statement(DROP_ENDED);
        query.execute(conn).await?;
        Ok(())
    }

    /// Takes a revocation back; says whether it was there.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn revocation_remove(&mut self, id: Uuid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(REMOVE);
        Ok(query.bind(id).execute(conn).await?.rows_affected() == 1)
    }
}
