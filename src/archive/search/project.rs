//! What is said of each match (PS3.18 §10.6.3): attributes by level, those asked for, and what is
//! computed.
//!
//! Holds: a result is one DICOM JSON object whose attributes ascend, those of return type R present
//! though empty; a value in it is at most [`MAX_VALUE`] long and named by no URI. Absent: which rows
//! match.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    super::ArchiveError,
    parts::{Listed, Made, Part, Parts},
};
use crate::{
    dicom::{
        Tag,
        attributes::{self, Level},
        json,
        matching::{Element, Object},
    },
    index::{Include, SearchRow},
};

/// Attributes of a result, or of an item in it.
pub(in crate::archive) type Projected<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// Attributes of return type R (PS3.18 Tables 10.6.3-3 to -5): level, tag, and what they are without
/// a value.
static REQUIRED: LazyLock<Vec<(Level, Tag, Box<RawValue>)>> = LazyLock::new(|| {
    let required = attributes::TABLE.iter().filter(|attribute| attribute.required);
    let empty = |attribute: &attributes::Attribute| {
        let empty = made::<&str>(attribute.vr.to_string(), &[]).ok()?;
        Some((attribute.level, attribute.tag, empty))
    };
    required.filter_map(empty).collect()
});

/// Longest value out of the metadata that a result holds, as JSON, in bytes: as for the attributes
/// that the index holds.
const MAX_VALUE: usize = 64 * 1024;

/// The private creator of the partition's id and the attribute that holds it, in results of a
/// server with partitions.
const CREATOR: (Tag, &str) = (Tag(0x0065, 0x0010), "COLLIMATOR PARTITION");
const PARTITION: Tag = Tag(0x0065, 0x1001);

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const INSTANCE_AVAILABILITY: Tag = Tag(0x0008, 0x0056);
const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008, 0x0062);
const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);
const AVAILABLE_SYNTAXES: Tag = Tag(0x0008, 0x3002);
const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_SERIES: Tag = Tag(0x0020, 0x1206);
const STUDY_INSTANCES: Tag = Tag(0x0020, 0x1208);
const SERIES_INSTANCES: Tag = Tag(0x0020, 0x1209);

/// What to return of each match.
#[derive(Clone, Debug)]
pub struct Returned {
    /// The attributes of the study.
    pub study: bool,
    /// The attributes of the series.
    pub series: bool,
    /// Every attribute that the index knows of these levels.
    pub all: bool,
    /// Attributes asked for one by one, matched ones included.
    pub tags: BTreeSet<Tag>,
    /// Private attributes, and attributes of items, by the path that leads to them.
    pub paths: Vec<Vec<Element>>,
    /// Extended query tags asked for whose values are those of a study or series: what the index
    /// holds of them is returned.
    pub extended: Vec<Extended>,
    /// Whether results name their partition.
    pub partition: bool,
}

/// An extended query tag whose attribute is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Its id.
    pub id: i64,
    /// Its level.
    pub level: Level,
    /// The private creator of a private attribute.
    pub creator: Option<String>,
}

/// What has to be read about each row for what is to be returned.
pub(super) fn include(level: Level, returned: &Returned) -> Include {
    let wants = |tag| returned.all || returned.tags.contains(&tag);
    Include {
        study: level > Level::Study && (returned.study || asks_of(Level::Study, returned)),
        series: level > Level::Series && (returned.series || asks_of(Level::Series, returned)),
        study_facts: (level == Level::Study || returned.study)
            || [MODALITIES_IN_STUDY, STUDY_SERIES, STUDY_INSTANCES].into_iter().any(wants),
        series_facts: level >= Level::Series && (returned.series || wants(SERIES_INSTANCES)),
        sop_classes: wants(SOP_CLASSES_IN_STUDY),
        transfer_syntaxes: wants(AVAILABLE_SYNTAXES),
        metadata: level == Level::Instance
            && (returned.tags.iter().any(|tag| is_other(*tag))
                || returned.paths.iter().flat_map(|path| path.first()).any(is_beyond)),
    }
}

fn asks_of(level: Level, returned: &Returned) -> bool {
    let is_of = |tag: Tag| attributes::by_tag(tag).is_some_and(|row| row.level == level);
    let mut firsts = returned.paths.iter().filter_map(|path| path.first());
    returned.tags.iter().any(|tag| is_of(*tag))
        || firsts.any(|at| matches!(at, Element::Standard(tag) if is_of(*tag)))
}

