//! Which Postgres a run uses, and as whom.
//!
//! Holds: no error repeats a connection URL, which may have a password in it.

use std::str::FromStr;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;

use crate::{
    config::{Config, DatabaseConfig, SearchConfig, Secret},
    index::{self, AppLogin, DbOptions},
    postgres::{self, Attached, Embedded, StartError},
};

/// The Postgres of this run: somebody's, our own, or that of a server that runs.
pub(super) enum Database {
    Given(Secret),
    Private(Box<Embedded>),
    Attached(Attached),
}

impl Database {
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.database.url {
            return Ok(Self::Given(url.clone()));
        }
        std::fs::create_dir_all(&config.data.dir).with_context(|| {
            format!("cannot make the data folder {}", config.data.dir.display())
        })?;
        let bin = config.database.postgres_bin.as_deref();
        let embedded = Embedded::start(&config.data.dir, bin)
            .context("the private Postgres cannot be started")?;
        Ok(Self::Private(Box::new(embedded)))
    }

    /// The Postgres of an archive that is there: one that runs is used as it is.
    pub(super) fn find(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.data.dir;
        if config.database.url.is_none() && !postgres::exists(dir) {
            anyhow::bail!("there is no archive in {} (data.dir, database.url)", dir.display());
        }
        match Self::open(config) {
            Err(error) if matches!(error.downcast_ref(), Some(StartError::InUse { .. })) => {
                Ok(Self::Attached(Attached::find(dir)?))
            }
            other => other,
        }
    }

    pub(super) fn owner(&self) -> anyhow::Result<PgConnectOptions> {
        match self {
            Self::Given(url) => options("database.url", url),
            Self::Private(embedded) => Ok(embedded.owner_options()),
            Self::Attached(attached) => Ok(attached.owner_options()),
        }
    }

    pub(super) fn stop(self) {
        if let Self::Private(embedded) = self {
            embedded.stop();
        }
    }
}

/// A connection URL of the configuration.
pub(super) fn options(key: &str, url: &Secret) -> anyhow::Result<PgConnectOptions> {
    // The error of sqlx could repeat the URL, and with it the password.
    PgConnectOptions::from_str(url.expose())
        .map_err(|_| anyhow::anyhow!("{key} is not a connection URL of Postgres"))
}

/// What `[database]` and `[search]` say of connections.
pub(super) fn db_options(config: &DatabaseConfig, search: &SearchConfig) -> DbOptions {
    DbOptions {
        max_connections: config.max_connections,
        connect_timeout: config.connect_timeout,
        statement_timeout: config.statement_timeout,
        prepared_statements: config.prepared_statements,
        search_timeout: search.timeout,
        partition_share: config.partition_share,
    }
}

/// The log-in that serves requests, after the migrations where they are to run.
pub(super) async fn login(
    config: &DatabaseConfig,
    owner: PgConnectOptions,
) -> anyhow::Result<PgConnectOptions> {
    let failed = "the database cannot be migrated";
    if let Some(url) = &config.app_url {
        let app = options("database.app_url", url)?;
        if config.migrate_on_start {
            index::migrate_for(owner, app.get_username()).await.context(failed)?;
        }
        return Ok(app);
    }
    let login = if config.migrate_on_start {
        index::migrate(owner.clone()).await.context(failed)?
    } else {
        index::app_login(owner.clone()).await.context("the database cannot be used")?
    };
    Ok(as_app(owner, &login))
}

/// The log-in that serves, of a database whose owner is known.
pub(super) fn as_app(owner: PgConnectOptions, login: &AppLogin) -> PgConnectOptions {
    owner.username(&login.role).password(&login.password)
}
