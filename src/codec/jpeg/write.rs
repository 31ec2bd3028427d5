//! What all encoders share: samples out of a native frame, marker segments, differences.

use super::{bits::BitWriter, damaged, huffman::Encoder};
use crate::codec::{CodecError, Layout, Photometric, Raster};

/// The samples of a native frame, one plane for each component, bits as they are.
///
/// # Errors
/// [`CodecError::Unsupported`] unless there are 1 or 3 samples of 8 or 16 bits for every pixel.
pub(super) fn planes(raster: &Raster) -> Result<Vec<Vec<u16>>, CodecError> {
    let Layout { samples, bits_allocated, float, planar, .. } = raster.layout;
    let subsampled = matches!(
        raster.layout.photometric,
        Photometric::YbrFull422 | Photometric::YbrPartial422 | Photometric::YbrPartial420
    );
    if float || subsampled || ![8, 16].contains(&bits_allocated) || ![1, 3].contains(&samples) {
        return Err(CodecError::Unsupported("JPEG of such samples"));
    }
    let length = raster.layout.frame_length();
    let data = raster.data.get(..length).ok_or(damaged("too few bytes"))?;
    let words: Vec<u16> = match bits_allocated {
        8 => data.iter().map(|byte| u16::from(*byte)).collect(),
        _ => data.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect(),
    };
    Ok(match samples {
        1 => vec![words],
        _ if planar => words.chunks_exact(raster.layout.pixels()).map(<[u16]>::to_vec).collect(),
        _ => {
            let pixels = words.as_chunks::<3>().0;
            (0..3).map(|c| pixels.iter().map(|pixel| pixel[c]).collect()).collect()
        }
    })
}

/// Appends a marker and its parameters, which must be fewer than 65534 bytes.
pub(super) fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    let length = u16::try_from(body.len() + 2).unwrap_or(u16::MAX);
    out.extend([0xFF, marker]);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(body);
}

/// Appends a frame header; components are not sub-sampled and have the identifiers given.
pub(super) fn frame(out: &mut Vec<u8>, marker: u8, precision: u8, layout: &Layout, ids: &[u8]) {
    let mut body = vec![precision];
    body.extend(layout.rows.to_be_bytes());
    body.extend(layout.columns.to_be_bytes());
    body.push(ids.len() as u8);
    body.extend(ids.iter().flat_map(|id| [*id, 0x11, 0]));
    segment(out, marker, &body);
}

/// Appends one Huffman table; `class` is 0 for DC and differences, 1 for AC.
pub(super) fn huffman(out: &mut Vec<u8>, class: u8, number: u8, encoder: &Encoder) {
    let mut body = vec![class << 4 | number];
    encoder.code.write(&mut body);
    segment(out, 0xC4, &body);
}

/// Bits of a difference (T.81 §F.1.2.1, §H.1.2.2).
#[inline(always)]
pub(super) fn size(difference: i16) -> u8 {
    (16 - difference.unsigned_abs().leading_zeros()) as u8
}

/// Writes `symbol` and behind it the bits of `value`, whose [`size`] is `size`.
#[inline(always)]
pub(super) fn put(writer: &mut BitWriter, encoder: &Encoder, symbol: u8, value: i16, size: u8) {
    // 32768 is the only one of its size.
    let size = u32::from(size & 15);
    let value = i32::from(value) - i32::from(value < 0);
    encoder.put(writer, symbol, value as u32 & ((1 << size) - 1), size);
}
