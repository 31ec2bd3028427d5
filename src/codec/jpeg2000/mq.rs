//! The arithmetic coder (ISO/IEC 15444-1 Annex C), read and written, and the plain bits that may
//! stand between its segments.
//!
//! Holds: past the end there are ones, as the standard has it, so that reading always ends.

use super::contexts::{START, STATES};

/// The states of all contexts: the state, and the more probable symbol in bit 7.
pub(super) type Contexts = [u8; 32];

/// The contexts as they begin.
pub(super) const FRESH: Contexts = START;

/// Codes one decision after the other in either direction.
pub(super) trait Coder {
    /// Whether decisions are written: then they are known before.
    const WRITES: bool;
    /// Whether there are no contexts.
    const PLAIN: bool;
    /// One decision in a context: what was read, or `known`.
    fn code(&mut self, contexts: &mut Contexts, context: usize, known: bool) -> bool;
}

/// Reads decisions.
pub(super) struct MqReader<'a> {
    data: &'a [u8],
    at: usize,
    a: u32,
    c: u32,
    count: u32,
}

impl<'a> MqReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let mut reader = Self { data, at: 0, a: 0x8000, c: 0, count: 0 };
        reader.c = u32::from(reader.byte(0)) << 16;
        reader.fill();
        reader.c <<= 7;
        reader.count -= 7;
        reader
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.data.get(self.at + ahead).copied().unwrap_or(0xFF)
    }

    #[inline]
    fn fill(&mut self) {
        let next = u32::from(self.byte(1));
        if self.byte(0) == 0xFF {
            if next > 0x8F {
                self.c += 0xFF00;
                self.count = 8;
            } else {
                self.at += 1;
                self.c += next << 9;
                self.count = 7;
            }
        } else {
            self.at += 1;
            self.c += next << 8;
            self.count = 8;
        }
    }
}

impl Coder for MqReader<'_> {
    const WRITES: bool = false;
    const PLAIN: bool = false;

    #[inline(always)]
    fn code(&mut self, contexts: &mut Contexts, context: usize, _known: bool) -> bool {
        let cell = &mut contexts[context & 31];
        let state = STATES[usize::from(*cell & 63)];
        let symbol = *cell & 0x80;
        let probability = u32::from(state.probability);
        self.a -= probability;
        let low = self.c >> 16 < probability;
        if !low {
            self.c -= probability << 16;
            if self.a & 0x8000 != 0 {
                return symbol != 0;
            }
        }
        let less = low != (self.a < probability);
        if low {
            self.a = probability;
        }
        let bit = if less {
            *cell = state.less | if state.swap { symbol ^ 0x80 } else { symbol };
            symbol == 0
        } else {
            *cell = state.more | symbol;
            symbol != 0
        };
        loop {
            if self.count == 0 {
                self.fill();
            }
            self.a <<= 1;
            self.c <<= 1;
            self.count -= 1;
            if self.a & 0x8000 != 0 {
                return bit;
            }
        }
    }
}

/// Reads the plain bits of passes that bypass the arithmetic coder (§D.6).
pub(super) struct RawReader<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u8,
}

impl<'a> RawReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, byte: 0, left: 0 }
    }
}

impl Coder for RawReader<'_> {
    const WRITES: bool = false;
    const PLAIN: bool = true;

    #[inline]
    fn code(&mut self, _contexts: &mut Contexts, _context: usize, _known: bool) -> bool {
        if self.left == 0 {
            self.left = if self.byte == 0xFF { 7 } else { 8 };
            self.byte = self.data.get(self.at).copied().unwrap_or(0xFF);
            self.at += 1;
        }
        self.left -= 1;
        self.byte >> self.left & 1 == 1
    }
}

/// Writes decisions.
pub(super) struct MqWriter {
    /// Begins with a byte that does not count.
    data: Vec<u8>,
    a: u32,
    c: u32,
    count: u32,
}

impl MqWriter {
    pub(super) fn new() -> Self {
        Self { data: vec![0], a: 0x8000, c: 0, count: 12 }
    }

    fn emit(&mut self) {
        let mut stuffed = false;
        if let Some(last) = self.data.last_mut() {
            if *last != 0xFF && self.c >= 0x800_0000 {
                *last += 1;
                self.c &= 0x7FF_FFFF;
            }
            stuffed = *last == 0xFF;
        }
        let shift = if stuffed { 20 } else { 19 };
        self.data.push((self.c >> shift) as u8);
        self.c &= (1 << shift) - 1;
        self.count = if stuffed { 7 } else { 8 };
    }

    /// Ends the segment.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let most = self.c + self.a;
        self.c |= 0xFFFF;
        if self.c >= most {
            self.c -= 0x8000;
        }
        for _ in 0..2 {
            self.c <<= self.count;
            self.emit();
        }
        if self.data.last() == Some(&0xFF) {
            self.data.pop();
        }
        self.data.remove(0);
        self.data
    }
}

impl Coder for MqWriter {
    const WRITES: bool = true;
    const PLAIN: bool = false;

    #[inline(always)]
    fn code(&mut self, contexts: &mut Contexts, context: usize, known: bool) -> bool {
        let cell = &mut contexts[context & 31];
        let state = STATES[usize::from(*cell & 63)];
        let symbol = *cell & 0x80;
        let probability = u32::from(state.probability);
        self.a -= probability;
        let more = known == (symbol != 0);
        if more && self.a & 0x8000 != 0 {
            self.c += probability;
            return known;
        }
        // The greater part of the interval goes to the more probable symbol.
        if more == (self.a < probability) {
            self.a = probability;
        } else {
            self.c += probability;
        }
        *cell = match more {
            true => state.more | symbol,
            false => state.less | if state.swap { symbol ^ 0x80 } else { symbol },
        };
        loop {
            self.a <<= 1;
            self.c <<= 1;
            self.count -= 1;
            if self.count == 0 {
                self.emit();
            }
            if self.a & 0x8000 != 0 {
                return known;
            }
        }
    }
}
