//! Storage commitment: checks what somebody asked to have checked.
//!
//! Of each instance that a request references, the bytes are read from the store and hashed, and held
//! against what was noted at Store; a request says which SOP class, and where it says so which study
//! and series, the instance is of. Outcomes are noted in slices under a lease: it goes on after a
//! restart, and several servers share the requests. Holds: one request takes no longer than a bite
//! before others have their turn; what cannot be read for now is no outcome. Absent: what is looked at
//! (`verify`), HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Done, Worker, WorkerError, partitions};
use crate::{
    archive::ToCommit,
    blob::BlobStore,
    config::{CommitmentConfig, SweepConfig},
    index::{CommitmentClaim, Db, Reference, VerifyPlace},
    tenancy::{PartitionId, PartitionScope, Scope},
    verify::{Checker, Cursor, Pace, Thoroughness},
};

/// References that are looked up and checked at once.
const SLICE: i32 = 128;
/// Time for one request before others have their turn.
const BITE: Duration = Duration::from_secs(5);
/// Signs of life while a slice takes long: large blobs take minutes.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time between two looks at all partitions, for what other servers left undone and what is too old.
const LOOK: Duration = Duration::from_secs(45);

/// Failure Reasons (PS3.3 C.14.1.1).
mod reason {
    pub(super) const SAFE: u16 = 0;
    pub(super) const PROCESSING_FAILURE: u16 = 0x0110;
    pub(super) const NO_SUCH_INSTANCE: u16 = 0x0112;
    pub(super) const CLASS_CONFLICT: u16 = 0x0119;
}

/// Checks what is to be committed.
#[derive(Debug)]
pub struct Commit {
    db: Db,
    store: BlobStore,
    /// Who holds claims.
    owner: Uuid,
    keep: Duration,
    rate: u64,
    how: Thoroughness,
    noted: ToCommit,
    /// When all partitions were looked at.
    looked: Mutex<Option<Instant>>,
}

impl Commit {
    /// Checks requests of the partitions that are told of, and now and then of all.
    pub fn new(
        db: Db,
        store: BlobStore,
        config: &CommitmentConfig,
        sweep: &SweepConfig,
        noted: ToCommit,
    ) -> Self {
        let how = Thoroughness { bytes: true, orphan_grace: sweep.orphan_grace };
        let CommitmentConfig { keep, rate, .. } = *config;
        Self { db, store, owner: Uuid::new_v4(), keep, rate, how, noted, looked: Mutex::default() }
    }

