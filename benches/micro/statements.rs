//! Every statement of the index, by itself: run as the application's log-in in the role and with
//! the settings that the server gives it, under row-level security, and taken back.
//!
//! What is measured is what EXPLAIN (ANALYZE) calls its execution time, so that neither planning
//! (plans are kept), nor the way to Postgres and back is in it. The table has the pages that it
//! touched, and its round trip as well. What each statement is given stands in `statements.txt`.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context;
use collimator::index::{LOOKUP_SETTINGS, registry_statements, scoped_statements, statements};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::{
    Bench,
    index::{Index, Lazy, NOTHING, PARTITION, PARTITIONS, median, with},
};

const CASES: &str = include_str!("statements.txt");

/// How statements are run.
#[derive(Default)]
pub struct Cases {
    /// What is asked of the index first: names and statements.
    pub lets: Vec<(&'static str, &'static str)>,
    /// What prepares a statement.
    firsts: BTreeMap<&'static str, &'static str>,
    /// What a statement is given, and whether it finds something.
    arguments: BTreeMap<&'static str, (&'static str, bool)>,
}

impl Cases {
    /// Reads `statements.txt`.
    pub fn read() -> anyhow::Result<Self> {
        let mut cases = Self::default();
        for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(line) = line.strip_prefix("let ") {
                cases.lets.push(line.split_once(" = ").context(line)?);
            } else if let Some(line) = line.strip_prefix("first ") {
                let (name, sql) = line.split_once(": ").context(line)?;
                anyhow::ensure!(cases.firsts.insert(name, sql).is_none(), "{name} is there twice");
            } else {
                let (name, arguments) = line.split_once(':').context(line)?;
                let (name, finds) = match name.strip_prefix('~') {
                    Some(name) => (name, false),
                    None => (name, true),
                };
                let before = cases.arguments.insert(name, (arguments.trim(), finds));
                anyhow::ensure!(before.is_none(), "{name} is there twice");
            }
        }
        Ok(cases)
    }
}

/// What a statement may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Partition,
    Scope,
    Registry,
}

impl Reach {
    /// What opens a transaction for it.
    fn opening(self) -> String {
        let scope = match self {
            Self::Registry => return "BEGIN; SET LOCAL ROLE collimator_registry".to_owned(),
            Self::Partition => PARTITION,
            Self::Scope => PARTITIONS,
        };
        let settings = LOOKUP_SETTINGS.join("; ");
        format!(
            "BEGIN; SET LOCAL ROLE collimator_tenant; SET LOCAL collimator.scope = '{scope}'; \
             {settings}"
        )
    }

    /// Its first argument.
    fn first(self) -> String {
        match self {
            Self::Partition => format!("'{PARTITION}'"),
            Self::Scope => format!("'{{{PARTITIONS}}}'"),
            Self::Registry => String::new(),
        }
    }
}

/// All statements: name, text, reach.
fn all() -> impl Iterator<Item = (&'static str, &'static str, Reach)> {
    let of = |reach| move |sql: &'static str| (name(sql), sql, reach);
    statements()
        .map(of(Reach::Partition))
        .chain(scoped_statements().map(of(Reach::Scope)))
        .chain(registry_statements().map(of(Reach::Registry)))
}

