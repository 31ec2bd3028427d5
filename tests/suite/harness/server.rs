//! A server in this process with a database and a blob folder of its own.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use collimator::{
    app,
    archive::Archive,
    blob::BlobStore,
    config::{Config, Sources, variable_of},
    control::{Access, By, KeySettings, Keys, SecretHash},
    identity::api_key::{self, NewSecret},
    index::{Db, DbOptions, migrate},
    tenancy::{Circumstances, Permissions, Principal},
};
use sqlx::{ConnectOptions, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{client::Client, postgres};

/// How long a condition may take to come true, on a slow machine that does much else.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// The file of the configuration, where there is one in the folder of a server.
const FILE: &str = "collimator.toml";

/// Turns partitions on.
pub const PARTITIONS: [(&str, &str); 1] = [("features.enable_data_partition", "true")];

/// A running server. Requests go through the [`Client`] that it dereferences to.
pub struct Server {
    client: Client,
    app: app::Server,
    database: String,
    dir: Arc<TempDir>,
}

impl Server {
    /// A server with nothing configured but where it lies.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with settings, `("section.key", value)`.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(postgres::migrated().await, Arc::new(dir), settings).await
    }

    /// A server with settings, and with what only a file can hold.
    pub async fn with_file(file: &str, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), file).unwrap();
        Self::on(postgres::migrated().await, Arc::new(dir), settings).await
    }

    async fn on(database: String, dir: Arc<TempDir>, settings: &[(&str, &str)]) -> Self {
        let config = config(dir.path(), settings);
        let app = app::Server::start(&config, postgres::owner(&database)).await.unwrap();
        let scheme = if config.tls.is_on() { "https" } else { "http" };
        let client = Client::new(format!("{scheme}://{}", app.address()));
        Self { client, app, database, dir }
    }

    /// Stops the server and starts one on the same data.
    pub async fn restart(self, settings: &[(&str, &str)]) -> Self {
        self.app.stop().await;
        Self::on(self.database, self.dir, settings).await
    }

    /// Stops the server and starts one on the same data, with what only a file can hold.
    pub async fn restart_with(self, file: &str, settings: &[(&str, &str)]) -> Self {
        std::fs::write(self.dir.path().join(FILE), file).unwrap();
        self.restart(settings).await
    }

    /// A second server on the same data.
    pub async fn beside(&self, settings: &[(&str, &str)]) -> Self {
        Self::on(self.database.clone(), self.dir.clone(), settings).await
    }

    /// Why a second server on the same data does not start.
    pub async fn refusal(&self, settings: &[(&str, &str)]) -> String {
        let config = config(self.dir.path(), settings);
        let owner = postgres::owner(&self.database);
        match app::Server::start(&config, owner).await {
            Ok(_) => panic!("the server started"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// The database of the server, as it sees it itself, and its blobs.
    pub async fn parts(&self) -> (Db, BlobStore) {
        let login = migrate(postgres::owner(&self.database)).await.unwrap();
        let app = postgres::login_options(&self.database, &login);
        let db = Db::open(app, DbOptions::default()).await.unwrap();
        (db, BlobStore::open(&config(self.dir.path(), &[]).blob, self.dir.path()).unwrap())
    }

    /// Where its DIMSE gateway listens, if it has one.
    pub fn dimse_address(&self) -> Option<std::net::SocketAddr> {
        self.app.dimse_address()
    }

    /// Stops the server.
    pub async fn stop(self) {
        self.app.stop().await;
    }

    /// A first API key of a partition, which has a role.
    pub async fn key(&self, partition: &str, role: &str) -> String {
        let (db, _) = self.parts().await;
        let config = config(self.dir.path(), &[]).auth;
        let keys = Keys::new(db.clone(), Access::new(db, &config), &config);
        let (id, secret) = (Uuid::new_v4(), NewSecret::generate());
        let settings = KeySettings {
            name: role.to_owned(),
            roles: vec![role.into()],
            permissions: Permissions::NONE,
            expires_at: None,
            is_disabled: false,
        };
        let (scope, around) = (postgres::scope(partition), Circumstances::default());
        let who = &Principal::Anonymous;
        let by = By { scope: &scope, who, around: &around, insists: false, name: None };
        let kept = (&*api_key::prefix(id), SecretHash(secret.hash()));
        keys.add(&by, id, &settings, kept).await.unwrap();
        secret.shown(scope.partition(), id)
    }

    /// The data plane on the same data, without transport.
    pub async fn archive(&self) -> Archive {
        let (db, blobs) = self.parts().await;
        Archive::new(db, blobs, &config(self.dir.path(), &[]))
    }

    /// A connection as the superuser: sees everything.
    pub async fn superuser(&self) -> PgConnection {
        postgres::owner(&self.database).connect().await.unwrap()
    }

    /// One number from the database, of all partitions.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.superuser().await).await.unwrap()
    }

    /// The files under a partition's blob folder.
    pub fn blobs(&self, partition: &str) -> BTreeSet<PathBuf> {
        blobs(self.dir.path(), partition)
    }
}

/// The files of a partition's blobs in a data folder.
pub fn blobs(data: &Path, partition: &str) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    walk(&data.join("blobs").join(partition), &mut files);
    files
}

impl Deref for Server {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A configuration for tests: port 0, a folder, few connections, and settings.
pub fn config(dir: &Path, settings: &[(&str, &str)]) -> Config {
    // Tests fail on purpose, all from one address; those that are about that set it themselves.
    let own = [("database.max_connections", "6"), ("auth.failures", "1000000")];
    let mut environment: Vec<(OsString, OsString)> =
        own.map(|(key, value)| (variable_of(key).into(), value.into())).to_vec();
    environment.extend(settings.iter().map(|(key, value)| (variable_of(key).into(), value.into())));
    let file = dir.join(FILE);
    let sources = Sources {
        file: file.exists().then_some(file),
        environment,
        flags: vec![
            ("server.listen", "--listen", "127.0.0.1:0".to_owned()),
            ("data.dir", "--data-dir", dir.display().to_string()),
        ],
    };
    Config::load(&sources).unwrap()
}

fn walk(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            _ => _ = files.insert(entry.path()),
        }
    }
}

/// Waits until a condition is true.
///
/// # Panics
/// When it is not in time.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
