//! Pictures as files (PS3.18 §8.7.4).
//!
//! Owns the formats and their settings. JPEG is baseline with 8 bits and Huffman coding, grey with
//! one component; `quality` is that of the Independent JPEG Group's tables. Colour keeps all its
//! chroma from quality 90 on and half of it, horizontally, below. PNG, GIF of greys and JPEG XL
//! lose nothing; GIF of more than 256 colours is quantised. Holds: equal pictures give equal bytes.
//! Absent: moving pictures ([`super::Animation`]).

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use zune_core::{bit_depth::BitDepth, colorspace::ColorSpace, options::EncoderOptions};
use zune_jpegxl::JxlSimpleEncoder;

use super::{Picture, RenderError};

/// What a picture is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG baseline.
    Jpeg {
        /// 1 (small) to 100 (good); what is outside is put inside.
        quality: u8,
    },
    /// PNG.
    Png,
    /// GIF of one frame.
    Gif,
    /// JPEG XL, lossless.
    JpegXl,
}

/// From here on JPEG keeps all chroma samples.
const FULL_CHROMA: u8 = 90;

const FAILED: RenderError = RenderError::Unsupported("a picture of this size in this format");

impl Format {
    /// The media type, without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::JpegXl => "image/jxl",
        }
    }

    /// Whether an ICC profile can be embedded. Elsewhere one in the picture is left out.
    pub fn holds_icc(self) -> bool {
        matches!(self, Self::Jpeg { .. } | Self::Png)
    }
}

impl Picture {
    /// The bytes of a file.
    ///
    /// # Errors
    /// [`RenderError::Unsupported`] where the format does not hold pictures of this size, and
    /// [`RenderError::Damaged`] where the picture has not as many pixels as it says.
    pub fn encode(&self, format: &Format) -> Result<Vec<u8>, RenderError> {
        let channels = if self.colour { 3 } else { 1 };
        let length = u64::from(self.width) * u64::from(self.height) * channels;
        if self.data.len() as u64 != length || length == 0 {
            return Err(RenderError::Damaged("the picture's size"));
        }
        match *format {
            Format::Jpeg { quality } => self.jpeg(quality.clamp(1, 100)),
            Format::Png => self.png().map_err(|_| FAILED),
            Format::Gif => self.gif(),
            Format::JpegXl => self.jpeg_xl(),
        }
    }

    /// Width and height where the format counts them in 16 bits.
    pub(super) fn short_size(&self) -> Result<(u16, u16), RenderError> {
        let side = |side: u32| u16::try_from(side).map_err(|_| FAILED);
        Ok((side(self.width)?, side(self.height)?))
    }

    fn jpeg(&self, quality: u8) -> Result<Vec<u8>, RenderError> {
        let (width, height) = self.short_size()?;
        let mut out = Vec::with_capacity(self.data.len() / 4);
        let mut encoder = Encoder::new(&mut out, quality);
        let full = quality >= FULL_CHROMA;
        encoder.set_sampling_factor(if full {
            SamplingFactor::R_4_4_4
        } else {
            SamplingFactor::R_4_2_2
        });
        if let Some(icc) = &self.icc {
            // One that needs more than 255 segments is left out.
            let _ = encoder.add_icc_profile(icc);
        }
        let kind = if self.colour { ColorType::Rgb } else { ColorType::Luma };
        encoder.encode(&self.data, width, height, kind).map_err(|_| FAILED)?;
        Ok(out)
    }

    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut info = png::Info::with_size(self.width, self.height);
        info.color_type = if self.colour { png::ColorType::Rgb } else { png::ColorType::Grayscale };
        info.bit_depth = png::BitDepth::Eight;
        info.icc_profile = self.icc.as_deref().map(Into::into);
        let mut out = Vec::with_capacity(self.data.len() / 2);
        let mut encoder = png::Encoder::with_info(&mut out, info)?;
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.data)?;
        writer.finish()?;
        Ok(out)
    }

    fn gif(&self) -> Result<Vec<u8>, RenderError> {
        let mut animation = super::Animation::single(self)?;
        animation.push(self)?;
        Ok(animation.finish())
    }

    fn jpeg_xl(&self) -> Result<Vec<u8>, RenderError> {
        let (width, height) = (self.width as usize, self.height as usize);
        let space = if self.colour { ColorSpace::RGB } else { ColorSpace::Luma };
        let options = EncoderOptions::new(width, height, space, BitDepth::Eight);
        let mut out = Vec::new();
        JxlSimpleEncoder::new(&self.data, options).encode(&mut out).map_err(|_| FAILED)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(colour: bool) -> Picture {
        let (width, height) = (40, 30);
        let channels = if colour { 3 } else { 1 };
        let data = (0..width * height * channels).map(|n| (n * 7 % 256) as u8).collect();
        Picture { width, height, colour, data, icc: None }
    }

    fn decoded_png(bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (pixels, reader.info().icc_profile.as_ref().map(|icc| icc.to_vec()))
    }

    #[test]
    fn png_holds_every_pixel_and_the_profile() {
        for colour in [false, true] {
            let picture = Picture { icc: Some(vec![7; 300]), ..picture(colour) };
            let (pixels, icc) = decoded_png(&picture.encode(&Format::Png).unwrap());
            assert_eq!((pixels, icc), (picture.data, picture.icc));
        }
    }

    #[test]
    fn jpeg_is_baseline_with_one_or_three_components() {
        for (colour, quality, sampling) in [(false, 80, 0x11), (true, 80, 0x21), (true, 95, 0x11)] {
            let bytes = picture(colour).encode(&Format::Jpeg { quality }).unwrap();
            let at = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
            let frame = &bytes[at + 4..];
            assert_eq!(frame[..5], [8, 0, 30, 0, 40]);
            assert_eq!(frame[5], if colour { 3 } else { 1 });
            assert_eq!(frame[7], sampling);
        }
    }

    #[test]
    fn jpeg_splits_long_profiles_into_segments() {
        let icc: Vec<u8> = (0..150_000_u32).map(|n| n as u8).collect();
        let picture = Picture { icc: Some(icc), ..picture(true) };
        let bytes = picture.encode(&Format::Jpeg { quality: 50 }).unwrap();
        let name = b"ICC_PROFILE\0";
        let parts: Vec<usize> =
            (0..bytes.len() - 14).filter(|at| bytes[*at..].starts_with(name)).collect();
        let numbers: Vec<_> = parts.iter().map(|at| (bytes[at + 12], bytes[at + 13])).collect();
        assert_eq!(numbers, [(1, 3), (2, 3), (3, 3)]);
    }

    #[test]
    fn quality_decides_the_size() {
        let size = |quality| picture(false).encode(&Format::Jpeg { quality }).unwrap().len();
        assert!(size(1) < size(50) && size(50) < size(100));
        assert_eq!(size(0), size(1));
    }

    #[test]
    fn jpeg_xl_begins_as_it_should() {
        for colour in [false, true] {
            let bytes = picture(colour).encode(&Format::JpegXl).unwrap();
            assert_eq!(bytes[..2], [0xFF, 0x0A]);
        }
    }

    #[test]
    fn pictures_that_lie_are_refused() {
        for format in [Format::Jpeg { quality: 90 }, Format::Png, Format::Gif, Format::JpegXl] {
            let short = Picture { width: 41, ..picture(false) };
            assert!(short.encode(&format).is_err());
            let empty = Picture { width: 0, data: Vec::new(), ..picture(false) };
            assert!(empty.encode(&format).is_err());
            assert!(format.media_type().starts_with("image/"));
        }
    }
}
