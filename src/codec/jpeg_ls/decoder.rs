//! Decoding of one scan (T.87 Annex A, backwards).

use super::{
    super::CodecError,
    Image,
    markers::{Interleave, Scan, Segments},
    model::{self, Contexts, Model, RUN_ORDERS, turn},
};

const ENDED: CodecError = CodecError::Damaged("the codestream ends early");
const TOO_LARGE: CodecError = CodecError::Damaged("an error beyond the range of samples");

/// The bits between two markers. Behind their end come zeros, so that whoever reads has to ask now
/// and then whether they are real ([`Bits::is_overdrawn`]).
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next bits, from the top.
    window: u64,
    /// How many of them have been filled in.
    filled: u32,
    /// How many of those are behind the end.
    invented: u32,
    /// The last byte was FF: the next one has seven bits.
    stuffed: bool,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, window: 0, filled: 0, invented: 0, stuffed: false }
    }

    /// Makes at least 56 bits ready.
    #[inline(always)]
    fn fill(&mut self) {
        if self.filled >= 56 {
            return;
        }
        if let (Some(next), false) = (self.bytes.first_chunk::<8>(), self.stuffed) {
            let next = u64::from_be_bytes(*next);
            // Whether any byte is FF, all eight at once: a byte of zero in the complement.
            let zero = !next;
            let found = zero.wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080;
            if found == 0 {
                let count = (64 - self.filled) / 8;
                // What goes beyond whole bytes is filled in again, alike, with the next ones.
                self.window |= next >> self.filled;
                self.filled += 8 * count;
                self.bytes = self.bytes.get(count as usize..).unwrap_or_default();
                return;
            }
        }
        self.fill_bytewise();
    }

    #[cold]
    fn fill_bytewise(&mut self) {
        // Bits that the quick way put behind the filled ones.
        self.window &= !(u64::MAX.checked_shr(self.filled).unwrap_or(0));
        while self.filled <= 56 {
            let Some((&byte, rest)) = self.bytes.split_first() else {
                self.invented += 64 - self.filled;
                self.filled = 64;
                return;
            };
            self.bytes = rest;
            let bits = if self.stuffed { 7 } else { 8 };
            self.window |= u64::from(byte) << (64 - self.filled - bits);
            self.filled += bits;
            self.stuffed = byte == 0xFF;
        }
    }

    /// Whether bits behind the end have been used.
    fn is_overdrawn(&self) -> bool {
        self.invented > self.filled
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.window = self.window.checked_shl(count).unwrap_or(0);
        self.filled = self.filled.saturating_sub(count);
    }

    /// The next bits, at most 32, as a number.
    #[inline(always)]
    fn number(&mut self, count: u32) -> u32 {
        self.fill();
        let number = self.window.checked_shr(64 - count).unwrap_or(0) as u32;
        self.skip(count);
        number
    }

    /// The zeros before the next one bit, which is read too; `None` where they are more than `most`.
    #[cold]
    fn zeros(&mut self, most: u32) -> Option<u32> {
        let mut zeros = 0;
        while zeros <= most {
            if self.number(1) == 1 {
                return Some(zeros);
            }
            zeros += 1;
        }
        None
    }

    /// A number in a Golomb code of limited length (§A.5.3).
    #[inline(always)]
    fn golomb(&mut self, exponent: u32, limit: u32, model: &Model) -> Result<u32, CodecError> {
        self.fill();
        let zeros = self.window.leading_zeros();
        let longest = limit - model.error_bits - 1;
        if zeros < longest && zeros + 1 + exponent <= 56 {
            let rest = self.window << (zeros + 1);
            let low = (rest >> 32 >> (32 - exponent.min(32))) as u32;
            self.skip(zeros + 1 + exponent);
            return Ok(zeros << exponent | low);
        }
        match self.zeros(longest).ok_or(TOO_LARGE)? {
            zeros if zeros < longest => Ok(zeros << exponent | self.number(exponent)),
            _ => Ok(self.number(model.error_bits) + 1),
        }
    }
}

/// What changes while a scan is decoded.
struct State<'a, 'm> {
    bits: Bits<'a>,
    contexts: Contexts,
    model: &'m Model,
}

impl State<'_, '_> {
    /// The sample of a context, from its neighbours left, above and above left.
    #[inline(always)]
    fn regular(&mut self, context: i32, a: i32, b: i32, c: i32) -> Result<i32, CodecError> {
        let model = self.model;
        let sign = context >> 31;
        let Some(context) = self.contexts.regular.get_mut(turn(context, sign) as usize) else {
            return Err(TOO_LARGE);
        };
        let predicted = context.correct(model::predict(a, b, c), sign, model);
        let (exponent, swapped) = context.code(model);
        let coded = self.bits.golomb(exponent, model.limit, model)?;
        if coded > 2 * model.range as u32 {
            return Err(TOO_LARGE);
        }
        let error = (coded >> 1) as i32 ^ -((coded & 1) as i32);
        let error = if swapped { !error } else { error };
        context.learn(error, model);
        Ok(model.reconstruct(predicted, turn(error, sign)))
    }

    /// Length of a run of at most `left` samples, and whether a sample that ends it follows.
    fn run(&mut self, left: usize, order: &mut usize) -> Result<(usize, bool), CodecError> {
        let mut length = 0;
        while self.bits.number(1) == 1 {
            let whole = 1 << RUN_ORDERS[*order & 31];
            if length + whole > left {
                return Ok((left, false));
            }
            length += whole;
            *order = (*order + 1).min(31);
            if length == left {
                return Ok((left, false));
            }
        }
        length += self.bits.number(RUN_ORDERS[*order & 31]) as usize;
        if length >= left {
            return Err(CodecError::Damaged("a run beyond its line"));
        }
        Ok((length, true))
    }

