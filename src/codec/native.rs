//! Frames that no codec has squeezed, and the samples inside native pixels.
//!
//! Owns native frames, Encapsulated Uncompressed Explicit VR Little Endian (PS3.5 §A.4.11),
//! Deflated Image Frame Compression (§A.4.13), and what picture makers and codecs share: samples as
//! numbers ([`samples`]), Planar Configuration ([`arranged`]), chroma at full resolution
//! ([`expanded`]), single bits ([`packed`], [`unpacked`]). Holds: a frame is as long as its layout
//! says, but for the one byte that padding to even length may add. Absent: byte order of native
//! frames, which whoever reads them from a big-endian file puts right, but for one private syntax.

use std::{
    borrow::Cow,
    io::{Read, Write},
};

use super::{CodecError, Encoded, Layout, Photometric, Raster};

/// Implicit VR Little Endian with Big Endian Pixel Data (GE private).
const GE_BIG_ENDIAN: &str = "1.2.840.113619.5.2";

/// Whether native frames of this transfer syntax can be made. The GE one is read only.
pub(super) fn encodes(syntax: &str) -> bool {
    syntax != GE_BIG_ENDIAN
}

/// Reads a native frame.
///
/// # Errors
/// [`CodecError::Damaged`] where its length is not that of the layout.
pub(super) fn decode(syntax: &str, layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    let mut raster = decode_little(layout, frame)?;
    if syntax == GE_BIG_ENDIAN {
        match layout.bits_allocated {
            8 => {}
            16 => raster.data.chunks_exact_mut(2).for_each(<[u8]>::reverse),
            _ => return Err(CodecError::Unsupported("big-endian samples of such a size")),
        }
    }
    Ok(raster)
}

/// Reads a little-endian frame: also Encapsulated Uncompressed Explicit VR Little Endian.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_little(layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    let layout = fitting(layout, frame.len())?;
    let mut data = frame.to_vec();
    data.truncate(layout.frame_length());
    Ok(Raster { layout, data })
}

/// Writes a native frame: also Encapsulated Uncompressed Explicit VR Little Endian.
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout.
pub(super) fn encode(raster: &Raster) -> Result<Encoded, CodecError> {
    check(raster)?;
    Ok(Encoded { layout: raster.layout.clone(), data: raster.data.clone() })
}

/// Reads a frame of Deflated Image Frame Compression: a raw deflate stream (RFC 1951).
///
/// # Errors
/// [`CodecError::Damaged`] where it does not inflate to a frame of that layout.
pub(super) fn inflate(layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    // No form of the frame is longer than this with its padding; one byte more tells.
    let longest = full_length(layout).max(layout.frame_length());
    let limit = longest.saturating_add(2);
    let mut data = Vec::new();
    let mut reader = flate2::read::DeflateDecoder::new(frame).take(limit as u64);
    reader.read_to_end(&mut data).map_err(|_| CodecError::Damaged("not a deflate stream"))?;
    let layout = fitting(layout, data.len())?;
    data.truncate(layout.frame_length());
    Ok(Raster { layout, data })
}

/// Writes a frame of Deflated Image Frame Compression.
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout;
/// [`CodecError::Unsupported`] for floating point samples (PS3.5 §8.2.16).
pub(super) fn deflate(raster: &Raster) -> Result<Encoded, CodecError> {
    check(raster)?;
    if raster.layout.float {
        return Err(CodecError::Unsupported("floating point samples"));
    }
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    let written = writer.write_all(&raster.data).and_then(|()| writer.finish());
    let data = written.map_err(|_| CodecError::Damaged("deflate failed"))?;
    Ok(Encoded { layout: raster.layout.clone(), data })
}

/// Bytes of a frame whose components all have every sample.
fn full_length(layout: &Layout) -> usize {
    let samples = layout.pixels() * usize::from(layout.samples);
    (samples * usize::from(layout.bits_allocated)).div_ceil(8)
}

/// The layout that a frame of `length` bytes has: the announced one, or, where chroma should be
/// subsampled and the bytes say that it is not (a common fault of writers), that at full resolution.
fn fitting(layout: &Layout, length: usize) -> Result<Layout, CodecError> {
    let fits = |expected: usize| length == expected || length == expected + 1;
    if fits(layout.frame_length()) {
        return Ok(layout.clone());
    }
    let full = Layout { photometric: Photometric::YbrFull, ..layout.clone() };
    if layout.photometric == Photometric::YbrFull422 && fits(full.frame_length()) {
        return Ok(full);
    }
    let short = length < layout.frame_length();
    Err(CodecError::Damaged(if short { "too few bytes" } else { "too many bytes" }))
}

