//! Undelete of a study: what was deleted of it within the grace period comes back.
//!
//! The bytes are read and held against their SHA-256, through the reader and the indexer of Store,
//! so that rows are made in one way only; they are not written again. Instances come back by blob, a
//! bounded batch a transaction: what ends early has brought some back, and may be asked for again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Archive, ArchiveError, Target,
    blob_reads::Unread,
    part::{SLICE, read_slice, read_through},
    repeated::repeated,
};
use crate::{
    blob::BlobStream,
    dicom::{
        Uid,
        index::{Indexed, Indexer},
        reader::Reader,
    },
    index::{IndexError, NewInstance, Stored, Tombstone},
    tenancy::PartitionScope,
};

/// Tombstones read at a time.
const PAGE: i64 = 1_000;
/// Most instances of a batch, and most bytes of metadata from which no further one is taken.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 8 << 20;
/// How often a study is gone through while something of it is moved.
pub(super) const ROUNDS: u32 = 3;
/// Most instances that did not come back whose reasons are told.
const TOLD: usize = 200;

/// Why an instance did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The partition holds its UID: it was stored anew, and stays as it is.
    Live,
    /// The grace period is over, it was erased, or its bytes are about to go.
    Over,
    /// Its bytes cannot be read as what was stored.
    Damaged,
    /// A rejection note in force names it.
    Rejected,
}

/// An instance that did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// Why.
    pub why: WhyNot,
}

/// What became of a study.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undeleted {
    /// Instances that came back.
    pub restored: u64,
    /// Instances that were stored anew.
    pub live: u64,
    /// Instances whose time is over.
    pub over: u64,
    /// Instances whose bytes are damaged.
    pub damaged: u64,
    /// Instances that rejection notes name.
    pub rejected: u64,
    /// The first of those that did not come back.
    pub kept: Vec<Kept>,
    /// Versions whose bytes are damaged.
    pub(super) unreadable: BTreeSet<i64>,
    /// Versions whose blobs were not there, with these.
    pub(super) missing: BTreeSet<(i64, Uuid)>,
}

impl Undeleted {
    fn keep(&mut self, tombstone: &Tombstone, why: WhyNot) {
        match why {
            WhyNot::Live => self.live += 1,
            WhyNot::Over => self.over += 1,
            WhyNot::Damaged => {
                self.damaged += 1;
                self.unreadable.insert(tombstone.watermark);
            }
            WhyNot::Rejected => self.rejected += 1,
        }
        if self.kept.len() < TOLD {
            let (series, instance) = (tombstone.series.clone(), tombstone.instance.clone());
            self.kept.push(Kept { series, instance, why });
        }
    }
}

/// Where instances are brought back, and the rejection note that is deleted for it, if one is.
#[derive(Clone, Copy)]
pub(super) struct Restoring<'a> {
    pub(super) scope: &'a PartitionScope,
    pub(super) revoked: Option<&'a Uid>,
}

/// An instance as it was read again.
struct Read<'a> {
    tombstone: &'a Tombstone,
    indexed: Indexed,
    metadata: Vec<u8>,
}

impl Archive {
    /// Brings back what was deleted of a study within the grace period, with new versions and
    /// events.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where nothing is known of the study; [`ArchiveError::Gone`] where
    /// all of it is gone for good. [`ArchiveError::Unavailable`]: some of it may be back.
    pub async fn undelete(
        &self,
        scope: &PartitionScope,
        study: &Uid,
    ) -> Result<Undeleted, ArchiveError> {
        let mut back: HashSet<Uid> = HashSet::new();
        let mut round = 1;
        let undeleted = loop {
            let mut undeleted = Undeleted::default();
            let restoring = Restoring { scope, revoked: None };
            let is_whole = self.undelete_round(restoring, study, &mut back, &mut undeleted).await?;
            // What was moved or erased since it was read is looked at again.
            if is_whole || round == ROUNDS {
                break Undeleted { restored: back.len() as u64, ..undeleted };
            }
            round += 1;
        };
        let kept = undeleted.damaged + undeleted.live + undeleted.rejected;
        if undeleted.restored + kept == 0 {
            // Deleted for good; or never there, or whole.
            self.require(scope, &Target::Study { study: study.clone() }).await?;
        }
        let (partition, instances) = (scope.partition(), undeleted.restored);
        tracing::info!(%partition, instances, "undeleted");
        Ok(undeleted)
    }

