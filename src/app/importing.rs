//! `collimator import`: an archive that is there is opened, beside whoever serves it, and files are
//! stored in it.
//!
//! Holds: the archive is neither migrated nor claimed; what is stored goes through the session that
//! serves Store requests. Stopped at any point, it can be repeated, and goes over what is there
//! already without storing it again. Absent: the storing (`exchange`).

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use futures::TryStreamExt;

use super::{
    beside::{blobs, with_database},
    keys, named_place,
    progress::{Progress, speed},
};
use crate::{
    archive::Archive,
    blob::Place,
    config::{Config, LogFormat},
    control::{Access, Partitions},
    exchange::{self, How, Importer, Source, Status},
    index::{Db, Imported},
    telemetry,
    tenancy::{Deed, PartitionId, PartitionScope, Permission},
};

/// What the audit log calls this command.
const COMMAND: &str = "collimator import";

/// What is asked to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportAsked {
    /// A folder, a file, or a bucket.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// Whether it is made where it does not exist.
    pub with_partition: bool,
    /// Whether nothing is stored.
    pub is_dry: bool,
    /// Where each file is told of.
    pub report: Option<PathBuf>,
    /// Batches at a time.
    pub at_once: Option<usize>,
}

/// `collimator import`: stores the files of a place. Says whether no file failed.
///
/// # Errors
/// Whatever kept it from going through all of them.
pub fn import(config: Config, asked: ImportAsked) -> anyhow::Result<bool> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let partition: PartitionId = asked.partition.parse()?;
    if !config.features.enable_data_partition && !partition.is_default() {
        anyhow::bail!("features.enable_data_partition is off: everything is in microsoft.default");
    }
    let report = match &asked.report {
        Some(path) => {
            let made = File::create(path);
            let made = made.with_context(|| format!("cannot write {}", path.display()))?;
            Some(BufWriter::new(made))
        }
        None => None,
    };
    with_database(&config, async |db| run(&config, db, &asked, &partition, report).await)
}

async fn run(
    config: &Config,
    db: &Db,
    asked: &ImportAsked,
    partition: &PartitionId,
    mut report: Option<BufWriter<File>>,
) -> anyhow::Result<bool> {
    let source = source(&asked.source)?;
    let blobs = blobs(config, db).await?;
    let archive = Archive::new(db.clone(), blobs, config);
    let scope = scope(config, db, asked, partition).await?;
    let at_once = asked.at_once.unwrap_or(config.import.at_once);
    let limits = config.limits.clone();
    let how = How { is_dry: asked.is_dry, may_reject: true };
    let importer = Importer::new(archive, db.clone(), scope, source, limits, how);
    let (mut results, mut progress) = (Imported::default(), Progress::default());
    let mut batches = importer.run(None, at_once);
    let ended = loop {
        let batch = match batches.try_next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        exchange::add(&mut results, &batch.lines);
        if let Some(report) = &mut report {
            for line in &batch.lines {
                serde_json::to_writer(&mut *report, line)?;
                report.write_all(b"\n")?;
            }
            report.flush().context("the report cannot be written")?;
        } else {
            let failed = batch.lines.iter().filter(|line| line.status == Status::Failed);
            for line in failed {
                progress.above(&line.path, line.reason.as_deref().unwrap_or_default());
            }
        }
        let line = line(&results, progress.seconds(), asked.is_dry);
        progress.show(&line);
    };
    progress.end(&line(&results, progress.seconds(), asked.is_dry), &results.reasons);
    ended.context("the import was cut short; repeated, it goes on")?;
    Ok(results.failed == 0)
}

async fn scope(
    config: &Config,
    db: &Db,
    asked: &ImportAsked,
    partition: &PartitionId,
) -> anyhow::Result<PartitionScope> {
    let deed = Arc::new(Deed::by_command(Permission::Store, COMMAND));
    if (asked.with_partition || partition.is_default()) && !asked.is_dry {
        let access = Access::new(db.clone(), &config.auth);
        let partitions = Partitions::new(db.clone(), access, &config.features, &config.partitions);
        partitions.ensure(partition, Some(&deed)).await?;
    }
    keys::scope(db, partition, deed).await
}

/// What the argument names.
fn source(text: &str) -> anyhow::Result<Source> {
    if let Some((config, below)) = named_place::bucket(text) {
        let place = Place::open(&config).with_context(|| format!("cannot use {text}"))?;
        return Ok(Source::Bucket(place, below));
    }
    let path = Path::new(text);
    // The folder itself may be a link; what lies in it is not followed.
    let path = path.canonicalize().with_context(|| format!("cannot read {text}"))?;
    Ok(Source::Folder(path))
}

fn line(results: &Imported, seconds: f64, is_dry: bool) -> String {
    let Imported { stored, identical, skipped, failed, bytes, .. } = results;
    let files = stored + identical + skipped + failed;
    let verb = if is_dry { "to store" } else { "stored" };
    format!(
        "{files} files: {stored} {verb}, {identical} there already, {skipped} no DICOM, \
         {failed} failed; {}",
        speed(files, *bytes, seconds),
    )
}
