//! Images as a presentation state shows them (PS3.3 §A.33, PS3.4 §N.2).
//!
//! Owns which images a state refers to, and the header under which they are drawn: the state's
//! modality transformation, VOI and polarity instead of the image's own, its displayed area, turn
//! and mirroring. Holds: what a state asks for and cannot be drawn here (graphic annotations,
//! shutters, overlays of its own, tables of presentation values) is refused as a whole, never left
//! away silently; images are those of the state's own study. Absent: drawing.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{ArchiveError, Kind, Rendering, Target, picture::Look};
use crate::{
    dicom::{
        Tag, Uid,
        data_set::{DataSet, Item},
        json,
    },
    render::Turn,
};

/// Grayscale and Color Softcopy Presentation State Storage.
const CLASSES: [&str; 2] = ["1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2"];

/// Frames that one state may show.
const MAX_FRAMES: usize = 10_000;

const REFERENCED_SERIES: Tag = Tag(0x0008, 0x1115);
const REFERENCED_IMAGES: Tag = Tag(0x0008, 0x1140);
const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);
const REFERENCED_FRAMES: Tag = Tag(0x0008, 0x1160);
const SOFTCOPY_VOI: Tag = Tag(0x0028, 0x3110);
const DISPLAYED_AREA: Tag = Tag(0x0070, 0x005A);

/// Attributes of an image that a state stands in for.
const REPLACED: [&str; 11] = [
    "00281050", "00281051", "00281052", "00281053", "00281054", "00281055", "00281056", "00283000",
    "00283010", "20500010", "20500020",
];

/// Of these, what the state itself has, and what an item of its VOI has.
const OF_STATE: [&str; 5] = ["00281052", "00281053", "00281054", "00283000", "20500020"];
const OF_VOI: [&str; 4] = ["00281050", "00281051", "00281056", "00283010"];

/// Functional groups of an image, and what in them a state stands in for.
const GROUPS: [&str; 2] = ["52009229", "52009230"];
const IN_GROUPS: [&str; 2] = ["00289145", "00289132"];

/// A frame that a state shows.
#[derive(Clone)]
pub struct Shot {
    /// Its image, as it is without the state.
    pub image: Rendering,
    /// From 1.
    pub frame: u32,
}

impl Rendering {
    /// The frames that a presentation state shows and that are here, in the order in which it
    /// refers to them.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`] where the state asks for what cannot be drawn;
    /// [`ArchiveError::Unavailable`].
    pub async fn presented(&self) -> Result<Vec<Shot>, ArchiveError> {
        let header = self.image().header().clone();
        check(self.image().sop_class(), header.root())?;
        let mut shots = Vec::new();
        for series in header.root().items(REFERENCED_SERIES) {
            let Some(series_uid) = uid(series, Tag(0x0020, 0x000E)) else { continue };
            for image in series.items(REFERENCED_IMAGES) {
                let Some(instance) = uid(image, REFERENCED_INSTANCE) else { continue };
                let study = self.target().study().clone();
                let target = Target::Instance { study, series: series_uid.clone(), instance };
                let rendering = match self.archive().rendering(self.scope().clone(), target).await {
                    Ok(rendering) if rendering.kind() == Kind::Image => rendering,
                    Ok(_) | Err(ArchiveError::NotFound | ArchiveError::Gone) => continue,
                    Err(error) => return Err(error),
                };
                let listed: Vec<u32> = frames(image).collect();
                let all = 1..=rendering.frames();
                let wanted: Vec<u32> = match listed.is_empty() {
                    true => all.collect(),
                    false => listed.into_iter().filter(|frame| all.contains(frame)).collect(),
                };
                shots.extend(
                    wanted.into_iter().map(|frame| Shot { image: rendering.clone(), frame }),
                );
                if shots.len() > MAX_FRAMES {
                    return Err(ArchiveError::Undecodable("it refers to too many frames"));
                }
            }
        }
        Ok(shots)
    }
}

