//! What of a study or series can be shown, and which instance stands for it.
//!
//! Holds: instances are told apart by their rows alone (class, transfer syntax, frames), no header
//! is read for that; pages of rows, so that memory does not grow with the study. The same content
//! is always represented by the same instance. Absent: drawing ([`super::picture`]).

use std::collections::VecDeque;

use super::{
    Archive, ArchiveError, Target,
    picture::{is_document, is_state},
    retrieve::refuse_changed,
};
use crate::{
    codec,
    dicom::transfer_syntax::{PixelForm, TransferSyntax},
    index::{PictureRow, Presence},
    tenancy::PartitionScope,
};

/// Rows read in one transaction.
const PAGE: i64 = 500;

/// What an instance is shown as, as far as its row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shows {
    /// A picture of each frame.
    Image,
    /// A stream of this media type.
    Video(&'static str),
    /// A text.
    Document,
    /// Pictures that no codec reads.
    Undecodable,
    /// Nothing of its own.
    Nothing,
}

/// An instance of a gallery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhibit {
    /// Where it is.
    pub target: Target,
    /// What it is shown as.
    pub shows: Shows,
    /// Identifies the stored version.
    pub version: i64,
    /// How many frames it has; 0 without pixel data.
    pub frames: u32,
}

/// A study or series to be shown, instance by instance.
pub struct Gallery {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    newest: i64,
    after: Option<i64>,
    page: VecDeque<Exhibit>,
    last_page: bool,
    version: String,
}

impl From<PictureRow> for Exhibit {
    fn from(row: PictureRow) -> Self {
        let PictureRow { located, frames } = row;
        let syntax = TransferSyntax::of(&located.transfer_syntax);
        let frames = frames.unwrap_or(0);
        let shows = if is_document(&located.sop_class) {
            Shows::Document
        } else if frames == 0 || is_state(&located.sop_class) {
            Shows::Nothing
        } else if syntax.pixels == PixelForm::Video {
            Shows::Video(syntax.media_type)
        } else if codec::decodes(&located.transfer_syntax) {
            Shows::Image
        } else {
            Shows::Undecodable
        };
        let (study, series, instance) = (located.study, located.series, located.instance);
        let target = Target::Instance { study, series, instance };
        Self { target, shows, version: located.watermark, frames }
    }
}

impl Archive {
    /// Opens a study or series to show it.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn gallery(
        &self,
        scope: PartitionScope,
        target: Target,
    ) -> Result<Gallery, ArchiveError> {
        let mut tx = self.0.db.begin_in(&scope).await?;
        let Some(summary) = tx.summary(&target).await? else {
            return Err(match tx.presence(&target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            });
        };
        drop(tx);
        Ok(Gallery {
            archive: self.clone(),
            scope,
            target,
            newest: summary.newest,
            after: None,
            page: VecDeque::new(),
            last_page: false,
            version: summary.version,
        })
    }

    /// The instance that stands for a target: of the first series (by number) that has pictures,
    /// the one in the middle (by arrival); where there are none, of the first that has anything to
    /// show.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn representative(
        &self,
        scope: &PartitionScope,
        target: &Target,
    ) -> Result<Exhibit, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let rows = tx.representatives(target).await?;
        let best = rows.into_iter().map(Exhibit::from).min_by_key(|exhibit| exhibit.shows);
        match best {
            Some(best) => Ok(best),
            None => Err(match tx.presence(target).await? {
                Presence::Deleted => ArchiveError::Gone,
                Presence::Live | Presence::Absent => ArchiveError::NotFound,
            }),
        }
    }
}

impl Gallery {
    /// Changes whenever an instance comes or goes.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The next instance, by arrival.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<Exhibit>, ArchiveError> {
        if self.page.is_empty() && !self.last_page {
            let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
            let rows = tx.pictures_page(&self.target, self.after, self.newest, PAGE).await?;
            if rows.is_empty() {
                refuse_changed(&mut tx, &self.target, self.newest).await?;
            }
            self.last_page = i64::try_from(rows.len()).is_ok_and(|count| count < PAGE);
            self.page = rows.into_iter().map(Exhibit::from).collect();
            self.after = self.page.back().map_or(self.after, |last| Some(last.version));
        }
        Ok(self.page.pop_front())
    }

    /// Goes back to the first instance.
    pub fn rewind(&mut self) {
        (self.after, self.last_page) = (None, false);
        self.page.clear();
    }
}
