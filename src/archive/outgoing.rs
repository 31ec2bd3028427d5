//! Instances on their way to a place outside of the archive.
//!
//! Owns [`Outgoing`], the one way in which an instance is opened to be copied away: what is to become
//! of its bytes and UIDs on that way is decided here. Holds: an instance is told of by what is
//! written of it, not by what the index has, and once it is opened to be de-identified nothing of it
//! is known here under its own name. Absent: where it goes (`exchange`).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{Archive, ArchiveError, Deidentified, Target, retrieve::Instances, wanted::Wanted};
use crate::{
    dicom::{Uid, deidentify::Profile},
    index::Located,
    tenancy::PartitionScope,
};

/// An instance that is to be copied away.
#[derive(Clone, Debug)]
pub struct Leaving {
    located: Located,
    /// SHA-256 of the file, as Store noted it.
    sha256: Option<Vec<u8>>,
}

impl Leaving {
    /// The id of the version: they are given in this order.
    pub fn watermark(&self) -> i64 {
        self.located.watermark
    }

    /// The study that it is in here.
    pub fn study(&self) -> &Uid {
        &self.located.study
    }

    /// The series that it is in here.
    pub fn series(&self) -> &Uid {
        &self.located.series
    }

    /// What it is called here.
    pub fn instance(&self) -> &Uid {
        &self.located.instance
    }
}

/// An instance as it leaves.
pub struct Outgoing {
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// SOP Class UID.
    pub sop_class: Uid,
    /// Transfer Syntax UID.
    pub transfer_syntax: Uid,
    /// Bytes of the file, where known beforehand.
    pub length: Option<u64>,
    /// SHA-256 of the file, where known beforehand.
    pub sha256: Option<Vec<u8>>,
    bytes: Origin,
}

/// Where the bytes of a file come from.
enum Origin {
    Stored(Box<Instances>),
    Deidentified(Box<Deidentified>),
}

impl Outgoing {
    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// Where they cannot be read, or may not be given after all.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        match &mut self.bytes {
            Origin::Stored(instances) => instances.chunk().await,
            Origin::Deidentified(instances) => instances.chunk().await,
        }
    }

    /// Whether a file whose bytes have all come, and have this SHA-256, is made of what was stored:
    /// otherwise that is damaged.
    pub fn is_whole(&self, sha256: &[u8]) -> bool {
        match &self.bytes {
            Origin::Stored(_) => self.sha256.as_ref().is_none_or(|noted| *noted == sha256),
            Origin::Deidentified(instances) => instances.is_whole(),
        }
    }
}

impl Archive {
    /// The next instances of a target, by watermark, behind `after`.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn leaving(
        &self,
        scope: &PartitionScope,
        target: &Target,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Leaving>, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let page = tx.instances_page(target, after, i64::MAX, limit).await?;
        let uids: Vec<&str> = page.iter().map(|located| located.instance.as_str()).collect();
        let places = tx.commitment_places(&uids).await?;
        drop(tx);
        let mut hashes: HashMap<i64, Vec<u8>> =
            places.into_iter().map(|(place, _)| (place.watermark, place.sha256)).collect();
        let leaving = page.into_iter().map(|located| {
            let sha256 = hashes.remove(&located.watermark);
            Leaving { located, sha256 }
        });
        Ok(leaving.collect())
    }

    /// How many instances a target has.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn leaving_count(
        &self,
        scope: &PartitionScope,
        target: &Target,
    ) -> Result<u64, ArchiveError> {
        let summary = self.0.db.begin_in(scope).await?.summary(target).await?;
        Ok(summary.and_then(|summary| u64::try_from(summary.count).ok()).unwrap_or(0))
    }

    /// Opens an instance: its bytes are those of the file as it was stored, behind a preamble and
    /// File Meta Information where it came without (PS3.10 §7.1), or what a profile makes of them.
    ///
    /// # Errors
    /// Where it cannot be read; [`ArchiveError::NotDeidentifiable`].
    pub async fn outgoing(
        &self,
        scope: &PartitionScope,
        leaving: Leaving,
        profile: Option<&Arc<Profile>>,
    ) -> Result<Outgoing, ArchiveError> {
        let Leaving { located, sha256 } = leaving;
        let sop_class = located.sop_class.clone();
        let stored = located.length;
        let mut instances =
            Instances::of_one(self.clone(), scope.clone(), located, vec![Wanted::Any]);
        let (head, bytes, sha256) = match profile {
            None => {
                let head = instances.next().await?.ok_or(ArchiveError::NotFound)?;
                // What is put before the file is not part of what was hashed.
                let sha256 = sha256.filter(|_| head.length == Some(stored));
                (head, Origin::Stored(Box::new(instances)), sha256)
            }
            Some(profile) => {
                let mut instances = instances.deidentified(profile.clone()).kept((stored, sha256));
                let head = instances.next().await?.ok_or(ArchiveError::NotFound)?;
                (head, Origin::Deidentified(Box::new(instances)), None)
            }
        };
        Ok(Outgoing {
            study: head.study,
            series: head.series,
            instance: head.instance,
            sop_class,
            transfer_syntax: head.transfer_syntax,
            length: head.length,
            sha256,
            bytes,
        })
    }
}
