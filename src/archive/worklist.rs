//! The Worklist Service (PS3.18 chapter 11, PS3.4 Annex CC), free of transport: what becomes of
//! workitems, each within one transaction, with the events that tell of it.
//!
//! Holds: whoever changes a workitem has locked its row, so that of several who claim it at once one
//! does and the others are told so; what is shown has no Transaction UID. Absent: the rules
//! (`dicom::ups`), what of a worklist matches ([`search`]), who is told ([`watching`]) and how
//! ([`channel`]).

mod channel;
mod search;
mod watching;

use serde_json::{Map, Value};
use time::{OffsetDateTime, macros::format_description};

pub use self::{
    channel::{Channels, EventChannel, Telling},
    search::{FoundWorkitems, WorkitemsWanted},
    watching::{Subscribed, WatchFilter, Watched},
};
use super::{Archive, ArchiveError};
use crate::{
    dicom::{
        Uid,
        ups::{self, Action, Keys, Refusal, State, Wrong, events},
    },
    index::{LockedWorkitem, PartitionTx, WorkitemChange},
    tenancy::PartitionScope,
};

/// Why a workitem was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkitemRefusal {
    /// There is one of that UID.
    #[error("the workitem exists")]
    Exists,
    /// What is sent breaks a rule.
    #[error("an attribute breaks a rule")]
    Wrong(Wrong),
    /// It lacks what the state asked for demands (C304).
    #[error("the workitem lacks what the state demands")]
    Unfinished(Wrong),
    /// Its state, or the Transaction UID of the request, does not let it.
    #[error("the state of the workitem does not let it be changed so")]
    State(Refusal),
    /// It has been completed, and cannot be cancelled any more (C311).
    #[error("the workitem is completed")]
    Completed,
    /// It is in the hands of somebody who cannot be told (C312).
    #[error("whoever performs the workitem cannot be told")]
    Unreachable,
    /// There would be more Application Entities that watch than the partition may have.
    #[error("the partition has as many subscribers as it may have")]
    TooMany {
        /// `worklist.max_subscribers`.
        limit: u32,
    },
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<crate::index::IndexError> for WorkitemRefusal {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<Wrong> for WorkitemRefusal {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Refusal> for WorkitemRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::State(refusal)
    }
}

/// What a request for cancellation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelRequested {
    /// Nobody had claimed the workitem: it is cancelled.
    Canceled,
    /// It is in progress, and its subscribers are told.
    Told,
    /// It was cancelled already.
    Already,
}

/// This moment, as DT has it.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let micros =
        format_description!("[year][month][day][hour][minute][second].[subsecond digits:6]+0000");
    now.format(&micros).unwrap_or_default()
}

impl Archive {
    /// Adds a workitem; whether it says more than what was sent.
    ///
    /// # Errors
    /// [`WorkitemRefusal`].
    pub async fn create_workitem(
        &self,
        scope: &PartitionScope,
        uid: &Uid,
        sent: Map<String, Value>,
    ) -> Result<bool, WorkitemRefusal> {
        let made = ups::create(sent, uid, self.0.worklist.default_label.trim(), &now())?;
        let keys = Keys::of(&made.attributes)?;
        let json = self.bounded(ups::written(made.attributes.clone(), State::Scheduled))?;
        let mut tx = self.0.db.begin_worklist(scope).await?;
        if !tx.workitem_create(uid, &keys, &json).await? {
            return Err(WorkitemRefusal::Exists);
        }
        self.announce(&mut tx, uid, &made.attributes, &json).await?;
        tx.audit_note("workitem", uid.as_str());
        tx.commit().await?;
        Ok(made.is_modified)
    }

