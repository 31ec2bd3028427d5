//! Coercion: rules that say what attributes of an instance become when it is stored (PS3.4
//! §B.4.1.3, PS3.18 §10.5.3).
//!
//! Holds: rules look at attributes of the data set itself, in front of (0400,0000), and never touch
//! what says which instance it is and where; they are applied one after another, each to what those
//! before it made; what they make of a file depends on the file and the rules alone, and a prefix or
//! suffix that is there is not put there again. Absent: whose rules they are, and writing the file
//! ([`super::edit`]).

use std::collections::BTreeMap;

use super::{
    Tag, Uid, VR, attributes,
    edit::{Edits, is_text},
    json, matching, normalise,
};

/// Which instance it is, of what kind, and where.
const IDENTITY: [Tag; 4] =
    [Tag(0x0008, 0x0016), Tag(0x0008, 0x0018), Tag(0x0020, 0x000D), Tag(0x0020, 0x000E)];
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
/// (0010,0021) Issuer of Patient ID.
pub const ISSUER: Tag = Tag(0x0010, 0x0021);
/// From this group on attributes are neither looked at nor touched.
const BEYOND: u16 = 0x0400;

/// What one attribute becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Values by values: those that are not listed stay.
    Map(BTreeMap<String, String>),
    /// This value, whatever it was.
    Set(String),
    /// This before each value.
    Prefix(String),
    /// This behind each value.
    Suffix(String),
    /// This value, where there is none; of (0010,0021), and where there is a Patient ID.
    Issuer(String),
    /// It is not there any more.
    Remove,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Attributes, and patterns of which one value must match one: `*` any characters, `?` any one.
    /// The empty pattern matches an attribute without a value.
    pub when: BTreeMap<Tag, Vec<String>>,
    /// What becomes of which attribute, in the order in which it is done.
    pub changes: Vec<(Tag, Change)>,
}

/// The attribute of a keyword of PS3.6 or of eight hexadecimal digits, if rules may name it: it is
/// one of text.
pub fn attribute(name: &str) -> Option<Tag> {
    let tag = attributes::tag_of_keyword(name).or_else(|| json::tag_of(name))?;
    let vr = attributes::exact_vr_of(tag).filter(|_| tag.group() % 2 == 0)?;
    (is_text(vr) && tag.group() < BEYOND && Edits::allows(tag)).then_some(tag)
}

/// Whether rules may change an attribute that they may name.
pub fn may_change(tag: Tag) -> bool {
    !IDENTITY.contains(&tag)
}

/// Whether an attribute may have this value (PS3.5 §6.2).
pub fn fits(tag: Tag, value: &str) -> bool {
    let Some(vr) = attributes::exact_vr_of(tag) else { return false };
    let is_within = |most: usize| value.chars().count() <= most;
    let is_plain = !value.chars().any(|c| c.is_control() || c == '\\');
    let is_upper =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" _".contains(&byte);
    is_plain
        && match vr {
            VR::AE => is_within(16) && value.is_ascii(),
            VR::AS => value.len() == 4 && value.is_ascii(),
            VR::CS => is_within(16) && value.bytes().all(is_upper),
            VR::DA => normalise::date(value).is_ok(),
            VR::TM => normalise::time(value).is_ok(),
            VR::DT => normalise::date_time(value).is_ok(),
            VR::DS => is_within(16) && normalise::decimal(value).is_ok(),
            VR::IS => is_within(12) && normalise::integer(value).is_ok(),
            VR::UI => value.parse::<Uid>().is_ok(),
            VR::SH => is_within(16),
            VR::PN => value.split('=').all(|group| group.chars().count() <= 64),
            VR::LO => is_within(64),
            VR::ST => is_within(1024),
            _ => is_within(10240) && (vr != VR::UR || value.is_ascii()),
        }
}

impl Rule {
    /// The last attribute that it looks at or touches.
    pub fn last(&self) -> Option<Tag> {
        let changed = self.changes.iter().map(|(tag, change)| match change {
            Change::Issuer(_) => (*tag).max(PATIENT_ID),
            _ => *tag,
        });
        self.when.keys().copied().chain(changed).max()
    }
}

