//! Streams of bytes cut, moved and shared: windows, forward readers, runs of bits.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{ArchiveError, ByteStream};

/// A stream that is read forward by several readers, one after another, and opened again only for
/// one that wants what has gone by: frames asked for in ascending order cost one pass.
pub(super) struct Forward {
    open: Box<dyn Fn() -> ByteStream + Send + Sync>,
    source: Option<ByteStream>,
    /// Offset of the first byte of `rest`, or else of what the source gives next.
    at: u64,
    rest: Bytes,
}

impl Forward {
    pub(super) fn new(open: impl Fn() -> ByteStream + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), source: None, at: 0, rest: Bytes::new() }
    }

    /// Some bytes from `start` on, before `end`, which lies behind it.
    async fn take(&mut self, start: u64, end: u64) -> Result<Bytes, ArchiveError> {
        if self.at > start {
            self.source = None;
        }
        if self.source.is_none() {
            (self.source, self.at, self.rest) = (Some((self.open)()), 0, Bytes::new());
        }
        loop {
            let skipped = usize::try_from(start - self.at).unwrap_or(usize::MAX);
            let skipped = self.rest.split_to(skipped.min(self.rest.len()));
            self.at += skipped.len() as u64;
            if !self.rest.is_empty() {
                let wanted = usize::try_from(end - start).unwrap_or(usize::MAX);
                let bytes = self.rest.split_to(wanted.min(self.rest.len()));
                self.at += bytes.len() as u64;
                return Ok(bytes);
            }
            let next = match &mut self.source {
                Some(source) => source.try_next().await?,
                None => None,
            };
            self.rest = next.ok_or_else(|| {
                ArchiveError::Internal(anyhow::anyhow!("a value ended before its frame"))
            })?;
        }
    }
}

/// The bytes `range` of what `source` reads.
pub(super) fn forward(source: Arc<Mutex<Forward>>, range: Range<u64>) -> ByteStream {
    stream::try_unfold((source, range), |(source, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let bytes = source.lock().await.take(range.start, range.end).await?;
        let rest = range.start + bytes.len() as u64..range.end;
        Ok(Some((bytes, (source, rest))))
    })
    .boxed()
}

/// The bytes `range` of a stream.
pub(super) fn window(source: ByteStream, range: Range<u64>) -> ByteStream {
    let state = (source, 0_u64, range);
    stream::try_unfold(state, |(mut source, mut at, range)| async move {
        while at < range.end {
            let Some(mut bytes) = source.try_next().await? else {
                let error = anyhow::anyhow!("a value ended before its frame");
                return Err(ArchiveError::Internal(error));
            };
            let (start, end) = (at, at + bytes.len() as u64);
            at = end;
            if end <= range.start {
                continue;
            }
            if end > range.end {
                bytes.truncate((range.end - start) as usize);
            }
            if start < range.start {
                bytes = bytes.split_off((range.start - start) as usize);
            }
            return Ok(Some((bytes, (source, at, range))));
        }
        Ok(None)
    })
    .boxed()
}

/// Moves a run of bits that starts inside a byte (1-bit frames, PS3.5 §8.1.1) to a byte border and
/// clears what follows it.
pub(super) fn align(source: ByteStream, shift: u64, bits: u64) -> ByteStream {
    if shift == 0 && bits.is_multiple_of(8) {
        return source;
    }
    struct State {
        source: ByteStream,
        carry: Option<u8>,
        left: u64,
    }
    let shift = shift as u32;
    let state = State { source, carry: None, left: bits };
    stream::try_unfold(state, move |mut state| async move {
        while state.left > 0 {
            let chunk = state.source.try_next().await?;
            let ended = chunk.is_none();
            let mut out = Vec::with_capacity(chunk.as_ref().map_or(1, Bytes::len) + 1);
            // Bit 0 of a byte is its first pixel, so later pixels come in from the left.
            let join = |low: u8, high: u8| {
                if shift == 0 { low } else { low >> shift | high << (8 - shift) }
            };
            for byte in chunk.into_iter().flatten() {
                if let Some(low) = state.carry.replace(byte) {
                    out.push(join(low, byte));
                }
            }
            if ended {
                out.extend(state.carry.take().map(|low| join(low, 0)));
            }
            let wanted = usize::try_from(state.left.div_ceil(8)).unwrap_or(usize::MAX);
            out.truncate(wanted);
            state.left = state.left.saturating_sub(out.len() as u64 * 8);
            if state.left == 0
                && !bits.is_multiple_of(8)
                && let Some(last) = out.last_mut()
            {
                *last &= (1 << (bits % 8)) - 1;
            }
            if ended && state.left > 0 {
                let error = anyhow::anyhow!("pixel data ended before its frame");
                return Err(ArchiveError::Internal(error));
            }
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), state)));
            }
        }
        Ok(None)
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(chunks: &[&'static [u8]]) -> ByteStream {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok(Bytes::from_static(c))).collect();
        stream::iter(chunks).boxed()
    }

    async fn collect(stream: ByteStream) -> Vec<u8> {
        let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
        chunks.concat()
    }

    #[tokio::test]
    async fn bits_move_to_a_byte_border() {
        // 12 bits that start at bit 4: 0xBA, 0xDC are pixels A B C D from low to high nibble.
        for chunks in [&[&[0xBA_u8, 0xDC][..]][..], &[&[0xBA], &[0xDC]]] {
            assert_eq!(collect(align(source(chunks), 4, 12)).await, [0xCB, 0x0D]);
        }
        assert_eq!(collect(align(source(&[&[0xFF, 0xFF]]), 0, 9)).await, [0xFF, 0x01]);
        assert_eq!(collect(align(source(&[&[0b1010_0000]]), 5, 3)).await, [0b101]);
    }

    #[tokio::test]
    async fn a_window_cuts_across_chunks() {
        let chunks: &[&[u8]] = &[b"abc", b"def", b"ghi"];
        assert_eq!(collect(window(source(chunks), 2..7)).await, b"cdefg");
        assert_eq!(collect(window(source(chunks), 3..6)).await, b"def");
        assert!(collect(window(source(chunks), 4..4)).await.is_empty());
        let short: Result<Vec<Bytes>, _> = window(source(chunks), 8..10).try_collect().await;
        assert!(short.is_err());
    }

    #[tokio::test]
    async fn ascending_readers_share_one_pass() {
        let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = opened.clone();
        let chunks: &[&[u8]] = &[b"abc", b"def", b"ghi"];
        let source = Arc::new(Mutex::new(Forward::new(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            source(chunks)
        })));
        let passes = || opened.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(collect(forward(source.clone(), 1..4)).await, b"bcd");
        assert_eq!(collect(forward(source.clone(), 4..5)).await, b"e");
        assert_eq!(collect(forward(source.clone(), 7..9)).await, b"hi");
        assert!(collect(forward(source.clone(), 9..9)).await.is_empty());
        assert_eq!(passes(), 1);
        assert_eq!(collect(forward(source.clone(), 0..2)).await, b"ab");
        assert_eq!(passes(), 2);
        let beyond: Result<Vec<Bytes>, _> = forward(source, 8..10).try_collect().await;
        assert!(beyond.is_err());
    }
}
