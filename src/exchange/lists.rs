//! Lists that grow while work goes on, in a place whose files cannot grow: each step writes what it
//! adds as a file of its own, and at the end they become one.
//!
//! Holds: a step that is done again writes the same file again; a list that is whole is written
//! before its pieces go.

use bytes::Bytes;
use serde::Serialize;

use crate::blob::{BlobError, Place, collect};

/// Longest piece.
const PIECE: usize = 64 << 20;

/// Lists of one operation. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    place: Place,
    folder: String,
}

/// A line of a list.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

impl Lists {
    pub(super) fn new(place: Place, folder: String) -> Self {
        Self { place, folder }
    }

    fn piece(&self, list: &str, step: u64) -> String {
        format!("{}/.lists/{list}-{step:010}", self.folder)
    }

    /// Writes what step number `step` adds to a list.
    pub(super) async fn add(&self, list: &str, step: u64, lines: Vec<u8>) -> Result<(), BlobError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.place.write(&self.piece(list, step), lines).await
    }

    /// What a step added.
    pub(super) async fn added(&self, list: &str, step: u64) -> Result<Option<Bytes>, BlobError> {
        let name = self.piece(list, step);
        match self.place.size(&name).await? {
            Some(_) => Ok(Some(collect(self.place.read(&name).await?, PIECE).await?)),
            None => Ok(None),
        }
    }

    /// Writes the whole list, of so many steps, under a name of its own.
    pub(super) async fn join(&self, list: &str, steps: u64, name: &str) -> Result<(), BlobError> {
        let mut writer = self.place.writer(&format!("{}/{name}", self.folder));
        for step in 0..steps {
            if let Some(added) = self.added(list, step).await? {
                writer.push(added).await?;
            }
        }
        writer.finish().await
    }

    /// Removes the pieces.
    pub(super) async fn clear(&self, lists: &[&str], steps: u64) -> Result<(), BlobError> {
        for step in 0..steps {
            for list in lists {
                self.place.remove(&self.piece(list, step)).await?;
            }
        }
        Ok(())
    }
}
