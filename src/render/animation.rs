//! Moving pictures: animated GIF, written frame by frame.
//!
//! Owns delay, repetition and palettes: greys have one exact palette for all frames, colour has one
//! of up to 256 colours for each frame (exact if it has no more colours than that). Holds: memory is
//! one frame and what [`Animation::take`] has not fetched yet. Absent: which frames, and how long
//! the whole may become.

use gif::{Encoder, Frame, Repeat};

use super::{Picture, RenderError};
use crate::dicom::{Tag, data_set::Item};

/// A GIF on its way.
pub struct Animation {
    encoder: Encoder<Vec<u8>>,
    width: u16,
    height: u16,
    colour: bool,
    /// In hundredths of a second.
    delay: u16,
}

const FAILED: RenderError = RenderError::Unsupported("an animation of such frames");

/// Milliseconds of a frame where the instance does not say.
const FRAME_TIME: f64 = 100.0;

/// Quantisation: 1 looks at every pixel, 30 at every thirtieth.
const SPEED: i32 = 5;

impl Animation {
    /// Begins a GIF that repeats for ever. Every frame must have this size and be coloured or grey
    /// as said; `frame_time` is in milliseconds (see [`Animation::frame_time`]).
    ///
    /// # Errors
    /// [`RenderError::Unsupported`] for sizes that a GIF cannot have.
    pub fn new(
        width: u32,
        height: u32,
        colour: bool,
        frame_time: f64,
    ) -> Result<Self, RenderError> {
        let mut animation = Self::start(width, height, colour)?;
        animation.encoder.set_repeat(Repeat::Infinite).map_err(|_| FAILED)?;
        // Browsers take less than 20 ms for 100 ms.
        animation.delay = (frame_time / 10.0).round().clamp(2.0, 6000.0) as u16;
        Ok(animation)
    }

    /// A GIF of one frame, in which nothing moves.
    pub(super) fn single(picture: &Picture) -> Result<Self, RenderError> {
        Self::start(picture.width, picture.height, picture.colour)
    }

    fn start(width: u32, height: u32, colour: bool) -> Result<Self, RenderError> {
        let side = |side: u32| u16::try_from(side).ok().filter(|side| *side > 0).ok_or(FAILED);
        let (width, height) = (side(width)?, side(height)?);
        let greys: Vec<u8> =
            if colour { Vec::new() } else { (0..=255).flat_map(|n| [n; 3]).collect() };
        let encoder = Encoder::new(Vec::new(), width, height, &greys).map_err(|_| FAILED)?;
        Ok(Self { encoder, width, height, colour, delay: 0 })
    }

    /// How long the frames of an instance are shown, in milliseconds: Frame Time, the mean of Frame
    /// Time Vector, Recommended Display Frame Rate or Cine Rate, whichever it has first; else 100.
    pub fn frame_time(header: Item<'_>) -> f64 {
        let positive = |tag| header.number(tag).filter(|n| *n > 0.0 && n.is_finite());
        let vector: Vec<f64> = header.numbers(Tag(0x0018, 0x1065)).skip(1).collect();
        let mean = vector.iter().sum::<f64>() / vector.len() as f64;
        let rate = |tag| positive(tag).map(|rate| 1000.0 / rate);
        positive(Tag(0x0018, 0x1063))
            .or(Some(mean).filter(|mean| *mean > 0.0 && mean.is_finite()))
            .or_else(|| rate(Tag(0x0008, 0x2144)))
            .or_else(|| rate(Tag(0x0018, 0x0040)))
            .unwrap_or(FRAME_TIME)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// [`RenderError::Damaged`] if it is not of the size and kind that was announced.
    pub fn push(&mut self, picture: &Picture) -> Result<(), RenderError> {
        let length = usize::from(self.width) * usize::from(self.height);
        let length = if self.colour { 3 * length } else { length };
        let size = (u32::from(self.width), u32::from(self.height));
        let fits = (picture.width, picture.height) == size && picture.colour == self.colour;
        if !fits || picture.data.len() != length {
            return Err(RenderError::Damaged("frames of different sizes"));
        }
        let mut frame = if self.colour {
            Frame::from_rgb_speed(self.width, self.height, &picture.data, SPEED)
        } else {
            let buffer = picture.data.as_slice().into();
            Frame { width: self.width, height: self.height, buffer, ..Frame::default() }
        };
        frame.delay = self.delay;
        self.encoder.write_frame(&frame).map_err(|_| FAILED)
    }

    /// The bytes that have come since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.encoder.get_mut())
    }

