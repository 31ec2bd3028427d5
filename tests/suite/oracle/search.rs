//! Search, naively: a request and all that is stored in, the answer that must come out.
//!
//! Everything is looked at, for every request; nothing is prepared but the request itself.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    known::{self, Level, PAIRS},
    model::{Archive, Content, DataSet, Element, Entity, Tag},
    moments::{self, Ends},
    request::{At, Key, Request},
    rules::{self, How},
};

const STUDY_DATE: Tag = (0x0008, 0x0020);
const PPS_DATE: Tag = (0x0040, 0x0244);
const TIMEZONE: Tag = (0x0008, 0x0201);
const MODALITY: Tag = (0x0008, 0x0060);
const SOP_CLASS: Tag = (0x0008, 0x0016);
pub const MODALITIES_IN_STUDY: Tag = (0x0008, 0x0061);
pub const SOP_CLASSES_IN_STUDY: Tag = (0x0008, 0x0062);

/// An extended query tag that is ready.
#[derive(Clone, Debug)]
pub struct QueryTag {
    pub at: At,
    pub vr: &'static str,
    pub level: Level,
    /// The partition that has it; none: all have.
    pub partition: Option<usize>,
}

/// What must be answered.
pub struct Answer<'a> {
    pub page: Vec<Entity<'a>>,
    /// Matches behind the page.
    pub remaining: usize,
    /// All matches.
    pub matches: usize,
}

/// The archive as one search sees it.
pub struct Searched<'a> {
    pub archive: &'a Archive,
    pub tags: &'a [QueryTag],
    pub partitions: &'a [&'a str],
    /// The largest pages: of studies, series, instances.
    pub largest: [usize; 3],
}

/// What one object (of a sequence: one item) must pass, sequences by their first element.
#[derive(Default)]
struct Tests<'a> {
    values: Vec<(&'a At, &'a str)>,
    items: BTreeMap<&'a At, Tests<'a>>,
}

impl<'a> Tests<'a> {
    fn add(&mut self, path: &'a [At], key: &'a str) {
        match path {
            [] => {}
            [at] => self.values.push((at, key)),
            [at, rest @ ..] => self.items.entry(at).or_default().add(rest, key),
        }
    }

    /// The key of an attribute that asks for a value.
    fn key(&self, tag: Tag, how: How) -> Option<&'a str> {
        let found = self.values.iter().find(|(at, _)| **at == At::Standard(tag))?;
        let is_empty = |key: &str| how.empty && key == "\"\"";
        Some(found.1).filter(|key| !rules::is_universal(key) && !is_empty(key))
    }

    /// The pair's keys, where they are not to be matched each by itself: whether they pass.
    fn pass_pair(
        &self,
        pair: (Tag, Tag),
        values: [Option<&Content>; 2],
        zone: Option<Zone>,
        how: How,
    ) -> Option<bool> {
        let date = self.key(pair.0, how)?;
        let time = self.key(pair.1, how);
        let together = time.filter(|time| date.contains('-') && time.contains('-'));
        let day = first(values[0]).and_then(moments::date);
        let moment = first(values[1]).and_then(moments::time).map(|span| span.0);
        let shift = zone.filter(|_| moment.is_some() && ZONED.contains(&pair.0));
        if together.is_none() && shift.is_none() {
            return None;
        }
        let Some(day) = day else { return Some(false) };
        let shift = shift.map_or(0, |zone| (zone.asked - zone.own) * 60_000_000);
        let dates = rules::range_of("DA", date).expect("a valid key");
        let times = time.map(|time| rules::range_of("TM", time).expect("a valid key"));
        Some(match (together, moment) {
            (Some(_), Some(moment)) => moments::within(joined(dates, times?), day + moment + shift),
            // Without a time: where all of the day lies within.
            (Some(_), None) => {
                let ends = joined(dates, times?);
                moments::within(ends, day) && moments::within(ends, day + moments::DAY - 1)
            }
            // As the client's calendar and clock would have shown it; but a single time beside a
            // range of dates is no part of a moment.
            (None, moment) => {
                let local = day + moment? + shift;
                let clock =
                    if date.contains('-') { moment? } else { local.rem_euclid(moments::DAY) };
                moments::within(dates, local)
                    && times.is_none_or(|times| moments::within(times, clock))
            }
        })
    }

    /// Whether an object passes; `element` finds its elements.
    fn pass<'e>(
        &self,
        element: &dyn Fn(&At) -> Option<Cow<'e, Element>>,
        zone: Option<Zone>,
        how: How,
    ) -> bool {
        let mut read: BTreeSet<Tag> = BTreeSet::new();
        for pair in PAIRS {
            if self.key(pair.0, how).is_none() {
                continue;
            }
            let [date, time] = [pair.0, pair.1].map(|tag| element(&At::Standard(tag)));
            let values = [&date, &time].map(|found| found.as_ref().map(|element| &element.1));
            match self.pass_pair(*pair, values, zone, how) {
                None => {}
                Some(true) => read.extend([pair.0, pair.1]),
                Some(false) => return false,
            }
        }
        for (at, key) in &self.values {
            if matches!(at, At::Standard(tag) if read.contains(tag)) {
                continue;
            }
            let found = element(at);
            let content = found.as_ref().map(|element| &element.1);
            let vr = match at {
                At::Standard(MODALITIES_IN_STUDY) => "list",
                At::Standard(SOP_CLASSES_IN_STUDY) => "UI",
                At::Standard(tag) => known::vr(*tag).unwrap_or("UN"),
                At::Private { .. } => found.as_ref().map_or("LO", |element| element.0),
            };
            let passed = match vr {
                "SQ" => {
                    rules::is_universal(key)
                        || (how.empty && *key == "\"\"" && content.is_none_or(Content::is_empty))
                }
                "list" => rules::passes_list(key, content, how),
                _ => rules::passes(vr, key, content, how),
            };
            if !passed {
                return false;
            }
        }
        self.items.iter().all(|(at, tests)| {
            let Some(found) = element(at) else { return false };
            let Content::Items(items) = &found.1 else { return false };
            items.iter().any(|item| tests.pass(&|at| of(item, at).map(Cow::Borrowed), None, how))
        })
    }
}

