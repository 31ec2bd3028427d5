//! Webhooks, as who manages them asks for them.
//!
//! Holds: a partition has no more than `webhooks.max_per_partition`; one that begins now is told of
//! whatever is committed from then on. Absent: which URLs may be called and how (`outbound`), sending
//! what is in the feed (`workers`).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Archive, ArchiveError};
use crate::{
    index::{DeadLetter, IndexError, Webhook, WebhookSecret, WebhookSettings},
    tenancy::PartitionScope,
};

/// From where on a webhook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookStart {
    /// What is committed from now on.
    Now,
    /// What comes after a sequence; 0: all that the feed has.
    After(i64),
}

/// A webhook as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookHealth {
    /// The webhook.
    pub webhook: Webhook,
    /// Events of the feed that it has not dealt with.
    pub lag: i64,
    /// Its dead letters.
    pub dead_letters: i64,
}

/// What the feed still has of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterRest {
    /// All of it.
    All,
    /// Its end.
    Some,
    /// Nothing: it can only be removed.
    Nothing,
}

/// Why a webhook was not added.
#[derive(Debug, thiserror::Error)]
pub enum WebhookRefusal {
    /// The partition would have more than `webhooks.max_per_partition`.
    #[error("too many webhooks")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<IndexError> for WebhookRefusal {
    fn from(error: IndexError) -> Self {
        Self::Archive(error.into())
    }
}

/// Partitions whose webhooks were changed by this server, for who sends to them.
#[derive(Debug, Default)]
pub struct WebhookNews {
    changed: Mutex<HashSet<PartitionScope>>,
    notify: Notify,
}

impl WebhookNews {
    /// Tells that webhooks of a partition were changed.
    pub fn tell(&self, scope: &PartitionScope) {
        // A set cannot be left half-changed.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.clone());
        self.notify.notify_one();
    }

