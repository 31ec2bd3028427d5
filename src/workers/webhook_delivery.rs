//! One delivery: messages of one webhook, one after the other, until there is nothing left or its
//! time is up.
//!
//! Holds: which events a message has is written down before it is sent, and what became of it
//! afterwards, each in one transaction; so a message keeps its id and its range until it is
//! delivered or given up, and nothing behind it is sent before. Memory holds one message. Absent:
//! who is due (`webhooks`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use uuid::Uuid;

use super::back_off;
use crate::{
    archive::{EntryStyle, entry},
    config::WebhooksConfig,
    index::{
        Db, DeadLetter, Disabled, FeedEvent, FeedRange, IndexError, PartitionTx, Settled, Taken,
        Webhook,
    },
    outbound::{Failure, Message, Sender},
    telemetry::names,
    tenancy::PartitionScope,
};

/// Time for one webhook before others get its place.
const BITE: Duration = Duration::from_secs(10);
/// Time between two signs of life while an answer is waited for: several in a lease.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Transactions of deliveries at a time: most of the pool is for requests.
const AT_ONCE: usize = 2;
/// Pages of the feed without an event to be told that are passed over in one transaction.
const PAGES: usize = 10;
/// Events numbered in one transaction.
const NUMBERED: i64 = 1_000;
/// Why a dead letter is not sent of which nothing is left that the webhook is told of.
const REMOVED: &str = "removed";

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Delivery(Arc<Inner>);

struct Inner {
    db: Db,
    sender: Sender,
    config: WebhooksConfig,
    style: EntryStyle,
    /// Who holds leases.
    owner: Uuid,
    transactions: Semaphore,
}

/// What is sent, and where it comes from.
struct Batch {
    webhook: Webhook,
    id: String,
    body: Bytes,
    /// The first and the last sequence of its range.
    range: (i64, i64),
    events: i32,
    /// The dead letter that is tried once more.
    letter: Option<i64>,
}

/// What there is to do.
enum Next {
    Send(Box<Batch>),
    /// Nothing just now.
    Nothing,
    /// Pages were passed over: there may be more.
    Again,
}

impl Delivery {
    pub(super) fn new(db: Db, sender: Sender, config: &WebhooksConfig, partitions: bool) -> Self {
        let style = EntryStyle { partitions, capitals: false };
        let (owner, transactions) = (Uuid::new_v4(), Semaphore::new(AT_ONCE));
        let config = config.clone();
        Self(Arc::new(Inner { db, sender, config, style, owner, transactions }))
    }

    /// Sends what there is for a webhook, in order.
    pub(super) async fn run(&self, scope: &PartitionScope, id: Uuid) -> Result<(), IndexError> {
        let (begun, mut replays) = (Instant::now(), false);
        while begun.elapsed() < BITE {
            self.number(scope).await?;
            // In turns, so that neither waits for the other.
            replays = !replays;
            match self.next(scope, id, replays).await? {
                Next::Again => {}
                // Nothing is held.
                Next::Nothing => return Ok(()),
                Next::Send(batch) => {
                    let Some(sent) = self.send(scope, &batch).await? else { return Ok(()) };
                    if !self.settle(scope, &batch, sent).await? {
                        return Ok(());
                    }
                }
            }
        }
        self.release(scope, id).await
    }

