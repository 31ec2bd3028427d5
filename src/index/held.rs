//! A connection out of the pool, held for one transaction.
//!
//! Holds: however a transaction is left, its connection is clean when somebody else gets it: what was
//! not committed is rolled back, and a connection whose statement still runs, since nobody waits for
//! it any more, is closed. Postgres notices that and ends the statement (see [`WATCH`]); without, the
//! connection would be lost to the pool for as long as the statement takes.
//!
//! To begin a transaction and to end it takes a round trip each, and most searches are one statement.
//! So where transactions of the same words follow each other, one that only searched is left open for
//! the next, for a second or so. It has the same role, scope and settings, set before anything else,
//! and a statement sees what is committed when it runs. Its time (`now()`) is that of its beginning, so
//! that no statement that asks for the time may have it.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr, postgres::PgTransactionManager,
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::Instant;

use super::{
    IndexError,
    pool::{Left, Lent, OPEN, Pool},
    turns::Turn,
};

/// How often Postgres looks whether the client of a search is still there, as it takes it.
pub(super) const WATCH: &str = "'250ms'";

/// What is added to the clock where there is no bound.
const AN_HOUR: Duration = Duration::from_secs(60 * 60);

/// See the module.
pub(super) struct Held {
    /// There until it is dropped.
    lent: Option<Lent>,
    pool: Pool,
    /// Whether it is in the middle of something that nobody may bring to an end any more.
    pub(super) is_busy: bool,
    state: State,
    /// What it began with, and how long that may take again, where it was found open and has not
    /// answered since.
    found: Option<(Arc<str>, Duration)>,
    /// What is said of it, should it be left open.
    left: Option<Left>,
    /// Given on behind the connection.
    _turn: Turn,
}

/// What is known of the transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is open; Postgres has answered all that was asked.
    Answered,
    /// It is open.
    Open,
    /// It was committed.
    Over,
}

/// How a transaction begins.
pub(super) struct Opening<'a> {
    /// In what words.
    pub(super) sql: &'a str,
    /// Whether one that was left open will do, and this one may be left open.
    pub(super) open: bool,
    /// How long it may take: it may wait for locks. Beyond, Postgres does not answer.
    pub(super) patience: Duration,
}

impl Opening<'_> {
    /// What an open transaction must have begun with.
    fn open(&self) -> Option<&str> {
        self.open.then_some(self.sql)
    }
}

impl Held {
    /// Begins a transaction, on a connection that is to be had before `until`.
    pub(super) async fn begin(
        pool: &Pool,
        turn: Turn,
        until: Instant,
        opening: &Opening<'_>,
    ) -> Result<Self, IndexError> {
        let lent = pool.take(opening.open(), until).await?;
        Self::begin_on(pool, lent, turn, opening).await
    }

    /// As [`Held::begin`], where a connection is idle; `None`: none is.
    pub(super) async fn begin_if_idle(
        pool: &Pool,
        turn: Turn,
        opening: &Opening<'_>,
    ) -> Result<Option<Self>, IndexError> {
        match pool.try_take(opening.open()) {
            Some(lent) => Self::begin_on(pool, lent, turn, opening).await.map(Some),
            None => Ok(None),
        }
    }

    async fn begin_on(
        pool: &Pool,
        mut lent: Lent,
        turn: Turn,
        opening: &Opening<'_>,
    ) -> Result<Self, IndexError> {
        let lately = opening.open().and_then(|sql| pool.begins(sql));
        let found = lent.left.take();
        let is_it = |found: &Left| opening.open().is_some_and(|sql| *found.opening == *sql);
        let (lent, pool) = (Some(lent), pool.clone());
        if let Some(found) = found.as_ref().filter(|found| is_it(found)) {
            let (is_busy, state, left) = (false, State::Open, Some(found.clone()));
            let found = Some((found.opening.clone(), opening.patience));
            return Ok(Self { lent, pool, is_busy, state, found, left, _turn: turn });
        }
        let left = lately.map(|opening| Left { opening, begun: Instant::now() });
        // Until it has begun: it may fail, or nobody wait for it any more, behind its BEGIN, at a
        // lock. Then the transaction would stay open, and hold what it has, or refuse all that comes.
        let (is_busy, state) = (true, State::Open);
        let mut held = Self { lent, pool, is_busy, state, found: None, left, _turn: turn };
        match tokio::time::timeout(opening.patience, begin(held.conn(), opening.sql)).await {
            Ok(begun) => begun?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        }
        held.is_busy = false;
        Ok(held)
    }

    /// Whether it was found open, and has not answered since.
    pub(super) fn was_found(&self) -> bool {
        self.found.is_some()
    }

    /// Begins one that was found open anew, on another connection.
    pub(super) async fn begin_again(&mut self) -> Result<(), IndexError> {
        let Some((opening, patience)) = self.found.take() else { return Ok(()) };
        let Some(lent) = &mut self.lent else { return Ok(()) };
        self.is_busy = true;
        let until = Instant::now() + patience.min(AN_HOUR);
        let begins = async {
            loop {
                lent.change(until).await?;
                lent.left = None;
                match begin(lent.conn(), &opening).await.map_err(IndexError::from) {
                    // Others were lost with it.
                    Err(error) if error.is_lost_connection() => {}
                    other => return other,
                }
            }
        };
        match tokio::time::timeout_at(until, begins).await {
            Ok(begun) => begun?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        };
        (self.is_busy, self.state, self.left) = (false, State::Open, None);
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "nobody but `drop` takes it")]
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        self.state = State::Open;
        self.lent.as_mut().expect("lent until dropped").conn()
    }

    /// Says that the last statement came to its end.
    pub(super) fn is_answered(&mut self) {
        (self.is_busy, self.state, self.found) = (false, State::Answered, None);
    }

    /// Says that it is no longer as it began.
    pub(super) fn is_changed(&mut self) {
        self.left = None;
    }

    pub(super) async fn commit(mut self) -> Result<(), IndexError> {
        PgTransactionManager::commit(self.conn()).await?;
        self.state = State::Over;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut lent) = self.lent.take() else { return };
        if self.is_busy {
            lent.close();
            return;
        }
        let left = self.left.take().filter(|left| left.begun.elapsed() < OPEN);
        if self.state == State::Over || (self.state == State::Answered && left.is_some()) {
            lent.give_back(left.filter(|_| self.state == State::Answered));
            return;
        }
        match (lent.roll_back(), self.state) {
            (Err(_), _) => lent.close(),
            (Ok(()), State::Over | State::Answered) => lent.give_back(None),
            // A statement may still run whose answer nobody waits for: nobody else shall.
            (Ok(()), State::Open) => {
                self.pool.home().spawn(async move {
                    match lent.conn().flush().await {
                        Ok(()) => lent.give_back(None),
                        Err(_) => lent.close(),
                    }
                });
            }
        }
    }
}

/// Begins a transaction; one that is open on the connection is rolled back by the same message.
async fn begin(conn: &mut PgConnection, opening: &str) -> Result<(), sqlx::Error> {
    let opening = AssertSqlSafe(opening.to_owned()).into_sql_str();
    PgTransactionManager::start_rollback(conn);
    PgTransactionManager::begin(conn, Some(opening)).await
}
