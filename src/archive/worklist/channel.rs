//! Channels by which events of workitems are told (PS3.18 §8.10.4), by whichever server was asked.
//!
//! All channels of this process share one look at the index, every [`TICK`]: how far the events are of
//! those Application Entities that have one. While there is none nothing is asked. (For why it is no
//! `LISTEN`, see `feed_watch`.) Holds: events are told in the order of their sequences, and forgotten
//! once they were taken: who breaks off is told them again. The channel that was opened last has the
//! events; the one before ends at the next look. Absent: WebSockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::WorkitemRefusal;
use crate::{
    archive::{Archive, ArchiveError},
    dicom::{
        AeTitle,
        ups::events::{GLOBAL, ScpStatus, message, scp_status},
    },
    index::{Db, IndexError, LockedSubscriber, OpenChannel, PartitionTx},
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Time between two looks, at least.
const TICK: Duration = Duration::from_millis(50);
/// How many times as long as a look takes the rest after it is, at least.
const PAUSE: u32 = 4;
/// Rest after a look that failed.
const FAILED: Duration = Duration::from_secs(1);
/// Events that are read at a time.
const PAGE: i64 = 100;

/// Channels of this process.
pub struct Channels(Arc<Inner>);

struct Inner {
    db: Db,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    channels: HashMap<Uuid, (PartitionScope, watch::Sender<Beat>)>,
    /// Whether somebody looks.
    is_watched: bool,
}

/// What the last look has shown of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beat {
    /// The sequence of the newest event; 0 before the first look.
    Last(i64),
    /// It is the channel of its Application Entity no more.
    Lost,
}

impl Channels {
    /// None yet.
    pub fn new(db: Db) -> Self {
        Self(Arc::new(Inner { db, open: Mutex::default() }))
    }

    fn join(&self, scope: &PartitionScope, id: Uuid) -> watch::Receiver<Beat> {
        let (sender, receiver) = watch::channel(Beat::Last(0));
        let mut open = self.0.lock();
        open.channels.insert(id, (scope.clone(), sender));
        if !open.is_watched {
            open.is_watched = true;
            tokio::spawn(look(self.0.clone()));
        }
        receiver
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that is done under the lock can be left half-done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks until there is no channel any more.
async fn look(inner: Arc<Inner>) {
    loop {
        let scope = {
            let mut open = inner.lock();
            open.channels.retain(|_, (_, channel)| channel.receiver_count() > 0);
            if open.channels.is_empty() {
                open.is_watched = false;
                return;
            }
            Scope::union(open.channels.values().map(|(scope, _)| &**scope))
        };
        // What joins from here on is not spoken of by this look.
        let asked: Vec<Uuid> = inner.lock().channels.keys().copied().collect();
        let begun = Instant::now();
        match seen(&inner.db, &scope).await {
            Ok(found) => {
                publish(&inner.lock(), &asked, &scope, &found);
                tokio::time::sleep(TICK.max(begun.elapsed() * PAUSE)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "who has an event channel is not told of events just now");
                tokio::time::sleep(FAILED).await;
            }
        }
    }
}

async fn seen(db: &Db, scope: &Scope) -> Result<Vec<OpenChannel>, IndexError> {
    db.begin(scope).await?.workitem_channels().await
}

/// Wakes the channels for which there is something new.
fn publish(open: &Open, asked: &[Uuid], looked: &Scope, found: &[OpenChannel]) {
    let of: HashMap<(&PartitionId, Uuid), i64> =
        found.iter().map(|one| ((&one.partition, one.id), one.last)).collect();
    for id in asked {
        let Some((scope, channel)) = open.channels.get(id) else { continue };
        if !looked.partitions().contains(scope.partition()) {
            continue;
        }
        let beat = of.get(&(scope.partition(), *id)).map_or(Beat::Lost, |last| Beat::Last(*last));
        channel.send_if_modified(|was| std::mem::replace(was, beat) != beat);
    }
}

/// What a channel sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Messages, and the sequence of the last event among them.
    Messages(Vec<String>, i64),
    /// Nothing any more: another channel was opened.
    Lost,
}

/// An open channel of an Application Entity.
pub struct EventChannel {
    archive: Archive,
    scope: PartitionScope,
    aetitle: AeTitle,
    id: Uuid,
    beats: watch::Receiver<Beat>,
    /// The sequence of the last event that was told.
    told: i64,
    /// Whether the server was away since it was told something.
    was_away: bool,
    /// Whether all there was has been read.
    is_at_end: bool,
}

impl Archive {
    /// Opens the channel of an Application Entity, in place of the one that it had.
    ///
    /// # Errors
    /// [`WorkitemRefusal::TooMany`], [`WorkitemRefusal::Archive`].
    pub async fn open_event_channel(
        &self,
        scope: &PartitionScope,
        aetitle: &AeTitle,
    ) -> Result<EventChannel, WorkitemRefusal> {
        let id = Uuid::new_v4();
        let mut tx = self.0.db.begin_worklist(scope).await?;
        let LockedSubscriber { told, is_down, .. } =
            self.known_subscriber(&mut tx, aetitle).await?;
        tx.event_channel_open(aetitle, id).await?;
        tx.commit().await?;
        let beats = self.0.event_channels.join(scope, id);
        Ok(EventChannel {
            archive: self.clone(),
            scope: scope.clone(),
            aetitle: aetitle.clone(),
            id,
            beats,
            told,
            was_away: is_down,
            is_at_end: false,
        })
    }
}

impl EventChannel {
    /// Waits until there may be something to be read.
    pub async fn ready(&mut self) {
        if self.is_at_end {
            // That nobody looks any more is told by [`EventChannel::read`].
            let _ = self.beats.changed().await;
        }
    }