/// What the client and the study say of time zones, in minutes.
#[derive(Clone, Copy)]
struct Zone {
    asked: i128,
    own: i128,
}

/// Dates that are read in the client's time zone.
const ZONED: [Tag; 2] = [STUDY_DATE, PPS_DATE];

/// The range of moments of a range of dates and one of times.
fn joined(dates: Ends, times: Ends) -> Ends {
    let from = dates.0.map(|day| day + times.0.unwrap_or(0));
    // The range of dates ends with the last microsecond of a day.
    let to = dates.1.map(|end| end + 1 - moments::DAY + times.1.unwrap_or(moments::DAY - 1));
    (from, to)
}

/// The first value that is not blank.
fn first(content: Option<&Content>) -> Option<&str> {
    match content {
        Some(Content::Values(values)) => values.iter().map(|v| v.trim()).find(|v| !v.is_empty()),
        _ => None,
    }
}

/// An element of a data set.
pub fn of<'a>(data: &'a DataSet, at: &At) -> Option<&'a Element> {
    match at {
        At::Standard(tag) => data.get(*tag),
        At::Private { group, creator, element } => {
            let block = (0x10..=0xFF).find(|block| data.first((*group, *block)) == creator)?;
            data.get((*group, block << 8 | u16::from(*element)))
        }
    }
}

