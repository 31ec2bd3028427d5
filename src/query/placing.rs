//! Where each key of a search is answered: by an index, by a filter over what is stored, or nowhere.
//!
//! Holds: an attribute of a lower level than the results does not match and is told as ignored
//! (PS3.18 §10.6.1.2); what no index answers becomes a filter, and is bounded where it is run.

use super::{
    moments::{Instant, Key, Leaf, items, moment},
    values::{self, Asked, Ways},
};
use crate::{
    archive::{Condition, Filter, RequestKey, SearchTag, Source, TagState},
    dicom::{
        Tag,
        attributes::{self, Attribute, Level, Matching},
        matching::{Element, KeyTest, Test},
        normalise,
    },
    query::QueryError,
};

/// Values that a list of modalities may have.
const MAX_LISTED: usize = 1_000;

const INSTANCE_AVAILABILITY: Tag = Tag(0x0008, 0x0056);
const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008, 0x0062);
const AVAILABLE_SYNTAXES: Tag = Tag(0x0008, 0x3002);
const REQUEST_ATTRIBUTES: Tag = Tag(0x0040, 0x0275);

/// Made on the way out, not kept as the data set has it, or only about queries: the character set,
/// RetrieveURL, counts; level, keys and number of records.
const UNMATCHED: [Tag; 9] = [
    Tag(0x0008, 0x0005),
    Tag(0x0008, 0x0052),
    Tag(0x0008, 0x041B),
    Tag(0x0008, 0x041C),
    Tag(0x0008, 0x0429),
    Tag(0x0008, 0x1190),
    Tag(0x0020, 0x1206),
    Tag(0x0020, 0x1208),
    Tag(0x0020, 0x1209),
];

/// Where an attribute is answered.
enum Home<'a> {
    Column(&'static Attribute),
    Tag(&'a SearchTag),
    Stored(Level, Source),
    Nowhere,
}

/// The keys of a search on their way to where they are answered.
pub(super) struct Placing<'a> {
    /// The level of the results.
    pub(super) level: Level,
    /// The extended query tags of the scope.
    pub(super) tags: &'a [SearchTag],
    /// Tags that are still being indexed are used.
    pub(super) use_incomplete: bool,
    pub(super) ways: Ways,
    pub(super) conditions: Vec<Condition>,
    pub(super) filters: Vec<Filter>,
    /// Parameters that match nothing here.
    pub(super) ignored: Vec<String>,
    /// Parameters of tags some of whose values could not be indexed.
    pub(super) erroneous: Vec<String>,
    /// Parameters of tags that are still being indexed.
    pub(super) incomplete: Vec<String>,
}

impl<'a> Placing<'a> {
    /// Whether an attribute can be matched here at all.
    pub(super) fn reaches(&self, at: &Element) -> bool {
        match at {
            Element::Standard(
                MODALITIES_IN_STUDY | SOP_CLASSES_IN_STUDY | INSTANCE_AVAILABILITY,
            ) => true,
            Element::Standard(AVAILABLE_SYNTAXES) => self.level == Level::Instance,
            Element::Standard(tag) if UNMATCHED.contains(tag) => false,
            at => !matches!(self.stored(at), Home::Nowhere) || self.tag(at).is_some(),
        }
    }

    /// Places a key of the data set itself.
    ///
    /// # Errors
    /// 400 where the attribute cannot be searched now, or its value is no value of it.
    pub(super) fn place(&mut self, key: Key) -> Result<(), QueryError> {
        match key {
            Key::One(leaf) => self.one(leaf),
            Key::Moment { name, date, time, from, to, zone } => {
                self.moment(name, (date, time), from, to, zone)
            }
        }
    }

    /// Places the keys of the items of a sequence of the data set.
    ///
    /// # Errors
    /// 400 for a range that ends before it begins.
    pub(super) fn sequence(
        &mut self,
        at: Element,
        keys: Vec<(Vec<Element>, Leaf)>,
    ) -> Result<(), QueryError> {
        let Home::Stored(level, from) = self.stored(&at) else { return Ok(()) };
        if at == Element::Standard(REQUEST_ATTRIBUTES)
            && let Some(tests) = request(&keys)
        {
            if !tests.is_empty() {
                self.conditions.push(Condition::Request(tests));
            }
            return Ok(());
        }
        let name = keys.first().map(|(_, leaf)| leaf.name.clone()).unwrap_or_default();
        let tests = items(keys)?;
        if !tests.is_empty() {
            let test = KeyTest::Item { at, tests };
            self.filters.push(Filter { name, level, from, test });
        }
        Ok(())
    }

