//! Coercion of what is stored: `store.coerce` ([`crate::dicom::coerce`]) on its way through
//! [`super::part`].
//!
//! Holds: what is stored, indexed, hashed and told is the coerced file; SHA-256 of what came is kept
//! beside it, so that a re-send is recognised, whenever it comes and whatever the rules are by then.
//! An instance that cannot be coerced as the rules say is refused. Where no rule is for a partition
//! and its sender, or none changes anything of an instance, its bytes pass as they came.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Chunks, hash::hash, part::SLICE, worklist};
use crate::{
    config::{CoerceConfig, CoerceRule},
    dicom::{
        DicomError, Limits, Tag, Uid,
        coerce::{self, Rule},
        edit::{EditError, Editor, Origin, Reason},
        json, kept,
        matching::Object,
    },
    tenancy::{PartitionScope, Principal},
};

/// Metadata from this size, in bytes as it is kept, is not looked into for an answer.
const MUCH: usize = 64 * 1024;
/// (0400,0561), as DICOM JSON names it.
const ORIGINAL: &str = "04000561";
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);

/// The rules for what one request stores.
pub(super) struct Coercion {
    rules: Vec<Rule>,
    /// The last attribute that they look at or touch.
    through: Tag,
    system: String,
    source: String,
}

/// What became of a coerced instance.
pub(super) struct Coerced {
    /// Attributes that changed.
    pub(super) tags: Vec<Tag>,
    /// SHA-256 of what came.
    pub(super) received: [u8; 32],
    /// The item of (0400,0561) that tells of it, as DICOM JSON; `None` where it has bulk values, or
    /// the instance has very many attributes.
    pub(super) original: Option<Box<str>>,
}

impl Coerced {
    /// Notes what the metadata of the instance, as it is kept, tells of it.
    pub(super) fn note_original(&mut self, metadata: &[u8]) {
        if metadata.len() <= MUCH {
            self.original = last_original(metadata);
        }
    }

    /// What it holds, about, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of_val(&self.tags[..]) + self.original.as_ref().map_or(0, |item| item.len())
    }
}

/// The last item of (0400,0561), unless it has bulk values.
fn last_original(metadata: &[u8]) -> Option<Box<str>> {
    let json = kept::decompress(metadata).ok()?;
    let data_set: Object = serde_json::from_slice(&json).ok()?;
    let sequence: Object = serde_json::from_str(data_set.get(ORIGINAL)?.get()).ok()?;
    let items: Vec<&RawValue> = serde_json::from_str(sequence.get("Value")?.get()).ok()?;
    let item = items.last()?.get();
    (!json::has_bulk(item.as_bytes())).then(|| item.into())
}

impl Coercion {
    /// The rules for who stores in this partition, if there are any.
    pub(super) fn of(config: &CoerceConfig, scope: &PartitionScope) -> Option<Arc<Self>> {
        if config.rules.is_empty() {
            return None;
        }
        let sender = scope.deed().and_then(|deed| match &deed.who {
            Principal::Known(known) => Some(format!("{}:{}", known.issuer, known.subject)),
            Principal::Anonymous => None,
        });
        let is_for = |rule: &&CoerceRule| {
            let partitions = rule.partitions.as_ref();
            let is_here = partitions.is_none_or(|all| all.contains(scope.partition()));
            let is_his = sender.as_ref().zip(rule.senders.as_ref());
            let is_his = is_his.is_some_and(|(sender, all)| all.contains(sender));
            is_here && (is_his || rule.senders.is_none())
        };
        let found: Vec<&CoerceRule> = config.rules.iter().filter(is_for).collect();
        let through = found.iter().filter_map(|rule| rule.rule.last()).max()?;
        let source = found.iter().map(|rule| &rule.source).find(|source| !source.is_empty());
        Some(Arc::new(Self {
            rules: found.iter().map(|rule| rule.rule.clone()).collect(),
            through: through.max(SOP_INSTANCE),
            system: config.modifying_system.clone(),
            source: source.cloned().unwrap_or_default(),
        }))
    }
}

/// One part that rules may change.
pub(super) struct Coercing {
    editor: Editor,
    coercion: Arc<Coercion>,
    /// What came before it was decided.
    came: Chunks,
    /// Of what came, once something is known to change.
    received: Option<Sha256>,
    tags: Vec<Tag>,
    is_decided: bool,
    sop: Option<(Uid, Uid)>,
}

impl Coercing {
    pub(super) fn new(coercion: &Arc<Coercion>, limits: Limits) -> Self {
        Self {
            editor: Editor::new(coercion.through, limits),
            coercion: coercion.clone(),
            came: Chunks::default(),
            received: None,
            tags: Vec::new(),
            is_decided: false,
            sop: None,
        }
    }

    /// What it holds, about, in bytes.
    pub(super) fn held(&self) -> u64 {
        self.editor.held()
    }

    /// SOP Class and SOP Instance UID, once both were read.
    pub(super) fn sop(&self) -> Option<(Uid, Uid)> {
        self.sop.clone()
    }

    /// Takes the next bytes of the part.
    pub(super) async fn push(&mut self, bytes: Bytes) {
        match &mut self.received {
            Some(sha256) => hash(sha256, &bytes).await,
            None => self.came.push(bytes.clone()),
        }
        for start in (0..bytes.len()).step_by(SLICE) {
            self.editor.push(bytes.slice(start..bytes.len().min(start + SLICE)));
        }
    }

    /// Whether it was decided that nothing changes: once all was taken, it is not needed any more.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_decided && self.tags.is_empty()
    }

    /// Does some of the work that there is; whether there is more.
    pub(super) async fn step(&mut self) -> Result<bool, EditError> {
        tokio::task::consume_budget().await;
        let more = self.editor.step()?;
        if !self.editor.is_read() {
            return Ok(more);
        }
        self.decide().await?;
        Ok(true)
    }

    /// The part is complete.
    pub(super) async fn end(&mut self) -> Result<(), EditError> {
        while self.step().await? {}
        self.editor.end()?;
        if self.editor.is_read() {
            self.decide().await?;
            self.editor.end()?;
        }
        Ok(())
    }

    async fn decide(&mut self) -> Result<(), EditError> {
        let uid = |tag| self.editor.values(tag)?.first()?.parse::<Uid>().ok();
        self.sop = uid(SOP_CLASS).zip(uid(SOP_INSTANCE));
        let edits = coerce::edits(&self.coercion.rules, |tag| self.editor.values(tag));
        let origin = Origin {
            date_time: worklist::now(),
            system: self.coercion.system.clone(),
            source: self.coercion.source.clone(),
            reason: Reason::Coerce,
        };
        self.tags = self.editor.edit(&edits, &origin)?.tags;
        self.is_decided = true;
        let came = self.came.take();
        if !self.tags.is_empty() {
            let mut sha256 = Sha256::new();
            for chunk in came {
                hash(&mut sha256, &chunk).await;
            }
            self.received = Some(sha256);
        }
        Ok(())
    }

    /// The next bytes of what is to be stored.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.editor.take()
    }

    /// What was changed, if anything was.
    pub(super) fn coerced(self) -> Option<Coerced> {
        let received = self.received?.finalize().into();
        Some(Coerced { tags: self.tags, received, original: None })
    }
}

/// Why a part cannot be coerced: it cannot be read, or the rules cannot be kept.
pub(super) enum Hindered {
    Unreadable(DicomError),
    Unfit(String),
}

impl From<EditError> for Hindered {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Dicom(error) => Self::Unreadable(error),
            error => Self::Unfit(format!("store.coerce: {error}")),
        }
    }
}
