//! DICOMDIR: the directory of a File-set (PS3.3 Annex F, PS3.10 §8).
//!
//! Owns [`Directory`], which collects what instances say of themselves and writes one file in
//! Explicit VR Little Endian. Holds: records stand in the order of the tree, those of a level by
//! UIDs, so that the same instances make the same file; text is in UTF-8, and each record that needs
//! it says so; a key that PS3.3 demands and an instance has not is filled in: a number by its place,
//! a date with 19000101. Absent: where files are, and how they are named.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Tag, Uid,
    compose::read_json,
    data_set::{DataSet, Item},
    explicit::{Identity, file_meta},
    json::name,
    transfer_syntax::EXPLICIT_LITTLE,
};

/// Media Storage Directory Storage.
const STORAGE: &str = "1.2.840.10008.1.3.10";
/// Deepest items of a key, and most bytes that reading one record may hold.
const DEPTH: u16 = 16;
const ROOM: u64 = 16 << 20;
/// Bytes of an item before the value of (0004,1400), and before that of (0004,1420).
const NEXT_AT: usize = 16;
const LOWER_AT: usize = 38;

const PATIENT: &[Tag] = &[Tag(0x0010, 0x0010), Tag(0x0010, 0x0020), Tag(0x0010, 0x0021)];
const STUDY: &[Tag] = &[
    Tag(0x0008, 0x0020),
    Tag(0x0008, 0x0030),
    Tag(0x0008, 0x0050),
    Tag(0x0008, 0x1030),
    Tag(0x0020, 0x000D),
    Tag(0x0020, 0x0010),
];
const SERIES: &[Tag] =
    &[Tag(0x0008, 0x0060), Tag(0x0008, 0x103E), Tag(0x0020, 0x000E), Tag(0x0020, 0x0011)];
const NUMBER: Tag = Tag(0x0020, 0x0013);
const CONTENT: &[Tag] = &[NUMBER, Tag(0x0008, 0x0023), Tag(0x0008, 0x0033)];

/// The types of records of instances (PS3.3 Table F.4-1), by their SOP classes; and the keys of each
/// (PS3.3 §F.5). The first that fits counts: a class itself, or where it ends in a dot its beginning.
const TYPES: &[(&str, &str, &[Tag])] = &[
    ("481.2", "RT DOSE", &[NUMBER, Tag(0x3004, 0x000A)]),
    (
        "481.3",
        "RT STRUCTURE SET",
        &[NUMBER, Tag(0x3006, 0x0002), Tag(0x3006, 0x0008), Tag(0x3006, 0x0009)],
    ),
    ("481.4", "RT TREAT RECORD", TREATMENT),
    ("481.5", "RT PLAN", PLAN),
    ("481.6", "RT TREAT RECORD", TREATMENT),
    ("481.7", "RT TREAT RECORD", TREATMENT),
    ("481.8", "RT PLAN", PLAN),
    ("481.9", "RT TREAT RECORD", TREATMENT),
    (
        "11.",
        "PRESENTATION",
        &[
            NUMBER,
            Tag(0x0070, 0x0080),
            Tag(0x0070, 0x0081),
            Tag(0x0070, 0x0082),
            Tag(0x0070, 0x0083),
            Tag(0x0070, 0x0084),
            Tag(0x0008, 0x1115),
        ],
    ),
    ("9.", "WAVEFORM", CONTENT),
    (
        "88.59",
        "KEY OBJECT DOC",
        &[NUMBER, Tag(0x0008, 0x0023), Tag(0x0008, 0x0033), Tag(0x0040, 0xA043)],
    ),
    (
        "88.",
        "SR DOCUMENT",
        &[
            NUMBER,
            Tag(0x0008, 0x0023),
            Tag(0x0008, 0x0033),
            Tag(0x0040, 0xA030),
            Tag(0x0040, 0xA043),
            Tag(0x0040, 0xA491),
            Tag(0x0040, 0xA493),
        ],
    ),
    (
        "104.",
        "ENCAP DOC",
        &[
            NUMBER,
            Tag(0x0008, 0x0023),
            Tag(0x0008, 0x0033),
            Tag(0x0040, 0xA043),
            Tag(0x0040, 0xE001),
            Tag(0x0042, 0x0010),
            Tag(0x0042, 0x0012),
        ],
    ),
    ("66.1", "REGISTRATION", LABELLED),
    ("66.2", "FIDUCIAL", LABELLED),
    ("66.3", "REGISTRATION", LABELLED),
    ("66.5", "SURFACE", LABELLED),
    ("66.6", "TRACT", LABELLED),
    ("66", "RAW DATA", CONTENT),
    ("67", "VALUE MAP", LABELLED),
    ("68.1", "SURFACE SCAN", CONTENT),
    ("4.2", "SPECTROSCOPY", SPECTROSCOPY),
    ("77.1.5.3", "STEREOMETRIC", LABELLED),
    ("78.", "MEASUREMENT", CONTENT),
    ("", "IMAGE", &[NUMBER, Tag(0x0008, 0x0008)]),
];
const TREATMENT: &[Tag] = &[NUMBER, Tag(0x3008, 0x0250), Tag(0x3008, 0x0251)];
const PLAN: &[Tag] = &[NUMBER, Tag(0x300A, 0x0002), Tag(0x300A, 0x0006), Tag(0x300A, 0x0007)];
const LABELLED: &[Tag] = &[
    NUMBER,
    Tag(0x0008, 0x0023),
    Tag(0x0008, 0x0033),
    Tag(0x0070, 0x0080),
    Tag(0x0070, 0x0081),
    Tag(0x0070, 0x0084),
];
const SPECTROSCOPY: &[Tag] =
    &[NUMBER, Tag(0x0008, 0x0008), Tag(0x0008, 0x0023), Tag(0x0008, 0x0033)];

