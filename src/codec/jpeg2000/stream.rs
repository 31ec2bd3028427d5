//! Where things stand in a codestream: the main header, and the parts of each tile.
//!
//! Owns the finding of the codestream in JP2 boxes, and of tile-parts in the codestream. Holds:
//! lengths are checked; a tile that is missing or breaks off is an error. Absent: what marker
//! segments say, and packets.

use std::ops::Range;

use super::{
    super::CodecError,
    header::{DAMAGED, Parameters, Reader, Size},
};

/// One tile-part: its marker segments and its packets.
#[derive(Clone, Debug)]
struct Part {
    header: Range<usize>,
    packets: Range<usize>,
}

/// A codestream whose headers were read.
pub(super) struct Codestream<'a> {
    data: &'a [u8],
    pub(super) size: Size,
    main: Parameters,
    tiles: Vec<Vec<Part>>,
}

impl<'a> Codestream<'a> {
    /// Reads the headers of a codestream, which may stand in JP2 boxes.
    pub(super) fn read(data: &'a [u8]) -> Result<Self, CodecError> {
        let data = unboxed(data)?;
        let mut from = Reader::new(data);
        if from.u16()? != 0xFF4F || from.u16()? != 0xFF51 {
            return Err(CodecError::Damaged("not a JPEG 2000 codestream"));
        }
        let size = Size::read(from.segment()?)?;
        Ok(Self { data: from.data, size, main: Parameters::default(), tiles: Vec::new() })
    }

    /// Finds the tiles, once [`Self::size`] has been found acceptable.
    pub(super) fn find_tiles(&mut self) -> Result<(), CodecError> {
        let mut from = Reader::new(self.data);
        let count = self.size.tile_count() as usize;
        self.tiles = vec![Vec::new(); count];
        loop {
            match from.u16()? {
                0xFF90 => break,
                0xFF30..=0xFF3F => {}
                marker => self.main.take(marker, from.segment()?, &self.size)?,
            }
        }
        loop {
            // The marker, its length, tile, length of the part, number, count.
            let start = self.data.len() - from.remaining() - 2;
            from.u16()?;
            let tile = usize::from(from.u16()?);
            let length = from.u32()? as usize;
            from.u16()?;
            let end = match length {
                0 => self.data.len(),
                length => start.checked_add(length).ok_or(DAMAGED)?,
            };
            let header = self.data.len() - from.remaining();
            loop {
                match from.u16()? {
                    0xFF93 => break,
                    0xFF30..=0xFF3F => {}
                    _ => {
                        from.segment()?;
                    }
                }
            }
            let packets = self.data.len() - from.remaining();
            if end < packets || end > self.data.len() {
                return Err(CodecError::Damaged("a JPEG 2000 tile-part breaks off"));
            }
            let part = Part { header: header..packets - 2, packets: packets..end };
            self.tiles.get_mut(tile).ok_or(DAMAGED)?.push(part);
            from = Reader::new(self.data.get(end..).unwrap_or_default());
            // What follows the last part is its end marker, padding, or missing.
            if !matches!(from.u16(), Ok(0xFF90)) {
                break;
            }
        }
        if self.tiles.iter().any(Vec::is_empty) {
            return Err(CodecError::Damaged("a JPEG 2000 tile is missing"));
        }
        Ok(())
    }

    pub(super) fn tile_count(&self) -> usize {
        self.tiles.len()
    }

    /// How a tile is coded, and its packets.
    pub(super) fn tile(&self, index: usize) -> Result<(Parameters, Vec<u8>), CodecError> {
        let mut parameters = self.main.clone();
        let mut packets = Vec::new();
        for (number, part) in self.tiles.get(index).ok_or(DAMAGED)?.iter().enumerate() {
            let mut from = Reader::new(self.data.get(part.header.clone()).ok_or(DAMAGED)?);
            let mut own_changes = false;
            while from.remaining() > 0 {
                let marker = from.u16()?;
                if matches!(marker, 0xFF30..=0xFF3F) {
                    continue;
                }
                let segment = from.segment()?;
                // The tile's progressions replace those of the main header.
                if marker == 0xFF5F && number == 0 && !own_changes {
                    parameters.changes.clear();
                    own_changes = true;
                }
                parameters.take(marker, segment, &self.size)?;
            }
            packets.extend_from_slice(self.data.get(part.packets.clone()).ok_or(DAMAGED)?);
        }
        Ok((parameters, packets))
    }
}

/// The codestream within JP2 boxes (§I.5.4), or the data themselves.
fn unboxed(data: &[u8]) -> Result<&[u8], CodecError> {
    if data.get(4..8) != Some(b"jP  ") {
        return Ok(data);
    }
    let mut from = Reader::new(data);
    loop {
        let (length, kind) = (from.u32()?, from.u32()?);
        let length = match length {
            0 => from.remaining(),
            1 => {
                let high = from.u32()?;
                let low = from.u32()? as usize;
                if high != 0 { DAMAGED_LENGTH } else { low.checked_sub(16).ok_or(DAMAGED)? }
            }
            length => (length as usize).checked_sub(8).ok_or(DAMAGED)?,
        };
        if kind == u32::from_be_bytes(*b"jp2c") {
            // A wrong length of the last box hurts nobody.
            return Ok(from.data.get(..length).unwrap_or(from.data));
        }
        from.take(length)?;
    }
}

/// Longer than anything that is there.
const DAMAGED_LENGTH: usize = usize::MAX;
