//! Servers that are started to be measured: ours and others, each on data of its own, on loopback,
//! on a port that the kernel chose, and stopped with the value.

mod collimator;
mod nginx;
mod orthanc;

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::collimator::postgres::Embedded;
use anyhow::{Context, bail};
use clap::ValueEnum;
use tempfile::TempDir;

pub use self::collimator::start as again;
use crate::{
    corpus::Corpus,
    http::{Base, Connection, Keep},
    processes::Group,
    site::{Manner, Site},
};

/// Time that a server has to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This server, with its private Postgres
    Collimator,
    /// Orthanc with its index in SQLite
    OrthancSqlite,
    /// Orthanc with its index in a Postgres that is set as ours
    OrthancPostgresql,
    /// nginx, which has the same bytes as files
    Nginx,
}

/// Where programs are, and where their data goes.
#[derive(clap::Args, Clone, Debug)]
pub struct Programs {
    /// The server to start
    #[arg(long, default_value = env!("CARGO_BIN_EXE_collimator"), global = true)]
    pub binary: PathBuf,
    /// Orthanc (Debian: orthanc, with orthanc-dicomweb and orthanc-postgresql)
    #[arg(long, default_value = "Orthanc", global = true)]
    pub orthanc: PathBuf,
    /// Where Orthanc's plugins are
    #[arg(long, default_value = "/usr/share/orthanc/plugins", global = true)]
    pub orthanc_plugins: PathBuf,
    /// nginx (Debian: nginx-light)
    #[arg(long, default_value = "nginx", global = true)]
    pub nginx: PathBuf,
    /// Where servers keep their data
    #[arg(long, default_value = "target/bench", global = true)]
    pub folder: PathBuf,
    /// Leave the data behind
    #[arg(long, global = true)]
    pub keep: bool,
}

/// A server that runs. Ends with the value, and its data with it.
pub struct Running {
    pub base: Base,
    pub manner: Manner,
    pub groups: Vec<Group>,
    // In this order: the server, its database, their data.
    _child: Process,
    _database: Option<Embedded>,
    folder: Folder,
}

/// A child that is stopped, waited for, and if need be killed.
pub struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

/// A folder of its own, removed unless it is to be kept.
pub struct Folder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Collimator => "collimator",
            Self::OrthancSqlite => "orthanc-sqlite",
            Self::OrthancPostgresql => "orthanc-postgresql",
            Self::Nginx => "nginx",
        }
    }

    pub fn start(self, programs: &Programs) -> anyhow::Result<Running> {
        let folder = Folder::new(programs, self.name())?;
        let running = match self {
            Self::Collimator => collimator::start(programs, folder),
            Self::OrthancSqlite => orthanc::start(programs, folder, orthanc::Index::Sqlite),
            Self::OrthancPostgresql => orthanc::start(programs, folder, orthanc::Index::Postgresql),
            Self::Nginx => nginx::start(programs, folder),
        };
        running.with_context(|| format!("{} cannot be started", self.name()))
    }
}

impl Running {
    /// What load is sent to.
    pub fn site(&self, name: &str, corpus: Corpus) -> Site {
        let base = self.base.clone();
        Site::new(name, base, self.manner.clone(), self.groups.clone(), corpus)
    }

    /// A partition of our server.
    pub fn site_in(&self, name: &str, partition: &str, corpus: Corpus) -> Site {
        let base = Base { path: format!("/partitions/{partition}"), ..self.base.clone() };
        Site::new(name, base, self.manner.clone(), self.groups.clone(), corpus)
    }

    /// Stops it, and gives back its data.
    pub fn stop(self) -> Folder {
        self.folder
    }
}

impl Folder {
    fn new(programs: &Programs, name: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(&programs.folder)?;
        let within = fs::canonicalize(&programs.folder)?;
        let made = tempfile::Builder::new().prefix(&format!("load-{name}-")).tempdir_in(within)?;
        if programs.keep {
            let path = made.keep();
            eprintln!("{name}: data in {}", path.display());
            return Ok(Self { path, _temporary: None });
        }
        Ok(Self { path: made.path().to_owned(), _temporary: Some(made) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Process {
    /// Starts a program, which logs into a folder.
    fn start(
        name: &'static str,
        packages: &str,
        mut command: Command,
        folder: &Folder,
    ) -> anyhow::Result<Self> {
        let log = folder.path.join("log");
        let to = fs::File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stderr(to);
        let ends_with_us = || {
            // SAFETY: a plain call, allowed between fork and exec. A server must not outlive who
            // measures it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
            Ok(())
        };
        // SAFETY: the closure calls prctl and nothing else.
        unsafe { command.pre_exec(ends_with_us) };
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| {
            format!("{}: is it installed? (Debian: {packages})", program.display())
        })?;
        Ok(Self { child, name, log })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers a path, and makes sure that it is this child that does.
    fn ready(&mut self, base: &Base, path: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.lives()?;
            let answer = Connection::new(base).get(path, "*/*", Keep::Tail);
            if answer.is_ok_and(|answer| answer.status == 200) {
                return self.lives();
            }
            if begun.elapsed() > PATIENCE {
                bail!("{} did not get ready: {}", self.name, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn lives(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: a signal to a child that was not waited for, so that its pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that was free just now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
