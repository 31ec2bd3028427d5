//! Blobs against the store: whether each is there and as long as its row says, what lies in it, and
//! whether the bytes of each instance are those that were stored.
//!
//! A blob is read once, from its beginning to its end, and the instances in it are hashed as they
//! pass. What is not as it should be is asked again with rows read anew: an instance may have been
//! deleted since, or moved to another blob. Of a composed blob the object is as long as its row says;
//! what is read and hashed is the whole file, the part that it shares included.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Checker, Cursor, Finding, Kind, VerifyError};
use crate::{
    blob::BlobError,
    index::{Composed, VerifyBlob, VerifyContent, VerifyPlace, is_composed},
};

/// Blobs looked up at once, unless what lies in them is more than [`INSTANCES`].
const PAGE: i64 = 64;
/// Instances whose places are held at once, unless one blob has more.
const INSTANCES: i64 = 4_096;
/// Questions to the store on their way at once.
const AT_ONCE: usize = 8;
/// Waits before a read that the store did not answer is tried again.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// How often an instance may move while it is being read.
const MOVES: usize = 4;

/// A blob that was looked up.
pub(super) struct Queued {
    row: VerifyBlob,
    content: Vec<VerifyContent>,
    size: Result<u64, BlobError>,
}

impl Checker {
    pub(super) async fn next_blob(&mut self, after: Uuid) -> Result<Cursor, VerifyError> {
        if self.queue.is_empty() {
            self.look_up(after).await?;
        }
        let Some(blob) = self.queue.pop_front() else { return Ok(Cursor::Objects) };
        let id = blob.row.id;
        self.blob(blob).await?;
        self.tally.blobs += 1;
        Ok(Cursor::Blobs { after: id })
    }

    /// Looks up the next blobs, what lies in them, and how long their objects are.
    async fn look_up(&mut self, after: Uuid) -> Result<(), VerifyError> {
        let mut tx = self.db.begin_verify(&self.scope).await?;
        let mut rows = tx.verify_blobs(after, PAGE).await?;
        let mut instances = 0;
        let fitting = rows.iter().take_while(|row| {
            instances += row.instances;
            instances <= INSTANCES
        });
        rows.truncate(fitting.count().max(1));
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut content = tx.verify_content(&ids).await?;
        drop(tx);
        content.sort_by_key(|one| (one.blob, one.offset, one.watermark));
        let sizes = stream::iter(ids).map(|id| {
            let blobs = self.blobs.clone();
            async move { again(|| blobs.size(id)).await }
        });
        let sizes: Vec<Result<u64, BlobError>> = sizes.buffered(AT_ONCE).collect().await;
        for (row, size) in rows.into_iter().zip(sizes) {
            let begin = content.partition_point(|one| one.blob < row.id);
            let end = content.partition_point(|one| one.blob <= row.id);
            self.queue.push_back(Queued { row, content: content[begin..end].to_vec(), size });
        }
        Ok(())
    }

    async fn blob(&mut self, blob: Queued) -> Result<(), VerifyError> {
        let Queued { row, content, size } = blob;
        let size = match size {
            Ok(size) if i64::try_from(size) == Ok(row.length) => size,
            _ => match self.object(row.id).await? {
                Some(size) => size,
                // It was removed meanwhile, or what it lacks is told.
                None => return self.each(&content).await,
            },
        };
        if content.is_empty() {
            let now = self.db.begin_verify(&self.scope).await?.verify_blob(row.id).await?;
            if now.is_some_and(|now| now.instances == 0) {
                self.found(Finding::new(Kind::BlobUnused).blob(row.id));
            }
        }
        self.overlaps(&content).await?;
        let (row_length, size) = match is_composed(row.id) {
            false => (row.length, size),
            true => match self.composed(row.id).await? {
                // Its head, or the blob of the rest, is not as long as it should be.
                Some(composed) if size < composed.head => return self.each(&content).await,
                Some(composed) => (bigint(composed.length()), composed.length()),
                None => return self.each(&content).await,
            },
        };
        let is_inside = |offset: i64, length: i64| {
            offset >= 0 && length > 0 && offset.saturating_add(length) <= row_length
        };
        let inside = |one: &&VerifyContent| is_inside(one.offset, one.length);
        // Of other rows it was told where they were looked at.
        let outside = content.iter().filter(|one| !one.walked && !inside(one));
        let outside: Vec<i64> = outside.map(|one| one.watermark).collect();
        if !outside.is_empty() {
            let places = self.db.begin_verify(&self.scope).await?.verify_places(&outside).await?;
            let places = places.into_iter().filter(|place| place.blob == row.id);
            for place in places.filter(|place| !is_inside(place.offset, place.length)) {
                self.found(at(Kind::OutsideBlob, &place));
            }
        }
        let length = bigint(size);
        let (whole, cut): (Vec<VerifyContent>, Vec<VerifyContent>) = content
            .iter()
            .filter(inside)
            .cloned()
            .partition(|one| one.offset + one.length <= length);
        self.each(&cut).await?;
        if !self.how.bytes || whole.is_empty() {
            return Ok(());
        }
        self.content(&whole).await
    }

