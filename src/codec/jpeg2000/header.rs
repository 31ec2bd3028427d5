//! Marker segments (ISO/IEC 15444-1 Annex A): sizes, coding styles, quantisation.
//!
//! Owns their reading and what they say together of a tile. Holds: every length is checked before
//! it is used; what is announced is compared with the caller's layout before anything is allocated
//! for it. Absent: where marker segments stand in a codestream.

use std::ops::Range;

use super::super::CodecError;

/// Decomposition levels that are accepted; the standard's greatest number.
const LEVELS: u8 = 32;

/// What a header is that does not hold together.
pub(super) const DAMAGED: CodecError =
    CodecError::Damaged("a JPEG 2000 header breaks off or contradicts");

/// A forward reader of big-endian numbers.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) data: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (head, tail) = self.data.split_at_checked(count).ok_or(DAMAGED)?;
        self.data = tail;
        Ok(head)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, CodecError> {
        Ok(self.take(bytes)?.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.number(1)? as u8)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(self.number(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.number(4)
    }

    /// The parameters of a marker segment whose marker was read.
    pub(super) fn segment(&mut self) -> Result<Self, CodecError> {
        let length = usize::from(self.u16()?);
        Ok(Self::new(self.take(length.checked_sub(2).ok_or(DAMAGED)?)?))
    }

    pub(super) fn remaining(&self) -> usize {
        self.data.len()
    }
}

/// One component of SIZ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) precision: u8,
    pub(super) signed: bool,
    pub(super) subsampled: bool,
}

/// SIZ (§A.5.1): the image and its tiles on the reference grid.
#[derive(Clone, Debug)]
pub(super) struct Size {
    pub(super) x0: u32,
    pub(super) y0: u32,
    pub(super) x1: u32,
    pub(super) y1: u32,
    tile_width: u32,
    tile_height: u32,
    tile_x0: u32,
    tile_y0: u32,
    pub(super) components: Vec<Component>,
}

impl Size {
    pub(super) fn read(mut from: Reader<'_>) -> Result<Self, CodecError> {
        from.u16()?;
        let [x1, y1, x0, y0] = [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
        let [tile_width, tile_height] = [from.u32()?, from.u32()?];
        let [tile_x0, tile_y0] = [from.u32()?, from.u32()?];
        let count = from.u16()?;
        let mut components = Vec::new();
        // The segment's length bounds this, whatever the count says.
        for _ in 0..count {
            let [depth, dx, dy] = [from.u8()?, from.u8()?, from.u8()?];
            let precision = (depth & 0x7F) + 1;
            let subsampled = (dx, dy) != (1, 1);
            components.push(Component { precision, signed: depth & 0x80 != 0, subsampled });
        }
        let sane = x0 < x1
            && y0 < y1
            && tile_x0 <= x0
            && tile_y0 <= y0
            && tile_width > 0
            && tile_height > 0
            && tile_x0.checked_add(tile_width).is_none_or(|end| end > x0)
            && tile_y0.checked_add(tile_height).is_none_or(|end| end > y0)
            && x1 <= i32::MAX as u32
            && y1 <= i32::MAX as u32
            && !components.is_empty();
        let size = Self { x0, y0, x1, y1, tile_width, tile_height, tile_x0, tile_y0, components };
        if sane && size.tile_count() <= 65_535 { Ok(size) } else { Err(DAMAGED) }
    }

    fn across(&self) -> u64 {
        u64::from(self.x1 - self.tile_x0).div_ceil(self.tile_width.into())
    }

    pub(super) fn tile_count(&self) -> u64 {
        self.across() * u64::from(self.y1 - self.tile_y0).div_ceil(self.tile_height.into())
    }

    /// A tile's part of the image: left, top, right, bottom.
    pub(super) fn tile(&self, index: usize) -> [u32; 4] {
        let (row, column) = (index as u64 / self.across(), index as u64 % self.across());
        let edge = |first: u32, step: u32, n: u64, low: u32, high: u32| {
            let at = u64::from(first) + u64::from(step) * n;
            at.clamp(low.into(), high.into()) as u32
        };
        [
            edge(self.tile_x0, self.tile_width, column, self.x0, self.x1),
            edge(self.tile_y0, self.tile_height, row, self.y0, self.y1),
            edge(self.tile_x0, self.tile_width, column + 1, self.x0, self.x1),
            edge(self.tile_y0, self.tile_height, row + 1, self.y0, self.y1),
        ]
    }
}

/// Order of packets (Table A.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Lrcp,
    Rlcp,
    Rpcl,
    Pcrl,
    Cprl,
}

impl Order {
    fn read(value: u8) -> Result<Self, CodecError> {
        let orders = [Self::Lrcp, Self::Rlcp, Self::Rpcl, Self::Pcrl, Self::Cprl];
        orders.get(usize::from(value)).copied().ok_or(DAMAGED)
    }
}

