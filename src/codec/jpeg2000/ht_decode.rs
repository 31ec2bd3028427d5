//! Decoding of HT code-blocks (ITU-T T.814 §7): a cleanup pass for many bit planes at once, and two
//! passes that refine it by one more.
//!
//! Holds: streams that end early give ones or zeros, so that reading always ends; coefficients come
//! as [`super::block`]'s do. Absent: several sets of passes.

use super::{
    super::CodecError,
    ht_tables::{Code, DECODE, decode_index},
};

const DAMAGED: CodecError = CodecError::Damaged("an HT code-block contradicts itself");

/// Run lengths of the adaptive coder (Table 2): exponents by state.
pub(super) const RUNS: [u8; 13] = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5];

/// Decodes a code-block. `planes` are those that the cleanup pass holds and above them none;
/// `below` is how many are left out under those, of which the passes in `refine` hold one.
pub(super) fn decode(
    cleanup: &[u8],
    refine: &[u8],
    passes: u8,
    (planes, below): (u8, u8),
    (width, height): (usize, usize),
    causal: bool,
    samples: &mut [i32],
) -> Result<(), CodecError> {
    let significant = cleanup_pass(cleanup, (planes, below), (width, height), samples)?;
    if passes > 0 && below > 0 {
        let mut refinement =
            Refinement { significant: &significant, width, height, plane: below, samples };
        refinement.spread(refine, causal);
        if passes > 1 {
            refinement.refine(refine);
        }
    }
    Ok(())
}

/// The runs of zeros that stand for most quads without samples.
struct Runs<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u8,
    state: u8,
    zeros: u32,
    one: bool,
}

impl<'a> Runs<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, byte: 0, left: 0, state: 0, zeros: 0, one: false }
    }

    #[inline]
    fn bit(&mut self) -> u32 {
        if self.left == 0 {
            self.left = if self.byte == 0xFF { 7 } else { 8 };
            let next = self.data.get(self.at).copied().unwrap_or(0xFF);
            // The last byte shares its lower half with the other stream.
            self.byte = if self.at + 1 >= self.data.len() { next | 0x0F } else { next };
            self.at += 1;
        }
        self.left -= 1;
        u32::from(self.byte >> self.left & 1)
    }

    #[inline]
    fn event(&mut self) -> bool {
        if self.zeros == 0 && !self.one {
            let exponent = RUNS[usize::from(self.state.min(12))];
            if self.bit() == 1 {
                self.zeros = 1 << exponent;
                self.state = (self.state + 1).min(12);
            } else {
                for _ in 0..exponent {
                    self.zeros = self.zeros << 1 | self.bit();
                }
                self.one = true;
                self.state = self.state.saturating_sub(1);
            }
        }
        if self.zeros > 0 {
            self.zeros -= 1;
            return false;
        }
        self.one = false;
        true
    }
}

/// Bits that are read backwards, lowest first.
struct Backward<'a> {
    data: &'a [u8],
    bits: u64,
    count: u32,
    /// Whether the byte before was above 0x8F: after it 0x7F has a stuffed bit.
    high: bool,
}

impl<'a> Backward<'a> {
    /// Of the cleanup pass: the last bytes but twelve bits, which are a length.
    fn of_cleanup(data: &'a [u8]) -> Self {
        let (last, rest) = data.split_last().map_or((0, data), |(last, rest)| (*last, rest));
        let stuffed = last >> 4 & 7 == 7;
        let bits = u64::from(if stuffed { 7 } else { last >> 4 });
        Self { data: rest, bits, count: 4 - u32::from(stuffed), high: last | 0x0F > 0x8F }
    }

    fn of_refinement(data: &'a [u8]) -> Self {
        Self { data, bits: 0, count: 0, high: true }
    }

    /// Makes 32 bits ready; past the beginning there are zeros.
    #[inline]
    fn fill(&mut self) {
        while self.count <= 32 {
            let byte = match self.data.split_last() {
                Some((last, rest)) => {
                    self.data = rest;
                    *last
                }
                None => 0,
            };
            let stuffed = self.high && byte & 0x7F == 0x7F;
            self.bits |= u64::from(if stuffed { 0x7F } else { byte }) << self.count;
            self.count += 8 - u32::from(stuffed);
            self.high = byte > 0x8F;
        }
    }

    #[inline]
    fn peek(&self) -> u32 {
        self.bits as u32
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.bits >>= count;
        self.count = self.count.saturating_sub(count);
    }

