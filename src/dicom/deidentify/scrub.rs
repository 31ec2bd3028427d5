//! Hears a data set, holds what stays of it, and writes it anew once its pixel data begins.
//!
//! Holds: what an attribute becomes is decided when it comes, before its value is kept; values are
//! changed when all are there, since the patient may be told behind dates. Nothing is written before
//! the instance was found to be one that may be given.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    burnt::{Appearance, Refusal},
    engine::NewIdentity,
    profile::Profile,
    rules::{self, Action, Rule},
    text::Telling,
    write,
};
use crate::dicom::{
    DicomError, Limits, Tag, Uid, VR,
    charset::Charset,
    explicit::Explicit,
    reader::{ElementHeader, FileMeta, Sink},
};

/// What an attribute takes in memory besides its value, in bytes.
const NODE: u64 = 40;

/// An attribute that stays, in some form.
#[derive(Debug)]
pub(super) enum Node {
    /// A value: `length` bytes from `at` on of all values.
    Value { tag: Tag, rule: Rule, at: u32, length: u32 },
    /// A value that did not come but was made.
    Made { tag: Tag, vr: VR, value: Vec<u8> },
    /// A sequence.
    Items { tag: Tag, action: Action, items: Vec<Vec<Node>> },
}

impl Node {
    pub(super) fn tag(&self) -> Tag {
        match self {
            Self::Value { tag, .. } | Self::Made { tag, .. } | Self::Items { tag, .. } => *tag,
        }
    }
}

/// What has to be known of the data set before any of it is written.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) appearance: Appearance,
    pub(super) telling: Telling,
    pub(super) charset: Option<Charset>,
    pub(super) study: String,
    pub(super) series: String,
    pub(super) instance: String,
    pub(super) patient_id: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) patient_name: Vec<u8>,
    pub(super) birth_date: Vec<u8>,
}

/// A sequence that is open and stays.
struct Open {
    tag: Tag,
    action: Action,
    /// Only what the table names stays in it.
    is_listed: bool,
    around: Vec<Node>,
    items: Vec<Vec<Node>>,
}

enum Bulk {
    Drop,
    Hold(ElementHeader, Rule, usize),
    Pass,
}

/// The sink.
pub(super) struct Scrub {
    profile: Arc<Profile>,
    /// That of the file as it is stored.
    stored_as: Uid,
    most_held: u64,
    nodes: u64,
    meta: Option<FileMeta>,
    values: Vec<u8>,
    level: Vec<Node>,
    open: Vec<Open>,
    /// Sequences that are open and do not stay.
    dropped: u32,
    bulk: Bulk,
    facts: Facts,
    writer: Option<Explicit>,
    /// Offset of the first byte behind a native value of pixel data.
    pub(super) pixels_end: Option<u64>,
    pub(super) refusal: Option<Refusal>,
    pub(super) identity: Option<NewIdentity>,
}

impl Scrub {
    pub(super) fn new(profile: Arc<Profile>, stored_as: Uid, limits: Limits) -> Self {
        Self {
            profile,
            stored_as,
            most_held: limits.header_bytes.saturating_mul(2).min(u64::from(u32::MAX)),
            nodes: 0,
            meta: None,
            values: Vec::new(),
            level: Vec::new(),
            open: Vec::new(),
            dropped: 0,
            bulk: Bulk::Drop,
            facts: Facts::default(),
            writer: None,
            pixels_end: None,
            refusal: None,
            identity: None,
        }
    }

