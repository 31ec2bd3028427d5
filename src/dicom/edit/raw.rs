//! Bytes that came in pieces, known by where they stand.

use std::collections::VecDeque;

use bytes::Bytes;

/// A run of bytes; those before it were given away.
#[derive(Default)]
pub(super) struct Raw {
    chunks: VecDeque<Bytes>,
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
        if !chunk.is_empty() {
            self.end += chunk.len() as u64;
            self.chunks.push_back(chunk);
        }
    }

    /// Gives away what stands before `at`.
    pub(super) fn split_to(&mut self, at: u64) -> Vec<Bytes> {
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
        for chunk in &self.chunks {
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
