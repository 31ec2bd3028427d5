//! `collimator verify`: an archive that is there is opened, beside whoever serves it, and looked
//! through.
//!
//! Holds: the archive is neither migrated nor claimed, nor changed in any way. Absent: what is looked
//! at (`verify`).

use std::time::{Duration, Instant};

use anyhow::Context;

use super::{
    blob_folder, choose_cryptography,
    database::{Database, as_app, db_options, options},
    signals::Signals,
};
use crate::{
    blob::BlobStore,
    config::{Config, LogFormat},
    index::{self, Db, DbOptions},
    telemetry,
    verify::{self, Asked, Report},
};

/// Connections to the database: those of servers are not to run short of them.
const CONNECTIONS: u32 = 4;
/// Time between two tries to reach a database that is starting.
const AGAIN: Duration = Duration::from_millis(100);

/// `collimator verify`: holds rows, blobs and change feeds against each other, and changes nothing.
/// Says whether nothing was wrong.
///
/// # Errors
/// Whatever kept it from looking at everything.
pub fn verify(config: Config, asked: Asked) -> anyhow::Result<bool> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    choose_cryptography();
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
    let database = Database::find(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verified = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            verified = look_through(&config, &database, &asked, Report::new(text, lines)) => verified,
            signal = signals.next() => anyhow::bail!("stopped by {signal} before the end"),
        }
    });
    drop(runtime);
    database.stop();
    verified
}

/// Opens what is there, and looks through it.
async fn look_through(
    config: &Config,
    database: &Database,
    asked: &Asked,
    report: Report,
) -> anyhow::Result<bool> {
    let db = open(config, database).await?;
    if let Some(dir) = blob_folder(config).filter(|dir| !dir.is_dir()) {
        anyhow::bail!("there is no folder of blobs at {}", dir.display());
    }
    let blobs = BlobStore::open(&config.blob, &config.data.dir)
        .context("the blob store cannot be opened")?;
    let verified = verify::archive(&db, &blobs, asked, config.sweep.orphan_grace, report).await;
    db.close().await;
    Ok(verified?)
}

/// Opens the database as the log-in that serves, without migrations.
pub(super) async fn open(config: &Config, database: &Database) -> anyhow::Result<Db> {
    let db_options = DbOptions {
        max_connections: config.database.max_connections.min(CONNECTIONS),
        ..db_options(&config.database, &config.search)
    };
    let (login, is_owner) = match &config.database.app_url {
        Some(url) => (options("database.app_url", url)?, false),
        None => (database.owner()?, true),
    };
    // The server whose Postgres it is may be starting just now.
    let until = Instant::now() + config.database.connect_timeout;
    loop {
        let opened = async {
            let app = match is_owner {
                true => as_app(login.clone(), &index::app_login(login.clone()).await?),
                false => login.clone(),
            };
            Db::open(app, db_options).await
        };
        match opened.await {
            Err(error) if error.is_unavailable() && Instant::now() < until => {
                tokio::time::sleep(AGAIN).await;
            }
            opened => return opened.context("the database cannot be used"),
        }
    }
}