    /// Ends the file: its bytes, but for those that were taken.
    pub fn finish(self) -> Vec<u8> {
        // Writing into memory does not fail.
        self.encoder.into_inner().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::data_set::DataSet;

    fn picture(colour: bool, shift: u32) -> Picture {
        let length = if colour { 300 } else { 100 };
        let data = (0..length).map(|n| (n * 5 + shift) as u8).collect();
        Picture { width: 10, height: 10, colour, data, icc: None }
    }

    fn frames(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            let rgb = frame.buffer.chunks(4).flat_map(|pixel| pixel[..3].to_vec()).collect();
            frames.push((frame.delay, rgb));
        }
        frames
    }

    fn rgb(picture: &Picture) -> Vec<u8> {
        if picture.colour {
            return picture.data.clone();
        }
        picture.data.iter().flat_map(|grey| [*grey; 3]).collect()
    }

    #[test]
    fn frames_come_back_as_they_were() {
        for colour in [false, true] {
            let mut animation = Animation::new(10, 10, colour, 40.0).unwrap();
            let mut bytes = Vec::new();
            for shift in 0..3 {
                animation.push(&picture(colour, shift)).unwrap();
                bytes.extend(animation.take());
            }
            assert!(animation.encoder.get_ref().is_empty());
            bytes.extend(animation.finish());
            let expected: Vec<_> = (0..3).map(|n| (4, rgb(&picture(colour, n)))).collect();
            assert_eq!(frames(&bytes), expected);
            assert!(bytes.windows(11).any(|name| name == b"NETSCAPE2.0"));
        }
    }

    #[test]
    fn a_single_picture_does_not_move() {
        let bytes = picture(false, 0).encode(&super::super::Format::Gif).unwrap();
        assert_eq!(frames(&bytes), [(0, rgb(&picture(false, 0)))]);
        assert!(!bytes.windows(11).any(|name| name == b"NETSCAPE2.0"));
    }

    #[test]
    fn frames_of_another_kind_are_refused() {
        let mut animation = Animation::new(10, 10, true, 40.0).unwrap();
        assert!(animation.push(&picture(false, 0)).is_err());
        assert!(animation.push(&Picture { width: 5, ..picture(true, 0) }).is_err());
        assert!(Animation::new(70_000, 10, true, 40.0).is_err());
        assert!(Animation::new(0, 10, true, 40.0).is_err());
    }

    #[test]
    fn times_are_found_where_they_are() {
        let time =
            |json: &str| Animation::frame_time(DataSet::parse(json.as_bytes()).unwrap().root());
        assert_eq!(
            time(r#"{"00181063":{"vr":"DS","Value":["33.3"]},"00180040":{"vr":"IS","Value":[5]}}"#),
            33.3
        );
        assert_eq!(time(r#"{"00181065":{"vr":"DS","Value":[0,20,40]}}"#), 30.0);
        assert_eq!(time(r#"{"00082144":{"vr":"IS","Value":[25]}}"#), 40.0);
        assert_eq!(time(r#"{"00180040":{"vr":"IS","Value":[10]}}"#), 100.0);
        assert_eq!(time(r#"{"00181063":{"vr":"DS","Value":[0]}}"#), FRAME_TIME);
    }
}
