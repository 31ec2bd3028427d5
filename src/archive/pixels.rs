//! Frames through the codecs: stored bytes in, native or encoded frames out.
//!
//! Holds: what a frame takes in memory, stored and decoded, is reserved before it is read and given
//! back when its last byte is dropped; work is done on the codec pool and dropped when its caller
//! goes away; what does not decode is [`ArchiveError::Undecodable`], never a wrong picture.

use std::ops::Deref;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Archive, ArchiveError, ByteStream, Frames, codec_pool::Reserved};
use crate::{
    codec::{self, CodecError, Encoded, Layout, Photometric, Raster},
    dicom::{
        Uid,
        data_set::DataSet,
        transfer_syntax::{EXPLICIT_LITTLE, PixelForm, TransferSyntax},
    },
    tenancy::PartitionId,
};

/// Native pixel data in words of the other byte order (GE's private syntax).
const BIG_ENDIAN_PIXELS: &str = "1.2.840.113619.5.2";

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

/// An encoded frame, counted likewise.
pub(super) struct Recoded {
    pub(super) layout: Layout,
    pub(super) data: Bytes,
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

    /// The layout that the header describes.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layout of native frames of `length` bytes. Some writers give the photometric
    /// interpretation of the compressed form, without subsampling.
    fn native_layout(&self, length: usize) -> Layout {
        let mut full = self.layout.clone();
        full.photometric = match full.photometric {
            Photometric::YbrFull422 => Photometric::YbrFull,
            _ => return full,
        };
        if full.frame_length() == length { full } else { self.layout.clone() }
    }

    /// Turns stored bytes, native ones in little endian, into a frame.
    fn decode(&self, mut stored: Vec<u8>) -> Result<Raster, CodecError> {
        if self.form != PixelForm::Native {
            return codec::decode(&self.stored, &self.layout, &stored);
        }
        let layout = self.native_layout(stored.len());
        if stored.len() < layout.frame_length() {
            return Err(CodecError::Damaged("too few bytes"));
        }
        stored.truncate(layout.frame_length());
        if self.stored.as_str() == BIG_ENDIAN_PIXELS && layout.bits_allocated == 16 {
            stored.as_chunks_mut::<2>().0.iter_mut().for_each(|word| word.reverse());
        }
        Ok(Raster { layout, data: stored })
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
    /// The frame at `index` of the request, decoded.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`], [`ArchiveError::Unavailable`].
    pub(super) async fn decode(
        &self,
        index: usize,
        pixels: &Pixels,
        begun: Begun,
    ) -> Result<Decoded, ArchiveError> {
        let (stored, reserved) = self.held(index, pixels, 1).await?;
        if pixels.form == PixelForm::Native {
            return Ok(Decoded { raster: pixels.decode(stored)?, reserved });
        }
        let pixels = pixels.clone();
        let work = move || pixels.decode(stored);
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
        quality: u8,
        begun: Begun,
    ) -> Result<Recoded, ArchiveError> {
        let (stored, reserved) = self.held(index, pixels, 2).await?;
        let (pixels, wanted) = (pixels.clone(), wanted.clone());
        let work = move || {
            let raster = pixels.decode(stored)?;
            codec::encode(&wanted, &raster, quality)
        };
        let Encoded { layout, data } = run(self.archive(), self.partition(), begun, work).await??;
        let data = Bytes::from_owner(Held { data, _reserved: reserved });
        Ok(Recoded { layout, data })
    }

    /// The stored bytes of a frame, with memory for them and for `copies` of it decoded.
    async fn held(
        &self,
        index: usize,
        pixels: &Pixels,
        copies: u64,
    ) -> Result<(Vec<u8>, Reserved), ArchiveError> {
        let length = self.length(index);
        let decoded = (pixels.layout.frame_length() as u64).saturating_mul(copies);
        let bytes = length.saturating_add(decoded);
        let reserved = self.archive().codecs().reserve(self.partition(), bytes).await?;
        Ok((collect(self.read(index), length).await?, reserved))
    }
}

async fn run<T: Send + 'static>(
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
async fn collect(mut stream: ByteStream, length: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Explicit VR Little Endian, as a UID.
pub(super) fn explicit_little() -> Result<Uid, ArchiveError> {
    EXPLICIT_LITTLE
        .parse()
        .map_err(|error: crate::dicom::uid::InvalidUid| ArchiveError::Internal(error.into()))
}
