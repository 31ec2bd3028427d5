//! Reads of blobs that rows named when they were looked up.
//!
//! Holds: no transaction is open while bytes are waited for, so that an instance may be deleted, and
//! its bytes removed or moved, in between. A blob that is missing is an alarm only where a row names
//! it still; else the request may be repeated, and will be told what became of the instance.

use std::ops::Range;

use uuid::Uuid;

use super::ArchiveError;
use crate::{
    blob::{BlobError, BlobStream, PartitionBlobs},
    index::{Db, IndexError},
    tenancy::PartitionScope,
};

/// The blobs of one partition, as its rows name them. Cheap to clone.
#[derive(Clone)]
pub(super) struct BlobReads {
    pub(super) blobs: PartitionBlobs,
    pub(super) db: Db,
    pub(super) scope: PartitionScope,
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
        let missing = match self.blobs.read(blob, range).await {
            Err(error @ BlobError::Missing { .. }) => error,
            read => return Ok(read?),
        };
        if self.is_named(blob).await? {
            return Err(missing.into());
        }
        let error = anyhow::anyhow!("what was to be read was deleted or moved meanwhile");
        Err(ArchiveError::Unavailable(error))
    }

    async fn is_named(&self, blob: Uuid) -> Result<bool, IndexError> {
        self.db.begin_in(&self.scope).await?.blob_is_named(blob).await
    }
}
