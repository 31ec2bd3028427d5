//! Encoding of HT code-blocks (ITU-T T.814 §7): the cleanup pass, which holds all bit planes.
//!
//! Absent: the passes that refine, since nothing is left out.

use super::{
    ht_decode::RUNS,
    ht_tables::{Code, ENCODE, encode_index},
};

/// Encodes coefficients of at most 30 bit planes, of which at least one is not zero.
pub(super) fn encode((width, height): (usize, usize), samples: &[i32]) -> Vec<u8> {
    let mut magnitudes = Forward { data: Vec::new(), byte: 0, used: 0, room: 8 };
    let mut runs = Runs { data: Vec::new(), byte: 0, room: 8, state: 0, zeros: 0 };
    let mut words = Backward { data: vec![0xFF], byte: 0x0F, used: 4, high: true };
    let across = width.div_ceil(2);
    // As in decoding: the row of quads above, with a border at both ends.
    let mut above = vec![0_u8; across + 2];
    let mut edge = vec![0_u32; 2 * across + 4];
    for top in (0..height).step_by(2) {
        let first_row = top == 0;
        let table = &ENCODE[usize::from(!first_row)];
        let mut left = 0_u8;
        let mut row = vec![0_u8; across + 2];
        let mut row_edge = vec![0_u32; 2 * across + 4];
        for pair in (0..across).step_by(2) {
            let mut offsets = [0_u32; 2];
            for (quad, offset) in (pair..across).zip(&mut offsets) {
                let context = if first_row {
                    u8::from(left & 3 != 0) | left >> 1 & 6
                } else {
                    let near = &above[quad..quad + 3];
                    u8::from(near[0] & 8 != 0 || near[1] & 2 != 0)
                        | u8::from(left & 12 != 0) << 1
                        | u8::from(near[1] & 8 != 0 || near[2] & 2 != 0) << 2
                };
                let values = quad_values(samples, (width, height), 2 * quad, top);
                let rho = (0..4).fold(0, |rho, n| rho | u8::from(values[n].is_some()) << n);
                let exponent = |n: usize| values[n].map_or(0, |value| bits(value | 1));
                let greatest = (0..4).map(exponent).max().unwrap_or(0);
                let mut bound = 1;
                if !first_row && rho & rho.wrapping_sub(1) != 0 {
                    let near = edge[2 * quad..2 * quad + 4].iter().fold(0, |all, one| all | one);
                    bound = bits(near).saturating_sub(1).max(1);
                }
                let most = bound.max(greatest);
                *offset = most - bound;
                let marked = match *offset {
                    0 => 0,
                    _ => (0..4).fold(0, |all, n| all | u8::from(exponent(n) == most) << n),
                };
                if context == 0 {
                    runs.event(rho != 0);
                }
                let mut code = Code::default();
                if context != 0 || rho != 0 {
                    code = table[encode_index(context, rho, marked)];
                    words.put(code.word.into(), code.length.into());
                }
                for (n, value) in values.iter().enumerate() {
                    let Some(value) = value else { continue };
                    magnitudes.put(*value, most - u32::from(code.known >> n & 1));
                    if n & 1 == 1 {
                        row_edge[2 * quad + (n >> 1) + 1] = value | 1;
                    }
                }
                left = rho;
                row[quad + 1] = rho;
            }
            put_offsets(offsets, first_row, &mut runs, &mut words);
        }
        (above, edge) = (row, row_edge);
    }
    join(magnitudes, runs, words)
}

fn bits(n: u32) -> u32 {
    32 - n.leading_zeros()
}

/// Of a quad's samples, down the columns, twice the magnitude less two, and the sign; none where
/// there is no sample or zero.
fn quad_values(
    samples: &[i32],
    (width, height): (usize, usize),
    x: usize,
    y: usize,
) -> [Option<u32>; 4] {
    let mut values = [None; 4];
    for (n, value) in values.iter_mut().enumerate() {
        let (x, y) = (x + (n >> 1), y + (n & 1));
        if x < width && y < height {
            let sample = samples[y * width + x];
            let twice = |magnitude: u32| (2 * (magnitude - 1)) | u32::from(sample < 0);
            *value = (sample != 0).then(|| twice(sample.unsigned_abs()));
        }
    }
    values
}

/// Prefix and suffix of an offset, with their lengths (Table 3).
fn parts(offset: u32) -> [(u32, u32); 2] {
    match offset {
        0 => [(0, 0), (0, 0)],
        1 => [(1, 1), (0, 0)],
        2 => [(2, 2), (0, 0)],
        3 | 4 => [(4, 3), (offset - 3, 1)],
        _ => [(0, 3), (offset - 5, 5)],
    }
}

