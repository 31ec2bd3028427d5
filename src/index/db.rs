//! The gate: a pool that nobody else can reach, and the transactions that open it.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::Instant;

use super::{
    IndexError, Unchained,
    audit::Ledger,
    filter::Sql,
    held::{Held, Opening, WATCH},
    login::refuse_what_is_unsafe,
    lookup, migrate,
    options::DbOptions,
    pool::Pool,
    turns::Turns,
};
use crate::tenancy::{PartitionId, PartitionScope, Party, Scope, Weights};

/// How long Postgres has to show that it is there, when a search did not end in time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How long what Postgres says of the end of a statement may be under way.
const SAID: Duration = Duration::from_millis(500);

/// The database as the server sees it. Cheap to clone. Nothing hands out a connection: see the
/// transaction types.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
    turns: Turns,
    shared: Arc<Shared>,
    unchained: Unchained,
}

#[derive(Clone, Debug)]
struct Shared {
    options: DbOptions,
    citus: bool,
    /// The settings of every transaction of a scope, and of those that search.
    lookups: String,
    searches: String,
}

/// A transaction that sees the partitions of one scope and nothing else; for reading. Dropping it
/// ends it.
pub struct ScopedTx {
    held: Held,
    pool: Pool,
    scope: Scope,
    prepared: bool,
    citus: bool,
    regime: Regime,
    /// The scope as it is set: all of `scope`, or fewer partitions of it.
    narrowed: String,
    /// When a search must have ended.
    deadline: Option<Instant>,
    /// What EXPLAIN said of the statements so far, where that is asked for.
    explained: Option<Vec<String>>,
}

/// What the planner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Regime {
    /// What it finds best.
    Search,
    /// Lookups only (see `lookup`).
    Lookup,
}

/// A transaction on exactly one partition, for reading and writing. Dropping it without
/// [`PartitionTx::commit`] takes back what it did.
pub struct PartitionTx {
    inner: ScopedTx,
    partition: PartitionId,
    /// Whether it holds the definitions of extended query tags (see `tag_lock`).
    pub(super) holds_tags: bool,
    /// What the audit log will tell of it.
    pub(super) ledger: Ledger,
    unchained: Unchained,
}

/// A transaction on the registry of partitions; it reaches no tenant table.
pub struct RegistryTx {
    held: Held,
    prepared: bool,
    pub(super) unchained: Unchained,
}

impl Db {
    /// Connects with the application's log-in.
    ///
    /// # Errors
    /// [`IndexError::Unsafe`] where the log-in or the database would break the separation of
    /// tenants; [`IndexError::Outdated`] before migrations; [`IndexError::Unavailable`].
    pub async fn open(app: PgConnectOptions, options: DbOptions) -> Result<Self, IndexError> {
        let app = if options.prepared_statements { app } else { app.statement_cache_capacity(0) };
        let until = Instant::now() + options.connect_timeout;
        let pool = Pool::open(app, options.max_connections.max(1), until).await?;
        let mut first = pool.take(None, until).await?;
        let citus = refuse_what_is_unsafe(first.conn(), options.prepared_statements).await?;
        first.give_back(None);
        let lookups = lookup::SETTINGS.join("; ");
        // What a search looks up, it looks up as all others do; its client may go away meanwhile.
        let limit = options.search_timeout;
        let limit =
            timeout_setting(if limit.is_zero() { options.statement_timeout } else { limit });
        let watch = format!("SET LOCAL client_connection_check_interval = {WATCH}");
        let searches = format!("{lookups}; {watch}; {limit}");
        let shared = Arc::new(Shared { options, citus, lookups, searches });
        let turns = Turns::new(&options, Weights::default());
        let db = Self { pool, turns, shared, unchained: Unchained::default() };
        db.ready().await?;
        Ok(db)
    }

    /// With what partitions weigh where they wait for connections (`partitions.weights`); those that
    /// are not named weigh 1.
    #[must_use]
    pub fn weighing(mut self, weights: Weights) -> Self {
        self.turns = Turns::new(&self.shared.options, weights);
        self
    }

