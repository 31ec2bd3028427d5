//! Keys of one data set or item, with dates and times that are one moment put together (PS3.18
//! §8.3.4.1.1), as tests.

use std::collections::BTreeMap;

use super::values::{Asked, BACKWARD, Period};
use crate::{
    dicom::{
        Tag, VR,
        attributes::Matching,
        matching::{Element, KeyTest},
        normalise::{FIRST_INSTANT, LAST_INSTANT},
    },
    query::QueryError,
};

/// Dates, the times that belong to them, and whether the time zone of a query is theirs.
const PAIRS: [(Tag, Tag, bool); 6] = [
    (Tag(0x0008, 0x0020), Tag(0x0008, 0x0030), true),
    (Tag(0x0040, 0x0244), Tag(0x0040, 0x0245), true),
    (Tag(0x0008, 0x0021), Tag(0x0008, 0x0031), false),
    (Tag(0x0008, 0x0022), Tag(0x0008, 0x0032), false),
    (Tag(0x0008, 0x0023), Tag(0x0008, 0x0033), false),
    (Tag(0x0010, 0x0030), Tag(0x0010, 0x0032), false),
];

/// A key, understood.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// The parameter, as typed.
    pub(super) name: String,
    /// The attribute, in its data set or item.
    pub(super) at: Element,
    /// Its value representation; `None`: only data sets tell.
    pub(super) vr: Option<VR>,
    /// What its value asks.
    pub(super) asked: Asked,
}

/// Date and time of a moment.
pub(super) type Instant = (String, String);

/// A key, or two that are one.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// One attribute.
    One(Leaf),
    /// A date with its time, or a date that a time zone makes one.
    Moment {
        /// The parameter of the date.
        name: String,
        /// The date.
        date: Tag,
        /// The time that belongs to it.
        time: Tag,
        /// The first moment.
        from: Option<Instant>,
        /// The last moment.
        to: Option<Instant>,
        /// The offset from UTC in which the client says both, in minutes.
        zone: Option<i32>,
    },
}

/// Puts dates and times together. `zone`: TimezoneOffsetFromUTC of the query, in minutes; none for
/// items.
///
/// # Errors
/// 400 for a moment that ends before it begins.
pub(super) fn combine(mut leaves: Vec<Leaf>, zone: Option<i32>) -> Result<Vec<Key>, QueryError> {
    let mut keys = Vec::new();
    for (date, time, is_zoned) in PAIRS {
        let zone = zone.filter(|_| is_zoned);
        let period = |tag| {
            leaves.iter().enumerate().find_map(|(at, leaf)| match &leaf.asked {
                Asked::Period(period) if leaf.at == Element::Standard(tag) => {
                    Some((at, period.clone()))
                }
                _ => None,
            })
        };
        let Some((date_at, days)) = period(date) else { continue };
        // A single time of day beside a range of dates stays a key of its own; so does a single date
        // where there is no time zone that could move it to another day.
        let belongs = |clock: &Period| {
            if zone.is_some() && !days.is_range { true } else { days.is_range && clock.is_range }
        };
        let clock = period(time).filter(|(_, clock)| belongs(clock));
        if clock.is_none() && zone.is_none() {
            continue;
        }
        let (first, last) = match &clock {
            Some((_, clock)) => (clock.from.as_deref(), clock.to.as_deref()),
            None => (None, None),
        };
        let from = days.from.map(|day| (day, first.unwrap_or(FIRST_INSTANT).to_owned()));
        let to = days.to.map(|day| (day, last.unwrap_or(LAST_INSTANT).to_owned()));
        if let (Some(from), Some(to), Some((time_at, _))) = (&from, &to, &clock)
            && from > to
            && let Some(leaf) = leaves.get(*time_at)
        {
            return Err(QueryError::invalid(leaf.name.clone(), BACKWARD));
        }
        let name = leaves.get(date_at).map(|leaf| leaf.name.clone()).unwrap_or_default();
        let mut place = 0;
        leaves.retain(|_| {
            let gone = place == date_at || clock.as_ref().is_some_and(|(at, _)| *at == place);
            place += 1;
            !gone
        });
        keys.push(Key::Moment { name, date, time, from, to, zone });
    }
    keys.extend(leaves.into_iter().map(Key::One));
    Ok(keys)
}

impl Leaf {
    /// What a data set or item has to pass; `None`: nothing.
    ///
    /// # Errors
    /// 400 for a range that ends before it begins.
    pub(super) fn test(self) -> Result<Option<KeyTest>, QueryError> {
        let Self { name, at, vr, asked } = self;
        let test = match asked {
            Asked::Universal | Asked::Unsupported => return Ok(None),
            Asked::Untyped(tests) => return Ok(Some(KeyTest::Untyped { at, tests })),
            Asked::Test(test) => test,
            Asked::Period(period) => {
                period.test().map_err(|rule| QueryError::invalid(name, rule))?
            }
        };
        // Of what has no kind, only emptiness can be asked.
        let kind = vr.and_then(Matching::of).unwrap_or(Matching::Text);
        Ok(Some(KeyTest::Value { at, kind, test }))
    }
}

/// What one item passes: `keys` are leaves with their paths below the sequence.
///
/// # Errors
/// 400 for a range that ends before it begins.
pub(super) fn items(keys: Vec<(Vec<Element>, Leaf)>) -> Result<Vec<KeyTest>, QueryError> {
    let mut own = Vec::new();
    let mut below: BTreeMap<Element, Vec<(Vec<Element>, Leaf)>> = BTreeMap::new();
    for (mut path, leaf) in keys {
        if path.len() <= 1 {
            own.push(leaf);
        } else {
            below.entry(path.remove(0)).or_default().push((path, leaf));
        }
    }
    let mut tests = Vec::new();
    for key in combine(own, None)? {
        match key {
            Key::One(leaf) => tests.extend(leaf.test()?),
            Key::Moment { date, time, from, to, .. } => tests.push(moment(date, time, from, to)),
        }
    }
    for (at, keys) in below {
        let inner = items(keys)?;
        if !inner.is_empty() {
            tests.push(KeyTest::Item { at, tests: inner });
        }
    }
    Ok(tests)
}

pub(super) fn moment(date: Tag, time: Tag, from: Option<Instant>, to: Option<Instant>) -> KeyTest {
    let (date, time) = (Element::Standard(date), Element::Standard(time));
    KeyTest::Moment { date, time, from, to }
}