    /// Goes through the study once; `back` is what has come back. Says whether everything was as it
    /// was read.
    async fn undelete_round(
        &self,
        restoring: Restoring<'_>,
        study: &Uid,
        back: &mut HashSet<Uid>,
        undeleted: &mut Undeleted,
    ) -> Result<bool, ArchiveError> {
        let (mut after, mut is_whole) = (None, true);
        loop {
            let mut tx = self.0.db.begin_in(restoring.scope).await?;
            let (page, more) = tx.undelete_page(study, after, PAGE).await?;
            drop(tx);
            let mut blobs: BTreeMap<Uuid, Vec<&Tombstone>> = BTreeMap::new();
            for tombstone in page.iter().filter(|one| !back.contains(&one.instance)) {
                if tombstone.is_live {
                    undeleted.keep(tombstone, WhyNot::Live);
                } else if tombstone.is_rejected {
                    undeleted.keep(tombstone, WhyNot::Rejected);
                } else if !tombstone.is_restorable {
                    undeleted.keep(tombstone, WhyNot::Over);
                } else {
                    blobs.entry(tombstone.blob).or_default().push(tombstone);
                }
            }
            // In the order in which they came at first, since the first value of a study wins.
            let mut blobs: Vec<(Uuid, Vec<&Tombstone>)> = blobs.into_iter().collect();
            blobs.sort_by_key(|(_, of)| of.iter().map(|tombstone| tombstone.watermark).min());
            for (blob, mut tombstones) in blobs {
                tombstones.sort_by_key(|tombstone| tombstone.offset);
                is_whole &= self
                    .undelete_of(restoring, (study, blob), &tombstones, back, undeleted)
                    .await?;
            }
            after = more;
            if after.is_none() {
                return Ok(is_whole);
            }
        }
    }

    /// Brings back instances of one blob, ascending by offset. Says whether the blob was as it was
    /// read.
    pub(super) async fn undelete_of(
        &self,
        restoring: Restoring<'_>,
        (study, blob): (&Uid, Uuid),
        tombstones: &[&Tombstone],
        back: &mut HashSet<Uid>,
        undeleted: &mut Undeleted,
    ) -> Result<bool, ArchiveError> {
        let mut left = tombstones;
        let mut is_whole = true;
        while !left.is_empty() {
            let of_batch = &left[..left.len().min(BATCH)];
            let ranges = of_batch.iter().map(|t| t.offset..t.offset + t.length).collect();
            let mut bytes = match self.blob_reads(restoring.scope).open(blob, ranges).await {
                Ok(stream) => Bytes { stream, rest: bytes::Bytes::new() },
                // Its removal was begun, or a compaction replaced it, since the rows were read.
                Err(Unread::Missing(_)) => {
                    for tombstone in left {
                        undeleted.keep(tombstone, WhyNot::Over);
                        undeleted.missing.insert((tombstone.watermark, blob));
                    }
                    return Ok(false);
                }
                Err(Unread::Other(error)) => return Err(error),
            };
            let (mut batch, mut held, mut taken) = (Vec::new(), 0, 0);
            for tombstone in of_batch {
                taken += 1;
                match self.read_again(study, tombstone, &mut bytes).await? {
                    Some((indexed, metadata)) => {
                        held += metadata.len();
                        batch.push(Read { tombstone, indexed, metadata });
                    }
                    None => undeleted.keep(tombstone, WhyNot::Damaged),
                }
                if held >= BATCH_BYTES {
                    break;
                }
            }
            is_whole &= self.undelete_batch(restoring, blob, &batch, back, undeleted).await?;
            left = &left[taken..];
        }
        Ok(is_whole)
    }

