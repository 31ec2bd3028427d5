//! New versions of the instances of a study, in blobs that no row names yet.
//!
//! Files are read one after another, held against their SHA-256, changed, and written end to end into
//! blobs of bounded size. What they say is read from what is written, as Store does it. Of a large one
//! only what changes is written, its header: the rest stays where it is, in the file of the first
//! version ([`crate::index`], `composed`), and is read once, since the SHA-256 of the new version is of
//! all of its bytes.
//!
//! Holds: a blob is known as one that awaits removal before a byte of it is written; of the files only
//! a piece is in memory, or a header of [`MOST_HEAD`], and of the rows no more than [`MOST_HELD`].

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Archive, ArchiveError, Target,
    hash::hash,
    part::{SLICE, discard, read_slice, read_through},
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
    index::{IndexError, NewBlob, NewInstance, Revision, Shared, VerifyPlace, composed_id},
    tenancy::PartitionScope,
};

/// Instances that are looked up at once.
const PAGE: i64 = 200;
/// Most bytes that the rows of a study may hold until they are committed.
const MOST_HELD: u64 = 512 << 20;
/// Most bytes of a file that are written anew where the rest of it stays where it is.
const MOST_HEAD: u64 = 1 << 20;
/// In pieces of this size a header is looked for the place from which the file is as it was.
const PIECE: usize = 16 << 10;
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
    /// Noted for composed ones, and not written yet.
    spare: Vec<Uuid>,
    /// So many of them are known to be wanted, and when that was said of all.
    told: (usize, Instant),
    made: Vec<Made>,
    held: u64,
}

