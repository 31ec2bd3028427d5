//! Export: instances of a partition to a place, with a manifest of all files and a log of errors.
//!
//! In steps: a step writes some files, then what it adds to the lists, then commits its cursor. Who
//! goes on after a step that was cut short finds what it has written by name, length and hash, and
//! does not write it again. Holds: an export lies below the partition and its own id; what is in the
//! manifest is in the place, whole, with the hash that it has in the archive. Absent: how bytes are
//! opened (`archive::outgoing`), what may be asked for (`http`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{
    layout::{self, Layout, RESULTS},
    lists::{self, Lists},
};
use crate::{
    archive::{Archive, ArchiveError, Leaving, Outgoing, Target},
    blob::{BlobError, Place},
    config::{Config, ExportConfig, LimitsConfig, PlaceConfig},
    dicom::{
        Uid,
        data_set::DataSet,
        directory::{self, Directory, SetFile},
        index::Indexer,
        reader::Reader,
    },
    index::{Claim, Db, Exported, Exporting, IndexError, OperationState},
    tenancy::{PartitionId, PartitionScope},
};

/// Instances of a step.
const INSTANCES: i64 = 64;
/// Resources that a step goes through at the most.
const RESOURCES: usize = 64;
/// Most instances of a File-set with a DICOMDIR, which is made in memory.
const DIRECTORY: u64 = 100_000;
/// Bytes that are read before other tasks of the thread get their turn.
const SLICE: usize = 128 << 10;

const MANIFEST: &str = "manifest";
const ERRORS: &str = "errors";
const RECORDS: &str = "records";

/// What is to be exported, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// Studies, series and instances: their UIDs, joined by slashes.
    pub resources: Vec<String>,
    /// The destination's name.
    pub destination: String,
    /// How files lie there.
    pub layout: Layout,
    /// Whether a File-set has a DICOMDIR.
    pub dicomdir: bool,
}

impl ExportRequest {
    /// Of what is asked for twice, or lies in what is asked for too, once is enough; in the order of
    /// UIDs, so that what is of one study stands together.
    pub fn new(
        mut resources: Vec<String>,
        destination: String,
        layout: Layout,
        dicomdir: bool,
    ) -> Self {
        resources.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
        resources.dedup_by(|next, first| {
            let below = next.strip_prefix(first.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        Self { resources, destination, layout, dicomdir }
    }

    /// Where everything is before the first step.
    pub fn start(&self, partition: &PartitionId, id: Uuid) -> Exporting {
        let path = folder(partition, id);
        let results = Exported {
            destination: self.destination.clone(),
            error_href: format!("{path}/errors.log"),
            manifest_href: format!("{path}/manifest.ndjson"),
            path,
            ..Exported::default()
        };
        Exporting { results, ..Exporting::default() }
    }
}

fn folder(partition: &PartitionId, id: Uuid) -> String {
    format!("{partition}/{}", id.simple())
}

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

/// Why a step could not be done. It can be tried again.
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
}

/// Copies instances to destinations.
pub struct Exporter {
    archive: Archive,
    db: Db,
    config: ExportConfig,
    limits: LimitsConfig,
    places: Mutex<HashMap<String, Place>>,
}

/// One export, as it is worked at.
struct Work<'a> {
    exporter: &'a Exporter,
    scope: &'a PartitionScope,
    request: &'a ExportRequest,
    place: Place,
    folder: String,
    lists: Lists,
    /// Whether files may be there that the cursor does not know of.
    goes_on: bool,
}

/// A line of the manifest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestLine<'a> {
    file: &'a str,
    bytes: u64,
    sha256: String,
    study_instance_uid: &'a str,
    series_instance_uid: &'a str,
    sop_instance_uid: &'a str,
    sop_class_uid: &'a str,
    transfer_syntax_uid: &'a str,
}

/// A record of a DICOMDIR that is still to be made.
#[derive(Serialize, Deserialize)]
struct RecordLine {
    id: String,
    sop_class: String,
    instance: String,
    transfer_syntax: String,
    keys: Map<String, Value>,
}

/// What a step adds.
#[derive(Default)]
struct Added {
    manifest: Vec<u8>,
    errors: Vec<u8>,
    records: Vec<u8>,
    exported: u64,
    failed: u64,
    skipped: u64,
    bytes: u64,
}

