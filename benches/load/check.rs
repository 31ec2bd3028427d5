//! The command `check`: every workload a few times against our own server, for correctness. No time
//! is asserted.

use std::sync::Arc;

use crate::{
    drive::{self, Pace},
    options::Material,
    peers::{Peer, Programs},
    results::{HEAD, Results},
    sizes::Sizes,
    soak, workloads,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Time of a soak at the end; none, if not given
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let running = Peer::Collimator.start(programs)?;
    let site = Arc::new(running.site("collimator", material.corpus_of(&Sizes::TINY)));
    let closed = Pace { connections: 1, rate: None, seconds: 60.0, requests: Some(3) };
    let paces = [
        closed,
        Pace { connections: 4, requests: Some(12), ..closed },
        Pace { connections: 4, rate: Some(20.0), seconds: 0.5, requests: None },
    ];
    let mut results = Results::default();
    println!("{HEAD}");
    for workload in workloads::all() {
        for pace in paces {
            let run = drive::measure(&site, workload, pace)?
                .ok_or_else(|| anyhow::anyhow!("{} is not offered", workload.name))?;
            println!("{}", run.row());
            anyhow::ensure!(run.requests + run.errors > 0, "{}: nothing sent", workload.name);
            results.runs.push(run);
        }
    }
    results.sound()?;
    if arguments.minutes > 0.0 {
        println!();
        soak::short_soak(&site, arguments.minutes)?;
    }
    println!("\neverything was answered as expected");
    Ok(())
}
