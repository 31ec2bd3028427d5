//! Retrieve whole instances (PS3.18 §10.4.1.1.1–3): as stored, re-encoded as Explicit VR Little
//! Endian where that needs no codec, or transcoded.
//!
//! Holds: rows are read in short transactions that end before bytes flow; instances that lie side
//! by side in a blob are read in one go; memory does not grow with instance or study. Once the
//! first instance has begun, one that turns out not to decode is given as it is stored, labelled
//! so: by then no status could tell that it was left out.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{
    Archive, ArchiveError, Target,
    runs::Runs,
    splice::TOO_LONG,
    stored::{extent, is_given_as_stored},
    transcode::Transcoding,
    wanted::{Encoding, Wanted, available},
};
use crate::{
    dicom::{
        Uid,
        explicit::{self, Explicit, Identity},
        reader::Reader,
        transfer_syntax::EXPLICIT_LITTLE,
        uid::InvalidUid,
    },
    index::{Extent, IndexError, Located, PartitionTx, Presence},
    tenancy::PartitionScope,
};

/// Rows read in one transaction.
const PAGE: i64 = 500;
/// Instances up to this size, in bytes, are in memory while they are transcoded, so that they are
/// read together with their neighbours.
const SMALL: u64 = 4 << 20;

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

/// Which version of an instance is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The last one.
    #[default]
    Current,
    /// The one that was stored, before it was changed here.
    Original,
}

/// The instances of a study, series or instance, one after another.
pub struct Instances {
    pub(super) archive: Archive,
    scope: PartitionScope,
    target: Target,
    /// In what forms instances are acceptable, the most wanted first.
    wanted: Vec<Wanted>,
    pub(super) page: VecDeque<Located>,
    /// Whether first versions are given where there are any.
    version: Version,
    after: Option<i64>,
    /// The newest instance when the answer began; later ones are not in it.
    newest: i64,
    /// Instances that may still come, the page left out.
    left: i64,
    pub(super) runs: Runs,
    /// The last instance (by watermark) that a stretch opened so far holds.
    opened: i64,
    pub(super) current: Current,
    /// Whether an instance was given.
    pub(super) begun: bool,
    /// Why instances were left out.
    hindrance: Option<ArchiveError>,
    /// Whether instances had to be left out because they cannot be given as wanted.
    pub partial: bool,
    /// Identifies what is given: changes whenever an instance is added, removed or changed.
    pub tag: String,
    /// What all instances take, where each is given as it is stored and that is known.
    pub extent: Option<Extent>,
    /// The transfer syntaxes that could be had.
    pub available: Vec<String>,
}

pub(super) enum Current {
    None,
    Stored { header: Option<Bytes>, end: u64 },
    Converted { end: u64, reader: Option<Box<Reader<Explicit>>>, ready: VecDeque<Bytes> },
    Transcoded(Box<Transcoding>),
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
        version: Version,
        wanted: Vec<Wanted>,
    ) -> Result<Instances, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(summary) = tx.summary(&target).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        let syntaxes = summary.transfer_syntaxes;
        let is_given = |stored: &&Uid| wanted.iter().any(|wanted| wanted.admits(stored));
        let given = syntaxes.iter().filter(is_given).count();
        let mut available: Vec<String> = syntaxes.iter().flat_map(available).collect();
        available.sort();
        available.dedup();
        if given == 0 {
            return Err(ArchiveError::NotAcceptable { available });
        }
        let newest = summary.newest;
        let (page, after) = page_of(&mut tx, version, &target, None, newest).await?;
        let all_stored = syntaxes.iter().all(|stored| is_given_as_stored(&wanted, stored));
        let extent = match all_stored {
            false => None,
            true if page.len() as i64 >= summary.count => extent(&page),
            true if version == Version::Original => None,
            true => tx.extent(&target, newest).await?,
        };
        drop(tx);
        let blobs = self.blob_reads(&scope);
        let mut instances = Instances {
            archive: self.clone(),
            scope,
            target,
            wanted,
            page: VecDeque::new(),
            version,
            after: None,
            newest,
            left: summary.count,
            runs: Runs::new(blobs, self.0.ahead.clone(), self.0.retrieve.read_ahead),
            opened: i64::MIN,
            current: Current::None,
            begun: false,
            hindrance: None,
            partial: given < syntaxes.len(),
            tag: match version {
                Version::Current => summary.version,
                Version::Original => format!("{} original", summary.version),
            },
            extent,
            available,
        };
        instances.take_page(page, after);
        Ok(instances)
    }
}

