//! Import: the files of a place into a partition.
//!
//! Files are taken in batches, several at a time. Of each file the beginning tells whether it is
//! DICOM and which instance it says it is; what the index has of those is held against the hash of
//! the file, so that what is there already costs a read and nothing else; the others go through a
//! session of Store. Holds: a batch is told of once all of it is durable, in the order of the walk; a
//! file that fails fails alone. Absent: where files are (`source`), what becomes of the lines.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{At, Found, Source, SourceError};
use crate::{
    archive::{Archive, Failed, FailureReason, Outcome, StoreSession, hash},
    blob::BlobError,
    config::LimitsConfig,
    dicom::{DicomError, index::Indexer, reader::Reader},
    index::{Db, IndexError},
    tenancy::PartitionScope,
};

/// Files of a batch.
const FILES: usize = 128;
/// Bytes of a batch, unless one file has more.
const BYTES: u64 = 64 << 20;
/// Files of a batch whose beginnings are read at once.
const SIGHTED: usize = 8;
/// Bytes in which a file says what it is.
const HEAD: u64 = 4096;
/// Bytes that are read before other tasks of the thread get their turn.
const SLICE: usize = 128 << 10;
/// Media Storage Directory Storage (PS3.4 §B.5): a DICOMDIR.
const DIRECTORY: &str = "1.2.840.10008.1.3.10";

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It is in the archive now, and was not before.
    Stored,
    /// It was in the archive.
    Identical,
    /// It is no DICOM file.
    Skipped,
    /// It could not be stored.
    Failed,
}

/// A file, as the report tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is called in its place.
    pub path: String,
    /// What became of it.
    pub status: Status,
    /// SOP Instance UID, where it is known.
    #[serde(rename = "sopInstanceUid", skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Why it was skipped or failed; never a value of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its size.
    pub bytes: u64,
}

/// What became of files that lie one behind the other.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The mark of the last one.
    pub mark: String,
    /// One for each.
    pub lines: Vec<Line>,
}

/// Why an import cannot go on. It can be repeated from the last batch that was told of.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The place cannot be read.
    #[error("the files cannot be found")]
    Source(#[from] SourceError),
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// The archive takes nothing now.
    #[error("a part of the archive is unavailable")]
    Unavailable,
    /// A place is not what it must be, or that of the report takes nothing now.
    #[error("a place that the import needs cannot be used")]
    Place(#[from] BlobError),
}

/// How files are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Nothing is stored, but looked at all the same.
    pub is_dry: bool,
    /// Rejection notes are taken.
    pub may_reject: bool,
}

/// Stores files in one partition. Cheap to clone.
#[derive(Clone)]
pub struct Importer(Arc<Inner>);

struct Inner {
    archive: Archive,
    db: Db,
    scope: PartitionScope,
    source: Source,
    limits: LimitsConfig,
    how: How,
}

/// A file that is DICOM as far as its beginning tells.
struct Candidate {
    at: At,
    /// SOP Instance UID, where the beginning has it.
    instance: Option<String>,
}

/// What the index has of an instance.
struct Known {
    length: i64,
    sha256: Vec<u8>,
}

/// What becomes of a file.
enum Fate {
    /// That is known.
    Line(Status, Option<String>, Option<String>),
    /// It waits to be stored, as this instance.
    Waits(String),
    /// The session has noted why it failed, under this number.
    Failed(usize),
}

impl Importer {
    /// Stores what the source has in the partition of a scope, which exists.
    pub fn new(
        archive: Archive,
        db: Db,
        scope: PartitionScope,
        source: Source,
        limits: LimitsConfig,
        how: How,
    ) -> Self {
        Self(Arc::new(Inner { archive, db, scope, source, limits, how }))
    }