fn put_offsets([first, second]: [u32; 2], first_row: bool, runs: &mut Runs, words: &mut Backward) {
    let mut codes = [parts(first), parts(second)];
    if first_row && first > 0 && second > 0 {
        let large = first.min(second) > 2;
        runs.event(large);
        if large {
            codes = [parts(first - 2), parts(second - 2)];
        } else if first > 2 {
            codes[1] = [(second - 1, 1), (0, 0)];
        }
    }
    for part in 0..2 {
        for code in codes {
            words.put(code[part].0, code[part].1);
        }
    }
}

/// Runs of zeros between ones, adaptively.
struct Runs {
    data: Vec<u8>,
    byte: u8,
    room: u8,
    state: usize,
    zeros: u32,
}

impl Runs {
    fn bit(&mut self, bit: bool) {
        self.room -= 1;
        self.byte |= u8::from(bit) << self.room;
        if self.room == 0 {
            self.data.push(self.byte);
            self.room = if self.byte == 0xFF { 7 } else { 8 };
            self.byte = 0;
        }
    }

    fn event(&mut self, one: bool) {
        let exponent = RUNS[self.state];
        if one {
            self.bit(false);
            for shift in (0..exponent).rev() {
                self.bit(self.zeros >> shift & 1 == 1);
            }
            self.zeros = 0;
            self.state = self.state.saturating_sub(1);
        } else {
            self.zeros += 1;
            if self.zeros == 1 << exponent {
                self.bit(true);
                self.zeros = 0;
                self.state = (self.state + 1).min(12);
            }
        }
    }
}

/// Bytes that are read backwards: the last comes first.
struct Backward {
    data: Vec<u8>,
    byte: u8,
    used: u32,
    high: bool,
}

impl Backward {
    fn put(&mut self, mut value: u32, mut count: u32) {
        while count > 0 {
            // After a byte above 0x8F a byte has seven bits if these are all ones.
            let room = 8 - u32::from(self.high) - self.used;
            let now = room.min(count);
            self.byte |= ((value & ((1 << now) - 1)) << self.used) as u8;
            (self.used, value, count) = (self.used + now, value >> now, count - now);
            if now == room {
                if self.high && self.byte != 0x7F {
                    self.high = false;
                    continue;
                }
                self.data.push(self.byte);
                self.high = self.byte > 0x8F;
                (self.byte, self.used) = (0, 0);
            }
        }
    }
}

/// Bits that are read forward, lowest first.
struct Forward {
    data: Vec<u8>,
    byte: u8,
    used: u32,
    room: u32,
}

impl Forward {
    fn put(&mut self, value: u32, mut count: u32) {
        let mut value = u64::from(value);
        while count > 0 {
            let now = (self.room - self.used).min(count);
            self.byte |= ((value & ((1 << now) - 1)) << self.used) as u8;
            (self.used, value, count) = (self.used + now, value >> now, count - now);
            if self.used == self.room {
                self.data.push(self.byte);
                self.room = if self.byte == 0xFF { 7 } else { 8 };
                (self.byte, self.used) = (0, 0);
            }
        }
    }
}

/// Ends the three streams and puts them together.
fn join(mut magnitudes: Forward, mut runs: Runs, mut words: Backward) -> Vec<u8> {
    if magnitudes.used > 0 {
        let ones = ((1_u32 << magnitudes.room) - (1 << magnitudes.used)) as u8;
        magnitudes.byte |= ones;
        // Ones are what is read past the end.
        if magnitudes.byte != 0xFF {
            magnitudes.data.push(magnitudes.byte);
        }
    } else if magnitudes.room == 7 {
        magnitudes.data.pop();
    }
    if runs.zeros > 0 {
        runs.bit(true);
    }
    let runs_used = !((1_u32 << runs.room) - 1) as u8;
    let words_used = ((1_u32 << words.used) - 1) as u8;
    if runs_used | words_used != 0 {
        // The last byte of one can be that of the other if neither spoils the other's bits.
        let both = runs.byte | words.byte;
        let fits = (both ^ runs.byte) & runs_used == 0 && (both ^ words.byte) & words_used == 0;
        runs.data.push(if fits && both != 0xFF && words.data.len() > 1 {
            both
        } else {
            words.data.push(words.byte);
            runs.byte
        });
    }
    let suffix = runs.data.len() + words.data.len();
    let mut data = magnitudes.data;
    data.extend_from_slice(&runs.data);
    data.extend(words.data.iter().rev());
    if let [.., before, last] = data.as_mut_slice() {
        *last = (suffix >> 4) as u8;
        *before = *before & 0xF0 | (suffix & 15) as u8;
    }
    data
}
