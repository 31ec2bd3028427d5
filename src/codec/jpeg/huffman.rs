//! Huffman codes (T.81 Annexes C, F.2.2.3 and K.2).
//!
//! Owns [`Code`], the table as a codestream has it, [`Decoder`] with its look-up of symbol and
//! extra bits in one step, and [`Encoder`] with the best code for given frequencies. Holds: an
//! impossible table is an error when it is read, an unassigned code word when it is met.

use super::bits::{BitWriter, Bits, extend};
use crate::codec::CodecError;

/// A Huffman table as DHT has it: how many code words there are of each length, and the symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    counts: [u8; 16],
    symbols: Vec<u8>,
}

impl Code {
    /// Reads one table; also returns what follows it.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let damaged = CodecError::Damaged("Huffman table");
        let (counts, rest) = bytes.split_first_chunk::<16>().ok_or(damaged.clone())?;
        let total = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
        let symbols = rest.get(..total).filter(|_| total <= 256).ok_or(damaged.clone())?;
        let code = Self { counts: *counts, symbols: symbols.to_vec() };
        let room = code.counts.iter().try_fold(1_u32, |room, count| {
            let room = room * 2;
            room.checked_sub(u32::from(*count))
        });
        room.ok_or(damaged)?;
        Ok((code, rest.get(total..).unwrap_or_default()))
    }

    /// Writes the table as DHT has it, without class and number.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.counts);
        bytes.extend_from_slice(&self.symbols);
    }

    /// Each symbol with its code word and the word's length, the shortest first (Annex C).
    fn words(&self) -> impl Iterator<Item = (u8, u32, u32)> + '_ {
        let lengths = self.counts.iter().zip(1_u32..);
        let lengths = lengths.flat_map(|(n, length)| (0..*n).map(move |_| length));
        let mut word = 0_u32;
        let mut before = 0;
        lengths.zip(&self.symbols).map(move |(length, symbol)| {
            word <<= length - before;
            before = length;
            word += 1;
            (*symbol, word - 1, length)
        })
    }
}

/// What follows a symbol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The symbol is the number of bits of a difference (§F.1.2.1, §H.1.2.2).
    Difference,
    /// Its upper half is a run of zeros, its lower half the number of bits (§F.1.2.2).
    Run,
}

const LOOK: u32 = 11;
const LENGTH: u32 = 0x3F;
const HAS_VALUE: u32 = 0x40;
const HAS_SYMBOL: u32 = 0x80;

/// Decodes symbols and the numbers that follow them.
pub(super) struct Decoder {
    /// By the next bits: value (16 bits), symbol (8), flags (2), length (6).
    look: Box<[u32; 1 << LOOK]>,
    /// By length: the first code word beyond those of the length, at the top of 16 bits.
    limits: [u32; 17],
    /// By length: index of the first symbol less the first code word.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Decoder {
    /// Prepares a table.
    pub(super) fn new(code: &Code, kind: Kind) -> Self {
        let mut look = Box::new([0; 1 << LOOK]);
        let mut limits = [0; 17];
        let mut offsets = [0; 17];
        let mut seen = [false; 17];
        for (index, (symbol, word, length)) in code.words().enumerate() {
            let at = length as usize;
            if !seen[at] {
                seen[at] = true;
                offsets[at] = index as i32 - word as i32;
            }
            limits[at] = (word + 1) << (16 - length);
            if length > LOOK {
                continue;
            }
            let first = word << (LOOK - length);
            let size = match kind {
                Kind::Difference => u32::from(symbol),
                Kind::Run => u32::from(symbol & 0x0F),
            };
            for (rest, entry) in (first..first + (1 << (LOOK - length))).zip(0..) {
                let head = u32::from(symbol) << 8 | HAS_SYMBOL;
                look[rest as usize & ((1 << LOOK) - 1)] = if size == 16 {
                    // 32768 has no extra bits (§H.1.2.2).
                    0x8000_0000 | head | HAS_VALUE | length
                } else if length + size <= LOOK {
                    let extra = entry >> (LOOK - length - size);
                    let value = extend(extra, size) as u32;
                    value << 16 | head | HAS_VALUE | (length + size)
                } else {
                    head | length
                };
            }
        }
        Self { look, limits, offsets, symbols: code.symbols.clone() }
    }

    #[inline(always)]
    fn entry(&self, bits: &mut Bits<'_>) -> u32 {
        bits.refill();
        self.look[(bits.window() >> (64 - LOOK)) as usize & ((1 << LOOK) - 1)]
    }

