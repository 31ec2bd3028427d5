//! One part of a Store request, while it arrives.
//!
//! Holds: its bytes are read once; memory stays flat, whatever the instance's size: a small one is
//! kept until it is complete, a large one goes to a blob of its own in pieces. A fault of the part
//! is remembered, and the rest of the part is only counted. What is coerced passes [`super::coerce`]
//! first: all else here is about what comes out of it.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    ArchiveError, Chunks,
    coerce::{Coercing, Hindered},
    hash::hash,
    store::{Failed, FailureReason, StoreSession},
    uploads::Held,
    writer::{Pending, Row},
};
use crate::{
    blob::{BlobError, Upload},
    dicom::{
        DicomError, Uid,
        index::{Indexed, Indexer},
        kept,
        reader::Reader,
    },
};

/// Metadata from this size, in bytes, is compressed away from the threads that serve requests.
const MUCH: usize = 512 * 1024;

/// Bytes that are read or hashed before other tasks of the thread get their turn.
pub(super) const SLICE: usize = 128 * 1024;

/// Where the bytes of the part that is being read go.
enum State {
    /// Kept until it is known whether the instance is small.
    Small(Chunks),
    /// Too large to wait in a group: already on its way to a blob of its own, and hashed on the way.
    Large { id: Uuid, upload: Box<Upload>, sha256: Sha256 },
    /// Failed; the rest of the part is only counted.
    Failed { sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String },
}

impl State {
    fn start() -> Self {
        Self::Small(Chunks::default())
    }
}

/// Takes the bytes of one part. A fault of the part is remembered and told by
/// [`PartSink::finish`]; the bytes that still come are then dropped.
pub struct PartSink<'a> {
    session: &'a mut StoreSession,
    reader: Reader<Indexer>,
    /// Bytes that came.
    came: u64,
    /// Bytes of the instance so far.
    length: u64,
    /// `None`: nothing is coerced, or nothing of this instance.
    coercing: Option<Box<Coercing>>,
    state: State,
    held: Held,
}

impl<'a> PartSink<'a> {
    pub(super) fn new(session: &'a mut StoreSession) -> Self {
        let reader = reader(session);
        let held = session.archive.0.uploads.part(session.scope.partition());
        let limits = session.archive.dicom_limits();
        let coercing =
            session.coercion.as_ref().map(|rules| Box::new(Coercing::new(rules, limits)));
        Self { session, reader, came: 0, length: 0, coercing, state: State::start(), held }
    }

    /// Takes the next bytes of the part. Waits while the blob store is slower than the sender.
    pub async fn push(&mut self, bytes: Bytes) {
        self.session.submit_overdue().await;
        self.came += bytes.len() as u64;
        if self.has_failed() {
            return;
        }
        if self.held.is_in_the_way(self.came) {
            return self.fail_for_memory().await;
        }
        match &mut self.coercing {
            None => self.take(bytes).await,
            Some(coercing) => {
                coercing.push(bytes).await;
                self.coerce().await;
            }
        }
    }

    /// Takes what can be had of the coerced instance.
    async fn coerce(&mut self) {
        if !self.hold().await {
            return self.fail_for_memory().await;
        }
        while let Some(coercing) = &mut self.coercing {
            let has_more = match coercing.step().await {
                Ok(has_more) => has_more,
                Err(error) => return self.fail_coercing(error.into()).await,
            };
            self.take_coerced().await;
            if !has_more {
                break;
            }
        }
        if self.coercing.as_ref().is_some_and(|coercing| coercing.is_untouched()) {
            self.coercing = None;
        }
    }

    async fn take_coerced(&mut self) {
        while let Some(bytes) = self.coercing.as_mut().and_then(|coercing| coercing.take()) {
            self.take(bytes).await;
        }
    }

    /// Takes the next bytes of the instance as it is stored.
    async fn take(&mut self, bytes: Bytes) {
        self.length += bytes.len() as u64;
        if self.has_failed() {
            return;
        }
        if !self.hold().await {
            return self.fail_for_memory().await;
        }
        for slice in bytes.chunks(SLICE) {
            if let Err(error) = read_slice(&mut self.reader, slice).await {
                return self.fail_reading(&error).await;
            }
        }
        if let Err(error) = self.keep(bytes).await {
            self.fail_storing(error.into()).await;
        }
    }

    /// Counts what is held by now; waits while that is not to be had.
    async fn hold(&mut self) -> bool {
        let bytes = match &self.state {
            State::Small(_) => self.length,
            State::Large { upload, .. } => upload.most_held(),
            State::Failed { .. } => 0,
        };
        let coercing = self.coercing.as_ref().map_or(0, |coercing| coercing.held());
        let bytes = bytes + self.reader.sink().held() + coercing;
        if self.held.hold_now(bytes) {
            return true;
        }
        // Who has that to give back may wait for what we hold.
        self.session.flush().await;
        self.held.hold(bytes).await
    }

