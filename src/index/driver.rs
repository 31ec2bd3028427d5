//! Which index answers a search: chosen by what the conditions say, not by statistics, which know
//! nothing of one partition and little of a prefix.
//!
//! A condition may be answered by **lanes**, lists of rows in the order of results, merged: a page is
//! read from them until it is full. Or by a **set**, rows in no order among which all results are,
//! which are put in order once all are read: right for what is rare. Of the conditions the one that
//! promises to leave the fewest rows is taken; the [`Rank`]s say what is thought of each. All others
//! are tested row by row; or, where that would be many, all that have **lists** in the order of
//! results are read side by side, for what is in each of them. Pure.

use super::{
    IndexError,
    filter::name_columns,
    like::{literal_runs, prefix},
    search::{Condition, RequestKey, SearchPlan, Within},
};
use crate::dicom::{
    Uid,
    attributes::Level,
    matching::{Test, Word},
};

mod names;
mod tags;

use names::{name_lists, name_offer, pair_of_words};

/// Most lanes that are merged. More values are tested row by row.
const MAX_LANES: usize = 16;

/// Most lists that are read side by side.
const MAX_LISTS: usize = 5;

/// A list of rows in the order of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Studies under a term.
    Term(String),
    /// Rows whose column has this value.
    Is(&'static str, String),
    /// Rows whose column has none.
    Null(&'static str),
    /// Series with a request that has this id.
    Request(RequestKey, String),
    /// Instances of a study.
    Study(Uid),
    /// Instances of a series.
    Series(Uid, Uid),
}

/// Rows in no order.
#[derive(Clone, Debug)]
pub(super) enum Set {
    /// Those whose column passes.
    Column(&'static str, Test),
    /// Studies with a term that begins so.
    Terms(String),
    /// Studies with a term that begins so and has the other text behind its last blank.
    TermsOf(String, String),
    /// Of the studies under a term those whose patient's name has all of some words.
    Words(&'static str, Vec<Word>),
    /// Studies under a term.
    Term(String),
    /// Rows with these UIDs.
    Uids(Vec<String>),
    /// Those with a value of an extended query tag that passes.
    Tag(i64, Test),
    /// What belongs to the rows that this finds, which are of the named level.
    Under(Box<SearchPlan>),
}

impl Set {
    /// The term of which each study is tested.
    pub(super) fn tested(&self) -> Option<&'static str> {
        if let Self::Words(term, _) = self { Some(term) } else { None }
    }
}

/// What a choice promises, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// What has a few rows by nature: UIDs, and the content of one study.
    Certain,
    /// Ids, whole names.
    Id,
    /// Four or more characters of a name, three or more of an id.
    Long,
    /// Dates of people and of procedure steps.
    Day,
    /// Three characters of a name.
    Three,
    /// Texts that many rows share.
    Shared,
    /// Modalities, classes, single letters.
    Common,
    /// Sexes.
    Half,
    /// A pattern that begins anywhere: the whole index of the column.
    Anywhere,
}

/// How a search is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// Lists to merge; none: all rows.
    pub(super) lanes: Vec<Lane>,
    /// Which conditions every row of the lanes meets.
    pub(super) lanes_meet: Vec<usize>,
    /// Sets whose union holds all results; none: lanes are the only way.
    pub(super) sets: Vec<Set>,
    /// Which conditions every row of the sets meets.
    pub(super) sets_meet: Vec<usize>,
    /// Lists, each of merged lanes, that hold all results, each of them; none, or at least two.
    pub(super) lists: Vec<Vec<Lane>>,
    /// Which conditions every row meets that is in all lists.
    pub(super) lists_meet: Vec<usize>,
    /// What is thought of the choice; `None`: there is nothing to choose.
    pub(super) rank: Option<Rank>,
}

/// What one condition offers.
#[derive(Clone, Debug)]
struct Offer {
    rank: Rank,
    lanes: Vec<Lane>,
    lanes_exact: bool,
    sets: Vec<Set>,
    sets_exact: bool,
}

impl Offer {
    fn lanes(rank: Rank, lanes: Vec<Lane>, exact: bool) -> Option<Self> {
        let fits = (1..=MAX_LANES).contains(&lanes.len());
        fits.then_some(Self { rank, lanes, lanes_exact: exact, sets: vec![], sets_exact: false })
    }

