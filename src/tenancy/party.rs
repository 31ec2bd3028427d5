//! Who asks for a part of what all share, and whose turn it is to have one.
//!
//! One rule wherever requests wait for each other: next is who has least for its weight, and of several
//! who had none for longest. With one queue for all, the requests of a partition that asks for much
//! would stand before everybody else's.

use std::collections::BTreeMap;

use super::{PartitionId, Scope};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The server, for what belongs to no partition.
    Server,
    /// A partition.
    Partition(PartitionId),
    /// Whoever speaks of several partitions at once.
    Several,
}

impl From<&Scope> for Party {
    fn from(scope: &Scope) -> Self {
        scope.only().map_or(Self::Several, |one| Self::Partition(one.clone()))
    }
}

/// What a party has, and waits for more of.
#[derive(Clone, Copy, Debug)]
pub struct Having {
    /// How many it has.
    pub held: usize,
    /// The number of what it was given last, in the order of all.
    pub last: u64,
}

/// What partitions weigh (`partitions.weights`); others weigh 1.
#[derive(Clone, Debug, Default)]
pub struct Weights(BTreeMap<PartitionId, u32>);

impl Weights {
    /// Those of these partitions.
    pub fn new(weights: BTreeMap<PartitionId, u32>) -> Self {
        Self(weights)
    }

    /// Who of those that wait is next.
    pub fn next<'a>(
        &self,
        waiting: impl Iterator<Item = (&'a Party, Having)>,
    ) -> Option<&'a Party> {
        let mut best: Option<(&Party, Having, usize)> = None;
        for (party, own) in waiting {
            let weight = self.of(party);
            let is_better = best.is_none_or(|(_, other, other_weight)| {
                // held / weight, without fractions.
                let (held, others) = (own.held * other_weight, other.held * weight);
                (held, own.last) < (others, other.last)
            });
            if is_better {
                best = Some((party, own, weight));
            }
        }
        best.map(|(party, ..)| party)
    }

    fn of(&self, party: &Party) -> usize {
        match party {
            Party::Partition(id) => self.0.get(id).map_or(1, |weight| *weight as usize),
            Party::Server | Party::Several => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_is_who_has_least_for_its_weight_and_had_none_for_longest() {
        let weights = Weights::new([("heavy".parse().unwrap(), 3)].into());
        let party = |name: &str| Party::Partition(name.parse().unwrap());
        let parties = [party("a"), party("heavy"), Party::Several];
        let next = |having: [(usize, u64); 3]| {
            let waiting = parties.iter().zip(having);
            let waiting = waiting.map(|(party, (held, last))| (party, Having { held, last }));
            parties.iter().position(|party| weights.next(waiting.clone()) == Some(party)).unwrap()
        };
        assert_eq!(next([(1, 1), (2, 2), (1, 3)]), 1, "two of three are less than one");
        assert_eq!(next([(1, 3), (3, 2), (1, 1)]), 2, "as many for their weights");
        assert_eq!(next([(0, 9), (1, 2), (1, 1)]), 0);
        assert_eq!(weights.next(std::iter::empty()), None);
    }
}
