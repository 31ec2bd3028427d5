//! Update: attributes of whole studies change, in the background, a study at a time.
//!
//! A request notes what is to be done as an operation; a worker goes on with it
//! ([`Archive::update_next`]). Of each study the files are read, changed and written to new blobs
//! (`copied`), and then the new versions take the place of the old ones in one transaction
//! ([`crate::index`], `update`), together with the progress of the operation: killed at any point, a
//! study is wholly as it was or wholly as it is to be, and is not done twice. Where something came to
//! the study meanwhile, that is copied too, and the transaction tried again.
//!
//! Holds: a file is held against its SHA-256 before a new version is made of it. A study that cannot
//! be changed does not hinder the others. Absent: how a data set is changed ([`crate::dicom`]).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Archive, ArchiveError, Target,
    copied::{Copied, Hindered},
    repeated::repeated,
    worklist,
};
use crate::{
    audit::Event,
    dicom::{
        Tag, Uid, VR, compose,
        edit::{Edits, Origin, Reason},
    },
    index::{
        Claim, IndexError, OperationState, PartitionTx, Replaced, Revision, UpdateTally, Updating,
    },
    tenancy::PartitionScope,
};

/// Most studies of one request.
pub const MOST_STUDIES: usize = 50;
/// (0020,000D).
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
/// Bytes that a change may take, and items within items.
const MOST_BYTES: u64 = 4 << 20;
const MOST_DEPTH: u16 = 16;
/// How often a study is looked at again because something came to it while it was copied.
const ROUNDS: usize = 20;
/// Most reasons that an operation tells.
const MOST_ERRORS: usize = 100;

/// What becomes of the instances of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Attributes with their new values, as DICOM JSON.
    pub set: Map<String, Value>,
    /// Attributes that go.
    #[serde(default)]
    pub remove: Vec<String>,
    /// The series that it is about; none: the whole study.
    #[serde(default)]
    pub series: Option<String>,
    /// The study that the instances go to.
    #[serde(default)]
    pub into: Option<String>,
}

impl Correction {
    /// Attributes that get new values.
    pub fn of(set: Map<String, Value>) -> Self {
        Self { set, remove: Vec::new(), series: None, into: None }
    }

    /// The edits of each data set; `None` where that is more than can be made.
    fn edits(&self) -> Option<Edits> {
        let json = Value::Object(self.set.clone()).to_string();
        let room = MOST_BYTES.max(json.len() as u64);
        let set = compose::read_json(json.as_bytes(), MOST_DEPTH, room).ok()?.pop()?;
        if set.flaw().is_some() {
            return None;
        }
        let mut edits: Edits = set.into();
        for tag in &self.remove {
            let number = u32::from_str_radix(tag, 16).ok()?;
            edits.remove(Tag((number >> 16) as u16, number as u16));
        }
        if let Some(into) = &self.into {
            edits.set_text(STUDY_INSTANCE_UID, VR::UI, into);
        }
        Some(edits)
    }

    /// What it is about, of a study, and the study that it goes to.
    fn places(&self, study: &str) -> Option<(Target, Option<Uid>)> {
        let study: Uid = study.parse().ok()?;
        let target = match &self.series {
            Some(series) => Target::Series { study, series: series.parse().ok()? },
            None => Target::Study { study },
        };
        let into = match &self.into {
            Some(into) => Some(into.parse().ok()?),
            None => None,
        };
        Some((target, into))
    }

    /// What it changes, for the audit log: tags, and no values.
    fn tags(&self) -> Vec<&str> {
        let set = self.set.keys().chain(&self.remove);
        set.map(String::as_str).chain(self.into.as_ref().map(|_| "0020000D")).collect()
    }
}

/// What became of a step of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// A study was dealt with; there may be more.
    Study {
        /// Instances of it that have new versions.
        instances: u64,
        /// Whether it could not be changed.
        has_failed: bool,
    },
    /// The operation has ended.
    Ended,
    /// Somebody else has it now.
    Lost,
}

/// What became of a study.
enum Outcome {
    /// So many instances have new versions; whether the operation ended with it.
    Committed(u64, bool),
    /// There is nothing to change.
    Nothing,
    Failed(String),
    Lost,
}

