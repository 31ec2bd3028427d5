//! The two wavelet transforms and their inverses (ISO/IEC 15444-1 Annex F), and the two component
//! transforms (Annex G).
//!
//! Owns the arithmetic on whole planes. Holds: a plane's low coefficients stand before its high
//! ones, in rows and in columns, so that the bands of a resolution are its quarters; numbers wrap
//! instead of overflowing, which sound data never make them do. Absent: bands' places.

use super::tile::Rect;

/// Whole coefficients with the reversible filter, or real ones with the other.
pub(super) trait Sample: Copy + Default {
    /// Lifting steps of the filter; those of even number change the high half.
    const STEPS: usize;
    /// Does one step, or takes it back, to a line of which the neighbours' lines are known.
    fn lift(step: usize, inverse: bool, line: &mut [Self], left: &[Self], right: &[Self]);
    /// Multiplies with what makes the halves of equal weight.
    fn scale(line: &mut [Self], high: bool, inverse: bool);
    /// A high coefficient that is alone in its line (§F.3.6).
    fn lonely(line: &mut [Self], inverse: bool);
}

#[inline(always)]
fn each<T: Copy>(line: &mut [T], left: &[T], right: &[T], step: impl Fn(T, T, T) -> T) {
    for ((n, a), b) in line.iter_mut().zip(left).zip(right) {
        *n = step(*n, *a, *b);
    }
}

impl Sample for i32 {
    const STEPS: usize = 2;

    fn lift(step: usize, inverse: bool, line: &mut [i32], left: &[i32], right: &[i32]) {
        let half = |a: i32, b: i32| a.wrapping_add(b) >> 1;
        let quarter = |a: i32, b: i32| a.wrapping_add(b).wrapping_add(2) >> 2;
        match (step, inverse) {
            (0, false) => each(line, left, right, |n, a, b| n.wrapping_sub(half(a, b))),
            (0, true) => each(line, left, right, |n, a, b| n.wrapping_add(half(a, b))),
            (_, false) => each(line, left, right, |n, a, b| n.wrapping_add(quarter(a, b))),
            (_, true) => each(line, left, right, |n, a, b| n.wrapping_sub(quarter(a, b))),
        }
    }

    fn scale(_line: &mut [i32], _high: bool, _inverse: bool) {}

    fn lonely(line: &mut [i32], inverse: bool) {
        for n in line {
            *n = if inverse { *n >> 1 } else { n.wrapping_mul(2) };
        }
    }
}

/// Table F.4.
const FACTORS: [f32; 4] = [-1.586_134_3, -0.052_980_12, 0.882_911_1, 0.443_506_85];
const KAPPA: f32 = 1.230_174_1;

impl Sample for f32 {
    const STEPS: usize = 4;

    fn lift(step: usize, inverse: bool, line: &mut [f32], left: &[f32], right: &[f32]) {
        let factor = FACTORS.get(step).copied().unwrap_or_default();
        let factor = if inverse { -factor } else { factor };
        each(line, left, right, |n, a, b| n + factor * (a + b));
    }

    fn scale(line: &mut [f32], high: bool, inverse: bool) {
        let factor = if high == inverse { 1.0 / KAPPA } else { KAPPA };
        for n in line {
            *n *= factor;
        }
    }

    fn lonely(line: &mut [f32], inverse: bool) {
        for n in line {
            *n *= if inverse { 0.5 } else { 2.0 };
        }
    }
}

/// A plane of which a part is transformed.
struct Area<'a, T> {
    data: &'a mut [T],
    stride: usize,
    /// The resolution's samples.
    rect: Rect,
    scratch: &'a mut Vec<T>,
}

/// Transforms a plane into bands; `resolutions` are the rectangles from the lowest to the whole.
pub(super) fn forward<T: Sample>(data: &mut [T], resolutions: &[Rect]) {
    let Some(whole) = resolutions.last() else { return };
    let (stride, mut scratch) = (whole.width(), Vec::new());
    for rect in resolutions.iter().skip(1).rev().filter(|rect| !rect.is_empty()) {
        let mut area = Area { data, stride, rect: *rect, scratch: &mut scratch };
        area.sort_rows(false);
        area.columns(false);
        area.rows(false);
    }
}

