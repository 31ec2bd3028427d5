//! Palettes: tables from stored values to colours (PS3.3 §C.7.6.3.1.5, §C.7.9, §C.7.6.19).
//!
//! Owns plain and segmented tables, of 8 and 16 bits. Holds: a palette has 1 to 65536 colours of 8
//! bits; expanding segments takes bounded memory and time. Where all three plain tables are given
//! they win over segmented ones. Absent: which values go through the palette.

use super::{RenderError, header::Header, lut::Descriptor};
use crate::dicom::Tag;

/// Colours of consecutive values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Palette {
    first: i64,
    colours: Vec<[u8; 3]>,
}

/// Segments of one table that are looked at, at most: more than entries can only be empty ones.
const MAX_SEGMENTS: usize = 1 << 17;

impl Palette {
    /// Reads the tables of a data set; `None` if it has none. `signed`: of the stored values.
    ///
    /// # Errors
    /// [`RenderError::Damaged`] where a table is missing or does not make sense.
    pub fn of(header: Header<'_>, signed: bool) -> Result<Option<Self>, RenderError> {
        if !header.item.has(Tag(0x0028, 0x1101)) {
            return Ok(None);
        }
        let plain = (0..3).all(|n| header.item.has(Tag(0x0028, 0x1201 + n)));
        let mut tables = Vec::with_capacity(3);
        let (mut first, mut bits) = (None, 8);
        for channel in 0..3 {
            let descriptor = Descriptor::of(header.item, Tag(0x0028, 0x1101 + channel), signed);
            let descriptor = descriptor.ok_or(RenderError::Damaged("a palette's descriptor"))?;
            let start = if plain { 0x1201 } else { 0x1221 };
            let data = header.words(Tag(0x0028, start + channel));
            let data = data.ok_or(RenderError::Damaged("a palette without its data"))?;
            let entries = if plain { descriptor.read(&data) } else { expand(&data, &descriptor)? };
            bits = bits.max(width(&entries, descriptor.bits));
            first.get_or_insert(descriptor.first);
            tables.push(entries);
        }
        let shift = bits - 8;
        let length = tables.iter().map(Vec::len).max().unwrap_or_default();
        let colour = |index: usize| {
            let channel = |n: usize| {
                let table = tables.get(n).map(Vec::as_slice).unwrap_or_default();
                let entry = table.get(index).or(table.last()).copied().unwrap_or_default();
                (entry >> shift) as u8
            };
            [channel(0), channel(1), channel(2)]
        };
        let colours: Vec<_> = (0..length).map(colour).collect();
        Ok(Some(Self { first: first.unwrap_or_default(), colours })
            .filter(|palette| !palette.colours.is_empty()))
    }

    /// The first value that has a colour.
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The colour of a value; the nearest one outside of the table.
    pub fn at(&self, value: i64) -> [u8; 3] {
        let last = self.colours.len().saturating_sub(1);
        let index = value.saturating_sub(self.first).clamp(0, last as i64) as usize;
        self.colours.get(index).copied().unwrap_or_default()
    }
}

/// Bits of an entry, 8 to 16. What is announced is not believed blindly: tables of bytes that
/// announce 16 are as common as words that announce 8, and no true palette of 16 bits is all darker
/// than 1/256.
fn width(entries: &[u16], announced: i64) -> u32 {
    let greatest = entries.iter().max().copied().unwrap_or_default();
    match (greatest, u32::try_from(announced)) {
        (0..=255, _) => 8,
        (_, Ok(bits @ 9..=16)) => bits.max(16 - greatest.leading_zeros()),
        _ => 16,
    }
}

/// Expands a segmented table (PS3.3 §C.7.9.2).
fn expand(data: &[u8], descriptor: &Descriptor) -> Result<Vec<u16>, RenderError> {
    let wide = descriptor.bits > 8;
    let units: Vec<u16> = if wide {
        data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
    } else {
        data.iter().map(|byte| u16::from(*byte)).collect()
    };
    let mut segments = Segments { units: &units, wide, budget: MAX_SEGMENTS, out: Vec::new() };
    segments.out.reserve(descriptor.entries);
    segments.run(0, usize::MAX, descriptor.entries, false)?;
    if segments.out.is_empty() {
        return Err(RenderError::Damaged("a segmented palette without entries"));
    }
    Ok(segments.out)
}

struct Segments<'a> {
    units: &'a [u16],
    wide: bool,
    budget: usize,
    out: Vec<u16>,
}

