//! Blobs as files of one folder, written so that what is acknowledged survives a power cut.
//!
//! Owns [`Folder`], the writing half of the local store; listing and removing are
//! `object_store::local`'s. We write ourselves for three reasons:
//! - **Durable to the root.** A new file is only found again if the entries of its folders are on
//!   disk too. `object_store` syncs the folders that a put itself created, but not one that
//!   another put has just created and not yet synced, nor one that was created before a crash.
//!   [`Folder::settle`] counts a folder as settled only once its parent was synced by this process.
//! - **No hard links.** `PutMode::Create` links a staged file, which mounts without hard links
//!   refuse. Ids are unique and nobody reads a blob before its rows are committed, so a file is
//!   created under its final name (`O_EXCL`), written, synced, and its folder synced. What a crash
//!   leaves half-written has no rows: an orphan like any other, and the sweeper's.
//! - **Speed.** Large files are written past the page cache (`direct`); of others write-back is
//!   started every few MiB while the rest is still being copied, which leaves less for the sync at
//!   the end to wait for. There is no rename to journal.
//!
//! Files are readable by their owner alone: they hold patients' data.

use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, IoSlice, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{
    BlobKey,
    buffers::Buffers,
    direct::{self, Direct, Directly},
};

/// How many bytes are written between two nudges to start write-back.
const WRITE_BACK_BYTES: usize = 4 << 20;
/// How many slices one `writev` takes (`IOV_MAX` is 1,024 everywhere that matters).
const SLICES: usize = 512;

/// The folder that all keys of the local store lie in.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// By room: which of its 256 folders are there for good.
    settled: Mutex<HashMap<PathBuf, [u64; 4]>>,
    buffers: Buffers,
    directly: Directly,
}

impl Folder {
    /// Opens the folder, creating it and its parents where they are missing. `direct`: whether files
    /// are written past the page cache, where that can be.
    pub(super) fn open(dir: &Path, direct: bool) -> io::Result<Self> {
        create_settled(dir)?;
        let root = dir.canonicalize()?;
        // It may have been made just before a crash. A parent that we may not read was somebody
        // else's work, and theirs to sync.
        match root.parent().map(sync_folder) {
            Some(Err(e)) if e.kind() != io::ErrorKind::PermissionDenied => return Err(e),
            _ => {}
        }
        let (settled, buffers) = (Mutex::default(), Buffers::default());
        let directly = Directly::new(direct);
        Ok(Self(Arc::new(Inner { root, settled, buffers, directly })))
    }

    /// What files are read into.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    /// The folder's absolute path.
    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    /// The file of a key. Keys hold no character that a path would read differently.
    pub(super) fn file_of(&self, key: &BlobKey) -> PathBuf {
        self.0.root.join(key.path().as_ref())
    }

    /// Writes a whole blob and returns once it is durable.
    pub(super) async fn put(&self, key: &BlobKey, chunks: Vec<Bytes>) -> io::Result<()> {
        let (folder, key) = (self.clone(), key.clone());
        let partial = blocking(move || {
            let mut partial = folder.create(&key)?;
            partial.write(&chunks)?;
            partial.sync()?;
            Ok(partial)
        })
        .await?;
        // Only now: a caller that went away meanwhile will not commit rows for this blob.
        partial.keep();
        Ok(())
    }

