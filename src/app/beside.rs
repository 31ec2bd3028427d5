//! What a command does with the database of an archive that is there, beside whoever serves it.
//!
//! Holds: the archive is neither migrated nor claimed; a Postgres of ours that did not run is stopped
//! again.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::{
    blob_folder, choose_cryptography,
    database::{Database, as_app, db_options, options},
    signals::Signals,
};
use crate::{
    blob::BlobStore,
    config::Config,
    index::{self, Db, DbOptions},
};

/// Connections to the database: those of servers are not to run short of them.
const CONNECTIONS: u32 = 4;
/// Time between two tries to reach a database that is starting.
const AGAIN: Duration = Duration::from_millis(100);

/// Has something done with the database, until it is done or a signal comes.
///
/// # Errors
/// Whatever keeps the database from being used; the signal; those of `work`.
pub(super) fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Db) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    choose_cryptography();
    let database = Database::find(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let work = async {
            let db = open(config, &database).await?;
            let done = work(&db).await;
            db.close().await;
            done
        };
        tokio::select! {
            done = work => done,
            signal = signals.next() => anyhow::bail!("stopped by {signal} before the end"),
        }
    });
    drop(runtime);
    database.stop();
    done
}

/// Opens the database as the log-in that serves, without migrations.
async fn open(config: &Config, database: &Database) -> anyhow::Result<Db> {
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

/// The store of an archive that has been served before.
///
/// # Errors
/// Where there is none, or another one's.
pub(super) async fn blobs(config: &Config, db: &Db) -> anyhow::Result<BlobStore> {
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