/// What rules make of an instance whose attributes `values` tells.
pub fn edits(rules: &[Rule], values: impl Fn(Tag) -> Option<Vec<String>>) -> Edits {
    let mut made: BTreeMap<Tag, Option<Vec<String>>> = BTreeMap::new();
    for rule in rules {
        let now = |made: &BTreeMap<Tag, Option<Vec<String>>>, tag| {
            made.get(&tag).cloned().unwrap_or_else(|| values(tag))
        };
        let holds = |(tag, patterns): (&Tag, &Vec<String>)| {
            let values = now(&made, *tag).unwrap_or_default();
            let is_empty = values.iter().all(String::is_empty);
            patterns.iter().any(|pattern| match pattern.is_empty() {
                true => is_empty,
                false => values.iter().any(|value| matching::is_like(pattern, value)),
            })
        };
        if !rule.when.iter().all(holds) {
            continue;
        }
        for (tag, change) in &rule.changes {
            let old = now(&made, *tag);
            let has_value = old.iter().flatten().any(|value| !value.is_empty());
            let new = match change {
                Change::Set(value) => Some(vec![value.clone()]),
                Change::Remove => None,
                Change::Map(map) => each(old, |value| map.get(value).cloned()),
                Change::Prefix(text) => {
                    each(old, |value| (!value.starts_with(text)).then(|| format!("{text}{value}")))
                }
                Change::Suffix(text) => {
                    each(old, |value| (!value.ends_with(text)).then(|| format!("{value}{text}")))
                }
                Change::Issuer(issuer) => {
                    let id = now(&made, PATIENT_ID).unwrap_or_default();
                    let has_id = id.iter().any(|id| !id.is_empty());
                    if !has_value && has_id { Some(vec![issuer.clone()]) } else { old }
                }
            };
            made.insert(*tag, new);
        }
    }
    let mut edits = Edits::default();
    for (tag, new) in made {
        let Some(vr) = attributes::exact_vr_of(tag) else { continue };
        match new {
            _ if new == values(tag) => {}
            Some(new) => edits.set_text(tag, vr, &new.join("\\")),
            None => edits.remove(tag),
        }
    }
    edits
}

