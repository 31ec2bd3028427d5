//! JPEG (ITU-T T.81, ISO/IEC 10918-1): the processes of DICOM (PS3.5 §8.2.1, §A.4.1, §A.4.2).
//!
//! Owns decoding of every Huffman-coded process that DICOM has or had: baseline, extended,
//! progressive and lossless; and encoding of baseline, extended and lossless frames. A codestream
//! is decoded for what it is, whichever of these transfer syntaxes names it. Holds: no unsafe code,
//! no allocation beyond what the attributes announce, an error instead of a guess where bytes are
//! missing. Absent: arithmetic coding and hierarchical frames, JPEG-LS, JPEG 2000.

mod bits;
mod dct;
mod dct_encode;
mod huffman;
mod idct;
mod lossless;
mod lossless_encode;
mod output;
mod plane;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use self::{
    dct::Coefficients,
    output::Finish,
    stream::{Event, Frame, Process, Stream},
};
use super::{CodecError, Encoded, Layout, Photometric, Raster};

/// More scans than any encoder makes: a limit on time.
const SCANS: usize = 100;

fn damaged(what: &'static str) -> CodecError {
    CodecError::Damaged(what)
}

/// Baseline, process 1.
pub(super) const BASELINE: &str = "1.2.840.10008.1.2.4.50";
/// Extended, processes 2 and 4.
pub(super) const EXTENDED: &str = "1.2.840.10008.1.2.4.51";
/// Retired: spectral selection, processes 6 and 8.
pub(super) const SPECTRAL: &str = "1.2.840.10008.1.2.4.53";
/// Retired: full progression, processes 10 and 12.
pub(super) const PROGRESSIVE: &str = "1.2.840.10008.1.2.4.55";
/// Lossless, process 14 with any predictor.
pub(super) const LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
/// Lossless, process 14 with predictor 1.
pub(super) const LOSSLESS_SV1: &str = "1.2.840.10008.1.2.4.70";

/// Encodes one frame into [`BASELINE`]: unsigned samples of up to 8 bits, grey or colour. Colour
/// becomes YBR_FULL_422 (YBR_FULL where the number of columns is odd). `quality` is 1 to 100.
///
/// # Errors
/// [`CodecError::Unsupported`] for other samples.
pub(super) fn encode_baseline(raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    dct_encode::baseline(raster, quality)
}

/// Encodes one frame into [`EXTENDED`]: as [`encode_baseline`], and grey of 9 to 12 bits, which is
/// said to be 12 from then on.
///
/// # Errors
/// [`CodecError::Unsupported`] for other samples.
pub(super) fn encode_extended(raster: &Raster, quality: u8) -> Result<Encoded, CodecError> {
    dct_encode::extended(raster, quality)
}

/// Encodes one frame into [`LOSSLESS`] or, with predictor 1, into [`LOSSLESS_SV1`]: 1 or 3 samples
/// of 8 or 16 bits allocated, which come back bit for bit.
///
/// # Errors
/// [`CodecError::Unsupported`] for other samples.
pub(super) fn encode_lossless(raster: &Raster, syntax: &str) -> Result<Encoded, CodecError> {
    lossless_encode::encode(raster, (syntax != LOSSLESS).then_some(1))
}

