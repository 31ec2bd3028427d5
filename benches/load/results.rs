//! What was measured: percentiles, rates and costs of one run, and many runs as a table and as
//! JSON.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{
    drive::{Pace, Sample},
    processes::{self, Cost},
};

/// Errors whose text is kept.
const TOLD: usize = 5;
const MIB: f64 = (1 << 20) as f64;

/// One workload against one site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub site: String,
    pub workload: String,
    pub connections: usize,
    /// Requests a second that were due; none: a closed loop.
    pub rate: Option<f64>,
    pub seconds: f64,
    /// Requests that were answered as expected.
    pub requests: u64,
    pub errors: u64,
    /// What some of the errors were.
    pub said: Vec<String>,
    pub per_second: f64,
    pub items_per_second: f64,
    /// A million bytes a second.
    pub megabytes_per_second: f64,
    pub latency: Latency,
    /// To the first byte of the body.
    pub first_byte: Latency,
    /// By group of processes.
    pub groups: BTreeMap<String, GroupCost>,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// What a group of processes cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GroupCost {
    pub cpu_ms_per_request: f64,
    pub cpu_ms_per_item: f64,
    /// Resident at the start, and at most.
    pub before_mib: f64,
    pub peak_mib: f64,
}

impl Latency {
    pub fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

impl Run {
    pub fn new(
        site: &str,
        workload: &str,
        pace: Pace,
        elapsed: Duration,
        samples: &[Sample],
        mut errors: Vec<String>,
        costs: BTreeMap<String, Cost>,
    ) -> Self {
        // An open loop lasts as long as it was to last, also where the last answer came before.
        let planned = if pace.rate.is_some() { pace.seconds } else { 1e-9 };
        let seconds = elapsed.as_secs_f64().max(planned);
        let requests = samples.len() as u64;
        let items: u64 = samples.iter().map(|sample| sample.items).sum();
        let bytes: u64 = samples.iter().map(|sample| sample.bytes).sum();
        let share = |cost: Cost, of: u64| cost.cpu.as_secs_f64() * 1e3 / of.max(1) as f64;
        let groups = costs.into_iter().map(|(name, cost)| {
            let cost = GroupCost {
                cpu_ms_per_request: share(cost, requests),
                cpu_ms_per_item: share(cost, items),
                before_mib: cost.before as f64 / MIB,
                peak_mib: cost.peak as f64 / MIB,
            };
            (name, cost)
        });
        let failed = errors.len() as u64;
        errors.truncate(TOLD);
        Self {
            site: site.to_owned(),
            workload: workload.to_owned(),
            connections: pace.connections,
            rate: pace.rate,
            seconds,
            requests,
            errors: failed,
            said: errors,
            per_second: requests as f64 / seconds,
            items_per_second: items as f64 / seconds,
            megabytes_per_second: bytes as f64 / seconds / 1e6,
            latency: Latency::of(samples.iter().map(|sample| sample.latency)),
            first_byte: Latency::of(samples.iter().map(|sample| sample.first)),
            groups: groups.collect(),
        }
    }

    /// Processor time of a request, of all that serve it.
    pub fn cpu_ms(&self) -> f64 {
        let servers = self.groups.iter().filter(|(name, _)| *name != processes::CLIENT);
        servers.map(|(_, cost)| cost.cpu_ms_per_request).sum()
    }

    /// What a group cost; nothing, where it was not watched.
    pub fn group(&self, name: &str) -> GroupCost {
        self.groups.get(name).copied().unwrap_or_default()
    }

    /// The row of a table.
    pub fn row(&self) -> String {
        let how = match self.rate {
            Some(rate) => format!("{} at {rate:.0}/s", self.connections),
            None => self.connections.to_string(),
        };
        let Latency { p50, p95, p99, max } = self.latency;
        let cpu = self.told(|cost| format!("{:.2}", cost.cpu_ms_per_request));
        let memory = self.told(|cost| format!("{:.0}", cost.peak_mib));
        format!(
            "| {} | {} | {how} | {} | {:.1} | {:.1} | {p50:.2} | {p95:.2} | {p99:.2} | {max:.2} \
             | {:.2} | {cpu} | {memory} | {} |",
            self.site,
            self.workload,
            self.requests,
            self.per_second,
            self.megabytes_per_second,
            self.first_byte.p50,
            self.errors
        )
    }

    fn told(&self, tell: impl Fn(&GroupCost) -> String) -> String {
        let each = self.groups.iter().map(|(name, cost)| format!("{name} {}", tell(cost)));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// The head of a table of [`Run::row`].
pub const HEAD: &str = "\
| site | workload | connections | requests | a second | MB/s | p50 ms | p95 | p99 | max \
| first byte p50 | CPU ms a request | MiB at most | errors |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: |";

/// Many runs, as they are kept in a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub runs: Vec<Run>,
}

impl Results {
    /// Writes them where that is wanted, and fails as [`Results::sound`].
    pub fn finish(&self, file: Option<&Path>) -> anyhow::Result<()> {
        if let Some(file) = file {
            self.write(file)?;
        }
        self.sound()
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{}: no results", path.display()))
    }

    /// Fails where any request was not answered as expected, and says how.
    pub fn sound(&self) -> anyhow::Result<()> {
        let mut failed = 0;
        for run in self.runs.iter().filter(|run| run.errors > 0) {
            failed += run.errors;
            eprintln!("{}, {}: {} errors, such as", run.site, run.workload, run.errors);
            run.said.iter().for_each(|said| eprintln!("    {said}"));
        }
        anyhow::ensure!(failed == 0, "{failed} requests were not answered as expected");
        Ok(())
    }
}
