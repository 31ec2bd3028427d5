//! Load on DICOMweb servers, over HTTP: how much they do, how fast, and what that costs.
//!
//!     cargo bench --bench load -- run --start collimator --start orthanc-sqlite
//!     cargo bench --bench load -- run http://127.0.0.1:8080 --only 'retrieve*' --connections 8
//!     cargo bench --bench load -- compare collimator orthanc-sqlite --rounds 5
//!
//! Everything that is stored is made on the spot from a seed, with UIDs of its own in each run. Any
//! answer that is not as expected is an error, and a run with errors fails. What is started here
//! runs on data of its own and is stopped at the end.

mod check;
mod compare;
mod corpus;
mod disk;
mod drive;
mod echo;
mod http;
mod mixed;
mod options;
mod peers;
mod processes;
mod results;
mod run;
mod site;
mod sizes;
mod soak;
mod start;
mod targets;
mod template;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Put load on DICOMweb servers
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    programs: peers::Programs,
    #[command(flatten)]
    material: options::Material,
    /// What cargo gives to every bench
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measure workloads against servers, one after the other
    Run(run::Arguments),
    /// Measure two servers by turns, or compare two files of figures
    Compare(compare::Arguments),
    /// Measure what the disk gives by itself
    Disk(disk::Arguments),
    /// Measure a search in one partition beside a store at full speed in another
    Mixed(mixed::Arguments),
    /// Put a mix of everything on a server for a long time, below its capacity
    Soak(soak::Arguments),
    /// Measure how our server starts, and what it takes when it is idle
    Start(start::Arguments),
    /// Measure all targets of load, ours and its peers by turns
    Targets(targets::Arguments),
    /// Send every kind of request a few times to our server, for correctness
    Check(check::Arguments),
    /// List the workloads
    Workloads,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Where no Postgres is installed, one is fetched for a peer's index.
    ::collimator::app::choose_cryptography();
    let Arguments { command, programs, material, .. } = arguments;
    match command {
        Command::Run(arguments) => run::run(&arguments, &programs, &material),
        Command::Compare(arguments) => compare::run(&arguments, &programs, &material),
        Command::Disk(arguments) => disk::run(&arguments, &programs, &material),
        Command::Mixed(arguments) => mixed::run(&arguments, &programs, &material),
        Command::Soak(arguments) => soak::run(&arguments, &programs, &material),
        Command::Start(arguments) => start::run(&arguments, &programs, &material),
        Command::Targets(arguments) => targets::run(&arguments, &programs, &material),
        Command::Check(arguments) => check::run(&arguments, &programs, &material),
        Command::Workloads => {
            for workload in workloads::all() {
                println!("{:<20} {}", workload.name, workload.about);
            }
            Ok(())
        }
    }
}
