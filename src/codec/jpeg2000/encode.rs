//! From planes of samples to a codestream: one tile, one layer.
//!
//! Owns the choice of levels, bit planes and quantisation steps. Holds: what is reversible has a
//! bit plane for every bit that the transforms make. Absent: DICOM's samples; rate control, since
//! the quality is that of the steps.

use super::{
    super::CodecError,
    block,
    header::{Order, Progression, Quantisation, Style},
    ht_encode,
    packet_write::{Coded, Tile},
    tile::{Band, Plan, Rect, TileComponent, cut},
    wavelet,
};

/// What is to be made.
pub(super) struct Wanted {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) precision: u8,
    pub(super) signed: bool,
    /// Whether the three components are transformed together.
    pub(super) mixed: bool,
    pub(super) reversible: bool,
    /// High-throughput code-blocks.
    pub(super) fast: bool,
    /// For progressive retrieval: enough levels, and a tile-part with a length for each resolution.
    pub(super) progressive: bool,
    /// 1 to 100, for what is not reversible.
    pub(super) quality: u8,
}

/// Levels where nothing asks for more.
const LEVELS: u8 = 5;
/// The greatest side of the lowest resolution of progressive codestreams (PS3.5 §10.18).
const THUMBNAIL: u32 = 64;

enum Plane {
    Whole(Vec<i32>),
    Real(Vec<f32>),
}

/// Encodes planes of equal size.
pub(super) fn encode(mut planes: Vec<Vec<i32>>, wanted: &Wanted) -> Result<Vec<u8>, CodecError> {
    let mixed = wanted.mixed && planes.len() == 3;
    if !wanted.signed {
        let shift = 1_i32 << (wanted.precision - 1);
        planes.iter_mut().flatten().for_each(|sample| *sample = sample.wrapping_sub(shift));
    }
    let range = range(&planes);
    let planes = transformed(planes, wanted.reversible, mixed);
    let mut levels = LEVELS;
    while wanted.progressive && wanted.width.max(wanted.height) >> levels > THUMBNAIL - 1 {
        levels += 1;
    }
    let style = Style::new(levels, if wanted.fast { Style::HT } else { 0 }, wanted.reversible);
    let steps = steps(wanted, levels, mixed, range);
    let rect = Rect::new([0, 0, wanted.width, wanted.height]);
    let cut_up = |guard: u8| -> Result<(Quantisation, TileComponent), CodecError> {
        let quantisation = Quantisation::new(guard, wanted.reversible, steps.clone());
        let plan = Plan {
            style: &style,
            quantisation: &quantisation,
            precision: wanted.precision,
            raised: 0,
        };
        let mut unbounded = usize::MAX;
        let part = cut(rect, &plan, &mut unbounded)?;
        Ok((quantisation, part))
    };
    let (_, part) = cut_up(1)?;
    let planes: Vec<Vec<i32>> =
        planes.into_iter().map(|plane| coefficients(plane, &part)).collect();
    // One guard bit is the least; more where coefficients need them.
    let guard = planes.iter().map(|plane| guard_bits(plane, &part)).max().unwrap_or(1);
    if guard > 7 {
        return Err(CodecError::Unsupported("JPEG 2000 of such samples"));
    }
    let (quantisation, part) = cut_up(guard)?;
    let deepest = part.resolutions.iter().flat_map(|own| &own.bands).map(|band| band.planes);
    let deepest = deepest.max().unwrap_or(0);
    if deepest > 30 {
        return Err(CodecError::Unsupported("JPEG 2000 of more than 30 bit planes"));
    }
    let mut tile = Tile {
        size: [wanted.width, wanted.height],
        components: planes.len(),
        precision: wanted.precision,
        signed: wanted.signed,
        mixed,
        style: &style,
        quantisation: &quantisation,
        progression: Progression {
            order: if wanted.fast { Order::Rpcl } else { Order::Lrcp },
            resolutions: 0..levels + 1,
            components: 0..planes.len() as u16,
            layers: 1,
        },
        by_resolution: wanted.progressive,
        deepest,
        parts: vec![part; planes.len()],
        coded: Vec::new(),
    };
    tile.coded =
        tile.parts.iter().zip(&planes).map(|(part, plane)| blocks(part, plane, wanted)).collect();
    Ok(tile.write())
}

fn transformed(mut planes: Vec<Vec<i32>>, reversible: bool, mixed: bool) -> Vec<Plane> {
    if reversible {
        if let ([a, b, c], true) = (planes.as_mut_slice(), mixed) {
            wavelet::mix(a, b, c);
        }
        return planes.into_iter().map(Plane::Whole).collect();
    }
    let real = |plane: Vec<i32>| plane.into_iter().map(|sample| sample as f32).collect();
    let mut planes: Vec<Vec<f32>> = planes.into_iter().map(real).collect();
    if let ([a, b, c], true) = (planes.as_mut_slice(), mixed) {
        wavelet::mix_real(a, b, c);
    }
    planes.into_iter().map(Plane::Real).collect()
}

/// Exponents and mantissas of all bands, from the lowest.
fn steps(wanted: &Wanted, levels: u8, mixed: bool, range: f32) -> Vec<(u8, u16)> {
    let mut steps = Vec::new();
    for resolution in 0..=levels {
        let bands: &[u8] = if resolution == 0 { &[0] } else { &[1, 1, 2] };
        for gain in bands {
            let bits = wanted.precision + gain;
            steps.push(if wanted.reversible {
                (bits + u8::from(mixed), 0)
            } else {
                let depth = if resolution == 0 { levels } else { levels - resolution + 1 };
                real_step(error(wanted.quality, range), bits, depth, *gain)
            });
        }
    }
    steps
}

