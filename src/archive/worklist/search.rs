//! Search for workitems (PS3.18 §11.9): a walk over the worklist in the order of the scheduled start,
//! and what is said of those that match.
//!
//! Holds: what is known of state, patient, UID or start narrows the walk; all keys are looked at in
//! what it finds, in bites, and in no more than `search.max_filtered` rows. An answer has a bound of
//! bytes. Absent: reading queries.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::super::{
    Archive, ArchiveError,
    search::{Fields, inconsistent},
};
use crate::{
    config::SearchConfig,
    dicom::{
        Tag,
        json::name,
        matching::{Element, KeyTest, Object, Test},
        ups::{State, tags},
    },
    index::{FoundWorkitem, PartitionTx, WorkitemWalk},
    tenancy::PartitionScope,
};

/// Rows that are read at a time: each can be as long as a workitem may be.
const BITE: usize = 32;

/// Behind every date time.
const LAST: &str = "~";

/// Attributes of return key type 1 and 2 (PS3.4 Table CC.2.5-3), and those of 2C.
const RETURNED: [Tag; 32] = [
    Tag(0x0008, 0x0016),
    Tag(0x0008, 0x0018),
    Tag(0x0008, 0x1080),
    Tag(0x0008, 0x1084),
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0020),
    Tag(0x0010, 0x0021),
    Tag(0x0010, 0x0024),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0040),
    Tag(0x0010, 0x1002),
    Tag(0x0010, 0x2000),
    Tag(0x0010, 0x21C0),
    Tag(0x0020, 0x000D),
    Tag(0x0038, 0x0010),
    Tag(0x0038, 0x0014),
    Tag(0x0038, 0x0050),
    Tag(0x0040, 0x4005),
    Tag(0x0040, 0x4018),
    Tag(0x0040, 0x4021),
    Tag(0x0040, 0x4025),
    Tag(0x0040, 0x4026),
    Tag(0x0040, 0x4027),
    Tag(0x0040, 0x4034),
    Tag(0x0040, 0x4041),
    Tag(0x0040, 0xA370),
    Tag(0x0074, 0x1000),
    Tag(0x0074, 0x1002),
    Tag(0x0074, 0x1200),
    Tag(0x0074, 0x1202),
    Tag(0x0074, 0x1204),
    Tag(0x0074, 0x1210),
];

/// What a search for workitems asks.
#[derive(Clone, Debug, Default)]
pub struct WorkitemsWanted {
    /// What a workitem has to pass.
    pub tests: Vec<KeyTest>,
    /// The parameters that say so, as typed.
    pub names: Vec<String>,
    /// Every attribute is returned.
    pub all: bool,
    /// Attributes that are returned besides those that always are.
    pub tags: BTreeSet<Tag>,
    /// Private attributes, and attributes of items, by the path that leads to them.
    pub paths: Vec<Vec<Element>>,
    /// Most results.
    pub limit: i64,
    /// Matches to leave out at the start.
    pub offset: i64,
}

/// Workitems that match.
#[derive(Clone, Debug, Default)]
pub struct FoundWorkitems {
    /// Each as a DICOM JSON object.
    pub results: Vec<Vec<u8>>,
    /// Matches beyond them, as far as they were counted.
    pub remaining: i64,
}

/// The way through a worklist.
#[derive(Debug, PartialEq, Eq)]
enum Walk {
    Uids(Vec<String>),
    From { walk: WorkitemWalk, first: String, last: String },
}

impl Walk {
    /// The one that finds what passes these tests, and least besides.
    fn of(tests: &[KeyTest]) -> Self {
        let (mut walk, mut first, mut last) = (WorkitemWalk::All, String::new(), LAST.to_owned());
        for test in tests {
            let KeyTest::Value { at: Element::Standard(at), test, .. } = test else { continue };
            match (*at, test) {
                (tags::SOP_INSTANCE, Test::AnyOf(uids)) => {
                    let mut uids = uids.clone();
                    uids.sort_unstable();
                    uids.dedup();
                    return Self::Uids(uids);
                }
                (tags::PATIENT_ID, Test::Equals(id)) => walk = WorkitemWalk::Patient(id.clone()),
                (tags::STATE, Test::Equals(word)) if walk == WorkitemWalk::All => {
                    walk = State::of(word).map_or(WorkitemWalk::All, WorkitemWalk::State);
                }
                (tags::START, Test::Equals(start)) => {
                    (first, last) = (start.clone(), start.clone());
                }
                (tags::START, Test::Range { from, to }) => {
                    first = from.clone().unwrap_or_default();
                    last = to.clone().unwrap_or(last);
                }
                _ => {}
            }
        }
        Self::From { walk, first, last }
    }
}

