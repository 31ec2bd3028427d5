//! `[[store.coerce]]`: what attributes become when instances are stored.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{fields::Fields, reader::Reader};
use crate::{
    dicom::{
        Tag,
        coerce::{self, Change, Rule},
    },
    tenancy::PartitionId,
};

const KEY: &str = "store.coerce";

/// One rule, and whose it is.
#[derive(Clone, Debug)]
pub struct CoerceRule {
    /// `partitions`: where it holds; `None`: everywhere.
    pub partitions: Option<BTreeSet<PartitionId>>,
    /// `senders`: for whom it holds, as `issuer:subject`; `None`: for everybody.
    pub senders: Option<BTreeSet<String>>,
    /// `source`: (0400,0564) of what it changes; empty where it is not known.
    pub source: String,
    /// When it holds, and what it does.
    pub rule: Rule,
}

/// The rules, and what this system is called in what they change.
#[derive(Clone, Debug, Default)]
pub struct CoerceConfig {
    /// `store.coerce`, in their order.
    pub rules: Vec<CoerceRule>,
    /// `store.modifying_system`: (0400,0563).
    pub modifying_system: String,
}

impl CoerceConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let system = r.text("store.modifying_system");
        if !is_name(&system) || system.trim().is_empty() {
            r.refuse("store.modifying_system", "a text of 1 to 64 ASCII characters without \\");
        }
        let mut rules = Vec::new();
        for (at, table) in r.tables(KEY).unwrap_or_default().into_iter().enumerate() {
            match rule(format!("{KEY}[{at}]"), table) {
                Ok(rule) => rules.push(rule),
                Err(wrong) => wrong.into_iter().for_each(|what| r.conflict(what)),
            }
        }
        Self { rules, modifying_system: system }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\')
}

/// A rule, or all that is wrong with it; values are not repeated.
fn rule(at: String, table: &Table) -> Result<CoerceRule, Vec<String>> {
    let mut fields = Fields::new(at, table);
    let ids = "a list of ids of partitions";
    let partitions = fields.texts("partitions");
    let partitions: Option<BTreeSet<PartitionId>> =
        partitions.map(|listed| fields.read_each("partitions", &listed, ids).into_iter().collect());
    let senders = fields.texts("senders").map(|senders| senders.into_iter().collect());
    let source =
        fields.parsed("source", "a text of up to 64 ASCII characters without \\", |value| {
            value.as_str().filter(|text| is_name(text)).map(str::to_owned)
        });
    let when = fields.parsed(
        "when",
        "a table of texts or lists of texts by keywords of attributes of text in front of (0400,0000)",
        |value| {
            let entries = value.as_table()?.iter();
            let entry = |(name, value): (&String, &Value)| {
                Some((coerce::attribute(name)?, patterns(value)?))
            };
            entries.map(entry).collect::<Option<BTreeMap<Tag, Vec<String>>>>()
        },
    );
    let mut changes: Vec<(Tag, Change)> = Vec::new();
    changes.extend(mapped(&mut fields));
    changes.extend(valued(&mut fields, "set", Change::Set));
    changes.extend(valued(&mut fields, "prefix", Change::Prefix));
    changes.extend(valued(&mut fields, "suffix", Change::Suffix));
    let issuer = fields.parsed("issuer_of_patient_id", "a text of 1 to 64 characters", |value| {
        let text = value.as_str().filter(|text| coerce::fits(coerce::ISSUER, text))?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    });
    changes.extend(issuer.map(|issuer| (coerce::ISSUER, Change::Issuer(issuer))));
    if let Some(listed) = fields.texts("remove") {
        let tags: Option<Vec<Tag>> = listed.iter().map(|name| changeable(name)).collect();
        if tags.is_none() {
            fields.refuse("remove", &format!("a list of {ATTRIBUTES}"));
        }
        changes.extend(tags.unwrap_or_default().into_iter().map(|tag| (tag, Change::Remove)));
    }
    let tags: BTreeSet<Tag> = changes.iter().map(|(tag, _)| *tag).collect();
    if tags.len() < changes.len() {
        fields.conflict("an attribute can be changed in one way; another rule may change it again");
    }
    let wrong = fields.finish();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let rule = Rule { when: when.unwrap_or_default(), changes };
    Ok(CoerceRule { partitions, senders, source: source.unwrap_or_default(), rule })
}

const ATTRIBUTES: &str = "keywords of attributes of text in front of (0400,0000), but for UIDs of \
                          study, series, instance and SOP class";

