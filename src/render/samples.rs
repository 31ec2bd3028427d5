//! Stored values out of the words of a frame (PS3.5 §8.1.1, PS3.3 §C.7.6.3.1.1).
//!
//! Owns how a sample lies in its word: shift, mask, sign. Holds: bits outside of the stored ones
//! never count. Absent: what values mean.

use crate::codec::Layout;

/// Where the bits of a sample are in a word of at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    allocated: u32,
    stored: u32,
    shift: u32,
    signed: bool,
}

impl Bits {
    pub fn of(layout: &Layout) -> Self {
        let allocated = u32::from(layout.bits_allocated).clamp(1, 64);
        let stored = u32::from(layout.bits_stored).clamp(1, allocated);
        let shift = (u32::from(layout.high_bit) + 1).saturating_sub(stored);
        Self { allocated, stored, shift: shift.min(allocated - stored), signed: layout.signed }
    }

    pub fn stored(self) -> u32 {
        self.stored
    }

    /// Bits of a word: 1, 8, 16, 32 or 64.
    pub fn allocated(self) -> u32 {
        self.allocated
    }

    /// The least and the greatest value that can be stored; in 64 unsigned bits, that of 63.
    pub fn range(self) -> (i64, i64) {
        if self.signed {
            (i64::MIN >> (64 - self.stored), i64::MAX >> (64 - self.stored))
        } else {
            (0, i64::MAX >> (63 - self.stored.min(63)))
        }
    }

    /// The stored value in a word.
    pub fn value(self, word: u64) -> i64 {
        let unused = 64 - self.stored;
        let aligned = (word >> self.shift) << unused;
        if self.signed {
            aligned as i64 >> unused
        } else {
            i64::try_from(aligned >> unused).unwrap_or(i64::MAX)
        }
    }

    /// For words of at most 16 bits: a table over all words, given one over all stored values from
    /// the least up.
    pub fn spread<T: Copy + Default>(self, by_value: &[T]) -> Vec<T> {
        let (least, _) = self.range();
        let words = 0..1_u64 << self.allocated.min(16);
        let at = |word| usize::try_from(self.value(word).wrapping_sub(least)).unwrap_or_default();
        words.map(|word| by_value.get(at(word)).copied().unwrap_or_default()).collect()
    }
}

/// Every sample of a frame as a number: integers of any width, or floating point.
pub(super) fn numbers<'a>(layout: &Layout, data: &'a [u8]) -> Box<dyn Iterator<Item = f64> + 'a> {
    let bits = Bits::of(layout);
    let integer = move |word: u64| bits.value(word) as f64;
    match (layout.float, layout.bits_allocated) {
        (true, 64) => Box::new(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))),
        (true, _) => Box::new(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into())),
        (_, 64) => {
            Box::new(data.as_chunks().0.iter().map(move |b| integer(u64::from_le_bytes(*b))))
        }
        (_, 32) => {
            let words = data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
            Box::new(words.map(move |word| integer(word.into())))
        }
        (_, 16) => {
            let words = data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
            Box::new(words.map(move |word| integer(word.into())))
        }
        (_, 8) => Box::new(data.iter().map(move |byte| integer((*byte).into()))),
        _ => {
            let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
            Box::new(bits.map(f64::from))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Photometric;

    fn layout(allocated: u8, stored: u8, high: u8, signed: bool) -> Layout {
        Layout {
            rows: 1,
            columns: 1,
            samples: 1,
            bits_allocated: allocated,
            bits_stored: stored,
            high_bit: high,
            signed,
            float: false,
            planar: false,
            photometric: Photometric::Monochrome2,
        }
    }

    #[test]
    fn stored_bits_are_taken_and_the_others_left() {
        let bits =
            |allocated, stored, high, signed| Bits::of(&layout(allocated, stored, high, signed));
        assert_eq!(bits(16, 12, 11, false).value(0xF123), 0x123);
        assert_eq!(bits(16, 12, 15, false).value(0x1230), 0x123);
        assert_eq!(bits(16, 12, 11, true).value(0x0FFF), -1);
        assert_eq!(bits(16, 12, 15, true).value(0x800F), -2048);
        assert_eq!(bits(8, 8, 7, true).value(0x80), -128);
        assert_eq!(bits(64, 64, 63, false).value(u64::MAX), i64::MAX);
        assert_eq!(bits(64, 63, 63, false).value(u64::MAX), i64::MAX);
        assert_eq!(bits(64, 64, 63, true).value(u64::MAX), -1);
        assert_eq!(bits(1, 1, 0, false).value(1), 1);
        assert_eq!(bits(16, 12, 11, true).range(), (-2048, 2047));
        assert_eq!(bits(16, 12, 11, false).range(), (0, 4095));
        assert_eq!(bits(1, 1, 0, false).range(), (0, 1));
        assert_eq!(bits(64, 64, 63, true).range(), (i64::MIN, i64::MAX));
        assert_eq!(bits(64, 64, 63, false).range(), (0, i64::MAX));
    }

    #[test]
    fn a_table_over_values_becomes_one_over_words() {
        let bits = Bits::of(&layout(8, 4, 5, true));
        let by_value: Vec<u8> = (0..16).collect();
        let table = bits.spread(&by_value);
        assert_eq!(table.len(), 256);
        assert_eq!(table[0b0010_0000], 0, "the least value, -8");
        assert_eq!(table[0b1101_1111], 15, "the greatest, 7");
        assert_eq!(table[0], 8);
    }

    #[test]
    fn numbers_of_every_width() {
        let read = |layout: &Layout, data: &[u8]| numbers(layout, data).collect::<Vec<_>>();
        assert_eq!(read(&layout(1, 1, 0, false), &[0b101])[..3], [1.0, 0.0, 1.0]);
        assert_eq!(read(&layout(32, 32, 31, true), &(-7_i32).to_le_bytes()), [-7.0]);
        let float = Layout { float: true, ..layout(32, 32, 31, false) };
        assert_eq!(read(&float, &1.5_f32.to_le_bytes()), [1.5]);
    }
}
