//! Sequences that are more than their attributes: content trees of structured reports (PS3.15
//! §E.3.4), graphic annotations (§E.3.3), and codes, whose meanings are text (§E.3.5).

use super::{
    dummy::REMOVED,
    rules::{self, Action},
    scrub::Node,
};
use crate::dicom::{Tag, VR};

const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const SCHEME: Tag = Tag(0x0008, 0x0102);
const MEANING: Tag = Tag(0x0008, 0x0104);
const VALUE_TYPE: Tag = Tag(0x0040, 0xA040);
const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);

/// Concepts (DCM) that are about people, places, devices and orders, wherever they stand in a tree.
const IDENTIFYING: [u32; 36] = [
    121008, 121009, 121010, 121011, 121012, 121013, 121014, 121015, 121016, 121017, 121018, 121019,
    121020, 121021, 121022, 121023, 121024, 121025, 121028, 121029, 121030, 121031, 121036, 121037,
    121106, 121112, 121114, 121120, 121121, 121126, 121152, 121173, 122072, 122073, 128775, 110190,
];
/// Concepts (DCM) that are characteristics of the patient: sex, age, species, size, weight, history.
const CHARACTERISTIC: [u32; 6] = [121032, 121033, 121034, 121035, 121110, 121060];

/// Coding schemes (PS3.16 §8) whose meanings are given with their codes. Those of others are what
/// somebody typed.
const PUBLIC: [&str; 28] = [
    "99SDM",
    "ACR",
    "BARI",
    "BI",
    "C4",
    "CD2",
    "DCM",
    "FMA",
    "I10",
    "I10P",
    "I9",
    "I9C",
    "ICDO3",
    "ISO3166_1",
    "ISO639_2",
    "ITIS_TSN",
    "LN",
    "MSH",
    "NCIt",
    "RADELEMENT",
    "RADLEX",
    "RFC3066",
    "RFC5646",
    "SCT",
    "SNM3",
    "SRT",
    "UCUM",
    "UMLS",
];

fn made(tag: Tag, vr: VR, value: &str) -> Node {
    Node::Made { tag, vr, value: value.as_bytes().to_vec() }
}

/// The item of a code.
pub(super) fn code(value: &str, scheme: &str, meaning: &str) -> Vec<Node> {
    vec![
        made(CODE_VALUE, VR::SH, value),
        made(SCHEME, VR::SH, scheme),
        made(MEANING, VR::LO, meaning),
    ]
}

fn sequence(tag: Tag, item: Vec<Node>) -> Node {
    Node::Items { tag, action: Action::Keep, items: vec![item] }
}

/// The item of a sequence of which nothing stays.
pub(super) fn dummy_item(tag: Tag) -> Vec<Node> {
    if tag == rules::CONTENT_SEQUENCE {
        return vec![
            made(Tag(0x0040, 0xA010), VR::CS, "CONTAINS"),
            made(VALUE_TYPE, VR::CS, "TEXT"),
            sequence(CONCEPT_NAME, code("121106", "DCM", "Comment")),
            made(rules::TEXT_VALUE, VR::UT, REMOVED),
        ];
    }
    code(REMOVED, "99REMOVED", REMOVED)
}

/// Cleans an item of a content tree, whose items below are treated by themselves. Whether it stays.
pub(super) fn clean_content(item: &mut [Node], values: &[u8], retain_patient: bool) -> bool {
    let Some(concept) = concept(item, values) else { return true };
    let is_identifying = IDENTIFYING.contains(&concept);
    if !is_identifying && (retain_patient || !CHARACTERISTIC.contains(&concept)) {
        return true;
    }
    let kind =
        item.iter().find(|node| node.tag() == VALUE_TYPE).and_then(|node| text(node, values));
    if matches!(kind.as_deref(), Some("CODE" | "NUM" | "DATE" | "DATETIME" | "TIME")) {
        return false;
    }
    for node in item {
        if let Node::Value { tag: rules::TEXT_VALUE, rule, .. } = node {
            rule.action = Action::Dummy;
        }
    }
    true
}

/// What becomes of the meaning of a code, if the item is one whose meaning would stay.
pub(super) fn clean_meaning(item: &mut [Node], values: &[u8]) {
    let scheme = item.iter().find(|node| node.tag() == SCHEME);
    let scheme = scheme.and_then(|node| text(node, values)).unwrap_or_default();
    let is_public = PUBLIC.contains(&&*scheme);
    for node in item {
        if let Node::Value { tag: MEANING, rule, .. } = node
            && rule.action == Action::Keep
        {
            rule.action = if is_public { Action::Meaning } else { Action::CleanOrDummy };
        }
    }
}

/// Code Value of a concept name of DICOM's own scheme.
fn concept(item: &[Node], values: &[u8]) -> Option<u32> {
    let name = item.iter().find(|node| node.tag() == CONCEPT_NAME)?;
    let Node::Items { items, .. } = name else { return None };
    let first = items.first()?;
    let of = |tag| first.iter().find(|node| node.tag() == tag).and_then(|node| text(node, values));
    if of(SCHEME)? == "DCM" { of(CODE_VALUE)?.parse().ok() } else { None }
}

fn text(node: &Node, values: &[u8]) -> Option<String> {
    let Node::Value { at, length, .. } = node else { return None };
    let (at, length) = (*at as usize, *length as usize);
    let value = values.get(at..at.checked_add(length)?)?;
    Some(String::from_utf8_lossy(value).trim_matches([' ', '\0']).to_owned())
}

/// Treats an item of the Graphic Annotation Sequence (PS3.3 §C.10.5): layer and images stay; the
/// rest stays too if `keep`, its text being replaced by the rule of the attribute.
pub(super) fn clean_graphics(item: &mut Vec<Node>, keep: bool) {
    const LAYER: Tag = Tag(0x0070, 0x0002);
    const IMAGES: Tag = Tag(0x0008, 0x1140);
    const TEXTS: Tag = Tag(0x0070, 0x0008);
    const GRAPHICS: Tag = Tag(0x0070, 0x0009);
    item.retain(|node| {
        matches!(node.tag(), LAYER | IMAGES) || keep && matches!(node.tag(), TEXTS | GRAPHICS)
    });
    if !item.iter().any(|node| matches!(node.tag(), TEXTS | GRAPHICS)) {
        let text = vec![
            made(Tag(0x0070, 0x0004), VR::CS, "PIXEL"),
            made(Tag(0x0070, 0x0006), VR::ST, REMOVED),
            Node::Made { tag: Tag(0x0070, 0x0014), vr: VR::FL, value: vec![0; 8] },
            made(Tag(0x0070, 0x0015), VR::CS, "N"),
        ];
        item.push(sequence(TEXTS, text));
    }
}
