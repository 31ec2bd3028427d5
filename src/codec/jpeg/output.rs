//! From planes to the bytes of a native frame: sub-sampling undone, colour converted.
//!
//! Owns [`native`]. Holds: interpolation and colour conversion have libjpeg's steps and roundings
//! («fancy» upsampling; JFIF's full-range YCbCr), so that results agree with it sample for sample.
//! Absent: which colour a codestream has.

use super::plane::{Grid, Plane};

/// What is done to samples on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finish {
    /// Bits of a sample as it was coded.
    pub(super) precision: u8,
    /// Bits by which samples were shortened (point transform).
    pub(super) shift: u8,
    /// Chroma is interpolated between samples, not repeated.
    pub(super) smooth: bool,
    /// Three components are YCbCr and become RGB.
    pub(super) convert: bool,
    /// Bytes of a sample in the result: 1 or 2.
    pub(super) bytes: usize,
    /// Samples are two's complement of so many bits.
    pub(super) signed: Option<u8>,
}

/// The frame, pixel after pixel, little endian.
pub(super) fn native(
    grid: &Grid,
    planes: &[Plane],
    columns: usize,
    rows: usize,
    finish: Finish,
) -> Vec<u8> {
    let mut out = vec![0; columns * rows * planes.len() * finish.bytes];
    let mut scratch: Vec<Scratch> = planes.iter().map(|_| Scratch::default()).collect();
    let mut line = vec![0_u16; columns * planes.len()];
    let colour = Colour::new(finish.precision);
    for (y, out) in out.chunks_exact_mut(columns * planes.len() * finish.bytes).enumerate() {
        let mut sources: Vec<&[u16]> = Vec::with_capacity(planes.len());
        for (plane, scratch) in planes.iter().zip(&mut scratch) {
            sources.push(full_line(grid, plane, y, columns, finish.smooth, scratch));
        }
        let whole = match sources.as_slice() {
            [one] => one,
            [y, cb, cr] if finish.convert && finish.bytes == 1 => {
                let pixels = out.as_chunks_mut::<3>().0.iter_mut().zip(y.iter().zip(*cb).zip(*cr));
                for (rgb, ((y, cb), cr)) in pixels {
                    *rgb = colour.rgb(*y, *cb, *cr).map(|value| value as u8);
                }
                continue;
            }
            [a, b, c] => {
                let pixels = line.as_chunks_mut::<3>().0.iter_mut().zip(a.iter().zip(*b).zip(*c));
                for (pixel, ((a, b), c)) in pixels {
                    *pixel = if finish.convert { colour.rgb(*a, *b, *c) } else { [*a, *b, *c] };
                }
                line.as_slice()
            }
            more => {
                for (pixel, x) in line.chunks_exact_mut(more.len()).zip(0..) {
                    for (sample, source) in pixel.iter_mut().zip(more) {
                        *sample = source.get(x).copied().unwrap_or(0);
                    }
                }
                line.as_slice()
            }
        };
        write(whole, finish, out);
    }
    out
}

/// Room for one line of one component.
#[derive(Default)]
struct Scratch {
    line: Vec<u16>,
    sums: Vec<u32>,
}

fn write(samples: &[u16], finish: Finish, out: &mut [u8]) {
    let shift = u32::from(finish.shift) & 15;
    // Two's complement of fewer bits than there is room for gets its sign repeated.
    let spare = finish.signed.map_or(0, |bits| 16_u32.saturating_sub(u32::from(bits)));
    let value = |sample: u16| (((sample << shift << spare) as i16) >> spare) as u16;
    match (finish.bytes, shift, spare) {
        (1, 0, 0) => {
            out.iter_mut().zip(samples).for_each(|(byte, sample)| *byte = *sample as u8);
        }
        (1, _, _) => {
            out.iter_mut().zip(samples).for_each(|(byte, sample)| *byte = value(*sample) as u8);
        }
        (_, 0, 0) => {
            let pairs = out.as_chunks_mut::<2>().0.iter_mut();
            pairs.zip(samples).for_each(|(pair, sample)| *pair = sample.to_le_bytes());
        }
        _ => {
            let pairs = out.as_chunks_mut::<2>().0.iter_mut();
            pairs.zip(samples).for_each(|(pair, sample)| *pair = value(*sample).to_le_bytes());
        }
    }
}

/// Line `y` of a plane at the size of the image.
fn full_line<'a>(
    grid: &Grid,
    plane: &'a Plane,
    y: usize,
    columns: usize,
    smooth: bool,
    scratch: &'a mut Scratch,
) -> &'a [u16] {
    let line = |y: usize| {
        let start = y.min(plane.height.saturating_sub(1)) * plane.stride;
        plane.samples.get(start..start + plane.width).unwrap_or_default()
    };
    if (plane.h, plane.v) == (grid.h, grid.v) {
        return line(y);
    }
    let twice = (plane.h * 2 == grid.h, plane.v * 2 == grid.v);
    let same = (plane.h == grid.h, plane.v == grid.v);
    let Scratch { line: wide, sums } = scratch;
    // Odd lines lie nearer to the one below.
    let (near, far) = (line(y / 2), line(if y % 2 == 1 { y / 2 + 1 } else { (y / 2).max(1) - 1 }));
    let pairs = near.iter().zip(far).map(|(near, far)| 3 * u32::from(*near) + u32::from(*far));
    wide.clear();
    sums.clear();
    match (twice, same) {
        ((true, _), (_, true)) if smooth && plane.width > 2 => {
            sums.extend(line(y).iter().map(|sample| u32::from(*sample)));
            widen(wide, sums, [1, 2], 2);
        }
        ((true, true), _) if smooth && plane.width > 2 => {
            sums.extend(pairs);
            widen(wide, sums, [8, 7], 4);
        }
        ((_, true), (true, _)) if smooth => {
            let bias = if y % 2 == 1 { 2 } else { 1 };
            wide.extend(pairs.map(|sum| ((sum + bias) >> 2) as u16));
        }
        _ => {
            let source = line(y * plane.v / grid.v);
            let at = |x: usize| source.get(x * plane.h / grid.h).copied().unwrap_or(0);
            wide.extend((0..columns).map(at));
        }
    }
    wide.get(..columns).unwrap_or_default()
}

/// Two samples from each: three quarters of it and one of its neighbour to the left or right.
fn widen(wide: &mut Vec<u16>, sums: &[u32], bias: [u32; 2], shift: u32) {
    let last = sums.last().copied();
    let left = sums.first().into_iter().chain(sums);
    let right = sums.iter().skip(1).chain(last.as_ref());
    for ((sum, left), right) in sums.iter().zip(left).zip(right) {
        wide.push(((3 * sum + left + bias[0]) >> shift) as u16);
        wide.push(((3 * sum + right + bias[1]) >> shift) as u16);
    }
}

/// YCbCr to RGB as JFIF has it, with 16 bits for constants.
#[derive(Clone, Copy)]
struct Colour {
    centre: i32,
    top: i32,
}

impl Colour {
    fn new(precision: u8) -> Self {
        Self { centre: 1 << (precision - 1), top: (1 << precision) - 1 }
    }

    #[inline(always)]
    fn rgb(self, y: u16, cb: u16, cr: u16) -> [u16; 3] {
        const HALF: i32 = 1 << 15;
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - self.centre, i32::from(cr) - self.centre);
        let red = y + ((91_881 * cr + HALF) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
        let blue = y + ((116_130 * cb + HALF) >> 16);
        [red, green, blue].map(|value| value.clamp(0, self.top) as u16)
    }
}
