//! Keys that signed URLs of a partition are signed with.
//!
//! Holds: one key at the most is the one that links are made with; those before it hold until some
//! moment, and few are kept. Keys change in a transaction that [`Db::begin_links`] opened, one at a
//! time. Absent: what is signed (`identity`), when keys are made and replaced (`control`).

use std::{fmt, time::Duration};

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Db, IndexError, PartitionTx, feed::PATIENCE, lookup::one, tag_lock};
use crate::tenancy::PartitionScope;

/// First key of the lock of who changes the keys of a partition.
const OF_PARTITION: i32 = 0x4C4B_4500;

/// A key, which is never shown; its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSecret(Zeroizing<[u8; 32]>);

impl LinkSecret {
    /// One that nobody has seen.
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// The bytes themselves, for who signs.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn read(row: &PgRow, column: usize) -> Result<Self, IndexError> {
        let bytes = Zeroizing::new(row.try_get::<Vec<u8>, _>(column)?);
        let wrong = IndexError::Inconsistent { table: "link_key", column: "secret" };
        Ok(Self(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| wrong)?)))
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret")
    }
}

/// A key of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkKey {
    /// Its id.
    pub id: Uuid,
    /// The key itself.
    pub secret: LinkSecret,
    /// Until when it holds; `None`: links are made with it.
    pub valid_until: Option<OffsetDateTime>,
    /// Whether that has passed.
    pub is_over: bool,
}

const GET: &str = "-- link_key_get
    SELECT secret FROM link_key WHERE partition_id = $1
        AND link_key_id >= $2 AND link_key_id <= $2
        AND (valid_until IS NULL OR valid_until > now()) ORDER BY link_key_id";

const LIST: &str = "-- link_key_list
    SELECT link_key_id, secret, valid_until, coalesce(valid_until <= now(), false)
    FROM link_key WHERE partition_id = $1 AND created_at > '-infinity'
    ORDER BY created_at, link_key_id";

const CREATE: &str = "-- link_key_create
    INSERT INTO link_key (partition_id, link_key_id, secret, created_at)
    VALUES ($1, $2, $3, clock_timestamp())";

const RETIRE: &str = concat!(
    "-- link_key_retire
    UPDATE link_key t SET valid_until = now() + make_interval(secs => $3)
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "link_key", "link_key_id", "$2"),
    "
    RETURNING t.valid_until"
);

const REMOVE: &str = concat!(
    "-- link_key_remove
    DELETE FROM link_key t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "link_key", "link_key_id", "$2")
);

pub(super) const STATEMENTS: &[&str] = &[GET, LIST, CREATE, RETIRE, REMOVE];

impl Db {
    /// Opens a transaction that changes the keys of links of a partition: one at a time.
    ///
    /// # Errors
    /// [`IndexError::Busy`], [`IndexError::Unavailable`].
    pub async fn begin_links(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})");
        self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await
    }
}

impl PartitionTx {
    /// A key, where it still holds.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn link_key(&mut self, id: Uuid) -> Result<Option<LinkSecret>, IndexError> {
        let (query, conn) = self.statement(GET);
        let row = query.bind(id).fetch_optional(conn).await?;
        row.map(|row| LinkSecret::read(&row, 0)).transpose()
    }

    /// All keys, in the order in which they came into being.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn link_keys(&mut self) -> Result<Vec<LinkKey>, IndexError> {
        let (query, conn) = self.statement(LIST);
        let read = |row: &PgRow| {
            Ok(LinkKey {
                id: row.try_get(0)?,
                secret: LinkSecret::read(row, 1)?,
                valid_until: row.try_get(2)?,
                is_over: row.try_get(3)?,
            })
        };
        query.fetch_all(conn).await?.iter().map(read).collect()
    }

    /// Adds the key that links are made with from now on. Of a transaction that
    /// [`Db::begin_links`] opened, in which there is no other such key any more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn link_key_create(
        &mut self,
        id: Uuid,
        secret: &LinkSecret,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        query.bind(id).bind(secret.expose().to_vec()).execute(conn).await?;
        Ok(())
    }

    /// Lets a key hold for some more time, and no longer; answers until when.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn link_key_retire(
        &mut self,
        id: Uuid,
        overlap: Duration,
    ) -> Result<OffsetDateTime, IndexError> {
        let (query, conn) = self.statement(RETIRE);
        let query = query.bind(id).bind(overlap.as_secs_f64());
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Removes a key: its links end at once.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn link_key_remove(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }
}
