//! What the value of a parameter asks of its attribute, by value representation (PS3.4 §C.2.2.2,
//! PS3.18 §8.3.4).
//!
//! Holds: what is asked is normalised as keys of the index are; a value that its VR cannot have is
//! refused by the rule that it breaks. Absent: dates and times that are one moment
//! ([`super::moments`]).

use crate::dicom::{
    VR,
    attributes::Matching,
    matching::{Test, Word},
    names, normalise, person_name,
};

/// Values that one list may have.
const MAX_LISTED: usize = 1_000;

/// Values that one attribute may have to have, and words of a fuzzy search: each is a condition of
/// its own.
const MAX_ALL: usize = 32;

/// What a private attribute, or one unknown to PS3.6, can be matched as.
const KINDS: [Matching; 10] = [
    Matching::Text,
    Matching::Uid,
    Matching::PersonName,
    Matching::Date,
    Matching::Time,
    Matching::DateTime,
    Matching::Integer,
    Matching::Decimal,
    Matching::Exact,
    Matching::AttributeTag,
];

pub(super) const BACKWARD: &str = "the range ends before it begins";

/// The ways of matching that a query switched on (PS3.18 §8.3.4.2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ways {
    pub(super) fuzzy: bool,
    pub(super) empty: bool,
    pub(super) multiple: bool,
}

/// What a value asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing but to be returned (PS3.4 §C.2.2.2.3).
    Universal,
    /// To pass a test.
    Test(Test),
    /// To lie in a period, of days or of the day.
    Period(Period),
    /// To pass the test of the kind that the attribute turns out to be.
    Untyped(Vec<(Matching, Test)>),
    /// What cannot be asked of a VR.
    Unsupported,
}

/// A date or time, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// It was written as a range. A single value that stands for all that it covers was not.
    pub(super) is_range: bool,
}

impl Period {
    pub(super) fn test(self) -> Result<Test, String> {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from > to => Err(BACKWARD.to_owned()),
            (Some(from), Some(to)) if from == to => Ok(Test::Equals(from.clone())),
            _ => Ok(Test::Range { from: self.from, to: self.to }),
        }
    }
}

/// What `values` ask of an attribute of this VR; `None`: of a VR that only data sets tell. Several
/// values are one list.
///
/// # Errors
/// The rule that a value breaks.
pub(super) fn asked(vr: Option<VR>, values: &[&str], ways: Ways) -> Result<Asked, String> {
    let is_empty = ways.empty && values.iter().all(|value| *value == "\"\"");
    if is_empty {
        return Ok(match vr {
            Some(_) => Asked::Test(Test::Empty),
            None => Asked::Untyped(vec![(Matching::Text, Test::Empty)]),
        });
    }
    if values.iter().all(|value| normalise::unpadded(value).chars().all(|c| c == '*')) {
        return Ok(Asked::Universal);
    }
    let Some(vr) = vr else { return untyped(values.first().copied().unwrap_or_default(), ways) };
    if vr == VR::SQ {
        return Err("a sequence is matched by the attributes of its items, \
                    Sequence.Attribute (PS3.18 §8.3.4.1)"
            .to_owned());
    }
    let Some(kind) = Matching::of(vr) else { return Ok(Asked::Unsupported) };
    if kind == Matching::Uid {
        return uids(values, ways);
    }
    let value = values.first().copied().unwrap_or_default();
    if ways.fuzzy && vr == VR::PN {
        return fuzzy(value);
    }
    if ways.multiple && value.contains('\\') && is_listable(vr) {
        return all(kind, split(value, &['\\']));
    }
    one(kind, Some(vr), value)
}

/// Whether several values can be matched at once (PS3.4 §C.2.2.2.8).
fn is_listable(vr: VR) -> bool {
    matches!(vr, VR::AE | VR::AS | VR::AT | VR::CS | VR::LO | VR::PN | VR::SH | VR::UC)
}

