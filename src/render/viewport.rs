//! The part of a frame that is shown and its size (PS3.18 §8.3.5.1.3).
//!
//! Owns cutting, mirroring and scaling. Holds: the output keeps the shape of what it shows and is
//! as large as fits; it is at most [`MAX_SIDE`] on a side and [`MAX_PIXELS`] in all, and so is a
//! whole frame that is shown without a viewport. Pixels that are not square (Pixel Aspect Ratio,
//! spacings) are made so where there is a viewport; without one the matrix is given as it is.
//! Shrinking uses Lanczos' filter, enlarging Catmull and Rom's. Absent: what the pixels mean.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::{MAX_PIXELS, MAX_SIDE, RenderError, view::Viewport};

/// Pixels with their size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub width: u32,
    pub height: u32,
    pub colour: bool,
    pub data: Vec<u8>,
}

/// Where a picture comes from and where it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placement {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    out_width: u32,
    out_height: u32,
    mirror_columns: bool,
    mirror_rows: bool,
}

/// Checks that a picture of this size can be made.
///
/// # Errors
/// [`RenderError::Unsupported`].
pub(super) fn check(width: u32, height: u32) -> Result<(), RenderError> {
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(RenderError::Unsupported("a picture of this size; ask for a smaller viewport"));
    }
    Ok(())
}

/// Fits pixels into a viewport. `aspect`: height of a pixel divided by its width.
///
/// # Errors
/// [`RenderError::Unsupported`] for a viewport that shows nothing or too much.
pub(super) fn fit(pixels: Pixels, aspect: f64, viewport: &Viewport) -> Result<Pixels, RenderError> {
    let place = place(pixels.width, pixels.height, aspect, viewport)?;
    let mut fitted = if place.is_whole() { cut(pixels, &place) } else { scale(&pixels, &place)? };
    let channels = if fitted.colour { 3 } else { 1 };
    let row = fitted.width as usize * channels;
    if place.mirror_columns {
        for row in fitted.data.chunks_exact_mut(row) {
            row.reverse();
            if channels == 3 {
                row.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.reverse());
            }
        }
    }
    if place.mirror_rows {
        let rows = fitted.data.chunks_exact(row).rev();
        fitted.data = rows.flatten().copied().collect();
    }
    Ok(fitted)
}

fn place(
    width: u32,
    height: u32,
    aspect: f64,
    viewport: &Viewport,
) -> Result<Placement, RenderError> {
    const EMPTY: RenderError = RenderError::Unsupported("a viewport without pixels");
    let (columns, rows) = (f64::from(width), f64::from(height));
    let (x, y, w, h) = viewport.region.unwrap_or((0.0, 0.0, columns, rows));
    let left = x.abs().clamp(0.0, columns);
    let top = y.abs().clamp(0.0, rows);
    let right = (x.abs() + w.abs()).clamp(0.0, columns);
    let bottom = (y.abs() + h.abs()).clamp(0.0, rows);
    let (cut_width, cut_height) = (right - left, bottom - top);
    // Less than a hundredth of a pixel is nothing to show. Not-a-number fails here as well.
    if !(cut_width >= 0.01 && cut_height >= 0.01) || viewport.width == 0 || viewport.height == 0 {
        return Err(EMPTY);
    }
    let (most_width, most_height) = (viewport.width.min(MAX_SIDE), viewport.height.min(MAX_SIDE));
    let shown_height = cut_height * aspect;
    let factor = (f64::from(most_width) / cut_width).min(f64::from(most_height) / shown_height);
    let out_width = ((cut_width * factor).round() as u32).clamp(1, most_width);
    let out_height = ((shown_height * factor).round() as u32).clamp(1, most_height);
    check(out_width, out_height)?;
    Ok(Placement {
        left,
        top,
        width: cut_width,
        height: cut_height,
        out_width,
        out_height,
        mirror_columns: w.is_sign_negative(),
        mirror_rows: h.is_sign_negative(),
    })
}

impl Placement {
    /// Whether pixels can be copied one for one.
    fn is_whole(&self) -> bool {
        let sides = [self.left, self.top, self.width, self.height];
        sides.iter().all(|side| side.fract() == 0.0)
            && self.width == f64::from(self.out_width)
            && self.height == f64::from(self.out_height)
    }
}

fn cut(pixels: Pixels, place: &Placement) -> Pixels {
    let (width, height) = (place.out_width, place.out_height);
    if (width, height) == (pixels.width, pixels.height) {
        return pixels;
    }
    let channels = if pixels.colour { 3 } else { 1 };
    let (left, top) = (place.left as usize * channels, place.top as usize);
    let (row, cut) = (pixels.width as usize * channels, width as usize * channels);
    let rows = pixels.data.chunks_exact(row).skip(top).take(height as usize);
    let data = rows.flat_map(|row| row.iter().skip(left).take(cut)).copied().collect();
    Pixels { width, height, colour: pixels.colour, data }
}