/// Makes a plane from its bands.
pub(super) fn inverse<T: Sample>(data: &mut [T], resolutions: &[Rect]) {
    let Some(whole) = resolutions.last() else { return };
    let (stride, mut scratch) = (whole.width(), Vec::new());
    for rect in resolutions.iter().skip(1).filter(|rect| !rect.is_empty()) {
        let mut area = Area { data, stride, rect: *rect, scratch: &mut scratch };
        area.rows(true);
        area.columns(true);
        area.sort_rows(true);
    }
}

/// How many of `count` coefficients from `first` on are low.
fn lows(first: u32, count: usize) -> usize {
    if first & 1 == 0 { count.div_ceil(2) } else { count / 2 }
}

impl<T: Sample> Area<'_, T> {
    fn row(&mut self, y: usize) -> &mut [T] {
        let start = y * self.stride;
        self.data.get_mut(start..start + self.rect.width()).unwrap_or_default()
    }

    /// Transforms each row: into its halves, or back from them.
    fn rows(&mut self, inverse: bool) {
        let (width, odd) = (self.rect.width(), (self.rect.x0 & 1) as usize);
        let low_count = lows(self.rect.x0, width);
        let high_count = width - low_count;
        // Both halves with a border, in which the nearest coefficient is repeated (§F.3.7).
        let mut low = vec![T::default(); low_count + 2];
        let mut high = vec![T::default(); high_count + 2];
        for y in 0..self.rect.height() {
            let row = self.row(y);
            if width == 1 {
                if odd == 1 {
                    T::lonely(row, inverse);
                }
                continue;
            }
            let lows = &mut low[1..=low_count];
            let highs = &mut high[1..=high_count];
            if inverse {
                let (first, second) = row.split_at(low_count);
                lows.copy_from_slice(first);
                highs.copy_from_slice(second);
            } else {
                pick(lows, row, odd);
                pick(highs, row, 1 - odd);
            }
            lift_halves(&mut low, &mut high, odd, inverse);
            let lows = &low[1..=low_count];
            let highs = &high[1..=high_count];
            if inverse {
                if odd == 0 { weave(row, lows, highs) } else { weave(row, highs, lows) }
            } else {
                let (first, second) = row.split_at_mut(low_count);
                first.copy_from_slice(lows);
                second.copy_from_slice(highs);
            }
        }
    }

    /// Transforms all columns at once, the low rows standing before the high ones.
    fn columns(&mut self, inverse: bool) {
        let (height, odd) = (self.rect.height(), (self.rect.y0 & 1) as usize);
        if height == 1 {
            if odd == 1 {
                T::lonely(self.row(0), inverse);
            }
            return;
        }
        let low_count = lows(self.rect.y0, height);
        let (width, stride) = (self.rect.width(), self.stride);
        let (low, high) = self.data.split_at_mut(low_count * stride);
        let high_count = height - low_count;
        let scale = |low: &mut [T], high: &mut [T]| {
            for row in low.chunks_mut(stride).take(low_count) {
                T::scale(&mut row[..width], false, inverse);
            }
            for row in high.chunks_mut(stride).take(high_count) {
                T::scale(&mut row[..width], true, inverse);
            }
        };
        if inverse {
            scale(low, high);
        }
        for step in 0..T::STEPS {
            let step = if inverse { T::STEPS - 1 - step } else { step };
            let highs = step % 2 == 0;
            let (lines, others) = if highs { (&mut *high, &*low) } else { (&mut *low, &*high) };
            let (count, other_count) =
                if highs { (high_count, low_count) } else { (low_count, high_count) };
            // Which neighbour comes first depends on which half begins.
            let back = usize::from(highs == (odd == 1));
            for (n, line) in lines.chunks_mut(stride).take(count).enumerate() {
                let near = |n: usize| {
                    let n = n.saturating_sub(back).min(other_count - 1);
                    &others[n * stride..n * stride + width]
                };
                T::lift(step, inverse, &mut line[..width], near(n), near(n + 1));
            }
        }
        if !inverse {
            scale(low, high);
        }
    }

    /// Puts the low rows before the high ones, or back between them.
    fn sort_rows(&mut self, inverse: bool) {
        let (width, height) = (self.rect.width(), self.rect.height());
        let low_count = lows(self.rect.y0, height);
        let odd = (self.rect.y0 & 1) as usize;
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        for y in 0..height {
            scratch.extend_from_slice(self.row(y));
        }
        for (y, row) in scratch.chunks_exact(width).enumerate() {
            let place = if inverse {
                if y < low_count { 2 * y + odd } else { 2 * (y - low_count) + 1 - odd }
            } else if y % 2 == odd {
                y / 2
            } else {
                low_count + y / 2
            };
            self.row(place).copy_from_slice(row);
        }
        *self.scratch = scratch;
    }
}