    /// Reads an instance as Store does; `None`: it is not what was stored.
    async fn read_again(
        &self,
        study: &Uid,
        tombstone: &Tombstone,
        bytes: &mut Bytes,
    ) -> Result<Option<(Indexed, Vec<u8>)>, ArchiveError> {
        let limits = self.dicom_limits();
        let mut reader = Reader::new(Indexer::new(limits), limits, self.bulk_threshold());
        let (mut hash, mut left, mut is_readable) = (Sha256::new(), tombstone.length, true);
        while left > 0 {
            let chunk = bytes.next(left).await?;
            left -= chunk.len() as u64;
            for slice in chunk.chunks(SLICE) {
                hash.update(slice);
                is_readable &= read_slice(&mut reader, slice).await.is_ok();
            }
        }
        if !is_readable || hash.finalize()[..] != tombstone.sha256[..] {
            tracing::error!(blob = %tombstone.blob, offset = tombstone.offset, "a file is damaged");
            return Ok(None);
        }
        let read = read_through(Some(study), reader).await.ok();
        Ok(read.filter(|(indexed, _)| indexed.instance == tombstone.instance))
    }

    async fn undelete_batch(
        &self,
        restoring: Restoring<'_>,
        blob: Uuid,
        batch: &[Read<'_>],
        back: &mut HashSet<Uid>,
        undeleted: &mut Undeleted,
    ) -> Result<bool, ArchiveError> {
        if batch.is_empty() {
            return Ok(true);
        }
        let mut news = Vec::with_capacity(batch.len());
        for read in batch {
            let sha256 = read.tombstone.sha256.as_slice().try_into();
            news.push(NewInstance {
                blob,
                indexed: &read.indexed,
                metadata: &read.metadata,
                offset: read.tombstone.offset,
                length: read.tombstone.length,
                sha256: sha256.map_err(|_| {
                    ArchiveError::Internal(anyhow::anyhow!("a SHA-256 has another length"))
                })?,
                received: read.tombstone.received.as_deref().and_then(|one| one.try_into().ok()),
                rejects: self.0.rejection.of(&read.indexed),
            });
        }
        let watermarks: Vec<i64> = batch.iter().map(|read| read.tombstone.watermark).collect();
        let stored = match repeated!(self.try_undelete(restoring, blob, &news, &watermarks)) {
            // Erased, moved or about to go since it was read.
            Err(IndexError::Spent) => {
                batch.iter().for_each(|read| undeleted.keep(read.tombstone, WhyNot::Over));
                return Ok(false);
            }
            stored => stored?,
        };
        for (read, stored) in batch.iter().zip(stored) {
            match stored {
                Stored::New { .. } => _ = back.insert(read.tombstone.instance.clone()),
                Stored::Identical | Stored::Conflict => {
                    undeleted.keep(read.tombstone, WhyNot::Live)
                }
                Stored::Rejected => undeleted.keep(read.tombstone, WhyNot::Rejected),
            }
        }
        Ok(true)
    }
}

impl Archive {
    async fn try_undelete(
        &self,
        Restoring { scope, revoked }: Restoring<'_>,
        blob: Uuid,
        news: &[NewInstance<'_>],
        watermarks: &[i64],
    ) -> Result<Vec<Stored>, IndexError> {
        let mut tx = match news.iter().any(|new| new.rejects.is_some()) {
            true => self.0.db.begin_rejecting(scope).await?,
            false => self.0.db.begin_store(scope).await?,
        };
        let stored = tx.undelete_batch(blob, news, watermarks, revoked).await?;
        let back = stored.iter().filter(|one| matches!(one, Stored::New { .. })).count();
        if back > 0 {
            tx.audit_note("undeleted", back);
            tx.commit().await?;
        }
        Ok(stored)
    }
}

/// Bytes of files that come one after the other.
struct Bytes {
    stream: BlobStream,
    rest: bytes::Bytes,
}

impl Bytes {
    /// The next bytes, at most `most`.
    async fn next(&mut self, most: u64) -> Result<bytes::Bytes, ArchiveError> {
        while self.rest.is_empty() {
            let next = self.stream.next().await.ok_or_else(|| {
                ArchiveError::Internal(anyhow::anyhow!("a blob is shorter than its rows say"))
            })?;
            self.rest = next?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(self.rest.split_to(most))
    }
}
