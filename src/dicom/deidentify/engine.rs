//! The de-identifier: a file in, a file out.

use std::sync::Arc;

use bytes::Bytes;

use super::{Profile, Refusal, scrub::Scrub};
use crate::dicom::{
    DicomError, Limits, Uid,
    explicit::Explicit,
    reader::Reader,
    transfer_syntax::{EXPLICIT_LITTLE, Encoding, TransferSyntax},
};

/// Values above this, in bytes, pass through the reader in pieces.
const BULK: u32 = 4096;

/// Why an instance was not de-identified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeidentifyError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] DicomError),
}

/// What a de-identified instance is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentity {
    /// (0008,0016), which stays.
    pub sop_class: Uid,
    /// (0020,000D); `None` where the instance belongs to no study.
    pub study: Option<Uid>,
    /// (0020,000E); `None` where the instance belongs to no series.
    pub series: Option<Uid>,
    /// (0008,0018).
    pub instance: Uid,
    /// (0010,0020).
    pub patient_id: String,
}

/// De-identifies one file, which is pushed in pieces.
///
/// Push, then take all there is, and again; at the end [`Deidentifier::finish`]. Who can copy from
/// the source asks [`Deidentifier::tail`] after each push: in a file of native pixels it soon says
/// that the rest leaves as it is.
pub struct Deidentifier {
    /// Makes the data set Explicit VR Little Endian, where it is not.
    first: Option<Reader<Explicit>>,
    scrub: Reader<Scrub>,
}

impl Deidentifier {
    /// One for a file that is stored in this transfer syntax.
    pub fn new(profile: Arc<Profile>, stored_as: &Uid, limits: Limits) -> Self {
        let is_explicit = TransferSyntax::of(stored_as).encoding == Encoding::ExplicitLittle;
        let first = (!is_explicit).then(|| Reader::new(Explicit::new(None), limits, BULK));
        let scrub = Scrub::new(profile, stored_as.clone(), limits);
        Self { first, scrub: Reader::new(scrub, limits, BULK) }
    }

    /// The transfer syntax in which a file stored in `stored_as` comes out.
    pub fn transfer_syntax(stored_as: &Uid) -> Uid {
        match TransferSyntax::of(stored_as).encoding {
            Encoding::ExplicitLittle => stored_as.clone(),
            _ => EXPLICIT_LITTLE.parse().unwrap_or_else(|_| stored_as.clone()),
        }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`DeidentifyError`]; nothing of what was not taken yet may be used then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DeidentifyError> {
        while self.push_some(&mut bytes)? {}
        Ok(())
    }

    /// As [`Deidentifier::push`], but it takes no more than can be held: whether it must be called
    /// again with what is left, once all there is was taken.
    ///
    /// # Errors
    /// As [`Deidentifier::push`].
    pub fn push_some(&mut self, bytes: &mut &[u8]) -> Result<bool, DeidentifyError> {
        let Some(first) = &mut self.first else {
            return self.scrub.push_some(bytes).map_err(|error| why(self.scrub.sink(), error));
        };
        let is_more = first.push_some(bytes)?;
        while let Some(piece) = first.sink_mut().take() {
            self.scrub.push(&piece).map_err(|error| why(self.scrub.sink(), error))?;
        }
        Ok(is_more)
    }

    /// The next piece of the de-identified file, if there is one.
    pub fn take(&mut self) -> Option<Bytes> {
        self.scrub.sink_mut().take()
    }

    /// Of a file of `length` bytes: whether everything that was not pushed yet leaves as it is. If
    /// so, what was not taken yet, which goes before it; nothing must be pushed any more then.
    pub fn tail(&mut self, length: u64) -> Option<Vec<Bytes>> {
        let is_last = self.first.is_none()
            && length.is_multiple_of(2)
            && self.scrub.sink().pixels_end == Some(length);
        is_last.then(|| self.scrub.sink_mut().flush())
    }

    /// What the instance is called, once the first piece was there.
    pub fn identity(&self) -> Option<&NewIdentity> {
        self.scrub.sink().identity.as_ref()
    }

    /// The file ended: what the instance is called, and the rest of the de-identified file.
    ///
    /// # Errors
    /// As [`Deidentifier::push`].
    pub fn finish(mut self) -> Result<(NewIdentity, Vec<Bytes>), DeidentifyError> {
        if let Some(first) = self.first.take() {
            for piece in first.finish()?.finish() {
                self.scrub.push(&piece).map_err(|error| why(self.scrub.sink(), error))?;
            }
        }
        let mut scrub = self.scrub.finish()?;
        let ended = scrub.end();
        ended.map_err(|error| why(&scrub, error))
    }
}

/// A refusal is an error to the reader as well.
fn why(scrub: &Scrub, error: DicomError) -> DeidentifyError {
    scrub.refusal.map_or(DeidentifyError::Unreadable(error), DeidentifyError::Refused)
}
