//! `collimator export`: an archive that is there is opened, beside whoever serves it, and instances
//! are copied out of it.
//!
//! Holds: the archive is neither migrated nor claimed, and nothing in it changes but the audit log,
//! and the key of pseudonyms where there was none. Stopped at any point, it can be repeated, and goes
//! on. Absent: the copying (`exchange`).

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::{
    beside::{blobs, with_database},
    keys, named_place,
    progress::{Progress, speed},
};
use crate::{
    archive::{Archive, TooMany, TransferOf},
    blob::Place,
    config::{BlobConfig, BlobKind, Config, LogFormat},
    exchange::{self, Begun, Deidentify, ExportRequest, Layout, NoOption, Options, Standalone},
    index::{Db, Exported},
    query, telemetry,
    tenancy::{Deed, PartitionId, PartitionScope, Permission, Scope},
};

/// What the audit log calls this command.
const COMMAND: &str = "collimator export";
/// Resources that the audit log names.
const NAMED: usize = 100;

/// What is asked to be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportAsked {
    /// A folder or a bucket.
    pub destination: String,
    /// Studies, series and instances: their UIDs, joined by slashes.
    pub resources: Vec<String>,
    /// What a search finds, in place of these.
    pub query: Option<String>,
    /// What that searches for: `studies`, `series` or `instances`.
    pub level: String,
    /// The partition.
    pub partition: String,
    /// How files lie there: `as-is` or `dicom`.
    pub layout: String,
    /// Whether a File-set has a DICOMDIR.
    pub dicomdir: bool,
    /// Options in place of those of the configuration, as `NAME=VALUE`; `None`: nothing is
    /// de-identified.
    pub deidentify: Option<Vec<String>>,
    /// Files at a time.
    pub at_once: Option<usize>,
}

/// `collimator export`: copies instances to a place. Says whether all that was asked for is there.
///
/// # Errors
/// Whatever kept it from going through all of it.
pub fn export(config: Config, asked: ExportAsked) -> anyhow::Result<bool> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let partition: PartitionId = asked.partition.parse()?;
    if !config.features.enable_data_partition && !partition.is_default() {
        anyhow::bail!("features.enable_data_partition is off: everything is in microsoft.default");
    }
    let options = options(&config, &asked)?;
    with_database(&config, async |db| run(&config, db, &asked, &partition, options).await)
}

/// What is to be done to instances.
fn options(config: &Config, asked: &ExportAsked) -> anyhow::Result<Option<Options>> {
    let Some(list) = &asked.deidentify else { return Ok(None) };
    let mut options = config.deidentify.options;
    for text in list {
        let (name, value) = text.split_once('=').context("--option is NAME=VALUE")?;
        match options.set(name, value) {
            Ok(()) => {}
            Err(NoOption::Name) => anyhow::bail!("--option: [deidentify] has no {name}"),
            Err(NoOption::Value(rule)) => anyhow::bail!("--option: {name} must be {rule}"),
        }
    }
    Ok(Some(options))
}

