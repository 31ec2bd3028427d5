//! Frames through the codecs: stored bytes in, native or encoded frames out.
//!
//! Holds: what a frame takes in memory, stored and decoded, is reserved before it is read and given
//! back when its last byte is dropped; work is done on the codec pool and dropped when its caller
//! goes away; what does not decode is [`ArchiveError::Undecodable`], never a wrong picture.

use std::ops::Deref;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Archive, ArchiveError, ByteStream, Frames, codec_pool::Reserved, given::Made};
use crate::{
    codec::{self, CodecError, Encoded, Layout, Photometric, Raster},
    dicom::{
        Uid,
        data_set::DataSet,
        transfer_syntax::{OCTET_STREAM, PixelForm, TransferSyntax},
    },
    tenancy::PartitionId,
};

/// Quality of lossy encodings (1 to 100), which only those who name one get.
pub(super) const QUALITY: u8 = 90;

/// What the frames of an instance are.
#[derive(Clone, Debug)]
pub(super) struct Pixels {
    stored: Uid,
    form: PixelForm,
    layout: Layout,
}

/// A decoded frame, counted to the memory that frames may take.
#[derive(Debug)]
pub struct Decoded {
    raster: Raster,
    reserved: Reserved,
}

impl Deref for Decoded {
    type Target = Raster;
    fn deref(&self) -> &Raster {
        &self.raster
    }
}

impl Decoded {
    /// Its bytes, which go on being counted until the last of them is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Held { data: self.raster.data, _reserved: self.reserved })
    }
}

/// Bytes with the memory that was reserved for them.
struct Held {
    data: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// How frames are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// As they are stored, but for their byte order.
    Stored,
    /// As Explicit VR Little Endian has them.
    Native,
    /// Encoded anew in this transfer syntax.
    Encoded(Uid),
}

impl Given {
    /// The form of a whole instance in the transfer syntax `wanted`.
    pub(super) fn of(wanted: &Uid) -> Self {
        match TransferSyntax::of(wanted).pixels {
            PixelForm::Native => Self::Native,
            _ => Self::Encoded(wanted.clone()),
        }
    }
}

/// Whether a request that has to wait may be refused instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The status of the answer is still open.
    No,
    /// The answer is on its way.
    Yes,
}

impl Pixels {
    /// Reads what a header says of the frames stored as `stored`.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`] where there is no decoder or the attributes do not do.
    pub(super) fn of(header: &DataSet, stored: &Uid) -> Result<Self, ArchiveError> {
        let form = TransferSyntax::of(stored).pixels;
        if form != PixelForm::Native && !codec::decodes(stored) {
            return Err(ArchiveError::Undecodable("there is no decoder for its transfer syntax"));
        }
        let layout = Layout::of(header.root()).map_err(|_| {
            ArchiveError::Undecodable("its Image Pixel attributes are missing or do not fit")
        })?;
        Ok(Self { stored: stored.clone(), form, layout })
    }

    /// Bytes of a frame without subsampling, which decoders undo.
    fn decoded_bytes(&self) -> u64 {
        let mut full = self.layout.clone();
        if full.samples > 1 {
            full.photometric = Photometric::Rgb;
        }
        full.frame_length() as u64
    }

    /// Bytes of a decoded frame, where that is known beforehand.
    pub(super) fn decoded_length(&self) -> Option<u64> {
        let is_subsampled = matches!(
            self.layout.photometric,
            Photometric::YbrFull422 | Photometric::YbrPartial422 | Photometric::YbrPartial420
        );
        // Codecs whose samples are those of native pixel data keep the subsampling.
        let keeps = TransferSyntax::of(&self.stored).media_type == OCTET_STREAM;
        (!is_subsampled || !keeps).then(|| self.decoded_bytes())
    }

    /// Turns stored bytes, native ones in little endian, into a frame.
    pub(super) fn decode(&self, stored: &[u8]) -> Result<Raster, CodecError> {
        codec::decode(&self.stored, &self.layout, stored)
    }
}

impl From<CodecError> for ArchiveError {
    fn from(error: CodecError) -> Self {
        Self::Undecodable(match error {
            CodecError::Unsupported(_) => "there is no codec for such pixels",
            CodecError::Damaged(_) => "its pixel data is damaged",
        })
    }
}

impl Frames {
    /// Bytes of memory that giving the frame at `index` of the request takes.
    pub(super) fn cost(&self, index: usize, pixels: &Pixels, given: &Given) -> u64 {
        let copies = match given {
            Given::Stored => 0,
            Given::Native => 1,
            Given::Encoded(_) => 2,
        };
        self.length(index).saturating_add(pixels.decoded_bytes().saturating_mul(copies))
    }

    /// The frame at `index` of the request, decoded.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::Unavailable`].
    pub(super) async fn decode(
        &self,
        index: usize,
        pixels: &Pixels,
        reserved: Reserved,
        begun: Begun,
    ) -> Result<Decoded, ArchiveError> {
        let stored = collect(self.read(index), self.length(index)).await?;
        if pixels.form == PixelForm::Native {
            return Ok(Decoded { raster: pixels.decode(&stored)?, reserved });
        }
        let pixels = pixels.clone();
        let work = move || pixels.decode(&stored);
        let raster = run(self.archive(), self.partition(), begun, work).await??;
        Ok(Decoded { raster, reserved })
    }

    /// The frame at `index` of the request, encoded anew.
    ///
    /// # Errors
    /// As [`Frames::decode`].
    pub(super) async fn recode(
        &self,
        index: usize,
        pixels: &Pixels,
        wanted: &Uid,
        reserved: Reserved,
        begun: Begun,
    ) -> Result<Made, ArchiveError> {
        let stored = collect(self.read(index), self.length(index)).await?;
        let (pixels, wanted) = (pixels.clone(), wanted.clone());
        let work = move || {
            let raster = pixels.decode(&stored)?;
            codec::encode(&wanted, &raster, QUALITY)
        };
        let Encoded { layout, data } = run(self.archive(), self.partition(), begun, work).await??;
        let data = Bytes::from_owner(Held { data, _reserved: reserved });
        Ok(Made { layout, data })
    }
}

pub(super) async fn run<T: Send + 'static>(
    archive: &Archive,
    partition: &PartitionId,
    begun: Begun,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ArchiveError> {
    match begun {
        Begun::No => archive.codecs().run(partition, work).await,
        Begun::Yes => archive.codecs().go_on(partition, work).await,
    }
}

/// A stream of `length` bytes, in memory.
pub(super) async fn collect(mut stream: ByteStream, length: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