fn lift_halves<T: Sample>(low: &mut [T], high: &mut [T], odd: usize, inverse: bool) {
    let (low_end, high_end) = (low.len() - 1, high.len() - 1);
    let scale = |low: &mut [T], high: &mut [T]| {
        T::scale(&mut low[1..low_end], false, inverse);
        T::scale(&mut high[1..high_end], true, inverse);
    };
    if inverse {
        scale(low, high);
    }
    for step in 0..T::STEPS {
        let step = if inverse { T::STEPS - 1 - step } else { step };
        let highs = step % 2 == 0;
        let (line, other) = if highs { (&mut *high, &mut *low) } else { (&mut *low, &mut *high) };
        let last = other.len() - 1;
        other[0] = other[1];
        other[last] = other[last - 1];
        let count = line.len() - 2;
        let back = usize::from(highs == (odd == 1));
        let (left, right) = (&other[1 - back..], &other[2 - back..]);
        T::lift(step, inverse, &mut line[1..=count], left, right);
    }
    if !inverse {
        scale(low, high);
    }
}

/// Every second sample from `first` on.
fn pick<T: Copy>(to: &mut [T], from: &[T], first: usize) {
    for (to, from) in to.iter_mut().zip(from.iter().skip(first).step_by(2)) {
        *to = *from;
    }
}

/// Samples in turn, of which the first half may have one more.
fn weave<T: Copy>(to: &mut [T], first: &[T], second: &[T]) {
    let mut pairs = to.chunks_exact_mut(2);
    for ((pair, a), b) in (&mut pairs).zip(first).zip(second) {
        pair[0] = *a;
        pair[1] = *b;
    }
    if let ([rest], Some(last)) = (pairs.into_remainder(), first.last()) {
        *rest = *last;
    }
}

/// Takes back the reversible component transform (§G.2.2).
pub(super) fn unmix(first: &mut [i32], second: &mut [i32], third: &mut [i32]) {
    for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
        let green = a.wrapping_sub(b.wrapping_add(*c) >> 2);
        (*a, *b, *c) = (c.wrapping_add(green), green, b.wrapping_add(green));
    }
}

/// The reversible component transform (§G.2.1).
pub(super) fn mix(first: &mut [i32], second: &mut [i32], third: &mut [i32]) {
    for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
        let (red, green, blue) = (*a, *b, *c);
        *a = red.wrapping_add(green.wrapping_mul(2)).wrapping_add(blue) >> 2;
        (*b, *c) = (blue.wrapping_sub(green), red.wrapping_sub(green));
    }
}

/// Takes back the irreversible component transform (§G.3.2).
pub(super) fn unmix_real(first: &mut [f32], second: &mut [f32], third: &mut [f32]) {
    for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
        let (y, cb, cr) = (*a, *b, *c);
        *a = y + 1.402 * cr;
        *b = y - 0.344_13 * cb - 0.714_14 * cr;
        *c = y + 1.772 * cb;
    }
}

/// The irreversible component transform (§G.3.1).
pub(super) fn mix_real(first: &mut [f32], second: &mut [f32], third: &mut [f32]) {
    for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
        let (red, green, blue) = (*a, *b, *c);
        *a = 0.299 * red + 0.587 * green + 0.114 * blue;
        *b = -0.168_75 * red - 0.331_26 * green + 0.5 * blue;
        *c = 0.5 * red - 0.418_69 * green - 0.081_31 * blue;
    }
}
