//! The command `start`: how long our server takes to get ready, the first time and with data, what
//! it takes when nothing is asked of it, and how large its program is.

use std::time::{Duration, Instant};

use anyhow::Context;

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
}

/// One start, and one more on the data that it left.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub first: Duration,
    pub again: Duration,
    /// Bytes of the idle server, without its database.
    pub server: u64,
    pub database: u64,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    println!("| first start s | with data s | idle server MiB | its database MiB |");
    println!("| ---: | ---: | ---: | ---: |");
    for _ in 0..arguments.rounds {
        let start = measure(programs, material)?;
        println!(
            "| {:.2} | {:.2} | {} | {} |",
            start.first.as_secs_f64(),
            start.again.as_secs_f64(),
            short(start.server as f64 / MIB),
            short(start.database as f64 / MIB),
        );
    }
    let size = std::fs::metadata(&programs.binary)
        .with_context(|| programs.binary.display().to_string())?
        .len();
    println!("\n{}: {} MB", programs.binary.display(), short(size as f64 / 1e6));
    Ok(())
}

/// Starts a server on nothing, stores a study, and starts it once more.
pub fn measure(programs: &Programs, material: &Material) -> anyhow::Result<Start> {
    let begun = Instant::now();
    let running = Peer::Collimator.start(programs)?;
    let first = begun.elapsed();
    let site = running.site("collimator", material.corpus());
    let ids = site.corpus.ids(1, site.corpus.sizes.study);
    site.store(&mut site.connection(), &site.corpus.small, &ids)?;
    let folder = running.stop();
    let begun = Instant::now();
    let running = peers::again(programs, folder)?;
    let again = begun.elapsed();
    std::thread::sleep(SETTLED);
    let idle = used(&running.groups);
    let memory = |place: usize| idle.get(place).map_or(0, |used| used.memory);
    Ok(Start { first, again, server: memory(0), database: memory(1) })
}
