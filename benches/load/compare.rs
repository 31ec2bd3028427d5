//! The command `compare`: two servers by turns, or two files of figures, as ratios with their
//! spread.

use std::{path::Path, sync::Arc};

use crate::{
    drive,
    options::{Material, Measured, Measuring},
    peers::Programs,
    processes::Group,
    results::{Results, Run},
    site::Site,
    workloads,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// A URL, the name of something to start, or a file of figures
    a: String,
    /// The same: whom the first is compared with
    b: String,
    /// How often each is measured, by turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Processes of the second to watch, where it runs already; `--pid` has those of the first
    #[arg(long)]
    pid_b: Vec<Group>,
    #[command(flatten)]
    measuring: Measuring,
}

/// A ratio that was found several times.
#[derive(Clone, Debug)]
pub struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    pub fn new(ratios: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted }
    }

    /// Of figures that were measured by turns.
    pub fn of(a: &[Run], b: &[Run], figure: impl Fn(&Run) -> f64) -> Self {
        Self::new(a.iter().zip(b).map(|(a, b)| figure(a) / figure(b)))
    }

    /// The one in the middle, or between the two there; no number, where nothing was measured.
    pub fn median(&self) -> f64 {
        let of = &self.sorted;
        match of.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => of[odd / 2],
            even => f64::midpoint(of[even / 2 - 1], of[even / 2]),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some(first), Some(last)) = (self.sorted.first(), self.sorted.last()) else {
            return f.write_str("–");
        };
        let median = self.median();
        if self.sorted.len() == 1 {
            return f.write_str(&short(median));
        }
        write!(f, "{} ({} to {})", short(median), short(*first), short(*last))
    }
}

/// A number with as many digits as one can use.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size > 0.0 && size < 0.1 => format!("{number:.4}"),
        _ => format!("{number:.2}"),
    }
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let Arguments { a, b, rounds, pid_b, measuring } = arguments;
    let (all_a, all_b) = if [a, b].iter().all(|name| Path::new(name).is_file()) {
        (Results::read(Path::new(a))?.runs, Results::read(Path::new(b))?.runs)
    } else {
        let a = Measured::named(a, programs, material, &measuring.pid)?;
        let b = Measured::named(b, programs, material, pid_b)?;
        measure(&a.site, &b.site, *rounds, measuring)?
    };
    println!("{} / {}\n", a, b);
    println!(
        "| workload | connections | A a second | B | A / B | p50 ms A | B | A / B | p99 A / B | CPU a request A / B |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut keys: Vec<(&str, usize)> = Vec::new();
    for run in &all_a {
        let key = (run.workload.as_str(), run.connections);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    for (workload, connections) in keys {
        let of = |runs: &[Run]| -> Vec<Run> {
            let is = |run: &&Run| run.workload == workload && run.connections == connections;
            runs.iter().filter(is).cloned().collect()
        };
        let (a, b) = (of(&all_a), of(&all_b));
        if b.is_empty() {
            continue;
        }
        let ratio = |figure: fn(&Run) -> f64| Spread::of(&a, &b, figure);
        let middle = |runs: &[Run], figure: fn(&Run) -> f64| {
            short(Spread::new(runs.iter().map(figure)).median())
        };
        println!(
            "| {workload} | {connections} | {} | {} | {} | {} | {} | {} | {} | {} |",
            middle(&a, |run| run.per_second),
            middle(&b, |run| run.per_second),
            ratio(|run| run.per_second),
            middle(&a, |run| run.latency.p50),
            middle(&b, |run| run.latency.p50),
            ratio(|run| run.latency.p50),
            ratio(|run| run.latency.p99),
            ratio(Run::cpu_ms),
        );
    }
    let results = Results { runs: [all_a, all_b].concat() };
    results.finish(measuring.json.as_deref())
}

/// Measures A, B, A, B and so on, so that what changes on the machine meets both.
fn measure(
    a: &Arc<Site>,
    b: &Arc<Site>,
    rounds: usize,
    measuring: &Measuring,
) -> anyhow::Result<(Vec<Run>, Vec<Run>)> {
    let (mut all_a, mut all_b) = (Vec::new(), Vec::new());
    for workload in workloads::chosen(&measuring.only)? {
        for pace in measuring.paces() {
            for _ in 0..rounds {
                let first = drive::measure(a, workload, pace)?;
                let second = drive::measure(b, workload, pace)?;
                if let (Some(first), Some(second)) = (first, second) {
                    eprintln!("{}\n{}", first.row(), second.row());
                    all_a.push(first);
                    all_b.push(second);
                }
            }
        }
    }
    Ok((all_a, all_b))
}
