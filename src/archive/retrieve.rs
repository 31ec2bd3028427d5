//! Retrieve whole instances (PS3.18 §10.4.1.1.1–3): as stored, or re-encoded as Explicit VR
//! Little Endian where that needs no codec.
//!
//! Holds: rows are read in short transactions that end before bytes flow; instances that lie side
//! by side in a blob are read in one go; memory does not grow with instance or study.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use uuid::Uuid;

use super::{Archive, ArchiveError, Target};
use crate::{
    blob::BlobError,
    dicom::{
        Uid,
        explicit::{self, Explicit, Identity},
        reader::Reader,
        transfer_syntax::{EXPLICIT_LITTLE, TransferSyntax},
        uid::InvalidUid,
    },
    index::{Located, Presence},
    tenancy::PartitionScope,
};

/// Rows read in one transaction.
const PAGE: i64 = 500;

/// Which transfer syntax a client asked for (PS3.18 §8.7.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No parameter: Explicit VR Little Endian, or as stored where that would need a codec.
    Default,
    /// `*`: as stored.
    Any,
    /// One syntax.
    Exactly(Uid),
}

/// How an instance is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Byte for byte as it came.
    Stored,
    /// Re-encoded as Explicit VR Little Endian.
    ExplicitLittle,
}

impl Wanted {
    /// How an instance stored as `stored` answers this wish; `None` where it cannot.
    pub fn encoding(&self, stored: &Uid) -> Option<Encoding> {
        let converts = TransferSyntax::of(stored).convertible;
        let stored = stored.as_str();
        match self {
            Self::Any => Some(Encoding::Stored),
            Self::Exactly(wanted) if wanted.as_str() == stored => Some(Encoding::Stored),
            Self::Exactly(wanted) if wanted.as_str() == EXPLICIT_LITTLE && converts => {
                Some(Encoding::ExplicitLittle)
            }
            Self::Exactly(_) => None,
            Self::Default if converts && stored != EXPLICIT_LITTLE => {
                Some(Encoding::ExplicitLittle)
            }
            Self::Default => Some(Encoding::Stored),
        }
    }
}

/// The syntaxes that an instance stored as `stored` can be given in.
pub(super) fn available(stored: &Uid) -> Vec<String> {
    let mut available = vec![stored.to_string()];
    if TransferSyntax::of(stored).convertible && stored.as_str() != EXPLICIT_LITTLE {
        available.push(EXPLICIT_LITTLE.to_owned());
    }
    available
}

/// One instance of an answer; its bytes come from [`Instances::chunk`].
#[derive(Clone, Debug)]
pub struct InstanceHead {
    /// Its place.
    pub study: Uid,
    /// Its place.
    pub series: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// The syntax that it is given in.
    pub transfer_syntax: Uid,
    /// Bytes that follow, where known beforehand.
    pub length: Option<u64>,
}

/// The instances of a study, series or instance, one after another.
pub struct Instances {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    wanted: Wanted,
    page: VecDeque<Located>,
    last_page: bool,
    after: Option<i64>,
    run: Option<Run>,
    current: Current,
    /// Whether instances had to be left out because they cannot be given as wanted.
    pub partial: bool,
    /// Identifies what is given: the watermarks of the first page, for a stable boundary.
    pub version: String,
}

/// A stretch of one blob that is being read.
struct Run {
    blob: Uuid,
    end: u64,
    stream: BoxStream<'static, Result<Bytes, BlobError>>,
    /// What was read beyond the current instance.
    rest: Bytes,
    /// First byte of the blob that `rest` or else `stream` gives next.
    at: u64,
}

enum Current {
    None,
    Stored { header: Option<Bytes>, end: u64 },
    Converted { end: u64, reader: Option<Box<Reader<Explicit>>>, ready: VecDeque<Bytes> },
}

/// Length of the preamble with its prefix (PS3.10 §7.1), and the prefix.
const PREAMBLE: usize = 132;
const PREFIX: &[u8] = b"DICM";