    /// Goes the ways that tables distributed by Citus ask for, on any database.
    #[doc(hidden)]
    #[must_use]
    pub fn as_distributed(mut self) -> Self {
        self.shared = Arc::new(Shared { citus: true, ..(*self.shared).clone() });
        self
    }

    /// Opens a transaction that sees the partitions of `scope` and nothing else.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn begin(&self, scope: &Scope) -> Result<ScopedTx, IndexError> {
        self.begin_with(scope, false).await
    }

    /// As [`Db::begin`], for a transaction of nothing but the statements of a search. Where searches of
    /// one partition follow each other, the next finds the transaction of the last open (see `held`).
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn begin_search(&self, scope: &Scope) -> Result<ScopedTx, IndexError> {
        self.begin_with(scope, self.may_stay_open(scope)).await
    }

    async fn begin_with(&self, scope: &Scope, open: bool) -> Result<ScopedTx, IndexError> {
        let opening = self.opening_of_search(scope);
        let opening = Opening { sql: &opening, open, patience: self.patience_of_search() };
        let held = self.start(scope.into(), &opening).await?;
        let mut tx = self.scoped(held, scope);
        tx.deadline = self.deadline();
        Ok(tx)
    }

    /// As [`Db::begin_search`], beside a transaction that is open already. `None` where no
    /// connection is idle: whoever holds one must not wait for another.
    pub async fn begin_beside(&self, scope: &Scope) -> Option<ScopedTx> {
        if self.shared.citus {
            return None;
        }
        let (opening, open) = (self.opening_of_search(scope), self.may_stay_open(scope));
        let opening = Opening { sql: &opening, open, patience: self.patience_of_search() };
        let turn = self.turns.try_take(&scope.into())?;
        // One that turns out dead is for `begin` to deal with.
        let held = Held::begin_if_idle(&self.pool, turn, &opening).await.ok()??;
        let mut tx = self.scoped(held, scope);
        tx.deadline = self.deadline();
        Some(tx)
    }

    /// Whether a transaction that searches may be left open: a pooler would have to keep a connection
    /// for it, and where a scope has several partitions it is changed on the way.
    fn may_stay_open(&self, scope: &Scope) -> bool {
        let Shared { options, citus, .. } = &*self.shared;
        options.prepared_statements && !citus && scope.only().is_some()
    }

    /// How a transaction that searches begins.
    fn opening_of_search(&self, scope: &Scope) -> String {
        format!("{}; {}", opening_of(scope), self.shared.searches)
    }

    fn patience_of_search(&self) -> Duration {
        let DbOptions { search_timeout: limit, statement_timeout, .. } = self.shared.options;
        self.patience(if limit.is_zero() { statement_timeout } else { limit })
    }

    /// When a search that begins now must have ended: one of a single statement a little after
    /// Postgres has ended that itself, which knows better why than who gives up waiting.
    fn deadline(&self) -> Option<Instant> {
        let limit = self.shared.options.search_timeout;
        (!limit.is_zero()).then(|| Instant::now() + limit + SAID)
    }

    fn scoped(&self, held: Held, scope: &Scope) -> ScopedTx {
        let Shared { options, citus, .. } = *self.shared;
        let (scope, narrowed) = (scope.clone(), scope.as_setting());
        let pool = self.pool.clone();
        let (regime, deadline, explained) = (Regime::Lookup, None, None);
        let prepared = options.prepared_statements;
        ScopedTx { held, pool, scope, prepared, citus, regime, narrowed, deadline, explained }
    }

    /// Opens a transaction on one partition.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn begin_in(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        self.begin_holding(scope, &[]).await
    }

    /// Opens a transaction on one partition that takes locks in the round trip that opens it.
    pub(super) async fn begin_holding(
        &self,
        scope: &PartitionScope,
        locks: &[String],
    ) -> Result<PartitionTx, IndexError> {
        let opening = format!("{}; {}", opening_of(scope), self.shared.lookups);
        let held = self.start_holding(Party::from(&**scope), opening, locks).await?;
        let inner = self.scoped(held, scope);
        let partition = scope.partition().clone();
        let (holds_tags, ledger, unchained) = (false, Ledger::default(), self.unchained.clone());
        Ok(PartitionTx { inner, partition, holds_tags, ledger, unchained })
    }

    /// Opens a transaction on the registry of partitions.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn registry(&self) -> Result<RegistryTx, IndexError> {
        self.registry_holding(&[]).await
    }

    /// Opens a transaction on the registry that takes locks in the round trip that opens it.
    pub(super) async fn registry_holding(
        &self,
        locks: &[String],
    ) -> Result<RegistryTx, IndexError> {
        let opening = "BEGIN; SET LOCAL ROLE collimator_registry".to_owned();
        let held = self.start_holding(Party::Server, opening, locks).await?;
        let (prepared, unchained) =
            (self.shared.options.prepared_statements, self.unchained.clone());
        Ok(RegistryTx { held, prepared, unchained })
    }

    /// Whether the database answers and its schema is the one that this server was built for, or
    /// newer.
    ///
    /// # Errors
    /// [`IndexError::Outdated`], [`IndexError::Unavailable`].
    pub async fn ready(&self) -> Result<(), IndexError> {
        let newest = self.registry().await?.schema_version().await?;
        if newest >= migrate::newest_version() { Ok(()) } else { Err(IndexError::Outdated) }
    }

    /// Where events of the audit log wait for their place in the chain.
    pub fn unchained(&self) -> &Unchained {
        &self.unchained
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// As [`Db::start`], with locks.
    async fn start_holding(
        &self,
        party: Party,
        mut opening: String,
        locks: &[String],
    ) -> Result<Held, IndexError> {
        let timeout = self.shared.options.statement_timeout;
        for more in locks.iter().chain([&timeout_setting(timeout)]) {
            opening.push_str("; ");
            opening.push_str(more);
        }
        let patience = self.patience(timeout);
        self.start(party, &Opening { sql: &opening, open: false, patience }).await
    }

    /// Begins a transaction in one round trip, or in none where one was left open that will do.
    ///
    /// After the database was restarted each idle connection turns out dead when first used.
    /// Nothing has happened yet at that point, so the next one is tried.
    async fn start(&self, party: Party, opening: &Opening<'_>) -> Result<Held, IndexError> {
        let mut left = self.shared.options.max_connections;
        loop {
            match self.try_start(party.clone(), opening).await {
                Err(IndexError::Unavailable(sqlx::Error::Io(_) | sqlx::Error::Database(_)))
                    if left > 0 =>
                {
                    left -= 1;
                }
                other => return other,
            }
        }
    }

    /// How long a transaction may take to begin, once it has a connection: it may wait for locks.
    fn patience(&self, timeout: Duration) -> Duration {
        match timeout.is_zero() {
            true => Duration::MAX,
            false => self.shared.options.connect_timeout + timeout,
        }
    }

    async fn try_start(&self, party: Party, opening: &Opening<'_>) -> Result<Held, IndexError> {
        // One wait for both, the turn and the connection.
        let wait = self.shared.options.connect_timeout;
        let until = Instant::now() + wait;
        let turn = self.turns.take(party, wait).await?;
        if !self.shared.citus {
            return Held::begin(&self.pool, turn, until, opening).await;
        }
        // Citus passes the text of a SET LOCAL on to its workers as it came, so that each must come
        // alone.
        let mut words = opening.sql.split("; ");
        let alone = Opening { sql: words.next().unwrap_or_default(), ..*opening };
        let mut held = Held::begin(&self.pool, turn, until, &alone).await?;
        for setting in words {
            sqlx::raw_sql(AssertSqlSafe(setting)).execute(held.conn()).await?;
        }
        Ok(held)
    }
}

