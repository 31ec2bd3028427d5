//! Colour frames to RGB of 8 bits (PS3.3 §C.7.6.3.1.2).
//!
//! Owns the arrangement of samples and the colour models. Holds: samples of more than 8 bits lose
//! their low bits, those of fewer are spread. What is not a colour model of uncompressed pixels is
//! unsupported. ARGB (retired): a pixel whose alpha is not 0 takes its colour from the palette at
//! alpha, if there is a palette. Absent: palettes, ICC.

use std::borrow::Cow;

use super::{
    RenderError,
    palette::Palette,
    samples::{Bits, numbers},
};
use crate::codec::{Layout, Photometric, Raster};

/// Converts a frame.
///
/// # Errors
/// [`RenderError`].
pub(super) fn to_rgb(raster: &Raster, palette: Option<&Palette>) -> Result<Vec<u8>, RenderError> {
    let layout = &raster.layout;
    let pixels = layout.pixels();
    let bytes = bytes(raster)?;
    let short = RenderError::Damaged("too few samples");
    let convert = match layout.photometric {
        Photometric::Rgb | Photometric::Argb => None,
        Photometric::YbrFull | Photometric::YbrFull422 | Photometric::YbrIct => {
            Some(full as fn([u8; 3]) -> [u8; 3])
        }
        Photometric::YbrPartial422 => Some(partial as _),
        Photometric::YbrRct => Some(reversible as _),
        _ => return Err(RenderError::Unsupported("this colour model without compression")),
    };
    let halved = matches!(layout.photometric, Photometric::YbrFull422 | Photometric::YbrPartial422);
    let mut rgb = if layout.photometric == Photometric::Argb {
        without_alpha(&bytes, layout, palette).ok_or(short)?
    } else if halved && bytes.len() < 3 * pixels {
        // Two luminance samples stand before the pair of chroma samples that they share.
        let mut full = Vec::with_capacity(3 * pixels + 3);
        for pair in bytes.chunks(4) {
            let at = |n: usize, other| pair.get(n).copied().unwrap_or(other);
            let (cb, cr) = (at(2, 128), at(3, 128));
            full.extend([at(0, 0), cb, cr, at(1, 0), cb, cr]);
        }
        full.truncate(3 * pixels);
        full
    } else if layout.planar {
        let plane = |n: usize| bytes.get(n * pixels..(n + 1) * pixels).ok_or(short);
        let (first, second, third) = (plane(0)?, plane(1)?, plane(2)?);
        first.iter().zip(second).zip(third).flat_map(|((a, b), c)| [*a, *b, *c]).collect()
    } else {
        let mut bytes = bytes.into_owned();
        bytes.truncate(3 * pixels);
        bytes
    };
    if rgb.len() != 3 * pixels {
        return Err(short);
    }
    if let Some(convert) = convert {
        rgb.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = convert(*pixel));
    }
    Ok(rgb)
}

/// All samples in their order, as bytes.
fn bytes(raster: &Raster) -> Result<Cow<'_, [u8]>, RenderError> {
    let layout = &raster.layout;
    if layout.float || layout.bits_allocated < 8 {
        return Err(RenderError::Unsupported("colour of such samples"));
    }
    let bits = Bits::of(layout);
    let (least, greatest) = bits.range();
    let byte = |value: i64| {
        let above = value.wrapping_sub(least) as u64;
        match bits.stored() {
            8.. => (above >> (bits.stored() - 8)) as u8,
            _ => (above * 255 / (greatest.wrapping_sub(least) as u64).max(1)) as u8,
        }
    };
    if bits.allocated() > 16 {
        let values = numbers(layout, &raster.data).map(|value| byte(value as i64));
        return Ok(Cow::Owned(values.collect()));
    }
    let whole = bits.stored() == bits.allocated();
    if bits.allocated() == 8 && whole && !layout.signed {
        return Ok(Cow::Borrowed(&raster.data));
    }
    let by_value: Vec<u8> = (least..=greatest).map(byte).collect();
    let table = bits.spread(&by_value);
    let at = |word: u16| table.get(usize::from(word)).copied().unwrap_or_default();
    Ok(Cow::Owned(if bits.allocated() == 16 {
        raster.data.as_chunks().0.iter().map(|b| at(u16::from_le_bytes(*b))).collect()
    } else {
        raster.data.iter().map(|b| at((*b).into())).collect()
    }))
}

fn without_alpha(bytes: &[u8], layout: &Layout, palette: Option<&Palette>) -> Option<Vec<u8>> {
    let pixels = layout.pixels();
    let colour = |alpha: u8, rgb: [u8; 3]| match palette {
        Some(palette) if alpha != 0 => palette.at(alpha.into()),
        _ => rgb,
    };
    if !layout.planar {
        let chunks = bytes.as_chunks::<4>().0.iter().take(pixels);
        return Some(chunks.flat_map(|[alpha, r, g, b]| colour(*alpha, [*r, *g, *b])).collect());
    }
    let plane = |n: usize| bytes.get(n * pixels..(n + 1) * pixels);
    let rgb = plane(1)?.iter().zip(plane(2)?).zip(plane(3)?);
    let argb = plane(0)?.iter().zip(rgb);
    Some(argb.flat_map(|(alpha, ((r, g), b))| colour(*alpha, [*r, *g, *b])).collect())
}

