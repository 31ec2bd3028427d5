//! JPEG-LS (ITU-T T.87, ISO/IEC 14495-1), lossless and near-lossless, both ways.
//!
//! Owns the marker segments ([`markers`]), the model that both sides share ([`model`]), and one side
//! each in [`decoder`] and [`encoder`]. Holds: nothing is allocated before the frame header agrees
//! with the layout; every line costs bounded time, also where the bytes have run out; samples are
//! bit patterns, signed ones being two's complement in `P` bits, as DICOM has them. Absent, and
//! refused: subsampled components, mapping tables, point transforms, colour transforms.

mod decoder;
mod encoder;
mod markers;
mod model;

use super::{CodecError, Encoded, Layout, Photometric, Raster, native};
use markers::{Frame, Interleave, Marker, Scan, Segments};
use model::Preset;

/// Decodes a frame. Colours come pixel after pixel, whatever the interleaving of the scans.
///
/// Samples stay as coded; signed ones are extended from the precision of the codestream, which may
/// differ from Bits Stored, to Bits Allocated.
///
/// # Errors
/// [`CodecError::Damaged`], [`CodecError::Unsupported`].
pub(super) fn decode(layout: &Layout, bytes: &[u8]) -> Result<Raster, CodecError> {
    let mut layout = layout.clone();
    layout.planar = false;
    if layout.photometric == Photometric::YbrFull422 {
        // There is no subsampling here, so that every pixel has its own chroma.
        layout.photometric = Photometric::YbrFull;
    }
    let mut segments = Segments::new(bytes)?;
    let mut frame = None;
    let mut preset = Preset::default();
    let mut restart = 0;
    let mut image = None;
    loop {
        match segments.next()? {
            Marker::Frame(_) if frame.is_some() => {
                return Err(CodecError::Damaged("two frame headers"));
            }
            Marker::Frame(header) => {
                let header = agreed(header, &layout)?;
                // A line takes one bit at the least.
                if usize::from(layout.rows) > bytes.len().saturating_mul(8) {
                    return Err(CodecError::Damaged("too few bytes"));
                }
                image = Some(Image::new(layout.clone(), &header));
                frame = Some(header);
            }
            Marker::Preset(values) => preset = values,
            Marker::RestartInterval(lines) => restart = lines,
            Marker::Scan(scan) => {
                let (Some(frame), Some(image)) = (&frame, &mut image) else {
                    return Err(CodecError::Damaged("a scan without a frame header"));
                };
                let components = image.begin(frame, &scan)?;
                let model = preset.complete(frame.precision, scan.near)?;
                decoder::scan(&mut segments, &model, &scan, restart, &components, image)?;
                if image.is_complete() {
                    break;
                }
            }
            Marker::End => break,
        }
    }
    image.and_then(Image::finish).ok_or(CodecError::Damaged("components are missing"))
}

/// Checks the frame header against the layout, before anything is allocated.
fn agreed(frame: Frame, layout: &Layout) -> Result<Frame, CodecError> {
    // Zero lines: a DNL segment after the scan tells (T.87 §C.2.4.3), and here the data set does.
    let rows = if frame.rows == 0 { u32::from(layout.rows) } else { frame.rows };
    if rows != u32::from(layout.rows) || frame.columns != u32::from(layout.columns) {
        return Err(CodecError::Damaged("another size than Rows and Columns say"));
    }
    if frame.components.len() != usize::from(layout.samples) {
        return Err(CodecError::Damaged("another number of components than Samples per Pixel"));
    }
    if frame.precision > u32::from(layout.bits_allocated) || layout.float {
        return Err(CodecError::Damaged("more bits than Bits Allocated says"));
    }
    Ok(Frame { rows, ..frame })
}

/// A native frame that is being filled, line by line.
struct Image {
    layout: Layout,
    precision: u32,
    data: Vec<u8>,
    seen: Vec<bool>,
}

impl Image {
    fn new(layout: Layout, frame: &Frame) -> Self {
        let data = vec![0; layout.frame_length()];
        Self { data, precision: frame.precision, seen: vec![false; frame.components.len()], layout }
    }

    /// Notes which components (by place in the frame) a scan holds: each only once.
    fn begin(&mut self, frame: &Frame, scan: &Scan) -> Result<Vec<usize>, CodecError> {
        let mut places = Vec::with_capacity(scan.components.len());
        for id in &scan.components {
            let place = frame.components.iter().position(|known| known == id);
            let new = place.and_then(|place| Some((place, self.seen.get_mut(place)?)));
            let Some((place, seen @ false)) = new else {
                return Err(CodecError::Damaged("components of a scan"));
            };
            *seen = true;
            places.push(place);
        }
        Ok(places)
    }

    fn is_complete(&self) -> bool {
        self.seen.iter().all(|seen| *seen)
    }

    /// Stores one line of a component.
    fn put(&mut self, row: usize, component: usize, line: &[i32]) {
        let (samples, bytes) = (usize::from(self.layout.samples), self.layout.sample_bytes());
        let length = usize::from(self.layout.columns) * samples * bytes;
        let cells = self.data.get_mut(row * length + component * bytes..).unwrap_or_default();
        let unused = if self.layout.signed { 32 - self.precision } else { 0 };
        let values = line.iter().map(|value| (value << unused) >> unused);
        match (bytes, samples) {
            (1, 1) => cells.iter_mut().zip(values).for_each(|(cell, value)| *cell = value as u8),
            (2, 1) => {
                let cells = cells.as_chunks_mut::<2>().0.iter_mut();
                cells.zip(values).for_each(|(cell, value)| *cell = (value as u16).to_le_bytes());
            }
            _ => {
                for (cell, value) in cells.chunks_mut(samples * bytes).zip(values) {
                    let value = i64::from(value).to_le_bytes();
                    cell.iter_mut().zip(value).take(bytes).for_each(|(to, from)| *to = from);
                }
            }
        }
    }

