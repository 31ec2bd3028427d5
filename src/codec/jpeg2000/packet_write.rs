//! The writing of a codestream of one tile and one layer: markers, packets, tile-parts.
//!
//! Holds: numbers are the caller's and fit their fields. Absent: how code-blocks are coded.

use super::{
    bits::BitWriter,
    header::{Order, Progression, Quantisation, Style},
    packets,
    tile::{Group, TileComponent},
};

/// A coded block; without passes it is all zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Coded {
    pub(super) data: Vec<u8>,
    pub(super) passes: u32,
    pub(super) zero_planes: u8,
}

/// All that is written.
pub(super) struct Tile<'a> {
    /// Width and height.
    pub(super) size: [u32; 2],
    pub(super) components: usize,
    pub(super) precision: u8,
    pub(super) signed: bool,
    pub(super) mixed: bool,
    pub(super) style: &'a Style,
    pub(super) quantisation: &'a Quantisation,
    pub(super) progression: Progression,
    /// Whether each resolution is a tile-part, the lengths of which are listed at the beginning.
    pub(super) by_resolution: bool,
    /// The most bit planes of a band.
    pub(super) deepest: u8,
    pub(super) parts: Vec<TileComponent>,
    /// By component, resolution, precinct, band and code-block.
    pub(super) coded: Vec<Vec<Vec<Vec<Vec<Coded>>>>>,
}

/// Bytes of a tile-part before its packets.
const PART_HEADER: usize = 14;

impl Tile<'_> {
    /// The codestream.
    pub(super) fn write(&mut self) -> Vec<u8> {
        let parts = self.tile_parts();
        let mut out = vec![0xFF, 0x4F];
        self.size_segment(&mut out);
        if self.style.has(Style::HT) {
            self.capabilities(&mut out);
        }
        self.styles(&mut out);
        if self.by_resolution {
            // TLM (§A.7.1): no tile numbers, since there is one tile, and lengths of four bytes.
            let mut body = vec![0, 0x40];
            for part in &parts {
                body.extend(((part.len() + PART_HEADER) as u32).to_be_bytes());
            }
            segment(&mut out, 0x55, &body);
        }
        for (index, part) in parts.iter().enumerate() {
            let mut body = vec![0, 0];
            body.extend(((part.len() + PART_HEADER) as u32).to_be_bytes());
            body.extend([index as u8, parts.len() as u8]);
            segment(&mut out, 0x90, &body);
            out.extend([0xFF, 0x93]);
            out.extend_from_slice(part);
        }
        out.extend([0xFF, 0xD9]);
        out
    }

    /// SIZ (§A.5.1).
    fn size_segment(&self, out: &mut Vec<u8>) {
        let capabilities: u16 = if self.style.has(Style::HT) { 0x4000 } else { 0 };
        let mut body = capabilities.to_be_bytes().to_vec();
        for number in [self.size, [0, 0], self.size, [0, 0]].as_flattened() {
            body.extend(number.to_be_bytes());
        }
        body.extend((self.components as u16).to_be_bytes());
        for _ in 0..self.components {
            body.extend([u8::from(self.signed) << 7 | (self.precision - 1), 1, 1]);
        }
        segment(out, 0x51, &body);
    }

    /// CAP (ITU-T T.814 §A.3): part 15 alone, one set of passes, and how large numbers get.
    fn capabilities(&self, out: &mut Vec<u8>) {
        let bound = match self.deepest {
            0..=8 => 0,
            9..=27 => u16::from(self.deepest) - 8,
            more => 13 + u16::from(more >> 2),
        };
        let part: u16 = if self.style.reversible { bound } else { bound | 0x20 };
        let mut body = 0x0002_0000_u32.to_be_bytes().to_vec();
        body.extend(part.to_be_bytes());
        segment(out, 0x50, &body);
    }

    /// COD and QCD (§A.6.1, §A.6.4).
    fn styles(&self, out: &mut Vec<u8>) {
        let style = self.style;
        let order = match self.progression.order {
            Order::Lrcp => 0,
            Order::Rlcp => 1,
            Order::Rpcl => 2,
            Order::Pcrl => 3,
            Order::Cprl => 4,
        };
        let (width, height) = (style.block.0 - 2, style.block.1 - 2);
        let reversible = u8::from(style.reversible);
        let mixed = u8::from(self.mixed);
        let cod = [0, order, 0, 1, mixed, style.levels, width, height, style.modes, reversible];
        segment(out, 0x52, &cod);
        let kind = if style.reversible { 0 } else { 2 };
        let mut qcd = vec![self.quantisation.guard << 5 | kind];
        for (exponent, mantissa) in self.quantisation.steps() {
            if style.reversible {
                qcd.push(exponent << 3);
            } else {
                qcd.extend((u16::from(*exponent) << 11 | mantissa).to_be_bytes());
            }
        }
        segment(out, 0x5C, &qcd);
    }

    /// The packets, in one piece or in one for each resolution.
    fn tile_parts(&mut self) -> Vec<Vec<u8>> {
        let places = packets::places(&self.parts, &self.progression);
        let mut parts = vec![Vec::new()];
        let mut resolution = 0;
        for place in places {
            if self.by_resolution && place.resolution != resolution {
                resolution = place.resolution;
                parts.push(Vec::new());
            }
            let groups = self
                .parts
                .get_mut(place.component)
                .and_then(|part| part.resolutions.get_mut(place.resolution))
                .and_then(|own| own.precincts.get_mut(place.precinct))
                .map(|precinct| &mut precinct.groups);
            let coded = self
                .coded
                .get(place.component)
                .and_then(|part| part.get(place.resolution))
                .and_then(|own| own.get(place.precinct));
            if let (Some(groups), Some(coded), Some(part)) = (groups, coded, parts.last_mut()) {
                packet(groups, coded, part);
            }
        }
        parts
    }
}

fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    out.extend([0xFF, marker]);
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend_from_slice(body);
}

/// One packet (§B.10).
fn packet(groups: &mut [Group], coded: &[Vec<Coded>], out: &mut Vec<u8>) {
    let mut header = BitWriter::default();
    header.bit(true);
    for (group, blocks) in groups.iter_mut().zip(coded) {
        group.inclusion.fill(blocks.iter().map(|block| u32::from(block.passes == 0)));
        group.planes.fill(blocks.iter().map(|block| match block.passes {
            0 => u32::MAX,
            _ => block.zero_planes.into(),
        }));
        for (index, block) in blocks.iter().enumerate() {
            let (x, y) = (index as u32 % group.across, index as u32 / group.across);
            group.inclusion.tell(&mut header, x, y, 1);
            if block.passes == 0 {
                continue;
            }
            group.planes.tell(&mut header, x, y, u32::from(block.zero_planes) + 1);
            passes(&mut header, block.passes);
            let length = block.data.len() as u32;
            let needed = 32 - length.leading_zeros();
            let more = needed.saturating_sub(3 + block.passes.ilog2());
            for _ in 0..more {
                header.bit(true);
            }
            header.bit(false);
            header.bits(length, 3 + more + block.passes.ilog2());
        }
    }
    out.extend(header.finish());
    for block in coded.iter().flatten() {
        out.extend_from_slice(&block.data);
    }
}

/// A number of passes (Table B.4).
fn passes(header: &mut BitWriter, count: u32) {
    match count {
        1 => header.bits(0, 1),
        2 => header.bits(0b10, 2),
        3..=5 => header.bits(0b1100 | (count - 3), 4),
        6..=36 => header.bits(0b1111 << 5 | (count - 6), 9),
        _ => header.bits(0b1_1111_1111 << 7 | (count - 37), 16),
    }
}
