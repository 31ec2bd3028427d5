//! Which part of the order of results a search for studies reaches, by the dates it asks for.

use super::{
    order,
    search::{Condition, SearchPlan},
};
use crate::dicom::{
    attributes::Level,
    matching::Test,
    normalise::{FIRST_INSTANT, LAST_INSTANT},
};

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
mod tests {
    use super::*;
    use crate::index::Within;

    fn column(column: &'static str, test: Test) -> Condition {
        Condition::Column { level: Level::Study, column, test }
    }

    fn is(value: &str) -> Test {
        Test::Equals(value.to_owned())
    }

    fn plan(level: Level, conditions: Vec<Condition>) -> SearchPlan {
        let within = Within::Archive;
        SearchPlan { level, within, conditions, limit: 100, offset: 0, after: None }
    }

    #[test]
    fn dates_are_places_in_the_order_of_results() {
        let range = |from: Option<&str>, to: Option<&str>| Test::Range {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let places = |conditions| Places::of(&plan(Level::Study, conditions));
        let (first, last) = (order::day("20240101").unwrap(), order::day("20240131").unwrap());
        let whole = |from, to| Places { from, to, not: vec![], meet: vec![0] };
        let date = |test| vec![column("study_date", test)];
        assert_eq!(
            places(date(range(Some("20240101"), Some("20240131")))),
            whole(Some(first), Some(last + order::DAY - 1))
        );
        assert_eq!(places(date(is("20240101"))), whole(Some(first), Some(first + order::DAY - 1)));
        assert_eq!(places(date(range(Some("20240101"), None))), whole(Some(first), None));
        assert_eq!(places(date(range(Some("2024"), None))), Places::default());
        assert_eq!(places(date(Test::Empty)).to, Some(0));
        let moment = |offset| Condition::Moment {
            level: Level::Study,
            date: "study_date",
            time: "study_time",
            from: Some(("20240101".to_owned(), "120000.000000".to_owned())),
            to: Some(("20240131".to_owned(), "120000.000000".to_owned())),
            offset,
        };
        let noon = |day: &str| order::moment(day, "120000.000000");
        let exact = places(vec![moment(None)]);
        assert_eq!((exact.from, exact.to), (noon("20240101"), noon("20240131")));
        assert_eq!((exact.not, exact.meet), (vec![last], vec![0]));
        let wide = places(vec![moment(Some(60))]);
        assert_eq!(wide.from.unwrap(), noon("20240101").unwrap() - ZONES);
        assert!(wide.meet.is_empty(), "what is in reach of some zone is still tested");
        let both = places([date(range(Some("20240115"), None)), vec![moment(None)]].concat());
        assert_eq!((both.from, both.to), (order::day("20240115"), noon("20240131")));
    }
}
