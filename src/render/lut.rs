//! Lookup tables of one output: modality and VOI (PS3.3 §C.11.1.1, §C.11.2.1.1), and what palettes
//! share with them.
//!
//! Owns descriptors and the entries behind them. Holds: a table has 1 to 65536 entries, whatever
//! its descriptor says; values outside get the nearest entry. Absent: segmented palettes
//! ([`super::palette`]).

use super::header::Header;
use crate::dicom::{Tag, VR, data_set::Item};

/// A lookup table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lut {
    first: f64,
    bits: u32,
    entries: Vec<u16>,
}

/// The three numbers of a LUT Descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub entries: usize,
    pub first: i64,
    /// Bits of an entry, as announced.
    pub bits: i64,
}

impl Descriptor {
    /// Reads a descriptor. `signed`: whether the values that go in may be negative, which decides
    /// where the dictionary leaves US or SS open.
    pub fn of(item: Item<'_>, tag: Tag, signed: bool) -> Option<Self> {
        let mut numbers = item.numbers(tag).map(|number| number as i64);
        let (entries, first, bits) = (numbers.next()?, numbers.next()?, numbers.next()?);
        // Read as SS, a number of entries above 32767 seems negative; 0 means 65536.
        let entries = usize::try_from(entries & 0xFFFF).ok()?;
        let signed = signed || item.vr(tag) == Some(VR::SS);
        let first = if signed { i64::from(first as i16) } else { first & 0xFFFF };
        Some(Self { entries: if entries == 0 { 1 << 16 } else { entries }, first, bits })
    }

    /// Entries out of their bytes: words, or bytes if there are not enough for words. Fewer than
    /// announced are taken as they are.
    pub fn read(&self, bytes: &[u8]) -> Vec<u16> {
        if bytes.len() >= 2 * self.entries || (bytes.len() < self.entries && self.bits > 8) {
            let words = bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
            words.take(self.entries).collect()
        } else {
            bytes.iter().take(self.entries).map(|byte| u16::from(*byte)).collect()
        }
    }
}

impl Lut {
    /// The table in an item of a Modality or VOI LUT Sequence; `None` if it has no entries.
    /// `signed`: whether the values that go in may be negative.
    pub fn of(item: Header<'_>, signed: bool) -> Option<Self> {
        let descriptor = Descriptor::of(item.item, Tag(0x0028, 0x3002), signed)?;
        let entries = descriptor.read(&item.words(Tag(0x0028, 0x3006))?);
        Self::new(descriptor, entries)
    }

    fn new(descriptor: Descriptor, entries: Vec<u16>) -> Option<Self> {
        // Descriptors that announce fewer bits than the entries have are common.
        let needed = 16 - entries.iter().max()?.leading_zeros();
        let announced = u32::try_from(descriptor.bits).ok().filter(|bits| (1..=16).contains(bits));
        let bits = announced.unwrap_or(needed).max(needed).max(1);
        Some(Self { first: descriptor.first as f64, bits, entries })
    }

    /// The entry for a value.
    pub fn at(&self, value: f64) -> f64 {
        let last = self.entries.len().saturating_sub(1);
        // A cast saturates, and makes 0 of what is no number.
        let index = ((value - self.first).round() as usize).min(last);
        self.entries.get(index).copied().unwrap_or_default().into()
    }

    /// The greatest value that an entry may have by its number of bits.
    pub fn white(&self) -> f64 {
        f64::from((1_u32 << self.bits) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_get_the_nearest_entry() {
        let descriptor = Descriptor { entries: 3, first: -1, bits: 8 };
        let lut = Lut::new(descriptor, descriptor.read(&[10, 20, 30, 0])).unwrap();
        let out = [-100.0, -1.0, 0.0, 0.4, 1.0, 2.0, f64::NAN, 1e300].map(|value| lut.at(value));
        assert_eq!(out, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0, 10.0, 30.0]);
        assert_eq!(lut.white(), 255.0);
    }

    #[test]
    fn descriptors_that_lie_are_put_right() {
        let words: Vec<u8> = [0_u16, 4095].iter().flat_map(|word| word.to_le_bytes()).collect();
        let descriptor = Descriptor { entries: 2, first: 0, bits: 8 };
        let lut = Lut::new(descriptor, descriptor.read(&words)).unwrap();
        assert_eq!(lut.white(), 4095.0);
        let descriptor = Descriptor { entries: 4096, first: 0, bits: 12 };
        let lut = Lut::new(descriptor, descriptor.read(&words)).unwrap();
        assert_eq!((lut.at(1.0), lut.at(4095.0)), (4095.0, 4095.0));
        assert!(Lut::new(descriptor, Vec::new()).is_none());
    }
}
