//! What parts that are still arriving hold in memory, all Stores together.
//!
//! A part is held while it comes: all of it as long as it may be a small one, then a few pieces,
//! and what the reader made of its header. Its client decides how long that takes. Holds: all of
//! them hold no more than `store.upload_bytes`, and those of one partition no more than its share
//! of it; who would need more waits without holding what others wait for, for `overload.wait`, and
//! is then told to come again; while little is left, nobody new begins, and whoever is slow gives
//! back what he has. A part that needs more than there is takes all of it and goes on alone.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::{Gauge, gauge};
use tokio::{sync::Notify, time::Instant};

use crate::{config::Config, telemetry::names, tenancy::PartitionId};

/// Of four parts of the memory, those beyond which it is short.
const SHORT: u64 = 3;
/// Bytes a second that a part has to bring while memory is short, once it has been coming for so
/// long.
const SLOW: u64 = 64 << 10;
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// Why nothing more may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMemory {
    /// The partition has its share.
    Share,
    /// All uploads together hold as much as they may.
    All,
}

/// What all parts hold. Cheap to clone.
#[derive(Clone)]
pub(super) struct Uploads(Arc<Inner>);

struct Inner {
    all: u64,
    /// Of one partition.
    share: u64,
    wait: Duration,
    state: Mutex<State>,
    freed: Notify,
    gauge: Gauge,
}

#[derive(Default)]
struct State {
    held: u64,
    partitions: HashMap<PartitionId, u64>,
}

/// What one part holds; given back when it is dropped.
pub(super) struct Held {
    of: Uploads,
    partition: PartitionId,
    bytes: u64,
    since: Instant,
}

impl Uploads {
    pub(super) fn new(config: &Config) -> Self {
        let all = config.store.upload_bytes;
        let share = match config.features.enable_data_partition {
            true => all / 100 * config.overload.partition_share as u64,
            false => all,
        };
        Self::of(all, share, config.overload.wait)
    }

    fn of(all: u64, share: u64, wait: Duration) -> Self {
        let (state, freed, gauge) =
            (Mutex::default(), Notify::new(), gauge!(names::STORE_HELD_BYTES));
        Self(Arc::new(Inner { all, share, wait, state, freed, gauge }))
    }

    /// Whether one more Store may begin in a partition.
    pub(super) fn has_room(&self, partition: &PartitionId) -> Result<(), NoMemory> {
        let state = self.state();
        let own = state.partitions.get(partition).copied().unwrap_or_default();
        if self.0.share < self.0.all && is_short(own, self.0.share) {
            return Err(NoMemory::Share);
        }
        if is_short(state.held, self.0.all) { Err(NoMemory::All) } else { Ok(()) }
    }

    /// A part begins, which holds nothing yet.
    pub(super) fn part(&self, partition: &PartitionId) -> Held {
        let (of, partition) = (self.clone(), partition.clone());
        Held { of, partition, bytes: 0, since: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_short(held: u64, most: u64) -> bool {
    held > most / 4 * SHORT
}

impl Held {
    /// Holds `bytes` from now on, if they are to be had at once. Less than before always is.
    pub(super) fn hold_now(&mut self, bytes: u64) -> bool {
        let inner = &self.of.0;
        let bytes = bytes.min(inner.share);
        if bytes == self.bytes {
            return true;
        }
        let mut state = self.of.state();
        let own = state.partitions.get(&self.partition).copied().unwrap_or_default();
        let (all, own) = (state.held - self.bytes + bytes, own - self.bytes + bytes);
        if bytes > self.bytes && (all > inner.all || own > inner.share) {
            return false;
        }
        state.held = all;
        if own == 0 {
            state.partitions.remove(&self.partition);
        } else {
            state.partitions.insert(self.partition.clone(), own);
        }
        inner.gauge.set(all as f64);
        drop(state);
        if bytes < self.bytes {
            inner.freed.notify_waiters();
        }
        self.bytes = bytes;
        true
    }

    /// As [`Held::hold_now`], when others have given back enough; whether they did in time.
    pub(super) async fn hold(&mut self, bytes: u64) -> bool {
        let of = self.of.clone();
        let until = Instant::now() + of.0.wait;
        loop {
            let mut freed = pin!(of.0.freed.notified());
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if self.hold_now(bytes) {
                return true;
            }
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return self.hold_now(bytes);
            }
        }
    }

    /// Whether it is in others' way, having brought so little in its time.
    pub(super) fn is_in_the_way(&self, came: u64) -> bool {
        let took = self.since.elapsed();
        took >= SLOW_AFTER
            && came / took.as_secs().max(1) < SLOW
            && self.of.has_room(&self.partition).is_err()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold_now(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &str) -> PartitionId {
        name.parse().unwrap()
    }

    fn uploads() -> Uploads {
        Uploads::of(1000, 600, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn all_hold_no_more_than_there_is_and_a_partition_its_share() {
        let (uploads, a, b) = (uploads(), partition("a"), partition("b"));
        let (mut one, mut two) = (uploads.part(&a), uploads.part(&a));
        assert!(one.hold_now(400) && !two.hold_now(201) && two.hold_now(200));
        assert_eq!(uploads.has_room(&a), Err(NoMemory::Share));
        assert_eq!(uploads.has_room(&b), Ok(()));
        let mut other = uploads.part(&b);
        assert!(other.hold_now(400) && !other.hold_now(401));
        assert_eq!(uploads.has_room(&partition("c")), Err(NoMemory::All));
        drop((one, two, other));
        // What needs more than there is goes on alone.
        let mut large = uploads.part(&a);
        assert!(large.hold_now(u64::MAX) && !uploads.part(&a).hold_now(1));
        drop(large);
        let state = uploads.state();
        assert!(state.held == 0 && state.partitions.is_empty());
    }

    #[tokio::test]
    async fn who_waits_has_what_others_give_back() {
        let (uploads, a) = (uploads(), partition("a"));
        let mut first = uploads.part(&a);
        assert!(first.hold_now(600));
        let mut second = uploads.part(&a);
        let waits = tokio::spawn(async move { (second.hold(300).await, second) });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        first.hold_now(300);
        let (has, second) = waits.await.unwrap();
        assert!(has);
        drop((first, second));
        assert_eq!(uploads.state().held, 0);
    }

    #[tokio::test]
    async fn waiting_ends() {
        let (uploads, a) = (Uploads::of(1000, 1000, Duration::from_millis(1)), partition("a"));
        let mut all = uploads.part(&a);
        assert!(all.hold_now(1000) && !uploads.part(&a).hold(1).await);
    }

    #[test]
    fn whoever_is_slow_is_in_the_way_when_memory_is_short() {
        let (uploads, a) = (uploads(), partition("a"));
        let (mut slow, mut other) = (uploads.part(&a), uploads.part(&a));
        assert!(slow.hold_now(10));
        slow.since = slow.since.checked_sub(SLOW_AFTER).unwrap();
        assert!(!slow.is_in_the_way(0), "nobody needs it");
        assert!(other.hold_now(590));
        assert!(slow.is_in_the_way(9 * SLOW) && !slow.is_in_the_way(10 * SLOW));
        assert!(!other.is_in_the_way(10 * SLOW));
    }
}
