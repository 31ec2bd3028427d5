//! Bytes of a part that are held in memory, as they came.

use bytes::{Bytes, BytesMut};

/// Chunks below this size, in bytes, are copied together: each one that is kept costs memory of its
/// own, and a client chooses how it cuts its body.
const SMALL_CHUNK: usize = 4 * 1024;

/// Bytes in memory, in their order.
#[derive(Default)]
pub struct Chunks {
    whole: Vec<Bytes>,
    /// Small chunks that came one after another.
    joined: BytesMut,
}

impl From<Bytes> for Chunks {
    fn from(all: Bytes) -> Self {
        Self { whole: vec![all], joined: BytesMut::new() }
    }
}

impl Chunks {
    /// Adds the next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.len() < SMALL_CHUNK {
            self.joined.extend_from_slice(&chunk);
            return;
        }
        self.join();
        self.whole.push(chunk);
    }

    fn join(&mut self) {
        if !self.joined.is_empty() {
            self.whole.push(std::mem::take(&mut self.joined).freeze());
        }
    }

    /// All of them; none are left.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.join();
        std::mem::take(&mut self.whole)
    }

    /// A copy of the first `most` bytes, or of all.
    pub fn first(&self, most: usize) -> Vec<u8> {
        let mut first = Vec::new();
        for chunk in self.whole.iter().map(Bytes::as_ref).chain([self.joined.as_ref()]) {
            let room = most.saturating_sub(first.len()).min(chunk.len());
            first.extend_from_slice(chunk.get(..room).unwrap_or_default());
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_joined_and_nothing_is_reordered() {
        let mut chunks = Chunks::default();
        let large = Bytes::from(vec![7; SMALL_CHUNK]);
        for byte in 0..5_u8 {
            chunks.push(Bytes::copy_from_slice(&[byte]));
        }
        chunks.push(large.clone());
        chunks.push(Bytes::from_static(b"ab"));
        chunks.push(Bytes::from_static(b"c"));
        let taken = chunks.take();
        assert_eq!(
            taken,
            [Bytes::from_static(&[0, 1, 2, 3, 4]), large, Bytes::from_static(b"abc")]
        );
        assert!(chunks.take().is_empty());
    }
}