/// Refuses a raster whose bytes do not agree with its layout.
pub(super) fn check(raster: &Raster) -> Result<(), CodecError> {
    if raster.data.len() == raster.layout.frame_length() {
        Ok(())
    } else {
        Err(CodecError::Damaged("a raster of another size than its layout"))
    }
}

/// A raster in a form that RLE and JPEG-LS have (PS3.5 Tables 8.2.2-1 and 8.2.3-1).
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout;
/// [`CodecError::Unsupported`] for floating point samples and other photometric interpretations.
pub(super) fn storable(raster: &Raster) -> Result<Cow<'_, Raster>, CodecError> {
    check(raster)?;
    if raster.layout.float {
        return Err(CodecError::Unsupported("floating point samples"));
    }
    match raster.layout.photometric {
        Photometric::Monochrome1
        | Photometric::Monochrome2
        | Photometric::Palette
        | Photometric::Rgb
        | Photometric::YbrFull => Ok(Cow::Borrowed(raster)),
        Photometric::YbrFull422 => expanded(raster.clone()).map(Cow::Owned),
        _ => Err(CodecError::Unsupported("this photometric interpretation")),
    }
}

/// The samples of a frame as numbers, pixel after pixel with the components of each together,
/// whatever the Planar Configuration, chroma repeated where it is subsampled.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Integers that 32 bits with a sign can hold.
    Integer(Vec<i32>),
    /// Floating point pixels, and integers of more bits: those beyond 53 bits are rounded.
    Real(Vec<f64>),
}

/// Reads the samples of a frame: `bits_stored` bits below and with `high_bit`, two's complement
/// where signed (PS3.5 §8.1.1); what other bits of the cell hold is left out.
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout;
/// [`CodecError::Unsupported`] for retired forms of subsampling.
pub fn samples(raster: &Raster) -> Result<Samples, CodecError> {
    check(raster)?;
    let layout = &raster.layout;
    let (high_bit, stored) = (u32::from(layout.high_bit), u32::from(layout.bits_stored));
    if high_bit >= 64 || stored == 0 || stored > high_bit + 1 {
        return Err(CodecError::Damaged("bits that no sample has"));
    }
    let (left, right) = (63 - high_bit, 64 - stored);
    let samples = if layout.float {
        Samples::Real(match layout.bits_allocated {
            32 => each(raster, |bits| f64::from(f32::from_bits(bits as u32))),
            _ => each(raster, f64::from_bits),
        })
    } else if layout.signed && stored <= 32 {
        Samples::Integer(each(raster, |bits| ((bits << left) as i64 >> right) as i32))
    } else if layout.signed {
        Samples::Real(each(raster, |bits| ((bits << left) as i64 >> right) as f64))
    } else if stored < 32 {
        Samples::Integer(each(raster, |bits| (bits << left >> right) as i32))
    } else {
        Samples::Real(each(raster, |bits| (bits << left >> right) as f64))
    };
    Ok(match samples {
        Samples::Integer(samples) => Samples::Integer(by_pixel(layout, samples)?),
        Samples::Real(samples) => Samples::Real(by_pixel(layout, samples)?),
    })
}

/// The cells of a frame as they lie in its bytes.
fn each<T>(raster: &Raster, sample: impl Fn(u64) -> T) -> Vec<T> {
    fn cells<const N: usize, T>(data: &[u8], sample: impl Fn(u64) -> T) -> Vec<T> {
        let (cells, _) = data.as_chunks::<N>();
        let wide = |cell: &[u8; N]| {
            let mut bytes = [0; 8];
            bytes[..N].copy_from_slice(cell);
            u64::from_le_bytes(bytes)
        };
        cells.iter().map(|cell| sample(wide(cell))).collect()
    }
    match raster.layout.bits_allocated {
        1 => {
            let count = raster.layout.pixels() * usize::from(raster.layout.samples);
            unpacked(&raster.data, count).into_iter().map(|bit| sample(u64::from(bit))).collect()
        }
        8 => cells::<1, T>(&raster.data, sample),
        16 => cells::<2, T>(&raster.data, sample),
        32 => cells::<4, T>(&raster.data, sample),
        _ => cells::<8, T>(&raster.data, sample),
    }
}

/// Puts cells into the order of pixels, chroma repeated.
fn by_pixel<T: Copy + Default>(layout: &Layout, cells: Vec<T>) -> Result<Vec<T>, CodecError> {
    match layout.photometric {
        _ if layout.samples == 1 => Ok(cells),
        Photometric::YbrFull422 | Photometric::YbrPartial422 if layout.samples == 3 => {
            spread(layout, &cells)
        }
        Photometric::YbrPartial420 if layout.samples == 3 => {
            Err(CodecError::Unsupported("chroma subsampled in both directions"))
        }
        _ if layout.planar => Ok(interleave(&cells, usize::from(layout.samples))),
        _ => Ok(cells),
    }
}

