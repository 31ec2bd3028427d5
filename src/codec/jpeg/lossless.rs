//! Lossless decoding by prediction (T.81 Annex H; DICOM processes 14 and 14 SV1).
//!
//! Owns [`scan`], which fills the planes of one scan. Holds: differences are decoded a line of
//! MCUs at a time and then added up, all modulo 65536, so that any bytes give samples.

use super::{
    bits::Bits,
    damaged,
    huffman::{Decoder, Kind},
    plane::{Grid, Plane, intervals, units},
    stream::{Scan, Stream},
};
use crate::codec::CodecError;

/// A component while its scan is decoded.
struct Part {
    component: usize,
    decoder: Decoder,
    /// Samples of an MCU, across and down.
    h: usize,
    v: usize,
    /// Samples of a line in this scan.
    width: usize,
    /// Differences of `v` lines.
    differences: Vec<u16>,
}

/// Decodes one scan. Samples are those of T.81 before the point transform is undone.
pub(super) fn scan(
    stream: &mut Stream<'_>,
    scan: &Scan,
    grid: &Grid,
    planes: &mut [Plane],
    precision: u8,
) -> Result<(), CodecError> {
    let predictor = scan.start;
    if !(1..=7).contains(&predictor) || scan.low >= precision {
        return Err(damaged("scan header"));
    }
    let initial = 1_u16 << (precision - scan.low - 1);
    let (columns, rows) = units(scan, grid, planes, 1);
    let interleaved = scan.members.len() > 1;
    let mut parts = Vec::new();
    for member in &scan.members {
        let plane = planes.get_mut(member.component).filter(|plane| !plane.done);
        let plane = plane.ok_or(damaged("a component twice"))?;
        plane.done = true;
        let code = stream.dc.get(usize::from(member.dc)).and_then(Option::as_ref);
        let code = code.ok_or(damaged("no Huffman table"))?;
        let (h, v) = if interleaved { (plane.h, plane.v) } else { (1, 1) };
        parts.push(Part {
            component: member.component,
            decoder: Decoder::new(code, Kind::Difference),
            h,
            v,
            width: columns * h,
            differences: vec![0; columns * h * v],
        });
    }
    // §H.1.1: a restart interval is made of whole lines.
    if !usize::from(stream.restart).is_multiple_of(columns.max(1)) {
        return Err(CodecError::Unsupported("restart intervals that end within a line"));
    }
    intervals(stream, columns * rows, |bits, range| {
        let lines = range.start / columns..range.end / columns;
        for row in lines.clone() {
            differences(bits, &mut parts, columns)?;
            for part in &parts {
                let Some(plane) = planes.get_mut(part.component) else { continue };
                for y in 0..part.v {
                    let line = row * part.v + y;
                    let first = row == lines.start && y == 0;
                    let (before, rest) = plane.samples.split_at_mut(line * plane.stride);
                    let from = before.len() - if first { 0 } else { plane.stride };
                    let above = before.get(from..).unwrap_or_default();
                    let differences = part.differences.get(y * part.width..).unwrap_or_default();
                    let line = rest.get_mut(..part.width).unwrap_or_default();
                    restore(predictor, initial, above, line, differences);
                }
            }
        }
        Ok(())
    })
}

/// Decodes the differences of one line of MCUs.
fn differences(bits: &mut Bits<'_>, parts: &mut [Part], columns: usize) -> Result<(), CodecError> {
    if let [part] = parts {
        for difference in &mut part.differences {
            *difference = part.decoder.difference(bits)? as u16;
        }
        return Ok(());
    }
    if let [a, b, c] = parts
        && [&a, &b, &c].iter().all(|part| part.h * part.v == 1)
    {
        let lines = a.differences.iter_mut().zip(&mut b.differences).zip(&mut c.differences);
        for ((x, y), z) in lines {
            *x = a.decoder.difference(bits)? as u16;
            *y = b.decoder.difference(bits)? as u16;
            *z = c.decoder.difference(bits)? as u16;
        }
        return Ok(());
    }
    for column in 0..columns {
        for part in &mut *parts {
            for y in 0..part.v {
                let at = y * part.width + column * part.h;
                for difference in part.differences.iter_mut().skip(at).take(part.h) {
                    *difference = part.decoder.difference(bits)? as u16;
                }
            }
        }
    }
    Ok(())
}

/// Adds differences to predictions. `above` is empty for the first line of an interval.
fn restore(predictor: u8, initial: u16, above: &[u16], line: &mut [u16], differences: &[u16]) {
    let Some((first, _)) = line.split_first_mut() else { return };
    let start = above.first().copied().unwrap_or(initial);
    *first = start.wrapping_add(differences.first().copied().unwrap_or(0));
    if above.is_empty() {
        let mut left = *first;
        for (sample, difference) in line.iter_mut().zip(differences).skip(1) {
            left = left.wrapping_add(*difference);
            *sample = left;
        }
        return;
    }
    match predictor {
        1 => walk(above, line, differences, |left, _, _| left),
        2 => walk(above, line, differences, |_, up, _| up),
        3 => walk(above, line, differences, |_, _, corner| corner),
        4 => walk(above, line, differences, |left, up, corner| left + up - corner),
        5 => walk(above, line, differences, |left, up, corner| left + ((up - corner) >> 1)),
        6 => walk(above, line, differences, |left, up, corner| up + ((left - corner) >> 1)),
        _ => walk(above, line, differences, |left, up, _| (left + up) >> 1),
    }
}

#[inline(always)]
fn walk(
    above: &[u16],
    line: &mut [u16],
    differences: &[u16],
    predict: impl Fn(i32, i32, i32) -> i32,
) {
    let mut left = line.first().copied().unwrap_or(0);
    let ups = above.iter().skip(1).zip(above);
    for ((sample, difference), (up, corner)) in line.iter_mut().zip(differences).skip(1).zip(ups) {
        let prediction = predict(i32::from(left), i32::from(*up), i32::from(*corner));
        left = (prediction as u16).wrapping_add(*difference);
        *sample = left;
    }
}