    /// A symbol whose code word is longer than what can be looked up.
    #[cold]
    fn search(&self, bits: &mut Bits<'_>) -> Result<u8, CodecError> {
        let next = (bits.window() >> 48) as u32;
        let lengths = self.limits.iter().zip(&self.offsets).zip(0_u32..).skip(LOOK as usize + 1);
        for ((limit, offset), length) in lengths {
            if next < *limit {
                let index = (next >> (16 - length)) as i32 + offset;
                let symbol = usize::try_from(index).ok().and_then(|at| self.symbols.get(at));
                bits.drop(length);
                return symbol.copied().ok_or(CodecError::Damaged("Huffman code"));
            }
        }
        Err(CodecError::Damaged("Huffman code"))
    }

    /// A difference, of a table of [`Kind::Difference`].
    #[inline(always)]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Result<i32, CodecError> {
        let entry = self.entry(bits);
        if entry & HAS_VALUE != 0 {
            bits.drop(entry & LENGTH);
            return Ok(entry as i32 >> 16);
        }
        self.long_difference(bits, entry)
    }

    fn long_difference(&self, bits: &mut Bits<'_>, entry: u32) -> Result<i32, CodecError> {
        let size = u32::from(self.symbol_of(bits, entry)?);
        match size {
            0..=15 => Ok(extend(bits.take(size), size)),
            16 => Ok(-32768),
            _ => Err(CodecError::Damaged("size of a difference")),
        }
    }

    #[inline(always)]
    fn symbol_of(&self, bits: &mut Bits<'_>, entry: u32) -> Result<u8, CodecError> {
        if entry & HAS_SYMBOL == 0 {
            return self.search(bits);
        }
        // The length counts extra bits only where there is a value.
        bits.drop(entry & LENGTH);
        Ok((entry >> 8) as u8)
    }

    /// A run of zeros and the number behind it, of a table of [`Kind::Run`]. A number of no bits
    /// is zero.
    #[inline(always)]
    pub(super) fn run(&self, bits: &mut Bits<'_>) -> Result<(u8, i32), CodecError> {
        let entry = self.entry(bits);
        if entry & HAS_VALUE != 0 {
            bits.drop(entry & LENGTH);
            return Ok(((entry >> 12) as u8 & 0x0F, entry as i32 >> 16));
        }
        let symbol = self.symbol_of(bits, entry)?;
        let size = u32::from(symbol & 0x0F);
        Ok((symbol >> 4, extend(bits.take(size), size)))
    }

    /// A symbol alone, of a table of [`Kind::Run`]; nothing behind it is taken.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, CodecError> {
        let entry = self.entry(bits);
        if entry & HAS_VALUE != 0 {
            bits.drop((entry & LENGTH) - (entry >> 8 & 0x0F));
            return Ok((entry >> 8) as u8);
        }
        self.symbol_of(bits, entry)
    }
}

/// Encodes symbols.
pub(super) struct Encoder {
    /// What decoders are told.
    pub(super) code: Code,
    /// By symbol: the code word and its length.
    words: Box<[(u32, u32); 256]>,
}

impl Encoder {
    /// The code that needs the fewest bits for symbols that occur as often as `frequencies` tell.
    pub(super) fn best(frequencies: &[u32; 256]) -> Self {
        let mut used: Vec<(u32, u8)> = frequencies
            .iter()
            .zip(0_u8..=255)
            .filter(|(n, _)| **n > 0)
            .map(|(n, symbol)| (*n, symbol))
            .collect();
        if used.is_empty() {
            used.push((1, 0));
        }
        used.sort_by_key(|(n, symbol)| (std::cmp::Reverse(*n), *symbol));
        let mut counts = code_lengths(&used.iter().map(|(n, _)| u64::from(*n)).collect::<Vec<_>>());
        // One word more than symbols was counted: the longest, of all ones, stays unused (§C).
        if let Some(longest) = counts.iter_mut().rev().find(|count| **count > 0) {
            *longest -= 1;
        }
        let code = Code { counts, symbols: used.iter().map(|(_, symbol)| *symbol).collect() };
        let mut words = Box::new([(0, 0); 256]);
        for (symbol, word, length) in code.words() {
            words[usize::from(symbol)] = (word, length);
        }
        Self { code, words }
    }

    /// Writes a symbol and `size` bits, at most 16, behind it.
    #[inline(always)]
    pub(super) fn put(&self, writer: &mut BitWriter, symbol: u8, extra: u32, size: u32) {
        let (word, length) = self.words[usize::from(symbol)];
        writer.put(word << size | extra, length + size);
    }
}