impl Archive {
    /// Opens a study, series or instance for reading.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`]; [`ArchiveError::NotAcceptable`] if none
    /// of the instances can be given as wanted.
    pub async fn instances(
        &self,
        scope: PartitionScope,
        target: Target,
        wanted: Wanted,
    ) -> Result<Instances, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(summary) = tx.summary(&target).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        let syntaxes = summary.transfer_syntaxes;
        let given = syntaxes.iter().filter(|stored| wanted.encoding(stored).is_some()).count();
        if given == 0 {
            let mut available: Vec<String> = syntaxes.iter().flat_map(available).collect();
            available.sort();
            available.dedup();
            return Err(ArchiveError::NotAcceptable { available });
        }
        let page = tx.instances_page(&target, None, i64::MAX, PAGE).await?;
        drop(tx);
        let mut version = Vec::new();
        for located in &page {
            version.extend_from_slice(&located.watermark.to_be_bytes());
        }
        let mut instances = Instances {
            archive: self.clone(),
            scope,
            target,
            wanted,
            page: VecDeque::new(),
            last_page: false,
            after: None,
            run: None,
            current: Current::None,
            partial: given < syntaxes.len(),
            version: super::digest(&version),
        };
        instances.take_page(page);
        Ok(instances)
    }
}

impl Instances {
    fn take_page(&mut self, page: Vec<Located>) {
        self.last_page = (page.len() as i64) < PAGE;
        self.after = page.last().map(|located| located.watermark).or(self.after);
        self.page = page.into();
    }

    /// Goes to the next instance; `None` after the last one.
    ///
    /// # Errors
    /// Where the index or the blob store fails; the answer cannot be completed then.
    pub async fn next(&mut self) -> Result<Option<InstanceHead>, ArchiveError> {
        while self.chunk().await?.is_some() {}
        loop {
            let Some(located) = self.page.pop_front() else {
                if self.last_page {
                    return Ok(None);
                }
                let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
                let page = tx.instances_page(&self.target, self.after, i64::MAX, PAGE).await?;
                drop(tx);
                self.take_page(page);
                continue;
            };
            let Some(encoding) = self.wanted.encoding(&located.transfer_syntax) else { continue };
            return self.open(&located, encoding).await.map(Some);
        }
    }

    /// Makes the run stand at the first byte of `located`.
    async fn open(
        &mut self,
        located: &Located,
        encoding: Encoding,
    ) -> Result<InstanceHead, ArchiveError> {
        let range = self.stretch(located);
        let run = match self.run.take() {
            Some(run) if run.blob == located.blob && run.at == range.start && run.at < run.end => {
                run
            }
            _ => {
                let blobs = self.archive.0.blobs.within(self.scope.partition());
                let stream = blobs.read(located.blob, range.clone()).await?.boxed();
                let (at, end) = (range.start, range.end);
                Run { blob: located.blob, end, stream, rest: Bytes::new(), at }
            }
        };
        let run = self.run.insert(run);
        let end = located.offset + located.length;
        let identity = Identity {
            sop_class: located.sop_class.clone(),
            sop_instance: located.instance.clone(),
        };
        let (transfer_syntax, length, current) = match encoding {
            Encoding::Stored => {
                let header = run.missing_header(located, &identity, end).await?;
                let length = located.length + header.as_ref().map_or(0, |h| h.len() as u64);
                (located.transfer_syntax.clone(), Some(length), Current::Stored { header, end })
            }
            Encoding::ExplicitLittle => {
                let limits = self.archive.dicom_limits();
                let threshold = self.archive.bulk_threshold();
                let reader = Reader::new(Explicit::new(Some(identity)), limits, threshold);
                let (reader, ready) = (Some(Box::new(reader)), VecDeque::new());
                (explicit_little()?, None, Current::Converted { end, reader, ready })
            }
        };
        self.current = current;
        Ok(InstanceHead {
            study: located.study.clone(),
            series: located.series.clone(),
            instance: located.instance.clone(),
            transfer_syntax,
            length,
        })
    }

    /// The longest stretch of the blob that starts with `located` and goes on with instances that
    /// come next.
    fn stretch(&self, located: &Located) -> Range<u64> {
        let mut end = located.offset + located.length;
        for next in &self.page {
            if next.blob != located.blob
                || next.offset != end
                || self.wanted.encoding(&next.transfer_syntax).is_none()
            {
                break;
            }
            end += next.length;
        }
        located.offset..end
    }

