//! Decoding of code-blocks bit plane by bit plane (ISO/IEC 15444-1 Annex D).
//!
//! Holds: coefficients come as twice their magnitude, the lowest bit being the half by which what
//! was not read is guessed. Absent: HT code-blocks, which are [`super::ht_decode`]'s.

use super::{
    contexts::{
        AROUND, Flags, REFINED, RUN, SIGN, SIGNIFICANT, UNIFORM, VISITED, ZERO, refine_context,
        sign_index, without_below,
    },
    header::Style,
    mq::{Contexts, FRESH, MqReader, RawReader},
    tile::{Orientation, Segment},
};

/// Decodes a code-block of `width` times `height` samples and at most 31 bit planes into
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
    if planes == 0 {
        return;
    }
    let table = match orientation {
        (1, 0) => 1,
        (1, 1) => 2,
        _ => 0,
    };
    let mut block = Block {
        flags: Flags::new(size.0, size.1),
        contexts: FRESH,
        samples,
        width: size.0,
        height: size.1,
        zero: &ZERO[table],
        causal: style.has(Style::CAUSAL),
        plane: planes,
    };
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
                (0, true) => block.significance_plain(&mut plain),
                (1, false) => block.refinement(|b, c| coded.bit(b, c)),
                (1, true) => block.refinement(|_, _| plain.bit()),
                _ => block.cleanup(&mut coded),
            }
            if kind == 2 && style.has(Style::SYMBOLS) {
                for _ in 0..4 {
                    coded.bit(&mut block.contexts, UNIFORM);
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

struct Block<'a> {
    flags: Flags,
    contexts: Contexts,
    samples: &'a mut [i32],
    width: usize,
    height: usize,
    zero: &'static [u8; 256],
    causal: bool,
    /// The bit plane, counted from 1.
    plane: u8,
}

impl Block<'_> {
    /// A sample's flags as its contexts see them.
    #[inline(always)]
    fn seen(&self, at: usize, y: usize) -> u16 {
        let flags = self.flags.cells[at];
        if self.causal && y & 3 == 3 { without_below(flags) } else { flags }
    }

    /// Sets a sample that has become significant.
    #[inline(always)]
    fn set(&mut self, x: usize, y: usize, at: usize, negative: bool) {
        // One and a half of this plane.
        let value = 3_i32.wrapping_shl(u32::from(self.plane) - 1);
        self.samples[y * self.width + x] = if negative { value.wrapping_neg() } else { value };
        self.flags.raise(at, negative);
    }

    #[inline(always)]
    fn sign(&mut self, coded: &mut MqReader<'_>, seen: u16) -> bool {
        let (context, minus) = SIGN[sign_index(seen)];
        coded.bit(&mut self.contexts, usize::from(context)) != minus
    }

    fn significance(&mut self, coded: &mut MqReader<'_>) {
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for x in 0..self.width {
                for y in top..bottom {
                    let at = self.flags.at(x, y);
                    let seen = self.seen(at, y);
                    if seen & SIGNIFICANT != 0 || seen & AROUND == 0 {
                        continue;
                    }
                    let context = self.zero[usize::from(seen & AROUND)];
                    if coded.bit(&mut self.contexts, usize::from(context)) {
                        let negative = self.sign(coded, seen);
                        self.set(x, y, at, negative);
                    }
                    self.flags.cells[at] |= VISITED;
                }
            }
        }
    }

    fn significance_plain(&mut self, plain: &mut RawReader<'_>) {
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for x in 0..self.width {
                for y in top..bottom {
                    let at = self.flags.at(x, y);
                    let seen = self.seen(at, y);
                    if seen & SIGNIFICANT != 0 || seen & AROUND == 0 {
                        continue;
                    }
                    if plain.bit() {
                        let negative = plain.bit();
                        self.set(x, y, at, negative);
                    }
                    self.flags.cells[at] |= VISITED;
                }
            }
        }
    }

    #[inline(always)]
    fn refinement(&mut self, mut bit: impl FnMut(&mut Contexts, usize) -> bool) {
        let half = 1_i32.wrapping_shl(u32::from(self.plane) - 1);
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for x in 0..self.width {
                for y in top..bottom {
                    let at = self.flags.at(x, y);
                    let seen = self.seen(at, y);
                    if seen & (SIGNIFICANT | VISITED) != SIGNIFICANT {
                        continue;
                    }
                    let one = bit(&mut self.contexts, refine_context(seen));
                    let sample = &mut self.samples[y * self.width + x];
                    // The half that was guessed becomes a quarter more or less.
                    *sample = match one == (*sample > 0) {
                        true => sample.wrapping_add(half),
                        false => sample.wrapping_sub(half),
                    };
                    self.flags.cells[at] |= REFINED;
                }
            }
        }
    }

    fn cleanup(&mut self, coded: &mut MqReader<'_>) {
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for x in 0..self.width {
                let mut first = top;
                let mut found = false;
                if bottom - top == 4 && self.is_quiet(x, top) {
                    if !coded.bit(&mut self.contexts, RUN) {
                        continue;
                    }
                    let high = coded.bit(&mut self.contexts, UNIFORM);
                    let low = coded.bit(&mut self.contexts, UNIFORM);
                    first = top + 2 * usize::from(high) + usize::from(low);
                    found = true;
                }
                for y in first..bottom {
                    let at = self.flags.at(x, y);
                    let seen = self.seen(at, y);
                    let one = if found {
                        found = false;
                        true
                    } else if seen & (SIGNIFICANT | VISITED) == 0 {
                        let context = self.zero[usize::from(seen & AROUND)];
                        coded.bit(&mut self.contexts, usize::from(context))
                    } else {
                        false
                    };
                    if one {
                        let negative = self.sign(coded, seen);
                        self.set(x, y, at, negative);
                    }
                    self.flags.cells[at] &= !VISITED;
                }
            }
        }
    }

    /// Whether four samples and all their neighbours are still zero.
    #[inline(always)]
    fn is_quiet(&self, x: usize, top: usize) -> bool {
        let quiet = SIGNIFICANT | VISITED | AROUND;
        (top..top + 4).all(|y| self.seen(self.flags.at(x, y), y) & quiet == 0)
    }
}
