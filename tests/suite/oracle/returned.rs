//! What is returned of a match (PS3.18 §10.6.3.3).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Value, json};

use super::{
    known::{self, Given, Level, hex},
    model::{Content, DataSet, Element, Entity, SERIES_UID, STUDY_UID, Tag},
    request::{At, Key, Request},
    search::{MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, Searched},
    written,
};

const TIMEZONE: Tag = (0x0008, 0x0201);

/// What is returned of a row; attributes of `optional` may be missing.
pub struct Found {
    /// Study, series and instance, down to the level.
    pub uids: Vec<String>,
    pub attributes: BTreeMap<String, Value>,
    pub optional: BTreeMap<String, Value>,
}

impl Searched<'_> {
    /// What is returned of a row.
    pub fn found(&self, request: &Request, entity: &Entity<'_>) -> Found {
        let keys: Vec<&Key> = self.matched(request).collect();
        let shown = |level: Level| match level {
            Level::Study => request.level == Level::Study || request.study.is_none(),
            Level::Series => {
                request.level == Level::Series
                    || (request.level == Level::Instance && request.series.is_none())
            }
            Level::Instance => request.level == Level::Instance,
        };
        let mut found = Found {
            uids: vec![entity.study.uid.clone()],
            attributes: BTreeMap::new(),
            optional: BTreeMap::new(),
        };
        found.uids.extend(entity.series.map(|series| series.uid.clone()));
        found.uids.extend(entity.instance.map(|instance| instance.uid.clone()));
        for known in
            known::KNOWN.iter().filter(|known| known.stored && known.level <= request.level)
        {
            let is_shown = shown(known.level) && (known.given != Given::Asked || request.all);
            let is_uid = [STUDY_UID, SERIES_UID].contains(&known.tag);
            if !is_shown && !is_uid {
                continue;
            }
            let element = self.row(entity, known);
            let is_required = known.given == Given::Required && is_shown;
            self.give(&mut found, hex(known.tag), known.vr, element, is_required);
        }
        self.computed(request, &keys, entity, &mut found, &shown);
        for key in keys {
            // Zone and pages aside, what was matched is returned, sequences whole.
            self.asked(request, entity, &key.path[..1], &mut found);
        }
        if request.zone.is_some() {
            self.asked(request, entity, &[At::Standard(TIMEZONE)], &mut found);
        }
        for path in &request.include {
            self.asked(request, entity, path, &mut found);
        }
        for sequence in found.attributes.values_mut().filter(|value| is_part(value)) {
            *sequence = json!({"vr": "SQ", "Value": sequence["Part"]});
        }
        let name = self.partitions[entity.study.partition];
        found
            .attributes
            .insert("00650010".into(), json!({"vr": "LO", "Value": ["COLLIMATOR PARTITION"]}));
        found.attributes.insert("00651001".into(), json!({"vr": "LO", "Value": [name]}));
        if found.attributes.values().any(|value| !written::is_ascii(value)) {
            found
                .attributes
                .insert("00080005".into(), json!({"vr": "CS", "Value": ["ISO_IR 192"]}));
        } else if found.optional.values().any(|value| !written::is_ascii(value)) {
            found.optional.insert("00080005".into(), json!({"vr": "CS", "Value": ["ISO_IR 192"]}));
        }
        found
    }

    fn row(&self, entity: &Entity<'_>, known: &known::Known) -> Option<Element> {
        match known.level {
            Level::Study => entity.study.facts.get(known.tag).cloned(),
            Level::Series => entity.series.and_then(|s| s.facts.get(known.tag)).cloned(),
            Level::Instance => entity.instance.and_then(|i| i.data.get(known.tag)).cloned(),
        }
    }

    /// An attribute with a value is there; without one it must be, may be, or is not made up.
    fn give(
        &self,
        found: &mut Found,
        key: String,
        vr: &str,
        element: Option<Element>,
        required: bool,
    ) {
        match element {
            Some(element) if !element.1.is_empty() => {
                found.attributes.insert(key, written::attribute(&element));
            }
            _ if required => {
                found.attributes.entry(key).or_insert_with(|| json!({ "vr": vr }));
            }
            _ => {
                found.optional.insert(key, json!({ "vr": vr }));
            }
        }
    }

    fn computed(
        &self,
        request: &Request,
        keys: &[&Key],
        entity: &Entity<'_>,
        found: &mut Found,
        shown: &dyn Fn(Level) -> bool,
    ) {
        let wants = |tag: Tag| {
            let at = At::Standard(tag);
            request.all
                || request.include.iter().any(|path| *path == [at.clone()])
                || keys.iter().any(|key| key.path == [at.clone()])
        };
        let mut add = |tag: Tag, vr: &'static str, content: Content| {
            found.attributes.insert(hex(tag), written::attribute(&(vr, content)));
        };
        let count = |number: usize| Content::Values(vec![number.to_string()]);
        add((0x0008, 0x0056), "CS", Content::Values(vec!["ONLINE".into()]));
        let study = shown(Level::Study);
        if study || wants(MODALITIES_IN_STUDY) {
            add(MODALITIES_IN_STUDY, "CS", self.modalities(entity));
        }
        if wants(SOP_CLASSES_IN_STUDY) {
            add(SOP_CLASSES_IN_STUDY, "UI", self.classes(entity));
        }
        let instances: Vec<_> = self.archive.within(entity.study).collect();
        let series: BTreeSet<usize> = instances.iter().map(|instance| instance.series).collect();
        if study || wants((0x0020, 0x1206)) {
            add((0x0020, 0x1206), "IS", count(series.len()));
        }
        if study || wants((0x0020, 0x1208)) {
            add((0x0020, 0x1208), "IS", count(instances.len()));
        }
        if let Some(row) = entity.series
            && (shown(Level::Series) || wants((0x0020, 0x1209)))
        {
            add((0x0020, 0x1209), "IS", count(row.instances.len()));
        }
        if wants((0x0008, 0x3002)) {
            add((0x0008, 0x3002), "UI", Content::Values(vec!["1.2.840.10008.1.2.1".into()]));
        }
    }

    /// What an includefield or a key names: a whole attribute, or attributes inside items.
    fn asked(&self, request: &Request, entity: &Entity<'_>, path: &[At], found: &mut Found) {
        let Some(first) = path.first() else { return };
        if self.level(request, first) > request.level {
            return;
        }
        if matches!(first, At::Standard(MODALITIES_IN_STUDY | SOP_CLASSES_IN_STUDY)) {
            return;
        }
        let element = self.element(request, entity, first).map(Cow::into_owned);
        let (key, vr) = match first {
            At::Standard(tag) => (hex(*tag), known::vr(*tag).unwrap_or("UN")),
            At::Private { group, creator, element } => {
                let Some(data) = self.holder(request, entity, first) else { return };
                let block = (0x10..=0xFF).find(|block| data.first((*group, *block)) == creator);
                let Some(block) = block else { return };
                let creator: Element = ("LO", Content::Values(vec![creator.clone()]));
                let named = hex((*group, block));
                // Whether it comes along where the attribute is absent is left open.
                found.optional.insert(named.clone(), written::attribute(&creator));
                let at = (*group, block << 8 | u16::from(*element));
                if data.get(at).is_some_and(|(_, content)| !content.is_empty()) {
                    found.attributes.insert(named, written::attribute(&creator));
                }
                (hex(at), "LO")
            }
        };
        match (&element, path.len()) {
            (Some((_, Content::Items(items))), 2..) if !items.is_empty() => {
                if found.attributes.get(&key).is_some_and(|whole| !is_part(whole)) {
                    return;
                }
                let mut parts: Vec<Value> = match found.attributes.remove(&key) {
                    Some(part) => part["Part"].as_array().unwrap().clone(),
                    None => items.iter().map(|_| json!({})).collect(),
                };
                for (part, item) in parts.iter_mut().zip(items) {
                    project(part.as_object_mut().unwrap(), item, &path[1..]);
                }
                found.attributes.insert(key, json!({"vr": "SQ", "Part": parts}));
            }
            _ => self.give(found, key, vr, element, false),
        }
    }
}

/// A sequence of which only some attributes are returned, while they are gathered.
fn is_part(value: &Value) -> bool {
    value.get("Part").is_some()
}

/// Copies what a path names from an item.
fn project(part: &mut Map<String, Value>, item: &DataSet, path: &[At]) {
    let [At::Standard(tag), rest @ ..] = path else { return };
    let Some(element) = item.get(*tag) else { return };
    match (&element.1, rest) {
        (Content::Items(items), [_, ..]) => {
            if items.is_empty() {
                part.insert(hex(*tag), json!({ "vr": "SQ" }));
                return;
            }
            let entry = part.entry(hex(*tag)).or_insert_with(|| {
                json!({"vr": "SQ", "Value": items.iter().map(|_| json!({})).collect::<Vec<_>>()})
            });
            let Some(parts) = entry["Value"].as_array_mut() else { return };
            for (part, item) in parts.iter_mut().zip(items) {
                project(part.as_object_mut().unwrap(), item, rest);
            }
        }
        _ => {
            part.insert(hex(*tag), written::attribute(element));
        }
    }
}
