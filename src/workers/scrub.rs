//! The scrubber: looks through each partition as `collimator verify` does, slowly and for ever, so
//! that damage is known before the bytes are wanted.
//!
//! A pass over a partition begins every `scrub.interval` and reads `scrub.rate` bytes a second. Where
//! it is stands in the database, under a lease: it goes on after a restart, and several servers share
//! the partitions. Damage is counted, logged by its ids, and kept in the table `damage` until a later
//! pass does not find it any more. It takes no server out of rotation: what is not damaged is served.
//!
//! Holds: nothing is repaired. Absent: what is looked at (`verify`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Done, Worker, WorkerError, partitions};
use crate::{
    blob::BlobStore,
    config::{ScrubConfig, SweepConfig},
    index::{DamageNote, Db, ScrubPass, ScrubWork},
    telemetry::names,
    tenancy::{PartitionId, PartitionScope, Scope},
    verify::{Checker, Cursor, Finding, Pace, Thoroughness},
};

/// Time for one partition in a round. What is held in memory alone, marks of a feed or a listing, is
/// gone on with to its end.
const BITE: Duration = Duration::from_secs(20);
/// Signs of life while a step takes long: a large blob takes minutes.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The rest after a step that read no bytes, which no rate holds back, so that searches do not feel it:
/// so many times as long as the step took, and no longer than this.
const REST: (u32, Duration) = (9, Duration::from_secs(1));

/// Looks for damage.
#[derive(Debug)]
pub struct Scrub {
    db: Db,
    store: BlobStore,
    /// Who holds claims.
    owner: Uuid,
    rate: u64,
    interval: Duration,
    how: Thoroughness,
}

impl Scrub {
    /// A scrubber by `[scrub]`.
    pub fn new(db: Db, store: BlobStore, config: &ScrubConfig, sweep: &SweepConfig) -> Self {
        let how = Thoroughness { bytes: true, orphan_grace: sweep.orphan_grace };
        let ScrubConfig { interval, rate } = *config;
        Self { db, store, owner: Uuid::new_v4(), rate, interval, how }
    }

    /// Does a bite of the pass over a partition, where one is due.
    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let first = serde_json::json!(Cursor::default()).to_string();
        let mut tx = self.db.begin_in(&scope).await?;
        let work = tx.scrub_claim(self.owner, self.interval, &first).await?;
        tx.commit().await?;
        let pass = match work {
            ScrubWork::Now(pass) => pass,
            ScrubWork::Later(wait) => {
                done.come_back(wait);
                return Ok(());
            }
        };
        // A cursor of another version of the server begins anew.
        let cursor: Cursor = serde_json::from_str(&pass.cursor).unwrap_or_default();
        let pace = Pace::new(Some(self.rate));
        let mut checker =
            Checker::new(&self.db, &self.store, scope.clone(), self.how, pace, cursor);
        let bitten = self.bite(&scope, &pass, &mut checker).await;
        let tally = checker.tally();
        metrics::counter!(names::SCRUB_BYTES).increment(tally.bytes);
        done.items += tally.instances + tally.blobs;
        let is_ended = match bitten {
            Ok(Some(is_ended)) => is_ended,
            Ok(None) => return Ok(()),
            Err(error) => {
                // Others may go on at once; the loop waits before we do.
                let mut tx = self.db.begin_in(&scope).await?;
                tx.scrub_release(&pass, false).await?;
                tx.commit().await?;
                return Err(error);
            }
        };
        let mut tx = self.db.begin_in(&scope).await?;
        let Some(cleared) = tx.scrub_release(&pass, is_ended).await? else { return Ok(()) };
        tx.commit().await?;
        for finding in cleared {
            tracing::info!(partition = %id, %finding, "damage is gone");
        }
        if is_ended {
            tracing::info!(partition = %id, "scrubbed");
            done.come_back(self.interval);
        } else {
            done.more = true;
        }
        Ok(())
    }

    /// Goes on with a pass; says whether it has ended. `None`: the lease was lost.
    async fn bite(
        &self,
        scope: &PartitionScope,
        pass: &ScrubPass,
        checker: &mut Checker,
    ) -> Result<Option<bool>, WorkerError> {
        let begun = Instant::now();
        loop {
            let at = Instant::now();
            let before = checker.tally().bytes;
            let has_more = {
                let mut step = std::pin::pin!(checker.step());
                loop {
                    if let Ok(has_more) = tokio::time::timeout(HEARTBEAT, &mut step).await {
                        break has_more?;
                    }
                    if !self.advance(scope, pass, None, Vec::new()).await? {
                        return Ok(None);
                    }
                }
            };
            let cursor = serde_json::json!(checker.cursor()).to_string();
            let findings = checker.take_findings();
            if !self.advance(scope, pass, Some(&cursor), findings).await? {
                return Ok(None);
            }
            if !has_more {
                return Ok(Some(true));
            }
            let is_in_memory = matches!(checker.cursor(), Cursor::Objects | Cursor::Feed { .. });
            if begun.elapsed() >= BITE && !is_in_memory {
                return Ok(Some(false));
            }
            if checker.tally().bytes == before {
                let (times, longest) = REST;
                tokio::time::sleep(longest.min(at.elapsed() * times)).await;
            }
        }
    }

    /// Notes what was found, and where the pass is; false: the lease was lost, and nothing is noted.
    async fn advance(
        &self,
        scope: &PartitionScope,
        pass: &ScrubPass,
        cursor: Option<&str>,
        findings: Vec<Finding>,
    ) -> Result<bool, WorkerError> {
        let mut notes: BTreeMap<(&'static str, String), DamageNote> = BTreeMap::new();
        for finding in &findings {
            let (kind, subject) = (finding.kind.name(), finding.subject());
            notes.entry((kind, subject.clone())).or_insert_with(|| DamageNote {
                kind,
                subject,
                watermark: finding.watermark,
                blob: finding.blob,
                description: finding.to_string(),
            });
        }
        let mut tx = self.db.begin_in(scope).await?;
        if !tx.scrub_advance(pass, cursor).await? {
            return Ok(false);
        }
        let mut new = BTreeSet::new();
        if !notes.is_empty() {
            let all: Vec<DamageNote> = notes.values().cloned().collect();
            new.extend(tx.damage_note(&all).await?);
        }
        tx.commit().await?;
        let partition = scope.partition();
        for ((kind, subject), note) in notes {
            let is_new = new.contains(&(kind.to_owned(), subject));
            if is_new {
                metrics::counter!(names::DAMAGE_FOUND, names::KIND => kind).increment(1);
            }
            let finding = note.description;
            tracing::error!(%partition, kind, %finding, is_new, "damage");
        }
        Ok(true)
    }
}

impl Worker for Scrub {
    fn name(&self) -> &'static str {
        "scrub"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        for id in partitions(&self.db).await? {
            self.partition(&id, &mut done).await?;
        }
        Ok(done)
    }
}
