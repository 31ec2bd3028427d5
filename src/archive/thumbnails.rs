//! Thumbnails: small pictures that stand for an object, made once and kept for a while.
//!
//! Holds: the cache is bounded by bytes; what it finds is found by partition, stored version,
//! frame, size and format, so that no partition sees another's and nothing is out of date; of many
//! requests for the same picture one makes it and the others wait. No text that the object holds is
//! ever drawn: neither annotations nor overlays, and where the object says that there is text
//! burned into its pixels, the picture stays too small to read it. Absent: which instance stands
//! for a study ([`super::gallery`]).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{Archive, ArchiveError, Exhibit, Kind, Rendering, Shows, picture::label};
use crate::{
    dicom::Tag,
    render::{Format, Picture, View, Viewport},
    tenancy::{PartitionId, PartitionScope},
};

/// Longest side of a thumbnail of pixels that are said to hold text, in pixels.
const ILLEGIBLE: u32 = 128;

/// What an entry takes beside its picture, in bytes, about.
const OVERHEAD: u64 = 256;

/// What tells one thumbnail from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    partition: PartitionId,
    version: i64,
    frame: Option<u32>,
    size: (u32, u32),
    media_type: &'static str,
}

/// The cache.
pub(super) struct Thumbnails {
    limit: u64,
    state: Mutex<State>,
}

type Flight = Arc<OnceCell<Bytes>>;

#[derive(Default)]
struct State {
    kept: HashMap<Key, Kept>,
    /// Keys by when they were last used, the longest ago first.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: u64,
    /// What is being made.
    flights: HashMap<Key, Flight>,
}

struct Kept {
    bytes: Bytes,
    used: u64,
}

impl Archive {
    /// A picture that stands for an instance, or for one of its frames, at most `size` (width,
    /// height) large. What has no picture gets one that names the kind of object.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchFrame`], [`ArchiveError::NotFound`], [`ArchiveError::Gone`],
    /// [`ArchiveError::Unavailable`].
    pub async fn thumbnail(
        &self,
        scope: &PartitionScope,
        exhibit: &Exhibit,
        frame: Option<u32>,
        size: (u32, u32),
        format: Format,
    ) -> Result<Bytes, ArchiveError> {
        if frame.is_some_and(|frame| frame == 0 || frame > exhibit.frames) {
            return Err(ArchiveError::NoSuchFrame);
        }
        let key = Key {
            partition: scope.partition().clone(),
            version: exhibit.version,
            frame,
            size,
            media_type: format.media_type(),
        };
        let make = || async {
            let rendering = self.rendering(scope.clone(), exhibit.target.clone()).await?;
            if rendering.image().version() != exhibit.version {
                return Err(ArchiveError::Gone);
            }
            self.make(&rendering, exhibit, frame, size, format).await
        };
        self.0.thumbnails.get(key, make).await
    }

    async fn make(
        &self,
        rendering: &Rendering,
        exhibit: &Exhibit,
        frame: Option<u32>,
        size: (u32, u32),
        format: Format,
    ) -> Result<Bytes, ArchiveError> {
        if rendering.kind() == Kind::Image && exhibit.shows == Shows::Image {
            let frame = frame.unwrap_or_else(|| rendering.middle_frame());
            let drawn = rendering.picture(frame, &view(rendering, size), format, false).await;
            match drawn {
                Err(ArchiveError::Undecodable(_) | ArchiveError::TooLarge { .. }) => {}
                other => return other,
            }
        }
        let label = label(rendering.image().sop_class(), rendering.kind());
        let work = move || Picture::card(label, size.0, size.1).encode(&format);
        let partition = rendering.scope().partition();
        Ok(self.codecs().run(partition, work).await??.into())
    }
}

fn view(rendering: &Rendering, (width, height): (u32, u32)) -> View {
    let header = rendering.image().header().root();
    let burned_in = header.text(Tag(0x0028, 0x0301)).is_some_and(|text| text.trim() == "YES");
    let most = if burned_in { ILLEGIBLE } else { u32::MAX };
    let (width, height) = (width.min(most), height.min(most));
    View {
        viewport: Some(Viewport { width, height, region: None }),
        overlays: false,
        ..View::default()
    }
}

