//! Monochrome frames: stored value → modality → VOI → polarity → 8 bits (PS3.3 §C.11, PS3.4 §N.2).
//!
//! Owns which transformations a frame goes through, in which order, and the one table that holds
//! them all for samples of up to 16 bits, so that a frame costs one pass. Absent: palettes.
//!
//! Decisions where the standard leaves one:
//! - A client's window goes first, then the VOI LUT Sequence, then the first usable window of the
//!   frame. With none of them: up to 8 stored bits, all that can be stored from black to white, so
//!   that bytes come through unchanged; beyond, robust percentiles ([`super::percentile`]).
//! - Pixel padding is black, whatever the polarity, and does not count for percentiles.
//! - Presentation LUT Shape, where there is one, decides about inversion; elsewhere MONOCHROME1 is
//!   inverted. Digital X-rays of MONOCHROME1 have INVERSE (PS3.3 §C.8.11.1), which is the same
//!   inversion and not a second one.

use super::{
    groups::Group,
    header::Header,
    lut::Lut,
    percentile,
    samples::{Bits, numbers},
    view::{Function, Window},
    voi::Scale,
};
use crate::{
    codec::{Photometric, Raster},
    dicom::Tag,
};

/// What the attributes say about all frames.
#[derive(Clone, Debug)]
pub(super) struct Monochrome {
    modality: Option<Lut>,
    voi: Option<Lut>,
    /// Presentation LUT Shape, if it is one of images: whether it is INVERSE.
    inverse: Option<bool>,
    /// Pixel Padding Value and Range Limit, as words.
    padding: Option<(i64, i64)>,
    float_padding: Option<(f64, f64)>,
}

/// The transformations of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transform {
    pub bits: Bits,
    /// Slope and intercept; `None` is the modality table.
    linear: Option<(f64, f64)>,
    pub scale: Scale,
    invert: bool,
    padding: Option<(f64, f64)>,
}

impl Monochrome {
    pub fn of(header: Header<'_>, lowest: f64) -> Self {
        let item = header.item;
        let signed = item.integer(Tag(0x0028, 0x0103)) == Some(1);
        let modality = header.first(Tag(0x0028, 0x3000)).and_then(|lut| Lut::of(lut, signed));
        let signed = signed && modality.is_none() || lowest < 0.0;
        let voi = header.first(Tag(0x0028, 0x3010)).and_then(|lut| Lut::of(lut, signed));
        let padding = item.integer(Tag(0x0028, 0x0120));
        let limit = item.integer(Tag(0x0028, 0x0121));
        let float = |value: Tag, limit: Tag| {
            let value = item.number(value)?;
            let limit = item.number(limit).unwrap_or(value);
            Some((value.min(limit), value.max(limit)))
        };
        Self {
            modality,
            voi,
            inverse: item.text(Tag(0x2050, 0x0020)).and_then(|shape| match shape.trim() {
                "INVERSE" => Some(true),
                "IDENTITY" => Some(false),
                _ => None,
            }),
            padding: padding.map(|value| (value, limit.unwrap_or(value))),
            float_padding: float(Tag(0x0028, 0x0122), Tag(0x0028, 0x0124))
                .or_else(|| float(Tag(0x0028, 0x0123), Tag(0x0028, 0x0125))),
        }
    }

    /// What to do with a frame. `below`: values from here on are left out of percentiles, because a
    /// palette colours them.
    pub fn transform(
        &self,
        raster: &Raster,
        group: &Group,
        window: Option<Window>,
        below: Option<i64>,
    ) -> Transform {
        let layout = &raster.layout;
        let rescale = group.rescale.filter(|r| r.of_group || self.modality.is_none());
        let linear = match (rescale, &self.modality) {
            (Some(rescale), _) => Some((rescale.slope, rescale.intercept)),
            (None, Some(_)) => None,
            (None, None) => Some((1.0, 0.0)),
        };
        let bits = Bits::of(layout);
        let mut transform = Transform {
            bits,
            linear,
            scale: Scale::Table,
            invert: self.inverse.unwrap_or(layout.photometric == Photometric::Monochrome1),
            padding: if layout.float { self.float_padding } else { self.padding(bits) },
        };
        let window = window.filter(Window::is_usable);
        transform.scale = match (window, &self.voi, group.window) {
            (Some(window), ..) | (None, None, Some(window)) => Scale::Window(window),
            (None, Some(_), _) => Scale::Table,
            (None, None, None) => self.automatic(&transform, raster, below),
        };
        transform
    }