    /// The sample that ends a run.
    fn interruption(
        &mut self,
        kind: usize,
        a: i32,
        b: i32,
        order: usize,
    ) -> Result<i32, CodecError> {
        let model = self.model;
        let context = &mut self.contexts.interruption[kind & 1];
        let exponent = context.exponent();
        let limit = model.limit - RUN_ORDERS[order & 31] - 1;
        let coded = self.bits.golomb(exponent, limit, model)?;
        if coded > 2 * model.range as u32 {
            return Err(TOO_LARGE);
        }
        let double = coded as i32 + context.kind;
        let size = (double + 1) >> 1;
        let is_negative = context.is_odd(-size, exponent) == (double & 1 == 1);
        let error = if is_negative { -size } else { size };
        context.learn(error, coded, model);
        Ok(match kind {
            1 => model.reconstruct(a, error),
            _ if a > b => model.reconstruct(b, -error),
            _ => model.reconstruct(b, error),
        })
    }

    /// One line of one component. Lines have one sample more on either side.
    fn line(
        &mut self,
        above: &[i32],
        line: &mut [i32],
        order: &mut usize,
    ) -> Result<(), CodecError> {
        let width = line.len().saturating_sub(2);
        let above = above.get(..width + 2).ok_or(ENDED)?;
        let (mut a, mut c, mut b) = (line[0], above[0], above[1]);
        let mut x = 1;
        while x <= width {
            let d = above[x + 1];
            let context = self.model.context(a, b, c, d);
            if context != 0 {
                a = self.regular(context, a, b, c)?;
                line[x] = a;
                (c, b) = (b, d);
                x += 1;
                continue;
            }
            let (length, ends) = self.run(width + 1 - x, order)?;
            line[x..x + length].fill(a);
            x += length;
            if ends {
                b = above[x];
                let kind = usize::from((a - b).abs() <= self.model.near);
                line[x] = self.interruption(kind, a, b, *order)?;
                *order = order.saturating_sub(1);
                a = line[x];
                x += 1;
            }
            (c, b) = (above[x - 1], above[x.min(width + 1)]);
        }
        Ok(())
    }

    /// One line of all components, sample by sample.
    fn line_of_samples(
        &mut self,
        above: &[Vec<i32>],
        lines: &mut [Vec<i32>],
        order: &mut usize,
    ) -> Result<(), CodecError> {
        let width = lines.first().map_or(0, |line| line.len() - 2);
        let mut x = 1;
        while x <= width {
            let mut contexts = [0; 4];
            for ((context, above), line) in contexts.iter_mut().zip(above).zip(lines.iter()) {
                *context = self.model.context(line[x - 1], above[x], above[x - 1], above[x + 1]);
            }
            if contexts != [0; 4] {
                for ((context, above), line) in contexts.iter().zip(above).zip(lines.iter_mut()) {
                    line[x] = self.regular(*context, line[x - 1], above[x], above[x - 1])?;
                }
                x += 1;
                continue;
            }
            let (length, ends) = self.run(width + 1 - x, order)?;
            for line in lines.iter_mut() {
                let a = line[x - 1];
                line[x..x + length].fill(a);
            }
            x += length;
            if ends {
                for (above, line) in above.iter().zip(lines.iter_mut()) {
                    line[x] = self.interruption(0, line[x - 1], above[x], *order)?;
                }
                *order = order.saturating_sub(1);
                x += 1;
            }
        }
        Ok(())
    }
}

/// Decodes the scan that follows, whose components have the places `components` in `image`.
///
/// # Errors
/// [`CodecError::Damaged`].
pub(super) fn scan(
    segments: &mut Segments,
    model: &Model,
    scan: &Scan,
    restart: u32,
    components: &[usize],
    image: &mut Image,
) -> Result<(), CodecError> {
    let width = usize::from(image.layout.columns);
    let rows = usize::from(image.layout.rows);
    let interval = if restart == 0 { rows } else { restart as usize };
    let blank = vec![vec![0; width + 2]; components.len()];
    let (mut above, mut lines) = (blank.clone(), blank.clone());
    let mut orders = vec![0; components.len()];
    let mut state =
        State { bits: Bits::new(segments.entropy()), contexts: Contexts::new(model), model };
    for row in 0..rows {
        if row > 0 && row % interval == 0 {
            segments.restart((row / interval - 1) as u32)?;
            state.bits = Bits::new(segments.entropy());
            state.contexts = Contexts::new(model);
            (above, lines) = (blank.clone(), blank.clone());
            orders.fill(0);
        }
        for (above, line) in above.iter_mut().zip(&mut lines) {
            above[width + 1] = above[width];
            line[0] = above[1];
        }
        match (scan.interleave, orders.first_mut()) {
            (Interleave::Sample, Some(order)) => {
                state.line_of_samples(&above, &mut lines, order)?;
            }
            _ => {
                for ((above, line), order) in above.iter().zip(&mut lines).zip(&mut orders) {
                    state.line(above, line, order)?;
                }
            }
        }
        if state.bits.is_overdrawn() {
            return Err(ENDED);
        }
        for (component, line) in components.iter().zip(&lines) {
            image.put(row, *component, line.get(1..=width).unwrap_or_default());
        }
        std::mem::swap(&mut above, &mut lines);
    }
    Ok(())
}
