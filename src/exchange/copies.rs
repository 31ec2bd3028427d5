//! The files of an export: written in steps, with a manifest of all of them and a log of errors.
//!
//! A step writes some files, then what it adds to the lists, then moves the cursor that it was given.
//! Who goes on after a step that was cut short finds what it has written by name, length and hash, and
//! does not write it again; what is de-identified is written again, the same. Holds: what is in the
//! manifest is in the place, whole, and made of what has the hash of its Store; of what is
//! de-identified nothing in the place tells more than the instances do. Absent: where the
//! cursor is kept, how bytes are opened (`archive::outgoing`).

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    ExportError, ExportRequest,
    layout::{self, Layout, RESULTS},
    lists::{self, Lists},
    request::{target, told},
};
use crate::{
    archive::{Archive, ArchiveError, Leaving, Outgoing},
    blob::Place,
    config::LimitsConfig,
    dicom::{
        Uid,
        data_set::DataSet,
        deidentify::Profile,
        directory::{self, Directory, SetFile},
        index::Indexer,
        reader::Reader,
    },
    index::Exporting,
    tenancy::PartitionScope,
};

/// Instances of a step.
const INSTANCES: i64 = 64;
/// Resources that a step goes through at the most.
const RESOURCES: usize = 64;
/// Most instances of a File-set with a DICOMDIR, which is made in memory.
const DIRECTORY: u64 = 100_000;
/// Why there is no export of more.
pub(super) const DIRECTORY_TOO_LARGE: &str =
    "a DICOMDIR has 100,000 instances at the most: ask for less, or none";
/// Bytes that are read before other tasks of the thread get their turn.
const SLICE: usize = 128 << 10;
/// Resources that are counted at once.
const AT_ONCE: usize = 500;

const MANIFEST: &str = "manifest";
const ERRORS: &str = "errors";
const RECORDS: &str = "records";
const LISTS: [&str; 3] = [MANIFEST, ERRORS, RECORDS];
/// What the whole manifest is called.
pub(super) const MANIFEST_FILE: &str = "manifest.ndjson";
/// What the whole log of errors is called.
pub(super) const ERRORS_FILE: &str = "errors.log";

/// What files are made with.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) archive: &'a Archive,
    pub(super) scope: &'a PartitionScope,
    pub(super) limits: &'a LimitsConfig,
    /// Files that are written at a time.
    pub(super) at_once: usize,
}

/// The files of one export.
pub(super) struct Copies<'a> {
    means: Means<'a>,
    request: &'a ExportRequest,
    lists: Lists,
    files: Arc<Files>,
}

/// Writes one file after the other, of several at a time.
struct Files {
    archive: Archive,
    scope: PartitionScope,
    limits: LimitsConfig,
    place: Place,
    folder: String,
    profile: Option<Arc<Profile>>,
    dicomdir: bool,
    /// Whether files may be there that the cursor does not know of.
    goes_on: bool,
}

/// What a step has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Went {
    /// Instances.
    pub(super) processed: u64,
    /// Those of them that failed.
    pub(super) failed: u64,
    /// Instances, and resources that there are none of.
    pub(super) dealt_with: u64,
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
    refused: u64,
    skipped: u64,
    bytes: u64,
}

/// What became of one instance.
enum Written {
    File {
        manifest: Vec<u8>,
        record: Option<Vec<u8>>,
        error: Option<String>,
        bytes: u64,
    },
    Failed(String),
    /// It may not be given de-identified.
    Refused(String),
}

