//! Scans of DCT coefficients, sequential and progressive (T.81 Annexes F and G).
//!
//! Owns [`Coefficients`], which takes the scans of a frame and fills its planes. Holds: a
//! coefficient never leaves its block, whatever runs the bytes tell. Absent: colour, sub-sampling.

use super::{
    bits::Bits,
    damaged,
    huffman::{Code, Decoder, Kind},
    idct,
    plane::{Grid, Plane, intervals, units},
    stream::{Process, Scan, Stream},
};
use crate::codec::CodecError;

/// Index in rows of each coefficient in the order of scans (§A.3.6).
pub(super) const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// What is known of a frame's coefficients between scans.
pub(super) struct Coefficients {
    precision: u8,
    /// For each component of a progressive frame: its blocks, in zigzag order, and the
    /// quantisation that held when its first scan began.
    kept: Vec<(Vec<[i16; 64]>, [u16; 64])>,
}

/// A component while its scan is decoded.
struct Part {
    component: usize,
    dc: Option<Decoder>,
    ac: Option<Decoder>,
    quantisation: [u16; 64],
    /// Blocks of an MCU, across and down.
    h: usize,
    v: usize,
    prediction: i32,
    /// Blocks to come whose band has ended (progressive).
    end_run: u32,
}

impl Coefficients {
    /// For a frame with these planes.
    pub(super) fn new(process: Process, precision: u8, planes: &[Plane]) -> Self {
        let progressive = process == Process::Progressive;
        let blocks = |plane: &Plane| if progressive { plane.samples.len() / 64 } else { 0 };
        let kept = planes.iter().map(|plane| (vec![[0; 64]; blocks(plane)], [0; 64]));
        Self { precision, kept: kept.collect() }
    }

    /// Decodes a scan of a sequential frame into samples.
    pub(super) fn sequential(
        &mut self,
        stream: &mut Stream<'_>,
        scan: &Scan,
        grid: &Grid,
        planes: &mut [Plane],
    ) -> Result<(), CodecError> {
        // Some encoders leave spectral selection at zero: it means nothing here.
        let mut parts = parts(stream, scan, planes, true, true)?;
        for part in &parts {
            let plane = planes.get_mut(part.component).filter(|plane| !plane.done);
            plane.ok_or(damaged("a component twice"))?.done = true;
        }
        let precision = self.precision;
        let mut block = [0; 64];
        walk(stream, scan, grid, planes, &mut parts, |bits, part, planes, x, y| {
            let (Some(dc), Some(ac)) = (&part.dc, &part.ac) else { return Ok(()) };
            block.fill(0);
            let difference = dc.difference(bits)?;
            part.prediction = part.prediction.wrapping_add(difference);
            let quantisation = &part.quantisation;
            block[0] = part.prediction.wrapping_mul(i32::from(quantisation[0]));
            let mut k = 1;
            while k < 64 {
                let (run, value) = ac.run(bits)?;
                if value == 0 && run < 15 {
                    break;
                }
                k += usize::from(run);
                if k > 63 {
                    return Err(damaged("a run of zeros"));
                }
                block[ZIGZAG[k]] = value * i32::from(quantisation[k]);
                k += 1;
            }
            put(planes, part.component, x, y, &block, precision);
            Ok(())
        })
    }

    /// Takes a scan of a progressive frame.
    pub(super) fn progressive(
        &mut self,
        stream: &mut Stream<'_>,
        scan: &Scan,
        grid: &Grid,
        planes: &mut [Plane],
    ) -> Result<(), CodecError> {
        let dc = scan.start == 0;
        let first = scan.high == 0;
        let (start, end, low) = (usize::from(scan.start), usize::from(scan.end), scan.low);
        let possible = if dc { end == 0 } else { scan.members.len() == 1 };
        if !possible || start > end || end > 63 || low > 13 {
            return Err(damaged("scan header"));
        }
        let mut parts = parts(stream, scan, planes, dc && first, !dc)?;
        for part in &parts {
            let plane = planes.get_mut(part.component).ok_or(damaged("scan header"))?;
            let kept = self.kept.get_mut(part.component);
            if let Some((_, quantisation)) = kept.filter(|_| !plane.done) {
                *quantisation = part.quantisation;
            }
            plane.done = true;
        }
        let kept = &mut self.kept;
        walk(stream, scan, grid, planes, &mut parts, |bits, part, planes, x, y| {
            let line = planes.get(part.component).map_or(0, |plane| plane.stride / 8);
            let blocks = kept.get_mut(part.component).map(|(blocks, _)| blocks);
            let Some(block) = blocks.and_then(|blocks| blocks.get_mut(y * line + x)) else {
                return Ok(());
            };
            match (&part.dc, &part.ac) {
                (Some(dc), _) => {
                    let difference = dc.difference(bits)?;
                    part.prediction = part.prediction.wrapping_add(difference);
                    block[0] = (part.prediction << low) as i16;
                }
                (_, Some(ac)) if first => {
                    ac_first(bits, ac, &mut block[start..=end], low, &mut part.end_run)?;
                }
                (_, Some(ac)) => {
                    ac_more(bits, ac, &mut block[start..=end], low, &mut part.end_run)?
                }
                _ => {
                    if bits.flag() {
                        block[0] |= 1 << low;
                    }
                }
            }
            Ok(())
        })
    }

