//! What a client knows of the studies that it alone changes.
//!
//! Of each instance it knows how it was when somebody last said so, and whether a request came in
//! between of which nobody knows whether it was carried out. How often an instance came and went is
//! counted: the change feed must tell exactly that.

use std::collections::BTreeMap;

use crate::harness::Dicom;

/// The partitions that everything happens in.
pub const PARTITIONS: [&str; 2] = ["north", "south"];

/// From this many bytes an instance has a blob of its own, in these tests.
pub const OWN_BLOB: (&str, &str) = ("store.own_blob_bytes", "64KiB");

/// 16-bit words of the pixels of large instances.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Of every eighth: beyond [`OWN_BLOB`].
    pub large: u32,
    /// Of every sixty-fourth.
    pub huge: u32,
}

impl Sizes {
    pub const USUAL: Self = Self { large: 50_000, huge: 200_000 };
}

/// Which instance: its study, series, and number in the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub study: u32,
    pub series: u32,
    pub number: u32,
}

impl Name {
    pub fn study_uid(self) -> String {
        format!("1.2.{}", self.study)
    }

    pub fn series_uid(self) -> String {
        format!("1.2.{}.{}", self.study, self.series)
    }

    pub fn uid(self) -> String {
        format!("1.2.{}.{}.{}", self.study, self.series, self.number)
    }

    pub fn path(self) -> String {
        let (study, series, uid) = (self.study_uid(), self.series_uid(), self.uid());
        format!("/studies/{study}/series/{series}/instances/{uid}")
    }

    /// The name that a SOP Instance UID of these tests stands for.
    pub fn of(uid: &str) -> Self {
        let numbers: Vec<u32> = uid.split('.').map(|n| n.parse().unwrap()).collect();
        let [1, 2, study, series, number] = numbers[..] else {
            panic!("not of these tests: {uid}")
        };
        Self { study, series, number }
    }

    /// Its bytes: always the same, and like those of no other.
    pub fn file(self, sizes: Sizes) -> Vec<u8> {
        let order = self.study + self.series + self.number;
        let words = match order {
            n if n.is_multiple_of(64) => sizes.huge,
            n if n.is_multiple_of(8) => sizes.large,
            n => 16 + n % 7 * 100,
        };
        let mut x = (u64::from(self.study) << 32) ^ (u64::from(self.series) << 16);
        x = (x ^ u64::from(self.number)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let pixels = (0..words).map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 40) as u16
        });
        let mut ct = Dicom::ct(&self.study_uid(), &self.series_uid(), &self.uid());
        ct.pixels(pixels.collect()).file()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never stored, so far as anybody was told.
    Absent,
    Here,
    /// Deleted.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub struct Instance {
    /// As it was when somebody last said so.
    pub state: State,
    /// A request since then may have been carried out, or not.
    pub in_doubt: bool,
    /// Events that the feed must have of it.
    pub events: u32,
}

impl Instance {
    const NEW: Self = Self { state: State::Absent, in_doubt: false, events: 0 };

    /// Somebody said that it is there.
    pub fn is_here(&mut self) {
        self.becomes(State::Here);
    }

    /// Somebody said that it is not there.
    pub fn is_not_here(&mut self) {
        match self.state {
            State::Here => self.becomes(State::Gone),
            State::Absent | State::Gone => self.in_doubt = false,
        }
    }

    fn becomes(&mut self, state: State) {
        self.events += u32::from(self.state != state);
        (self.state, self.in_doubt) = (state, false);
    }
}

/// What a request changes.
#[derive(Clone, Debug)]
pub enum Change {
    Store(Vec<Name>),
    DeleteStudy,
    DeleteSeries(u32),
    DeleteInstance(Name),
}

/// A study and all that was ever stored of it.
#[derive(Clone, Debug, Default)]
pub struct Study {
    pub instances: BTreeMap<Name, Instance>,
    /// What may have been carried out, or in part, or not; the next request repeats it.
    pub pending: Option<Change>,
    /// Changed since it was last checked.
    pub touched: bool,
}

impl Study {
    pub fn instance(&mut self, name: Name) -> &mut Instance {
        self.instances.entry(name).or_insert(Instance::NEW)
    }

    /// What a deletion takes.
    pub fn targets(&self, change: &Change) -> Vec<Name> {
        let within = |name: &Name| match change {
            Change::Store(names) => names.contains(name),
            Change::DeleteStudy => true,
            Change::DeleteSeries(series) => name.series == *series,
            Change::DeleteInstance(only) => name == only,
        };
        self.instances.keys().copied().filter(within).collect()
    }

    pub fn here(&self) -> Vec<Name> {
        let here = |(name, i): (&Name, &Instance)| (i.state == State::Here).then_some(*name);
        self.instances.iter().filter_map(here).collect()
    }
}