fn scale(pixels: &Pixels, place: &Placement) -> Result<Pixels, RenderError> {
    const FAILED: RenderError = RenderError::Damaged("the picture's size");
    let kind = if pixels.colour { PixelType::U8x3 } else { PixelType::U8 };
    let source = ImageRef::new(pixels.width, pixels.height, &pixels.data, kind);
    let source = source.map_err(|_| FAILED)?;
    let mut target = Image::new(place.out_width, place.out_height, kind);
    let shrinks = place.width > f64::from(place.out_width);
    let filter = if shrinks { FilterType::Lanczos3 } else { FilterType::CatmullRom };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(place.left, place.top, place.width, place.height)
        .use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|_| FAILED)?;
    Ok(Pixels {
        width: place.out_width,
        height: place.out_height,
        colour: pixels.colour,
        data: target.into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32, data: &[u8]) -> Pixels {
        Pixels { width, height, colour: false, data: data.to_vec() }
    }

    fn size(columns: u32, rows: u32, aspect: f64, viewport: &Viewport) -> (u32, u32) {
        let place = place(columns, rows, aspect, viewport).unwrap();
        (place.out_width, place.out_height)
    }

    #[test]
    fn shape_is_kept_and_the_picture_as_large_as_fits() {
        let viewport = Viewport { width: 100, height: 50, region: None };
        assert_eq!(size(200, 200, 1.0, &viewport), (50, 50));
        assert_eq!(size(10, 5, 1.0, &viewport), (100, 50));
        assert_eq!(size(400, 100, 1.0, &viewport), (100, 25));
        assert_eq!(size(400, 100, 2.0, &viewport), (100, 50));
        assert_eq!(size(100, 400, 0.25, &viewport), (50, 50));
        assert_eq!(size(60_000, 1, 1.0, &viewport), (100, 1));
        let region = Some((10.0, 10.0, 20.0, 40.0));
        assert_eq!(size(200, 200, 1.0, &Viewport { region, ..viewport }), (25, 50));
        let outside = Some((190.0, 0.0, 20.0, 10.0));
        assert_eq!(size(200, 200, 1.0, &Viewport { region: outside, ..viewport }), (50, 50));
    }

    #[test]
    fn cutting_and_mirroring_move_pixels_untouched() {
        let pixels = grey(3, 2, &[1, 2, 3, 4, 5, 6]);
        let fit = |region| {
            let viewport = Viewport { width: 2, height: 2, region: Some(region) };
            super::fit(pixels.clone(), 1.0, &viewport).unwrap().data
        };
        assert_eq!(fit((1.0, 0.0, 2.0, 2.0)), [2, 3, 5, 6]);
        assert_eq!(fit((1.0, 0.0, -2.0, 2.0)), [3, 2, 6, 5]);
        assert_eq!(fit((1.0, 0.0, 2.0, -2.0)), [5, 6, 2, 3]);
        assert_eq!(fit((0.0, 0.0, -2.0, -2.0)), [5, 4, 2, 1]);
        let colour = Pixels { width: 2, height: 1, colour: true, data: vec![1, 2, 3, 4, 5, 6] };
        let viewport = Viewport { width: 2, height: 1, region: Some((0.0, 0.0, -2.0, 1.0)) };
        assert_eq!(super::fit(colour, 1.0, &viewport).unwrap().data, [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn scaling_keeps_flat_areas_and_means() {
        let viewport = Viewport { width: 7, height: 7, region: None };
        let fitted = fit(grey(16, 16, &[77; 256]), 1.0, &viewport).unwrap();
        assert_eq!((fitted.width, fitted.data), (7, vec![77; 49]));
        let stripes: Vec<u8> = (0..64).map(|n| if n % 2 == 0 { 0 } else { 200 }).collect();
        let viewport = Viewport { width: 1, height: 1, region: None };
        let fitted = fit(grey(8, 8, &stripes), 1.0, &viewport).unwrap();
        assert!((98..=102).contains(&fitted.data[0]));
    }

    #[test]
    fn viewports_that_show_nothing_or_too_much_are_refused() {
        let pixels = grey(4, 4, &[0; 16]);
        for region in [
            (4.0, 0.0, 4.0, 4.0),
            (0.0, 0.0, 0.0, 4.0),
            (f64::NAN, 0.0, 4.0, 4.0),
            (0.0, 0.0, f64::NAN, 4.0),
        ] {
            let viewport = Viewport { width: 4, height: 4, region: Some(region) };
            assert!(fit(pixels.clone(), 1.0, &viewport).is_err(), "{region:?}");
        }
        let huge = Viewport { width: u32::MAX, height: u32::MAX, region: None };
        assert!(fit(pixels.clone(), 1.0, &huge).is_err());
        let empty = Viewport { width: 0, height: 4, region: None };
        assert!(fit(pixels, 1.0, &empty).is_err());
        assert!(check(MAX_SIDE + 1, 1).is_err() && check(0, 1).is_err() && check(1, 1).is_ok());
    }
}
