//! The change feed: what happened to instances, in an order that a poller can rely on.
//!
//! A feed is that of one partition, whose events are counted from 1, or the union of several, whose
//! events have a number of an order of their own; which one is meant follows from the request
//! ([`FeedScope`]), never from how many partitions there happen to be. Holds:
//! - An event that is committed before a page is asked for is in it, or in a later page: events
//!   get their numbers in ascending order as they become readable (`index::feed`). An empty page is
//!   the end.
//! - That holds for partitions that come into being while a union is read as well: what was read is
//!   told only if there was none; else who asked is given their scope anew, and reads again.
//! - A span of time that has passed is complete: nothing appears in it later.
//! - Numbering is done in bounded batches, in transactions of their own, and stands in nobody's way
//!   but that of others who number the same partition, for milliseconds.
//! - Memory holds one chunk of events (a MiB of metadata as it is kept) and the metadata of one.
//!
//! Absent: waiting for events (`feed_watch`), how they are written (`http`).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use rand::RngExt;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Archive, ArchiveError, metadata};
use crate::{
    index::{FeedEvent, FeedRange, IndexError, PartitionTx},
    tenancy::{PartitionScope, Scope},
};

/// Events numbered for one page: no fewer than a page can hold, so that a page is short only at the
/// end.
const BATCH: i64 = 200;
/// Events numbered at a time where all have to be.
const LARGE_BATCH: i64 = 5_000;
/// Longest time to number all events for one request.
const ALL_WITHIN: Duration = Duration::from_secs(5);
/// Partitions of a union that are numbered for one page, and how many at once.
const PARTITIONS: usize = 64;
const AT_ONCE: usize = 4;

/// Whose events are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FeedScope {
    /// One partition's: numbers are sequences.
    Partition(PartitionScope),
    /// Those of all that the request may touch: numbers are positions.
    Union(Scope),
}

/// Decides anew which partitions a union is of.
pub type Renew = Arc<dyn Fn() -> BoxFuture<'static, Result<Scope, ArchiveError>> + Send + Sync>;

/// Who reads a feed.
#[derive(Clone)]
pub struct FeedReader {
    /// What he may read.
    pub scope: FeedScope,
    /// Of who reads all that he may: partitions may come into being. `None`: he named them.
    pub renew: Option<Renew>,
    /// How many partitions there were before the scope was decided.
    known: i64,
}

impl FeedReader {
    /// A reader of a feed.
    pub fn new(scope: FeedScope, renew: Option<Renew>) -> Self {
        // There is always one: what is read first has to be read with a scope that is newer.
        Self { scope, renew, known: 0 }
    }
}

/// A span of time, from its start on and up to before its end; a bound that is `None` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedTimes {
    /// The first moment in it.
    pub start: Option<OffsetDateTime>,
    /// The first moment behind it.
    pub end: Option<OffsetDateTime>,
}

/// What is asked of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedQuery {
    /// Without times: the number of the last event that is not wanted. With times: events of the
    /// span to leave out at its start.
    pub offset: i64,
    /// Most events.
    pub limit: i64,
    /// The span, where only one is wanted.
    pub times: Option<FeedTimes>,
    /// Whether metadata is wanted.
    pub metadata: bool,
}

/// An event as it is told.
#[derive(Debug)]
pub struct Told {
    /// Its number in the feed that was asked for.
    pub number: i64,
    /// The event; its metadata is in the next field.
    pub event: Arc<FeedEvent>,
    /// DICOM JSON of the version that is there, with bulk values as they are kept.
    pub metadata: Option<Vec<u8>>,
}

/// Events that were read together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub events: Vec<Arc<FeedEvent>>,
    /// Whether it ends before the range does.
    pub is_cut: bool,
    /// Whether events right before it may have been removed.
    pub is_after_gap: bool,
    /// Of a union: the last position that was complete.
    horizon: Option<i64>,
    /// Of a union: how many partitions there were afterwards.
    pub partitions: i64,
}