/// Why a search did not end in time: it asks for too much, unless Postgres stands still.
async fn why_late(pool: &Pool) -> IndexError {
    let until = Instant::now() + SIGN_OF_LIFE;
    let asked = async {
        // Not given back: one whose answer nobody waits for must not be used again.
        let mut lent = pool.take(None, until).await?;
        let answer = lent.conn().ping().await;
        lent.close();
        answer
    };
    match tokio::time::timeout_at(until, asked).await {
        Ok(Ok(())) => IndexError::TooBroad,
        Ok(Err(error)) => error.into(),
        Err(_) => IndexError::Unavailable(sqlx::Error::PoolTimedOut),
    }
}

/// How a transaction of a scope begins.
fn opening_of(scope: &Scope) -> String {
    // The alphabet of PartitionId has no quote: the literal is safe by type.
    format!(
        "BEGIN; SET LOCAL ROLE collimator_tenant; SET LOCAL collimator.scope = '{}'",
        scope.as_setting()
    )
}

fn timeout_setting(timeout: Duration) -> String {
    format!("SET LOCAL statement_timeout = {}", timeout.as_millis())
}

/// A statement, ready to take its parameters.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

fn statement(sql: &'static str, prepared: bool) -> Statement {
    sqlx::query(sql).persistent(prepared)
}

