//! Requests from a seed: every resource, every kind of key, most of them aimed at something that is
//! stored.

use super::{
    data::CREATORS,
    keys,
    known::{self, KNOWN, Known, Level, hex},
    model::{Archive, Content, DataSet, Instance, Tag},
    random::Random,
    request::{Asked, At},
    rules::How,
    search::{QueryTag, Searched},
};

/// One query under construction.
struct Writer<'a> {
    random: &'a mut Random,
    archive: &'a Archive,
    tags: &'a [QueryTag],
    level: Level,
    how: How,
    /// What it is aimed at.
    target: &'a Instance,
    parameters: Vec<(String, String)>,
    used: Vec<Vec<Tag>>,
}

/// A request. `None`: nothing is stored.
pub fn ask(random: &mut Random, searched: &Searched<'_>) -> Option<Asked> {
    let archive = searched.archive;
    let stored: Vec<&Instance> = archive.instances.iter().flatten().collect();
    if stored.is_empty() {
        return None;
    }
    let target = *random.pick(&stored);
    let study = archive.studies[target.study].as_ref()?;
    let series = archive.series[target.series].as_ref()?;
    let (level, mut path) = match random.below(12) {
        0..5 => (Level::Study, "/studies".to_owned()),
        5 | 6 => (Level::Series, "/series".to_owned()),
        7 | 8 => (Level::Instance, "/instances".to_owned()),
        9 => (Level::Series, format!("/studies/{}/series", study.uid)),
        10 => (Level::Instance, format!("/studies/{}/instances", study.uid)),
        _ => (Level::Instance, format!("/studies/{}/series/{}/instances", study.uid, series.uid)),
    };
    let mut parameters = Vec::new();
    match random.below(4) {
        0 | 1 => path = format!("/partitions/{}{path}", searched.partitions[target.partition]),
        2 => {
            let mut named = vec![searched.partitions[target.partition]];
            named.push(*random.pick(searched.partitions));
            named.dedup();
            parameters.push(("microsoft.partitionId".to_owned(), named.join(",")));
        }
        _ => {}
    }
    let mut how = How::default();
    match random.below(10) {
        0..3 => how.fuzzy = true,
        3 | 4 => how.empty = true,
        5 => how.multiple = true,
        6 => (how.empty, how.multiple) = (true, true),
        _ => {}
    }
    for (name, is_on) in [
        ("fuzzymatching", how.fuzzy),
        ("emptyvaluematching", how.empty),
        ("multiplevaluematching", how.multiple),
    ] {
        if is_on || random.chance(10) {
            parameters.push((name.to_owned(), is_on.to_string()));
        }
    }
    let tags = searched.tags;
    let used = Vec::new();
    let mut writer = Writer { random, archive, tags, level, how, target, parameters, used };
    let keys = writer.random.below(4);
    for _ in 0..keys {
        writer.key();
    }
    writer.includes();
    writer.page();
    let (random, mut parameters) = (writer.random, writer.parameters);
    random.shuffle(&mut parameters);
    Some(Asked { path, parameters })
}

