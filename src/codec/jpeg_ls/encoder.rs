//! Encoding of one scan (T.87 Annex A).

use super::{
    markers::Interleave,
    model::{self, Contexts, Model, RUN_ORDERS, turn},
};

/// Bits on their way into bytes. After FF a byte has seven of them, so that no marker appears
/// (§A.1).
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    /// The bits that are not written yet, at the bottom.
    pending: u64,
    count: u32,
    stuffed: bool,
}

impl Bits<'_> {
    /// Writes the lowest `count` bits, at most 32, of a number that has no others.
    #[inline(always)]
    fn number(&mut self, number: u32, count: u32) {
        self.pending = self.pending << count | u64::from(number);
        self.count += count;
        if self.count >= 32 {
            self.write();
        }
    }

    #[inline(always)]
    fn write(&mut self) {
        let four = (self.pending >> (self.count - 32)) as u32;
        // A byte of FF is a byte of zero in the complement.
        let found = (!four).wrapping_sub(0x0101_0101) & four & 0x8080_8080;
        if found == 0 && !self.stuffed {
            self.out.extend_from_slice(&four.to_be_bytes());
            self.count -= 32;
        } else {
            self.write_bytewise();
        }
    }

    #[cold]
    fn write_bytewise(&mut self) {
        loop {
            let bits = if self.stuffed { 7 } else { 8 };
            if self.count < bits {
                return;
            }
            self.count -= bits;
            let byte = (self.pending >> self.count) as u8 & (0xFF >> (8 - bits));
            self.out.push(byte);
            self.stuffed = byte == 0xFF;
        }
    }

    /// Fills the last byte with zeros.
    fn finish(mut self) {
        self.write_bytewise();
        let bits = if self.stuffed { 7 } else { 8 };
        if self.count > 0 || self.stuffed {
            self.number(0, bits - self.count);
            self.write_bytewise();
        }
    }

    /// A number in a Golomb code of limited length (§A.5.3).
    #[inline(always)]
    fn golomb(&mut self, number: u32, exponent: u32, limit: u32, model: &Model) {
        let zeros = number >> exponent;
        let longest = limit - model.error_bits - 1;
        if zeros < longest && zeros + 1 + exponent <= 31 {
            let low = number & ((1 << exponent) - 1);
            self.number(1 << exponent | low, zeros + 1 + exponent);
        } else if zeros < longest {
            self.zeros(zeros);
            self.number(1, 1);
            self.number(number & ((1 << exponent) - 1), exponent);
        } else {
            self.zeros(longest);
            self.number(1, 1);
            self.number(number - 1, model.error_bits);
        }
    }

    #[cold]
    fn zeros(&mut self, mut count: u32) {
        while count > 0 {
            let some = count.min(31);
            self.number(0, some);
            count -= some;
        }
    }
}

/// What changes while a scan is encoded.
struct State<'o, 'm> {
    bits: Bits<'o>,
    contexts: Contexts,
    model: &'m Model,
}

impl State<'_, '_> {
    /// Codes a sample and gives what it is reconstructed to.
    #[inline(always)]
    fn regular(&mut self, context: i32, a: i32, b: i32, c: i32, sample: i32) -> i32 {
        let model = self.model;
        let sign = context >> 31;
        let context = &mut self.contexts.regular[turn(context, sign) as usize];
        let predicted = context.correct(model::predict(a, b, c), sign, model);
        let error = model.fold(model.quantise_error(turn(sample - predicted, sign)));
        let (exponent, swapped) = context.code(model);
        let number = if swapped { !error } else { error };
        self.bits.golomb((number << 1 ^ number >> 31) as u32, exponent, model.limit, model);
        context.learn(error, model);
        if model.near == 0 { sample } else { model.reconstruct(predicted, turn(error, sign)) }
    }

    /// Codes the length of a run, which ends with its line or with another sample.
    fn run(&mut self, mut length: usize, ends: bool, order: &mut usize) {
        while length >= 1 << RUN_ORDERS[*order] {
            self.bits.number(1, 1);
            length -= 1 << RUN_ORDERS[*order];
            *order = (*order + 1).min(31);
        }
        if ends {
            self.bits.number(length as u32, RUN_ORDERS[*order] + 1);
        } else if length > 0 {
            self.bits.number(1, 1);
        }
    }

    /// Codes the sample that ends a run and gives what it is reconstructed to.
    fn interruption(&mut self, kind: usize, a: i32, b: i32, sample: i32, order: usize) -> i32 {
        let model = self.model;
        let context = &mut self.contexts.interruption[kind];
        let (from, sign) = match kind {
            1 => (a, 0),
            _ => (b, if a > b { -1 } else { 0 }),
        };
        let error = model.fold(model.quantise_error(turn(sample - from, sign)));
        let exponent = context.exponent();
        let odd = i32::from(context.is_odd(error, exponent));
        let coded = (2 * error.abs() - context.kind - odd) as u32;
        self.bits.golomb(coded, exponent, model.limit - RUN_ORDERS[order] - 1, model);
        context.learn(error, coded, model);
        model.reconstruct(from, turn(error, sign))
    }

    /// One line of one component, which becomes what a decoder will have. Lines have one sample
    /// more on either side.
    fn line(&mut self, above: &[i32], line: &mut [i32], order: &mut usize) {
        let (model, width) = (self.model, line.len() - 2);
        let above = &above[..width + 2];
        let (mut a, mut c, mut b) = (line[0], above[0], above[1]);
        let mut x = 1;
        while x <= width {
            let d = above[x + 1];
            let context = model.context(a, b, c, d);
            if context != 0 {
                a = self.regular(context, a, b, c, line[x]);
                line[x] = a;
                (c, b) = (b, d);
                x += 1;
                continue;
            }
            let start = x;
            while x <= width && (line[x] - a).abs() <= model.near {
                line[x] = a;
                x += 1;
            }
            self.run(x - start, x <= width, order);
            if x <= width {
                b = above[x];
                let kind = usize::from((a - b).abs() <= model.near);
                a = self.interruption(kind, a, b, line[x], *order);
                line[x] = a;
                *order = order.saturating_sub(1);
                x += 1;
            }
            (c, b) = (above[x - 1], above[x.min(width + 1)]);
        }
    }
}

/// Encodes samples, pixel after pixel, in one scan: of one component, or line by line of several.
pub(super) fn scan(
    samples: &[i32],
    width: usize,
    components: usize,
    interleave: Interleave,
    model: &Model,
    out: &mut Vec<u8>,
) {
    debug_assert_ne!(interleave, Interleave::Sample);
    let blank = vec![vec![0; width + 2]; components];
    let (mut above, mut lines) = (blank.clone(), blank);
    let mut orders = vec![0; components];
    let bits = Bits { out, pending: 0, count: 0, stuffed: false };
    let mut state = State { bits, contexts: Contexts::new(model), model };
    for row in samples.chunks_exact(width * components) {
        for (place, (above, line)) in above.iter_mut().zip(&mut lines).enumerate() {
            above[width + 1] = above[width];
            line[0] = above[1];
            let samples = row.iter().skip(place).step_by(components);
            line[1..=width].iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
            state.line(above, line, &mut orders[place]);
        }
        std::mem::swap(&mut above, &mut lines);
    }
    state.bits.finish();
}
