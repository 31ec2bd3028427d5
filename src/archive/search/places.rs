//! Where pages of searches ended, so that a page far behind is found from there and not by counting
//! rows from the start.
//!
//! Holds: a place belongs to one search of one scope, and names a row of it; nothing else can meet
//! it. What is kept is bounded in number and in time, and is no more than a hint: without it the
//! same page is found, more slowly. Absent: rows, and what is in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{index::SearchPlan, tenancy::Scope};

/// Offset from which places are used: to skip fewer rows costs an index less than a millisecond, and
/// pages near the start are then always those of now.
pub(super) const FAR: i64 = 1_000;

/// How long a place is kept: as long as somebody who turns pages may look at one. Rows that arrive
/// meanwhile do not move the pages behind it; later, they do.
const KEPT: Duration = Duration::from_secs(60);

/// Searches whose places are kept, of all scopes together.
const MAX_SEARCHES: usize = 256;

/// Places that are kept of one search, some 100 bytes each: as many as are met on the way to a page
/// far behind, and some for turning pages there.
const MAX_PLACES: usize = 256;

/// The places of all searches, as rows of the index.
#[derive(Debug)]
pub(in crate::archive) struct Places<R>(Mutex<HashMap<Search, Known<R>>>);

/// What tells searches apart: a digest, since values of a search are nothing to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Search([u8; 32]);

#[derive(Debug)]
struct Known<R> {
    used: Instant,
    /// By offset: the row before it, and since when that is known.
    places: BTreeMap<i64, (R, Instant)>,
}

impl<R> Default for Places<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Search {
    /// The search of a plan, whatever page of it.
    pub(super) fn of(scope: &Scope, plan: &SearchPlan) -> Self {
        let SearchPlan { level, within, conditions, limit: _, offset: _, after: _ } = plan;
        let text = format!("{:?}", (scope.partitions(), level, within, conditions));
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl<R: Clone> Places<R> {
    /// The place nearest before `offset`: its own offset, and the row before it.
    pub(super) fn before(&self, search: Search, offset: i64, now: Instant) -> Option<(i64, R)> {
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = searches.get_mut(&search)?;
        known.used = now;
        known.places.retain(|_, (_, since)| now.duration_since(*since) < KEPT);
        let (place, (row, _)) = known.places.range(..=offset).next_back()?;
        Some((*place, row.clone()))
    }

    /// Keeps rows, each with the offset that it is before.
    pub(super) fn keep(
        &self,
        search: Search,
        rows: impl IntoIterator<Item = (i64, R)>,
        now: Instant,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
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
        for (offset, row) in rows {
            known.places.insert(offset, (row, now));
            if known.places.len() > MAX_PLACES {
                let oldest = known.places.iter().min_by_key(|(_, (_, since))| *since);
                if let Some(oldest) = oldest.map(|(offset, _)| *offset) {
                    known.places.remove(&oldest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(n: u16) -> Search {
        Search(std::array::from_fn(|at| (n >> (8 * (at % 2))) as u8))
    }

    #[test]
    fn the_nearest_place_before_is_found_and_none_of_another_search() {
        let (places, now) = (Places::default(), Instant::now());
        for offset in [1_000, 2_000, 1_500] {
            places.keep(search(1), [(offset, offset)], now);
        }
        for (offset, expected) in
            [(999, None), (1_000, Some(1_000)), (1_999, Some(1_500)), (i64::MAX, Some(2_000))]
        {
            let found = places.before(search(1), offset, now);
            assert_eq!(found, expected.map(|place| (place, place)), "{offset}");
        }
        assert_eq!(places.before(search(2), 2_000, now), None);
    }

    #[test]
    fn places_are_kept_for_a_while_and_in_a_bounded_number() {
        let (places, start) = (Places::default(), Instant::now());
        let after = |seconds: i64| start + Duration::from_secs(seconds.cast_unsigned());
        let last = MAX_PLACES as i64 + 11;
        for n in 0..=last {
            // Several at once, one a second.
            places.keep(search(1), [(1_000 + n, n)], after(n / 10));
        }
        let later = after(last / 10);
        assert_eq!(places.before(search(1), 1_011, later), None, "the oldest went");
        assert_eq!(places.before(search(1), 1_012, later), Some((1_012, 12)));
        let late = after(1) + KEPT;
        assert_eq!(places.before(search(1), 1_019, late), None, "after a minute they go");
        assert_eq!(places.before(search(1), 1_020, late), Some((1_020, 20)));
        for n in 0..2_000 {
            places.keep(search(n), [(1_000, 0)], late);
        }
        assert_eq!(places.0.lock().unwrap().len(), MAX_SEARCHES);
        places.keep(search(3_000), [], late);
        assert_eq!(places.before(search(3_000), i64::MAX, late), None);
    }
}