/// A page of a feed.
pub struct Feed {
    archive: Archive,
    scope: FeedScope,
    rest: Rest,
    chunk: Arc<Chunk>,
}

/// What is still to be read of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub range: FeedRange,
    pub times: Option<FeedTimes>,
}

/// Up to when spans of time are known to be complete, in microseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Closed(AtomicI64);

impl FeedScope {
    /// The number of an event in this feed.
    pub fn number(&self, event: &FeedEvent) -> i64 {
        match self {
            Self::Partition(_) => event.sequence,
            Self::Union(_) => event.position,
        }
    }

    /// The partitions.
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Partition(scope) => scope,
            Self::Union(scope) => scope,
        }
    }
}

impl Archive {
    /// A page of a feed.
    ///
    /// # Errors
    /// Where the index fails, or does not answer in time.
    pub async fn feed(
        &self,
        reader: &mut FeedReader,
        query: FeedQuery,
    ) -> Result<Feed, ArchiveError> {
        self.begin_reading(reader).await?;
        loop {
            let rest = match query.times {
                None => Some(Rest::after(query.offset, query.limit, query.metadata)),
                Some(times) => self.span(&reader.scope, times, &query).await?,
            };
            let rest = rest.unwrap_or_else(|| Rest::after(i64::MAX - 1, 1, false));
            let chunk = Arc::new(self.chunk(&reader.scope, &rest).await?);
            if !self.renewed(reader, chunk.partitions).await? {
                return Ok(Feed::of(self.clone(), reader.scope.clone(), rest, chunk));
            }
        }
    }

    /// Decides the scope of a union after it is known how many partitions there are.
    pub(super) async fn begin_reading(&self, reader: &mut FeedReader) -> Result<(), ArchiveError> {
        if reader.renew.is_some() && reader.known == 0 {
            let partitions = self.partition_count().await?;
            self.renewed(reader, partitions).await?;
        }
        Ok(())
    }

    /// Whether other partitions than those of the scope may have been there when something was
    /// read; the scope is another one then.
    pub(super) async fn renewed(
        &self,
        reader: &mut FeedReader,
        partitions: i64,
    ) -> Result<bool, ArchiveError> {
        let Some(renew) = reader.renew.clone().filter(|_| partitions != reader.known) else {
            return Ok(false);
        };
        reader.known = partitions;
        reader.scope = FeedScope::Union(renew().await?);
        Ok(true)
    }

    pub(super) async fn partition_count(&self) -> Result<i64, ArchiveError> {
        Ok(self.0.db.registry().await?.partition_count().await?)
    }

    /// The newest event of a feed; `None` where there is none.
    ///
    /// # Errors
    /// Where the index fails, or does not answer in time.
    pub async fn feed_latest(
        &self,
        reader: &mut FeedReader,
        metadata: bool,
    ) -> Result<Option<Told>, ArchiveError> {
        self.begin_reading(reader).await?;
        loop {
            let told = self.newest(&reader.scope, metadata).await?;
            let partitions = match reader.renew {
                Some(_) => self.partition_count().await?,
                None => 0,
            };
            if !self.renewed(reader, partitions).await? {
                return Ok(told);
            }
        }
    }

    async fn newest(
        &self,
        scope: &FeedScope,
        metadata: bool,
    ) -> Result<Option<Told>, ArchiveError> {
        self.number_all(scope.scope()).await?;
        let last = match scope {
            FeedScope::Partition(one) => self.0.db.begin_in(one).await?.feed_last().await?,
            FeedScope::Union(all) => {
                let horizon = self.0.db.feed_horizon().await?;
                self.0.db.begin(all).await?.feed_newest(horizon).await?
            }
        };
        let Some(last) = last else { return Ok(None) };
        let mut rest = Rest::after(last - 1, 1, metadata);
        rest.range.up_to = last;
        let chunk = Arc::new(self.read(scope, &rest).await?);
        Feed::of(self.clone(), scope.clone(), rest, chunk).told().try_next().await
    }

