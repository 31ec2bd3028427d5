//! Search (PS3.18 §10.6): a plan in, a stream of DICOM JSON or XML out.
//!
//! Holds: the keys of all results are found first, in one transaction, so that the answer is in one
//! order and its number is known; what is said about them is read page by page, the first of them at
//! once and the others as the client takes them. Nothing is counted but what a page shows, and what
//! remains behind it, up to a bound.

mod filter;
mod non_patient;
mod parts;
mod places;
mod project;
mod stream;
mod whole;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use futures::stream::BoxStream;

use super::{
    Archive, ArchiveError, ByteStream,
    metadata::{away, decompress},
};
use crate::{
    dicom::{attributes::Level, xml},
    index::{Found, Include, RowKey, ScopedTx, SearchPlan, SearchRow, SearchTag},
    tenancy::Scope,
};
use filter::Passing;
pub(super) use filter::Turns;
pub use filter::{Filter, Source};
pub use non_patient::{NonPatientPage, NonPatientQuery, NonPatientUrl};
pub(super) use places::Places;
use places::{FAR, Search};
pub use project::{Extended, Returned};
pub(super) use project::{Fields, inconsistent};
use project::{include, result};
use stream::{Pages, piece_of_array};

/// Results that are read in one transaction.
const PAGE: usize = 100;

/// Results that are read in one transaction with their metadata, which can be large.
const PAGE_WITH_METADATA: usize = 10;

/// Results of a page that are read by one statement, where two connections read it: what it costs to
/// ask is little beside them, and neither waits long for the other.
const PIECE: usize = 25;

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

/// Results as DICOM JSON objects.
type Results = Vec<Result<Vec<u8>, ArchiveError>>;

/// The rows of an answer, read as the client takes them.
struct Rows {
    archive: Archive,
    scope: Scope,
    level: Level,
    include: Include,
    returned: Returned,
    fields: Fields,
    retrieve_url: RetrieveUrl,
    keys: std::vec::IntoIter<RowKey>,
    /// The first of them, where they were read already.
    first: Option<Results>,
}

/// Keys of results that are read, by whoever comes first, with the number of each piece.
struct Pieces(Mutex<VecDeque<(usize, Vec<RowKey>)>>);

/// What was read of them.
#[derive(Default)]
struct Read(Vec<(usize, Results)>);

/// What lies behind a page.
enum Behind {
    /// So many rows.
    Known(i64),
    /// What this plan finds, but for the first so many rows.
    Counted(SearchPlan, i64),
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
        let mut rows = Rows {
            archive: self.clone(),
            scope,
            level: plan.level,
            include: include(plan.level, &returned),
            fields: Fields::of(&returned.paths),
            returned,
            retrieve_url,
            keys: Vec::new().into_iter(),
            first: None,
        };
        if let Some(passing) = Passing::of(filters, plan.level) {
            let found = self.search_filtered(&rows.scope, &plan, passing).await?;
            let results = found.keys.len();
            rows.keys = found.keys.into_iter();
            return Ok(SearchPage { results, remaining: found.remaining, rows });
        }
        let mut tx = self.0.db.begin_search(&rows.scope).await?;
        let plan = tx.search_told(plan).await?;
        if let Some(few) = rows.few(&mut tx, &plan).await? {
            let results = few.len();
            rows.first = Some(few);
            return Ok(SearchPage { results, remaining: 0, rows });
        }
        let (mut found, behind) = self.search_page(&mut tx, &rows.scope, &plan).await?;
        let keys = std::mem::take(&mut found.keys);
        let results = keys.len();
        rows.keys = keys.into_iter();
        let most = Some(i64::from(self.0.search.max_counted)).filter(|most| *most > 0);
        // What remains is counted while the page is read, and the page is read by two connections, if
        // that takes nobody's.
        let pieces = rows.pieces(PIECE);
        let beside = match behind {
            Behind::Known(_) if pieces.are_few() => None,
            _ => self.0.db.begin_beside(&rows.scope).await,
        };
        let own = async {
            let remaining = match behind {
                Behind::Known(remaining) => most.map_or(remaining, |most| remaining.min(most)),
                Behind::Counted(plan, before) => {
                    let most = most.map(|most| most.saturating_add(before));
                    let counted = tx.search_count(&plan, most, Some(&found)).await?;
                    (counted - before).max(1)
                }
            };
            Ok((remaining, rows.read(tx, &pieces).await?))
        };
        let besides = async {
            match beside {
                Some(beside) => rows.read(beside, &pieces).await,
                None => Ok(Read::default()),
            }
        };
        let ((remaining, mut read), more) = tokio::try_join!(own, besides)?;
        read.0.extend(more.0);
        rows.first = Some(read.in_order());
        Ok(SearchPage { results, remaining, rows })
    }

    /// The extended query tags that can be searched by in a scope.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn search_tags(&self, scope: &Scope) -> Result<Vec<SearchTag>, ArchiveError> {
        Ok(self.0.db.begin(scope).await?.search_tags().await?)
    }

    /// The page of a search that indexes answer.
    async fn search_page(
        &self,
        tx: &mut ScopedTx,
        scope: &Scope,
        plan: &SearchPlan,
    ) -> Result<(Found, Behind), ArchiveError> {
        let (offset, limit) = (plan.offset.max(0), plan.limit.max(0));
        let search = (offset.saturating_add(limit) >= FAR).then(|| Search::of(scope, plan));
        // One more than asked tells whether anything remains; only then is there a count.
        let mut ahead = SearchPlan { limit: limit.saturating_add(1), ..plan.clone() };
        let mut before = 0;
        if let Some(search) = search.filter(|_| offset >= FAR)
            && let Some((place, row)) = self.0.places.before(search, offset, Instant::now())
        {
            ahead.after = Some(row);
            (ahead.offset, before) = (offset - place, place);
        }
        let mut found = tx.search_page(&ahead).await?;
        if let Some(search) = search {
            let steps = found.steps.drain(..).map(|(at, row)| (before + at, row));
            self.0.places.keep(search, steps, Instant::now());
        }
        if found.keys.len() as i64 <= limit {
            return Ok((found, Behind::Known(0)));
        }
        found.keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if let (Some(search), Some(last)) = (search, found.keys.last()) {
            let end = offset.saturating_add(limit);
            self.0.places.keep(search, [(end, last.clone())], Instant::now());
        }
        let behind = match (found.behind, found.keys.last()) {
            (Some(behind), _) => Behind::Known(behind.saturating_add(1)),
            // What lies behind the page, whatever has come before it meanwhile.
            (None, Some(last)) => {
                Behind::Counted(SearchPlan { after: Some(last.clone()), ..plan.clone() }, 0)
            }
            (None, None) => Behind::Counted(plan.clone(), offset),
        };
        Ok((found, behind))
    }
}