/// A new version.
struct Made {
    /// The watermark of the old one.
    replaces: i64,
    blob: Uuid,
    row: Row,
    /// What its file shares with the first version.
    shared: Option<Shared>,
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
            spare: Vec::new(),
            told: (0, Instant::now()),
            made: Vec::new(),
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
        self.made.iter().map(|Made { replaces, blob, row, shared }| Revision {
            replaces: *replaces,
            shared: *shared,
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
        let known: HashSet<i64> = self.made.iter().map(|made| made.replaces).collect();
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
            let large = places.iter().filter(|place| self.is_large(size(place.length)));
            let large: Vec<(i64, Uuid)> =
                large.map(|place| (place.watermark, place.blob)).collect();
            let shareable = tx.shareable(&large).await?;
            drop(tx);
            places.sort_by_key(|place| place.watermark);
            seen.extend(watermarks);
            if self.spare.len() < shareable.len() {
                let more = shareable.len() - self.spare.len();
                let more: Vec<Uuid> = (0..more).map(|_| composed_id()).collect();
                self.announce(&more).await?;
                self.spare.extend(more);
            }
            for place in &places {
                let shareable = shareable.get(&place.watermark).copied();
                let copied = self.copy_one(place, shareable, &mut open).await;
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
        self.leave(&[]).await?;
        self.made.retain(|made| seen.contains(&made.replaces));
        Ok(())
    }

    /// Whether so many bytes would be in a blob of their own: what is less is better read together
    /// with its neighbours than in two pieces.
    fn is_large(&self, bytes: u64) -> bool {
        bytes > self.archive.0.store.own_blob_bytes
    }

    /// The blob that a file of about this length goes to, and where it begins there.
    async fn room(&mut self, open: &mut Option<Open>, length: u64) -> Result<To, Hindered> {
        if let Some(current) = open.take() {
            let is_full = current.length + length > self.archive.0.store.batch_bytes;
            if !is_full && !self.is_large(length) {
                let offset = current.length;
                *open = Some(current);
                return Ok(To::Open { offset });
            }
            self.close(current).await?;
        }
        let id = Uuid::new_v4();
        self.announce(&[id]).await?;
        let upload = self.archive.0.blobs.within(self.scope.partition()).upload(id).await?;
        *open = Some(Open { id, upload, length: 0 });
        Ok(To::Open { offset: 0 })
    }

    /// Whether it was long ago that all blobs were said to be wanted.
    fn is_long_ago(&self) -> bool {
        self.told.1.elapsed() > LIFE / 6
    }

    /// Notes blobs that are about to be written, and that those before them are wanted still.
    async fn announce(&mut self, ids: &[Uuid]) -> Result<(), Hindered> {
        let is_long_ago = self.is_long_ago();
        let first = if is_long_ago { 0 } else { self.told.0 };
        let mut tx = self.archive.0.db.begin_in(self.scope).await?;
        tx.update_blobs_leave(self.blobs.get(first..).unwrap_or_default(), LIFE).await?;
        tx.update_blobs(ids).await?;
        tx.commit().await?;
        self.told.0 = self.blobs.len();
        if is_long_ago {
            self.told.1 = Instant::now();
        }
        Ok(())
    }

    /// Ends a blob, which is durable then.
    async fn close(&mut self, open: Open) -> Result<(), Hindered> {
        let Open { id, upload, length } = open;
        upload.finish().await?;
        self.blobs.push(NewBlob { id, length });
        Ok(())
    }

    /// Makes the new version of an instance; `shareable` is what it may share with its first one.
    async fn copy_one(
        &mut self,
        place: &VerifyPlace,
        shareable: Option<Shared>,
        open: &mut Option<Open>,
    ) -> Result<(), Hindered> {
        let to = match shareable {
            Some(_) => To::Held(Vec::new()),
            None => self.room(open, size(place.length)).await?,
        };
        let limits = self.archive.dicom_limits();
        let reader = Reader::new(Indexer::new(limits), limits, self.archive.bulk_threshold());
        let mut out = Out { to, length: 0, sha256: Sha256::new(), reader };
        self.write(place, shareable, &mut out, open).await?;
        let Out { to, length, sha256, reader } = out;
        let unreadable = |detail: String| {
            Hindered::Study(format!("an instance could not be read once it was changed: {detail}"))
        };
        let read = read_through(None, reader).await;
        let (indexed, metadata) = read.map_err(|failed| unreadable(failed.detail))?;
        if indexed.instance.as_str() != place.instance {
            return Err(unreadable("it is another one".to_owned()));
        }
        let opened = open.as_ref().map(|open| open.id);
        let (blob, offset, shared) = match (to, opened) {
            (To::Shared { head, shared }, _) => {
                (self.compose(head, shared).await?, 0, Some(shared))
            }
            (To::Open { offset }, Some(id)) => (id, offset, None),
            (To::Open { .. } | To::Held(_), _) => {
                return Err(unreadable("it is nowhere".to_owned()));
            }
        };
        self.held += weight(&indexed, &metadata);
        if self.held > MOST_HELD {
            let most = MOST_HELD >> 20;
            return Err(Hindered::Study(format!("its attributes take more than {most} MiB")));
        }
        let sha256 = sha256.finalize().into();
        let row = Row { indexed, metadata, offset, length, sha256, coerced: None, deed: None };
        self.made.push(Made { replaces: place.watermark, blob, row, shared });
        Ok(())
    }

    /// Writes the header of a file whose rest stays where it is.
    async fn compose(&mut self, head: Vec<Bytes>, shared: Shared) -> Result<Uuid, Hindered> {
        if self.is_long_ago() {
            self.announce(&[]).await?;
        }
        let id = match self.spare.pop() {
            Some(id) => id,
            None => {
                let id = composed_id();
                self.announce(&[id]).await?;
                id
            }
        };
        self.blobs.push(NewBlob { id, length: shared.head });
        self.archive.0.blobs.within(self.scope.partition()).put(id, head).await?;
        Ok(id)
    }

    /// Reads an instance, and writes its new version as far as it is to be written.
    async fn write(
        &mut self,
        place: &VerifyPlace,
        shareable: Option<Shared>,
        out: &mut Out,
        open: &mut Option<Open>,
    ) -> Result<(), Hindered> {
        let limits = self.archive.dicom_limits();
        let mut editor = Editor::new(self.edits.last().unwrap_or(Tag(0, 0)), limits);
        let (mut before, mut came) = (Sha256::new(), 0);
        let (offset, length) = (size(place.offset), size(place.length));
        let blobs = self.archive.blob_reads(self.scope);
        let mut bytes = blobs.read(place.blob, offset..offset + length).await?;
        while let Some(chunk) = bytes.next().await {
            let mut chunk = chunk?;
            hash(&mut before, &chunk).await;
            while !chunk.is_empty() {
                let most = match out.to {
                    To::Held(_) => PIECE.min(chunk.len()),
                    To::Open { .. } | To::Shared { .. } => chunk.len(),
                };
                let piece = chunk.split_to(most);
                came += piece.len() as u64;
                editor.push(piece);
                while editor.step().map_err(uneditable)? {
                    tokio::task::consume_budget().await;
                }
                if editor.is_read() {
                    self.edit(&mut editor)?;
                }
                out.take(&mut editor, open).await?;
                let To::Held(head) = &mut out.to else { continue };
                let unchanged = shareable.filter(|own| {
                    editor.tail() == Some(came)
                        && own.head <= came
                        && self.is_large(length.saturating_sub(came))
                });
                if let Some(own) = unchanged.filter(|_| out.length > 0) {
                    let at = own.at + came.saturating_sub(own.head);
                    let shared = Shared { original: own.original, head: out.length, at };
                    out.to = To::Shared { head: std::mem::take(head), shared };
                } else if out.length > MOST_HEAD {
                    self.spill(out, length, open).await?;
                }
            }
        }
        if before.finalize()[..] != place.sha256[..] {
            let (partition, blob, offset) = (self.scope.partition(), place.blob, place.offset);
            tracing::error!(%partition, %blob, offset, "a file is damaged");
            return Err(Hindered::Study("a file of it is damaged".to_owned()));
        }
        // Also of what is shared: that nothing that was changed stands there again.
        editor.end().map_err(uneditable)?;
        if editor.is_read() {
            self.edit(&mut editor)?;
            editor.end().map_err(uneditable)?;
        }
        out.take(&mut editor, open).await?;
        self.spill(out, length, open).await
    }

    /// Writes what was held: the file is to be written as a whole.
    async fn spill(
        &mut self,
        out: &mut Out,
        length: u64,
        open: &mut Option<Open>,
    ) -> Result<(), Hindered> {
        let To::Held(head) = &mut out.to else { return Ok(()) };
        let head = std::mem::take(head);
        out.to = self.room(open, length).await?;
        for chunk in head {
            write_to(open, chunk).await?;
        }
        Ok(())
    }

    fn edit(&mut self, editor: &mut Editor) -> Result<(), Hindered> {
        let edited = editor.edit(&self.edits, &self.origin).map_err(uneditable)?;
        self.has_changed |= !edited.tags.is_empty();
        // What was pushed and waited goes on.
        while editor.step().map_err(uneditable)? {}
        Ok(())
    }

    /// Lets blobs leave at once, and those that were noted and are not needed.
    async fn leave(&mut self, blobs: &[NewBlob]) -> Result<(), IndexError> {
        let spare = self.spare.drain(..).map(|id| NewBlob { id, length: 0 });
        let left: Vec<NewBlob> = spare.chain(blobs.iter().copied()).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut tx = self.archive.0.db.begin_in(self.scope).await?;
        tx.update_blobs_leave(&left, AT_ONCE).await?;
        tx.commit().await
    }

    /// Gives up what was copied.
    pub(super) async fn discard(&mut self) {
        let blobs = std::mem::take(&mut self.blobs);
        let left = self.leave(&blobs).await;
        self.blobs = blobs;
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
enum To {
    /// To the open blob, from this byte on.
    Open { offset: u64 },
    /// They wait: the rest may stay where it is.
    Held(Vec<Bytes>),
    /// The rest stays where it is, and nothing more is written.
    Shared { head: Vec<Bytes>, shared: Shared },
}

/// A new version that is being made.
struct Out {
    to: To,
    /// Bytes of it so far.
    length: u64,
    sha256: Sha256,
    reader: Reader<Indexer>,
}

impl Out {
    /// Takes what the editor has.
    async fn take(&mut self, editor: &mut Editor, open: &mut Option<Open>) -> Result<(), Hindered> {
        while let Some(bytes) = editor.take() {
            self.read(&bytes).await?;
            match &mut self.to {
                To::Held(head) => head.push(bytes),
                To::Open { .. } => write_to(open, bytes).await?,
                To::Shared { .. } => {}
            }
        }
        Ok(())
    }

    /// Reads the next bytes of the new version.
    async fn read(&mut self, bytes: &Bytes) -> Result<(), Hindered> {
        hash(&mut self.sha256, bytes).await;
        for slice in bytes.chunks(SLICE) {
            let read = read_slice(&mut self.reader, slice).await;
            read.map_err(|error| uneditable(error.into()))?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

async fn write_to(open: &mut Option<Open>, bytes: Bytes) -> Result<(), Hindered> {
    if let Some(open) = open {
        open.length += bytes.len() as u64;
        open.upload.push(bytes).await?;
    }
    Ok(())
}

fn size(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
