//! What the arithmetic coder of code-blocks knows, for reading and writing alike: its table of
//! states (ISO/IEC 15444-1 Table C.2) and the contexts of samples (§D.3).
//!
//! Owns the flags of samples. Holds: four samples of a column share a cell, which knows all their
//! neighbours, and cells have a border. Absent: bits.

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
        (0x5601, 1, 1, 1),
        (0x3401, 2, 6, 0),
        (0x1801, 3, 9, 0),
        (0x0AC1, 4, 12, 0),
        (0x0521, 5, 29, 0),
        (0x0221, 38, 33, 0),
        (0x5601, 7, 6, 1),
        (0x5401, 8, 14, 0),
        (0x4801, 9, 14, 0),
        (0x3801, 10, 14, 0),
        (0x3001, 11, 17, 0),
        (0x2401, 12, 18, 0),
        (0x1C01, 13, 20, 0),
        (0x1601, 29, 21, 0),
        (0x5601, 15, 14, 1),
        (0x5401, 16, 14, 0),
        (0x5101, 17, 15, 0),
        (0x4801, 18, 16, 0),
        (0x3801, 19, 17, 0),
        (0x3401, 20, 18, 0),
        (0x3001, 21, 19, 0),
        (0x2801, 22, 19, 0),
        (0x2401, 23, 20, 0),
        (0x2201, 24, 21, 0),
        (0x1C01, 25, 22, 0),
        (0x1801, 26, 23, 0),
        (0x1601, 27, 24, 0),
        (0x1401, 28, 25, 0),
        (0x1201, 29, 26, 0),
        (0x1101, 30, 27, 0),
        (0x0AC1, 31, 28, 0),
        (0x09C1, 32, 29, 0),
        (0x08A1, 33, 30, 0),
        (0x0521, 34, 31, 0),
        (0x0441, 35, 32, 0),
        (0x02A1, 36, 33, 0),
        (0x0221, 37, 34, 0),
        (0x0141, 38, 35, 0),
        (0x0111, 39, 36, 0),
        (0x0085, 40, 37, 0),
        (0x0049, 41, 38, 0),
        (0x0025, 42, 39, 0),
        (0x0015, 43, 40, 0),
        (0x0009, 44, 41, 0),
        (0x0005, 45, 42, 0),
        (0x0001, 45, 43, 0),
        (0x5601, 46, 46, 0),
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

/// A cell has the significance of three columns in six rows, from the row above its four samples
/// to the row below: bit 3 × row + column. Then come signs and what passes leave behind.
const AROUND: u32 = 0x1EF;
/// Where the significance of the cell's first sample is; three bits on that of the next.
const OWN: u32 = 4;
/// Where the sign of the sample above is, and that of the cell's first.
const SIGN_ABOVE: u32 = 18;
const SIGN_OWN: u32 = 19;
const SIGN_BELOW: u32 = 31;
const REFINED: u32 = 20;
const VISITED: u32 = 21;
/// All that a cell has of its own four samples' significance.
pub(super) const ANY_OWN: u32 = 0x2490;
/// All significance.
pub(super) const ANY: u32 = 0x3FFFF;
/// All marks of having had a turn.
const ALL_VISITED: u32 = 0x4920_0000;
/// What must not be seen where contexts are causal: the row below.
const BELOW: u32 = 0x3_8000 | 1 << SIGN_BELOW;

/// The flags of a code-block's samples.
pub(super) struct Flags {
    pub(super) cells: Vec<u32>,
    pub(super) stride: usize,
}

