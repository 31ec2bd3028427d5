//! Data sets as DICOM bytes, and as the DICOM JSON that must come back (PS3.18 Annex F).

use serde_json::{Map, Value, json};

use super::{
    known::hex,
    model::{Content, DataSet, Element},
};
use crate::harness::Dicom;

/// The Part 10 file of an instance, in Explicit VR Little Endian and UTF-8.
pub fn file(data: &DataSet) -> Vec<u8> {
    let mut dicom = item(data);
    dicom.text(0x0008, 0x0005, "CS", "ISO_IR 192");
    dicom.file()
}

fn item(data: &DataSet) -> Dicom {
    let mut dicom = Dicom::item();
    for ((group, element), (vr, content)) in &data.0 {
        match content {
            Content::Items(items) => {
                dicom.sequence(*group, *element, items.iter().map(item).collect());
            }
            Content::Values(values) => {
                dicom.bytes(*group, *element, vr, &bytes(vr, values));
            }
        }
    }
    dicom
}

fn bytes(vr: &str, values: &[String]) -> Vec<u8> {
    fn each<const N: usize>(values: &[String], to: impl Fn(&str) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|value| to(value)).collect()
    }
    match vr {
        "US" => each(values, |value| value.parse::<u16>().unwrap().to_le_bytes()),
        "SS" => each(values, |value| value.parse::<i16>().unwrap().to_le_bytes()),
        "UL" => each(values, |value| value.parse::<u32>().unwrap().to_le_bytes()),
        "SL" => each(values, |value| value.parse::<i32>().unwrap().to_le_bytes()),
        "UV" => each(values, |value| value.parse::<u64>().unwrap().to_le_bytes()),
        "SV" => each(values, |value| value.parse::<i64>().unwrap().to_le_bytes()),
        "FL" => each(values, |value| value.parse::<f32>().unwrap().to_le_bytes()),
        "FD" => each(values, |value| value.parse::<f64>().unwrap().to_le_bytes()),
        "AT" => each(values, |value| {
            let [a, b, c, d] = u32::from_str_radix(value, 16).unwrap().to_be_bytes();
            [b, a, d, c]
        }),
        _ => values.join("\\").into_bytes(),
    }
}

/// An attribute in DICOM JSON. Numbers are JSON numbers where their text is one.
pub fn attribute((vr, content): &Element) -> Value {
    let values: Vec<Value> = match content {
        Content::Items(items) => items.iter().map(object).collect(),
        Content::Values(_) if content.is_empty() => Vec::new(),
        Content::Values(values) => values.iter().map(|value| one(vr, value)).collect(),
    };
    if values.is_empty() { json!({ "vr": vr }) } else { json!({ "vr": vr, "Value": values }) }
}

pub fn object(data: &DataSet) -> Value {
    let attributes = data.0.iter().map(|(tag, element)| (hex(*tag), attribute(element)));
    Value::Object(attributes.collect::<Map<_, _>>())
}

fn one(vr: &str, value: &str) -> Value {
    let value = match vr {
        "ST" | "LT" | "UT" | "UC" | "UR" => value.trim_end_matches(' '),
        _ => value.trim_matches(' '),
    };
    if value.is_empty() {
        return Value::Null;
    }
    if vr == "PN" {
        let names = ["Alphabetic", "Ideographic", "Phonetic"];
        let groups = names.iter().zip(value.split('='));
        let present = groups.filter(|(_, group)| !group.trim().is_empty());
        let name = present.map(|(name, group)| ((*name).to_owned(), json!(group.trim())));
        return Value::Object(name.collect());
    }
    if vr == "FL" {
        // The number that 32 bits hold.
        return json!(f64::from(value.parse::<f32>().unwrap()).to_string());
    }
    json!(value)
}

/// Whether an attribute says what is expected: numbers by their value, whether they came as
/// numbers or as text.
pub fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(k, b)| a.get(k).is_some_and(|a| same(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Number(a), Value::String(b)) => {
            let (a, b) = (a.to_string(), b.trim_start_matches('+'));
            let by_value = a.parse::<f64>().ok() == b.parse::<f64>().ok();
            // Integers beyond 53 bits must not be rounded.
            a == b || (by_value && (a.contains(['.', 'e', 'E']) || a.len() < 16))
        }
        _ => found == expected,
    }
}

/// Every string in a value is ASCII.
pub fn is_ascii(value: &Value) -> bool {
    value.to_string().is_ascii()
}
