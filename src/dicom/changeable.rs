//! Which attributes of what is stored may be changed for a whole study, and to what.
//!
//! Those of Patient and General Study (PS3.3 §C.7.1.1, §C.7.2.1) that every instance of a study has in
//! common and that hold no sequence: what Microsoft's bulk update takes, and a few more. Holds: a flaw
//! names the attribute and the rule, never a value. Absent: UIDs, which other instances refer to.

use serde_json::{Map, Value};

use super::{Tag, json::name, sent::Flaw};

/// Those of which several values may be given.
const SEVERAL: [Tag; 9] = [
    Tag(0x0008, 0x1060),
    Tag(0x0008, 0x1080),
    Tag(0x0010, 0x1000),
    Tag(0x0010, 0x1001),
    Tag(0x0010, 0x2000),
    Tag(0x0010, 0x2110),
    Tag(0x0010, 0x2154),
    Tag(0x0040, 0x3001),
    Tag(0x0010, 0x1090),
];

/// Those that may be changed, ascending.
const CHANGEABLE: [Tag; 47] = [
    Tag(0x0008, 0x0020),
    Tag(0x0008, 0x0030),
    Tag(0x0008, 0x0050),
    Tag(0x0008, 0x0090),
    Tag(0x0008, 0x1030),
    Tag(0x0008, 0x1060),
    Tag(0x0008, 0x1080),
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0020),
    Tag(0x0010, 0x0021),
    Tag(0x0010, 0x0022),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0032),
    Tag(0x0010, 0x0040),
    Tag(0x0010, 0x0200),
    Tag(0x0010, 0x1000),
    Tag(0x0010, 0x1001),
    Tag(0x0010, 0x1005),
    Tag(0x0010, 0x1010),
    Tag(0x0010, 0x1020),
    Tag(0x0010, 0x1030),
    Tag(0x0010, 0x1040),
    Tag(0x0010, 0x1060),
    Tag(0x0010, 0x1080),
    Tag(0x0010, 0x1081),
    Tag(0x0010, 0x1090),
    Tag(0x0010, 0x2000),
    Tag(0x0010, 0x2110),
    Tag(0x0010, 0x2150),
    Tag(0x0010, 0x2152),
    Tag(0x0010, 0x2154),
    Tag(0x0010, 0x2160),
    Tag(0x0010, 0x2180),
    Tag(0x0010, 0x21A0),
    Tag(0x0010, 0x21B0),
    Tag(0x0010, 0x21F0),
    Tag(0x0010, 0x2201),
    Tag(0x0010, 0x2203),
    Tag(0x0010, 0x2292),
    Tag(0x0010, 0x2295),
    Tag(0x0010, 0x2297),
    Tag(0x0010, 0x2298),
    Tag(0x0010, 0x2299),
    Tag(0x0010, 0x4000),
    Tag(0x0020, 0x0010),
    Tag(0x0038, 0x0010),
    Tag(0x0040, 0x3001),
];

/// Whether an attribute, by its eight digits, may be changed.
pub fn is(key: &str) -> bool {
    named(key).is_some()
}

fn named(key: &str) -> Option<Tag> {
    CHANGEABLE.into_iter().find(|tag| name(*tag) == key)
}

/// Holds a change, as [`super::sent::json`] read it, against what may be changed and the rules of its
/// VRs.
///
/// # Errors
/// The first attribute that breaks a rule.
pub fn check(change: &Map<String, Value>) -> Result<(), Flaw> {
    for (key, attribute) in change {
        let flaw = |rule: &str| Flaw::Attribute { at: key.clone(), rule: rule.to_owned() };
        let Some(tag) = named(key) else {
            return Err(flaw(
                "not an attribute of patient or study that can be changed for a whole study",
            ));
        };
        let vr = attribute["vr"].as_str().unwrap_or_default();
        let values =
            attribute.get("Value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if values.len() > 1 && !SEVERAL.contains(&tag) {
            return Err(flaw("it has one value (PS3.6)"));
        }
        for value in values {
            check_value(vr, value).map_err(flaw)?;
        }
    }
    Ok(())
}

fn check_value(vr: &str, value: &Value) -> Result<(), &'static str> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Ok(()),
    };
    let is_allowed = match vr {
        "CS" => text.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'_')),
        "AS" => is_age(&text),
        "DS" => text.len() <= 16,
        _ => true,
    };
    match (is_allowed, vr) {
        (true, _) => Ok(()),
        (false, "CS") => Err("CS holds upper-case letters, digits, spaces and _ (PS3.5 §6.2)"),
        (false, "AS") => Err("AS is three digits and D, W, M or Y (PS3.5 §6.2)"),
        (false, _) => Err("a value of DS has at most 16 characters (PS3.5 §6.2)"),
    }
}

fn is_age(text: &str) -> bool {
    match text.as_bytes() {
        [digits @ .., b'D' | b'W' | b'M' | b'Y'] => {
            digits.len() == 3 && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{attributes, sent};

    fn checked(change: &str) -> Option<String> {
        let read = sent::json(change.as_bytes());
        read.and_then(|read| check(&read)).err().map(|flaw| flaw.to_string())
    }

    #[test]
    fn each_may_be_changed_and_is_known() {
        assert!(CHANGEABLE.is_sorted());
        for tag in CHANGEABLE {
            assert!(attributes::exact_vr_of(tag).is_some(), "{tag}");
        }
        assert!(SEVERAL.iter().all(|tag| CHANGEABLE.contains(tag)));
    }

    #[test]
    fn a_flaw_names_the_attribute_and_the_rule() {
        for (change, told) in [
            (r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B"}]}}"#, None),
            (r#"{"00100020":{"vr":"LO"},"00101010":{"vr":"AS","Value":["041Y"]}}"#, None),
            (r#"{"0020000D":{"vr":"UI","Value":["1.2"]}}"#, Some("0020000D: not an")),
            (r#"{"00080060":{"vr":"CS","Value":["CT"]}}"#, Some("00080060: not an")),
            (r#"{"00101010":{"vr":"AS","Value":["41"]}}"#, Some("00101010: AS is")),
            (r#"{"00100040":{"vr":"CS","Value":["f"]}}"#, Some("00100040: CS holds")),
            (r#"{"00100020":{"vr":"LO","Value":["A\\B"]}}"#, Some("00100020: a value")),
            (r#"{"00100020":{"vr":"LO","Value":["A","B"]}}"#, Some("00100020: it has one")),
            (r#"{"00101030":{"vr":"DS","Value":["1.00000000000000000"]}}"#, Some("00101030: a v")),
        ] {
            match (checked(change), told) {
                (None, None) => {}
                (Some(found), Some(told)) => assert!(found.starts_with(told), "{found}"),
                (found, told) => panic!("{change}: {found:?}, not {told:?}"),
            }
        }
    }
}
