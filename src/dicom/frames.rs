//! Frame addressing: which bytes of a stored file are frame *n* (PS3.5 §A.4, PS3.3 §C.7.6.3).
//!
//! Owns [`FrameTable`] and how it is built from Image Pixel attributes, fragments and offset
//! tables. Holds: ranges of a table lie within the pixel data that it was built from. Absent: I/O,
//! decoding.

mod encapsulated;

use super::{
    Uid,
    transfer_syntax::{PixelForm, TransferSyntax},
};

pub use encapsulated::Fragment;

/// Where an instance's pixel data lies in its file, and how it splits into frames. Offsets count
/// from the first byte of the file (of the inflated stream, in a deflated data set).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameTable {
    /// Native pixel data: frame *n* (from 0) is `frame_bits` bits at bit `n * frame_bits` of the
    /// value at `offset`. With Bits Allocated 1, frames need not start on a byte.
    Native {
        /// First byte of the value.
        offset: u64,
        /// Length of the value in bytes.
        length: u64,
        /// Bits of one frame: Rows × Columns × Samples per Pixel × Bits Allocated (less where
        /// YBR_FULL_422 subsamples).
        frame_bits: u64,
        /// Number of frames.
        frames: u32,
    },
    /// Encapsulated, one fragment to a frame (nearly all files): `(offset, length)` of the
    /// fragment, item header excluded.
    Fragment {
        /// One entry a frame.
        frames: Vec<(u64, u32)>,
    },
    /// Encapsulated, several fragments to some frame: the fragments of each frame in order.
    Fragments {
        /// One entry a frame.
        frames: Vec<Vec<(u64, u32)>>,
    },
}

impl FrameTable {
    /// How many frames it addresses.
    pub fn len(&self) -> u32 {
        match self {
            Self::Native { frames, .. } => *frames,
            Self::Fragment { frames } => u32::try_from(frames.len()).unwrap_or(u32::MAX),
            Self::Fragments { frames } => u32::try_from(frames.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether it addresses none; no table is built so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The byte ranges `(offset, length)` of frame `frame`, from 0, in order. Of native frames that
    /// start inside a byte, the bytes that hold them: see [`FrameTable::skip_bits`].
    pub fn ranges(&self, frame: u32) -> Option<Vec<(u64, u64)>> {
        let at = usize::try_from(frame).ok()?;
        match self {
            Self::Native { offset, frame_bits, frames, .. } => {
                if frame >= *frames {
                    return None;
                }
                let first = u64::from(frame).checked_mul(*frame_bits)?;
                let start = first / 8;
                let end = first.checked_add(*frame_bits)?.div_ceil(8);
                Some(vec![(offset.checked_add(start)?, end - start)])
            }
            Self::Fragment { frames } => {
                frames.get(at).map(|&(offset, length)| vec![(offset, u64::from(length))])
            }
            Self::Fragments { frames } => {
                let widen = |&(offset, length): &(u64, u32)| (offset, u64::from(length));
                frames.get(at).map(|fragments| fragments.iter().map(widen).collect())
            }
        }
    }

    /// How many bits of the first byte of `ranges(frame)` belong to the frame before: 0 unless
    /// native frames do not start on bytes. They are its low bits (PS3.5 §8.1.1).
    pub fn skip_bits(&self, frame: u32) -> u8 {
        match self {
            Self::Native { frame_bits, .. } => {
                u8::try_from(u64::from(frame) % 8 * (frame_bits % 8) % 8).unwrap_or(0)
            }
            Self::Fragment { .. } | Self::Fragments { .. } => 0,
        }
    }
}

/// What the Image Pixel and Multi-frame modules say, as far as frames depend on it. `None`: absent
/// or unreadable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImagePixel {
    /// (0028,0010).
    pub rows: Option<u16>,
    /// (0028,0011).
    pub columns: Option<u16>,
    /// (0028,0002).
    pub samples_per_pixel: Option<u16>,
    /// (0028,0100).
    pub bits_allocated: Option<u16>,
    /// (0028,0008).
    pub number_of_frames: Option<u32>,
    /// (0028,0004) is one whose chrominance is subsampled where native.
    pub subsampling: Option<Subsampling>,
}

/// Native pixel data with fewer chrominance than luminance samples (PS3.3 §C.7.6.3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsampling {
    /// YBR_FULL_422, YBR_PARTIAL_422: two samples a pixel.
    Horizontal,
    /// YBR_PARTIAL_420: three samples for two pixels.
    Both,
}

impl Subsampling {
    /// The subsampling that a value of (0028,0004) implies.
    pub fn of(photometric_interpretation: &[u8]) -> Option<Self> {
        match photometric_interpretation.trim_ascii() {
            b"YBR_FULL_422" | b"YBR_PARTIAL_422" => Some(Self::Horizontal),
            b"YBR_PARTIAL_420" => Some(Self::Both),
            _ => None,
        }
    }
}

impl ImagePixel {
    /// Number of Frames; 1 where it is absent, empty or not positive.
    pub fn frames(&self) -> u32 {
        self.number_of_frames.filter(|&frames| frames > 0).unwrap_or(1)
    }

