//! Code-blocks bit plane by bit plane (ISO/IEC 15444-1 Annex D), read and written.
//!
//! Owns the three passes, which are the same in both directions. Holds: coefficients that were read
//! come as twice their magnitude, the lowest bit being the half by which what was not read is
//! guessed. Absent: HT code-blocks.

use super::{
    contexts::{
        ANY, ANY_OWN, Flags, RUN, UNIFORM, ZERO, is_left, is_refined_now, may_become,
        refine_context, zero_index,
    },
    header::Style,
    mq::{Coder, Contexts, FRESH, MqReader, MqWriter, RawReader},
    tile::{Orientation, Segment},
};

fn table(orientation: Orientation) -> &'static [u8; 512] {
    match orientation {
        (1, 0) => &ZERO[1],
        (1, 1) => &ZERO[2],
        _ => &ZERO[0],
    }
}

/// Decodes a code-block of `size.0` times `size.1` samples and at most 30 bit planes into
/// `samples`, which are zero before.
pub(super) fn decode(
    data: &[u8],
    segments: &[Segment],
    style: &Style,
    orientation: Orientation,
    planes: u8,
    size: (usize, usize),
    samples: &mut [i32],
) {
    let causal = style.has(Style::CAUSAL);
    let mut block = Block::new(samples, size, table(orientation), causal, planes);
    // The first plane has a cleanup pass alone.
    let mut kind = 2;
    let mut rest = data;
    for segment in segments {
        let (own, after) = rest.split_at_checked(segment.length as usize).unwrap_or((rest, &[]));
        rest = after;
        let bypass = style.has(Style::BYPASS) && block.plane + 4 <= planes && kind < 2;
        let mut coded = MqReader::new(own);
        let mut plain = RawReader::new(own);
        for _ in 0..segment.passes {
            if block.plane == 0 {
                return;
            }
            match (kind, bypass) {
                (0, false) => block.significance(&mut coded),
                (0, true) => block.significance(&mut plain),
                (1, false) => block.refinement(&mut coded),
                (1, true) => block.refinement(&mut plain),
                _ => block.cleanup(&mut coded),
            }
            if kind == 2 && style.has(Style::SYMBOLS) {
                for _ in 0..4 {
                    coded.code(&mut block.contexts, UNIFORM, false);
                }
            }
            if style.has(Style::RESET) {
                block.contexts = FRESH;
            }
            if kind == 2 {
                block.plane -= 1;
            }
            kind = (kind + 1) % 3;
        }
    }
}

/// Encodes a code-block of coefficients of which at least one has the bit plane `planes`, counted
/// from 1, and none a higher one. Gives the bytes and the number of passes.
pub(super) fn encode(
    orientation: Orientation,
    planes: u8,
    size: (usize, usize),
    samples: &mut [i32],
) -> (Vec<u8>, u32) {
    let mut block = Block::new(samples, size, table(orientation), false, planes);
    let mut coder = MqWriter::new();
    while block.plane > 0 {
        if block.plane < planes {
            block.significance(&mut coder);
            block.refinement(&mut coder);
        }
        block.cleanup(&mut coder);
        block.plane -= 1;
    }
    (coder.finish(), 3 * u32::from(planes) - 2)
}

struct Block<'a> {
    flags: Flags,
    contexts: Contexts,
    samples: &'a mut [i32],
    width: usize,
    height: usize,
    zero: &'static [u8; 512],
    causal: bool,
    /// The bit plane, counted from 1.
    plane: u8,
}

impl<'a> Block<'a> {
    fn new(
        samples: &'a mut [i32],
        (width, height): (usize, usize),
        zero: &'static [u8; 512],
        causal: bool,
        plane: u8,
    ) -> Self {
        let flags = Flags::new(width, height);
        Self { flags, contexts: FRESH, samples, width, height, zero, causal, plane }
    }

    /// The stripes, and how many rows each has.
    fn stripes(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let height = self.height;
        (0..height.div_ceil(4)).map(move |stripe| (stripe, (height - 4 * stripe).min(4)))
    }

    #[inline(always)]
    fn place(&self, x: usize, stripe: usize, row: usize) -> usize {
        (4 * stripe + row) * self.width + x
    }

