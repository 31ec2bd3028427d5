//! Whether who reads for a long time still may: answers that outlive the moment of their decision.
//!
//! Holds: nothing is told on a decision that is older than [`Still::every`]; who may read less than
//! before is told nothing more, and has to ask anew.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{App, caller::Caller, problem::Problem};
use crate::{
    archive::{ArchiveError, FeedScope},
    control::ControlError,
    tenancy::{Named, PartitionId, Permission, Scope},
};

/// Shortest and longest time between two decisions.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// One who reads a feed.
pub struct Still {
    app: App,
    caller: Caller,
    named: Named,
    partitions: BTreeSet<PartitionId>,
    every: Duration,
    /// When it was last decided that he may, and when it was last tried to decide.
    decided: Instant,
    tried: Instant,
}

impl Still {
    /// One who may just now. `is_all`: he named no partition.
    pub fn new(app: &App, caller: &Caller, scope: &FeedScope, is_all: bool) -> Self {
        let partitions = set(scope.scope());
        let named = match scope.scope().only() {
            _ if is_all => Named::Nothing,
            Some(one) if matches!(scope, FeedScope::Partition(_)) => Named::One(one.clone()),
            _ => Named::Several(partitions.clone()),
        };
        let every = app.access.life().clamp(EVERY.0, EVERY.1);
        let now = Instant::now();
        let (app, caller) = (app.clone(), caller.clone());
        Self { app, caller, named, partitions, every, decided: now, tried: now }
    }

    /// When it is to be decided again.
    pub fn due(&self) -> Instant {
        self.tried + self.every
    }

    /// Decides again, where that is due before something is told.
    ///
    /// # Errors
    /// The refusal; 503 where it cannot be decided.
    pub async fn fresh(&mut self) -> Result<(), Problem> {
        if self.decided.elapsed() < self.every { Ok(()) } else { self.decide().await }
    }

    /// Waits until he may not any more. That it cannot be decided just now ends nothing.
    pub async fn lost(&mut self) {
        loop {
            tokio::time::sleep_until(self.due()).await;
            if !self.goes_on().await {
                return;
            }
        }
    }

    /// Decides again; whether who waits may go on waiting.
    pub async fn goes_on(&mut self) -> bool {
        match self.decide().await {
            Ok(()) => true,
            Err(problem) => problem.status().is_server_error(),
        }
    }

    async fn decide(&mut self) -> Result<(), Problem> {
        self.tried = Instant::now();
        let Caller { who, around, .. } = self.caller.again(&self.app).await?;
        let partitions = &self.app.partitions;
        let scope = partitions.scope(&who, &around, &self.named, Permission::ReadChanges).await;
        let scope = scope.map_err(|error| match error {
            ControlError::Refused(refused) => Problem::from(refused),
            ControlError::Index(error) => ArchiveError::from(error).into(),
        })?;
        let now = set(&scope);
        if !self.partitions.is_subset(&now) {
            return Err(Problem::forbidden("a partition cannot be read any more"));
        }
        self.partitions = now;
        self.decided = self.tried;
        Ok(())
    }
}

fn set(scope: &Scope) -> BTreeSet<PartitionId> {
    scope.partitions().iter().cloned().collect()
}
