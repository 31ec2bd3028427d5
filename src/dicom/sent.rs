//! A data set as a client sends it by itself: DICOM JSON (PS3.18 Annex F) or the Native DICOM Model
//! (PS3.19 §A.1), read into one form.
//!
//! Owns [`json`] and [`native()`], which check what they read. Holds: names are eight upper-case
//! digits and ascend, at every depth; each attribute has one VR, that of PS3.6 where PS3.6 knows it,
//! and values that this VR can have; empty values, padding, group lengths and the character set,
//! which is that of the body, are gone. A flaw names the attribute and the rule, never a value.
//! Absent: bulk values, which nobody sends this way, and what attributes mean.

mod native;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{Tag, VR, attributes, json::push_hex, normalise};

pub use native::read as native;

/// Deepest nesting of items.
const MAX_DEPTH: usize = 16;

/// Longest path of a flaw that is told, in attributes.
const MAX_TOLD: usize = 4;

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];

/// What is wrong with a data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no JSON, or no XML.
    #[error("the body is not {0}")]
    Syntax(&'static str),
    /// An attribute breaks a rule.
    #[error("{at}: {rule}")]
    Attribute {
        /// Its tag, behind those of the sequences that it is in, with dots between them.
        at: String,
        /// The rule.
        rule: String,
    },
}

/// Reads DICOM JSON: one data set, as an object or as the only one of an array.
///
/// # Errors
/// [`Flaw`].
pub fn json(bytes: &[u8]) -> Result<Map<String, Value>, Flaw> {
    const FORM: &str =
        "the DICOM JSON of one data set: an object, or an array of one (PS3.18 §F.2)";
    let read: Value = serde_json::from_slice(bytes).map_err(|_| Flaw::Syntax("valid JSON"))?;
    let object = match read {
        Value::Object(object) => object,
        Value::Array(list) => match <[Value; 1]>::try_from(list) {
            Ok([Value::Object(object)]) => object,
            _ => return Err(Flaw::Syntax(FORM)),
        },
        _ => return Err(Flaw::Syntax(FORM)),
    };
    data_set(object, &mut Vec::new())
}

/// The eight digits of a tag.
pub fn name(tag: Tag) -> String {
    let mut name = Vec::with_capacity(8);
    push_hex(&mut name, tag);
    String::from_utf8(name).unwrap_or_default()
}

fn flaw(path: &[Tag], rule: impl Into<String>) -> Flaw {
    let told: Vec<String> = path.iter().take(MAX_TOLD).map(|tag| name(*tag)).collect();
    Flaw::Attribute { at: told.join("."), rule: rule.into() }
}

fn data_set(object: Map<String, Value>, path: &mut Vec<Tag>) -> Result<Map<String, Value>, Flaw> {
    if path.len() > MAX_DEPTH {
        return Err(flaw(path, format!("items nest at most {MAX_DEPTH} deep")));
    }
    let mut checked = BTreeMap::new();
    for (key, attribute) in object {
        let tag = tag_of(&key).ok_or_else(|| {
            flaw(path, "attributes are named by eight hexadecimal digits (PS3.18 §F.2.2)")
        })?;
        path.push(tag);
        let kept = self::attribute(tag, attribute, path)?;
        let is_kept = tag.element() != 0 && tag != CHARACTER_SET;
        if is_kept && checked.insert(tag, kept).is_some() {
            return Err(flaw(path, "the attribute is there twice"));
        }
        path.pop();
    }
    Ok(checked.into_iter().map(|(tag, kept)| (name(tag), kept)).collect())
}

/// The tag of a name: eight hexadecimal digits, in any case.
fn tag_of(key: &str) -> Option<Tag> {
    let hex = key.len() == 8 && key.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u32::from_str_radix(key, 16).ok().filter(|_| hex)?;
    let tag = Tag((number >> 16) as u16, number as u16);
    // Commands, File Meta Information and delimiters are no part of a data set.
    (tag.group() >= 0x0008 && tag.group() != 0xFFFE).then_some(tag)
}

