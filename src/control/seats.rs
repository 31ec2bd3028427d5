//! Who is open, who works, and whose turn is next.
//!
//! Seats go to whoever has fewest for his weight ([`Weights`]), small requests before heavy ones,
//! and within a partition in order. Holds: a party has no more than its share of what is open, of
//! what works and of what is heavy, but for begun work that goes on; what waits is bounded; a seat
//! that nobody waits for any more goes to the next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::{Gauge, gauge, histogram};
use tokio::sync::oneshot;

use super::courtesy::{Courtesy, Turn};
use crate::{
    config::OverloadConfig,
    telemetry::names,
    tenancy::{Having, Party, Weights},
};

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The server has enough to do.
    Full,
    /// The partition has its share.
    Share,
    /// There are more connections than are served.
    Connections,
    /// Uploads hold as much memory as they may.
    Memory,
    /// The answer did not begin in time.
    Deadline,
}

impl Shed {
    /// As a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Share => "share",
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Deadline => "deadline",
        }
    }
}

/// What there are seats of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Has all seats.
    Small,
    /// Has some.
    Heavy,
}

/// What a request is that a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Served first.
    Small,
    /// Whole studies and series, and pictures.
    Heavy,
    /// A Store: as heavy, and lets small ones of other partitions go first.
    Store,
}

impl Kind {
    fn lane(self) -> Lane {
        match self {
            Self::Small => Lane::Small,
            Self::Heavy | Self::Store => Lane::Heavy,
        }
    }
}

impl Lane {
    /// In the order in which they are served.
    const ALL: [Self; 2] = [Self::Small, Self::Heavy];

    fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Heavy => "heavy",
        }
    }
}

/// The seats of a server. Cheap to clone.
#[derive(Clone)]
pub struct Seats(Arc<Inner>);

struct Inner {
    all: Most,
    /// Of one party.
    share: Most,
    weights: Weights,
    queue: usize,
    wait: Duration,
    courtesy: Courtesy,
    state: Mutex<State>,
    /// Of each lane: how many work, and wait.
    working: [Gauge; 2],
    waiting: [Gauge; 2],
}

#[derive(Clone, Copy)]
struct Most {
    open: usize,
    working: usize,
    heavy: usize,
}

#[derive(Default)]
struct State {
    open: usize,
    working: [usize; 2],
    /// How many are in queues, those among them that gave up.
    waiting: usize,
    parties: BTreeMap<Party, Of>,
    /// How many seats were given.
    given: u64,
}

/// One party's; it is there as long as it has something or waits for something.
#[derive(Default)]
struct Of {
    open: usize,
    working: [usize; 2],
    waiting: [VecDeque<oneshot::Sender<Seat>>; 2],
    /// The number of the seat that it was given last.
    last: u64,
}

impl Of {
    fn works(&self) -> usize {
        self.working.iter().sum()
    }

