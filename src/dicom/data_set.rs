//! A data set read back from its DICOM JSON (PS3.18 Annex F): attributes by tag, typed.
//!
//! Owns access to what Store prepared ([`super::json`] wrote it). Holds: an attribute of another
//! form than asked for is absent, never a panic; bulk values are paths, not bytes. Absent: bytes
//! of bulk values, and every meaning of an attribute.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{
    Tag, VR,
    json::{push_hex, tag_of},
};

/// A whole data set.
#[derive(Clone, Debug, Default)]
pub struct DataSet(Map<String, Value>);

/// A data set or an item of a sequence, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a>(&'a Map<String, Value>);

/// A binary value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binary<'a> {
    /// The value itself, in little endian.
    Inline(Vec<u8>),
    /// The path under which the archive has it (see [`super::index::BulkEntry`]).
    Bulk(&'a str),
}

/// The text is not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the DICOM JSON of one data set")]
pub struct NotADataSet;

impl DataSet {
    /// Reads one data set, as the index keeps it.
    ///
    /// # Errors
    /// [`NotADataSet`].
    pub fn parse(json: &[u8]) -> Result<Self, NotADataSet> {
        serde_json::from_slice(json).map(Self).map_err(|_| NotADataSet)
    }

    /// Its attributes, as JSON has them.
    pub fn into_attributes(self) -> Map<String, Value> {
        self.0
    }

    /// The data set, to be asked.
    pub fn root(&self) -> Item<'_> {
        Item(&self.0)
    }
}