/// What one value asks, by single value, wildcard or range matching.
fn one(kind: Matching, vr: Option<VR>, value: &str) -> Result<Asked, String> {
    let rule = |invalid: normalise::Invalid| invalid.to_string();
    let test = match kind {
        Matching::Uid => return uids(&[value], Ways::default()),
        Matching::Text => pattern(normalise::text(value).map_err(rule)?),
        Matching::PersonName => match person_name(value, pattern)? {
            Some(test) => of_one(test),
            None => return Ok(Asked::Universal),
        },
        Matching::Integer | Matching::Exact | Matching::AttributeTag => {
            Test::Equals(kind.normalise(value).map_err(rule)?)
        }
        Matching::Decimal => decimal(vr, value)?,
        Matching::DateTime => date_time(value)?.test()?,
        Matching::Date => {
            let period = period(value, normalise::date, normalise::date)?;
            return match period.clone().test() {
                Ok(_) => Ok(Asked::Period(period)),
                Err(rule) => Err(rule),
            };
        }
        Matching::Time => {
            return period(value, normalise::time, normalise::time_end).map(Asked::Period);
        }
    };
    Ok(Asked::Test(test))
}

/// What a value asks of an attribute of any kind that it can be a value of.
fn untyped(value: &str, ways: Ways) -> Result<Asked, String> {
    // Whatever can be written as text can be a text.
    normalise::text(value).map_err(|invalid| invalid.to_string())?;
    let several = ways.multiple && value.contains('\\');
    let tests = KINDS.into_iter().filter_map(|kind| {
        let asked = match kind {
            Matching::PersonName if ways.fuzzy => fuzzy(value),
            Matching::Uid => uids(&[value], ways),
            Matching::Text | Matching::PersonName | Matching::Exact | Matching::AttributeTag
                if several =>
            {
                all(kind, split(value, &['\\']))
            }
            kind => one(kind, None, value),
        };
        match asked.ok()? {
            Asked::Test(test) => Some((kind, test)),
            Asked::Period(period) => Some((kind, period.test().ok()?)),
            Asked::Universal | Asked::Untyped(_) | Asked::Unsupported => None,
        }
    });
    Ok(Asked::Untyped(tests.collect()))
}

pub(super) fn pattern(text: String) -> Test {
    if text.contains(['*', '?']) { Test::Like(text) } else { Test::Equals(text) }
}

/// Values of a list without empty ones.
pub(super) fn split<'a>(value: &'a str, by: &'a [char]) -> impl Iterator<Item = &'a str> {
    value.split(by).map(str::trim).filter(|item| !item.is_empty())
}

/// UIDs, separated by commas, or by backslashes as DIMSE clients do: one of them, or with multiple
/// value matching all of them.
fn uids(values: &[&str], ways: Ways) -> Result<Asked, String> {
    let list = values.iter().flat_map(|value| split(value, &[',', '\\']));
    let uids: Result<Vec<String>, _> = list.map(normalise::uid).collect();
    let uids = uids.map_err(|rule| rule.to_string())?;
    match uids.len() {
        0 => Ok(Asked::Universal),
        1.. if ways.multiple && uids.len() > 1 => {
            every(uids.into_iter().map(Test::Equals).collect())
        }
        1..=MAX_LISTED => Ok(Asked::Test(Test::AnyOf(uids))),
        _ => Err("at most 1000 UIDs".to_owned()),
    }
}

/// Every one of the values, each word for word (PS3.4 §C.2.2.2.8).
fn all<'a>(kind: Matching, values: impl Iterator<Item = &'a str>) -> Result<Asked, String> {
    let mut tests = Vec::new();
    for value in values {
        match kind {
            Matching::PersonName => tests.extend(person_name(value, Test::Equals)?),
            _ => {
                let key = kind.normalise(value).map_err(|invalid| invalid.to_string())?;
                tests.push(Test::Equals(key));
            }
        }
    }
    every(tests)
}

fn every(tests: Vec<Test>) -> Result<Asked, String> {
    match tests.len() {
        0 => Ok(Asked::Universal),
        1..=MAX_ALL => Ok(Asked::Test(Test::All(tests))),
        _ => Err(format!("at most {MAX_ALL} values or words")),
    }
}

