//! Whether who reads for a long time still may: answers that outlive the moment of their decision.
//!
//! Holds: nothing is told on a decision that is older than [`Still::every`]; who may read less than
//! before is told nothing more, and has to ask anew.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{App, caller::Caller, problem::Problem};
use crate::tenancy::{Named, PartitionId, Permission, Scope};

/// Shortest and longest time between two decisions.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The partitions that are read: who reads all that he may may come to read more.
#[derive(Clone)]
pub struct Reading(Arc<Mutex<BTreeSet<PartitionId>>>);

impl Reading {
    /// Those of a scope.
    pub fn of(scope: &Scope) -> Self {
        Self(Arc::new(Mutex::new(scope.partitions().iter().cloned().collect())))
    }

    /// Others, from now on.
    pub fn renew(&self, scope: &Scope) {
        // A set that is replaced cannot be left half-changed.
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *partitions = scope.partitions().iter().cloned().collect();
    }

    fn named(&self) -> Named {
        Named::Several(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// One who reads a feed, or the like.
pub struct Still {
    app: App,
    caller: Caller,
    reading: Reading,
    permission: Permission,
    every: Duration,
    /// When it was last decided that he may, and when it was last tried to decide.
    decided: Instant,
    tried: Instant,
}

impl Still {
    /// One who may read changes just now.
    pub fn new(app: &App, caller: &Caller, reading: &Reading) -> Self {
        Self::reading(app, caller, reading, Permission::ReadChanges)
    }

    /// One who has a permission just now.
    pub fn reading(app: &App, caller: &Caller, reading: &Reading, permission: Permission) -> Self {
        let every = app.access.life().clamp(EVERY.0, EVERY.1);
        let now = Instant::now();
        let (app, caller, reading) = (app.clone(), caller.clone(), reading.clone());
        Self { app, caller, reading, permission, every, decided: now, tried: now }
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

    /// Each of the partitions has to be readable still; whether others are does not matter.
    async fn decide(&mut self) -> Result<(), Problem> {
        self.tried = Instant::now();
        let Caller { who, around, .. } = self.caller.again(&self.app).await?;
        let (partitions, named) = (&self.app.partitions, self.reading.named());
        partitions.scope(&who, &around, &named, self.permission).await?;
        self.decided = self.tried;
        Ok(())
    }
}