impl Writer<'_> {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.parameters.push((name.to_owned(), value.into()));
    }

    /// A name of an attribute: keyword or tag.
    fn name(&mut self, tag: Tag) -> String {
        let keyword = known::named(&hex(tag)).map(|known| known.keyword);
        match (self.random.below(4), keyword) {
            (0, _) | (_, None) => hex(tag),
            (1, _) => hex(tag).to_lowercase(),
            (_, Some(keyword)) => keyword.to_owned(),
        }
    }

    /// Whether a path was not used before.
    fn is_new(&mut self, path: &[Tag]) -> bool {
        let is_new = !self.used.iter().any(|used| used == path);
        self.used.push(path.to_vec());
        is_new
    }

    fn key(&mut self) {
        match self.random.below(20) {
            0 | 1 => self.pair(),
            2..5 => self.inside(),
            5 => self.computed(),
            6 => self.private(),
            7 if self.random.chance(50) => self.zone(),
            7 if self.random.chance(20) => self.invalid(),
            8 if !self.tags.is_empty() => self.tag(),
            _ => self.plain(),
        }
    }

    /// A value of an attribute, mostly of the target.
    fn sample(&mut self, tag: Tag) -> Option<String> {
        let from = match self.random.chance(75) {
            true => self.target,
            false => {
                let stored: Vec<&Instance> = self.archive.instances.iter().flatten().collect();
                *self.random.pick(&stored)
            }
        };
        sample(self.random, &from.data, tag)
    }

    fn plain(&mut self) {
        let known: Vec<&Known> = KNOWN
            .iter()
            .filter(|known| known.vr != "SQ" && known.tag != (0x0008, 0x0201))
            .collect();
        let mut known = **self.random.pick(&known);
        // Of lower levels only now and then: they are ignored.
        for _ in 0..8 {
            let level = if known.stored { known.level } else { Level::Instance };
            if level <= self.level && !(level < self.level && self.random.chance(40)) {
                break;
            }
            known = *KNOWN
                .get(self.random.below(KNOWN.len()))
                .filter(|known| known.vr != "SQ" && known.tag != (0x0008, 0x0201))
                .unwrap_or(&known);
        }
        if !self.is_new(&[known.tag]) {
            return;
        }
        let sample = self.sample(known.tag);
        let name = self.name(known.tag);
        let value = keys::value(self.random, known.vr, sample.as_deref(), self.how);
        self.add(&name, value);
    }

    /// A date and a time, both as ranges or not.
    fn pair(&mut self) {
        let (date, time) = *self.random.pick(known::PAIRS);
        if known::by_tag(date).is_some_and(|known| known.level > self.level)
            || !self.is_new(&[date])
            || !self.is_new(&[time])
        {
            return;
        }
        let (day, clock) = (self.sample(date), self.sample(time));
        let [dates, times] = keys::pair(self.random, day.as_deref(), clock.as_deref());
        let (date, time) = (self.name(date), self.name(time));
        self.add(&date, dates);
        self.add(&time, times);
    }

    /// One or two keys inside the items of a sequence.
    fn inside(&mut self) {
        let sequences: &[(Level, &[Tag])] = &[
            (Level::Study, &[(0x0010, 0x1002)]),
            (Level::Study, &[(0x0008, 0x1032)]),
            (Level::Series, &[(0x0040, 0x0275)]),
            (Level::Series, &[(0x0040, 0x0275)]),
            (Level::Series, &[(0x0040, 0x0275), (0x0032, 0x1064)]),
            (Level::Instance, &[(0x0040, 0xA730)]),
            (Level::Instance, &[(0x0040, 0xA730), (0x0040, 0xA043)]),
        ];
        let (level, path) = *self.random.pick(sequences);
        if level > self.level && !self.random.chance(5) {
            return;
        }
        if self.random.chance(10) {
            let sequence = path[0];
            if self.is_new(&[sequence]) {
                let name = self.name(sequence);
                let value = if self.how.empty && self.random.chance(70) { "\"\"" } else { "" };
                self.add(&name, value);
            }
            return;
        }
        let item = item(self.random, &self.target.data, path);
        let leaves = leaves(path[path.len() - 1]);
        let with_time = path == [(0x0040, 0xA730)] && self.random.chance(20);
        if with_time {
            let pair = [(0x0040, 0x0244), (0x0040, 0x0245)];
            let of = |random: &mut Random, tag| item.as_ref().and_then(|i| sample(random, i, tag));
            let (day, clock) = (of(self.random, pair[0]), of(self.random, pair[1]));
            let values = keys::pair(self.random, day.as_deref(), clock.as_deref());
            for (tag, value) in pair.into_iter().zip(values) {
                self.add_path(path, tag, value);
            }
            return;
        }
        for _ in 0..1 + self.random.below(2) {
            let (tag, vr) = *self.random.pick(leaves);
            let sample = item.as_ref().and_then(|item| sample(self.random, item, tag));
            let value = keys::value(self.random, vr, sample.as_deref(), self.how);
            self.add_path(path, tag, value);
        }
    }

    fn add_path(&mut self, path: &[Tag], tag: Tag, value: String) {
        let whole: Vec<Tag> = path.iter().copied().chain([tag]).collect();
        if !self.is_new(&whole) {
            return;
        }
        let parts: Vec<String> = whole.iter().map(|tag| self.name(*tag)).collect();
        self.add(&parts.join("."), value);
    }

    fn computed(&mut self) {
        let classes = self.random.chance(40);
        let (tag, name) = match classes {
            true => ((0x0008, 0x0062), "SOPClassesInStudy"),
            false => ((0x0008, 0x0061), "ModalitiesInStudy"),
        };
        if !self.is_new(&[tag]) {
            return;
        }
        let own = if classes { (0x0008, 0x0016) } else { (0x0008, 0x0060) };
        let mut values: Vec<String> = (0..3).filter_map(|_| self.sample(own)).collect();
        values.truncate(1 + self.random.below(3));
        if values.is_empty() {
            values.push(if classes { "1.2.3".to_owned() } else { "XX".to_owned() });
        }
        let name = if self.random.chance(30) { hex(tag) } else { name.to_owned() };
        match self.random.below(4) {
            0 => values.iter().for_each(|value| self.add(&name, value.as_str())),
            1 => self.add(&name, values.join("\\")),
            2 if !classes && !self.how.multiple => self.add(&name, format!("{}*", &values[0][..1])),
            _ => self.add(&name, values.join(",")),
        }
    }

    fn private(&mut self) {
        if self.level != Level::Instance && !self.random.chance(10) {
            return;
        }
        let (creator, elements) = *self.random.pick(CREATORS);
        let block = self.random.below(0xF0) as u16 + 0x10;
        if !self.is_new(&[(0x0009, 0)]) {
            return;
        }
        if self.random.chance(95) {
            self.add(&hex((0x0009, block)), creator);
        }
        for _ in 0..1 + self.random.below(2) {
            let element = *self.random.pick(elements);
            if !self.is_new(&[(0x0009, u16::from(element))]) {
                continue;
            }
            let at = At::Private { group: 0x0009, creator: creator.to_owned(), element };
            let sample = private_sample(&self.target.data, &at);
            let name = hex((0x0009, block << 8 | u16::from(element)));
            if self.random.chance(25) {
                self.add("includefield", name);
            } else {
                let value = keys::value(self.random, "LO", sample.as_deref(), self.how);
                self.add(&name, value);
            }
        }
    }

    /// An extended query tag, by whatever block its path happens to say.
    fn tag(&mut self) {
        let tag = self.random.pick(self.tags).clone();
        let (name, sample, used) = match &tag.at {
            At::Standard(tag) => (self.name(*tag), self.sample(*tag), *tag),
            At::Private { group, element, .. } => {
                let name = hex((*group, 0x1000 | u16::from(*element)));
                (name, private_sample(&self.target.data, &tag.at), (*group, u16::from(*element)))
            }
        };
        if !self.is_new(&[used]) || !self.is_new(&[(used.0, 0)]) {
            return;
        }
        if self.random.chance(15) {
            return self.add("includefield", name);
        }
        let value = keys::value(self.random, tag.vr, sample.as_deref(), self.how);
        self.add(&name, value);
    }

    fn zone(&mut self) {
        if !self.is_new(&[(0x0008, 0x0201)]) {
            return;
        }
        let zones = ["+0000", "+0100", "-0500", "+1400", "-1130", ""];
        let zone = *self.random.pick(&zones);
        self.add("TimezoneOffsetFromUTC", zone);
        self.pair();
    }

    /// A value that its key cannot have.
    fn invalid(&mut self) {
        let cases: &[(Tag, &str)] = &[
            ((0x0008, 0x0020), "2024"),
            ((0x0008, 0x0020), "20240230"),
            ((0x0008, 0x0020), "20240102-20240101"),
            ((0x0008, 0x0020), "-"),
            ((0x0008, 0x0030), "25"),
            ((0x0008, 0x0030), "10:1"),
            ((0x0020, 0x000D), "1.2.*"),
            ((0x0020, 0x000D), "abc"),
            ((0x0008, 0x0201), "+2500"),
            ((0x0008, 0x0201), "0100"),
        ];
        let (tag, value) = *self.random.pick(cases);
        if self.is_new(&[tag]) {
            let name =
                if tag.1 == 0x0201 { "TimezoneOffsetFromUTC".into() } else { self.name(tag) };
            self.add(&name, value);
        }
    }

    fn includes(&mut self) {
        // `all` stands alone.
        let is_first = !self.parameters.iter().any(|(name, _)| name == "includefield");
        if is_first && self.random.chance(15) {
            return self.add("includefield", "all");
        }
        if self.random.chance(60) {
            return;
        }
        let paths: &[&[Tag]] = &[
            &[(0x0010, 0x1002), (0x0010, 0x0020)],
            &[(0x0010, 0x1002), (0x0010, 0x0021)],
            &[(0x0008, 0x1032), (0x0008, 0x0100)],
            &[(0x0040, 0x0275), (0x0040, 0x0009)],
            &[(0x0040, 0x0275), (0x0032, 0x1064), (0x0008, 0x0104)],
            &[(0x0040, 0xA730), (0x0040, 0xA040)],
            &[(0x0040, 0xA730), (0x0040, 0xA043), (0x0008, 0x0100)],
            &[(0x0040, 0xA730), (0x0040, 0xA043)],
        ];
        let mut fields = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            fields.push(match self.random.below(8) {
                0 | 1 => {
                    let path = *self.random.pick(paths);
                    path.iter().map(|tag| self.name(*tag)).collect::<Vec<_>>().join(".")
                }
                2 => (*self.random.pick(&["ModalitiesInStudy", "00080062"])).to_owned(),
                _ => {
                    let known = self.random.pick(KNOWN);
                    self.name(known.tag)
                }
            });
        }
        if self.random.chance(50) {
            return self.add("includefield", fields.join(","));
        }
        for field in fields {
            self.add("includefield", field);
        }
    }

    fn page(&mut self) {
        if self.random.chance(60) {
            let limit = *self.random.pick(&[0, 1, 2, 3, 5, 10, 20, 1000]);
            self.add("limit", limit.to_string());
        }
        if self.random.chance(35) {
            let offset = *self.random.pick(&[0, 1, 2, 3, 7, 15, 40, 100, 100_000]);
            self.add("offset", offset.to_string());
        }
    }
}

