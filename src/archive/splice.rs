//! The element of pixel data, written frame by frame (PS3.5 §8.1, §A.4).
//!
//! Holds: native frames follow each other bit by bit, without padding between them; encapsulated
//! ones are one fragment each, behind an empty Basic Offset Table, since the lengths are not known
//! when the table leaves; a frame that differs from the first is an error. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

use super::ArchiveError;
use crate::{codec::Layout, dicom::VR};

/// Longest value with a defined length that is even (PS3.5 §7.1.1).
const LONGEST: u64 = 0xFFFF_FFFE;
/// Why an instance has no native form.
pub(super) const TOO_LONG: &str = "its pixels are too long for a value of 32-bit length";

/// Writes the element.
pub(super) struct PixelWriter {
    layout: Layout,
    left: u32,
    ready: VecDeque<Bytes>,
    form: Form,
    /// Bytes of the value, of native pixel data.
    length: Option<u64>,
    done: bool,
}

enum Form {
    Native { frame_bytes: usize, frame_bits: u64, joint: Joint, pads: bool },
    Encapsulated,
}

/// Runs of bits, end to end; the low bits of a byte come first.
#[derive(Default)]
struct Joint {
    carry: u8,
    bits: u32,
}

impl PixelWriter {
    /// A writer of `frames` frames like the first one, which has `bytes` bytes.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`] with [`TOO_LONG`].
    pub(super) fn new(
        is_native: bool,
        layout: &Layout,
        bytes: usize,
        frames: u32,
    ) -> Result<Self, ArchiveError> {
        let (mut ready, mut whole) = (VecDeque::new(), None);
        let form = if is_native {
            let is_packed = layout.bits_allocated == 1;
            let bits = if is_packed {
                layout.pixels() as u64 * u64::from(layout.samples)
            } else {
                bytes as u64 * 8
            };
            let length = bits.checked_mul(u64::from(frames)).map(|bits| bits.div_ceil(8));
            let length = length.filter(|length| *length <= LONGEST);
            let length = length.ok_or(ArchiveError::Undecodable(TOO_LONG))?;
            whole = Some(length + length % 2);
            ready.push_back(header(layout, whole));
            let (joint, pads) = (Joint::default(), length % 2 == 1);
            Form::Native { frame_bytes: bytes, frame_bits: bits, joint, pads }
        } else {
            let table = Bytes::from_static(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
            ready.extend([header(layout, None), table]);
            Form::Encapsulated
        };
        Ok(Self { layout: layout.clone(), left: frames, ready, form, length: whole, done: false })
    }

    /// Bytes of the value, padding included; `None` where it is encapsulated.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes, if there are any.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether all was written.
    pub(super) fn is_done(&self) -> bool {
        self.done && self.ready.is_empty()
    }

    /// Writes the next frame.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`] where it is not like the first.
    pub(super) fn frame(&mut self, layout: &Layout, data: Bytes) -> Result<(), ArchiveError> {
        if *layout != self.layout {
            return Err(ArchiveError::Undecodable("its frames are not alike"));
        }
        self.left = self.left.saturating_sub(1);
        self.done = self.left == 0;
        match &mut self.form {
            Form::Native { frame_bytes, frame_bits, joint, pads } => {
                if data.len() != *frame_bytes {
                    return Err(ArchiveError::Undecodable("its frames are not alike"));
                }
                if frame_bits.is_multiple_of(8) && joint.bits == 0 {
                    self.ready.push_back(data);
                } else {
                    self.ready.push_back(joint.add(&data, *frame_bits).into());
                }
                if self.done {
                    self.ready.extend(joint.rest().map(|byte| Bytes::from(vec![byte])));
                    if *pads {
                        self.ready.push_back(Bytes::from_static(&[0]));
                    }
                }
            }
            Form::Encapsulated => {
                let length = u32::try_from(data.len() + data.len() % 2)
                    .map_err(|_| ArchiveError::Undecodable(TOO_LONG))?;
                let mut item = vec![0xFE, 0xFF, 0x00, 0xE0];
                item.extend(length.to_le_bytes());
                let pad = data.len() % 2 == 1;
                self.ready.extend([item.into(), data]);
                if pad {
                    self.ready.push_back(Bytes::from_static(&[0]));
                }
                if self.done {
                    self.ready.push_back(Bytes::from_static(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]));
                }
            }
        }
        Ok(())
    }
}