/// What all these classes begin with.
const STORAGE_CLASSES: &str = "1.2.840.10008.5.1.4.1.1.";

/// The type of the record of an instance, and its keys.
fn type_of(sop_class: &Uid) -> (&'static str, &'static [Tag]) {
    let class = sop_class.as_str().strip_prefix(STORAGE_CLASSES).unwrap_or_default();
    let fits = |known: &str| match known.ends_with('.') {
        true => class.starts_with(known),
        false => known.is_empty() || class == known,
    };
    let found = TYPES.iter().find(|(known, ..)| fits(known));
    found.map_or(("IMAGE", &[]), |(_, name, keys)| (name, keys))
}

/// The attributes of a data set that its records hold, as DICOM JSON (PS3.18 Annex F).
pub fn keys_of(data_set: &DataSet, sop_class: &Uid) -> Map<String, Value> {
    let (_, keys) = type_of(sop_class);
    let all = [PATIENT, STUDY, SERIES, keys].concat();
    picked(data_set.root(), &all)
}

fn picked(item: Item<'_>, tags: &[Tag]) -> Map<String, Value> {
    let there = tags.iter().filter_map(|tag| {
        let attribute = item.raw(*tag)?;
        // What is kept elsewhere is too long for a record.
        (!attribute.contains_key("BulkDataURI"))
            .then(|| (name(*tag), Value::Object(attribute.clone())))
    });
    there.collect()
}

/// A file of the File-set.
#[derive(Clone, Debug)]
pub struct SetFile<'a> {
    /// The components of its File ID, joined by `\` (PS3.10 §8.5).
    pub id: &'a str,
    /// (0008,0016).
    pub sop_class: &'a Uid,
    /// (0008,0018).
    pub instance: &'a Uid,
    /// (0002,0010).
    pub transfer_syntax: &'a Uid,
    /// What [`keys_of`] gave of it.
    pub keys: &'a Map<String, Value>,
}

/// A record, and those below it by what they are ordered by.
#[derive(Debug, Default)]
struct Node {
    /// The record's item, offsets left open.
    record: Vec<u8>,
    below: BTreeMap<String, Node>,
}

/// The records of a File-set.
#[derive(Debug, Default)]
pub struct Directory {
    patients: BTreeMap<String, Node>,
    /// The patient of each study: that of its first instance.
    patient_of: BTreeMap<String, String>,
    instances: usize,
}

/// What an instance says is not enough to place it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance names no study or series")]
pub struct NoPlace;

