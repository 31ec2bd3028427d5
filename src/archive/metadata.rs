//! Metadata of a study, series or instance (PS3.18 §10.4.1.1.5), from what Store prepared.
//!
//! Holds: no blob is read and nothing is parsed; pages of rows are joined into one JSON array as
//! the client takes them. Memory holds one page as it is kept, and one instance as it is sent.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Archive, ArchiveError, ByteStream, Target};
use crate::{
    dicom::{Uid, json},
    index::{Located, Presence},
    tenancy::PartitionScope,
};

/// Instances whose metadata is read in one transaction.
const PAGE: i64 = 100;

/// Bytes of JSON that are sent at once, about.
const CHUNK: usize = 64 * 1024;

/// Metadata from this size as it is kept, in bytes, is decompressed away from the threads that
/// serve requests.
const MUCH: usize = 64 * 1024;

/// Makes the URI under which the bulk values of an instance are fetched: `(base, query)`, so that
/// the URI of a value is `<base>/<path><query>`.
pub type BulkBase = std::sync::Arc<dyn Fn(&Uid, &Uid, &Uid) -> (String, String) + Send + Sync>;

/// The metadata of a target as a JSON array, and what identifies its version.
pub struct Metadata {
    /// Changes whenever an instance is added or removed.
    pub version: String,
    /// One DICOM JSON array.
    pub body: ByteStream,
}

struct State {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    bulk_base: BulkBase,
    after: Option<i64>,
    /// The newest instance when the answer began; later ones are not in it.
    newest: i64,
    /// Instances that may still come, the page included.
    left: i64,
    page: VecDeque<(Located, Vec<u8>)>,
    first: bool,
    done: bool,
}

impl Archive {
    /// The metadata of a target.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn metadata(
        &self,
        scope: PartitionScope,
        target: Target,
        bulk_base: BulkBase,
    ) -> Result<Metadata, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(summary) = tx.summary(&target).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        let newest = summary.newest;
        let page = tx.metadata_page(&target, None, newest, PAGE).await?;
        drop(tx);
        let state = State {
            archive: self.clone(),
            scope,
            target,
            bulk_base,
            after: None,
            newest,
            left: summary.count,
            page: page.into(),
            first: true,
            done: false,
        };
        let body = stream::try_unfold(state, |mut state| async move {
            let chunk = state.chunk().await?;
            Ok(chunk.map(|chunk| (chunk, state)))
        });
        Ok(Metadata { version: summary.version, body: body.boxed() })
    }
}

impl State {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        if self.done {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
        while out.len() < CHUNK {
            if self.page.is_empty() && self.left > 0 {
                let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
                let page = tx.metadata_page(&self.target, self.after, self.newest, PAGE).await?;
                self.page = page.into();
            }
            let Some((located, compressed)) = self.page.pop_front() else {
                out.extend_from_slice(if self.first { b"[]" } else { b"]" });
                self.done = true;
                break;
            };
            out.push(if self.first { b'[' } else { b',' });
            self.first = false;
            self.left -= 1;
            self.after = Some(located.watermark);
            let json = if compressed.len() < MUCH {
                decompress(&compressed)?
            } else {
                let task = tokio::task::spawn_blocking(move || decompress(&compressed));
                task.await.map_err(|error| ArchiveError::Internal(error.into()))??
            };
            let (base, query) =
                (self.bulk_base)(&located.study, &located.series, &located.instance);
            json::resolve_bulk(&mut out, &json, &base, &query);
            tokio::task::consume_budget().await;
        }
        Ok(Some(out.into()))
    }
}

/// The metadata of one instance as it was before it was compressed for the index.
pub(super) fn decompress(frame: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    zstd::stream::decode_all(frame).map_err(|error| {
        ArchiveError::Internal(anyhow::Error::new(error).context("metadata does not decompress"))
    })
}
