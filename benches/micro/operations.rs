//! What the server asks of the index at once: transactions through the index's own gate, with all
//! their statements and round trips.
//!
//! What is measured is processor time of Postgres; the table has that of this thread, and the time
//! on the wall, as well.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::Context;
use collimator::{
    dicom::{attributes::Level, matching::Test},
    index::{Condition, FeedRange, Include, SearchPlan, Stored, Target, Within},
    tenancy::{PartitionScope, Scope},
};
use futures::{FutureExt as _, future::LocalBoxFuture};

use crate::{
    Bench, clock,
    fill::{self, Ready},
    index::{Index, Lazy, NOTHING, PARTITION, median},
};

/// What operations cost, one after another.
#[derive(Default)]
struct Costs {
    database: Vec<Duration>,
    client: Vec<Duration>,
    wall: Vec<Duration>,
}

/// Runs what is measured, and notes what it cost.
struct Watch<'a> {
    index: &'a Index,
    costs: &'a mut Costs,
}

impl Watch<'_> {
    async fn run<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let (database, client) = (self.index.processor_time(), clock::of_thread());
        let begun = Instant::now();
        let done = what.await?;
        self.costs.wall.push(begun.elapsed());
        self.costs.client.push(clock::of_thread().saturating_sub(client));
        self.costs.database.push(self.index.processor_time().saturating_sub(database));
        Ok(done)
    }
}

type Operation = for<'a> fn(&'a Index, Watch<'a>) -> LocalBoxFuture<'a, anyhow::Result<()>>;

const OPERATIONS: &[(&str, Operation)] = &[
    ("store of one", |index, watch| store(index, watch, 1).boxed_local()),
    ("store of 100", |index, watch| store(index, watch, 100).boxed_local()),
    ("store of 100 that are there", |index, watch| store_again(index, watch).boxed_local()),
    ("look-up of an instance", |index, watch| look_up(index, watch, 3).boxed_local()),
    ("look-up of a series", |index, watch| look_up(index, watch, 2).boxed_local()),
    ("look-up of a study", |index, watch| look_up(index, watch, 1).boxed_local()),
    ("metadata of the large study", |index, watch| metadata(index, watch).boxed_local()),
    ("a frame of 200", |index, watch| frame(index, watch).boxed_local()),
    ("search by PatientID", |index, watch| search(index, watch, true).boxed_local()),
    ("first page of studies", |index, watch| search(index, watch, false).boxed_local()),
    ("a page of the feed", |index, watch| feed(index, watch).boxed_local()),
    ("delete of a study of 100", |index, watch| delete(index, watch).boxed_local()),
];

pub fn benches(bench: &mut Bench, lazy: &Lazy) {
    let mut group = bench.benchmark_group("operation");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .nresamples(5_000);
    let mut lines = Vec::new();
    for (name, operation) in OPERATIONS {
        let costs = RefCell::new(Costs::default());
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| {
                let index = lazy.get();
                let costs = &mut *costs.borrow_mut();
                let before = costs.database.len();
                for _ in 0..times {
                    let run = operation(index, Watch { index, costs });
                    let run = index.runtime.block_on(run);
                    if let Err(error) = run {
                        lazy.fail(name, &error);
                        return NOTHING;
                    }
                }
                costs.database[before..].iter().sum()
            });
        });
        let Costs { database, client, wall } = &mut *costs.borrow_mut();
        if !wall.is_empty() {
            let (wall, client, database) = (median(wall), median(client), median(database));
            lines.push(format!("| {name} | {wall:.2} | {database:.2} | {client:.2} |"));
        }
    }
    group.finish();
    let heading = "| operation | ms | of the database's processor | of the caller's |\n\
                   | --- | ---: | ---: | ---: |";
    lazy.table(heading, lines);
}

#[expect(clippy::disallowed_methods, reason = "no request asks for this")]
fn scope() -> PartitionScope {
    Scope::for_maintenance(&PARTITION.parse().expect("the name of a partition"))
}

/// A study that is not there yet.
fn instances(index: &Index, count: u64) -> anyhow::Result<(Target, Vec<Ready>)> {
    let study = index.population.study(index.number());
    let read = |number| fill::read(&index.population.file(&study, 0, number));
    let ready = (0..count).map(read).collect::<anyhow::Result<_>>()?;
    Ok((Target::Study { study: study.uid.parse()? }, ready))
}

async fn put(index: &Index, ready: &[Ready]) -> anyhow::Result<Vec<Stored>> {
    let (blob, news) = fill::batch(ready);
    let mut tx = index.db.begin_in(&scope()).await?;
    let stored = tx.store_batch(&[blob], &news).await?;
    tx.commit().await?;
    Ok(stored)
}

async fn store(index: &Index, mut watch: Watch<'_>, count: u64) -> anyhow::Result<()> {
    let (_, ready) = instances(index, count)?;
    let stored = watch.run(put(index, &ready)).await?;
    anyhow::ensure!(stored.iter().all(|one| matches!(one, Stored::New { .. })), "{stored:?}");
    Ok(())
}