impl Shot {
    /// The image as the state shows this frame.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`], [`ArchiveError::Unavailable`].
    pub async fn under(&self, state: &Rendering) -> Result<Rendering, ArchiveError> {
        let header = state.image().header().clone();
        let root = header.root();
        check(state.image().sop_class(), root)?;
        let instance = self.image.target().instance();
        let of_frame = |sequence| {
            root.items(sequence)
                .find(|item| instance.is_some_and(|uid| applies(*item, uid, self.frame)))
        };
        let mut own = copied(root, &OF_STATE);
        let voi = of_frame(SOFTCOPY_VOI);
        if let Some(voi) = voi {
            own.extend(copied(voi, &OF_VOI));
        }
        inline(state, &mut own).await?;
        let image = self.image.image().header().clone();
        if voi.is_none() {
            own.extend(whole_range(root, image.root()));
        }
        let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(&image.root().to_json());
        let mut merged = parsed.map_err(|error| ArchiveError::Internal(error.into()))?;
        merged.retain(|name, _| !REPLACED.contains(&name.as_str()));
        for group in GROUPS {
            let items = merged.get_mut(group).and_then(|group| group.get_mut("Value"));
            for item in items.and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(item) = item.as_object_mut() {
                    item.retain(|name, _| !IN_GROUPS.contains(&name.as_str()));
                }
            }
        }
        merged.extend(own);
        let json = serde_json::to_vec(&merged);
        let json = json.map_err(|error| ArchiveError::Internal(error.into()))?;
        let merged = DataSet::parse(&json).map_err(|error| ArchiveError::Internal(error.into()))?;
        let area = of_frame(DISPLAYED_AREA);
        let look = Look {
            header: Arc::new(merged),
            region: area.and_then(region),
            magnified: area.and_then(magnification),
            turn: turn(root),
            overlays: activates_overlays(root),
        };
        Ok(self.image.looking(look))
    }
}

/// Refuses what cannot be drawn whole.
fn check(sop_class: &Uid, state: Item<'_>) -> Result<(), ArchiveError> {
    let graphics = [Tag(0x0070, 0x0001), Tag(0x2050, 0x0010)];
    let refused = !CLASSES.contains(&sop_class.as_str())
        || graphics.iter().any(|tag| state.items(*tag).next().is_some())
        || state.text(Tag(0x0018, 0x1600)).is_some()
        || state.attributes().any(|(tag, _)| is_overlay(tag, 0x3000));
    if refused {
        return Err(ArchiveError::Undecodable(
            "this presentation state asks for what cannot be drawn here",
        ));
    }
    Ok(())
}

fn is_overlay(tag: Tag, element: u16) -> bool {
    (0x6000..=0x601E).contains(&tag.0) && tag.1 == element
}

fn activates_overlays(state: Item<'_>) -> bool {
    state.attributes().any(|(tag, _)| is_overlay(tag, 0x1001) && state.text(tag).is_some())
}

fn uid(item: Item<'_>, tag: Tag) -> Option<Uid> {
    item.text(tag)?.parse().ok()
}

fn frames(image: Item<'_>) -> impl Iterator<Item = u32> {
    image.numbers(REFERENCED_FRAMES).map(|number| number as u32)
}

/// Whether an item of the state is for a frame: those without references are for all.
fn applies(item: Item<'_>, instance: &Uid, frame: u32) -> bool {
    let mut images = item.items(REFERENCED_IMAGES).peekable();
    images.peek().is_none()
        || images.any(|image| {
            let listed: Vec<u32> = frames(image).collect();
            image.text(REFERENCED_INSTANCE).is_some_and(|uid| uid == instance.as_str())
                && (listed.is_empty() || listed.contains(&frame))
        })
}

fn copied(item: Item<'_>, names: &[&str]) -> Map<String, Value> {
    let copy = |name: &&str| {
        Some(((*name).to_owned(), Value::Object(item.raw(json::tag_of(name)?)?.clone())))
    };
    names.iter().filter_map(copy).collect()
}

/// Puts the bulk values of the state into what was copied of it, since its paths mean nothing to
/// the image.
async fn inline(state: &Rendering, own: &mut Map<String, Value>) -> Result<(), ArchiveError> {
    let mut paths = Vec::new();
    for value in own.values() {
        bulk_paths(value, &mut paths);
    }
    let values = state.image().values(&paths).await?;
    for value in own.values_mut() {
        replace_bulk(value, &values);
    }
    Ok(())
}

