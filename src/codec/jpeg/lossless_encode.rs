//! Lossless encoding (T.81 Annex H; DICOM processes 14 and 14 SV1).
//!
//! Owns [`encode`]. Holds: what is encoded decodes to the same bytes. Precision is Bits Stored where
//! every sample is no more than that, else Bits Allocated, so that bits which nothing describes
//! are kept too.

use super::{
    bits::BitWriter,
    huffman::Encoder,
    write::{frame, huffman, planes, put, segment, size},
};
use crate::codec::{CodecError, Encoded, Layout, Photometric, Raster};

/// Encodes a frame with a predictor from 1 to 7, or with the one that seems to need the fewest
/// bits.
pub(super) fn encode(raster: &Raster, predictor: Option<u8>) -> Result<Encoded, CodecError> {
    let layout = &raster.layout;
    let mut planes = planes(raster)?;
    let precision = precision(layout, &planes);
    let mask = u16::MAX >> (16 - precision.clamp(1, 16));
    planes.iter_mut().flatten().for_each(|word| *word &= mask);
    let width = usize::from(layout.columns);
    let initial = 1_u16 << (precision - 1);
    let predictor = predictor.unwrap_or_else(|| best(&planes, width, initial));
    let mut components = Vec::new();
    for words in &planes {
        let mut differences = vec![0; words.len()];
        let mut above: &[u16] = &[];
        let lines = words.chunks_exact(width).zip(differences.chunks_exact_mut(width));
        for (line, differences) in lines {
            difference(predictor, initial, above, line, differences);
            above = line;
        }
        let encoder = Encoder::best(&frequencies(&differences));
        components.push((differences, encoder));
    }
    let data = write(layout, precision, predictor, &components);
    Ok(Encoded { layout: Layout { planar: false, ..layout.clone() }, data })
}

/// Bits that hold every sample.
fn precision(layout: &Layout, planes: &[Vec<u16>]) -> u8 {
    let Layout { bits_allocated, bits_stored, high_bit, signed, .. } = *layout;
    let spare = u32::from(bits_allocated.saturating_sub(bits_stored));
    let unused = 16 - u32::from(bits_allocated);
    let whole = |word: &u16| {
        let word = word << unused;
        let cut = word << spare;
        let back = if signed { (cut as i16 >> spare) as u16 } else { cut >> spare };
        back == word
    };
    let fits = high_bit + 1 == bits_stored && planes.iter().flatten().all(whole);
    if fits { bits_stored.max(2) } else { bits_allocated }
}

/// How often each size of a difference occurs.
fn frequencies(differences: &[i16]) -> [u32; 256] {
    let mut frequencies = [0; 256];
    differences.iter().for_each(|difference| frequencies[usize::from(size(*difference))] += 1);
    frequencies
}

/// The predictor that seems best, going by some of the lines.
fn best(planes: &[Vec<u16>], width: usize, initial: u16) -> u8 {
    let mut differences = vec![0; width];
    let mut cost = |predictor: u8| {
        let mut bits = 0.0;
        for words in planes {
            let mut total = [0_u32; 256];
            let lines: Vec<&[u16]> = words.chunks_exact(width).collect();
            let step = (lines.len() / 64).max(1);
            for pair in lines.windows(2).step_by(step) {
                if let [above, line] = pair {
                    difference(predictor, initial, above, line, &mut differences);
                    let found = frequencies(&differences);
                    total.iter_mut().zip(found).for_each(|(sum, n)| *sum += n);
                }
            }
            let all = f64::from(total.iter().sum::<u32>().max(1));
            for (n, size) in total.iter().zip(0_u8..=16).filter(|(n, _)| **n > 0) {
                bits += f64::from(*n) * (f64::from(size) + (all / f64::from(*n)).log2());
            }
        }
        bits
    };
    let costs = (1..=7).map(|predictor| (cost(predictor), predictor));
    costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1, |(_, predictor)| predictor)
}

/// Differences of a line from its prediction, modulo 65536. `above` is empty for the first line.
fn difference(predictor: u8, initial: u16, above: &[u16], line: &[u16], out: &mut [i16]) {
    let (Some(first), Some(head)) = (line.first(), out.first_mut()) else { return };
    let start = above.first().copied().unwrap_or(initial);
    *head = first.wrapping_sub(start) as i16;
    if above.is_empty() {
        // Only predictor 1 can be used here, and needs no line above.
        return walk(line, line, out, |left, _, _| left);
    }
    match predictor {
        1 => walk(above, line, out, |left, _, _| left),
        2 => walk(above, line, out, |_, up, _| up),
        3 => walk(above, line, out, |_, _, corner| corner),
        4 => walk(above, line, out, |left, up, corner| left + up - corner),
        5 => walk(above, line, out, |left, up, corner| left + ((up - corner) >> 1)),
        6 => walk(above, line, out, |left, up, corner| up + ((left - corner) >> 1)),
        _ => walk(above, line, out, |left, up, _| (left + up) >> 1),
    }
}

#[inline(always)]
fn walk(above: &[u16], line: &[u16], out: &mut [i16], predict: impl Fn(i32, i32, i32) -> i32) {
    let pairs = line.array_windows::<2>().zip(above.array_windows::<2>());
    for (out, ([left, sample], [corner, up])) in out.iter_mut().skip(1).zip(pairs) {
        let prediction = predict(i32::from(*left), i32::from(*up), i32::from(*corner));
        *out = sample.wrapping_sub(prediction as u16) as i16;
    }
}

fn write(
    layout: &Layout,
    precision: u8,
    predictor: u8,
    components: &[(Vec<i16>, Encoder)],
) -> Vec<u8> {
    let samples: usize = components.iter().map(|(differences, _)| differences.len()).sum();
    let mut out = Vec::with_capacity(512 + samples * usize::from(precision) / 8);
    out.extend([0xFF, 0xD8]);
    let identifiers: &[u8] = match (components.len(), layout.photometric) {
        (3, Photometric::Rgb) => {
            // Some decoders take three components for YCbCr unless this says that they are not.
            segment(&mut out, 0xEE, b"Adobe\0\x64\0\0\0\0\0");
            b"RGB"
        }
        (3, _) => &[1, 2, 3],
        _ => &[1],
    };
    frame(&mut out, 0xC3, precision, layout, identifiers);
    let mut scan = vec![identifiers.len() as u8];
    for ((_, encoder), (number, identifier)) in components.iter().zip((0_u8..).zip(identifiers)) {
        huffman(&mut out, 0, number, encoder);
        scan.extend([*identifier, number << 4]);
    }
    scan.extend([predictor, 0, 0]);
    segment(&mut out, 0xDA, &scan);
    let mut writer = BitWriter::new(out);
    let mut one = |encoder: &Encoder, difference: i16| {
        let size = size(difference);
        put(&mut writer, encoder, size, difference, size);
    };
    match components {
        [(a, first), (b, second), (c, third)] => {
            for ((a, b), c) in a.iter().zip(b).zip(c) {
                one(first, *a);
                one(second, *b);
                one(third, *c);
            }
        }
        _ => components.iter().for_each(|(differences, encoder)| {
            differences.iter().for_each(|difference| one(encoder, *difference));
        }),
    }
    let mut out = writer.finish();
    out.extend([0xFF, 0xD9]);
    out
}
