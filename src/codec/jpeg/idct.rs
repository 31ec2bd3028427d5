//! The inverse discrete cosine transform (T.81 §A.3.3) in whole numbers.
//!
//! Owns [`inverse`], after Loeffler, Ligtenberg and Moschytz with 13 bits for constants: the steps
//! and roundings of libjpeg's accurate method, so that results agree with it sample for sample.
//! Holds: sums wrap, so that no coefficients are too large.

use std::num::Wrapping;

type Number = Wrapping<i32>;

/// Fractional bits of constants.
const BITS: usize = 13;

const fn constant(value: f64) -> Number {
    Wrapping((value * (1 << BITS) as f64 + 0.5) as i32)
}

const C0_298: Number = constant(0.298_631_336);
const C0_390: Number = constant(0.390_180_644);
const C0_541: Number = constant(0.541_196_100);
const C0_765: Number = constant(0.765_366_865);
const C0_899: Number = constant(0.899_976_223);
const C1_175: Number = constant(1.175_875_602);
const C1_501: Number = constant(1.501_321_110);
const C1_847: Number = constant(1.847_759_065);
const C1_961: Number = constant(1.961_570_560);
const C2_053: Number = constant(2.053_119_869);
const C2_562: Number = constant(2.562_915_447);
const C3_072: Number = constant(3.072_711_026);

/// One dimension: results have [`BITS`] more fractional bits than coefficients.
#[inline(always)]
fn line(x: [Number; 8]) -> [Number; 8] {
    let turned = (x[2] + x[6]) * C0_541;
    let even_2 = turned - x[6] * C1_847;
    let even_3 = turned + x[2] * C0_765;
    let even_0 = (x[0] + x[4]) << BITS;
    let even_1 = (x[0] - x[4]) << BITS;
    let even = [even_0 + even_3, even_1 + even_2, even_1 - even_2, even_0 - even_3];

    let all = (x[7] + x[3] + x[5] + x[1]) * C1_175;
    let outer = -(x[7] + x[1]) * C0_899;
    let inner = -(x[5] + x[3]) * C2_562;
    let high = all - (x[7] + x[3]) * C1_961;
    let low = all - (x[5] + x[1]) * C0_390;
    let odd = [
        x[1] * C1_501 + outer + low,
        x[3] * C3_072 + inner + high,
        x[5] * C2_053 + inner + low,
        x[7] * C0_298 + outer + high,
    ];
    [
        even[0] + odd[0],
        even[1] + odd[1],
        even[2] + odd[2],
        even[3] + odd[3],
        even[3] - odd[3],
        even[2] - odd[2],
        even[1] - odd[1],
        even[0] - odd[0],
    ]
}

#[inline(always)]
fn round(value: Number, bits: usize) -> Number {
    (value + Wrapping(1 << (bits - 1))) >> bits
}

/// Turns dequantised coefficients, in rows, into the samples of a block: `out` begins at its first
/// sample and has `stride` samples a line.
pub(super) fn inverse(coefficients: &[i32; 64], precision: u8, out: &mut [u16], stride: usize) {
    let top = (1_i32 << precision) - 1;
    let centre = 1_i32 << (precision - 1);
    let clamp = |value: Number| value.0.saturating_add(centre).clamp(0, top) as u16;
    let lines = out.chunks_mut(stride).take(8);
    if coefficients[1..].iter().all(|c| *c == 0) {
        let sample = clamp(round(Wrapping(coefficients[0]), 3));
        lines.for_each(|line| line.iter_mut().take(8).for_each(|out| *out = sample));
        return;
    }
    // More than 8 bits leave room for one fractional bit less between the passes.
    let kept = if precision == 8 { 2 } else { 1 };
    let mut columns = [[Wrapping(0); 8]; 8];
    for x in 0..8 {
        let column: [Number; 8] = std::array::from_fn(|y| Wrapping(coefficients[8 * y + x]));
        // Most columns of most blocks have nothing but their mean.
        if column[1..].iter().all(|c| c.0 == 0) {
            columns.iter_mut().for_each(|row| row[x] = column[0] << kept);
            continue;
        }
        for (y, value) in line(column).into_iter().enumerate() {
            columns[y][x] = round(value, BITS - kept);
        }
    }
    for (row, out) in columns.into_iter().zip(lines) {
        for (value, out) in line(row).into_iter().zip(out) {
            *out = clamp(round(value, BITS + kept + 3));
        }
    }
}
