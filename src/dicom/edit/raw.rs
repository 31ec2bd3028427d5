//! Bytes that came in pieces, known by where they stand.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this size, in bytes, are copied together: each one that is kept costs memory of its
/// own, and whoever sends chooses how he cuts.
const SMALL: usize = 4 * 1024;

/// A run of bytes; those before it were given away.
#[derive(Default)]
pub(super) struct Raw {
    chunks: VecDeque<Bytes>,
    /// Small pieces that came last.
    joined: BytesMut,
    base: u64,
    end: u64,
}

impl Raw {
    /// Where the first byte stands.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Where the next byte will stand.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.base
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.end += chunk.len() as u64;
        if chunk.len() < SMALL {
            self.joined.extend_from_slice(&chunk);
        } else {
            self.join();
            self.chunks.push_back(chunk);
        }
    }

    fn join(&mut self) {
        if !self.joined.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.joined).freeze());
        }
    }

    /// Gives away what stands before `at`.
    pub(super) fn split_to(&mut self, at: u64) -> Vec<Bytes> {
        self.join();
        let mut before = Vec::new();
        while self.base < at
            && let Some(mut chunk) = self.chunks.pop_front()
        {
            let wanted = usize::try_from(at - self.base).unwrap_or(usize::MAX).min(chunk.len());
            let taken = chunk.split_to(wanted);
            self.base += taken.len() as u64;
            before.push(taken);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        before
    }

    /// A copy of what stands from `start` to `end`.
    pub(super) fn copy(&self, start: u64, end: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.copy_into(&mut out, start, end);
        out
    }

    pub(super) fn copy_into(&self, out: &mut Vec<u8>, start: u64, end: u64) {
        let mut at = self.base;
        let joined = &self.joined[..];
        for chunk in self.chunks.iter().map(|chunk| &chunk[..]).chain([joined]) {
            let place = |wanted: u64| {
                usize::try_from(wanted.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len())
            };
            out.extend_from_slice(chunk.get(place(start)..place(end)).unwrap_or_default());
            at += chunk.len() as u64;
            if at >= end {
                return;
            }
        }
    }
}
