//! Whether what was sent under a SOP Instance UID that the partition holds is the same instance in
//! another file: Storage (PS3.4 Annex B) sends data sets, and who receives one writes the File Meta
//! Information (PS3.10 §7.1) himself, so that what came over HTTP as a file comes by C-STORE as
//! another one.
//!
//! Holds: data sets are the same where their transfer syntax and all of their bytes are. It is held
//! against what is given out, and against the first version. Bytes are compared as they are read, and
//! only where the rows say that they may be the same: that is rare. Absent: what was coerced, whose
//! (0400,0561) says when.

use bytes::{Buf as _, Bytes};
use futures::TryStreamExt as _;
use uuid::Uuid;

use super::{Archive, ArchiveError, Target, Version, Wanted, writer::Row};
use crate::tenancy::PartitionScope;

impl Archive {
    /// Whether the data set of a file, whose bytes are in `blob`, is one that is stored under its UID.
    ///
    /// # Errors
    /// Where the index or the blob store fails.
    pub(super) async fn is_resent(
        &self,
        scope: &PartitionScope,
        blob: Uuid,
        row: &Row,
    ) -> Result<bool, ArchiveError> {
        if row.coerced.is_some() {
            return Ok(false);
        }
        let mut looked_at = None;
        for version in [Version::Current, Version::Original] {
            match self.has_data_set((scope, version), &mut looked_at, blob, row).await {
                Ok(true) => return Ok(true),
                // It was deleted meanwhile, or is somewhere else.
                Ok(false) | Err(ArchiveError::NotFound | ArchiveError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn has_data_set(
        &self,
        (scope, version): (&PartitionScope, Version),
        looked_at: &mut Option<i64>,
        blob: Uuid,
        row: &Row,
    ) -> Result<bool, ArchiveError> {
        let target = Target::Instance {
            study: row.indexed.study.clone(),
            series: row.indexed.series.clone(),
            instance: row.indexed.instance.clone(),
        };
        let wanted = vec![Wanted::Any];
        let mut instances = self.instances(scope.clone(), target, version, wanted).await?;
        if !instances.turn().await? {
            return Ok(false);
        }
        let Some(located) = instances.page.front() else { return Ok(false) };
        // Of what was never changed the first version is the last.
        if looked_at.replace(located.watermark) == Some(located.watermark) {
            return Ok(false);
        }
        let start = row.indexed.data_set_offset;
        let length = located.length.checked_sub(located.data_set_offset);
        if located.transfer_syntax != row.indexed.transfer_syntax
            || length.is_none()
            || length != row.length.checked_sub(start)
        {
            return Ok(false);
        }
        let (file, before) = (located.length, located.data_set_offset);
        let Some(head) = instances.next().await? else { return Ok(false) };
        // Where a file has no header one is given with it.
        let given = head.length.unwrap_or(file).saturating_sub(file);
        let mut before = given.saturating_add(before);
        let reads = self.blob_reads(scope);
        let range = row.offset + start..row.offset + row.length;
        let mut came = reads.read(blob, range).await?;
        let mut ours = Bytes::new();
        while let Some(mut stored) = instances.chunk().await? {
            let skipped = before.min(stored.len() as u64);
            before -= skipped;
            stored.advance(skipped as usize);
            while !stored.is_empty() {
                if ours.is_empty() {
                    let Some(next) = came.try_next().await? else { return Ok(false) };
                    ours = next;
                }
                let length = ours.len().min(stored.len());
                if ours.split_to(length) != stored.split_to(length) {
                    return Ok(false);
                }
                tokio::task::consume_budget().await;
            }
        }
        while ours.is_empty() {
            match came.try_next().await? {
                Some(next) => ours = next,
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}
