//! Blobs: the bytes of stored instances, in a folder or in somebody's object store.
//!
//! Owns [`BlobStore`] and [`PartitionBlobs`], the only ways to blob bytes. A blob is written once
//! under a new random id and never changed. Holds:
//! - A key is made from a partition and an id, in `key` alone, so that no caller can name another
//!   partition's blob without naming that partition.
//! - What [`PartitionBlobs::put`] and [`Upload::finish`] acknowledge is durable.
//! - Memory is bounded by constants, not by the size of a blob.
//!
//! Beside it stands [`Place`], for what is no blob: the files of exports and imports.
//!
//! Absent: what is in a blob (the index knows), caches, retries beyond those of one request.

mod backend;
mod buffers;
mod direct;
mod error;
mod folder;
mod home;
mod key;
mod meter;
mod place;
mod probe;
mod read;
mod unfinished;
mod upload;

use std::{
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use uuid::Uuid;

pub use error::{BlobError, Source};
pub use key::BlobKey;
pub use place::{Place, PlaceWriter, PlacedObject, collect};
pub use read::BlobStream;
pub use upload::Upload;

use crate::{config::BlobConfig, tenancy::PartitionId};
use backend::Opened;
use folder::Folder;
use key::Layout;
use meter::{measured, moved};
use unfinished::Unfinished;

/// How long an upload may live unless [`BlobStore::with_upload_life`] says otherwise: half of the
/// default `sweep.orphan_grace`.
const UPLOAD_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// How long [`BlobStore::ready`] waits for an answer.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store of all partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    objects: Arc<dyn ObjectStore>,
    /// Set for the local store, whose files we write and read ourselves.
    folder: Option<Folder>,
    /// Set for S3.
    unfinished: Option<Arc<Unfinished>>,
    layout: Layout,
    upload_life: Duration,
}

/// One partition's blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PartitionBlobs {
    store: BlobStore,
    partition: PartitionId,
}

/// A blob as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The blob's id.
    pub id: Uuid,
    /// When it was written, by the store's clock. Some stores date a large object by the start of
    /// its upload.
    pub modified: SystemTime,
    /// In bytes. A file that is still being written shows what is there so far.
    pub size: u64,
}

impl BlobStore {
    /// Opens the store that the configuration names; a local folder is created where it is missing.
    ///
    /// # Errors
    /// [`BlobError::Config`] names the key that is wrong. Whether the store answers is
    /// [`BlobStore::probe`]'s question.
    pub fn open(config: &BlobConfig, data_dir: &Path) -> Result<Self, BlobError> {
        let layout = Layout::new(&config.prefix)?;
        let Opened { objects, folder, unfinished } = backend::open(config, data_dir)?;
        let unfinished = unfinished.map(Arc::new);
        Ok(Self { objects, folder, unfinished, layout, upload_life: UPLOAD_LIFE })
    }

    /// Sets how long an upload may take. It must end well before the sweeper's `orphan_grace` is
    /// over, because a store may date the blob by the start of its upload: half of it is right.
    #[must_use]
    pub fn with_upload_life(mut self, life: Duration) -> Self {
        self.upload_life = life;
        self
    }

    /// The blobs of one partition.
    pub fn within(&self, partition: &PartitionId) -> PartitionBlobs {
        PartitionBlobs { store: self.clone(), partition: partition.clone() }
    }

    /// The partitions that the store holds something of, ascending.
    pub async fn partitions(&self) -> Result<Vec<PartitionId>, BlobError> {
        let rooms = self.objects.list_with_delimiter(Some(self.layout.rooms())).await;
        let rooms = rooms.map_err(BlobError::of_store)?.common_prefixes;
        let mut partitions: Vec<_> =
            rooms.iter().filter_map(|room| self.layout.partition_of(room)).collect();
        partitions.sort();
        Ok(partitions)
    }