/// What is said of a match.
struct Shown {
    all: bool,
    tags: BTreeSet<String>,
    fields: Fields,
}

impl Archive {
    /// Searches the worklist of a partition.
    ///
    /// # Errors
    /// [`ArchiveError::TooBroad`], [`ArchiveError::TooSlow`], [`ArchiveError::TooLarge`]; where the
    /// index fails.
    pub async fn search_workitems(
        &self,
        scope: &PartitionScope,
        wanted: WorkitemsWanted,
    ) -> Result<FoundWorkitems, ArchiveError> {
        let WorkitemsWanted { tests, names, all, tags, paths, limit, offset } = wanted;
        let mut way = Walk::of(&tests);
        let tags = RETURNED.into_iter().chain(tags).map(name).collect();
        let shown = Arc::new(Shown { all, tags, fields: Fields::of(&paths) });
        let tests: Arc<[KeyTest]> = tests.into();
        let deadline = Instant::now() + self.0.search.timeout;
        let most = i64::from(self.0.search.max_filtered);
        let most_counted = i64::from(self.0.search.max_counted);
        let bytes = self.0.worklist.max_answer_bytes;
        let end = offset.saturating_add(limit);
        let (mut found, mut looked, mut matched, mut length) =
            (FoundWorkitems::default(), 0, 0, 0_u64);
        let mut behind = None;
        loop {
            let mut tx = self.0.db.begin_in(scope).await?;
            let rows = next(&mut tx, &mut way, behind.as_ref()).await?;
            drop(tx);
            let Some(last) = rows.last() else { return Ok(found) };
            behind = Some(last.place.clone());
            looked += rows.len() as i64;
            let (tests, shown) = (Arc::clone(&tests), Arc::clone(&shown));
            // Of those that no page shows, nothing has to be made.
            let (skipped, wanted) = ((offset - matched).max(0), (end - matched).max(0));
            let page = skipped..wanted;
            let _turn = self.0.turns.take().await?;
            let bite = tokio::task::spawn_blocking(move || passing(&rows, &tests, &shown, page));
            let bite = bite.await.map_err(|error| ArchiveError::Internal(error.into()))??;
            matched += bite.matched;
            for result in bite.results {
                length += result.len() as u64;
                if length > bytes {
                    return Err(ArchiveError::TooLarge {
                        key: "worklist.max_answer_bytes",
                        limit: bytes,
                    });
                }
                found.results.push(result);
            }
            found.remaining = (matched - end).max(0);
            let is_full = matched >= end;
            if most_counted > 0 && found.remaining >= most_counted {
                found.remaining = most_counted;
                return Ok(found);
            }
            if looked >= most {
                // What the page lacks may lie behind; what remains behind a full one is as much at
                // least as was counted.
                return match is_full && found.remaining > 0 {
                    true => Ok(found),
                    false => {
                        Err(ArchiveError::TooBroad { names, limit: self.0.search.max_filtered })
                    }
                };
            }
            if Instant::now() > deadline {
                return Err(ArchiveError::TooSlow);
            }
        }
    }
}

/// The UIDs of all workitems that pass, read within a transaction.
pub(super) async fn passing_uids(
    tx: &mut PartitionTx,
    tests: Arc<[KeyTest]>,
    names: Vec<String>,
    config: &SearchConfig,
) -> Result<Vec<String>, ArchiveError> {
    let mut way = Walk::of(&tests);
    let deadline = Instant::now() + config.timeout;
    let (mut passed, mut looked, mut behind) = (Vec::new(), 0, None);
    loop {
        let rows = next(tx, &mut way, behind.as_ref()).await?;
        let Some(last) = rows.last() else { return Ok(passed) };
        behind = Some(last.place.clone());
        looked += rows.len();
        let tests = Arc::clone(&tests);
        let bite = tokio::task::spawn_blocking(move || {
            let passes = |row: &FoundWorkitem| -> Result<bool, ArchiveError> {
                let object: Object<'_> =
                    serde_json::from_str(&row.attributes).map_err(inconsistent)?;
                Ok(tests.iter().all(|test| test.matches(&object)))
            };
            let mut uids = Vec::new();
            for row in rows {
                if passes(&row)? {
                    uids.push(row.place.1);
                }
            }
            Ok::<_, ArchiveError>(uids)
        });
        passed.extend(bite.await.map_err(|error| ArchiveError::Internal(error.into()))??);
        if looked >= config.max_filtered as usize {
            return Err(ArchiveError::TooBroad { names, limit: config.max_filtered });
        }
        if Instant::now() > deadline {
            return Err(ArchiveError::TooSlow);
        }
    }
}