    async fn fail_for_memory(&mut self) {
        self.session.outcome.unavailable = true;
        let sop = self.sop();
        let detail = "uploads hold as much memory as they may, or this one was too slow";
        self.fail_with(sop, FailureReason::OutOfResources, detail.to_owned()).await;
    }

    async fn keep(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let own_blob = self.session.archive.0.store.own_blob_bytes;
        match &mut self.state {
            State::Small(chunks) => {
                chunks.push(bytes);
                if self.length > own_blob {
                    let id = Uuid::new_v4();
                    let blobs = self.session.archive.0.blobs.within(self.session.scope.partition());
                    let mut upload = Box::new(blobs.upload(id).await?);
                    let mut sha256 = Sha256::new();
                    for chunk in chunks.take() {
                        hash(&mut sha256, &chunk).await;
                        upload.push(chunk).await?;
                    }
                    self.state = State::Large { id, upload, sha256 };
                }
                Ok(())
            }
            State::Large { upload, sha256, .. } => {
                hash(sha256, &bytes).await;
                upload.push(bytes).await
            }
            State::Failed { .. } => Ok(()),
        }
    }

    /// Whether it has failed already: what still comes is not looked at.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed { .. })
    }

    /// The part is complete: checks it, and stores it or hands it to the group. Says which instance
    /// that is; `None` where it is none that can be stored: that is the session's last failure then.
    pub async fn finish(mut self) -> Option<Uid> {
        if let Some(coercing) = &mut self.coercing {
            match coercing.end().await {
                Ok(()) => self.take_coerced().await,
                Err(error) => self.fail_coercing(error.into()).await,
            }
        }
        let mut coerced = self.coercing.take().and_then(|coercing| coercing.coerced());
        match std::mem::replace(&mut self.state, State::start()) {
            State::Failed { sop, reason, detail } => {
                self.session.fail(sop, reason, detail);
                None
            }
            State::Small(mut chunks) => {
                match read_through(self.session.study.as_ref(), self.reader).await {
                    Ok((indexed, metadata)) => {
                        if let Some(coerced) = &mut coerced {
                            coerced.note_original(&metadata);
                        }
                        if let Err(error) = self.session.prepare().await {
                            let sop = (indexed.sop_class, indexed.instance);
                            self.session.fail_all(vec![sop], &error);
                            return None;
                        }
                        if !self.session.admits(&indexed).await {
                            return None;
                        }
                        let instance = indexed.instance.clone();
                        let pending = Pending {
                            indexed,
                            metadata,
                            chunks: chunks.take(),
                            length: self.length,
                            coerced,
                            budget: None,
                        };
                        self.session.add(pending).await;
                        Some(instance)
                    }
                    Err(Failed { sop, reason, detail }) => {
                        self.session.fail(sop, reason, detail);
                        None
                    }
                }
            }
            State::Large { id, upload, sha256 } => {
                let (length, sha256) = (self.length, sha256.finalize().into());
                match read_through(self.session.study.as_ref(), self.reader).await {
                    Ok((indexed, metadata)) => {
                        if let Some(coerced) = &mut coerced {
                            coerced.note_original(&metadata);
                        }
                        if let Err(error) = self.session.prepare().await {
                            discard(*upload).await;
                            let sop = (indexed.sop_class, indexed.instance);
                            self.session.fail_all(vec![sop], &error);
                            return None;
                        }
                        if !self.session.admits(&indexed).await {
                            discard(*upload).await;
                            return None;
                        }
                        let deed = self.session.scope.deed().cloned();
                        let instance = indexed.instance.clone();
                        let row =
                            Row { indexed, metadata, offset: 0, length, sha256, coerced, deed };
                        self.session.store_large(id, *upload, row).await;
                        Some(instance)
                    }
                    Err(Failed { sop, reason, detail }) => {
                        discard(*upload).await;
                        self.session.fail(sop, reason, detail);
                        None
                    }
                }
            }
        }
    }

    /// Writes what waits from earlier parts, see [`StoreSession::flush`].
    pub async fn flush(&mut self) {
        self.session.flush().await;
    }

    /// The part is longer than an instance may be; its rest is not read.
    pub async fn refuse_too_large(mut self, limit: u64) {
        self.fail_reading(&DicomError::Limit { key: "limits.instance_bytes", limit }).await;
        self.finish().await;
    }

    /// Fails the part for something that its bytes do not show, unless it failed already.
    pub async fn refuse(mut self, sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String) {
        if !self.has_failed() {
            self.fail_with(sop, reason, detail).await;
        }
        self.finish().await;
    }

    /// The part ended before it was complete: the client went away or broke its own framing.
    pub async fn abandon(self) {
        if let State::Large { upload, .. } = self.state {
            discard(*upload).await;
        }
    }

    /// (0008,0016) and (0008,0018), once both have come.
    pub fn sop(&self) -> Option<(Uid, Uid)> {
        let coercing = || self.coercing.as_ref().and_then(|coercing| coercing.sop());
        self.reader.sink().sop().or_else(coercing)
    }

    async fn fail_coercing(&mut self, hindered: Hindered) {
        match hindered {
            Hindered::Unreadable(error) => self.fail_reading(&error).await,
            Hindered::Unfit(detail) => {
                self.fail_with(self.sop(), FailureReason::Processing, detail).await;
            }
        }
    }

    async fn fail_reading(&mut self, error: &DicomError) {
        let sop = self.sop();
        let (reason, detail) = explain(error);
        self.fail_with(sop, reason, detail).await;
    }

    async fn fail_storing(&mut self, error: ArchiveError) {
        tracing::error!(partition = %self.session.scope.partition(), error = %error.chain(), "an instance could not be written");
        self.session.outcome.unavailable |= matches!(error, ArchiveError::Unavailable(_));
        let sop = self.sop();
        let detail = "the archive could not store the instance now".to_owned();
        self.fail_with(sop, FailureReason::Processing, detail).await;
    }

    async fn fail_with(&mut self, sop: Option<(Uid, Uid)>, reason: FailureReason, detail: String) {
        let failed = State::Failed { sop, reason, detail };
        if let State::Large { upload, .. } = std::mem::replace(&mut self.state, failed) {
            discard(*upload).await;
        }
        self.reader = reader(self.session);
        self.coercing = None;
        self.held.hold_now(0);
    }
}

