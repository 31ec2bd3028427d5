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
    time::{Duration, Instant},
};

use anyhow::Context;
use bytesize::ByteSize;
use futures::TryStreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{beside::with_database, blob_folder, keys};
use crate::{
    archive::Archive,
    blob::{BlobStore, Place},
    config::{BlobConfig, BlobKind, Config, LogFormat},
    control::{Access, Partitions},
    exchange::{self, How, Importer, Source, Status},
    index::{Db, Imported},
    telemetry,
    tenancy::{Deed, PartitionId, PartitionScope, Permission},
};

/// What the audit log calls this command.
const COMMAND: &str = "collimator import";
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

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
    let (mut results, mut progress) = (Imported::default(), Progress::new(asked.is_dry));
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
        progress.show(&results);
    };
    progress.end(&results);
    ended.context("the import was cut short; repeated, it goes on")?;
    Ok(results.failed == 0)
}

/// The store of an archive that has been served before.
async fn blobs(config: &Config, db: &Db) -> anyhow::Result<BlobStore> {
    if let Some(dir) = blob_folder(config).filter(|dir| !dir.is_dir()) {
        anyhow::bail!("there is no folder of blobs at {}", dir.display());
    }
    let opened = BlobStore::open(&config.blob, &config.data.dir)
        .context("the blob store cannot be opened")?
        .with_upload_life(config.sweep.orphan_grace / 2);
    let archive_id = db.registry().await?.archive_id().await?;
    if !opened.is_claimed().await? {
        anyhow::bail!("the blob store is empty or not this archive's: has a server run on it?");
    }
    // It is claimed; what is wanted is the comparison.
    opened.claim(archive_id).await.context("the blob store cannot be used")?;
    Ok(opened)
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
    let Some(rest) = text.strip_prefix("s3://") else {
        let path = Path::new(text);
        // The folder itself may be a link; what lies in it is not followed.
        let path = path.canonicalize().with_context(|| format!("cannot read {text}"))?;
        return Ok(Source::Folder(path));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = variables.iter().find_map(|name| std::env::var(name).ok());
    let config = BlobConfig {
        kind: BlobKind::S3,
        bucket: bucket.to_owned(),
        // Who sets an address with http:// means it.
        allow_http: endpoint.as_ref().is_some_and(|url| url.starts_with("http://")),
        endpoint,
        region: std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned()),
        ..BlobConfig::default()
    };
    let place = Place::open(&config).with_context(|| format!("cannot use {text}"))?;
    Ok(Source::Bucket(place, prefix.trim_matches('/').to_owned()))
}

/// Tells how far it is: on a terminal in a line that changes, else in lines now and then.
struct Progress {
    bar: ProgressBar,
    begun: Instant,
    told: Instant,
    is_dry: bool,
}

impl Progress {
    fn new(is_dry: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, begun: Instant::now(), told: Instant::now(), is_dry }
    }

    /// A line that stays.
    fn above(&self, path: &str, reason: &str) {
        // Names come from outside: a terminal must take them for text.
        let line = format!("{}: {reason}", path.escape_debug());
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn line(&self, results: &Imported) -> String {
        let Imported { stored, identical, skipped, failed, bytes, .. } = results;
        let files = stored + identical + skipped + failed;
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let verb = if self.is_dry { "to store" } else { "stored" };
        format!(
            "{files} files: {stored} {verb}, {identical} there already, {skipped} no DICOM, \
             {failed} failed; {} ({:.0} files/s, {}/s)",
            ByteSize(*bytes),
            files as f64 / seconds,
            ByteSize((*bytes as f64 / seconds) as u64),
        )
    }

    fn show(&mut self, results: &Imported) {
        if !self.bar.is_hidden() {
            self.bar.set_message(self.line(results));
            self.bar.tick();
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            eprintln!("{}", self.line(results));
        }
    }

    fn end(&self, results: &Imported) {
        self.bar.finish_and_clear();
        let mut out = std::io::stdout();
        // Whoever asked may have closed the pipe since.
        let _ = writeln!(out, "{}", self.line(results));
        for (reason, count) in &results.reasons {
            let _ = writeln!(out, "  {count} times: {reason}");
        }
    }
}