impl ScopedTx {
    /// The scope that the transaction was opened with.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether tables are distributed by Citus, which refuses some joins.
    pub(super) fn citus(&self) -> bool {
        self.citus
    }

    /// Sets what the planner may do, and narrows the scope to those of `partitions` that are in it.
    /// Nothing is sent where all is set so already.
    pub(super) async fn settle(
        &mut self,
        regime: Regime,
        partitions: &[PartitionId],
    ) -> Result<(), IndexError> {
        let within = self.scope.partitions();
        let kept = partitions.iter().filter(|id| within.binary_search(id).is_ok());
        let narrowed = kept.map(PartitionId::as_str).collect::<Vec<_>>().join(",");
        let mut settings = Vec::new();
        if narrowed != self.narrowed {
            settings.push(format!("SET LOCAL collimator.scope = '{narrowed}'"));
        }
        if regime != self.regime {
            settings.extend(lookup::SETTINGS.map(|setting| match regime {
                Regime::Lookup => setting.to_owned(),
                Regime::Search => lookup::undo(setting),
            }));
        }
        if settings.is_empty() {
            return Ok(());
        }
        self.held.is_changed();
        if self.citus {
            for setting in settings {
                sqlx::raw_sql(AssertSqlSafe(setting)).execute(self.held.conn()).await?;
            }
        } else {
            sqlx::raw_sql(AssertSqlSafe(settings.join("; "))).execute(self.held.conn()).await?;
        }
        (self.regime, self.narrowed) = (regime, narrowed);
        Ok(())
    }

