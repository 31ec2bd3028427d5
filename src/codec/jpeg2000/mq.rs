//! The arithmetic decoder (ISO/IEC 15444-1 Annex C) and the plain bits that may stand between its
//! segments.
//!
//! Holds: past the end there are ones, as the standard has it, so that reading always ends.

use super::contexts::{START, STATES};

/// The states of all contexts: the state, and the more probable symbol in bit 7.
pub(super) type Contexts = [u8; 32];

/// The contexts as they begin.
pub(super) const FRESH: Contexts = START;

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

    /// One decision in a context.
    #[inline(always)]
    pub(super) fn bit(&mut self, contexts: &mut Contexts, context: usize) -> bool {
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

    #[inline]
    pub(super) fn bit(&mut self) -> bool {
        if self.left == 0 {
            self.left = if self.byte == 0xFF { 7 } else { 8 };
            self.byte = self.data.get(self.at).copied().unwrap_or(0xFF);
            self.at += 1;
        }
        self.left -= 1;
        self.byte >> self.left & 1 == 1
    }
}