    /// What is to be written of a sample in this plane.
    #[inline(always)]
    fn is_one<C: Coder>(&self, place: usize) -> bool {
        C::WRITES && self.samples[place].unsigned_abs() >> (self.plane - 1) & 1 == 1
    }

    /// A sample becomes significant: codes its sign.
    #[inline(always)]
    fn become_one<C: Coder>(&mut self, coder: &mut C, at: usize, row: usize, place: usize) {
        let known = C::WRITES && self.samples[place] < 0;
        let negative = if C::PLAIN {
            coder.code(&mut self.contexts, 0, known)
        } else {
            let (context, minus) = self.flags.sign(at, row, self.causal);
            coder.code(&mut self.contexts, context, known != minus) != minus
        };
        if !C::WRITES {
            // One and a half of this plane.
            let value = 3_i32.wrapping_shl(u32::from(self.plane) - 1);
            self.samples[place] = if negative { -value } else { value };
        }
        self.flags.raise(at, row, negative);
    }

    fn significance<C: Coder>(&mut self, coder: &mut C) {
        for (stripe, rows) in self.stripes() {
            for x in 0..self.width {
                let at = self.flags.at(x, stripe);
                let mut cell = self.flags.cell(at, self.causal);
                if cell & ANY == 0 {
                    continue;
                }
                for row in 0..rows {
                    if !may_become(cell, row) {
                        continue;
                    }
                    let place = self.place(x, stripe, row);
                    let context = self.zero[zero_index(cell, row)].into();
                    let known = self.is_one::<C>(place);
                    if coder.code(&mut self.contexts, context, known) {
                        self.become_one(coder, at, row, place);
                        cell = self.flags.cell(at, self.causal);
                    }
                    self.flags.visit(at, row);
                }
            }
        }
    }

    fn refinement<C: Coder>(&mut self, coder: &mut C) {
        let half = 1_i32.wrapping_shl(u32::from(self.plane) - 1);
        for (stripe, rows) in self.stripes() {
            for x in 0..self.width {
                let at = self.flags.at(x, stripe);
                let cell = self.flags.cell(at, self.causal);
                if cell & ANY_OWN == 0 {
                    continue;
                }
                for row in 0..rows {
                    if !is_refined_now(cell, row) {
                        continue;
                    }
                    let place = self.place(x, stripe, row);
                    let known = self.is_one::<C>(place);
                    let one = coder.code(&mut self.contexts, refine_context(cell, row), known);
                    if !C::WRITES {
                        let sample = &mut self.samples[place];
                        // The half that was guessed becomes a quarter more or less.
                        *sample = match one == (*sample > 0) {
                            true => sample.wrapping_add(half),
                            false => sample.wrapping_sub(half),
                        };
                    }
                    self.flags.refine(at, row);
                }
            }
        }
    }

    fn cleanup<C: Coder>(&mut self, coder: &mut C) {
        for (stripe, rows) in self.stripes() {
            for x in 0..self.width {
                let at = self.flags.at(x, stripe);
                let mut cell = self.flags.cell(at, self.causal);
                let mut first = 0;
                // Four samples that are zero like all around them.
                if rows == 4 && cell == 0 {
                    let known = (0..4).find(|row| self.is_one::<C>(self.place(x, stripe, *row)));
                    if !coder.code(&mut self.contexts, RUN, known.is_some()) {
                        continue;
                    }
                    let known = known.unwrap_or(0);
                    let high = coder.code(&mut self.contexts, UNIFORM, known & 2 != 0);
                    let low = coder.code(&mut self.contexts, UNIFORM, known & 1 != 0);
                    let row = 2 * usize::from(high) + usize::from(low);
                    self.become_one(coder, at, row, self.place(x, stripe, row));
                    cell = self.flags.cell(at, self.causal);
                    first = row + 1;
                }
                for row in first..rows {
                    if !is_left(cell, row) {
                        continue;
                    }
                    let place = self.place(x, stripe, row);
                    let context = self.zero[zero_index(cell, row)].into();
                    let known = self.is_one::<C>(place);
                    if coder.code(&mut self.contexts, context, known) {
                        self.become_one(coder, at, row, place);
                        cell = self.flags.cell(at, self.causal);
                    }
                }
                self.flags.forget_visits(at);
            }
        }
    }
}
