//! A run over the partitions of an archive, with a report at its end and progress on the way.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Asked, Checker, Cursor, Outcome, Pace, Report, Thoroughness, VerifyError};
use crate::{
    blob::{BlobError, BlobStore},
    index::{Db, IndexError},
    tenancy::{InvalidPartitionId, PartitionId, PartitionScope, Scope},
};

/// Waits before a step that failed is tried again.
const RETRIES: [u64; 5] = [1, 2, 4, 8, 16];
/// How often progress is shown on a terminal, and told elsewhere.
const SHOWN: Duration = Duration::from_millis(200);
const TOLD: Duration = Duration::from_secs(10);

/// What is to be looked through.
#[derive(Debug)]
pub struct Wanted {
    /// The partitions, in order.
    pub partitions: Vec<PartitionId>,
    /// How thoroughly.
    pub how: Thoroughness,
    /// Most bytes a second; `None`: as fast as they come.
    pub rate: Option<u64>,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What is named is no id of a partition.
    #[error(transparent)]
    Invalid(#[from] InvalidPartitionId),
    /// There is no such partition.
    #[error("there is no partition {0}")]
    Unknown(PartitionId),
    /// The blobs are somebody else's.
    #[error("the blob store is empty or not this archive's: check the keys of [blob] and data.dir")]
    Foreign,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not begin.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The archive could not be read.
    #[error("the archive cannot be read to its end")]
    Verify(#[from] VerifyError),
    /// The report could not be written.
    #[error("the report cannot be written")]
    Report(#[from] io::Error),
}

/// Looks through what is asked for of an archive; says whether nothing was wrong.
///
/// # Errors
/// [`RunError`].
pub async fn archive(
    db: &Db,
    store: &BlobStore,
    asked: &Asked,
    orphan_grace: Duration,
    report: Report,
) -> Result<bool, RunError> {
    let mut registry = db.registry().await.map_err(VerifyError::from)?;
    let archive_id = registry.archive_id().await.map_err(VerifyError::from)?;
    let listed = registry.partition_list().await.map_err(VerifyError::from)?;
    drop(registry);
    let mut partitions: Vec<PartitionId> = listed.into_iter().map(|one| one.id).collect();
    match store.owner().await {
        Ok(owner) if owner == Some(archive_id) => {}
        // A server claims it when it first starts.
        Err(BlobError::Missing { .. }) if !any_in_use(db, &partitions).await? => {}
        Ok(_) | Err(BlobError::Missing { .. }) => return Err(Refused::Foreign.into()),
        Err(error) => return Err(VerifyError::from(error).into()),
    }
    if !asked.partitions.is_empty() {
        let named = asked.partitions.iter().map(|id| id.parse::<PartitionId>());
        let named = named.collect::<Result<Vec<_>, _>>().map_err(Refused::from)?;
        if let Some(unknown) = named.iter().find(|id| !partitions.contains(id)) {
            return Err(Refused::Unknown(unknown.clone()).into());
        }
        partitions.retain(|id| named.contains(id));
    }
    let how = Thoroughness { bytes: !asked.quick, orphan_grace };
    run(db, store, Wanted { partitions, how, rate: asked.rate }, report).await
}

async fn any_in_use(db: &Db, partitions: &[PartitionId]) -> Result<bool, VerifyError> {
    for id in partitions {
        if db.begin_verify(&scope(id)).await?.partition_in_use().await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks through partitions and reports; says whether nothing was wrong.
///
/// # Errors
/// [`RunError`]. What was found by then is reported.
pub async fn run(
    db: &Db,
    store: &BlobStore,
    wanted: Wanted,
    mut report: Report,
) -> Result<bool, RunError> {
    report.begin(wanted.how.bytes)?;
    let looked = look(db, store, &wanted, &mut report).await;
    match &looked {
        Ok(()) => report.end()?,
        Err(RunError::Verify(error)) => report.failed(error)?,
        Err(RunError::Report(_) | RunError::Refused(_)) => {}
    }
    looked.map(|()| report.damage() == 0)
}

async fn look(
    db: &Db,
    store: &BlobStore,
    wanted: &Wanted,
    report: &mut Report,
) -> Result<(), RunError> {
    let pace = Pace::new(wanted.rate);
    let total = if wanted.how.bytes { total(db, &wanted.partitions).await? } else { 0 };
    let mut shown = Shown::new(total, &pace);
    for id in &wanted.partitions {
        let cursor = Cursor::default();
        let mut checker = Checker::new(db, store, scope(id), wanted.how, pace.clone(), cursor);
        let mut damage = BTreeMap::new();
        loop {
            let stage = checker.cursor().stage();
            let more = shown.during(id, stage, step(&mut checker)).await?;
            for finding in checker.take_findings() {
                *damage.entry(finding.kind).or_default() += 1;
                shown.aside(|| report.finding(id, &finding))?;
            }
            if !more {
                break;
            }
        }
        let mut tx = db.begin_verify(&scope(id)).await.map_err(VerifyError::from)?;
        let scrub = tx.scrub_state().await.map_err(VerifyError::from)?;
        drop(tx);
        let outcome = Outcome { partition: id.clone(), tally: checker.tally(), damage, scrub };
        shown.aside(|| report.partition(&outcome))?;
    }
    Ok(())
}

/// Bytes that are to be read; 0 where there are too many blobs to count them: that is no reason not
/// to look at them.
async fn total(db: &Db, partitions: &[PartitionId]) -> Result<u64, VerifyError> {
    let mut total = 0;
    for id in partitions {
        match db.begin_verify(&scope(id)).await?.verify_bytes().await {
            Ok(bytes) => total += u64::try_from(bytes).unwrap_or(0),
            Err(IndexError::TimedOut) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

/// A step, again where the database or the store is away for a moment.
async fn step(checker: &mut Checker) -> Result<bool, VerifyError> {
    for wait in RETRIES {
        match checker.step().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(Duration::from_secs(wait)).await;
            }
            other => return other,
        }
    }
    checker.step().await
}

fn scope(id: &PartitionId) -> PartitionScope {
    #[expect(clippy::disallowed_methods, reason = "it acts for whoever runs the archive")]
    Scope::for_maintenance(id)
}

/// Progress: a bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    /// Bytes to be read; 0: nobody knows.
    total: u64,
    passed: Arc<std::sync::atomic::AtomicU64>,
    told: Instant,
}

impl Shown {
    fn new(total: u64, pace: &Pace) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = if total > 0 {
                "{spinner} [{elapsed_precise}] {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}"
            } else {
                "{spinner} [{elapsed_precise}] {msg}"
            };
            let bar = ProgressBar::new(total);
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar, total, passed: pace.passed(), told: Instant::now() }
    }

    /// Does the work, and shows how far it is.
    async fn during<T>(
        &mut self,
        id: &PartitionId,
        stage: &str,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(SHOWN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.show(id, stage),
            }
        }
    }

    fn show(&mut self, id: &PartitionId, stage: &str) {
        let passed = self.passed.load(Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.set_position(passed);
                bar.set_message(format!("{id}: {stage}"));
                bar.tick();
            }
            None if self.told.elapsed() >= TOLD => {
                self.told = Instant::now();
                let of = match self.total {
                    0 => String::new(),
                    total => format!(" of {}", HumanBytes(total)),
                };
                eprintln!("verify: {id}: {stage}, {}{of} read", HumanBytes(passed));
            }
            None => {}
        }
    }

    /// Writes something that the bar must not be written over.
    fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
