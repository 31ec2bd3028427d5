//! Frame addressing: which bytes of a stored file are frame *n* (PS3.5 §A.4, PS3.3 §C.7.6.3).
//!
//! Absent: I/O, decoding.

/// Where an instance's pixel data lies in its file, and how it splits into frames. Offsets count
/// from the first byte of the file.
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
