//! JPEG 2000 and High-Throughput JPEG 2000 (PS3.5 §A.4.4, §8.2.4, §8.2.14; ISO/IEC 15444-1 and -15).
//!
//! Owns the whole codec, in safe code of its own: headers, packets, both kinds of code-blocks, both
//! wavelet transforms. Holds: memory is bounded by the layout and work by the number of bytes; what
//! is lossless is exact up to 30 bit planes. Absent: the extensions of part 2, which are refused by
//! name, subsampled components, and codestreams that break off.

mod bits;
mod block_decode;
mod contexts;
mod decode;
mod header;
mod ht_decode;
mod ht_tables;
mod mq;
mod packets;
mod tag_tree;
mod tile;
mod wavelet;

use super::{CodecError, Layout, Photometric, Raster};

/// Decodes a codestream, which may stand in JP2 boxes.
///
/// The result is interleaved. Signs are taken from the layout where they differ from those of the
/// codestream, as many senders do not write the latter.
///
/// # Errors
/// [`CodecError::Damaged`] where the codestream is not sound or not the layout's,
/// [`CodecError::Unsupported`] for extensions and for pixels that JPEG 2000 does not have in DICOM.
pub(super) fn decode(layout: &Layout, data: &[u8]) -> Result<Raster, CodecError> {
    if layout.float || ![8, 16, 32].contains(&layout.bits_allocated) {
        return Err(CodecError::Unsupported("JPEG 2000 for such samples"));
    }
    let expected = decode::Expected {
        width: layout.columns.into(),
        height: layout.rows.into(),
        components: layout.samples.into(),
        bits: layout.bits_allocated,
    };
    let planes = decode::decode(data, &expected)?;
    let mut layout = layout.clone();
    layout.planar = false;
    layout.photometric = match layout.photometric {
        Photometric::YbrRct | Photometric::YbrIct => Photometric::Rgb,
        // Chroma is not subsampled here, whatever the attribute says.
        Photometric::YbrFull422 => Photometric::YbrFull,
        other => other,
    };
    let bytes = layout.sample_bytes();
    let pixel = bytes * usize::from(layout.samples);
    let mut data = vec![0; pixel * layout.pixels()];
    for (index, (samples, component)) in planes.samples.iter().zip(&planes.components).enumerate() {
        let unused = 32 - u32::from(component.precision);
        for (pixel, sample) in data.chunks_exact_mut(pixel).zip(samples) {
            let sample = match (layout.signed, component.signed) {
                (true, false) => sample << unused >> unused,
                (false, true) => ((*sample as u32) << unused >> unused) as i32,
                _ => *sample,
            };
            let place = pixel.iter_mut().skip(index * bytes).take(bytes);
            place.zip(sample.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
    Ok(Raster { layout, data })
}