/// What became of one instance.
enum Written {
    File { manifest: Vec<u8>, record: Option<Vec<u8>>, error: Option<String>, bytes: u64 },
    Failed(String),
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
        let lists = Lists::new(place.clone(), folder.clone());
        let work = Work { exporter: self, scope, request, place, folder, lists, goes_on };
        if std::mem::take(&mut claim.wants_total)
            && let Some(refusal) = work.count(claim.id, owner).await?
        {
            let mut tx = self.db.begin_in(scope).await?;
            tx.operation_end(claim.id, OperationState::Failed, Some(refusal)).await?;
            tx.commit().await?;
            return Ok(ExportStep::Ended);
        }
        if claim.cursor.resource >= request.resources.len() {
            return work.finish(claim, owner).await;
        }
        let mut cursor = claim.cursor.clone();
        let added = work.write(&mut cursor).await?;
        let step = cursor.lists;
        let went = added.exported + added.failed + added.skipped;
        work.lists.add(MANIFEST, step, added.manifest).await?;
        work.lists.add(ERRORS, step, added.errors).await?;
        work.lists.add(RECORDS, step, added.records).await?;
        cursor.lists += 1;
        cursor.results.exported += added.exported;
        cursor.results.skipped += added.skipped;
        cursor.results.failed += added.failed;
        cursor.results.bytes += added.bytes;
        let progress = ((added.exported + added.failed) as i64, added.failed as i64);
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
        Ok(if is_canceled { ExportStep::Ended } else { ExportStep::Went(went) })
    }
}