    fn sets(rank: Rank, sets: Vec<Set>) -> Option<Self> {
        Some(Self { rank, lanes: vec![], lanes_exact: false, sets, sets_exact: true })
    }

    fn with_sets(mut self, sets: Vec<Set>) -> Self {
        (self.sets, self.sets_exact) = (sets, true);
        self
    }

    fn inexact(mut self) -> Self {
        (self.lanes_exact, self.sets_exact) = (false, false);
        self
    }
}

/// Chooses how a plan is answered.
///
/// # Errors
/// [`IndexError::Inconsistent`] for a column that no search may name.
pub(super) fn choose(plan: &SearchPlan) -> Result<Access, IndexError> {
    let mut best: Option<(Vec<usize>, Offer)> = None;
    let mut offered = |meets: Vec<usize>, offer: Option<Offer>| {
        if let Some(offer) = offer
            && best.as_ref().is_none_or(|(_, best)| offer.rank < best.rank)
        {
            best = Some((meets, offer));
        }
    };
    let parents = parents(plan);
    match (&plan.within, plan.level) {
        (Within::Archive, _) => {}
        (Within::Study(study), Level::Study) | (Within::Series(study, _), Level::Study) => {
            let uid = study.as_str().to_owned();
            offered(vec![], Offer::sets(Rank::Certain, vec![Set::Uids(vec![uid])]));
        }
        (Within::Study(study), Level::Instance) => {
            offered(vec![], Offer::lanes(Rank::Certain, vec![Lane::Study(study.clone())], false));
        }
        (Within::Series(study, series), Level::Instance) => {
            let lane = Lane::Series(study.clone(), series.clone());
            offered(vec![], Offer::lanes(Rank::Certain, vec![lane], false));
        }
        (Within::Study(_) | Within::Series(..), Level::Series) => {
            if let Some((under, meets)) = parents.clone() {
                offered(meets, Offer::sets(Rank::Certain, vec![Set::Under(Box::new(under))]));
            }
        }
    }
    if let Some(pair) = pair_of_words(plan) {
        offered(pair.of, Offer::sets(Rank::Long, pair.sets));
    }
    for (at, condition) in plan.conditions.iter().enumerate() {
        offered(vec![at], offer(plan.level, condition)?);
    }
    if let (Within::Archive, Some((under, meets))) = (&plan.within, parents) {
        let rank = choose(&under)?.rank.filter(|rank| *rank <= Rank::Shared);
        let sets = vec![Set::Under(Box::new(under))];
        offered(meets, rank.and_then(|rank| Offer::sets(rank, sets)));
    }
    let Some((meets, offer)) = best else { return Ok(Access::default()) };
    let (lists, lists_meet) = lists(plan)?;
    Ok(Access {
        lists,
        lists_meet,
        lanes: offer.lanes,
        lanes_meet: if offer.lanes_exact { meets.clone() } else { vec![] },
        sets: offer.sets,
        sets_meet: if offer.sets_exact { meets } else { vec![] },
        rank: Some(offer.rank),
    })
}

/// The lists of all conditions that have one, and which conditions they say in full.
fn lists(plan: &SearchPlan) -> Result<(Vec<Vec<Lane>>, Vec<usize>), IndexError> {
    let (mut lists, mut meet) = (Vec::new(), Vec::new());
    for (at, condition) in plan.conditions.iter().enumerate() {
        let (own, exact) = match condition {
            Condition::Name { level, column, test } if *level == plan.level => {
                name_lists(name_columns(column)?, test)
            }
            Condition::ModalitiesInStudy(tests) if plan.level == Level::Study => {
                match tests.as_slice() {
                    [Test::All(tests)] => lists_of(tests, modality_offer),
                    _ => lists_of(&[Test::Any(tests.clone())], modality_offer),
                }
            }
            _ => match offer(plan.level, condition)? {
                Some(offer) => (vec![offer.lanes], offer.lanes_exact),
                None => continue,
            },
        };
        let in_order = |lanes: &Vec<Lane>| {
            !lanes.is_empty() && !lanes.iter().any(|lane| matches!(lane, Lane::Null(_)))
        };
        let complete = own.iter().all(in_order) && !own.is_empty();
        let own: Vec<Vec<Lane>> = own.into_iter().filter(in_order).collect();
        if lists.len() + own.len() <= MAX_LISTS {
            lists.extend(own);
            meet.extend(Some(at).filter(|_| exact && complete));
        }
    }
    if lists.len() < 2 { Ok(Default::default()) } else { Ok((lists, meet)) }
}