/// The name with which a statement opens.
fn name(sql: &'static str) -> &'static str {
    sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or(sql).trim()
}

/// Checks that every statement is run, and that nothing is run that is not there.
pub fn check() -> anyhow::Result<()> {
    let cases = Cases::read()?;
    let known: BTreeSet<&str> = all().map(|(name, ..)| name).collect();
    let run: BTreeSet<&str> = cases.arguments.keys().copied().collect();
    let missing: Vec<_> = known.difference(&run).collect();
    anyhow::ensure!(missing.is_empty(), "benches/micro/statements.txt lacks {missing:?}");
    let unknown: Vec<_> = run.union(&cases.firsts.into_keys().collect()).copied().collect();
    let unknown: Vec<_> = unknown.into_iter().filter(|name| !known.contains(name)).collect();
    anyhow::ensure!(unknown.is_empty(), "benches/micro/statements.txt has old {unknown:?}");
    Ok(())
}

/// What one statement cost.
#[derive(Default)]
struct Cost {
    execution: Vec<Duration>,
    round_trip: Vec<Duration>,
    /// Rows that it found or changed.
    rows: u64,
    /// Pages of 8 KiB that it looked at, of its last run.
    pages: u64,
}

pub fn benches(bench: &mut Bench, lazy: &Lazy) {
    let cases = Cases::read().expect("they were checked");
    let mut group = bench.benchmark_group("statement");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(250))
        .nresamples(5_000);
    let mut costs = Vec::new();
    for (name, sql, reach) in all() {
        let (arguments, finds) = cases.arguments[name];
        let first = cases.firsts.get(name).copied();
        let cost = Rc::new(RefCell::new(Cost::default()));
        costs.push((name, cost.clone()));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let index = lazy.get();
                let run = Run { sql, reach, arguments, first, finds };
                let mut cost = cost.borrow_mut();
                if cost.execution.is_empty()
                    && !lazy.is_test
                    && let Err(error) = index.vacuum()
                {
                    lazy.fail(name, &error);
                }
                let app = &mut *index.app.borrow_mut();
                index.runtime.block_on(async {
                    let ran = run.measure(index, app, times, &mut cost).await;
                    // Whatever became of it, the next one begins anew.
                    let _ = raw(app, "ROLLBACK; DEALLOCATE ALL").await;
                    ran.unwrap_or_else(|error| {
                        lazy.fail(name, &error);
                        NOTHING
                    })
                })
            });
        });
    }
    group.finish();
    let lines = costs.iter().filter_map(|(name, cost)| {
        let Cost { execution, round_trip, rows, pages } = &mut *cost.borrow_mut();
        (!execution.is_empty()).then(|| {
            let (execution, round_trip) = (median(execution), median(round_trip));
            format!("| {name} | {rows} | {execution:.3} | {pages} | {round_trip:.3} |")
        })
    });
    let heading = "| statement | rows | execution ms | pages | round trip ms |\n\
                   | --- | ---: | ---: | ---: | ---: |";
    lazy.table(heading, lines.collect());
}

/// One statement and how it is run.
struct Run {
    sql: &'static str,
    reach: Reach,
    arguments: &'static str,
    first: Option<&'static str>,
    finds: bool,
}

impl Run {
    /// Runs it so many times; answers the sum of what Postgres took to execute it.
    async fn measure(
        &self,
        index: &Index,
        app: &mut PgConnection,
        times: u64,
        cost: &mut Cost,
    ) -> anyhow::Result<Duration> {
        let first = self.first.map(|sql| with(&index.values, sql)).transpose()?;
        let given = with(&index.values, self.arguments)?;
        let all = [self.reach.first(), given].into_iter().filter(|text| !text.is_empty());
        let execute = match all.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "EXECUTE it".to_owned(),
            arguments => format!("EXECUTE it({arguments})"),
        };
        // Without a clock at each row, which costs more than many of the statements do.
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {execute}");
        raw(app, self.reach.opening()).await?;
        raw(app, format!("PREPARE it AS {}", self.sql)).await?;
        let mut sum = Duration::ZERO;
        for _ in 0..times {
            begin(app, first.as_deref()).await?;
            let row = sqlx::raw_sql(AssertSqlSafe(explain.as_str())).fetch_one(&mut *app).await?;
            let told: Value = serde_json::from_str(&row.try_get_unchecked::<String, _>(0)?)?;
            raw(app, "ROLLBACK TO before").await?;
            let took = told[0]["Execution Time"].as_f64().context("no execution time")?;
            let took = Duration::from_secs_f64(took / 1e3);
            sum += took;
            cost.execution.push(took);
            cost.rows = found(&told[0]["Plan"]);
            cost.pages = ["Shared Hit Blocks", "Shared Read Blocks"]
                .into_iter()
                .filter_map(|key| told[0]["Plan"][key].as_u64())
                .sum();
            anyhow::ensure!((cost.rows > 0) == self.finds, "{} rows", cost.rows);
            begin(app, first.as_deref()).await?;
            let sent = Instant::now();
            sqlx::raw_sql(AssertSqlSafe(execute.as_str())).fetch_all(&mut *app).await?;
            cost.round_trip.push(sent.elapsed());
            raw(app, "ROLLBACK TO before").await?;
        }
        Ok(sum)
    }
}

async fn raw(conn: &mut PgConnection, sql: impl Into<String>) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(conn).await?;
    Ok(())
}

/// Begins one run: what it does is taken back afterwards.
async fn begin(conn: &mut PgConnection, first: Option<&str>) -> anyhow::Result<()> {
    raw(conn, "SAVEPOINT before").await?;
    match first {
        Some(first) => raw(conn, first).await,
        None => Ok(()),
    }
}

/// The rows that a plan answered; of one that changes rows and answers none, those that it changed.
fn found(plan: &Value) -> u64 {
    let rows = plan["Actual Rows"].as_f64().unwrap_or(0.0) as u64;
    if rows > 0 || plan["Node Type"] != "ModifyTable" {
        return rows;
    }
    let below = plan["Plans"].as_array().into_iter().flatten();
    let mut outer = below.filter(|plan| plan["Parent Relationship"] == "Outer");
    outer.next().map_or(0, found)
}
