//! The keeper of the audit log: gives events their places in the chain, and removes what is older than
//! `audit.retention`.
//!
//! Partitions in which this server put events are visited as soon as it did, and all of them now and
//! then, for what a killed server left. Holds: what a receiver has yet to be sent is not removed.

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

struct Due {
    all_at: Option<Instant>,
    forget_at: Option<Instant>,
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
        let due = Mutex::new(Due { all_at: None, forget_at: None });
        Self { db, config: config.clone(), targets, chained, due }
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

    /// Whether all partitions are to be visited, and whether retention is.
    fn is_due(&self) -> (bool, bool) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let has_come = |at: &mut Option<Instant>, every: Duration| {
            let is_due = at.is_none_or(|at| at <= now);
            if is_due {
                *at = Some(now + every);
            }
            is_due
        };
        let Due { all_at, forget_at } = &mut *due;
        (has_come(all_at, ALL_EVERY), has_come(forget_at, FORGET_EVERY))
    }
}

impl Worker for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let (all, forgets) = self.is_due();
        let mut done = Done::default();
        let noted: BTreeSet<PartitionId> = self.db.unchained().take();
        let visited =
            if all { with_platform(&self.db).await } else { Ok(Vec::from_iter(noted.clone())) };
        let worked = async {
            for id in visited? {
                self.chain(&id, &mut done).await?;
                if forgets {
                    self.forget(&id, &mut done).await?;
                }
            }
            Ok(())
        };
        if let Err(error) = worked.await {
            // Sooner than with all others.
            noted.iter().for_each(|id| self.db.unchained().note(id));
            return Err(error);
        }
        Ok(done)
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
