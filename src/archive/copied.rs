//! New versions of the instances of a study, in blobs that no row names yet.
//!
//! Files are read one after another, held against their SHA-256, changed, and written end to end into
//! blobs of bounded size; a large one has a blob of its own. What they say is read from what is written,
//! as Store does it. Holds: a blob is known as one that awaits removal before a byte of it is written;
//! of the files only a piece is in memory, and of the rows no more than [`MOST_HELD`].

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Archive, ArchiveError, Target,
    part::{SLICE, discard, hash, read_slice, read_through},
    writer::{Row, weight},
};
use crate::{
    blob::Upload,
    dicom::{
        Tag,
        edit::{EditError, Editor, Edits, Origin},
        index::Indexer,
        reader::Reader,
    },
    index::{NewBlob, NewInstance, Revision, VerifyPlace},
    tenancy::PartitionScope,
};

/// Instances that are looked up at once.
const PAGE: i64 = 200;
/// Most bytes that the rows of a study may hold until they are committed.
const MOST_HELD: u64 = 512 << 20;
/// How long what is wanted no more stays: nobody reads it.
const AT_ONCE: Duration = Duration::ZERO;
/// How long a copy stays without a sign of life.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// Why new versions were not made.
#[derive(Debug)]
pub(super) enum Hindered {
    /// Something about the study, which will not change by itself.
    Study(String),
    Archive(ArchiveError),
}

impl<E: Into<ArchiveError>> From<E> for Hindered {
    fn from(error: E) -> Self {
        Self::Archive(error.into())
    }
}

fn uneditable(error: EditError) -> Hindered {
    Hindered::Study(format!("an instance cannot be changed: {error}"))
}

/// What was copied of a study.
pub(super) struct Copied<'a> {
    archive: &'a Archive,
    scope: &'a PartitionScope,
    target: &'a Target,
    edits: Edits,
    origin: Origin,
    /// Whether there is an instance that differs from what it was.
    has_changed: bool,
    /// Complete ones.
    blobs: Vec<NewBlob>,
    /// The watermark of the old version, the blob of the new one, and its rows.
    rows: Vec<(i64, Uuid, Row)>,
    held: u64,
}

/// The blob that is being written.
struct Open {
    id: Uuid,
    upload: Upload,
    length: u64,
}

impl<'a> Copied<'a> {
    pub(super) fn new(
        archive: &'a Archive,
        scope: &'a PartitionScope,
        target: &'a Target,
        (edits, origin): (Edits, Origin),
    ) -> Self {
        Self {
            archive,
            scope,
            target,
            edits,
            origin,
            has_changed: false,
            blobs: Vec::new(),
            rows: Vec::new(),
            held: 0,
        }
    }

    pub(super) fn scope(&self) -> &PartitionScope {
        self.scope
    }

    pub(super) fn target(&self) -> &Target {
        self.target
    }

    /// Whether there is nothing that would differ from what it was.
    pub(super) fn is_the_same(&self) -> bool {
        !self.has_changed
    }

    pub(super) fn blobs(&self) -> &[NewBlob] {
        &self.blobs
    }

