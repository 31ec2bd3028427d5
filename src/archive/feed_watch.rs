//! Waiting for events of a feed, however many wait.
//!
//! All who wait in this process share one look at the index, every [`TICK`]: how far the feeds are
//! that somebody waits for, in one statement on one connection. Those who wait at the same place
//! share what is read then as well. While nobody waits nothing is asked. (`LISTEN` would tell it
//! sooner, but `NOTIFY` makes the commits of all stores wait for each other.)
//!
//! Holds: who joins before he reads, and finds nothing, is woken by whatever is committed from then
//! on, by whichever server. What is told to one who waits is of his own scope: the look tells no
//! more than how far each partition is, and pages are read with the scope of who asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{OnceCell, watch},
    time::Instant,
};

use super::{
    Archive, ArchiveError, Feed, FeedQuery, FeedReader, FeedScope, Told,
    feed::{Chunk, Rest},
};
use crate::{
    index::{Db, Head, IndexError},
    tenancy::Scope,
};

/// Time between two looks, at least.
const TICK: Duration = Duration::from_millis(50);
/// How many times as long as a look takes the rest after it is, at least.
const PAUSE: u32 = 4;
/// Rest after a look that failed.
const FAILED: Duration = Duration::from_secs(1);
/// Places of a feed that those who wait share what is read at.
const PLACES: usize = 64;
/// Events that who follows a feed reads at once.
const AHEAD: i64 = 100;

/// What is waited for.
pub(super) struct Watch(Arc<Inner>);

struct Inner {
    db: Db,
    joined: Mutex<Joined>,
}

#[derive(Default)]
struct Joined {
    feeds: HashMap<FeedScope, watch::Sender<Beat>>,
    /// Whether somebody looks.
    is_watched: bool,
}

/// What the last look that showed something new has shown of a feed.
#[derive(Clone, Default)]
struct Beat {
    /// The highest number; `None`: not looked at yet.
    head: Option<i64>,
    /// Whether there are events without a number.
    is_pending: bool,
    shared: Arc<Shared>,
}

/// What was read since, by place.
#[derive(Default)]
struct Shared(Mutex<HashMap<At, Arc<OnceCell<Arc<Chunk>>>>>);

/// A place of a feed: after which number, how many events, and whether with metadata.
type At = (i64, i64, bool);

/// What who follows a feed is told.
#[derive(Debug)]
pub enum Followed {
    /// An event.
    Event(Told),
    /// Events between the last one and the next may have been removed.
    Gap,
}

impl Watch {
    pub(super) fn new(db: Db) -> Self {
        Self(Arc::new(Inner { db, joined: Mutex::default() }))
    }

