//! What the Image Pixel module says about a frame (PS3.3 §C.7.6.3).

use crate::dicom::{Tag, data_set::Item};

/// (0028,0004) Photometric Interpretation (PS3.3 §C.7.6.3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Photometric {
    /// The least value is white.
    Monochrome1,
    /// The least value is black.
    Monochrome2,
    /// Indices into three tables.
    Palette,
    /// Red, green, blue.
    Rgb,
    /// Retired: red, green, blue and alpha.
    Argb,
    /// ITU-R BT.601 over the full range.
    YbrFull,
    /// The same with half the chroma, horizontally.
    YbrFull422,
    /// Retired: over the partial range, half the chroma horizontally.
    YbrPartial422,
    /// Over the partial range, a quarter of the chroma.
    YbrPartial420,
    /// Irreversible colour transform of JPEG 2000.
    YbrIct,
    /// Reversible colour transform of JPEG 2000.
    YbrRct,
    /// JPEG XL's XYB.
    Xyb,
}

impl Photometric {
    /// Reads a defined term.
    pub fn parse(term: &str) -> Option<Self> {
        Self::TERMS.iter().find(|(_, name)| *name == term.trim()).map(|(value, _)| *value)
    }

    /// The defined term.
    pub fn term(self) -> &'static str {
        Self::TERMS.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| name)
    }

    const TERMS: [(Self, &'static str); 12] = [
        (Self::Monochrome1, "MONOCHROME1"),
        (Self::Monochrome2, "MONOCHROME2"),
        (Self::Palette, "PALETTE COLOR"),
        (Self::Rgb, "RGB"),
        (Self::Argb, "ARGB"),
        (Self::YbrFull, "YBR_FULL"),
        (Self::YbrFull422, "YBR_FULL_422"),
        (Self::YbrPartial422, "YBR_PARTIAL_422"),
        (Self::YbrPartial420, "YBR_PARTIAL_420"),
        (Self::YbrIct, "YBR_ICT"),
        (Self::YbrRct, "YBR_RCT"),
        (Self::Xyb, "XYB"),
    ];

    /// Whether there are three colour channels.
    pub fn is_colour(self) -> bool {
        !matches!(self, Self::Monochrome1 | Self::Monochrome2 | Self::Palette)
    }
}

/// How the samples of a frame lie in its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// (0028,0010), at least 1.
    pub rows: u16,
    /// (0028,0011), at least 1.
    pub columns: u16,
    /// (0028,0002): 1, 3 or 4.
    pub samples: u8,
    /// (0028,0100): 1, 8, 16, 32 or 64.
    pub bits_allocated: u8,
    /// (0028,0101), at most `bits_allocated`.
    pub bits_stored: u8,
    /// (0028,0102), less than `bits_allocated`, at least `bits_stored - 1`.
    pub high_bit: u8,
    /// (0028,0103) is 1: two's complement.
    pub signed: bool,
    /// The samples are IEEE 754 numbers of 32 or 64 bits: (7FE0,0008), (7FE0,0009).
    pub float: bool,
    /// (0028,0006) is 1: one plane after another instead of pixel after pixel.
    pub planar: bool,
    /// (0028,0004).
    pub photometric: Photometric,
}

/// The Image Pixel attributes are missing or do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{keyword} is missing or not usable")]
pub struct LayoutError {
    /// The attribute.
    pub keyword: &'static str,
}

impl Layout {
    /// Reads the attributes of a data set.
    ///
    /// # Errors
    /// [`LayoutError`] names the first attribute that does not do.
    pub fn of(data_set: Item<'_>) -> Result<Self, LayoutError> {
        let wrong = |keyword| move || LayoutError { keyword };
        let number = |element| data_set.integer(Tag(0x0028, element));
        let small = |element| number(element).and_then(|n| u8::try_from(n).ok());
        let size = |element, keyword| {
            let size = number(element).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
            size.ok_or_else(wrong(keyword))
        };
        let float = !data_set.has(Tag(0x7FE0, 0x0010))
            && (data_set.has(Tag(0x7FE0, 0x0008)) || data_set.has(Tag(0x7FE0, 0x0009)));
        let rows = size(0x0010, "Rows")?;
        let columns = size(0x0011, "Columns")?;
        let samples = small(0x0002).unwrap_or(1);
        let samples = Some(samples).filter(|n| [1, 3, 4].contains(n));
        let samples = samples.ok_or_else(wrong("SamplesPerPixel"))?;
        let bits_allocated = small(0x0100).filter(|n| [1, 8, 16, 32, 64].contains(n));
        let bits_allocated = bits_allocated.ok_or_else(wrong("BitsAllocated"))?;
        // Floating point pixels have neither of these (PS3.3 §C.7.6.24).
        let bits_stored =
            if float { bits_allocated } else { small(0x0101).unwrap_or(bits_allocated) };
        let bits_stored = Some(bits_stored).filter(|n| (1..=bits_allocated).contains(n));
        let bits_stored = bits_stored.ok_or_else(wrong("BitsStored"))?;
        let high_bit =
            if float { bits_stored - 1 } else { small(0x0102).unwrap_or(bits_stored - 1) };
        let high_bit = Some(high_bit).filter(|n| (bits_stored - 1..bits_allocated).contains(n));
        let high_bit = high_bit.ok_or_else(wrong("HighBit"))?;
        let photometric = match data_set.text(Tag(0x0028, 0x0004)) {
            Some(term) => Photometric::parse(&term),
            None if samples == 1 => Some(Photometric::Monochrome2),
            None => None,
        };
        let photometric = photometric.ok_or_else(wrong("PhotometricInterpretation"))?;
        if photometric.is_colour() != (samples > 1) {
            return Err(LayoutError { keyword: "SamplesPerPixel" });
        }
        if float && ![32, 64].contains(&bits_allocated) {
            return Err(LayoutError { keyword: "BitsAllocated" });
        }
        Ok(Self {
            rows,
            columns,
            samples,
            bits_allocated,
            bits_stored,
            high_bit,
            signed: !float && number(0x0103) == Some(1),
            float,
            planar: samples > 1 && number(0x0006) == Some(1),
            photometric,
        })
    }

    /// Pixels of a frame.
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of one sample: 1 where samples are single bits.
    pub fn sample_bytes(&self) -> usize {
        usize::from(self.bits_allocated).div_ceil(8)
    }

    /// Bytes of a native frame that stands alone, without padding to even length.
    pub fn frame_length(&self) -> usize {
        let plane = self.pixels() * usize::from(self.bits_allocated);
        let bits = match self.photometric {
            // Two luminance samples share a pair of chroma samples (PS3.3 §C.7.6.3.1.2).
            Photometric::YbrFull422 | Photometric::YbrPartial422 if self.samples == 3 => 2 * plane,
            // Four of them do.
            Photometric::YbrPartial420 if self.samples == 3 => 3 * plane / 2,
            _ => usize::from(self.samples) * plane,
        };
        bits.div_ceil(8)
    }
}