fn changeable(name: &str) -> Option<Tag> {
    coerce::attribute(name).filter(|tag| coerce::may_change(*tag))
}

/// The changes of a table of texts by keywords.
fn valued(
    fields: &mut Fields,
    key: &'static str,
    change: fn(String) -> Change,
) -> Vec<(Tag, Change)> {
    let is_whole = key == "set";
    let expected = format!("a table of values that fit, by {ATTRIBUTES}");
    let read = fields.parsed(key, &expected, |value| {
        let entry = |(name, value): (&String, &Value)| {
            let (tag, text) = (changeable(name)?, value.as_str()?);
            let fits = match is_whole {
                true => text.is_empty() || coerce::fits(tag, text),
                // A part of a value need not be one.
                false => !text.is_empty() && !text.chars().any(|c| c.is_control() || c == '\\'),
            };
            fits.then(|| (tag, change(text.to_owned())))
        };
        value.as_table()?.iter().map(entry).collect::<Option<Vec<_>>>()
    });
    read.unwrap_or_default()
}

/// The changes of a table of tables: values by values, by keywords.
fn mapped(fields: &mut Fields) -> Vec<(Tag, Change)> {
    let expected = format!("a table of tables of values that fit by values, by {ATTRIBUTES}");
    let read = fields.parsed("map", &expected, |value| {
        let entry = |(name, value): (&String, &Value)| {
            let tag = changeable(name)?;
            let pair = |(from, to): (&String, &Value)| {
                let to = to.as_str().filter(|to| to.is_empty() || coerce::fits(tag, to))?;
                Some((from.clone(), to.to_owned()))
            };
            let map: Option<BTreeMap<_, _>> = value.as_table()?.iter().map(pair).collect();
            Some((tag, Change::Map(map?)))
        };
        value.as_table()?.iter().map(entry).collect::<Option<Vec<_>>>()
    });
    read.unwrap_or_default()
}

/// A text or a list of texts, which may be empty.
fn patterns(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(items) if !items.is_empty() => items.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CoerceRule, Vec<String>> {
        rule("store.coerce[0]".to_owned(), &text.parse().unwrap())
    }

    #[test]
    fn a_rule_says_where_when_and_what() {
        let one = read(
            "partitions = [\"North\"]
            senders = [\"certificate:CN=ct\"]
            source = \"Elsewhere\"
            issuer_of_patient_id = \"NORTH\"
            remove = \"PatientComments\"
            [when]
            Modality = [\"CT\", \"MR\"]
            InstitutionName = \"\"
            [set]
            InstitutionName = \"North\"
            [prefix]
            PatientID = \"N-\"
            [map.StationName]
            OLD = \"NEW\"",
        );
        let one = one.unwrap();
        assert!(one.partitions.unwrap().contains(&"north".parse().unwrap()));
        assert_eq!((one.senders.unwrap().len(), &*one.source), (1, "Elsewhere"));
        assert_eq!((one.rule.when.len(), one.rule.changes.len()), (2, 5));
        let empty = read("").unwrap();
        assert!(empty.partitions.is_none() && empty.rule.changes.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said_without_its_values() {
        for (text, part) in [
            ("partitions = [\"SE CRET\"]", "[0].partitions"),
            ("senders = []", ""),
            ("source = \"SECRET\\\\\"", "[0].source"),
            ("when = { Nothing = \"SECRET\" }", "[0].when"),
            ("when = { PixelData = \"SECRET\" }", "[0].when"),
            ("set = { StudyInstanceUID = \"1.2\" }", "[0].set"),
            ("set = { SOPInstanceUID = \"1.2\" }", "[0].set"),
            ("set = { StationName = \"SECRET is too long\" }", "[0].set"),
            ("prefix = { PatientID = \"\" }", "[0].prefix"),
            ("map = { PatientID = \"SECRET\" }", "[0].map"),
            ("remove = [\"SeriesInstanceUID\"]", "[0].remove"),
            ("issuer_of_patient_id = \"\"", "[0].issuer_of_patient_id"),
            ("perfix = { PatientID = \"N\" }", "did you mean prefix?"),
            ("set = { PatientID = \"N\" }\nremove = [\"PatientID\"]", "in one way"),
        ] {
            let why = read(text).err().unwrap_or_default().join("; ");
            assert!(why.contains(part) && !why.contains("SECRET"), "{text}: {why}");
        }
    }
}
