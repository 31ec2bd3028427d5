//! The teller of webhooks: finds those for which there is something to send, and has it sent.
//!
//! One look every [`TICK`] finds what is due, in one statement for all partitions that have webhooks
//! (which those are is looked up now and then, and when one is added here): it tells ids alone, and
//! whatever is read or written for one of them is done with the scope of its partition. Each
//! delivery is a task of its own, so that a slow receiver holds up nobody but itself; how many there
//! are is bounded, for each partition too, and partitions take turns.
//!
//! Holds: stopped or killed anywhere, what was not written down as delivered is sent again, under
//! the same id; several servers share the work by leases. Absent: what a delivery is
//! (`webhook_delivery`).

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use rand::{RngExt, seq::SliceRandom};
use tokio::{
    task::{Id, JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Chain, WorkerError, back_off, partitions, webhook_delivery::Delivery};
use crate::{
    archive::WebhookNews,
    config::WebhooksConfig,
    index::{Db, IndexError},
    outbound::Sender,
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Time between two looks for what is due, at least.
const TICK: Duration = Duration::from_millis(200);
/// How many times as long as a look takes the rest after it is, at least.
const PAUSE: u32 = 9;
/// Time between two looks for partitions that have webhooks.
const SCAN: Duration = Duration::from_secs(30);
/// Rest after a failure of the index, doubled with each further one, and at most.
const FAILED: Duration = Duration::from_secs(1);
const FAILED_CAP: Duration = Duration::from_secs(30);
/// Time for which a webhook is left alone whose delivery the index failed.
const RESTED: Duration = Duration::from_secs(5);
/// Longest time for letting go what was being sent, at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// What part of all deliveries one partition gets.
const PART: usize = 8;

/// Tells receivers of changes.
#[derive(Clone)]
pub struct Webhooks {
    delivery: Delivery,
    db: Db,
    most: usize,
}

/// What is known between looks.
#[derive(Default)]
struct Known {
    /// Partitions that have webhooks.
    watched: Vec<PartitionScope>,
    /// When that is to be looked up again.
    scan_at: Option<Instant>,
    tasks: JoinSet<Result<(), IndexError>>,
    running: HashMap<Id, (PartitionId, Uuid)>,
    /// Webhooks that the index failed, until when they are left alone.
    resting: HashMap<Uuid, Instant>,
}

impl Webhooks {
    /// A teller by `[webhooks]`. `partitions`: whether events name their partition.
    pub fn new(db: Db, sender: Sender, config: &WebhooksConfig, partitions: bool) -> Self {
        let delivery = Delivery::new(db.clone(), sender, config, partitions);
        Self { delivery, db, most: config.max_concurrent }
    }

    /// Runs until `stop` is cancelled, which cuts short what is being sent and lets others take it at
    /// once. `news` tells of webhooks that are added or changed here.
    pub fn start(self, news: Arc<WebhookNews>, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut known = Known::default();
            stop.run_until_cancelled(self.run(&news, &mut known)).await;
            known.tasks.shutdown().await;
            // Where that fails leases run out by themselves.
            let _ = tokio::time::timeout(FAREWELL, self.release(&known)).await;
        })
    }

    async fn run(&self, news: &WebhookNews, known: &mut Known) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let looked = AssertUnwindSafe(self.look(known)).catch_unwind().await;
            let rest = match looked {
                Ok(Ok(())) => {
                    failures = 0;
                    let idle = known.watched.is_empty() && known.tasks.is_empty();
                    if idle { SCAN } else { TICK.max(begun.elapsed() * PAUSE) }
                }
                Ok(Err(error)) => {
                    failures += 1;
                    tracing::warn!(error = %Chain(&error), "webhooks wait");
                    back_off(FAILED, failures, FAILED_CAP)
                }
                Err(_) => {
                    failures += 1;
                    tracing::error!("a look for webhooks panicked");
                    back_off(FAILED, failures, FAILED_CAP)
                }
            };
            if let Ok(changed) = tokio::time::timeout(rest, news.wait()).await {
                let new = changed.into_iter().filter(|scope| !known.watched.contains(scope));
                let new: Vec<_> = new.collect();
                known.watched.extend(new);
                // However often that is.
                tokio::time::sleep_until(begun + TICK).await;
            }
        }
    }

    /// Lets others take what was being sent.
    async fn release(&self, known: &Known) {
        for (partition, id) in known.running.values() {
            let of = |scope: &&PartitionScope| scope.partition() == partition;
            let Some(scope) = known.watched.iter().find(of) else { continue };
            if let Err(error) = self.delivery.release(scope, *id).await {
                tracing::warn!(%partition, webhook = %id, error = %Chain(&error), "held a while");
            }
        }
    }

    /// Starts what is due, as far as there is room.
    async fn look(&self, known: &mut Known) -> Result<(), WorkerError> {
        known.reap();
        if known.scan_at.is_none_or(|at| at <= Instant::now()) {
            known.watched = self.scan().await?;
            known.scan_at = Some(Instant::now() + SCAN);
        }
        let room = self.most.saturating_sub(known.tasks.len());
        if known.watched.is_empty() || room == 0 {
            return Ok(());
        }
        let scope = Scope::union(known.watched.iter().map(|one| &**one));
        let mut due = self.db.begin(&scope).await?.webhooks_due().await?;
        let now = Instant::now();
        known.resting.retain(|_, until| *until > now);
        due.retain(|(_, id)| !known.resting.contains_key(id));
        let mut busy = BTreeMap::new();
        for (partition, id) in known.running.values() {
            *busy.entry(partition.clone()).or_insert(0) += 1;
            due.retain(|(_, other)| other != id);
        }
        let mut rng = rand::rng();
        // One that always has something must not always come before those after it.
        due.shuffle(&mut rng);
        let first = rng.random_range(0..=known.watched.len());
        for (partition, id) in turns(due, &busy, (room, (self.most / PART).max(1)), first) {
            let scope = known.watched.iter().find(|one| *one.partition() == partition).cloned();
            let Some(scope) = scope else { continue };
            let delivery = self.delivery.clone();
            let task = known.tasks.spawn(async move { delivery.run(&scope, id).await });
            known.running.insert(task.id(), (partition, id));
        }
        Ok(())
    }

    /// The partitions that have webhooks which are enabled.
    async fn scan(&self) -> Result<Vec<PartitionScope>, WorkerError> {
        let all = partitions(&self.db).await?;
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let each: Vec<PartitionScope> = all.iter().map(Scope::for_maintenance).collect();
        if each.is_empty() {
            return Ok(each);
        }
        let scope = Scope::union(each.iter().map(|one| &**one));
        Ok(self.db.begin(&scope).await?.webhooks_enabled().await?)
    }
}