    #[inline]
    fn take(&mut self, count: u32) -> u32 {
        let bits = self.bits as u32 & ((1_u64 << count) - 1) as u32;
        self.skip(count);
        bits
    }
}

/// Bits that are read forward, lowest first.
struct Forward<'a> {
    data: &'a [u8],
    bits: u64,
    count: u32,
    full: bool,
    /// What follows the end.
    fill: u8,
}

impl<'a> Forward<'a> {
    fn new(data: &'a [u8], fill: u8) -> Self {
        Self { data, bits: 0, count: 0, full: false, fill }
    }

    /// At most 32 bits.
    #[inline]
    fn take(&mut self, count: u32) -> u32 {
        while self.count < count {
            let byte = match self.data.split_first() {
                Some((first, rest)) => {
                    self.data = rest;
                    *first
                }
                None => self.fill,
            };
            self.bits |= u64::from(if self.full { byte & 0x7F } else { byte }) << self.count;
            self.count += 8 - u32::from(self.full);
            self.full = byte == 0xFF;
        }
        let bits = self.bits & ((1 << count) - 1);
        self.bits >>= count;
        self.count -= count;
        bits as u32
    }
}

/// Decodes the cleanup pass, and tells for each sample, with a border of one, whether it is
/// significant.
fn cleanup_pass(
    data: &[u8],
    (planes, below): (u8, u8),
    (width, height): (usize, usize),
    samples: &mut [i32],
) -> Result<Vec<bool>, CodecError> {
    let [.., before, last] = data else { return Err(DAMAGED) };
    let suffix = usize::from(*last) << 4 | usize::from(before & 15);
    if suffix < 2 || suffix > data.len() || suffix > 4079 {
        return Err(DAMAGED);
    }
    let (magnitudes, rest) = data.split_at(data.len() - suffix);
    let coded = rest.get(..suffix - 1).unwrap_or_default();
    let mut runs = Runs::new(coded);
    let mut words = Backward::of_cleanup(coded);
    let mut magnitudes = Forward::new(magnitudes, 0xFF);

    let across = width.div_ceil(2);
    let mut significant = vec![false; (width + 2) * (height + 2)];
    // Of the row of quads above: significance of each quad, and twice the magnitudes less one of
    // the samples of its lower row, with a border at both ends.
    let mut above = vec![0_u8; across + 2];
    let mut edge = vec![0_u32; 2 * across + 4];
    let most = u32::from(planes) + 1;
    for top in (0..height).step_by(2) {
        let first_row = top == 0;
        let table = &DECODE[usize::from(!first_row)];
        let mut left = 0_u8;
        let mut row = vec![0_u8; across + 2];
        let mut row_edge = vec![0_u32; 2 * across + 4];
        for quad in (0..across).step_by(2) {
            words.fill();
            let mut codes = [Code::default(); 2];
            for (n, code) in codes.iter_mut().enumerate().take(across - quad) {
                let context = if first_row {
                    (u8::from(left & 3 != 0)) | left >> 1 & 6
                } else {
                    let near = &above[quad + n..quad + n + 3];
                    u8::from(near[0] & 8 != 0 || near[1] & 2 != 0)
                        | u8::from(left & 12 != 0) << 1
                        | u8::from(near[1] & 8 != 0 || near[2] & 2 != 0) << 2
                };
                if context != 0 || runs.event() {
                    *code = table[decode_index(context, words.peek())];
                    words.skip(code.length.into());
                }
                left = code.rho;
                row[quad + n + 1] = code.rho;
            }
            let offsets = offsets(&codes, first_row, &mut runs, &mut words);
            for (n, (code, offset)) in codes.iter().zip(offsets).enumerate() {
                if code.rho == 0 {
                    continue;
                }
                let x = 2 * (quad + n);
                let mut bound = 1;
                if !first_row && code.rho & (code.rho - 1) != 0 {
                    // Columns x - 1 to x + 2, the border being one wide.
                    let near = edge[x..x + 4].iter().fold(0, |all, one| all | one);
                    bound = (32 - near.leading_zeros()).saturating_sub(1).max(1);
                }
                let bits = bound + offset;
                if bits > most {
                    return Err(DAMAGED);
                }
                for sample in 0..4_u8 {
                    if code.rho >> sample & 1 == 0 {
                        continue;
                    }
                    let count = bits - u32::from(code.known >> sample & 1);
                    let value =
                        magnitudes.take(count) | u32::from(code.ones >> sample & 1) << count;
                    let (x, y) = (x + usize::from(sample >> 1), top + usize::from(sample & 1));
                    if sample & 1 == 1 {
                        row_edge[x + 1] = value | 1;
                    }
                    if x >= width || y >= height {
                        continue;
                    }
                    let twice = ((value >> 1) + 1) << 1 | 1;
                    let twice = (twice as i32).wrapping_shl(below.into());
                    samples[y * width + x] =
                        if value & 1 == 1 { twice.wrapping_neg() } else { twice };
                    significant[(y + 1) * (width + 2) + x + 1] = true;
                }
            }
        }
        (above, edge) = (row, row_edge);
    }
    Ok(significant)
}

