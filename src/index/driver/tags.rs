//! What a test of an extended query tag offers to a search: the rows with a value that passes.

use super::{Offer, Rank, Set, best_of};
use crate::{
    dicom::{attributes::Level, matching::Test},
    index::{
        like::{literal_runs, prefix},
        tag_search::is_single,
    },
};

/// A test of an extended query tag. Of a study or series another instance may speak than the one
/// that has the value.
pub(super) fn offer(tag: i64, level: Level, test: &Test) -> Option<Offer> {
    if let Test::All(tests) = test {
        return best_of(tests, |test| offer(tag, level, test));
    }
    let rank = rank_of(test).filter(|_| is_single(test))?;
    let sets = Offer::sets(rank, vec![Set::Tag(tag, test.clone())]);
    if level < Level::Instance { sets.map(Offer::inexact) } else { sets }
}

/// How many rows share a value of a tag, nobody knows.
fn rank_of(test: &Test) -> Option<Rank> {
    match test {
        Test::Fuzzy(_) => Some(Rank::Three),
        Test::Like(pattern) => match prefix(pattern).chars().count() {
            0 if literal_runs(pattern).next().is_none() => None,
            0 => Some(Rank::Anywhere),
            1 | 2 => Some(Rank::Shared),
            _ => Some(Rank::Long),
        },
        Test::Equals(_) | Test::AnyOf(_) | Test::Range { from: Some(_), to: Some(_) } => {
            Some(Rank::Shared)
        }
        Test::Range { from: None, to: None } | Test::Empty | Test::All(_) => None,
        Test::Range { .. } => Some(Rank::Anywhere),
        Test::Any(tests) => {
            let ranks = tests.iter().map(rank_of).collect::<Option<Vec<Rank>>>()?;
            ranks.into_iter().max()
        }
    }
}
