//! Micro-benches: what one step costs, without the steps around it.
//!
//!     cargo bench --bench micro                       # all of them
//!     cargo bench --bench micro -- header             # those whose name contains it
//!     cargo bench --bench micro -- --save-baseline before
//!     cargo bench --bench micro -- --baseline before  # how much slower or faster than that
//!     cargo bench --bench micro -- --test             # each once, for correctness
//!
//! Of what is made in memory (`header`, `edit`, `deidentify`, `json`, `frames`, `multipart`) the figures are processor
//! time of the thread that does it, which is nearly the same whatever else the machine does, and
//! allocations, which are the same. Of the index (`statement`, `operation`) they are time in
//! Postgres; a table at the end has the rest. A statement that nothing here runs is an error, in
//! every run.

mod allocations;
mod clock;
mod edit;
mod files;
#[path = "../../examples/seed/fill.rs"]
#[allow(dead_code, reason = "shared with what fills whole folders")]
mod fill;
mod frames;
mod header;
mod index;
mod json;
mod multipart;
mod operations;
#[path = "../../examples/seed/population.rs"]
mod population;
mod statements;
#[path = "../load/template.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod template;

use std::time::Duration;

use clock::ProcessorTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

/// What keeps time.
type Bench = Criterion<ProcessorTime>;

fn main() -> anyhow::Result<()> {
    collimator::app::choose_cryptography();
    statements::check()?;
    let mut bench = Criterion::default()
        .with_measurement(ProcessorTime)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    header::benches(&mut bench);
    edit::benches(&mut bench);
    json::benches(&mut bench);
    frames::benches(&mut bench);
    multipart::benches(&mut bench);
    let index = index::Lazy::new(is_test());
    statements::benches(&mut bench, &index);
    operations::benches(&mut bench, &index);
    bench.final_summary();
    index.tell()
}

/// Whether each bench runs once, to see that it works: as criterion decides it.
fn is_test() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}

fn bytes(count: usize) -> Throughput {
    Throughput::Bytes(count as u64)
}

/// Adds a bench of one step, which handles so much; tells what it allocates as well.
fn step<T>(
    group: &mut BenchmarkGroup<'_, ProcessorTime>,
    name: &str,
    amount: Throughput,
    mut run: impl FnMut() -> T,
) {
    group.throughput(amount);
    let mut told = false;
    group.bench_function(name, |bencher| {
        if !told {
            told = true;
            // Once before, for what is made once and kept.
            std::hint::black_box(run());
            let (count, size) = allocations::of(|| std::hint::black_box(run()));
            println!("    allocations: {count}, bytes: {size}");
        }
        bencher.iter(&mut run);
    });
}