async fn store_again(index: &Index, mut watch: Watch<'_>) -> anyhow::Result<()> {
    let (_, ready) = instances(index, 100)?;
    put(index, &ready).await?;
    let stored = watch.run(put(index, &ready)).await?;
    anyhow::ensure!(stored.iter().all(|one| matches!(one, Stored::Identical)), "{stored:?}");
    Ok(())
}

/// A value of `statements.txt`, as it is without SQL.
fn value<'a>(index: &'a Index, name: &str) -> anyhow::Result<&'a str> {
    Ok(index.values.get(name).with_context(|| name.to_owned())?.trim_matches('\''))
}

/// The instance of 200 frames, its series, its study, by how many UIDs name it.
fn target(index: &Index, uids: usize) -> anyhow::Result<Target> {
    let study = value(index, "study")?.parse()?;
    let series = value(index, "series")?.parse()?;
    let instance = value(index, "instance")?.parse()?;
    Ok(match uids {
        1 => Target::Study { study },
        2 => Target::Series { study, series },
        _ => Target::Instance { study, series, instance },
    })
}

async fn look_up(index: &Index, mut watch: Watch<'_>, uids: usize) -> anyhow::Result<()> {
    let target = target(index, uids)?;
    let look = async {
        let mut tx = index.db.begin_in(&scope()).await?;
        let summary = tx.summary(&target).await?.context("it is there")?;
        Ok(tx.instances_page(&target, None, summary.newest, 100).await?)
    };
    anyhow::ensure!(!watch.run(look).await?.is_empty(), "nothing was found");
    Ok(())
}

async fn metadata(index: &Index, mut watch: Watch<'_>) -> anyhow::Result<()> {
    let study = value(index, "large_study")?.parse()?;
    let target = Target::Study { study };
    let read = async {
        let mut tx = index.db.begin_in(&scope()).await?;
        let first = tx.packed_first(&target, 100).await?.context("it is there")?;
        let (whole, mut page) = first;
        let mut count = 0;
        while let Some(last) = page.live.back().copied() {
            anyhow::ensure!(!page.packs.is_empty(), "it was stored as one batch");
            count += page.live.len() as i64;
            page = tx.packed_more(&target, last, whole.newest, 100).await?;
        }
        Ok((count, whole.count))
    };
    let (read, expected) = watch.run(read).await?;
    anyhow::ensure!(read == expected, "{read} of {expected}");
    Ok(())
}

async fn frame(index: &Index, mut watch: Watch<'_>) -> anyhow::Result<()> {
    let target = target(index, 3)?;
    let locate = async {
        let mut tx = index.db.begin_in(&scope()).await?;
        tx.frames_locate(&target, &[123]).await?.context("it is there")
    };
    let located = watch.run(locate).await?;
    let pieces = located.ranges.into_iter().flatten().flatten().count();
    anyhow::ensure!(pieces == 2, "{pieces} pieces");
    Ok(())
}

async fn search(index: &Index, mut watch: Watch<'_>, by_patient: bool) -> anyhow::Result<()> {
    // Of a study in the partition.
    let study = index.population.study(0);
    let level = Level::Study;
    let test = Test::Equals(study.patient_id);
    let patient = Condition::Column { level, column: "patient_id", test };
    let conditions = if by_patient { vec![patient] } else { Vec::new() };
    let within = Within::Archive;
    let plan = SearchPlan { level, within, conditions, limit: 101, offset: 0, after: None };
    let include = Include { study: true, study_facts: true, ..Include::default() };
    let scope = scope();
    let search = async {
        let mut tx = index.db.begin(&scope).await?;
        let found = tx.search_page(&plan).await?;
        Ok(tx.search_rows(level, &found.keys, include, &[]).await?)
    };
    anyhow::ensure!(!watch.run(search).await?.is_empty(), "nothing was found");
    Ok(())
}

async fn feed(index: &Index, mut watch: Watch<'_>) -> anyhow::Result<()> {
    let range = FeedRange { after: 0, up_to: i64::MAX, limit: 200, metadata: true };
    let read = async {
        let mut tx = index.db.begin_in(&scope()).await?;
        Ok(tx.feed_page(&range).await?)
    };
    anyhow::ensure!(!watch.run(read).await?.0.is_empty(), "nothing was read");
    Ok(())
}

async fn delete(index: &Index, mut watch: Watch<'_>) -> anyhow::Result<()> {
    let (target, ready) = instances(index, 100)?;
    put(index, &ready).await?;
    let delete = async {
        let mut tx = index.db.begin_in(&scope()).await?;
        let gone = tx.delete(&target, Duration::from_secs(3_600)).await?;
        tx.commit().await?;
        Ok(gone)
    };
    let gone = watch.run(delete).await?.len();
    anyhow::ensure!(gone == 100, "{gone} of 100");
    Ok(())
}
