//! Which index answers a search: chosen by what the conditions say, not by statistics, which know
//! nothing of one partition and little of a prefix.
//!
//! A condition may be answered by **lanes**, lists of rows in the order of results, merged: a page is
//! read from them until it is full. Or by a **set**, rows in no order among which all results are,
//! which are put in order once all are read: right for what is rare. Of the conditions the one that
//! promises to leave the fewest rows is taken; the [`Rank`]s say what is thought of each. All others
//! are tested row by row; or, where that would be many, all that have **lists** in the order of
//! results are read side by side, for what is in each of them. Pure.

mod tags;

use super::{
    IndexError,
    columns::PATIENT_NAME,
    filter::{name_columns, word_terms},
    like::{literal_runs, prefix},
    order,
    search::{Condition, RequestKey, SearchPlan, Within},
};
use crate::dicom::{
    Uid,
    attributes::Level,
    matching::{Test, Word},
    names,
    normalise::{FIRST_INSTANT, LAST_INSTANT},
};

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
    /// Studies under a term.
    Term(String),
    /// Rows with these UIDs.
    Uids(Vec<String>),
    /// Those with a value of an extended query tag that passes.
    Tag(i64, Test),
    /// What belongs to the rows that this finds, which are of the named level.
    Under(Box<SearchPlan>),
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

