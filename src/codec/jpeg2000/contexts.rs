//! What the arithmetic coder of code-blocks knows, for reading and writing alike: its table of
//! states (ISO/IEC 15444-1 Table C.2) and the contexts of samples (§D.3).
//!
//! Owns the flags of samples. Holds: flags have a border, so that every sample has eight
//! neighbours. Absent: bits.

/// One state: probability, next state after the more and the less probable symbol, and whether the
/// latter makes them change places.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) probability: u16,
    pub(super) more: u8,
    pub(super) less: u8,
    pub(super) swap: bool,
}

const fn state(probability: u16, more: u8, less: u8, swap: u8) -> State {
    State { probability, more, less, swap: swap == 1 }
}

/// The states; there are 64 so that an index of six bits always has one.
pub(super) static STATES: [State; 64] = {
    let mut states = [state(0x5601, 46, 46, 0); 64];
    let rows: [(u16, u8, u8, u8); 47] = [
        (0x5601, 1, 1, 1), (0x3401, 2, 6, 0), (0x1801, 3, 9, 0), (0x0AC1, 4, 12, 0),
        (0x0521, 5, 29, 0), (0x0221, 38, 33, 0), (0x5601, 7, 6, 1), (0x5401, 8, 14, 0),
        (0x4801, 9, 14, 0), (0x3801, 10, 14, 0), (0x3001, 11, 17, 0), (0x2401, 12, 18, 0),
        (0x1C01, 13, 20, 0), (0x1601, 29, 21, 0), (0x5601, 15, 14, 1), (0x5401, 16, 14, 0),
        (0x5101, 17, 15, 0), (0x4801, 18, 16, 0), (0x3801, 19, 17, 0), (0x3401, 20, 18, 0),
        (0x3001, 21, 19, 0), (0x2801, 22, 19, 0), (0x2401, 23, 20, 0), (0x2201, 24, 21, 0),
        (0x1C01, 25, 22, 0), (0x1801, 26, 23, 0), (0x1601, 27, 24, 0), (0x1401, 28, 25, 0),
        (0x1201, 29, 26, 0), (0x1101, 30, 27, 0), (0x0AC1, 31, 28, 0), (0x09C1, 32, 29, 0),
        (0x08A1, 33, 30, 0), (0x0521, 34, 31, 0), (0x0441, 35, 32, 0), (0x02A1, 36, 33, 0),
        (0x0221, 37, 34, 0), (0x0141, 38, 35, 0), (0x0111, 39, 36, 0), (0x0085, 40, 37, 0),
        (0x0049, 41, 38, 0), (0x0025, 42, 39, 0), (0x0015, 43, 40, 0), (0x0009, 44, 41, 0),
        (0x0005, 45, 42, 0), (0x0001, 45, 43, 0), (0x5601, 46, 46, 0),
    ];
    let mut index = 0;
    while index < rows.len() {
        let (probability, more, less, swap) = rows[index];
        states[index] = state(probability, more, less, swap);
        index += 1;
    }
    states
};

/// Context of a run of four insignificant samples.
pub(super) const RUN: usize = 17;
/// Context without memory.
pub(super) const UNIFORM: usize = 18;

/// The states in which the contexts begin (Table D.7), the more probable symbol in bit 7.
pub(super) const START: [u8; 32] = {
    let mut start = [0; 32];
    start[0] = 4;
    start[RUN] = 3;
    start[UNIFORM] = 46;
    start
};

/// Neighbours that are significant: right, left, below, above, and the four corners.
pub(super) const EAST: u16 = 1;
pub(super) const WEST: u16 = 2;
pub(super) const SOUTH: u16 = 4;
pub(super) const NORTH: u16 = 8;
const SOUTH_EAST: u16 = 16;
const SOUTH_WEST: u16 = 32;
const NORTH_EAST: u16 = 64;
const NORTH_WEST: u16 = 128;
/// Any neighbour.
pub(super) const AROUND: u16 = 0xFF;
/// Those four neighbours are negative: eight bits on, in the same order.
const NEGATIVE: u32 = 8;
/// The sample is significant.
pub(super) const SIGNIFICANT: u16 = 1 << 12;
/// The sample was refined before.
pub(super) const REFINED: u16 = 1 << 13;
/// The sample had its turn in this bit plane.
pub(super) const VISITED: u16 = 1 << 14;
/// What a sample at the foot of a stripe must not see where contexts are causal.
const BELOW: u16 = SOUTH | SOUTH_EAST | SOUTH_WEST | SOUTH << NEGATIVE;

/// The flags of a code-block's samples.
pub(super) struct Flags {
    pub(super) cells: Vec<u16>,
    pub(super) stride: usize,
}