/// Tag, VR and length; of encapsulated pixel data that is undefined.
fn header(layout: &Layout, length: Option<u64>) -> Bytes {
    let (element, vr) = match (length, layout.float) {
        (None, _) => (0x10, VR::OB),
        (_, true) if layout.bits_allocated > 32 => (0x09, VR::OD),
        (_, true) => (0x08, VR::OF),
        _ if layout.bits_allocated > 8 => (0x10, VR::OW),
        _ => (0x10, VR::OB),
    };
    let mut header = vec![0xE0, 0x7F, element, 0x00];
    header.extend(vr.to_bytes());
    header.extend([0, 0]);
    let length = length.and_then(|length| u32::try_from(length).ok()).unwrap_or(u32::MAX);
    header.extend(length.to_le_bytes());
    header.into()
}

impl Joint {
    /// Adds the first `bits` bits of `data`; the whole bytes that there are now.
    fn add(&mut self, data: &[u8], bits: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 1);
        let mut left = bits;
        for byte in data {
            let count = left.min(8) as u32;
            let byte = byte & low_bits(count);
            left -= u64::from(count);
            let joined = u32::from(self.carry) | u32::from(byte) << self.bits;
            self.bits += count;
            if self.bits >= 8 {
                out.push((joined & 0xFF) as u8);
                self.bits -= 8;
                self.carry = (joined >> 8) as u8;
            } else {
                self.carry = joined as u8;
            }
        }
        out
    }

    /// The bits that fill no byte.
    fn rest(&mut self) -> Option<u8> {
        let carry = std::mem::take(&mut self.carry);
        (std::mem::take(&mut self.bits) > 0).then_some(carry)
    }
}

fn low_bits(count: u32) -> u8 {
    ((1_u32 << count.min(8)) - 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Photometric;

    fn layout(bits_allocated: u8) -> Layout {
        Layout {
            rows: 3,
            columns: 3,
            samples: 1,
            bits_allocated,
            bits_stored: bits_allocated,
            high_bit: bits_allocated - 1,
            signed: false,
            float: false,
            planar: false,
            photometric: Photometric::Monochrome2,
        }
    }

    fn written(native: bool, layout: &Layout, frames: &[&'static [u8]]) -> Vec<u8> {
        let mut writer =
            PixelWriter::new(native, layout, frames[0].len(), frames.len() as u32).unwrap();
        for frame in frames {
            assert!(!writer.is_done());
            writer.frame(layout, Bytes::from_static(frame)).unwrap();
        }
        let out: Vec<Bytes> = std::iter::from_fn(|| writer.take()).collect();
        assert!(writer.is_done());
        out.concat()
    }

    #[test]
    fn native_frames_end_to_end() {
        let eight = written(true, &layout(8), &[&[1, 2, 3, 4, 5, 6, 7, 8, 9]]);
        assert_eq!(eight[..12], *b"\xE0\x7F\x10\0OB\0\0\x0A\0\0\0");
        assert_eq!(eight[12..], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
        let sixteen = written(true, &layout(16), &[&[7; 18], &[8; 18]]);
        assert_eq!(sixteen[..12], *b"\xE0\x7F\x10\0OW\0\0\x24\0\0\0");
        assert_eq!(sixteen.len(), 12 + 36);
    }

    #[test]
    fn single_bits_leave_no_gap() {
        // Three frames of nine bits: 27 bits, four bytes.
        let frames: [&[u8]; 3] = [&[0xFF, 0x01], &[0x00, 0x00], &[0xFF, 0xFF]];
        let bits = written(true, &layout(1), &frames);
        assert_eq!(bits[8..12], [4, 0, 0, 0]);
        assert_eq!(bits[12..], [0xFF, 0x01, 0b1111_1100, 0b0000_0111]);
    }

    #[test]
    fn encapsulated_frames_are_fragments_of_even_length() {
        let out = written(false, &layout(8), &[b"abc", b"defg"]);
        let expected = b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0\
            \xFE\xFF\0\xE0\x04\0\0\0abc\0\xFE\xFF\0\xE0\x04\0\0\0defg\xFE\xFF\xDD\xE0\0\0\0\0";
        assert_eq!(out, expected);
    }

    #[test]
    fn what_does_not_fit_or_differs_is_refused() {
        let large = PixelWriter::new(true, &layout(8), 1 << 30, 4);
        assert!(matches!(large, Err(ArchiveError::Undecodable(TOO_LONG))));
        let mut writer = PixelWriter::new(true, &layout(8), 9, 2).unwrap();
        assert!(writer.frame(&layout(8), Bytes::from_static(&[0; 8])).is_err());
        assert!(writer.frame(&layout(16), Bytes::from_static(&[0; 9])).is_err());
    }
}