    /// The next piece of output.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.writer.as_mut()?.take()
    }

    /// What was written and not taken, to the last byte.
    pub(super) fn flush(&mut self) -> Vec<Bytes> {
        self.writer.as_mut().map(|writer| writer.flush().collect()).unwrap_or_default()
    }

    /// The data set ended: what the instance is called, and the rest of the output.
    pub(super) fn end(&mut self) -> Result<(NewIdentity, Vec<Bytes>), DicomError> {
        self.commit()?;
        let identity = self.identity.clone().ok_or(DicomError::NotDicom)?;
        Ok((identity, self.flush()))
    }

    fn refuse<T>(&mut self, refusal: Refusal) -> Result<T, DicomError> {
        self.refusal = Some(refusal);
        // Not told to anybody: the refusal is.
        Err(DicomError::Malformed { at: 0, what: "refused" })
    }

    /// Whether what comes is part of a data set that is not written yet, and is not dropped.
    fn is_wanted(&mut self, tag: Tag) -> Result<bool, DicomError> {
        if self.writer.is_none() {
            return Ok(self.dropped == 0);
        }
        if self.open.is_empty() && self.dropped == 0 && tag < Tag(0x7FE0, 0x0000) {
            return self.refuse(Refusal::Order);
        }
        Ok(false)
    }

    fn is_pixels(&self, tag: Tag) -> bool {
        let is_top = self.open.is_empty() && self.dropped == 0;
        is_top && self.writer.is_none() && matches!(tag, Tag(0x7FE0, 0x0008..=0x0010))
    }

    fn rule(&self, tag: Tag, vr: VR) -> Rule {
        let is_listed = self.open.last().is_some_and(|open| open.is_listed);
        rules::rule(&self.profile.options, tag, vr, is_listed)
    }

    /// Counts a node, and `length` bytes of its value.
    fn count(&mut self, length: usize) -> Result<(), DicomError> {
        self.nodes += 1;
        let held = self.nodes * NODE + (self.values.len() + length) as u64;
        if held > self.most_held {
            let limit = self.most_held / 2;
            return Err(DicomError::Limit { key: "limits.header_bytes", limit });
        }
        Ok(())
    }

    fn hold(&mut self, tag: Tag, rule: Rule, value: &[u8]) -> Result<(), DicomError> {
        self.count(value.len())?;
        let at = self.values.len() as u32;
        self.values.extend_from_slice(value);
        self.level.push(Node::Value { tag, rule, at, length: value.len() as u32 });
        Ok(())
    }

    /// Takes note of what an attribute says, whatever becomes of it.
    fn note(&mut self, tag: Tag, vr: VR, value: &[u8]) {
        let facts = &mut self.facts;
        let tells = matches!(
            tag,
            Tag(0x0008, 0x0050 | 0x0080 | 0x1010)
                | Tag(0x0010, 0x0020 | 0x1000 | 0x1040 | 0x2154 | 0x1050)
                | Tag(0x0020, 0x0010)
                | Tag(0x0038, 0x0010 | 0x0060 | 0x0300)
        );
        if vr == VR::PN || tells {
            facts.telling.add(value);
        }
        if !self.open.is_empty() || self.dropped > 0 {
            return;
        }
        let text = || String::from_utf8_lossy(value).trim_matches([' ', '\0']).to_owned();
        // Of one that occurs twice the first counts, as it does in what is written.
        let say = |slot: &mut String| {
            if slot.is_empty() {
                *slot = text();
            }
        };
        let keep = |slot: &mut Vec<u8>| {
            if slot.is_empty() {
                slot.extend_from_slice(write::bare(value));
            }
        };
        match tag {
            Tag(0x0008, 0x0005) if facts.charset.is_none() => {
                facts.charset = Some(Charset::from_value(value).0);
            }
            Tag(0x0008, 0x0008) => say(&mut facts.appearance.image_type),
            Tag(0x0008, 0x0016) => say(&mut facts.appearance.sop_class),
            Tag(0x0008, 0x0018) => say(&mut facts.instance),
            Tag(0x0008, 0x0060) => say(&mut facts.appearance.modality),
            Tag(0x0008, 0x0064) => facts.appearance.is_captured = true,
            Tag(0x0010, 0x0010) => keep(&mut facts.patient_name),
            Tag(0x0010, 0x0020) => keep(&mut facts.patient_id),
            Tag(0x0010, 0x0021) => keep(&mut facts.issuer),
            Tag(0x0010, 0x0030) => keep(&mut facts.birth_date),
            Tag(0x0020, 0x000D) => say(&mut facts.study),
            Tag(0x0020, 0x000E) => say(&mut facts.series),
            Tag(0x0028, 0x0301) => say(&mut facts.appearance.burnt_in),
            Tag(0x0028, 0x0302) => say(&mut facts.appearance.features),
            // Overlay Bits Allocated: those of the pixels, or 1.
            Tag(0x6000..=0x60FF, 0x0100) if value.first_chunk() != Some(&[1, 0]) => {
                facts.appearance.has_embedded_overlay = true;
            }
            _ => {}
        }
    }

    /// Writes what was held, unless that was done.
    fn commit(&mut self) -> Result<(), DicomError> {
        if self.writer.is_some() {
            return Ok(());
        }
        let burnt_in = self.profile.options.burnt_in;
        if let Err(refusal) = self.facts.appearance.check(burnt_in, &self.stored_as) {
            return self.refuse(refusal);
        }
        let Some(meta) = &self.meta else { return Err(DicomError::NotDicom) };
        let (level, values) = (std::mem::take(&mut self.level), &self.values);
        let held = write::Held { most: self.most_held, level, values };
        let (writer, identity) = write::begin(&self.profile, &self.facts, held, meta)?;
        self.writer = Some(writer);
        self.identity = Some(identity);
        self.values = Vec::new();
        Ok(())
    }

    /// The pixel data begins: what it is written to.
    fn pixels(&mut self) -> Result<&mut Explicit, DicomError> {
        self.facts.appearance.has_pixels = true;
        self.commit()?;
        self.writer.as_mut().ok_or(DicomError::NotDicom)
    }
}