impl Pieces {
    fn next(&self) -> Option<(usize, Vec<RowKey>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether one connection reads them as fast as two.
    fn are_few(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() < 2
    }
}

impl Read {
    /// All results, in the order of their keys.
    fn in_order(mut self) -> Results {
        self.0.sort_unstable_by_key(|(at, _)| *at);
        self.0.into_iter().flat_map(|(_, results)| results).collect()
    }
}

impl SearchPage {
    /// One DICOM JSON array, where all results have been read already.
    ///
    /// # Errors
    /// Where a result cannot be put together.
    pub fn whole_array(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        if self.rows.keys.len() > 0 {
            return Ok(None);
        }
        let Some(results) = self.rows.first.take() else { return Ok(None) };
        let results = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Some(piece_of_array(&results, true, true)))
    }

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

    /// One DICOM JSON object for each result.
    pub fn objects(self) -> BoxStream<'static, Result<Vec<u8>, ArchiveError>> {
        self.rows.objects()
    }
}

impl Pages for Rows {
    fn is_more(&self) -> bool {
        self.first.is_some() || self.keys.len() > 0
    }

    async fn next(&mut self) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let results = match self.first.take() {
            Some(results) => results,
            None if self.keys.len() == 0 => return Ok(Vec::new()),
            None => {
                let page = self.pieces(PAGE);
                self.read(self.archive.0.db.begin_search(&self.scope).await?, &page)
                    .await?
                    .in_order()
            }
        };
        results.into_iter().collect()
    }
}

impl Rows {
    /// Takes the keys of the next results, in pieces of at most so many rows.
    fn pieces(&mut self, rows: usize) -> Pieces {
        let page = if self.include.metadata { PAGE_WITH_METADATA } else { PAGE };
        let keys: Vec<RowKey> = self.keys.by_ref().take(page).collect();
        Pieces(Mutex::new(keys.chunks(rows).map(<[_]>::to_vec).enumerate().collect()))
    }

    /// All results, where they are found and read by one statement.
    async fn few(
        &self,
        tx: &mut ScopedTx,
        plan: &SearchPlan,
    ) -> Result<Option<Results>, ArchiveError> {
        if self.include.metadata {
            return Ok(None);
        }
        let json = |row: SearchRow| self.json(&row, None);
        Ok(tx.search_few(plan, self.include, &self.tags(), json).await?)
    }

    /// The extended query tags that are returned.
    fn tags(&self) -> Vec<(i64, Level)> {
        self.returned.extended.iter().map(|tag| (tag.id, tag.level)).collect()
    }

    /// Reads what is said about the results of one piece after the other, until none is left; the
    /// transaction ends with it.
    async fn read(&self, mut tx: ScopedTx, pieces: &Pieces) -> Result<Read, ArchiveError> {
        let (mut read, mut rows) = (Read::default(), Vec::new());
        let tags = self.tags();
        while let Some((at, keys)) = pieces.next() {
            if self.include.metadata {
                rows.push((at, tx.search_rows(self.level, &keys, self.include, &tags).await?));
                continue;
            }
            let json = |row: SearchRow| self.json(&row, None);
            let results = tx.search_rows_as(self.level, &keys, self.include, &tags, json).await?;
            read.0.push((at, results));
        }
        // Nobody waits for the connection while metadata is decompressed.
        drop(tx);
        for (at, rows) in rows {
            let mut results = Vec::with_capacity(rows.len());
            for row in &rows {
                let metadata = match &row.metadata {
                    Some(kept) => Some(away(kept, decompress).await?),
                    None => None,
                };
                results.push(self.json(row, metadata.as_deref()));
            }
            read.0.push((at, results));
        }
        Ok(read)
    }

    /// A result; `metadata` is that of its instance, where it is wanted.
    fn json(&self, row: &SearchRow, metadata: Option<&[u8]>) -> Result<Vec<u8>, ArchiveError> {
        let url = (self.retrieve_url)(row);
        let mut json = Vec::with_capacity(2048);
        let given = (&*url, metadata);
        result(row, self.level, &self.returned, &self.fields, given, &mut json)?;
        Ok(json)
    }
}
