//! What one instance says for an extended query tag: the values to match, and the attribute as it
//! is returned.
//!
//! Reads the metadata of an instance (DICOM JSON), so that Store and a reindex derive the same.
//! Holds: values are normalised as tests are ([`Matching::normalise`]); at most [`MAX_ROWS`] of one
//! instance and tag; no reason repeats a value. Absent: where values are kept.
//!
//! Decisions:
//! - A value that cannot be matched by meaning (no date, no number, ...) makes the instance
//!   erroneous for the tag; the values beside it count all the same.
//! - The tag's own value representation says how values are read. What was stored as UN, as private
//!   attributes of Implicit VR are, is read as what the tag says (PS3.5 §6.2.2): little endian, text
//!   as UTF-8.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    VR,
    attributes::Matching,
    charset::Charset,
    json,
    matching::{Element, Object},
    names,
    normalise::MAX_KEY,
    reader::Endian,
};

/// Most rows of one instance for one tag. Count.
pub const MAX_ROWS: usize = 256;

/// Longest attribute that is read, as JSON, in bytes.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// What a row of an index of values holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A value; of a person name one component group, folded.
    Value = 0,
    /// A word of a person name.
    Word = 1,
    /// How a word of a person name sounds.
    Sound = 2,
}

/// What an instance has for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagValues {
    /// The attribute's key in the data set: eight hexadecimal digits.
    pub key: String,
    /// The attribute as DICOM JSON.
    pub attribute: String,
    /// What can be matched, each once, values first.
    pub rows: Vec<(Kind, String)>,
    /// The rule that a value breaks.
    pub error: Option<String>,
}

/// An attribute, its values not looked into.
#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    vr: std::borrow::Cow<'a, str>,
    #[serde(rename = "Value", default, borrow)]
    value: Vec<&'a RawValue>,
    #[serde(rename = "InlineBinary", default, borrow)]
    inline: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "BulkDataURI", default, borrow)]
    bulk: Option<std::borrow::Cow<'a, str>>,
}

/// Reads what an instance has for a tag. `None`: the attribute is absent or has no value.
pub fn read(object: &Object<'_>, at: &Element, vr: VR) -> Option<TagValues> {
    let (key, raw) = at.find(object)?;
    let failed = |reason: &str| {
        let error = Some(reason.to_owned());
        Some(TagValues { key: key.clone(), attribute: raw.get().to_owned(), rows: vec![], error })
    };
    if raw.get().len() > MAX_ATTRIBUTE {
        return failed("longer than the 64 KiB that can be searched");
    }
    let Ok(attribute) = serde_json::from_str::<Attribute<'_>>(raw.get()) else {
        return failed("not an attribute that can be searched");
    };
    if attribute.bulk.is_some() {
        return failed("kept as bulk data, which is not searched");
    }
    match (&*attribute.vr, attribute.inline) {
        ("SQ", _) => failed("stored as a sequence, which is not searched"),
        ("UN", Some(inline)) => {
            let Some(known) = as_known(&inline, vr) else {
                return failed("stored with value representation UN and not readable as another");
            };
            let attribute = serde_json::from_str::<Attribute<'_>>(&known).ok()?;
            derive(key, known.clone(), &attribute.value, vr)
        }
        (_, Some(_)) => failed("stored as binary data, which is not searched"),
        (_, None) => derive(key, raw.get().to_owned(), &attribute.value, vr),
    }
}

/// The DICOM JSON of an attribute whose bytes were stored without their value representation.
fn as_known(inline: &str, vr: VR) -> Option<String> {
    let bytes = STANDARD.decode(inline).ok()?;
    std::str::from_utf8(&bytes).ok().or_else(|| is_binary(vr).then_some(""))?;
    let (utf8, _) = Charset::from_value(b"ISO_IR 192");
    let mut out = Vec::with_capacity(bytes.len() + 32);
    json::write_value(&mut out, vr, &bytes, Endian::Little, &utf8);
    String::from_utf8(out).ok()
}

fn is_binary(vr: VR) -> bool {
    let all = [VR::AT, VR::FD, VR::FL, VR::SL, VR::SS, VR::SV, VR::UL, VR::US, VR::UV];
    all.contains(&vr)
}

