//! A server in this process with a database and a blob folder of its own.

use std::{
    collections::BTreeSet,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use collimator::{
    app,
    archive::Archive,
    blob::BlobStore,
    config::{Config, Sources, variable_of},
    index::{Db, DbOptions, migrate},
};
use sqlx::{ConnectOptions, PgConnection};
use tempfile::TempDir;

use super::{client::Client, postgres};

/// How long a condition may take to come true, on a slow machine that does much else.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Turns partitions on.
pub const PARTITIONS: [(&str, &str); 1] = [("features.enable_data_partition", "true")];

/// A running server. Requests go through the [`Client`] that it dereferences to.
pub struct Server {
    client: Client,
    app: app::Server,
    database: String,
    dir: TempDir,
}

impl Server {
    /// A server with nothing configured but where it lies.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with settings, `("section.key", value)`.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(postgres::migrated().await, dir, settings).await
    }

    async fn on(database: String, dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let config = config(dir.path(), settings);
        let app = app::Server::start(&config, postgres::owner(&database)).await.unwrap();
        let client = Client::new(format!("http://{}", app.address()));
        Self { client, app, database, dir }
    }

    /// Stops the server and starts one on the same data.
    pub async fn restart(self, settings: &[(&str, &str)]) -> Self {
        self.app.stop().await;
        Self::on(self.database, self.dir, settings).await
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
        let mut files = BTreeSet::new();
        walk(&self.dir.path().join("blobs").join(partition), &mut files);
        files
    }
}

impl Deref for Server {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A configuration for tests: port 0, a folder, few connections, and settings.
pub fn config(dir: &Path, settings: &[(&str, &str)]) -> Config {
    let mut environment = vec![(variable_of("database.max_connections").into(), "6".into())];
    environment.extend(settings.iter().map(|(key, value)| (variable_of(key).into(), value.into())));
    let sources = Sources {
        file: None,
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
