//! Non-Patient Instances (PS3.18 chapter 12): stored, found by UID, read, deleted. They belong to no
//! study, and are in no change feed.
//!
//! Holds: as for every Store, a blob is durable before its row is committed. Each has a blob of its
//! own, since they are few; it goes up in pieces, so that memory stays flat. Absent: Search
//! ([`super::search`]).

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Archive, ArchiveError, Bulk, Failed, FailureReason, Instances, Stored, Wanted,
    hash::hash,
    metadata::{away, decompress, document},
    part::{discard, explain, read_slice},
    repeated::repeated,
    uploads::Held,
    wanted::{Encoding, available},
};
use crate::{
    blob::Upload,
    config::Identical,
    dicom::{
        DicomError, Uid,
        index::{Indexer, NonPatient},
        json, kept,
        non_patient::Category,
        reader::Reader,
        xml,
    },
    index::{Had, IndexError, NewBlob, NewNonPatient},
    tenancy::PartitionScope,
};

/// Takes the bytes of one part of a Store. A fault of the part is remembered and told by
/// [`NonPatientSink::finish`]; the bytes that still come are then dropped.
pub struct NonPatientSink {
    archive: Archive,
    scope: PartitionScope,
    category: &'static Category,
    /// The UID that the request names.
    wanted: Option<Uid>,
    reader: Reader<Indexer>,
    upload: Option<(Uuid, Box<Upload>)>,
    sha256: Sha256,
    length: u64,
    held: Held,
    failed: Option<Failed>,
}

/// The metadata of an instance, as it is given.
pub struct NonPatientMetadata {
    /// Identifies the stored version.
    pub version: i64,
    kept: Vec<u8>,
}

impl Archive {
    /// Begins to store an instance of a category; `wanted` is its UID, where the request says so.
    pub fn store_non_patient(
        &self,
        scope: &PartitionScope,
        category: &'static Category,
        wanted: Option<Uid>,
    ) -> NonPatientSink {
        let limits = self.dicom_limits();
        NonPatientSink {
            archive: self.clone(),
            scope: scope.clone(),
            category,
            wanted,
            reader: Reader::new(Indexer::new(limits), limits, self.bulk_threshold()),
            upload: None,
            sha256: Sha256::new(),
            length: 0,
            held: self.0.uploads.part(scope.partition()),
            failed: None,
        }
    }

    /// Opens an instance for reading.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`]; [`ArchiveError::NotAcceptable`] if it cannot be given as wanted.
    pub async fn non_patient(
        &self,
        scope: &PartitionScope,
        category: &Category,
        instance: &Uid,
        mut wanted: Vec<Wanted>,
    ) -> Result<Instances, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let found = tx.non_patient(category.name, instance).await?;
        drop(tx);
        let (located, _) = found.ok_or(ArchiveError::NotFound)?;
        let stored = &located.transfer_syntax;
        // There are no pixels that a codec could do something with.
        let is_plain = |wanted: &Wanted| {
            let encodings = wanted.encodings(stored);
            let is_coded = |one: &Encoding| matches!(one, Encoding::Transcoded(_));
            !encodings.is_empty() && !encodings.iter().any(is_coded)
        };
        wanted.retain(is_plain);
        if wanted.is_empty() {
            let mut available = available(stored);
            available.retain(|uid| uid.parse().is_ok_and(|uid| is_plain(&Wanted::Exactly(uid))));
            return Err(ArchiveError::NotAcceptable { available });
        }
        Ok(Instances::of_one(self.clone(), scope.clone(), located, wanted))
    }

    /// The metadata of an instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn non_patient_metadata(
        &self,
        scope: &PartitionScope,
        category: &Category,
        instance: &Uid,
    ) -> Result<NonPatientMetadata, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let found = tx.non_patient(category.name, instance).await?;
        let (located, kept) = found.ok_or(ArchiveError::NotFound)?;
        Ok(NonPatientMetadata { version: located.watermark, kept })
    }

    /// Finds one bulk value of an instance.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn non_patient_bulk(
        &self,
        scope: &PartitionScope,
        category: &Category,
        instance: &Uid,
        path: &str,
    ) -> Result<Bulk, ArchiveError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let found = tx.non_patient_bulk(category.name, instance, path).await?;
        drop(tx);
        let (located, entry) = found.ok_or(ArchiveError::NotFound)?;
        Ok(Bulk::of(self.clone(), scope.clone(), located, entry))
    }

    /// Deletes an instance for good. Its bytes leave the store after `delete.grace_period`.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn delete_non_patient(
        &self,
        scope: &PartitionScope,
        category: &Category,
        instance: &Uid,
    ) -> Result<(), ArchiveError> {
        match repeated!(self.try_delete_non_patient(scope, category, instance))? {
            true => Ok(()),
            false => Err(ArchiveError::NotFound),
        }
    }

    async fn try_delete_non_patient(
        &self,
        scope: &PartitionScope,
        category: &Category,
        instance: &Uid,
    ) -> Result<bool, IndexError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        let grace = self.0.delete.grace_period;
        let is_gone = tx.non_patient_delete(category.name, instance, grace).await?;
        if is_gone {
            tx.audit_note("instances", 1);
            tx.commit().await?;
        }
        Ok(is_gone)
    }

    async fn try_store_non_patient(
        &self,
        scope: &PartitionScope,
        blob: NewBlob,
        new: &NewNonPatient<'_>,
    ) -> Result<bool, IndexError> {
        let mut tx = self.0.db.begin_in(scope).await?;
        if !tx.non_patient_create(blob, new).await? {
            return Ok(false);
        }
        tx.audit_note("instances", 1);
        tx.audit_note("category", new.category);
        tx.commit().await?;
        Ok(true)
    }
}