/// The next rows of a walk; none at its end.
async fn next(
    tx: &mut PartitionTx,
    way: &mut Walk,
    behind: Option<&(String, String)>,
) -> Result<Vec<FoundWorkitem>, ArchiveError> {
    match way {
        Walk::Uids(uids) => loop {
            let next: Vec<String> = uids.drain(..uids.len().min(BITE)).collect();
            if next.is_empty() {
                return Ok(Vec::new());
            }
            let rows = tx.workitems_of(&next).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        },
        Walk::From { walk, first, last } => {
            let place = match behind {
                Some((start, uid)) => (start.as_str(), uid.as_str()),
                None => (first.as_str(), ""),
            };
            Ok(tx.workitems(walk, place, last, BITE as i64).await?)
        }
    }
}

/// What some rows come to.
struct Bite {
    matched: i64,
    results: Vec<Vec<u8>>,
}

/// Looks at rows; of those that pass, what `page` counts is shown.
fn passing(
    rows: &[FoundWorkitem],
    tests: &[KeyTest],
    shown: &Shown,
    page: std::ops::Range<i64>,
) -> Result<Bite, ArchiveError> {
    let mut bite = Bite { matched: 0, results: Vec::new() };
    for row in rows {
        let object: Object<'_> = serde_json::from_str(&row.attributes).map_err(inconsistent)?;
        if !tests.iter().all(|test| test.matches(&object)) {
            continue;
        }
        if page.contains(&bite.matched) {
            bite.results.push(shown.project(&object)?);
        }
        bite.matched += 1;
    }
    Ok(bite)
}

impl Shown {
    /// What is said of a workitem: attributes ascending by tag (PS3.18 Annex F).
    fn project(&self, object: &Object<'_>) -> Result<Vec<u8>, ArchiveError> {
        let mut result: BTreeMap<Cow<'_, str>, Cow<'_, RawValue>> = BTreeMap::new();
        for (key, value) in object {
            if self.all || self.tags.contains(*key) {
                result.insert(Cow::Borrowed(key), Cow::Borrowed(value));
            }
        }
        self.fields.project(object, &mut result);
        if result.values().any(|value| !value.get().is_ascii()) {
            let utf8 = serde_json::json!({ "vr": "CS", "Value": ["ISO_IR 192"] });
            let utf8 = to_raw_value(&utf8).map_err(inconsistent)?;
            result.insert(Cow::Borrowed("00080005"), Cow::Owned(utf8));
        }
        serde_json::to_vec(&result).map_err(inconsistent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::Matching;

    fn value(at: Tag, kind: Matching, test: Test) -> KeyTest {
        KeyTest::Value { at: Element::Standard(at), kind, test }
    }

    fn is(text: &str) -> Test {
        Test::Equals(text.to_owned())
    }

    #[test]
    fn what_narrows_most_leads_the_walk() {
        let state = value(tags::STATE, Matching::Text, is("IN PROGRESS"));
        let patient = value(tags::PATIENT_ID, Matching::Text, is("P"));
        let some = value(tags::PATIENT_ID, Matching::Text, Test::Like("P*".to_owned()));
        let range = Test::Range { from: Some("2026".to_owned()), to: None };
        let start = value(tags::START, Matching::DateTime, range);
        let uids = Test::AnyOf(vec!["1.3".to_owned(), "1.2".to_owned(), "1.3".to_owned()]);
        let uids = value(tags::SOP_INSTANCE, Matching::Uid, uids);
        let from =
            |walk, first: &str| Walk::From { walk, first: first.to_owned(), last: LAST.to_owned() };
        for (tests, expected) in [
            (vec![], from(WorkitemWalk::All, "")),
            (vec![some], from(WorkitemWalk::All, "")),
            (vec![state.clone()], from(WorkitemWalk::State(State::InProgress), "")),
            (vec![state.clone(), start], from(WorkitemWalk::State(State::InProgress), "2026")),
            (vec![state.clone(), patient.clone()], from(WorkitemWalk::Patient("P".into()), "")),
            (vec![patient, state], from(WorkitemWalk::Patient("P".into()), "")),
            (vec![uids], Walk::Uids(vec!["1.2".to_owned(), "1.3".to_owned()])),
        ] {
            assert_eq!(Walk::of(&tests), expected, "{tests:?}");
        }
        let never = value(tags::STATE, Matching::Text, is("LATE"));
        assert_eq!(Walk::of(&[never]), from(WorkitemWalk::All, ""));
    }
}