    /// Clears away uploads begun before `old` that a server which died left unfinished, where the
    /// store keeps such things and lists them; says how many.
    pub async fn remove_unfinished(&self, old: SystemTime) -> Result<u64, BlobError> {
        match &self.unfinished {
            Some(unfinished) => unfinished.remove(&self.layout, old).await,
            None => Ok(0),
        }
    }

    /// Whether the store answers, at the cost of one small request.
    pub async fn ready(&self) -> Result<(), BlobError> {
        let key = self.layout.owner();
        let asked = tokio::time::timeout(READY_TIMEOUT, self.objects.head(key.path()));
        if let Some(folder) = &self.folder {
            let there = tokio::fs::metadata(folder.root()).await;
            there.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        }
        match asked.await {
            // The marker need not exist: that the store looked for it is the answer.
            Ok(Ok(_) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(BlobError::of_store(error)),
            Err(late) => Err(BlobError::Unavailable(Box::new(late))),
        }
    }

    /// Writes under a key that must not exist, by the store's conditional put.
    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<(), BlobError> {
        match &self.folder {
            Some(folder) => {
                folder.put(key, vec![bytes]).await.map_err(|e| BlobError::of_io(key, e))
            }
            None => {
                let put = self.objects.put_opts(key.path(), bytes.into(), PutMode::Create.into());
                put.await.map(drop).map_err(|e| BlobError::of(key, e))
            }
        }
    }

    /// A whole small object.
    async fn get(&self, key: &BlobKey) -> Result<Bytes, BlobError> {
        let got = self.objects.get(key.path()).await.map_err(|e| BlobError::of(key, e))?;
        got.bytes().await.map_err(|e| BlobError::of(key, e))
    }

    async fn remove(&self, key: &BlobKey) -> Result<(), BlobError> {
        match self.objects.delete(key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::of(key, error)),
        }
    }

    async fn upload(&self, key: BlobKey) -> Result<Upload, BlobError> {
        match &self.folder {
            Some(folder) => Upload::to_folder(folder, key, self.upload_life).await,
            None => Ok(Upload::to_store(self.objects.clone(), key, self.upload_life)),
        }
    }

    async fn read(&self, key: BlobKey, ranges: Vec<Range<u64>>) -> Result<BlobStream, BlobError> {
        match &self.folder {
            Some(folder) => read::from_folder(folder, key, ranges).await,
            None => read::from_store(self.objects.clone(), key, ranges).await,
        }
    }
}

impl PartitionBlobs {
    /// The partition whose blobs these are.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// Stores a whole blob, made of the chunks end to end, and returns once it is durable.
    ///
    /// An object store gets a plain put: ids are unique, so there is nothing to overwrite, and a
    /// plain put may be repeated safely when its answer was lost.
    ///
    /// # Errors
    /// [`BlobError::Exists`] where the store can tell; [`BlobError::Full`],
    /// [`BlobError::Denied`] and [`BlobError::Unavailable`]. Nothing is stored then, except where
    /// the answer was lost: the sweeper finds such an orphan.
    pub async fn put(&self, id: Uuid, chunks: Vec<Bytes>) -> Result<(), BlobError> {
        let key = self.key(id);
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let put = async {
            match &self.store.folder {
                Some(folder) => {
                    folder.put(&key, chunks).await.map_err(|e| BlobError::of_io(&key, e))
                }
                None => {
                    let payload = PutPayload::from_iter(chunks);
                    let put = self.store.objects.put(key.path(), payload).await;
                    put.map(drop).map_err(|e| BlobError::of(&key, e))
                }
            }
        };
        measured("put", put).await.map_err(BlobError::of_write)?;
        moved("put", bytes);
        Ok(())
    }

    /// Begins a blob whose bytes come in pieces.
    pub async fn upload(&self, id: Uuid) -> Result<Upload, BlobError> {
        self.store.upload(self.key(id)).await
    }