impl Archive {
    /// Asks for studies to be changed; those that the partition does not hold stay unknown. The
    /// answer is the operation; `None` where too many wait already.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn correct(
        &self,
        scope: &PartitionScope,
        studies: &[Uid],
        correction: &Correction,
    ) -> Result<Option<Uuid>, ArchiveError> {
        let id = Uuid::new_v4();
        let deed = scope.deed();
        let now = OffsetDateTime::now_utc();
        let event = |deed| Event::of(deed, scope.partition(), now);
        let updating = Updating {
            studies: studies.iter().map(|study| study.as_str().to_owned()).collect(),
            correction: serde_json::json!(correction),
            done: 0,
            tally: UpdateTally::default(),
            asked: deed.map(|deed| event(deed)),
        };
        let mut resources: Vec<String> = match &correction.series {
            Some(series) => {
                studies.iter().map(|study| format!("/studies/{study}/series/{series}")).collect()
            }
            None => studies.iter().map(|study| format!("/studies/{study}")).collect(),
        };
        resources.extend(correction.into.as_ref().map(|into| format!("/studies/{into}")));
        let mut tx = self.0.db.begin_in(scope).await?;
        if !tx.update_create(id, &resources, &updating).await? {
            return Ok(None);
        }
        if let Some(deed) = deed {
            for study in studies {
                let mut asked = event(deed);
                asked.study = Some(study.as_str().to_owned());
                asked.detail.insert("operation".to_owned(), id.simple().to_string().into());
                asked.detail.insert("attributes".to_owned(), correction.tags().into());
                tx.audit_deed(deed, asked);
            }
        }
        tx.commit().await?;
        self.0.wake_update.notify_one();
        Ok(Some(id))
    }

    /// Deals with the next study of a claimed update.
    ///
    /// # Errors
    /// Where the index or the blob store does not answer; what was done stays.
    pub async fn update_next(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Updating>,
        owner: Uuid,
    ) -> Result<Updated, ArchiveError> {
        let held = (claim.id, owner);
        let Some(study) = claim.cursor.studies.get(claim.cursor.done).cloned() else {
            return self.update_end(scope, claim, owner).await;
        };
        let correction = serde_json::from_value::<Correction>(claim.cursor.correction.clone());
        let correction = correction.ok().and_then(|it| Some((it.places(&study)?, it.edits()?)));
        let outcome = match correction {
            Some((places, edits)) => {
                self.correct_study(scope, &places, edits, claim, owner).await?
            }
            None => Outcome::Failed("the change cannot be made".to_owned()),
        };
        let (instances, has_failed) = match outcome {
            Outcome::Committed(_, true) => return Ok(Updated::Ended),
            Outcome::Committed(instances, false) => {
                return Ok(Updated::Study { instances, has_failed: false });
            }
            Outcome::Lost => return Ok(Updated::Lost),
            Outcome::Nothing => (0, false),
            Outcome::Failed(why) => {
                let partition = scope.partition();
                tracing::warn!(%partition, %study, why, "a study could not be changed");
                claim.cursor.fail(&study, &why);
                (0, true)
            }
        };
        let mut tx = self.0.db.begin_in(scope).await?;
        let mut cursor = claim.cursor.clone();
        cursor.done += 1;
        cursor.tally.study_processed += 1;
        let Some(ended) = advance(&mut tx, held, &cursor, (1, i64::from(has_failed))).await? else {
            return Ok(Updated::Lost);
        };
        tx.commit().await?;
        claim.cursor = cursor;
        Ok(if ended { Updated::Ended } else { Updated::Study { instances, has_failed } })
    }

    async fn update_end(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Updating>,
        owner: Uuid,
    ) -> Result<Updated, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        match advance(&mut tx, (claim.id, owner), &claim.cursor, (0, 0)).await? {
            None => return Ok(Updated::Lost),
            Some(true) => {}
            Some(false) => tx.operation_finish(claim.id, "studies could not be changed").await?,
        }
        tx.commit().await?;
        Ok(Updated::Ended)
    }

    /// Changes a study, and notes that with it.
    async fn correct_study(
        &self,
        scope: &PartitionScope,
        (target, into): &(Target, Option<Uid>),
        edits: Edits,
        claim: &mut Claim<Updating>,
        owner: Uuid,
    ) -> Result<Outcome, ArchiveError> {
        let origin = Origin {
            date_time: worklist::now(),
            system: self.0.store.coerce.modifying_system.clone(),
            source: String::new(),
            reason: Reason::Correct,
        };
        let mut copied = Copied::new(self, scope, target, (edits, origin));
        let made = self.replace(&mut copied, into.as_ref(), claim, owner).await;
        if !matches!(made, Ok(Outcome::Committed(..))) {
            copied.discard().await;
        }
        match made {
            Err(Hindered::Study(why)) => Ok(Outcome::Failed(why)),
            Err(Hindered::Archive(error)) => Err(error),
            Ok(outcome) => Ok(outcome),
        }
    }

    async fn replace(
        &self,
        copied: &mut Copied<'_>,
        into: Option<&Uid>,
        claim: &mut Claim<Updating>,
        owner: Uuid,
    ) -> Result<Outcome, Hindered> {
        for _ in 0..ROUNDS {
            copied.copy().await?;
            if copied.is_the_same() {
                return Ok(Outcome::Nothing);
            }
            match repeated!(self.try_replace(copied, into, claim, owner)) {
                Ok(Tried::Committed { old, cursor, has_ended }) => {
                    claim.cursor = *cursor;
                    self.forget(copied.scope(), &old);
                    return Ok(Outcome::Committed(old.len() as u64, has_ended));
                }
                Ok(Tried::Lost) => return Ok(Outcome::Lost),
                Ok(Tried::Gone) => return Ok(Outcome::Nothing),
                Ok(Tried::Changed) => {}
                Err(error) => return Err(ArchiveError::from(error).into()),
            }
        }
        let why = "something was stored to the study again and again meanwhile";
        Err(Hindered::Study(why.to_owned()))
    }

    async fn try_replace(
        &self,
        copied: &Copied<'_>,
        into: Option<&Uid>,
        claim: &Claim<Updating>,
        owner: Uuid,
    ) -> Result<Tried, IndexError> {
        let scope = copied.scope();
        let mut tx = self.0.db.begin_store(scope).await?;
        let revisions: Vec<Revision<'_>> = copied.revisions().collect();
        let (places, linger) = ((copied.target(), into), self.0.linger);
        let old = match tx.study_replace(places, copied.blobs(), &revisions, linger).await? {
            Replaced::Done(old) => old,
            Replaced::Changed => return Ok(Tried::Changed),
            Replaced::Gone => return Ok(Tried::Gone),
        };
        let mut cursor = claim.cursor.clone();
        cursor.done += 1;
        cursor.tally.study_processed += 1;
        cursor.tally.study_updated += 1;
        cursor.tally.instance_updated += old.len() as u64;
        let advanced = advance(&mut tx, (claim.id, owner), &cursor, (1, 0)).await?;
        let Some(has_ended) = advanced else { return Ok(Tried::Lost) };
        if let Some(asked) = &cursor.asked {
            let now = OffsetDateTime::now_utc();
            let fresh = Event::by_server("", scope.partition(), now);
            let mut event = Event { id: fresh.id, at: fresh.at, ..asked.clone() };
            event.study = Some(copied.target().study().as_str().to_owned());
            revisions.iter().for_each(|one| event.touch(one.new.indexed.instance.as_str()));
            event.detail.insert("operation".to_owned(), claim.id.simple().to_string().into());
            event.detail.insert("updated".to_owned(), old.len().into());
            if let Some(into) = into {
                event.detail.insert("into".to_owned(), into.as_str().into());
            }
            tx.audit_insert(&[event]).await?;
        }
        tx.commit().await?;
        Ok(Tried::Committed { old, cursor: Box::new(cursor), has_ended })
    }
}

/// What came of a try to put copies in the place of what is there.
enum Tried {
    /// The watermarks of the old versions, where the operation goes on, and whether it ended.
    Committed {
        old: Vec<i64>,
        cursor: Box<Updating>,
        has_ended: bool,
    },
    Changed,
    Gone,
    Lost,
}

/// Notes progress; `None`: the lease was lost; else whether the operation was cancelled, and has
/// ended therefore.
async fn advance(
    tx: &mut PartitionTx,
    held: (Uuid, Uuid),
    cursor: &Updating,
    counts: (i64, i64),
) -> Result<Option<bool>, IndexError> {
    let advanced = tx.operation_advance(held, cursor, counts).await?;
    if advanced.is_some() {
        tx.operation_results(held.0, &serde_json::json!(cursor.tally)).await?;
    }
    if advanced == Some(true) {
        tx.operation_end(held.0, OperationState::Canceled, None).await?;
    }
    Ok(advanced)
}

impl Updating {
    fn fail(&mut self, study: &str, why: &str) {
        self.tally.study_failed += 1;
        if self.tally.errors.len() < MOST_ERRORS {
            self.tally.errors.push(format!("study {study}: {why}"));
        }
    }
}