/// A person name: each component group that is not empty matches a group of the name. `None`: it
/// asks for no group.
fn person_name(value: &str, test: fn(String) -> Test) -> Result<Option<Test>, String> {
    let mut tests = Vec::new();
    let groups = value.split('=');
    for (number, group) in groups.enumerate() {
        if number >= 3 {
            return Err("a person name has three component groups (PS3.5 §6.2.1)".to_owned());
        }
        let key = Matching::PersonName.normalise(group).map_err(|invalid| invalid.to_string())?;
        if !key.chars().all(|c| c == '*') {
            tests.push(test(key));
        }
    }
    Ok(match tests.len() {
        0 | 1 => tests.pop(),
        _ => Some(Test::All(tests)),
    })
}

/// The words of a name, each to be found in it, in whatever order.
fn fuzzy(value: &str) -> Result<Asked, String> {
    let text = normalise::text(value).map_err(|invalid| invalid.to_string())?;
    let folded = person_name::fold(&text);
    let words = names::words(&folded)
        .map(|word| Test::Fuzzy(Word { text: word.to_owned(), sound: names::sound(word) }));
    Ok(match every(words.collect())? {
        Asked::Test(test) => Asked::Test(of_one(test)),
        asked => asked,
    })
}

/// What several groups or words ask, of one and the same name.
fn of_one(test: Test) -> Test {
    match test {
        Test::All(mut tests) if tests.len() == 1 => of_one(tests.remove(0)),
        Test::All(tests) => Test::All(vec![Test::All(tests)]),
        test => test,
    }
}

/// A number by meaning. An FL is a rounded one: the client may name what was rounded.
fn decimal(vr: Option<VR>, value: &str) -> Result<Test, String> {
    let key = normalise::decimal(value).map_err(|invalid| invalid.to_string())?;
    let rounded = match vr {
        None | Some(VR::FL) => key.parse::<f32>().ok().filter(|number| number.is_finite()),
        Some(_) => None,
    };
    let rounded =
        rounded.and_then(|number| normalise::decimal(&f64::from(number).to_string()).ok());
    Ok(match rounded.filter(|rounded| *rounded != key) {
        Some(rounded) => Test::AnyOf(vec![key, rounded]),
        None => Test::Equals(key),
    })
}

type Read = fn(&str) -> Result<String, normalise::Invalid>;

/// `a`, `a-b`, `a-` or `-b`, inclusive (PS3.4 §C.2.2.2.5). It may end before it begins.
fn period(value: &str, first: Read, last: Read) -> Result<Period, String> {
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    ends(from, to, first, last, value.contains('-'))
}

fn ends(from: &str, to: &str, first: Read, last: Read, is_range: bool) -> Result<Period, String> {
    let read = |read: Read, text: &str| match text.trim() {
        "" => Ok(None),
        text => read(text).map(Some).map_err(|invalid| invalid.to_string()),
    };
    let (from, to) = (read(first, from)?, read(last, to)?);
    if from.is_none() && to.is_none() {
        return Err("a range needs a beginning or an end".to_owned());
    }
    Ok(Period { from, to, is_range })
}

/// A date time or a range of them. A dash before four digits that can be an offset from UTC is its
/// sign, where what stands before is a date time; any other one makes a range.
fn date_time(value: &str) -> Result<Period, String> {
    // A plus sign that was not escaped is a space in a query.
    let value = value.trim().replace(' ', "+");
    let read = |from: &str, to: &str, is_range| {
        ends(from, to, normalise::date_time, normalise::date_time_end, is_range)
    };
    let single = read(&value, &value, false);
    if single.is_ok() {
        return single;
    }
    let dashes = value.match_indices('-').map(|(at, _)| at).take(4);
    let mut ranges = dashes.filter_map(|at| {
        let (from, to) = value.split_at_checked(at)?;
        read(from, to.get(1..)?, true).ok()
    });
    match ranges.next() {
        Some(range) => Ok(range),
        None => single,
    }
}

#[cfg(test)]
mod tests;
