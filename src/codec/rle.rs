//! RLE Lossless (PS3.5 Annex G): the bytes of all samples' cells by significance, one segment each,
//! packed as runs.
//!
//! Holds: no segment gives more bytes than the frame has pixels. Tolerated, as others do: segments
//! that hold more than that, run over odd offsets, or whose last run is cut off by padding. Absent:
//! more than 15 segments, which the header cannot describe.

use super::{CodecError, Encoded, Layout, Photometric, Raster, native};

/// Bytes of the header: the number of segments and 15 offsets, 32 bits each (§G.5).
const HEADER: usize = 64;

/// Decodes a frame. Planar Configuration stays that of `layout`: segments are planes whatever it
/// says, and §G.2 leaves the value open, so it tells how the frame is to be when it is native.
///
/// # Errors
/// [`CodecError::Damaged`] where header or segments do not agree with the layout;
/// [`CodecError::Unsupported`] where they would be more than 15.
pub(super) fn decode(layout: &Layout, frame: &[u8]) -> Result<Raster, CodecError> {
    let mut layout = layout.clone();
    if layout.photometric == Photometric::YbrFull422 {
        // Segments are equally long, so that every pixel has its own chroma.
        layout.photometric = Photometric::YbrFull;
    }
    let segments = segments(&layout)?;
    let (header, _) = frame.as_chunks::<4>();
    let header = header.get(..HEADER / 4).ok_or(CodecError::Damaged("no RLE header"))?;
    let mut header = header.iter().map(|word| u32::from_le_bytes(*word) as usize);
    if header.next() != Some(segments) {
        return Err(CodecError::Damaged("another number of RLE segments than samples have bytes"));
    }
    let offsets: Vec<usize> = header.take(segments).chain([frame.len()]).collect();
    let pixels = layout.pixels();
    // Two bytes make 128 at the most.
    if frame.len().saturating_mul(64) < layout.frame_length() {
        return Err(CodecError::Damaged("too few bytes"));
    }
    let mut plane = Vec::with_capacity(pixels);
    let mut data =
        if layout.bits_allocated == 1 { Vec::new() } else { vec![0; layout.frame_length()] };
    for (number, bounds) in offsets.windows(2).enumerate() {
        let &[start, end] = bounds else { continue };
        let segment = frame.get(start..end.min(frame.len())).filter(|_| start >= HEADER);
        let segment = segment.ok_or(CodecError::Damaged("an RLE segment outside the frame"))?;
        plane.clear();
        unpack(segment, pixels, &mut plane);
        if layout.bits_allocated == 1 {
            data = single_bits(&plane, pixels)?;
        } else if plane.len() < pixels {
            return Err(CodecError::Damaged("an RLE segment with too few bytes"));
        } else {
            let (first, stride) = place(&layout, number);
            let cells = data.get_mut(first..).unwrap_or_default();
            match stride {
                1 => cells.iter_mut().zip(&plane).for_each(|(cell, byte)| *cell = *byte),
                2 => scatter::<2>(cells, &plane),
                3 => scatter::<3>(cells, &plane),
                4 => scatter::<4>(cells, &plane),
                _ => cells.iter_mut().step_by(stride).zip(&plane).for_each(|(c, b)| *c = *b),
            }
        }
    }
    Ok(Raster { layout, data })
}

/// Number of segments of a layout.
fn segments(layout: &Layout) -> Result<usize, CodecError> {
    let segments = usize::from(layout.samples) * layout.sample_bytes();
    match (segments, layout.photometric) {
        (16.., _) => Err(CodecError::Unsupported("more than 15 RLE segments")),
        (_, Photometric::YbrPartial422 | Photometric::YbrPartial420) => {
            Err(CodecError::Unsupported("retired forms of subsampled chroma"))
        }
        _ if layout.bits_allocated == 1 && layout.samples > 1 => {
            Err(CodecError::Unsupported("colours of single bits"))
        }
        _ => Ok(segments),
    }
}

/// Where the bytes of segment `number` (from 0) are in a native frame: the first, and the distance
/// to the next. Segments begin with the most significant byte of the first sample.
fn place(layout: &Layout, number: usize) -> (usize, usize) {
    let bytes = layout.sample_bytes();
    let (sample, byte) = (number / bytes, bytes - 1 - number % bytes);
    if layout.planar {
        (sample * bytes * layout.pixels() + byte, bytes)
    } else {
        (sample * bytes + byte, usize::from(layout.samples) * bytes)
    }
}