    /// Creates the file of a key, which must not exist. Blocking.
    pub(super) fn create(&self, key: &BlobKey) -> io::Result<Partial> {
        let path = self.file_of(key);
        for attempt in 0.. {
            self.settle(key)?;
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    let way = Way::Open(self.0.directly.clone());
                    return Ok(Partial { file, path, way, unsent: 0, kept: false });
                }
                // Somebody removed the folder by hand: what we knew of it no longer holds.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempt == 0 => {
                    self.settled().remove(&self.0.root.join(key.room().as_ref()));
                }
                Err(e) => return Err(e),
            }
        }
        unreachable!("the loop returns")
    }

    /// Makes sure that the folder of a key exists and would still exist after a power cut.
    fn settle(&self, key: &BlobKey) -> io::Result<()> {
        let room = self.0.root.join(key.room().as_ref());
        let known = self.settled().get(&room).copied();
        if known.is_some_and(|shards| has(shards, key.shard())) {
            return Ok(());
        }
        let mut shards = match known {
            Some(_) => [0; 4],
            None => {
                settle_below(&self.0.root, key.room())?;
                existing_shards(&room)?
            }
        };
        create_private(&room.join(format!("{:02x}", key.shard())))?;
        set(&mut shards, key.shard());
        // After the listing above: every folder listed has its entry in what is synced here.
        sync_folder(&room)?;
        let mut settled = self.settled();
        let entry = settled.entry(room).or_default();
        for (all, new) in entry.iter_mut().zip(shards) {
            *all |= new;
        }
        Ok(())
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, [u64; 4]>> {
        // The map is only ever added to or cut whole, so a panic elsewhere left it sound.
        self.0.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being written. Dropped before [`Partial::keep`], it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    way: Way,
    unsent: usize,
    kept: bool,
}

/// How the bytes of a file get to the disk.
#[derive(Debug)]
enum Way {
    /// By what comes first.
    Open(Directly),
    Cached,
    Direct(Direct),
    Ended,
}

impl Partial {
    /// Appends the chunks. Blocking.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        if let Way::Open(directly) = &self.way {
            let is_large = chunks.iter().map(Bytes::len).sum::<usize>() >= direct::LEAST;
            let direct = if is_large { directly.open(&self.path) } else { None };
            self.way = direct.map_or(Way::Cached, Way::Direct);
        }
        match &mut self.way {
            Way::Direct(direct) => {
                chunks.iter().try_for_each(|chunk| direct.write(chunk, &self.file))
            }
            _ => self.write_cached(chunks),
        }
    }

    fn write_cached(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        for group in chunks.chunks(SLICES) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|c| IoSlice::new(c)).collect();
            let mut left = slices.as_mut_slice();
            // Skips what is empty: a vector of nothing but empty slices writes 0.
            IoSlice::advance_slices(&mut left, 0);
            while let Some(first) = left.first() {
                // Cut so that write-back starts in time even when one chunk is very large.
                let written = if first.len() > WRITE_BACK_BYTES {
                    self.file.write(&first[..WRITE_BACK_BYTES])
                } else {
                    self.file.write_vectored(&left[..fitting(left)])
                };
                match written {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        IoSlice::advance_slices(&mut left, n);
                        self.wrote(n);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Returns once the bytes and the file's name are on disk. Blocking.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Way::Direct(direct) = std::mem::replace(&mut self.way, Way::Ended) {
            direct.end(&self.file)?;
        }
        self.file.sync_data()?;
        match self.path.parent() {
            Some(folder) => sync_folder(folder),
            None => Ok(()),
        }
    }

    /// The blob stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Removes the file. Blocking.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.kept = true;
        std::fs::remove_file(&self.path)
    }

    fn wrote(&mut self, bytes: usize) {
        self.unsent += bytes;
        if self.unsent >= WRITE_BACK_BYTES {
            self.unsent = 0;
            start_write_back(&self.file);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, "an unfinished blob was left to the sweeper");
            }
        };
        // Removing a large file takes milliseconds, too long for a thread that drives requests.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Runs what blocks on the threads made for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

