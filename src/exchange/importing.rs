//! An import that was asked of the server: as long as it takes, in bites.
//!
//! Holds: the cursor moves with each batch, once all of it is durable and told in the report, so that
//! who goes on after a kill does one batch again and finds it identical. Absent: how files are
//! stored (`import`).

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use super::{
    How, ImportError, Importer, Source, SourceError, Within,
    lists::{self, Lists},
    tally,
};
use crate::{
    archive::Archive,
    blob::{BlobError, Place},
    config::{BlobKind, Config, PlaceConfig},
    index::{Claim, Db, Imported, Importing, OperationState},
    tenancy::{PartitionId, PartitionScope},
};

/// Signs of life while a batch takes long.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The list of what became of files.
const REPORT: &str = "report";

/// What is to be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// The source's name.
    pub source: String,
    /// Where in it.
    pub path: String,
    /// The destination where it is told what became of each file.
    pub report: Option<String>,
    /// Whether who asked may also reject.
    #[serde(default)]
    pub may_reject: bool,
}

impl ImportRequest {
    /// Where everything is before the first file.
    pub fn start(&self, partition: &PartitionId, id: Uuid) -> Importing {
        let told =
            |name: &String| (name.clone(), format!("{}/report.ndjson", folder(partition, id)));
        let results = Imported { report: self.report.as_ref().map(told), ..Imported::default() };
        Importing { results, ..Importing::default() }
    }
}

fn folder(partition: &PartitionId, id: Uuid) -> String {
    format!("{partition}/{}", id.simple())
}

/// What became of a bite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportStep {
    /// So many files were dealt with; there may be more.
    Went(u64),
    /// The operation has ended.
    Ended,
    /// Somebody else has it now.
    Lost,
}

/// Imports from the sources of the configuration.
pub struct Imports {
    archive: Archive,
    db: Db,
    config: Config,
}

fn gone(reason: &'static str) -> BlobError {
    BlobError::Unfit { reason, source: None }
}

impl Imports {
    /// Imports into an archive.
    pub fn new(archive: Archive, db: Db, config: &Config) -> Self {
        Self { archive, db, config: config.clone() }
    }

    async fn source(
        &self,
        scope: &PartitionScope,
        request: &ImportRequest,
    ) -> Result<Source, ImportError> {
        let sources = &self.config.import.sources;
        let config = PlaceConfig::of(sources, &request.source, scope.partition())
            .ok_or_else(|| gone("the partition has no such source (any more)"))?;
        let within =
            Within::parse(&request.path).ok_or_else(|| gone("the path leads out of the source"))?;
        match (config.at.kind, &config.at.dir) {
            (BlobKind::Local, Some(dir)) => {
                // A link on the way must not lead out of the source either.
                let of_io = |error| ImportError::Source(SourceError::Io(error));
                let dir = tokio::fs::canonicalize(dir).await.map_err(of_io)?;
                let path = tokio::fs::canonicalize(dir.join(within.as_str())).await;
                let path = path.map_err(of_io)?;
                if !path.starts_with(&dir) {
                    return Err(gone("the path leads out of the source").into());
                }
                Ok(Source::Folder(path))
            }
            _ => Ok(Source::Bucket(Place::open(&config.at)?, within.as_str().to_owned())),
        }
    }

    fn report(
        &self,
        scope: &PartitionScope,
        request: &ImportRequest,
        id: Uuid,
    ) -> Result<Option<Lists>, BlobError> {
        let Some(name) = &request.report else { return Ok(None) };
        let destinations = &self.config.export.destinations;
        let config = PlaceConfig::of(destinations, name, scope.partition())
            .ok_or_else(|| gone("the partition has no such destination (any more)"))?;
        let place = Place::open(&config.at)?;
        Ok(Some(Lists::new(place, folder(scope.partition(), id))))
    }

    /// Works at a claimed import for a while. `scope` has the deed that stores are recorded as.
    ///
    /// # Errors
    /// [`ImportError`]; what earlier batches did stays.
    pub async fn bite(
        &self,
        scope: &PartitionScope,
        claim: &mut Claim<Importing>,
        owner: Uuid,
        request: &ImportRequest,
        long: Duration,
    ) -> Result<ImportStep, ImportError> {
        let report = self.report(scope, request, claim.id)?;
        let source = self.source(scope, request).await?;
        let limits = self.config.limits.clone();
        let (archive, db) = (self.archive.clone(), self.db.clone());
        let how = How { is_dry: false, may_reject: request.may_reject };
        let importer = Importer::new(archive, db, scope.clone(), source, limits, how);
        let after = claim.cursor.after.clone();
        let mut batches = importer.run(after.as_deref(), self.config.import.at_once);
        let (begun, mut went) = (Instant::now(), 0);
        while begun.elapsed() < long {
            let batch = loop {
                if let Ok(batch) = timeout(HEARTBEAT, batches.try_next()).await {
                    break batch?;
                }
                let mut tx = self.db.begin_in(scope).await?;
                tx.audit_nothing();
                if !tx.operation_renew(claim.id, owner).await? {
                    return Ok(ImportStep::Lost);
                }
                tx.commit().await?;
            };
            let Some(batch) = batch else {
                return self.finish(scope, claim, owner, report.as_ref()).await;
            };
            let mut cursor = claim.cursor.clone();
            if let Some(report) = &report {
                let lines = batch.lines.iter().flat_map(lists::line).collect();
                report.add(REPORT, cursor.lists, lines).await?;
            }
            let failed = cursor.results.failed;
            cursor.lists += 1;
            cursor.after = Some(batch.mark);
            tally::add(&mut cursor.results, &batch.lines);
            let progress = (batch.lines.len() as i64, (cursor.results.failed - failed) as i64);
            let mut tx = self.db.begin_in(scope).await?;
            tx.audit_nothing();
            let advanced = tx.operation_advance((claim.id, owner), &cursor, progress).await?;
            let Some(is_canceled) = advanced else { return Ok(ImportStep::Lost) };
            if is_canceled {
                tx.operation_end(claim.id, OperationState::Canceled, None).await?;
            }
            tx.commit().await?;
            went += batch.lines.len() as u64;
            claim.cursor = cursor;
            if is_canceled {
                return Ok(ImportStep::Ended);
            }
        }
        Ok(ImportStep::Went(went))
    }

    async fn finish(
        &self,
        scope: &PartitionScope,
        claim: &Claim<Importing>,
        owner: Uuid,
        report: Option<&Lists>,
    ) -> Result<ImportStep, ImportError> {
        let steps = claim.cursor.lists;
        if let Some(report) = report {
            report.join(REPORT, steps, "report.ndjson").await?;
        }
        let mut tx = self.db.begin_in(scope).await?;
        tx.audit_nothing();
        let advanced = tx.operation_advance((claim.id, owner), &claim.cursor, (0, 0)).await?;
        match advanced {
            None => return Ok(ImportStep::Lost),
            Some(true) => tx.operation_end(claim.id, OperationState::Canceled, None).await?,
            Some(false) => {
                tx.operation_finish(claim.id, "files could not be stored").await?;
            }
        }
        tx.commit().await?;
        if let Some(report) = report
            && let Err(error) = report.clear(&[REPORT], steps).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(operation = %claim.id, error, "pieces of the report are left behind");
        }
        Ok(ImportStep::Ended)
    }
}
