//! From a codestream to planes of samples.
//!
//! Owns the bounds: what the codestream announces must be what the caller expects before anything
//! of its size is allocated. Holds: one tile at a time is taken apart. Absent: DICOM's samples.

use super::{
    super::CodecError,
    block,
    header::{Component, Parameters, Style},
    ht_decode, packets,
    stream::Codestream,
    tile::{Band, Block, Plan, Rect, TileComponent, cut},
    wavelet,
};

/// What the caller knows about the picture.
pub(super) struct Expected {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: usize,
    /// Bits that a sample may have.
    pub(super) bits: u8,
}

/// A decoded picture.
pub(super) struct Planes {
    /// What each plane's samples are.
    pub(super) components: Vec<Component>,
    /// Row after row.
    pub(super) samples: Vec<Vec<i32>>,
}

/// Decodes a codestream or a JP2 file.
pub(super) fn decode(data: &[u8], expected: &Expected) -> Result<Planes, CodecError> {
    let mut stream = Codestream::read(data)?;
    let size = &stream.size;
    let (width, height) = (size.x1 - size.x0, size.y1 - size.y0);
    if (width, height) != (expected.width, expected.height) {
        return Err(CodecError::Damaged("the codestream has other rows and columns"));
    }
    if size.components.len() != expected.components {
        return Err(CodecError::Damaged("the codestream has another number of components"));
    }
    if size.components.iter().any(|component| component.subsampled) {
        return Err(CodecError::Unsupported("subsampled JPEG 2000 components"));
    }
    if size.components.iter().any(|component| component.precision > expected.bits) {
        return Err(CodecError::Damaged("the codestream has more bits than are allocated"));
    }
    let components = size.components.clone();
    let image = Rect::new([size.x0, size.y0, size.x1, size.y1]);
    stream.find_tiles()?;
    let mut samples = vec![vec![0_i32; image.width() * image.height()]; components.len()];
    for index in 0..stream.tile_count() {
        let rect = Rect::new(stream.size.tile(index));
        let (parameters, packets) = stream.tile(index)?;
        let tile = tile(rect, &parameters, &packets, &components)?;
        for (to, from) in samples.iter_mut().zip(&tile) {
            let left = (rect.x0 - image.x0) as usize;
            let rows = to.chunks_exact_mut(image.width()).skip((rect.y0 - image.y0) as usize);
            for (to, from) in rows.zip(from.chunks_exact(rect.width().max(1))) {
                to[left..left + rect.width()].copy_from_slice(from);
            }
        }
    }
    Ok(Planes { components, samples })
}

/// Coefficients, and later samples, of a tile's component.
enum Plane {
    Whole(Vec<i32>),
    Real(Vec<f32>),
}

fn tile(
    rect: Rect,
    parameters: &Parameters,
    data: &[u8],
    components: &[Component],
) -> Result<Vec<Vec<i32>>, CodecError> {
    let count = rect.width() * rect.height();
    // Code-blocks have at least sixteen samples, but for those at edges.
    let mut allowance = 8192 + count * components.len() / 12;
    let mut parts = Vec::new();
    for (index, component) in components.iter().enumerate() {
        let plan = Plan {
            style: parameters.style(index)?,
            quantisation: parameters.quantisation(index)?,
            precision: component.precision,
            raised: parameters.raised(index),
        };
        parts.push(cut(rect, &plan, &mut allowance)?);
    }
    packets::read(&mut parts, parameters, data)?;
    let mut planes = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let style = parameters.style(index)?;
        planes.push(plane(part, style, parameters.raised(index), data)?);
    }
    drop(parts);
    if parameters.mixed {
        match planes.as_mut_slice() {
            [Plane::Whole(a), Plane::Whole(b), Plane::Whole(c), ..] => wavelet::unmix(a, b, c),
            [Plane::Real(a), Plane::Real(b), Plane::Real(c), ..] => wavelet::unmix_real(a, b, c),
            _ => return Err(CodecError::Damaged("components that cannot be transformed together")),
        }
    }
    Ok(planes.into_iter().zip(components).map(|(plane, own)| finish(plane, own)).collect())
}

/// Shifts samples to where they belong and keeps them within their precision (§G.1).
fn finish(plane: Plane, component: &Component) -> Vec<i32> {
    let range = 1_i64 << component.precision;
    let shift = if component.signed { 0 } else { range / 2 };
    let (least, most) = (shift - range / 2, shift + range / 2 - 1);
    let clamp = |n: i64| (n + shift).clamp(least, most) as i32;
    match plane {
        Plane::Whole(mut samples) => {
            for sample in &mut samples {
                *sample = clamp((*sample).into());
            }
            samples
        }
        Plane::Real(samples) => {
            samples.iter().map(|sample| clamp(sample.round_ties_even() as i64)).collect()
        }
    }
}