impl Flags {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let stride = width + 2;
        Self { cells: vec![0; stride * (height + 2)], stride }
    }

    /// Where a sample's flags are.
    pub(super) fn at(&self, x: usize, y: usize) -> usize {
        (y + 1) * self.stride + x + 1
    }

    /// A sample becomes significant: its neighbours hear of it.
    #[inline(always)]
    pub(super) fn raise(&mut self, at: usize, negative: bool) {
        let sign = |side: u16| if negative { side | side << NEGATIVE } else { side };
        let (above, below) = (at - self.stride, at + self.stride);
        if let Some([west, middle, east]) = self.cells.get_mut(above - 1..above + 2) {
            *west |= SOUTH_EAST;
            *middle |= sign(SOUTH);
            *east |= SOUTH_WEST;
        }
        if let Some([west, middle, east]) = self.cells.get_mut(at - 1..at + 2) {
            *west |= sign(EAST);
            *middle |= SIGNIFICANT;
            *east |= sign(WEST);
        }
        if let Some([west, middle, east]) = self.cells.get_mut(below - 1..below + 2) {
            *west |= NORTH_EAST;
            *middle |= sign(NORTH);
            *east |= NORTH_WEST;
        }
    }
}

/// Contexts of a sample not yet significant, by its neighbours: for bands without high
/// horizontals, for those with high horizontals alone, for those with both (Table D.1).
pub(super) static ZERO: [[u8; 256]; 3] = {
    let mut tables = [[0; 256]; 3];
    let mut around = 0;
    while around < 256 {
        let bits = around as u16;
        let sides = (bits & (EAST | WEST)).count_ones();
        let ends = (bits & (NORTH | SOUTH)).count_ones();
        let corners =
            (bits & (NORTH_EAST | NORTH_WEST | SOUTH_EAST | SOUTH_WEST)).count_ones();
        tables[0][around] = zero_straight(sides, ends, corners);
        tables[1][around] = zero_straight(ends, sides, corners);
        tables[2][around] = zero_corner(sides + ends, corners);
        around += 1;
    }
    tables
};

const fn zero_straight(along: u32, across: u32, corners: u32) -> u8 {
    match (along, across, corners) {
        (2, _, _) => 8,
        (1, 0, 0) => 5,
        (1, 0, _) => 6,
        (1, _, _) => 7,
        (_, 2, _) => 4,
        (_, 1, _) => 3,
        (_, _, 0) => 0,
        (_, _, 1) => 1,
        _ => 2,
    }
}

const fn zero_corner(straight: u32, corners: u32) -> u8 {
    match (corners, straight) {
        (0, 0) => 0,
        (0, 1) => 1,
        (0, _) => 2,
        (1, 0) => 3,
        (1, 1) => 4,
        (1, _) => 5,
        (2, 0) => 6,
        (2, _) => 7,
        _ => 8,
    }
}

/// Context of a sign and whether the predicted sign is minus (Table D.3), by the four straight
/// neighbours and, four bits on, which of them are negative.
pub(super) static SIGN: [(u8, bool); 256] = {
    let mut table = [(9, false); 256];
    let mut index = 0;
    while index < 256 {
        let bits = index as u16;
        let horizontal = sum(bits, EAST, WEST);
        let vertical = sum(bits, SOUTH, NORTH);
        table[index] = match (horizontal, vertical) {
            (1, 1) => (13, false),
            (1, 0) => (12, false),
            (1, -1) => (11, false),
            (0, 1) => (10, false),
            (0, 0) => (9, false),
            (0, _) => (10, true),
            (_, 1) => (11, true),
            (_, 0) => (12, true),
            _ => (13, true),
        };
        index += 1;
    }
    table
};

const fn sum(bits: u16, one: u16, other: u16) -> i32 {
    let mut sum = 0;
    let mut index = 0;
    while index < 2 {
        let side = if index == 0 { one } else { other };
        if bits & side != 0 {
            sum += if bits & side << 4 != 0 { -1 } else { 1 };
        }
        index += 1;
    }
    if sum > 1 {
        1
    } else if sum < -1 {
        -1
    } else {
        sum
    }
}

/// The index into [`SIGN`] of a sample's flags.
#[inline(always)]
pub(super) fn sign_index(flags: u16) -> usize {
    usize::from(flags & 15 | flags >> 4 & 0xF0)
}

/// Context of a refining bit (Table D.4).
#[inline(always)]
pub(super) fn refine_context(flags: u16) -> usize {
    if flags & REFINED != 0 {
        16
    } else if flags & AROUND != 0 {
        15
    } else {
        14
    }
}

/// What a sample sees of its neighbours when it must not see below its stripe.
#[inline(always)]
pub(super) fn without_below(flags: u16) -> u16 {
    flags & !BELOW
}