impl NonPatientSink {
    /// Takes the next bytes of the part. Waits while the blob store is slower than the sender.
    pub async fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len() as u64;
        if self.failed.is_some() {
            return;
        }
        let result = self.keep(bytes).await;
        if let Err(failed) = result {
            self.fail(failed).await;
        }
    }

    async fn keep(&mut self, bytes: Bytes) -> Result<(), Failed> {
        if self.upload.is_none() {
            let id = Uuid::new_v4();
            let blobs = self.archive.0.blobs.within(self.scope.partition());
            let upload = blobs.upload(id).await.map_err(|error| self.hindered(error.into()))?;
            self.upload = Some((id, Box::new(upload)));
        }
        let most = self.upload.as_ref().map_or(0, |(_, upload)| upload.most_held());
        let held = most + self.reader.sink().held();
        if self.held.is_in_the_way(self.length) || !self.held.hold(held).await {
            let detail = "uploads hold as much memory as they may, or this one was too slow";
            return Err(self.failure(FailureReason::OutOfResources, detail));
        }
        for slice in bytes.chunks(super::part::SLICE) {
            if let Err(error) = read_slice(&mut self.reader, slice).await {
                let (reason, detail) = explain(&error);
                return Err(self.failure(reason, &detail));
            }
        }
        hash(&mut self.sha256, &bytes).await;
        let Some((_, upload)) = &mut self.upload else { return Ok(()) };
        upload.push(bytes).await.map_err(|error| self.hindered(error.into()))
    }

    fn failure(&self, reason: FailureReason, detail: &str) -> Failed {
        Failed { sop: self.reader.sink().sop(), reason, detail: detail.to_owned() }
    }

    fn hindered(&self, error: ArchiveError) -> Failed {
        let partition = self.scope.partition();
        tracing::error!(%partition, error = %error.chain(), "an instance could not be stored");
        self.failure(FailureReason::Processing, "the archive could not store the instance now")
    }

    async fn fail(&mut self, failed: Failed) {
        self.failed = Some(failed);
        if let Some((_, upload)) = self.upload.take() {
            discard(*upload).await;
        }
        self.held.hold_now(0);
    }

    /// The part is longer than an instance may be; its rest is not read.
    pub async fn refuse_too_large(mut self, limit: u64) -> Failed {
        let (reason, detail) = explain(&DicomError::Limit { key: "limits.instance_bytes", limit });
        let failed = self.failure(reason, &detail);
        self.fail(failed.clone()).await;
        failed
    }

    /// The part ended before it was complete.
    pub async fn abandon(mut self) {
        if let Some((_, upload)) = self.upload.take() {
            discard(*upload).await;
        }
    }

    /// The part is complete: checks it, and stores it.
    ///
    /// # Errors
    /// Why it is not stored.
    pub async fn finish(mut self) -> Result<Stored, Failed> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let sop = self.reader.sink().sop();
        let upload = self.upload.take();
        let read = self.reader.finish().and_then(Indexer::finish_non_patient);
        let mut indexed = match read {
            Ok(indexed) => indexed,
            Err(error) => {
                if let Some((_, upload)) = upload {
                    discard(*upload).await;
                }
                let (reason, detail) = explain(&error);
                return Err(Failed { sop, reason, detail });
            }
        };
        let json = std::mem::take(&mut indexed.metadata);
        let compressed = tokio::task::spawn_blocking(move || kept::compress(&json));
        let metadata = compressed.await.ok().and_then(Result::ok);
        let storing = Storing {
            archive: &self.archive,
            scope: &self.scope,
            category: self.category,
            wanted: self.wanted.as_ref(),
            indexed: &indexed,
        };
        let (length, sha256) = (self.length, self.sha256.finalize().into());
        storing.store(upload, metadata, (length, sha256)).await?;
        let NonPatient { sop_class, instance, warnings, .. } = indexed;
        let (study, series) = (instance.clone(), instance.clone());
        let (coerced, original) = Default::default();
        let is_identical = false;
        Ok(Stored { sop_class, study, series, instance, is_identical, warnings, coerced, original })
    }
}

