//! Writes what stays of a data set: values changed, attributes in order, the method added.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Dates, Profile,
    dates::shifted,
    dummy::{REMOVED, dummy},
    engine::NewIdentity,
    pseudonym::Patient,
    report,
    rules::{self, Action},
    safe_private,
    scrub::{Facts, Node},
    text,
};
use crate::dicom::{
    DicomError, Tag, Uid, VR,
    charset::Charset,
    explicit::{Explicit, Identity},
    reader::{ElementHeader, FileMeta, Sink as _},
};

/// What we are, for De-identification Method (0012,0063).
const METHOD: &str = concat!("Collimator ", env!("CARGO_PKG_VERSION"), ", PS3.15 Annex E");
/// Longest safe private value, in bytes: numbers and codes are short.
const LONGEST_PRIVATE: usize = 1024;

/// Longest value that is made anew, in bytes: what is longer than a short length can tell was never
/// meant to be a list of UIDs, dates or words.
const LONGEST: usize = 65534;

/// A data set as it was heard.
pub(super) struct Held<'a> {
    /// Most bytes to write.
    pub(super) most: u64,
    pub(super) level: Vec<Node>,
    pub(super) values: &'a [u8],
}

struct Context<'a> {
    profile: &'a Profile,
    facts: &'a Facts,
    patient: Patient,
    charset: Charset,
    is_plain: bool,
    values: &'a [u8],
    most: u64,
    written: Cell<u64>,
}

/// Writes File Meta Information and data set; pixel data may follow.
pub(super) fn begin(
    profile: &Profile,
    facts: &Facts,
    held: Held<'_>,
    meta: &FileMeta,
) -> Result<(Explicit, NewIdentity), DicomError> {
    let needed = |text: &str, tag: Tag| {
        if text.is_empty() {
            return Err(DicomError::Missing { tag });
        }
        text.parse::<Uid>().map_err(|_| DicomError::InvalidUid { tag })
    };
    let sop_class = needed(&facts.appearance.sop_class, Tag(0x0008, 0x0016))?;
    let instance = profile.uid(&needed(&facts.instance, Tag(0x0008, 0x0018))?);
    let optional = |text: &str| text.parse().ok().map(|uid| profile.uid(&uid));
    let patient = patient(profile, facts);
    let identity = NewIdentity {
        sop_class: sop_class.clone(),
        study: optional(&facts.study),
        series: optional(&facts.series),
        instance: instance.clone(),
        patient_id: if facts.patient_id.is_empty() { String::new() } else { patient.id() },
    };
    let context = Context {
        profile,
        facts,
        patient,
        charset: facts.charset.unwrap_or(Charset::DEFAULT),
        is_plain: rules::is_plain(&facts.appearance.sop_class),
        values: held.values,
        most: held.most,
        written: Cell::new(0),
    };
    let of_file = Identity { sop_class, sop_instance: instance };
    let mut writer = Explicit::rewriting(of_file, meta.transfer_syntax.clone());
    writer.data_set_start(meta)?;
    let mut level = held.level;
    level.extend(methods(profile));
    context.level(&mut writer, level)?;
    Ok((writer, identity))
}

fn patient(profile: &Profile, facts: &Facts) -> Patient {
    let Facts { patient_id, issuer, patient_name, birth_date, study, .. } = facts;
    if !patient_id.is_empty() {
        return profile.pseudonyms.patient(&[b"id", patient_id, issuer]);
    }
    if !patient_name.is_empty() {
        return profile.pseudonyms.patient(&[b"name", patient_name, birth_date]);
    }
    profile.pseudonyms.patient(&[b"study", study.as_bytes()])
}

/// What says that the data set was de-identified, and how (PS3.3 §C.7.1.1).
fn methods(profile: &Profile) -> [Node; 4] {
    let options = &profile.options;
    let made = |tag, vr, value: &str| Node::Made { tag, vr, value: value.as_bytes().to_vec() };
    let items = options.methods().map(|(value, meaning)| report::code(value, "DCM", meaning));
    let items = items.collect();
    let times = match options.dates {
        Dates::Remove => "REMOVED",
        Dates::Full => "UNMODIFIED",
        Dates::Modified => "MODIFIED",
    };
    [
        made(Tag(0x0012, 0x0062), VR::CS, "YES"),
        made(Tag(0x0012, 0x0063), VR::LO, METHOD),
        Node::Items { tag: Tag(0x0012, 0x0064), action: Action::Keep, items },
        made(Tag(0x0028, 0x0303), VR::CS, times),
    ]
}

