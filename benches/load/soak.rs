//! The command `soak`: a mix of everything for a long time, at a part of what the server can do.
//!
//! First the capacity, in a short closed loop; then the mix at a steady rate below it. Afterwards
//! the first third is compared with the last: memory that grows, or latency.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::Serialize;

use crate::{
    compare::short,
    drive::{self, Pace, Sample},
    options::{Material, Measured},
    peers::Programs,
    processes::{Group, used},
    results::Latency,
    site::{Site, mix},
    workloads::{self, Look, Task},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// A URL, or what to start
    #[arg(default_value = "collimator")]
    target: String,
    /// How long; in half an hour some 10 GB are stored
    #[arg(long, default_value_t = 30.0)]
    pub minutes: f64,
    /// Part of the capacity
    #[arg(long, default_value = "80%", value_parser = percent)]
    at: f64,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Processes to watch: NAME=PID
    #[arg(long)]
    pid: Vec<Group>,
    /// Write what happened to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How many of a hundred requests are of a workload.
const MIX: &[(u64, &str)] = &[
    (1, "store-single"),
    (14, "store-small"),
    (1, "retrieve-study"),
    (24, "retrieve-instance"),
    (24, "frame"),
    (2, "metadata-study"),
    (6, "rendered-jpeg"),
    (22, "search-patient"),
    (6, "search-instances"),
];
/// Time for which something is told in one line.
const WINDOW: Duration = Duration::from_secs(10);
/// Time of the closed loop that finds the capacity.
const CAPACITY: f64 = 10.0;
/// What counts as growth.
const MEMORY: f64 = 1.05;
const SLACK_MIB: f64 = 16.0;
const LATENCY: f64 = 1.5;
const MIB: f64 = (1 << 20) as f64;

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().map_err(|error| error.to_string())?;
    Ok(number / 100.0)
}

/// Ten seconds of a soak.
#[derive(Clone, Debug, Serialize)]
struct Window {
    /// Since the start, in seconds.
    end: f64,
    requests: usize,
    errors: usize,
    latency: Latency,
    /// Resident, by group.
    mib: Vec<f64>,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let measured = Measured::named(&arguments.target, programs, material, &arguments.pid)?;
    let Arguments { minutes, at, connections, .. } = *arguments;
    let windows = soak(&measured.site, minutes, at, connections)?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&windows)?)?;
    }
    judge(&measured.site, &windows)
}

/// A short soak of a site, of which only errors count.
pub fn short_soak(site: &Arc<Site>, minutes: f64) -> anyhow::Result<()> {
    let windows = soak(site, minutes, 0.8, 8)?;
    let errors: usize = windows.iter().map(|window| window.errors).sum();
    ensure!(errors == 0, "{errors} errors in a soak");
    Ok(())
}

fn soak(
    site: &Arc<Site>,
    minutes: f64,
    at: f64,
    connections: usize,
) -> anyhow::Result<Vec<Window>> {
    let task = mixture(site)?;
    let pace = Pace { connections, rate: None, seconds: CAPACITY, requests: None };
    let capacity = drive::recorded(site, "mix", &task, 0, pace);
    ensure!(capacity.errors == 0, "{:?}", capacity.said);
    let rate = capacity.per_second * at;
    println!("capacity {}/s, rate {}/s\n", short(capacity.per_second), short(rate));
    let names: String = site.groups.iter().map(|group| format!(" {} MiB |", group.name)).collect();
    println!("| s | requests | errors | p50 ms | p99 | max |{names}");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |{}", " ---: |".repeat(site.groups.len()));
    // Enough that none waits for another while the server keeps up.
    let connections = connections * 4;
    let pace = Pace { connections, rate: Some(rate), seconds: minutes * 60.0, requests: None };
    // Past every number that the closed loop can have used.
    let from = 1_000_000;
    let current: Mutex<(Vec<Sample>, Vec<String>)> = Mutex::default();
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    let windows = std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            let mut windows = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let end = WINDOW * (windows.len() as u32 + 1);
                while begun.elapsed() < end && !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                let taken =
                    std::mem::take(&mut *current.lock().unwrap_or_else(PoisonError::into_inner));
                windows.push(told(site, begun.elapsed(), &taken));
            }
            windows
        });
        drive::send(site, &task, from, pace, &AtomicBool::new(false), &|sample| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            match sample {
                Ok(sample) => current.0.push(sample),
                Err(error) => current.1.push(format!("{error:#}")),
            }
        });
        done.store(true, Ordering::Relaxed);
        teller.join().unwrap_or_default()
    });
    Ok(windows)
}