/// How far apart the least and the greatest sample are.
fn range(planes: &[Vec<i32>]) -> f32 {
    let samples = || planes.iter().flatten();
    match (samples().min(), samples().max()) {
        (Some(least), Some(most)) => (f64::from(*most) - f64::from(*least)) as f32,
        _ => 0.0,
    }
}

/// The mean error that a quality stands for: as far below the range that the samples use as the
/// peak signal-to-noise ratio says, which goes from 24 to 60 decibels.
fn error(quality: u8, range: f32) -> f32 {
    let decibels = 24.0 + 0.36 * f32::from(quality.clamp(1, 100));
    range.max(16.0) / f32::powf(10.0, decibels / 20.0)
}

/// The step of a band of so many bits: the same error in each band makes the same in the picture.
fn real_step(error: f32, bits: u8, depth: u8, gain: u8) -> (u8, u16) {
    // What a coefficient of one weighs in the picture: about doubled by each level, halved by
    // each high filter.
    let norm = f32::powi(2.0, i32::from(depth) - i32::from(gain));
    let step = error * f32::sqrt(12.0) / norm;
    let exponent = (f32::from(bits) - step.log2().floor()).clamp(0.0, 31.0);
    let scaled = step / f32::powi(2.0, i32::from(bits) - exponent as i32);
    let mantissa = ((scaled - 1.0) * 2048.0).round().clamp(0.0, 2047.0);
    (exponent as u8, mantissa as u16)
}

/// Transforms a plane into bands and quantises them.
fn coefficients(plane: Plane, part: &TileComponent) -> Vec<i32> {
    let rects: Vec<Rect> = part.resolutions.iter().map(|own| own.rect).collect();
    match plane {
        Plane::Whole(mut samples) => {
            wavelet::forward(&mut samples, &rects);
            samples
        }
        Plane::Real(mut samples) => {
            wavelet::forward(&mut samples, &rects);
            let mut whole = vec![0; samples.len()];
            for (band, at, width) in bands(part) {
                for y in 0..band.rect.height() {
                    let row = at + y * width..at + y * width + band.rect.width();
                    for (to, from) in whole[row.clone()].iter_mut().zip(&samples[row]) {
                        // Towards zero.
                        *to = (from / band.step) as i32;
                    }
                }
            }
            whole
        }
    }
}

/// The bands, where each begins in the plane, and how wide the plane is.
fn bands(part: &TileComponent) -> Vec<(&Band, usize, usize)> {
    let width = part.rect.width();
    let mut below = Rect::default();
    let mut bands = Vec::new();
    for resolution in &part.resolutions {
        for band in &resolution.bands {
            let left = if band.orientation.0 == 1 { below.width() } else { 0 };
            let top = if band.orientation.1 == 1 { below.height() } else { 0 };
            bands.push((band, top * width + left, width));
        }
        below = resolution.rect;
    }
    bands
}

/// The guard bits that the coefficients need, of which `part` has one.
fn guard_bits(plane: &[i32], part: &TileComponent) -> u8 {
    let mut guard = 1;
    for (band, at, width) in bands(part) {
        let mut all = 0_u32;
        for y in 0..band.rect.height() {
            let row = &plane[at + y * width..at + y * width + band.rect.width()];
            all = row.iter().fold(all, |all, sample| all | sample.unsigned_abs());
        }
        let planes = 32 - all.leading_zeros();
        guard = guard.max(1 + planes.saturating_sub(band.planes.into()));
    }
    guard as u8
}

/// Encodes the code-blocks of a component, precinct after precinct.
fn blocks(part: &TileComponent, plane: &[i32], wanted: &Wanted) -> Vec<Vec<Vec<Vec<Coded>>>> {
    let mut places = bands(part).into_iter();
    let mut resolutions = Vec::new();
    for resolution in &part.resolutions {
        let own: Vec<_> = places.by_ref().take(resolution.bands.len()).collect();
        let precincts = resolution.precincts.iter().map(|precinct| {
            let groups = precinct.groups.iter().zip(&own);
            let group =
                |(group, (band, at, width)): (&super::tile::Group, &(&Band, usize, usize))| {
                    let coded = |rect: Rect| {
                        block_of(
                            plane,
                            band,
                            at + rect.y0 as usize * width + rect.x0 as usize,
                            *width,
                            rect,
                            wanted,
                        )
                    };
                    group.blocks.iter().map(|block| coded(block.rect)).collect()
                };
            groups.map(group).collect()
        });
        resolutions.push(precincts.collect());
    }
    resolutions
}

fn block_of(
    plane: &[i32],
    band: &Band,
    at: usize,
    stride: usize,
    rect: Rect,
    wanted: &Wanted,
) -> Coded {
    let size = (rect.width(), rect.height());
    let mut samples = Vec::with_capacity(size.0 * size.1);
    for y in 0..size.1 {
        samples.extend_from_slice(&plane[at + y * stride..at + y * stride + size.0]);
    }
    let all = samples.iter().fold(0, |all, sample| all | sample.unsigned_abs());
    let planes = (32 - all.leading_zeros()) as u8;
    if planes == 0 {
        return Coded::default();
    }
    if wanted.fast {
        let zero_planes = band.planes - 1;
        return Coded { data: ht_encode::encode(size, &samples), passes: 1, zero_planes };
    }
    let (data, passes) = block::encode(band.orientation, planes, size, &mut samples);
    Coded { data, passes, zero_planes: band.planes - planes }
}