/// What is asked for inside the items of a sequence.
fn leaves(sequence: Tag) -> &'static [(Tag, &'static str)] {
    const CODE: &[(Tag, &str)] =
        &[((0x0008, 0x0100), "SH"), ((0x0008, 0x0102), "SH"), ((0x0008, 0x0104), "LO")];
    match sequence {
        (0x0010, 0x1002) => {
            &[((0x0010, 0x0020), "LO"), ((0x0010, 0x0021), "LO"), ((0x0010, 0x0022), "CS")]
        }
        (0x0040, 0x0275) => {
            &[((0x0040, 0x0009), "SH"), ((0x0040, 0x1001), "SH"), ((0x0040, 0x0007), "LO")]
        }
        (0x0040, 0xA730) => &[
            ((0x0040, 0xA040), "CS"),
            ((0x0040, 0xA123), "PN"),
            ((0x0040, 0xA160), "UT"),
            ((0x0040, 0x0244), "DA"),
        ],
        _ => CODE,
    }
}

/// One value of an element.
fn sample(random: &mut Random, data: &DataSet, tag: Tag) -> Option<String> {
    match data.get(tag) {
        Some((_, Content::Values(values))) if !values.is_empty() => {
            Some(random.pick(values).clone()).filter(|value| !value.is_empty())
        }
        _ => None,
    }
}

/// Some item at the end of a path of sequences.
fn item(random: &mut Random, data: &DataSet, path: &[Tag]) -> Option<DataSet> {
    let (first, rest) = path.split_first()?;
    let Some((_, Content::Items(items))) = data.get(*first) else { return None };
    let chosen = (!items.is_empty()).then(|| random.pick(items).clone())?;
    if rest.is_empty() { Some(chosen) } else { item(random, &chosen, rest) }
}

fn private_sample(data: &DataSet, at: &At) -> Option<String> {
    let At::Private { group, creator, element } = at else { return None };
    let block = (0x10..=0xFF).find(|block| data.first((*group, *block)) == creator)?;
    let value = data.first((*group, block << 8 | u16::from(*element)));
    (!value.is_empty()).then(|| value.to_owned())
}