    /// Stores everything behind a mark, so many batches at once.
    pub fn run(
        &self,
        after: Option<&str>,
        at_once: usize,
    ) -> BoxStream<'static, Result<Batch, ImportError>> {
        let importer = self.clone();
        batches(self.0.source.walk(after))
            .map(move |batch| {
                let importer = importer.clone();
                async move { importer.batch(batch?).await }
            })
            .buffered(at_once)
            .boxed()
    }

    async fn batch(&self, found: Vec<Found>) -> Result<Batch, ImportError> {
        let mark = found.last().map(|last| last.mark.clone()).unwrap_or_default();
        // Of a bucket each of them is a request.
        let mut sights: Vec<BoxFuture<'static, Result<Candidate, Fate>>> = Vec::new();
        for one in &found {
            sights.push(self.clone().sighted(one.file.clone()).boxed());
        }
        let sighted: Vec<Result<Candidate, Fate>> =
            stream::iter(sights).buffered(SIGHTED).collect().await;
        let known = self.known(&sighted).await?;
        let prepare = Box::pin(future::ready(Ok(())));
        let session = self.0.archive.store(self.0.scope.clone(), None, prepare);
        let mut session = session.rejecting(Box::pin(future::ready(Ok(self.0.how.may_reject))));
        let mut fates = Vec::with_capacity(found.len());
        for one in sighted {
            fates.push(match one {
                Err(fate) => fate,
                Ok(candidate) => match self.settled(&candidate, &known).await {
                    Some(fate) => fate,
                    None if self.0.how.is_dry => self.look(&candidate).await,
                    None => self.store(&mut session, &candidate.at).await,
                },
            });
        }
        let outcome = session.finish().await;
        if outcome.unavailable {
            return Err(ImportError::Unavailable);
        }
        Ok(Batch { mark, lines: lines(found, fates, outcome) })
    }

    /// What there is to say of something that was found, before it is read.
    async fn sighted(self, file: Result<At, &'static str>) -> Result<Candidate, Fate> {
        match file {
            Ok(at) => self.sight(at).await,
            Err(reason) => Err(skipped(reason)),
        }
    }

    /// Looks at the beginning of a file.
    async fn sight(&self, at: At) -> Result<Candidate, Fate> {
        let limit = self.0.limits.instance_bytes;
        if at.size > limit {
            return Err(failed(None, format!("larger than limits.instance_bytes ({limit})")));
        }
        let head = self.0.source.head(&at, HEAD).await;
        let head = head.map_err(|error| failed(None, unreadable(&error)))?;
        let mut reader = self.reader();
        // What is wrong behind the beginning is told by who reads all of it.
        if matches!(reader.push(&head), Err(DicomError::NotDicom)) {
            return Err(skipped(NOT_DICOM));
        }
        let meta = reader.file_meta();
        let class = meta.and_then(|meta| meta.media_storage_sop_class.as_ref());
        if class.is_some_and(|class| class.as_str() == DIRECTORY) {
            return Err(skipped("a DICOMDIR"));
        }
        let instance = meta.and_then(|meta| meta.media_storage_sop_instance.as_ref());
        let instance = instance.map(|uid| uid.as_str().to_owned());
        Ok(Candidate { at, instance })
    }

    fn reader(&self) -> Reader<Indexer> {
        let limits = self.0.limits.parsing();
        let threshold = u32::try_from(self.0.limits.bulk_threshold).unwrap_or(u32::MAX);
        Reader::new(Indexer::new(limits), limits, threshold)
    }

    /// What the index has of the instances that files say they are.
    async fn known(
        &self,
        sighted: &[Result<Candidate, Fate>],
    ) -> Result<HashMap<String, Known>, ImportError> {
        let named = sighted.iter().flatten().filter_map(|one| one.instance.as_deref());
        let mut uids: Vec<&str> = named.collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut tx = self.0.db.begin_in(&self.0.scope).await?;
        let places = tx.commitment_places(&uids).await?;
        let known = places.into_iter().map(|(place, _)| {
            (place.instance, Known { length: place.length, sha256: place.sha256 })
        });
        Ok(known.collect())
    }

    /// What is known of a file without storing it: that the same is there.
    async fn settled(&self, candidate: &Candidate, known: &HashMap<String, Known>) -> Option<Fate> {
        let instance = candidate.instance.as_ref()?;
        let kept = known.get(instance)?;
        if u64::try_from(kept.length) != Ok(candidate.at.size) {
            return None;
        }
        let mut sha256 = Sha256::new();
        let mut stream = match self.0.source.read(&candidate.at).await {
            Ok(stream) => stream,
            Err(error) => return Some(failed(Some(instance), unreadable(&error))),
        };
        loop {
            match stream.try_next().await {
                Ok(Some(bytes)) => hash(&mut sha256, &bytes).await,
                Ok(None) => break,
                Err(error) => return Some(failed(Some(instance), unreadable(&error))),
            }
        }
        let sha256: [u8; 32] = sha256.finalize().into();
        let is_same = kept.sha256[..] == sha256;
        is_same.then(|| Fate::Line(Status::Identical, Some(instance.clone()), None))
    }

    /// Reads a file through without storing it.
    async fn look(&self, candidate: &Candidate) -> Fate {
        let mut stream = match self.0.source.read(&candidate.at).await {
            Ok(stream) => stream,
            Err(error) => return failed(None, unreadable(&error)),
        };
        let mut reader = self.reader();
        loop {
            match stream.try_next().await {
                Ok(Some(bytes)) => {
                    for mut slice in bytes.chunks(SLICE) {
                        tokio::task::consume_budget().await;
                        loop {
                            match reader.push_some(&mut slice) {
                                Ok(true) => tokio::task::consume_budget().await,
                                Ok(false) => break,
                                Err(error) => return refused(&error),
                            }
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => return failed(None, unreadable(&error)),
            }
        }
        match reader.finish().and_then(Indexer::finish) {
            Ok(indexed) => {
                Fate::Line(Status::Stored, Some(indexed.instance.as_str().to_owned()), None)
            }
            Err(error) => refused(&error),
        }
    }

    /// Hands a file to a session of Store.
    async fn store(&self, session: &mut StoreSession, at: &At) -> Fate {
        let mut stream = match self.0.source.read(at).await {
            Ok(stream) => stream,
            Err(error) => return failed(None, unreadable(&error)),
        };
        let limit = self.0.limits.instance_bytes;
        let (mut sink, mut bytes) = (session.part(), 0);
        let taken = loop {
            match stream.try_next().await {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    if bytes > limit {
                        sink.refuse_too_large(limit).await;
                        break None;
                    }
                    sink.push(chunk).await;
                    if sink.has_failed() {
                        break sink.finish().await;
                    }
                }
                Ok(None) => break sink.finish().await,
                Err(error) => {
                    sink.abandon().await;
                    return failed(None, unreadable(&error));
                }
            }
        };
        match taken {
            Some(instance) => Fate::Waits(instance.as_str().to_owned()),
            None => Fate::Failed(session.failures().saturating_sub(1)),
        }
    }
}

const NOT_DICOM: &str = "no DICOM file";

fn skipped(reason: &str) -> Fate {
    Fate::Line(Status::Skipped, None, Some(reason.to_owned()))
}

fn failed(instance: Option<&String>, reason: String) -> Fate {
    Fate::Line(Status::Failed, instance.cloned(), Some(reason))
}

fn refused(error: &DicomError) -> Fate {
    match error {
        DicomError::NotDicom => skipped(NOT_DICOM),
        error => failed(None, error.to_string()),
    }
}

fn unreadable(error: &SourceError) -> String {
    match error {
        SourceError::Io(error) => format!("cannot be read: {}", error.kind()),
        SourceError::Bucket(_) => "cannot be read".to_owned(),
    }
}

/// Files in the order of the walk, so many at a time.
fn batches(
    walk: BoxStream<'static, Result<Found, SourceError>>,
) -> BoxStream<'static, Result<Vec<Found>, SourceError>> {
    struct Walk {
        found: stream::Peekable<BoxStream<'static, Result<Found, SourceError>>>,
    }
    let next = |mut walk: Walk| async move {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < FILES
            && let Some(one) = std::pin::Pin::new(&mut walk.found).peek().await
        {
            let size = match one {
                Ok(found) => found.file.as_ref().map_or(0, |at| at.size),
                // After what was found before it.
                Err(_) if !batch.is_empty() => break,
                Err(_) => 0,
            };
            if !batch.is_empty() && bytes + size > BYTES {
                break;
            }
            bytes += size;
            match walk.found.next().await {
                Some(Ok(found)) => batch.push(found),
                Some(Err(error)) => return Some((Err(error), walk)),
                None => break,
            }
        }
        (!batch.is_empty()).then_some((Ok(batch), walk))
    };
    stream::unfold(Walk { found: walk.peekable() }, next).boxed()
}

