//! What a place has: its files in an order that is always the same, so that who was cut short goes
//! on behind the last one.
//!
//! Holds: symbolic links are not followed, so that what is read lies in the place, and no loop is
//! ever walked; what is no regular file is told and not opened. A mark names a file without loss,
//! whatever bytes its name has. Absent: what is in files.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::blob::{BlobError, Place};

/// Files that are found before somebody reads them.
const AHEAD: usize = 1024;
/// Bytes of a file that are read at once.
const PIECE: u64 = 512 << 10;
/// What is escaped in a mark: whatever is no text, and what escapes.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Where files come from. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder or a single file.
    Folder(PathBuf),
    /// A bucket, below a name.
    Bucket(Place, String),
}

/// A path in a place, made of names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within(String);

impl Within {
    /// Reads one; `None` where it could lead out of a place.
    pub fn parse(path: &str) -> Option<Self> {
        let is_name = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']) && part.len() <= 255
        };
        let fits = path.len() <= 1024 && path.split('/').all(is_name);
        (path.is_empty() || fits).then(|| Self(path.to_owned()))
    }

    /// The path, without slashes at its ends.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is called.
    pub name: String,
    /// Names it for [`Source::walk`].
    pub mark: String,
    /// A file, or why it is none.
    pub file: Result<At, &'static str>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    path: PathBuf,
    /// In bytes, as the listing had it.
    pub size: u64,
}

/// Why a place cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder itself, or a file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bucket.
    #[error("the bucket did not answer as it should")]
    Bucket(#[from] BlobError),
}

impl Source {
    /// Everything that lies there behind a mark, in the order of marks' names.
    pub fn walk(&self, after: Option<&str>) -> BoxStream<'static, Result<Found, SourceError>> {
        match self {
            Self::Folder(root) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let root = root.clone();
                let after: Option<Vec<OsString>> = after.map(names_of);
                tokio::task::spawn_blocking(move || {
                    // Nobody listens any more: the walk is over.
                    let tell = |found| sender.blocking_send(found).is_ok();
                    if let Err(error) = walk(&root, after.as_deref(), &mut |f| tell(Ok(f))) {
                        tell(Err(error.into()));
                    }
                });
                let next = |mut receiver: mpsc::Receiver<_>| async {
                    receiver.recv().await.map(|found| (found, receiver))
                };
                futures::stream::unfold(receiver, next).boxed()
            }
            Self::Bucket(place, below) => {
                let listing = place.list(below, after);
                listing
                    .map_ok(|object| Found {
                        mark: object.name.clone(),
                        file: match (object.size, object.name.ends_with('/')) {
                            (0, true) => Err("a folder"),
                            (0, false) => Err("an empty file"),
                            (size, _) => Ok(At { path: object.name.clone().into(), size }),
                        },
                        name: object.name,
                    })
                    .map_err(SourceError::from)
                    .boxed()
            }
        }
    }

    /// The first bytes of a file, `most` at the most.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn head(&self, at: &At, most: u64) -> Result<Bytes, SourceError> {
        match self {
            Self::Folder(_) => {
                let mut all = Vec::new();
                let mut file = tokio::io::AsyncReadExt::take(open(&at.path).await?, most);
                tokio::io::AsyncReadExt::read_to_end(&mut file, &mut all).await?;
                Ok(all.into())
            }
            Self::Bucket(place, _) => Ok(place.head(&name(at), at.size, most).await?),
        }
    }

    /// All of a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read(
        &self,
        at: &At,
    ) -> Result<BoxStream<'static, Result<Bytes, SourceError>>, SourceError> {
        match self {
            Self::Folder(_) => {
                // What is kept of a short file pins no more than it needs.
                let piece = usize::try_from(at.size.clamp(4096, PIECE)).unwrap_or(4096);
                let stream = ReaderStream::with_capacity(open(&at.path).await?, piece);
                Ok(stream.map_err(SourceError::from).boxed())
            }
            Self::Bucket(place, _) => {
                Ok(place.read(&name(at)).await?.map_err(SourceError::from).boxed())
            }
        }
    }
}

fn name(at: &At) -> String {
    at.path.to_string_lossy().into_owned()
}

/// Opens a file that was regular, and is refused where it is a link now. Opening never waits, as
/// that of a pipe would.
async fn open(path: &Path) -> io::Result<tokio::fs::File> {
    let mut options = tokio::fs::OpenOptions::new();
    let file =
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(io::Error::other("no regular file any more"));
    }
    Ok(file)
}

/// The names on the way to a file.
fn names_of(mark: &str) -> Vec<OsString> {
    mark.split('/').map(|name| OsString::from_vec(percent_decode_str(name).collect())).collect()
}

/// The names of a folder, last first.
fn listed(dir: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = names.collect::<io::Result<_>>()?;
    names.sort_unstable_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
    Ok(names)
}

/// A folder whose names are being gone through.
struct Level {
    names: Vec<OsString>,
    /// What is left out at the beginning: names before that one; of that one what its own level says.
    after: Option<OsString>,
}

