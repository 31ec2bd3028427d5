//! JPEG XL (PS3.5 §A.4.11, §8.2.16; ISO/IEC 18181).
//!
//! Owns the way to the two libraries: libjxl's decoder in Rust, and an encoder of lossless streams.
//! Holds: sizes and channels are compared with the layout before pixels are decoded, the decoder is
//! told the most samples that it may hold, and should it panic, the frame is damaged. The encoder
//! runs out of room for pictures that are hardly more than noise, and panics: those are refused.
//! Absent: lossy encoding, for which there is no encoder, and turning a recompressed JPEG back into
//! one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jxl::api::{
    Endianness, Event, JxlBitDepth, JxlColorType, JxlDataFormat, JxlDecoder, JxlDecoderOptions,
    JxlOutputBuffer, JxlParallelRunner, JxlParallelRunnerFun, JxlPixelFormat,
};
use jxl::error::Error;
use zune_core::{bit_depth::BitDepth, colorspace::ColorSpace, options::EncoderOptions};
use zune_jpegxl::JxlSimpleEncoder;

use super::{CodecError, Encoded, Layout, Photometric, Raster};
use crate::dicom::compose::Description;

/// Lossless: the one that is encoded too.
pub(super) const LOSSLESS: &str = "1.2.840.10008.1.2.4.110";
/// A JPEG, coded again without loss.
const RECOMPRESSED: &str = "1.2.840.10008.1.2.4.111";
/// Lossless or lossy.
const ANY: &str = "1.2.840.10008.1.2.4.112";

const DAMAGED: CodecError = CodecError::Damaged("the JPEG XL codestream is not sound");
const REFUSED: CodecError = CodecError::Unsupported("JPEG XL of such samples");

/// Whether frames of this transfer syntax are decoded here.
pub(super) fn decodes(syntax: &str) -> bool {
    [LOSSLESS, RECOMPRESSED, ANY].contains(&syntax)
}

/// Decodes a codestream or a file of boxes.
///
/// # Errors
/// [`CodecError::Damaged`] where it is not sound, not the layout's, or breaks off;
/// [`CodecError::Unsupported`] for more than 16 bits, and for signed samples that may be lossy: how
/// those are coded nobody has laid down, while lossless ones are their bits.
pub(super) fn decode(syntax: &str, layout: &Layout, data: &[u8]) -> Result<Raster, CodecError> {
    let sized = !layout.float && [8, 16].contains(&layout.bits_allocated) && layout.samples < 4;
    if !sized || layout.signed && syntax != LOSSLESS {
        return Err(REFUSED);
    }
    let (samples, bits) =
        catch_unwind(AssertUnwindSafe(|| samples(layout, data))).unwrap_or(Err(DAMAGED))?;
    let mut layout = layout.clone();
    layout.planar = false;
    layout.photometric = match layout.photometric {
        // The decoder gives back the colours that a JPEG was made from.
        colour if colour.is_colour() && syntax == RECOMPRESSED => Photometric::Rgb,
        Photometric::Xyb => Photometric::Rgb,
        Photometric::YbrFull422 | Photometric::YbrPartial422 | Photometric::YbrPartial420 => {
            return Err(REFUSED);
        }
        photometric => photometric,
    };
    let unused = 16 - bits;
    let sample = |bytes: [u8; 2]| match (u16::from_le_bytes(bytes), layout.signed) {
        (sample, true) => ((sample << unused) as i16 >> unused) as u16,
        (sample, false) => sample,
    };
    let samples = samples.as_chunks::<2>().0.iter().map(|bytes| sample(*bytes).to_le_bytes());
    let data = samples.flat_map(|bytes| bytes.into_iter().take(layout.sample_bytes())).collect();
    Ok(Raster { layout, data })
}

/// What a codestream or a file of boxes says of itself; `None` where it is not sound, or no frame.
pub(super) fn describe(data: &[u8]) -> Option<Description> {
    catch_unwind(AssertUnwindSafe(|| described(data))).ok().flatten()
}

fn described(data: &[u8]) -> Option<Description> {
    let mut decoder = JxlDecoder::new(JxlDecoderOptions::default());
    let mut input = data;
    if decoder.process(&mut input, None, None).ok()? != Event::BasicInfo {
        return None;
    }
    let info = decoder.basic_info()?;
    let JxlBitDepth::Int { bits_per_sample: bits @ 1..=16 } = info.bit_depth else { return None };
    let (width, height) = info.size;
    let (columns, rows) = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    // What is not coded in the colours of its own was mixed, and lost something.
    let lossy = !info.uses_original_profile;
    let grey = decoder.current_pixel_format()?.color_type.is_grayscale();
    let (samples, photometric) = match (grey, lossy) {
        (true, _) => (1, "MONOCHROME2"),
        (false, true) => (3, "XYB"),
        (false, false) => (3, "RGB"),
    };
    let is_frame =
        info.extra_channels.is_empty() && info.animation.is_none() && rows > 0 && columns > 0;
    let (bits, signed) = (bits as u8, false);
    is_frame.then_some(Description { rows, columns, samples, bits, signed, photometric, lossy })
}