    /// Whether it is time to look at all partitions; it is noted then that they are.
    fn is_time(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|at| at.elapsed() >= LOOK);
        if is_time {
            *looked = Some(Instant::now());
        }
        is_time
    }

    /// Does a bite of the oldest request of a partition.
    async fn partition(&self, id: &PartitionId, done: &mut Done) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        let claim = tx.commitment_claim(self.owner).await?;
        tx.commit().await?;
        let Some(mut claim) = claim else { return Ok(()) };
        let bitten = self.bite(&scope, &mut claim, done).await;
        if !matches!(bitten, Ok(true)) {
            // Others may go on at once; the loop waits before we do, where something failed.
            let mut tx = self.db.begin_in(&scope).await?;
            tx.commitment_release(&claim).await?;
            tx.commit().await?;
        }
        // The next bite, or the next request: none is known to be the last.
        self.noted.put_back(id);
        done.more = true;
        bitten.map(|_| ())
    }

    /// Goes on with a request; says whether it has ended, or somebody else has it.
    async fn bite(
        &self,
        scope: &PartitionScope,
        claim: &mut CommitmentClaim,
        done: &mut Done,
    ) -> Result<bool, WorkerError> {
        let begun = Instant::now();
        loop {
            let outcomes = {
                let mut slice = std::pin::pin!(self.slice(scope, claim));
                loop {
                    if let Ok(outcomes) = tokio::time::timeout(HEARTBEAT, &mut slice).await {
                        break outcomes?;
                    }
                    if self.advance(scope, claim, &[]).await?.is_none() {
                        return Ok(true);
                    }
                }
            };
            let ended = self.advance(scope, claim, &outcomes).await?;
            if ended != Some(false) {
                return Ok(true);
            }
            claim.done += i32::try_from(outcomes.len()).unwrap_or(i32::MAX);
            done.items += outcomes.len() as u64;
            if begun.elapsed() >= BITE {
                return Ok(false);
            }
        }
    }

    async fn advance(
        &self,
        scope: &PartitionScope,
        claim: &CommitmentClaim,
        outcomes: &[u16],
    ) -> Result<Option<bool>, WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let ended = tx.commitment_advance(claim, outcomes).await?;
        if ended.is_some() {
            tx.commit().await?;
        }
        Ok(ended)
    }

    /// Checks the next references of a request.
    async fn slice(
        &self,
        scope: &PartitionScope,
        claim: &CommitmentClaim,
    ) -> Result<Vec<u16>, WorkerError> {
        let mut tx = self.db.begin_in(scope).await?;
        let references = tx.commitment_slice(claim, SLICE).await?;
        let uids: BTreeSet<&str> = references.iter().map(|one| &*one.instance).collect();
        let uids: Vec<&str> = uids.into_iter().collect();
        let places = tx.commitment_places(&uids).await?;
        drop(tx);
        let places: BTreeMap<String, (VerifyPlace, String)> =
            places.into_iter().map(|found| (found.0.instance.clone(), found)).collect();
        let answers = references.iter().map(|wanted| (wanted, answer(wanted, &places)));
        let answers: Vec<(&Reference, Result<&VerifyPlace, u16>)> = answers.collect();
        let wanted: Vec<VerifyPlace> =
            answers.iter().filter_map(|(_, found)| found.ok().cloned()).collect();
        let pace = Pace::new(Some(self.rate));
        let (db, store) = (&self.db, &self.store);
        let mut checker = Checker::new(db, store, scope.clone(), self.how, pace, Cursor::default());
        let safety = checker.safety(&wanted).await?;
        for finding in &safety.findings {
            let (partition, kind) = (scope.partition(), finding.kind.name());
            tracing::error!(%partition, kind, %finding, "damage");
        }
        let judged = answers.into_iter().map(|(_, found)| match found {
            Err(reason) => reason,
            Ok(place) if safety.damaged.contains(&place.watermark) => reason::PROCESSING_FAILURE,
            Ok(place) if safety.gone.contains(&place.watermark) => reason::NO_SUCH_INSTANCE,
            Ok(_) => reason::SAFE,
        });
        Ok(judged.collect())
    }

    /// Forgets requests whose results nobody can have any more. They are known for twice as long.
    async fn forget(&self, id: &PartitionId) -> Result<(), WorkerError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let mut tx = self.db.begin_in(&scope).await?;
        if tx.commitment_forget(self.keep * 2).await? > 0 {
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Where the instance is that somebody references, or why it is not what he says.
fn answer<'a>(
    wanted: &Reference,
    places: &'a BTreeMap<String, (VerifyPlace, String)>,
) -> Result<&'a VerifyPlace, u16> {
    let (place, sop_class) = places.get(&wanted.instance).ok_or(reason::NO_SUCH_INSTANCE)?;
    if let Some((study, series)) = &wanted.parents
        && (place.study.as_ref(), place.series.as_ref()) != (Some(study), Some(series))
    {
        return Err(reason::NO_SUCH_INSTANCE);
    }
    if *sop_class == wanted.sop_class { Ok(place) } else { Err(reason::CLASS_CONFLICT) }
}

impl Worker for Commit {
    fn name(&self) -> &'static str {
        "commit"
    }

    async fn run_once(&self) -> Result<Done, WorkerError> {
        let mut done = Done::default();
        let mut failed = Ok(());
        if self.is_time() {
            for id in partitions(&self.db).await? {
                failed = failed.and(self.forget(&id).await);
                self.noted.put_back(&id);
            }
        }
        // One that fails must not keep those after it from their turn.
        for id in self.noted.take() {
            failed = failed.and(self.partition(&id, &mut done).await);
        }
        failed.map(|()| done)
    }
}