/// Tells what lies below a folder, or that it is one file; ends early where `tell` says so.
fn walk(
    root: &Path,
    after: Option<&[OsString]>,
    tell: &mut impl FnMut(Found) -> bool,
) -> io::Result<()> {
    let kind = fs::metadata(root)?;
    if kind.is_file() {
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = found_file(root.to_owned(), kind.len());
        if after.is_none() {
            tell(Found { mark: name.clone(), name, file });
        }
        return Ok(());
    }
    let after = after.unwrap_or_default();
    let mut path = PathBuf::new();
    let mut levels = vec![Level { names: listed(root)?, after: after.first().cloned() }];
    while let Some(level) = levels.last_mut() {
        let Some(next) = level.names.pop() else {
            levels.pop();
            path.pop();
            continue;
        };
        let order = level.after.as_ref().map(|after| next.as_bytes().cmp(after.as_bytes()));
        if order == Some(std::cmp::Ordering::Less) {
            continue;
        }
        // On the way to the mark: what lies in this folder is looked at from there on.
        let is_on_the_way = order == Some(std::cmp::Ordering::Equal);
        if !is_on_the_way {
            level.after = None;
        }
        path.push(&next);
        let full = root.join(&path);
        let file = match fs::symlink_metadata(&full) {
            Err(_) => Err("cannot be read"),
            Ok(kind) if kind.is_symlink() => Err("a symbolic link"),
            Ok(kind) if kind.is_file() => found_file(full, kind.len()),
            Ok(kind) if kind.is_dir() => match listed(&full) {
                Ok(names) => {
                    let after = after.get(levels.len()).filter(|_| is_on_the_way).cloned();
                    levels.push(Level { names, after });
                    continue;
                }
                Err(_) => Err("a folder that cannot be read"),
            },
            Ok(_) => Err("no regular file"),
        };
        let is_last = is_on_the_way && levels.len() == after.len();
        if !is_last {
            let mark: Vec<String> = path
                .iter()
                .map(|name| percent_encode(name.as_bytes(), ESCAPED).to_string())
                .collect();
            let name = path.to_string_lossy().into_owned();
            if !tell(Found { name, mark: mark.join("/"), file }) {
                return Ok(());
            }
        }
        path.pop();
    }
    Ok(())
}

fn found_file(path: PathBuf, size: u64) -> Result<At, &'static str> {
    if size == 0 { Err("an empty file") } else { Ok(At { path, size }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(root: &Path, after: Option<&str>) -> Vec<Found> {
        let mut all = Vec::new();
        let after: Option<Vec<OsString>> = after.map(names_of);
        walk(root, after.as_deref(), &mut |found| {
            all.push(found);
            true
        })
        .unwrap();
        all
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("b/c/d")).unwrap();
        fs::create_dir_all(at("b0")).unwrap();
        for name in ["a", "b/1", "b/c/d/2", "b/c/3", "b/%41", "b0/4", "z"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::write(dir.path().join(OsString::from_vec(b"b/c/\xff\n".to_vec())), "x").unwrap();
        fs::write(at("empty"), "").unwrap();
        std::os::unix::fs::symlink(dir.path(), at("b/loop")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        dir
    }

    #[test]
    fn each_is_found_once_and_the_walk_goes_on_behind_any_of_them() {
        let dir = tree();
        let all = found(dir.path(), None);
        let names: Vec<&str> = all.iter().map(|found| &*found.mark).collect();
        let expected = [
            "a",
            "b/%2541",
            "b/1",
            "b/c/3",
            "b/c/d/2",
            "b/c/%FF%0A",
            "b/loop",
            "b0/4",
            "empty",
            "link",
            "z",
        ];
        assert_eq!(names, expected);
        for (n, one) in all.iter().enumerate() {
            assert_eq!(found(dir.path(), Some(&one.mark)), all[n + 1..], "{}", one.mark);
        }
        // What was there when it was cut short may be gone.
        assert_eq!(found(dir.path(), Some("b/c/d/1"))[0].mark, "b/c/d/2");
        assert_eq!(found(dir.path(), Some("b/bb/x"))[0].mark, "b/c/3");
        // What was a folder is a file that nobody has seen.
        assert_eq!(found(dir.path(), Some("a/x/y"))[0].mark, "a");
        let why = |name: &str| all.iter().find(|found| found.name == name).unwrap().file.clone();
        assert_eq!(why("b/loop"), Err("a symbolic link"));
        assert_eq!(why("link"), Err("a symbolic link"));
        assert_eq!(why("empty"), Err("an empty file"));
        assert_eq!(found(&dir.path().join("a"), None)[0].name, "a");
        assert!(walk(&dir.path().join("none"), None, &mut |_| true).is_err());
    }

    #[test]
    fn a_path_within_leads_nowhere_else() {
        for path in ["", "a", "a/b.c/2024-05", "…/ä"] {
            assert!(Within::parse(path).is_some(), "{path}");
        }
        for path in ["/", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a\\b", "a\0"] {
            assert!(Within::parse(path).is_none(), "{path:?}");
        }
    }

    #[tokio::test]
    async fn what_became_a_link_or_a_pipe_is_not_opened() {
        let dir = tree();
        let source = Source::Folder(dir.path().to_owned());
        let at = |name: &str| At { path: dir.path().join(name), size: 1 };
        assert_eq!(source.head(&at("a"), 10).await.unwrap(), "x");
        assert!(source.head(&at("link"), 10).await.is_err());
        assert!(source.read(&at("b")).await.is_err());
        let made: Vec<Found> = source.walk(Some("link")).try_collect().await.unwrap();
        assert_eq!(made.len(), 1);
    }
}
