//! Our own server, with the private Postgres that it starts by itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
};

use anyhow::Context;

use super::{Folder, PATIENCE, Process, Programs, Running};
use crate::{http::Base, processes::Group, site::Manner};

/// A server on a folder, which may have been one's before.
pub fn start(programs: &Programs, folder: Folder) -> anyhow::Result<Running> {
    let mut command = Command::new(&programs.binary);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env("COLLIMATOR__FEATURES__ENABLE_DATA_PARTITION", "true")
        .stdout(Stdio::piped());
    let mut child = Process::start("collimator", "none; cargo build --release", command, &folder)?;
    let (tell, greeting) = mpsc::channel();
    let output = child.child.stdout.take().context("no standard output")?;
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(base) = line.trim().strip_prefix("DICOMweb") {
                let _ = tell.send(base.trim().to_owned());
            }
        }
    });
    let base = match greeting.recv_timeout(PATIENCE) {
        Ok(base) => base.parse::<Base>()?,
        Err(_) => anyhow::bail!("it did not get ready: {}", child.last_words()),
    };
    child.ready(&base, "/health/ready")?;
    let mut groups = vec![Group::tree("server", child.id())];
    groups.extend(database_of(folder.path()));
    // One partition, as a tenant has it.
    let base = Base { path: "/partitions/load".to_owned(), ..base };
    let manner = Manner::Dicomweb;
    Ok(Running { base, manner, groups, _child: child, _database: None, folder })
}

/// The private Postgres of a data folder.
pub fn database_of(folder: &Path) -> Option<Group> {
    let file = fs::read_to_string(folder.join("pg/data/postmaster.pid")).ok()?;
    let pid = file.lines().next()?.trim().parse().ok()?;
    Some(Group::tree("database", pid))
}
