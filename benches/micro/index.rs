//! A filled index in a private Postgres, started as the server starts it when the first bench asks
//! for it, and what benches tell of it at the end.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use collimator::{
    index::{Db, DbOptions, migrate},
    postgres::Embedded,
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};
use tokio::runtime::Runtime;

use crate::{fill, population::Population, statements::Cases};

/// The partition that benches work in, and the one beside it.
pub const PARTITION: &str = "p0000";
pub const PARTITIONS: &str = "p0000,p0001";

/// The time that a failed bench is said to have taken: criterion knows no failures.
pub const NOTHING: Duration = Duration::from_nanos(1);

/// What stands in the other tables.
const REST: &str = include_str!("rest.sql");

/// An index of so many studies, one of which is large.
struct Size {
    studies: u64,
    large: u64,
}

pub struct Index {
    pub runtime: Runtime,
    pub db: Db,
    pub population: Population,
    /// A connection with the application's log-in.
    pub app: RefCell<PgConnection>,
    owner: RefCell<PgConnection>,
    /// What there is to be found, by the names of `statements.txt`.
    pub values: BTreeMap<String, String>,
    /// The process that started all others of Postgres.
    postmaster: u32,
    next: Cell<u64>,
    embedded: Option<Embedded>,
    // Removed last.
    _folder: tempfile::TempDir,
}

impl Index {
    fn fill(is_test: bool) -> anyhow::Result<Self> {
        let size = if is_test {
            Size { studies: 60, large: 20 }
        } else {
            Size { studies: 6_000, large: 500 }
        };
        let folder = tempfile::tempdir()?;
        let embedded = Embedded::start(folder.path(), None).context("no private Postgres")?;
        let owner = embedded.owner_options();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let partitions = PARTITIONS.split(',').count() as u64;
        let population = Population { studies: size.studies, partitions, series: 2, instances: 2 };
        let filled = runtime.block_on(async {
            let mut conn = owner.clone().connect().await?;
            // Nothing else may work on the tables while they are measured.
            sqlx::raw_sql("ALTER SYSTEM SET autovacuum = off").execute(&mut conn).await?;
            sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut conn).await?;
            fill::fill(owner.clone(), population).await?;
            let large = Population { studies: 1, partitions: 1, series: 1, instances: size.large };
            fill::fill(owner.clone(), large).await?;
            sqlx::raw_sql(REST).execute(&mut conn).await.context("rest.sql")?;
            sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut conn).await?;
            sqlx::raw_sql("CHECKPOINT").execute(&mut conn).await?;
            let values = values(&mut conn).await?;
            let login = migrate(owner.clone()).await?;
            let app = owner.clone().username(&login.role).password(&login.password);
            let mut raw = app.connect().await?;
            let row = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut raw).await?;
            let postmaster = parent(row.try_get::<i32, _>(0)?)?;
            let options = DbOptions { max_connections: 2, ..DbOptions::default() };
            let db = Db::open(app, options).await?;
            anyhow::Ok((db, raw, conn, values, postmaster))
        });
        let (db, app, owner, values, postmaster) = match filled {
            Ok(filled) => filled,
            Err(error) => {
                embedded.stop();
                return Err(error);
            }
        };
        Ok(Self {
            runtime,
            db,
            population,
            app: RefCell::new(app),
            owner: RefCell::new(owner),
            values,
            postmaster,
            next: Cell::new(1_000_000),
            embedded: Some(embedded),
            _folder: folder,
        })
    }

    /// A number that no study has.
    pub fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Removes what earlier benches left dead, which those that follow would have to pass.
    pub fn vacuum(&self) -> anyhow::Result<()> {
        let owner = &mut *self.owner.borrow_mut();
        self.runtime.block_on(sqlx::raw_sql("VACUUM").execute(owner))?;
        Ok(())
    }

    /// Processor time that the processes of Postgres have used.
    pub fn processor_time(&self) -> Duration {
        let of = |pid: u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        };
        let children = format!("/proc/{0}/task/{0}/children", self.postmaster);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.chain([self.postmaster]).filter_map(of).sum()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.runtime.block_on(self.db.close());
        if let Some(embedded) = self.embedded.take() {
            embedded.stop();
        }
    }
}

/// Asks for what benches look for; each may name those before it.
async fn values(conn: &mut PgConnection) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for (name, sql) in Cases::read()?.lets {
        let sql = format!("SELECT quote_literal(({})::text)", with(&values, sql)?);
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *conn).await;
        let value: Option<String> = row.with_context(|| name.to_owned())?.try_get(0)?;
        values.insert(name.to_owned(), value.with_context(|| format!("there is no {name}"))?);
    }
    Ok(values)
}

/// The text with values in place of their names.
pub fn with(values: &BTreeMap<String, String>, text: &str) -> anyhow::Result<String> {
    let mut pieces = text.split('@');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
        out += values.get(name).with_context(|| format!("there is no @{name}"))?;
        out += rest;
    }
    Ok(out)
}

fn parent(pid: i32) -> anyhow::Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.context("a process without a parent")?.trim().parse()?)
}

/// The index, once a bench asks for it.
pub struct Lazy {
    pub is_test: bool,
    index: OnceCell<Index>,
    /// What was measured, as it is told at the end: the heading of a table, and its lines.
    tables: RefCell<Vec<(&'static str, Vec<String>)>>,
    failures: RefCell<BTreeSet<String>>,
}

impl Lazy {
    pub fn new(is_test: bool) -> Self {
        Self {
            is_test,
            index: OnceCell::new(),
            tables: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    pub fn get(&self) -> &Index {
        self.index.get_or_init(|| match Index::fill(self.is_test) {
            Ok(index) => index,
            Err(error) => panic!("the index cannot be filled: {error:#}"),
        })
    }

    pub fn table(&self, heading: &'static str, lines: Vec<String>) {
        self.tables.borrow_mut().push((heading, lines));
    }

    /// Notes that a bench failed; the others go on, so that all that fail are told at once.
    pub fn fail(&self, name: &str, error: &anyhow::Error) {
        self.failures.borrow_mut().insert(format!("{name}: {error:#}"));
    }

    /// Prints the tables that have lines; what ran once says nothing of time.
    ///
    /// # Errors
    /// What failed.
    pub fn tell(&self) -> anyhow::Result<()> {
        let tables = self.tables.borrow();
        for (heading, lines) in tables.iter().filter(|(_, lines)| !lines.is_empty()) {
            if self.is_test {
                println!("{} ran", lines.len());
                continue;
            }
            println!("\n{heading}");
            lines.iter().for_each(|line| println!("{line}"));
        }
        let failures = self.failures.borrow();
        anyhow::ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    }
}

/// The one in the middle, in milliseconds.
pub fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