    /// Streams one range of a blob.
    ///
    /// # Errors
    /// [`BlobError::Missing`] at once; [`BlobError::Short`] where the range leaves the blob, at
    /// once or from the stream.
    pub async fn read(&self, id: Uuid, range: Range<u64>) -> Result<BlobStream, BlobError> {
        self.read_ranges(id, vec![range]).await
    }

    /// Streams several ranges of a blob, one after another in the order given. Ranges that lie
    /// close together, in ascending order, cost one request.
    ///
    /// # Errors
    /// As [`PartitionBlobs::read`].
    pub async fn read_ranges(
        &self,
        id: Uuid,
        ranges: Vec<Range<u64>>,
    ) -> Result<BlobStream, BlobError> {
        let stream = measured("get", self.store.read(self.key(id), ranges)).await?;
        Ok(stream.inspect_ok(|chunk| moved("get", chunk.len() as u64)).boxed())
    }

    /// Streams ranges of several blobs as one, in the order given. All are opened before the first
    /// byte is given, so that they should be few.
    ///
    /// # Errors
    /// As [`PartitionBlobs::read`].
    pub async fn read_pieces(
        &self,
        pieces: Vec<(Uuid, Range<u64>)>,
    ) -> Result<BlobStream, BlobError> {
        let opening = pieces.into_iter().map(|(id, range)| self.read(id, range));
        let opened = futures::future::try_join_all(opening).await?;
        Ok(stream::iter(opened).flatten().boxed())
    }

    /// Reads one small range into memory, all of it.
    ///
    /// # Errors
    /// As [`PartitionBlobs::read`].
    pub async fn read_all(&self, id: Uuid, range: Range<u64>) -> Result<Bytes, BlobError> {
        let key = self.key(id);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = async {
            match &self.store.folder {
                Some(folder) => read::all_from_folder(folder, &key, range).await,
                None => read::all_from_store(&self.store.objects, &key, range).await,
            }
        };
        let bytes = measured("get", read).await?;
        moved("get", bytes.len() as u64);
        Ok(bytes)
    }

    /// The size of a blob in bytes.
    ///
    /// # Errors
    /// [`BlobError::Missing`]; as [`PartitionBlobs::read`].
    pub async fn size(&self, id: Uuid) -> Result<u64, BlobError> {
        let key = self.key(id);
        let asked = async {
            let meta = self.store.objects.head(key.path()).await;
            meta.map_err(|e| BlobError::of(&key, e))
        };
        Ok(measured("head", asked).await?.size)
    }

    /// Removes a blob. One that is not there is removed already.
    pub async fn remove(&self, id: Uuid) -> Result<(), BlobError> {
        measured("delete", self.store.remove(&self.key(id))).await
    }

    /// Every blob of the partition, in no particular order. What lies there and is not a blob of
    /// ours is passed over.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, BlobError>> {
        let room = self.store.layout.room(&self.partition);
        let listing = self.store.objects.list(Some(&room));
        let (layout, partition) = (self.store.layout.clone(), self.partition.clone());
        listing
            .map_err(BlobError::of_store)
            .try_filter_map(move |object| {
                let id = layout.id_of(&partition, &object.location);
                let modified = object.last_modified.into();
                let listed = id.map(|id| Listed { id, modified, size: object.size });
                std::future::ready(Ok(listed))
            })
            .boxed()
    }

    /// Removes many blobs, a few at a time, and says of each how it went.
    pub fn remove_many(&self, ids: Vec<Uuid>) -> BoxStream<'static, (Uuid, Result<(), BlobError>)> {
        /// Removals on their way at once.
        const AT_ONCE: usize = 8;
        let blobs = self.clone();
        stream::iter(ids)
            .map(move |id| {
                let blobs = blobs.clone();
                async move { (id, blobs.remove(id).await) }
            })
            .buffer_unordered(AT_ONCE)
            .boxed()
    }

    fn key(&self, id: Uuid) -> BlobKey {
        self.store.layout.blob(&self.partition, id)
    }
}
