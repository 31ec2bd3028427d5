//! What every store must do.

use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use collimator::{
    blob::{BlobError, BlobStore, Listed, PartitionBlobs},
    tenancy::PartitionId,
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::servers::Subject;

/// Runs every case, each below a prefix of its own.
pub async fn run(subject: &Subject) {
    let open = |case: &str| {
        eprintln!("{}: {case}", subject.name);
        subject.open(case)
    };
    open("probe").probe().await.expect("the store keeps what the server relies on");
    leaves_nothing(&open("probe")).await;
    open("ready").ready().await.expect("the store is ready");
    whole_blobs(&open("whole")).await;
    ranges(&open("ranges")).await;
    ranges_outside(&open("outside")).await;
    missing(&open("missing")).await;
    removal_can_be_repeated(&open("removal")).await;
    listing_past_a_page(&open("listing")).await;
    partitions_are_apart(&open("partitions")).await;
    uploads(&open("uploads")).await;
    an_upload_given_up_leaves_nothing(&open("given-up")).await;
    a_cancelled_push_spoils_the_upload(&open("cancelled")).await;
    an_upload_that_takes_too_long(open("too-slow")).await;
    uploads_of_a_server_that_died(&open("died"), subject.lists_uploads).await;
    claims(&open("claims"), &open("claims-elsewhere")).await;
    wrong_credentials(subject).await;
    an_absent_bucket(subject).await;
    if let Some(folder) = subject.folder() {
        written_once(&open("once"), &folder).await;
    }
}

fn partition(id: &str) -> PartitionId {
    id.parse().expect("a partition id")
}

fn within(store: &BlobStore) -> PartitionBlobs {
    store.within(&partition("clinic1"))
}

/// Bytes that differ from place to place and from seed to seed.
fn bytes(seed: u64, length: usize) -> Bytes {
    let words = (0..length.div_ceil(8) as u64)
        .map(|i| (i ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    let mut all: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    all.truncate(length);
    all.into()
}

async fn read(blobs: &PartitionBlobs, id: Uuid, range: Range<u64>) -> Result<Vec<u8>, BlobError> {
    let chunks: Vec<Bytes> = blobs.read(id, range).await?.try_collect().await?;
    assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "an empty chunk ends an HTTP body");
    Ok(chunks.concat())
}

async fn list(blobs: &PartitionBlobs) -> Vec<Listed> {
    blobs.list().try_collect().await.expect("a listing")
}

async fn leaves_nothing(store: &BlobStore) {
    assert_eq!(store.partitions().await.expect("a listing"), []);
}

async fn whole_blobs(store: &BlobStore) {
    let blobs = within(store);
    for (seed, length, chunk) in [(1, 0, 1), (2, 1, 1), (3, 524_288, 10_000), (4, 5 << 20, 1 << 20)]
    {
        let (id, content) = (Uuid::new_v4(), bytes(seed, length));
        let chunks = (0..length).step_by(chunk).map(|at| content.slice(at..length.min(at + chunk)));
        blobs.put(id, chunks.collect()).await.expect("a put");
        let whole = 0..length as u64;
        assert!(read(&blobs, id, whole.clone()).await.expect("a read") == content, "{length}");
        assert!(blobs.read_all(id, whole).await.expect("a read") == content, "{length}");
        let listed = list(&blobs).await.into_iter().find(|listed| listed.id == id);
        let listed = listed.expect("it is listed");
        assert_eq!(listed.size, length as u64);
        let age = SystemTime::now().duration_since(listed.modified).unwrap_or_default();
        assert!(age < Duration::from_secs(300), "{age:?}");
    }
}

async fn ranges(store: &BlobStore) {
    let (blobs, id) = (within(store), Uuid::new_v4());
    let length = 3 << 20;
    let content = bytes(9, length);
    blobs.put(id, vec![content.clone()]).await.expect("a put");
    let end = length as u64;
    let cut = |range: &Range<u64>| content.slice(range.start as usize..range.end as usize);
    for range in [0..1, 7..4096, end - 1..end, 1..end, 5..5, 1000..1000 + (1 << 20)] {
        assert!(read(&blobs, id, range.clone()).await.expect("a read") == cut(&range), "{range:?}");
        let all = blobs.read_all(id, range.clone()).await.expect("a read");
        assert!(all == cut(&range), "{range:?}");
    }
    let fragments = (0..2000).map(|i| i * 520 + 8..(i + 1) * 520).collect();
    let far_apart = vec![0..10, 1 << 20..(1 << 20) + 10, end - 10..end];
    let backwards = vec![end - 10..end, 3..3, 10..20, 0..10, 0..(1 << 20) + 1];
    for several in [vec![], fragments, far_apart, backwards] {
        let expected: Vec<u8> = several.iter().flat_map(cut).collect();
        let stream = blobs.read_ranges(id, several.clone()).await.expect("a read");
        let read: Vec<Bytes> = stream.try_collect().await.expect("a read");
        assert!(read.concat() == expected, "{} ranges", several.len());
    }
}

async fn ranges_outside(store: &BlobStore) {
    let (blobs, id) = (within(store), Uuid::new_v4());
    blobs.put(id, vec![bytes(1, 100)]).await.expect("a put");
    for range in [0..101, 99..1 << 40, 100..101, 500..600] {
        let refused = read(&blobs, id, range.clone()).await;
        assert!(matches!(refused, Err(BlobError::Short { .. })), "{range:?}: {refused:?}");
        let refused = blobs.read_all(id, range.clone()).await;
        assert!(matches!(refused, Err(BlobError::Short { .. })), "{range:?}: {refused:?}");
    }
}

async fn missing(store: &BlobStore) {
    let (blobs, id) = (within(store), Uuid::new_v4());
    let stream = blobs.read(id, 0..10).await.map(drop);
    assert!(matches!(stream, Err(BlobError::Missing { .. })), "{stream:?}");
    let all = blobs.read_all(id, 0..10).await;
    assert!(matches!(all, Err(BlobError::Missing { .. })), "{all:?}");
    assert_eq!(list(&blobs).await, []);
    leaves_nothing(store).await;
}

async fn removal_can_be_repeated(store: &BlobStore) {
    let (blobs, id, other) = (within(store), Uuid::new_v4(), Uuid::new_v4());
    blobs.put(id, vec![bytes(1, 10)]).await.expect("a put");
    blobs.put(other, vec![bytes(2, 10)]).await.expect("a put");
    for _ in 0..2 {
        blobs.remove(id).await.expect("a removal");
        assert!(matches!(blobs.read_all(id, 0..1).await, Err(BlobError::Missing { .. })));
    }
    let outcomes: Vec<_> = blobs.remove_many(vec![id, Uuid::new_v4()]).collect().await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    let left: Vec<Uuid> = list(&blobs).await.iter().map(|listed| listed.id).collect();
    assert_eq!(left, [other]);
}

async fn listing_past_a_page(store: &BlobStore) {
    let blobs = within(store);
    let ids: BTreeSet<Uuid> = (0..1_003).map(|_| Uuid::new_v4()).collect();
    let puts = stream::iter(ids.clone()).map(|id| blobs.put(id, vec![bytes(1, 7)]));
    puts.buffer_unordered(16).try_collect::<Vec<()>>().await.expect("puts");
    let listed = list(&blobs).await;
    assert_eq!(listed.len(), ids.len(), "each once");
    assert_eq!(listed.iter().map(|listed| listed.id).collect::<BTreeSet<_>>(), ids);
    assert!(listed.iter().all(|listed| listed.size == 7));
    let removals: Vec<_> = blobs.remove_many(ids.into_iter().collect()).collect().await;
    assert!(removals.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(list(&blobs).await, []);
}

async fn partitions_are_apart(store: &BlobStore) {
    let names = ["a", "a.", "a.b", "a1", "ab", "b_a", "microsoft.default"];
    let id = Uuid::new_v4();
    for (seed, name) in names.iter().enumerate() {
        let blobs = store.within(&partition(name));
        blobs.put(id, vec![bytes(seed as u64, 50)]).await.expect("a put under the same id");
    }
    for (seed, name) in names.iter().enumerate() {
        let blobs = store.within(&partition(name));
        let read = blobs.read_all(id, 0..50).await.expect("a read");
        assert_eq!(read, bytes(seed as u64, 50), "{name}");
        assert_eq!(list(&blobs).await.len(), 1, "{name} lists its own alone");
    }
    let found = store.partitions().await.expect("a listing");
    assert_eq!(found.iter().map(PartitionId::as_str).collect::<Vec<_>>(), names);
    store.within(&partition("a")).remove(id).await.expect("a removal");
    for name in &names[1..] {
        let blobs = store.within(&partition(name));
        assert_eq!(list(&blobs).await.len(), 1, "{name} kept its own");
    }
}

async fn uploads(store: &BlobStore) {
    let blobs = within(store);
    for (length, chunk) in [(0, 1), (10, 3), (8 << 20, 1 << 20), (64 << 20, 100_001)] {
        let (id, content) = (Uuid::new_v4(), bytes(length as u64, length));
        let mut upload = blobs.upload(id).await.expect("an upload");
        for at in (0..length).step_by(chunk) {
            upload.push(content.slice(at..length.min(at + chunk))).await.expect("a push");
        }
        upload.finish().await.expect("a finish");
        assert!(read(&blobs, id, 0..length as u64).await.expect("a read") == content, "{length}");
        blobs.remove(id).await.expect("a removal");
    }
    assert_eq!(list(&blobs).await, []);
}

async fn an_upload_given_up_leaves_nothing(store: &BlobStore) {
    let blobs = within(store);
    for length in [0, 100, 20 << 20] {
        let mut aborted = blobs.upload(Uuid::new_v4()).await.expect("an upload");
        let mut dropped = blobs.upload(Uuid::new_v4()).await.expect("an upload");
        aborted.push(bytes(1, length)).await.expect("a push");
        dropped.push(bytes(2, length)).await.expect("a push");
        aborted.abort().await.expect("an abort");
        drop(dropped);
        until_empty(&blobs).await;
    }
}

/// What a dropped upload leaves is removed beside the test, soon.
async fn until_empty(blobs: &PartitionBlobs) {
    let begun = Instant::now();
    while !list(blobs).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "something is left");
        tokio::task::yield_now().await;
    }
}

/// A caller that stops waiting for a push and goes on must not end up with a blob with a hole.
async fn a_cancelled_push_spoils_the_upload(store: &BlobStore) {
    let blobs = within(store);
    let mut upload = blobs.upload(Uuid::new_v4()).await.expect("an upload");
    let piece = bytes(1, 16 << 20);
    let cancelled = (0..64).any(|_| upload.push(piece.clone()).now_or_never().is_none());
    assert!(cancelled, "no push ever had to wait");
    assert!(upload.push(bytes(2, 10)).await.is_err());
    assert!(upload.finish().await.is_err());
    until_empty(&blobs).await;
}

async fn an_upload_that_takes_too_long(store: BlobStore) {
    let blobs = within(&store.with_upload_life(Duration::ZERO));
    let mut upload = blobs.upload(Uuid::new_v4()).await.expect("an upload");
    let late = upload.push(bytes(1, 10)).await;
    assert!(matches!(late, Err(BlobError::TooSlow { .. })), "{late:?}");
    let late = upload.finish().await;
    assert!(matches!(late, Err(BlobError::TooSlow { .. })), "{late:?}");
    until_empty(&blobs).await;
}

/// Whatever was begun and never finished can be cleared away, and nothing else goes with it.
async fn uploads_of_a_server_that_died(store: &BlobStore, listed: bool) {
    let (blobs, whole) = (within(store), Uuid::new_v4());
    blobs.put(whole, vec![bytes(1, 10)]).await.expect("a put");
    let mut upload = blobs.upload(Uuid::new_v4()).await.expect("an upload");
    upload.push(bytes(2, 20 << 20)).await.expect("a push");
    // As a kill would: nothing is cleaned up.
    std::mem::forget(upload);
    let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(3600));
    assert_eq!(store.remove_unfinished(past).await.expect("a listing"), 0, "all are younger");
    assert_eq!(store.remove_unfinished(future).await.expect("a listing"), u64::from(listed));
    assert_eq!(store.remove_unfinished(future).await.expect("a listing"), 0, "all are gone");
    assert_eq!(blobs.read_all(whole, 0..10).await.expect("a read"), bytes(1, 10));
}