    /// Joins those who wait for a feed.
    fn join(&self, scope: &FeedScope) -> watch::Receiver<Beat> {
        let mut joined = self.0.lock();
        let feed = joined
            .feeds
            .entry(scope.clone())
            .or_insert_with(|| watch::Sender::new(Beat::default()));
        let receiver = feed.subscribe();
        if !joined.is_watched {
            joined.is_watched = true;
            tokio::spawn(look(self.0.clone()));
        }
        receiver
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Joined> {
        // Nothing that is done under the lock can be left half-done.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks until nobody waits any more.
async fn look(inner: Arc<Inner>) {
    let mut partitions = None;
    loop {
        let scope = {
            let mut joined = inner.lock();
            joined.feeds.retain(|_, feed| feed.receiver_count() > 0);
            if joined.feeds.is_empty() {
                joined.is_watched = false;
                return;
            }
            Scope::union(joined.feeds.keys().map(FeedScope::scope))
        };
        let begun = Instant::now();
        match heads(&inner.db, &scope).await {
            Ok((heads, count)) => {
                // Who reads all that he may may have more to read.
                let has_more = partitions.replace(count) != Some(count);
                publish(&inner.lock(), &heads, has_more);
                tokio::time::sleep(TICK.max(begun.elapsed() * PAUSE)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "who waits for changes is not told of them just now");
                tokio::time::sleep(FAILED).await;
            }
        }
    }
}

async fn heads(db: &Db, scope: &Scope) -> Result<(Vec<Head>, i64), IndexError> {
    let heads = db.begin(scope).await?.feed_heads().await?;
    Ok((heads, db.registry().await?.partition_count().await?))
}

/// Wakes those for whom there is something new.
fn publish(joined: &Joined, heads: &[Head], has_more: bool) {
    for (scope, feed) in &joined.feeds {
        let is_union = matches!(scope, FeedScope::Union(_));
        let (mut highest, mut is_pending) = (0, is_union && has_more);
        for id in scope.scope().partitions() {
            let Ok(at) = heads.binary_search_by(|head| head.partition.cmp(id)) else { continue };
            is_pending |= heads[at].is_pending;
            highest = highest.max(match scope {
                FeedScope::Partition(_) => heads[at].sequence,
                FeedScope::Union(_) => heads[at].position,
            });
        }
        feed.send_if_modified(|beat| {
            let is_news = is_pending || beat.head != Some(highest);
            // What was read for those whom the last news woke is not kept for longer than this.
            *beat = Beat { head: Some(highest), is_pending, shared: Arc::default() };
            is_news
        });
    }
}

/// Waits until a look shows that there may be events above `after`.
async fn news(joined: &mut watch::Receiver<Beat>, after: i64) -> Option<Beat> {
    loop {
        joined.changed().await.ok()?;
        let beat = joined.borrow_and_update().clone();
        if beat.is_pending || beat.head.is_some_and(|head| head > after) {
            return Some(beat);
        }
    }
}

impl Archive {
    /// A page of a feed, as [`Archive::feed`] reads it; where that is empty, what comes next, once
    /// something does. At the end of `until` it is empty.
    ///
    /// # Errors
    /// As [`Archive::feed`].
    pub async fn feed_wait(
        &self,
        mut reader: FeedReader,
        query: FeedQuery,
        until: impl Future<Output = ()> + Send,
    ) -> Result<Feed, ArchiveError> {
        self.begin_reading(&mut reader).await?;
        let rest = Rest::after(query.offset, query.limit, query.metadata);
        let mut until = std::pin::pin!(until);
        loop {
            let scope = reader.scope.clone();
            let mut joined = self.0.feed_watch.join(&scope);
            let feed = self.feed(&mut reader, query).await?;
            if !feed.is_empty() {
                return Ok(feed);
            }
            while reader.scope == scope {
                let beat = tokio::select! {
                    biased;
                    () = &mut until => None,
                    beat = news(&mut joined, query.offset) => beat,
                };
                let Some(beat) = beat else { return Ok(feed) };
                let chunk = self.shared(&beat.shared, &scope, &rest).await?;
                if !self.renewed(&mut reader, chunk.partitions).await? && !chunk.events.is_empty() {
                    return Ok(Feed::of(self.clone(), scope, rest, chunk));
                }
            }
        }
    }

    /// The events of a feed above the number `after`: those there are, and then those to come. It
    /// has no end of its own.
    pub fn feed_follow(
        &self,
        reader: FeedReader,
        after: i64,
        metadata: bool,
    ) -> BoxStream<'static, Result<Followed, ArchiveError>> {
        let joined = self.0.feed_watch.join(&reader.scope);
        let archive = self.clone();
        let place = Place { archive, reader, after, metadata, joined, is_at_end: false };
        let chunks = stream::try_unfold(place, |mut place| async move {
            let chunk = place.next().await?;
            Ok(chunk.map(|chunk| ((chunk, place.reader.scope.clone()), place)))
        });
        let followed = chunks.map(|chunk| match chunk {
            Ok((chunk, scope)) => told(chunk, scope),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        followed.flatten().boxed()
    }

    /// Reads what others who were woken by the same look may have read.
    async fn shared(
        &self,
        shared: &Shared,
        scope: &FeedScope,
        rest: &Rest,
    ) -> Result<Arc<Chunk>, ArchiveError> {
        let place = (rest.range.after, rest.range.limit, rest.range.metadata);
        let cell = {
            let mut places = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            match places.get(&place) {
                Some(cell) => Some(cell.clone()),
                None if places.len() < PLACES => Some(places.entry(place).or_default().clone()),
                None => None,
            }
        };
        let read = async || Ok(Arc::new(self.chunk(scope, rest).await?));
        match cell {
            Some(cell) => cell.get_or_try_init(read).await.cloned(),
            None => read().await,
        }
    }
}

/// Where who follows a feed is.
struct Place {
    archive: Archive,
    reader: FeedReader,
    after: i64,
    metadata: bool,
    joined: watch::Receiver<Beat>,
    /// Whether all there was has been read: the next events are waited for.
    is_at_end: bool,
}

impl Place {
    /// The next events, once there are some; `None`: nobody looks any more.
    async fn next(&mut self) -> Result<Option<Arc<Chunk>>, ArchiveError> {
        loop {
            let rest = Rest::after(self.after, AHEAD, self.metadata);
            let chunk = if self.is_at_end {
                let Some(beat) = news(&mut self.joined, self.after).await else { return Ok(None) };
                self.archive.shared(&beat.shared, &self.reader.scope, &rest).await?
            } else {
                Arc::new(self.archive.chunk(&self.reader.scope, &rest).await?)
            };
            if self.archive.renewed(&mut self.reader, chunk.partitions).await? {
                self.joined = self.archive.0.feed_watch.join(&self.reader.scope);
                self.is_at_end = false;
                continue;
            }
            self.is_at_end = !chunk.is_cut && (chunk.events.len() as i64) < AHEAD;
            if let Some(last) = chunk.events.last() {
                self.after = self.reader.scope.number(last);
                return Ok(Some(chunk));
            }
        }
    }
}

fn told(chunk: Arc<Chunk>, scope: FeedScope) -> BoxStream<'static, Result<Followed, ArchiveError>> {
    let gap = chunk.is_after_gap.then_some(Ok(Followed::Gap));
    let events = stream::iter(chunk.events.clone()).then(move |event| {
        let scope = scope.clone();
        async move { Told::of(&scope, event).await.map(Followed::Event) }
    });
    stream::iter(gap).chain(events).boxed()
}