impl Flags {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let stride = width + 2;
        Self { cells: vec![0; stride * (height.div_ceil(4) + 2)], stride }
    }

    /// Where the cell of a column in a stripe is.
    #[inline(always)]
    pub(super) fn at(&self, x: usize, stripe: usize) -> usize {
        (stripe + 1) * self.stride + x + 1
    }

    /// A cell, without what is below it where contexts are causal.
    #[inline(always)]
    pub(super) fn cell(&self, at: usize, causal: bool) -> u32 {
        let cell = self.cells[at];
        if causal { cell & !BELOW } else { cell }
    }

    /// A sample becomes significant: all around hear of it.
    #[inline(always)]
    pub(super) fn raise(&mut self, at: usize, row: usize, negative: bool) {
        let sign = u32::from(negative);
        let down = 3 * row as u32;
        if let Some([west, own, east]) = self.cells.get_mut(at - 1..at + 2) {
            *west |= 1 << (OWN + 1 + down);
            *own |= 1 << (OWN + down) | sign << (SIGN_OWN + down);
            *east |= 1 << (OWN - 1 + down);
        }
        if row == 0 {
            let above = at - self.stride;
            if let Some([west, own, east]) = self.cells.get_mut(above - 1..above + 2) {
                *west |= 1 << 17;
                *own |= 1 << 16 | sign << SIGN_BELOW;
                *east |= 1 << 15;
            }
        }
        if row == 3 {
            let below = at + self.stride;
            if let Some([west, own, east]) = self.cells.get_mut(below - 1..below + 2) {
                *west |= 1 << 2;
                *own |= 1 << 1 | sign << SIGN_ABOVE;
                *east |= 1;
            }
        }
    }

    /// Context of a sample's sign, and whether the predicted sign is minus.
    #[inline(always)]
    pub(super) fn sign(&self, at: usize, row: usize, causal: bool) -> (usize, bool) {
        let down = 3 * row as u32;
        let cell = self.cell(at, causal);
        let around = cell >> down;
        // East, west, south, north.
        let near = around >> 5 & 1 | around >> 2 & 2 | around >> 5 & 4 | around << 2 & 8;
        let east = self.cells[at + 1] >> (SIGN_OWN + down) & 1;
        let west = self.cells[at - 1] >> (SIGN_OWN + down) & 1;
        let south = cell >> if row == 3 { SIGN_BELOW } else { SIGN_OWN + 3 + down } & 1;
        let north = cell >> if row == 0 { SIGN_ABOVE } else { SIGN_OWN + down - 3 } & 1;
        let minus = east | west << 1 | south << 2 | north << 3;
        let (context, predicted) = SIGN[(near | minus << 4) as usize & 255];
        (context.into(), predicted)
    }

    /// The sample had its turn in this bit plane.
    #[inline(always)]
    pub(super) fn visit(&mut self, at: usize, row: usize) {
        self.cells[at] |= 1 << (VISITED + 3 * row as u32);
    }

    /// The sample was refined.
    #[inline(always)]
    pub(super) fn refine(&mut self, at: usize, row: usize) {
        self.cells[at] |= 1 << (REFINED + 3 * row as u32);
    }

    /// A bit plane is done.
    #[inline(always)]
    pub(super) fn forget_visits(&mut self, at: usize) {
        self.cells[at] &= !ALL_VISITED;
    }
}

/// Whether the sample in a cell's row is not significant and a neighbour is.
#[inline(always)]
pub(super) fn may_become(cell: u32, row: usize) -> bool {
    let around = cell >> (3 * row);
    around & 1 << OWN == 0 && around & AROUND != 0
}

/// Whether the sample is to be refined: significant before this bit plane.
#[inline(always)]
pub(super) fn is_refined_now(cell: u32, row: usize) -> bool {
    let cell = cell >> (3 * row);
    cell & (1 << OWN | 1 << VISITED) == 1 << OWN
}

/// Whether the sample is left for the cleanup pass.
#[inline(always)]
pub(super) fn is_left(cell: u32, row: usize) -> bool {
    cell >> (3 * row) & (1 << OWN | 1 << VISITED) == 0
}

/// Where [`ZERO`] has the context of a sample.
#[inline(always)]
pub(super) fn zero_index(cell: u32, row: usize) -> usize {
    (cell >> (3 * row) & 511) as usize
}

/// Context of a refining bit (Table D.4).
#[inline(always)]
pub(super) fn refine_context(cell: u32, row: usize) -> usize {
    let cell = cell >> (3 * row);
    if cell & 1 << REFINED != 0 {
        16
    } else if cell & AROUND != 0 {
        15
    } else {
        14
    }
}

/// Contexts of a sample not yet significant, by its surroundings: for bands without high
/// horizontals, for those with high horizontals alone, for those with both (Table D.1).
pub(super) static ZERO: [[u8; 512]; 3] = {
    let mut tables = [[0; 512]; 3];
    let mut around = 0;
    while around < 512 {
        let bits = around as u32;
        let sides = (bits & 0b000_101_000).count_ones();
        let ends = (bits & 0b010_000_010).count_ones();
        let corners = (bits & 0b101_000_101).count_ones();
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
/// neighbours (east, west, south, north) and, four bits on, which of them are negative.
static SIGN: [(u8, bool); 256] = {
    let mut table = [(9, false); 256];
    let mut index = 0;
    while index < 256 {
        let horizontal = sum(index, 1, 2);
        let vertical = sum(index, 4, 8);
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

const fn sum(bits: usize, one: usize, other: usize) -> i32 {
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