fn derive(key: String, attribute: String, values: &[&RawValue], vr: VR) -> Option<TagValues> {
    let matching = Matching::of(vr)?;
    let mut rows = Rows::default();
    let mut any = false;
    for value in values {
        let text = value.get();
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            // As it is written: a number of JSON can hold more digits than one of ours.
            rows.add(matching, vr, text);
            any = true;
            continue;
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { continue };
        match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => rows.add(matching, vr, &text),
            serde_json::Value::Object(groups) if matching == Matching::PersonName => {
                let group = |name| groups.get(name).and_then(serde_json::Value::as_str);
                for name in ["Alphabetic", "Ideographic", "Phonetic"] {
                    group(name).into_iter().for_each(|group| rows.add(matching, vr, group));
                }
            }
            _ => rows.fail("stored with another value representation"),
        }
        any = true;
    }
    let Rows { values, others, error } = rows;
    let rows = values.into_iter().map(|value| (Kind::Value, value)).chain(others).collect();
    any.then_some(TagValues { key, attribute, rows, error })
}

#[derive(Default)]
struct Rows {
    /// In the order of the data set.
    values: Vec<String>,
    others: BTreeSet<(Kind, String)>,
    error: Option<String>,
}

impl Rows {
    fn fail(&mut self, reason: impl Into<String>) {
        self.error.get_or_insert_with(|| reason.into());
    }

    fn add(&mut self, matching: Matching, vr: VR, text: &str) {
        let normal = match matching.normalise(text) {
            Ok(normal) if vr == VR::AS && !is_age(&normal) => {
                return self.fail("not a valid age nnnD, nnnW, nnnM or nnnY (PS3.5 §6.2, AS)");
            }
            Ok(normal) => normal,
            Err(invalid) => return self.fail(invalid.to_string()),
        };
        // No column of the index holds NUL, and text with one was refused.
        if normal.is_empty() || normal.len() > MAX_KEY || self.values.contains(&normal) {
            return;
        }
        if matching == Matching::PersonName {
            for word in names::words(&normal) {
                self.put(Kind::Word, word.to_owned());
                names::sound(word).into_iter().for_each(|sound| self.put(Kind::Sound, sound));
            }
        }
        self.put(Kind::Value, normal);
    }

    fn put(&mut self, kind: Kind, value: String) {
        if self.values.len() + self.others.len() >= MAX_ROWS {
            self.fail("more values than the 256 that can be searched");
        } else if kind == Kind::Value {
            self.values.push(value);
        } else {
            self.others.insert((kind, value));
        }
    }
}