/// How the code-blocks of a component are made and coded: the SPcod and SPcoc parameters.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) levels: u8,
    /// Exponents of the code-blocks' width and height.
    pub(super) block: (u8, u8),
    pub(super) modes: u8,
    pub(super) reversible: bool,
    /// Exponents of the precincts' width and height, from the lowest resolution; none: 2¹⁵.
    precincts: Vec<(u8, u8)>,
}

impl Style {
    /// Modes of code-blocks (Table A.19 and ITU-T T.814 §A.4).
    pub(super) const BYPASS: u8 = 1;
    pub(super) const RESET: u8 = 2;
    pub(super) const TERMINATE: u8 = 4;
    pub(super) const CAUSAL: u8 = 8;
    pub(super) const SYMBOLS: u8 = 32;
    pub(super) const HT: u8 = 64;

    fn read(from: &mut Reader<'_>, own_precincts: bool) -> Result<Self, CodecError> {
        let levels = from.u8()?;
        let (width, height) = (from.u8()?, from.u8()?);
        let (modes, transform) = (from.u8()?, from.u8()?);
        if levels > LEVELS || width > 8 || height > 8 || width + height > 8 {
            return Err(DAMAGED);
        }
        if modes & 0x80 != 0 || transform > 1 {
            return Err(CodecError::Unsupported("this kind of JPEG 2000 code-blocks or transform"));
        }
        let mut precincts = Vec::new();
        for level in 0..=levels {
            if !own_precincts {
                break;
            }
            let size = from.u8()?;
            let exponents = (size & 15, size >> 4);
            // Above the lowest resolution a precinct covers samples of three bands.
            if level > 0 && (exponents.0 == 0 || exponents.1 == 0) {
                return Err(DAMAGED);
            }
            precincts.push(exponents);
        }
        let reversible = transform == 1;
        Ok(Self { levels, block: (width + 2, height + 2), modes, reversible, precincts })
    }

    /// Code-blocks of 64 times 64 and no precincts.
    pub(super) fn new(levels: u8, modes: u8, reversible: bool) -> Self {
        Self { levels, block: (6, 6), modes, reversible, precincts: Vec::new() }
    }

    /// Exponents of the precincts' size in a resolution.
    pub(super) fn precinct(&self, resolution: u8) -> (u8, u8) {
        self.precincts.get(usize::from(resolution)).copied().unwrap_or((15, 15))
    }

    pub(super) fn has(&self, mode: u8) -> bool {
        self.modes & mode != 0
    }
}

/// Quantisation of a component's bands (§A.6.4).
#[derive(Clone, Debug)]
pub(super) struct Quantisation {
    pub(super) guard: u8,
    derived: bool,
    pub(super) none: bool,
    steps: Vec<(u8, u16)>,
}

impl Quantisation {
    fn read(mut from: Reader<'_>) -> Result<Self, CodecError> {
        let style = from.u8()?;
        let mut steps = Vec::new();
        while from.remaining() > 0 && steps.len() < 1 + 3 * usize::from(LEVELS) {
            if style & 31 == 0 {
                steps.push((from.u8()? >> 3, 0));
            } else {
                let step = from.u16()?;
                steps.push(((step >> 11) as u8, step & 0x7FF));
            }
        }
        if style & 31 > 2 || steps.is_empty() {
            return Err(DAMAGED);
        }
        Ok(Self { guard: style >> 5, derived: style & 31 == 1, none: style & 31 == 0, steps })
    }

    /// A step for each band.
    pub(super) fn new(guard: u8, none: bool, steps: Vec<(u8, u16)>) -> Self {
        Self { guard, derived: false, none, steps }
    }

    pub(super) fn steps(&self) -> &[(u8, u16)] {
        &self.steps
    }

    /// Exponent and mantissa of a band: 0 is the lowest, then three for each resolution.
    pub(super) fn step(&self, band: usize) -> Result<(u8, u16), CodecError> {
        if !self.derived {
            return self.steps.get(band).copied().ok_or(DAMAGED);
        }
        let (exponent, mantissa) = self.steps.first().copied().ok_or(DAMAGED)?;
        let lower = band.saturating_sub(1) / 3;
        let exponent = usize::from(exponent).checked_sub(lower).ok_or(DAMAGED)?;
        Ok((exponent as u8, mantissa))
    }
}

/// A progression order change (§A.6.6).
#[derive(Clone, Debug)]
pub(super) struct Progression {
    pub(super) order: Order,
    pub(super) resolutions: Range<u8>,
    pub(super) components: Range<u16>,
    pub(super) layers: u16,
}

