//! PNG and GIF files, as native frames (PS3.18 Table 10.5.2-1).
//!
//! Holds: alpha is dropped, palettes are resolved, the frames of an animation are what is seen; what
//! a file becomes is bounded before it is decoded. Absent: colour profiles, times of animations.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, DisposalMethod, MemoryLimit};
use png::{ColorType, Transformations};

use super::CodecError;
use crate::dicom::compose::Description;

/// Frames end to end, as Explicit VR Little Endian has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// What they are.
    pub description: Description,
    /// How many.
    pub count: u32,
    /// Their bytes.
    pub data: Vec<u8>,
}

/// Whether files of this media type are decoded here.
pub fn takes(media_type: &str) -> bool {
    matches!(media_type, "image/png" | "image/gif")
}

/// Decodes a file of this media type into at most `most` bytes.
///
/// # Errors
/// [`CodecError::Damaged`]; [`CodecError::Unsupported`] for pictures that are too large.
pub fn decode(media_type: &str, file: &[u8], most: usize) -> Result<Frames, CodecError> {
    match media_type {
        "image/png" => png(file, most),
        "image/gif" => gif(file, most),
        _ => Err(CodecError::Unsupported("this media type")),
    }
}

const LARGE: CodecError = CodecError::Unsupported("a picture of this size");

fn side(pixels: u32) -> Result<u16, CodecError> {
    u16::try_from(pixels).ok().filter(|pixels| *pixels > 0).ok_or(LARGE)
}

fn png(file: &[u8], most: usize) -> Result<Frames, CodecError> {
    let damaged = |_| CodecError::Damaged("not a sound PNG");
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes: most });
    // Palettes into colours, and what has fewer bits into 8.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let length = reader.output_buffer_size().filter(|length| *length <= most).ok_or(LARGE)?;
    let mut data = vec![0; length];
    let info = reader.next_frame(&mut data).map_err(damaged)?;
    data.truncate(info.buffer_size());
    let (samples, channels) = match info.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (1, 2),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (3, 4),
        ColorType::Indexed => return Err(CodecError::Damaged("not a sound PNG")),
    };
    let wide = info.bit_depth == png::BitDepth::Sixteen;
    let bytes = if wide { 2 } else { 1 };
    let mut kept = Vec::with_capacity(data.len() / channels * usize::from(samples));
    for pixel in data.chunks_exact(channels * bytes) {
        for sample in pixel.chunks_exact(bytes).take(samples.into()) {
            kept.extend(sample.iter().rev());
        }
    }
    let description = Description {
        rows: side(info.height)?,
        columns: side(info.width)?,
        samples,
        bits: if wide { 16 } else { 8 },
        signed: false,
        photometric: if samples == 3 { "RGB" } else { "MONOCHROME2" },
        lossy: false,
    };
    Ok(Frames { description, count: 1, data: kept })
}

fn gif(file: &[u8], most: usize) -> Result<Frames, CodecError> {
    let damaged = |_| CodecError::Damaged("not a sound GIF");
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    let limit = std::num::NonZeroU64::new(most as u64).ok_or(LARGE)?;
    options.set_memory_limit(MemoryLimit::Bytes(limit));
    let mut decoder = options.read_info(Cursor::new(file)).map_err(damaged)?;
    let (columns, rows) = (decoder.width(), decoder.height());
    let (width, height) = (usize::from(columns), usize::from(rows));
    if width == 0 || height == 0 || width * height * 3 > most {
        return Err(LARGE);
    }
    let mut canvas = vec![0_u8; width * height * 3];
    let (mut data, mut count) = (Vec::new(), 0_u32);
    while let Some(frame) = decoder.read_next_frame().map_err(damaged)? {
        if data.len() + canvas.len() > most {
            return Err(LARGE);
        }
        let before = (frame.dispose == DisposalMethod::Previous).then(|| canvas.clone());
        let (left, top) = (usize::from(frame.left), usize::from(frame.top));
        let across = usize::from(frame.width);
        for (at, pixel) in frame.buffer.chunks_exact(4).enumerate() {
            let (x, y) = (left + at % across.max(1), top + at / across.max(1));
            let [r, g, b, alpha] = *pixel else { continue };
            if x < width && y < height && alpha > 0 {
                let place = canvas.get_mut((y * width + x) * 3..).unwrap_or_default();
                place.iter_mut().zip([r, g, b]).for_each(|(old, new)| *old = new);
            }
        }
        data.extend_from_slice(&canvas);
        count += 1;
        if let Some(before) = before {
            canvas = before;
        } else if frame.dispose == DisposalMethod::Background {
            for y in top..height.min(top + usize::from(frame.height)) {
                let row = canvas.get_mut((y * width + left.min(width)) * 3..).unwrap_or_default();
                let room = across.min(width - left.min(width)) * 3;
                row.iter_mut().take(room).for_each(|sample| *sample = 0);
            }
        }
    }
    if count == 0 {
        return Err(CodecError::Damaged("not a sound GIF"));
    }
    let description = Description {
        rows,
        columns,
        samples: 3,
        bits: 8,
        signed: false,
        photometric: "RGB",
        lossy: false,
    };
    Ok(Frames { description, count, data })
}