impl Directory {
    /// How many instances it has.
    pub fn len(&self) -> usize {
        self.instances
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.instances == 0
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn add(&mut self, file: &SetFile<'_>) -> Result<(), NoPlace> {
        let text = serde_json::to_vec(file.keys).unwrap_or_default();
        let all = DataSet::parse(&text).unwrap_or_default();
        let all = all.root();
        let own = |tag| all.text(tag).map(|text| text.trim().to_owned());
        let study = own(Tag(0x0020, 0x000D)).ok_or(NoPlace)?;
        let series = own(Tag(0x0020, 0x000E)).ok_or(NoPlace)?;
        let id = own(Tag(0x0010, 0x0020)).unwrap_or_default();
        let issuer = own(Tag(0x0010, 0x0021)).unwrap_or_default();
        let named = if id.is_empty() { own(Tag(0x0010, 0x0010)) } else { None };
        let key = format!("{id}\n{issuer}\n{}", named.unwrap_or_default());
        let key = self.patient_of.entry(study.clone()).or_insert(key).clone();

        let number = self.patients.len() + 1;
        let patient = self.patients.entry(key).or_insert_with(|| {
            let mut keys = picked(all, PATIENT);
            let unknown = || json!(format!("UNKNOWN{number}"));
            fill(&mut keys, Tag(0x0010, 0x0010), "PN", None);
            fill(&mut keys, Tag(0x0010, 0x0020), "LO", Some(unknown()));
            Node::new("PATIENT", keys)
        });
        let number = patient.below.len() + 1;
        let study = patient.below.entry(study).or_insert_with(|| {
            let mut keys = picked(all, STUDY);
            fill(&mut keys, Tag(0x0008, 0x0020), "DA", Some(json!("19000101")));
            fill(&mut keys, Tag(0x0008, 0x0030), "TM", Some(json!("000000")));
            fill(&mut keys, Tag(0x0008, 0x0050), "SH", None);
            fill(&mut keys, Tag(0x0008, 0x1030), "LO", None);
            fill(&mut keys, Tag(0x0020, 0x0010), "SH", Some(json!(number.to_string())));
            Node::new("STUDY", keys)
        });
        let number = study.below.len() + 1;
        let series = study.below.entry(series).or_insert_with(|| {
            let mut keys = picked(all, SERIES);
            fill(&mut keys, Tag(0x0008, 0x0060), "CS", Some(json!("OT")));
            fill(&mut keys, Tag(0x0020, 0x0011), "IS", Some(json!(number)));
            Node::new("SERIES", keys)
        });
        let number = series.below.len() + 1;
        let (kind, tags) = type_of(file.sop_class);
        let mut keys = picked(all, tags);
        let place = format!("{:>12}\n{}", order(&keys), file.instance.as_str());
        fill(&mut keys, NUMBER, "IS", Some(json!(number)));
        let parts: Vec<&str> = file.id.split('\\').collect();
        for (tag, vr, value) in [
            (Tag(0x0004, 0x1500), "CS", json!(parts)),
            (Tag(0x0004, 0x1510), "UI", json!([file.sop_class.as_str()])),
            (Tag(0x0004, 0x1511), "UI", json!([file.instance.as_str()])),
            (Tag(0x0004, 0x1512), "UI", json!([file.transfer_syntax.as_str()])),
        ] {
            keys.insert(name(tag), json!({"vr": vr, "Value": value}));
        }
        if series.below.insert(place, Node::new(kind, keys)).is_none() {
            self.instances += 1;
        }
        Ok(())
    }

    /// The file. `instance` is its SOP Instance UID.
    pub fn write(self, instance: Uid) -> Vec<u8> {
        let (Ok(syntax), Ok(sop_class)) = (EXPLICIT_LITTLE.parse(), STORAGE.parse()) else {
            return Vec::new();
        };
        let mut out = file_meta(&syntax, &Identity { sop_class, sop_instance: instance });
        // (0004,1130) File-set ID, empty.
        out.extend_from_slice(&[4, 0, 0x30, 0x11, b'C', b'S', 0, 0]);
        // (0004,1200) and (0004,1202): the first and the last record of the root.
        let first_at = long(&mut out, 0x1200);
        let last_at = long(&mut out, 0x1202);
        // (0004,1212) File-set Consistency Flag: nothing is known to be wrong.
        out.extend_from_slice(&[4, 0, 0x12, 0x12, b'U', b'S', 2, 0, 0, 0]);
        // (0004,1220) Directory Record Sequence.
        out.extend_from_slice(&[4, 0, 0x20, 0x12, b'S', b'Q', 0, 0, 0, 0, 0, 0]);
        let begins = out.len();
        let (first, last) = write_level(&mut out, &self.patients);
        let length = out.len() - begins;
        patch(&mut out, begins - 4, length);
        patch(&mut out, first_at, first);
        patch(&mut out, last_at, last);
        out
    }
}

/// What instances of a series are ordered by: their numbers, padded by who uses it.
fn order(keys: &Map<String, Value>) -> String {
    let value = keys.get(&name(NUMBER)).and_then(|number| number["Value"].get(0));
    match value {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_owned(),
        _ => String::new(),
    }
}

/// Gives a key a value, where it has none.
fn fill(keys: &mut Map<String, Value>, tag: Tag, vr: &str, value: Option<Value>) {
    let old = keys.get(&name(tag)).and_then(|old| old["Value"].get(0));
    let is_empty = match old {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    };
    if is_empty {
        let attribute = match value {
            Some(value) => json!({"vr": vr, "Value": [value]}),
            None => json!({"vr": vr}),
        };
        keys.insert(name(tag), attribute);
    }
}

impl Node {
    fn new(kind: &str, mut keys: Map<String, Value>) -> Self {
        for (tag, vr, value) in [
            (Tag(0x0004, 0x1400), "UL", json!(0)),
            (Tag(0x0004, 0x1410), "US", json!(0xFFFF)),
            (Tag(0x0004, 0x1420), "UL", json!(0)),
            (Tag(0x0004, 0x1430), "CS", json!(kind)),
        ] {
            keys.insert(name(tag), json!({"vr": vr, "Value": [value]}));
        }
        let text = serde_json::to_vec(&keys).unwrap_or_default();
        let read = read_json(&text, DEPTH, ROOM).ok().and_then(|mut read| read.pop());
        let elements = read.map(|read| read.data_set(false)).unwrap_or_default();
        let mut record = vec![0xFE, 0xFF, 0x00, 0xE0];
        record.extend_from_slice(&(elements.len() as u32).to_le_bytes());
        record.extend_from_slice(&elements);
        Self { record, below: BTreeMap::new() }
    }
}

/// A UL of the group of directories, whose value is not known yet; says where it goes.
fn long(out: &mut Vec<u8>, element: u16) -> usize {
    out.extend_from_slice(&[4, 0]);
    out.extend_from_slice(&element.to_le_bytes());
    out.extend_from_slice(&[b'U', b'L', 4, 0, 0, 0, 0, 0]);
    out.len() - 4
}

fn patch(out: &mut [u8], at: usize, offset: usize) {
    if let Some(value) = out.get_mut(at..at + 4) {
        value.copy_from_slice(&(offset as u32).to_le_bytes());
    }
}

/// Writes records that are siblings, each followed by what is below it; says where the first and the
/// last of them begin. Levels are four.
fn write_level(out: &mut Vec<u8>, nodes: &BTreeMap<String, Node>) -> (usize, usize) {
    let (mut first, mut last) = (0, 0);
    for node in nodes.values() {
        let at = out.len();
        if first == 0 {
            first = at;
        } else {
            patch(out, last + NEXT_AT, at);
        }
        last = at;
        out.extend_from_slice(&node.record);
        if !node.below.is_empty() {
            let (lower, _) = write_level(out, &node.below);
            patch(out, at + LOWER_AT, lower);
        }
    }
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{Limits, index::Indexer, reader::Reader};

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn keys(study: &str, series: &str, number: Option<i64>, patient: &str) -> Map<String, Value> {
        let one = |vr: &str, value: Value| json!({"vr": vr, "Value": [value]});
        let mut keys = Map::new();
        keys.insert("00100010".into(), one("PN", json!({"Alphabetic": "Müller^Ö"})));
        keys.insert("00100020".into(), one("LO", json!(patient)));
        keys.insert("0020000D".into(), one("UI", json!(study)));
        keys.insert("0020000E".into(), one("UI", json!(series)));
        if let Some(number) = number {
            keys.insert("00200013".into(), one("IS", json!(number)));
        }
        keys
    }

    fn long_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// The types of records that can be reached from one, and those below each.
    fn told(bytes: &[u8], mut at: usize) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        while at != 0 {
            assert_eq!(bytes[at..at + 4], [0xFE, 0xFF, 0x00, 0xE0]);
            // Behind (0004,1430): its header, and a text.
            let length = usize::from(bytes[at + LOWER_AT + 10]);
            let kind = &bytes[at + LOWER_AT + 12..][..length];
            let below = told(bytes, long_at(bytes, at + LOWER_AT));
            let below = below.into_iter().flat_map(|(kind, below)| [vec![kind], below].concat());
            let kind = std::str::from_utf8(kind).unwrap().trim().to_owned();
            all.push((kind, below.collect()));
            at = long_at(bytes, at + NEXT_AT);
        }
        all
    }

