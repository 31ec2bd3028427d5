//! `collimator verify`: an archive that is there is opened, beside whoever serves it, and looked
//! through.
//!
//! Holds: the archive is neither migrated nor claimed, nor changed in any way. Absent: what is looked
//! at (`verify`).

use anyhow::Context;

use super::{beside::with_database, blob_folder};
use crate::{
    blob::BlobStore,
    config::{Config, LogFormat},
    index::Db,
    telemetry,
    verify::{self, Asked, Report},
};

/// `collimator verify`: holds rows, blobs and change feeds against each other, and changes nothing.
/// Says whether nothing was wrong.
///
/// # Errors
/// Whatever kept it from looking at everything.
pub fn verify(config: Config, asked: Asked) -> anyhow::Result<bool> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let lines: Option<verify::Output> = match &asked.report {
        Some(path) => {
            let made = std::fs::File::create(path);
            Some(Box::new(made.with_context(|| format!("cannot write {}", path.display()))?))
        }
        None if asked.json => Some(Box::new(std::io::stdout())),
        None => None,
    };
    let text: Option<verify::Output> =
        if asked.json { None } else { Some(Box::new(std::io::stdout())) };
    with_database(&config, async |db| {
        look_through(&config, db, &asked, Report::new(text, lines)).await
    })
}

/// Looks through what is there.
async fn look_through(
    config: &Config,
    db: &Db,
    asked: &Asked,
    report: Report,
) -> anyhow::Result<bool> {
    if let Some(dir) = blob_folder(config).filter(|dir| !dir.is_dir()) {
        anyhow::bail!("there is no folder of blobs at {}", dir.display());
    }
    let blobs = BlobStore::open(&config.blob, &config.data.dir)
        .context("the blob store cannot be opened")?;
    Ok(verify::archive(db, &blobs, asked, config.sweep.orphan_grace, report).await?)
}
