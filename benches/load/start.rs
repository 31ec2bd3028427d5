//! The command `start`: how long our server takes to get ready, the first time and with data, what
//! it takes when nothing is asked of it, and how large its program is.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use crate::{
    compare::short,
    options::Material,
    peers::{self, Peer, Programs},
    processes::used,
};

/// Time after which a server is idle.
const SETTLED: Duration = Duration::from_secs(3);
const MIB: f64 = (1 << 20) as f64;

#[derive(clap::Args)]
pub struct Arguments {
    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One start, and one more on the data that it left.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Start {
    pub first_seconds: f64,
    pub again_seconds: f64,
    /// The idle server, without its database.
    pub server_mib: f64,
    pub database_mib: f64,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    println!("| first start s | with data s | idle server MiB | its database MiB |");
    println!("| ---: | ---: | ---: | ---: |");
    let mut starts = Vec::new();
    for _ in 0..arguments.rounds {
        let start = measure(programs, material)?;
        starts.push(start);
        println!(
            "| {:.2} | {:.2} | {} | {} |",
            start.first_seconds,
            start.again_seconds,
            short(start.server_mib),
            short(start.database_mib),
        );
    }
    let size = std::fs::metadata(&programs.binary)
        .with_context(|| programs.binary.display().to_string())?
        .len();
    println!("\n{}: {} MB", programs.binary.display(), short(size as f64 / 1e6));
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&starts)?)?;
    }
    Ok(())
}

/// Starts a server on nothing, stores a study, and starts it once more.
pub fn measure(programs: &Programs, material: &Material) -> anyhow::Result<Start> {
    let begun = Instant::now();
    let running = Peer::Collimator.start(programs)?;
    let first_seconds = begun.elapsed().as_secs_f64();
    let site = running.site("collimator", material.corpus());
    let ids = site.corpus.ids(1, site.corpus.sizes.study);
    site.store(&mut site.connection(), &site.corpus.small, &ids)?;
    let folder = running.stop();
    let begun = Instant::now();
    let running = peers::again(programs, folder)?;
    let again_seconds = begun.elapsed().as_secs_f64();
    std::thread::sleep(SETTLED);
    let idle = used(&running.groups);
    let mib = |place: usize| idle.get(place).map_or(0.0, |used| used.memory as f64 / MIB);
    Ok(Start { first_seconds, again_seconds, server_mib: mib(0), database_mib: mib(1) })
}