    /// Reads and hashes what lies in one blob, in its order.
    pub(super) async fn content(&mut self, whole: &[VerifyContent]) -> Result<(), VerifyError> {
        match self.hashes(whole).await? {
            Some(hashes) => {
                let differing: Vec<VerifyContent> = whole
                    .iter()
                    .zip(hashes)
                    .filter(|(one, hash)| one.sha256 != hash[..])
                    .map(|(one, _)| one.clone())
                    .collect();
                self.each(&differing).await
            }
            // One bad place must not hide what else is in the blob.
            None => self.each(whole).await,
        }
    }

    /// The size of a blob's object, asked again, and what is wrong with it told. `None`: there is no
    /// object, or no blob any more.
    async fn object(&mut self, id: Uuid) -> Result<Option<u64>, VerifyError> {
        let size = again(|| self.blobs.size(id)).await;
        // After the object: whatever removes an object has removed the row before.
        let now = self.db.begin_verify(&self.scope).await?.verify_blob(id).await?;
        let Some(now) = now else { return Ok(None) };
        match size {
            Ok(size) => {
                if i64::try_from(size) != Ok(now.length) {
                    let told = format!("{size} bytes where its row says {}", now.length);
                    self.found(Finding::new(Kind::BlobLength).blob(id).detail(told));
                }
                Ok(Some(size))
            }
            Err(BlobError::Missing { .. }) => {
                self.found(Finding::new(Kind::BlobMissing).blob(id));
                Ok(None)
            }
            Err(error) => {
                self.unreadable(id, error).await?;
                Ok(None)
            }
        }
    }

    /// Tells that a blob cannot be read, unless the store cannot be read at all.
    async fn unreadable(&mut self, id: Uuid, error: BlobError) -> Result<(), VerifyError> {
        if self.store.ready().await.is_err() || matches!(error, BlobError::Denied(_)) {
            return Err(error.into());
        }
        let told =
            self.findings.iter().any(|f| (f.kind, f.blob) == (Kind::BlobUnreadable, Some(id)));
        if !told {
            self.found(Finding::new(Kind::BlobUnreadable).blob(id));
        }
        Ok(())
    }

    async fn overlaps(&mut self, content: &[VerifyContent]) -> Result<(), VerifyError> {
        let mut end = i64::MIN;
        let mut over = Vec::new();
        for one in content {
            if one.offset < end {
                over.push(one.watermark);
            }
            end = end.max(one.offset.saturating_add(one.length));
        }
        if over.is_empty() {
            return Ok(());
        }
        for place in self.db.begin_verify(&self.scope).await?.verify_places(&over).await? {
            self.found(at(Kind::BlobOverlap, &place));
        }
        Ok(())
    }