/// The offsets of the exponent bounds of two quads (§7.3.6).
fn offsets(
    codes: &[Code; 2],
    first_row: bool,
    runs: &mut Runs<'_>,
    words: &mut Backward<'_>,
) -> [u32; 2] {
    words.fill();
    let [first, second] = [codes[0].offset, codes[1].offset];
    let both = first && second;
    let plus = if both && first_row && runs.event() { 2 } else { 0 };
    let first = if first { prefix(words) } else { (0, 0) };
    let second = if both && first_row && plus == 0 && first.0 > 2 {
        (1 + words.take(1), 0)
    } else if second {
        prefix(words)
    } else {
        (0, 0)
    };
    let mut whole = |(base, suffix): (u32, u32)| base + words.take(suffix);
    let [first_whole, second_whole] = [whole(first), whole(second)];
    let more = |part: (u32, u32)| if part.0 > 0 { plus } else { 0 };
    [first_whole + more(first), second_whole + more(second)]
}

/// A prefix (Table 3): what it stands for, and how many bits follow to be added.
#[inline]
fn prefix(words: &mut Backward<'_>) -> (u32, u32) {
    let bits = words.peek();
    let (length, base, suffix) = match bits & 7 {
        0 => (3, 5, 5),
        4 => (3, 3, 1),
        2 | 6 => (2, 2, 0),
        _ => (1, 1, 0),
    };
    words.skip(length);
    (base, suffix)
}

/// The two passes that add one bit plane.
struct Refinement<'a> {
    /// After the cleanup pass, with a border.
    significant: &'a [bool],
    width: usize,
    height: usize,
    /// The plane, counted from 1.
    plane: u8,
    samples: &'a mut [i32],
}

impl Refinement<'_> {
    fn at(&self, x: usize, y: usize) -> usize {
        (y + 1) * (self.width + 2) + x + 1
    }

    /// Samples with significant neighbours may become significant (§7.4).
    fn spread(&mut self, data: &[u8], causal: bool) {
        let mut bits = Forward::new(data, 0);
        let mut now = self.significant.to_vec();
        let stride = self.width + 2;
        let value = 3_i32.wrapping_shl(u32::from(self.plane) - 1);
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for left in (0..self.width).step_by(4) {
                let mut found = [(0, 0); 16];
                let mut count = 0;
                for x in left..self.width.min(left + 4) {
                    for y in top..bottom {
                        let at = self.at(x, y);
                        if self.significant[at] {
                            continue;
                        }
                        let row = |at: usize| now[at - 1] || now[at] || now[at + 1];
                        let unseen = causal && y == top + 3;
                        let near = row(at - stride) || row(at) || !unseen && row(at + stride);
                        if near && bits.take(1) == 1 {
                            now[at] = true;
                            found[count] = (x, y);
                            count += 1;
                        }
                    }
                }
                for (x, y) in found.iter().take(count) {
                    let minus = bits.take(1) == 1;
                    self.samples[y * self.width + x] = if minus { -value } else { value };
                }
            }
        }
    }

    /// Samples that the cleanup pass has get one more bit (§7.5).
    fn refine(&mut self, data: &[u8]) {
        let mut bits = Backward::of_refinement(data);
        let half = 1_i32.wrapping_shl(u32::from(self.plane) - 1);
        for top in (0..self.height).step_by(4) {
            let bottom = self.height.min(top + 4);
            for x in 0..self.width {
                bits.fill();
                for y in top..bottom {
                    if !self.significant[self.at(x, y)] {
                        continue;
                    }
                    let one = bits.take(1) == 1;
                    let sample = &mut self.samples[y * self.width + x];
                    *sample = match one == (*sample > 0) {
                        true => sample.wrapping_add(half),
                        false => sample.wrapping_sub(half),
                    };
                }
            }
        }
    }
}