    /// Waits until webhooks are changed; answers where.
    pub async fn wait(&self) -> HashSet<PartitionScope> {
        self.notify.notified().await;
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Archive {
    /// What tells of changed webhooks.
    pub fn webhook_news(&self) -> Arc<WebhookNews> {
        self.0.webhook_news.clone()
    }

    /// Adds a webhook; its secret is in the answer.
    ///
    /// # Errors
    /// [`WebhookRefusal`].
    pub async fn add_webhook(
        &self,
        scope: &PartitionScope,
        settings: &WebhookSettings,
        start: WebhookStart,
    ) -> Result<WebhookHealth, WebhookRefusal> {
        let cursor = match start {
            WebhookStart::After(sequence) => sequence,
            WebhookStart::Now => {
                self.number_all(scope).await?;
                self.0.db.begin_in(scope).await?.feed_last().await?.unwrap_or(0)
            }
        };
        let (id, secret) = (Uuid::new_v4(), WebhookSecret::generate());
        let mut tx = self.0.db.begin_webhooks(scope).await?;
        let limit = self.0.webhooks.max_per_partition;
        if tx.webhook_count().await? >= i64::try_from(limit).unwrap_or(i64::MAX) {
            return Err(WebhookRefusal::TooMany { limit });
        }
        tx.webhook_create(id, settings, &secret, cursor).await?;
        tx.audit_note("webhook", id.simple().to_string());
        tx.commit().await?;
        tracing::info!(partition = %scope.partition(), webhook = %id, "webhook added");
        self.0.webhook_news.tell(scope);
        Ok(self.webhook(scope, id).await?)
    }

    /// A page of the webhooks of a partition, in the order in which they came into being.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn webhooks(
        &self,
        scope: &PartitionScope,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<WebhookHealth>, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let found = tx.webhooks(limit, offset).await?;
        let last = tx.feed_last().await?;
        Ok(found.into_iter().map(|counted| health(counted, last)).collect())
    }

    /// A webhook.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn webhook(
        &self,
        scope: &PartitionScope,
        id: Uuid,
    ) -> Result<WebhookHealth, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let counted = tx.webhook(id).await?.ok_or(ArchiveError::NotFound)?;
        Ok(health(counted, tx.feed_last().await?))
    }

    /// Changes what is said of a webhook.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn change_webhook(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        change: impl FnOnce(&mut WebhookSettings) + Send,
    ) -> Result<WebhookHealth, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let mut settings = tx.webhook_lock(id).await?.ok_or(ArchiveError::NotFound)?.settings;
        change(&mut settings);
        tx.webhook_change(id, &settings).await?;
        tx.commit().await?;
        self.0.webhook_news.tell(scope);
        self.webhook(scope, id).await
    }

    /// Removes a webhook and its dead letters. A message that is being sent may still arrive.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn remove_webhook(
        &self,
        scope: &PartitionScope,
        id: Uuid,
    ) -> Result<(), ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook_lock(id).await?.ok_or(ArchiveError::NotFound)?;
        tx.dead_letters_remove(id, None).await?;
        tx.webhook_remove(id).await?;
        tx.commit().await?;
        tracing::info!(partition = %scope.partition(), webhook = %id, "webhook removed");
        Ok(())
    }

    /// Gives a webhook another secret, and says until when messages are signed with the one before
    /// as well.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn rotate_webhook_secret(
        &self,
        scope: &PartitionScope,
        id: Uuid,
    ) -> Result<(WebhookSecret, OffsetDateTime), ArchiveError> {
        let secret = WebhookSecret::generate();
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook_lock(id).await?.ok_or(ArchiveError::NotFound)?;
        let until = tx.webhook_rotate(id, &secret, self.0.webhooks.secret_overlap).await?;
        tx.commit().await?;
        Ok((secret, until))
    }

    /// A page of the dead letters of a webhook, ascending.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn dead_letters(
        &self,
        scope: &PartitionScope,
        webhook: Uuid,
        page: (i64, i64),
    ) -> Result<Vec<(DeadLetter, LetterRest)>, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook(webhook).await?.ok_or(ArchiveError::NotFound)?;
        let letters = tx.dead_letters(webhook, page).await?;
        let first = tx.feed_first().await?;
        let with_rest = |letter: DeadLetter| {
            let rest = rest(&letter, first);
            (letter, rest)
        };
        Ok(letters.into_iter().map(with_rest).collect())
    }

    /// A dead letter by its last sequence.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn dead_letter(
        &self,
        scope: &PartitionScope,
        webhook: Uuid,
        last: i64,
    ) -> Result<(DeadLetter, LetterRest), ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let letter = tx.dead_letter(webhook, last).await?.ok_or(ArchiveError::NotFound)?;
        let first = tx.feed_first().await?;
        let rest = rest(&letter, first);
        Ok((letter, rest))
    }

    /// Has one dead letter, or all of a webhook, tried once more, in order and before what the feed
    /// has; says how many.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn replay_dead_letters(
        &self,
        scope: &PartitionScope,
        webhook: Uuid,
        one: Option<i64>,
    ) -> Result<u64, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook_lock(webhook).await?.ok_or(ArchiveError::NotFound)?;
        let count = tx.dead_letters_replay(webhook, one).await?;
        if one.is_some() && count == 0 {
            return Err(ArchiveError::NotFound);
        }
        tx.commit().await?;
        self.0.webhook_news.tell(scope);
        Ok(count)
    }

    /// Removes a dead letter.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn remove_dead_letter(
        &self,
        scope: &PartitionScope,
        webhook: Uuid,
        last: i64,
    ) -> Result<(), ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook_lock(webhook).await?.ok_or(ArchiveError::NotFound)?;
        if tx.dead_letters_remove(webhook, Some(last)).await? == 0 {
            return Err(ArchiveError::NotFound);
        }
        Ok(tx.commit().await?)
    }
}

fn health((webhook, dead_letters): (Webhook, i64), last: Option<i64>) -> WebhookHealth {
    let lag = last.unwrap_or(0).saturating_sub(webhook.cursor).max(0);
    WebhookHealth { webhook, lag, dead_letters }
}

/// What is left of a letter in a feed that begins with `first`.
fn rest(letter: &DeadLetter, first: Option<i64>) -> LetterRest {
    match first {
        Some(first) if first <= letter.first => LetterRest::All,
        Some(first) if first <= letter.last => LetterRest::Some,
        _ => LetterRest::Nothing,
    }
}