    /// The table of a native value of `length` bytes at `offset`, whose samples have
    /// `default_bits` where Bits Allocated says nothing (Float and Double Float Pixel Data). Frames
    /// that the value is too short for are not in it. `None` where there is no whole frame or the
    /// attributes do not tell.
    pub fn native(
        &self,
        offset: u64,
        length: u64,
        default_bits: Option<u16>,
    ) -> Option<FrameTable> {
        let pixels = u64::from(self.rows?) * u64::from(self.columns?);
        let bits = u64::from(self.bits_allocated.or(default_bits)?);
        let samples = self.samples_per_pixel.unwrap_or(1);
        let full = (pixels * bits).checked_mul(u64::from(samples))?;
        let available = length.checked_mul(8)?;
        let fits = |frame_bits: u64| {
            frame_bits.checked_mul(u64::from(self.frames())).is_some_and(|all| all <= available)
        };
        let frame_bits = match self.subsampling {
            // Some writers give the interpretation of the compressed form without subsampling.
            Some(_) if samples == 3 && fits(full) => full,
            Some(Subsampling::Horizontal) if samples == 3 => pixels * bits * 2,
            Some(Subsampling::Both) if samples == 3 => pixels * bits * 3 / 2,
            _ => full,
        };
        let whole = available.checked_div(frame_bits)?;
        let frames = u32::try_from(whole).unwrap_or(u32::MAX).min(self.frames());
        (frames > 0).then_some(FrameTable::Native { offset, length, frame_bits, frames })
    }
}

/// How a transfer syntax maps fragments to frames where no table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Video: the whole stream is one representation (PS3.18 §8.7.3.3).
    Stream,
    /// One fragment a frame, by its definition.
    Single,
    /// Code streams that begin with a marker.
    Marked,
}

impl Framing {
    fn of(transfer_syntax: &Uid) -> Self {
        if TransferSyntax::of(transfer_syntax).pixels == PixelForm::Video {
            return Self::Stream;
        }
        match transfer_syntax.as_str() {
            // RLE, Deflated Image Frame, Encapsulated Uncompressed.
            "1.2.840.10008.1.2.5" | "1.2.840.10008.1.2.8.1" | "1.2.840.10008.1.2.1.98" => {
                Self::Single
            }
            _ => Self::Marked,
        }
    }
}

/// Encapsulated pixel data as its fragments and tables came.
#[derive(Clone, Debug, Default)]
pub struct Encapsulated {
    /// The Basic Offset Table's value.
    pub basic_offsets: Vec<u8>,
    /// The value of (7FE0,0001), empty where absent.
    pub extended_offsets: Vec<u8>,
    /// The value of (7FE0,0002), empty where absent.
    pub extended_lengths: Vec<u8>,
    /// The fragments, the Basic Offset Table left out.
    pub fragments: Vec<Fragment>,
}

#[cfg(test)]
mod tests;
