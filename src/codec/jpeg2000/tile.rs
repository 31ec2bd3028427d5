//! The parts of a tile (ISO/IEC 15444-1 Annex B): components, resolutions, bands, precincts and
//! code-blocks.
//!
//! Owns the sums that find them, for decoding and encoding alike. Holds: how many parts there are
//! is bounded by the number of samples before they are made. Absent: what is in a code-block.

use super::{
    super::CodecError,
    header::{Quantisation, Style},
    tag_tree::TagTree,
};

/// Left, top, right, bottom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x0: u32,
    pub(super) y0: u32,
    pub(super) x1: u32,
    pub(super) y1: u32,
}

impl Rect {
    pub(super) fn new([x0, y0, x1, y1]: [u32; 4]) -> Self {
        Self { x0, y0, x1: x1.max(x0), y1: y1.max(y0) }
    }

    pub(super) fn width(&self) -> usize {
        (self.x1 - self.x0) as usize
    }

    pub(super) fn height(&self) -> usize {
        (self.y1 - self.y0) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.x0 == self.x1 || self.y0 == self.y1
    }

    fn map(&self, across: impl Fn(u32) -> u32, down: impl Fn(u32) -> u32) -> Self {
        Self::new([across(self.x0), down(self.y0), across(self.x1), down(self.y1)])
    }

    fn meet(&self, other: &Self) -> Self {
        let (x0, y0) = (self.x0.max(other.x0), self.y0.max(other.y0));
        Self::new([x0, y0, self.x1.min(other.x1), self.y1.min(other.y1)])
    }
}

/// A run of passes that end in one place; the first of an HT code-block is its cleanup pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    pub(super) passes: u8,
    pub(super) most: u8,
    pub(super) length: u32,
}

/// A code-block and what packets have said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    /// Its place in its band.
    pub(super) rect: Rect,
    pub(super) included: bool,
    /// Highest bit planes without a one.
    pub(super) zero_planes: u8,
    pub(super) length_bits: u8,
    pub(super) segments: Vec<Segment>,
    /// Its bytes among the tile's: where, how many.
    pub(super) chunks: Vec<(u32, u32)>,
}

/// The code-blocks of one band in one precinct.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Code-blocks side by side.
    pub(super) across: u32,
    pub(super) blocks: Vec<Block>,
    pub(super) inclusion: TagTree,
    pub(super) planes: TagTree,
}

/// A precinct: for each band of its resolution a group.
#[derive(Clone, Debug)]
pub(super) struct Precinct {
    pub(super) groups: Vec<Group>,
    /// Layers whose packets were read.
    pub(super) layers: u16,
    /// Where it stands in an order of positions.
    pub(super) x: u32,
    pub(super) y: u32,
}

/// Which of the two filters made a band, horizontally and vertically: 0 low, 1 high.
pub(super) type Orientation = (u8, u8);

/// One band of a resolution.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) orientation: Orientation,
    pub(super) rect: Rect,
    /// Bit planes of its coefficients.
    pub(super) planes: u8,
    /// Quantisation step, for coefficients that are not whole numbers.
    pub(super) step: f32,
}

/// A resolution: the bands that it adds to the one below.
#[derive(Clone, Debug)]
pub(super) struct Resolution {
    pub(super) rect: Rect,
    pub(super) bands: Vec<Band>,
    pub(super) precincts: Vec<Precinct>,
}

/// A component's part of a tile.
#[derive(Clone, Debug)]
pub(super) struct TileComponent {
    pub(super) rect: Rect,
    pub(super) resolutions: Vec<Resolution>,
}

/// How a component is cut up.
pub(super) struct Plan<'a> {
    pub(super) style: &'a Style,
    pub(super) quantisation: &'a Quantisation,
    pub(super) precision: u8,
    /// Bits by which a region of interest was raised.
    pub(super) raised: u8,
}

const TOO_MANY: CodecError = CodecError::Damaged("far more JPEG 2000 code-blocks than samples");

/// Cuts a component's part of a tile, taking what it makes from `allowance`.
pub(super) fn cut(
    rect: Rect,
    plan: &Plan<'_>,
    allowance: &mut usize,
) -> Result<TileComponent, CodecError> {
    let levels = plan.style.levels;
    let mut resolutions = Vec::new();
    for resolution in 0..=levels {
        // Coordinates fit in 31 bits; beyond that many halvings nothing changes any more.
        let up = u32::from(levels - resolution).min(31);
        let half = |n: u32| ((u64::from(n) + (1 << up) - 1) >> up) as u32;
        let own = rect.map(half, half);
        let mut bands = Vec::new();
        let orientations: &[Orientation] =
            if resolution == 0 { &[(0, 0)] } else { &[(1, 0), (0, 1), (1, 1)] };
        for (number, orientation) in orientations.iter().enumerate() {
            let index = match resolution {
                0 => 0,
                resolution => 3 * usize::from(resolution) - 2 + number,
            };
            bands.push(band(rect, resolution, *orientation, index, plan)?);
        }
        let precincts = precincts(own, up, resolution, &bands, plan.style, allowance)?;
        resolutions.push(Resolution { rect: own, bands, precincts });
    }
    Ok(TileComponent { rect, resolutions })
}