/// A list for each of some tests that must all be passed, and whether they say them in full.
fn lists_of(tests: &[Test], offer: impl Fn(&Test) -> Option<Offer>) -> (Vec<Vec<Lane>>, bool) {
    let offers: Vec<Option<Offer>> = tests.iter().map(offer).collect();
    let exact = offers.iter().all(|offer| offer.as_ref().is_some_and(|offer| offer.lanes_exact));
    (offers.into_iter().flatten().map(|offer| offer.lanes).collect(), exact)
}

/// The search for the parents of what is searched for, with the conditions that it takes over.
fn parents(plan: &SearchPlan) -> Option<(SearchPlan, Vec<usize>)> {
    let level = match (plan.level, &plan.within) {
        (Level::Study, _) => return None,
        (Level::Series, _) => Level::Study,
        (Level::Instance, _) => {
            let of_series = |condition: &Condition| condition.level() == Level::Series;
            if plan.conditions.iter().any(of_series) { Level::Series } else { Level::Study }
        }
    };
    let taken = |condition: &Condition| condition.level() <= level;
    let taken: Vec<usize> = (0..plan.conditions.len())
        .filter(|at| plan.conditions.get(*at).is_some_and(taken))
        .collect();
    if taken.is_empty() && plan.within == Within::Archive {
        return None;
    }
    let within = match (&plan.within, level) {
        (Within::Series(study, _), Level::Study) => Within::Study(study.clone()),
        (within, _) => within.clone(),
    };
    let conditions = taken.iter().filter_map(|at| plan.conditions.get(*at).cloned()).collect();
    let under = SearchPlan { level, within, conditions, limit: 0, offset: 0, after: None };
    Some((under, taken))
}

/// What a condition offers to a search at `level`.
fn offer(level: Level, condition: &Condition) -> Result<Option<Offer>, IndexError> {
    Ok(match condition {
        Condition::Column { level: own, column, test } if *own == level => {
            column_offer(column, test)
        }
        Condition::Name { level: own, column, test } if *own == level => {
            name_offer(name_columns(column)?, test)
        }
        Condition::Moment { level: Level::Series, date, from, to, offset: None, .. }
            if level == Level::Series =>
        {
            let day = |end: &Option<(String, String)>| end.as_ref().map(|(day, _)| day.clone());
            let range = Test::Range { from: day(from), to: day(to) };
            column_offer(date, &range).map(Offer::inexact)
        }
        Condition::ModalitiesInStudy(tests) if level == Level::Study => {
            modality_offer(&Test::Any(tests.clone()))
        }
        Condition::SopClassesInStudy(classes) if level == Level::Study => {
            let lanes = classes.iter().map(|class| Lane::Term(super::terms::of_sop_class(class)));
            Offer::lanes(Rank::Common, lanes.collect(), true)
        }
        Condition::Terms(terms) if level == Level::Study => {
            let lanes = terms.iter().map(|term| Lane::Term(term.clone()));
            Offer::lanes(Rank::Long, lanes.collect(), true)
        }
        Condition::Request(tests) if level == Level::Series => {
            let equal = tests.iter().find_map(|(key, test)| Some((*key, equals(test)?)));
            equal.and_then(|(key, values)| {
                let lanes = values.into_iter().map(|value| Lane::Request(key, value));
                Offer::lanes(Rank::Id, lanes.collect(), tests.len() == 1)
            })
        }
        Condition::Tag { tag, level: own, test } if *own == level => tags::offer(*tag, level, test),
        _ => None,
    })
}