    /// Looks at instances one by one, each with its place read anew: what is still wrong is told.
    async fn each(&mut self, suspects: &[VerifyContent]) -> Result<(), VerifyError> {
        for suspect in suspects {
            let mut before = (suspect.blob, suspect.offset, None);
            for _ in 0..MOVES {
                let watermark = [suspect.watermark];
                let mut tx = self.db.begin_verify(&self.scope).await?;
                let Some(place) = tx.verify_places(&watermark).await?.pop() else { break };
                drop(tx);
                let rest = match is_composed(place.blob) {
                    false => None,
                    true => self.composed(place.blob).await?.map(|composed| composed.rest),
                };
                let has_moved = before != (place.blob, place.offset, rest);
                before = (place.blob, place.offset, rest);
                match self.judge(&place).await? {
                    None => break,
                    // Where it was when it was read, it may not have been any more.
                    Some(_) if has_moved => {}
                    Some(kind) => {
                        self.found(at(kind, &place));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the bytes of an instance; without bytes, whether they can all be there.
    async fn judge(&mut self, place: &VerifyPlace) -> Result<Option<Kind>, VerifyError> {
        let Some(range) = range(place.offset, place.length) else { return Ok(None) };
        let outcome = if self.how.bytes {
            self.hash(place.blob, vec![range]).await.map(|hashes| match hashes.first() {
                Some(hash) if hash[..] == place.sha256[..] => None,
                _ => Some(Kind::BytesDiffer),
            })
        } else {
            self.size(place.blob).await.map(|size| (size < range.end).then_some(Kind::BytesMissing))
        };
        match outcome {
            Ok(kind) => Ok(kind),
            Err(Failed::Blob(BlobError::Missing { .. } | BlobError::Short { .. })) => {
                Ok(Some(Kind::BytesMissing))
            }
            Err(Failed::Blob(error)) => {
                self.unreadable(place.blob, error).await?;
                Ok(Some(Kind::BytesMissing))
            }
            Err(Failed::Unknown) => Ok(Some(Kind::BytesMissing)),
            Err(Failed::Verify(error)) => Err(error),
        }
    }

    /// What a composed blob is made of; `None`: something of that is gone.
    async fn composed(&mut self, blob: Uuid) -> Result<Option<Composed>, VerifyError> {
        let mut tx = self.db.begin_verify(&self.scope).await?;
        Ok(tx.composed(&[blob]).await?.remove(&blob))
    }

    /// Where the bytes that there are of a blob end, of a composed one those of its file.
    async fn size(&mut self, blob: Uuid) -> Result<u64, Failed> {
        let size = again(|| self.blobs.size(blob)).await?;
        if !is_composed(blob) {
            return Ok(size);
        }
        let Some(composed) = self.composed(blob).await? else { return Err(Failed::Unknown) };
        let (rest, at, length) = composed.rest;
        let of_rest = again(|| self.blobs.size(rest)).await?.saturating_sub(at).min(length);
        Ok(if size < composed.head { size } else { composed.head.saturating_add(of_rest) })
    }

    /// The hashes of what lies in one blob, in its order; `None` where it cannot be read through.
    async fn hashes(
        &mut self,
        content: &[VerifyContent],
    ) -> Result<Option<Vec<[u8; 32]>>, VerifyError> {
        let Some(first) = content.first() else { return Ok(None) };
        let ranges = content.iter().filter_map(|one| range(one.offset, one.length)).collect();
        match self.hash(first.blob, ranges).await {
            Ok(hashes) => Ok(Some(hashes)),
            Err(Failed::Blob(_) | Failed::Unknown) => Ok(None),
            Err(Failed::Verify(error)) => Err(error),
        }
    }

    /// Reads ranges of a blob and hashes each; a store that does not answer is asked again.
    async fn hash(&mut self, blob: Uuid, ranges: Vec<Range<u64>>) -> Result<Vec<[u8; 32]>, Failed> {
        let mut retries = RETRIES.into_iter();
        loop {
            match self.hash_once(blob, ranges.clone()).await {
                Err(Failed::Blob(BlobError::Unavailable(source))) => match retries.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(Failed::Blob(BlobError::Unavailable(source))),
                },
                other => return other,
            }
        }
    }

    async fn hash_once(
        &mut self,
        blob: Uuid,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<[u8; 32]>, Failed> {
        let mut stream = match is_composed(blob) {
            false => self.blobs.read_ranges(blob, ranges.clone()).await?,
            true => {
                let Some(composed) = self.composed(blob).await? else {
                    return Err(Failed::Unknown);
                };
                self.blobs.read_pieces(composed.pieces(&ranges)).await?
            }
        };
        let (mut hashes, mut hasher) = (Vec::with_capacity(ranges.len()), Sha256::new());
        let mut lengths = ranges.iter().map(|range| range.end - range.start);
        let mut left = lengths.next().unwrap_or(0);
        while let Some(chunk) = stream.try_next().await? {
            self.pace.pass(chunk.len()).await;
            self.tally.bytes += chunk.len() as u64;
            // Off the threads that serve requests; the store reads on meanwhile.
            let mut rest = chunk;
            while !rest.is_empty() {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let piece: Bytes = rest.split_to(take);
                left -= take as u64;
                hasher = tokio::task::spawn_blocking(move || hasher.chain_update(&piece))
                    .await
                    .map_err(|_| VerifyError::Lost)?;
                if left == 0 {
                    hashes.push(std::mem::take(&mut hasher).finalize().into());
                    left = lengths.next().unwrap_or(u64::MAX);
                }
            }
        }
        Ok(hashes)
    }
}

/// Why bytes could not be hashed.
enum Failed {
    Blob(BlobError),
    /// What a composed blob is made of is gone.
    Unknown,
    Verify(VerifyError),
}

impl From<BlobError> for Failed {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<VerifyError> for Failed {
    fn from(error: VerifyError) -> Self {
        Self::Verify(error)
    }
}

fn bigint(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Asks until the store answers, a few times.
async fn again<T, F: Future<Output = Result<T, BlobError>>>(
    ask: impl Fn() -> F,
) -> Result<T, BlobError> {
    for wait in RETRIES {
        match ask().await {
            Err(BlobError::Unavailable(_)) => tokio::time::sleep(wait).await,
            other => return other,
        }
    }
    ask().await
}

fn range(offset: i64, length: i64) -> Option<Range<u64>> {
    let (offset, length) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
    (length > 0).then(|| offset..offset.saturating_add(length))
}

fn at(kind: Kind, place: &VerifyPlace) -> Finding {
    let told = format!("{} bytes from {} on", place.length, place.offset);
    Finding::new(kind)
        .study(place.study.as_deref())
        .series(place.series.as_deref())
        .instance(&place.instance, place.watermark)
        .blob(place.blob)
        .detail(told)
}