    /// As [`ScopedTx::settle`], for statements that find their rows by lists and lookups; where
    /// tables are distributed the planner has to find its way.
    pub(super) async fn settle_for(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<(), IndexError> {
        let regime = if self.citus { Regime::Search } else { Regime::Lookup };
        self.settle(regime, partitions).await
    }

    /// Says that the statement to come changes the scope by itself.
    pub(super) fn unsettle(&mut self) {
        // No partition is called so.
        self.narrowed = "?".to_owned();
        self.held.is_changed();
    }

    /// Runs a statement of a search, whose text `make` puts together behind an opening. Where lookups
    /// alone are allowed, plans hang on nothing but the text, and are kept for each connection.
    ///
    /// # Errors
    /// [`IndexError::TooBroad`] where the search takes longer than it may;
    /// [`IndexError::Unavailable`] where that is because Postgres does not answer.
    pub(super) async fn fetch(
        &mut self,
        opening: &'static str,
        make: &(impl Fn(&'static str) -> Result<Sql, IndexError> + Sync),
    ) -> Result<Vec<PgRow>, IndexError> {
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(())
        };
        self.fetch_each(opening, make, keep).await?;
        Ok(rows)
    }

    /// As [`ScopedTx::fetch`]; `each` gets the rows as they come, while Postgres makes the next.
    ///
    /// # Errors
    /// As [`ScopedTx::fetch`], and those of `each`.
    pub(super) async fn fetch_each(
        &mut self,
        opening: &'static str,
        make: &(impl Fn(&'static str) -> Result<Sql, IndexError> + Sync),
        mut each: impl FnMut(PgRow) -> Result<(), IndexError> + Send,
    ) -> Result<(), IndexError> {
        let is_kept = self.prepared && self.regime == Regime::Lookup;
        if self.explained.is_some() {
            let mut lines: Vec<String> = Vec::new();
            let line = |row: PgRow| {
                lines.push(row.try_get(0)?);
                Ok(())
            };
            self.run(make("EXPLAIN ")?, false, line).await?;
            if let Some(explained) = &mut self.explained {
                explained.push(opening.trim().to_owned());
                explained.extend(lines);
            }
        }
        let mut rows = 0;
        let counted = |row| {
            rows += 1;
            each(row)
        };
        match self.run(make(opening)?, is_kept, counted).await {
            // The connection was lost while its transaction was left open.
            Err(error) if rows == 0 && self.held.was_found() && error.is_lost_connection() => {
                // Postgres may be starting anew: that is no fault of what is searched for.
                let lost = Instant::now();
                self.held.begin_again().await?;
                self.deadline = self.deadline.map(|end| end + lost.elapsed());
                self.run(make(opening)?, is_kept, each).await
            }
            other => other,
        }
    }

    async fn run(
        &mut self,
        mut sql: Sql,
        is_kept: bool,
        mut each: impl FnMut(PgRow) -> Result<(), IndexError> + Send,
    ) -> Result<(), IndexError> {
        // Should this future be dropped before the end, or the time be up, it stays so.
        self.held.is_busy = true;
        let (deadline, pool) = (self.deadline, self.pool.clone());
        let mut rows = sql.build().persistent(is_kept).fetch(self.held.conn());
        let ran = async {
            while let Some(row) = rows.try_next().await? {
                each(row)?;
            }
            Ok(())
        };
        let ran = match deadline {
            Some(end) => match tokio::time::timeout_at(end, ran).await {
                Ok(ran) => ran,
                Err(_) => return Err(why_late(&pool).await),
            },
            None => ran.await,
        };
        drop(rows);
        match &ran {
            Ok(()) => self.held.is_answered(),
            Err(_) => self.held.is_busy = false,
        }
        ran.map_err(|error| match (error, deadline) {
            (IndexError::TimedOut, Some(_)) => IndexError::TooBroad,
            (error, _) => error,
        })
    }

    /// From here on, has EXPLAIN tell about each statement of the search before it runs.
    pub(super) fn explain(&mut self) {
        self.explained = Some(Vec::new());
    }

    /// What EXPLAIN told since.
    pub(super) fn explained(&mut self) -> Vec<String> {
        self.explained.take().unwrap_or_default()
    }

    /// A statement with the partitions of the scope bound as `$1`, and the connection to run it on.
    pub(super) fn statement(&mut self, sql: &'static str) -> (Statement, &mut PgConnection) {
        let ids: Vec<String> = self.scope.partitions().iter().map(ToString::to_string).collect();
        (statement(sql, self.prepared).bind(ids), self.held.conn())
    }
}

impl PartitionTx {
    /// Makes what the transaction did visible and durable: the acknowledgement. With it goes the
    /// record of who did it (see `audit`).
    ///
    /// # Errors
    /// [`IndexError::Unavailable`]: it is then unknown whether the commit took place.
    pub async fn commit(mut self) -> Result<(), IndexError> {
        let deeds = self.audit_write().await?;
        self.inner.held.commit().await?;
        if !deeds.is_empty() {
            deeds.iter().for_each(|deed| deed.note_recorded());
            self.unchained.note(&self.partition);
        }
        Ok(())
    }

    /// The partition.
    pub(super) fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// The same transaction, for statements that searches make.
    pub(super) fn scoped(&mut self) -> &mut ScopedTx {
        &mut self.inner
    }

    /// A statement with the partition bound as `$1`, and the connection to run it on.
    pub(super) fn statement(&mut self, sql: &'static str) -> (Statement, &mut PgConnection) {
        let bound = statement(sql, self.inner.prepared).bind(self.partition.as_str().to_owned());
        (bound, self.inner.held.conn())
    }
}

impl RegistryTx {
    /// Makes what the transaction did visible and durable.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn commit(self) -> Result<(), IndexError> {
        self.held.commit().await
    }

    pub(super) fn statement(&mut self, sql: &'static str) -> (Statement, &mut PgConnection) {
        (statement(sql, self.prepared), self.held.conn())
    }
}