/// How many code words of each length serve best, for falling `frequencies` and one more symbol
/// that never occurs: boundary package-merge, the lengths being 16 at most.
fn code_lengths(frequencies: &[u64]) -> [u8; 16] {
    let mut leaves: Vec<u64> = frequencies.to_vec();
    leaves.push(0);
    leaves.reverse();
    // A package is its weight and how many leaves it took on each level. They are always the
    // level's lightest ones, so that counting them is enough.
    let mut packages: Vec<(u64, [u16; 16])> = Vec::new();
    for level in 0..16 {
        let mut taken = [0; 16];
        taken[level] = 1;
        let pairs = packages.chunks_exact(2).map(|pair| {
            let mut taken = pair[0].1;
            taken.iter_mut().zip(pair[1].1).for_each(|(sum, n)| *sum += n);
            (pair[0].0 + pair[1].0, taken)
        });
        packages = leaves.iter().map(|weight| (*weight, taken)).chain(pairs).collect();
        packages.sort_by_key(|(weight, _)| *weight);
    }
    // With the 2n - 2 lightest packages of the last list a leaf gets as many bits as there are
    // levels on which it was taken.
    let mut taken = [0; 16];
    for (_, package) in packages.iter().take(2 * leaves.len() - 2) {
        taken.iter_mut().zip(package).for_each(|(sum, n)| *sum += n);
    }
    let mut counts = [0; 16];
    for index in 0..leaves.len() {
        let length = taken.iter().filter(|n| usize::from(**n) > index).count();
        if let Some(count) = length.checked_sub(1).and_then(|at| counts.get_mut(at)) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(frequencies: &[u32; 256]) {
        let encoder = Encoder::best(frequencies);
        let mut table = Vec::new();
        encoder.code.write(&mut table);
        let (code, rest) = Code::read(&table).expect("a table");
        assert!(rest.is_empty());
        assert_eq!(code, encoder.code);
        let decoder = Decoder::new(&code, Kind::Run);
        let symbols: Vec<u8> = (0..=255).filter(|s| frequencies[usize::from(*s)] > 0).collect();
        let mut writer = BitWriter::new(Vec::new());
        for symbol in &symbols {
            let size = u32::from(symbol & 15);
            encoder.put(&mut writer, *symbol, (1 << size) - 1, size);
        }
        // Bits, not bytes, are compared: stuffing is taken out again.
        let bytes = writer.finish();
        let plain: Vec<u8> = bytes
            .iter()
            .enumerate()
            .filter(|(at, byte)| !(**byte == 0 && *at > 0 && bytes[at - 1] == 0xFF))
            .map(|(_, byte)| *byte)
            .collect();
        let mut bits = Bits::new(&plain);
        for symbol in symbols {
            let size = symbol & 15;
            let value = if size == 0 { 0 } else { (1 << size) - 1 };
            assert_eq!(decoder.run(&mut bits).expect("a symbol"), (symbol >> 4, value));
        }
        assert!(!bits.ran_out());
    }

    #[test]
    fn lengths_are_limited() {
        // Fibonacci numbers want the longest words of all.
        let mut frequencies = [0; 256];
        let (mut a, mut b) = (1_u32, 1_u32);
        for frequency in frequencies.iter_mut().take(40) {
            *frequency = a;
            (a, b) = (b, a + b);
        }
        round(&frequencies);
        round(&[1; 256]);
        let mut one = [0; 256];
        one[7] = 5;
        round(&one);
    }

    #[test]
    fn the_shortest_words_go_to_the_commonest() {
        let mut frequencies = [0; 256];
        frequencies[..4].copy_from_slice(&[1, 100, 10, 1000]);
        let encoder = Encoder::best(&frequencies);
        assert_eq!(encoder.code.symbols, [3, 1, 2, 0]);
        assert_eq!(&encoder.code.counts[..5], &[1, 1, 1, 1, 0]);
    }

    #[test]
    fn tables_that_cannot_be_are_refused() {
        let mut bytes = vec![0; 16];
        bytes[0] = 3;
        bytes.extend([1, 2, 3]);
        assert!(Code::read(&bytes).is_err());
        bytes[0] = 2;
        assert!(Code::read(&bytes).is_ok());
        assert!(Code::read(&bytes[..17]).is_err());
        assert!(Code::read(&bytes[..9]).is_err());
    }

    proptest! {
        #[test]
        fn any_frequencies_make_a_code(seed in proptest::collection::vec(0_u32..100_000, 256)) {
            let mut frequencies = [0; 256];
            frequencies.copy_from_slice(&seed);
            round(&frequencies);
        }
    }
}
