//! What all scenarios share: which servers answer just now, when it is enough, and what was counted.

use std::{
    fmt,
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rand::RngExt;

use crate::harness::Client;

/// Where clients find servers, and when they stop.
#[derive(Default)]
pub struct Stage {
    servers: Mutex<Vec<Client>>,
    stopped: AtomicBool,
    pub tally: Tally,
}

/// What was counted, for whoever reads the output of the test.
#[derive(Default)]
pub struct Tally {
    pub kills: AtomicU64,
    /// Instances whose store was acknowledged, repeats included.
    pub stored: AtomicU64,
    /// Requests to delete that were acknowledged.
    pub deleted: AtomicU64,
    /// Requests that were answered with 503, or not at all.
    pub refused: AtomicU64,
    pub events: AtomicU64,
    pub searches: AtomicU64,
    /// Bytes that came back and were compared.
    pub compared: AtomicU64,
}

impl Stage {
    /// Puts servers before the clients, any of which is as good as another, and lets them work.
    pub fn open(&self, servers: &[&Client]) {
        self.show(servers);
        self.stopped.store(false, Relaxed);
    }

    /// Changes which servers there are.
    pub fn show(&self, servers: &[&Client]) {
        *self.servers.lock().unwrap() = servers.iter().map(|client| (*client).clone()).collect();
    }

    /// Tells the clients that it is enough.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Any of the servers.
    pub fn client(&self) -> Client {
        let servers = self.servers.lock().unwrap();
        servers[rand::rng().random_range(0..servers.len())].clone()
    }

    /// Stores and deletions that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.tally.stored.load(Relaxed) + self.tally.deleted.load(Relaxed)
    }

    /// Says what was counted, past the capture of test output.
    pub fn tell(&self, scenario: &str) {
        say(&format!("{scenario}: {}", self.tally));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, stored, deleted, refused, events, searches, compared } = self;
        write!(
            f,
            "{} kills, {} stores and {} deletions acknowledged, {} requests refused or cut off, \
             {} events read, {} searches, {:.1} MB compared",
            kills.load(Relaxed),
            stored.load(Relaxed),
            deleted.load(Relaxed),
            refused.load(Relaxed),
            events.load(Relaxed),
            searches.load(Relaxed),
            compared.load(Relaxed) as f64 / 1e6
        )
    }
}

/// Says something past the capture of test output.
pub fn say(what: &str) {
    let said = writeln!(std::io::stderr(), "\n{what}");
    said.unwrap();
}

pub fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}

/// How often to kill: `COLLIMATOR_TEST_KILLS`, or a few times.
pub fn kills() -> u32 {
    const FEW: u32 = 4;
    given_kills().unwrap_or(FEW).max(FEW)
}

/// As many as is right for who waits for all tests, or more for who wants to know it exactly.
pub fn few_or_many<T>(few: T, many: T) -> T {
    if given_kills().is_some() { many } else { few }
}

fn given_kills() -> Option<u32> {
    let given = std::env::var("COLLIMATOR_TEST_KILLS").ok();
    given.map(|text| text.parse().expect("COLLIMATOR_TEST_KILLS is a number"))
}
