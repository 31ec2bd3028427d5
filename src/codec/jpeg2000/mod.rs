//! JPEG 2000 and High-Throughput JPEG 2000 (PS3.5 §A.4.4, §8.2.4, §8.2.14; ISO/IEC 15444-1 and -15).
//!
//! Owns the whole codec, in safe code of its own: headers, packets, both kinds of code-blocks, both
//! wavelet transforms. Holds: memory is bounded by the layout and work by the number of bytes; what
//! is lossless is exact up to 30 bit planes. Absent: the extensions of part 2, which are refused by
//! name, subsampled components, and codestreams that break off.

mod bits;
mod block;
mod contexts;
mod decode;
mod encode;
mod header;
mod ht_decode;
mod ht_encode;
mod ht_tables;
mod mq;
mod packet_write;
mod packets;
mod stream;
mod tag_tree;
mod tile;
mod wavelet;

use super::{CodecError, Encoded, Layout, Photometric, Raster};

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

/// Whether frames of this transfer syntax are decoded and encoded here.
pub(super) fn decodes(syntax: &str) -> bool {
    Form::of(syntax).is_some()
}

/// Whether encoding into this transfer syntax keeps every bit.
pub(super) fn is_lossless(syntax: &str) -> bool {
    Form::of(syntax).is_some_and(|form| form.reversible)
}

/// What a transfer syntax asks of a codestream.
struct Form {
    reversible: bool,
    fast: bool,
    progressive: bool,
}

impl Form {
    fn of(syntax: &str) -> Option<Self> {
        let (reversible, fast, progressive) = match syntax.strip_prefix("1.2.840.10008.1.2.4.")? {
            // Every codestream of part 1 is one of part 2.
            "90" | "92" => (true, false, false),
            "91" | "93" => (false, false, false),
            "201" => (true, true, false),
            "202" => (true, true, true),
            "203" => (false, true, false),
            _ => return None,
        };
        Some(Self { reversible, fast, progressive })
    }
}

/// Encodes a native frame into a codestream.
///
/// Three components are transformed together, so that RGB becomes `YBR_RCT` or, where the syntax is
/// for lossy streams, `YBR_ICT`. `quality` is 1 to 100, from a peak signal-to-noise ratio of about
/// 24 to 60 decibels.
///
/// # Errors
/// [`CodecError::Unsupported`] for samples that are no integers or are packed, for more bits than
/// fit, and for indices into a palette that would change; [`CodecError::Damaged`] where the data are short.
pub(super) fn encode(syntax: &str, raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    const REFUSED: CodecError = CodecError::Unsupported("JPEG 2000 of such samples");
    let form = Form::of(syntax).ok_or(CodecError::Unsupported("this transfer syntax"))?;
    let mut layout = raster.layout.clone();
    let subsampled = layout.frame_length()
        != layout.pixels() * usize::from(layout.samples) * layout.sample_bytes();
    let sized = [8, 16, 32].contains(&layout.bits_allocated);
    let indices = layout.photometric == Photometric::Palette && !form.reversible;
    if layout.float || subsampled || !sized || indices {
        return Err(REFUSED);
    }
    if raster.data.len() < layout.frame_length() {
        return Err(CodecError::Damaged("too few bytes"));
    }
    let planes = planes(raster);
    // What stands in the bits above the stored ones is kept: then all are coded.
    let unused = 32 - u32::from(layout.bits_stored);
    let fits = |sample: &i32| match layout.signed {
        true => sample << unused >> unused == *sample,
        false => (*sample as u32) << unused >> unused == *sample as u32,
    };
    let fits = planes.iter().flatten().all(fits);
    let precision = if fits { layout.bits_stored } else { layout.bits_allocated };
    if precision > 26 {
        return Err(REFUSED);
    }
    layout.planar = false;
    layout.photometric = match (layout.photometric, planes.len()) {
        (Photometric::Rgb, 3) if form.reversible => Photometric::YbrRct,
        (Photometric::Rgb, 3) => Photometric::YbrIct,
        (other, _) => other,
    };
    let mixed = raster.layout.photometric == Photometric::Rgb;
    let wanted = encode::Wanted {
        width: layout.columns.into(),
        height: layout.rows.into(),
        precision,
        signed: layout.signed,
        mixed,
        reversible: form.reversible,
        fast: form.fast,
        progressive: form.progressive,
        quality,
    };
    Ok(Encoded { data: encode::encode(planes, &wanted)?, layout })
}

/// The samples of a frame, component by component.
fn planes(raster: &Raster) -> Vec<Vec<i32>> {
    let layout = &raster.layout;
    let (bytes, samples) = (layout.sample_bytes(), usize::from(layout.samples));
    let unused = 32 - u32::from(layout.bits_allocated);
    let read = |sample: &[u8]| {
        let bits = sample.iter().rev().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        match layout.signed {
            true => (bits << unused) as i32 >> unused,
            false => (bits << unused >> unused) as i32,
        }
    };
    let (step, next) = if layout.planar { (1, layout.pixels()) } else { (samples, 1) };
    let plane = |index: usize| {
        let from = raster.data.chunks_exact(bytes).skip(index * next).step_by(step);
        from.take(layout.pixels()).map(read).collect()
    };
    (0..samples).map(plane).collect()
}

#[cfg(test)]
mod tests;