fn reader(session: &StoreSession) -> Reader<Indexer> {
    let limits = session.archive.dicom_limits();
    Reader::new(Indexer::new(limits), limits, session.archive.bulk_threshold())
}

/// Takes back what was uploaded. What cannot be taken back now is an orphan, which the sweeper
/// removes.
pub(super) async fn discard(upload: Upload) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an upload was left to the sweeper"
        );
    }
}

/// Has the reader take a slice; other tasks of the thread get their turns meanwhile.
pub(super) async fn read_slice(
    reader: &mut Reader<Indexer>,
    mut slice: &[u8],
) -> Result<(), DicomError> {
    loop {
        tokio::task::consume_budget().await;
        if !reader.push_some(&mut slice)? {
            return Ok(());
        }
    }
}

/// Ends the reading of a part: what the index needs to know, and the metadata as it is kept (which
/// is then no longer in [`Indexed`]).
pub(super) async fn read_through(
    study: Option<&Uid>,
    reader: Reader<Indexer>,
) -> Result<(Indexed, Vec<u8>), Failed> {
    let sop = reader.sink().sop();
    let mut indexed = reader.finish().and_then(Indexer::finish).map_err(|error| {
        let (reason, detail) = explain(&error);
        Failed { sop, reason, detail }
    })?;
    let sop = Some((indexed.sop_class.clone(), indexed.instance.clone()));
    if study.is_some_and(|study| *study != indexed.study) {
        return Err(Failed {
            sop,
            reason: FailureReason::DoesNotMatchSopClass,
            detail: "(0020,000D) is not the study of the request URL".to_owned(),
        });
    }
    let json = std::mem::take(&mut indexed.metadata);
    let compressed = if json.len() < MUCH {
        kept::compress(&json).ok()
    } else {
        let task = tokio::task::spawn_blocking(move || kept::compress(&json));
        task.await.ok().and_then(Result::ok)
    };
    match compressed {
        Some(metadata) => Ok((indexed, metadata)),
        None => Err(Failed {
            sop,
            reason: FailureReason::Processing,
            detail: "the metadata could not be compressed".to_owned(),
        }),
    }
}

/// The reason code and words for a part that cannot be read.
pub(super) fn explain(error: &DicomError) -> (FailureReason, String) {
    let reason = match error {
        DicomError::NotDicom
        | DicomError::Truncated { .. }
        | DicomError::Malformed { .. }
        | DicomError::Inflate => FailureReason::CannotUnderstand,
        DicomError::Missing { .. } | DicomError::InvalidUid { .. } => {
            FailureReason::DoesNotMatchSopClass
        }
        DicomError::Limit { .. } => FailureReason::OutOfResources,
    };
    (reason, error.to_string())
}
