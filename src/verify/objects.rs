//! What the store lists, against rows: objects that no row knows.
//!
//! They are no damage: a store that never committed left them, or one that has not committed yet,
//! and the sweeper removes them when they are old enough. They are counted.

use std::time::SystemTime;

use futures::StreamExt;
use uuid::Uuid;

use super::{Checker, Cursor, VerifyError};
use crate::blob::{BlobError, Listed};

/// Objects looked up with one statement.
const PAGE: usize = 1_000;

impl Checker {
    pub(super) async fn objects(&mut self) -> Result<Cursor, VerifyError> {
        if self.listing.is_none() {
            // Begun anew after an error: what was counted before comes again.
            let tally = &mut self.tally;
            (tally.objects, tally.orphans, tally.orphan_bytes, tally.orphans_overdue) =
                (0, 0, 0, 0);
        }
        let blobs = &self.blobs;
        let listing = self.listing.get_or_insert_with(|| blobs.list());
        let mut page: Vec<Listed> = Vec::new();
        while page.len() < PAGE {
            match listing.next().await {
                Some(listed) => page.push(listed?),
                None => break,
            }
        }
        self.tally.objects += page.len() as u64;
        let is_last = page.len() < PAGE;
        let unknown = self.unknown(page).await?;
        if !unknown.is_empty() {
            let mut there = Vec::new();
            for orphan in unknown {
                // What was removed since it was listed is none.
                match self.blobs.size(orphan.id).await {
                    Ok(size) => there.push(Listed { size, ..orphan }),
                    Err(BlobError::Missing { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // After that: a store may have committed meanwhile.
            for orphan in self.unknown(there).await? {
                self.tally.orphans += 1;
                self.tally.orphan_bytes += orphan.size;
                let age = SystemTime::now().duration_since(orphan.modified).unwrap_or_default();
                self.tally.orphans_overdue += u64::from(age > self.how.orphan_grace);
            }
        }
        Ok(if is_last { Cursor::Feed { from: 1 } } else { Cursor::Objects })
    }

    /// Those that no row knows.
    async fn unknown(&self, mut listed: Vec<Listed>) -> Result<Vec<Listed>, VerifyError> {
        if listed.is_empty() {
            return Ok(listed);
        }
        let ids: Vec<Uuid> = listed.iter().map(|one| one.id).collect();
        let mut known = self.db.begin_verify(&self.scope).await?.blobs_known(&ids).await?;
        known.sort_unstable();
        listed.retain(|one| known.binary_search(&one.id).is_err());
        Ok(listed)
    }
}
