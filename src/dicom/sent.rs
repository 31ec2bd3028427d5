//! A data set as a client sends it by itself, in either model ([`super::model`]), and as it is kept:
//! as DICOM JSON (PS3.18 Annex F).
//!
//! Owns [`json()`] and [`native`], which check what they read. Holds: names are eight upper-case
//! digits and ascend, at every depth; each attribute has one VR, that of PS3.6 where PS3.6 knows it,
//! and values that this VR can have; empty values, padding, group lengths and the character set,
//! which is that of the body, are gone. A flaw names the attribute and the rule, never a value.
//! Absent: bulk values, which nobody sends this way, and what attributes mean.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{
    Tag, VR, attributes,
    json::name,
    model::{self, Attribute, DataSet, GROUPS, Malformed, Value as Sent},
    normalise,
};

/// Deepest nesting of items.
const MAX_DEPTH: u16 = 16;

/// Bytes of memory that a byte of a body may need, and those that any body may need. What spreads
/// most are numbers of one digit, which take 65 bytes and are written in two.
const SPREAD: u64 = 40;
const LEAST: u64 = 64 << 10;

/// Longest path of a flaw that is told, in attributes.
const MAX_TOLD: usize = 4;

/// What a value cannot hold of which there can be several.
const BACKSLASH: &str = "a value holds no backslash, which separates values (PS3.5 §6.2)";
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// What is wrong with a data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no JSON, or no XML.
    #[error("the body is {0}")]
    Malformed(#[from] Malformed),
    /// It is not one data set.
    #[error(
        "the body is not the DICOM JSON of one data set: an object, or an array of one (PS3.18 §F.2)"
    )]
    NotOne,
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
    let mut read = model::read_json(bytes, MAX_DEPTH, room(bytes), checked)?;
    match (read.pop(), read.is_empty()) {
        (Some(one), true) => one,
        _ => Err(Flaw::NotOne),
    }
}

/// Reads one Native DICOM Model (PS3.19 §A.1).
///
/// # Errors
/// [`Flaw`].
pub fn native(bytes: &[u8]) -> Result<Map<String, Value>, Flaw> {
    checked(model::read_xml(bytes, MAX_DEPTH, room(bytes))?)
}

fn room(bytes: &[u8]) -> u64 {
    (bytes.len() as u64).saturating_mul(SPREAD).saturating_add(LEAST)
}

fn flaw(path: &[Tag], rule: impl Into<String>) -> Flaw {
    let told: Vec<String> = path.iter().take(MAX_TOLD).map(|tag| name(*tag)).collect();
    Flaw::Attribute { at: told.join("."), rule: rule.into() }
}

fn checked(read: DataSet) -> Result<Map<String, Value>, Flaw> {
    match read.flaw {
        Some(what) => Err(flaw(&[], format!("the data set {what}"))),
        None => data_set(read.attributes, &mut Vec::new()),
    }
}

fn data_set(attributes: Vec<Attribute>, path: &mut Vec<Tag>) -> Result<Map<String, Value>, Flaw> {
    let mut checked = BTreeMap::new();
    for attribute in attributes {
        let tag = attribute.tag;
        // Commands, File Meta Information and delimiters are no part of a data set.
        if tag.group() < 0x0008 || tag.group() == 0xFFFE {
            return Err(flaw(path, "an attribute is of no group of a data set (PS3.5 §7.1)"));
        }
        path.push(tag);
        let kept = self::attribute(attribute, path)?;
        let is_kept = tag.element() != 0 && tag != CHARACTER_SET;
        if is_kept && checked.insert(tag, kept).is_some() {
            return Err(flaw(path, "the attribute is there twice"));
        }
        path.pop();
    }
    Ok(checked.into_iter().map(|(tag, kept)| (name(tag), kept)).collect())
}

/// An attribute as it is kept.
fn attribute(attribute: Attribute, path: &mut Vec<Tag>) -> Result<Value, Flaw> {
    let Attribute { tag, vr, values, inline, uri, has_more, flaw: own } = attribute;
    if let Some(what) = own {
        return Err(flaw(path, what));
    }
    if has_more {
        return Err(flaw(path, "has a member that is none of PS3.18 §F.2.2"));
    }
    let vr = vr.ok_or_else(|| flaw(path, "`vr` is the value representation (PS3.18 §F.2.2)"))?;
    if let Some(own) = attributes::exact_vr_of(tag).filter(|own| *own != vr) {
        return Err(flaw(path, format!("its value representation is {own} (PS3.6)")));
    }
    if uri.is_some() {
        return Err(flaw(path, "bulk values are not taken here"));
    }
    let mut kept = Map::new();
    kept.insert("vr".to_owned(), Value::String(vr.to_string().to_owned()));
    match inline {
        Some(_) if !values.is_empty() => {
            return Err(flaw(path, "an attribute has one value field (PS3.18 §F.2.2)"));
        }
        Some(_) if !is_binary(vr) => {
            return Err(flaw(path, "not a member that its VR can have (PS3.18 §F.2.2)"));
        }
        Some(text) if STANDARD.decode(&text).is_err() => {
            return Err(flaw(path, "`InlineBinary` is base64 (PS3.18 §F.2.7)"));
        }
        Some(text) if !text.is_empty() => {
            kept.insert("InlineBinary".to_owned(), Value::String(text));
        }
        Some(_) => {}
        None => {
            let values = self::values(vr, values, path)?;
            if !values.iter().all(Value::is_null) {
                kept.insert("Value".to_owned(), Value::Array(values));
            }
        }
    }
    Ok(Value::Object(kept))
}

