//! Whose turn it is to have a connection of the pool.
//!
//! Connections go to whoever has fewest for his weight ([`Weights`]), and not to whoever came
//! first. Holds: a partition never has more than its share, so that some are left for whoever comes
//! next; within a partition requests go in order; what waits is bounded. A turn that is dropped,
//! and one that nobody waits for any more, goes on to the next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{IndexError, options::DbOptions};
use crate::tenancy::{Having, Party, Weights};

/// Most requests of one party that wait; what comes then is told to come again.
const MOST_WAITING: usize = 512;

/// The turns of one pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Most turns of one party.
    most: usize,
    weights: Weights,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    parties: BTreeMap<Party, Queue>,
    /// How many turns were given.
    given: u64,
}

/// One party's; it is there as long as it has something or waits for something.
#[derive(Debug, Default)]
struct Queue {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// The number of the turn that it was given last.
    last: u64,
}

/// A turn: one connection may be had as long as it lives.
#[derive(Debug)]
pub(super) struct Turn {
    of: Turns,
    party: Party,
}

/// No turn was to be had in time, or too many wait.
#[derive(Debug)]
pub(super) struct NoTurn;

impl From<NoTurn> for IndexError {
    fn from(_: NoTurn) -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }
}

impl Turns {
    pub(super) fn new(options: &DbOptions, weights: Weights) -> Self {
        let free = options.max_connections.max(1) as usize;
        let most = (free * options.partition_share as usize / 100).clamp(1, free);
        let state = State { free, parties: BTreeMap::new(), given: 0 };
        Self(Arc::new(Inner { most, weights, state: Mutex::new(state) }))
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, party: Party, patience: Duration) -> Result<Turn, NoTurn> {
        let waits = {
            let mut state = self.state();
            if let Some(turn) = self.at_once(&mut state, &party) {
                return Ok(turn);
            }
            let waiting = &mut state.parties.entry(party).or_default().waiting;
            if waiting.len() >= MOST_WAITING {
                // Of these some may have given up.
                waiting.retain(|one| !one.is_closed());
            }
            if waiting.len() >= MOST_WAITING {
                return Err(NoTurn);
            }
            let (give, waits) = oneshot::channel();
            waiting.push_back(give);
            waits
        };
        match tokio::time::timeout(patience, waits).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(NoTurn),
        }
    }

    /// A turn, where nobody has to wait for it.
    pub(super) fn try_take(&self, party: &Party) -> Option<Turn> {
        self.at_once(&mut self.state(), party)
    }

    fn at_once(&self, state: &mut State, party: &Party) -> Option<Turn> {
        let queue = state.parties.get(party);
        let is_next =
            queue.is_none_or(|queue| queue.held < self.0.most && queue.waiting.is_empty());
        (state.free > 0 && is_next).then(|| self.give(state, party.clone()))
    }

    fn give(&self, state: &mut State, party: Party) -> Turn {
        state.free -= 1;
        state.given += 1;
        let queue = state.parties.entry(party.clone()).or_default();
        queue.held += 1;
        queue.last = state.given;
        Turn { of: self.clone(), party }
    }

    /// Gives what is free to those that wait. Turns that nobody took are for the caller to drop, once
    /// the state is unlocked.
    #[must_use]
    fn serve(&self, state: &mut State) -> Vec<Turn> {
        let mut unwanted = Vec::new();
        while state.free > 0 {
            let Some((party, give)) = self.next(state) else { break };
            let turn = self.give(state, party);
            unwanted.extend(give.send(turn).err());
        }
        unwanted
    }

    /// Who is next.
    fn next(&self, state: &mut State) -> Option<(Party, oneshot::Sender<Turn>)> {
        let waiting = state.parties.iter().filter_map(|(party, queue)| {
            let may = !queue.waiting.is_empty() && queue.held < self.0.most;
            may.then_some((party, Having { held: queue.held, last: queue.last }))
        });
        let party = self.0.weights.next(waiting)?.clone();
        let give = state.parties.get_mut(&party)?.waiting.pop_front()?;
        Some((party, give))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.free += 1;
        if let Some(queue) = state.parties.get_mut(&self.party) {
            queue.held -= 1;
            if queue.held == 0 && queue.waiting.is_empty() {
                state.parties.remove(&self.party);
            }
        }
        let unwanted = self.of.serve(&mut state);
        drop(state);
        // Each serves whoever is next in its turn.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn party(name: &str) -> Party {
        Party::Partition(name.parse().unwrap())
    }

    fn turns(connections: u32, weights: &[(&str, u32)]) -> Turns {
        let weights = weights.iter().map(|(name, weight)| (name.parse().unwrap(), *weight));
        let shares = DbOptions { partition_share: 75, ..DbOptions::default() };
        Turns::new(
            &DbOptions { max_connections: connections, ..shares },
            Weights::new(weights.collect()),
        )
    }

    /// Waits for a turn in a task that is at its place in the queue when this returns.
    async fn queue(turns: &Turns, name: &str) -> tokio::task::JoinHandle<Result<Turn, NoTurn>> {
        let (of, who) = (turns.clone(), party(name));
        let task = tokio::spawn(async move { of.take(who, PATIENCE).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn a_party_has_no_more_than_its_share_and_others_have_the_rest() {
        let turns = turns(4, &[]);
        let held: Vec<_> = (0..3).map(|_| turns.try_take(&party("a")).unwrap()).collect();
        assert!(turns.try_take(&party("a")).is_none());
        let waits = queue(&turns, "a").await;
        let other = turns.try_take(&party("b")).unwrap();
        assert!(turns.try_take(&party("c")).is_none());
        // What b gives back is not a's, who has its share.
        drop(other);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(held);
        waits.await.unwrap().unwrap();
        assert_eq!(turns.state().free, 4);
        assert!(turns.state().parties.is_empty());
    }

    #[tokio::test]
    async fn whoever_has_least_for_his_weight_is_next() {
        let turns = turns(4, &[("heavy", 3)]);
        let mut held: Vec<_> = (0..3).map(|_| turns.try_take(&party("a")).unwrap()).collect();
        let last = turns.try_take(&party("b")).unwrap();
        let waits = [queue(&turns, "a").await, queue(&turns, "b").await];
        let heavy = [queue(&turns, "heavy").await, queue(&turns, "heavy").await];
        // b has one, a two after this, heavy none; then one for a weight of three.
        held.pop();
        tokio::task::yield_now().await;
        assert!(heavy[0].is_finished() && !heavy[1].is_finished());
        held.pop();
        tokio::task::yield_now().await;
        assert!(heavy[1].is_finished() && !waits[0].is_finished() && !waits[1].is_finished());
        // Of a and b, which have one each, a had its last turn before b.
        drop(held);
        tokio::task::yield_now().await;
        let [a, b] = waits;
        assert!(a.is_finished() && !b.is_finished());
        drop(last);
        b.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_goes_to_the_next() {
        let turns = turns(1, &[]);
        let held = turns.try_take(&party("a")).unwrap();
        let (gone, stays) = (queue(&turns, "b").await, queue(&turns, "c").await);
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        let turn = stays.await.unwrap().unwrap();
        // And where it is given up between being given and being taken.
        let late = queue(&turns, "d").await;
        drop(turn);
        late.abort();
        drop(late.await);
        assert_eq!(turns.state().free, 1);
        assert!(turns.state().parties.values().all(|queue| queue.held == 0));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let turns = turns(1, &[]);
        let held = turns.try_take(&party("a")).unwrap();
        assert!(turns.take(party("b"), Duration::from_millis(10)).await.is_err());
        let mut waits = Vec::new();
        for _ in 0..MOST_WAITING {
            waits.push(queue(&turns, "c").await);
        }
        assert!(turns.take(party("c"), Duration::MAX).await.is_err());
        drop(held);
        // Whoever has had his gives it on.
        for one in waits {
            drop(one.await.unwrap().unwrap());
        }
        assert!(turns.try_take(&party("c")).is_some());
    }
}
