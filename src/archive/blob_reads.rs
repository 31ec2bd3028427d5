//! Reads of blobs that rows named when they were looked up.
//!
//! Holds: no transaction is open while bytes are waited for, so that an instance may be deleted, and
//! its bytes removed or moved, in between. A blob that is missing is an alarm only where a row names
//! it still; else the request may be repeated, and will be told what became of the instance.
//!
//! What a composed blob is made of ([`crate::index`], `composed`) is looked up here, so that nobody
//! else in the archive has to know of such; and remembered, since bytes that were found somewhere are
//! those there or are gone.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::ArchiveError;
use crate::{
    blob::{BlobError, BlobStream, PartitionBlobs},
    index::{Composed, Db, IndexError, is_composed},
    tenancy::{PartitionId, PartitionScope},
};

/// Most composed blobs that are remembered; then it is begun anew.
const REMEMBERED: usize = 4096;

/// Where composed blobs were found. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<(PartitionId, Uuid), Composed>>>);

impl Places {
    fn get(&self, partition: &PartitionId, blob: Uuid) -> Option<Composed> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&(partition.clone(), blob)).copied()
    }

    fn keep(&self, partition: &PartitionId, composed: Composed) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= REMEMBERED {
            places.clear();
        }
        places.insert((partition.clone(), composed.blob), composed);
    }
}

/// The blobs of one partition, as its rows name them. Cheap to clone.
#[derive(Clone)]
pub(super) struct BlobReads {
    pub(super) blobs: PartitionBlobs,
    pub(super) db: Db,
    pub(super) scope: PartitionScope,
    pub(super) places: Places,
}

/// Why a blob is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It, or what it is made of, is not in the store.
    Missing(anyhow::Error),
    Other(ArchiveError),
}

impl From<BlobError> for Unread {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Missing { .. } => Self::Missing(error.into()),
            error => Self::Other(error.into()),
        }
    }
}

impl From<IndexError> for Unread {
    fn from(error: IndexError) -> Self {
        Self::Other(error.into())
    }
}

impl BlobReads {
    /// Streams one range of a blob, as [`PartitionBlobs::read`] does.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] where no row names the blob any more.
    pub(super) async fn read(
        &self,
        blob: Uuid,
        range: Range<u64>,
    ) -> Result<BlobStream, ArchiveError> {
        let missing = match self.open(blob, vec![range]).await {
            Ok(stream) => return Ok(stream),
            Err(Unread::Other(error)) => return Err(error),
            Err(Unread::Missing(error)) => error,
        };
        if self.is_named(blob).await? {
            return Err(ArchiveError::Internal(missing));
        }
        let error = anyhow::anyhow!("what was to be read was deleted or moved meanwhile");
        Err(ArchiveError::Unavailable(error))
    }

    /// Streams ranges of a blob, as [`PartitionBlobs::read_ranges`] does, whether rows name it or
    /// not.
    pub(super) async fn open(
        &self,
        blob: Uuid,
        ranges: Vec<Range<u64>>,
    ) -> Result<BlobStream, Unread> {
        match is_composed(blob) {
            false => Ok(self.blobs.read_ranges(blob, ranges).await?),
            true => Box::pin(self.open_composed(blob, &ranges)).await,
        }
    }

    async fn open_composed(&self, blob: Uuid, ranges: &[Range<u64>]) -> Result<BlobStream, Unread> {
        let partition = self.scope.partition();
        let (mut place, mut tried) = (self.places.get(partition, blob), None);
        loop {
            if let Some(known) = place {
                match self.blobs.read_pieces(known.pieces(ranges)).await {
                    // A compaction may have moved what it shares.
                    Err(BlobError::Missing { .. }) if tried != place => {}
                    opened => return Ok(opened?),
                }
            }
            tried = place;
            let found = self.db.begin_in(&self.scope).await?.composed(&[blob]).await?;
            place = found.get(&blob).copied();
            match place {
                Some(found) => self.places.keep(partition, found),
                None => {
                    let error = anyhow::anyhow!("what blob {blob} is made of is not known");
                    return Err(Unread::Missing(error));
                }
            }
        }
    }

    async fn is_named(&self, blob: Uuid) -> Result<bool, IndexError> {
        self.db.begin_in(&self.scope).await?.blob_is_named(blob).await
    }
}
