//! The targets of load, row by row: what counts as met, and by what it is told.

use super::turns::{STICK, Turns};
use crate::{
    compare::{Spread, short},
    results::Run,
    sizes::Sizes,
    start::Start,
};

const OURS: &str = "collimator";
const NGINX: &str = "nginx";

/// A target and what was reached.
pub struct Row {
    what: String,
    /// What ours does, with its unit.
    ours: String,
    /// Whom it is compared with, and what that does.
    against: String,
    reached: Spread,
    target: Target,
}

/// What is to be reached: by a ratio, or by a figure of ours.
#[derive(Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64, &'static str),
}

impl Row {
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.reached.median() >= least,
            Target::AtMost(most, _) => self.reached.median() <= most,
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, ours, against, reached, target } = self;
        let met = if self.is_met() { "met" } else { "**not met**" };
        let target = match target {
            Target::AtLeast(least) => format!("≥ {} ×", short(*least)),
            Target::AtMost(most, unit) => format!("≤ {} {unit}", short(*most)),
        };
        write!(f, "| {what} | {ours} | {against} | {reached} | {target} | {met} |")
    }
}

/// A figure of runs, better the larger it is, and how it is told.
#[derive(Clone, Copy)]
struct Figure {
    of: fn(&Run) -> f64,
    tell: fn(&Run) -> String,
}

const INSTANCES: Figure = Figure {
    of: |run| run.items_per_second,
    tell: |run| format!("{}/s", short(run.items_per_second)),
};
const BYTES: Figure = Figure {
    of: |run| run.megabytes_per_second,
    tell: |run| format!("{} MB/s", short(run.megabytes_per_second)),
};
const P50: Figure = Figure {
    of: |run| 1.0 / run.latency.p50,
    tell: |run| format!("p50 {} ms", short(run.latency.p50)),
};
const CPU: Figure =
    Figure { of: |run| 1.0 / run.cpu_ms(), tell: |run| format!("{} ms CPU", short(run.cpu_ms())) };

/// A figure of the run in the middle.
fn middle(runs: &[Run], figure: Figure) -> String {
    let mut runs: Vec<&Run> = runs.iter().collect();
    runs.sort_by(|a, b| (figure.of)(a).total_cmp(&(figure.of)(b)));
    runs.get(runs.len() / 2).map_or("–".to_owned(), |run| (figure.tell)(run))
}

/// What was measured, in words.
fn at(workload: &str, connections: usize) -> String {
    let with = if connections == 1 { "connection" } else { "connections" };
    format!("{workload}, {connections} {with}")
}

/// A ratio to the best of others.
fn ratio(
    turns: &Turns,
    others: &[String],
    (workload, connections): (&str, usize),
    figure: Figure,
    least: f64,
) -> Row {
    let (reached, best) = turns.against(others, workload, connections, figure.of);
    Row {
        what: at(workload, connections),
        ours: middle(turns.of(OURS, workload, connections), figure),
        against: format!("{best} {}", middle(turns.of(best, workload, connections), figure)),
        reached,
        target: Target::AtLeast(least),
    }
}

/// A figure of ours alone.
fn bound(what: String, figures: impl Iterator<Item = f64>, most: f64, unit: &'static str) -> Row {
    let reached = Spread::new(figures);
    let ours = format!("{} {unit}", short(reached.median()));
    let target = Target::AtMost(most, unit);
    Row { what, ours, against: "–".to_owned(), reached, target }
}

/// How much the server's memory grew in each run.
fn growth(turns: &Turns, workload: &str, connections: usize, most: f64) -> Row {
    let runs = turns.of(OURS, workload, connections).iter();
    let grown = runs.map(|run| run.group("server")).map(|cost| cost.peak_mib - cost.before_mib);
    let what = format!("{}: memory of the server grows by", at(workload, connections));
    bound(what, grown, most, "MiB")
}

