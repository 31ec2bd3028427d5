//! Search keys of one instance, and what is wrong with the values that they come from.

use super::{Keys, Warning};
use crate::dicom::{
    Tag, VR,
    attributes::{Attribute, Matching},
    charset::{Charset, Text},
    person_name,
};

/// Most warnings that one instance is given.
const MAX_WARNINGS: usize = 64;

/// Warnings so far: one an attribute.
#[derive(Default)]
pub(super) struct Warnings(pub(super) Vec<Warning>);

impl Warnings {
    pub(super) fn add(&mut self, tag: Tag, reason: impl Into<String>) {
        if self.0.len() < MAX_WARNINGS && self.0.iter().all(|warning| warning.tag != tag) {
            self.0.push(Warning { tag, reason: reason.into() });
        }
    }
}

/// Adds the keys of an attribute of the data set.
pub(super) fn add(
    keys: &mut Keys,
    warnings: &mut Warnings,
    attribute: &Attribute,
    vr: VR,
    value: &[u8],
    charset: &Charset,
) {
    let Some((_, matching)) = attribute.column else { return };
    if !is_text(vr) {
        warnings.add(attribute.tag, "not searchable: its VR is not that of PS3.6");
        return;
    }
    let own_charset = matches!(attribute.vr, VR::SH | VR::LO | VR::PN);
    let charset = if own_charset { charset } else { &Charset::DEFAULT };
    let mut values = charset.values(value).filter(|value| !is_blank(value));
    let Some(first) = values.next() else { return };
    let several = values.next().is_some();
    let kind = if matching == Matching::PersonName { Text::PersonName } else { Text::Plain };
    let text = charset.decode(first, kind);
    let groups = person_name::groups(&text);
    let parts = match matching {
        Matching::PersonName => groups.as_slice(),
        _ => &[&*text],
    };
    for (column, part) in attribute.columns.iter().zip(parts) {
        match matching.normalise(part) {
            Ok(key) if key.is_empty() => {}
            Ok(key) => {
                keys.0.push((column, key));
                if let Some(reason) = deviation(attribute.vr, part) {
                    warnings.add(attribute.tag, reason);
                }
            }
            Err(invalid) => warnings.add(attribute.tag, format!("not searchable: {invalid}")),
        }
    }
    if several {
        warnings.add(attribute.tag, "several values where one is allowed: the first is searchable");
    }
}

/// Rules of PS3.5 §6.2 whose breach does not keep a value from being found.
fn deviation(vr: VR, value: &str) -> Option<&'static str> {
    let length = || value.trim_matches([' ', '\0']).chars().count();
    match vr {
        VR::SH if length() > 16 => Some("longer than the 16 characters of SH"),
        VR::LO if length() > 64 => Some("longer than the 64 characters of LO"),
        VR::PN if length() > 64 => Some("longer than the 64 characters of a PN component group"),
        VR::CS if length() > 16 => Some("longer than the 16 characters of CS"),
        VR::CS if !value.bytes().all(is_code) => Some("characters that CS does not allow"),
        _ => None,
    }
}

fn is_code(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_' | 0)
}

fn is_blank(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b' ' || byte == 0)
}

fn is_text(vr: VR) -> bool {
    !matches!(
        vr,
        VR::AT
            | VR::FD
            | VR::FL
            | VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SL
            | VR::SQ
            | VR::SS
            | VR::SV
            | VR::UL
            | VR::UN
            | VR::US
            | VR::UV
    )
}