impl Work<'_> {
    /// Counts what there is to export; says why it cannot be.
    async fn count(&self, id: Uuid, owner: Uuid) -> Result<Option<&'static str>, ExportError> {
        let mut total = 0;
        for (number, resource) in self.request.resources.iter().enumerate() {
            if let Some(target) = target(resource) {
                total += self.exporter.archive.leaving_count(self.scope, &target).await?;
            }
            if number % 500 == 499 {
                let mut tx = self.exporter.db.begin_in(self.scope).await?;
                tx.operation_renew(id, owner).await?;
                tx.commit().await?;
            }
        }
        if self.request.dicomdir && total > DIRECTORY {
            return Ok(Some("a DICOMDIR has 100,000 instances at the most: ask for less, or none"));
        }
        let mut tx = self.exporter.db.begin_in(self.scope).await?;
        tx.transfer_total(id, total).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Writes the files of a step, and moves the cursor behind them.
    async fn write(&self, cursor: &mut Exporting) -> Result<Added, ExportError> {
        let mut added = Added::default();
        let archive = &self.exporter.archive;
        let mut found = Vec::new();
        for _ in 0..RESOURCES {
            let Some(resource) = self.request.resources.get(cursor.resource) else { break };
            let page = match target(resource) {
                Some(target) => {
                    archive.leaving(self.scope, &target, cursor.after, INSTANCES).await?
                }
                None => Vec::new(),
            };
            if page.is_empty() {
                if cursor.after.is_none() {
                    added.skipped += 1;
                    added.errors.extend(error_line(resource, "there is no such resource"));
                }
                (cursor.resource, cursor.after) = (cursor.resource + 1, None);
                continue;
            }
            cursor.after = page.last().map(Leaving::watermark);
            // A short page is the last one of its resource.
            if (page.len() as i64) < INSTANCES {
                (cursor.resource, cursor.after) = (cursor.resource + 1, None);
            }
            found.extend(page);
            if found.len() as i64 >= INSTANCES {
                break;
            }
        }
        let named = found.into_iter().map(|leaving| {
            let id = match self.request.layout {
                Layout::AsIs => None,
                Layout::Dicom => Some(layout::file_id(&mut cursor.study, &leaving)),
            };
            (leaving, id)
        });
        let named: Vec<_> = named.collect();
        let mut all = stream::iter(named)
            .map(|(leaving, id)| self.write_one(leaving, id))
            .buffered(self.exporter.config.at_once);
        while let Some((identifier, written)) = all.try_next().await? {
            match written {
                Written::File { manifest, record, error, bytes } => {
                    added.exported += 1;
                    added.bytes += bytes;
                    added.manifest.extend(manifest);
                    added.records.extend(record.into_iter().flatten());
                    added.errors.extend(
                        error.into_iter().flat_map(|error| error_line(&identifier, &error)),
                    );
                }
                Written::Failed(error) => {
                    added.failed += 1;
                    added.errors.extend(error_line(&identifier, &error));
                }
            }
        }
        Ok(added)
    }

    /// Writes one file; what hinders that one alone is no error.
    async fn write_one(
        &self,
        leaving: Leaving,
        id: Option<[String; 3]>,
    ) -> Result<(String, Written), ExportError> {
        let identifier = leaving.instance().as_str().to_owned();
        let outgoing = match self.exporter.archive.outgoing(self.scope, leaving).await {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok((identifier, hindered(error)?)),
        };
        let identifier = format!("{}/{}/{}", outgoing.study, outgoing.series, outgoing.instance);
        let file = match &id {
            Some(id) => format!("{RESULTS}/{}", id.join("/")),
            None => layout::by_uids(&outgoing),
        };
        let written = self.copy(outgoing, &file, id).await?;
        Ok((identifier, written))
    }

    async fn copy(
        &self,
        mut outgoing: Outgoing,
        file: &str,
        id: Option<[String; 3]>,
    ) -> Result<Written, ExportError> {
        let name = format!("{}/{file}", self.folder);
        let is_there = match (outgoing.length, &outgoing.sha256) {
            (Some(length), Some(noted)) if self.goes_on => {
                self.is_there(&name, length, noted).await?
            }
            _ => false,
        };
        let mut writer = (!is_there).then(|| self.place.writer(&name));
        let limits = self.exporter.limits.parsing();
        let threshold = u32::try_from(self.exporter.limits.bulk_threshold).unwrap_or(u32::MAX);
        let wants_record = self.request.dicomdir && id.is_some();
        let mut reader = wants_record.then(|| Reader::new(Indexer::new(limits), limits, threshold));
        let (mut sha256, mut bytes) = (Sha256::new(), 0);
        let ended = loop {
            match outgoing.chunk().await {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    for slice in chunk.chunks(SLICE) {
                        sha256.update(slice);
                        if reader.as_mut().is_some_and(|reader| reader.push(slice).is_err()) {
                            reader = None;
                        }
                        tokio::task::consume_budget().await;
                    }
                    if let Some(writer) = &mut writer {
                        writer.push(chunk).await?;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let sha256: [u8; 32] = sha256.finalize().into();
        let is_whole = outgoing.sha256.as_ref().is_none_or(|noted| noted[..] == sha256);
        let hindrance = match ended {
            Ok(()) if is_whole => None,
            Ok(()) => Some(Written::Failed("its bytes are not those that were stored".to_owned())),
            Err(error) => Some(hindered(error)?),
        };
        if let Some(hindrance) = hindrance {
            if let Some(writer) = writer {
                writer.abort().await;
            }
            return Ok(hindrance);
        }
        if let Some(writer) = writer {
            writer.finish().await?;
        }
        let indexed = reader.and_then(|reader| reader.finish().and_then(Indexer::finish).ok());
        let data_set = indexed.and_then(|indexed| DataSet::parse(&indexed.metadata).ok());
        let record = data_set.zip(id).map(|(data_set, id)| {
            lists::line(&RecordLine {
                id: id.join("\\"),
                sop_class: outgoing.sop_class.as_str().to_owned(),
                instance: outgoing.instance.as_str().to_owned(),
                transfer_syntax: outgoing.transfer_syntax.as_str().to_owned(),
                keys: directory::keys_of(&data_set, &outgoing.sop_class),
            })
        });
        let error = (wants_record && record.is_none())
            .then(|| "it cannot be read, and has no record in the DICOMDIR".to_owned());
        let manifest = lists::line(&ManifestLine {
            file,
            bytes,
            sha256: hex(&sha256),
            study_instance_uid: outgoing.study.as_str(),
            series_instance_uid: outgoing.series.as_str(),
            sop_instance_uid: outgoing.instance.as_str(),
            sop_class_uid: outgoing.sop_class.as_str(),
            transfer_syntax_uid: outgoing.transfer_syntax.as_str(),
        });
        Ok(Written::File { manifest, record, error, bytes })
    }

    /// Whether a file was written by who was cut short.
    async fn is_there(&self, name: &str, length: u64, noted: &[u8]) -> Result<bool, ExportError> {
        if self.place.size(name).await? != Some(length) {
            return Ok(false);
        }
        let (mut stream, mut sha256) = (self.place.read(name).await?, Sha256::new());
        while let Some(chunk) = stream.try_next().await? {
            for slice in chunk.chunks(SLICE) {
                sha256.update(slice);
                tokio::task::consume_budget().await;
            }
        }
        let sha256: [u8; 32] = sha256.finalize().into();
        Ok(noted == sha256)
    }

    /// Writes what is written at the end, and ends the operation.
    async fn finish(
        &self,
        claim: &Claim<Exporting>,
        owner: Uuid,
    ) -> Result<ExportStep, ExportError> {
        let steps = claim.cursor.lists;
        if self.request.dicomdir && self.request.layout == Layout::Dicom {
            let bytes = self.directory(claim.id, steps).await?;
            self.place.write(&format!("{}/{RESULTS}/DICOMDIR", self.folder), bytes).await?;
        }
        self.lists.join(ERRORS, steps, "errors.log").await?;
        self.lists.join(MANIFEST, steps, "manifest.ndjson").await?;
        let mut tx = self.exporter.db.begin_in(self.scope).await?;
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
        if let Err(error) = self.lists.clear(&[MANIFEST, ERRORS, RECORDS], steps).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(operation = %claim.id, error, "pieces of lists are left behind");
        }
        Ok(ExportStep::Ended)
    }

    async fn directory(&self, id: Uuid, steps: u64) -> Result<Vec<u8>, ExportError> {
        let mut directory = Directory::default();
        for step in 0..steps {
            let added = self.lists.added(RECORDS, step).await?.unwrap_or_default();
            for line in added.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Ok(record) = serde_json::from_slice::<RecordLine>(line) else { continue };
                let uids = [&record.sop_class, &record.instance, &record.transfer_syntax];
                let uids = uids.map(|uid| uid.parse::<Uid>());
                let [Ok(sop_class), Ok(instance), Ok(transfer_syntax)] = &uids else { continue };
                // What has no place in the tree cannot have been stored.
                let _ = directory.add(&SetFile {
                    id: &record.id,
                    sop_class,
                    instance,
                    transfer_syntax,
                    keys: &record.keys,
                });
            }
            tokio::task::consume_budget().await;
        }
        // The same each time that this is done again.
        let instance = format!("2.25.{}", id.as_u128())
            .parse()
            .map_err(|_| ArchiveError::Internal(anyhow::anyhow!("a UUID makes no UID")))?;
        Ok(directory.write(instance))
    }
}