/// Writes a plane to the first byte of each run of `N`.
fn scatter<const N: usize>(cells: &mut [u8], plane: &[u8]) {
    for (cell, byte) in cells.chunks_mut(N).zip(plane) {
        if let Some(slot) = cell.first_mut() {
            *slot = *byte;
        }
    }
}

/// Packs the bytes of a frame of single bits. By the letter each pixel is a byte (§G.2, Padded
/// Composite Pixel Code); some writers packed eight into one.
fn single_bits(plane: &[u8], pixels: usize) -> Result<Vec<u8>, CodecError> {
    let packed = pixels.div_ceil(8);
    if plane.len() == pixels {
        let bits: Vec<u8> = plane.iter().map(|byte| u8::from(*byte != 0)).collect();
        Ok(native::packed(&bits))
    } else if plane.len() == packed || plane.len() == packed + 1 {
        Ok(plane.iter().take(packed).copied().collect())
    } else {
        Err(CodecError::Damaged("an RLE segment with too few bytes"))
    }
}

/// Unpacks runs (§G.3.2) until there are `wanted` bytes or no more runs.
fn unpack(mut segment: &[u8], wanted: usize, out: &mut Vec<u8>) {
    while let Some((&code, rest)) = segment.split_first() {
        let left = wanted.saturating_sub(out.len());
        if left == 0 {
            return;
        }
        segment = rest;
        let code = usize::from(code);
        if code < 128 {
            let (run, rest) = segment.split_at(segment.len().min(code + 1));
            out.extend_from_slice(run.get(..left).unwrap_or(run));
            segment = rest;
        } else if code > 128
            && let Some((&byte, rest)) = segment.split_first()
        {
            out.resize(out.len() + left.min(257 - code), byte);
            segment = rest;
        }
    }
}

/// Encodes a frame; YBR_FULL_422 becomes YBR_FULL.
///
/// # Errors
/// [`CodecError::Unsupported`] for pixels that RLE cannot hold; [`CodecError::Damaged`] where the
/// raster's bytes do not agree with its layout.
pub(super) fn encode(raster: &Raster) -> Result<Encoded, CodecError> {
    let raster = native::storable(raster)?;
    let layout = &raster.layout;
    let segments = segments(layout)?;
    let single = layout.bits_allocated == 1;
    let pixels = layout.pixels();
    let mut data = Vec::with_capacity(HEADER + raster.data.len());
    data.resize(HEADER, 0);
    let mut header = vec![segments as u32];
    for number in 0..segments {
        let plane: Vec<u8> = if single {
            native::unpacked(&raster.data, pixels)
        } else {
            let (first, stride) = place(layout, number);
            gather(raster.data.get(first..).unwrap_or_default(), stride, pixels)
        };
        let offset = u32::try_from(data.len());
        header.push(offset.map_err(|_| CodecError::Unsupported("RLE frames beyond 4 GiB"))?);
        // Runs do not cross rows (§G.3.1).
        plane.chunks(usize::from(layout.columns).max(1)).for_each(|row| pack(row, &mut data));
        if data.len() % 2 == 1 {
            data.push(0);
        }
    }
    for (slot, word) in data.chunks_exact_mut(4).zip(header) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Ok(Encoded { layout: layout.clone(), data })
}

/// The first byte of each of the first `pixels` runs of `stride`.
fn gather(cells: &[u8], stride: usize, pixels: usize) -> Vec<u8> {
    let first = |run: &[u8]| run.first().copied().unwrap_or_default();
    match stride {
        2 => cells.chunks(2).take(pixels).map(first).collect(),
        _ => cells.iter().step_by(stride).take(pixels).copied().collect(),
    }
}

/// Packs one row as runs (§G.3.1).
fn pack(row: &[u8], out: &mut Vec<u8>) {
    let mut rest = row;
    while let Some((&byte, after)) = rest.split_first() {
        let run = 1 + after.iter().take(127).take_while(|next| **next == byte).count();
        if run > 1 {
            out.extend([(257 - run) as u8, byte]);
            rest = rest.get(run..).unwrap_or_default();
            continue;
        }
        // Two bytes alike inside a literal run cost less as part of it, three do not.
        let alike = |bytes: &[u8; 3]| bytes[0] == bytes[1] && bytes[1] == bytes[2];
        let literal = rest.array_windows().position(alike).unwrap_or(rest.len());
        let (bytes, after) = rest.split_at(literal);
        pack_literal(bytes, out);
        rest = after;
    }
}

/// Writes bytes that stand for themselves.
fn pack_literal(bytes: &[u8], out: &mut Vec<u8>) {
    for run in bytes.chunks(128) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

#[cfg(test)]
mod tests;
