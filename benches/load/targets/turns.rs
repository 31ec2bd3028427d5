//! Runs of several servers by turns, kept by what was run.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    compare::Spread,
    drive::{self, Pace},
    results::Run,
    site::Site,
    workloads,
};

/// How much is measured.
pub struct Plan {
    pub rounds: usize,
    /// Longest time of a run.
    pub seconds: f64,
    /// Requests of a run that stores single instances, and of one that stores studies.
    pub singles: u64,
    pub studies: u64,
}

impl Plan {
    pub const FULL: Self = Self { rounds: 5, seconds: 5.0, singles: 800, studies: 8 };
    pub const QUICK: Self = Self { rounds: 2, seconds: 2.0, singles: 160, studies: 3 };

    pub fn pace(&self, connections: usize, requests: u64) -> Pace {
        // Stores go on to their end, so that all write as much.
        let seconds = if requests == u64::MAX { self.seconds } else { 60.0 };
        let requests = (requests != u64::MAX).then(|| requests.max(connections.min(8) as u64));
        Pace { connections, rate: None, seconds, requests }
    }
}

/// All that was measured: by site, workload and connections.
#[derive(Default)]
pub struct Turns {
    runs: BTreeMap<(String, String, usize), Vec<Run>>,
    /// What could not be measured at all, and why.
    pub failed: Vec<String>,
}

/// The name under which a yardstick is kept.
pub const STICK: &str = "disk";

impl Turns {
    /// Goes round the sites, and the yardstick, as often as there are rounds.
    pub fn go(
        &mut self,
        rounds: usize,
        sites: &[Arc<Site>],
        name: &str,
        pace: Pace,
        stick: impl Fn(Pace) -> anyhow::Result<Option<Run>>,
    ) -> anyhow::Result<()> {
        let workload = workloads::chosen(&[name.to_owned()])?[0];
        for _ in 0..rounds {
            let measured = sites.iter().map(|site| drive::measure(site, workload, pace));
            for run in measured.chain(std::iter::once_with(|| stick(pace))) {
                let run = match run {
                    Ok(Some(run)) => run,
                    Ok(None) => continue,
                    // The rest of a long run is worth having all the same.
                    Err(error) => {
                        println!("| {error:#} |");
                        self.failed.push(format!("{error:#}"));
                        continue;
                    }
                };
                println!("{}", run.row());
                let key = (run.site.clone(), name.to_owned(), pace.connections);
                self.runs.entry(key).or_default().push(run);
            }
        }
        Ok(())
    }

    pub fn of(&self, site: &str, workload: &str, connections: usize) -> &[Run] {
        let key = (site.to_owned(), workload.to_owned(), connections);
        self.runs.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Ours against the best of others, by a figure that is better the larger it is.
    pub fn against<'a>(
        &self,
        others: &'a [String],
        workload: &str,
        connections: usize,
        figure: impl Fn(&Run) -> f64 + Copy,
    ) -> (Spread, &'a str) {
        let ours = self.of("collimator", workload, connections);
        let each = others.iter().map(|other| {
            (Spread::of(ours, self.of(other, workload, connections), figure), other.as_str())
        });
        let measured = each.filter(|(spread, _)| spread.median().is_finite());
        let best = measured.min_by(|a, b| a.0.median().total_cmp(&b.0.median()));
        best.unwrap_or((Spread::new([]), "–"))
    }

    pub fn all(self) -> Vec<Run> {
        self.runs.into_values().flatten().collect()
    }
}
