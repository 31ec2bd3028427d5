//! Writing a file past the page cache.
//!
//! What is stored is seldom read before much else was; and to put it into the page cache first costs
//! more than all else that a store does: the kernel finds, clears and copies into a page for each
//! 4 KiB, and then writes what it could have written from where it was. Holds: bytes go to the disk
//! in their order, from buffers that are used over and over, at places and in lengths that the disk
//! can take; where the filesystem takes none, they go the usual way. Absent: when they are durable.

use std::{
    fs::{File, OpenOptions},
    io,
    mem::take,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Less than this is written the usual way, in bytes: two writes and a longer way to the disk are no
/// gain for it.
pub(super) const LEAST: usize = 256 << 10;
/// What is written at a time, in bytes.
const SIZE: usize = 2 << 20;
/// What addresses, places and lengths are multiples of, in bytes: as much as any disk wants.
const BLOCK: usize = 4 << 10;
/// Most buffers that wait to be used again.
const MOST: usize = 8;

/// Whether files of a folder are written past the page cache, and buffers for it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Directly(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Switched off where the filesystem refuses it.
    on: AtomicBool,
    kept: Mutex<Vec<Vec<u8>>>,
}

/// A file that is written so.
#[derive(Debug)]
pub(super) struct Direct {
    home: Directly,
    /// None, where it was refused.
    file: Option<File>,
    buffer: Vec<u8>,
    /// Where an address in it is a multiple of [`BLOCK`].
    start: usize,
    filled: usize,
    /// Bytes of the file that were written.
    written: u64,
}

impl Directly {
    /// Whether to try it, where the system has it.
    pub(super) fn new(on: bool) -> Self {
        let on = AtomicBool::new(on && cfg!(target_os = "linux"));
        Self(Arc::new(Inner { on, kept: Mutex::default() }))
    }

    /// Opens a new and empty file for it; `None` where it is not to be had. Blocking.
    pub(super) fn open(&self, path: &Path) -> Option<Direct> {
        if !self.0.on.load(Ordering::Relaxed) {
            return None;
        }
        let Ok(file) = open(path) else {
            self.refused();
            return None;
        };
        let kept = self.kept().pop();
        let buffer = kept.unwrap_or_else(|| vec![0; SIZE + BLOCK]);
        let start = buffer.as_ptr().align_offset(BLOCK);
        let (home, file) = (self.clone(), Some(file));
        Some(Direct { home, file, buffer, start, filled: 0, written: 0 })
    }

    fn refused(&self) {
        if self.0.on.swap(false, Ordering::Relaxed) {
            tracing::info!("the filesystem of blob.dir takes no direct writes");
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Direct {
    /// Appends bytes. `cached` is the same file, opened the usual way. Blocking.
    pub(super) fn write(&mut self, mut bytes: &[u8], cached: &File) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.buffer[self.start..self.start + SIZE][self.filled..];
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == SIZE {
                self.send(SIZE, cached)?;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Writes what is left; what is behind the last whole block goes by the page cache. Blocking.
    pub(super) fn end(mut self, cached: &File) -> io::Result<()> {
        let whole = self.filled - self.filled % BLOCK;
        self.send(whole, cached)?;
        let rest = &self.buffer[self.start..][whole..self.filled];
        cached.write_all_at(rest, self.written)
    }

    /// Writes the first bytes of the buffer, whole blocks.
    fn send(&mut self, length: usize, cached: &File) -> io::Result<()> {
        let bytes = &self.buffer[self.start..][..length];
        match &self.file {
            Some(file) if length > 0 => match file.write_all_at(bytes, self.written) {
                // Some filesystems let a file be opened so, and then refuse to write it.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    self.home.refused();
                    self.file = None;
                    cached.write_all_at(bytes, self.written)?;
                }
                written => written?,
            },
            _ => cached.write_all_at(bytes, self.written)?,
        }
        self.written += length as u64;
        Ok(())
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let mut kept = self.home.kept();
        if kept.len() < MOST {
            kept.push(take(&mut self.buffer));
        }
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written in pieces of these lengths, to a file that takes direct writes or does not.
    fn written(lengths: &[usize], refused: bool) -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let cached = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        let directly = Directly::new(true);
        let mut expected = Vec::new();
        // Not every filesystem that tests run on has it.
        let Some(mut direct) = directly.open(&path) else { return (vec![], vec![]) };
        if refused {
            direct.file = None;
        }
        for (n, length) in lengths.iter().enumerate() {
            let piece: Vec<u8> = (0..*length).map(|i| (i * 7 + n * 13) as u8).collect();
            direct.write(&piece, &cached).unwrap();
            expected.extend(piece);
        }
        direct.end(&cached).unwrap();
        assert!(directly.kept().len() <= MOST);
        (std::fs::read(&path).unwrap(), expected)
    }

    #[test]
    fn bytes_of_any_lengths_end_up_end_to_end() {
        for refused in [false, true] {
            for lengths in [
                &[][..],
                &[0, 1],
                &[BLOCK],
                &[SIZE],
                &[SIZE - 1, 1, BLOCK],
                &[LEAST + 5, 3, SIZE * 2 + 77, BLOCK * 3, 1],
            ] {
                let (found, expected) = written(lengths, refused);
                assert!(found == expected, "{lengths:?}, refused: {refused}");
            }
        }
    }

    #[test]
    fn a_buffer_that_is_used_again_brings_nothing_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let directly = Directly::new(true);
        for (n, length) in [(1, SIZE), (2, BLOCK + 1)] {
            let path = dir.path().join(n.to_string());
            let cached = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
            let Some(mut direct) = directly.open(&path) else { return };
            direct.write(&vec![n; length], &cached).unwrap();
            direct.end(&cached).unwrap();
            assert!(std::fs::read(&path).unwrap() == vec![n; length]);
        }
    }

    #[test]
    fn what_is_switched_off_or_cannot_be_is_not_tried() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Directly::new(false).open(&dir.path().join("a")).is_none());
        let directly = Directly::new(true);
        assert!(directly.open(&dir.path().join("absent")).is_none());
        assert!(!directly.0.on.load(Ordering::Relaxed));
    }
}
