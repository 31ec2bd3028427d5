//! Buffers that files are read into, used over and over.
//!
//! Memory that is new costs a page fault for every 4 KiB of it, which takes longer than copying the
//! bytes. Holds: a chunk shows what was read into it and nothing that was there before; what waits
//! to be used again is bounded, and while much is in use, since many clients take little, less is
//! read at a time.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

/// Size of a buffer, in bytes: what is read from a file at a time. A slice of 512 × 512 pixels in 16
/// bits fits, with its header.
pub(super) const SIZE: usize = 640 << 10;
/// Less than this is had new: whoever holds a part of a buffer holds all of it, which is so no more
/// than twice what was read.
const LEAST: usize = SIZE / 2;
/// Most buffers that wait to be used again.
const MOST: usize = 32;
/// Buffers in use, 250 MiB, from which on less is read at a time: so much, in bytes.
const MANY: usize = 400;
const LITTLE: usize = 64 << 10;

/// Those that wait, and how many are in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Mutex<Vec<Box<[u8]>>>,
    used: AtomicUsize,
}

/// A buffer to be filled.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    wanted: usize,
    /// Where it goes back to.
    home: Option<Buffers>,
}

impl Buffers {
    /// How many bytes to read at a time for a client that takes them as it likes.
    pub(super) fn step(&self) -> u64 {
        let many = self.0.used.load(Ordering::Relaxed) >= MANY;
        (if many { LITTLE } else { SIZE }) as u64
    }

    /// A buffer for so many bytes.
    pub(super) fn of(&self, wanted: usize) -> Buffer {
        if !(LEAST..=SIZE).contains(&wanted) {
            return Buffer { bytes: vec![0; wanted].into(), wanted, home: None };
        }
        self.0.used.fetch_add(1, Ordering::Relaxed);
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; SIZE].into());
        Buffer { bytes, wanted, home: Some(self.clone()) }
    }
}

impl Buffer {
    /// All that is to be filled.
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.wanted]
    }

    /// What was filled, all of it.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.wanted]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        home.0.used.fetch_sub(1, Ordering::Relaxed);
        let mut kept = home.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_used_again_shows_nothing_of_before() {
        let buffers = Buffers::default();
        let mut first = buffers.of(SIZE);
        first.as_mut().fill(7);
        let at = first.bytes.as_ptr();
        let whole = first.into_bytes();
        let part = whole.slice(5..9);
        drop(whole);
        // As long as a part of it is held, it is nobody else's.
        assert_ne!(buffers.of(SIZE).bytes.as_ptr(), at);
        assert_eq!(&*part, [7; 4]);
        drop(part);
        let mut again = buffers.of(LEAST);
        while again.bytes.as_ptr() != at {
            again = buffers.of(LEAST);
        }
        again.as_mut().fill(8);
        assert_eq!(again.into_bytes(), vec![8; LEAST]);
    }

    #[test]
    fn what_waits_is_bounded_and_little_is_had_new() {
        let buffers = Buffers::default();
        let held: Vec<_> = (0..MOST + 5).map(|_| buffers.of(SIZE).into_bytes()).collect();
        drop(held);
        for length in [0, 1, LEAST - 1, SIZE + 1] {
            let buffer = buffers.of(length);
            assert_eq!((buffer.bytes.len(), buffer.as_ref().len()), (length, length));
        }
        assert_eq!(buffers.0.kept.lock().unwrap().len(), MOST);
        let held: Vec<_> = (0..MANY).map(|_| buffers.of(SIZE).into_bytes()).collect();
        assert_eq!(buffers.step(), LITTLE as u64);
        drop(held);
        assert_eq!(buffers.step(), SIZE as u64);
    }
}