/// Decodes into samples of two bytes, row after row, and tells how many bits they have.
fn samples(layout: &Layout, data: &[u8]) -> Result<(Vec<u8>, u32), CodecError> {
    let (width, height) = (usize::from(layout.columns), usize::from(layout.rows));
    let mut options = JxlDecoderOptions::default();
    // The picture as it is coded: neither turned nor drawn with other layers' spots.
    options.adjust_orientation = false;
    options.render_spot_colors = false;
    options.sample_limit = Some(4 * layout.pixels() + 65_536);
    let mut decoder = JxlDecoder::new(options);
    let mut input = data;
    let stopped = |event| match event {
        Ok(event) => Ok(event),
        Err(_) => Err(DAMAGED),
    };
    if stopped(decoder.process(&mut input, None, None))? != Event::BasicInfo {
        return Err(DAMAGED);
    }
    let info = decoder.basic_info().ok_or(DAMAGED)?;
    if info.size != (width, height) {
        return Err(CodecError::Damaged("the codestream has other rows and columns"));
    }
    let JxlBitDepth::Int { bits_per_sample: bits } = info.bit_depth else {
        return Err(CodecError::Unsupported("JPEG XL of floating point numbers"));
    };
    if bits > layout.bits_allocated.into() || bits == 0 {
        return Err(CodecError::Damaged("the codestream has more bits than are allocated"));
    }
    let format = decoder.current_pixel_format().ok_or(DAMAGED)?;
    let color_type = match layout.samples {
        1 => JxlColorType::Grayscale,
        _ => JxlColorType::Rgb,
    };
    if format.color_type.is_grayscale() != (layout.samples == 1) || !info.extra_channels.is_empty()
    {
        return Err(CodecError::Damaged("the codestream has another number of components"));
    }
    let format = JxlDataFormat::U16 { endianness: Endianness::LittleEndian, bit_depth: bits as u8 };
    let format = JxlPixelFormat {
        color_type,
        color_data_format: Some(format),
        extra_channel_format: Vec::new(),
    };
    decoder.set_pixel_format(format).map_err(|_| DAMAGED)?;
    let row = 2 * width * usize::from(layout.samples);
    // Two bytes for alignment: the library asks for rows at even addresses.
    let mut samples = vec![0_u8; row * height + 1];
    let start = samples.as_ptr().align_offset(2).min(1);
    let (_, place) = samples.split_at_mut(start);
    let mut buffers = [JxlOutputBuffer::new(place, height, row)];
    let mut work = Work { left: 1024 + layout.pixels() / 512 };
    loop {
        match stopped(decoder.process(&mut input, Some(&mut buffers), Some(&mut work)))? {
            Event::FrameComplete { has_more_frames: false } | Event::Complete => break,
            Event::FrameHeader | Event::BasicInfo => {}
            // A frame of an animation is not what a frame here is.
            Event::FrameComplete { .. } | Event::NeedMoreInput { .. } => return Err(DAMAGED),
        }
    }
    samples.drain(..start);
    samples.truncate(row * height);
    Ok((samples, bits))
}

/// The library has no error of its own for this; nobody reads it.
const TOO_MUCH: Error = Error::ApiUsageError("too much work");

/// Does the decoder's work on the thread that asks, as long as there is not too much of it: a few
/// bytes can ask for any number of frames that are never seen.
struct Work {
    /// Groups of at most 65,536 pixels that may still be decoded.
    left: usize,
}

impl JxlParallelRunner for Work {
    fn run(&mut self, count: usize, work: &JxlParallelRunnerFun<'_>) -> Result<(), Error> {
        self.left = self.left.checked_sub(count).ok_or(TOO_MUCH)?;
        (0..count).try_for_each(work)
    }

    fn run_ordered(
        &mut self,
        count: usize,
        _threads: Option<usize>,
        work: &JxlParallelRunnerFun<'_>,
    ) -> Result<(), Error> {
        self.run(count, work)
    }

    fn num_threads(&self) -> usize {
        1
    }
}

/// Encodes a native frame without loss.
///
/// Samples are coded with all their allocated bits, signed ones as those bits.
///
/// # Errors
/// [`CodecError::Unsupported`] for samples that are no integers of 8 or 16 bits, for pixels of four
/// or subsampled ones, and for pictures of one row or column, which the library does not write;
/// [`CodecError::Damaged`] where the data are short.
pub(super) fn encode(raster: &Raster) -> Result<Encoded, CodecError> {
    let mut layout = raster.layout.clone();
    let (samples, bytes) = (usize::from(layout.samples), layout.sample_bytes());
    let (depth, colours) = match (layout.bits_allocated, samples) {
        (8, 1) => (BitDepth::Eight, ColorSpace::Luma),
        (8, 3) => (BitDepth::Eight, ColorSpace::RGB),
        (16, 1) => (BitDepth::Sixteen, ColorSpace::Luma),
        (16, 3) => (BitDepth::Sixteen, ColorSpace::RGB),
        _ => return Err(REFUSED),
    };
    let length = layout.pixels() * samples * bytes;
    if layout.float || layout.frame_length() != length || layout.rows < 2 || layout.columns < 2 {
        return Err(REFUSED);
    }
    let data = raster.data.get(..length).ok_or(CodecError::Damaged("too few bytes"))?;
    let mut pixels = vec![0_u8; length];
    for (index, sample) in data.chunks_exact(bytes).enumerate() {
        let at = match layout.planar {
            true => index % layout.pixels() * samples + index / layout.pixels(),
            false => index,
        };
        let place = pixels.iter_mut().skip(at * bytes);
        match sample {
            // The library reads numbers in the machine's order.
            [low, high] => {
                let sample = u16::from_le_bytes([*low, *high]).to_ne_bytes();
                place.zip(sample).for_each(|(to, from)| *to = from);
            }
            _ => place.zip(sample).for_each(|(to, from)| *to = *from),
        }
    }
    layout.planar = false;
    let options = EncoderOptions::new(layout.columns.into(), layout.rows.into(), colours, depth)
        .set_num_threads(1);
    let written = catch_unwind(|| {
        let mut data = Vec::new();
        let encoder = JxlSimpleEncoder::new(&pixels, options);
        encoder.encode(&mut data).is_ok().then_some(data)
    });
    let data = written.ok().flatten().ok_or(REFUSED)?;
    Ok(Encoded { layout, data })
}

#[cfg(test)]
mod tests;
