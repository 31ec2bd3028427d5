//! What a test of a person name offers: by how it begins, by the rarest characters in it, by words.

use std::cmp::Ordering;

use super::{Lane, Offer, Rank, Set, all_of, best_of, equals, lists_of};
use crate::{
    dicom::{
        attributes::Level,
        matching::{Test, Word},
        names,
    },
    index::{
        columns::PATIENT_NAME,
        filter::word_terms,
        like::{literal_runs, prefix},
        search::{Condition, SearchPlan},
    },
};

/// Where the names are that have two words of a fuzzy search, which may be one word of the name.
pub(super) struct Pair {
    pub(super) sets: Vec<Set>,
    /// The conditions that ask for them.
    pub(super) of: Vec<usize>,
}

/// The two longest words that the patient's name must have, if they are long enough. What has both
/// is a hundredth of what has one.
pub(super) fn pair_of_words(plan: &SearchPlan) -> Option<Pair> {
    let mut words: Vec<(usize, usize, &Word)> = Vec::new();
    for (at, condition) in plan.conditions.iter().enumerate() {
        if let Condition::Name { level: Level::Study, column, test: Test::Fuzzy(word) } = condition
            && (plan.level, *column) == (Level::Study, PATIENT_NAME[0])
        {
            words.push((word.text.chars().count(), at, word));
        }
    }
    words.retain(|(length, ..)| *length >= names::PIECE);
    words.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    let [(_, one_at, one), (_, other_at, other), ..] = words.as_slice() else { return None };
    let (long, short) = (one.text.as_str(), other.text.as_str());
    let mut sets = vec![Set::TermsOf(names::beginning_beside(short, long), short.to_owned())];
    for (word, beside) in [(one, short), (other, long)] {
        let sound = word.sound.as_ref();
        sets.extend(sound.map(|sound| Set::Terms(names::sound_beside(sound, beside))));
    }
    if let (Some(of_one), Some(of_other)) = (&one.sound, &other.sound) {
        sets.push(Set::Term(match of_one.cmp(of_other) {
            Ordering::Less => names::sound_beside(of_one, of_other),
            Ordering::Equal => format!("s:{of_one}"),
            Ordering::Greater => names::sound_beside(of_other, of_one),
        }));
    }
    if long.starts_with(short) {
        sets.push(Set::Terms(format!("w:{long}")));
    }
    sets.push(Set::Words(names::UNPAIRED, vec![(*one).clone(), (*other).clone()]));
    Some(Pair { sets, of: vec![*one_at, *other_at] })
}

pub(super) fn name_offer(groups: [&'static str; 3], test: &Test) -> Option<Offer> {
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

/// Of a name: one for each word, and for each of the rarest pieces of a pattern.
pub(super) fn name_lists(groups: [&'static str; 3], test: &Test) -> (Vec<Vec<Lane>>, bool) {
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