impl<'a> Item<'a> {
    fn attribute(self, tag: Tag) -> Option<&'a Map<String, Value>> {
        let mut name = Vec::with_capacity(8);
        push_hex(&mut name, tag);
        self.0.get(std::str::from_utf8(&name).ok()?)?.as_object()
    }

    fn values(self, tag: Tag) -> &'a [Value] {
        let value = self.attribute(tag).and_then(|attribute| attribute.get("Value"));
        value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Whether the attribute is there, be it empty.
    pub fn has(self, tag: Tag) -> bool {
        self.attribute(tag).is_some()
    }

    /// Every attribute with its tag, in their order.
    pub fn attributes(self) -> impl Iterator<Item = (Tag, VR)> + 'a {
        self.0.iter().filter_map(|(name, attribute)| {
            let vr = attribute.get("vr")?.as_str()?.parse().ok()?;
            Some((tag_of(name)?, vr))
        })
    }

    /// The value representation.
    pub fn vr(self, tag: Tag) -> Option<VR> {
        self.attribute(tag)?.get("vr")?.as_str()?.parse().ok()
    }

    /// The texts of a value, in their order; of person names the alphabetic group. Numbers are
    /// given as they are written, empty values as empty texts.
    pub fn texts(self, tag: Tag) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
        self.values(tag).iter().map(|value| match value {
            Value::String(text) => text.as_str().into(),
            Value::Number(number) => number.to_string().into(),
            Value::Object(name) => ["Alphabetic", "Ideographic", "Phonetic"]
                .iter()
                .find_map(|group| name.get(*group)?.as_str())
                .unwrap_or_default()
                .into(),
            _ => "".into(),
        })
    }

    /// The first text of a value, unless empty.
    pub fn text(self, tag: Tag) -> Option<std::borrow::Cow<'a, str>> {
        self.texts(tag).next().filter(|text| !text.is_empty())
    }

    /// The numbers of a value, whether JSON has them as numbers or as texts; those that are none
    /// are left out.
    pub fn numbers(self, tag: Tag) -> impl Iterator<Item = f64> + 'a {
        self.values(tag).iter().filter_map(|value| match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        })
    }

    /// The first number of a value.
    pub fn number(self, tag: Tag) -> Option<f64> {
        self.numbers(tag).next()
    }

    /// The first number of a value, if it is an integer.
    pub fn integer(self, tag: Tag) -> Option<i64> {
        match self.values(tag).first()? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The items of a sequence.
    pub fn items(self, tag: Tag) -> impl Iterator<Item = Item<'a>> {
        self.values(tag).iter().filter_map(Value::as_object).map(Item)
    }

    /// The item at `index` (from 0) of a sequence.
    pub fn item(self, tag: Tag, index: usize) -> Option<Item<'a>> {
        self.values(tag).get(index)?.as_object().map(Item)
    }

    /// A binary value (OB, OD, OF, OL, OV, OW, UN, and whatever else is kept as bulk).
    pub fn binary(self, tag: Tag) -> Option<Binary<'a>> {
        let attribute = self.attribute(tag)?;
        if let Some(inline) = attribute.get("InlineBinary").and_then(Value::as_str) {
            return STANDARD.decode(inline).ok().map(Binary::Inline);
        }
        let path = attribute.get("BulkDataURI")?.as_str()?;
        Some(Binary::Bulk(path.strip_prefix('@').unwrap_or(path)))
    }

    /// The DICOM JSON of the data set or item. Numbers are as JSON reads them: without the zeros
    /// at their end.
    pub fn to_json(self) -> Vec<u8> {
        serde_json::to_vec(self.0).unwrap_or_default()
    }

    /// The component groups of a person name that are not empty, each value with up to three.
    pub fn names(self, tag: Tag) -> impl Iterator<Item = Vec<&'a str>> {
        self.values(tag).iter().filter_map(Value::as_object).map(|name| {
            ["Alphabetic", "Ideographic", "Phonetic"]
                .iter()
                .filter_map(|group| name.get(*group)?.as_str())
                .collect()
        })
    }

    /// The JSON of the attribute, as it is.
    pub fn raw(self, tag: Tag) -> Option<&'a Map<String, Value>> {
        self.attribute(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = br#"{
        "00080016":{"vr":"UI","Value":["1.2.3"]},
        "00100010":{"vr":"PN","Value":[{"Ideographic":"x","Alphabetic":"Doe^Jane"}]},
        "00280010":{"vr":"US","Value":[512]},
        "00281050":{"vr":"DS","Value":["40.50",-1,"x",null]},
        "00283010":{"vr":"SQ","Value":[{"00283006":{"vr":"OW","InlineBinary":"AQI="}},{}]},
        "7FE00010":{"vr":"OW","BulkDataURI":"@7FE00010"},
        "00081030":{"vr":"LO"}}"#;

    #[test]
    fn attributes_are_found_and_typed() {
        let data_set = DataSet::parse(JSON).unwrap();
        let root = data_set.root();
        assert_eq!(root.text(Tag(0x0008, 0x0016)).as_deref(), Some("1.2.3"));
        assert_eq!(root.text(Tag(0x0010, 0x0010)).as_deref(), Some("Doe^Jane"));
        assert_eq!(root.integer(Tag(0x0028, 0x0010)), Some(512));
        assert_eq!(root.numbers(Tag(0x0028, 0x1050)).collect::<Vec<_>>(), [40.5, -1.0]);
        let lut = root.item(Tag(0x0028, 0x3010), 0).unwrap();
        assert_eq!(lut.binary(Tag(0x0028, 0x3006)), Some(Binary::Inline(vec![1, 2])));
        assert_eq!(root.items(Tag(0x0028, 0x3010)).count(), 2);
        assert_eq!(root.binary(Tag(0x7FE0, 0x0010)), Some(Binary::Bulk("7FE00010")));
        assert!(root.has(Tag(0x0008, 0x1030)) && root.text(Tag(0x0008, 0x1030)).is_none());
        assert_eq!(root.integer(Tag(0x0008, 0x0016)), None);
        assert!(root.item(Tag(0x0028, 0x0010), 0).is_none());
        assert_eq!(root.vr(Tag(0x0028, 0x1050)), Some(VR::DS));
    }

    #[test]
    fn what_is_no_data_set_is_refused() {
        for json in [&b"[]"[..], b"{", b"1", b""] {
            assert_eq!(DataSet::parse(json).unwrap_err(), NotADataSet);
        }
    }
}