impl Searched<'_> {
    /// Answers a request that is valid.
    pub fn answer(&self, request: &Request) -> Answer<'_> {
        let mut tests = Tests::default();
        for key in self.matched(request).filter(|key| !self.is_universal(request, key)) {
            tests.add(&key.path, &key.value);
        }
        let mut found: Vec<Entity<'_>> = self
            .archive
            .entities(request.level)
            .into_iter()
            .filter(|entity| self.is_searched(request, entity))
            .filter(|entity| self.passes(request, entity, &tests))
            .collect();
        if request.level == Level::Study {
            // Newest first; without a date last.
            found.sort_by_key(|entity| std::cmp::Reverse((moment_of(entity), entity.number)));
        }
        let largest = self.largest[request.level as usize];
        let limit = request.limit.map_or(largest, |limit| limit.min(largest));
        let page = found.iter().copied().skip(request.offset).take(limit).collect();
        let remaining = found.len().saturating_sub(request.offset).saturating_sub(limit);
        Answer { page, remaining, matches: found.len() }
    }

    /// The level of an attribute. What the server does not know, instances have.
    pub(super) fn level(&self, request: &Request, at: &At) -> Level {
        if let Some(tag) = self.tag(request, at) {
            return tag.level;
        }
        match at {
            At::Standard(MODALITIES_IN_STUDY | SOP_CLASSES_IN_STUDY) => Level::Study,
            At::Standard(tag) => {
                let known = known::by_tag(*tag).filter(|known| known.stored);
                known.map_or(Level::Instance, |known| known.level)
            }
            At::Private { .. } => Level::Instance,
        }
    }

    pub(super) fn tag(&self, request: &Request, at: &At) -> Option<&QueryTag> {
        let of_all = |tag: &&QueryTag| match tag.partition {
            None => true,
            Some(partition) => request.partitions == [partition],
        };
        self.tags.iter().filter(|tag| tag.at == *at).find(of_all)
    }

    pub(super) fn matched<'r>(&self, request: &'r Request) -> impl Iterator<Item = &'r Key> {
        request.keys.iter().filter(|key| self.is_matched(request, key))
    }

    /// Whether a key only asks that its attribute be returned.
    fn is_universal(&self, request: &Request, key: &Key) -> bool {
        let is_name = match key.path.last() {
            Some(At::Standard(tag)) => known::vr(*tag) == Some("PN"),
            _ => false,
        };
        rules::is_universal(&key.value) || (is_name && rules::asks_no_name(&key.value, request.how))
    }

    /// Keys of lower levels are not matched.
    fn is_matched(&self, request: &Request, key: &Key) -> bool {
        key.path.first().is_some_and(|at| self.level(request, at) <= request.level)
    }

    /// The names of the parameters that the answer's `Warning` calls ignored.
    pub fn ignored(&self, request: &Request) -> Vec<String> {
        let keys = request.keys.iter().filter(|key| !self.is_matched(request, key));
        keys.map(|key| &key.name).chain(&request.unknown).cloned().collect()
    }

    fn is_searched(&self, request: &Request, entity: &Entity<'_>) -> bool {
        let is = |wanted: &Option<String>, parent: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == parent)
        };
        request.partitions.contains(&entity.study.partition)
            && is(&request.study, Some(&entity.study.uid))
            && is(&request.series, entity.series.map(|series| &series.uid))
    }

    fn passes(&self, request: &Request, entity: &Entity<'_>, tests: &Tests<'_>) -> bool {
        let own = moments::offset(entity.study.facts.first(TIMEZONE).trim());
        let zone = request.zone.zip(own).map(|(asked, own)| Zone { asked, own });
        tests.pass(&|at| self.element(request, entity, at), zone, request.how)
    }

    /// An attribute of a row: of the level that it belongs to.
    pub(super) fn element<'e>(
        &'e self,
        request: &Request,
        row: &Entity<'e>,
        at: &At,
    ) -> Option<Cow<'e, Element>> {
        let found = match at {
            At::Standard(MODALITIES_IN_STUDY) => {
                return Some(Cow::Owned(("CS", self.modalities(row))));
            }
            At::Standard(SOP_CLASSES_IN_STUDY) => {
                return Some(Cow::Owned(("UI", self.classes(row))));
            }
            _ => self.holder(request, row, at).and_then(|data| of(data, at)),
        };
        found.map(Cow::Borrowed)
    }

    /// The data set in which an attribute of a row is looked up.
    pub(super) fn holder<'e>(
        &'e self,
        request: &Request,
        row: &Entity<'e>,
        at: &At,
    ) -> Option<&'e DataSet> {
        let level = self.level(request, at);
        let parent = match level {
            Level::Study => Some(row.study),
            Level::Series => row.series,
            Level::Instance => return row.instance.map(|instance| &instance.data),
        };
        if self.tag(request, at).is_none() {
            return parent.map(|parent| &parent.facts);
        }
        // Of an extended query tag, the first instance with a value says it.
        let says = |data: &&DataSet| of(data, at).is_some_and(|(_, content)| !content.is_empty());
        self.archive.within(parent?).map(|instance| &instance.data).find(says)
    }

    /// What a row has of the attributes that are asked for, for people.
    pub fn told(&self, request: &Request, row: &Entity<'_>) -> String {
        let firsts = self.matched(request).filter_map(|key| key.path.first());
        let zone = request.names_zone.then_some(&At::Standard(TIMEZONE));
        let told =
            firsts.chain(zone).map(|at| format!("{at:?} {:?}", self.element(request, row, at)));
        told.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn modalities(&self, entity: &Entity<'_>) -> Content {
        let series = self.archive.within(entity.study).map(|instance| instance.series);
        let rows = series.filter_map(|number| self.archive.series[number].as_ref());
        let modalities = rows.map(|row| row.facts.first(MODALITY).trim().to_owned());
        let all: BTreeSet<String> = modalities.filter(|modality| !modality.is_empty()).collect();
        Content::Values(all.into_iter().collect())
    }

    pub(super) fn classes(&self, entity: &Entity<'_>) -> Content {
        let classes = self.archive.within(entity.study).map(|i| i.data.first(SOP_CLASS).to_owned());
        Content::Values(classes.collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// What studies are ordered by: the moment, then whether there is a time. Without a date: least.
fn moment_of(entity: &Entity<'_>) -> Option<(i128, bool)> {
    let facts = &entity.study.facts;
    let day = moments::date(facts.first(STUDY_DATE).trim())?;
    let time = moments::time(facts.first((0x0008, 0x0030)).trim()).map(|span| span.0);
    Some((day + time.unwrap_or(0).min(moments::DAY - 1), time.is_some()))
}
