//! Where pages of searches ended, so that a page far behind is found from there and not by counting
//! rows from the start.
//!
//! Holds: a place belongs to one search of one scope, and names a row of it; nothing else can meet
//! it. What is kept is bounded in number and in time, and is no more than a hint: without it the
//! same page is found, more slowly. Absent: rows, and what is in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    index::{RowKey, SearchPlan},
    tenancy::Scope,
};

/// Offset from which places are used: to skip fewer rows costs an index less than a millisecond, and
/// pages near the start are then always those of now.
pub(super) const FAR: i64 = 1_000;

/// How long a place is kept: as long as somebody who turns pages may look at one. Rows that arrive
/// meanwhile do not move the pages behind it; later, they do.
const KEPT: Duration = Duration::from_secs(60);

/// Searches whose places are kept, of all scopes together: some 200 bytes each.
const MAX_SEARCHES: usize = 1_024;

/// Places that are kept of one search: turning pages needs the last, going back a few before.
const MAX_PLACES: usize = 8;

/// The places of all searches.
#[derive(Debug, Default)]
pub(in crate::archive) struct Places(Mutex<HashMap<Search, Known>>);

/// What tells searches apart: a digest, since values of a search are nothing to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Search([u8; 32]);

#[derive(Debug)]
struct Known {
    used: Instant,
    /// By offset: the row before it, and since when that is known.
    places: BTreeMap<i64, (RowKey, Instant)>,
}

impl Search {
    /// The search of a plan, whatever page of it.
    pub(super) fn of(scope: &Scope, plan: &SearchPlan) -> Self {
        let SearchPlan { level, within, conditions, limit: _, offset: _, after: _ } = plan;
        let text = format!("{:?}", (scope.partitions(), level, within, conditions));
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl Places {
    /// The place nearest before `offset`: its own offset, and the row before it.
    pub(super) fn before(&self, search: Search, offset: i64) -> Option<(i64, RowKey)> {
        let now = Instant::now();
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = searches.get_mut(&search)?;
        known.used = now;
        known.places.retain(|_, (_, since)| now.duration_since(*since) < KEPT);
        let (place, (row, _)) = known.places.range(..=offset).next_back()?;
        Some((*place, row.clone()))
    }

    /// Keeps the row before `offset`.
    pub(super) fn keep(&self, search: Search, offset: i64, row: RowKey) {
        let now = Instant::now();
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if searches.len() >= MAX_SEARCHES && !searches.contains_key(&search) {
            searches.retain(|_, known| now.duration_since(known.used) < KEPT);
            let oldest = searches.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| searches.len() >= MAX_SEARCHES) {
                searches.remove(&oldest);
            }
        }
        let known =
            searches.entry(search).or_insert_with(|| Known { used: now, places: BTreeMap::new() });
        known.used = now;
        known.places.insert(offset, (row, now));
        if known.places.len() > MAX_PLACES {
            let oldest = known.places.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(oldest) = oldest.map(|(offset, _)| *offset) {
                known.places.remove(&oldest);
            }
        }
    }
}
