//! Reading ranges of a blob as a stream.
//!
//! Owns [`BlobStream`] and the two ways to make one. Holds: a stream yields exactly the bytes that
//! were asked for or ends in an error; it never holds more than two chunks; a blob that is missing
//! is reported before the stream begins. From a folder: large reads on threads that may block, one
//! chunk ahead of the reader. From an object store: one ranged GET per run of ranges that lie close
//! together, streamed. Absent: ranges counted from the end, which Azure does not offer.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::task::JoinHandle;

use super::{
    BlobError, BlobKey,
    buffers::Buffers,
    folder::{Folder, blocking},
};

/// The bytes asked for, in order, in chunks of any size.
pub type BlobStream = BoxStream<'static, Result<Bytes, BlobError>>;

/// Ranges that are no further apart come with one request; what lies between is thrown away.
const GAP_BYTES: u64 = 64 << 10;

/// Reads ranges of a file, end to end.
pub(super) async fn from_folder(
    folder: &Folder,
    key: BlobKey,
    ranges: Vec<Range<u64>>,
) -> Result<BlobStream, BlobError> {
    let (path, buffers) = (folder.file_of(&key), folder.buffers().clone());
    let opened = blocking(move || {
        let mut reader = Reader::open(&path, buffers, ranges)?;
        let first = reader.step()?;
        Ok((first, reader))
    });
    let (first, reader) = opened.await.map_err(|e| BlobError::of_io(&key, e))?;
    // Behind the last there is no further visit to the disk.
    let next = reader.has_more().then(|| reader.read_ahead());
    let rest = stream::try_unfold((next, key), |(next, key)| async move {
        let Some(task) = next else { return Ok(None) };
        let read = task.await.unwrap_or_else(|lost| Err(io::Error::other(lost)));
        let (chunk, reader) = read.map_err(|e| BlobError::of_io(&key, e))?;
        let next = reader.has_more().then(|| reader.read_ahead());
        Ok(Some((chunk, (next, key))))
    });
    Ok(stream::iter([Ok(first)]).chain(rest).try_filter(is_some).boxed())
}

/// Reads one range of a file into memory.
pub(super) async fn all_from_folder(
    folder: &Folder,
    key: &BlobKey,
    range: Range<u64>,
) -> Result<Bytes, BlobError> {
    let (path, buffers) = (folder.file_of(key), folder.buffers().clone());
    let read = blocking(move || {
        let length = length(&range);
        Reader::open(&path, buffers, vec![range])?.chunk(length)
    });
    read.await.map_err(|e| BlobError::of_io(key, e))
}

fn is_some(chunk: &Bytes) -> std::future::Ready<bool> {
    std::future::ready(!chunk.is_empty())
}

/// A file and what is still to be read of it. The file stands at the start of `at`.
struct Reader {
    file: File,
    buffers: Buffers,
    ranges: std::vec::IntoIter<Range<u64>>,
    at: Range<u64>,
}

impl Reader {
    /// Opens the file, which must hold all of the ranges: so the error comes before the first byte,
    /// and what is allocated is no larger than what is there. Blocking.
    fn open(path: &Path, buffers: Buffers, ranges: Vec<Range<u64>>) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if ranges.iter().any(|range| !range.is_empty() && range.end > length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { file, buffers, ranges: ranges.into_iter(), at: 0..0 })
    }

    /// The next `limit` bytes, fewer only at the end of all ranges. Blocking.
    fn chunk(&mut self, limit: u64) -> io::Result<Bytes> {
        let left = self.left(limit).min(limit);
        let mut chunk = self.buffers.of(usize::try_from(left).map_err(io::Error::other)?);
        let mut unread = chunk.as_mut();
        while !unread.is_empty() {
            if self.at.is_empty() {
                // Never: then the rest of the buffer would be what it was before.
                let next = self.ranges.next().ok_or(io::ErrorKind::UnexpectedEof)?;
                self.at = next;
                self.file.seek(SeekFrom::Start(self.at.start))?;
                continue;
            }
            let step = (unread.len() as u64).min(self.at.end - self.at.start);
            // No more than a usize, as the smaller of the two.
            let (now, later) = unread.split_at_mut(step as usize);
            self.file.read_exact(now)?;
            self.at.start += step;
            unread = later;
        }
        Ok(chunk.into_bytes())
    }

    /// How many bytes are left, counted no further than `enough`.
    fn left(&self, enough: u64) -> u64 {
        let mut left = length(&self.at);
        for range in self.ranges.as_slice() {
            if left >= enough {
                break;
            }
            left = left.saturating_add(length(range));
        }
        left
    }

    /// The next bytes of a stream. Blocking.
    fn step(&mut self) -> io::Result<Bytes> {
        self.chunk(self.buffers.step())
    }

    fn has_more(&self) -> bool {
        self.left(1) > 0
    }

    fn read_ahead(mut self) -> JoinHandle<io::Result<(Bytes, Self)>> {
        tokio::task::spawn_blocking(move || Ok((self.step()?, self)))
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// Ranges that come with one request.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    whole: Range<u64>,
    wanted: Vec<Range<u64>>,
}