/// The values of which the test asks for one.
fn equals(test: &Test) -> Option<Vec<String>> {
    match test {
        Test::Equals(value) => Some(vec![value.clone()]),
        Test::AnyOf(values) => Some(values.clone()),
        Test::Like(pattern) if prefix(pattern) == pattern => Some(vec![pattern.clone()]),
        Test::Any(tests) => Some(
            tests.iter().map(equals).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect(),
        ),
        _ => None,
    }
}

/// What is thought of one value of a column.
pub(super) fn rank_of(column: &str) -> Rank {
    match column {
        "patient_id" | "accession_number" | "study_id" => Rank::Id,
        "patient_birth_date" | "pps_start_date" => Rank::Day,
        "patient_sex" => Rank::Half,
        "modality" | "body_part_examined" | "sop_class_uid" => Rank::Common,
        _ => Rank::Shared,
    }
}

fn column_offer(column: &'static str, test: &Test) -> Option<Offer> {
    let values = equals(test);
    match column {
        "study_instance_uid" | "series_instance_uid" | "sop_instance_uid" => {
            return Offer::sets(Rank::Certain, vec![Set::Uids(values?)]);
        }
        // The order of results is by date already; no index has these.
        "study_date" | "timezone_offset" | "transfer_syntax_uid" => return None,
        _ => {}
    }
    if let Some(values) = values {
        let lanes = values.into_iter().map(|value| Lane::Is(column, value)).collect();
        return Offer::lanes(rank_of(column), lanes, true);
    }
    let set = || vec![Set::Column(column, test.clone())];
    match test {
        Test::Empty => Offer::lanes(Rank::Common, vec![Lane::Null(column)], true),
        Test::Like(pattern) => match prefix(pattern).chars().count() {
            0 if literal_runs(pattern).next().is_none() => None,
            0 => Offer::sets(Rank::Anywhere, set()),
            1 | 2 => Offer::sets(Rank::Shared, set()),
            _ => Offer::sets(Rank::Long, set()),
        },
        Test::Range { from: Some(_), to: Some(_) } => Offer::sets(Rank::Shared, set()),
        Test::Range { from: None, to: None } => None,
        Test::Range { .. } => Offer::sets(Rank::Anywhere, set()),
        Test::All(tests) => best_of(tests, |test| column_offer(column, test)),
        _ => None,
    }
}

/// Of tests that must all be passed, the best offer.
fn best_of(tests: &[Test], offer: impl Fn(&Test) -> Option<Offer>) -> Option<Offer> {
    let best = tests.iter().filter_map(offer).min_by_key(|offer| offer.rank)?;
    Some(if tests.len() == 1 { best } else { best.inexact() })
}

/// Of tests of which one must be passed, all offers as one.
fn all_of(tests: &[Test], offer: impl Fn(&Test) -> Option<Offer>) -> Option<Offer> {
    let offers = tests.iter().map(offer).collect::<Option<Vec<Offer>>>()?;
    // What is NULL is in another order to the planner.
    let merges = |lane: &Lane| !matches!(lane, Lane::Null(_));
    let laned =
        offers.iter().all(|offer| !offer.lanes.is_empty() && offer.lanes.iter().all(merges));
    let set = offers.iter().all(|offer| !offer.sets.is_empty());
    let rank = offers.iter().map(|offer| offer.rank).max()?;
    let mut one = Offer {
        rank,
        lanes: vec![],
        lanes_exact: offers.iter().all(|offer| offer.lanes_exact),
        sets: vec![],
        sets_exact: offers.iter().all(|offer| offer.sets_exact),
    };
    for offer in offers {
        one.lanes.extend(offer.lanes.into_iter().filter(|_| laned));
        one.sets.extend(offer.sets.into_iter().filter(|_| set));
    }
    let fits = one.lanes.len() <= MAX_LANES && (laned || set);
    fits.then_some(one)
}

fn modality_offer(test: &Test) -> Option<Offer> {
    if let Some(values) = equals(test) {
        let lanes = values.iter().map(|value| Lane::Term(super::terms::of_modality(value)));
        return Offer::lanes(Rank::Common, lanes.collect(), true);
    }
    match test {
        Test::All(tests) => best_of(tests, modality_offer),
        Test::Any(tests) if tests.len() == 1 => tests.first().and_then(modality_offer),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