    fn finish(self) -> Option<Raster> {
        let complete = self.is_complete();
        complete.then_some(Raster { layout: self.layout, data: self.data })
    }
}

/// Encodes a frame without loss; YBR_FULL_422 becomes YBR_FULL, and colours pixel after pixel.
///
/// The codestream has the precision of Bits Stored, or of Bits Allocated where bits outside the
/// sample are in use, so that these survive too.
///
/// # Errors
/// [`CodecError::Unsupported`] for pixels that JPEG-LS cannot hold (PS3.5 Table 8.2.3-1);
/// [`CodecError::Damaged`] where the raster's bytes do not agree with its layout.
pub(super) fn encode(raster: &Raster) -> Result<Encoded, CodecError> {
    let raster = native::arranged(native::storable(raster)?.into_owned(), false)?;
    let precision = precision(&raster)?;
    Ok(write(raster, precision, 0))
}

/// Encodes a frame with a bounded error: NEAR is the greatest difference of any sample.
///
/// `quality` runs from 100, which is without loss, down to 1; every 10 less allow 0.4 % of the range
/// from the least to the greatest sample of the frame more: 90 is ±1 and 50 is ±5 for 8 bits in
/// full use, ±16 and ±82 for 12 bits. NEAR is at most 255 (T.87 §C.2.3). Signed frames get a lesser
/// one where reconstructed samples could otherwise change sign, and frames that use bits outside
/// the sample get 0.
///
/// # Errors
/// As [`encode`]; also [`CodecError::Unsupported`] for palette indices, which have no nearness.
pub(super) fn encode_near(raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    if raster.layout.photometric == Photometric::Palette {
        return Err(CodecError::Unsupported("palette indices with loss"));
    }
    let raster = native::arranged(native::storable(raster)?.into_owned(), false)?;
    let precision = precision(&raster)?;
    let near = near(&raster, precision, quality);
    Ok(write(raster, precision, near))
}

/// Bits of the codestream's samples.
fn precision(raster: &Raster) -> Result<u32, CodecError> {
    let layout = &raster.layout;
    let allocated = match layout.bits_allocated {
        8 => 8,
        16 => 16,
        _ => return Err(CodecError::Unsupported("samples of other than 8 or 16 bits")),
    };
    let stored = u32::from(layout.bits_stored).clamp(2, allocated);
    let unused = 32 - stored;
    let fits = |cell: i32| match layout.signed {
        true => (cell << unused) >> unused == cell,
        false => (cell as u32) >> stored == 0,
    };
    let clean = cells(raster, layout.signed).all(fits);
    Ok(if clean { stored } else { allocated })
}

/// The cells of a frame of 8 or 16 bits, in order.
fn cells(raster: &Raster, signed: bool) -> impl Iterator<Item = i32> {
    let (narrow, wide) = match raster.layout.bits_allocated {
        8 => (raster.data.as_slice(), [].as_slice()),
        _ => ([].as_slice(), raster.data.as_chunks::<2>().0),
    };
    let narrow = narrow
        .iter()
        .map(move |cell| if signed { i32::from(*cell as i8) } else { i32::from(*cell) });
    let wide = wide.iter().map(move |cell| match signed {
        true => i32::from(i16::from_le_bytes(*cell)),
        false => i32::from(u16::from_le_bytes(*cell)),
    });
    narrow.chain(wide)
}

/// NEAR for a quality, see [`encode_near`].
fn near(raster: &Raster, precision: u32, quality: u8) -> u32 {
    if precision > u32::from(raster.layout.bits_stored).max(2) {
        // Bits outside the sample mean something of their own.
        return 0;
    }
    let signed = raster.layout.signed;
    let extremes = |(least, most): (i32, i32), cell: i32| (least.min(cell), most.max(cell));
    let (least, most) = cells(raster, signed).fold((i32::MAX, i32::MIN), extremes);
    let range = most.saturating_sub(least).max(0) as u32;
    let loss = 100 - u32::from(quality.clamp(1, 100));
    let greatest = ((1_u32 << precision) - 1) / 2;
    let near = (range * loss + 1250) / 2500;
    // Patterns of the greatest and of the least number are neighbours: there is no way across.
    let half = 1_i32 << (precision - 1);
    let room = if signed { (half - 1 - most).min(least + half).max(0) as u32 } else { near };
    near.min(room).min(255).min(greatest)
}

fn write(raster: Raster, precision: u32, near: u32) -> Encoded {
    let layout = &raster.layout;
    let model = Preset::default().model(precision, near);
    let samples = usize::from(layout.samples);
    let interleave = if samples == 1 { Interleave::None } else { Interleave::Line };
    let mut data = Vec::with_capacity(raster.data.len() / 2 + 128);
    markers::write_header(layout, &model, precision, interleave, &mut data);
    let mask = (1 << precision) - 1;
    let patterns: Vec<i32> = cells(&raster, false).map(|cell| cell & mask).collect();
    encoder::scan(&patterns, usize::from(layout.columns), samples, interleave, &model, &mut data);
    markers::write_end(&mut data);
    Encoded { layout: raster.layout, data }
}

#[cfg(test)]
mod tests;
