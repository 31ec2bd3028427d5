//! Options that several commands have: whom to measure, with what, and at which pace.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::ValueEnum;

use crate::{
    corpus::Corpus,
    drive::Pace,
    http::Base,
    peers::{Peer, Programs, Running},
    processes::Group,
    site::{Manner, Site},
    sizes::Sizes,
};

/// What is stored.
#[derive(clap::Args, Clone, Debug)]
pub struct Material {
    /// Seed of the corpus
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Number of the run, which is in every UID; from the clock, if there is none
    #[arg(long, global = true)]
    run: Option<u64>,
    /// Little of everything: studies of 5 instances, 8 frames, a large object of 21 MB
    #[arg(long, global = true)]
    tiny: bool,
    /// A header for every request to a server that runs already, such as 'x-api-key: cmk_…'
    #[arg(long, global = true, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<String>,
}

/// A line of a head, with its end.
fn header(text: &str) -> Result<String, &'static str> {
    let is_line = text.contains(':') && !text.contains(char::is_control);
    is_line.then(|| format!("{text}\r\n")).ok_or("not NAME: VALUE")
}

/// At which pace, and where the figures go.
#[derive(clap::Args, Clone, Debug)]
pub struct Measuring {
    /// Only workloads of these names; `*` at the end stands for anything
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Connections; several numbers are measured one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    pub connections: Vec<usize>,
    /// Requests a second that are due (an open loop); each as soon as one is answered, if not given
    #[arg(long)]
    pub rate: Option<f64>,
    /// Time for each workload
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Most requests of each workload
    #[arg(long)]
    pub requests: Option<u64>,
    /// Processes to watch, with what they start: NAME=PID or NAME=PID+PID, such as server=123
    #[arg(long)]
    pub pid: Vec<Group>,
    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Material {
    pub fn sizes(&self) -> Sizes {
        if self.tiny { Sizes::TINY } else { Sizes::FULL }
    }

    /// A corpus for one site. Each has its own run, so that two sites may be one server.
    pub fn corpus(&self) -> Corpus {
        self.corpus_of(&self.sizes())
    }

    pub fn corpus_of(&self, sizes: &Sizes) -> Corpus {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let clock = || {
            // Tenths of a second, so that hundreds of corpora are made between two runs.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (since.as_millis() / 100) as u64 % 10_000_000_000
        };
        static CLOCK: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let run = self.run.unwrap_or_else(|| *CLOCK.get_or_init(clock));
        Corpus::new(self.seed, run + NEXT.fetch_add(1, Ordering::Relaxed), sizes)
    }
}

impl Measuring {
    pub fn paces(&self) -> impl Iterator<Item = Pace> {
        self.connections.iter().map(|connections| Pace {
            connections: *connections,
            rate: self.rate,
            seconds: self.seconds,
            requests: self.requests,
        })
    }
}

/// A site, and the server behind it where that was started here.
pub struct Measured {
    pub site: Arc<Site>,
    _running: Option<Running>,
}

impl Measured {
    /// A URL, or the name of something to start.
    pub fn named(
        name: &str,
        programs: &Programs,
        material: &Material,
        watched: &[Group],
    ) -> anyhow::Result<Self> {
        if name.contains("://") {
            let base = Base { headers: material.header.concat(), ..name.parse()? };
            let (manner, corpus) = (Manner::Dicomweb, material.corpus());
            let site = Arc::new(Site::new(name, base, manner, watched.to_vec(), corpus));
            return Ok(Self { site, _running: None });
        }
        Self::started(name, programs, material.corpus())
    }

    /// Something to start, by its name.
    pub fn started(name: &str, programs: &Programs, corpus: Corpus) -> anyhow::Result<Self> {
        let peer = Peer::from_str(name, true)
            .map_err(|_| anyhow::anyhow!("{name} is neither a URL nor something to start"))?;
        let running = peer.start(programs)?;
        let site = Arc::new(running.site(peer.name(), corpus));
        Ok(Self { site, _running: Some(running) })
    }
}
