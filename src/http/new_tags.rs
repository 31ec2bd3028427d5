//! What may be asked to become an extended query tag.
//!
//! Holds: a tag that passes is of a value representation that can be matched, of a place in a data
//! set that can hold it, and not matched by Search already. All that is wrong is told at once, by
//! member. Absent: whether it exists already (the archive).

use serde_json::{Map, Value};

use super::{json_body::members, problem::Problem};
use crate::{
    archive::NewTag,
    dicom::{
        Tag, VR,
        attributes::{self, Level, Matching},
        json::{name, tag_of},
        normalise,
    },
};

/// Longest private creator, in characters (PS3.5 §6.2, LO).
const LONGEST_CREATOR: usize = 64;

/// Most tags that one request may name, before they are looked at.
const MOST: usize = 1024;

/// What Search makes itself: counts, what can be had, where, and the partition.
const COMPUTED: [Tag; 10] = [
    Tag(0x0008, 0x0005),
    Tag(0x0008, 0x0056),
    Tag(0x0008, 0x0061),
    Tag(0x0008, 0x0062),
    Tag(0x0008, 0x1190),
    Tag(0x0008, 0x3002),
    Tag(0x0020, 0x1206),
    Tag(0x0020, 0x1208),
    Tag(0x0020, 0x1209),
    Tag(0x0065, 0x1001),
];

/// Reads the body of a request to add tags.
///
/// # Errors
/// 400 with everything that is wrong.
pub fn read(body: Value) -> Result<Vec<NewTag>, Problem> {
    let Value::Array(entries) = body else {
        return Err(Problem::bad_request("the body is not an array of extended query tags"));
    };
    if entries.is_empty() {
        return Err(Problem::bad_request("the body names no extended query tag"));
    }
    if entries.len() > MOST {
        return Err(Problem::bad_request("the body names more than 1024 extended query tags"));
    }
    let (mut tags, mut errors): (Vec<NewTag>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    for (place, entry) in entries.into_iter().enumerate() {
        match one(entry) {
            Ok(tag) if tags.iter().any(|other| is_same(other, &tag)) => {
                let reason = format!("The query tag '{}' is there twice.", name(tag.path));
                errors.push((format!("[{place}].path"), reason));
            }
            Ok(tag) => tags.push(tag),
            Err((member, reason)) => errors.push((format!("[{place}]{member}"), reason)),
        }
    }
    let Some((_, first)) = errors.first() else { return Ok(tags) };
    let problem = Problem::bad_request(first.clone());
    Err(errors
        .into_iter()
        .fold(problem, |problem, (field, reason)| problem.with_error(field, reason)))
}

/// Whether both are of one attribute, or spelled alike.
fn is_same(one: &NewTag, other: &NewTag) -> bool {
    one.path == other.path || one.element() == other.element()
}

/// The tag that a path names: eight hexadecimal digits, or a keyword of PS3.6.
pub fn path(text: &str) -> Option<Tag> {
    tag_of(text).or_else(|| attributes::tag_of_keyword(text))
}

/// Which member is wrong, and the rule.
type Wrong = (&'static str, String);

fn one(entry: Value) -> Result<NewTag, Wrong> {
    let Value::Object(entry) = entry else {
        return Err(("", "not an object with the members path and level".to_owned()));
    };
    let entry = members(entry);
    let missing = |name: &str| {
        format!(
            "The Dicom Tag Property {name} must be specified and must not be null, empty or \
             whitespace."
        )
    };
    let named = text(&entry, "path", ".path")?.ok_or((".path", missing("path")))?;
    let level = text(&entry, "level", ".level")?.ok_or((".level", missing("level")))?;
    let level = match level.to_ascii_lowercase().as_str() {
        "study" => Level::Study,
        "series" => Level::Series,
        "instance" => Level::Instance,
        _ => {
            let rule = "Input Dicom Tag Level is invalid. It must have value 'Study', 'Series' or \
                        'Instance'.";
            return Err((".level", rule.to_owned()));
        }
    };
    let unknown = "not eight hexadecimal digits or a keyword of an attribute (PS3.6)";
    let path = path(named).ok_or((".path", unknown.to_owned()))?;
    let vr = text(&entry, "vr", ".vr")?;
    let vr = vr.map(|text| text.to_ascii_uppercase().parse::<VR>()).transpose();
    let vr = vr.map_err(|_| (".vr", "not a value representation (PS3.5 §6.2)".to_owned()))?;
    let creator = text(&entry, "privatecreator", ".privateCreator")?;
    let (vr, creator) = match path.0.is_multiple_of(2) {
        true => (standard(path, vr, creator)?, None),
        false => private(path, vr, creator)?,
    };
    let fits = Matching::of(vr).is_some() && !matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR);
    if !fits {
        let rule = "the value representation is none of AE AS AT CS DA DS DT FD FL IS LO PN SH SL \
                    SS SV TM UC UI UL US UV";
        return Err((".vr", rule.to_owned()));
    }
    if COMPUTED.contains(&path) || attributes::by_tag(path).is_some_and(|row| row.column.is_some())
    {
        return Err((".path", format!("The query tag '{}' is already supported.", name(path))));
    }
    Ok(NewTag { path, creator, vr, level })
}

/// The text of a member; `None` where it is missing, null or blank.
fn text<'a>(
    entry: &'a Map<String, Value>,
    name: &str,
    member: &'static str,
) -> Result<Option<&'a str>, Wrong> {
    match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err((member, "not a text".to_owned())),
    }
}

