//! A connection out of the pool, held for one transaction.
//!
//! Holds: however a transaction is left, its connection is clean when somebody else gets it: what was
//! not committed is rolled back, and a connection whose statement still runs, since nobody waits for
//! it any more, is closed. Postgres notices that and ends the statement (see [`WATCH`]); without, the
//! connection would be lost to the pool for as long as the statement takes.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, SqlSafeStr, pool::PoolConnection,
    postgres::PgTransactionManager,
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::context::TokioContext;

use super::{IndexError, turns::Turn};

/// How often Postgres looks whether the client of a search is still there, as it takes it.
pub(super) const WATCH: &str = "'250ms'";

/// See the module.
pub(super) struct Held {
    conn: PoolConnection<Postgres>,
    /// Whether it is in the middle of something that nobody may bring to an end any more.
    pub(super) is_busy: bool,
    /// Given on behind the connection.
    _turn: Turn,
}

impl Held {
    /// Begins a transaction with `open`, on a connection that is to be had before `until`. Where it has
    /// not begun within `patience`, Postgres does not answer.
    pub(super) async fn begin(
        pool: &PgPool,
        home: &Handle,
        turn: Turn,
        until: Instant,
        open: &str,
        patience: Duration,
    ) -> Result<Self, IndexError> {
        // One that is opened now belongs to the runtime of the pool, whoever opens it.
        let acquired = TokioContext::new(pool.acquire(), home.clone());
        let acquired = tokio::time::timeout_at(until, acquired).await;
        let conn = acquired.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Self::begin_on(conn, turn, open, patience).await
    }

    /// As [`Held::begin`], where a connection is idle; `None`: none is.
    pub(super) async fn begin_if_idle(
        pool: &PgPool,
        turn: Turn,
        open: &str,
        patience: Duration,
    ) -> Result<Option<Self>, IndexError> {
        match pool.try_acquire() {
            Some(conn) => Self::begin_on(conn, turn, open, patience).await.map(Some),
            None => Ok(None),
        }
    }

    async fn begin_on(
        conn: PoolConnection<Postgres>,
        turn: Turn,
        open: &str,
        patience: Duration,
    ) -> Result<Self, IndexError> {
        let open = AssertSqlSafe(open.to_owned()).into_sql_str();
        // Until it has begun: it may fail, or nobody wait for it any more, behind its BEGIN, at a
        // lock. Then the transaction would stay open, and hold what it has, or refuse all that comes.
        let mut held = Self { conn, is_busy: true, _turn: turn };
        let begun = PgTransactionManager::begin(&mut held.conn, Some(open));
        match tokio::time::timeout(patience, begun).await {
            Ok(begun) => begun?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        }
        held.is_busy = false;
        Ok(held)
    }

    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    pub(super) async fn commit(mut self) -> Result<(), IndexError> {
        Ok(PgTransactionManager::commit(&mut self.conn).await?)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_busy {
            self.conn.close_on_drop();
        } else {
            PgTransactionManager::start_rollback(&mut self.conn);
        }
    }
}