impl<'a> Copies<'a> {
    /// Those that a request is for, in a folder of a place. `goes_on`: whether files may be there
    /// that the cursor does not know of.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(super) async fn of(
        means: Means<'a>,
        request: &'a ExportRequest,
        (place, folder): (Place, String),
        goes_on: bool,
    ) -> Result<Self, ExportError> {
        let Means { archive, scope, limits, .. } = means;
        let profile = match &request.deidentify {
            None => None,
            Some(how) => {
                let profile = archive.deidentification_with(scope, how.options).await?;
                if profile.key_fingerprint() != how.key {
                    return Err(ExportError::OtherKey);
                }
                Some(profile)
            }
        };
        let files = Files {
            archive: archive.clone(),
            scope: scope.clone(),
            limits: limits.clone(),
            place: place.clone(),
            folder: folder.clone(),
            profile,
            dicomdir: request.dicomdir,
            goes_on,
        };
        Ok(Self { means, request, lists: Lists::new(place, folder), files: Arc::new(files) })
    }

    /// Counts what there is to export of some resources, from this one on; `None`: there are none.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(super) async fn count(&self, from: usize) -> Result<Option<(u64, usize)>, ExportError> {
        let resources = self.request.resources.get(from..).unwrap_or_default();
        let mut total = 0;
        for resource in resources.iter().take(AT_ONCE) {
            if let Some(target) = target(resource) {
                total += self.means.archive.leaving_count(self.means.scope, &target).await?;
            }
        }
        let counted = resources.len().min(AT_ONCE);
        Ok((counted > 0).then_some((total, from + counted)))
    }

    /// Whether there are more than a DICOMDIR may have.
    pub(super) fn are_too_many(&self, total: u64) -> bool {
        self.request.dicomdir && total > DIRECTORY
    }

    /// Whether nothing is left for a step.
    pub(super) fn are_done(&self, cursor: &Exporting) -> bool {
        cursor.resource >= self.request.resources.len()
    }

    /// Writes some files and what they add to the lists, and moves the cursor behind them.
    ///
    /// # Errors
    /// [`ExportError`]; the cursor is of no use then.
    pub(super) async fn step(&self, cursor: &mut Exporting) -> Result<Went, ExportError> {
        let added = self.write(cursor).await?;
        let step = cursor.lists;
        self.lists.add(MANIFEST, step, added.manifest).await?;
        self.lists.add(ERRORS, step, added.errors).await?;
        self.lists.add(RECORDS, step, added.records).await?;
        cursor.lists += 1;
        let results = &mut cursor.results;
        results.exported += added.exported;
        results.skipped += added.skipped;
        results.refused += added.refused;
        results.failed += added.failed;
        results.bytes += added.bytes;
        let processed = added.exported + added.failed + added.refused;
        let dealt_with = processed + added.skipped;
        Ok(Went { processed, failed: added.failed, dealt_with })
    }

    async fn write(&self, cursor: &mut Exporting) -> Result<Added, ExportError> {
        let mut added = Added::default();
        let Means { archive, scope, at_once, .. } = self.means;
        let mut found = Vec::new();
        for _ in 0..RESOURCES {
            let Some(resource) = self.request.resources.get(cursor.resource) else { break };
            let page = match target(resource) {
                Some(target) => archive.leaving(scope, &target, cursor.after, INSTANCES).await?,
                None => Vec::new(),
            };
            if page.is_empty() {
                if cursor.after.is_none() {
                    added.skipped += 1;
                    let called = told(resource, self.files.profile.as_ref());
                    added.errors.extend(error_line(&called, "there is no such resource"));
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
                Layout::Dicom => {
                    // Under the name that it has there: the cursor may be kept there, too.
                    let study = told(leaving.study().as_str(), self.files.profile.as_ref());
                    Some(layout::file_id(&mut cursor.study, &study))
                }
            };
            (leaving, id)
        });
        let named: Vec<_> = named.collect();
        let mut all = stream::iter(named)
            .map(|(leaving, id)| {
                // Tasks of their own: hashing and de-identifying are work for several processors.
                let files = self.files.clone();
                let task = tokio::spawn(async move { files.write_one(leaving, id).await });
                AbortOnDropHandle::new(task)
            })
            .buffered(at_once);
        while let Some(done) = all.next().await {
            let (identifier, written) =
                done.map_err(|error| ArchiveError::Internal(error.into()))??;
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
                Written::Refused(error) => {
                    added.refused += 1;
                    added.errors.extend(error_line(&identifier, &error));
                }
            }
        }
        Ok(added)
    }

    /// Writes what is written at the end: the DICOMDIR, and the lists of all steps.
    ///
    /// # Errors
    /// [`ExportError`]; it can be done again.
    pub(super) async fn close(&self, id: Uuid, steps: u64) -> Result<(), ExportError> {
        if self.request.dicomdir && self.request.layout == Layout::Dicom {
            let bytes = self.directory(id, steps).await?;
            let Files { place, folder, .. } = &*self.files;
            place.write(&format!("{folder}/{RESULTS}/DICOMDIR"), bytes).await?;
        }
        self.lists.join(ERRORS, steps, ERRORS_FILE).await?;
        self.lists.join(MANIFEST, steps, MANIFEST_FILE).await?;
        Ok(())
    }

    /// Removes what served it alone.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(super) async fn clear(&self, steps: u64) -> Result<(), ExportError> {
        Ok(self.lists.clear(&LISTS, steps).await?)
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

impl Files {
    /// Writes one file; what hinders that one alone is no error.
    async fn write_one(
        &self,
        leaving: Leaving,
        id: Option<[String; 3]>,
    ) -> Result<(String, Written), ExportError> {
        let stored = format!("{}/{}/{}", leaving.study(), leaving.series(), leaving.instance());
        let profile = self.profile.as_ref();
        let outgoing = match self.archive.outgoing(&self.scope, leaving, profile).await {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok((told(&stored, profile), hindered(error)?)),
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
        let limits = self.limits.parsing();
        let threshold = u32::try_from(self.limits.bulk_threshold).unwrap_or(u32::MAX);
        let wants_record = self.dicomdir && id.is_some();
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
        let hindrance = match ended {
            Ok(()) if outgoing.is_whole(&sha256) => None,
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
}

/// What hinders one instance alone; what will pass is an error.
fn hindered(error: ArchiveError) -> Result<Written, ExportError> {
    match error {
        ArchiveError::NotFound | ArchiveError::Gone => {
            Ok(Written::Failed("it was deleted meanwhile".to_owned()))
        }
        ArchiveError::NotDeidentifiable(refusal) => Ok(Written::Refused(refusal.to_string())),
        ArchiveError::TooLarge { key, .. } => {
            Ok(Written::Failed(format!("it is larger than {key} allows")))
        }
        error @ ArchiveError::Unavailable(_) => Err(error.into()),
        _ => Ok(Written::Failed("it cannot be read".to_owned())),
    }
}

/// A line of the log of errors, as Microsoft's server writes it.
fn error_line(identifier: &str, error: &str) -> Vec<u8> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    lists::line(&json!({"timestamp": now, "identifier": identifier, "error": error}))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