async fn claims(store: &BlobStore, elsewhere: &BlobStore) {
    let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    store.claim(ours).await.expect("the first claim");
    store.claim(ours).await.expect("the same claim again");
    let refused = store.claim(theirs).await;
    assert!(matches!(refused, Err(BlobError::Unfit { .. })), "{refused:?}");
    elsewhere.claim(theirs).await.expect("another prefix is another store");
    store.ready().await.expect("the store is ready");
    leaves_nothing(store).await;
}

async fn wrong_credentials(subject: &Subject) {
    let Some(wrong) = &subject.wrong else { return };
    let store = subject.open_as(wrong);
    let refused = store.probe().await;
    assert!(matches!(refused, Err(BlobError::Denied(_))), "{refused:?}");
    let refused = store.ready().await;
    assert!(matches!(refused, Err(BlobError::Denied(_))), "{refused:?}");
}

async fn an_absent_bucket(subject: &Subject) {
    let Some(absent) = &subject.absent else { return };
    let refused = subject.open_as(absent).probe().await;
    assert!(matches!(refused, Err(BlobError::Unfit { .. })), "{refused:?}");
}

/// A file is never overwritten, by whatever way it is written again.
async fn written_once(store: &BlobStore, folder: &std::path::Path) {
    let (blobs, id) = (within(store), Uuid::new_v4());
    blobs.put(id, vec![bytes(1, 10)]).await.expect("a put");
    let again = blobs.put(id, vec![bytes(2, 10)]).await;
    assert!(matches!(again, Err(BlobError::Exists { .. })), "{again:?}");
    let again = blobs.upload(id).await.map(drop);
    assert!(matches!(again, Err(BlobError::Exists { .. })), "{again:?}");
    assert_eq!(blobs.read_all(id, 0..10).await.expect("a read"), bytes(1, 10));
    std::fs::remove_dir_all(folder).expect("the folder goes away");
    let gone = store.ready().await;
    assert!(matches!(gone, Err(BlobError::Unavailable(_))), "{gone:?}");
}