/// An attribute as it is kept.
fn attribute(tag: Tag, attribute: Value, path: &mut Vec<Tag>) -> Result<Value, Flaw> {
    let Value::Object(members) = attribute else {
        return Err(flaw(path, "an attribute is an object (PS3.18 §F.2.2)"));
    };
    let vr = members.get("vr").and_then(Value::as_str).and_then(|vr| vr.parse::<VR>().ok());
    let vr = vr.ok_or_else(|| flaw(path, "`vr` is the value representation (PS3.18 §F.2.2)"))?;
    if let Some(own) = attributes::exact_vr_of(tag).filter(|own| *own != vr) {
        return Err(flaw(path, format!("its value representation is {own} (PS3.6)")));
    }
    let mut kept = Map::new();
    kept.insert("vr".to_owned(), Value::String(vr.to_string().to_owned()));
    let mut has_value = false;
    for (member, value) in members {
        match (&*member, value) {
            ("vr", _) => continue,
            ("Value", Value::Array(values)) => {
                let values = self::values(vr, values, path)?;
                if !values.iter().all(Value::is_null) {
                    kept.insert(member, Value::Array(values));
                }
            }
            ("InlineBinary", Value::String(text)) if is_binary(vr) => {
                if STANDARD.decode(&text).is_err() {
                    return Err(flaw(path, "`InlineBinary` is base64 (PS3.18 §F.2.7)"));
                }
                if !text.is_empty() {
                    kept.insert(member, Value::String(text));
                }
            }
            ("BulkDataURI", _) => {
                return Err(flaw(path, "bulk values are not taken here (PS3.18 §11.1.1)"));
            }
            _ => return Err(flaw(path, "not a member that its VR can have (PS3.18 §F.2.2)")),
        }
        if std::mem::replace(&mut has_value, true) {
            return Err(flaw(path, "an attribute has one value field (PS3.18 §F.2.2)"));
        }
    }
    Ok(Value::Object(kept))
}

fn is_binary(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

fn values(vr: VR, values: Vec<Value>, path: &mut Vec<Tag>) -> Result<Vec<Value>, Flaw> {
    if is_binary(vr) {
        return Err(flaw(path, "a binary value is `InlineBinary` (PS3.18 §F.2.7)"));
    }
    let is_single = matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR);
    if is_single && values.len() > 1 {
        return Err(flaw(path, format!("{vr} has one value (PS3.5 §6.2)")));
    }
    let mut kept = Vec::with_capacity(values.len());
    for value in values {
        kept.push(self::value(vr, value, path)?);
    }
    Ok(kept)
}

fn value(vr: VR, value: Value, path: &mut Vec<Tag>) -> Result<Value, Flaw> {
    match (vr, value) {
        (VR::SQ, Value::Object(item)) => Ok(Value::Object(data_set(item, path)?)),
        (VR::SQ, Value::Null) => Ok(Value::Object(Map::new())),
        (_, Value::Null) => Ok(Value::Null),
        (VR::PN, Value::Object(groups)) => person_name(groups, path),
        (VR::SQ | VR::PN, _) => Err(flaw(path, "values of SQ and PN are objects (PS3.18 §F.2.2)")),
        (VR::FL | VR::FD, Value::Number(number)) => Ok(Value::Number(number)),
        (VR::SL | VR::SS | VR::UL | VR::US | VR::SV | VR::UV, Value::Number(number)) => {
            match normalise::integer(&number.to_string()) {
                Ok(text) if in_range(vr, &text) => Ok(Value::Number(number)),
                _ => Err(flaw(path, format!("not an integer of {vr} (PS3.5 §6.2)"))),
            }
        }
        (VR::DS, Value::Number(number)) => Ok(Value::Number(number)),
        (VR::IS, Value::Number(number)) => match normalise::integer(&number.to_string()) {
            Ok(_) => Ok(Value::Number(number)),
            Err(rule) => Err(flaw(path, rule.to_string())),
        },
        (VR::SV | VR::UV, Value::String(text)) => match normalise::integer(&text) {
            Ok(text) if in_range(vr, &text) => Ok(Value::String(text)),
            _ => Err(flaw(path, format!("not an integer of {vr} (PS3.5 §6.2)"))),
        },
        (VR::FL | VR::FD | VR::SL | VR::SS | VR::UL | VR::US, _) => {
            Err(flaw(path, format!("values of {vr} are numbers (PS3.18 §F.2.2)")))
        }
        (vr, Value::String(text)) => self::text(vr, &text, path),
        (vr, _) => Err(flaw(path, format!("values of {vr} are strings (PS3.18 §F.2.2)"))),
    }
}

