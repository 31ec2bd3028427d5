//! Overlays: bit planes drawn over a picture (PS3.3 §C.9.2, §C.9.3).
//!
//! Owns groups 6000 to 601E, with data of their own or in unused bits of the pixels (retired).
//! Graphics are drawn in white, on whatever is there; of a region of interest its outline is, so
//! that what is inside and outside of it stays to be seen. Holds: planes that lack their size or
//! their bits draw nothing. Absent: overlays of presentation states, activation layers.

use super::header::Header;
use crate::{
    codec::Raster,
    dicom::{Tag, data_set::Item},
};

/// The overlays of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlays(Vec<Plane>);

#[derive(Clone, Debug)]
struct Plane {
    rows: u32,
    columns: u32,
    /// Of the first row and column, from 0.
    top: i64,
    left: i64,
    region: bool,
    /// The first frame it applies to (from 0) and how many; `None` is every frame.
    frames: Option<(u32, u32)>,
    bits: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// Packed from the least bit of each byte, frames without gaps.
    Packed(Vec<u8>),
    /// This bit of each word of the pixels.
    Embedded(u32),
}

/// The groups that may hold an overlay.
pub(super) fn groups() -> impl Iterator<Item = u16> {
    (0x6000..=0x601E).step_by(2)
}

impl Overlays {
    /// Reads the planes of a data set.
    pub fn of(header: Header<'_>) -> Self {
        Self(groups().filter_map(|group| Plane::of(header, group)).collect())
    }

    /// Draws what applies to `frame` (from 1) over the pixels of a picture as large as the raster.
    pub fn draw(&self, frame: u32, raster: &Raster, colour: bool, pixels: &mut [u8]) {
        let frame = frame.saturating_sub(1);
        for plane in &self.0 {
            let index = match plane.frames {
                None => 0,
                Some((first, count)) => match frame.checked_sub(first) {
                    Some(index) if index < count => index,
                    _ => continue,
                },
            };
            plane.draw(index, raster, colour, pixels);
        }
    }
}

impl Plane {
    fn of(header: Header<'_>, group: u16) -> Option<Self> {
        let item: Item<'_> = header.item;
        let number = |element| item.integer(Tag(group, element));
        let size = |element| number(element).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let (rows, columns) = (size(0x0010)?, size(0x0011)?);
        let mut origin = item.numbers(Tag(group, 0x0050)).map(|n| n as i64 - 1);
        let (top, left) = (origin.next().unwrap_or(0), origin.next().unwrap_or(0));
        let frames = number(0x0015).map(|count| {
            let first = number(0x0051).unwrap_or(1).saturating_sub(1);
            (u32::try_from(first).unwrap_or(0), u32::try_from(count).unwrap_or(1).max(1))
        });
        let bits = if item.has(Tag(group, 0x3000)) {
            Source::Packed(header.bytes(Tag(group, 0x3000))?.into_owned())
        } else {
            let bit = u32::try_from(number(0x0102)?).ok()?;
            Source::Embedded(Some(bit).filter(|_| number(0x0100).is_some_and(|n| n > 1))?)
        };
        let region = item.text(Tag(group, 0x0040)).is_some_and(|kind| kind.trim() == "R");
        let frames = frames.filter(|_| matches!(bits, Source::Packed(_)));
        Some(Self { rows, columns, top, left, region, frames, bits })
    }