pub fn store(turns: &Turns, peers: &[String]) -> Vec<Row> {
    let disk = [STICK.to_owned()];
    let mut rows = Vec::new();
    for connections in [1, 8] {
        let study = ("store-study", connections);
        rows.push(ratio(turns, peers, study, INSTANCES, 12.0));
        rows.push(ratio(turns, &disk, study, BYTES, 0.5));
    }
    let single = ("store-single", 8);
    rows.push(ratio(turns, peers, single, INSTANCES, 5.0));
    rows.push(ratio(turns, &disk, single, INSTANCES, 0.75));
    for (workload, connections) in [single, ("store-study", 8)] {
        for (group, most) in [("server", 1.0), ("database", 0.3)] {
            let runs = turns.of(OURS, workload, connections).iter();
            let cpu = runs.map(|run| run.group(group).cpu_ms_per_item);
            let what = format!("{}: CPU of the {group}", at(workload, connections));
            rows.push(bound(what, cpu, most, "ms an instance"));
        }
    }
    let large = ("store-large", 1);
    rows.push(ratio(turns, peers, large, BYTES, 8.0));
    rows.push(ratio(turns, &disk, large, BYTES, 0.6));
    rows.push(growth(turns, "store-large", 1, 64.0));
    rows
}

pub fn retrieve(turns: &Turns, peers: &[String]) -> Vec<Row> {
    let nginx = [NGINX.to_owned()];
    let mut rows = Vec::new();
    for (connections, times) in [(1, 1.5), (8, 4.0)] {
        let study = ("retrieve-study", connections);
        rows.push(ratio(turns, &nginx, study, BYTES, 0.6));
        rows.push(ratio(turns, peers, study, BYTES, times));
        // Flat: what a study has many times of may not be held.
        rows.push(growth(turns, "retrieve-study", connections, 32.0));
    }
    for connections in [1, 8] {
        rows.push(ratio(turns, peers, ("retrieve-instance", connections), INSTANCES, 8.0));
        rows.push(ratio(turns, peers, ("frame", connections), INSTANCES, 15.0));
    }
    rows.push(ratio(turns, peers, ("frame-large", 1), INSTANCES, 1000.0));
    let (large, of_200) = (turns.of(OURS, "frame-large", 1), turns.of(OURS, "frame", 1));
    let reached = Spread::of(large, of_200, |run| run.latency.p50);
    rows.push(Row {
        what: "a frame of the large object against one of the other".to_owned(),
        ours: middle(large, P50),
        against: middle(of_200, P50),
        reached,
        // The same, but for what two runs differ by anyway.
        target: Target::AtMost(1.2, "×"),
    });
    for (workload, least) in [
        ("rendered-jpeg", 3.0),
        ("rendered-png", 3.0),
        ("rendered-jpeg-frame", 30.0),
        ("rendered-png-frame", 30.0),
    ] {
        rows.push(ratio(turns, peers, (workload, 8), INSTANCES, least));
    }
    rows
}

pub fn small(turns: &Turns, sizes: &Sizes, peers: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    let first = turns.of(OURS, "metadata-study", 1).iter().map(|run| run.first_byte.p50);
    rows.push(bound("metadata-study: first byte, p50".to_owned(), first, 5.0, "ms"));
    rows.push(ratio(turns, peers, ("metadata-study", 1), P50, 30.0));
    rows.push(ratio(turns, peers, ("metadata-cold", 1), P50, 200.0));
    for workload in ["search-patient", "search-instances", "search-studies"] {
        rows.push(ratio(turns, peers, (workload, 1), P50, 10.0));
        rows.push(ratio(turns, peers, (workload, 1), CPU, 10.0));
    }
    let p99 = turns.of(OURS, "change-feed", 1).iter().map(|run| run.latency.p99);
    rows.push(bound("change-feed, a page of 200: p99".to_owned(), p99, 10.0, "ms"));
    let instances = sizes.population * 50;
    rows.iter_mut()
        .filter(|row| row.what.starts_with("search"))
        .for_each(|row| row.what += &format!(", at {instances} instances"));
    rows
}

pub fn start(starts: &[Start]) -> Vec<Row> {
    let figures = |figure: fn(&Start) -> f64| starts.iter().map(figure);
    vec![
        bound(
            "idle memory of the server".to_owned(),
            figures(|start| start.server_mib),
            40.0,
            "MiB",
        ),
        bound(
            "start to ready, with data".to_owned(),
            figures(|start| start.again_seconds),
            1.0,
            "s",
        ),
        bound("first start to ready".to_owned(), figures(|start| start.first_seconds), 5.0, "s"),
    ]
}
