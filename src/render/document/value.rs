//! Values as people read them: names, dates, codes, measurements, coordinates, references.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use super::Links;
use crate::dicom::{Tag, Uid, data_set::Item, uid};

const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const SCHEME: Tag = Tag(0x0008, 0x0102);
const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
const REFERENCED_SOP: Tag = Tag(0x0008, 0x1199);
const REFERENCED_CLASS: Tag = Tag(0x0008, 0x1150);
const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);
const REFERENCED_SERIES: Tag = Tag(0x0008, 0x1115);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const INSTANCE: Tag = Tag(0x0008, 0x0018);

/// Values of a list that are told one by one; of more, how many.
const MANY: usize = 12;

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Text(String),
    /// A text that leads somewhere: to a URL, or to `#item-…`.
    Link {
        text: String,
        href: String,
    },
}

impl Run {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Link { text, .. } => text,
        }
    }
}

/// Where instances are that a report names: its evidence lists (PS3.3 §C.17.2) say of which study
/// and series they are.
#[derive(Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    /// Lists that say where instances are, most telling first.
    const LISTS: [Tag; 5] = [
        Tag(0x0040, 0xA375),
        Tag(0x0040, 0xA385),
        Tag(0x0040, 0xA360),
        Tag(0x0040, 0xA525),
        Tag(0x0008, 0x1200),
    ];

    pub(super) fn of(header: Item<'_>, links: &Links) -> Self {
        let mut places = BTreeMap::new();
        for study in Self::LISTS.iter().flat_map(|tag| header.items(*tag)) {
            for series in study.items(REFERENCED_SERIES) {
                for instance in series.items(REFERENCED_SOP) {
                    let Some(uid) = instance.text(REFERENCED_INSTANCE) else { continue };
                    let place = place(&study, STUDY, &series, &uid, links);
                    if let Some(place) = place {
                        places.entry(uid.into_owned()).or_insert(place);
                    }
                }
            }
        }
        Self(places)
    }
}

/// `…/studies/{}/series/{}/instances/{}`; `None` where a UID is missing or none.
fn place(
    study: &Item<'_>,
    tag: Tag,
    series: &Item<'_>,
    instance: &str,
    links: &Links,
) -> Option<String> {
    let uid = |text: Option<Cow<'_, str>>| text?.parse::<Uid>().ok();
    let (study, series) = (uid(study.text(tag))?, uid(series.text(SERIES))?);
    let instance: Uid = instance.parse().ok()?;
    Some(format!("{}{study}/series/{series}/instances/{instance}", links.studies))
}

/// Where the object itself is.
pub(super) fn own_place(header: Item<'_>, links: &Links) -> Option<String> {
    place(&header, STUDY, &header, &header.text(INSTANCE)?, links)
}

/// Where the object itself is rendered.
pub(super) fn own_url(header: Item<'_>, links: &Links) -> String {
    match own_place(header, links) {
        Some(place) => format!("{place}/rendered{}", links.query),
        None => format!("rendered{}", links.query),
    }
}

/// A text without the white space around it; `None` if nothing is left.
pub(super) fn plain(item: Item<'_>, tag: Tag) -> Option<String> {
    item.text(tag).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Person names, in natural order, with their other component groups.
pub(super) fn names(item: Item<'_>, tag: Tag) -> Option<String> {
    let name = |groups: Vec<&str>| {
        let mut groups = groups.into_iter().map(name).filter(|group| !group.is_empty());
        let first = groups.next().unwrap_or_default();
        let others: Vec<String> = groups.collect();
        if others.is_empty() { first } else { format!("{first} ({})", others.join("; ")) }
    };
    let names: Vec<String> = item.names(tag).map(name).filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then(|| names.join("; "))
}

/// `Family^Given^Middle^Prefix^Suffix` (PS3.5 §6.2.1.1) as `Prefix Given Middle Family, Suffix`.
fn name(group: &str) -> String {
    let mut components = group.split('^').map(str::trim);
    let [family, given, middle, prefix, suffix] =
        std::array::from_fn(|_| components.next().unwrap_or_default());
    let mut name = String::new();
    for component in [prefix, given, middle, family] {
        if !component.is_empty() {
            name.push_str(if name.is_empty() { "" } else { " " });
            name.push_str(component);
        }
    }
    if !suffix.is_empty() {
        name.push_str(if name.is_empty() { "" } else { ", " });
        name.push_str(suffix);
    }
    name
}

/// `YYYYMMDD` as `YYYY-MM-DD`; what is none stays as it is.
pub(super) fn date(text: &str) -> String {
    let text = text.trim();
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match (digits, text.len()) {
        (true, 8) => format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]),
        (true, 6) => format!("{}-{}", &text[..4], &text[4..]),
        _ => text.to_owned(),
    }
}