    fn draw(&self, index: u32, raster: &Raster, colour: bool, pixels: &mut [u8]) {
        let layout = &raster.layout;
        let words = layout.sample_bytes();
        if let Source::Embedded(bit) = self.bits {
            let low = u32::from(layout.high_bit + 1 - layout.bits_stored);
            let stored = low..=u32::from(layout.high_bit);
            if layout.samples != 1
                || bit >= u32::from(layout.bits_allocated)
                || stored.contains(&bit)
            {
                return;
            }
        }
        let start = u64::from(index) * u64::from(self.rows) * u64::from(self.columns);
        let is_set = |row: i64, column: i64| {
            let (Ok(row), Ok(column)) = (u32::try_from(row), u32::try_from(column)) else {
                return false;
            };
            if row >= self.rows || column >= self.columns {
                return false;
            }
            let at = u64::from(row) * u64::from(self.columns) + u64::from(column);
            let (byte, bit) = match &self.bits {
                Source::Packed(bits) => {
                    let at = start + at;
                    (bits.get((at / 8) as usize), (at % 8) as u32)
                }
                Source::Embedded(bit) => {
                    let byte = at * words as u64 + u64::from(bit / 8);
                    (raster.data.get(byte as usize), bit % 8)
                }
            };
            byte.is_some_and(|byte| byte >> bit & 1 == 1)
        };
        let (height, width) = (i64::from(layout.rows), i64::from(layout.columns));
        let bottom = self.top.saturating_add(self.rows.into()).min(height);
        let right = self.left.saturating_add(self.columns.into()).min(width);
        let channels = if colour { 3 } else { 1 };
        for y in self.top.max(0)..bottom {
            for x in self.left.max(0)..right {
                let (row, column) = (y - self.top, x - self.left);
                if !is_set(row, column) {
                    continue;
                }
                let inside = self.region
                    && is_set(row - 1, column)
                    && is_set(row + 1, column)
                    && is_set(row, column - 1)
                    && is_set(row, column + 1);
                let at = (y * width + x) as usize * channels;
                if let Some(pixel) = pixels.get_mut(at..at + channels).filter(|_| !inside) {
                    pixel.fill(255);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        codec::{Layout, Photometric},
        dicom::data_set::DataSet,
    };

    fn drawn(attributes: &str, data: &[u8], frame: u32) -> Vec<u8> {
        let layout = Layout {
            rows: 3,
            columns: 3,
            samples: 1,
            bits_allocated: 16,
            bits_stored: 12,
            high_bit: 11,
            signed: false,
            float: false,
            planar: false,
            photometric: Photometric::Monochrome2,
        };
        let mut pixels = vec![0; 9];
        let data_set = DataSet::parse(format!("{{{attributes}}}").as_bytes()).unwrap();
        let values = BTreeMap::from([("60003000".to_owned(), data.to_vec())]);
        let overlays = Overlays::of(Header::new(data_set.root(), &values));
        let raster =
            Raster { layout, data: [0_u8, 0x80].repeat(5).into_iter().chain([0; 8]).collect() };
        overlays.draw(frame, &raster, false, &mut pixels);
        pixels
    }

    fn plane(rows: u16, columns: u16, origin: &str, more: &str) -> String {
        format!(
            r#""60000010":{{"vr":"US","Value":[{rows}]}},"60000011":{{"vr":"US","Value":[{columns}]}},
            "60000050":{{"vr":"SS","Value":{origin}}},"60003000":{{"vr":"OW","BulkDataURI":"@60003000"}}{more}"#
        )
    }

    #[test]
    fn graphics_lie_at_their_origin_and_are_cut_at_the_edges() {
        assert_eq!(drawn(&plane(2, 2, "[1,1]", ""), &[0b1001], 1), [255, 0, 0, 0, 255, 0, 0, 0, 0]);
        assert_eq!(drawn(&plane(2, 2, "[3,3]", ""), &[0b1111], 1), [0, 0, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(drawn(&plane(2, 2, "[0,0]", ""), &[0b1111], 9), [255, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn frames_of_an_overlay_belong_to_frames_of_the_image() {
        let more = r#","60000015":{"vr":"IS","Value":[2]},"60000051":{"vr":"US","Value":[2]}"#;
        let first = |frame| drawn(&plane(1, 2, "[1,1]", more), &[0b1001], frame)[..2].to_vec();
        assert_eq!(first(1), [0, 0]);
        assert_eq!(first(2), [255, 0]);
        assert_eq!(first(3), [0, 255]);
        assert_eq!(first(4), [0, 0]);
    }

    #[test]
    fn of_a_region_the_outline_is_drawn() {
        let more = r#","60000040":{"vr":"CS","Value":["R"]}"#;
        let expected = [255, 255, 255, 255, 0, 255, 255, 255, 255];
        assert_eq!(drawn(&plane(3, 3, "[1,1]", more), &[0xFF, 1], 1), expected);
    }

    #[test]
    fn bits_in_the_pixels_and_too_few_bits() {
        let embedded = |bit: u32| {
            format!(
                r#""60000010":{{"vr":"US","Value":[3]}},"60000011":{{"vr":"US","Value":[3]}},
                "60000100":{{"vr":"US","Value":[16]}},"60000102":{{"vr":"US","Value":[{bit}]}}"#
            )
        };
        assert_eq!(drawn(&embedded(15), &[], 1), [255, 255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(drawn(&embedded(11), &[], 1), [0; 9]);
        assert_eq!(drawn(&embedded(99), &[], 1), [0; 9]);
        assert_eq!(drawn(&plane(3, 3, "[1,1]", ""), &[1], 1), [255, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
