//! Whether instances that somebody names are safe: their bytes are in the store, all of them, and
//! they are those that were stored.

use std::collections::BTreeSet;

use super::{Checker, Finding, VerifyError};
use crate::index::{VerifyContent, VerifyPlace};

/// What is wrong among some instances. They are named by their watermarks.
#[derive(Debug, Default)]
pub struct Safety {
    /// Those whose bytes are not what was stored.
    pub damaged: BTreeSet<i64>,
    /// Those that were deleted meanwhile.
    pub gone: BTreeSet<i64>,
    /// What was found, to be told.
    pub findings: Vec<Finding>,
}

impl Checker {
    /// Reads and hashes some instances: of one blob in one go.
    ///
    /// # Errors
    /// [`VerifyError`], where nothing can be said.
    pub async fn safety(&mut self, places: &[VerifyPlace]) -> Result<Safety, VerifyError> {
        let mut safety = Safety::default();
        let mut content = Vec::with_capacity(places.len());
        for place in places {
            if place.offset < 0 || place.length <= 0 {
                safety.damaged.insert(place.watermark);
                continue;
            }
            content.push(VerifyContent {
                blob: place.blob,
                watermark: place.watermark,
                offset: place.offset,
                length: place.length,
                sha256: place.sha256.clone(),
                walked: false,
            });
        }
        content.sort_by_key(|one| (one.blob, one.offset, one.watermark));
        content.dedup();
        for blob in content.chunk_by(|one, next| one.blob == next.blob) {
            self.content(blob).await?;
        }
        safety.findings = self.take_findings();
        let told = safety.findings.iter().filter_map(|finding| finding.watermark);
        safety.damaged.extend(told);
        let watermarks: Vec<i64> = content.iter().map(|one| one.watermark).collect();
        let live = self.db.begin_verify(&self.scope).await?.verify_places(&watermarks).await?;
        let live: BTreeSet<i64> = live.into_iter().map(|place| place.watermark).collect();
        safety.gone = watermarks.into_iter().filter(|one| !live.contains(one)).collect();
        Ok(safety)
    }
}