/// How many of the slices make up one write: at least one, and no more than the write-back step.
fn fitting(slices: &[IoSlice<'_>]) -> usize {
    let mut bytes = 0;
    let fit = slices.iter().take_while(|slice| {
        bytes += slice.len();
        bytes <= WRITE_BACK_BYTES
    });
    fit.count().max(1)
}

/// Asks the kernel to start writing what it holds of the file, without waiting for it.
#[cfg(target_os = "linux")]
fn start_write_back(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: takes a descriptor that is open for as long as `file` is borrowed, and no memory.
    // A failure only means that the sync at the end has more to do, and reports what matters.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
fn start_write_back(_: &File) {}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates one folder for its owner alone; it may be there already.
fn create_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Creates a folder for its owner alone, and what is missing above it as is usual (others may have
/// to pass through), and syncs the parent of each folder made.
fn create_settled(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.is_dir()).collect();
    for made in missing.into_iter().rev().filter(|above| !above.as_os_str().is_empty()) {
        if made == folder {
            create_private(made)?;
        } else if let Err(e) = std::fs::create_dir(made)
            && e.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(e);
        }
        match made.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new("."))?,
            Some(parent) => sync_folder(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// Creates the room below the root, syncing each parent whether or not something was made: a
/// folder may have been made just before a crash.
fn settle_below(root: &Path, room: &object_store::path::Path) -> io::Result<()> {
    let mut folder = root.to_path_buf();
    for segment in room.parts() {
        let parent = folder.clone();
        folder.push(segment.as_ref());
        create_private(&folder)?;
        sync_folder(&parent)?;
    }
    Ok(())
}

/// Which of the 256 folders a room has.
fn existing_shards(room: &Path) -> io::Result<[u64; 4]> {
    let mut shards = [0; 4];
    for entry in std::fs::read_dir(room)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.len() == 2) else { continue };
        if let Ok(shard) = u8::from_str_radix(name, 16) {
            set(&mut shards, shard);
        }
    }
    Ok(shards)
}

fn has(shards: [u64; 4], shard: u8) -> bool {
    shards[usize::from(shard / 64)] >> (shard % 64) & 1 == 1
}

fn set(shards: &mut [u64; 4], shard: u8) {
    shards[usize::from(shard / 64)] |= 1 << (shard % 64);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use uuid::Uuid;

    use super::super::key::Layout;
    use super::*;

    fn key(id: Uuid) -> BlobKey {
        Layout::new("a/b").unwrap().blob(&"clinic1".parse().unwrap(), id)
    }

    #[tokio::test]
    async fn a_folder_removed_by_hand_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("deep/blobs"), true).unwrap();
        let (one, two) = (key(Uuid::from_u128(1)), key(Uuid::from_u128(2)));
        folder.put(&one, vec![Bytes::from_static(b"x")]).await.unwrap();
        std::fs::remove_dir_all(folder.root().join("a")).unwrap();
        folder.put(&two, vec![Bytes::from_static(b"y")]).await.unwrap();
        assert_eq!(std::fs::read(folder.file_of(&two)).unwrap(), b"y");
    }

    #[tokio::test]
    async fn only_the_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("blobs"), true).unwrap();
        let key = key(Uuid::new_v4());
        folder.put(&key, vec![Bytes::from_static(b"x")]).await.unwrap();
        let mut path = folder.file_of(&key);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        while path.pop() && path != dir.path() {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{path:?}");
        }
    }

    #[tokio::test]
    async fn chunks_of_any_shape_end_up_end_to_end() {
        for direct in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::open(dir.path(), direct).unwrap();
            let large: Vec<u8> = (0..WRITE_BACK_BYTES * 2 + 7).map(|i| (i % 251) as u8).collect();
            let mut chunks = vec![Bytes::new(), Bytes::from(large.clone()), Bytes::new()];
            chunks.extend((0..SLICES * 2 + 1).map(|i| Bytes::from(vec![i as u8; i % 5])));
            let expected = chunks.concat();
            let key = key(Uuid::new_v4());
            folder.put(&key, chunks).await.unwrap();
            assert_eq!(std::fs::read(folder.file_of(&key)).unwrap(), expected);
        }
    }

    #[test]
    fn a_folder_is_settled_once_and_remembered_by_shard() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), true).unwrap();
        for id in [0x00, 0x3f, 0x40, 0xff_u128] {
            folder.settle(&key(Uuid::from_u128(id << 120))).unwrap();
        }
        let settled = folder.settled();
        let shards = settled[&folder.root().join("a/b/clinic1")];
        let known: Vec<u8> = (0..=255).filter(|shard| has(shards, *shard)).collect();
        assert_eq!(known, [0x00, 0x3f, 0x40, 0xff]);
        assert_eq!(existing_shards(&folder.root().join("a/b/clinic1")).unwrap(), shards);
    }
}
