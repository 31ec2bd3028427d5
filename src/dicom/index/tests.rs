//! What the index learns from whole instances.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dicom::{DicomError, Limits, reader::Reader};

mod pixels;

use pixels::image;

const LIMITS: Limits =
    Limits { element_depth: 8, header_bytes: 1 << 20, inflated_bytes: 1 << 20, frames: 100 };
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const UNDEFINED: u32 = u32::MAX;

fn header(group: u16, element: u16, vr: &str, length: u32) -> Vec<u8> {
    let mut out = [group.to_le_bytes(), element.to_le_bytes()].concat();
    out.extend_from_slice(vr.as_bytes());
    if matches!(vr, "OB" | "OD" | "OF" | "OL" | "OV" | "OW" | "SQ" | "UC" | "UN" | "UR" | "UT") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
    }
    out
}

fn el(group: u16, element: u16, vr: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut value = value.as_ref().to_vec();
    if value.len() % 2 == 1 {
        value.push(if matches!(vr, "UI" | "OB") { 0 } else { b' ' });
    }
    let length = u32::try_from(value.len()).unwrap();
    [header(group, element, vr, length), value].concat()
}

fn item(elements: &[Vec<u8>]) -> Vec<u8> {
    let elements = elements.concat();
    let length = u32::try_from(elements.len()).unwrap().to_le_bytes();
    [&b"\xFE\xFF\x00\xE0"[..], &length, &elements].concat()
}

fn sq(group: u16, element: u16, items: &[Vec<u8>]) -> Vec<u8> {
    el(group, element, "SQ", items.concat())
}

fn fragments(group: u16, element: u16, fragments: &[&[u8]]) -> Vec<u8> {
    let mut out = header(group, element, "OB", UNDEFINED);
    for fragment in fragments {
        out.extend_from_slice(b"\xFE\xFF\x00\xE0");
        out.extend_from_slice(&u32::try_from(fragment.len()).unwrap().to_le_bytes());
        out.extend_from_slice(fragment);
    }
    out.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    out
}

/// A Part 10 file of these elements, and where its data set begins.
fn file(transfer_syntax: &str, elements: &[Vec<u8>]) -> (Vec<u8>, u64) {
    let meta = [
        el(0x0002, 0x0002, "UI", "1.2.840.10008.5.1.4.1.1.7"),
        el(0x0002, 0x0003, "UI", "1.4"),
        el(0x0002, 0x0010, "UI", transfer_syntax),
    ]
    .concat();
    let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
    let start = [&[0; 128][..], b"DICM", &el(0x0002, 0x0000, "UL", length), &meta].concat();
    let data_set = start.len() as u64;
    ([start, elements.concat()].concat(), data_set)
}