    fn is_gone(&self) -> bool {
        self.open == 0 && self.works() == 0 && self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// Counts as open until it is dropped.
pub struct Open(Seats);

/// A request of a party. It counts as one of its open ones until it is dropped, and as working unless
/// it pauses or needs no seat.
pub struct Seat {
    of: Seats,
    party: Party,
    lane: Option<Lane>,
    works: bool,
    turn: Option<Turn>,
}

impl Seats {
    /// By configuration; with `weights` of partitions where they wait. Alone: there is one partition,
    /// which has all.
    pub fn new(config: &OverloadConfig, weights: Weights, is_alone: bool) -> Self {
        let OverloadConfig { open, working, heavy, queue, wait, .. } = *config;
        let all = Most { open, working, heavy };
        let part = |all: usize| match is_alone {
            true => all,
            false => (all * config.partition_share / 100).clamp(1, all),
        };
        let share = Most { open: part(open), working: part(working), heavy: part(heavy) };
        let gauges =
            |name: &'static str| Lane::ALL.map(|of| gauge!(name, names::CLASS => of.as_str()));
        let (working, waiting) = (gauges(names::REQUESTS_WORKING), gauges(names::REQUESTS_WAITING));
        let (courtesy, state) = (Courtesy::new(config.stores_beside), Mutex::default());
        let inner = Inner { all, share, weights, queue, wait, courtesy, state, working, waiting };
        Self(Arc::new(inner))
    }

    /// Counts one more that is open; `None`: there are enough.
    pub fn open(&self) -> Option<Open> {
        let mut state = self.state();
        if state.open >= self.0.all.open {
            return None;
        }
        state.open += 1;
        Some(Open(self.clone()))
    }

    /// Waits for a seat; for none where there is no kind.
    pub async fn take(&self, party: Party, kind: Option<Kind>) -> Result<Seat, Shed> {
        if kind == Some(Kind::Small) {
            self.0.courtesy.asked(&party);
        }
        let mut seat = self.take_in(party, kind.map(Kind::lane)).await?;
        if kind == Some(Kind::Store) {
            seat.turn = self.0.courtesy.enter(&seat.party).await;
        }
        Ok(seat)
    }

    async fn take_in(&self, party: Party, lane: Option<Lane>) -> Result<Seat, Shed> {
        let (waits, lane) = {
            let mut state = self.state();
            let of = state.parties.get(&party);
            if of.is_some_and(|of| of.open >= self.0.share.open) {
                return Err(self.share_or_full(self.0.share.open < self.0.all.open));
            }
            let Some(lane) = lane else {
                state.parties.entry(party.clone()).or_default().open += 1;
                return Ok(self.seat(party, None));
            };
            let is_next = of.is_none_or(|of| of.waiting[lane as usize].is_empty());
            if is_next && self.has_room(&state, of, lane) {
                return Ok(self.give(&mut state, party, lane));
            }
            if !self.queue(&mut state, &party, lane) {
                let shed = self.why(&state, &party, lane);
                self.forget(&mut state, &party);
                return Err(shed);
            }
            let (give, waits) = oneshot::channel();
            state.waiting += 1;
            state.parties.entry(party.clone()).or_default().waiting[lane as usize].push_back(give);
            (waits, lane)
        };
        let waiting = Waits::new(&self.0.waiting[lane as usize], lane);
        let seat = tokio::time::timeout(self.0.wait, waits).await;
        drop(waiting);
        match seat {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) | Err(_) => Err(self.why(&self.state(), &party, lane)),
        }
    }

    /// Whether one more may wait. Those that gave up are taken out first, where there are many.
    fn queue(&self, state: &mut State, party: &Party, lane: Lane) -> bool {
        let Some(of) = state.parties.get_mut(party) else { return self.0.queue > 0 };
        let queue = &mut of.waiting[lane as usize];
        if queue.len() >= self.0.queue {
            let before = queue.len();
            queue.retain(|one| !one.is_closed());
            state.waiting -= before - queue.len();
        }
        queue.len() < self.0.queue
    }

    fn has_room(&self, state: &State, of: Option<&Of>, lane: Lane) -> bool {
        let fits = |most: &Most, working: [usize; 2]| {
            let heavy = working[Lane::Heavy as usize];
            working.iter().sum::<usize>() < most.working
                && (lane == Lane::Small || heavy < most.heavy)
        };
        fits(&self.0.all, state.working) && of.is_none_or(|of| fits(&self.0.share, of.working))
    }

    /// Why there is no seat: what a party has itself, or that the server has none.
    fn why(&self, state: &State, party: &Party, lane: Lane) -> Shed {
        let (all, share) = (&self.0.all, &self.0.share);
        let has_share = state.parties.get(party).is_some_and(|of| {
            let heavy = of.working[Lane::Heavy as usize];
            (of.works() >= share.working && share.working < all.working)
                || (lane == Lane::Heavy && heavy >= share.heavy && share.heavy < all.heavy)
        });
        self.share_or_full(has_share)
    }

    fn share_or_full(&self, is_share: bool) -> Shed {
        if is_share { Shed::Share } else { Shed::Full }
    }

    fn seat(&self, party: Party, lane: Option<Lane>) -> Seat {
        Seat { of: self.clone(), party, lane, works: false, turn: None }
    }

    fn give(&self, state: &mut State, party: Party, lane: Lane) -> Seat {
        state.given += 1;
        let of = state.parties.entry(party.clone()).or_default();
        of.open += 1;
        of.last = state.given;
        let mut seat = self.seat(party, Some(lane));
        seat.work(state);
        seat
    }

    /// Gives what is free to those that wait. Seats that nobody took are for the caller to drop, once
    /// the state is unlocked.
    #[must_use]
    fn serve(&self, state: &mut State) -> Vec<Seat> {
        let mut unwanted = Vec::new();
        while state.waiting > 0 {
            let next = Lane::ALL.into_iter().find_map(|lane| self.next(state, lane));
            let Some((party, lane, give)) = next else { break };
            let seat = self.give(state, party, lane);
            unwanted.extend(give.send(seat).err());
        }
        unwanted
    }

    /// Who is next.
    fn next(&self, state: &mut State, lane: Lane) -> Option<(Party, Lane, oneshot::Sender<Seat>)> {
        let waiting = state.parties.iter().filter_map(|(party, of)| {
            let may = !of.waiting[lane as usize].is_empty() && self.has_room(state, Some(of), lane);
            may.then(|| (party, Having { held: of.works(), last: of.last }))
        });
        let party = self.0.weights.next(waiting)?.clone();
        let give = state.parties.get_mut(&party)?.waiting[lane as usize].pop_front()?;
        state.waiting -= 1;
        Some((party, lane, give))
    }

    fn forget(&self, state: &mut State, party: &Party) {
        if state.parties.get(party).is_some_and(Of::is_gone) {
            state.parties.remove(party);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// There is nothing to do for it for now.
    pub fn pause(&mut self) {
        if !self.works {
            return;
        }
        if let Some(turn) = &self.turn {
            turn.pause();
        }
        let of = self.of.clone();
        let mut state = of.state();
        self.rest(&mut state);
        let unwanted = of.serve(&mut state);
        drop(state);
        drop(unwanted);
    }

    /// There is something to do for it again. Does not wait.
    pub fn go_on(&mut self) {
        if self.works || self.lane.is_none() {
            return;
        }
        if let Some(turn) = &self.turn {
            turn.go_on();
        }
        let of = self.of.clone();
        self.work(&mut of.state());
    }

    /// Of a Store: all its bytes are there. What is left to do for it is mostly to wait.
    pub fn wind_up(&mut self) {
        if let Some(turn) = &self.turn {
            turn.pause();
        }
    }

    fn work(&mut self, state: &mut State) {
        let Some(lane) = self.lane else { return };
        let lane = lane as usize;
        state.working[lane] += 1;
        state.parties.entry(self.party.clone()).or_default().working[lane] += 1;
        self.of.0.working[lane].increment(1.0);
        self.works = true;
    }

    fn rest(&mut self, state: &mut State) {
        let Some(lane) = self.lane else { return };
        let lane = lane as usize;
        state.working[lane] -= 1;
        if let Some(of) = state.parties.get_mut(&self.party) {
            of.working[lane] -= 1;
        }
        self.of.0.working[lane].decrement(1.0);
        self.works = false;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let of = self.of.clone();
        let mut state = of.state();
        if self.works {
            self.rest(&mut state);
        }
        if let Some(own) = state.parties.get_mut(&self.party) {
            own.open -= 1;
        }
        of.forget(&mut state, &self.party);
        let unwanted = of.serve(&mut state);
        drop(state);
        // Each serves whoever is next in its turn.
        drop(unwanted);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

/// Counts one that waits, and how long.
struct Waits<'a> {
    gauge: &'a Gauge,
    lane: Lane,
    since: Instant,
}

impl<'a> Waits<'a> {
    fn new(gauge: &'a Gauge, lane: Lane) -> Self {
        gauge.increment(1.0);
        Self { gauge, lane, since: Instant::now() }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
        histogram!(names::REQUEST_WAIT_SECONDS, names::CLASS => self.lane.as_str())
            .record(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    fn seats(working: usize, heavy: usize, weights: &[(&str, u32)]) -> Seats {
        let config = OverloadConfig {
            working,
            heavy,
            open: 100,
            partition_share: 75,
            queue: 2,
            wait: Duration::from_secs(60),
            ..OverloadConfig::default()
        };
        let weights = weights.iter().map(|(name, weight)| (name.parse().unwrap(), *weight));
        Seats::new(&config, Weights::new(weights.collect()), false)
    }

    fn party(name: &str) -> Party {
        Party::Partition(name.parse().unwrap())
    }

    async fn small(seats: &Seats, name: &str) -> Seat {
        seats.take(party(name), Some(Kind::Small)).await.ok().unwrap()
    }

    /// Waits in a task that is at its place in the queue when this returns.
    async fn queue(seats: &Seats, name: &str, kind: Kind) -> JoinHandle<Result<Seat, Shed>> {
        let (seats, who) = (seats.clone(), party(name));
        let task = tokio::spawn(async move { seats.take(who, Some(kind)).await });
        tokio::task::yield_now().await;
        task
    }

    async fn shed(seats: &Seats, name: &str, kind: Kind) -> Shed {
        seats.take(party(name), Some(kind)).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_party_has_its_share_and_is_told_of_that_alone() {
        let seats = seats(4, 2, &[]);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(small(&seats, "a").await);
        }
        let waits = [queue(&seats, "a", Kind::Small).await, queue(&seats, "a", Kind::Small).await];
        assert_eq!(shed(&seats, "a", Kind::Small).await, Shed::Share);
        let other = small(&seats, "b").await;
        let full = [queue(&seats, "b", Kind::Small).await, queue(&seats, "b", Kind::Small).await];
        assert_eq!(shed(&seats, "b", Kind::Small).await, Shed::Full);
        drop(other);
        tokio::task::yield_now().await;
        assert!(full[0].is_finished() && !waits[0].is_finished(), "a has its share");
        drop((held, full, waits));
    }

    #[tokio::test]
    async fn small_ones_go_first_and_heavy_ones_have_some_seats() {
        let seats = seats(4, 1, &[]);
        let heavy = seats.take(party("a"), Some(Kind::Heavy)).await.ok().unwrap();
        let waits = queue(&seats, "b", Kind::Heavy).await;
        let mut held = Vec::new();
        for name in ["a", "b", "c"] {
            held.push(small(&seats, name).await);
        }
        let next = queue(&seats, "d", Kind::Small).await;
        drop(heavy);
        tokio::task::yield_now().await;
        assert!(next.is_finished() && !waits.is_finished());
        held.pop();
        waits.await.unwrap().ok().unwrap();
    }

    #[tokio::test]
    async fn whoever_has_least_for_his_weight_is_next() {
        let seats = seats(4, 1, &[("heavy", 3)]);
        let (one, two) = (small(&seats, "a").await, small(&seats, "a").await);
        let (b, heavy) = (small(&seats, "b").await, small(&seats, "heavy").await);
        let waits =
            [queue(&seats, "b", Kind::Small).await, queue(&seats, "heavy", Kind::Small).await];
        drop(one);
        tokio::task::yield_now().await;
        assert!(waits[1].is_finished() && !waits[0].is_finished());
        drop((two, b, heavy, waits));
    }

    #[tokio::test]
    async fn who_pauses_lets_others_in_and_is_never_kept_from_going_on() {
        let seats = seats(2, 1, &[]);
        let mut slow = seats.take(party("a"), Some(Kind::Heavy)).await.ok().unwrap();
        let waits = queue(&seats, "b", Kind::Heavy).await;
        slow.pause();
        let other = waits.await.unwrap().ok().unwrap();
        slow.go_on();
        assert_eq!(seats.state().working, [0, 2]);
        let waits = queue(&seats, "c", Kind::Heavy).await;
        drop(other);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "one works still");
        slow.pause();
        waits.await.unwrap().ok().unwrap();
        drop(slow);
        assert!(seats.state().parties.is_empty());
        assert_eq!(seats.state().working, [0, 0]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_goes_to_the_next() {
        let seats = seats(2, 1, &[]);
        let held = seats.take(party("a"), Some(Kind::Heavy)).await.ok().unwrap();
        let gone = queue(&seats, "b", Kind::Heavy).await;
        let stays = queue(&seats, "c", Kind::Heavy).await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        drop(stays.await.unwrap().ok().unwrap());
        let state = seats.state();
        assert!(state.waiting == 0 && state.parties.is_empty());
    }
}