    /// Turns the coefficients of a progressive frame into samples.
    pub(super) fn finish(self, planes: &mut [Plane]) {
        let mut block = [0; 64];
        for (component, (blocks, quantisation)) in self.kept.iter().enumerate() {
            let line = planes.get(component).map_or(1, |plane| plane.stride / 8);
            for (index, kept) in blocks.iter().enumerate() {
                for ((value, factor), at) in kept.iter().zip(quantisation).zip(ZIGZAG) {
                    block[at] = i32::from(*value) * i32::from(*factor);
                }
                put(planes, component, index % line, index / line, &block, self.precision);
            }
        }
    }
}

fn put(
    planes: &mut [Plane],
    component: usize,
    x: usize,
    y: usize,
    block: &[i32; 64],
    precision: u8,
) {
    let Some(plane) = planes.get_mut(component) else { return };
    let at = 8 * (y * plane.stride + x);
    if let Some(out) = plane.samples.get_mut(at..) {
        idct::inverse(block, precision, out, plane.stride);
    }
}

fn parts(
    stream: &Stream<'_>,
    scan: &Scan,
    planes: &[Plane],
    dc: bool,
    ac: bool,
) -> Result<Vec<Part>, CodecError> {
    let decoder = |codes: &[Option<Code>; 4], number: u8, kind| {
        let code = codes.get(usize::from(number)).and_then(Option::as_ref);
        code.map(|code| Decoder::new(code, kind)).ok_or(damaged("no Huffman table"))
    };
    let interleaved = scan.members.len() > 1;
    let part = |member: &super::stream::Member| {
        let plane = planes.get(member.component).ok_or(damaged("scan header"))?;
        let table = stream.quantisation.get(plane.table).copied().flatten();
        let (h, v) = if interleaved { (plane.h, plane.v) } else { (1, 1) };
        Ok(Part {
            component: member.component,
            dc: if dc { Some(decoder(&stream.dc, member.dc, Kind::Difference)?) } else { None },
            ac: if ac { Some(decoder(&stream.ac, member.ac, Kind::Run)?) } else { None },
            quantisation: table.ok_or(damaged("no quantisation table"))?,
            h,
            v,
            prediction: 0,
            end_run: 0,
        })
    };
    scan.members.iter().map(part).collect()
}

/// Calls `decode` for every block of a scan with its place in the component's plane.
fn walk(
    stream: &mut Stream<'_>,
    scan: &Scan,
    grid: &Grid,
    planes: &mut [Plane],
    parts: &mut [Part],
    mut decode: impl FnMut(
        &mut Bits<'_>,
        &mut Part,
        &mut [Plane],
        usize,
        usize,
    ) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let (columns, rows) = units(scan, grid, planes, 8);
    intervals(stream, columns * rows, |bits, range| {
        parts.iter_mut().for_each(|part| (part.prediction, part.end_run) = (0, 0));
        for unit in range {
            let (column, row) = (unit % columns, unit / columns);
            for part in &mut *parts {
                for y in 0..part.v {
                    for x in 0..part.h {
                        let (x, y) = (column * part.h + x, row * part.v + y);
                        decode(bits, part, planes, x, y)?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// The first scan of a band (§G.1.2.2).
fn ac_first(
    bits: &mut Bits<'_>,
    ac: &Decoder,
    band: &mut [i16],
    low: u8,
    end_run: &mut u32,
) -> Result<(), CodecError> {
    if *end_run > 0 {
        *end_run -= 1;
        return Ok(());
    }
    let mut k = 0;
    while k < band.len() {
        let (run, value) = ac.run(bits)?;
        if value == 0 && run < 15 {
            *end_run = (1 << run) - 1 + bits.take(u32::from(run));
            break;
        }
        k += usize::from(run);
        *band.get_mut(k).ok_or(damaged("a run of zeros"))? = (value << low) as i16;
        k += 1;
    }
    Ok(())
}

/// A scan that makes a band more exact (§G.1.2.3).
fn ac_more(
    bits: &mut Bits<'_>,
    ac: &Decoder,
    band: &mut [i16],
    low: u8,
    end_run: &mut u32,
) -> Result<(), CodecError> {
    let one = 1_i16 << low;
    let more = |bits: &mut Bits<'_>, value: &mut i16| {
        if bits.flag() && *value & one == 0 {
            *value = value.wrapping_add(if *value < 0 { -one } else { one });
        }
    };
    let mut band = band.iter_mut();
    while *end_run == 0 {
        if band.len() == 0 {
            return Ok(());
        }
        let symbol = ac.symbol(bits)?;
        let mut run = symbol >> 4;
        let new = match symbol & 15 {
            0 if run < 15 => {
                *end_run = (1 << run) + bits.take(u32::from(run));
                break;
            }
            0 => 0,
            _ if bits.take(1) == 1 => one,
            _ => -one,
        };
        for value in band.by_ref() {
            if *value != 0 {
                more(bits, value);
            } else if run == 0 {
                *value = new;
                break;
            } else {
                run -= 1;
            }
        }
    }
    *end_run -= 1;
    band.filter(|value| **value != 0).for_each(|value| more(bits, value));
    Ok(())
}
