//! Connections to Postgres, each lent to one transaction at a time.
//!
//! Holds: no more are open than may be; the one that came back last is lent first, since what its
//! backend works with is still in the processor's caches; one that is old, or that nobody wanted for
//! long, is closed. A connection comes back without a transaction, or with one that was left open
//! ([`Held`](super::held::Held)), which goes to whoever begins one in just the same words, and is ended
//! before anybody else gets the connection, and soon after [`OPEN`] in any case.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgTransactionManager},
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::context::TokioContext;

/// How long after its beginning a transaction is left open, or half as long again: who changes a table
/// waits for it, and its time (`now()`) stands still.
pub(super) const OPEN: Duration = Duration::from_secs(1);

/// How long a connection is kept that nobody wants.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// How long a connection is used: a backend's memory grows with the plans that it keeps.
const OLD: Duration = Duration::from_secs(30 * 60);

/// How many of the words that transactions begin with are remembered.
const REMEMBERED: usize = 16;

/// Between two tries to connect, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a connection may take to say good-bye.
const CLOSING: Duration = Duration::from_secs(5);

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    /// The runtime to which connections belong, whoever opens them.
    home: Handle,
    most: u32,
    permits: Arc<Semaphore>,
    is_closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that came back last is the last.
    idle: Vec<Idle>,
    /// What transactions began with, and when the last of them did.
    begun: Vec<(Arc<str>, Instant)>,
}

#[derive(Debug)]
struct Idle {
    conn: PgConnection,
    opened: Instant,
    since: Instant,
    left: Option<Left>,
}

/// A transaction that was left open.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// What it began with.
    pub(super) opening: Arc<str>,
    /// When it began.
    pub(super) begun: Instant,
}

/// A connection that was lent. What is not given back is closed.
pub(super) struct Lent {
    conn: PgConnection,
    opened: Instant,
    /// The transaction that is open on it.
    pub(super) left: Option<Left>,
    pool: Weak<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool of connections that belong to the present runtime.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(super) async fn open(
        options: PgConnectOptions,
        most: u32,
        until: Instant,
    ) -> Result<Self, sqlx::Error> {
        let permits = Arc::new(Semaphore::new(most as usize));
        let (home, is_closed) = (Handle::current(), AtomicBool::new(false));
        let state = Mutex::default();
        let pool = Self(Arc::new(Inner { options, home, most, permits, is_closed, state }));
        pool.take(None, until).await?.give_back(None);
        pool.0.home.spawn(keep_house(Arc::downgrade(&pool.0)));
        Ok(pool)
    }

    /// A connection: an idle one, best with a transaction that began with `opening`, or a new one.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] where none is to be had before `until`;
    /// [`sqlx::Error::PoolClosed`]; why none can be opened.
    pub(super) async fn take(
        &self,
        opening: Option<&str>,
        until: Instant,
    ) -> Result<Lent, sqlx::Error> {
        let permit = tokio::time::timeout_at(until, self.0.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        if self.0.is_closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Some(idle) = self.state().take(opening) {
            return Ok(self.lend(idle, permit));
        }
        let (conn, now) = (self.0.connect(until).await?, Instant::now());
        Ok(self.lend(Idle { conn, opened: now, since: now, left: None }, permit))
    }

    /// A connection, where one is idle.
    pub(super) fn try_take(&self, opening: Option<&str>) -> Option<Lent> {
        if self.0.is_closed.load(Ordering::Acquire) {
            return None;
        }
        let permit = self.0.permits.clone().try_acquire_owned().ok()?;
        let idle = self.state().take(opening)?;
        Some(self.lend(idle, permit))
    }

    /// Remembers that a transaction begins in these words; they are given back where one did lately,
    /// so that it is worth while to leave it open.
    pub(super) fn begins(&self, opening: &str) -> Option<Arc<str>> {
        self.state().begins(opening, Instant::now())
    }

    /// The runtime to which connections belong.
    pub(super) fn home(&self) -> &Handle {
        &self.0.home
    }

    /// Closes every connection, waiting for those in use.
    pub(super) async fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        let _all = self.0.permits.acquire_many(self.0.most).await;
        let idle = std::mem::take(&mut self.state().idle);
        for idle in idle {
            bid_farewell(idle.conn).await;
        }
        self.0.permits.close();
    }

