//! Bits of packet headers (ISO/IEC 15444-1 §B.10.1): highest first, seven in the byte after 0xFF.

use super::super::CodecError;

/// Reads bits.
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u8,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, byte: 0, left: 0 }
    }

    pub(super) fn bit(&mut self) -> Result<bool, CodecError> {
        if self.left == 0 {
            self.left = if self.byte == 0xFF { 7 } else { 8 };
            let next = self.data.get(self.at);
            self.byte = *next.ok_or(CodecError::Damaged("a JPEG 2000 packet header breaks off"))?;
            self.at += 1;
        }
        self.left -= 1;
        Ok(self.byte >> self.left & 1 == 1)
    }

    pub(super) fn bits(&mut self, count: u32) -> Result<u32, CodecError> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    /// Bytes read, with the one that is stuffed after a last 0xFF.
    pub(super) fn finish(self) -> usize {
        self.at + usize::from(self.byte == 0xFF)
    }
}

/// Writes bits.
#[derive(Default)]
pub(super) struct BitWriter {
    data: Vec<u8>,
    byte: u8,
    used: u8,
}

impl BitWriter {
    pub(super) fn bit(&mut self, bit: bool) {
        let room = if self.data.last() == Some(&0xFF) { 7 } else { 8 };
        self.used += 1;
        self.byte |= u8::from(bit) << (room - self.used);
        if self.used == room {
            self.data.push(self.byte);
            (self.byte, self.used) = (0, 0);
        }
    }

    pub(super) fn bits(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            self.bit(value >> shift & 1 == 1);
        }
    }

    /// The bytes, the last of which is not 0xFF.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.used > 0 || self.data.last() == Some(&0xFF) {
            self.data.push(self.byte);
        }
        self.data
    }
}
