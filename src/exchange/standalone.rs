//! An export into a folder or bucket of its own, without an operation: how far it is stands beside
//! what it has written.
//!
//! Holds: a place has one such export; one that was cut short goes on where it was, if the same is
//! asked for, with what was found when it began; one that has ended is not written over. Absent: who
//! asks (`app`), how files are written (`copies`).

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    ExportError, ExportRequest,
    copies::{Copies, DIRECTORY_TOO_LARGE, ERRORS_FILE, MANIFEST_FILE, Means},
    layout::RESULTS,
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
    /// There is an export that has ended, or something that looks like one.
    #[error("the destination has an export already, or files that one would write over")]
    Occupied,
    /// Another run has gone on with it since.
    #[error("the export is being gone on with by another run")]
    Taken,
    /// A DICOMDIR would be too large.
    #[error("{DIRECTORY_TOO_LARGE}")]
    TooMany,
}

impl StandaloneError {
    /// Whether the export goes on when it is repeated.
    pub fn can_go_on(&self) -> bool {
        match self {
            Self::Export(error) => !matches!(error, ExportError::OtherKey),
            Self::Unreadable | Self::Occupied | Self::Taken | Self::TooMany => false,
        }
    }
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
    /// What a query found; `None` of what is de-identified, since it has UIDs of what is stored.
    pub found: Option<Vec<String>>,
    id: Uuid,
}

impl Begun {
    /// One of which nothing is written yet.
    pub fn new(asked: String, by_query: bool, request: &ExportRequest) -> Self {
        let is_kept = by_query && request.deidentify.is_none();
        let found = is_kept.then(|| request.resources.clone());
        Self { asked, found, id: Uuid::new_v4() }
    }

    /// What was begun in a place and has not ended.
    ///
    /// # Errors
    /// [`StandaloneError`]; [`StandaloneError::Occupied`] where one has ended there, or something else
    /// has the names of what would be written.
    pub async fn find(place: &Place) -> Result<Option<Self>, StandaloneError> {
        if let Some(begun) = read(place, BEGUN).await? {
            return Ok(Some(begun));
        }
        for name in [MANIFEST_FILE, ERRORS_FILE] {
            if place.size(name).await?.is_some() {
                return Err(StandaloneError::Occupied);
            }
        }
        match place.list(RESULTS, None).try_next().await? {
            Some(_) => Err(StandaloneError::Occupied),
            None => Ok(None),
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Who wrote it last.
    run: Uuid,
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
    run: Uuid,
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
        let run = Uuid::new_v4();
        let mut state: Option<State> = read(&place, STATE).await?;
        if let Some(state) = &mut state {
            state.run = run;
            write(&place, STATE, state).await?;
        }
        let goes_on = true;
        Ok(Self { archive, scope, limits, at_once, place, begun, request, run, state, goes_on })
    }

    /// Whether no other run has gone on with it since this one wrote how far it is.
    async fn is_ours(&self) -> Result<bool, StandaloneError> {
        let there: Option<State> = read(&self.place, STATE).await?;
        Ok(there.map(|there| there.run) == self.state.as_ref().map(|_| self.run))
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
        if !self.is_ours().await? {
            return Err(StandaloneError::Taken);
        }
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
            let state = State { run: self.run, total, cursor: Exporting::default() };
            write(&self.place, BEGUN, &self.begun).await?;
            write(&self.place, STATE, &state).await?;
            (self.state, self.goes_on) = (Some(state), false);
            return Ok(true);
        };
        if copies.are_done(&state.cursor) {
            copies.close(self.begun.id, state.cursor.lists).await?;
            // From here on it has ended: without the pieces it could not be closed again.
            self.place.remove(BEGUN).await?;
            let cleared = async {
                copies.clear(state.cursor.lists).await?;
                Ok::<_, ExportError>(self.place.remove(STATE).await?)
            };
            if let Err(error) = cleared.await {
                tracing::warn!(%error, "what the export needs no more could not be removed");
            }
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
