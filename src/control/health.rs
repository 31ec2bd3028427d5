//! What readiness depends on: the database, its schema, and the blob store.

use std::time::Duration;

use crate::{blob::BlobStore, index::Db};

/// How long a part may take to answer before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// One part that readiness depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name in the answer.
    pub name: &'static str,
    /// Whether it answered well.
    pub ok: bool,
}

/// Checks the parts.
#[derive(Clone)]
pub struct Health {
    db: Db,
    blobs: BlobStore,
}

impl Health {
    /// Checks of an index and a blob store.
    pub fn new(db: Db, blobs: BlobStore) -> Self {
        Self { db, blobs }
    }

    /// Asks every part, side by side.
    pub async fn check(&self) -> [Check; 2] {
        let database = within("database", async { Ok(self.db.ready().await?) });
        let blobs = within("blob_store", async { Ok(self.blobs.ready().await?) });
        tokio::join!(database, blobs).into()
    }
}

async fn within(
    name: &'static str,
    check: impl Future<Output = Result<(), anyhow::Error>>,
) -> Check {
    let ok = match tokio::time::timeout(PATIENCE, check).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(part = name, error = format!("{error:#}"), "not ready");
            false
        }
        Err(_) => {
            tracing::warn!(part = name, "not ready: no answer in {PATIENCE:?}");
            false
        }
    };
    Check { name, ok }
}