    /// Lets others send to a webhook.
    pub(super) async fn release(&self, scope: &PartitionScope, id: Uuid) -> Result<(), IndexError> {
        let _turn = self.turn().await;
        let mut tx = self.0.db.begin_in(scope).await?;
        tx.webhook_release(id, self.0.owner).await?;
        tx.commit().await
    }

    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.transactions.acquire().await.ok()
    }

    /// Gives numbers to events that have none.
    async fn number(&self, scope: &PartitionScope) -> Result<(), IndexError> {
        let _turn = self.turn().await;
        if self.0.db.begin_in(scope).await?.feed_pending().await? {
            let mut tx = self.0.db.begin_numbering(scope).await?;
            tx.feed_number(NUMBERED).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes the webhook and writes down what is to be sent; a dead letter first where `replays` says
    /// so, or there is nothing else.
    async fn next(
        &self,
        scope: &PartitionScope,
        id: Uuid,
        replays: bool,
    ) -> Result<Next, IndexError> {
        let _turn = self.turn().await;
        let owner = self.0.owner;
        let mut tx = self.0.db.begin_in(scope).await?;
        let Some(webhook) = tx.webhook_lock(id).await? else { return Ok(Next::Nothing) };
        let is_held = webhook.holder.is_some_and(|holder| holder != owner);
        if is_held || !webhook.settings.is_enabled {
            if !is_held && webhook.holder.is_some() {
                tx.webhook_release(id, owner).await?;
                tx.commit().await?;
            }
            return Ok(Next::Nothing);
        }
        let same = Taken {
            cursor: webhook.cursor,
            batch_until: webhook.batch_until,
            attempts: webhook.attempts,
            lost: webhook.lost,
        };
        if (replays || !webhook.is_due)
            && let Some(letter) = tx.dead_letter_to_replay(id).await?
        {
            let next = self.replay(&mut tx, webhook, &letter).await?;
            if matches!(next, Next::Send(_)) {
                tx.webhook_take(id, owner, &same).await?;
            }
            tx.commit().await?;
            return Ok(next);
        }
        let (next, taken) = match webhook.is_due {
            true => self.batch(&mut tx, webhook.clone()).await?,
            false => (Next::Nothing, same),
        };
        match &next {
            Next::Send(_) | Next::Again => tx.webhook_take(id, owner, &taken).await?,
            Next::Nothing if taken != same => {
                tx.webhook_take(id, owner, &taken).await?;
                tx.webhook_release(id, owner).await?;
            }
            Next::Nothing if webhook.holder.is_some() => tx.webhook_release(id, owner).await?,
            Next::Nothing => return Ok(next),
        }
        tx.commit().await?;
        Ok(next)
    }

    /// A dead letter once more; where its events are gone, that is all there is to say.
    async fn replay(
        &self,
        tx: &mut PartitionTx,
        webhook: Webhook,
        letter: &DeadLetter,
    ) -> Result<Next, IndexError> {
        let limit = letter.last - letter.first + 1;
        let (events, _) = tx.feed_page(&pages(letter.first - 1, letter.last, limit)).await?;
        let told = self.told(&webhook, &events);
        if told.is_empty() {
            tx.dead_letter_failed(webhook.id, letter.last, (REMOVED, None)).await?;
            return Ok(Next::Again);
        }
        let range = (letter.first, letter.last);
        Ok(Next::Send(Box::new(self.message(webhook, told, range, Some(letter.last)))))
    }

    /// The message that was begun, or the next one.
    async fn batch(
        &self,
        tx: &mut PartitionTx,
        mut webhook: Webhook,
    ) -> Result<(Next, Taken), IndexError> {
        let taken = |webhook: &Webhook, attempts| Taken {
            cursor: webhook.cursor,
            batch_until: webhook.batch_until,
            attempts,
            lost: webhook.lost,
        };
        for _ in 0..PAGES {
            let begun = webhook.batch_until;
            let up_to = begun.unwrap_or(i64::MAX);
            let limit = begun.map_or(i64::from(self.0.config.batch), |end| end - webhook.cursor);
            let (events, _) = tx.feed_page(&pages(webhook.cursor, up_to, limit)).await?;
            let ends = events.first().map(|event| event.sequence);
            let ends = ends.zip(events.last().map(|event| event.sequence));
            let Some((first, last)) = ends else {
                // Nothing more, or nothing left of what was begun.
                if let Some(end) = begun {
                    webhook.lost += end - webhook.cursor;
                    (webhook.cursor, webhook.batch_until) = (end, None);
                    continue;
                }
                return Ok((Next::Nothing, taken(&webhook, 0)));
            };
            // Sequences have no holes: what is not there has left the feed.
            webhook.lost += first - 1 - webhook.cursor;
            webhook.cursor = first - 1;
            let last = begun.unwrap_or(last);
            let told = self.told(&webhook, &events);
            if told.is_empty() {
                (webhook.cursor, webhook.batch_until) = (last, None);
                continue;
            }
            let attempts = if begun.is_some() { webhook.attempts + 1 } else { 1 };
            (webhook.batch_until, webhook.attempts) = (Some(last), attempts);
            let taken = taken(&webhook, attempts);
            let range = (first, last);
            return Ok((Next::Send(Box::new(self.message(webhook, told, range, None))), taken));
        }
        Ok((Next::Again, taken(&webhook, 0)))
    }

    /// The entries of those events that the webhook is told of.
    fn told(&self, webhook: &Webhook, events: &[FeedEvent]) -> Vec<(Value, String)> {
        let wanted = events.iter().filter(|event| webhook.settings.actions.contains(&event.action));
        wanted
            .map(|event| {
                let at = event.occurred_at.format(&Rfc3339).unwrap_or_default();
                (entry(event, event.sequence, self.0.style), at)
            })
            .collect()
    }

    fn message(
        &self,
        webhook: Webhook,
        told: Vec<(Value, String)>,
        range: (i64, i64),
        letter: Option<i64>,
    ) -> Batch {
        let (first, last) = range;
        let events = i32::try_from(told.len()).unwrap_or(i32::MAX);
        let timestamp = told.last().map_or_else(String::new, |(_, at)| at.clone());
        let entries: Vec<Value> = told.into_iter().map(|(entry, _)| entry).collect();
        let body = json!({
            "type": "changefeed.events",
            "timestamp": timestamp,
            "data": {
                "webhookId": webhook.id.simple().to_string(),
                "firstSequence": first,
                "lastSequence": last,
                "lostEvents": webhook.lost,
                "events": entries,
            },
        });
        let id = format!("msg_{}_{}_{first}_{last}", webhook.id.simple(), webhook.revision);
        Batch { id, body: Bytes::from(body.to_string()), range, events, letter, webhook }
    }

    /// Sends a message once, and gives signs of life meanwhile. `None`: the webhook is another's
    /// now, or gone.
    async fn send(
        &self,
        scope: &PartitionScope,
        batch: &Batch,
    ) -> Result<Option<Result<(), Failure>>, IndexError> {
        let webhook = &batch.webhook;
        let (url, secrets) = (&webhook.settings.url, webhook.secrets());
        let message = Message { url, id: &batch.id, secrets: &secrets, body: &batch.body };
        let mut sent = std::pin::pin!(self.0.sender.send(&message));
        loop {
            if let Ok(sent) = tokio::time::timeout(HEARTBEAT, &mut sent).await {
                return Ok(Some(sent));
            }
            let _turn = self.turn().await;
            let mut tx = self.0.db.begin_in(scope).await?;
            if !tx.webhook_renew(webhook.id, self.0.owner).await? {
                return Ok(None);
            }
            tx.commit().await?;
        }
    }

    /// Writes down what became of a message; whether the next one may follow at once.
    async fn settle(
        &self,
        scope: &PartitionScope,
        batch: &Batch,
        sent: Result<(), Failure>,
    ) -> Result<bool, IndexError> {
        let _turn = self.turn().await;
        let id = batch.webhook.id;
        let mut tx = self.0.db.begin_in(scope).await?;
        let Some(webhook) = tx.webhook_lock(id).await? else { return Ok(false) };
        if webhook.holder != Some(self.0.owner) {
            return Ok(false);
        }
        let mut settled = Settled {
            cursor: webhook.cursor,
            batch_until: webhook.batch_until,
            attempts: webhook.attempts,
            dead_in_row: webhook.dead_in_row,
            wait: None,
            disabled: None,
            failure: None,
        };
        let (first, last) = batch.range;
        let host = url::Url::parse(&batch.webhook.settings.url).ok();
        let host = host.as_ref().and_then(url::Url::host_str).unwrap_or_default();
        match sent {
            Ok(()) => {
                settled.dead_in_row = 0;
                match batch.letter {
                    Some(letter) => _ = tx.dead_letters_remove(id, Some(letter)).await?,
                    None => {
                        settled = Settled { wait: Some(Duration::ZERO), ..passed(settled, last) }
                    }
                }
                metrics::counter!(names::WEBHOOK_EVENTS)
                    .increment(batch.events.unsigned_abs().into());
            }
            Err(failure) => {
                let why = (failure.reason.as_str(), failure.status);
                let partition = scope.partition();
                let (reason, status) = why;
                tracing::info!(%partition, webhook = %id, host, reason, status, attempt = webhook.attempts, "not delivered");
                settled.failure = Some(why);
                if failure.is_gone() {
                    settled.disabled = Some(Disabled::Gone);
                }
                match batch.letter {
                    Some(letter) => tx.dead_letter_failed(id, letter, why).await?,
                    None if failure.is_gone() => settled.wait = Some(Duration::ZERO),
                    None if webhook.attempts.unsigned_abs() < self.0.config.max_attempts => {
                        settled.wait = Some(self.wait(webhook.attempts.unsigned_abs(), &failure));
                    }
                    None => {
                        let letter = DeadLetter {
                            first,
                            last,
                            events: batch.events,
                            reason: reason.to_owned(),
                            status: status.map(u16::cast_signed),
                            attempts: webhook.attempts,
                            first_attempt_at: webhook.first_attempt_at,
                            failed_at: None,
                            is_to_replay: false,
                        };
                        settled = self.given_up(&mut tx, id, &letter, settled).await?;
                    }
                }
                if let Some(disabled) = settled.disabled {
                    let because = disabled.as_str();
                    tracing::warn!(%partition, webhook = %id, host, because, "webhook disabled");
                }
            }
        }
        let goes_on = settled.disabled.is_none() && (sent.is_ok() || batch.letter.is_some());
        tx.webhook_settle(id, &settled).await?;
        if !goes_on {
            tx.webhook_release(id, self.0.owner).await?;
        }
        tx.commit().await?;
        Ok(goes_on)
    }

    /// Makes a message a dead letter, and disables the webhook where these are too many.
    async fn given_up<'a>(
        &self,
        tx: &mut PartitionTx,
        id: Uuid,
        letter: &DeadLetter,
        settled: Settled<'a>,
    ) -> Result<Settled<'a>, IndexError> {
        tx.dead_letter_create(id, letter).await?;
        metrics::counter!(names::WEBHOOK_DEAD_LETTERS).increment(1);
        let mut settled = passed(settled, letter.last);
        settled.wait = Some(Duration::ZERO);
        settled.dead_in_row = settled.dead_in_row.saturating_add(1);
        if settled.dead_in_row.unsigned_abs() >= self.0.config.disable_after {
            settled.disabled = Some(Disabled::Failing);
        } else if tx.dead_letters_count(id).await? >= i64::from(self.0.config.max_dead_letters) {
            settled.disabled = Some(Disabled::Full);
        }
        Ok(settled)
    }

    /// The time until the next try, after so many.
    fn wait(&self, attempts: u32, failure: &Failure) -> Duration {
        let config = &self.0.config;
        let wait = back_off(config.retry_first, attempts, config.retry_cap);
        let wait = wait.mul_f64(rand::rng().random_range(0.8..1.2));
        wait.max(failure.retry_after.unwrap_or_default()).min(config.retry_cap)
    }
}

fn pages(after: i64, up_to: i64, limit: i64) -> FeedRange {
    FeedRange { after, up_to, limit, metadata: false }
}

/// With everything up to `last` dealt with.
fn passed(settled: Settled<'_>, last: i64) -> Settled<'_> {
    Settled { cursor: last, batch_until: None, attempts: 0, ..settled }
}