/// Whether an attribute, or the sequence that a path begins with, is in the metadata only.
fn is_beyond(at: &Element) -> bool {
    match at {
        Element::Standard(tag) => is_other(*tag),
        Element::Private { .. } => true,
    }
}

/// Whether an attribute is neither in the index nor computed: then only the metadata has it.
fn is_other(tag: Tag) -> bool {
    const COMPUTED: [Tag; 10] = [
        CHARACTER_SET,
        INSTANCE_AVAILABILITY,
        MODALITIES_IN_STUDY,
        SOP_CLASSES_IN_STUDY,
        RETRIEVE_URL,
        AVAILABLE_SYNTAXES,
        STUDY_SERIES,
        STUDY_INSTANCES,
        SERIES_INSTANCES,
        PARTITION,
    ];
    attributes::by_tag(tag).is_none() && !COMPUTED.contains(&tag)
}

/// Writes one result: attributes ascending by tag (PS3.18 Annex F). It is given its RetrieveURL, and
/// DICOM JSON of its instance where it is wanted.
pub(super) fn result(
    row: &SearchRow,
    level: Level,
    returned: &Returned,
    fields: &Fields,
    (url, metadata): (&str, Option<&[u8]>),
    out: &mut Vec<u8>,
) -> Result<(), ArchiveError> {
    let mut parts = Parts::default();
    compute(&mut parts, row, returned, url)?;
    for value in &row.tags {
        let tag = returned.extended.iter().find(|tag| tag.id == value.tag);
        let Some(Tag(group, element)) = json::tag_of(&value.key) else { continue };
        if let Some(creator) = tag.and_then(|tag| tag.creator.as_ref()) {
            parts.make(Tag(group, element >> 8), "LO", &[creator])?;
        }
        parts.add(Tag(group, element), Part::Given(&value.json));
    }
    let mut projected = Projected::new();
    let shown = |of: Level| match of {
        Level::Study => returned.study,
        Level::Series => returned.series,
        Level::Instance => level == Level::Instance,
    };
    for of in [Level::Study, Level::Series, Level::Instance] {
        let Some(text) = &row.attributes[of as usize] else { continue };
        let Listed(attributes) = serde_json::from_str(text).map_err(inconsistent)?;
        for (key, value) in &attributes {
            let Some(tag) = json::tag_of(key) else { continue };
            let is_wanted = returned.tags.contains(&tag)
                || (shown(of)
                    && attributes::by_tag(tag).is_some_and(|row| row.default || returned.all));
            if is_wanted {
                parts.add(tag, Part::Given(value.get()));
            }
        }
        if !fields.is_empty() {
            fields.project(&attributes.into_iter().collect(), &mut projected);
        }
    }
    if let Some(json) = metadata {
        let attributes: Object<'_> = serde_json::from_slice(json).map_err(inconsistent)?;
        for tag in returned.tags.iter().filter(|tag| is_other(**tag)) {
            let value = attributes.get(json::name(*tag).as_str()).filter(|value| is_given(value));
            if let Some(value) = value {
                parts.add(*tag, Part::Given(value.get()));
            }
        }
        fields.project(&attributes, &mut projected);
    }
    for (key, value) in projected {
        if let Some(tag) = json::tag_of(&key) {
            parts.add(tag, Part::Kept(value));
        }
    }
    for (_, tag, empty) in REQUIRED.iter().filter(|(level, ..)| shown(*level)) {
        parts.add(*tag, Part::Given(empty.get()));
    }
    parts.write(out);
    Ok(())
}