    /// ModalitiesInStudy: with several values, studies that have any of them, as viewers expect.
    ///
    /// # Errors
    /// 400 for a value that is none.
    pub(super) fn modalities(&mut self, name: &str, given: &[&str]) -> Result<(), QueryError> {
        let refuse = |rule: String| QueryError::invalid(name.to_owned(), rule);
        if self.ways.empty && given.iter().all(|value| *value == "\"\"") {
            self.conditions.push(Condition::ModalitiesInStudy(vec![Test::Empty]));
            return Ok(());
        }
        let list: Vec<&str> =
            given.iter().flat_map(|value| values::split(value, &[',', '\\'])).collect();
        if list.is_empty() || list.iter().any(|value| value.chars().all(|c| c == '*')) {
            return Ok(());
        }
        if list.len() > MAX_LISTED {
            return Err(refuse("at most 1000 values".to_owned()));
        }
        let several = list.len() > 1;
        let keys: Result<Vec<String>, _> = list.into_iter().map(normalise::text).collect();
        let keys = keys.map_err(|invalid| refuse(invalid.to_string()))?;
        if self.ways.multiple && several {
            let each =
                keys.into_iter().map(|key| Condition::ModalitiesInStudy(vec![Test::Equals(key)]));
            self.conditions.extend(each);
        } else {
            let tests = keys.into_iter().map(values::pattern).collect();
            self.conditions.push(Condition::ModalitiesInStudy(tests));
        }
        Ok(())
    }

    fn one(&mut self, leaf: Leaf) -> Result<(), QueryError> {
        let name = leaf.name.clone();
        let at = leaf.at.clone();
        if let Element::Standard(tag) = at
            && let Some(conditions) = computed(tag, &leaf)
        {
            self.conditions.extend(conditions);
            return Ok(());
        }
        let Some(test) = leaf.test()? else { return Ok(()) };
        let plain = match &test {
            KeyTest::Value { test, .. } => Some(test.clone()),
            _ => None,
        };
        match (self.home(&name, &at)?, plain) {
            (Home::Column(row), Some(test)) => self.conditions.extend(Condition::on(row, test)),
            (Home::Tag(tag), Some(test)) => {
                self.conditions.push(Condition::Tag { tag: tag.id, level: tag.level, test });
            }
            (Home::Stored(level, from), _) => {
                self.filters.push(Filter { name, level, from, test });
            }
            (Home::Column(_) | Home::Tag(_) | Home::Nowhere, _) => self.ignored.push(name),
        }
        Ok(())
    }

    fn moment(
        &mut self,
        name: String,
        (date, time): (Tag, Tag),
        from: Option<Instant>,
        to: Option<Instant>,
        zone: Option<i32>,
    ) -> Result<(), QueryError> {
        let row = |tag| attributes::by_tag(tag).filter(|row| row.level <= self.level);
        let (Some(date_row), Some(time_row)) = (row(date), row(time)) else {
            self.ignored.push(name);
            return Ok(());
        };
        let level = date_row.level;
        if let (Some((date, _)), Some((time, _))) = (date_row.column, time_row.column) {
            self.conditions.push(Condition::Moment { level, date, time, from, to, offset: zone });
            return Ok(());
        }
        // The days alone may be found by an index; the filter then looks at what is left.
        let day = |end: &Option<Instant>| end.as_ref().map(|(day, _)| day.clone());
        let days = Test::Range { from: day(&from), to: day(&to) };
        match self.home(&name, &Element::Standard(date))? {
            Home::Column(row) => self.conditions.extend(Condition::on(row, days)),
            Home::Tag(tag) => {
                self.conditions.push(Condition::Tag { tag: tag.id, level: tag.level, test: days });
            }
            Home::Stored(..) | Home::Nowhere => {}
        }
        let test = moment(date, time, from, to);
        self.filters.push(Filter { name, level, from: Source::Attributes, test });
        Ok(())
    }

