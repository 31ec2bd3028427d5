//! One match of a C-FIND (PS3.4 §C.4.1.1.3): what was asked for, as a data set.
//!
//! Holds: every attribute that was asked for is there, without a value where none is known; text is
//! in UTF-8 and says so where it is not ASCII. Pure.

use serde_json::{Map, Value, json};

use crate::dicom::{
    Tag, attributes,
    compose::read_json,
    identifier::{Element, Value as Asked},
    json::{name, tag_of},
};

/// Deepest nesting of items, and most bytes that a match takes in memory.
const DEPTH: u16 = 16;
const ROOM: u64 = 16 << 20;

pub(super) const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
pub(super) const LEVEL: Tag = Tag(0x0008, 0x0052);
const RETRIEVE_AE: Tag = Tag(0x0008, 0x0054);
const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);

/// The data set of a match, in implicit or explicit VR; `None` where what is stored is no data set.
pub(super) fn data_set(
    found: &[u8],
    asked: &[Element],
    (level, ae): (&str, &str),
    implicit: bool,
) -> Option<Vec<u8>> {
    let Value::Object(found) = serde_json::from_slice(found).ok()? else { return None };
    let mut answer = projected(&found, asked);
    // There is none for who asks this way.
    answer.remove(&name(RETRIEVE_URL));
    answer.remove(&name(CHARACTER_SET));
    answer.insert(name(LEVEL), json!({ "vr": "CS", "Value": [level] }));
    answer.insert(name(RETRIEVE_AE), json!({ "vr": "AE", "Value": [ae] }));
    let text = Value::Object(answer).to_string();
    let composed = read_json(text.as_bytes(), DEPTH, ROOM).ok()?;
    Some(composed.first()?.data_set(implicit))
}

/// What a data set or item has of the attributes that were asked for.
fn projected(found: &Map<String, Value>, asked: &[Element]) -> Map<String, Value> {
    let mut answer = Map::new();
    for element in asked {
        if !element.tag.group().is_multiple_of(2) {
            // Which block its creator has, each data set says for itself.
            let private = |(key, _): &(&String, &Value)| is_private(key);
            let all = found.iter().filter(private);
            answer.extend(all.map(|(key, value)| (key.clone(), value.clone())));
            continue;
        }
        let key = name(element.tag);
        let value = match (found.get(&key), &element.value) {
            (Some(value), Asked::Items(items)) => match items.first() {
                Some(keys) if !keys.is_empty() => of_items(value, keys),
                _ => value.clone(),
            },
            (Some(value), Asked::Text(_)) => value.clone(),
            (None, _) => {
                let vr = attributes::vr_of(element.tag).unwrap_or(element.vr);
                json!({ "vr": vr.to_string() })
            }
        };
        answer.insert(key, value);
    }
    answer
}

fn is_private(key: &str) -> bool {
    tag_of(key).is_some_and(|tag| !tag.group().is_multiple_of(2))
}

/// A sequence with these attributes of its items alone.
fn of_items(sequence: &Value, keys: &[Element]) -> Value {
    let items = sequence.get("Value").and_then(Value::as_array);
    let items = items.into_iter().flatten().filter_map(Value::as_object);
    let items: Vec<Value> = items.map(|item| Value::Object(projected(item, keys))).collect();
    json!({ "vr": "SQ", "Value": items })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::LimitsConfig,
        dicom::{VR, identifier::read, transfer_syntax::IMPLICIT_LITTLE},
    };

    fn key(tag: (u16, u16), vr: VR) -> Element {
        Element { tag: Tag(tag.0, tag.1), vr, value: Asked::Text(String::new()) }
    }

    #[test]
    fn what_was_asked_for_is_there_and_nothing_else() {
        let item = vec![key((0x0040, 0x0009), VR::SH)];
        let asked = [
            key((0x0010, 0x0010), VR::PN),
            key((0x0010, 0x0020), VR::LO),
            key((0x0008, 0x0090), VR::PN),
            Element { tag: Tag(0x0040, 0x0275), vr: VR::SQ, value: Asked::Items(vec![item]) },
        ];
        let found = json!({
            "00080020": { "vr": "DA", "Value": ["20240101"] },
            "00081190": { "vr": "UR", "Value": [""] },
            "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "M\u{fc}ller^A" }] },
            "00100020": { "vr": "LO", "Value": ["P1"] },
            "00400275": { "vr": "SQ", "Value": [{
                "00400009": { "vr": "SH", "Value": ["S1"] },
                "00401001": { "vr": "SH", "Value": ["R1"] },
            }] },
        });
        let bytes =
            data_set(found.to_string().as_bytes(), &asked, ("STUDY", "PACS"), true).unwrap();
        let limits = LimitsConfig::default().parsing();
        let read = read(&bytes, &IMPLICIT_LITTLE.parse().unwrap(), limits).unwrap();
        let tags: Vec<Tag> = read.iter().map(|element| element.tag).collect();
        let expected = [
            (0x0008, 0x0005),
            (0x0008, 0x0052),
            (0x0008, 0x0054),
            (0x0008, 0x0090),
            (0x0010, 0x0010),
            (0x0010, 0x0020),
            (0x0040, 0x0275),
        ];
        assert_eq!(tags, expected.map(|(group, element)| Tag(group, element)));
        assert_eq!(read[0].value, Asked::Text("ISO_IR 192".to_owned()));
        assert_eq!(read[4].value, Asked::Text("M\u{fc}ller^A".to_owned()));
        let Asked::Items(items) = &read[6].value else { panic!("no items") };
        assert_eq!(items[0].len(), 1);
    }
}