/// Decodes one frame. Colour that was transformed for DCT becomes RGB; lossless samples are kept.
///
/// # Errors
/// [`CodecError`].
pub(super) fn decode(layout: &Layout, bytes: &[u8]) -> Result<Raster, CodecError> {
    if ![8, 16].contains(&layout.bits_allocated) || layout.float {
        return Err(CodecError::Unsupported("JPEG with such samples"));
    }
    let mut stream = Stream::new(bytes)?;
    let Event::Frame(frame) = stream.next()? else { return Err(damaged("no frame header")) };
    let frame = fit(frame, layout)?;
    let (grid, mut planes) = plane::planes(&frame, stream.remaining())?;
    let mut coefficients = Coefficients::new(frame.process, frame.precision, &planes);
    let mut shift = None;
    let mut scans = 0;
    while frame.process == Process::Progressive || planes.iter().any(|plane| !plane.done) {
        let scan = match stream.next()? {
            Event::Scan(scan) => scan,
            Event::Lines(rows) if rows == frame.rows => continue,
            Event::Lines(_) => return Err(damaged("number of lines")),
            Event::Frame(_) => return Err(damaged("two frames")),
            Event::End => break,
        };
        scans += 1;
        if scans > SCANS {
            return Err(damaged("too many scans"));
        }
        match frame.process {
            Process::Sequential => {
                coefficients.sequential(&mut stream, &scan, &grid, &mut planes)?;
            }
            Process::Progressive => {
                coefficients.progressive(&mut stream, &scan, &grid, &mut planes)?;
            }
            Process::Lossless => {
                if *shift.get_or_insert(scan.low) != scan.low {
                    return Err(CodecError::Unsupported("point transforms that differ"));
                }
                lossless::scan(&mut stream, &scan, &grid, &mut planes, frame.precision)?;
            }
        }
    }
    if planes.iter().any(|plane| !plane.done) {
        return Err(damaged("a component is missing"));
    }
    // Nothing else tells that the scan which makes a progressive frame exact was the last one.
    if frame.process == Process::Progressive && !stream.ended {
        return Err(damaged("no end of image"));
    }
    coefficients.finish(&mut planes);
    let lossless = frame.process == Process::Lossless;
    let convert = !lossless && layout.samples == 3 && is_ycbcr(&stream, &frame, layout);
    let photometric = match layout.photometric {
        _ if layout.samples == 3 && !lossless => Photometric::Rgb,
        // What was sub-sampled is not any more.
        Photometric::YbrFull422 => Photometric::YbrFull,
        unchanged => unchanged,
    };
    let layout = Layout { planar: false, photometric, ..layout.clone() };
    let finish = Finish {
        precision: frame.precision,
        shift: shift.unwrap_or(0),
        smooth: !lossless,
        convert,
        bytes: layout.sample_bytes(),
        signed: layout.signed.then_some(frame.precision.max(layout.bits_stored)),
    };
    let (columns, rows) = (usize::from(frame.columns), usize::from(frame.rows));
    let data = output::native(&grid, &planes, columns, rows, finish);
    Ok(Raster { layout, data })
}

/// Holds a frame header against the attributes. The frame gets its number of lines from there if
/// it has none yet.
fn fit(frame: Frame, layout: &Layout) -> Result<Frame, CodecError> {
    let rows = if frame.rows == 0 { layout.rows } else { frame.rows };
    if (rows, frame.columns) != (layout.rows, layout.columns) {
        return Err(damaged("size of the image"));
    }
    if frame.components.len() != usize::from(layout.samples) {
        return Err(damaged("number of components"));
    }
    if frame.precision > layout.bits_allocated {
        return Err(damaged("bits of a sample"));
    }
    Ok(Frame { rows, ..frame })
}

/// Whether three DCT components are luminance and chroma. What the codestream says of itself goes
/// before the attributes, which are often left over from before compression.
fn is_ycbcr(stream: &Stream<'_>, frame: &Frame, layout: &Layout) -> bool {
    let identifiers: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    let named_rgb = [b"RGB".as_slice(), b"rgb"].contains(&identifiers.as_slice());
    let first = frame.components.first().map(|c| (c.h, c.v));
    let subsampled = frame.components.iter().any(|c| Some((c.h, c.v)) != first);
    let rgb = layout.photometric == Photometric::Rgb;
    match (stream.jfif, stream.adobe) {
        _ if named_rgb => false,
        (_, Some(0)) if rgb => false,
        (true, _) => true,
        (false, Some(transform)) => transform != 0,
        // Nobody halves one of red, green and blue.
        (false, None) => !rgb || subsampled,
    }
}