/// A page of what is given, and the watermark after which the next one begins.
async fn page_of(
    tx: &mut PartitionTx,
    version: Version,
    target: &Target,
    after: Option<i64>,
    newest: i64,
) -> Result<(Vec<Located>, Option<i64>), IndexError> {
    let page = match version {
        Version::Current => tx.instances_page(target, after, newest, PAGE).await?,
        Version::Original => {
            let page = tx.originals_page(target, after, newest, PAGE).await?;
            let after = page.last().map(|(current, _)| current.watermark);
            let given = page.into_iter().map(|(current, original)| original.unwrap_or(current));
            return Ok((given.collect(), after));
        }
    };
    let after = page.last().map(|located| located.watermark);
    Ok((page, after))
}

/// An answer that began with the instances up to `newest` does not find more of them: they were
/// deleted meanwhile, and the answer ends, or other versions took their place, and it would be half
/// of a study.
///
/// # Errors
/// [`ArchiveError::Unavailable`] where there are newer ones.
pub(super) async fn refuse_changed(
    tx: &mut PartitionTx,
    target: &Target,
    newest: i64,
) -> Result<(), ArchiveError> {
    if tx.instances_page(target, Some(newest), i64::MAX, 1).await?.is_empty() {
        return Ok(());
    }
    let error = anyhow::anyhow!("what was to be read was changed meanwhile");
    Err(ArchiveError::Unavailable(error))
}

impl Instances {
    /// One instance that was looked up, wherever it belongs.
    pub(super) fn of_one(
        archive: Archive,
        scope: PartitionScope,
        located: Located,
        wanted: Vec<Wanted>,
    ) -> Self {
        let (study, series, instance) =
            (located.study.clone(), located.series.clone(), located.instance.clone());
        let is_stored = is_given_as_stored(&wanted, &located.transfer_syntax);
        let extent = if is_stored { extent(std::slice::from_ref(&located)) } else { None };
        let (blobs, newest) = (archive.blob_reads(&scope), located.watermark);
        let runs = Runs::new(blobs, archive.0.ahead.clone(), archive.0.retrieve.read_ahead);
        Self {
            archive,
            scope,
            target: Target::Instance { study, series, instance },
            wanted,
            available: available(&located.transfer_syntax),
            page: VecDeque::from([located]),
            version: Version::Current,
            after: Some(newest),
            newest,
            left: 0,
            runs,
            opened: i64::MIN,
            current: Current::None,
            begun: false,
            hindrance: None,
            partial: false,
            tag: newest.to_string(),
            extent,
        }
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    /// In what forms instances are acceptable, the most wanted first.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn take_page(&mut self, page: Vec<Located>, after: Option<i64>) {
        self.after = after.or(self.after);
        self.page = page.into();
        // What was committed since with an older watermark is not counted.
        self.page.truncate(usize::try_from(self.left).unwrap_or(0));
        self.left -= self.page.len() as i64;
    }

    /// Makes sure that the page holds the next instance; `false` after the last one.
    pub(super) async fn turn(&mut self) -> Result<bool, ArchiveError> {
        if self.page.is_empty() && self.left > 0 {
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            let (page, after) =
                page_of(&mut tx, self.version, &self.target, self.after, self.newest).await?;
            if page.is_empty() {
                refuse_changed(&mut tx, &self.target, self.newest).await?;
                self.left = 0;
            }
            drop(tx);
            self.take_page(page, after);
        }
        Ok(!self.page.is_empty())
    }

