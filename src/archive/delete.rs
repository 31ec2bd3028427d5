//! Delete of a study, series or instance: at once for every reader, for good after the grace
//! period.

use super::{Archive, ArchiveError, Target};
use crate::tenancy::PartitionScope;

/// How often a deletion that lost a race is tried again.
const ATTEMPTS: u32 = 4;

impl Archive {
    /// Deletes a target: rows, counts and change-feed events in one transaction. The bytes follow
    /// after `delete.grace_period`.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where the scope holds nothing of the kind (any more).
    pub async fn delete(&self, scope: PartitionScope, target: Target) -> Result<u64, ArchiveError> {
        let mut attempt = 1;
        loop {
            let tried = async {
                let mut tx = self.0.db.begin_in(&scope).await?;
                let deleted = tx.delete(&target, self.0.delete.grace_period).await?;
                tx.commit().await?;
                Ok::<_, crate::index::IndexError>(deleted)
            };
            match tried.await {
                Ok(0) => return Err(ArchiveError::NotFound),
                Ok(deleted) => return Ok(deleted),
                Err(error) if attempt < ATTEMPTS && error.is_retryable() => {
                    tokio::time::sleep(std::time::Duration::from_millis(5 << (2 * attempt))).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