/// All that markers say of how a tile is coded: the main header's, changed by the tile's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    order: Option<Order>,
    pub(super) layers: u16,
    /// Whether the first three components were transformed together.
    pub(super) mixed: bool,
    pub(super) end_markers: bool,
    style: Option<Style>,
    styles: Vec<Option<Style>>,
    quantisation: Option<Quantisation>,
    quantisations: Vec<Option<Quantisation>>,
    /// By how many bits the region of interest was raised, for each component.
    raised: Vec<u8>,
    pub(super) changes: Vec<Progression>,
    /// Packet headers that stand apart from the packets (PPT).
    pub(super) packed: Option<Vec<u8>>,
}

impl Parameters {
    pub(super) fn style(&self, component: usize) -> Result<&Style, CodecError> {
        self.styles.get(component).and_then(Option::as_ref).or(self.style.as_ref()).ok_or(DAMAGED)
    }

    pub(super) fn quantisation(&self, component: usize) -> Result<&Quantisation, CodecError> {
        let own = self.quantisations.get(component).and_then(Option::as_ref);
        own.or(self.quantisation.as_ref()).ok_or(DAMAGED)
    }

    pub(super) fn raised(&self, component: usize) -> u8 {
        self.raised.get(component).copied().unwrap_or(0)
    }

    /// The progressions of a tile, one after the other.
    pub(super) fn progressions(&self) -> Result<Vec<Progression>, CodecError> {
        if !self.changes.is_empty() {
            return Ok(self.changes.clone());
        }
        let order = self.order.ok_or(DAMAGED)?;
        let (resolutions, components) = (0..LEVELS + 1, 0..u16::MAX);
        Ok(vec![Progression { order, resolutions, components, layers: self.layers }])
    }

    /// Takes in one marker segment; `size` knows how many components there are.
    pub(super) fn take(
        &mut self,
        marker: u16,
        mut from: Reader<'_>,
        size: &Size,
    ) -> Result<(), CodecError> {
        let count = size.components.len();
        let component = |from: &mut Reader<'_>| {
            let index = if count < 257 { from.u8()?.into() } else { from.u16()? };
            Some(usize::from(index)).filter(|index| *index < count).ok_or(DAMAGED)
        };
        match marker {
            0xFF52 => {
                let flags = from.u8()?;
                self.order = Some(Order::read(from.u8()?)?);
                self.layers = from.u16()?;
                let transform = from.u8()?;
                if self.layers == 0 {
                    return Err(DAMAGED);
                }
                if transform > 1 {
                    return Err(CodecError::Unsupported(
                        "a component transform of JPEG 2000 part 2",
                    ));
                }
                self.mixed = transform == 1;
                self.end_markers = flags & 4 != 0;
                self.style = Some(Style::read(&mut from, flags & 1 != 0)?);
                self.styles = vec![None; count];
            }
            0xFF53 => {
                let index = component(&mut from)?;
                let own_precincts = from.u8()? & 1 != 0;
                let style = Style::read(&mut from, own_precincts)?;
                self.styles.resize(count, None);
                if let Some(place) = self.styles.get_mut(index) {
                    *place = Some(style);
                }
            }
            0xFF5C => {
                self.quantisation = Some(Quantisation::read(from)?);
                self.quantisations = vec![None; count];
            }
            0xFF5D => {
                let index = component(&mut from)?;
                let quantisation = Quantisation::read(from)?;
                self.quantisations.resize(count, None);
                if let Some(place) = self.quantisations.get_mut(index) {
                    *place = Some(quantisation);
                }
            }
            0xFF5E => {
                let index = component(&mut from)?;
                let style = from.u8()?;
                self.raised.resize(count, 0);
                if let Some(place) = self.raised.get_mut(index).filter(|_| style == 0) {
                    *place = from.u8()?;
                }
            }
            0xFF5F => {
                let wide = if count < 257 { 7 } else { 9 };
                let number = |from: &mut Reader<'_>| {
                    if count < 257 { Ok(from.u8()?.into()) } else { from.u16() }
                };
                for _ in 0..from.remaining() / wide {
                    let (first, component) = (from.u8()?, number(&mut from)?);
                    let (layers, last) = (from.u16()?, from.u8()?);
                    let end = number(&mut from)?;
                    let end = if end == 0 { u16::MAX } else { end };
                    let order = Order::read(from.u8()?)?;
                    let (resolutions, components) = (first..last, component..end);
                    self.changes.push(Progression { order, resolutions, components, layers });
                }
                if self.changes.len() > 256 {
                    return Err(DAMAGED);
                }
            }
            0xFF61 => {
                // The segments of a tile-part come in the order of their numbers.
                from.u8()?;
                let headers = self.packed.get_or_insert_default();
                headers.extend_from_slice(from.take(from.remaining())?);
            }
            0xFF60 => {
                return Err(CodecError::Unsupported("JPEG 2000 packet headers in the main header"));
            }
            0xFF72..=0xFF79 => {
                return Err(CodecError::Unsupported("extensions of JPEG 2000 part 2"));
            }
            // Lengths, comments, capabilities, registration: nothing that decoding needs.
            _ => {}
        }
        Ok(())
    }
}