/// Groups ranges, in their order, into as few requests as their neighbourhood allows.
fn runs(ranges: Vec<Range<u64>>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match runs.last_mut() {
            Some(run)
                if range.start >= run.whole.end && range.start - run.whole.end <= GAP_BYTES =>
            {
                run.whole.end = range.end;
                run.wanted.push(range);
            }
            _ => runs.push(Run { whole: range.clone(), wanted: vec![range] }),
        }
    }
    runs
}

/// Reads ranges of an object, end to end.
pub(super) async fn from_store(
    store: Arc<dyn ObjectStore>,
    key: BlobKey,
    ranges: Vec<Range<u64>>,
) -> Result<BlobStream, BlobError> {
    let mut runs = runs(ranges).into_iter();
    let Some(first) = runs.next() else { return Ok(stream::empty().boxed()) };
    let first = run_from_store(&store, &key, first).await?;
    let rest = stream::iter(runs).then(move |run| {
        let (store, key) = (store.clone(), key.clone());
        async move { run_from_store(&store, &key, run).await }
    });
    Ok(first.chain(rest.try_flatten()).boxed())
}

/// Reads one range of an object into memory.
pub(super) async fn all_from_store(
    store: &Arc<dyn ObjectStore>,
    key: &BlobKey,
    range: Range<u64>,
) -> Result<Bytes, BlobError> {
    let run = Run { whole: range.clone(), wanted: vec![range] };
    let chunks: Vec<Bytes> = run_from_store(store, key, run).await?.try_collect().await?;
    match <[Bytes; 1]>::try_from(chunks) {
        Ok([only]) => Ok(only),
        Err(chunks) => Ok(chunks.concat().into()),
    }
}

/// Sends the request of one run and cuts what was asked for out of the answer.
async fn run_from_store(
    store: &Arc<dyn ObjectStore>,
    key: &BlobKey,
    run: Run,
) -> Result<BlobStream, BlobError> {
    let options =
        GetOptions { range: Some(GetRange::Bounded(run.whole.clone())), ..GetOptions::default() };
    let got = match store.get_opts(key.path(), options).await {
        Ok(got) => got,
        Err(error) => {
            // A range beyond the object is 416, which the client does not tell from other failures.
            let told = BlobError::of(key, error);
            let unclear = matches!(told, BlobError::Unavailable(_));
            let meta = if unclear { store.head(key.path()).await.ok() } else { None };
            let short = meta.is_some_and(|meta| meta.size < run.whole.end);
            return Err(if short { BlobError::Short { key: key.clone() } } else { told });
        }
    };
    // Stores cut a range that leaves the object; the rows never name one.
    if got.range != run.whole {
        return Err(BlobError::Short { key: key.clone() });
    }
    let at = (run.whole.start, run.whole.end);
    let state = (got.into_stream(), key.clone(), run.wanted.into_iter().peekable(), at);
    let cut = stream::try_unfold(state, |(mut body, key, mut wanted, (at, end))| async move {
        let Some(chunk) = body.next().await else {
            return if at == end { Ok(None) } else { Err(BlobError::Short { key }) };
        };
        let chunk = chunk.map_err(|e| BlobError::of(&key, e))?;
        let after = at + chunk.len() as u64;
        let mut kept = Vec::new();
        while let Some(range) = wanted.peek() {
            let (from, to) = (range.start.max(at), range.end.min(after));
            if from < to {
                // Both lie within the chunk, whose length is a usize.
                kept.push(Ok(chunk.slice((from - at) as usize..(to - at) as usize)));
            }
            if range.end > after {
                break;
            }
            wanted.next();
        }
        Ok(Some((stream::iter(kept), (body, key, wanted, (after, end)))))
    });
    Ok(cut.try_flatten().boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_close_together_make_one_request() {
        let run = |whole, wanted: &[Range<u64>]| Run { whole, wanted: wanted.to_vec() };
        let lone = |range: Range<u64>| Run { whole: range.clone(), wanted: vec![range] };
        assert_eq!(runs(vec![]), []);
        assert_eq!(runs(vec![5..5, 7..7]), []);
        assert_eq!(runs(vec![0..4, 4..8]), [run(0..8, &[0..4, 4..8])]);
        assert_eq!(runs(vec![0..4, 7..7, 12..20]), [run(0..20, &[0..4, 12..20])]);
        let far = 4 + GAP_BYTES;
        assert_eq!(runs(vec![0..4, far..far + 1]).len(), 1);
        assert_eq!(runs(vec![0..4, far + 1..far + 2]).len(), 2);
        let mixed = [lone(4..8), run(0..9, &[0..4, 6..9])];
        assert_eq!(runs(vec![4..8, 0..4, 6..9]), mixed, "the order asked for is kept");
    }
}
