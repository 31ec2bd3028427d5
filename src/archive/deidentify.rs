//! Retrieve, de-identified (PS3.15 Annex E): what [`Instances`] gives, through the de-identifier.
//!
//! Holds: an instance that may not be given is found out before a byte of it leaves, and left out;
//! where it is the only one, that is the error. What turns up behind its first bytes ends the answer.
//! Memory does not grow with the size of pixel data. Absent: what is done to attributes (`dicom`).

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Archive, ArchiveError, InstanceHead, Instances, retrieve::unreadable};
use crate::{
    dicom::{
        DicomError, Limits,
        deidentify::{Deidentifier, DeidentifyError, Options, Profile},
    },
    tenancy::PartitionScope,
};

/// Bytes of a header above which it is read away from the threads that serve requests.
const MUCH: u64 = 256 * 1024;
/// Bytes that are hashed before other tasks of the thread get their turn.
const SLICE: usize = 128 << 10;

impl Archive {
    /// What is done to instances of a partition that are asked for de-identified: options as
    /// configured, under the partition's key, which is made if there is none yet.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn deidentification(
        &self,
        scope: &PartitionScope,
    ) -> Result<Arc<Profile>, ArchiveError> {
        self.deidentification_with(scope, self.0.deidentify.options).await
    }

    /// The same with other options.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn deidentification_with(
        &self,
        scope: &PartitionScope,
        options: Options,
    ) -> Result<Arc<Profile>, ArchiveError> {
        let key = self.0.db.pseudonym_key(scope).await?;
        Ok(Arc::new(Profile::new(options, &key)))
    }
}

/// What the bytes of a file are held against, and those that were read.
struct Noted {
    length: u64,
    noted: Vec<u8>,
    sha256: Sha256,
}

/// De-identified instances, one after another.
pub struct Deidentified {
    instances: Instances,
    profile: Arc<Profile>,
    limits: Limits,
    /// Whether the transfer syntax may be another one than that of the instances.
    takes_any: bool,
    /// What the bytes of an instance are held against, and those that were read.
    noted: Option<Noted>,
    engine: Option<Deidentifier>,
    /// Bytes of the instance that the engine was given.
    pushed: u64,
    unread: Option<Bytes>,
    ready: VecDeque<Bytes>,
    begun: bool,
    hindrance: Option<ArchiveError>,
    /// Whether instances had to be left out.
    pub partial: bool,
}

impl Instances {
    /// The same instances, de-identified.
    pub fn deidentified(self, profile: Arc<Profile>) -> Deidentified {
        Deidentified {
            limits: self.archive().dicom_limits(),
            partial: self.partial,
            instances: self,
            profile,
            takes_any: false,
            noted: None,
            engine: None,
            pushed: 0,
            unread: None,
            ready: VecDeque::new(),
            begun: false,
            hindrance: None,
        }
    }
}

impl Deidentified {
    /// To be kept: one instance in whatever transfer syntax becomes of it, whose bytes are held against
    /// the SHA-256 that was noted of so many of them.
    pub(super) fn kept(self, (length, noted): (u64, Option<Vec<u8>>)) -> Self {
        let noted = noted.map(|noted| Noted { length, noted, sha256: Sha256::new() });
        Self { takes_any: true, noted, ..self }
    }

    /// Whether the bytes that were read, of which none is left, are those that were noted.
    pub(super) fn is_whole(&self) -> bool {
        self.noted.as_ref().is_none_or(|noted| {
            let read: [u8; 32] = noted.sha256.clone().finalize().into();
            noted.noted[..] == read
        })
    }

    /// Identifies what is given: changes with the instances, the options and the key.
    pub fn version(&self) -> String {
        format!("{} {}", self.instances.tag, self.profile.fingerprint())
    }

