//! The command `mixed`: what a search in one partition notices of a store at full speed in another.
//!
//! The search is sent at a steady rate, whatever its answers take (an open loop): alone, beside the
//! store, and so on by turns. An echo between two threads is measured besides, at the same rate: how
//! late everybody is then, whatever the server does.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    compare::{Spread, short},
    drive::{self, Pace},
    echo,
    http::Base,
    options::Material,
    peers::{Peer, Programs},
    processes::Group,
    results::{HEAD, Latency, Results, Run},
    site::{Manner, Site},
    workloads::{self, Workload},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Base URLs of two partitions of a server: stored to, and searched; ours is started, if there
    /// are none
    #[arg(num_args = 2)]
    urls: Vec<String>,
    /// What is stored at full speed
    #[arg(long, default_value = "store-single")]
    store: String,
    /// By how many connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// What is searched
    #[arg(long, default_value = "search-patient")]
    search: String,
    /// Searches a second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Time for each turn
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often each is measured, by turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Processes to watch: NAME=PID
    #[arg(long)]
    pid: Vec<Group>,
    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Time in which a store gets up to speed.
const RUN_UP: Duration = Duration::from_secs(1);
/// Connections of the searches: enough that none waits for another's answer to be read.
const SEARCHERS: usize = 32;

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let (_running, stored_to, searched) = match arguments.urls.as_slice() {
        [a, b] => {
            let site = |name: &str, url: &str| -> anyhow::Result<Arc<Site>> {
                let (base, groups) = (url.parse::<Base>()?, arguments.pid.clone());
                Ok(Arc::new(Site::new(name, base, Manner::Dicomweb, groups, material.corpus())))
            };
            (None, site("stored to", a)?, site("searched", b)?)
        }
        _ => {
            let running = Peer::Collimator.start(programs)?;
            let site = |name: &str, partition: &str| {
                Arc::new(running.site_in(name, partition, material.corpus()))
            };
            let sites = (site("stored to", "busy"), site("searched", "calm"));
            (Some(running), sites.0, sites.1)
        }
    };
    let one = |name: &str| anyhow::Ok(workloads::chosen(&[name.to_owned()])?[0]);
    let (store, search) = (one(&arguments.store)?, one(&arguments.search)?);
    let pace = Pace {
        connections: SEARCHERS,
        rate: Some(arguments.rate),
        seconds: arguments.seconds,
        requests: None,
    };
    println!("{HEAD}");
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut echoes = Vec::new();
    let echo = || echo::measure(arguments.rate, arguments.seconds);
    for _ in 0..arguments.rounds {
        let offered = || anyhow::anyhow!("{} is not offered", search.name);
        let mut run = drive::measure(&searched, search, pace)?.ok_or_else(offered)?;
        "alone".clone_into(&mut run.site);
        println!("{}", run.row());
        alone.push(run);
        let quiet = echo()?;
        let (run, busy) = with_store(&stored_to, store, arguments.connections, || {
            Ok((drive::measure(&searched, search, pace)?.ok_or_else(offered)?, echo()?))
        })?;
        println!("{}", run.row());
        beside.push(run);
        echoes.push((quiet, busy));
    }
    println!("\n| an echo | p50 ms | p95 | p99 | max |\n| --- | ---: | ---: | ---: | ---: |");
    for (when, Latency { p50, p95, p99, max }) in
        echoes.into_iter().flat_map(|(quiet, busy)| [("alone", quiet), ("beside", busy)])
    {
        println!("| {when} | {p50:.2} | {p95:.2} | {p99:.2} | {max:.2} |");
    }
    let growth = |figure: fn(&Run) -> f64| Spread::of(&beside, &alone, figure);
    println!("\np50 grows {} times", growth(|run| run.latency.p50));
    println!("p99 grows {} times (to be at most 2)", growth(|run| run.latency.p99));
    let results = Results { runs: [alone, beside].concat() };
    results.finish(arguments.json.as_deref())
}

/// Measures while a store goes on at full speed, and tells how fast that was.
fn with_store(
    site: &Arc<Site>,
    store: &Workload,
    connections: usize,
    measure: impl FnOnce() -> anyhow::Result<(Run, Latency)>,
) -> anyhow::Result<(Run, Latency)> {
    let pace = Pace { connections, rate: None, seconds: 3600.0, requests: None };
    let task = (store.open)(site)?.ok_or_else(|| anyhow::anyhow!("{} is none", store.name))?;
    let (stop, stored, failed) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(None));
    let begun = Instant::now();
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            drive::send(site, &task, 1, pace, &stop, &|sample| match sample {
                Ok(sample) => _ = stored.fetch_add(sample.items, Ordering::Relaxed),
                Err(error) => {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            })
        });
        std::thread::sleep(RUN_UP);
        let run = measure();
        stop.store(true, Ordering::Relaxed);
        run
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.context(store.name));
    }
    let rate = stored.into_inner() as f64 / begun.elapsed().as_secs_f64();
    let (mut run, echo) = run?;
    run.site = format!("beside {} {}/s", store.name, short(rate));
    Ok((run, echo))
}