    /// A workitem, as DICOM JSON.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn workitem(
        &self,
        scope: &PartitionScope,
        uid: &Uid,
    ) -> Result<String, ArchiveError> {
        self.0.db.begin_in(scope).await?.workitem(uid).await?.ok_or(ArchiveError::NotFound)
    }

    /// Changes attributes of a workitem, for who has no Transaction UID while nobody has claimed it,
    /// and for who has claimed it afterwards.
    ///
    /// # Errors
    /// [`WorkitemRefusal`].
    pub async fn update_workitem(
        &self,
        scope: &PartitionScope,
        uid: &Uid,
        key: Option<&str>,
        sent: Map<String, Value>,
    ) -> Result<(), WorkitemRefusal> {
        let mut tx = self.0.db.begin_worklist(scope).await?;
        let (LockedWorkitem { state, lock, .. }, before) = locked(&mut tx, uid).await?;
        ups::may_update(state, lock.as_deref(), key)?;
        let after = ups::update(before.clone(), sent, &now())?;
        self.tell_change(&mut tx, uid, (state, &before), (state, &after)).await?;
        self.put(&mut tx, uid, (state, lock.as_deref()), after).await?;
        Ok(tx.commit().await?)
    }

    /// Has a workitem enter a state, for who has a Transaction UID; the first one claims it.
    ///
    /// # Errors
    /// [`WorkitemRefusal`].
    pub async fn change_workitem_state(
        &self,
        scope: &PartitionScope,
        uid: &Uid,
        wanted: State,
        key: Option<&str>,
    ) -> Result<Action, WorkitemRefusal> {
        let mut tx = self.0.db.begin_worklist(scope).await?;
        let (LockedWorkitem { state, lock, .. }, before) = locked(&mut tx, uid).await?;
        let action = ups::change(state, lock.as_deref(), wanted, key)?;
        if action == Action::Enter {
            let ended =
                ups::end(before.clone(), wanted, &now()).map_err(WorkitemRefusal::Unfinished)?;
            self.tell_change(&mut tx, uid, (state, &before), (wanted, &ended)).await?;
            self.put(&mut tx, uid, (wanted, key), ended).await?;
            tx.audit_note("state", wanted.as_str());
            tx.commit().await?;
        }
        Ok(action)
    }

    /// Cancels a workitem that nobody has claimed; of one that is in progress, tells those who watch
    /// it, among whom whoever performs it may be, that somebody wants it cancelled.
    ///
    /// # Errors
    /// [`WorkitemRefusal`].
    pub async fn request_workitem_cancel(
        &self,
        scope: &PartitionScope,
        uid: &Uid,
        asked: &Map<String, Value>,
    ) -> Result<CancelRequested, WorkitemRefusal> {
        ups::cancel_request(asked)?;
        let mut tx = self.0.db.begin_worklist(scope).await?;
        let (LockedWorkitem { state, .. }, before) = locked(&mut tx, uid).await?;
        match state {
            State::Completed => return Err(WorkitemRefusal::Completed),
            State::Canceled => return Ok(CancelRequested::Already),
            State::Scheduled | State::InProgress => {}
        }
        let is_heard = self.tell(&mut tx, uid, &[events::cancel_requested(asked)]).await?;
        if state == State::InProgress {
            if !is_heard {
                return Err(WorkitemRefusal::Unreachable);
            }
            tx.audit_note("cancel", "requested");
            tx.commit().await?;
            return Ok(CancelRequested::Told);
        }
        // It goes by way of IN PROGRESS (PS3.4 §CC.2.2.3), of which subscribers are told as well.
        let claimed = State::InProgress;
        self.tell_change(&mut tx, uid, (state, &before), (claimed, &before)).await?;
        let mut attributes = before.clone();
        ups::cancel_for(&mut attributes, asked);
        let ended = ups::end(attributes, State::Canceled, &now())?;
        self.tell_change(&mut tx, uid, (claimed, &before), (State::Canceled, &ended)).await?;
        // The server claims it itself, and lets nobody have it.
        let own = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
        self.put(&mut tx, uid, (State::Canceled, Some(&own)), ended).await?;
        tx.audit_note("state", State::Canceled.as_str());
        tx.commit().await?;
        Ok(CancelRequested::Canceled)
    }

    async fn put(
        &self,
        tx: &mut PartitionTx,
        uid: &Uid,
        (state, lock): (State, Option<&str>),
        attributes: Map<String, Value>,
    ) -> Result<(), WorkitemRefusal> {
        let keys = Keys::of(&attributes)?;
        let json = self.bounded(ups::written(attributes, state))?;
        let change = WorkitemChange { state, lock, keys: &keys, attributes: &json };
        Ok(tx.workitem_change(uid, &change).await?)
    }

    /// A workitem that is as long as it may be.
    fn bounded(&self, json: String) -> Result<String, ArchiveError> {
        let limit = self.0.worklist.max_workitem_bytes;
        match json.len() as u64 <= limit {
            true => Ok(json),
            false => Err(ArchiveError::TooLarge { key: "worklist.max_workitem_bytes", limit }),
        }
    }
}

/// A workitem that nobody else changes meanwhile, and its attributes.
async fn locked(
    tx: &mut PartitionTx,
    uid: &Uid,
) -> Result<(LockedWorkitem, Map<String, Value>), ArchiveError> {
    let workitem = tx.workitem_lock(uid).await?.ok_or(ArchiveError::NotFound)?;
    let attributes = ups::read(&workitem.attributes).ok_or_else(|| {
        ArchiveError::Internal(anyhow::anyhow!("the attributes of a workitem are no JSON"))
    })?;
    Ok((workitem, attributes))
}