impl Known {
    /// Notes which deliveries have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let (id, failed) = match ended {
                Ok((id, Ok(()))) => (id, None),
                Ok((id, Err(error))) => (id, Some(Chain(&error).to_string())),
                Err(error) => (error.id(), Some("panicked".to_owned())),
            };
            let ran = self.running.remove(&id);
            if let (Some(error), Some((partition, webhook))) = (failed, ran) {
                tracing::warn!(%partition, %webhook, error, "a delivery failed");
                self.resting.insert(webhook, Instant::now() + RESTED);
            }
        }
    }
}

/// Which of those that are due are sent to now: partitions take turns, beginning with the `first`
/// one, up to `room` in all and `share` for a partition, those that are `busy` counted.
fn turns(
    due: Vec<(PartitionId, Uuid)>,
    busy: &BTreeMap<PartitionId, usize>,
    (room, share): (usize, usize),
    first: usize,
) -> Vec<(PartitionId, Uuid)> {
    let mut queues: BTreeMap<PartitionId, Vec<Uuid>> = BTreeMap::new();
    for (partition, id) in due {
        queues.entry(partition).or_default().push(id);
    }
    let mut queues: Vec<_> = queues
        .into_iter()
        .map(|(partition, ids)| {
            let left = share.saturating_sub(busy.get(&partition).copied().unwrap_or(0));
            (partition, ids.into_iter().take(left))
        })
        .collect();
    if !queues.is_empty() {
        let by = first % queues.len();
        queues.rotate_left(by);
    }
    let mut chosen = Vec::new();
    loop {
        let before = chosen.len();
        for (partition, ids) in &mut queues {
            if chosen.len() == room {
                return chosen;
            }
            chosen.extend(ids.next().map(|id| (partition.clone(), id)));
        }
        if chosen.len() == before {
            return chosen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns() {
        let id = |n: u128| Uuid::from_u128(n);
        let of = |name: &str, n| (name.parse::<PartitionId>().unwrap(), id(n));
        let due = || {
            let mut due: Vec<_> = (1..=9).map(|n| of("a", n)).collect();
            due.extend([of("b", 11), of("c", 21), of("c", 22)]);
            due
        };
        let chosen = |busy: &[(&str, usize)], bounds, first| {
            let busy = busy.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect();
            let chosen = turns(due(), &busy, bounds, first);
            chosen.into_iter().map(|(_, id)| id.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[], (100, 100), 0), [1, 11, 21, 2, 22, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(chosen(&[], (100, 3), 1), [11, 21, 1, 22, 2, 3]);
        assert_eq!(chosen(&[], (4, 3), 5), [21, 1, 11, 22]);
        assert_eq!(chosen(&[("a", 3), ("c", 2)], (4, 3), 0), [11, 21]);
        assert_eq!(chosen(&[("a", 9)], (0, 3), 0), [] as [u128; 0]);
        assert_eq!(turns(Vec::new(), &BTreeMap::new(), (4, 4), 3), []);
    }
}