fn plane(
    part: &TileComponent,
    style: &Style,
    raised: u8,
    data: &[u8],
) -> Result<Plane, CodecError> {
    let (width, height) = (part.rect.width(), part.rect.height());
    let mut plane = match style.reversible {
        true => Plane::Whole(vec![0; width * height]),
        false => Plane::Real(vec![0.0; width * height]),
    };
    let mut below = Rect::default();
    let mut buffers = Buffers::default();
    for resolution in &part.resolutions {
        for precinct in &resolution.precincts {
            for (group, band) in precinct.groups.iter().zip(&resolution.bands) {
                // The high bands of a resolution stand beside and under all lower ones.
                let left = if band.orientation.0 == 1 { below.width() } else { 0 };
                let top = if band.orientation.1 == 1 { below.height() } else { 0 };
                for block in group.blocks.iter().filter(|block| !block.segments.is_empty()) {
                    buffers.decode(block, band, style, raised, data)?;
                    let at = (top + block.rect.y0 as usize) * width + left + block.rect.x0 as usize;
                    buffers.put(&mut plane, at, width, band, block.rect.width());
                }
            }
        }
        below = resolution.rect;
    }
    let rects: Vec<Rect> = part.resolutions.iter().map(|resolution| resolution.rect).collect();
    match &mut plane {
        Plane::Whole(samples) => wavelet::inverse(samples, &rects),
        Plane::Real(samples) => wavelet::inverse(samples, &rects),
    }
    Ok(plane)
}

/// What is used again for each code-block.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    samples: Vec<i32>,
}

impl Buffers {
    fn decode(
        &mut self,
        block: &Block,
        band: &Band,
        style: &Style,
        raised: u8,
        data: &[u8],
    ) -> Result<(), CodecError> {
        self.bytes.clear();
        for (start, length) in &block.chunks {
            let (start, length) = (*start as usize, *length as usize);
            self.bytes.extend_from_slice(data.get(start..start + length).unwrap_or_default());
        }
        let size = (block.rect.width(), block.rect.height());
        self.samples.clear();
        self.samples.resize(size.0 * size.1, 0);
        let wrong = CodecError::Damaged("a JPEG 2000 code-block has more bit planes than its band");
        let planes = band.planes.checked_sub(block.zero_planes).ok_or(wrong)?;
        if style.has(Style::HT) {
            if band.planes > 30 {
                return Err(CodecError::Unsupported("HTJ2K of more than 30 bit planes"));
            }
            let first = block.segments.first().map_or(0, |segment| segment.length as usize);
            let passes = block.segments.get(1).map_or(0, |segment| segment.passes);
            if first == 0 || planes == 0 {
                return Ok(());
            }
            let (cleanup, refine) = self.bytes.split_at(first.min(self.bytes.len()));
            let passes = if refine.is_empty() { 0 } else { passes };
            ht_decode::decode(
                cleanup,
                refine,
                passes,
                (block.zero_planes + 1, planes - 1),
                size,
                style.has(Style::CAUSAL),
                &mut self.samples,
            )?;
        } else {
            if planes > 30 {
                return Err(CodecError::Unsupported("JPEG 2000 of more than 30 bit planes"));
            }
            let segments = &block.segments;
            let orientation = band.orientation;
            let samples = &mut self.samples;
            block::decode(&self.bytes, segments, style, orientation, planes, size, samples);
        }
        if raised > 0 {
            self.lower(raised);
        }
        Ok(())
    }

    /// Puts the region of interest back among the rest (§H.1).
    fn lower(&mut self, raised: u8) {
        for sample in &mut self.samples {
            let magnitude = sample.unsigned_abs();
            // Magnitudes are doubled.
            if magnitude.checked_shr(u32::from(raised) + 1).unwrap_or(0) > 0 {
                let lowered = (magnitude >> raised.min(31)) as i32;
                *sample = if *sample < 0 { -lowered } else { lowered };
            }
        }
    }

    /// Writes the code-block's coefficients into a plane.
    fn put(&self, plane: &mut Plane, at: usize, stride: usize, band: &Band, width: usize) {
        let rows = self.samples.chunks_exact(width.max(1)).enumerate();
        match plane {
            Plane::Whole(to) => {
                for (y, row) in rows {
                    for (to, from) in to[at + y * stride..].iter_mut().zip(row) {
                        *to = from / 2;
                    }
                }
            }
            Plane::Real(to) => {
                let step = band.step * 0.5;
                for (y, row) in rows {
                    for (to, from) in to[at + y * stride..].iter_mut().zip(row) {
                        *to = *from as f32 * step;
                    }
                }
            }
        }
    }
}
