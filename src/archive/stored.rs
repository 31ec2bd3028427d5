//! Instances that are given as they are stored: how long an answer is, before a byte of it is read,
//! and parts of it.

use std::ops::Range;

use super::{
    ArchiveError, InstanceHead, Instances,
    retrieve::{Current, preamble},
    wanted::{Encoding, Wanted},
};
use crate::{
    dicom::Uid,
    index::{Extent, Located},
};

/// Whether instances stored as `stored` are given so.
pub(super) fn is_given_as_stored(wanted: &[Wanted], stored: &Uid) -> bool {
    let first = wanted.iter().find_map(|wanted| wanted.encodings(stored).into_iter().next());
    first == Some(Encoding::Stored)
}

/// What these instances take.
pub(super) fn extent(page: &[Located]) -> Option<Extent> {
    let mut extent = Extent::default();
    for located in page {
        let head = head(located)?;
        let length = head.length?;
        extent.count += 1;
        extent.bytes = extent.bytes.checked_add(length)?;
        extent.characters += characters(&head, length);
    }
    Some(extent)
}

/// Characters of what tells one instance's part from another's, see [`Extent::characters`].
fn characters(head: &InstanceHead, length: u64) -> u64 {
    let texts = [&head.transfer_syntax, &head.series, &head.instance];
    let texts: usize = texts.iter().map(|uid| uid.as_str().len()).sum();
    texts as u64 + length.to_string().len() as u64
}

fn head(located: &Located) -> Option<InstanceHead> {
    Some(InstanceHead {
        study: located.study.clone(),
        series: located.series.clone(),
        instance: located.instance.clone(),
        transfer_syntax: located.transfer_syntax.clone(),
        length: Some(located.length.checked_add(located.header_missing?)?),
    })
}

impl InstanceHead {
    /// Characters in which its part differs from those of others, see [`Extent::characters`].
    pub fn characters(&self) -> u64 {
        characters(self, self.length.unwrap_or(0))
    }
}

impl Instances {
    /// The next instance, which is not opened for that; `None` after the last one, and where
    /// [`Instances::extent`] is not known.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn peek(&mut self) -> Result<Option<InstanceHead>, ArchiveError> {
        if self.extent.is_none() || !self.turn().await? {
            return Ok(None);
        }
        Ok(self.page.front().and_then(head))
    }

    /// Passes over the next instance without reading it.
    pub fn pass(&mut self) {
        self.page.pop_front();
    }

    /// Opens the bytes `range` of the next instance as it is given.
    ///
    /// # Errors
    /// Where the blob store fails.
    pub async fn open_range(&mut self, range: Range<u64>) -> Result<(), ArchiveError> {
        let Some(located) = self.page.pop_front() else { return Ok(()) };
        let missing = located.header_missing.unwrap_or(0);
        let header = preamble();
        let cut = |at: u64| usize::try_from(at.min(missing)).unwrap_or(0).min(header.len());
        let header = header.slice(cut(range.start)..cut(range.end));
        let place = |at: u64| located.offset + at.saturating_sub(missing).min(located.length);
        let bytes = place(range.start)..place(range.end);
        let end = bytes.end;
        if !bytes.is_empty() {
            self.runs.go_to(located.blob, bytes);
            self.runs.stand().await?;
        }
        self.begun = true;
        let header = Some(header).filter(|header| !header.is_empty());
        self.current = Current::Stored { header, end };
        Ok(())
    }
}