/// What hinders one instance alone; what will pass is an error.
fn hindered(error: ArchiveError) -> Result<Written, ExportError> {
    match error {
        ArchiveError::NotFound | ArchiveError::Gone => {
            Ok(Written::Failed("it was deleted meanwhile".to_owned()))
        }
        error @ ArchiveError::Unavailable(_) => Err(error.into()),
        _ => Ok(Written::Failed("it cannot be read".to_owned())),
    }
}

/// What a resource names.
fn target(resource: &str) -> Option<Target> {
    let mut uids = Vec::new();
    for part in resource.split('/') {
        uids.push(part.parse::<Uid>().ok()?);
    }
    let mut uids = uids.into_iter();
    Some(match (uids.next()?, uids.next(), uids.next(), uids.next()) {
        (study, None, ..) => Target::Study { study },
        (study, Some(series), None, _) => Target::Series { study, series },
        (study, Some(series), Some(instance), None) => Target::Instance { study, series, instance },
        _ => return None,
    })
}

/// A line of the log of errors, as Microsoft's server writes it.
fn error_line(identifier: &str, error: &str) -> Vec<u8> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    lists::line(&json!({"timestamp": now, "identifier": identifier, "error": error}))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_something_else_is_asked_for_once() {
        let resources = ["1.2/3", "1.2.3/1/1", "1.2", "1.10", "1.2/3/4", "1.2.3/1/2", "1.2"];
        let resources = resources.map(str::to_owned).to_vec();
        let request = ExportRequest::new(resources, "x".to_owned(), Layout::AsIs, false);
        assert_eq!(request.resources, ["1.10", "1.2", "1.2.3/1/1", "1.2.3/1/2"]);
        assert!(target("1.2/3/4/5").is_none() && target("1.2/x").is_none());
        assert!(matches!(target("1.2/3"), Some(Target::Series { .. })));
    }
}