fn identity() -> [Vec<u8>; 4] {
    [
        el(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.7"),
        el(0x0008, 0x0018, "UI", "1.4"),
        el(0x0020, 0x000D, "UI", "1.2"),
        el(0x0020, 0x000E, "UI", "1.3"),
    ]
}

fn read(bytes: &[u8], piece: usize) -> Result<Indexed, DicomError> {
    let mut reader = Reader::new(Indexer::new(LIMITS), LIMITS, 64);
    for bytes in bytes.chunks(piece) {
        reader.push(bytes)?;
    }
    reader.finish()?.finish()
}

/// Indexes an instance of these elements and the identifying ones, in order.
fn index_as(transfer_syntax: &str, elements: &[Vec<u8>]) -> Indexed {
    let mut elements = [elements, &identity()].concat();
    let tag = |bytes: &[u8]| (bytes[1], bytes[0], bytes[3], bytes[2]);
    elements.sort_by_key(|bytes| tag(bytes));
    let (bytes, _) = file(transfer_syntax, &elements);
    let indexed = read(&bytes, usize::MAX).unwrap();
    let again = read(&bytes, 3).unwrap();
    assert_eq!(format!("{indexed:?}"), format!("{again:?}"), "whatever the pieces");
    indexed
}

fn index(elements: &[Vec<u8>]) -> Indexed {
    index_as(EXPLICIT, elements)
}

fn metadata(indexed: &Indexed) -> Value {
    serde_json::from_slice(&indexed.metadata).unwrap()
}

fn warnings(indexed: &Indexed) -> Vec<String> {
    indexed.warnings.iter().map(|warning| warning.tag.to_string()).collect()
}

#[test]
fn an_instance_is_indexed() {
    let indexed = index(&[
        el(0x0008, 0x0005, "CS", "ISO_IR 100"),
        el(0x0008, 0x0020, "DA", "2004.01.19"),
        el(0x0008, 0x0030, "TM", "0727"),
        el(0x0008, 0x0050, "SH", ""),
        el(0x0008, 0x0060, "CS", "CT"),
        el(0x0010, 0x0010, "PN", b"M\xfcller^J\xf6rg=X=y"),
        el(0x0010, 0x0020, "LO", " Id1 "),
        el(0x0018, 0x0050, "DS", "1.50"),
        el(0x0020, 0x0013, "IS", "+007"),
        sq(0x0040, 0x0275, &[item(&[el(0x0040, 0x0009, "SH", "S1")]), item(&[])]),
    ]);
    assert_eq!(
        std::str::from_utf8(&indexed.metadata).unwrap(),
        concat!(
            r#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"#,
            r#""00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},"#,
            r#""00080018":{"vr":"UI","Value":["1.4"]},"00080020":{"vr":"DA","Value":["2004.01.19"]},"#,
            r#""00080030":{"vr":"TM","Value":["0727"]},"00080050":{"vr":"SH"},"#,
            r#""00080060":{"vr":"CS","Value":["CT"]},"#,
            r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"Müller^Jörg","Ideographic":"X","Phonetic":"y"}]},"#,
            r#""00100020":{"vr":"LO","Value":["Id1"]},"00180050":{"vr":"DS","Value":[1.50]},"#,
            r#""0020000D":{"vr":"UI","Value":["1.2"]},"0020000E":{"vr":"UI","Value":["1.3"]},"#,
            r#""00200013":{"vr":"IS","Value":[7]},"#,
            r#""00400275":{"vr":"SQ","Value":[{"00400009":{"vr":"SH","Value":["S1"]}},{}]}}"#,
        )
    );
    let level = |level| std::str::from_utf8(indexed.attributes(level)).unwrap();
    assert_eq!(
        level(Level::Study),
        concat!(
            r#"{"00080020":{"vr":"DA","Value":["2004.01.19"]},"00080030":{"vr":"TM","Value":["0727"]},"#,
            r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"Müller^Jörg","Ideographic":"X","Phonetic":"y"}]},"#,
            r#""00100020":{"vr":"LO","Value":["Id1"]},"0020000D":{"vr":"UI","Value":["1.2"]}}"#
        )
    );
    assert_eq!(
        level(Level::Series),
        concat!(
            r#"{"00080060":{"vr":"CS","Value":["CT"]},"0020000E":{"vr":"UI","Value":["1.3"]},"#,
            r#""00400275":{"vr":"SQ","Value":[{"00400009":{"vr":"SH","Value":["S1"]}},{}]}}"#
        )
    );
    assert_eq!(
        level(Level::Instance),
        concat!(
            r#"{"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},"#,
            r#""00080018":{"vr":"UI","Value":["1.4"]},"00200013":{"vr":"IS","Value":[7]}}"#
        )
    );
    let keys: BTreeMap<_, _> = indexed.keys.0.iter().map(|(c, v)| (*c, v.as_str())).collect();
    let expect = [
        ("sop_class_uid", "1.2.840.10008.5.1.4.1.1.7"),
        ("sop_instance_uid", "1.4"),
        ("study_instance_uid", "1.2"),
        ("series_instance_uid", "1.3"),
        ("study_date", "20040119"),
        ("study_time", "072700.000000"),
        ("modality", "CT"),
        ("patient_name", "muller^jorg"),
        ("patient_name_ideographic", "x"),
        ("patient_name_phonetic", "y"),
        ("patient_id", "Id1"),
        ("instance_number", "7"),
    ];
    assert_eq!(keys, BTreeMap::from(expect));
    assert_eq!(indexed.keys.get("patient_id"), Some("Id1"));
    assert_eq!(indexed.keys.get("accession_number"), None);
    assert_eq!(warnings(&indexed), [""; 0]);
    assert!(indexed.frames.is_none() && indexed.bulk.is_empty());
    assert_eq!(indexed.instance.as_str(), "1.4");
    assert_eq!(indexed.transfer_syntax.as_str(), EXPLICIT);
}

#[test]
fn identity_is_required() {
    let without = |left_out: usize, instead: &[u8]| {
        let mut elements = identity().to_vec();
        let (group, element) = [(8, 0x16), (8, 0x18), (0x20, 0xD), (0x20, 0xE)][left_out];
        elements[left_out] =
            if instead == b"none" { Vec::new() } else { el(group, element, "UI", instead) };
        (read(&file(EXPLICIT, &elements).0, usize::MAX).map(|_| ()), Tag(group, element))
    };
    for at in 0..4 {
        for missing in [&b"none"[..], b"", b"\0\0", b"  "] {
            let (found, tag) = without(at, missing);
            assert_eq!(found, Err(DicomError::Missing { tag }));
        }
        for wrong in [&b"1.2.x"[..], b"1.2\\1.3", b"1..2", b"\xff\xff"] {
            let (found, tag) = without(at, wrong);
            assert_eq!(found, Err(DicomError::InvalidUid { tag }));
        }
    }
    // Only the data set's own count.
    let hidden = sq(0x0008, 0x1110, &[item(&identity())]);
    let found = read(&file(EXPLICIT, &[hidden]).0, usize::MAX).map(|_| ());
    assert_eq!(found, Err(DicomError::Missing { tag: Tag(0x0008, 0x0016) }));
}