    /// The events of a range, numbered before where they were not.
    pub(super) async fn chunk(
        &self,
        scope: &FeedScope,
        rest: &Rest,
    ) -> Result<Chunk, ArchiveError> {
        match scope {
            _ if rest.times.is_some() => self.read(scope, rest).await,
            FeedScope::Partition(one) => {
                let mut tx = self.0.db.begin_in(one).await?;
                if !tx.feed_pending().await? {
                    return Chunk::read(tx, rest).await;
                }
                drop(tx);
                self.number(one, BATCH).await?;
                self.read(scope, rest).await
            }
            FeedScope::Union(all) => {
                self.number_some(all).await?;
                self.read(scope, rest).await
            }
        }
    }

    async fn read(&self, scope: &FeedScope, rest: &Rest) -> Result<Chunk, ArchiveError> {
        let Rest { mut range, times } = *rest;
        match scope {
            FeedScope::Partition(one) => Chunk::read(self.0.db.begin_in(one).await?, rest).await,
            FeedScope::Union(all) => {
                let horizon = self.0.db.feed_horizon().await?;
                range.up_to = range.up_to.min(horizon);
                let mut tx = self.0.db.begin(all).await?;
                let keys = tx.feed_keys(&range, times.map(|it| (it.start, it.end))).await?;
                let mut chunk = Chunk::default();
                if !keys.is_empty() {
                    let (events, is_cut) = tx.feed_events(&keys, range.metadata).await?;
                    let is_after_gap = times.is_none() && tx.feed_gone(range.after).await?;
                    chunk = Chunk::of(events, is_cut, is_after_gap);
                }
                drop(tx);
                chunk.horizon = Some(horizon);
                chunk.partitions = self.partition_count().await?;
                Ok(chunk)
            }
        }
    }

    /// Where a page of a span of time begins, and where the span ends; `None`: there is nothing
    /// in it.
    async fn span(
        &self,
        scope: &FeedScope,
        times: FeedTimes,
        query: &FeedQuery,
    ) -> Result<Option<Rest>, ArchiveError> {
        let end = times.end.map(microseconds);
        let Closed(closed) = &self.0.feed_closed;
        if end.is_none_or(|end| end > closed.load(Ordering::Acquire)) {
            self.number_all(scope.scope()).await?;
            if let Some(end) = times.end {
                let until = self.0.db.feed_close(end).await?;
                closed.fetch_max(until, Ordering::AcqRel);
            }
        }
        let mut rest = Rest::after(0, query.limit, query.metadata);
        match scope {
            FeedScope::Partition(one) => {
                let mut tx = self.0.db.begin_in(one).await?;
                let found = tx.feed_span(times.start, times.end).await?;
                let Some((first, last)) = found else { return Ok(None) };
                // Sequences have no holes: what is left out need not be read.
                rest.range.after = (first - 1).saturating_add(query.offset);
                rest.range.up_to = last;
            }
            FeedScope::Union(all) => {
                rest.times = Some(times);
                if query.offset > 0 {
                    let passed = FeedRange { limit: query.offset, ..rest.range };
                    let mut tx = self.0.db.begin(all).await?;
                    let keys = tx.feed_keys(&passed, Some((times.start, times.end))).await?;
                    if (keys.len() as i64) < query.offset {
                        return Ok(None);
                    }
                    rest.range.after = keys.last().map_or(0, |key| key.position());
                }
            }
        }
        Ok(Some(rest))
    }

    /// Numbers as many events of a union as a page can hold.
    async fn number_some(&self, scope: &Scope) -> Result<(), ArchiveError> {
        let mut pending = self.0.db.begin(scope).await?.feed_unnumbered().await?;
        if pending.len() > PARTITIONS {
            // Each gets its turn, also where more come than are numbered.
            let turn = rand::rng().random_range(0..pending.len());
            pending.rotate_left(turn);
            pending.truncate(PARTITIONS);
        }
        self.number_each(pending, BATCH).await
    }