/// Fixed point of 16 bits.
const fn fixed(number: f64) -> i32 {
    (number * 65536.0 + 0.5) as i32
}

fn byte(fixed: i32) -> u8 {
    ((fixed + 0x8000) >> 16).clamp(0, 255) as u8
}

/// `YBR_FULL`: ITU-R BT.601 over the full range.
fn full([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    [
        byte(y + const { fixed(1.402) } * cr),
        byte(y - const { fixed(0.344_136) } * cb - const { fixed(0.714_136) } * cr),
        byte(y + const { fixed(1.772) } * cb),
    ]
}

/// `YBR_PARTIAL_422`: black is 16, white 235.
fn partial([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) - 16, i32::from(cb) - 128, i32::from(cr) - 128);
    let y = const { fixed(1.164_384) } * y;
    [
        byte(y + const { fixed(1.596_027) } * cr),
        byte(y - const { fixed(0.391_762) } * cb - const { fixed(0.812_968) } * cr),
        byte(y + const { fixed(2.017_232) } * cb),
    ]
}

/// `YBR_RCT` with its differences around the middle.
fn reversible([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let green = y - ((cb + cr) >> 2);
    [cr + green, green, cb + green].map(|channel| channel.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raster(photometric: Photometric, columns: u16, planar: bool, data: &[u8]) -> Raster {
        let layout = Layout {
            rows: 1,
            columns,
            samples: if photometric == Photometric::Argb { 4 } else { 3 },
            bits_allocated: 8,
            bits_stored: 8,
            high_bit: 7,
            signed: false,
            float: false,
            planar,
            photometric,
        };
        Raster { layout, data: data.to_vec() }
    }

    fn rgb(photometric: Photometric, columns: u16, data: &[u8]) -> Vec<u8> {
        to_rgb(&raster(photometric, columns, false, data), None).unwrap()
    }

    #[test]
    fn colour_models() {
        assert_eq!(rgb(Photometric::Rgb, 1, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(rgb(Photometric::YbrFull, 1, &[76, 85, 255]), [254, 0, 0]);
        assert_eq!(rgb(Photometric::YbrFull, 1, &[100, 128, 128]), [100, 100, 100]);
        assert_eq!(rgb(Photometric::YbrIct, 1, &[29, 255, 107]), [0, 0, 254]);
        let partial = rgb(Photometric::YbrPartial422, 2, &[16, 235, 128, 128]);
        assert_eq!(partial, [0, 0, 0, 255, 255, 255]);
        assert_eq!(rgb(Photometric::YbrRct, 1, &[50, 128 + 10, 128 - 10]), [40, 50, 60]);
        assert_eq!(rgb(Photometric::Argb, 1, &[9, 1, 2, 3]), [1, 2, 3]);
    }

    #[test]
    fn chroma_is_shared_by_two_pixels() {
        let full = [76, 85, 255, 100, 85, 255].map(|byte| byte);
        let expected = rgb(Photometric::YbrFull, 2, &full);
        assert_eq!(rgb(Photometric::YbrFull422, 2, &[76, 100, 85, 255]), expected);
        assert_eq!(rgb(Photometric::YbrFull422, 2, &full), expected, "not halved after all");
        assert_eq!(rgb(Photometric::YbrFull422, 1, &[76, 85]).len(), 3);
    }

    #[test]
    fn planes_and_wide_samples() {
        let planes = raster(Photometric::Rgb, 2, true, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(to_rgb(&planes, None).unwrap(), [1, 3, 5, 2, 4, 6]);
        let mut wide = raster(Photometric::Rgb, 1, false, &[0xFF, 0x0F, 0x10, 0x00, 0x00, 0x08]);
        (wide.layout.bits_allocated, wide.layout.bits_stored, wide.layout.high_bit) = (16, 12, 11);
        assert_eq!(to_rgb(&wide, None).unwrap(), [255, 1, 128]);
        let mut narrow = raster(Photometric::Rgb, 1, false, &[0, 15, 3]);
        (narrow.layout.bits_stored, narrow.layout.high_bit) = (4, 3);
        assert_eq!(to_rgb(&narrow, None).unwrap(), [0, 255, 51]);
    }

    #[test]
    fn what_is_too_short_or_unknown_is_refused() {
        assert!(to_rgb(&raster(Photometric::Rgb, 2, false, &[1, 2, 3]), None).is_err());
        assert!(to_rgb(&raster(Photometric::Rgb, 2, true, &[1, 2, 3]), None).is_err());
        assert!(to_rgb(&raster(Photometric::Xyb, 1, false, &[1, 2, 3]), None).is_err());
        assert!(to_rgb(&raster(Photometric::YbrPartial420, 2, false, &[1, 2, 3]), None).is_err());
    }
}
