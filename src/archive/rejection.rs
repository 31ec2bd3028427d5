//! Rejection notes (IHE RAD TF-3 §4.66): which ones do something, who may send them, and what happens
//! when one is deleted.
//!
//! Holds: a note is stored and does what it says in one transaction (`writer`), or is refused; a
//! note that does nothing is an instance like any other. What a note hides comes back before the note
//! goes: a deletion that ends early has brought back some of it, and is asked for again. Absent: what
//! hides an instance (`index`), reading it again (`undelete`).

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{
    Archive, ArchiveError, StoreSession, Target,
    store::FailureReason,
    undelete::{ROUNDS, Restoring, Undeleted},
};
use crate::{
    config::{Config, Rejected, RejectionConfig},
    dicom::{RejectionTitle, Uid, index::Indexed},
    index::{IndexError, PartitionTx, Rejects, Tombstone},
    tenancy::PartitionScope,
};

/// Instances of a note that are looked up at once.
const PAGE: i64 = 1_000;

/// What titles do.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    config: RejectionConfig,
    grace: Duration,
}

impl Policy {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.rejection.clone(), grace: config.delete.grace_period }
    }

    /// What an instance does as a rejection note, if it does something.
    pub(super) fn of<'a>(&self, indexed: &'a Indexed) -> Option<Rejects<'a>> {
        let note = indexed.rejection.as_ref()?;
        let (title, rejected) = (note.title, &note.rejected[..]);
        let config = &self.config;
        let rule = match title {
            RejectionTitle::Quality => config.quality,
            RejectionTitle::PatientSafety => config.patient_safety,
            RejectionTitle::WorklistEntry => config.worklist_entry,
            RejectionTitle::RetentionExpired => config.retention_expired,
        };
        match rule {
            Rejected::Show => None,
            Rejected::Hide => Some(Rejects { title, rejected, deletes: None }),
            Rejected::Delete => Some(Rejects { title, rejected, deletes: Some(self.grace) }),
        }
    }
}

/// It cannot be decided now who may.
#[derive(Clone, Copy, Debug)]
pub struct Undecided;

impl From<Undecided> for ArchiveError {
    fn from(_: Undecided) -> Self {
        Self::Unavailable(anyhow::anyhow!("it could not be decided who may reject"))
    }
}

/// A note that is about to end with its deletion.
#[derive(Debug)]
pub(super) struct Revoked<'a> {
    note: &'a Uid,
    /// Versions that it hides and that cannot come back, since their bytes are damaged.
    damaged: Vec<i64>,
}

/// Whether who stores may also reject, to be awaited when it is to be known.
pub type MayReject = BoxFuture<'static, Result<bool, Undecided>>;

impl StoreSession {
    /// Lets notes in, where that is permitted. Without it they are refused.
    #[must_use]
    pub fn rejecting(mut self, may_reject: MayReject) -> Self {
        self.may_reject = Some(may_reject);
        self
    }

    /// Whether an instance may be stored for what it does; the session has failed it otherwise.
    pub(super) async fn admits(&mut self, indexed: &Indexed) -> bool {
        if self.archive.0.rejection.of(indexed).is_none() {
            return true;
        }
        if let Some(may_reject) = self.may_reject.take() {
            self.rejects = may_reject.await;
        }
        let sop = || (indexed.sop_class.clone(), indexed.instance.clone());
        match self.rejects {
            Ok(true) => return true,
            Ok(false) => {
                let detail = "a rejection note needs the permission studies.delete";
                self.fail(Some(sop()), FailureReason::NotAuthorized, detail.to_owned());
            }
            Err(undecided) => self.fail_all(vec![sop()], &undecided.into()),
        }
        false
    }
}

impl Archive {
    /// Where a target that is about to be deleted is a note in force: brings back what it alone
    /// hides. Answers the note, which ends with its deletion.
    pub(super) async fn revoke<'a>(
        &self,
        scope: &PartitionScope,
        target: &'a Target,
    ) -> Result<Option<Revoked<'a>>, ArchiveError> {
        let Some(note) = target.instance() else { return Ok(None) };
        if !self.0.db.begin_in(scope).await?.rejection_is_note(note).await? {
            return Ok(None);
        }
        match self.require(scope, target).await {
            // What hides it, or took it along, stays in force.
            Err(ArchiveError::NotFound | ArchiveError::Gone) => return Ok(None),
            is_there => is_there?,
        }
        let restoring = Restoring { scope, revoked: Some(note) };
        let (mut back, mut told) = (HashSet::new(), Undeleted::default());
        for _ in 0..ROUNDS {
            // What was moved since it was read is looked at again.
            let before = std::mem::take(&mut told);
            if !self.revoke_round(restoring, note, &mut back, (&before, &mut told)).await? {
                continue;
            }
            let (partition, restored) = (scope.partition(), back.len());
            tracing::info!(%partition, restored, "a rejection note is revoked");
            let missing = told.missing.iter().map(|(watermark, _)| *watermark);
            let damaged = told.unreadable.iter().copied().chain(missing).collect();
            return Ok(Some(Revoked { note, damaged }));
        }
        let moved = "what a rejection note hides was moved again and again while it was read";
        Err(ArchiveError::Unavailable(anyhow::anyhow!(moved)))
    }

    /// Goes through what a note names once. Says whether everything was as it was read; what was not
    /// there the time before either, in the same place, is damaged.
    async fn revoke_round(
        &self,
        restoring: Restoring<'_>,
        note: &Uid,
        back: &mut HashSet<Uid>,
        (before, told): (&Undeleted, &mut Undeleted),
    ) -> Result<bool, ArchiveError> {
        let (mut after, mut is_whole) = (None, true);
        loop {
            let mut tx = self.0.db.begin_in(restoring.scope).await?;
            let (page, more) = tx.rejection_page(note, after.as_deref(), PAGE).await?;
            drop(tx);
            let mut blobs: BTreeMap<(&Uid, Uuid), Vec<&Tombstone>> = BTreeMap::new();
            for (study, tombstone) in &page {
                blobs.entry((study, tombstone.blob)).or_default().push(tombstone);
            }
            // In the order in which they came at first, since the first value of a study wins.
            let mut blobs: Vec<_> = blobs.into_iter().collect();
            blobs.sort_by_key(|(_, of)| of.iter().map(|tombstone| tombstone.watermark).min());
            for (at, mut tombstones) in blobs {
                tombstones.sort_by_key(|tombstone| tombstone.offset);
                let known = told.missing.len();
                let is_as_read = self.undelete_of(restoring, at, &tombstones, back, told).await?;
                let is_missing = told.missing.len() > known;
                is_whole &= is_as_read || (is_missing && told.missing.is_subset(&before.missing));
            }
            after = more;
            if after.is_none() {
                return Ok(is_whole);
            }
        }
    }

    /// Opens the transaction that deletes something, a note in force where one is given.
    pub(super) async fn begin_deleting(
        &self,
        scope: &PartitionScope,
        revoked: Option<&Revoked<'_>>,
    ) -> Result<PartitionTx, IndexError> {
        match revoked {
            Some(_) => self.0.db.begin_rejecting(scope).await,
            None => self.0.db.begin_in(scope).await,
        }
    }

    /// Ends a note that was deleted.
    pub(super) async fn end_note(
        &self,
        tx: &mut PartitionTx,
        revoked: Option<&Revoked<'_>>,
    ) -> Result<(), IndexError> {
        if let Some(Revoked { note, damaged }) = revoked {
            tx.rejection_end(note, damaged, self.0.delete.grace_period).await?;
            tx.audit_note("revoked", note.as_str());
        }
        Ok(())
    }
}
