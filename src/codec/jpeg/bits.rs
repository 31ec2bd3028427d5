//! Bits of entropy-coded segments (T.81 §F.1.2.3, §F.2.2.5), read and written.
//!
//! Owns [`Bits`], which reads a segment without stuffing, and [`BitWriter`], which stuffs. Holds:
//! reading past the end gives zeros and is found by [`Bits::ran_out`]. Absent: markers.

/// Reads bits from the most significant one on.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    window: u64,
    count: u32,
    missing: u64,
}

impl<'a> Bits<'a> {
    /// Over a segment that [`super::stream::Stream::segment`] has freed of stuffing.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, window: 0, count: 0, missing: 0 }
    }

    /// Makes sure that 32 bits at least can be taken.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        match self.bytes.get(self.position..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => {
                self.window |= u64::from_be_bytes(*chunk) >> self.count;
                let taken = (63 - self.count) >> 3;
                self.position += taken as usize;
                self.count += taken * 8;
            }
            None => self.refill_at_the_end(),
        }
    }

    #[cold]
    fn refill_at_the_end(&mut self) {
        while self.count <= 56 {
            match self.bytes.get(self.position) {
                Some(byte) => {
                    self.window |= u64::from(*byte) << (56 - self.count);
                    self.position += 1;
                }
                None => self.missing += 8,
            }
            self.count += 8;
        }
    }

    /// The next bits, the first one at the top. At least 32 are valid after [`Self::refill`].
    #[inline(always)]
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Drops `count` bits, at most 32 after a [`Self::refill`].
    #[inline(always)]
    pub(super) fn drop(&mut self, count: u32) {
        self.window <<= count & 63;
        self.count = self.count.saturating_sub(count);
    }

    /// Takes `count` bits, at most 16, without a refill.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let value = (self.window >> (64 - count.min(32))) as u32;
        self.drop(count);
        value
    }

    /// Takes one bit.
    #[inline(always)]
    pub(super) fn flag(&mut self) -> bool {
        self.refill();
        self.take(1) == 1
    }

    /// Whether more bits were taken than there are.
    pub(super) fn ran_out(&self) -> bool {
        self.missing > u64::from(self.count)
    }
}

/// The signed number that `value` of `size` bits stands for (T.81 §F.2.2.1 EXTEND).
#[inline(always)]
pub(super) fn extend(value: u32, size: u32) -> i32 {
    let value = value as i32;
    match size {
        0 => 0,
        _ if value < 1 << (size - 1) => value - (1 << size) + 1,
        _ => value,
    }
}

/// Writes bits from the most significant one on, a zero byte behind each 0xFF.
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    window: u64,
    count: u32,
}

impl BitWriter {
    /// Goes on behind `bytes`.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, window: 0, count: 0 }
    }

    /// Writes the `count` low bits of `value`, at most 32; those above must be zero.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.window = (self.window << count) | u64::from(value);
        self.count += count;
        if self.count >= 32 {
            self.count -= 32;
            self.word((self.window >> self.count) as u32);
        }
    }

    #[inline(always)]
    fn word(&mut self, word: u32) {
        // A byte of all ones is the one whose complement is zero.
        let inverse = !word;
        let stuffed = inverse.wrapping_sub(0x0101_0101) & word & 0x8080_8080 != 0;
        if stuffed {
            word.to_be_bytes().into_iter().for_each(|byte| self.byte(byte));
        } else {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
        if byte == 0xFF {
            self.bytes.push(0);
        }
    }

    /// Fills the last byte with ones and returns all bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let padding = (8 - self.count % 8) % 8;
        self.put((1 << padding) - 1, padding);
        while self.count > 0 {
            self.count -= 8;
            self.byte((self.window >> self.count) as u8);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = BitWriter::new(Vec::new());
        let numbers: Vec<(u32, u32)> = (0..4000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761), 1 + n % 16))
            .map(|(value, count)| ((value | (value >> 3)) & ((1 << count) - 1), count))
            .collect();
        numbers.iter().for_each(|(value, count)| writer.put(*value, *count));
        let stuffed = writer.finish();
        let mut bytes = Vec::new();
        let mut after_ones = false;
        for byte in stuffed {
            assert!(!after_ones || byte == 0, "a marker");
            if !after_ones {
                bytes.push(byte);
            }
            after_ones = byte == 0xFF;
        }
        let mut bits = Bits::new(&bytes);
        for (value, count) in numbers {
            bits.refill();
            assert_eq!(bits.take(count), value);
        }
        assert!(!bits.ran_out());
        bits.refill();
        bits.take(8);
        assert!(bits.ran_out());
    }

    #[test]
    fn differences_are_extended() {
        assert_eq!((0..4).map(|n| extend(n, 2)).collect::<Vec<_>>(), [-3, -2, 2, 3]);
        assert_eq!(extend(0, 0), 0);
        assert_eq!(extend(0, 15), -32767);
    }
}
