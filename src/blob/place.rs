//! Places that are not the archive's own: where exports go, and where imports come from.
//!
//! Owns [`Place`], a folder or a bucket below its prefix. Holds: a name lies below the place whatever
//! it is made of; what is written is durable and whole before that is acknowledged, and nobody sees
//! it under its name before. Absent: which places there are (`config`), what they hold.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, future, stream::BoxStream};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path,
};

use super::{BlobError, BlobStream, backend};
use crate::config::{BlobConfig, BlobKind};

/// Size of every piece of a long file but the last.
const PIECE_BYTES: usize = 8 << 20;

/// A folder or a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedObject {
    /// Its name in the place.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

impl Place {
    /// Opens a place. A folder has to be there: one that is made where a volume was to be mounted
    /// would fill the wrong disk.
    ///
    /// # Errors
    /// [`BlobError::Config`].
    pub fn open(config: &BlobConfig) -> Result<Self, BlobError> {
        let prefix = Path::parse(&config.prefix)
            .map_err(|_| BlobError::config("prefix", "is not a prefix of keys"))?;
        let objects: Arc<dyn ObjectStore> = match (config.kind, &config.dir) {
            (BlobKind::Local, Some(dir)) => {
                let files = LocalFileSystem::new_with_prefix(dir).map_err(|error| {
                    BlobError::config("dir", format!("cannot be used: {error}"))
                })?;
                Arc::new(files.with_fsync(true))
            }
            (BlobKind::Local, None) => return Err(BlobError::config("dir", "must be set")),
            _ => backend::open(config, std::path::Path::new(""))?.objects,
        };
        Ok(Self { objects, prefix })
    }

    fn path(&self, name: &str) -> Path {
        // As a listing has it; what no listing has is taken for text, in which dots are dots.
        let parsed = Path::parse(name).unwrap_or_else(|_| name.split('/').collect());
        self.prefix.parts().chain(parsed.parts()).collect()
    }

    /// The size of what has a name; `None`: there is nothing.
    ///
    /// # Errors
    /// Where the place does not answer.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, BlobError> {
        match self.objects.head(&self.path(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(BlobError::of_store(error)),
        }
    }

    /// All of what has a name.
    ///
    /// # Errors
    /// Where there is nothing, or the place does not answer.
    pub async fn read(&self, name: &str) -> Result<BlobStream, BlobError> {
        let got = self.objects.get(&self.path(name)).await.map_err(BlobError::of_store)?;
        Ok(got.into_stream().map_err(BlobError::of_store).boxed())
    }

    /// The first bytes of what has a name and is `size` bytes long, up to `most` of them.
    ///
    /// # Errors
    /// As [`Place::read`].
    pub async fn head(&self, name: &str, size: u64, most: u64) -> Result<Bytes, BlobError> {
        let read = self.objects.get_range(&self.path(name), 0..size.min(most)).await;
        read.map_err(BlobError::of_store)
    }

    /// Writes something small, in place of what had the name.
    ///
    /// # Errors
    /// Where the place does not take it.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), BlobError> {
        let put = self.objects.put(&self.path(name), PutPayload::from(bytes)).await;
        put.map(drop).map_err(BlobError::of_store)
    }

    /// Begins something of any size, in place of what had the name.
    pub fn writer(&self, name: &str) -> PlaceWriter {
        let (objects, path) = (self.objects.clone(), self.path(name));
        PlaceWriter { objects, path, held: Vec::new(), bytes: 0, multipart: None }
    }

    /// Removes what has a name, if there is something.
    ///
    /// # Errors
    /// Where the place does not answer.
    pub async fn remove(&self, name: &str) -> Result<(), BlobError> {
        match self.objects.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::of_store(error)),
        }
    }

    /// What lies below a name (or all of it, below the empty one) and behind another, in a bucket in
    /// the order of names.
    pub fn list(
        &self,
        below: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<PlacedObject, BlobError>> {
        let (prefix, below) = (self.prefix.clone(), self.path(below));
        let listing = match after {
            Some(after) => self.objects.list_with_offset(Some(&below), &self.path(after)),
            None => self.objects.list(Some(&below)),
        };
        listing
            .map_err(BlobError::of_store)
            .try_filter_map(move |object| {
                let parts = object.location.prefix_match(&prefix);
                let parts = parts.map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
                let name = parts.map(|parts: Vec<String>| parts.join("/"));
                let listed = name.map(|name| PlacedObject { name, size: object.size });
                future::ready(Ok(listed))
            })
            .boxed()
    }
}