impl Segments<'_> {
    /// Expands up to `count` segments from the unit `at` on, until `entries` are there. A segment
    /// that is cut off ends it, as does the byte that pads a table to even length.
    fn run(
        &mut self,
        mut at: usize,
        count: usize,
        entries: usize,
        inside: bool,
    ) -> Result<(), RenderError> {
        const WRONG: RenderError = RenderError::Damaged("the segments of a palette");
        for _ in 0..count {
            let Some([opcode, length]) = self.take::<2>(&mut at) else { return Ok(()) };
            if self.out.len() >= entries {
                return Ok(());
            }
            self.budget = self.budget.checked_sub(1).ok_or(WRONG)?;
            let length = usize::from(length);
            let room = entries - self.out.len();
            match opcode {
                0 => {
                    let end = at.saturating_add(length).min(self.units.len());
                    let values = self.units.get(at..end).unwrap_or_default();
                    self.out.extend(values.iter().take(room));
                    at = end;
                }
                1 => {
                    let from = f64::from(*self.out.last().ok_or(WRONG)?);
                    let Some([to]) = self.take::<1>(&mut at) else { return Ok(()) };
                    let slope = (f64::from(to) - from) / length.max(1) as f64;
                    let values = (1..=length.min(room)).map(|n| from + slope * n as f64);
                    self.out.extend(values.map(|value| value.round() as u16));
                }
                2 if !inside => {
                    let offset = if self.wide {
                        let Some([low, high]) = self.take::<2>(&mut at) else { return Ok(()) };
                        (usize::from(high) << 16 | usize::from(low)) / 2
                    } else {
                        let Some(bytes) = self.take::<4>(&mut at) else { return Ok(()) };
                        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
                    };
                    self.run(offset, length, entries, true)?;
                }
                _ => return Err(WRONG),
            }
        }
        Ok(())
    }

    fn take<const N: usize>(&self, at: &mut usize) -> Option<[u16; N]> {
        let end = at.checked_add(N)?;
        let units = self.units.get(*at..end)?.try_into().ok()?;
        *at = end;
        Some(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn descriptor(entries: usize, bits: i64) -> Descriptor {
        Descriptor { entries, first: 0, bits }
    }

    /// A table of all three kinds of segment, in words and in bytes: discrete, a line up, a line
    /// that stays, and the second segment once more.
    #[test]
    fn segments_of_words_and_of_bytes() {
        let units = [0, 1, 0, 1, 4, 100, 1, 2, 100, 2, 1, 6, 0];
        let expected = [0, 25, 50, 75, 100, 100, 100, 100, 100, 100, 100];
        assert_eq!(expand(&words(&units), &descriptor(11, 16)).unwrap(), expected);
        let mut bytes: Vec<u8> = units.iter().map(|unit| *unit as u8).collect();
        bytes[11] = 3;
        bytes.extend([0, 0]);
        assert_eq!(expand(&bytes, &descriptor(11, 8)).unwrap(), expected);
    }

    #[test]
    fn a_line_runs_from_the_last_entry_both_ways() {
        let units = words(&[0, 2, 7, 1000, 1, 4, 0, 1, 3, 1]);
        let expected = [7, 1000, 750, 500, 250, 0, 0, 1, 1];
        assert_eq!(expand(&units, &descriptor(9, 16)).unwrap(), expected);
    }

    #[test]
    fn the_number_of_bits_is_put_right() {
        assert_eq!(width(&[0, 0x7FFF], 16), 16);
        assert_eq!(width(&[0, 255], 16), 8);
        assert_eq!(width(&[0, 0xFF00], 8), 16);
        assert_eq!(width(&[0, 4095], 12), 12);
        assert_eq!(width(&[0, 4095], 10), 12);
        assert_eq!(width(&[], -1), 8);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_too_long_is_cut() {
        let wrong = |units: &[u16]| expand(&words(units), &descriptor(8, 16)).is_err();
        assert!(wrong(&[1, 4, 100]), "a line without a beginning");
        assert!(wrong(&[3, 4, 100]), "an unknown kind");
        assert!(wrong(&[0, 1, 5, 2, 1, 6, 0]), "an indirect segment that names itself");
        assert!(wrong(&[]), "nothing");
        let mut hostile = vec![0, 1, 5, 0, 0];
        for _ in 0..1000 {
            hostile.extend([2, 30_000, 6, 0]);
        }
        let units = words(&hostile);
        let start = std::iter::repeat_n([0, 0], 40_000).flatten().collect::<Vec<u16>>();
        let endless = [words(&[0, 1, 5]), words(&start), units].concat();
        assert!(expand(&endless, &descriptor(8, 16)).is_err(), "segments without end");
        let long = expand(&words(&[0, 1, 5, 1, 65535, 9]), &descriptor(8, 16)).unwrap();
        assert_eq!(long.len(), 8);
    }
}