/// `HHMMSS.FFFFFF` as `HH:MM:SS.F`, less where it says less; what is none stays as it is.
pub(super) fn time(text: &str) -> String {
    let text = text.trim();
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = clock.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let fraction = fraction.trim_end_matches('0');
    match (digits, clock.len()) {
        (true, 4) => format!("{}:{}", &clock[..2], &clock[2..]),
        (true, 6) => {
            let dot = if fraction.is_empty() { "" } else { "." };
            format!("{}:{}:{}{dot}{fraction}", &clock[..2], &clock[2..4], &clock[4..])
        }
        _ => text.to_owned(),
    }
}

/// `YYYYMMDDHHMMSS.FFFFFF&ZZXX`.
pub(super) fn date_time(text: &str) -> String {
    let text = text.trim();
    let (moment, zone) = match text.find(['+', '-']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let Some((day, clock)) = moment.split_at_checked(8) else { return date(text) };
    if !moment.is_ascii() || clock.is_empty() {
        return date(moment) + zone;
    }
    let zone = match zone.split_at_checked(3) {
        Some((hours, minutes)) if minutes.len() == 2 => format!(" {hours}:{minutes}"),
        _ => zone.to_owned(),
    };
    format!("{} {}{zone}", date(day), time(clock))
}

/// What a code means: the first item of a code sequence (PS3.3 §8.8).
pub(super) fn code(item: Item<'_>, sequence: Tag) -> Option<String> {
    item.item(sequence, 0).and_then(meaning)
}

fn meaning(code: Item<'_>) -> Option<String> {
    // Code Value, or Long Code Value or URN Code Value where it does not fit.
    let tags = [CODE_MEANING, CODE_VALUE, Tag(0x0008, 0x0119), Tag(0x0008, 0x0120)];
    tags.into_iter().find_map(|tag| plain(code, tag))
}

/// A coded value with its code: two codes can mean the same to people.
pub(super) fn coded(item: Item<'_>, sequence: Tag) -> Option<String> {
    let code = item.item(sequence, 0)?;
    let meaning = meaning(code)?;
    match (plain(code, CODE_VALUE), plain(code, SCHEME)) {
        (Some(value), Some(scheme)) if value != meaning => {
            Some(format!("{meaning} ({value}, {scheme})"))
        }
        _ => Some(meaning),
    }
}

/// Whether the first code of a sequence is that one.
pub(super) fn is_code(item: Item<'_>, sequence: Tag, value: &str, scheme: &str) -> bool {
    item.item(sequence, 0).is_some_and(|code| {
        code.text(CODE_VALUE).as_deref() == Some(value)
            && code.text(SCHEME).as_deref() == Some(scheme)
    })
}

/// The value of a code, without its meaning.
pub(super) fn code_value(item: Item<'_>, sequence: Tag) -> Option<String> {
    item.item(sequence, 0).and_then(|code| plain(code, CODE_VALUE))
}

/// A measurement with its unit (PS3.3 §C.18.1), or why there is none.
pub(super) fn measurement(item: Item<'_>) -> String {
    let qualifier = code(item, Tag(0x0040, 0xA301));
    let Some(measured) = item.item(Tag(0x0040, 0xA300), 0) else {
        return qualifier.unwrap_or_else(|| "no value".into());
    };
    let mut text = list(measured, Tag(0x0040, 0xA30A));
    if let Some(unit) = unit(measured) {
        let _ = write!(text, " {unit}");
    }
    if let Some(qualifier) = qualifier {
        let _ = write!(text, " ({qualifier})");
    }
    text
}

/// The unit: of UCUM its short code, which is what people write, unless that is none.
fn unit(measured: Item<'_>) -> Option<String> {
    let code = measured.item(Tag(0x0040, 0x08EA), 0)?;
    let value = plain(code, CODE_VALUE)?;
    let is_ucum = code.text(SCHEME).is_some_and(|scheme| scheme == "UCUM");
    match &*value {
        "1" => None,
        _ if is_ucum && !value.contains(['{', '[']) => Some(value),
        _ => meaning(code),
    }
}

/// The values of an attribute: all, or the first of many.
pub(super) fn list(item: Item<'_>, tag: Tag) -> String {
    let mut values = item.texts(tag);
    let mut text = values.by_ref().take(MANY).collect::<Vec<_>>().join(", ");
    let more = values.count();
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// A graphic (PS3.3 §C.18.6, §C.18.9): what it is and its points, of `dimensions` each.
pub(super) fn graphic(item: Item<'_>, dimensions: usize) -> String {
    let mut text = plain(item, Tag(0x0070, 0x0023)).unwrap_or_else(|| "GRAPHIC".into());
    let numbers: Vec<f64> = item.numbers(Tag(0x0070, 0x0022)).collect();
    let points = numbers.chunks_exact(dimensions);
    let more = points.len().saturating_sub(MANY);
    for point in points.take(MANY) {
        let point: Vec<String> = point.iter().map(|n| short(*n)).collect();
        let _ = write!(text, " ({})", point.join(", "));
    }
    if more > 0 {
        let _ = write!(text, " and {more} more points");
    }
    if let Some(frame) = plain(item, Tag(0x3006, 0x0024)) {
        let _ = write!(text, ", frame of reference {frame}");
    }
    text
}

/// Coordinates are 32-bit: more digits than these are noise.
fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A temporal extent (PS3.3 §C.18.7).
pub(super) fn temporal(item: Item<'_>) -> String {
    let mut text = plain(item, Tag(0x0040, 0xA130)).unwrap_or_else(|| "TEMPORAL RANGE".into());
    for (tag, what) in [
        (Tag(0x0040, 0xA132), "samples"),
        (Tag(0x0040, 0xA138), "seconds"),
        (Tag(0x0040, 0xA13A), "at"),
    ] {
        if item.text(tag).is_some() {
            let _ = write!(text, ", {what} {}", list(item, tag));
        }
    }
    text
}

/// The instances that an item refers to (PS3.3 §C.18.3 to §C.18.5), linked where it is known where
/// they are and they can be shown.
pub(super) fn references(
    item: Item<'_>,
    shown: bool,
    places: &Places,
    links: &Links,
    out: &mut Vec<Run>,
) {
    for (at, reference) in item.items(REFERENCED_SOP).enumerate() {
        if at > 0 {
            out.push(Run::Text("; ".into()));
        }
        let class = plain(reference, REFERENCED_CLASS).unwrap_or_default();
        let mut text = uid::name_of(&class).unwrap_or("instance").to_owned();
        let instance = plain(reference, REFERENCED_INSTANCE).unwrap_or_default();
        let _ = write!(text, " {instance}");
        let frames = Tag(0x0008, 0x1160);
        let place = places.0.get(&instance).filter(|_| shown);
        out.push(match place {
            None => Run::Text(text),
            Some(place) => {
                let all: Vec<i64> = reference.numbers(frames).map(|n| n as i64).collect();
                let href = match all.as_slice() {
                    [frame] if *frame > 0 => format!("{place}/frames/{frame}/rendered"),
                    _ => format!("{place}/rendered"),
                };
                Run::Link { text, href: href + &links.query }
            }
        });
        for (tag, what) in [
            (frames, "frames"),
            (Tag(0x0062, 0x000B), "segments"),
            (Tag(0x0040, 0xA0B0), "channels"),
        ] {
            if reference.text(tag).is_some() {
                out.push(Run::Text(format!(", {what} {}", list(reference, tag))));
            }
        }
        if let Some(state) = reference.item(REFERENCED_SOP, 0)
            && let Some(uid) = plain(state, REFERENCED_INSTANCE)
        {
            out.push(Run::Text(format!(", as presented by {uid}")));
        }
    }
}
