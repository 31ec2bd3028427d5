//! The keeper of the audit log: gives events their places in the chain, and removes what is older than
//! `audit.retention`.
//!
//! Partitions in which this server put events are visited as soon as it did, and all of them now and
//! then, for what a killed server left. Holds: what a receiver has yet to be sent is not removed; a
//! partition that fails keeps no other one waiting.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Done, Worker, WorkerError, partitions};
use crate::{
    config::AuditConfig,
    index::{Db, Unchained},
    telemetry::names,
    tenancy::{PartitionId, Scope},
};

/// Events chained or removed in one transaction.
const BATCH: i64 = 500;
/// Transactions of each kind for one partition in one round.
const BATCHES: usize = 20;
/// Time that what is to be chained waits for more.
const GATHER: Duration = Duration::from_millis(500);
/// Time between two rounds over all partitions.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// Time between two rounds of retention.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// Chains and removes events.
pub struct Audit {
    db: Db,
    config: AuditConfig,
    /// Receivers, by the names that their positions have.
    targets: Vec<&'static str>,
    /// Told of what was chained.
    chained: Unchained,
    due: Mutex<Due>,
}

#[derive(Default)]
struct Due {
    all_at: Option<Instant>,
    forget_at: Option<Instant>,
}

impl Due {
    /// Whether all partitions are to be visited, and whether retention is. That is never without
    /// all: it would pass by the partitions in which nothing happens.
    fn come(&mut self, now: Instant) -> (bool, bool) {
        let has_come = |at: &mut Option<Instant>, every: Duration| {
            let is_due = at.is_none_or(|at| at <= now);
            if is_due {
                *at = Some(now + every);
            }
            is_due
        };
        let all = has_come(&mut self.all_at, ALL_EVERY);
        (all, all && has_come(&mut self.forget_at, FORGET_EVERY))
    }
}

impl Audit {
    /// A keeper by `[audit]`. `targets`: whom the log is sent to; `chained` is told where there is
    /// something to send.
    pub fn new(
        db: Db,
        config: &AuditConfig,
        targets: Vec<&'static str>,
        chained: Unchained,
    ) -> Self {
        Self { db, config: config.clone(), targets, chained, due: Mutex::default() }
    }

    /// Woken when there is something to chain.
    pub fn wake(&self) -> Arc<Notify> {
        self.db.unchained().wake()
    }

    async fn chain(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        for _ in 0..BATCHES {
            if !self.db.begin_in(&scope).await?.audit_pending().await? {
                return Ok(());
            }
            let mut tx = self.db.begin_chaining(&scope).await?;
            let count = tx.audit_chain(BATCH).await?;
            tx.commit().await?;
            self.chained.note(id);
            metrics::counter!(names::AUDIT_CHAINED).increment(count);
        }
        self.db.unchained().note(id);
        done.more = true;
        Ok(())
    }

    async fn forget(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        let own = self.config.partition_retention.get(id).copied();
        let age = own.unwrap_or(self.config.retention);
        if age.is_zero() {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        for _ in 0..BATCHES {
            let mut tx = self.db.begin_chaining(&scope).await?;
            let mut up_to = i64::MAX;
            for target in &self.targets {
                up_to = up_to.min(tx.audit_export_position(target).await?);
            }
            let gone = tx.audit_forget(age, up_to, BATCH as i32).await?;
            tx.commit().await?;
            done.items += gone;
            if gone > 0 {
                self.db.unchained().note(id);
            }
            if gone < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn visit(
        &self,
        id: &PartitionId,
        forgets: bool,
        done: &mut Done,
    ) -> Result<(), WorkerError> {
        self.chain(id, done).await?;
        if forgets {
            self.forget(id, done).await?;
        }
        Ok(())
    }
}

impl Worker for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        // Whatever woke this is followed by more: a chain is made in one transaction for all of it.
        tokio::time::sleep(GATHER).await;
        let now = Instant::now();
        let (all, forgets) = self.due.lock().unwrap_or_else(PoisonError::into_inner).come(now);
        let (mut done, mut failed) = (Done::default(), None);
        let unchained = self.db.unchained();
        let noted: BTreeSet<PartitionId> = unchained.take();
        let visited = match all {
            true => with_platform(&self.db).await,
            false => Ok(Vec::from_iter(noted.clone())),
        };
        let visited = visited.inspect_err(|_| noted.iter().for_each(|id| unchained.put_back(id)));
        for id in visited? {
            if let Err(error) = self.visit(&id, forgets, &mut done).await {
                // Sooner than with all others, and not at once: who runs this waits after a failure.
                unchained.put_back(&id);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(done), Err)
    }
}

/// All partitions and the platform; the default partition also before it holds anything.
pub(super) async fn with_platform(db: &Db) -> Result<Vec<PartitionId>, WorkerError> {
    let mut ids = partitions(db).await?;
    ids.push(PartitionId::platform());
    if !ids.iter().any(PartitionId::is_default) {
        ids.push(PartitionId::default());
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_comes_to_quiet_partitions_too() {
        let (mut due, start) = (Due::default(), Instant::now());
        let mut rounds = Vec::new();
        // What is stored wakes the worker at any time, also when only retention would be due.
        for second in [0, 30, 65, 590, 610, 640, 660, 1300] {
            rounds.push(due.come(start + Duration::from_secs(second)));
        }
        let (all, none, forgets) = ((true, false), (false, false), (true, true));
        assert_eq!(rounds, [forgets, none, all, all, none, none, forgets, forgets]);
    }
}
