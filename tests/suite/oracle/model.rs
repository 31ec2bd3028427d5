//! What is stored, as plain values: data sets, and the studies, series and instances that they
//! make.
//!
//! Holds: a study or series says what the first instance with a value said, for as long as it
//! lives; rows are numbered in the order in which they came and stay in place when deleted. Absent:
//! matching, and bytes (`written`).

use std::collections::BTreeMap;

use super::known::{self, Level};

/// Group and element.
pub type Tag = (u16, u16);

/// What an element holds, as text whatever its VR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Values(Vec<String>),
    Items(Vec<DataSet>),
}

impl Content {
    /// Whether there is a value that is not blank, or an item.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Values(values) => values.iter().all(|value| value.trim().is_empty()),
            Self::Items(items) => items.is_empty(),
        }
    }
}

/// VR and content of an element.
pub type Element = (&'static str, Content);

/// A data set, of an instance or of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSet(pub BTreeMap<Tag, Element>);

impl DataSet {
    pub fn set(&mut self, tag: Tag, vr: &'static str, values: &[&str]) -> &mut Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.0.insert(tag, (vr, Content::Values(values)));
        self
    }

    pub fn items(&mut self, tag: Tag, items: Vec<DataSet>) -> &mut Self {
        self.0.insert(tag, ("SQ", Content::Items(items)));
        self
    }

    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.0.get(&tag)
    }

    /// The first value of an element; empty without one.
    pub fn first(&self, tag: Tag) -> &str {
        match self.0.get(&tag) {
            Some((_, Content::Values(values))) => values.first().map_or("", |value| value),
            _ => "",
        }
    }

    /// Takes what `other` says at a level and is not said here.
    fn fill(&mut self, other: &DataSet, level: Level) {
        for (tag, element) in &other.0 {
            if !known::by_tag(*tag).is_some_and(|known| known.stored && known.level == level) {
                continue;
            }
            let mine = self.0.get(tag);
            if mine.is_none_or(|(_, content)| content.is_empty() && !element.1.is_empty()) {
                self.0.insert(*tag, element.clone());
            }
        }
    }
}

/// A study or a series.
pub struct Parent {
    pub partition: usize,
    pub uid: String,
    /// Of a series: its study.
    pub study: usize,
    pub facts: DataSet,
    /// Numbers of its instances, as they came.
    pub instances: Vec<usize>,
}

pub struct Instance {
    pub partition: usize,
    pub study: usize,
    pub series: usize,
    pub uid: String,
    pub data: DataSet,
}

/// All that is stored. A number names a row; what was deleted is `None`.
#[derive(Default)]
pub struct Archive {
    pub studies: Vec<Option<Parent>>,
    pub series: Vec<Option<Parent>>,
    pub instances: Vec<Option<Instance>>,
}

/// A study, a series of it, or an instance of that.
#[derive(Clone, Copy)]
pub struct Entity<'a> {
    pub study: &'a Parent,
    pub series: Option<&'a Parent>,
    pub instance: Option<&'a Instance>,
    /// Its number among those of its level.
    pub number: usize,
}

pub const STUDY_UID: Tag = (0x0020, 0x000D);
pub const SERIES_UID: Tag = (0x0020, 0x000E);
pub const SOP_UID: Tag = (0x0008, 0x0018);

impl Archive {
    pub fn store(&mut self, partition: usize, data: DataSet) {
        let number = self.instances.len();
        let study = parent(&mut self.studies, partition, 0, data.first(STUDY_UID));
        let series = parent(&mut self.series, partition, study, data.first(SERIES_UID));
        for (row, level) in
            [(&mut self.studies[study], Level::Study), (&mut self.series[series], Level::Series)]
        {
            let row = row.as_mut().unwrap();
            row.facts.fill(&data, level);
            row.instances.push(number);
        }
        let uid = data.first(SOP_UID).to_owned();
        self.instances.push(Some(Instance { partition, study, series, uid, data }));
    }

    /// Deletes instances; with the last one their series and study go.
    pub fn delete(&mut self, numbers: &[usize]) {
        for &number in numbers {
            let Some(gone) = self.instances[number].take() else { continue };
            for row in [&mut self.series[gone.series], &mut self.studies[gone.study]] {
                let parent = row.as_mut().unwrap();
                parent.instances.retain(|instance| *instance != number);
                if parent.instances.is_empty() {
                    *row = None;
                }
            }
        }
    }

    /// Everything of a level, in the order in which it came.
    pub fn entities(&self, level: Level) -> Vec<Entity<'_>> {
        let numbers = match level {
            Level::Study => 0..self.studies.len(),
            Level::Series => 0..self.series.len(),
            Level::Instance => 0..self.instances.len(),
        };
        numbers.filter_map(|number| self.entity(level, number)).collect()
    }

    fn entity(&self, level: Level, number: usize) -> Option<Entity<'_>> {
        let study = |number: usize| self.studies[number].as_ref();
        Some(match level {
            Level::Study => Entity { study: study(number)?, series: None, instance: None, number },
            Level::Series => {
                let series = self.series[number].as_ref()?;
                Entity { study: study(series.study)?, series: Some(series), instance: None, number }
            }
            Level::Instance => {
                let instance = self.instances[number].as_ref()?;
                let series = self.series[instance.series].as_ref();
                let study = study(instance.study)?;
                Entity { study, series, instance: Some(instance), number }
            }
        })
    }

    /// The instances of a study or series.
    pub fn within<'a>(&'a self, parent: &'a Parent) -> impl Iterator<Item = &'a Instance> {
        parent.instances.iter().filter_map(|number| self.instances[*number].as_ref())
    }
}

fn parent(rows: &mut Vec<Option<Parent>>, partition: usize, study: usize, uid: &str) -> usize {
    let found = rows.iter().position(|row| {
        let row = row.as_ref();
        row.is_some_and(|row| row.partition == partition && row.study == study && row.uid == uid)
    });
    found.unwrap_or_else(|| {
        let (uid, facts, instances) = (uid.to_owned(), DataSet::default(), Vec::new());
        rows.push(Some(Parent { partition, uid, study, facts, instances }));
        rows.len() - 1
    })
}