impl Thumbnails {
    /// A cache of at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Drops pictures of versions that are gone. (One that is being made may still be kept, and is
    /// found by nobody.)
    pub(super) fn forget(&self, partition: &PartitionId, versions: &[i64]) {
        let gone: HashSet<i64> = versions.iter().copied().collect();
        let mut state = self.lock();
        let state = &mut *state;
        state.kept.retain(|key, kept| {
            let is_gone = key.partition == *partition && gone.contains(&key.version);
            if is_gone {
                state.order.remove(&kept.used);
                state.bytes -= cost(&kept.bytes);
            }
            !is_gone
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture of `key`, made by `make` if nobody has it. Where that fails, or the request that
    /// makes it goes away, the next one that waits tries itself.
    async fn get<F>(&self, key: Key, make: impl FnOnce() -> F) -> Result<Bytes, ArchiveError>
    where
        F: Future<Output = Result<Bytes, ArchiveError>>,
    {
        let cell = {
            let mut state = self.lock();
            if let Some(bytes) = state.find(&key) {
                return Ok(bytes);
            }
            state.flights.entry(key.clone()).or_default().clone()
        };
        let flight = Landing { cache: self, key, cell };
        let bytes = flight.cell.get_or_try_init(make).await?.clone();
        self.lock().keep(&flight.key, &bytes, self.limit);
        Ok(bytes)
    }
}

/// Forgets what was being made when the last one who waited for it has gone.
struct Landing<'a> {
    cache: &'a Thumbnails,
    key: Key,
    cell: Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        // The map's and ours.
        if Arc::strong_count(&self.cell) <= 2 {
            state.flights.remove(&self.key);
        }
    }
}

impl State {
    fn find(&mut self, key: &Key) -> Option<Bytes> {
        let kept = self.kept.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&kept.used);
        kept.used = self.clock;
        self.order.insert(kept.used, key.clone());
        Some(kept.bytes.clone())
    }

    fn keep(&mut self, key: &Key, bytes: &Bytes, limit: u64) {
        let cost = cost(bytes);
        if cost > limit / 4 || self.kept.contains_key(key) {
            return;
        }
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.kept.insert(key.clone(), Kept { bytes: bytes.clone(), used: self.clock });
        self.bytes += cost;
        while self.bytes > limit {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(kept) = self.kept.remove(&oldest) {
                self.bytes -= super::thumbnails::cost(&kept.bytes);
            }
        }
    }
}

fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(partition: &str, version: i64) -> Key {
        let partition = partition.parse().unwrap();
        Key { partition, version, frame: None, size: (128, 128), media_type: "image/jpeg" }
    }

    async fn fails() -> Result<Bytes, ArchiveError> {
        Err(ArchiveError::Undecodable("no"))
    }

    #[tokio::test]
    async fn one_makes_it_and_the_others_wait() {
        let cache = Thumbnails::new(1 << 20);
        let made = AtomicUsize::new(0);
        let make = || async {
            made.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(Bytes::from_static(b"picture"))
        };
        let all = (0..10).map(|_| cache.get(key("a", 1), make));
        for bytes in futures::future::join_all(all).await {
            assert_eq!(bytes.unwrap(), "picture");
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(cache.lock().flights.is_empty());
        assert_eq!(cache.get(key("a", 1), fails).await.unwrap(), "picture");
        assert!(cache.get(key("b", 1), fails).await.is_err(), "another partition's");
        assert!(cache.lock().flights.is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_leaves_it_to_the_next() {
        let cache = Thumbnails::new(1 << 20);
        let mut first = Box::pin(cache.get(key("a", 1), std::future::pending));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second =
            Box::pin(cache.get(key("a", 1), || async { Ok(Bytes::from_static(b"2")) }));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.unwrap(), "2");
        assert!(cache.lock().flights.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_the_bytes_are_bounded() {
        let cache = Thumbnails::new(5 * (1000 + OVERHEAD));
        let picture = || async { Ok(Bytes::from(vec![0; 1000])) };
        for version in 1..=5 {
            cache.get(key("a", version), picture).await.unwrap();
        }
        cache.get(key("a", 1), fails).await.expect("used again");
        cache.get(key("a", 6), picture).await.unwrap();
        assert!(cache.get(key("a", 2), fails).await.is_err());
        for version in [1, 3, 4, 5, 6] {
            cache.get(key("a", version), fails).await.unwrap();
        }
        cache.forget(&"b".parse().unwrap(), &[1]);
        cache.forget(&"a".parse().unwrap(), &[3, 99]);
        cache.get(key("a", 1), fails).await.expect("another partition's was dropped");
        assert!(cache.get(key("a", 3), fails).await.is_err());
        assert_eq!(cache.lock().bytes, 4 * (1000 + OVERHEAD));
        cache.get(key("a", 3), picture).await.unwrap();
        let large = || async { Ok(Bytes::from(vec![0; 2000])) };
        cache.get(key("a", 7), large).await.unwrap();
        assert!(cache.get(key("a", 7), fails).await.is_err(), "too large to be kept");
        assert!(cache.lock().bytes <= cache.limit);
        let nothing = Thumbnails::new(0);
        nothing.get(key("a", 1), picture).await.unwrap();
        assert!(nothing.get(key("a", 1), fails).await.is_err());
    }
}
