//! Exports that were asked of the server: operations, worked at in steps.
//!
//! Holds: the cursor moves with each step, once all of what it wrote is durable; what is
//! de-identified is so under one key and with the same options from beginning to end, whatever the
//! configuration has become. Absent: how files are written (`copies`), what may be asked for (`http`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

use super::{
    ExportRequest,
    copies::{Copies, DIRECTORY_TOO_LARGE, Means},
    request::folder,
};
use crate::{
    archive::{Archive, ArchiveError},
    blob::{BlobError, Place},
    config::{Config, ExportConfig, LimitsConfig, PlaceConfig},
    index::{Claim, Db, Exporting, IndexError, OperationState},
    tenancy::PartitionScope,
};

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportStep {
    /// So many instances were dealt with; there may be more.
    Went(u64),
    /// The operation has ended.
    Ended,
    /// Somebody else has it now.
    Lost,
}

/// Why a step could not be done. It can be tried again, but for [`ExportError::OtherKey`].
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The index failed.
    #[error("the index failed an export")]
    Index(#[from] IndexError),
    /// The archive does not answer.
    #[error("what is exported cannot be read now")]
    Archive(#[from] ArchiveError),
    /// The destination does not answer.
    #[error("the destination did not answer as it should")]
    Destination(#[from] BlobError),
    /// What was written and what is to come would not fit together.
    #[error("the partition's key of pseudonyms is another one than when the export began")]
    OtherKey,
}

/// Copies instances to destinations.
pub struct Exporter {
    archive: Archive,
    db: Db,
    config: ExportConfig,
    limits: LimitsConfig,
    places: Mutex<HashMap<String, Place>>,
}

impl Exporter {
    /// Copies to the destinations of the configuration.
    pub fn new(archive: Archive, db: Db, config: &Config) -> Self {
        let (limits, places) = (config.limits.clone(), Mutex::default());
        Self { archive, db, config: config.export.clone(), limits, places }
    }

    fn place(&self, scope: &PartitionScope, name: &str) -> Result<Place, BlobError> {
        let of = PlaceConfig::of(&self.config.destinations, name, scope.partition());
        let config = of.ok_or(BlobError::Unfit {
            reason: "the partition has no such destination (any more)",
            source: None,
        })?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(name) {
            return Ok(place.clone());
        }
        let place = Place::open(&config.at)?;
        places.insert(name.to_owned(), place.clone());
        Ok(place)
    }

    /// Does the next step of a claimed export, and moves its cursor. `goes_on`: whether it is the
    /// first since somebody else may have worked at it.
    ///
    /// # Errors
    /// [`ExportError`]; what earlier steps did stays.
    pub async fn step(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Exporting>,
        owner: Uuid,
        request: &ExportRequest,
        goes_on: bool,
    ) -> Result<ExportStep, ExportError> {
        let place = self.place(scope, &request.destination)?;
        let folder = folder(scope.partition(), claim.id);
        let means = Means {
            archive: &self.archive,
            scope,
            limits: &self.limits,
            at_once: self.config.at_once,
        };
        let copies = Copies::of(means, request, (place, folder), goes_on).await?;
        if std::mem::take(&mut claim.wants_total)
            && !self.count(&copies, scope, claim.id, owner).await?
        {
            let mut tx = self.db.begin_in(scope).await?;
            let refusal = Some(DIRECTORY_TOO_LARGE);
            tx.operation_end(claim.id, OperationState::Failed, refusal).await?;
            tx.commit().await?;
            return Ok(ExportStep::Ended);
        }
        if copies.are_done(&claim.cursor) {
            return self.finish(&copies, scope, claim, owner).await;
        }
        let mut cursor = claim.cursor.clone();
        let went = copies.step(&mut cursor).await?;
        let progress = (went.processed as i64, went.failed as i64);
        let mut tx = self.db.begin_in(scope).await?;
        let Some(is_canceled) = tx.operation_advance((claim.id, owner), &cursor, progress).await?
        else {
            return Ok(ExportStep::Lost);
        };
        if is_canceled {
            tx.operation_end(claim.id, OperationState::Canceled, None).await?;
        }
        tx.commit().await?;
        claim.cursor = cursor;
        Ok(if is_canceled { ExportStep::Ended } else { ExportStep::Went(went.dealt_with) })
    }

    /// Counts what there is to export; says whether it can be.
    async fn count(
        &self,
        copies: &Copies<'_>,
        scope: &PartitionScope,
        id: Uuid,
        owner: Uuid,
    ) -> Result<bool, ExportError> {
        let (mut total, mut from) = (0, 0);
        while let Some((counted, next)) = copies.count(from).await? {
            (total, from) = (total + counted, next);
            let mut tx = self.db.begin_in(scope).await?;
            tx.operation_renew(id, owner).await?;
            tx.commit().await?;
        }
        if copies.are_too_many(total) {
            return Ok(false);
        }
        let mut tx = self.db.begin_in(scope).await?;
        tx.transfer_total(id, total).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Writes what is written at the end, and ends the operation.
    async fn finish(
        &self,
        copies: &Copies<'_>,
        scope: &PartitionScope,
        claim: &Claim<Exporting>,
        owner: Uuid,
    ) -> Result<ExportStep, ExportError> {
        let steps = claim.cursor.lists;
        copies.close(claim.id, steps).await?;
        let mut tx = self.db.begin_in(scope).await?;
        let advanced = tx.operation_advance((claim.id, owner), &claim.cursor, (0, 0)).await?;
        match advanced {
            None => return Ok(ExportStep::Lost),
            Some(true) => tx.operation_end(claim.id, OperationState::Canceled, None).await?,
            Some(false) => {
                tx.operation_finish(claim.id, "instances could not be exported: see errors.log")
                    .await?;
            }
        }
        tx.commit().await?;
        if let Err(error) = copies.clear(steps).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(operation = %claim.id, error, "pieces of lists are left behind");
        }
        Ok(ExportStep::Ended)
    }
}
