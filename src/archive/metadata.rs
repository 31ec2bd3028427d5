//! Metadata of a study, series or instance (PS3.18 §10.4.1.1.5), from what Store prepared.
//!
//! Holds: but for first versions of what was changed here, which are read from their files, no blob is
//! read and nothing is parsed; metadata of one instance after the other, ascending
//! by watermark, is joined into one JSON array, or made into one XML document each, as the client
//! takes it. Where from ([`crate::dicom::pack`], or rows) shows nowhere. Memory holds one page as it
//! is kept, the packs that the instance at hand may be in, and one instance as it is sent.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    Archive, ArchiveError, ByteStream, Target, Version,
    part::{SLICE, read_slice},
    retrieve::{refuse_changed, unreadable},
};
use crate::{
    dicom::{Uid, index::Indexer, json, kept, pack::Pack, reader::Reader, xml},
    index::{Located, OneMetadata, PackedPage, Presence, Whole},
    tenancy::PartitionScope,
};

/// Instances that are looked up in one transaction, with their packs.
const PAGE: i64 = 512;

/// Instances without a pack whose metadata is read in one transaction.
const ALONE: usize = 100;

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
    after: i64,
    /// The newest instance when the answer began; later ones are not in it.
    newest: i64,
    /// Instances that may still come.
    left: i64,
    page: PackedPage,
    /// Packs that the instance at hand may be in.
    open: Vec<Arc<Pack>>,
    /// Metadata that was read without a pack, ascending by watermark.
    alone: VecDeque<OneMetadata>,
    /// Instances with their first versions, where those are wanted.
    originals: Option<VecDeque<(Located, Option<Located>)>>,
}

/// The metadata of one instance.
enum One {
    /// In a pack, by its watermark.
    Packed(Arc<Pack>, i64),
    Alone(OneMetadata),
    /// Read from the file of a first version: its series, its UID and its JSON.
    Read(Uid, Uid, Vec<u8>),
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
        version: Version,
        bulk_base: BulkBase,
    ) -> Result<Metadata, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let found = if let Target::Instance { .. } = &target {
            tx.metadata_of_one(&target, None).await?.map(|(located, metadata)| {
                let Located { watermark, series, instance, .. } = located;
                let one = OneMetadata { watermark, series, instance, metadata };
                let page = PackedPage { live: [watermark].into(), packs: VecDeque::new() };
                (Whole::of_one(watermark), page, [one].into())
            })
        } else {
            let first = tx.packed_first(&target, PAGE).await?;
            first.map(|(whole, page)| (whole, page, VecDeque::new()))
        };
        let Some((whole, page, alone)) = found else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        drop(tx);
        let rows = Rows {
            archive: self.clone(),
            scope,
            target,
            bulk_base,
            after: 0,
            newest: whole.newest,
            left: whole.count,
            page,
            open: Vec::new(),
            alone,
            originals: None,
        };
        Ok(match version {
            Version::Current => Metadata { version: whole.version, rows },
            Version::Original => {
                let (originals, page) = (Some(VecDeque::new()), PackedPage::default());
                let rows = Rows { originals, page, ..rows };
                Metadata { version: format!("{} original", whole.version), rows }
            }
        })
    }
}

impl Archive {
    /// The metadata of a file, which is read from it: nothing else is kept of first versions.
    async fn metadata_of_file(
        &self,
        scope: &PartitionScope,
        located: &Located,
    ) -> Result<Vec<u8>, ArchiveError> {
        let limits = self.dicom_limits();
        let mut reader = Reader::new(Indexer::new(limits), limits, self.bulk_threshold());
        let range = located.offset..located.offset + located.length;
        let mut bytes = self.blob_reads(scope).read(located.blob, range).await?;
        while let Some(chunk) = bytes.next().await {
            for slice in chunk?.chunks(SLICE) {
                read_slice(&mut reader, slice).await.map_err(unreadable)?;
            }
        }
        let indexed = reader.finish().and_then(Indexer::finish).map_err(unreadable)?;
        Ok(indexed.metadata)
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
                let Some(one) = rows.next().await? else {
                    out.extend_from_slice(if first { b"[]" } else { b"]" });
                    return Ok(Some((out.into(), None)));
                };
                out.push(if first { b'[' } else { b',' });
                first = false;
                match &one {
                    One::Packed(pack, watermark) => {
                        let (series, instance, json) = member(pack, *watermark)?;
                        let (base, query) = rows.bulk_base_of(series, &instance);
                        json::resolve_bulk(&mut out, json, &base, &query);
                    }
                    One::Alone(one) => {
                        let json = away(&one.metadata, decompress).await?;
                        let (base, query) = rows.bulk_base_of(&one.series, &one.instance);
                        json::resolve_bulk(&mut out, &json, &base, &query);
                    }
                    One::Read(series, instance, json) => {
                        let (base, query) = rows.bulk_base_of(series, instance);
                        json::resolve_bulk(&mut out, json, &base, &query);
                    }
                }
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
            let Some(one) = rows.next().await? else { return Ok(None) };
            let study = rows.target.study().clone();
            let made = match one {
                One::Packed(pack, watermark) => {
                    let (series, instance, json) = member(&pack, watermark)?;
                    let (base, query) = rows.bulk_base_of(series, &instance);
                    let mut resolved = Vec::with_capacity(json.len() * 2);
                    json::resolve_bulk(&mut resolved, json, &base, &query);
                    let xml = document(&resolved, encoding)?.into();
                    Document { study, series: series.clone(), instance, xml }
                }
                One::Alone(OneMetadata { series, instance, metadata, .. }) => {
                    let (base, query) = rows.bulk_base_of(&series, &instance);
                    let xml = away(&metadata, move |compressed| {
                        let mut json = Vec::new();
                        json::resolve_bulk(&mut json, &decompress(compressed)?, &base, &query);
                        document(&json, encoding)
                    });
                    let xml = xml.await?.into();
                    Document { study, series, instance, xml }
                }
                One::Read(series, instance, json) => {
                    let (base, query) = rows.bulk_base_of(&series, &instance);
                    let mut resolved = Vec::with_capacity(json.len() * 2);
                    json::resolve_bulk(&mut resolved, &json, &base, &query);
                    let xml = document(&resolved, encoding)?.into();
                    Document { study, series, instance, xml }
                }
            };
            tokio::task::consume_budget().await;
            Ok(Some((made, rows)))
        });
        documents.boxed()
    }
}