fn is_binary(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

fn values(vr: VR, values: Vec<Sent>, path: &mut Vec<Tag>) -> Result<Vec<Value>, Flaw> {
    if is_binary(vr) && !values.is_empty() {
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

fn value(vr: VR, value: Sent, path: &mut Vec<Tag>) -> Result<Value, Flaw> {
    match (vr, value) {
        (VR::SQ, Sent::Item(item)) => Ok(Value::Object(data_set(item, path)?)),
        (VR::SQ, Sent::Empty) => Ok(Value::Object(Map::new())),
        (_, Sent::Empty) => Ok(Value::Null),
        (VR::PN, Sent::Name(groups)) => person_name(*groups, path),
        (VR::PN, Sent::Item(none)) if none.is_empty() => Ok(Value::Null),
        (VR::SQ | VR::PN, _) => Err(flaw(path, "values of SQ and PN are objects (PS3.18 §F.2.2)")),
        (_, Sent::Name(_) | Sent::Item(_)) => {
            Err(flaw(path, format!("values of {vr} are no objects (PS3.18 §F.2.2)")))
        }
        (VR::FL | VR::FD | VR::DS, Sent::Number(digits)) => number(&digits, path),
        (VR::IS, Sent::Number(digits)) => match normalise::integer(&digits) {
            Ok(_) => number(&digits, path),
            Err(rule) => Err(flaw(path, rule.to_string())),
        },
        (VR::SL | VR::SS | VR::UL | VR::US | VR::SV | VR::UV, Sent::Number(digits)) => {
            integer(vr, &digits, path)?;
            number(&digits, path)
        }
        (VR::SV | VR::UV, Sent::Text(text)) => Ok(Value::String(integer(vr, &text, path)?)),
        (VR::FL | VR::FD | VR::SL | VR::SS | VR::UL | VR::US, Sent::Text(_)) => {
            Err(flaw(path, format!("values of {vr} are numbers (PS3.18 §F.2.2)")))
        }
        (vr, Sent::Text(text)) => self::text(vr, &text, path),
        (vr, Sent::Number(_)) => {
            Err(flaw(path, format!("values of {vr} are strings (PS3.18 §F.2.2)")))
        }
    }
}

fn number(digits: &str, path: &[Tag]) -> Result<Value, Flaw> {
    let number = serde_json::from_str(digits).map(Value::Number);
    number.map_err(|_| flaw(path, "a number is beyond what can be kept (PS3.18 §F.2.2)"))
}

/// An integer as it is normalised, if its VR can have it.
fn integer(vr: VR, digits: &str, path: &[Tag]) -> Result<String, Flaw> {
    let text = normalise::integer(digits).ok().filter(|text| match vr {
        VR::SS => text.parse::<i16>().is_ok(),
        VR::US => text.parse::<u16>().is_ok(),
        VR::SL => text.parse::<i32>().is_ok(),
        VR::UL => text.parse::<u32>().is_ok(),
        VR::SV => text.parse::<i64>().is_ok(),
        _ => text.parse::<u64>().is_ok(),
    });
    text.ok_or_else(|| flaw(path, format!("not an integer of {vr} (PS3.5 §6.2)")))
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
    if !is_long && vr != VR::UR && kept.contains('\\') {
        return Err(flaw(path, BACKSLASH));
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
fn person_name(groups: [String; 3], path: &[Tag]) -> Result<Value, Flaw> {
    let mut kept = Map::new();
    for (group, name) in GROUPS.into_iter().zip(&groups) {
        let name = name.trim_end_matches([' ', '\0']);
        if name.chars().any(char::is_control) {
            return Err(flaw(path, normalise::Invalid::Control.to_string()));
        }
        if name.contains(['\\', '=']) {
            return Err(flaw(
                path,
                "a component group holds no backslash and no equals sign (PS3.5 §6.2)",
            ));
        }
        if name.chars().count() > 64 {
            return Err(flaw(path, "a component group has at most 64 characters (PS3.5 §6.2)"));
        }
        if !name.is_empty() {
            kept.insert(group.to_owned(), Value::String(name.to_owned()));
        }
    }
    Ok(if kept.is_empty() { Value::Null } else { Value::Object(kept) })
}

#[cfg(test)]
mod tests;