    /// Goes to the next instance; `None` after the last one.
    ///
    /// # Errors
    /// Where the index or the blob store fails; the answer cannot be completed then.
    pub async fn next(&mut self) -> Result<Option<InstanceHead>, ArchiveError> {
        while self.chunk().await?.is_some() {}
        loop {
            if !self.turn().await? {
                let hindrance = self.hindrance.take().filter(|_| !self.begun);
                return hindrance.map_or(Ok(None), Err);
            }
            let Some(located) = self.page.pop_front() else { continue };
            let encodings = self.encodings(&located);
            if encodings.is_empty() {
                continue;
            }
            match self.open(&located, encodings).await {
                Ok(head) => {
                    self.begun = true;
                    return Ok(Some(head));
                }
                Err(error @ (ArchiveError::Undecodable(_) | ArchiveError::TooLarge { .. })) => {
                    if self.begun {
                        return self.open(&located, vec![Encoding::Stored]).await.map(Some);
                    }
                    self.partial = true;
                    self.hindrance.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How an instance may be given, the most wanted first.
    fn encodings(&self, located: &Located) -> Vec<Encoding> {
        let mut encodings = Vec::new();
        for encoding in
            self.wanted.iter().flat_map(|wanted| wanted.encodings(&located.transfer_syntax))
        {
            if !encodings.contains(&encoding) {
                encodings.push(encoding);
            }
        }
        encodings
    }

    /// Opens an instance in the first form that it can be given in.
    pub(super) async fn open(
        &mut self,
        located: &Located,
        encodings: Vec<Encoding>,
    ) -> Result<InstanceHead, ArchiveError> {
        let (mut file, mut hindrance) = (None, None);
        let mut encodings = VecDeque::from(encodings);
        while let Some(encoding) = encodings.pop_front() {
            match self.open_as(located, &encoding, &mut file).await {
                Err(error @ (ArchiveError::Undecodable(_) | ArchiveError::TooLarge { .. })) => {
                    // What is too long for a native form may be had as it is, unless that form was
                    // insisted on (PS3.18 §8.7.3.5.2).
                    let too_long = matches!(error, ArchiveError::Undecodable(TOO_LONG));
                    if too_long && self.wanted.iter().any(Wanted::is_open) {
                        encodings.push_back(Encoding::Stored);
                    }
                    hindrance.get_or_insert(error);
                }
                Err(error) => return Err(error),
                Ok((transfer_syntax, length, current)) => {
                    self.current = current;
                    return Ok(InstanceHead {
                        study: located.study.clone(),
                        series: located.series.clone(),
                        instance: located.instance.clone(),
                        transfer_syntax,
                        length,
                    });
                }
            }
        }
        Err(hindrance.unwrap_or(ArchiveError::NotFound))
    }

    /// Makes ready to give an instance in one form: its transfer syntax, its length where that is
    /// known, and where its bytes come from. `file` is the instance, once it is in memory.
    async fn open_as(
        &mut self,
        located: &Located,
        encoding: &Encoding,
        file: &mut Option<Bytes>,
    ) -> Result<(Uid, Option<u64>, Current), ArchiveError> {
        let end = located.offset + located.length;
        let is_run = is_run(located, encoding);
        if is_run && file.is_none() {
            self.runs.go_to(located.blob, located.offset..self.stretch_end(located));
            self.open_ahead();
            self.runs.stand().await?;
        }
        if !matches!(encoding, Encoding::Transcoded(_))
            && let Some(whole) = file.take()
        {
            self.runs.put_back(whole);
        }
        let identity = Identity {
            sop_class: located.sop_class.clone(),
            sop_instance: located.instance.clone(),
        };
        Ok(match encoding {
            Encoding::Stored => {
                let header = self.missing_header(located, &identity, end).await?;
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
            Encoding::Transcoded(wanted) => {
                if is_run && file.is_none() {
                    *file = Some(self.read_whole(located, end).await?);
                }
                let file = file.clone();
                let made = self.archive.transcode(&self.scope, located, wanted, file).await?;
                (wanted.clone(), None, Current::Transcoded(Box::new(made)))
            }
        })
    }

    async fn read_whole(&mut self, located: &Located, end: u64) -> Result<Bytes, ArchiveError> {
        let mut whole =
            BytesMut::with_capacity(usize::try_from(located.length).unwrap_or_default());
        while let Some(chunk) = self.runs.next(end).await? {
            if chunk.len() as u64 == located.length {
                return Ok(chunk);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The end of the longest stretch of the blob that starts with `located` and goes on with
    /// instances that come next.
    fn stretch_end(&self, located: &Located) -> u64 {
        let mut end = located.offset + located.length;
        for next in &self.page {
            if next.blob != located.blob || next.offset != end || !self.is_read_in_a_run(next) {
                break;
            }
            end += next.length;
        }
        end
    }

    fn is_read_in_a_run(&self, located: &Located) -> bool {
        self.encodings(located).first().is_some_and(|encoding| is_run(located, encoding))
    }

    /// Opens the stretches that come next, as far as there is room.
    fn open_ahead(&mut self) {
        let mut at = 0;
        // What lies in stretches that are open.
        let mut covered = self.runs.end();
        while let Some(located) = self.page.get(at) {
            let (blob, start) = (located.blob, located.offset);
            let mut last = located.watermark;
            let in_current = covered.is_some_and(|(of, end)| of == blob && start < end);
            if in_current || last <= self.opened || !self.is_read_in_a_run(located) {
                if !in_current {
                    covered = None;
                }
                at += 1;
                continue;
            }
            if !self.runs.has_room() {
                return;
            }
            let mut end = start + located.length;
            at += 1;
            while let Some(next) = self.page.get(at)
                && next.blob == blob
                && next.offset == end
                && self.is_read_in_a_run(next)
            {
                end += next.length;
                last = next.watermark;
                at += 1;
            }
            self.opened = last;
            covered = None;
            self.runs.open_ahead(blob, start..end);
        }
    }

    /// The next bytes of the current instance; `None` at its end.
    ///
    /// # Errors
    /// As [`Instances::next`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            match &mut self.current {
                Current::None => return Ok(None),
                Current::Stored { header, end } => {
                    if let Some(header) = header.take() {
                        return Ok(Some(header));
                    }
                    let chunk = self.runs.next(*end).await?;
                    if chunk.is_none() {
                        self.current = Current::None;
                    }
                    return Ok(chunk);
                }
                Current::Transcoded(made) => {
                    let chunk = made.chunk().await?;
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
                    match self.runs.next(*end).await? {
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

/// Whether an instance is read along with its neighbours to be given so.
fn is_run(located: &Located, encoding: &Encoding) -> bool {
    !matches!(encoding, Encoding::Transcoded(_)) || located.length <= SMALL
}

/// A stored instance was read through when it came; that it cannot be read now is an alarm.
pub(super) fn unreadable(error: crate::dicom::DicomError) -> ArchiveError {
    ArchiveError::Internal(anyhow::Error::new(error).context("a stored instance is not readable"))
}

impl Instances {
    /// What an instance that came without the header of a Part 10 file (PS3.10 §7.1) is given out
    /// with, so that it can be read as one: nothing for nearly all.
    async fn missing_header(
        &mut self,
        located: &Located,
        identity: &Identity,
        end: u64,
    ) -> Result<Option<Bytes>, ArchiveError> {
        match located.header_missing {
            Some(0) => return Ok(None),
            Some(_) => return Ok(Some(preamble())),
            None => {}
        }
        if located.data_set_offset == 0 {
            return Ok(Some(explicit::file_meta(&located.transfer_syntax, identity).into()));
        }
        let mut begin = Vec::new();
        while begin.len() < PREAMBLE {
            let Some(chunk) = self.runs.next(end).await? else { break };
            if begin.is_empty() && chunk.len() >= PREAMBLE {
                let has_prefix = chunk.get(PREAMBLE - PREFIX.len()..PREAMBLE) == Some(PREFIX);
                self.runs.put_back(chunk);
                return Ok((!has_prefix).then(preamble));
            }
            begin.extend_from_slice(&chunk);
        }
        let has_prefix = begin.get(PREAMBLE - PREFIX.len()..PREAMBLE) == Some(PREFIX);
        self.runs.put_back(begin.into());
        Ok((!has_prefix).then(preamble))
    }
}

/// Explicit VR Little Endian, as a UID.
pub(super) fn explicit_little() -> Result<Uid, ArchiveError> {
    EXPLICIT_LITTLE.parse().map_err(|error: InvalidUid| ArchiveError::Internal(error.into()))
}

/// An empty preamble and the prefix.
pub(super) fn preamble() -> Bytes {
    let mut preamble = vec![0; PREAMBLE - PREFIX.len()];
    preamble.extend_from_slice(PREFIX);
    preamble.into()
}