fn path_of(value: &Value) -> Option<&str> {
    value.get("BulkDataURI")?.as_str()?.strip_prefix('@')
}

fn bulk_paths(value: &Value, paths: &mut Vec<String>) {
    paths.extend(path_of(value).map(str::to_owned));
    match value {
        Value::Object(members) => members.values().for_each(|value| bulk_paths(value, paths)),
        Value::Array(items) => items.iter().for_each(|value| bulk_paths(value, paths)),
        _ => {}
    }
}

fn replace_bulk(value: &mut Value, values: &std::collections::BTreeMap<String, Vec<u8>>) {
    let bytes =
        path_of(value).and_then(|path| values.get(path)).map(|bytes| STANDARD.encode(bytes));
    match value {
        Value::Object(members) => {
            if let Some(bytes) = bytes {
                members.remove("BulkDataURI");
                members.insert("InlineBinary".into(), json!(bytes));
            }
            members.values_mut().for_each(|value| replace_bulk(value, values));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| replace_bulk(value, values)),
        _ => {}
    }
}

/// Without a VOI in the state all values are shown, from the least to the greatest that can be
/// stored (PS3.4 §N.2.2: identity).
fn whole_range(state: Item<'_>, image: Item<'_>) -> Map<String, Value> {
    let mut window = Map::new();
    let bits = image.integer(Tag(0x0028, 0x0101)).and_then(|bits| i32::try_from(bits).ok());
    let Some(bits) = bits.filter(|bits| (1..=32).contains(bits)) else { return window };
    if state.items(Tag(0x0028, 0x3000)).next().is_some() {
        return window;
    }
    let signed = image.integer(Tag(0x0028, 0x0103)) == Some(1);
    let span = 2_f64.powi(bits);
    let least = if signed { -span / 2.0 } else { 0.0 };
    let slope = state.number(Tag(0x0028, 0x1053)).unwrap_or(1.0);
    let intercept = state.number(Tag(0x0028, 0x1052)).unwrap_or(0.0);
    let [a, b] = [least, least + span - 1.0].map(|value| value * slope + intercept);
    let (center, width) = ((a + b) / 2.0, (b - a).abs());
    if width > 0.0 {
        window.insert("00281050".into(), json!({"vr": "DS", "Value": [center]}));
        window.insert("00281051".into(), json!({"vr": "DS", "Value": [width]}));
        window.insert("00281056".into(), json!({"vr": "CS", "Value": ["LINEAR_EXACT"]}));
    }
    window
}

/// The displayed area in pixels of the image, from 0 (PS3.3 §C.10.4 counts from 1; the corners are
/// those of the turned image, so that any of the two may be the lesser).
fn region(area: Item<'_>) -> Option<(f64, f64, f64, f64)> {
    let corner = |tag| {
        let mut numbers = area.numbers(tag);
        Some((numbers.next()?, numbers.next()?))
    };
    let (left, top) = corner(Tag(0x0070, 0x0052))?;
    let (right, bottom) = corner(Tag(0x0070, 0x0053))?;
    let (left, right) = (left.min(right), left.max(right));
    let (top, bottom) = (top.min(bottom), top.max(bottom));
    Some((left - 1.0, top - 1.0, right - left + 1.0, bottom - top + 1.0))
}

/// How much larger than its pixels the area is to be shown.
fn magnification(area: Item<'_>) -> Option<f64> {
    let mode = area.text(Tag(0x0070, 0x0100))?;
    let ratio = area.number(Tag(0x0070, 0x0103));
    ratio.filter(|ratio| mode.trim() == "MAGNIFY" && *ratio > 0.0)
}

fn turn(state: Item<'_>) -> Turn {
    let degrees = state.integer(Tag(0x0070, 0x0042)).unwrap_or(0).rem_euclid(360);
    let mirrored = state.text(Tag(0x0070, 0x0041)).is_some_and(|flip| flip.trim() == "Y");
    Turn { quarters: u8::try_from(degrees / 90).unwrap_or(0), mirrored }
}
