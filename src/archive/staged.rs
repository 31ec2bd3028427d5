//! What a Store of metadata and bulk data holds beside the part that is being written: metadata, and
//! values that wait for their turn or do not tell their length.
//!
//! Holds: no more than `limits.staged_bytes` for one request, all of it counted to what uploads hold
//! (`uploads`).

use super::{store::StoreSession, uploads::Held};

/// Why nothing more is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// `limits.staged_bytes`, which is this.
    Limit(u64),
    /// There was no memory in time.
    Memory,
}

/// What one request holds; given back when it is dropped.
pub struct Staged {
    held: Held,
    bytes: u64,
    limit: u64,
}

impl StoreSession {
    /// For a request that holds nothing yet.
    pub fn staged(&self) -> Staged {
        let held = self.archive.0.uploads.part(self.scope.partition());
        Staged { held, bytes: 0, limit: self.archive.0.limits.staged_bytes }
    }
}

impl Staged {
    /// What may still be held, in bytes.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.bytes)
    }

    /// Holds `more` bytes, when others have given back enough.
    ///
    /// # Errors
    /// [`NoRoom`]; as much is held as before.
    pub async fn hold(&mut self, more: u64) -> Result<(), NoRoom> {
        if more > self.left() {
            return Err(NoRoom::Limit(self.limit));
        }
        if !self.held.hold(self.bytes + more).await {
            return Err(NoRoom::Memory);
        }
        self.bytes += more;
        Ok(())
    }

    /// Holds so much less.
    pub fn give_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.held.hold_now(self.bytes);
    }
}