/// Whether an integer, as it is normalised, is one of the VR.
fn in_range(vr: VR, text: &str) -> bool {
    let Ok(number) = text.parse::<i128>() else { return false };
    let (bits, is_signed) = match vr {
        VR::SS => (16, true),
        VR::US => (16, false),
        VR::SL => (32, true),
        VR::UL => (32, false),
        VR::SV => (64, true),
        _ => (64, false),
    };
    let (least, most) = match is_signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        false => (0, (1_i128 << bits) - 1),
    };
    (least..=most).contains(&number)
}

/// A text without what pads it, which has to be one of its VR where searches go by that.
fn text(vr: VR, text: &str, path: &[Tag]) -> Result<Value, Flaw> {
    let is_long = matches!(vr, VR::ST | VR::LT | VR::UT);
    let kept = if is_long { text.trim_end_matches([' ', '\0']) } else { normalise::unpadded(text) };
    if kept.is_empty() {
        return Ok(Value::Null);
    }
    let is_allowed =
        |c: char| !c.is_control() || is_long && matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    if !kept.chars().all(is_allowed) {
        return Err(flaw(path, normalise::Invalid::Control.to_string()));
    }
    let most = match vr {
        VR::AE | VR::CS | VR::SH => 16,
        VR::LO => 64,
        VR::ST => 1024,
        VR::LT => 10_240,
        _ => usize::MAX,
    };
    if kept.chars().count() > most {
        return Err(flaw(
            path,
            format!("a value of {vr} has at most {most} characters (PS3.5 §6.2)"),
        ));
    }
    let checked = match vr {
        VR::UI => normalise::uid(kept).map(|_| ()),
        VR::DA => normalise::date(kept).map(|_| ()),
        VR::TM => normalise::time(kept).map(|_| ()),
        VR::DT => normalise::date_time(kept).map(|_| ()),
        VR::IS => normalise::integer(kept).map(|_| ()),
        VR::DS => normalise::decimal(kept).map(|_| ()),
        VR::AT => {
            let tag =
                normalise::attribute_tag(kept).map_err(|rule| flaw(path, rule.to_string()))?;
            return Ok(Value::String(tag));
        }
        _ => Ok(()),
    };
    match checked {
        Ok(()) => Ok(Value::String(kept.to_owned())),
        Err(rule) => Err(flaw(path, rule.to_string())),
    }
}

/// The component groups that are not empty, in their order.
fn person_name(mut groups: Map<String, Value>, path: &[Tag]) -> Result<Value, Flaw> {
    let mut kept = Map::new();
    for group in GROUPS {
        match groups.remove(group) {
            None | Some(Value::Null) => {}
            Some(Value::String(name)) => {
                let name = name.trim_end_matches([' ', '\0']);
                if name.chars().any(char::is_control) {
                    return Err(flaw(path, normalise::Invalid::Control.to_string()));
                }
                if name.chars().count() > 64 {
                    return Err(flaw(
                        path,
                        "a component group has at most 64 characters (PS3.5 §6.2)",
                    ));
                }
                if !name.is_empty() {
                    kept.insert(group.to_owned(), Value::String(name.to_owned()));
                }
            }
            Some(_) => return Err(flaw(path, "component groups are strings (PS3.18 §F.2.2)")),
        }
    }
    if !groups.is_empty() {
        return Err(flaw(path, "a name has Alphabetic, Ideographic and Phonetic (PS3.18 §F.2.2)"));
    }
    Ok(if kept.is_empty() { Value::Null } else { Value::Object(kept) })
}

#[cfg(test)]
mod tests;
