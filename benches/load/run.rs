//! The command `run`: workloads against servers, one after the other, as a table.

use crate::{
    drive,
    options::{Material, Measured, Measuring},
    peers::Programs,
    results::{HEAD, Results},
    workloads,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Base URLs of DICOMweb services that run already
    urls: Vec<String>,
    /// What to start and measure
    #[arg(long)]
    start: Vec<String>,
    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let Arguments { urls, start, measuring } = arguments;
    let chosen = workloads::chosen(&measuring.only)?;
    anyhow::ensure!(!urls.is_empty() || !start.is_empty(), "neither a URL nor --start");
    let mut results = Results::default();
    println!("{HEAD}");
    for name in urls.iter().chain(start) {
        let measured = Measured::named(name, programs, material, &measuring.pid)?;
        for workload in &chosen {
            for pace in measuring.paces() {
                match drive::measure(&measured.site, workload, pace)? {
                    Some(run) => {
                        println!("{}", run.row());
                        results.runs.push(run);
                    }
                    None => println!("| {name} | {} | not offered |", workload.name),
                }
            }
        }
    }
    results.finish(measuring.json.as_deref())
}