    /// What is to be sent next. What it returned and [`EventChannel::took`] did not confirm, it
    /// returns again.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn read(&mut self) -> Result<Telling, ArchiveError> {
        let is_watched = self.beats.has_changed().is_ok();
        if *self.beats.borrow_and_update() == Beat::Lost || !is_watched {
            return Ok(Telling::Lost);
        }
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        let events = tx.workitem_events(&self.aetitle, self.told, PAGE).await?;
        drop(tx);
        self.is_at_end = events.is_empty();
        let last = events.last().map_or(self.told, |event| event.sequence);
        // What is missing was dropped: who is told so looks for himself.
        let has_gap = events.first().is_some_and(|first| first.sequence != self.told + 1);
        let mut messages = Vec::new();
        if self.was_away || has_gap {
            messages.push(message(&scp_status(ScpStatus::Restarted), GLOBAL, 0));
        }
        for event in events {
            if let Some(report) = &event.report {
                messages.push(message(report, &event.workitem, number(event.sequence)));
            }
        }
        Ok(Telling::Messages(messages, last))
    }

    /// Notes that what [`EventChannel::read`] returned was taken; whether the channel goes on.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn took(&mut self, last: i64) -> Result<bool, ArchiveError> {
        self.was_away = false;
        if last == self.told {
            return Ok(true);
        }
        let Some(mut tx) = self.own().await? else { return Ok(false) };
        tx.event_channel_told(&self.aetitle, last).await?;
        tx.commit().await?;
        self.told = last;
        Ok(true)
    }

    /// Closes it; `is_down`: since this server ends, of which its client has been told.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn close(self, is_down: bool) -> Result<(), ArchiveError> {
        if let Some(mut tx) = self.own().await? {
            tx.event_channel_close(&self.aetitle, is_down).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The message that this server ends.
    pub fn going_down() -> String {
        message(&scp_status(ScpStatus::GoingDown), GLOBAL, 0)
    }

    /// A transaction that has locked the Application Entity, where this is its channel still.
    async fn own(&self) -> Result<Option<PartitionTx>, ArchiveError> {
        let mut tx = self.archive.0.db.begin_in(&self.scope).await?;
        let locked = tx.workitem_subscriber_lock(&self.aetitle).await?;
        Ok(locked.is_some_and(|locked| locked.channel == Some(self.id)).then_some(tx))
    }
}

/// Message ID (0000,0110) of an event.
fn number(sequence: i64) -> u16 {
    u16::try_from(sequence & 0xFFFF).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_messages_begin_anew() {
        assert_eq!([1, 65_535, 65_536, 65_537].map(number), [1, 65_535, 0, 1]);
    }
}