    /// Numbers all events that are committed by now.
    pub(super) async fn number_all(&self, scope: &Scope) -> Result<(), ArchiveError> {
        let end = Instant::now() + ALL_WITHIN;
        loop {
            let pending = self.0.db.begin(scope).await?.feed_unnumbered().await?;
            if pending.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(IndexError::Busy.into());
            }
            self.number_each(pending, LARGE_BATCH).await?;
        }
    }

    async fn number_each(
        &self,
        pending: Vec<PartitionScope>,
        batch: i64,
    ) -> Result<(), ArchiveError> {
        let numbered = pending.into_iter().map(|one| async move { self.number(&one, batch).await });
        stream::iter(numbered).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn number(&self, scope: &PartitionScope, batch: i64) -> Result<(), ArchiveError> {
        let mut tx = self.0.db.begin_numbering(scope).await?;
        tx.feed_number(batch).await?;
        Ok(tx.commit().await?)
    }
}

fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

impl Rest {
    pub(super) fn after(after: i64, limit: i64, metadata: bool) -> Self {
        Self { range: FeedRange { after, up_to: i64::MAX, limit, metadata }, times: None }
    }
}

impl Chunk {
    /// Reads a range of one partition's feed.
    async fn read(mut tx: PartitionTx, rest: &Rest) -> Result<Self, ArchiveError> {
        let (events, is_cut) = tx.feed_page(&rest.range).await?;
        // Sequences have no holes.
        let first = events.first().map_or(0, |event| event.sequence);
        let is_after_gap = rest.times.is_none() && first.saturating_sub(1) > rest.range.after;
        Ok(Self::of(events, is_cut, is_after_gap))
    }

    fn of(events: Vec<FeedEvent>, is_cut: bool, is_after_gap: bool) -> Self {
        let events = events.into_iter().map(Arc::new).collect();
        Self { events, is_cut, is_after_gap, horizon: None, partitions: 0 }
    }
}

impl Feed {
    pub(super) fn of(
        archive: Archive,
        scope: FeedScope,
        mut rest: Rest,
        chunk: Arc<Chunk>,
    ) -> Self {
        // What is read later of the page is read with the same scope: up to where that was whole.
        rest.range.up_to = rest.range.up_to.min(chunk.horizon.unwrap_or(i64::MAX));
        Self { archive, scope, rest, chunk }
    }

    /// Whether it has no event: the end.
    pub fn is_empty(&self) -> bool {
        self.chunk.events.is_empty()
    }

    /// Whether events between the offset and the first one here may have been removed.
    pub fn is_after_gap(&self) -> bool {
        self.chunk.is_after_gap
    }

    /// The events, ascending.
    pub fn told(self) -> BoxStream<'static, Result<Told, ArchiveError>> {
        let Self { archive, scope, rest, chunk } = self;
        let state = (archive, scope, rest, VecDeque::from(chunk.events.clone()), chunk.is_cut);
        let told = stream::try_unfold(
            state,
            |(archive, scope, mut rest, mut events, mut is_cut)| async move {
                if events.is_empty() && is_cut && rest.range.limit > 0 {
                    let chunk = archive.read(&scope, &rest).await?;
                    (events, is_cut) = (chunk.events.into(), chunk.is_cut);
                }
                let Some(event) = events.pop_front() else { return Ok(None) };
                let told = Told::of(&scope, event).await?;
                rest.range.after = told.number;
                rest.range.limit -= 1;
                Ok(Some((told, (archive, scope, rest, events, is_cut))))
            },
        );
        told.boxed()
    }
}

impl Told {
    pub(super) async fn of(scope: &FeedScope, event: Arc<FeedEvent>) -> Result<Self, ArchiveError> {
        let json = match &event.metadata {
            Some(kept) => Some(metadata::away(kept, metadata::decompress).await?),
            None => None,
        };
        tokio::task::consume_budget().await;
        Ok(Self { number: scope.number(&event), metadata: json, event })
    }
}
