//! Search of Non-Patient Instances (PS3.18 §12.5): one category of one partition.
//!
//! Holds: results come in the order in which they were stored; what is asked of attributes is looked
//! up in the metadata of each instance, a bite at a time, and in no more of them than
//! `search.max_filtered`. Results are read as the client takes them.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::{
    super::{
        Archive, ArchiveError, ByteStream,
        metadata::{away, decompress},
    },
    PAGE_WITH_METADATA,
    project::{Fields, Projected, inconsistent, is_given, made},
    stream::Pages,
};
use crate::{
    dicom::{
        matching::{Element, KeyTest, Object},
        non_patient::Category,
        xml,
    },
    tenancy::PartitionScope,
};

/// Instances whose metadata is looked into at a time.
const BITE: i64 = 50;

const AVAILABILITY: &str = "00080056";
const RETRIEVE_URL: &str = "00081190";

/// What is asked of a category.
#[derive(Debug)]
pub struct NonPatientQuery {
    /// What each match passes, with the parameter that asks it.
    pub tests: Vec<(String, KeyTest)>,
    /// Attributes to return, by the path that leads to them.
    pub paths: Vec<Vec<Element>>,
    /// Whether all are returned.
    pub all: bool,
    /// Most results.
    pub limit: i64,
    /// Results to leave out.
    pub offset: i64,
}

/// The URL of an instance, by its UID.
pub type NonPatientUrl = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// An answer to a search.
pub struct NonPatientPage {
    /// Results of this answer.
    pub results: usize,
    /// Matches beyond this answer.
    pub remaining: i64,
    rows: Rows,
}

struct Rows {
    archive: Archive,
    scope: PartitionScope,
    fields: Fields,
    all: bool,
    url: NonPatientUrl,
    keys: std::vec::IntoIter<i64>,
}

impl Archive {
    /// Searches a category.
    ///
    /// # Errors
    /// [`ArchiveError::TooBroad`], [`ArchiveError::TooSlow`]; where the index fails.
    pub async fn search_non_patient(
        &self,
        scope: PartitionScope,
        category: &'static Category,
        query: NonPatientQuery,
        url: NonPatientUrl,
    ) -> Result<NonPatientPage, ArchiveError> {
        let (limit, offset) = (query.limit.max(0), query.offset.max(0));
        let (keys, remaining) = if query.tests.is_empty() {
            let mut tx = self.0.db.begin_in(&scope).await?;
            let (keys, all) = tx.non_patient_keys(category.name, (limit, offset)).await?;
            let shown = keys.len() as i64;
            (keys, (all - offset - shown).max(0))
        } else {
            let tests = query.tests.into();
            self.non_patient_matches(&scope, category, tests, (limit, offset)).await?
        };
        let fields = Fields::of(&query.paths);
        let (archive, results) = (self.clone(), keys.len());
        let rows = Rows { archive, scope, fields, all: query.all, url, keys: keys.into_iter() };
        Ok(NonPatientPage { results, remaining, rows })
    }

    /// The instances that pass all tests: those of the page, and how many there are behind it.
    async fn non_patient_matches(
        &self,
        scope: &PartitionScope,
        category: &'static Category,
        tests: Arc<[(String, KeyTest)]>,
        (limit, offset): (i64, i64),
    ) -> Result<(Vec<i64>, i64), ArchiveError> {
        let deadline = Instant::now() + self.0.search.timeout;
        let mut left = i64::from(self.0.search.max_filtered);
        let (mut keys, mut matched, mut after) = (Vec::new(), 0, 0);
        loop {
            let mut tx = self.0.db.begin_in(scope).await?;
            let rows = tx.non_patient_page(category.name, after, BITE).await?;
            drop(tx);
            left -= rows.len() as i64;
            if left < 0 {
                let names = tests.iter().map(|(name, _)| name.clone()).collect();
                return Err(ArchiveError::TooBroad { names, limit: self.0.search.max_filtered });
            }
            if Instant::now() > deadline {
                return Err(ArchiveError::TooSlow);
            }
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            let asked = Arc::clone(&tests);
            let turn = self.0.turns.0.acquire().await;
            let _turn = turn.map_err(|error| ArchiveError::Internal(error.into()))?;
            let passed = tokio::task::spawn_blocking(move || passing(rows, &asked));
            for key in passed.await.map_err(|error| ArchiveError::Internal(error.into()))?? {
                if matched >= offset && (keys.len() as i64) < limit {
                    keys.push(key);
                }
                matched += 1;
            }
        }
        let shown = keys.len() as i64;
        Ok((keys, (matched - offset.min(matched) - shown).max(0)))
    }
}

fn passing(
    rows: Vec<(i64, Vec<u8>)>,
    tests: &[(String, KeyTest)],
) -> Result<Vec<i64>, ArchiveError> {
    let mut keys = Vec::new();
    for (key, kept) in rows {
        let json = decompress(&kept)?;
        let object: Object<'_> = serde_json::from_slice(&json).map_err(inconsistent)?;
        if tests.iter().all(|(_, test)| test.matches(&object)) {
            keys.push(key);
        }
    }
    Ok(keys)
}

impl NonPatientPage {
    /// One DICOM JSON array. Its pieces end between results.
    pub fn array(self) -> ByteStream {
        self.rows.array()
    }

    /// One document in the Native DICOM Model for each result.
    pub fn documents(
        self,
        encoding: xml::Encoding,
    ) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
        self.rows.documents(encoding)
    }
}

impl Pages for Rows {
    fn is_more(&self) -> bool {
        self.keys.len() > 0
    }

    /// The next results as DICOM JSON objects. What was deleted meanwhile is left out.
    async fn next(&mut self) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let keys: Vec<i64> = self.keys.by_ref().take(PAGE_WITH_METADATA).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        let rows = tx.non_patient_metadata(&keys).await?;
        drop(tx);
        let mut results = Vec::with_capacity(rows.len());
        for (instance, kept) in rows {
            let json = away(&kept, decompress).await?;
            results.push(self.result(&instance, &json)?);
        }
        Ok(results)
    }
}

impl Rows {
    fn result(&self, instance: &str, json: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let object: Object<'_> = serde_json::from_slice(json).map_err(inconsistent)?;
        let mut result = Projected::new();
        self.fields.project(&object, &mut result);
        if self.all {
            for (key, value) in object.iter().filter(|(_, value)| is_given(value)) {
                result.insert(Cow::Borrowed(key), Cow::Borrowed(value));
            }
        }
        let url = (self.url)(instance);
        result.insert(Cow::Borrowed(AVAILABILITY), Cow::Owned(made("CS", &["ONLINE"])?));
        result.insert(Cow::Borrowed(RETRIEVE_URL), Cow::Owned(made("UR", &[&*url])?));
        serde_json::to_vec(&result).map_err(inconsistent)
    }
}