/// An instance that was read to its end.
struct Storing<'a> {
    archive: &'a Archive,
    scope: &'a PartitionScope,
    category: &'static Category,
    wanted: Option<&'a Uid>,
    indexed: &'a NonPatient,
}

impl Storing<'_> {
    fn failed(&self, reason: FailureReason, detail: &str) -> Failed {
        let sop = Some((self.indexed.sop_class.clone(), self.indexed.instance.clone()));
        Failed { sop, reason, detail: detail.to_owned() }
    }

    fn hindered(&self, error: ArchiveError) -> Failed {
        let partition = self.scope.partition();
        tracing::error!(%partition, error = %error.chain(), "an instance could not be stored");
        self.failed(FailureReason::Processing, "the archive could not store the instance now")
    }

    async fn store(
        &self,
        upload: Option<(Uuid, Box<Upload>)>,
        metadata: Option<Vec<u8>>,
        (length, sha256): (u64, [u8; 32]),
    ) -> Result<(), Failed> {
        let Some((id, upload)) = upload else {
            return Err(self.failed(FailureReason::CannotUnderstand, "the part is empty"));
        };
        let checked = match &metadata {
            None => {
                let detail = "the metadata could not be compressed";
                Err(self.failed(FailureReason::Processing, detail))
            }
            Some(metadata) => {
                let new = self.row(metadata, length, sha256);
                match self.check() {
                    Ok(()) => self.is_new(&new).await.map(|is_new| (new, is_new)),
                    Err(failed) => Err(failed),
                }
            }
        };
        let new = match checked {
            Ok((new, true)) => new,
            Ok((_, false)) => {
                discard(*upload).await;
                return Ok(());
            }
            Err(failed) => {
                discard(*upload).await;
                return Err(failed);
            }
        };
        upload.finish().await.map_err(|error| self.hindered(error.into()))?;
        let blob = NewBlob { id, length };
        let stored = repeated!(self.archive.try_store_non_patient(self.scope, blob, &new));
        match stored {
            Ok(true) => Ok(()),
            // Another came first; the blob is left to the sweeper.
            Ok(false) if self.is_new(&new).await? => {
                // And was deleted meanwhile: there is neither.
                let detail = "the archive could not store the instance now";
                Err(self.failed(FailureReason::Processing, detail))
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.hindered(error.into())),
        }
    }

    fn row<'a>(&'a self, metadata: &'a [u8], length: u64, sha256: [u8; 32]) -> NewNonPatient<'a> {
        let (category, indexed) = (self.category.name, self.indexed);
        NewNonPatient { category, indexed, metadata, length, sha256 }
    }

    /// Whether it belongs where it is sent to.
    fn check(&self) -> Result<(), Failed> {
        if !self.category.holds(&self.indexed.sop_class) {
            let detail = "(0008,0016) is no SOP class of this resource";
            return Err(self.failed(FailureReason::DoesNotMatchSopClass, detail));
        }
        if self.wanted.is_some_and(|wanted| *wanted != self.indexed.instance) {
            let detail = "(0008,0018) is not the instance of the request URL";
            return Err(self.failed(FailureReason::DoesNotMatchSopClass, detail));
        }
        Ok(())
    }

    /// Whether there is none under its UID; false: there is the same.
    async fn is_new(&self, new: &NewNonPatient<'_>) -> Result<bool, Failed> {
        let had = async {
            let mut tx = self.archive.0.db.begin_in(self.scope).await?;
            tx.non_patient_had(new).await
        };
        let identical_fails = self.archive.0.store.identical == Identical::Fail;
        match had.await {
            Ok(Had::No) => Ok(true),
            Ok(Had::Same) if !identical_fails => Ok(false),
            Ok(Had::Same) => {
                let detail = "the instance is already stored";
                Err(self.failed(FailureReason::DuplicateInstance, detail))
            }
            Ok(Had::Other) => {
                let detail = "other bytes are stored under this SOP Instance UID";
                Err(self.failed(FailureReason::DuplicateInstance, detail))
            }
            Err(error) => Err(self.hindered(error.into())),
        }
    }
}

impl NonPatientMetadata {
    /// As a DICOM JSON array. The URI of a bulk value is `<base>/<path><query>`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn array(self, (base, query): (String, String)) -> Result<Bytes, ArchiveError> {
        away(&self.kept, move |kept| {
            let mut out = vec![b'['];
            json::resolve_bulk(&mut out, &decompress(kept)?, &base, &query);
            out.push(b']');
            Ok(Bytes::from(out))
        })
        .await
    }

    /// As a document in the Native DICOM Model.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn document(
        self,
        (base, query): (String, String),
        encoding: xml::Encoding,
    ) -> Result<Bytes, ArchiveError> {
        away(&self.kept, move |kept| {
            let mut json = Vec::new();
            json::resolve_bulk(&mut json, &decompress(kept)?, &base, &query);
            document(&json, encoding).map(Bytes::from)
        })
        .await
    }
}
