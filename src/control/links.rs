//! Keys of signed URLs: made when the first link is, looked up for each request that has one, and
//! replaced.
//!
//! Holds: what was revoked is good nowhere from that moment on, on no server: keys are read anew for
//! each request, which costs one lookup; no link is handed out that is not on the record. Absent: what
//! is signed (`identity`).

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    audit::Event,
    index::{Db, IndexError, PartitionTx},
    tenancy::{PartitionId, PartitionScope, Scope},
};

pub use crate::index::{LinkKey, LinkSecret};

/// Keys before the one that links are made with that are kept; those that were replaced earlier end
/// early where a partition's keys are replaced that often.
const MOST_BEFORE: usize = 8;

/// The keys of all partitions. Cheap to clone.
#[derive(Clone)]
pub struct LinkKeys {
    db: Db,
}

/// What the audit log has of a link.
#[derive(Clone, Copy, Debug)]
pub struct MadeLink<'a> {
    /// Its id.
    pub id: Uuid,
    /// The Study Instance UID of what it is for.
    pub study: &'a str,
    /// The path of what it is for, within its partition.
    pub path: &'a str,
}

/// What a replacement of a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the new key.
    pub id: Uuid,
    /// Until when the one before it holds; `None` where it does not any more, or there was none.
    pub before_until: Option<OffsetDateTime>,
}

impl LinkKeys {
    /// Those of an opened index.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The key that a link is made with, which is on the record from then on.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn current(
        &self,
        scope: &PartitionScope,
        made: &MadeLink<'_>,
    ) -> Result<LinkKey, IndexError> {
        let mut tx = self.db.begin_in(scope).await?;
        let mut found = current(tx.link_keys().await?);
        if found.is_none() {
            drop(tx);
            tx = self.db.begin_links(scope).await?;
            // Somebody else may have been faster.
            found = current(tx.link_keys().await?);
        }
        let key = match found {
            Some(key) => key,
            None => create(&mut tx).await?,
        };
        if let Some(deed) = scope.deed() {
            let mut event = Event::of(deed, scope.partition(), OffsetDateTime::now_utc());
            event.study = Some(made.study.to_owned());
            event.detail.insert("link".to_owned(), made.id.simple().to_string().into());
            event.detail.insert("path".to_owned(), made.path.into());
            tx.audit_deed(deed, event);
        }
        tx.commit().await?;
        Ok(key)
    }

    /// A key of a partition that still holds.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn get(
        &self,
        partition: &PartitionId,
        id: Uuid,
    ) -> Result<Option<LinkSecret>, IndexError> {
        #[expect(clippy::disallowed_methods, reason = "asked before there is anybody to have one")]
        let scope = Scope::for_maintenance(partition);
        self.db.begin_in(&scope).await?.link_key(id).await
    }

    /// Replaces the key; the one before still holds for `overlap`, and where that is zero, none of
    /// those before does.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn rotate(
        &self,
        scope: &PartitionScope,
        overlap: Duration,
    ) -> Result<Rotated, IndexError> {
        let mut tx = self.db.begin_links(scope).await?;
        let keys = tx.link_keys().await?;
        let (over, mut before): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.is_over || overlap.is_zero());
        let too_many = before.len().saturating_sub(MOST_BEFORE);
        for key in over.iter().chain(before.drain(..too_many).as_slice()) {
            tx.link_key_remove(key.id).await?;
        }
        let mut before_until = None;
        for key in before.iter().filter(|key| key.valid_until.is_none()) {
            before_until = Some(tx.link_key_retire(key.id, overlap).await?);
        }
        let id = create(&mut tx).await?.id;
        tx.commit().await?;
        tracing::info!(partition = %scope.partition(), at_once = overlap.is_zero(), "links rotated");
        Ok(Rotated { id, before_until })
    }
}

fn current(keys: Vec<LinkKey>) -> Option<LinkKey> {
    keys.into_iter().find(|key| key.valid_until.is_none())
}

async fn create(tx: &mut PartitionTx) -> Result<LinkKey, IndexError> {
    let (id, secret) = (Uuid::new_v4(), LinkSecret::generate());
    tx.link_key_create(id, &secret).await?;
    Ok(LinkKey { id, secret, valid_until: None, is_over: false })
}