/// What became of each file.
fn lines(found: Vec<Found>, fates: Vec<Fate>, outcome: Outcome) -> Vec<Line> {
    let Outcome { stored, failed, .. } = outcome;
    let told: Vec<usize> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Failed(number) => Some(*number),
            _ => None,
        })
        .collect();
    // Of files that are the same instance the first one was stored.
    let mut ended: HashMap<String, VecDeque<(Status, Option<String>)>> = HashMap::new();
    for one in stored {
        let status = if one.is_identical { Status::Identical } else { Status::Stored };
        ended.entry(one.instance.as_str().to_owned()).or_default().push_back((status, None));
    }
    for (number, one) in failed.iter().enumerate() {
        if let Some((_, instance)) = one.sop.as_ref().filter(|_| !told.contains(&number)) {
            let ends = ended.entry(instance.as_str().to_owned()).or_default();
            ends.push_back((Status::Failed, Some(one.detail.clone())));
        }
    }
    let line = |(one, fate): (Found, Fate)| {
        let bytes = one.file.as_ref().map_or(0, |at| at.size);
        let (status, instance, reason) = match fate {
            Fate::Line(status, instance, reason) => (status, instance, reason),
            Fate::Waits(instance) => {
                let end = ended.get_mut(&instance).and_then(VecDeque::pop_front);
                let lost = || (Status::Failed, Some("nothing is known of it".to_owned()));
                let (status, reason) = end.unwrap_or_else(lost);
                (status, Some(instance), reason)
            }
            Fate::Failed(number) => why(failed.get(number)),
        };
        Line { path: one.name, status, instance, reason, bytes }
    };
    found.into_iter().zip(fates).map(line).collect()
}

/// What the report says of a failure of Store.
fn why(failed: Option<&Failed>) -> (Status, Option<String>, Option<String>) {
    let Some(failed) = failed else { return (Status::Failed, None, None) };
    let instance = failed.sop.as_ref().map(|(_, instance)| instance.as_str().to_owned());
    let is_none = failed.reason == FailureReason::CannotUnderstand
        && failed.detail == DicomError::NotDicom.to_string();
    if is_none {
        return (Status::Skipped, None, Some(NOT_DICOM.to_owned()));
    }
    (Status::Failed, instance, Some(failed.detail.clone()))
}