/// Prints the line of a window.
fn told(site: &Site, end: Duration, (samples, errors): &(Vec<Sample>, Vec<String>)) -> Window {
    let window = Window {
        end: end.as_secs_f64(),
        requests: samples.len(),
        errors: errors.len(),
        latency: Latency::of(samples.iter().map(|sample| sample.latency)),
        mib: used(&site.groups).iter().map(|used| used.memory as f64 / MIB).collect(),
    };
    let Latency { p50, p99, max, .. } = window.latency;
    let memory: String = window.mib.iter().map(|mib| format!(" {mib:.0} |")).collect();
    println!(
        "| {:.0} | {} | {} | {p50:.2} | {p99:.2} | {max:.2} |{memory}",
        window.end, window.requests, window.errors
    );
    errors.iter().take(3).for_each(|error| println!("    {error}"));
    window
}

/// One task that is now this workload and now that one, by chance.
fn mixture(site: &Arc<Site>) -> anyhow::Result<Task> {
    let mut tasks = Vec::new();
    for (share, name) in MIX {
        let workload = workloads::chosen(&[(*name).to_owned()])?[0];
        if let Some(task) = (workload.open)(site)? {
            task(&mut site.connection(), 0, Look::Thorough)?;
            tasks.push((*share, task));
        }
    }
    let all: u64 = tasks.iter().map(|(share, _)| share).sum();
    Ok(Box::new(move |connection, number, look| {
        let mut draw = mix(number) % all;
        for (share, task) in &tasks {
            if draw < *share {
                // 0 was the first look.
                return task(connection, number + 1, look);
            }
            draw -= share;
        }
        anyhow::bail!("there is nothing to do")
    }))
}

/// Compares the first third with the last; fails where there are errors, or growth.
fn judge(site: &Site, windows: &[Window]) -> anyhow::Result<()> {
    let third = windows.len() / 3;
    let errors: usize = windows.iter().map(|window| window.errors).sum();
    ensure!(errors == 0, "{errors} errors");
    ensure!(third > 0, "too short to be judged");
    let (first, last) = (&windows[..third], &windows[windows.len() - third..]);
    let middle = |windows: &[Window], figure: &dyn Fn(&Window) -> f64| {
        let mut figures: Vec<f64> = windows.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    println!("\nno errors");
    let mut grown = Vec::new();
    for (place, group) in site.groups.iter().enumerate() {
        let memory = |window: &Window| window.mib[place];
        let (before, after) = (middle(first, &memory), middle(last, &memory));
        println!("{}: {} MiB, then {} MiB", group.name, short(before), short(after));
        // A database fills the buffers that it was given; that is bounded, and no leak.
        let bounded = group.name == "database";
        if !bounded && after > before * MEMORY + SLACK_MIB {
            grown.push(format!("the memory of the {}", group.name));
        }
    }
    let p99 = |window: &Window| window.latency.p99;
    let (before, after) = (middle(first, &p99), middle(last, &p99));
    println!("p99: {} ms, then {} ms", short(before), short(after));
    if after > before * LATENCY {
        grown.push("p99".to_owned());
    }
    ensure!(grown.is_empty(), "{} grew", grown.join(" and "));
    Ok(())
}