/// Something that is being written. Dropped before [`PlaceWriter::finish`], nothing has its name; a
/// bucket may keep pieces until its own rules remove them, unless [`PlaceWriter::abort`] was called.
#[derive(Debug)]
pub struct PlaceWriter {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    held: Vec<Bytes>,
    bytes: usize,
    multipart: Option<Box<dyn MultipartUpload>>,
}

impl PlaceWriter {
    /// Appends bytes. Waits while a piece is on its way.
    ///
    /// # Errors
    /// Where the place does not take it.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.bytes += bytes.len();
        self.held.push(bytes);
        while self.bytes >= PIECE_BYTES {
            let piece = self.take(PIECE_BYTES);
            self.send(piece).await?;
        }
        Ok(())
    }

    /// So many bytes of those held. (Pieces are of one size, because some stores insist on it.)
    fn take(&mut self, wanted: usize) -> PutPayload {
        let (mut piece, mut missing) = (Vec::new(), wanted);
        let mut held = std::mem::take(&mut self.held).into_iter();
        for mut bytes in held.by_ref() {
            if bytes.len() > missing {
                piece.push(bytes.split_to(missing));
                self.held.push(bytes);
                missing = 0;
                break;
            }
            missing -= bytes.len();
            piece.push(bytes);
            if missing == 0 {
                break;
            }
        }
        self.held.extend(held);
        self.bytes -= wanted - missing;
        PutPayload::from_iter(piece)
    }

    async fn send(&mut self, piece: PutPayload) -> Result<(), BlobError> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let begun = self.objects.put_multipart(&self.path).await;
                none.insert(begun.map_err(BlobError::of_store)?)
            }
        };
        multipart.put_part(piece).await.map_err(BlobError::of_store)
    }

    /// Ends it: it is there now.
    ///
    /// # Errors
    /// Where the place does not take it.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        let rest = self.take(self.bytes);
        if self.multipart.is_none() {
            let put = self.objects.put(&self.path, rest).await;
            return put.map(drop).map_err(BlobError::of_store);
        }
        if rest.content_length() > 0 {
            self.send(rest).await?;
        }
        match self.multipart.as_mut() {
            Some(multipart) => multipart.complete().await.map(drop).map_err(BlobError::of_store),
            None => Ok(()),
        }
    }

    /// Takes back what was sent.
    pub async fn abort(mut self) {
        if let Some(multipart) = self.multipart.as_mut()
            && let Err(error) = multipart.abort().await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "pieces of a file are left behind");
        }
    }
}

/// Reads all of a stream, of which no more than `most` bytes are wanted.
///
/// # Errors
/// That of the stream; [`BlobError::Unfit`] where there are more.
pub async fn collect(mut stream: BlobStream, most: usize) -> Result<Bytes, BlobError> {
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.try_next().await? {
        if all.len() + chunk.len() > most {
            return Err(BlobError::unfit("a list that we wrote has become too long"));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &std::path::Path) -> Place {
        let (kind, dir) = (BlobKind::Local, Some(dir.to_owned()));
        Place::open(&BlobConfig { kind, dir, prefix: "in/it".to_owned(), ..Default::default() })
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_written_is_whole_and_below_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let long: Vec<u8> = (0..20_000_000_u32).map(|n| n as u8).collect();
        let mut writer = place.writer("a/long");
        for chunk in long.chunks(3_000_001) {
            writer.push(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(place.size("a/long").await.unwrap(), None, "it is not complete");
        writer.finish().await.unwrap();
        let read = collect(place.read("a/long").await.unwrap(), usize::MAX).await.unwrap();
        assert!(read == long);
        assert!(collect(place.read("a/long").await.unwrap(), 1000).await.is_err());
        // Names are no paths.
        place.write("../../b/./c", b"short".to_vec()).await.unwrap();
        assert!(!dir.path().join("b").exists());
        assert_eq!(place.head("../../b/./c", 5, 3).await.unwrap(), "sho");
        let mut names: Vec<_> =
            place.list("", None).map_ok(|found| found.size).try_collect().await.unwrap();
        names.sort_unstable();
        assert_eq!(names, [5, 20_000_000]);
        place.remove("a/long").await.unwrap();
        place.remove("a/long").await.unwrap();
        assert_eq!(place.size("a/long").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_given_up_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let mut writer = place.writer("a");
        writer.push(Bytes::from(vec![0; PIECE_BYTES + 1])).await.unwrap();
        writer.abort().await;
        assert_eq!(place.size("a").await.unwrap(), None);
        assert!(
            Place::open(&BlobConfig {
                dir: Some(dir.path().join("missing")),
                ..Default::default()
            })
            .is_err()
        );
    }
}