/// Of a name: one for each word, and for each of the rarest pieces of a pattern.
fn name_lists(groups: [&'static str; 3], test: &Test) -> (Vec<Vec<Lane>>, bool) {
    match test {
        Test::All(tests) => {
            let all = tests.iter().map(|test| name_lists(groups, test));
            all.fold((vec![], true), |(mut lists, exact), (more, also)| {
                lists.extend(more);
                (lists, exact && also)
            })
        }
        Test::Like(pattern) if groups == PATIENT_NAME && prefix(pattern) != pattern => {
            let Some(offer) = name_offer(groups, test) else { return (vec![], false) };
            let mut pieces: Vec<&str> = literal_runs(pattern).flat_map(names::pieces).collect();
            pieces.sort_by_key(|piece| std::cmp::Reverse(rarity(piece)));
            pieces.dedup();
            let pieces = pieces.into_iter().map(|piece| vec![Lane::Term(format!("t:{piece}"))]);
            let mut lists = vec![offer.lanes];
            // What begins a name is a list of its own already, and a better one.
            let more = if prefix(pattern).is_empty() { 2 } else { 0 };
            lists
                .extend(pieces.filter(|list| !lists.contains(list)).take(more).collect::<Vec<_>>());
            (lists, offer.lanes_exact)
        }
        _ => lists_of(std::slice::from_ref(test), |test| name_offer(groups, test)),
    }
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
fn rank_of(column: &str) -> Rank {
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

fn name_offer(groups: [&'static str; 3], test: &Test) -> Option<Offer> {
    if let Some(values) = equals(test) {
        let lane = |value: &String| groups.map(|group| Lane::Is(group, value.clone()));
        return Offer::lanes(Rank::Id, values.iter().flat_map(lane).collect(), true);
    }
    match test {
        Test::Like(pattern) => pattern_offer(groups, pattern),
        Test::Fuzzy(word) => word_offer(groups, word),
        Test::Empty => Offer::lanes(Rank::Common, vec![Lane::Null(groups[0])], false),
        Test::All(tests) => best_of(tests, |test| name_offer(groups, test)),
        Test::Any(tests) => all_of(tests, |test| name_offer(groups, test)),
        _ => None,
    }
}

/// A pattern of a name: by how it begins, or by the rarest three characters in it, or by how a word
/// in it begins.
fn pattern_offer(groups: [&'static str; 3], pattern: &str) -> Option<Offer> {
    let start = prefix(pattern);
    let length = start.chars().count();
    let sets = || {
        let test = Test::Like(pattern.to_owned());
        groups.map(|group| Set::Column(group, test.clone())).to_vec()
    };
    let of_patients = groups == PATIENT_NAME;
    if of_patients && length > 0 {
        let exact = length <= names::PIECE && pattern[start.len()..].chars().all(|c| c == '*');
        let lanes = vec![Lane::Term(format!("n:{}", names::beginning(start)))];
        return match length {
            1 | 2 => Offer::lanes(Rank::Common, lanes, exact),
            names::PIECE => Offer::lanes(Rank::Three, lanes, exact),
            _ => Offer::lanes(Rank::Long, lanes, false).map(|offer| offer.with_sets(sets())),
        };
    }
    let piece = literal_runs(pattern).flat_map(names::pieces).max_by_key(|piece| rarity(piece));
    if let Some(piece) = piece.filter(|_| of_patients) {
        // Between stars, the piece is all that is asked for.
        let alone = pattern.trim_matches('*') == piece;
        let exact = alone && pattern.starts_with('*') && pattern.ends_with('*');
        return Offer::lanes(Rank::Three, vec![Lane::Term(format!("t:{piece}"))], exact);
    }
    let word = whole_words(pattern).max_by_key(|(word, _)| word.chars().count());
    let (words, _) = word_terms(groups);
    let by_word = word.and_then(|(word, is_whole)| {
        let enough = of_patients || is_whole || word.chars().count() >= names::PIECE;
        let rank = if word.chars().count() < names::PIECE { Rank::Common } else { Rank::Three };
        let term = format!("{words}{}", names::beginning(word));
        enough.then(|| Offer::lanes(rank, vec![Lane::Term(term)], false))?
    });
    match (by_word, length) {
        (Some(offer), 0) => Some(offer),
        (Some(offer), _) => Some(offer.with_sets(sets())),
        (None, 0) if literal_runs(pattern).next().is_none() => None,
        (None, 0) => Offer::sets(Rank::Anywhere, sets()),
        (None, _) => Offer::sets(Rank::Shared, sets()),
    }
}

/// The beginnings of words that a name which matches the pattern has, each with whether it is the
/// whole word.
fn whole_words(pattern: &str) -> impl Iterator<Item = (&str, bool)> {
    let anchored = |run: &str| pattern.starts_with(run) && !run.is_empty();
    literal_runs(pattern).enumerate().flat_map(move |(n, run)| {
        let first_is_start = n == 0 && anchored(run);
        names::words(run).filter_map(move |word| {
            let at = word.as_ptr() as usize - run.as_ptr() as usize;
            let is_whole = at + word.len() < run.len();
            (at > 0 || first_is_start).then_some((word, is_whole))
        })
    })
}

/// A word of a fuzzy search: names with a word that begins with it, and those with one that sounds
/// like it.
fn word_offer(groups: [&'static str; 3], word: &Word) -> Option<Offer> {
    let (words, sounds) = word_terms(groups);
    let length = word.text.chars().count();
    let sound = word.sound.as_ref().map(|sound| format!("{sounds}{sound}"));
    let mut sets = vec![Set::Terms(format!("{words}{}", word.text))];
    sets.extend(sound.clone().map(Set::Term));
    if groups != PATIENT_NAME && length < names::PIECE {
        // Such beginnings are no terms; whole words are.
        return Offer::sets(Rank::Anywhere, sets);
    }
    let mut lanes = vec![Lane::Term(format!("{words}{}", names::beginning(&word.text)))];
    lanes.extend(sound.map(Lane::Term));
    match length {
        0 => None,
        1 | 2 => Offer::lanes(Rank::Common, lanes, true),
        names::PIECE => Offer::lanes(Rank::Three, lanes, true),
        _ => Offer::lanes(Rank::Long, lanes, false).map(|offer| offer.with_sets(sets)),
    }
}

/// How rare a piece of a name looks: letters by how often names of many languages have them.
fn rarity(piece: &str) -> usize {
    const COMMON: &str = "^ aenirolstmhducgkbzpvyjfwxq";
    piece.chars().map(|c| COMMON.chars().position(|common| common == c).unwrap_or(40)).sum()
}

/// Which places in the order of results a search for studies reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The first one.
    pub(super) from: Option<i64>,
    /// The last one.
    pub(super) to: Option<i64>,
    /// Places in between that are left out: days whose time is not known, where the day alone does
    /// not decide.
    pub(super) not: Vec<i64>,
    /// Conditions that this says in full.
    pub(super) meet: Vec<usize>,
}

/// An offset of a row and one of the client's are each up to 14 hours; a day more makes it safe.
const ZONES: i64 = order::DAY + 28 * 60 * order::MINUTE;

impl Places {
    /// Those of a plan.
    pub(super) fn of(plan: &SearchPlan) -> Self {
        let mut places = Self::default();
        if plan.level != Level::Study {
            return places;
        }
        for (at, condition) in plan.conditions.iter().enumerate() {
            match condition {
                // Without a date a study stands at 0.
                Condition::Column { column: "study_date", test: Test::Empty, .. } => {
                    places.narrow(None, Some(0));
                }
                Condition::Column { column: "study_date", test, .. } => {
                    let range = match test {
                        Test::Equals(day) => (Some(day), Some(day)),
                        Test::Range { from, to } => (from.as_ref(), to.as_ref()),
                        _ => continue,
                    };
                    let ends =
                        [range.0.map(|day| order::day(day)), range.1.map(|day| order::day(day))];
                    // A day that is not written as one is compared as text.
                    if let [None | Some(Some(_)), None | Some(Some(_))] = ends {
                        let [from, to] = ends.map(Option::flatten);
                        // From the first day of all: 0 is no date.
                        places.narrow(Some(from.unwrap_or(1)), to.map(|day| day + order::DAY - 1));
                        places.meet.push(at);
                    }
                }
                Condition::Moment {
                    level: Level::Study,
                    date: "study_date",
                    from,
                    to,
                    offset,
                    ..
                } => {
                    // An end at the end of its day is about the date alone.
                    let first = from.as_ref().map(|(day, time)| match time.as_str() {
                        FIRST_INSTANT => order::day(day),
                        time => order::moment(day, time),
                    });
                    let last = to.as_ref().map(|(day, time)| match time.as_str() {
                        LAST_INSTANT => order::day(day).map(|place| place + order::DAY - 1),
                        time => order::moment(day, time),
                    });
                    let ends = [first, last];
                    let [None | Some(Some(_)), None | Some(Some(_))] = ends else { continue };
                    let [from_place, to_place] = ends.map(Option::flatten);
                    if offset.is_some() {
                        let first = from_place.map_or(1, |from| (from - ZONES).max(1));
                        places.narrow(Some(first), to_place.map(|to| to + ZONES));
                        continue;
                    }
                    places.narrow(Some(from_place.unwrap_or(1)), to_place);
                    let cut = to.as_ref().filter(|(_, time)| time != LAST_INSTANT);
                    places.not.extend(cut.and_then(|(day, _)| order::day(day)));
                    places.meet.push(at);
                }
                _ => {}
            }
        }
        places
    }

    fn narrow(&mut self, from: Option<i64>, to: Option<i64>) {
        self.from = self.from.max(from);
        self.to = match (self.to, to) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests;