fn standard(path: Tag, vr: Option<VR>, creator: Option<&str>) -> Result<VR, Wrong> {
    if creator.is_some() {
        return Err((".privateCreator", "only for a private attribute".to_owned()));
    }
    let known = attributes::vr_of(path).filter(|_| path.0 > 0x0002 && path.0 != 0xFFFE);
    let known = known.filter(|_| path.1 != 0);
    let known = known.ok_or((".path", "not an attribute of data sets (PS3.6)".to_owned()))?;
    if known == VR::SQ {
        return Err((".path", "a sequence cannot be an extended query tag".to_owned()));
    }
    // Of several that PS3.6 allows, numbers of 16 bits with and without sign match alike.
    let either = [VR::US, VR::SS];
    match vr {
        None => Ok(known),
        Some(vr) if vr == known || (either.contains(&vr) && either.contains(&known)) => Ok(vr),
        Some(_) => Err((".vr", format!("the attribute has value representation {known}"))),
    }
}

fn private(
    Tag(group, element): Tag,
    vr: Option<VR>,
    creator: Option<&str>,
) -> Result<(VR, Option<String>), Wrong> {
    if matches!(group, 1 | 3 | 5 | 7 | 0xFFFF) {
        return Err((".path", "no group of private attributes (PS3.5 §7.8)".to_owned()));
    }
    if (0x0010..=0x00FF).contains(&element) {
        let rule = "a private creator cannot be an extended query tag (PS3.5 §7.8.1)";
        return Err((".path", rule.to_owned()));
    }
    if element < 0x1000 {
        return Err((".path", "in no block that can be reserved (PS3.5 §7.8.1)".to_owned()));
    }
    let vr = vr.ok_or((".vr", "has to be there for a private attribute".to_owned()))?;
    if vr == VR::SQ {
        return Err((".vr", "a sequence cannot be an extended query tag".to_owned()));
    }
    let missing = "has to be there for a private attribute";
    let creator = creator.ok_or((".privateCreator", missing.to_owned()))?;
    let broken = creator.chars().count() > LONGEST_CREATOR
        || creator.contains('\\')
        || normalise::text(creator).is_err();
    if broken {
        return Err((".privateCreator", "not a valid value (PS3.5 §6.2, LO)".to_owned()));
    }
    Ok((vr, Some(creator.to_owned())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(entry: Value) -> (String, String) {
        let problem = read(json!([entry])).unwrap_err();
        let error = &problem.errors()[0];
        (error.field.to_string(), error.reason.to_string())
    }

    #[test]
    fn standard_and_private_attributes_are_read() {
        let body = json!([
            {"path": "00101010", "vr": "AS", "level": "Study"},
            {"Path": "SliceThickness", "LEVEL": "instance", "vr": null, "privateCreator": " "},
            {"path": "0023aB01", "vr": "ds", "level": "SERIES", "privateCreator": "ACME"},
            {"path": "00280106", "vr": "SS", "level": "instance"},
        ]);
        let tags = read(body).unwrap();
        let shown: Vec<_> = tags.iter().map(|t| (name(t.path), t.vr, t.level)).collect();
        let expected = [
            ("00101010", VR::AS, Level::Study),
            ("00180050", VR::DS, Level::Instance),
            ("0023AB01", VR::DS, Level::Series),
            ("00280106", VR::SS, Level::Instance),
        ];
        assert_eq!(shown, expected.map(|(path, vr, level)| (path.to_owned(), vr, level)));
        assert_eq!(tags[2].creator.as_deref(), Some("ACME"));
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_member_without_its_value() {
        for (entry, member) in [
            (json!({"level": "study"}), ".path"),
            (json!({"path": " ", "level": "study"}), ".path"),
            (json!({"path": 7, "level": "study"}), ".path"),
            (json!({"path": "00101010"}), ".level"),
            (json!({"path": "00101010", "level": "SECRET"}), ".level"),
            (json!({"path": "SECRET", "level": "study"}), ".path"),
            (json!({"path": "00101O10", "level": "study"}), ".path"),
            (json!({"path": "00109998", "level": "study"}), ".path"),
            (json!({"path": "00020010", "level": "study"}), ".path"),
            (json!({"path": "00100000", "level": "study"}), ".path"),
            (json!({"path": "00400275", "level": "series"}), ".path"),
            (json!({"path": "00101010", "vr": "DS", "level": "study"}), ".vr"),
            (json!({"path": "00101010", "vr": "SECRET", "level": "study"}), ".vr"),
            (json!({"path": "00104000", "level": "study"}), ".vr"),
            (json!({"path": "7FE00010", "level": "instance"}), ".vr"),
            (
                json!({"path": "00101010", "level": "study", "privateCreator": "A"}),
                ".privateCreator",
            ),
            (json!({"path": "00100020", "level": "study"}), ".path"),
            (json!({"path": "ModalitiesInStudy", "level": "study"}), ".path"),
            (json!({"path": "00231001", "level": "study", "privateCreator": "A"}), ".vr"),
            (json!({"path": "00231001", "level": "study", "vr": "LO"}), ".privateCreator"),
            (
                json!({"path": "00231001", "level": "study", "vr": "SQ", "privateCreator": "A"}),
                ".vr",
            ),
            (
                json!({"path": "00231001", "level": "study", "vr": "OB", "privateCreator": "A"}),
                ".vr",
            ),
            (
                json!({"path": "00230010", "level": "study", "vr": "LO", "privateCreator": "A"}),
                ".path",
            ),
            (
                json!({"path": "00230110", "level": "study", "vr": "LO", "privateCreator": "A"}),
                ".path",
            ),
            (
                json!({"path": "00071001", "level": "study", "vr": "LO", "privateCreator": "A"}),
                ".path",
            ),
            (
                json!({"path": "00231001", "level": "study", "vr": "LO", "privateCreator": "A\\B"}),
                ".privateCreator",
            ),
            (json!("SECRET"), ""),
        ] {
            let (field, reason) = refused(entry.clone());
            assert_eq!(field, format!("[0]{member}"), "{entry}: {reason}");
            assert!(!reason.contains("SECRET"), "{reason}");
        }
        let text = "The query tag '00100020' is already supported.";
        assert_eq!(refused(json!({"path": "PatientID", "level": "study"})).1, text);
        for body in [json!([]), json!({}), json!(null), json!("x")] {
            assert_eq!(read(body).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn an_attribute_is_named_once_in_whatever_spelling() {
        let private = |path, creator| json!({"path": path, "vr": "LO", "level": "study", "privateCreator": creator});
        for (one, other, allowed) in [
            (private("00231001", "A"), private("00231001", "A"), false),
            (private("00231001", "A"), private("00231101", "A"), false),
            (private("00231001", "A"), private("00231001", "B"), false),
            (private("00231001", "A"), private("00231101", "B"), true),
            (private("00231001", "A"), private("00231002", "A"), true),
        ] {
            assert_eq!(read(json!([one, other])).is_ok(), allowed, "{one} {other}");
        }
    }
}