fn band(
    rect: Rect,
    resolution: u8,
    orientation: Orientation,
    index: usize,
    plan: &Plan<'_>,
) -> Result<Band, CodecError> {
    let levels = plan.style.levels;
    let depth = u32::from(if resolution == 0 { levels } else { levels - resolution + 1 });
    let edge = |high: u8| {
        move |n: u32| {
            // §B.15
            let offset = if high == 1 { 1_i64 << (depth - 1) } else { 0 };
            let up = (1_i64 << depth) - 1;
            ((i64::from(n) - offset + up) >> depth).max(0) as u32
        }
    };
    let (exponent, mantissa) = plan.quantisation.step(index)?;
    let planes = u32::from(plan.quantisation.guard) + u32::from(exponent) + u32::from(plan.raised);
    let planes = planes.saturating_sub(1);
    if planes > 31 {
        return Err(CodecError::Unsupported("JPEG 2000 of more than 31 bit planes"));
    }
    let gain = orientation.0 + orientation.1;
    let scale = i32::from(plan.precision) + i32::from(gain) - i32::from(exponent);
    let step = if plan.quantisation.none {
        1.0
    } else {
        (1.0 + f32::from(mantissa) / 2048.0) * f32::powi(2.0, scale)
    };
    let rect = rect.map(edge(orientation.0), edge(orientation.1));
    Ok(Band { orientation, rect, planes: planes as u8, step })
}

fn precincts(
    own: Rect,
    up: u32,
    resolution: u8,
    bands: &[Band],
    style: &Style,
    allowance: &mut usize,
) -> Result<Vec<Precinct>, CodecError> {
    let mut precincts = Vec::new();
    if own.is_empty() {
        return Ok(precincts);
    }
    let (width, height) = style.precinct(resolution);
    let (width, height) = (u32::from(width), u32::from(height));
    // In the bands above the lowest a precinct is half as wide and high.
    let halved = u32::from(resolution > 0);
    let (inner_width, inner_height) = (width - halved, height - halved);
    let block_width = u32::from(style.block.0).min(inner_width);
    let block_height = u32::from(style.block.1).min(inner_height);
    let columns = own.x0 >> width..=(own.x1 - 1) >> width;
    let rows = own.y0 >> height..=(own.y1 - 1) >> height;
    for row in rows {
        for column in columns.clone() {
            let cell = Rect::new([
                shifted(column, inner_width),
                shifted(row, inner_height),
                shifted(column + 1, inner_width),
                shifted(row + 1, inner_height),
            ]);
            let mut groups = Vec::new();
            for band in bands {
                let part = band.rect.meet(&cell);
                groups.push(group(part, &band.rect, block_width, block_height, allowance)?);
            }
            let (x, y) = (shifted(column, width + up), shifted(row, height + up));
            precincts.push(Precinct { groups, layers: 0, x, y });
        }
    }
    Ok(precincts)
}

/// Shifts up, or gives what is beyond every coordinate.
fn shifted(n: u32, by: u32) -> u32 {
    u32::try_from(u64::from(n) << by.min(32)).unwrap_or(u32::MAX)
}

fn group(
    part: Rect,
    band: &Rect,
    width: u32,
    height: u32,
    allowance: &mut usize,
) -> Result<Group, CodecError> {
    *allowance = allowance.checked_sub(1).ok_or(TOO_MANY)?;
    if part.is_empty() {
        let none = || TagTree::new(0, 0);
        return Ok(Group { across: 0, blocks: Vec::new(), inclusion: none(), planes: none() });
    }
    let (left, right) = (part.x0 >> width, (part.x1 - 1) >> width);
    let (top, bottom) = (part.y0 >> height, (part.y1 - 1) >> height);
    let (across, down) = (right - left + 1, bottom - top + 1);
    let count = (across as usize).checked_mul(down as usize).ok_or(TOO_MANY)?;
    *allowance = allowance.checked_sub(count).ok_or(TOO_MANY)?;
    let mut blocks = Vec::with_capacity(count);
    for row in top..=bottom {
        for column in left..=right {
            let whole =
                [column << width, row << height, (column + 1) << width, (row + 1) << height];
            let rect = Rect::new(whole).meet(&part);
            let rect = Rect {
                x0: rect.x0 - band.x0,
                y0: rect.y0 - band.y0,
                x1: rect.x1 - band.x0,
                y1: rect.y1 - band.y0,
            };
            blocks.push(Block { rect, length_bits: 3, ..Block::default() });
        }
    }
    let tree = TagTree::new(across, down);
    Ok(Group { across, blocks, inclusion: tree.clone(), planes: tree })
}