    /// The next bytes of the current instance; `None` at its end.
    ///
    /// # Errors
    /// As [`Instances::next`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            let Some(run) = &mut self.run else { return Ok(None) };
            match &mut self.current {
                Current::None => return Ok(None),
                Current::Stored { header, end } => {
                    if let Some(header) = header.take() {
                        return Ok(Some(header));
                    }
                    let chunk = run.next(*end).await?;
                    if chunk.is_none() {
                        self.current = Current::None;
                    }
                    return Ok(chunk);
                }
                Current::Converted { end, reader, ready } => {
                    if let Some(chunk) = ready.pop_front() {
                        return Ok(Some(chunk));
                    }
                    let Some(open) = reader else {
                        self.current = Current::None;
                        return Ok(None);
                    };
                    match run.next(*end).await? {
                        Some(bytes) => {
                            let mut bytes = bytes.as_ref();
                            while open.push_some(&mut bytes).map_err(unreadable)? {
                                ready.extend(std::iter::from_fn(|| open.sink_mut().take()));
                                tokio::task::consume_budget().await;
                            }
                            ready.extend(std::iter::from_fn(|| open.sink_mut().take()));
                        }
                        None => {
                            let Some(open) = reader.take() else { continue };
                            ready.extend(open.finish().map_err(unreadable)?.finish());
                        }
                    }
                }
            }
        }
    }
}

/// A stored instance was read through when it came; that it cannot be read now is an alarm.
pub(super) fn unreadable(error: crate::dicom::DicomError) -> ArchiveError {
    ArchiveError::Internal(anyhow::Error::new(error).context("a stored instance is not readable"))
}

impl Run {
    /// What an instance that came without the header of a Part 10 file (PS3.10 §7.1) is given out
    /// with, so that it can be read as one: nothing for nearly all.
    async fn missing_header(
        &mut self,
        located: &Located,
        identity: &Identity,
        end: u64,
    ) -> Result<Option<Bytes>, ArchiveError> {
        if located.data_set_offset == 0 {
            return Ok(Some(explicit::file_meta(&located.transfer_syntax, identity).into()));
        }
        let mut begin = Vec::new();
        while begin.len() < PREAMBLE {
            let Some(chunk) = self.next(end).await? else { break };
            if begin.is_empty() && chunk.len() >= PREAMBLE {
                let has_prefix = chunk.get(PREAMBLE - PREFIX.len()..PREAMBLE) == Some(PREFIX);
                self.put_back(chunk);
                return Ok((!has_prefix).then(preamble));
            }
            begin.extend_from_slice(&chunk);
        }
        let has_prefix = begin.get(PREAMBLE - PREFIX.len()..PREAMBLE) == Some(PREFIX);
        self.put_back(begin.into());
        Ok((!has_prefix).then(preamble))
    }

    /// Undoes reading `chunk`, the last bytes that were read.
    fn put_back(&mut self, chunk: Bytes) {
        self.at -= chunk.len() as u64;
        self.rest = if self.rest.is_empty() {
            chunk
        } else {
            [chunk.as_ref(), self.rest.as_ref()].concat().into()
        };
    }

    /// The next bytes before `end`; `None` at `end`.
    async fn next(&mut self, end: u64) -> Result<Option<Bytes>, ArchiveError> {
        if self.at >= end {
            return Ok(None);
        }
        while self.rest.is_empty() {
            self.rest = match self.stream.next().await {
                Some(chunk) => chunk?,
                None => {
                    let error = anyhow::anyhow!("blob {} ended at byte {}", self.blob, self.at);
                    return Err(ArchiveError::Internal(error));
                }
            };
        }
        let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let chunk = self.rest.split_to(left.min(self.rest.len()));
        self.at += chunk.len() as u64;
        Ok(Some(chunk))
    }
}

/// Explicit VR Little Endian, as a UID.
pub(super) fn explicit_little() -> Result<Uid, ArchiveError> {
    EXPLICIT_LITTLE.parse().map_err(|error: InvalidUid| ArchiveError::Internal(error.into()))
}

/// An empty preamble and the prefix.
fn preamble() -> Bytes {
    let mut preamble = vec![0; PREAMBLE - PREFIX.len()];
    preamble.extend_from_slice(PREFIX);
    preamble.into()
}
