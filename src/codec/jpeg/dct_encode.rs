//! Lossy encoding: baseline and extended (T.81 Annex F; DICOM processes 1, 2 and 4).
//!
//! Owns [`baseline`] for 8 bits, over the crate `jpeg-encoder`, and [`extended`] for up to 12.
//! Absent: signed samples and colour tables, which the DCT would make nonsense of.

use std::f64::consts::PI;

use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder as Baseline, SamplingFactor};

use super::{
    bits::BitWriter,
    damaged,
    dct::ZIGZAG,
    huffman::Encoder,
    write::{frame, huffman, planes, put, segment, size},
};
use crate::codec::{CodecError, Encoded, Layout, Photometric, Raster};

const NOT_THESE: CodecError = CodecError::Unsupported("lossy JPEG of such samples");

/// Encodes up to 8 bits, grey or colour. Colour becomes YBR_FULL_422, or YBR_FULL where lines have
/// an odd number of pixels. `quality` is 1 to 100.
pub(super) fn baseline(raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    let layout = &raster.layout;
    let grey = matches!(layout.photometric, Photometric::Monochrome1 | Photometric::Monochrome2);
    if layout.signed || layout.bits_stored > 8 || layout.float {
        return Err(NOT_THESE);
    }
    let (kind, photometric) = match layout.photometric {
        kept if grey => (ColorType::Luma, kept),
        Photometric::Rgb => (ColorType::Rgb, Photometric::YbrFull422),
        Photometric::YbrFull => (ColorType::Ycbcr, Photometric::YbrFull422),
        _ => return Err(NOT_THESE),
    };
    let planes = stored(raster)?;
    let pixels: Vec<u8> = match planes.as_slice() {
        [one] => one.iter().map(|word| *word as u8).collect(),
        [a, b, c] => {
            let pixels = a.iter().zip(b).zip(c);
            pixels.flat_map(|((a, b), c)| [*a as u8, *b as u8, *c as u8]).collect()
        }
        _ => return Err(NOT_THESE),
    };
    let odd = !layout.columns.is_multiple_of(2);
    let mut data = Vec::new();
    let mut encoder = Baseline::new(&mut data, quality.clamp(1, 100));
    encoder.set_sampling_factor(if odd { SamplingFactor::F_1_1 } else { SamplingFactor::F_2_1 });
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let encoded = encoder.encode(&pixels, layout.columns, layout.rows, kind);
    encoded.map_err(|_| damaged("size of the image"))?;
    let photometric = match photometric {
        Photometric::YbrFull422 if odd => Photometric::YbrFull,
        other => other,
    };
    let layout = Layout {
        bits_allocated: 8,
        bits_stored: 8,
        high_bit: 7,
        planar: false,
        photometric,
        ..layout.clone()
    };
    Ok(Encoded { layout, data })
}

/// Encodes as [`baseline`] does where 8 bits are enough, else grey of up to 12 bits.
pub(super) fn extended(raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    let layout = &raster.layout;
    if layout.bits_stored <= 8 {
        return baseline(raster, quality);
    }
    let grey = matches!(layout.photometric, Photometric::Monochrome1 | Photometric::Monochrome2);
    if layout.signed || layout.bits_stored > 12 || !grey {
        return Err(NOT_THESE);
    }
    let planes = stored(raster)?;
    let samples = planes.first().ok_or(NOT_THESE)?;
    let layout = Layout { bits_stored: 12, high_bit: 11, planar: false, ..layout.clone() };
    let data = encode(&layout, samples, quality);
    Ok(Encoded { layout, data })
}

/// The stored bits of each sample.
fn stored(raster: &Raster) -> Result<Vec<Vec<u16>>, CodecError> {
    let Layout { bits_stored, high_bit, .. } = raster.layout;
    let mut planes = planes(raster)?;
    let low = (high_bit + 1).saturating_sub(bits_stored);
    let mask = u16::MAX >> (16 - bits_stored.clamp(1, 16));
    planes.iter_mut().flatten().for_each(|word| *word = (*word >> low) & mask);
    Ok(planes)
}

/// Luminance steps for quality 50 (T.81 Table K.1), in rows.
const STEPS: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// The steps of a quality, in zigzag order, scaled as is usual.
fn steps(quality: u8) -> [u16; 64] {
    let quality = u32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    ZIGZAG.map(|at| ((u32::from(STEPS[at]) * percent + 50) / 100).clamp(1, 32767) as u16)
}

