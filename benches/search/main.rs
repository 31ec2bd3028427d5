//! Searches over HTTP, against indexes of any size: how long one takes, and how that grows.
//!
//!     cargo bench --bench search -- --studies 10000,100000 --partitions 1,1000
//!
//! For each pair of sizes a server with a private Postgres runs on a folder of its own under
//! `target/bench`, which is filled the first time and kept. One client sends one request after
//! another; values are drawn at random from what is stored, the same each time. Times are the
//! client's, from sending to the last byte. The growth is each search's median against that of the
//! smallest index with as many partitions. Where there are several partitions, each request asks one
//! that is drawn; and once more all ask the same one, as a tenant at work does: the view is the median
//! of that against the index with the fewest partitions where a partition holds as many studies, which
//! is what one tenant notices of its neighbours.

#[path = "../../examples/seed/fill.rs"]
mod fill;
#[path = "../../examples/seed/population.rs"]
mod population;
mod server;
mod workloads;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use population::Population;
use server::Server;
use workloads::Workload;

/// Measure searches
#[derive(Parser)]
struct Arguments {
    /// Studies of the indexes
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
    studies: Vec<u64>,
    /// Partitions of the indexes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000])]
    partitions: Vec<u64>,
    /// Requests of each search that are measured
    #[arg(long, default_value_t = 300)]
    requests: usize,
    /// Only searches whose name contains it
    #[arg(long, default_value = "")]
    only: String,
    /// Where the indexes are kept
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// What cargo gives to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Requests before those that are measured.
const WARM_UP: usize = 30;

/// The tenant that is at work: the number of its partition.
const TENANT: u64 = 7;

fn main() -> anyhow::Result<()> {
    collimator::app::choose_cryptography();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Median of each search in the smallest index by partitions, and in the index with the fewest
    // partitions by studies of a partition.
    let mut smallest: BTreeMap<(u64, &'static str), Duration> = BTreeMap::new();
    let mut alone: BTreeMap<(u64, &'static str), Duration> = BTreeMap::new();
    let mut studies = arguments.studies.clone();
    studies.sort_unstable();
    for &studies in &studies {
        for &partitions in arguments.partitions.iter().filter(|count| **count <= studies) {
            let population = Population { studies, partitions, series: 5, instances: 1 };
            let folder = arguments.folder.join(format!("search-{studies}-{partitions}"));
            let server = Server::filled(&folder, population)?;
            println!("\n{studies} studies, {partitions} partitions\n");
            println!("| search | p50 ms | p99 ms | growth | one tenant: p50 | p99 | view | KB |");
            println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
            let chosen = workloads::all(partitions);
            for workload in chosen.filter(|workload| workload.name.contains(&arguments.only)) {
                let times = |tenant| {
                    let run = run(&server, &workload, &population, arguments.requests, tenant);
                    runtime.block_on(run).with_context(|| workload.name.to_owned())
                };
                let (p50, p99, bytes) = times(None)?;
                let first = *smallest.entry((partitions, workload.name)).or_insert(p50);
                print!(
                    "| {} | {:.2} | {:.2} | {:.2} ",
                    workload.name,
                    milliseconds(p50),
                    milliseconds(p99),
                    p50.as_secs_f64() / first.as_secs_f64(),
                );
                let held = (studies / partitions, workload.name);
                if partitions == 1 {
                    alone.entry(held).or_insert(p50);
                    print!("| – | – | – ");
                } else if workload.of_one {
                    let (p50, p99, _) = times(Some(TENANT % partitions))?;
                    let view = *alone.entry(held).or_insert(p50);
                    let view = p50.as_secs_f64() / view.as_secs_f64();
                    print!("| {:.2} | {:.2} | {view:.2} ", milliseconds(p50), milliseconds(p99));
                } else {
                    print!("| – | – | – ");
                }
                println!("| {:.1} |", bytes as f64 / 1024.0 / arguments.requests as f64);
            }
            server.stop()?;
        }
    }
    Ok(())
}

/// Median and 99th percentile of the times of requests, and bytes of all answers. With a tenant, all
/// ask for what it has.
async fn run(
    server: &Server,
    workload: &Workload,
    population: &Population,
    requests: usize,
    tenant: Option<u64>,
) -> anyhow::Result<(Duration, Duration, usize)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut times = Vec::with_capacity(requests);
    let mut bytes = 0;
    for number in 0..WARM_UP + requests {
        let draw = population::mix(number as u64, 77);
        let draw = tenant.map_or(draw, |tenant| of_tenant(population, draw, tenant));
        let url = format!("{}{}", server.base, (workload.path)(population, number as u64, draw));
        let sent = Instant::now();
        let answer = client.get(&url).header("accept", "application/dicom+json").send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let time = sent.elapsed();
        anyhow::ensure!(
            status.is_success(),
            "{status} to {url}: {}",
            String::from_utf8_lossy(&body)
        );
        if number >= WARM_UP {
            times.push(time);
            bytes += body.len();
        }
    }
    times.sort_unstable();
    Ok((at(&times, 50), at(&times, 99), bytes))
}

/// The draw of a study of the tenant, in place of one of any.
fn of_tenant(population: &Population, draw: u64, tenant: u64) -> u64 {
    let Population { studies, partitions, .. } = *population;
    let number = draw % (studies / partitions) * partitions + tenant;
    (draw - draw % studies).checked_add(number).unwrap_or(number)
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