impl Sink for Scrub {
    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        self.meta = Some(meta.clone());
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        if self.is_pixels(header.tag) {
            return self.pixels()?.element(header, value);
        }
        let is_wanted = self.is_wanted(header.tag)?;
        if self.writer.is_some() {
            return Ok(());
        }
        self.note(header.tag, header.vr, value);
        if is_wanted {
            let rule = self.rule(header.tag, header.vr);
            if rule.action != Action::Remove {
                return self.hold(header.tag, rule, value);
            }
        }
        Ok(())
    }

    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        if self.is_pixels(header.tag) {
            self.pixels()?.bulk_start(header)?;
            // One of odd length is padded.
            let length = header.length.filter(|length| length.is_multiple_of(2));
            self.pixels_end = length.map(|length| header.offset + u64::from(length));
            self.bulk = Bulk::Pass;
            return Ok(());
        }
        self.bulk = Bulk::Drop;
        if self.is_wanted(header.tag)? {
            let rule = self.rule(header.tag, header.vr);
            if rule.action != Action::Remove {
                self.bulk = Bulk::Hold(*header, rule, self.values.len());
            }
        }
        Ok(())
    }

    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        match (&self.bulk, &mut self.writer) {
            (Bulk::Pass, Some(writer)) => writer.bulk_chunk(bytes),
            (Bulk::Hold(..), _) => {
                self.count(bytes.len())?;
                self.nodes -= 1;
                self.values.extend_from_slice(bytes);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bulk_end(&mut self) -> Result<(), DicomError> {
        match (std::mem::replace(&mut self.bulk, Bulk::Drop), &mut self.writer) {
            (Bulk::Pass, Some(writer)) => writer.bulk_end(),
            (Bulk::Hold(header, rule, at), _) => {
                self.count(0)?;
                let length = (self.values.len() - at) as u32;
                let at = at as u32;
                self.level.push(Node::Value { tag: header.tag, rule, at, length });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        let tag = header.tag;
        if !self.is_wanted(tag)? {
            self.dropped += 1;
            return Ok(());
        }
        // One that came as UN was looked into.
        let Rule { action, .. } = self.rule(tag, VR::SQ);
        match action {
            Action::Keep | Action::Listed | Action::Content | Action::Graphics { .. } => {
                self.count(0)?;
                let is_listed =
                    action == Action::Listed || self.open.last().is_some_and(|open| open.is_listed);
                let around = std::mem::take(&mut self.level);
                self.open.push(Open { tag, action, is_listed, around, items: Vec::new() });
            }
            Action::Empty | Action::DummyItem => {
                self.count(0)?;
                self.level.push(Node::Items { tag, action, items: Vec::new() });
                self.dropped += 1;
            }
            _ => self.dropped += 1,
        }
        Ok(())
    }

    fn item_start(&mut self) -> Result<(), DicomError> {
        if self.dropped == 0 { self.count(0) } else { Ok(()) }
    }

    fn item_end(&mut self) -> Result<(), DicomError> {
        if self.dropped == 0
            && let Some(open) = self.open.last_mut()
        {
            open.items.push(std::mem::take(&mut self.level));
        }
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), DicomError> {
        if self.dropped > 0 {
            self.dropped -= 1;
            return Ok(());
        }
        if let Some(open) = self.open.pop() {
            self.level = open.around;
            let Open { tag, action, items, .. } = open;
            self.level.push(Node::Items { tag, action, items });
        }
        Ok(())
    }

    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.bulk = Bulk::Drop;
        if self.is_pixels(header.tag) {
            self.pixels()?.fragments_start(header)?;
            self.bulk = Bulk::Pass;
        } else {
            self.is_wanted(header.tag)?;
        }
        Ok(())
    }

    fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError> {
        match (&self.bulk, &mut self.writer) {
            (Bulk::Pass, Some(writer)) => writer.fragment_start(offset, length),
            _ => Ok(()),
        }
    }

    fn fragment_end(&mut self) -> Result<(), DicomError> {
        match (&self.bulk, &mut self.writer) {
            (Bulk::Pass, Some(writer)) => writer.fragment_end(),
            _ => Ok(()),
        }
    }

    fn fragments_end(&mut self) -> Result<(), DicomError> {
        match (std::mem::replace(&mut self.bulk, Bulk::Drop), &mut self.writer) {
            (Bulk::Pass, Some(writer)) => writer.fragments_end(),
            _ => Ok(()),
        }
    }
}