fn is_age(text: &str) -> bool {
    match text.as_bytes() {
        [number @ .., unit] => {
            number.len() == 3 && number.iter().all(u8::is_ascii_digit) && b"DWMY".contains(unit)
        }
        [] => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::Tag;

    fn rows(json: &str, at: &Element, vr: VR) -> Option<TagValues> {
        read(&serde_json::from_str(json).unwrap(), at, vr)
    }

    fn of(vr: VR, value: &str) -> (Vec<String>, Option<String>) {
        let json = format!(r#"{{"00101010":{{"vr":"{vr}","Value":{value}}}}}"#);
        let read = rows(&json, &Element::Standard(Tag(0x0010, 0x1010)), vr).unwrap();
        assert_eq!(read.key, "00101010");
        let values = read.rows.into_iter().filter(|(kind, _)| *kind == Kind::Value);
        (values.map(|(_, value)| value).collect(), read.error)
    }

    #[test]
    fn every_value_representation_is_read() {
        for (vr, value, expected) in [
            (VR::AE, r#"["STORE"]"#, &["STORE"][..]),
            (VR::AS, r#"["041Y","003M"]"#, &["041Y", "003M"]),
            (VR::AT, r#"["00181063"]"#, &["00181063"]),
            (VR::CS, r#"["A","B","A"]"#, &["A", "B"]),
            (VR::DA, r#"["20240229"]"#, &["20240229"]),
            (VR::DS, "[1.50,-0]", &["1.5", "0"]),
            (VR::DT, r#"["20240229101500"]"#, &["20240229101500.000000"]),
            (VR::FD, "[0.1]", &["0.1"]),
            (VR::FL, "[2.5]", &["2.5"]),
            (VR::IS, "[7]", &["7"]),
            (VR::LO, r#"["Text é"]"#, &["Text é"]),
            (VR::PN, r#"[{"Alphabetic":"Döe^J","Phonetic":"d"},null]"#, &["doe^j", "d"]),
            (VR::SH, r#"["x"]"#, &["x"]),
            (VR::SL, "[-2147483648]", &["-2147483648"]),
            (VR::SS, "[-1]", &["-1"]),
            (VR::SV, "[-9223372036854775808]", &["-9223372036854775808"]),
            (VR::TM, r#"["10"]"#, &["100000.000000"]),
            (VR::UC, r#"["any"]"#, &["any"]),
            (VR::UI, r#"["1.2.3"]"#, &["1.2.3"]),
            (VR::UL, "[4294967295]", &["4294967295"]),
            (VR::US, "[65535]", &["65535"]),
            (VR::UV, "[18446744073709551615]", &["18446744073709551615"]),
        ] {
            let (values, error) = of(vr, value);
            assert_eq!(error, None, "{vr}");
            assert_eq!(values, expected, "{vr}");
        }
    }

    #[test]
    fn a_broken_value_is_told_without_being_repeated_and_others_count() {
        for (vr, value, kept) in [
            (VR::DA, r#"["SECRET","20240101"]"#, 1),
            (VR::IS, r#"["SECRET"]"#, 0),
            (VR::AS, r#"["SECRET"]"#, 0),
            (VR::UI, r#"["SECRET"]"#, 0),
            (VR::LO, r#"["SECRET\u0007"]"#, 0),
            (VR::LO, r#"[{"SECRET":1}]"#, 0),
            (VR::FD, r#"["NaN"]"#, 0),
        ] {
            let (values, error) = of(vr, value);
            assert_eq!(values.len(), kept, "{vr}");
            assert!(!error.unwrap().contains("SECRET"), "{vr}");
        }
        let many: Vec<usize> = (0..1000).collect();
        let (values, error) = of(VR::UL, &format!("{many:?}"));
        assert_eq!((values.len(), error.is_some()), (MAX_ROWS, true));
    }

    #[test]
    fn what_has_no_value_is_absent() {
        let at = Element::Standard(Tag(0x0010, 0x1010));
        for json in [
            "{}",
            r#"{"00101010":{"vr":"AS"}}"#,
            r#"{"00101010":{"vr":"AS","Value":[null]}}"#,
            r#"{"00101020":{"vr":"AS","Value":["001Y"]}}"#,
        ] {
            assert_eq!(rows(json, &at, VR::AS), None, "{json}");
        }
    }

    #[test]
    fn private_attributes_are_found_by_their_creator_and_un_is_what_the_tag_says() {
        let json = r#"{"00230010":{"vr":"LO","Value":["OTHER"]},"00230011":{"vr":"LO","Value":["ACME"]},
            "00231101":{"vr":"UN","InlineBinary":"NDI="},"00231102":{"vr":"UN","InlineBinary":"KgA="},
            "00231103":{"vr":"UN","InlineBinary":"/w=="}}"#;
        let at = |element| Element::Private { group: 0x23, creator: "ACME".to_owned(), element };
        let read = rows(json, &at(1), VR::IS).unwrap();
        assert_eq!(read.key, "00231101");
        assert_eq!(read.rows, [(Kind::Value, "42".to_owned())]);
        assert_eq!(read.attribute, r#"{"vr":"IS","Value":[42]}"#);
        let read = rows(json, &at(2), VR::US).unwrap();
        assert_eq!(read.rows, [(Kind::Value, "42".to_owned())]);
        assert!(rows(json, &at(3), VR::LO).unwrap().error.is_some());
        let other = Element::Private { group: 0x23, creator: "NOBODY".to_owned(), element: 1 };
        assert_eq!(rows(json, &other, VR::IS), None);
    }

    #[test]
    fn names_have_words_and_sounds() {
        let json = r#"{"00101010":{"vr":"PN","Value":[{"Alphabetic":"Smith^Anna"}]}}"#;
        let read = rows(json, &Element::Standard(Tag(0x0010, 0x1010)), VR::PN).unwrap();
        let has = |kind, value: &str| read.rows.contains(&(kind, value.to_owned()));
        assert!(has(Kind::Value, "smith^anna"));
        assert!(has(Kind::Word, "smith") && has(Kind::Word, "anna"));
        assert!(has(Kind::Sound, &names::sound("smyth").unwrap()));
    }
}