fn encode(layout: &Layout, samples: &[u16], quality: u8) -> Vec<u8> {
    let steps = steps(quality);
    let blocks = blocks(layout, samples, &steps);
    let mut dc_frequencies = [0_u32; 256];
    let mut ac_frequencies = [0_u32; 256];
    symbols(&blocks, |ac, symbol, _, _| {
        let frequencies = if ac { &mut ac_frequencies } else { &mut dc_frequencies };
        frequencies[usize::from(symbol)] += 1;
    });
    let (dc, ac) = (Encoder::best(&dc_frequencies), Encoder::best(&ac_frequencies));

    let mut out = vec![0xFF, 0xD8];
    let wide = steps.iter().any(|step| *step > 255);
    let mut table = vec![u8::from(wide) << 4];
    for step in steps {
        let bytes = step.to_be_bytes();
        table.extend_from_slice(if wide { &bytes } else { &bytes[1..] });
    }
    segment(&mut out, 0xDB, &table);
    frame(&mut out, 0xC1, 12, layout, &[1]);
    huffman(&mut out, 0, 0, &dc);
    huffman(&mut out, 1, 0, &ac);
    segment(&mut out, 0xDA, &[1, 1, 0, 0, 63, 0]);
    let mut writer = BitWriter::new(out);
    symbols(&blocks, |is_ac, symbol, value, size| {
        put(&mut writer, if is_ac { &ac } else { &dc }, symbol, value, size);
    });
    let mut out = writer.finish();
    out.extend([0xFF, 0xD9]);
    out
}

/// Quantised coefficients of all blocks, in zigzag order. The last column and line are repeated
/// where a block is not full.
fn blocks(layout: &Layout, samples: &[u16], steps: &[u16; 64]) -> Vec<[i16; 64]> {
    let (columns, rows) = (usize::from(layout.columns), usize::from(layout.rows));
    let cosines: [[f32; 8]; 8] = std::array::from_fn(|k| {
        let scale = if k == 0 { (1.0_f64 / 8.0).sqrt() } else { 0.5 };
        std::array::from_fn(|n| (scale * ((2 * n + 1) as f64 * k as f64 * PI / 16.0).cos()) as f32)
    });
    let factors = steps.map(|step| 1.0 / f32::from(step));
    let mut blocks = Vec::with_capacity(rows.div_ceil(8) * columns.div_ceil(8));
    for top in (0..rows).step_by(8) {
        for left in (0..columns).step_by(8) {
            let block: [[f32; 8]; 8] = std::array::from_fn(|y| {
                let line = (top + y).min(rows - 1) * columns;
                std::array::from_fn(|x| {
                    let at = line + (left + x).min(columns - 1);
                    f32::from(samples.get(at).copied().unwrap_or(0)) - 2048.0
                })
            });
            let turned = transform(&cosines, &transform(&cosines, &block));
            let mut out = [0; 64];
            for ((out, at), factor) in out.iter_mut().zip(ZIGZAG).zip(factors) {
                *out = (turned[at / 8][at % 8] * factor).round() as i16;
            }
            blocks.push(out);
        }
    }
    blocks
}

/// Transforms each column and turns the block over; twice, it is the transform in two dimensions.
fn transform(cosines: &[[f32; 8]; 8], block: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = [[0.0; 8]; 8];
    for (k, cosines) in cosines.iter().enumerate() {
        let mut sums = [0.0; 8];
        for (cosine, line) in cosines.iter().zip(block) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += cosine * value);
        }
        sums.iter().zip(&mut out).for_each(|(sum, out)| out[k] = *sum);
    }
    out
}

/// Calls `visit` for every symbol: whether it is of the AC table, the symbol, the number behind it
/// and that number's size.
fn symbols(blocks: &[[i16; 64]], mut visit: impl FnMut(bool, u8, i16, u8)) {
    let mut before = 0_i16;
    for block in blocks {
        let difference = block[0].wrapping_sub(before);
        before = block[0];
        visit(false, size(difference), difference, size(difference));
        let mut run = 0_u8;
        for value in &block[1..] {
            if *value == 0 {
                run += 1;
                continue;
            }
            while run > 15 {
                visit(true, 0xF0, 0, 0);
                run -= 16;
            }
            let size = size(*value);
            visit(true, run << 4 | size, *value, size);
            run = 0;
        }
        if run > 0 {
            visit(true, 0, 0, 0);
        }
    }
}