    fn lend(&self, idle: Idle, permit: OwnedSemaphorePermit) -> Lent {
        let Idle { conn, opened, left, .. } = idle;
        Lent { conn, opened, left, pool: Arc::downgrade(&self.0), _permit: permit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

impl Inner {
    /// Opens a connection; where Postgres is just starting, as soon as it has.
    async fn connect(&self, until: Instant) -> Result<PgConnection, sqlx::Error> {
        let connects = async {
            let (mut pause, longest) = RETRY;
            loop {
                match self.options.connect().await {
                    Err(error) if is_passing(&error) && Instant::now() + pause < until => {
                        tokio::time::sleep(pause).await;
                        pause = longest.min(pause * 2);
                    }
                    other => return other,
                }
            }
        };
        let connects = TokioContext::new(connects, self.home.clone());
        let connected = tokio::time::timeout_at(until, connects).await;
        connected.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The best: one whose transaction began with `opening`; one without any; the one whose transaction
    /// has been waiting longest.
    fn take(&mut self, opening: Option<&str>) -> Option<Idle> {
        let is_it = |idle: &Idle| match (&idle.left, opening) {
            (Some(left), Some(opening)) => *left.opening == *opening,
            _ => false,
        };
        let at = self
            .idle
            .iter()
            .rposition(is_it)
            .or_else(|| self.idle.iter().rposition(|idle| idle.left.is_none()))
            .unwrap_or(0);
        (at < self.idle.len()).then(|| self.idle.remove(at))
    }

    fn begins(&mut self, opening: &str, now: Instant) -> Option<Arc<str>> {
        let known = self.begun.iter().position(|(begun, _)| **begun == *opening);
        match known.and_then(|at| self.begun.get_mut(at)) {
            Some((begun, last)) => {
                let is_lately = now.saturating_duration_since(*last) < OPEN;
                *last = now;
                is_lately.then(|| begun.clone())
            }
            None => {
                if self.begun.len() >= REMEMBERED {
                    let oldest = self.begun.iter().enumerate().min_by_key(|(_, (_, last))| *last);
                    let oldest = oldest.map_or(0, |(at, _)| at);
                    self.begun.swap_remove(oldest);
                }
                self.begun.push((opening.into(), now));
                None
            }
        }
    }

    /// Takes out what has been idle for too long, and what has a transaction that nobody came for.
    fn overdue(&mut self, now: Instant) -> Option<Idle> {
        let at = self.idle.iter().position(|idle| {
            let is_old = |left: &Left| now.saturating_duration_since(left.begun) >= OPEN;
            now.saturating_duration_since(idle.since) > IDLE
                || idle.left.as_ref().is_some_and(is_old)
        });
        at.map(|at| self.idle.remove(at))
    }
}

impl Lent {
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Sends word that the transaction is to be rolled back, without waiting for an answer: that comes
    /// before the answer to the next statement, or in place of it, should it be an error.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub(super) fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        PgTransactionManager::start_rollback(&mut self.conn);
        // What can be written is written before anything is waited for.
        let flushed = pin!(self.conn.flush());
        match flushed.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Puts another connection in its place, as [`Pool::take`] finds one.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(super) async fn change(&mut self, until: Instant) -> Result<(), sqlx::Error> {
        let pool = self.pool.upgrade().ok_or(sqlx::Error::PoolClosed)?;
        let other = pool.state().take(None);
        let (conn, opened, left) = match other {
            Some(Idle { conn, opened, left, .. }) => (conn, opened, left),
            None => (pool.connect(until).await?, Instant::now(), None),
        };
        let lost = std::mem::replace(&mut self.conn, conn);
        (self.opened, self.left) = (opened, left);
        pool.home.spawn(bid_farewell(lost));
        Ok(())
    }

    /// Gives it back, with the transaction that is left open on it, if any.
    pub(super) fn give_back(self, left: Option<Left>) {
        let Some(pool) = self.pool.upgrade() else { return };
        let (now, opened) = (Instant::now(), self.opened);
        if pool.is_closed.load(Ordering::Acquire) || now.saturating_duration_since(opened) > OLD {
            self.close();
            return;
        }
        let idle = Idle { conn: self.conn, opened, since: now, left };
        pool.state().idle.push(idle);
    }

    /// Closes it, beside what the caller does.
    pub(super) fn close(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        pool.home.spawn(async move {
            let Self { conn, _permit, .. } = self;
            bid_farewell(conn).await;
        });
    }
}

/// Whether another try to connect may succeed soon.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // too_many_connections: Postgres may not have noticed yet that some are closed;
        // cannot_connect_now.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("53300" | "57P03")),
        _ => false,
    }
}

async fn bid_farewell(conn: PgConnection) {
    // Whoever does not listen finds out from the socket.
    let _ = tokio::time::timeout(CLOSING, conn.close()).await;
}

/// Ends what was left open and not wanted, and closes what nobody wants, as long as the pool is
/// there.
async fn keep_house(pool: Weak<Inner>) {
    let mut tick = tokio::time::interval(OPEN / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(inner) = pool.upgrade() else { return };
        if inner.is_closed.load(Ordering::Acquire) {
            return;
        }
        let pool = Pool(inner);
        // Where no permit is left, whoever has them takes the idle ones too.
        while let Ok(permit) = pool.0.permits.clone().try_acquire_owned() {
            let Some(idle) = pool.state().overdue(Instant::now()) else { break };
            let is_unwanted = idle.left.is_none();
            let mut lent = pool.lend(idle, permit);
            if is_unwanted {
                lent.close();
                continue;
            }
            let ended = PgTransactionManager::rollback(lent.conn());
            match tokio::time::timeout(CLOSING, ended).await {
                Ok(Ok(())) => lent.give_back(None),
                Ok(Err(_)) | Err(_) => lent.close(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_worth_keeping_where_they_came_lately() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(state.begins("a", now), None);
        assert_eq!(state.begins("b", now), None);
        assert_eq!(state.begins("a", now + OPEN / 2).as_deref(), Some("a"));
        assert_eq!(state.begins("b", now + OPEN), None, "nobody came for a second");
        assert_eq!(state.begins("b", now + OPEN).as_deref(), Some("b"));
    }

    #[test]
    fn so_many_words_are_remembered_and_the_oldest_are_forgotten() {
        let (mut state, now) = (State::default(), Instant::now());
        let at = |n: usize| now + Duration::from_micros(n as u64);
        for n in 0..=REMEMBERED {
            assert_eq!(state.begins(&n.to_string(), at(n)), None);
        }
        assert_eq!(state.begun.len(), REMEMBERED);
        assert_eq!(state.begins("0", at(100)), None);
        assert_eq!(state.begins(&REMEMBERED.to_string(), at(101)).as_deref(), Some("16"));
    }
}