async fn run(
    config: &Config,
    db: &Db,
    asked: &ExportAsked,
    partition: &PartitionId,
    options: Option<Options>,
) -> anyhow::Result<bool> {
    let place = place(&asked.destination)?;
    let archive = Archive::new(db.clone(), blobs(config, db).await?, config);
    let permission = match options {
        Some(_) => Permission::ExportDeidentified,
        None => Permission::Export,
    };
    let deed = Arc::new(Deed::by_command(permission, COMMAND));
    let scope = keys::scope(db, partition, deed).await?;
    let begun = Begun::find(&place).await.context("the destination cannot be used")?;
    // Of what lies in the destination nothing but this is believed: how, and what else, is asked now.
    let found = begun.as_ref().and_then(|begun| begun.found.clone()).filter(|_| options.is_none());
    let request = request(config, (&archive, &scope), asked, options, found).await?;
    let digest = digest(asked, options.as_ref(), &request);
    let begun = match begun {
        None => Begun::new(digest, asked.query.is_some(), &request),
        Some(begun) if begun.asked == digest => begun,
        Some(_) => anyhow::bail!(
            "the destination has an export that was cut short, of something else or in another way than \
             what is asked for now (or the query finds something else, or the key of pseudonyms is \
             another one)"
        ),
    };
    let named = request.resources.iter().take(NAMED);
    let named: Vec<String> = named.map(|resource| exchange::path_of(resource)).collect();
    let is_deidentified = request.deidentify.is_some();
    let of = TransferOf { place: &asked.destination, resources: &named, is_deidentified };
    archive.note_transfer(&scope, of).await?;
    let at_once = asked.at_once.unwrap_or(config.export.at_once);
    let limits = (config.limits.clone(), at_once);
    let mut export = Standalone::new((archive, scope), limits, place, (begun, request)).await?;
    let mut progress = Progress::default();
    let before = export.results();
    let ended = loop {
        match export.step().await {
            Ok(true) => progress.show(&line(&export, &before, progress.seconds())),
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    progress.end(&line(&export, &before, progress.seconds()), &BTreeMap::new());
    ended.map_err(|error| match error.can_go_on() {
        true => anyhow::Error::new(error).context("the export was cut short; repeated, it goes on"),
        false => error.into(),
    })?;
    let Exported { failed, refused, skipped, .. } = export.results();
    Ok(failed + refused + skipped == 0)
}

/// Tells what was asked for, and how, from other things; and what of a de-identified export was found
/// from other things, without telling what that is.
fn digest(asked: &ExportAsked, options: Option<&Options>, request: &ExportRequest) -> String {
    let ExportAsked { resources, query, level, partition, .. } = asked;
    let ExportRequest { layout, dicomdir, deidentify, .. } = request;
    let hidden = deidentify.as_ref().map(|deidentify| (&deidentify.key, &request.resources));
    let how = (layout, dicomdir, options, hidden);
    let text = format!("{:?}", (resources, query, level, partition, how));
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be exported; `begun` is what the query found when the export was begun.
async fn request(
    config: &Config,
    (archive, scope): (&Archive, &PartitionScope),
    asked: &ExportAsked,
    options: Option<Options>,
    begun: Option<Vec<String>>,
) -> anyhow::Result<ExportRequest> {
    let resources = match (&asked.query, begun) {
        (Some(_), Some(begun)) => begun,
        (Some(query), None) => found(config, archive, scope, &asked.level, query).await?,
        (None, _) => {
            let wrong = asked.resources.iter().position(|text| !exchange::is_resource(text));
            if let Some(wrong) = wrong {
                let wrong = wrong + 1;
                anyhow::bail!(
                    "number {wrong} of UIDS is not made of one to three UIDs and slashes"
                );
            }
            asked.resources.clone()
        }
    };
    let layout = Layout::named(&asked.layout).context("there is no such layout")?;
    let dicomdir = layout == Layout::Dicom && asked.dicomdir;
    let deidentify = match options {
        Some(options) => {
            let profile = archive.deidentification_with(scope, options).await?;
            Some(Deidentify::by(&profile))
        }
        None => None,
    };
    Ok(ExportRequest::new(resources, String::new(), (layout, dicomdir), deidentify))
}

async fn found(
    config: &Config,
    archive: &Archive,
    scope: &PartitionScope,
    level: &str,
    query: &str,
) -> anyhow::Result<Vec<String>> {
    let level = query::level_of(level).context("there is no such level")?;
    let scope: &Scope = scope;
    let tags = archive.search_tags(scope).await?;
    let read = query::read_whole(level, query, &config.search, &tags);
    let read = read.map_err(|error| match &*error.field {
        "" => anyhow::anyhow!("the query {}", error.reason),
        field => anyhow::anyhow!("the query: {field}: {}", error.reason),
    })?;
    let most = config.export.max_resources;
    match archive.found_resources(scope, read.plan, read.filters, most as usize).await {
        Ok(found) => Ok(found),
        Err(TooMany::Found) => anyhow::bail!(
            "the query finds more than export.max_resources ({most}): ask for less, or for studies"
        ),
        Err(TooMany::Archive(error)) => Err(error).context("the query cannot be answered"),
    }
}

/// What the argument names. A folder is made where its parent is there: one that is made where a
/// volume was to be mounted would fill the wrong disk.
fn place(text: &str) -> anyhow::Result<Place> {
    let config = match named_place::bucket(text) {
        Some((config, prefix)) => BlobConfig { prefix, ..config },
        None => {
            let path = Path::new(text);
            if !path.is_dir() {
                let made = std::fs::create_dir(path);
                made.with_context(|| format!("cannot make the folder {text}"))?;
            }
            let dir = path.canonicalize().with_context(|| format!("cannot use {text}"))?;
            BlobConfig { kind: BlobKind::Local, dir: Some(dir), ..BlobConfig::default() }
        }
    };
    Place::open(&config).with_context(|| format!("cannot use {text}"))
}

fn line(export: &Standalone, before: &Exported, seconds: f64) -> String {
    let now = export.results();
    let Exported { exported, skipped, refused, failed, bytes, .. } = now;
    let total = export.total();
    let (files, done) = (exported - before.exported, bytes - before.bytes);
    format!(
        "{exported} of {total} instances exported, {refused} refused, {failed} failed, {skipped} \
         resources not there; {}",
        speed(files, done, seconds),
    )
}
