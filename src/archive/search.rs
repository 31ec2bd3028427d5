//! Search (PS3.18 §10.6): a plan in, a stream of DICOM JSON or XML out.
//!
//! Holds: the keys of all results are found first, in one transaction, so that the answer is in one
//! order and its number is known; what is said about them is read page by page, as the client takes
//! them. Nothing is counted but what a page shows, and what remains behind it, up to a bound.

mod filter;
mod places;
mod project;

use std::time::Instant;

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{Archive, ArchiveError, ByteStream, metadata::document};
use crate::{
    dicom::{attributes::Level, xml},
    index::{Include, RowKey, SearchPlan, SearchRow, SearchTag},
    tenancy::Scope,
};
pub(super) use filter::Turns;
pub use filter::{Filter, Source};
pub(super) use places::Places;
use places::{FAR, Search};
pub use project::{Extended, Returned};
use project::{Fields, include, inconsistent, result};

/// Results that are read in one transaction.
const PAGE: usize = 100;

/// Results that are read in one transaction with their metadata, which can be large.
const PAGE_WITH_METADATA: usize = 10;

/// The RetrieveURL of a result.
pub type RetrieveUrl = std::sync::Arc<dyn Fn(&SearchRow) -> String + Send + Sync>;

/// An answer to a search.
pub struct SearchPage {
    /// Results of this answer.
    pub results: usize,
    /// Matches beyond this answer.
    pub remaining: i64,
    rows: Rows,
}

struct Rows {
    archive: Archive,
    scope: Scope,
    level: Level,
    include: Include,
    returned: Returned,
    fields: Fields,
    retrieve_url: RetrieveUrl,
    keys: std::vec::IntoIter<RowKey>,
}

impl Archive {
    /// Searches the partitions of a scope: rows that the plan finds and that pass all filters.
    ///
    /// # Errors
    /// [`ArchiveError::TooBroad`], [`ArchiveError::TooSlow`]; where the index fails.
    pub async fn search(
        &self,
        scope: Scope,
        plan: SearchPlan,
        filters: Vec<Filter>,
        returned: Returned,
        retrieve_url: RetrieveUrl,
    ) -> Result<SearchPage, ArchiveError> {
        let (keys, remaining) = if filters.is_empty() {
            self.search_page(&scope, &plan).await?
        } else {
            let found = self.search_filtered(&scope, &plan, &filters).await?;
            (found.keys, found.remaining)
        };
        let results = keys.len();
        let rows = Rows {
            archive: self.clone(),
            scope,
            level: plan.level,
            include: include(plan.level, &returned),
            fields: Fields::of(&returned.paths),
            returned,
            retrieve_url,
            keys: keys.into_iter(),
        };
        Ok(SearchPage { results, remaining, rows })
    }

    /// The extended query tags that can be searched by in a scope.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn search_tags(&self, scope: &Scope) -> Result<Vec<SearchTag>, ArchiveError> {
        Ok(self.0.db.begin(scope).await?.search_tags().await?)
    }

    /// The page of a search that indexes answer, and how many rows there are beyond it.
    async fn search_page(
        &self,
        scope: &Scope,
        plan: &SearchPlan,
    ) -> Result<(Vec<RowKey>, i64), ArchiveError> {
        let (offset, limit) = (plan.offset.max(0), plan.limit.max(0));
        let search = (offset.saturating_add(limit) >= FAR).then(|| Search::of(scope, plan));
        // One more than asked tells whether anything remains; only then is there a count.
        let mut ahead = SearchPlan { limit: limit.saturating_add(1), ..plan.clone() };
        if let Some(search) = search.filter(|_| offset >= FAR)
            && let Some((place, row)) = self.0.places.before(search, offset, Instant::now())
        {
            ahead.after = Some(row);
            ahead.offset = offset - place;
        }
        let mut tx = self.0.db.begin(scope).await?;
        let mut keys = tx.search_keys(&ahead).await?;
        if keys.len() as i64 <= limit {
            return Ok((keys, 0));
        }
        keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if let (Some(search), Some(last)) = (search, keys.last()) {
            let (end, now) = (offset.saturating_add(limit), Instant::now());
            self.0.places.keep(search, end, last.clone(), now);
        }
        let most = Some(i64::from(self.0.search.max_counted)).filter(|most| *most > 0);
        let remaining = match keys.last() {
            // What lies behind the page, whatever has come before it meanwhile.
            Some(last) => {
                let behind = SearchPlan { after: Some(last.clone()), ..plan.clone() };
                tx.search_count(&behind, most).await?
            }
            None => {
                let most = most.map(|most| most.saturating_add(offset));
                tx.search_count(plan, most).await? - offset
            }
        };
        Ok((keys, remaining.max(1)))
    }
}

impl SearchPage {
    /// One DICOM JSON array. Its pieces end between results.
    pub fn array(self) -> ByteStream {
        let chunks = stream::try_unfold(Some((self.rows, true)), |state| async move {
            let Some((mut rows, mut first)) = state else { return Ok(None) };
            let mut out = Vec::with_capacity(16 * 1024);
            for json in rows.next().await? {
                out.push(if first { b'[' } else { b',' });
                out.extend_from_slice(&json);
                first = false;
            }
            if rows.keys.len() > 0 {
                return Ok(Some((out.into(), Some((rows, first)))));
            }
            out.extend_from_slice(if first { b"[]" } else { b"]" });
            Ok(Some((Bytes::from(out), None)))
        });
        chunks.boxed()
    }

    /// One document in the Native DICOM Model for each result.
    pub fn documents(
        self,
        encoding: xml::Encoding,
    ) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
        let pages = stream::try_unfold(self.rows, move |mut rows| async move {
            if rows.keys.len() == 0 {
                return Ok::<_, ArchiveError>(None);
            }
            let page = rows.next().await?;
            let documents =
                page.into_iter().map(move |json| document(&json, encoding).map(Bytes::from));
            Ok(Some((stream::iter(documents), rows)))
        });
        pages.try_flatten().boxed()
    }
}

impl Rows {
    /// The next results as DICOM JSON objects; none at the end.
    async fn next(&mut self) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let page = if self.include.metadata { PAGE_WITH_METADATA } else { PAGE };
        let keys: Vec<RowKey> = self.keys.by_ref().take(page).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.archive.0.db.begin(&self.scope).await?;
        let tags: Vec<(i64, Level)> =
            self.returned.extended.iter().map(|tag| (tag.id, tag.level)).collect();
        let rows = tx.search_rows(self.level, &keys, self.include, &tags).await?;
        drop(tx);
        let results = rows.iter().map(|row| {
            let url = (self.retrieve_url)(row);
            let mut json = Vec::with_capacity(2048);
            result(row, self.level, &self.returned, &self.fields, &url, &mut json)?;
            Ok(json)
        });
        results.collect()
    }
}
