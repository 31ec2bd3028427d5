//! Events of the audit log: written in the transaction of a change, or by themselves.
//!
//! A change is on the record because of how transactions end: [`PartitionTx::commit`] writes the
//! event of a scope whose deed changes something, in one more statement, before it commits. So there
//! is no change without its record, and no record of a change that was taken back. What the change
//! did is noted on the way ([`PartitionTx::audit_note`]); where one transaction serves several
//! requests (Store), each has an event of its own ([`PartitionTx::audit_deed`]).
//!
//! Holds: the application adds to `audit_event` and reads it, and has no right to more. Absent: the
//! chain (`audit_chain`), reading (`audit_view`).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{IndexError, PartitionTx, RegistryTx, db::Statement};
use crate::{
    audit::Event,
    tenancy::{Deed, PartitionId},
};

const INSERT: &str = "-- audit_insert
    WITH events AS (
        INSERT INTO audit_event (partition_id, event_id, occurred_at, issuer, subject, action,
            outcome, study_instance_uid, request_id, record)
        SELECT $1, * FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
        ON CONFLICT (partition_id, event_id) DO NOTHING
        RETURNING event_id)
    INSERT INTO audit_pending (partition_id, event_id) SELECT $1, event_id FROM events
    RETURNING pending_id";

pub(super) const STATEMENTS: &[&str] = &[INSERT];

/// What a transaction has to tell when it commits.
#[derive(Default)]
pub(super) struct Ledger {
    /// It changes nothing that a request asked for.
    is_silent: bool,
    /// Of the scope's own deed.
    detail: Map<String, Value>,
    /// Of deeds of several requests.
    events: Vec<(Arc<Deed>, Event)>,
}

/// Partitions in which events wait for their place in the chain, as far as this server put them
/// there. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Unchained(Arc<(Mutex<BTreeSet<PartitionId>>, Arc<Notify>)>);

impl Unchained {
    /// Notes a partition, and wakes who chains.
    pub fn note(&self, partition: &PartitionId) {
        let mut noted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.insert(partition.clone()) {
            self.0.1.notify_one();
        }
    }

    /// Notes a partition again that could not be dealt with, and wakes nobody: it is tried when there
    /// is something else, or when its time comes.
    pub fn put_back(&self, partition: &PartitionId) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone());
    }

    /// Takes what was noted.
    pub fn take(&self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Woken when there is something to take.
    pub fn wake(&self) -> Arc<Notify> {
        self.0.1.clone()
    }
}

impl PartitionTx {
    /// Says something of the change, under a name, in the event that [`PartitionTx::commit`] writes.
    pub fn audit_note(&mut self, name: &str, value: impl Into<Value>) {
        self.ledger.detail.insert(name.to_owned(), value.into());
    }

    /// An event of its own for a request among those that the transaction serves, in place of that
    /// of the scope.
    pub fn audit_deed(&mut self, deed: &Arc<Deed>, event: Event) {
        self.ledger.events.push((deed.clone(), event));
    }

    /// Says that what is committed was asked for by nobody, though a request came upon it.
    pub fn audit_nothing(&mut self) {
        self.ledger.is_silent = true;
    }

    /// Writes the events of the transaction; the deeds are on the record once it is committed.
    pub(super) async fn audit_write(&mut self) -> Result<Vec<Arc<Deed>>, IndexError> {
        let Ledger { is_silent, detail, events } = std::mem::take(&mut self.ledger);
        let mut events = events;
        let of_scope = self.scoped().scope().deed().filter(|deed| deed.permission.changes());
        if let Some(deed) = of_scope.filter(|_| events.is_empty() && !is_silent).cloned() {
            let mut event = Event::of(&deed, self.partition(), OffsetDateTime::now_utc());
            event.detail = detail;
            events.push((deed, event));
        }
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (deeds, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        self.audit_insert(&events).await?;
        Ok(deeds)
    }

    /// Writes events of this partition. Those that are there already stay as they are.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is written before [`PartitionTx::commit`].
    pub async fn audit_insert(&mut self, events: &[Event]) -> Result<(), IndexError> {
        let (query, conn) = self.statement(INSERT);
        bind(query, events).execute(conn).await?;
        Ok(())
    }
}

impl RegistryTx {
    /// As [`RegistryTx::commit`], with the event of a change that a request made to what belongs to
    /// no partition, in the log of `partition`.
    ///
    /// # Errors
    /// As [`RegistryTx::commit`].
    pub async fn commit_for(
        self,
        deed: Option<&Arc<Deed>>,
        partition: &PartitionId,
        tell: impl FnOnce(&mut Event) + Send,
    ) -> Result<(), IndexError> {
        self.commit_beside(deed, partition, tell).await?;
        if let Some(deed) = deed {
            deed.note_recorded();
        }
        Ok(())
    }

    /// As [`RegistryTx::commit_for`], of a change that is not the one that was asked for.
    ///
    /// # Errors
    /// As [`RegistryTx::commit`].
    pub async fn commit_beside(
        mut self,
        deed: Option<&Arc<Deed>>,
        partition: &PartitionId,
        tell: impl FnOnce(&mut Event) + Send,
    ) -> Result<(), IndexError> {
        let Some(deed) = deed else { return self.commit().await };
        let mut event = Event::of(deed, partition, OffsetDateTime::now_utc());
        tell(&mut event);
        // The registry's role reaches no tenant table; what is left of the transaction is this.
        let roles = [
            "SET LOCAL ROLE collimator_tenant".to_owned(),
            format!("SET LOCAL collimator.scope = '{}'", partition.as_str()),
        ];
        for set in roles {
            let (_, conn) = self.statement(INSERT);
            sqlx::raw_sql(AssertSqlSafe(set)).execute(conn).await?;
        }
        let (query, conn) = self.statement(INSERT);
        bind(query.bind(partition.as_str().to_owned()), &[event]).execute(conn).await?;
        let unchained = self.unchained.clone();
        self.commit().await?;
        unchained.note(partition);
        Ok(())
    }
}

fn bind(query: Statement, events: &[Event]) -> Statement {
    let texts = |of: fn(&Event) -> Option<&str>| -> Vec<Option<String>> {
        events.iter().map(|event| of(event).map(str::to_owned)).collect()
    };
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let times: Vec<OffsetDateTime> = events.iter().map(|event| event.at).collect();
    let records: Vec<String> = events.iter().map(Event::record).collect();
    query
        .bind(ids)
        .bind(times)
        .bind(texts(|event| event.who.issuer.as_deref()))
        .bind(texts(|event| event.who.subject.as_deref()))
        .bind(texts(|event| Some(&event.action)))
        .bind(texts(|event| Some(event.outcome.as_str())))
        .bind(texts(|event| event.study.as_deref()))
        .bind(texts(|event| Some(&*event.request).filter(|id| !id.is_empty())))
        .bind(records)
}