    /// The extended query tag of an attribute that can be used at this level.
    fn tag(&self, at: &Element) -> Option<&'a SearchTag> {
        self.tags.iter().find(|tag| tag.at == *at && tag.level <= self.level)
    }

    /// Where an attribute is stored, extended query tags apart.
    fn stored(&self, at: &Element) -> Home<'a> {
        let row = match at {
            Element::Standard(tag) => attributes::by_tag(*tag),
            Element::Private { .. } => None,
        };
        match row {
            Some(row) if row.level > self.level => Home::Nowhere,
            Some(row) => Home::Stored(row.level, Source::Attributes),
            // Neither File Meta Information nor group lengths nor delimiters are in the metadata.
            None => match at {
                Element::Standard(Tag(0..=0x0007 | 0xFFFE, _) | Tag(_, 0)) => Home::Nowhere,
                _ if self.level < Level::Instance => Home::Nowhere,
                _ => Home::Stored(Level::Instance, Source::Metadata),
            },
        }
    }

    fn home(&mut self, name: &str, at: &Element) -> Result<Home<'a>, QueryError> {
        if let Element::Standard(tag) = at
            && let Some(row) = attributes::by_tag(*tag)
            && row.level <= self.level
            && row.column.is_some()
        {
            return Ok(Home::Column(row));
        }
        let stored = self.stored(at);
        let Some(tag) = self.tag(at) else { return Ok(stored) };
        let refuse = |rule: &'static str| Err(QueryError::invalid(name.to_owned(), rule));
        match tag.state {
            TagState::Disabled => return refuse("Query is disabled on specified attribute"),
            TagState::Adding if self.use_incomplete => self.incomplete.push(name.to_owned()),
            TagState::Adding => {
                return match stored {
                    // What instances hold can be looked at; which instance speaks for a study or
                    // series, only the index knows.
                    Home::Stored(_, Source::Attributes) => Ok(stored),
                    Home::Stored(..) if tag.level == Level::Instance => Ok(stored),
                    _ => refuse(
                        "the extended query tag is still being indexed; with incompletetags=true \
                         it is searched as far as it is",
                    ),
                };
            }
            TagState::Ready => {}
        }
        if tag.erroneous {
            self.erroneous.push(name.to_owned());
        }
        Ok(Home::Tag(tag))
    }
}

/// The conditions of what is not stored but computed; `None` for any other attribute.
fn computed(tag: Tag, leaf: &Leaf) -> Option<Vec<Condition>> {
    let test = match &leaf.asked {
        Asked::Test(test) => Some(test),
        _ => None,
    };
    let conditions = match (tag, test) {
        // Whatever is stored is online.
        (INSTANCE_AVAILABILITY, Some(test)) if test.passes(&["ONLINE".to_owned()], false) => None,
        (INSTANCE_AVAILABILITY, Some(_)) => Some(vec![Condition::Never]),
        (AVAILABLE_SYNTAXES, Some(test)) => Some(vec![Condition::Column {
            level: Level::Instance,
            column: "transfer_syntax_uid",
            test: test.clone(),
        }]),
        (SOP_CLASSES_IN_STUDY, Some(Test::AnyOf(uids))) => Some(vec![classes(uids)]),
        (SOP_CLASSES_IN_STUDY, Some(Test::All(tests))) => {
            let each = tests.iter().map(|test| match test {
                Test::Equals(uid) => classes(std::slice::from_ref(uid)),
                _ => Condition::Never,
            });
            Some(each.collect())
        }
        // Every study has instances, and each of them a class.
        (SOP_CLASSES_IN_STUDY, Some(_)) => Some(vec![Condition::Never]),
        (INSTANCE_AVAILABILITY | AVAILABLE_SYNTAXES | SOP_CLASSES_IN_STUDY, None) => None,
        _ => return None,
    };
    Some(conditions.unwrap_or_default())
}

fn classes(uids: &[String]) -> Condition {
    Condition::SopClassesInStudy(uids.iter().filter_map(|uid| uid.parse().ok()).collect())
}

/// The tests of an item of the Request Attributes Sequence, where its keys are those that the index
/// holds.
fn request(keys: &[(Vec<Element>, Leaf)]) -> Option<Vec<(RequestKey, Test)>> {
    let mut tests = Vec::new();
    for (path, leaf) in keys {
        let key = match path.as_slice() {
            [Element::Standard(Tag(0x0040, 0x0009))] => RequestKey::ScheduledProcedureStepId,
            [Element::Standard(Tag(0x0040, 0x1001))] => RequestKey::RequestedProcedureId,
            _ => return None,
        };
        match &leaf.asked {
            Asked::Universal => {}
            Asked::Test(test) if leaf.vr.and_then(Matching::of) == Some(Matching::Text) => {
                tests.push((key, test.clone()));
            }
            _ => return None,
        }
    }
    Some(tests)
}
