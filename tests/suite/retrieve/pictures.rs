//! What the tests of pictures share: instances with known pixels, and pictures read back.

use std::io::Cursor;

use crate::harness::{
    Dicom,
    corpus::{EXPLICIT, JPEG_BASELINE},
};

/// A window under which sixteen values 0 to 15 are shown as 17 times themselves.
pub const WINDOW: &str = "window=8,16,linear";

pub const SR: &str = "1.2.840.10008.5.1.4.1.1.88.11";
pub const RAW: &str = "1.2.840.10008.5.1.4.1.1.66";
pub const MPEG4: &str = "1.2.840.10008.1.2.4.102";

/// The greys that the frame of [`Dicom::ct`] has under [`WINDOW`], 4 × 4.
pub fn greys() -> Vec<u8> {
    (0..16).map(|value| 17 * value).collect()
}

/// A CT with `frames` frames of 4 × 4 pixels; each has one value, its number.
pub fn multi_frame(instance: &str, frames: u16) -> Dicom {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", instance);
    ct.text(0x0028, 0x0008, "IS", &frames.to_string());
    ct.pixels((1..=frames).flat_map(|n| [n; 16]).collect());
    ct
}

/// A structured report that says one thing.
pub fn report(instance: &str) -> Dicom {
    let mut concept = Dicom::item();
    concept
        .text(0x0008, 0x0100, "SH", "121071")
        .text(0x0008, 0x0102, "SH", "DCM")
        .text(0x0008, 0x0104, "LO", "Finding");
    let mut finding = Dicom::item();
    finding
        .text(0x0040, 0xA010, "CS", "CONTAINS")
        .text(0x0040, 0xA040, "CS", "TEXT")
        .sequence(0x0040, 0xA043, vec![concept.clone()])
        .text(0x0040, 0xA160, "UT", "Nothing <unusual>");
    let mut report = without_pixels(instance, SR, "SR");
    report
        .text(0x0040, 0xA040, "CS", "CONTAINER")
        .text(0x0040, 0xA050, "CS", "SEPARATE")
        .sequence(0x0040, 0xA043, vec![concept])
        .sequence(0x0040, 0xA730, vec![finding]);
    report
}

/// An instance without pixel data.
pub fn without_pixels(instance: &str, class: &str, modality: &str) -> Dicom {
    let mut dicom = Dicom::ct("1.2.1", "1.2.1.1", instance);
    dicom.text(0x0008, 0x0016, "UI", class).text(0x0008, 0x0060, "CS", modality);
    for element in [0x0002, 0x0004, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103] {
        dicom.remove(0x0028, element);
    }
    dicom.remove(0x7FE0, 0x0010);
    dicom.syntax(EXPLICIT);
    dicom
}

/// An image whose only frame is no JPEG although it should be.
pub fn damaged(instance: &str) -> Dicom {
    let mut dicom = Dicom::ct("1.2.1", "1.2.1.1", instance);
    for (element, value) in [(0x0100, 8), (0x0101, 8), (0x0102, 7)] {
        dicom.short(0x0028, element, value);
    }
    dicom.encapsulated(JPEG_BASELINE, vec![b"no codestream".to_vec()]);
    dicom
}

/// A picture read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub width: u32,
    pub height: u32,
    /// One byte for each pixel of a grey picture, three for colour.
    pub pixels: Vec<u8>,
}

/// Reads a PNG.
#[track_caller]
pub fn png(bytes: &[u8]) -> Read {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("a whole PNG");
    pixels.truncate(info.buffer_size());
    Read { width: info.width, height: info.height, pixels }
}

/// Reads a JPEG as greys.
#[track_caller]
pub fn jpeg(bytes: &[u8]) -> Read {
    use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::Luma);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().expect("a JPEG");
    let (width, height) = decoder.dimensions().expect("a size");
    Read { width: width as u32, height: height as u32, pixels }
}

/// The frames of a GIF, as greys, with their delays in hundredths of a second.
#[track_caller]
pub fn gif(bytes: &[u8]) -> Vec<(Read, u16)> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(Cursor::new(bytes)).expect("a GIF");
    let mut frames = Vec::new();
    while let Some(frame) = decoder.read_next_frame().expect("a whole GIF") {
        let pixels = frame.buffer.chunks(4).map(|rgba| rgba[0]).collect();
        let read = Read { width: frame.width.into(), height: frame.height.into(), pixels };
        frames.push((read, frame.delay));
    }
    frames
}