    /// The new versions.
    pub(super) fn revisions(&self) -> impl Iterator<Item = Revision<'_>> {
        self.rows.iter().map(|(replaces, blob, row)| Revision {
            replaces: *replaces,
            new: NewInstance {
                blob: *blob,
                indexed: &row.indexed,
                metadata: &row.metadata,
                offset: row.offset,
                length: row.length,
                sha256: row.sha256,
                received: None,
                rejects: None,
            },
        })
    }

    /// Copies what is there of the study and was not copied, and forgets copies of what is not
    /// there any more.
    pub(super) async fn copy(&mut self) -> Result<(), Hindered> {
        let known: HashSet<i64> = self.rows.iter().map(|(replaces, ..)| *replaces).collect();
        let (mut seen, mut after) = (HashSet::new(), None);
        let mut open = None;
        loop {
            let mut tx = self.archive.0.db.begin_in(self.scope).await?;
            let page = tx.instances_page(self.target, after, i64::MAX, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.watermark);
            let watermarks: Vec<i64> = page.iter().map(|located| located.watermark).collect();
            let wanted: Vec<i64> =
                watermarks.iter().copied().filter(|watermark| !known.contains(watermark)).collect();
            let mut places = tx.verify_places(&wanted).await?;
            drop(tx);
            places.sort_by_key(|place| place.watermark);
            seen.extend(watermarks);
            for place in &places {
                let copied = self.copy_one(place, &mut open).await;
                if let Err(error) = copied {
                    if let Some(Open { id, upload, length }) = open {
                        discard(upload).await;
                        self.blobs.push(NewBlob { id, length });
                    }
                    return Err(error);
                }
            }
        }
        if let Some(open) = open {
            self.close(open).await?;
        }
        self.rows.retain(|(replaces, ..)| seen.contains(replaces));
        Ok(())
    }

    /// The blob that a file of about this length goes to.
    async fn room(&mut self, open: &mut Option<Open>, length: u64) -> Result<Open, Hindered> {
        let (most, large) = (self.archive.0.store.batch_bytes, self.archive.0.store.own_blob_bytes);
        if let Some(open) = open.take() {
            if open.length + length <= most && length <= large {
                return Ok(open);
            }
            self.close(open).await?;
        }
        let id = Uuid::new_v4();
        let mut tx = self.archive.0.db.begin_in(self.scope).await?;
        tx.update_blobs_leave(&self.blobs, LIFE).await?;
        tx.update_blob(id).await?;
        tx.commit().await?;
        let upload = self.archive.0.blobs.within(self.scope.partition()).upload(id).await?;
        Ok(Open { id, upload, length: 0 })
    }

    /// Ends a blob, which is durable then.
    async fn close(&mut self, open: Open) -> Result<(), Hindered> {
        let Open { id, upload, length } = open;
        upload.finish().await?;
        self.blobs.push(NewBlob { id, length });
        Ok(())
    }

    async fn copy_one(
        &mut self,
        place: &VerifyPlace,
        open: &mut Option<Open>,
    ) -> Result<(), Hindered> {
        let mut to = self.room(open, size(place.length)).await?;
        let written = self.write(place, &mut to).await;
        let id = to.id;
        *open = Some(to);
        let row = written?;
        self.held += weight(&row.indexed, &row.metadata);
        if self.held > MOST_HELD {
            let most = MOST_HELD >> 20;
            return Err(Hindered::Study(format!("its attributes take more than {most} MiB")));
        }
        self.rows.push((place.watermark, id, row));
        Ok(())
    }

    /// Writes the new version of an instance; its rows.
    async fn write(&mut self, place: &VerifyPlace, to: &mut Open) -> Result<Row, Hindered> {
        let limits = self.archive.dicom_limits();
        let indexer = Indexer::new(limits);
        let mut out = Out {
            offset: to.length,
            to,
            sha256: Sha256::new(),
            reader: Reader::new(indexer, limits, self.archive.bulk_threshold()),
        };
        let mut editor = Editor::new(self.edits.last().unwrap_or(Tag(0, 0)), limits);
        let mut before = Sha256::new();
        let (offset, length) = (size(place.offset), size(place.length));
        let blobs = self.archive.blob_reads(self.scope);
        let mut bytes = blobs.read(place.blob, offset..offset + length).await?;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            hash(&mut before, &chunk).await;
            editor.push(chunk);
            while editor.step().map_err(uneditable)? {
                tokio::task::consume_budget().await;
            }
            if editor.is_read() {
                self.edit(&mut editor)?;
            }
            out.take(&mut editor).await?;
        }
        if before.finalize()[..] != place.sha256[..] {
            let (partition, blob, offset) = (self.scope.partition(), place.blob, place.offset);
            tracing::error!(%partition, %blob, offset, "a file is damaged");
            return Err(Hindered::Study("a file of it is damaged".to_owned()));
        }
        editor.end().map_err(uneditable)?;
        if editor.is_read() {
            self.edit(&mut editor)?;
            editor.end().map_err(uneditable)?;
        }
        out.take(&mut editor).await?;
        let Out { to, offset, sha256, reader } = out;
        let unreadable = |detail: String| {
            Hindered::Study(format!("an instance could not be read once it was changed: {detail}"))
        };
        let read = read_through(None, reader).await;
        let (indexed, metadata) = read.map_err(|failed| unreadable(failed.detail))?;
        if indexed.instance.as_str() != place.instance {
            return Err(unreadable("it is another one".to_owned()));
        }
        let (length, sha256) = (to.length - offset, sha256.finalize().into());
        Ok(Row { indexed, metadata, offset, length, sha256, coerced: None, deed: None })
    }

    fn edit(&mut self, editor: &mut Editor) -> Result<(), Hindered> {
        let edited = editor.edit(&self.edits, &self.origin).map_err(uneditable)?;
        self.has_changed |= !edited.tags.is_empty();
        // What was pushed and waited goes on.
        while editor.step().map_err(uneditable)? {}
        Ok(())
    }

    /// Gives up what was copied.
    pub(super) async fn discard(&mut self) {
        let left = async {
            let mut tx = self.archive.0.db.begin_in(self.scope).await?;
            tx.update_blobs_leave(&self.blobs, AT_ONCE).await?;
            tx.commit().await
        };
        let left = left.await;
        self.archive.wake_removal();
        if let Err(error) = left {
            // They leave when their time comes.
            let partition = self.scope.partition();
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%partition, error, "copies were left to their end");
        }
    }
}

/// Where the bytes of a new version go.
struct Out<'a> {
    to: &'a mut Open,
    /// Where they begin in the blob.
    offset: u64,
    sha256: Sha256,
    reader: Reader<Indexer>,
}

impl Out<'_> {
    /// Takes what the editor has.
    async fn take(&mut self, editor: &mut Editor) -> Result<(), Hindered> {
        while let Some(bytes) = editor.take() {
            self.push(bytes).await?;
        }
        Ok(())
    }

    async fn push(&mut self, bytes: Bytes) -> Result<(), Hindered> {
        hash(&mut self.sha256, &bytes).await;
        for slice in bytes.chunks(SLICE) {
            let read = read_slice(&mut self.reader, slice).await;
            read.map_err(|error| uneditable(error.into()))?;
        }
        self.to.length += bytes.len() as u64;
        Ok(self.to.upload.push(bytes).await?)
    }
}

fn size(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
