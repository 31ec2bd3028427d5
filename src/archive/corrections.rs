//! Corrections of patients: merge and split, and moves of series and studies. Each is an update
//! (`update`) whose attributes are looked up here: who is merged or moved says of itself what those
//! say that it joins.
//!
//! Holds: what is looked up is what the partition of the scope holds, and nothing else. Decisions:
//! - SOP Instance UIDs and Series Instance UIDs stay. The instance is the same one, filed wrongly;
//!   references to it lead to it still, and a sender that sends it again finds it.
//! - What joins a study takes over what Search knows of it at that level, and what joins a patient
//!   what it knows of him. What is not said of them goes, or is empty where it has to be there (PS3.3
//!   §C.7.1.1, §C.7.2.1): else something of the other study or patient would be said of these.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Archive, ArchiveError, Target, update::Correction};
use crate::{
    dicom::{
        Tag, Uid,
        attributes::{self, Level, Matching, TABLE},
        changeable,
        json::name,
    },
    tenancy::PartitionScope,
};

/// Most studies of a patient that are merged at once.
pub const MOST_MERGED: usize = 1_000;

const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);

/// What says who a patient is, besides ID and issuer (PS3.3 §C.7.1.1). Age, size and weight are not
/// among them: they are those of a study (§C.7.2.2).
const OF_PATIENT: [Tag; 8] = [
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0032),
    Tag(0x0010, 0x0040),
    Tag(0x0010, 0x1000),
    Tag(0x0010, 0x1001),
    Tag(0x0010, 0x2160),
    Tag(0x0010, 0x4000),
];

/// What speaks of the ID that was: who issued it, and what others there are besides it.
const OF_FORMER_ID: [Tag; 2] = [Tag(0x0010, 0x0024), Tag(0x0010, 0x1002)];

/// Those that have to be there, be they empty.
const TYPE_2: [Tag; 9] = [
    Tag(0x0008, 0x0020),
    Tag(0x0008, 0x0030),
    Tag(0x0008, 0x0050),
    Tag(0x0008, 0x0090),
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0020),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0040),
    Tag(0x0020, 0x0010),
];

/// A patient, as a client names him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patient {
    /// (0010,0020).
    pub id: String,
    /// (0010,0021), where it matters.
    pub issuer: Option<String>,
}

impl Patient {
    fn keys(&self) -> Option<(String, Option<String>)> {
        let key = |text: &str| Matching::Text.normalise(text).ok().filter(|key| !key.is_empty());
        let issuer = match &self.issuer {
            Some(issuer) => Some(key(issuer)?),
            None => None,
        };
        Some((key(&self.id)?, issuer))
    }
}

/// What became of a request for a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrected {
    /// It is an operation.
    Operation(Uuid),
    /// Too many wait.
    Busy,
    /// The patient has more than [`MOST_MERGED`] studies.
    TooMany,
}

impl From<Option<Uuid>> for Corrected {
    fn from(id: Option<Uuid>) -> Self {
        id.map_or(Self::Busy, Self::Operation)
    }
}

impl Archive {
    /// Makes all studies of one patient another's. `set`: attributes beyond what is known of that one.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where the first one has none.
    pub async fn merge_patients(
        &self,
        scope: &PartitionScope,
        source: &Patient,
        target: &Patient,
        set: Map<String, Value>,
    ) -> Result<Corrected, ArchiveError> {
        let Some((id, issuer)) = source.keys() else { return Err(ArchiveError::NotFound) };
        let mut tx = self.0.db.begin_in(scope).await?;
        let most = MOST_MERGED as i64 + 1;
        let studies = tx.studies_of_patient(&id, issuer.as_deref(), most).await?;
        drop(tx);
        if studies.is_empty() {
            return Err(ArchiveError::NotFound);
        }
        if studies.len() > MOST_MERGED {
            return Ok(Corrected::TooMany);
        }
        let studies: Vec<Uid> = studies.into_iter().map(|(study, _)| study).collect();
        self.assign_patient(scope, &studies, target, set).await
    }

    /// Makes studies a patient's. Those that the partition does not hold stay unknown.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn assign_patient(
        &self,
        scope: &PartitionScope,
        studies: &[Uid],
        target: &Patient,
        set: Map<String, Value>,
    ) -> Result<Corrected, ArchiveError> {
        let mut correction = Correction::of(Map::new());
        let mut known = None;
        if let Some((id, issuer)) = target.keys() {
            let mut tx = self.0.db.begin_in(scope).await?;
            known = tx.studies_of_patient(&id, issuer.as_deref(), 1).await?.pop();
        }
        let mut said = known.as_ref().map(|(_, known)| object(known)).unwrap_or_default();
        let issuer = said.remove(&name(ISSUER));
        if known.is_some() {
            join(&mut correction, said, OF_PATIENT);
        }
        correction.set.insert(name(PATIENT_ID), json!({ "vr": "LO", "Value": [target.id] }));
        let given = target.issuer.as_ref();
        let given = given.map(|issuer| json!({ "vr": "LO", "Value": [issuer] }));
        // Whoever issued the ID that was did not issue this one.
        match given.or(issuer) {
            Some(issuer) => _ = correction.set.insert(name(ISSUER), issuer),
            None => correction.remove.push(name(ISSUER)),
        }
        correction.remove.extend(OF_FORMER_ID.map(name));
        also(&mut correction, set);
        Ok(self.correct(scope, studies, &correction).await?.into())
    }

    /// Moves a study or series into another study, which may be new. `set`: attributes that it gets
    /// besides what is known of that one.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`] of what is to be moved.
    pub async fn move_into(
        &self,
        scope: &PartitionScope,
        target: &Target,
        into: &Uid,
        set: Map<String, Value>,
    ) -> Result<Corrected, ArchiveError> {
        self.require(scope, target).await?;
        let known = self.0.db.begin_in(scope).await?.study_attributes(into).await?;
        let mut correction = Correction::of(Map::new());
        if let Some(known) = known {
            let of_study = TABLE.iter().filter(|one| one.level == Level::Study);
            let tags = of_study.map(|one| one.tag).filter(|tag| changeable::is(&name(*tag)));
            join(&mut correction, object(&known), tags);
        }
        also(&mut correction, set);
        correction.series = target.series().map(|series| series.as_str().to_owned());
        correction.into = Some(into.as_str().to_owned());
        let studies = [target.study().clone()];
        Ok(self.correct(scope, &studies, &correction).await?.into())
    }
}

/// Has instances say of these attributes what is said of whom they join.
fn join(
    correction: &mut Correction,
    mut said: Map<String, Value>,
    tags: impl IntoIterator<Item = Tag>,
) {
    for tag in tags {
        let key = name(tag);
        match (said.remove(&key), attributes::exact_vr_of(tag)) {
            (Some(value), _) => _ = correction.set.insert(key, value),
            (None, Some(vr)) if TYPE_2.contains(&tag) => {
                correction.set.insert(key, json!({ "vr": vr.to_string() }));
            }
            (None, _) => correction.remove.push(key),
        }
    }
}

/// Has instances say this besides, whatever else would become of it.
fn also(correction: &mut Correction, set: Map<String, Value>) {
    correction.remove.retain(|tag| !set.contains_key(tag));
    correction.set.extend(set);
}

fn object(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}