impl Rows {
    /// The metadata of the next instance.
    async fn next(&mut self) -> Result<Option<One>, ArchiveError> {
        if self.originals.is_some() {
            return self.next_original().await;
        }
        loop {
            if self.page.live.is_empty() && self.left > 0 {
                let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
                self.page = tx.packed_more(&self.target, self.after, self.newest, PAGE).await?;
                if self.page.live.is_empty() {
                    refuse_changed(&mut tx, &self.target, self.newest).await?;
                }
            }
            let Some(watermark) = self.page.live.pop_front() else { return Ok(None) };
            self.left -= 1;
            self.after = watermark;
            self.open_packs(watermark);
            let packed = self.open.iter().find(|pack| pack.has(watermark));
            if let Some(pack) = packed {
                return Ok(Some(One::Packed(pack.clone(), watermark)));
            }
            if self.alone.is_empty() {
                self.read_alone(watermark).await?;
            }
            if self.alone.front().is_some_and(|one| one.watermark == watermark) {
                return Ok(self.alone.pop_front().map(One::Alone));
            }
            // It was deleted since it was looked up, or another version took its place.
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            refuse_changed(&mut tx, &self.target, self.newest).await?;
        }
    }

    /// The metadata of the first version of the next instance.
    async fn next_original(&mut self) -> Result<Option<One>, ArchiveError> {
        loop {
            let waiting = self.originals.get_or_insert_default();
            let Some((current, original)) = waiting.pop_front() else {
                if self.left <= 0 {
                    return Ok(None);
                }
                let (after, newest) = (Some(self.after), self.newest);
                let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
                let page = tx.originals_page(&self.target, after, newest, PAGE).await?;
                let Some((last, _)) = page.last() else {
                    refuse_changed(&mut tx, &self.target, newest).await?;
                    return Ok(None);
                };
                self.after = last.watermark;
                self.left -= page.len() as i64;
                self.originals = Some(page.into());
                continue;
            };
            if let Some(original) = original {
                let json = self.archive.metadata_of_file(&self.scope, &original).await?;
                return Ok(Some(One::Read(original.series, original.instance, json)));
            }
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            if let Some(one) = tx.metadata_of_each(&[current.watermark]).await?.pop() {
                return Ok(Some(One::Alone(one)));
            }
            refuse_changed(&mut tx, &self.target, self.newest).await?;
        }
    }

    /// Opens the packs that begin up to an instance, and drops those that ended before it.
    fn open_packs(&mut self, watermark: i64) {
        let reaches = |pack: &Pack| pack.watermarks().next_back() >= Some(watermark);
        self.open.retain(|pack| reaches(pack));
        while let Some((_, bytes)) = self.page.packs.pop_front_if(|(first, _)| *first <= watermark)
        {
            match Pack::open(&bytes) {
                Ok(pack) if reaches(&pack) => {
                    self.open.push(Arc::new(pack));
                }
                Ok(_) => {}
                // It is a copy: what is in it is also elsewhere.
                Err(_) => tracing::error!(
                    partition = %self.scope.partition(),
                    "packed metadata is damaged; it is read one by one"
                ),
            }
        }
    }

    /// Reads metadata of an instance without a pack, and of those that follow it without one.
    async fn read_alone(&mut self, watermark: i64) -> Result<(), ArchiveError> {
        let next_pack = self.page.packs.front().map_or(i64::MAX, |(first, _)| *first);
        let follow = self.page.live.iter().copied().take_while(|follows| *follows < next_pack);
        let follow = follow.filter(|follows| !self.open.iter().any(|pack| pack.has(*follows)));
        let mut wanted: Vec<i64> = vec![watermark];
        wanted.extend(follow.take(ALONE - 1));
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        self.alone = tx.metadata_of_each(&wanted).await?.into();
        Ok(())
    }

    fn bulk_base_of(&self, series: &Uid, instance: &Uid) -> (String, String) {
        (self.bulk_base)(self.target.study(), series, instance)
    }
}

/// An instance of a pack that has it.
fn member(pack: &Pack, watermark: i64) -> Result<(&Uid, Uid, &[u8]), ArchiveError> {
    let member = pack.member(watermark);
    member.ok_or_else(|| ArchiveError::Internal(anyhow::anyhow!("packed metadata is damaged")))
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