/// Values, changed where `change` says so; those that are empty stay.
fn each(
    values: Option<Vec<String>>,
    change: impl Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let changed = |value: String| match value.is_empty() {
        true => value,
        false => change(&value).unwrap_or(value),
    };
    values.map(|values| values.into_iter().map(changed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Tag = Tag(0x0010, 0x0010);
    const INSTITUTION: Tag = Tag(0x0008, 0x0080);
    const STATION: Tag = Tag(0x0008, 0x1010);

    fn values(tag: Tag) -> Option<Vec<String>> {
        let value = match tag {
            NAME => "DOE^JANE",
            PATIENT_ID => "4711",
            STATION => "CT1\\CT2",
            INSTITUTION => "",
            _ => return None,
        };
        Some(value.split('\\').map(str::to_owned).collect())
    }

    fn rule(when: &[(Tag, &str)], changes: &[(Tag, Change)]) -> Rule {
        let when = when.iter().map(|(tag, pattern)| (*tag, vec![(*pattern).to_owned()]));
        Rule { when: when.collect(), changes: changes.to_vec() }
    }

    fn expected(set: &[(Tag, VR, &str)]) -> Edits {
        let mut edits = Edits::default();
        set.iter().for_each(|(tag, vr, text)| edits.set_text(*tag, *vr, text));
        edits
    }

    #[test]
    fn each_change_does_what_it_says() {
        let check = |tag, change: Change, vr, new: &str| {
            let edits = edits(&[rule(&[], &[(tag, change)])], values);
            assert_eq!(edits, expected(&[(tag, vr, new)]), "{tag}");
        };
        check(INSTITUTION, Change::Set("North".into()), VR::LO, "North");
        check(PATIENT_ID, Change::Prefix("N-".into()), VR::LO, "N-4711");
        check(STATION, Change::Suffix("N".into()), VR::SH, "CT1N\\CT2N");
        check(ISSUER, Change::Issuer("NORTH".into()), VR::LO, "NORTH");
        let map = BTreeMap::from([("CT2".to_owned(), "SCAN2".to_owned())]);
        check(STATION, Change::Map(map), VR::SH, "CT1\\SCAN2");
        let mut removed = Edits::default();
        removed.remove(NAME);
        assert_eq!(edits(&[rule(&[], &[(NAME, Change::Remove)])], values), removed);
    }

    #[test]
    fn what_is_so_already_is_not_changed() {
        let check = |tag, change| {
            assert_eq!(edits(&[rule(&[], &[(tag, change)])], values), Edits::default(), "{tag}");
        };
        check(NAME, Change::Set("DOE^JANE".into()));
        check(PATIENT_ID, Change::Prefix("47".into()));
        check(STATION, Change::Map(BTreeMap::new()));
        check(INSTITUTION, Change::Prefix("X".into()));
        check(Tag(0x0008, 0x0070), Change::Remove);
        check(Tag(0x0008, 0x0070), Change::Suffix("X".into()));
    }

    #[test]
    fn an_issuer_is_given_to_an_id_that_has_none() {
        let issuer = [rule(&[], &[(ISSUER, Change::Issuer("NORTH".into()))])];
        let has = |id: &'static str, issuer: &'static str| {
            move |tag| match tag {
                PATIENT_ID => Some(vec![id.to_owned()]),
                ISSUER => Some(vec![issuer.to_owned()]),
                _ => None,
            }
        };
        assert_eq!(edits(&issuer, has("1", "SOUTH")), Edits::default());
        assert_eq!(edits(&issuer, has("", "")), Edits::default());
        assert_eq!(edits(&issuer, has("1", "")), expected(&[(ISSUER, VR::LO, "NORTH")]));
        assert_eq!(issuer[0].last(), Some(ISSUER));
    }

    #[test]
    fn rules_hold_where_all_their_conditions_do_and_see_what_was_made_before() {
        let set = |value: &str| [(INSTITUTION, Change::Set(value.to_owned()))];
        let check = |when: &[(Tag, &str)], holds| {
            let edits = edits(&[rule(when, &set("X"))], values);
            assert_eq!(edits != Edits::default(), holds, "{when:?}");
        };
        check(&[(STATION, "CT2")], true);
        check(&[(STATION, "CT*"), (NAME, "DOE^*")], true);
        check(&[(STATION, "CT?"), (NAME, "ROE^*")], false);
        check(&[(STATION, "ct2")], false);
        check(&[(INSTITUTION, ""), (Tag(0x0008, 0x0070), "")], true);
        check(&[(NAME, "")], false);
        let rules = [rule(&[], &set("A")), rule(&[(INSTITUTION, "A")], &set("B"))];
        assert_eq!(edits(&rules, values), expected(&[(INSTITUTION, VR::LO, "B")]));
    }

    #[test]
    fn names_and_values_that_rules_may_have() {
        assert_eq!(attribute("PatientID"), Some(PATIENT_ID));
        assert_eq!(attribute("00100020"), Some(PATIENT_ID));
        for name in [
            "PixelData",
            "Rows",
            "ReferencedStudySequence",
            "SpecificCharacterSet",
            "00090010",
            "OriginalAttributesSequence",
            "nothing",
            "00080000",
            "00020010",
        ] {
            assert_eq!(attribute(name), None, "{name}");
        }
        assert!(attribute("SOPInstanceUID").is_some_and(|tag| !may_change(tag)));
        for (name, value, good) in [
            ("PatientID", "N-1", true),
            ("PatientID", "a\\b", false),
            ("StationName", "seventeen letters", false),
            ("Modality", "CT", true),
            ("Modality", "ct", false),
            ("StudyDate", "20260101", true),
            ("StudyDate", "20261301", false),
            ("FrameOfReferenceUID", "1.2", true),
            ("FrameOfReferenceUID", "x", false),
            ("PatientName", "A^B=C^D", true),
        ] {
            assert_eq!(fits(attribute(name).unwrap(), value), good, "{name} {value}");
        }
    }
}