    /// The padding as stored values. One that cannot be stored is none: what is left of it under
    /// the mask might be a value like others.
    fn padding(&self, bits: Bits) -> Option<(f64, f64)> {
        let (least, greatest) = bits.range();
        let signed = |word: i64| if least < 0 { i64::from(word as i16) } else { word & 0xFFFF };
        let (value, limit) = self.padding.map(|(value, limit)| (signed(value), signed(limit)))?;
        let fits = |value| (least..=greatest).contains(&value);
        let range = (value.min(limit) as f64, value.max(limit) as f64);
        Some(range).filter(|_| fits(value) && fits(limit))
    }

    fn automatic(&self, transform: &Transform, raster: &Raster, below: Option<i64>) -> Scale {
        let layout = &raster.layout;
        let bits = transform.bits;
        let (least, greatest) = bits.range();
        let whole = || match (transform.linear, &self.modality) {
            (None, Some(lut)) => Scale::Between(0.0, lut.white()),
            _ => {
                let (slope, intercept) = transform.linear.unwrap_or((1.0, 0.0));
                let [a, b] = [least, greatest].map(|end| end as f64 * slope + intercept);
                Scale::Between(a.min(b), a.max(b))
            }
        };
        if !layout.float && bits.stored() <= 8 {
            return whole();
        }
        let shown = |value: f64| {
            let colour = below.is_some_and(|first| value >= first as f64);
            if colour { None } else { self.modality(transform, value) }
        };
        if !layout.float && bits.allocated() <= 16 {
            let counts = percentile::histogram(bits, &raster.data);
            let counts = (least..).zip(counts).filter(|(_, count)| *count > 0);
            let counts = counts.filter_map(|(value, count)| Some((shown(value as f64)?, count)));
            let counts: Vec<_> = counts.collect();
            return match percentile::of_counts(counts) {
                Some((black, white)) => Scale::Between(black, white),
                None => whole(),
            };
        }
        let values = numbers(layout, &raster.data).filter_map(shown);
        match percentile::of_values(values, layout.pixels()) {
            Some((black, white)) => Scale::Between(black, white),
            // All one value: nothing is black, anything else a middle grey.
            None => {
                let value = numbers(layout, &raster.data).find_map(shown).unwrap_or(0.0);
                Scale::Between(0.0_f64.min(2.0 * value), 0.0_f64.max(2.0 * value))
            }
        }
    }

    /// The value behind the modality transformation; `None` for padding and what is no number.
    fn modality(&self, transform: &Transform, value: f64) -> Option<f64> {
        if value.is_nan() || transform.padding.is_some_and(|(a, b)| a <= value && value <= b) {
            return None;
        }
        match (transform.linear, &self.modality) {
            (Some((slope, intercept)), _) => Some(value * slope + intercept),
            (None, Some(lut)) => Some(lut.at(value)),
            (None, None) => Some(value),
        }
    }

    /// The grey of a stored value.
    pub fn grey(&self, transform: &Transform, value: f64) -> u8 {
        let Some(value) = self.modality(transform, value) else { return 0 };
        let grey = transform.scale.grey(value, self.voi.as_ref());
        if transform.invert { 255 - grey } else { grey }
    }

    /// The greys of all stored values of up to 16 bits, from the least up.
    pub fn greys(&self, transform: &Transform) -> Vec<u8> {
        let (least, greatest) = transform.bits.range();
        (least..=greatest).take(1 << 16).map(|value| self.grey(transform, value as f64)).collect()
    }

    /// A frame of samples of more than 16 bits, or of floating point ones.
    pub fn wide(&self, transform: &Transform, raster: &Raster) -> Vec<u8> {
        let values = numbers(&raster.layout, &raster.data).take(raster.layout.pixels());
        values.map(|value| self.grey(transform, value)).collect()
    }
}

impl Transform {
    /// Whether the values of the frame decided.
    pub fn is_automatic(&self) -> bool {
        matches!(self.scale, Scale::Between(..))
    }

    /// The scale as a window, if it can be said as one.
    pub fn window(&self) -> Option<Window> {
        match self.scale {
            Scale::Window(window) => Some(window),
            Scale::Table => None,
            Scale::Between(black, white) => {
                let (center, width) = (black + (white - black) / 2.0, white - black);
                let window = Window { center, width, function: Function::LinearExact };
                Some(window).filter(Window::is_usable)
            }
        }
    }
}