    /// The instances as they are stored.
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Goes to the next instance, which is named as it is called now; `None` after the last one.
    ///
    /// # Errors
    /// As [`Instances::next`]; [`ArchiveError::NotDeidentifiable`] where none can be given.
    pub async fn next(&mut self) -> Result<Option<InstanceHead>, ArchiveError> {
        while self.chunk().await?.is_some() {}
        loop {
            let Some(head) = self.instances.next().await? else {
                self.partial |= self.instances.partial;
                let hindrance = self.hindrance.take().filter(|_| !self.begun);
                return hindrance.map_or(Ok(None), Err);
            };
            match self.open(&head).await {
                Ok(head) => {
                    self.begun = true;
                    self.partial |= self.instances.partial;
                    return Ok(Some(head));
                }
                Err(
                    error @ (ArchiveError::NotDeidentifiable(_)
                    | ArchiveError::TooLarge { .. }
                    | ArchiveError::NotAcceptable { .. }),
                ) => {
                    self.engine = None;
                    self.unread = None;
                    self.ready.clear();
                    self.partial = true;
                    self.hindrance.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to the first bytes that leave.
    async fn open(&mut self, head: &InstanceHead) -> Result<InstanceHead, ArchiveError> {
        // What is put before a file is not part of what was hashed.
        self.noted = self.noted.take().filter(|noted| head.length == Some(noted.length));
        let given = &head.transfer_syntax;
        let transfer_syntax = Deidentifier::transfer_syntax(given);
        if transfer_syntax != *given && !self.takes_any {
            return Err(ArchiveError::NotAcceptable {
                available: vec![transfer_syntax.to_string()],
            });
        }
        let engine = Deidentifier::new(self.profile.clone(), given, self.limits);
        self.engine = Some(engine);
        self.pushed = 0;
        let mut identity = None;
        while identity.is_none() && self.engine.is_some() {
            identity = self.step().await?;
        }
        let identity = identity.ok_or_else(|| {
            ArchiveError::Internal(anyhow::anyhow!("nothing is left of a stored instance"))
        })?;
        let of = |uid: Option<_>, stored| uid.unwrap_or_else(|| self.profile.uid(stored));
        Ok(InstanceHead {
            study: of(identity.study, &head.study),
            series: of(identity.series, &head.series),
            instance: identity.instance,
            transfer_syntax,
            length: None,
        })
    }

    /// The next bytes of the current instance; `None` at its end.
    ///
    /// # Errors
    /// As [`Deidentified::next`]; the answer cannot be completed then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.engine.is_none() {
                return Ok(None);
            }
            self.step().await?;
        }
    }

    /// Gives the engine some bytes, or the end; what the instance is called, once that is known.
    async fn step(
        &mut self,
    ) -> Result<Option<crate::dicom::deidentify::NewIdentity>, ArchiveError> {
        let Some(mut engine) = self.engine.take() else { return Ok(None) };
        let bytes = match self.unread.take() {
            Some(bytes) => Some(bytes),
            None => {
                let bytes = self.instances.chunk().await?;
                if let (Some(noted), Some(bytes)) = (&mut self.noted, &bytes) {
                    for slice in bytes.chunks(SLICE) {
                        noted.sha256.update(slice);
                        tokio::task::consume_budget().await;
                    }
                }
                bytes
            }
        };
        let is_much = self.pushed > MUCH && engine.identity().is_none();
        self.pushed += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let work = move || work(&mut engine, bytes).map(|worked| (engine, worked));
        let (mut engine, worked) = if is_much {
            let task = tokio::task::spawn_blocking(work);
            task.await.map_err(|error| ArchiveError::Internal(error.into()))??
        } else {
            work()?
        };
        tokio::task::consume_budget().await;
        match worked {
            Worked::Pushed(unread) => {
                self.unread = unread;
                self.ready.extend(std::iter::from_fn(|| engine.take()));
                let identity = engine.identity().cloned();
                self.engine = Some(engine);
                Ok(identity)
            }
            Worked::AtEnd => {
                let (identity, rest) = engine.finish().map_err(refused)?;
                self.ready.extend(rest);
                Ok(Some(identity))
            }
        }
    }
}

enum Worked {
    /// What is left of the bytes.
    Pushed(Option<Bytes>),
    AtEnd,
}

fn work(engine: &mut Deidentifier, bytes: Option<Bytes>) -> Result<Worked, ArchiveError> {
    let Some(bytes) = bytes else { return Ok(Worked::AtEnd) };
    let mut left = bytes.as_ref();
    let is_more = engine.push_some(&mut left).map_err(refused)?;
    Ok(Worked::Pushed(is_more.then(|| bytes.slice_ref(left))))
}

fn refused(error: DeidentifyError) -> ArchiveError {
    match error {
        DeidentifyError::Refused(refusal) => ArchiveError::NotDeidentifiable(refusal),
        DeidentifyError::Unreadable(DicomError::Limit { key, limit }) => {
            ArchiveError::TooLarge { key, limit }
        }
        DeidentifyError::Unreadable(error) => unreadable(error),
    }
}
