//! Stores that let other partitions' small requests go first.
//!
//! A Store keeps a processor, the disk and the database busy for milliseconds. Eight at once of one
//! partition leave nothing for a search of another that takes one, whatever the priorities of their
//! threads. So while others ask, the Stores of a partition take turns ([`Courtesy::enter`]); where
//! nobody else has asked for [`RECENT`], all of them run at once. Holds: a Store that has a turn and
//! waits for its client for [`STALL`], or has all its bytes and is not done for as long, loses it to
//! the next, and is not made to wait again; so whoever is slow keeps nobody out, and a slow disk or
//! object store is not waited for by one Store after the other. Absent: who may work at all (`seats`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::tenancy::Party;

/// For how long a small request is remembered.
const RECENT: Duration = Duration::from_secs(1);

/// For how long a Store with a turn may wait: for its client, the blob store or the database.
const STALL: Duration = Duration::from_millis(10);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Courtesy(Arc<Inner>);

struct Inner {
    /// Turns of one party.
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who asked last, and who before that was another one.
    asked: [Option<(Party, Instant)>; 2],
    storing: BTreeMap<Party, Of>,
    /// How many turns were given.
    given: u64,
}

/// The Stores of a party; it is there as long as one has a turn.
#[derive(Default)]
struct Of {
    /// Turns by number, with since when each waits.
    taken: BTreeMap<u64, Option<Instant>>,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// One Store may go on, until it is dropped.
pub(super) struct Turn {
    of: Courtesy,
    party: Party,
    number: u64,
}

impl Courtesy {
    /// With so many turns for each party; zero: one for each two processors.
    pub(super) fn new(most: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let most = if most == 0 { processors().div_ceil(2) } else { most };
        Self(Arc::new(Inner { most, state: Mutex::default() }))
    }

    /// The party asks for something small.
    pub(super) fn asked(&self, party: &Party) {
        let now = Instant::now();
        let mut state = self.state();
        let [last, before] = &mut state.asked;
        match last {
            Some((own, at)) if own == party => *at = now,
            _ => {
                *before = last.take();
                *last = Some((party.clone(), now));
            }
        }
    }

    /// Waits until one more Store of the party may go on; `None`: nobody minds it.
    pub(super) async fn enter(&self, party: &Party) -> Option<Turn> {
        let mut waits = {
            let mut state = self.state();
            if !state.others_ask(party) {
                return None;
            }
            if state.storing.get(party).is_none_or(|of| of.taken.len() < self.0.most) {
                return Some(self.give(&mut state, party));
            }
            let (give, waits) = oneshot::channel();
            state.storing.entry(party.clone()).or_default().waiting.push_back(give);
            waits
        };
        loop {
            match tokio::time::timeout(STALL, &mut waits).await {
                Ok(turn) => return turn.ok(),
                Err(_) if !self.state().others_ask(party) => return None,
                Err(_) => self.pass_by_who_stalls(party),
            }
        }
    }

    /// Takes the turns of those that wait for too long.
    fn pass_by_who_stalls(&self, party: &Party) {
        let mut state = self.state();
        if let Some(of) = state.storing.get_mut(party) {
            of.taken.retain(|_, since| since.is_none_or(|since| since.elapsed() < STALL));
        }
        let unwanted = self.serve(&mut state, party);
        drop(state);
        drop(unwanted);
    }

    fn give(&self, state: &mut State, party: &Party) -> Turn {
        state.given += 1;
        let number = state.given;
        state.storing.entry(party.clone()).or_default().taken.insert(number, None);
        Turn { of: self.clone(), party: party.clone(), number }
    }

