//! Bulk values (PS3.18 §10.4.1.1.4, §10.4.1.1.7): one of an instance, or all of a study, series or
//! instance, one after another.
//!
//! Holds: where a value can be read in place, only its bytes are read; memory does not grow with
//! the number of instances. Absent: in which media type a value is given.

use std::{collections::VecDeque, ops::Range};

use super::{
    Archive, ArchiveError, ByteStream, Target, frames::in_place, retrieve::refuse_changed,
    streams::window,
};
use crate::{
    dicom::{Tag, Uid, VR, index::BulkEntry},
    index::{Located, Presence},
    tenancy::PartitionScope,
};

/// Instances whose values are looked up in one transaction.
const PAGE: i64 = 100;
/// Paths of pixel data (PS3.18 §10.4.1.1.7: of the data set itself, not of its items).
const PIXEL_DATA: [&str; 3] = ["7FE00008", "7FE00009", "7FE00010"];
/// The path of Encapsulated Document.
const DOCUMENT: &str = "00420011";
/// (0042,0012).
const DOCUMENT_TYPE: Tag = Tag(0x0042, 0x0012);

/// Which values are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// All that the metadata names by URI.
    All,
    /// Pixel data.
    Pixels,
}

/// The bulk values of a target, one after another.
pub struct BulkValues {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    values: Values,
    page: VecDeque<(Located, VecDeque<BulkEntry>)>,
    after: Option<i64>,
    newest: i64,
    left: i64,
    /// Changes whenever an instance is added or removed.
    pub version: String,
    /// Transfer syntaxes of the instances.
    pub transfer_syntaxes: Vec<Uid>,
}

impl Archive {
    /// The bulk values of a study, series or instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn bulk_values(
        &self,
        scope: PartitionScope,
        target: Target,
        values: Values,
    ) -> Result<BulkValues, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(summary) = tx.summary(&target).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        drop(tx);
        Ok(BulkValues {
            archive: self.clone(),
            scope,
            target,
            values,
            page: VecDeque::new(),
            after: None,
            newest: summary.newest,
            left: summary.count,
            version: summary.version,
            transfer_syntaxes: summary.transfer_syntaxes,
        })
    }

    /// Finds one bulk value of an instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn bulk(
        &self,
        scope: PartitionScope,
        target: Target,
        path: &str,
    ) -> Result<Bulk, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some((located, entry)) = tx.bulk_locate(&target, path).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        drop(tx);
        Ok(Bulk::of(self.clone(), scope, located, entry))
    }
}

impl BulkValues {
    /// The next value; `None` after the last one.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn next(&mut self) -> Result<Option<Bulk>, ArchiveError> {
        loop {
            if let Some((located, entries)) = self.page.front_mut() {
                let is_wanted = |entry: &BulkEntry| {
                    self.values == Values::All || PIXEL_DATA.contains(&entry.path.as_str())
                };
                match entries.pop_front() {
                    Some(entry) if is_wanted(&entry) => {
                        let (archive, scope) = (self.archive.clone(), self.scope.clone());
                        return Ok(Some(Bulk::of(archive, scope, located.clone(), entry)));
                    }
                    Some(_) => {}
                    None => _ = self.page.pop_front(),
                }
                continue;
            }
            if self.left <= 0 {
                return Ok(None);
            }
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            let page = tx.bulk_page(&self.target, self.after, self.newest, PAGE).await?;
            if page.is_empty() {
                refuse_changed(&mut tx, &self.target, self.newest).await?;
            }
            drop(tx);
            let Some((last, _)) = page.last() else { return Ok(None) };
            self.after = Some(last.watermark);
            let room = usize::try_from(self.left).unwrap_or(0);
            let page = page.into_iter().take(room).map(|(located, list)| (located, list.into()));
            self.page = page.collect();
            self.left -= self.page.len() as i64;
        }
    }
}

/// One bulk value.
pub struct Bulk {
    archive: Archive,
    scope: PartitionScope,
    located: Located,
    entry: BulkEntry,
}

impl Bulk {
    pub(super) fn of(
        archive: Archive,
        scope: PartitionScope,
        located: Located,
        entry: BulkEntry,
    ) -> Self {
        Self { archive, scope, located, entry }
    }

    /// Its value representation.
    pub fn vr(&self) -> VR {
        self.entry.vr
    }

    /// Whether it is encapsulated pixel data, whose bytes are its frames.
    pub fn is_encapsulated(&self) -> bool {
        self.entry.length == 0
    }

    /// The transfer syntax of the instance.
    pub fn transfer_syntax(&self) -> &Uid {
        &self.located.transfer_syntax
    }

    /// Where it stands in the instance.
    pub fn path(&self) -> &str {
        &self.entry.path
    }

    /// The instance that it is of.
    pub fn target(&self) -> Target {
        Target::Instance {
            study: self.located.study.clone(),
            series: self.located.series.clone(),
            instance: self.located.instance.clone(),
        }
    }

    /// Whose it may be seen by.
    pub fn scope(&self) -> &PartitionScope {
        &self.scope
    }

    /// The archive that it is in.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// What (0042,0012) says about an encapsulated document, which this is then.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn document_type(&self) -> Result<Option<String>, ArchiveError> {
        if self.entry.path != DOCUMENT {
            return Ok(None);
        }
        let header = self.archive.header(&self.scope, &self.located).await?;
        Ok(header.root().text(DOCUMENT_TYPE).map(|text| text.trim().to_ascii_lowercase()))
    }

    /// Encapsulated pixel data in its native form, as one value of so many bytes. The first frame
    /// was decoded when this returns.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`], [`ArchiveError::Unavailable`].
    pub async fn native(&self) -> Result<(u64, ByteStream), ArchiveError> {
        self.archive.native_pixels(&self.scope, &self.located).await
    }

    /// Bytes of the value.
    pub fn length(&self) -> u64 {
        self.entry.length
    }

    /// Identifies the stored version.
    pub fn version(&self) -> i64 {
        self.located.watermark
    }

    /// Bytes `range` of the value, in little endian.
    pub fn read(&self, range: Range<u64>) -> ByteStream {
        if in_place(&self.located) {
            let offset = self.entry.offset;
            let range = offset + range.start..offset + range.end;
            self.archive.ranges(&self.scope, &self.located, vec![range])
        } else {
            window(self.archive.extract(&self.scope, &self.located, &[&self.entry.path]), range)
        }
    }
}