    #[test]
    fn records_lead_to_each_other() {
        let mut directory = Directory::default();
        let syntax: Uid = EXPLICIT_LITTLE.parse().unwrap();
        for (n, (study, series, number, patient, class)) in [
            ("1.2", "1.2.1", Some(10), "p1", CT),
            ("1.2", "1.2.1", Some(9), "p1", CT),
            ("1.2", "1.2.2", None, "p1", "1.2.840.10008.5.1.4.1.1.88.11"),
            ("1.3", "1.3.1", Some(1), "p2", "1.2.840.10008.5.1.4.1.1.104.1"),
            // A study is one patient's.
            ("1.2", "1.2.3", Some(1), "p2", "1.2.840.10008.5.1.4.1.1.481.5"),
        ]
        .into_iter()
        .enumerate()
        {
            let keys = keys(study, series, number, patient);
            let file = SetFile {
                id: &format!("DICOM\\I{n}"),
                sop_class: &class.parse().unwrap(),
                instance: &format!("1.9.{n}").parse().unwrap(),
                transfer_syntax: &syntax,
                keys: &keys,
            };
            directory.add(&file).unwrap();
            directory.add(&file).unwrap();
        }
        assert_eq!(directory.len(), 5);
        let bytes = directory.write("2.25.1".parse().unwrap());
        let first = bytes.windows(4).position(|w| w == [4, 0, 0x00, 0x12]).unwrap() + 8;
        let found = told(&bytes, long_at(&bytes, first));
        let below = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let expected = [
            (
                "PATIENT".to_owned(),
                below(&[
                    "STUDY",
                    "SERIES",
                    "IMAGE",
                    "IMAGE",
                    "SERIES",
                    "SR DOCUMENT",
                    "SERIES",
                    "RT PLAN",
                ]),
            ),
            ("PATIENT".to_owned(), below(&["STUDY", "SERIES", "ENCAP DOC"])),
        ];
        assert_eq!(found, expected);
        let last = long_at(&bytes, first + 12);
        assert_eq!(told(&bytes, last).len(), 1, "the last one of the root");
        let text = |part: &str| bytes.windows(part.len()).position(|w| w == part.as_bytes());
        assert!(text("ISO_IR 192").is_some() && text("Müller^Ö").is_some());
        assert!(text("1.9.1") < text("1.9.0"), "in the order of their numbers");

        // It is a file that the archive's own reader takes, to its end.
        let limits =
            Limits { element_depth: 8, header_bytes: 1 << 20, inflated_bytes: 1 << 20, frames: 10 };
        let mut reader = Reader::new(Indexer::new(limits), limits, 1 << 20);
        reader.push(&bytes).unwrap();
        assert_eq!(
            reader.file_meta().unwrap().media_storage_sop_class.as_ref().unwrap().as_str(),
            STORAGE
        );
        assert!(reader.finish().is_ok());
    }

    #[test]
    fn types_follow_from_classes() {
        for (class, kind) in [
            ("2", "IMAGE"),
            ("481.1", "IMAGE"),
            ("481.10", "IMAGE"),
            ("66", "RAW DATA"),
            ("66.4", "IMAGE"),
            ("9.1.1", "WAVEFORM"),
            ("88.59", "KEY OBJECT DOC"),
            ("88.33", "SR DOCUMENT"),
        ] {
            let class = format!("{STORAGE_CLASSES}{class}").parse().unwrap();
            assert_eq!(type_of(&class).0, kind, "{class:?}");
        }
        assert_eq!(type_of(&"1.2.3".parse().unwrap()).0, "IMAGE");
        assert_eq!(
            Directory::default().add(&SetFile {
                id: "A",
                sop_class: &CT.parse().unwrap(),
                instance: &"1.2".parse().unwrap(),
                transfer_syntax: &"1.2".parse().unwrap(),
                keys: &Map::new(),
            }),
            Err(NoPlace)
        );
    }
}