#[test]
fn character_sets_are_inherited_and_replaced() {
    let named = |bytes: &[u8]| el(0x0008, 0x0104, "LO", bytes);
    let indexed = index(&[
        el(0x0008, 0x0005, "CS", "ISO_IR 144"),
        sq(
            0x0008,
            0x1032,
            &[
                item(&[named(b"\xbb")]),
                item(&[el(0x0008, 0x0005, "CS", "ISO_IR 126"), named(b"\xc4")]),
                item(&[named(b"\xbb")]),
            ],
        ),
        el(0x0008, 0x1030, "LO", b"\xbb"),
    ]);
    let found = metadata(&indexed);
    let utf8 = json!({"vr": "CS", "Value": ["ISO_IR 192"]});
    let text = |text| json!({"vr": "LO", "Value": [text]});
    assert_eq!(found["00080005"], utf8);
    assert_eq!(found["00081030"], text("Л"));
    assert_eq!(
        found["00081032"]["Value"],
        json!([
            {"00080104": text("Л")},
            {"00080005": utf8, "00080104": text("Δ")},
            {"00080104": text("Л")},
        ])
    );
}

#[test]
fn a_character_set_is_added_where_text_needs_one() {
    let indexed = index(&[el(0x0010, 0x0020, "LO", b"\xe4")]);
    assert!(indexed.metadata.starts_with(br#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"#));
    assert_eq!(indexed.keys.get("patient_id"), Some("ä"));
    assert_eq!(warnings(&indexed), ["(0008,0005)"]);
}

#[test]
fn attributes_are_put_in_order_and_first_ones_count() {
    let icon = sq(
        0x0088,
        0x0200,
        &[item(&[
            el(0x0028, 0x0011, "US", [1, 0]),
            el(0x0028, 0x0010, "US", [2, 0]),
            el(0x0028, 0x0011, "US", [3, 0]),
        ])],
    );
    let second = sq(0x0088, 0x0200, &[item(&[el(0x7FE0, 0x0010, "OB", [0; 100])])]);
    let mut elements = vec![icon, el(0x0010, 0x0020, "LO", "A"), second];
    elements.extend(identity());
    elements.push(el(0x0010, 0x0020, "LO", "B"));
    elements.push(el(0x0088, 0x0200, "UN", [0; 100]));
    let indexed = read(&file(EXPLICIT, &elements).0, usize::MAX).unwrap();
    let text = std::str::from_utf8(&indexed.metadata).unwrap();
    let uid = |tag: &str, uid: &str| format!(r#""{tag}":{{"vr":"UI","Value":["{uid}"]}},"#);
    let expect = [
        "{",
        &uid("00080016", "1.2.840.10008.5.1.4.1.1.7"),
        &uid("00080018", "1.4"),
        r#""00100020":{"vr":"LO","Value":["A"]},"#,
        &uid("0020000D", "1.2"),
        &uid("0020000E", "1.3"),
        r#""00880200":{"vr":"SQ","Value":[{"00280010":{"vr":"US","Value":[2]},"00280011":{"vr":"US","Value":[1]}}]}}"#,
    ];
    assert_eq!(text, expect.concat());
    assert_eq!(indexed.keys.get("patient_id"), Some("A"));
    assert!(indexed.bulk.is_empty());
    assert_eq!(warnings(&indexed), ["(0028,0011)", "(0088,0200)", "(0010,0020)"]);
    let study = r#"{"00100020":{"vr":"LO","Value":["A"]},"0020000D":{"vr":"UI","Value":["1.2"]}}"#;
    assert_eq!(std::str::from_utf8(indexed.attributes(Level::Study)).unwrap(), study);
}

#[test]
fn values_that_cannot_be_matched_are_kept_but_not_indexed() {
    let check = |element: Vec<u8>, column: &str, key: Option<&str>, warned: bool| {
        let indexed = index(std::slice::from_ref(&element));
        assert_eq!(indexed.keys.get(column), key, "{column}");
        assert_eq!(indexed.warnings.len(), usize::from(warned), "{:?}", indexed.warnings);
        assert_eq!(metadata(&indexed).as_object().unwrap().len(), 5);
    };
    check(el(0x0008, 0x0020, "DA", "20040230"), "study_date", None, true);
    check(el(0x0008, 0x0030, "TM", "25"), "study_time", None, true);
    check(el(0x0020, 0x0011, "IS", "1.5"), "series_number", None, true);
    check(el(0x0020, 0x0011, "US", [1, 0]), "series_number", None, true);
    check(el(0x0010, 0x0020, "LO", "a\nb"), "patient_id", None, true);
    check(el(0x0010, 0x0020, "LO", "A\\B"), "patient_id", Some("A"), true);
    check(el(0x0010, 0x0020, "LO", "\\B"), "patient_id", Some("B"), false);
    check(el(0x0010, 0x0020, "LO", "x".repeat(65)), "patient_id", Some(&"x".repeat(65)), true);
    check(el(0x0010, 0x0020, "LO", "x".repeat(513)), "patient_id", None, true);
    check(el(0x0008, 0x0060, "CS", "ct"), "modality", Some("ct"), true);
    check(el(0x0008, 0x0060, "LO", "CT"), "modality", Some("CT"), false);
    check(el(0x0008, 0x0060, "UN", "CT"), "modality", Some("CT"), false);
    check(el(0x0010, 0x0010, "PN", "=a\tb"), "patient_name_ideographic", None, true);
}

#[test]
fn deviations_of_identity_are_told() {
    let mut elements = identity();
    elements[2] = el(0x0020, 0x000D, "UI", "1.02");
    elements[1] = el(0x0008, 0x0018, "UI", "1.5");
    let indexed = read(&file(EXPLICIT, &elements).0, usize::MAX).unwrap();
    assert_eq!(warnings(&indexed), ["(0020,000D)", "(0002,0003)"]);
    assert_eq!(indexed.instance.as_str(), "1.5");
    let misspelt = index(&[el(0x0008, 0x0005, "CS", "ISO IR 100")]);
    assert_eq!(warnings(&misspelt), ["(0008,0005)"]);
}

/// Whether attributes are unique and ascend, at every level.
fn in_order(text: &[u8]) -> bool {
    // serde_json keeps its maps sorted and unique: writing them again must change nothing else.
    fn keys(text: &str) -> Vec<&str> {
        let bytes = text.as_bytes();
        let is_key = |at: usize| {
            bytes[at] == b'"'
                && text
                    .get(at + 1..at + 9)
                    .is_some_and(|k| k.bytes().all(|b| b.is_ascii_hexdigit()))
                && bytes.get(at + 9..at + 12) == Some(b"\":{")
        };
        (0..bytes.len()).filter(|&at| is_key(at)).map(|at| &text[at + 1..at + 9]).collect()
    }
    let text = std::str::from_utf8(text).unwrap();
    let again = serde_json::from_str::<Value>(text).unwrap().to_string();
    keys(text) == keys(&again)
}

proptest! {
    #[test]
    fn damaged_instances_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        piece in 1usize..200,
    ) {
        let mut elements = image(4, 4, "2");
        elements.insert(0, el(0x0008, 0x0005, "CS", "ISO 2022 IR 13\\ISO 2022 IR 87"));
        elements.extend(identity());
        elements.push(el(0x0010, 0x0010, "PN", b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J"));
        elements.push(sq(0x0054, 0x0016, &[item(&[el(0x0018, 0x1072, "OB", [1; 70])]), item(&[])]));
        elements.push(fragments(0x7FE0, 0x0010, &[&[0; 8], b"\xFF\xD8\xFF", b"cd", b"ef"]));
        let (mut bytes, data_set) = file(JPEG, &elements);
        for (at, byte) in damage {
            let data_set = data_set as usize;
            let at = data_set + at.index(bytes.len() - data_set);
            bytes[at] = byte;
        }
        if let Ok(indexed) = read(&bytes, piece) {
            prop_assert!(in_order(&indexed.metadata));
            let mut paths: Vec<_> = indexed.bulk.iter().map(|entry| &entry.path).collect();
            paths.sort_unstable();
            paths.dedup();
            prop_assert_eq!(paths.len(), indexed.bulk.len());
            for level in &indexed.level_attributes {
                prop_assert!(in_order(level));
            }
            let end = bytes.len() as u64;
            if let Some(table) = indexed.frames {
                for frame in 0..table.len() {
                    for (offset, length) in table.ranges(frame).unwrap() {
                        prop_assert!(offset + length <= end);
                    }
                }
            }
            for (_, key) in indexed.keys.0 {
                prop_assert!(!key.contains('\0') && !key.is_empty());
            }
        }
    }
}
