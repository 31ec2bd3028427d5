//! Fills an index with a made-up population, to measure searches with: for development.
//!
//!     cargo run --release --example seed -- --data-dir ./bench --studies 1000000 --partitions 10
//!
//! Instances are read by the server's own reader and written by Store's own statements, so that
//! every column, term and event is what a store would have left. Their bytes are not kept: they can
//! be searched and their metadata retrieved, nothing else. The folder must not be in use by a
//! running server. What is there already stays; a seeding that was interrupted goes on where it
//! ended.

mod fill;
mod population;

use std::path::PathBuf;

use clap::Parser;
use population::Population;
use sqlx::postgres::PgConnectOptions;

/// Fill an index with a made-up population
#[derive(Parser)]
struct Arguments {
    /// Data folder of a server with a private Postgres; made if it is not there
    #[arg(long, value_name = "DIR", required_unless_present = "database_url")]
    data_dir: Option<PathBuf>,
    /// A Postgres instead, as its owner
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    database_url: Option<PgConnectOptions>,
    /// Studies in all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    studies: u64,
    /// Partitions, p0000 and on, among which the studies are divided
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    partitions: u64,
    /// Series of each study
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    series: u64,
    /// Instances of each series
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    instances: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let population = Population {
        studies: arguments.studies,
        partitions: arguments.partitions,
        series: arguments.series,
        instances: arguments.instances,
    };
    match (arguments.data_dir, arguments.database_url) {
        (Some(folder), _) => fill::folder(&folder, population),
        (None, Some(url)) => tokio::runtime::Runtime::new()?.block_on(fill::fill(url, population)),
        (None, None) => anyhow::bail!("neither --data-dir nor --database-url"),
    }
}