/// Adds what the index does not hold as attributes.
fn compute(
    parts: &mut Parts<'_>,
    row: &SearchRow,
    returned: &Returned,
    url: &str,
) -> Result<(), ArchiveError> {
    let wants = |tag| returned.all || returned.tags.contains(&tag);
    parts.make(INSTANCE_AVAILABILITY, "CS", &["ONLINE"])?;
    parts.make(RETRIEVE_URL, "UR", &[url])?;
    parts.make(STUDY_UID, "UI", &[row.study.as_str()])?;
    if let Some(series) = &row.series {
        parts.make(SERIES_UID, "UI", &[series.as_str()])?;
    }
    if let Some(instance) = &row.instance {
        parts.make(INSTANCE_UID, "UI", &[instance.as_str()])?;
    }
    if returned.study || wants(MODALITIES_IN_STUDY) {
        parts.make(MODALITIES_IN_STUDY, "CS", &row.modalities)?;
    }
    for (tag, count, is_shown) in [
        (STUDY_SERIES, row.study_series, returned.study),
        (STUDY_INSTANCES, row.study_instances, returned.study),
        (SERIES_INSTANCES, row.series_instances, returned.series),
    ] {
        if let Some(count) = count.filter(|_| is_shown || wants(tag)) {
            parts.make(tag, "IS", &[count])?;
        }
    }
    if wants(SOP_CLASSES_IN_STUDY) {
        parts.make(SOP_CLASSES_IN_STUDY, "UI", &row.sop_classes)?;
    }
    if wants(AVAILABLE_SYNTAXES) {
        parts.make(AVAILABLE_SYNTAXES, "UI", &row.transfer_syntaxes)?;
    }
    if returned.partition {
        parts.make(CREATOR.0, "LO", &[CREATOR.1])?;
        parts.make(PARTITION, "LO", &[row.partition.as_str()])?;
    }
    Ok(())
}

/// Whether a value is given with a result. One that is large or only named by URI is fetched through
/// the metadata.
pub(super) fn is_given(value: &RawValue) -> bool {
    value.get().len() <= MAX_VALUE && !json::has_bulk(value.get().as_bytes())
}

/// What is returned by paths: private attributes, and parts of items.
#[derive(Debug, Default)]
pub(in crate::archive) struct Fields(Vec<Field>);

#[derive(Debug)]
struct Field {
    at: Element,
    /// All of the attribute was asked for.
    whole: bool,
    inner: Fields,
}

impl Fields {
    /// Whether nothing is returned by paths.
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts paths with the same beginning together.
    pub(in crate::archive) fn of(paths: &[Vec<Element>]) -> Self {
        let mut fields = Self::default();
        for path in paths {
            let mut level = &mut fields;
            for (depth, at) in path.iter().enumerate() {
                let known = level.0.iter().position(|field| field.at == *at);
                let place = known.unwrap_or(level.0.len());
                if known.is_none() {
                    let (at, inner) = (at.clone(), Self::default());
                    level.0.push(Field { at, whole: false, inner });
                }
                let Some(field) = level.0.get_mut(place) else { break };
                field.whole |= depth + 1 == path.len();
                level = &mut field.inner;
            }
        }
        fields
    }

    /// Adds what a data set or item has of them. What is there already stays.
    pub(in crate::archive) fn project<'a>(&self, object: &Object<'a>, result: &mut Projected<'a>) {
        for field in &self.0 {
            let Some((key, value)) = field.at.find(object) else { continue };
            let part = if field.whole {
                Some(Cow::Borrowed(value)).filter(|value| is_given(value))
            } else {
                field.inner.items(value).map(Cow::Owned)
            };
            let Some(part) = part else { continue };
            if let Element::Private { .. } = field.at
                && let (Some(group), Some(block)) = (key.get(..4), key.get(4..6))
                && let Some((creator, name)) = object.get_key_value(&*format!("{group}00{block}"))
            {
                result.entry(Cow::Borrowed(creator)).or_insert(Cow::Borrowed(name));
            }
            result.entry(Cow::Owned(key)).or_insert(part);
        }
    }

    /// A sequence with these fields of its items alone. `None` for anything else.
    fn items(&self, sequence: &RawValue) -> Option<Box<RawValue>> {
        #[derive(serde::Deserialize)]
        struct Sequence<'a> {
            vr: &'a str,
            #[serde(rename = "Value", default, borrow)]
            items: Vec<Object<'a>>,
        }
        let sequence: Sequence<'_> = serde_json::from_str(sequence.get()).ok()?;
        let items = sequence.items.iter().map(|item| {
            let mut part = Projected::new();
            self.project(item, &mut part);
            part
        });
        let items: Vec<Projected<'_>> = items.collect();
        made(sequence.vr, &items).ok().filter(|part| part.get().len() <= MAX_VALUE)
    }
}

pub(super) fn made<T: Serialize>(vr: &str, values: &[T]) -> Result<Box<RawValue>, ArchiveError> {
    to_raw_value(&Made { vr, values }).map_err(inconsistent)
}

pub(in crate::archive) fn inconsistent(error: serde_json::Error) -> ArchiveError {
    ArchiveError::Internal(anyhow::Error::new(error).context("attributes of a row are no JSON"))
}
