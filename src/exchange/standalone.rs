//! An export into a folder or bucket of its own, without an operation: how far it is stands beside
//! what it has written.
//!
//! Holds: a place has one such export; one that was cut short goes on where it was, if the same is
//! asked for, with what was found when it began; one that has ended is not written over. Absent: who
//! asks (`app`), how files are written (`copies`).

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    ExportError, ExportRequest,
    copies::{Copies, DIRECTORY_TOO_LARGE, MANIFEST_FILE, Means},
};
use crate::{
    archive::Archive,
    blob::{BlobError, Place, collect},
    config::LimitsConfig,
    index::{Exported, Exporting},
    tenancy::PartitionScope,
};

/// What was begun.
const BEGUN: &str = ".lists/begun";
/// How far it is.
const STATE: &str = ".lists/state";
/// Longest of these: resources, each with three UIDs.
const LONGEST: usize = 64 << 20;

/// Why there is no (further) step.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The step failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// What is there is not what we wrote.
    #[error("the destination has an export that was cut short and cannot be gone on with")]
    Unreadable,
    /// There is the manifest of an export that has ended.
    #[error("the destination has an export already")]
    Occupied,
    /// A DICOMDIR would be too large.
    #[error("{DIRECTORY_TOO_LARGE}")]
    TooMany,
}

impl From<BlobError> for StandaloneError {
    fn from(error: BlobError) -> Self {
        Self::Export(error.into())
    }
}

/// An export that was begun in a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Tells what was asked for from other things.
    pub asked: String,
    /// What is exported; `None` of what is de-identified, since it has UIDs of what is stored.
    pub request: Option<ExportRequest>,
    id: Uuid,
}

impl Begun {
    /// One of which nothing is written yet.
    pub fn new(asked: String, request: &ExportRequest) -> Self {
        let request = request.deidentify.is_none().then(|| request.clone());
        Self { asked, request, id: Uuid::new_v4() }
    }

    /// What was begun in a place and has not ended.
    ///
    /// # Errors
    /// [`StandaloneError`]; [`StandaloneError::Occupied`] where one has ended there.
    pub async fn find(place: &Place) -> Result<Option<Self>, StandaloneError> {
        match read(place, BEGUN).await? {
            Some(begun) => Ok(Some(begun)),
            None if place.size(MANIFEST_FILE).await?.is_some() => Err(StandaloneError::Occupied),
            None => Ok(None),
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    total: u64,
    cursor: Exporting,
}

async fn read<T: DeserializeOwned>(
    place: &Place,
    name: &str,
) -> Result<Option<T>, StandaloneError> {
    if place.size(name).await?.is_none() {
        return Ok(None);
    }
    let text = collect(place.read(name).await?, LONGEST).await?;
    serde_json::from_slice(&text).map(Some).map_err(|_| StandaloneError::Unreadable)
}

async fn write(place: &Place, name: &str, what: &impl Serialize) -> Result<(), StandaloneError> {
    let text = serde_json::to_vec(what).map_err(|_| StandaloneError::Unreadable)?;
    Ok(place.write(name, text).await?)
}

/// Works at an export in a place.
pub struct Standalone {
    archive: Archive,
    scope: PartitionScope,
    limits: LimitsConfig,
    at_once: usize,
    place: Place,
    begun: Begun,
    request: ExportRequest,
    state: Option<State>,
    /// Whether the next step may find files that the cursor does not know of.
    goes_on: bool,
}

impl Standalone {
    /// Goes on with what was begun, or begins it.
    ///
    /// # Errors
    /// [`StandaloneError`].
    pub async fn new(
        (archive, scope): (Archive, PartitionScope),
        (limits, at_once): (LimitsConfig, usize),
        place: Place,
        (begun, request): (Begun, ExportRequest),
    ) -> Result<Self, StandaloneError> {
        let state = read(&place, STATE).await?;
        Ok(Self { archive, scope, limits, at_once, place, begun, request, state, goes_on: true })
    }

    /// What came of it so far.
    pub fn results(&self) -> Exported {
        self.state.as_ref().map(|state| state.cursor.results.clone()).unwrap_or_default()
    }

    /// Instances in all, as they were counted at its beginning.
    pub fn total(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.total)
    }

    /// Does the next step; `false`: that was the last one.
    ///
    /// # Errors
    /// [`StandaloneError`]; it can be repeated, also by another run.
    pub async fn step(&mut self) -> Result<bool, StandaloneError> {
        let means = Means {
            archive: &self.archive,
            scope: &self.scope,
            limits: &self.limits,
            at_once: self.at_once,
        };
        let at = (self.place.clone(), String::new());
        let copies = Copies::of(means, &self.request, at, self.goes_on).await?;
        let Some(state) = &mut self.state else {
            let (mut total, mut from) = (0, 0);
            while let Some((counted, next)) = copies.count(from).await? {
                (total, from) = (total + counted, next);
            }
            if copies.are_too_many(total) {
                return Err(StandaloneError::TooMany);
            }
            let state = State { total, cursor: Exporting::default() };
            write(&self.place, BEGUN, &self.begun).await?;
            write(&self.place, STATE, &state).await?;
            (self.state, self.goes_on) = (Some(state), false);
            return Ok(true);
        };
        if copies.are_done(&state.cursor) {
            copies.close(self.begun.id, state.cursor.lists).await?;
            copies.clear(state.cursor.lists).await?;
            self.place.remove(STATE).await?;
            self.place.remove(BEGUN).await?;
            return Ok(false);
        }
        let mut cursor = state.cursor.clone();
        copies.step(&mut cursor).await?;
        state.cursor = cursor;
        write(&self.place, STATE, state).await?;
        self.goes_on = false;
        Ok(true)
    }
}
