//! The packets of a tile (ISO/IEC 15444-1 §B.9 to B.12): their order, and what their headers say
//! of code-blocks.
//!
//! Owns the reading of packets. Holds: a tile has all its packets, each at least one byte, so that
//! the work is bounded by the number of bytes. Absent: the bits of the code-blocks themselves.

use super::{
    super::CodecError,
    bits::BitReader,
    header::{Order, Parameters, Progression, Style},
    tile::{Block, Group, Segment, TileComponent},
};

const DAMAGED: CodecError = CodecError::Damaged("JPEG 2000 packets contradict themselves");
const SHORT: CodecError = CodecError::Damaged("JPEG 2000 packets break off");

/// Reads all packets of a tile; the code-blocks' chunks point into `data`.
pub(super) fn read(
    components: &mut [TileComponent],
    parameters: &Parameters,
    data: &[u8],
) -> Result<(), CodecError> {
    let skips = 65_536 + 16 * data.len();
    let mut reader = Packets { parameters, data, at: 0, header: 0, skips };
    for progression in parameters.progressions()? {
        let places = places(components, &progression);
        let layers = progression.layers.min(parameters.layers);
        match progression.order {
            Order::Lrcp => {
                for layer in 0..layers {
                    for place in &places {
                        reader.packet(components, place, layer)?;
                    }
                }
            }
            Order::Rlcp => {
                for same in places.chunk_by(|a, b| a.resolution == b.resolution) {
                    for layer in 0..layers {
                        for place in same {
                            reader.packet(components, place, layer)?;
                        }
                    }
                }
            }
            Order::Rpcl | Order::Pcrl | Order::Cprl => {
                for place in &places {
                    for layer in 0..layers {
                        reader.packet(components, place, layer)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A precinct.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) component: usize,
    pub(super) resolution: usize,
    pub(super) precinct: usize,
    x: u32,
    y: u32,
}

/// The precincts of a progression in their order; where layers change slowest or within a
/// resolution, in the order within a layer.
pub(super) fn places(components: &[TileComponent], progression: &Progression) -> Vec<Place> {
    let mut places = Vec::new();
    for (component, part) in components.iter().enumerate() {
        if !progression.components.contains(&(component as u16)) {
            continue;
        }
        for (resolution, own) in part.resolutions.iter().enumerate() {
            if !progression.resolutions.contains(&(resolution as u8)) {
                continue;
            }
            for (precinct, cell) in own.precincts.iter().enumerate() {
                // A precinct that begins outside counts where the tile begins (§B.12.1.3).
                let (x, y) = (cell.x.max(part.rect.x0), cell.y.max(part.rect.y0));
                places.push(Place { component, resolution, precinct, x, y });
            }
        }
    }
    let key = |p: &Place| -> [usize; 5] {
        let (x, y) = (p.x as usize, p.y as usize);
        match progression.order {
            Order::Lrcp | Order::Rlcp => [p.resolution, p.component, p.precinct, 0, 0],
            Order::Rpcl => [p.resolution, y, x, p.component, p.precinct],
            Order::Pcrl => [y, x, p.component, p.resolution, p.precinct],
            Order::Cprl => [p.component, y, x, p.resolution, p.precinct],
        }
    };
    places.sort_by_cached_key(key);
    places
}

struct Packets<'a> {
    parameters: &'a Parameters,
    data: &'a [u8],
    at: usize,
    /// Where packet headers are read that stand apart.
    header: usize,
    /// How often progressions may still come across packets that others had.
    skips: usize,
}

impl Packets<'_> {
    fn packet(
        &mut self,
        components: &mut [TileComponent],
        place: &Place,
        layer: u16,
    ) -> Result<(), CodecError> {
        let style = self.parameters.style(place.component)?;
        let resolution = components
            .get_mut(place.component)
            .and_then(|part| part.resolutions.get_mut(place.resolution))
            .ok_or(DAMAGED)?;
        let precinct = resolution.precincts.get_mut(place.precinct).ok_or(DAMAGED)?;
        if layer < precinct.layers {
            // Another progression had it.
            self.skips = self.skips.checked_sub(1).ok_or(DAMAGED)?;
            return Ok(());
        }
        if layer > precinct.layers {
            return Err(DAMAGED);
        }
        precinct.layers += 1;
        if self.data.get(self.at..).is_some_and(|rest| rest.starts_with(&[0xFF, 0x91])) {
            self.at += 6;
        }
        let apart = self.parameters.packed.as_deref();
        let (source, start) = match apart {
            Some(headers) => (headers, self.header),
            None => (self.data, self.at),
        };
        let mut from = BitReader::new(source.get(start..).ok_or(SHORT)?);
        let mut lengths = Vec::new();
        if from.bit()? {
            for (index, group) in precinct.groups.iter_mut().enumerate() {
                group_header(group, &mut from, layer, style, |block, length| {
                    lengths.push((index, block, length));
                })?;
            }
        }
        let mut end = start + from.finish();
        if self.parameters.end_markers && source.get(end..end + 2) == Some(&[0xFF, 0x92]) {
            end += 2;
        }
        match apart {
            Some(_) => self.header = end,
            None => self.at = end,
        }
        for (group, block, length) in lengths {
            let end = self.at.checked_add(length as usize).ok_or(SHORT)?;
            if end > self.data.len() {
                return Err(SHORT);
            }
            let group = precinct.groups.get_mut(group).ok_or(DAMAGED)?;
            let block = group.blocks.get_mut(block).ok_or(DAMAGED)?;
            block.chunks.push((self.at as u32, length));
            self.at = end;
        }
        Ok(())
    }
}

fn group_header(
    group: &mut Group,
    from: &mut BitReader<'_>,
    layer: u16,
    style: &Style,
    mut has: impl FnMut(usize, u32),
) -> Result<(), CodecError> {
    let Group { across, blocks, inclusion, planes } = group;
    for (index, block) in blocks.iter_mut().enumerate() {
        let (x, y) = (index as u32 % *across, index as u32 / *across);
        if block.included {
            if !from.bit()? {
                continue;
            }
        } else {
            if !inclusion.below(from, x, y, u32::from(layer) + 1)? {
                continue;
            }
            let mut bound = 1;
            while !planes.below(from, x, y, bound)? {
                bound += 1;
                if bound > 74 {
                    return Err(DAMAGED);
                }
            }
            block.included = true;
            block.zero_planes = (bound - 1) as u8;
        }
        let passes = passes(from)?;
        while from.bit()? {
            block.length_bits += 1;
            if block.length_bits > 32 {
                return Err(DAMAGED);
            }
        }
        let length = if style.has(Style::HT) {
            ht_lengths(block, passes, from)?
        } else {
            lengths(block, passes, from, style)?
        };
        has(index, length);
    }
    Ok(())
}

/// Number of new passes (Table B.4).
fn passes(from: &mut BitReader<'_>) -> Result<u32, CodecError> {
    if !from.bit()? {
        return Ok(1);
    }
    if !from.bit()? {
        return Ok(2);
    }
    Ok(match from.bits(2)? {
        3 => match from.bits(5)? {
            31 => 37 + from.bits(7)?,
            more => 6 + more,
        },
        more => 3 + more,
    })
}

/// Lengths of the segments that a packet adds to a code-block: their sum.
fn lengths(
    block: &mut Block,
    mut passes: u32,
    from: &mut BitReader<'_>,
    style: &Style,
) -> Result<u32, CodecError> {
    let mut sum = 0_u32;
    while passes > 0 {
        let last = block.segments.last().copied();
        let open = last.filter(|last| last.passes < last.most);
        if open.is_none() {
            // §D.4: which passes end their segment.
            let most = if style.has(Style::TERMINATE) {
                1
            } else if style.has(Style::BYPASS) {
                match last.map(|last| last.most) {
                    None => 10,
                    Some(1 | 10) => 2,
                    Some(_) => 1,
                }
            } else {
                u8::MAX
            };
            block.segments.push(Segment { passes: 0, most, length: 0 });
        }
        let segment = block.segments.last_mut().ok_or(DAMAGED)?;
        let count = passes.min(u32::from(segment.most - segment.passes));
        if count == 0 {
            return Err(DAMAGED);
        }
        let bits = u32::from(block.length_bits) + count.ilog2();
        if bits > 32 {
            return Err(DAMAGED);
        }
        let length = from.bits(bits)?;
        segment.passes += count as u8;
        segment.length = segment.length.checked_add(length).ok_or(DAMAGED)?;
        sum = sum.checked_add(length).ok_or(DAMAGED)?;
        passes -= count;
    }
    Ok(sum)
}

/// The same of an HT code-block (ITU-T T.814 §B.2): empty passes stand for bit planes, then one
/// segment for the cleanup pass and one for the two that refine it.
fn ht_lengths(block: &mut Block, passes: u32, from: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let mut passes = passes;
    let mut sum = 0_u32;
    if block.segments.is_empty() {
        let skipped = (passes - 1) / 3;
        passes -= 3 * skipped;
        block.zero_planes = block.zero_planes.saturating_add(skipped as u8);
        let bits = u32::from(block.length_bits) + (3 * skipped + 1).ilog2();
        if bits > 32 {
            return Err(DAMAGED);
        }
        let length = from.bits(bits)?;
        block.segments.push(Segment { passes: 1, most: 1, length });
        passes -= 1;
        sum = length;
    }
    if passes > 0 {
        if block.segments.len() > 1 || passes > 2 {
            return Err(CodecError::Unsupported("HT code-blocks of several sets of passes"));
        }
        let length = from.bits(u32::from(block.length_bits) + passes.ilog2())?;
        block.segments.push(Segment { passes: passes as u8, most: 2, length });
        sum = sum.checked_add(length).ok_or(DAMAGED)?;
    }
    Ok(sum)
}
