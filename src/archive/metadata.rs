//! Metadata of a study, series or instance (PS3.18 §10.4.1.1.5), from what Store prepared.
//!
//! Holds: no blob is read and nothing is parsed; pages of rows are joined into one JSON array, or
//! made into one XML document each, as the client takes them. Memory holds one page as it is kept,
//! and one instance as it is sent.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{Archive, ArchiveError, ByteStream, Target};
use crate::{
    dicom::{Uid, json, kept, xml},
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

/// The metadata of a target, and what identifies its version.
pub struct Metadata {
    /// Changes whenever an instance is added or removed.
    pub version: String,
    rows: Rows,
}

/// The metadata of one instance as a document of its own.
pub struct Document {
    /// Its study.
    pub study: Uid,
    /// Its series.
    pub series: Uid,
    /// Its SOP Instance UID.
    pub instance: Uid,
    /// The document in the Native DICOM Model.
    pub xml: Bytes,
}

struct Rows {
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
        let rows = Rows {
            archive: self.clone(),
            scope,
            target,
            bulk_base,
            after: None,
            newest,
            left: summary.count,
            page: page.into(),
        };
        Ok(Metadata { version: summary.version, rows })
    }
}

impl Metadata {
    /// One DICOM JSON array. Its pieces end between instances.
    pub fn array(self) -> ByteStream {
        let state = (self.rows, true);
        let chunks = stream::try_unfold(Some(state), |state| async move {
            let Some((mut rows, mut first)) = state else { return Ok(None) };
            let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
            while out.len() < CHUNK {
                let Some((located, compressed)) = rows.next().await? else {
                    out.extend_from_slice(if first { b"[]" } else { b"]" });
                    return Ok(Some((out.into(), None)));
                };
                out.push(if first { b'[' } else { b',' });
                first = false;
                let json = away(&compressed, decompress).await?;
                let (base, query) = rows.bulk_base_of(&located);
                json::resolve_bulk(&mut out, &json, &base, &query);
                tokio::task::consume_budget().await;
            }
            Ok(Some((out.into(), Some((rows, first)))))
        });
        chunks.boxed()
    }

    /// One document for each instance.
    pub fn documents(
        self,
        encoding: xml::Encoding,
    ) -> BoxStream<'static, Result<Document, ArchiveError>> {
        let documents = stream::try_unfold(self.rows, move |mut rows| async move {
            let Some((located, compressed)) = rows.next().await? else { return Ok(None) };
            let (base, query) = rows.bulk_base_of(&located);
            let xml = away(&compressed, move |compressed| {
                let mut json = Vec::new();
                json::resolve_bulk(&mut json, &decompress(compressed)?, &base, &query);
                document(&json, encoding)
            });
            let xml = xml.await?.into();
            tokio::task::consume_budget().await;
            let Located { study, series, instance, .. } = located;
            Ok(Some((Document { study, series, instance, xml }, rows)))
        });
        documents.boxed()
    }
}

impl Rows {
    /// The next instance, with its metadata as it is kept.
    async fn next(&mut self) -> Result<Option<(Located, Vec<u8>)>, ArchiveError> {
        if self.page.is_empty() && self.left > 0 {
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            let page = tx.metadata_page(&self.target, self.after, self.newest, PAGE).await?;
            self.page = page.into();
        }
        let next = self.page.pop_front();
        if let Some((located, _)) = &next {
            self.left -= 1;
            self.after = Some(located.watermark);
        }
        Ok(next)
    }

    fn bulk_base_of(&self, located: &Located) -> (String, String) {
        (self.bulk_base)(&located.study, &located.series, &located.instance)
    }
}

/// Does work on kept metadata; where that is much, away from the threads that serve requests.
pub(super) async fn away<T: Send + 'static>(
    compressed: &[u8],
    work: impl FnOnce(&[u8]) -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    if compressed.len() < MUCH {
        return work(compressed);
    }
    let compressed = compressed.to_vec();
    let task = tokio::task::spawn_blocking(move || work(&compressed));
    task.await.map_err(|error| ArchiveError::Internal(error.into()))?
}

/// A data set in the Native DICOM Model.
pub(super) fn document(json: &[u8], encoding: xml::Encoding) -> Result<Vec<u8>, ArchiveError> {
    let mut out = Vec::with_capacity(json.len() * 2);
    xml::write(&mut out, json, encoding)
        .map_err(|error| ArchiveError::Internal(anyhow::Error::new(error)))?;
    Ok(out)
}

/// The metadata of one instance as it was before it was compressed for the index.
pub(super) fn decompress(frame: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    kept::decompress(frame).map_err(|error| {
        ArchiveError::Internal(anyhow::Error::new(error).context("metadata does not decompress"))
    })
}
