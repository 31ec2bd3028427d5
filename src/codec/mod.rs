//! Codecs: one frame of pixel data from the bytes of a transfer syntax to native pixels and back.
//!
//! Owns what can be decoded and encoded ([`decodes`], [`encodes`]), the description of pixels that
//! both sides share ([`Layout`]), and one file or folder for each family of codecs. Holds: bytes
//! are hostile, so that no input panics, memory is bounded by the size that [`Layout`] announces,
//! and what does not agree with it is an error, never a wrong picture. Pure and synchronous; who
//! calls keeps it away from the threads that serve requests. Absent: data sets, files, I/O.

mod layout;

pub use layout::{Layout, LayoutError, Photometric};

use crate::dicom::{
    Uid,
    transfer_syntax::{PixelForm, TransferSyntax},
};

/// One frame of native pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    /// What the bytes mean: as the source's layout but for what decoding changed (photometric
    /// interpretation, planar configuration).
    pub layout: Layout,
    /// The frame as Explicit VR Little Endian has it (PS3.5 §8.1): `layout.frame_length()` bytes.
    pub data: Vec<u8>,
}

/// One encoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What the data set must say about the frames now: photometric interpretation, planar
    /// configuration, bits.
    pub layout: Layout,
    /// The codestream, without padding to even length.
    pub data: Vec<u8>,
}

/// A frame cannot be decoded or encoded. Texts never repeat input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There is no codec for this transfer syntax, or not for such pixels.
    #[error("no codec for {0}")]
    Unsupported(&'static str),
    /// The bytes are not what the transfer syntax or the attributes say.
    #[error("the pixel data is damaged: {0}")]
    Damaged(&'static str),
}

/// Whether frames of this transfer syntax can be turned into native ones.
pub fn decodes(syntax: &Uid) -> bool {
    TransferSyntax::of(syntax).pixels == PixelForm::Native
}

/// Whether native frames can be turned into ones of this transfer syntax.
pub fn encodes(syntax: &Uid) -> bool {
    TransferSyntax::of(syntax).pixels == PixelForm::Native
}

/// Whether encoding into this transfer syntax keeps every bit of every sample.
pub fn is_lossless(_syntax: &Uid) -> bool {
    true
}

/// Decodes one frame.
///
/// # Errors
/// [`CodecError`].
pub fn decode(syntax: &Uid, layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    if TransferSyntax::of(syntax).pixels != PixelForm::Native {
        return Err(CodecError::Unsupported("this transfer syntax"));
    }
    let data = frame.get(..layout.frame_length()).ok_or(CodecError::Damaged("too few bytes"))?;
    Ok(Raster { layout: layout.clone(), data: data.to_vec() })
}

/// Encodes one frame. `quality` (1 to 100) is for lossy syntaxes.
///
/// # Errors
/// [`CodecError::Unsupported`] where this syntax cannot hold such pixels.
pub fn encode(syntax: &Uid, raster: &Raster, _quality: u8) -> Result<Encoded, CodecError> {
    if TransferSyntax::of(syntax).pixels != PixelForm::Native {
        return Err(CodecError::Unsupported("this transfer syntax"));
    }
    Ok(Encoded { layout: raster.layout.clone(), data: raster.data.clone() })
}
