//! Keys that no index answers, looked at in the rows that the indexed keys leave.
//!
//! Holds: rows are read in bites, and no more of them than `search.max_filtered`; metadata is read
//! only where a key needs it, and decompressed away from the threads that serve requests. Absent:
//! what passes ([`KeyTest::matches`]).

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    super::{Archive, ArchiveError, metadata::decompress},
    inconsistent,
};
use crate::{
    dicom::{
        attributes::Level,
        matching::{KeyTest, Object},
    },
    index::{Include, RowKey, SearchPlan, SearchRow},
    tenancy::Scope,
};

/// Rows that are read at a time.
const BITE: i64 = 500;

/// Rows that are read at a time with their metadata, which can be large.
const BITE_WITH_METADATA: i64 = 50;

/// A key that is looked up in what is stored of a row.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The parameter, as the client wrote it.
    pub name: String,
    /// Whose attribute it is.
    pub level: Level,
    /// Where the attribute is.
    pub from: Source,
    /// What it has to pass.
    pub test: KeyTest,
}

/// Where an attribute is that no index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// With the row of its level.
    Attributes,
    /// In the metadata of the instance.
    Metadata,
}

/// Turns at looking into rows: as many at a time as there are processors, in the order in which they
/// were asked for, so that a search of one partition waits for a bite of another's and not for all of
/// it.
pub(in crate::archive) struct Turns(pub(super) Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)))
    }
}

impl Turns {
    /// Waits for one's turn, which lasts until it is dropped.
    ///
    /// # Errors
    /// [`ArchiveError::Internal`].
    pub(in crate::archive) async fn take(&self) -> Result<SemaphorePermit<'_>, ArchiveError> {
        self.0.acquire().await.map_err(|error| ArchiveError::Internal(error.into()))
    }
}

/// Filters, and what has to be read of rows for them.
pub(super) struct Passing {
    filters: Arc<[Filter]>,
    pub(super) include: Include,
    /// Rows that are read at a time.
    pub(super) bite: i64,
}

impl Passing {
    /// What filters need of rows of a level; `None`: there are none.
    pub(super) fn of(filters: Vec<Filter>, level: Level) -> Option<Self> {
        if filters.is_empty() {
            return None;
        }
        let metadata = filters.iter().any(|filter| filter.from == Source::Metadata);
        let needs = |of| level >= of && filters.iter().any(|filter| filter.level == of);
        let include = Include {
            study: needs(Level::Study),
            series: needs(Level::Series),
            metadata,
            ..Include::default()
        };
        let bite = if metadata { BITE_WITH_METADATA } else { BITE };
        Some(Self { filters: filters.into(), include, bite })
    }

    /// What is answered where there are more than `limit` rows to look at.
    pub(super) fn too_broad(&self, limit: u32) -> ArchiveError {
        let names = self.filters.iter().map(|filter| filter.name.clone()).collect();
        ArchiveError::TooBroad { names, limit }
    }
}

/// The rows that pass filters.
pub(super) struct Filtered {
    /// Those of the page, in order.
    pub(super) keys: Vec<RowKey>,
    /// How many there are beyond it.
    pub(super) remaining: i64,
}

impl Archive {
    /// The page of a search with filters. All that the indexed keys find is looked at, so that what
    /// remains is known.
    ///
    /// # Errors
    /// [`ArchiveError::TooBroad`] where that is more than `search.max_filtered` rows; where the index
    /// fails.
    pub(super) async fn search_filtered(
        &self,
        scope: &Scope,
        plan: &SearchPlan,
        passing: Passing,
    ) -> Result<Filtered, ArchiveError> {
        let most = i64::from(self.0.search.max_filtered);
        let deadline = Instant::now() + self.0.search.timeout;
        let (first, last) = (plan.offset.max(0), plan.offset.max(0).saturating_add(plan.limit));
        let mut found = Filtered { keys: Vec::new(), remaining: 0 };
        let (mut left, mut matched) = (most, 0);
        let mut next = SearchPlan { offset: 0, after: None, ..plan.clone() };
        loop {
            // One more than may be looked at tells whether there are too many.
            next.limit = passing.bite.min(left.saturating_add(1));
            let mut tx = self.0.db.begin(scope).await?;
            let keys = tx.search_keys(&next).await?;
            let rows = tx.search_rows(plan.level, &keys, passing.include, &[]).await?;
            drop(tx);
            left -= keys.len() as i64;
            if left < 0 {
                return Err(passing.too_broad(self.0.search.max_filtered));
            }
            if Instant::now() > deadline {
                return Err(ArchiveError::TooSlow);
            }
            let is_last = (keys.len() as i64) < next.limit;
            next.after = keys.last().cloned();
            for SearchRow { key, .. } in self.passing(rows, &passing).await? {
                if (first..last).contains(&matched) {
                    found.keys.push(key);
                } else if matched >= last {
                    found.remaining += 1;
                }
                matched += 1;
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    /// The rows that pass all filters, looked at in one's turn.
    pub(super) async fn passing(
        &self,
        rows: Vec<SearchRow>,
        passing: &Passing,
    ) -> Result<Vec<SearchRow>, ArchiveError> {
        let tests = Arc::clone(&passing.filters);
        let _turn = self.0.turns.take().await?;
        let passed = tokio::task::spawn_blocking(move || {
            let mut passed = Vec::new();
            for row in rows {
                if passes(&row, &tests)? {
                    passed.push(row);
                }
            }
            Ok(passed)
        });
        passed.await.map_err(|error| ArchiveError::Internal(error.into()))?
    }
}

fn passes(row: &SearchRow, filters: &[Filter]) -> Result<bool, ArchiveError> {
    for level in [Level::Study, Level::Series, Level::Instance] {
        let of_level = |f: &&Filter| f.from == Source::Attributes && f.level == level;
        let mut tests = filters.iter().filter(of_level).peekable();
        if tests.peek().is_none() {
            continue;
        }
        let text = row.attributes.get(level as usize).and_then(Option::as_deref);
        let object: Object<'_> =
            serde_json::from_str(text.unwrap_or("{}")).map_err(inconsistent)?;
        if !tests.all(|filter| filter.test.matches(&object)) {
            return Ok(false);
        }
    }
    let mut tests = filters.iter().filter(|filter| filter.from == Source::Metadata).peekable();
    if tests.peek().is_none() {
        return Ok(true);
    }
    let Some(frame) = &row.metadata else { return Ok(false) };
    let json = decompress(frame)?;
    let object: Object<'_> = serde_json::from_slice(&json).map_err(inconsistent)?;
    Ok(tests.all(|filter| filter.test.matches(&object)))
}