impl Context<'_> {
    /// Writes the attributes of a data set or item: ascending, each one once.
    fn level(&self, writer: &mut Explicit, mut nodes: Vec<Node>) -> Result<(), DicomError> {
        nodes.sort_by_key(Node::tag);
        nodes.dedup_by_key(|node| node.tag());
        let private = self.safe_private(&nodes);
        for node in nodes {
            match node {
                Node::Made { tag, vr, value } => self.write(writer, tag, vr, &value)?,
                Node::Value { tag, rule, at, length } => {
                    if rule.action == Action::Private && !private.contains(&tag) {
                        continue;
                    }
                    let value = self.bytes(at, length);
                    if let Some(value) = self.value(tag, rule.action, rule.vr, value) {
                        self.write(writer, tag, rule.vr, &value)?;
                    }
                }
                Node::Items { tag, action, items } => self.items(writer, tag, action, items)?,
            }
        }
        Ok(())
    }

    /// Writes an element: what is made of short values can be long.
    fn write(
        &self,
        writer: &mut Explicit,
        tag: Tag,
        vr: VR,
        value: &[u8],
    ) -> Result<(), DicomError> {
        self.written.set(self.written.get() + value.len() as u64);
        if self.written.get() > self.most {
            let limit = self.most / 2;
            return Err(DicomError::Limit { key: "limits.header_bytes", limit });
        }
        writer.write_element(tag, vr, value);
        Ok(())
    }

    fn bytes(&self, at: u32, length: u32) -> &[u8] {
        let at = at as usize;
        self.values.get(at..at.saturating_add(length as usize)).unwrap_or_default()
    }

    fn items(
        &self,
        writer: &mut Explicit,
        tag: Tag,
        action: Action,
        mut items: Vec<Vec<Node>>,
    ) -> Result<(), DicomError> {
        match action {
            Action::DummyItem => items = vec![report::dummy_item(tag)],
            Action::Content => {
                let retain = self.profile.options.retain_patient_characteristics;
                items.retain_mut(|item| report::clean_content(item, self.values, retain));
            }
            Action::Graphics { keep } => {
                items.iter_mut().for_each(|item| report::clean_graphics(item, keep));
            }
            _ => {}
        }
        let header = ElementHeader { tag, vr: VR::SQ, length: None, offset: 0 };
        writer.sequence_start(&header)?;
        for mut item in items {
            report::clean_meaning(&mut item, self.values);
            writer.item_start()?;
            self.level(writer, item)?;
            writer.item_end()?;
        }
        writer.sequence_end()
    }

    /// What a value becomes; `None`: it goes.
    fn value<'v>(
        &self,
        tag: Tag,
        action: Action,
        vr: VR,
        value: &'v [u8],
    ) -> Option<Cow<'v, [u8]>> {
        let dummy = || Cow::Borrowed(dummy(vr));
        let is_made = !matches!(action, Action::Keep | Action::Private);
        let value = if is_made && value.len() > LONGEST { &[] } else { value };
        Some(match action {
            Action::Keep if matches!(vr, VR::DS | VR::IS) && !is_number(value) => {
                Cow::Borrowed(&[])
            }
            Action::Keep => Cow::Borrowed(value),
            Action::Private if value.len() <= LONGEST_PRIVATE => Cow::Borrowed(value),
            Action::Private | Action::Remove => return None,
            Action::DummyOrRemove if self.is_plain => return None,
            Action::DummyOrEmpty if self.is_plain => Cow::Borrowed(&[]),
            Action::Empty => Cow::Borrowed(&[]),
            Action::Dummy | Action::DummyOrRemove | Action::DummyOrEmpty => dummy(),
            Action::Uid => self.uids(value, is_well_known),
            Action::VocabularyUid => self.uids(value, is_public),
            Action::Shift => {
                let text = std::str::from_utf8(value).ok();
                match text.and_then(|text| shifted(vr, text, self.patient.days)) {
                    Some(moved) => Cow::Owned(moved.into_bytes()),
                    None => dummy(),
                }
            }
            Action::Meaning if !text::tells(&self.charset, value, &self.facts.telling) => {
                Cow::Borrowed(value)
            }
            Action::Clean | Action::CleanOrDummy | Action::Meaning => {
                let cleaned = text::cleaned(&self.charset, value, &self.facts.telling);
                if cleaned.is_empty() && (action != Action::Clean || tag == rules::TEXT_VALUE) {
                    Cow::Borrowed(REMOVED.as_bytes())
                } else {
                    Cow::Owned(cleaned.into_bytes())
                }
            }
            Action::Pseudonym if is_blank(value) => Cow::Borrowed(&[]),
            Action::Pseudonym => Cow::Owned(self.pseudonym(tag, value).into_bytes()),
            // Of sequences.
            Action::Listed | Action::DummyItem | Action::Content | Action::Graphics { .. } => {
                return None;
            }
        })
    }

    /// An ID in an item may be that of somebody else.
    fn pseudonym(&self, tag: Tag, value: &[u8]) -> String {
        let value = bare(value);
        if tag == rules::PATIENT_ID && value != self.facts.patient_id {
            return self.profile.pseudonyms.patient(&[b"id", value, &self.facts.issuer]).id();
        }
        if tag == rules::PATIENT_NAME && value != self.facts.patient_name {
            return self.profile.pseudonyms.patient(&[b"name", value]).id();
        }
        self.patient.id()
    }

    fn uids<'v>(&self, value: &'v [u8], stays: fn(&str) -> bool) -> Cow<'v, [u8]> {
        let text = String::from_utf8_lossy(value);
        let other = |uid: &str| {
            let uid = uid.trim_matches([' ', '\0']);
            if uid.is_empty() || stays(uid) {
                return uid.to_owned();
            }
            self.profile.pseudonyms.uid(uid.as_bytes())
        };
        let others: Vec<String> = text.split('\\').map(other).collect();
        Cow::Owned(others.join("\\").into_bytes())
    }

    /// The private attributes of a level that stay: safe ones, and creators that have such.
    fn safe_private(&self, nodes: &[Node]) -> BTreeSet<Tag> {
        let private = nodes.iter().filter_map(|node| match node {
            Node::Value { tag, rule, at, length } if rule.action == Action::Private => {
                Some((*tag, self.bytes(*at, *length)))
            }
            _ => None,
        });
        let private: BTreeMap<Tag, &[u8]> = private.collect();
        let mut safe = BTreeSet::new();
        for (tag, value) in &private {
            let creator = Tag(tag.group(), tag.element() >> 8);
            if creator.element() == 0 || value.len() > LONGEST_PRIVATE {
                continue;
            }
            let name = private
                .get(&creator)
                .and_then(|name| std::str::from_utf8(name).ok())
                .unwrap_or_default();
            let low = (tag.element() & 0xFF) as u8;
            if safe_private::is_safe(name.trim_matches([' ', '\0']), tag.group(), low) {
                safe.extend([creator, *tag]);
            }
        }
        safe
    }
}

/// Coordinate systems and clocks that everybody has (PS3.6 Tables ).
fn is_well_known(uid: &str) -> bool {
    let atlas = uid.strip_prefix("1.2.840.10008.1.4.1.");
    let is_atlas = |number: &str| {
        (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    };
    uid == "1.2.840.10008.15.1.1" || atlas.is_some_and(is_atlas)
}

/// What DICOM or HL7 gave out: coding schemes, context groups, palettes.
fn is_public(uid: &str) -> bool {
    let is_uid = uid.parse::<Uid>().is_ok();
    is_uid && (uid.starts_with("1.2.840.10008.") || uid.starts_with("2.16.840.1.113883.6."))
}

/// A value without what pads it.
pub(super) fn bare(value: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = value.iter().position(|byte| !is_padding(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_padding(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

fn is_blank(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' ' | b'^' | b'=' | 0))
}

fn is_number(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE\\ \0".contains(byte))
}