/// Two luminances and their pair of chrominances become two pixels (PS3.3 §C.7.6.3.1.2).
fn spread<T: Copy>(layout: &Layout, cells: &[T]) -> Result<Vec<T>, CodecError> {
    if !layout.columns.is_multiple_of(2) {
        return Err(CodecError::Unsupported("subsampled chroma in an odd number of columns"));
    }
    let (pairs, _) = cells.as_chunks::<4>();
    Ok(pairs.iter().flat_map(|&[y1, y2, cb, cr]| [y1, cb, cr, y2, cb, cr]).collect())
}

/// Planes of equal length become pixels.
fn interleave<T: Copy + Default>(planes: &[T], samples: usize) -> Vec<T> {
    let mut pixels = vec![T::default(); planes.len()];
    let plane = planes.len().checked_div(samples).unwrap_or(0).max(1);
    for (component, plane) in planes.chunks(plane).enumerate() {
        for (pixel, sample) in pixels.chunks_exact_mut(samples).zip(plane) {
            if let Some(slot) = pixel.get_mut(component) {
                *slot = *sample;
            }
        }
    }
    pixels
}

/// Pixels become planes of equal length.
fn separate<T: Copy>(pixels: &[T], samples: usize) -> Vec<T> {
    let component = |component| pixels.iter().skip(component).step_by(samples);
    (0..samples).flat_map(component).copied().collect()
}

/// Gives a frame the wanted Planar Configuration: `true` is one plane after another. Frames of one
/// sample a pixel, and those with subsampled chroma (PS3.3 §C.7.6.3.1.3), have none and stay.
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout;
/// [`CodecError::Unsupported`] for colours of single bits.
pub fn arranged(raster: Raster, planar: bool) -> Result<Raster, CodecError> {
    check(&raster)?;
    let Raster { layout, data } = &raster;
    if layout.samples == 1 || layout.planar == planar || data.len() != full_length(layout) {
        return Ok(raster);
    }
    fn cells<const N: usize>(data: &[u8], samples: usize, planar: bool) -> Vec<u8>
    where
        [u8; N]: Default,
    {
        let (cells, _) = data.as_chunks::<N>();
        let cells = if planar { separate(cells, samples) } else { interleave(cells, samples) };
        cells.into_flattened()
    }
    let samples = usize::from(layout.samples);
    let data = match layout.bits_allocated {
        8 => cells::<1>(data, samples, planar),
        16 => cells::<2>(data, samples, planar),
        32 => cells::<4>(data, samples, planar),
        64 => cells::<8>(data, samples, planar),
        _ => return Err(CodecError::Unsupported("colours of single bits")),
    };
    Ok(Raster { layout: Layout { planar, ..raster.layout }, data })
}

/// Gives every pixel of a YBR_FULL_422 frame its own chroma: YBR_FULL, pixel after pixel. Other
/// frames stay.
///
/// # Errors
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout;
/// [`CodecError::Unsupported`] for an odd number of columns or retired forms of subsampling.
pub fn expanded(raster: Raster) -> Result<Raster, CodecError> {
    check(&raster)?;
    let Raster { layout, data } = &raster;
    match layout.photometric {
        Photometric::YbrFull422 if layout.samples == 3 => {}
        Photometric::YbrPartial422 | Photometric::YbrPartial420 => {
            return Err(CodecError::Unsupported("retired forms of subsampled chroma"));
        }
        _ => return Ok(raster),
    }
    let data = match layout.bits_allocated {
        8 => spread(layout, data)?,
        16 => spread(layout, data.as_chunks::<2>().0)?.into_flattened(),
        _ => return Err(CodecError::Unsupported("subsampled chroma of such a size")),
    };
    let photometric = Photometric::YbrFull;
    Ok(Raster { layout: Layout { photometric, planar: false, ..raster.layout }, data })
}

/// Puts single bits (bytes of 0 or 1) into bytes, the first into the lowest bit (PS3.5 §8.1.1).
pub fn packed(bits: &[u8]) -> Vec<u8> {
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit & 1);
    bits.chunks(8).map(byte).collect()
}

/// The first `count` single bits of some bytes as bytes of 0 or 1; those beyond the end are 0.
pub fn unpacked(bytes: &[u8], count: usize) -> Vec<u8> {
    let mut bits = Vec::with_capacity(count);
    let all = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
    bits.extend(all.take(count));
    bits.resize(count, 0);
    bits
}

#[cfg(test)]
mod tests;
