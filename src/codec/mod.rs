//! Codecs: one frame of pixel data from the bytes of a transfer syntax to native pixels and back.
//!
//! Owns what can be decoded and encoded ([`decodes`], [`encodes`]), the description of pixels that
//! both sides share ([`Layout`]), and one file or folder for each family of codecs. Holds: bytes
//! are hostile, so that no input panics, memory is bounded by the size that [`Layout`] announces,
//! and what does not agree with it is an error, never a wrong picture. Pure and synchronous; who
//! calls keeps it away from the threads that serve requests. Absent: data sets, files, I/O.

mod hevc;
mod jpeg;
mod jpeg2000;
mod jpeg_ls;
mod jpeg_xl;
mod layout;
mod mp4;
pub mod native;
pub mod pictures;
pub mod probe;
mod rle;

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
    match syntax.as_str() {
        jpeg::BASELINE | jpeg::EXTENDED | jpeg::SPECTRAL | jpeg::PROGRESSIVE => true,
        jpeg::LOSSLESS | jpeg::LOSSLESS_SV1 => true,
        ENCAPSULATED | DEFLATED_FRAME => true,
        RLE => true,
        JPEG_LS | JPEG_LS_NEAR => true,
        uid if jpeg2000::decodes(uid) => true,
        uid if jpeg_xl::decodes(uid) => true,
        _ => TransferSyntax::of(syntax).pixels == PixelForm::Native,
    }
}

/// Whether native frames can be turned into ones of this transfer syntax.
pub fn encodes(syntax: &Uid) -> bool {
    match syntax.as_str() {
        jpeg::BASELINE | jpeg::EXTENDED | jpeg::LOSSLESS | jpeg::LOSSLESS_SV1 => true,
        ENCAPSULATED | DEFLATED_FRAME => true,
        RLE => true,
        JPEG_LS | JPEG_LS_NEAR => true,
        uid if jpeg2000::decodes(uid) => true,
        jpeg_xl::LOSSLESS => true,
        uid => TransferSyntax::of(syntax).pixels == PixelForm::Native && native::encodes(uid),
    }
}

/// Whether encoding into this transfer syntax keeps every bit of every sample.
pub fn is_lossless(syntax: &Uid) -> bool {
    match syntax.as_str() {
        jpeg::BASELINE | jpeg::EXTENDED | jpeg::SPECTRAL | jpeg::PROGRESSIVE => false,
        JPEG_LS_NEAR => false,
        uid if jpeg2000::decodes(uid) => jpeg2000::is_lossless(uid),
        uid if jpeg_xl::decodes(uid) => uid == jpeg_xl::LOSSLESS,
        _ => true,
    }
}

/// Decodes one frame.
///
/// # Errors
/// [`CodecError`].
pub fn decode(syntax: &Uid, layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    match syntax.as_str() {
        jpeg::BASELINE | jpeg::EXTENDED | jpeg::SPECTRAL => jpeg::decode(layout, frame),
        jpeg::PROGRESSIVE | jpeg::LOSSLESS | jpeg::LOSSLESS_SV1 => jpeg::decode(layout, frame),
        ENCAPSULATED => native::decode_little(layout, frame),
        DEFLATED_FRAME => native::inflate(layout, frame),
        RLE => rle::decode(layout, frame),
        JPEG_LS | JPEG_LS_NEAR => jpeg_ls::decode(layout, frame),
        uid if jpeg2000::decodes(uid) => jpeg2000::decode(layout, frame),
        uid if jpeg_xl::decodes(uid) => jpeg_xl::decode(uid, layout, frame),
        uid if decodes(syntax) => native::decode(uid, layout, frame),
        _ => Err(CodecError::Unsupported("this transfer syntax")),
    }
}

/// Encodes one frame. `quality` (1 to 100) is for lossy syntaxes.
///
/// # Errors
/// [`CodecError::Unsupported`] where this syntax cannot hold such pixels.
pub fn encode(syntax: &Uid, raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    match syntax.as_str() {
        jpeg::BASELINE => jpeg::encode_baseline(raster, quality),
        jpeg::EXTENDED => jpeg::encode_extended(raster, quality),
        uid @ (jpeg::LOSSLESS | jpeg::LOSSLESS_SV1) => jpeg::encode_lossless(raster, uid),
        ENCAPSULATED => native::encode(raster),
        DEFLATED_FRAME => native::deflate(raster),
        RLE => rle::encode(raster),
        JPEG_LS => jpeg_ls::encode(raster),
        JPEG_LS_NEAR => jpeg_ls::encode_near(raster, quality),
        uid if jpeg2000::decodes(uid) => jpeg2000::encode(uid, raster, quality),
        jpeg_xl::LOSSLESS => jpeg_xl::encode(raster),
        _ if encodes(syntax) => native::encode(raster),
        _ => Err(CodecError::Unsupported("this transfer syntax")),
    }
}

const ENCAPSULATED: &str = "1.2.840.10008.1.2.1.98";
const DEFLATED_FRAME: &str = "1.2.840.10008.1.2.8.1";
const RLE: &str = "1.2.840.10008.1.2.5";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_LS_NEAR: &str = "1.2.840.10008.1.2.4.81";

#[cfg(test)]
mod tests;
