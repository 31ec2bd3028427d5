//! Pixel data that comes beside the metadata: what its payload says of itself is filled in where the
//! metadata says nothing (PS3.18 §10.5.2), and must not contradict it.

use super::{Composition, Flaw, Place};
use crate::dicom::{
    Tag, VR,
    frames::{FrameTable, ImagePixel, Subsampling},
};

/// (7FE0,0010).
pub const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

const SAMPLES: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
const PLANAR: Tag = Tag(0x0028, 0x0006);
const FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const ALLOCATED: Tag = Tag(0x0028, 0x0100);
const STORED: Tag = Tag(0x0028, 0x0101);
const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
const SIGNED: Tag = Tag(0x0028, 0x0103);
const LOSSY: Tag = Tag(0x0028, 0x2110);

/// What the payload of pixel data says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// For (0028,0010).
    pub rows: u16,
    /// For (0028,0011).
    pub columns: u16,
    /// For (0028,0002).
    pub samples: u8,
    /// Bits of a sample: for (0028,0101).
    pub bits: u8,
    /// For (0028,0103).
    pub signed: bool,
    /// For (0028,0004).
    pub photometric: &'static str,
    /// Whether something was lost: for (0028,2110).
    pub lossy: bool,
}

impl Composition {
    /// (0028,0008); 1 where it is absent.
    pub fn frames(&self) -> u32 {
        self.text(FRAMES).and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(1)
    }

    /// Compares what pixel data says of itself with what the metadata says, and fills in what that
    /// lacks.
    ///
    /// # Errors
    /// The attribute that says otherwise.
    pub fn describe(&mut self, told: &Description) -> Result<(), Flaw> {
        let Description { rows, columns, samples, bits, .. } = *told;
        let numbers = [(ROWS, rows), (COLUMNS, columns), (SAMPLES, u16::from(samples))];
        for (tag, value) in numbers {
            if self.short(tag).is_some_and(|own| own != value) {
                return Err(Flaw { tag, what: "is not what the pixel data says" });
            }
        }
        let bits = u16::from(bits);
        if self.short(ALLOCATED).is_some_and(|own| own < bits) {
            return Err(Flaw { tag: ALLOCATED, what: "is less than the pixel data has" });
        }
        if self.short(SIGNED).is_some_and(|own| own == 0 && told.signed) {
            return Err(Flaw { tag: SIGNED, what: "is not what the pixel data says" });
        }
        let grey = |term: &str| ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"].contains(&term);
        if self.text(PHOTOMETRIC).is_some_and(|own| grey(own) != (samples == 1)) {
            return Err(Flaw { tag: PHOTOMETRIC, what: "does not fit the samples of a pixel" });
        }
        // What has its own words for the picture has them for its history.
        let is_told = self.short(ROWS).is_some();
        let mut short = |tag, value: u16| self.fill(tag, VR::US, &value.to_le_bytes());
        numbers.into_iter().for_each(|(tag, value)| short(tag, value));
        if samples > 1 {
            short(PLANAR, 0);
        }
        short(ALLOCATED, if bits > 8 { 16 } else { 8 });
        let stored = self.short(STORED).unwrap_or(bits);
        self.fill(STORED, VR::US, &stored.to_le_bytes());
        self.fill(HIGH_BIT, VR::US, &stored.saturating_sub(1).to_le_bytes());
        self.fill(SIGNED, VR::US, &u16::from(told.signed).to_le_bytes());
        self.fill(PHOTOMETRIC, VR::CS, told.photometric.as_bytes());
        if told.lossy && !is_told {
            self.fill(LOSSY, VR::CS, b"01");
        }
        Ok(())
    }

    /// As [`Self::describe`], of that many frames.
    ///
    /// # Errors
    /// As [`Self::describe`], and where (0028,0008) says otherwise.
    pub fn describe_frames(&mut self, told: &Description, count: u32) -> Result<(), Flaw> {
        self.describe(told)?;
        if self.text(FRAMES).is_some() && self.frames() != count {
            return Err(Flaw { tag: FRAMES, what: "is not what the pixel data says" });
        }
        if count > 1 {
            self.fill(FRAMES, VR::IS, count.to_string().as_bytes());
        }
        Ok(())
    }

    fn image(&self) -> ImagePixel {
        ImagePixel {
            rows: self.short(ROWS),
            columns: self.short(COLUMNS),
            samples_per_pixel: self.short(SAMPLES),
            bits_allocated: self.short(ALLOCATED),
            number_of_frames: Some(self.frames()),
            subsampling: self.text(PHOTOMETRIC).and_then(|t| Subsampling::of(t.as_bytes())),
        }
    }

    /// How long native pixel data is that comes for `place`, where the attributes tell.
    pub fn native_length(&self, place: &Place) -> Option<u64> {
        let bits = default_bits(place)?;
        let image = self.image();
        if image.subsampling.is_some() {
            return None;
        }
        let frame = u64::from(image.rows?) * u64::from(image.columns?);
        let frame = frame * u64::from(image.samples_per_pixel.unwrap_or(1));
        let frame = frame.checked_mul(u64::from(image.bits_allocated.or(bits)?))?;
        Some(frame.checked_mul(u64::from(image.frames()))?.div_ceil(8))
    }

    /// Checks that native pixel data of so many bytes is what the attributes say.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check_native(&self, place: &Place, length: u64) -> Result<(), Flaw> {
        let Some(bits) = default_bits(place) else { return Ok(()) };
        let image = self.image();
        let fits = match image.native(0, length, bits) {
            Some(FrameTable::Native { frame_bits, frames, .. }) => {
                let needed = frame_bits.saturating_mul(u64::from(frames)).div_ceil(8);
                frames == image.frames() && length - needed <= 1
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(Flaw { tag: place.tag, what: "is not as long as the attributes say" })
        }
    }
}

/// Bits of a sample where (0028,0100) says nothing; `None` for what is no pixel data.
fn default_bits(place: &Place) -> Option<Option<u16>> {
    match place.tag {
        PIXEL_DATA if place.top => Some(None),
        Tag(0x7FE0, 0x0008) if place.top => Some(Some(32)),
        Tag(0x7FE0, 0x0009) if place.top => Some(Some(64)),
        _ => None,
    }
}
