//! The server that is measured: the release binary on a folder that was filled.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use crate::{fill, population::Population};

pub struct Server {
    child: Child,
    pub base: String,
}

impl Server {
    /// A server on `folder`, which is filled with the population unless it was before.
    pub fn filled(folder: &Path, population: Population) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let done = folder.join("filled");
        if !done.exists() {
            fill::folder(folder, population)?;
            fs::write(&done, "")?;
        }
        Self::start(folder)
    }

    fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_collimator"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .env("COLLIMATOR__FEATURES__ENABLE_DATA_PARTITION", "true")
            // There are no blobs to be looked at.
            .env("COLLIMATOR__SCRUB__INTERVAL", "0s")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()
            .context("the server did not start")?;
        let greeting = child.stdout.take().context("no standard output")?;
        for line in BufReader::new(greeting).lines() {
            if let Some(base) = line?.trim().strip_prefix("DICOMweb") {
                return Ok(Self { child, base: base.trim().to_owned() });
            }
        }
        anyhow::bail!("the server ended: see {}", folder.join("log").display())
    }

    /// Stops it as an operator would.
    pub fn stop(mut self) -> anyhow::Result<()> {
        // SAFETY: a signal to a child that was not waited for, so that its pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
