//! A private Postgres: found, created, started, kept alive, recovered and stopped.
//!
//! Owns `<data dir>/pg`: the cluster (`data/`), its socket (`run/`), the owner's password, the log,
//! and the lock that one server process holds on all of it. A thread that lives as long as
//! [`Embedded`] starts the postmaster, because the signal that ends it when we die is tied to the
//! thread that started it; the same thread restarts it when it dies while we live.
//!
//! Invariants: listens on a Unix socket only; `fsync`, full page writes and data checksums are on;
//! never two servers on one folder; as root the programs run as an account without privileges, and
//! root neither writes to nor follows links in a folder of that account. `data/` appears by a
//! rename when `initdb` is through, so a cluster that is there is whole and is never wiped.
//!
//! Absent: schema, roles but the owner, backups, upgrades from one major version to the next.

mod account;
mod attach;
mod cluster;
mod fetch;
mod find;
mod leftovers;
mod log;
mod place;
mod settings;
mod supervisor;
#[cfg(test)]
mod tests;
mod tether;

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

pub use attach::{Attached, exists};

use supervisor::Event;

/// Oldest major version that the server works with.
pub const OLDEST_MAJOR: u32 = 14;

/// The role that owns the cluster, and with it the schema.
pub const OWNER: &str = "collimator_owner";

/// The database that holds the index.
pub const DATABASE: &str = "collimator";

/// Connections that the private Postgres accepts.
pub const MAX_CONNECTIONS: u32 = 200;

/// The port names the socket file; nothing listens on it.
const PORT: u16 = 5432;

/// Why the private Postgres did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process holds the folder.
    #[error("{} is in use by another running server", state.display())]
    InUse {
        /// `<data dir>/pg`.
        state: PathBuf,
    },
    /// A file or folder cannot be made, read or changed.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Running as root, and there is no account to run Postgres as.
    #[error(
        "Postgres does not run as root, and there is neither an account \"postgres\" nor \"nobody\""
    )]
    NoAccount,
    /// Running as root on a folder that is somebody else's.
    #[error(
        "{} belongs to user {uid}, not to root: run the server as that user",
        folder.display()
    )]
    NotRoots {
        /// `<data dir>/pg`.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The account cannot reach a folder.
    #[error(
        "{} cannot be entered by the account {account}, which runs Postgres: choose another place or allow it (chmod o+x)",
        folder.display()
    )]
    Unsearchable {
        /// The outermost folder that cannot be entered.
        folder: PathBuf,
        /// The account.
        account: String,
    },
    /// `database.postgres_bin` holds no usable Postgres.
    #[error("database.postgres_bin: {} {what}", folder.display())]
    Configured {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing is installed and nothing could be fetched.
    #[error(
        "no PostgreSQL {wanted} found, and fetching one failed ({reason}): install it ({install}), name its folder in database.postgres_bin, or set database.url"
    )]
    NotFound {
        /// Which version is needed.
        wanted: String,
        /// Why fetching failed.
        reason: String,
        /// Commands that install it.
        install: String,
    },
    /// `data/` is no cluster.
    #[error("{} is not a Postgres data folder of this server; move it away", path.display())]
    NotACluster {
        /// `<data dir>/pg/data`.
        path: PathBuf,
    },
    /// The password file is gone or damaged while the cluster exists.
    #[error("{} is missing or empty; restore it", path.display())]
    PasswordLost {
        /// The file.
        path: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed: {said}")]
    Initdb {
        /// Its last words.
        said: String,
    },
    /// A process of an earlier run does not end.
    #[error("process {pid} of an earlier Postgres on this folder does not end")]
    Leftover {
        /// Its id.
        pid: u32,
    },
    /// The postmaster ended before it was ready.
    #[error("Postgres did not start: {said}")]
    Exited {
        /// Its last words.
        said: String,
    },
    /// The postmaster runs but does not serve.
    #[error("the private Postgres does not accept its owner")]
    Connect(#[source] sqlx::Error),
    /// The thread that starts and watches Postgres could not run.
    #[error("the thread that runs Postgres failed")]
    Thread,
}

/// A running private Postgres. Dropping it stops it as [`Embedded::stop`] does.
pub struct Embedded {
    events: mpsc::Sender<Event>,
    supervisor: Option<JoinHandle<()>>,
    connection: Connection,
    version: u32,
}

/// How to reach the cluster.
#[derive(Clone)]
pub(crate) struct Connection {
    socket_dir: PathBuf,
    password: String,
}

impl Connection {
    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .port(PORT)
            .username(OWNER)
            .password(&self.password)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name("collimator")
    }
}

impl Embedded {
    /// Starts the Postgres of a data folder, creating it the first time. `bin` is the folder of the
    /// programs, where configuration names one. Blocks: half a second to some seconds the first
    /// time, a tenth of a second later, longer after a crash of a busy database.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing keeps running after an error.
    pub fn start(data_dir: &Path, bin: Option<&Path>) -> Result<Self, StartError> {
        Self::start_with(data_dir, bin, find::Places::usual())
    }

    fn start_with(
        data_dir: &Path,
        bin: Option<&Path>,
        places: find::Places,
    ) -> Result<Self, StartError> {
        let (events, inbox) = mpsc::channel();
        let (answer, started) = mpsc::sync_channel(1);
        let wanted = supervisor::Wanted {
            data_dir: std::path::absolute(data_dir).map_err(|source| StartError::File {
                path: data_dir.to_owned(),
                what: "no absolute path",
                source,
            })?,
            bin: bin.map(Path::to_owned),
            places,
        };
        let sender = events.clone();
        let supervisor = std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || supervisor::run(wanted, (sender, inbox), answer))
            .map_err(|_| StartError::Thread)?;
        match started.recv() {
            Ok(Ok((connection, version))) => {
                Ok(Self { events, supervisor: Some(supervisor), connection, version })
            }
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(StartError::Thread),
        }
    }

    /// How the owner connects: role [`OWNER`], database [`DATABASE`]. Replace user name and password
    /// for another role. Valid in this process, while this value lives.
    pub fn owner_options(&self) -> PgConnectOptions {
        self.connection.options(DATABASE)
    }

    /// The folder of the socket, as this process reaches it.
    pub fn socket_dir(&self) -> &Path {
        &self.connection.socket_dir
    }

    /// Major version of the running Postgres.
    pub fn major_version(&self) -> u32 {
        self.version
    }

    /// Stops Postgres: connections are cut, everything is written, and the processes are gone when
    /// this returns. Blocks, mostly for well under a second; a server that does not end within 20
    /// seconds is ended without its final checkpoint, which the next start makes up for.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // Either fails only if the thread is gone, and then so is its postmaster.
            let _ = self.events.send(Event::Stop);
            let _ = supervisor.join();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("socket_dir", &self.connection.socket_dir)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Turns an I/O error into [`StartError::File`].
fn file_error<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> StartError + 'a {
    move |source| StartError::File { path: path.to_owned(), what, source }
}