    /// Gives what is free to those that wait. Turns that nobody took are for the caller to drop, once
    /// the state is unlocked.
    #[must_use]
    fn serve(&self, state: &mut State, party: &Party) -> Vec<Turn> {
        let mut unwanted = Vec::new();
        while let Some(of) = state.storing.get_mut(party) {
            if of.taken.len() >= self.0.most {
                break;
            }
            let Some(give) = of.waiting.pop_front() else {
                if of.taken.is_empty() {
                    state.storing.remove(party);
                }
                break;
            };
            let turn = self.give(state, party);
            unwanted.extend(give.send(turn).err());
        }
        unwanted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn others_ask(&self, party: &Party) -> bool {
        let mut asked = self.asked.iter().flatten();
        asked.any(|(other, at)| other != party && at.elapsed() < RECENT)
    }
}

impl Turn {
    /// Waits from here on.
    pub(super) fn pause(&self) {
        self.waits_since(Some(Instant::now()));
    }

    /// Waits no longer.
    pub(super) fn go_on(&self) {
        self.waits_since(None);
    }

    fn waits_since(&self, since: Option<Instant>) {
        let mut state = self.of.state();
        let of = state.storing.get_mut(&self.party);
        // Otherwise it was passed by.
        if let Some(own) = of.and_then(|of| of.taken.get_mut(&self.number)) {
            *own = since;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let of = self.of.clone();
        let mut state = of.state();
        if let Some(own) = state.storing.get_mut(&self.party) {
            own.taken.remove(&self.number);
        }
        let unwanted = of.serve(&mut state, &self.party);
        drop(state);
        // Each serves whoever is next in its turn.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    fn party(name: &str) -> Party {
        Party::Partition(name.parse().unwrap())
    }

    /// Enters in a task that is at its place when this returns.
    async fn enter(courtesy: &Courtesy, name: &str) -> JoinHandle<Option<Turn>> {
        let (courtesy, party) = (courtesy.clone(), party(name));
        let task = tokio::spawn(async move { courtesy.enter(&party).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn stores_take_turns_while_others_ask() {
        let courtesy = Courtesy::new(2);
        assert!(courtesy.enter(&party("a")).await.is_none(), "nobody asks");
        courtesy.asked(&party("a"));
        assert!(courtesy.enter(&party("a")).await.is_none(), "nobody else asks");
        courtesy.asked(&party("b"));
        let turns = [courtesy.enter(&party("a")).await, courtesy.enter(&party("a")).await];
        assert!(turns.iter().all(Option::is_some));
        let (third, fourth) = (enter(&courtesy, "a").await, enter(&courtesy, "a").await);
        assert!(courtesy.enter(&party("c")).await.is_some(), "c has turns of its own");
        assert!(!third.is_finished());
        // That a asks again does not make b forgotten.
        courtesy.asked(&party("a"));
        third.abort();
        let [first, second] = turns;
        drop(first);
        assert!(fourth.await.unwrap().is_some(), "the third gave up");
        drop(second);
        assert!(courtesy.state().storing.is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_its_client_is_passed_by() {
        let courtesy = Courtesy::new(1);
        courtesy.asked(&party("b"));
        let slow = courtesy.enter(&party("a")).await.unwrap();
        slow.pause();
        slow.go_on();
        let next = enter(&courtesy, "a").await;
        tokio::time::sleep(3 * STALL).await;
        assert!(!next.is_finished(), "it works");
        slow.pause();
        let next = next.await.unwrap().unwrap();
        let last = enter(&courtesy, "a").await;
        slow.go_on();
        drop(slow);
        tokio::time::sleep(3 * STALL).await;
        assert!(!last.is_finished(), "the turn is another's");
        drop(next);
        assert!(last.await.unwrap().is_some());
        assert!(courtesy.state().storing.is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_who_asks_no_more() {
        let courtesy = Courtesy::new(1);
        let begun = Instant::now();
        courtesy.asked(&party("b"));
        let first = courtesy.enter(&party("a")).await.unwrap();
        assert!(courtesy.enter(&party("a")).await.is_none());
        assert!(begun.elapsed() >= RECENT);
        drop(first);
        assert!(courtesy.state().storing.is_empty());
    }
}
