//! Sending requests: in a closed loop, each connection as fast as it is answered, or in an open
//! one, at times that do not wait for the answers.
//!
//! In the open loop a request's latency counts from when it was due, and not from when a connection
//! was free to send it: a server that stalls for a second is late with all that were due in that
//! second, and not with those alone that happened to be on their way.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    processes::{Group, Watch},
    results::Run,
    site::Site,
    workloads::{Look, Task, Workload},
};

/// Who was refused does not hammer on.
const AFTER_AN_ERROR: Duration = Duration::from_millis(10);

/// How requests are sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub connections: usize,
    /// Requests a second, due whether or not those before were answered; none: a closed loop.
    pub rate: Option<f64>,
    pub seconds: f64,
    /// Most requests.
    pub requests: Option<u64>,
}

/// A request that was answered as expected.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub latency: Duration,
    /// To the first byte of the body.
    pub first: Duration,
    pub bytes: u64,
    pub items: u64,
}

/// Who is told of each request.
pub type Tell<'a> = &'a (dyn Fn(Result<Sample, anyhow::Error>) + Sync);

/// Looks at one answer closely, warms up, and measures. Nothing, where the site does not offer
/// this.
pub fn measure(
    site: &std::sync::Arc<Site>,
    workload: &Workload,
    pace: Pace,
) -> anyhow::Result<Option<Run>> {
    let said = || format!("{}: {}", site.name, workload.name);
    let Some(task) = (workload.open)(site).with_context(said)? else { return Ok(None) };
    rehearse(site, workload, &task, pace).with_context(said)?;
    let from = 1 + workload.warm.unwrap_or(0) * pace.connections as u64;
    Ok(Some(recorded(site, workload.name, &task, from, pace)))
}

/// The requests before those that are measured; the first is looked at closely.
fn rehearse(site: &Site, workload: &Workload, task: &Task, pace: Pace) -> anyhow::Result<()> {
    let Some(warm) = workload.warm else { return Ok(()) };
    task(&mut site.connection(), 0, Look::Thorough)?;
    if warm > 0 {
        let warm = warm * pace.connections as u64;
        let failed = Mutex::new(None);
        let pace = Pace { rate: None, requests: Some(warm), ..pace };
        send(site, task, 1, pace, &AtomicBool::new(false), &|sample| {
            if let Err(error) = sample {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
    }
    Ok(())
}

/// Measures requests from a number on.
pub fn recorded(site: &Site, name: &str, task: &Task, from: u64, pace: Pace) -> Run {
    let results = Mutex::new((Vec::new(), Vec::new()));
    let mut groups = site.groups.clone();
    groups.push(Group::ourselves());
    let watch = Watch::start(&groups);
    let elapsed = send(site, task, from, pace, &AtomicBool::new(false), &|sample| {
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        match sample {
            Ok(sample) => results.0.push(sample),
            Err(error) => results.1.push(format!("{error:#}")),
        }
    });
    let costs = watch.stop();
    let (samples, errors) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Run::new(&site.name, name, pace, elapsed, &samples, errors, costs)
}

/// Sends requests from a number on until the pace, or `stop`, says that it is enough; answers how
/// long that took.
pub fn send(
    site: &Site,
    task: &Task,
    from: u64,
    pace: Pace,
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Duration {
    let begun = Instant::now();
    let planned = pace.rate.map(|rate| (rate * pace.seconds) as u64);
    let most = planned.unwrap_or(u64::MAX).min(pace.requests.unwrap_or(u64::MAX));
    let end = begun + Duration::from_secs_f64(pace.seconds);
    // Requests that were due are sent all the same, but not without end.
    let patience = end + Duration::from_secs_f64(pace.seconds.max(5.0));
    let next = AtomicU64::new(0);
    let worker = || {
        let mut connection = site.connection();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= if pace.rate.is_some() { patience } else { end } {
                break;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= most {
                break;
            }
            let due = match pace.rate {
                None => now,
                Some(rate) => begun + Duration::from_secs_f64(number as f64 / rate),
            };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let exchange = task(&mut connection, from + number, Look::Quick);
            let failed = exchange.is_err();
            tell(exchange.map(|exchange| Sample {
                latency: exchange.done - due,
                first: exchange.first - due,
                bytes: exchange.bytes,
                items: exchange.items,
            }));
            if failed {
                std::thread::sleep(AFTER_AN_ERROR);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..pace.connections {
            scope.spawn(worker);
        }
    });
    let elapsed = begun.elapsed();
    if let Some(unsent) = planned.map(|_| most.saturating_sub(next.into_inner())) {
        let was_stopped = stop.load(Ordering::Relaxed);
        for _ in 0..if was_stopped { 0 } else { unsent } {
            tell(Err(anyhow::anyhow!("was due and could not be sent in time")));
        }
    }
    elapsed
}
