//! Quarter turns and mirroring of whole pictures, as presentation states ask for them (PS3.3
//! §C.10.6): first turned clockwise, then mirrored.

use super::viewport::Pixels;

/// How a picture is turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Quarter turns clockwise; only the remainder by four counts.
    pub quarters: u8,
    /// Left and right change places afterwards.
    pub mirrored: bool,
}

impl Turn {
    /// Whether width and height change places.
    pub fn is_sideways(self) -> bool {
        self.quarters % 2 == 1
    }

    /// Turns pixels.
    pub(super) fn apply(self, pixels: Pixels) -> Pixels {
        if self.quarters.is_multiple_of(4) && !self.mirrored {
            return pixels;
        }
        let channels = if pixels.colour { 3 } else { 1 };
        let (columns, rows) = (pixels.width as usize, pixels.height as usize);
        let (wide, high) = if self.is_sideways() { (rows, columns) } else { (columns, rows) };
        let mut data = Vec::with_capacity(pixels.data.len());
        for y in 0..high {
            for x in 0..wide {
                let x = if self.mirrored { wide - 1 - x } else { x };
                // Where the pixel was before.
                let (column, row) = match self.quarters % 4 {
                    0 => (x, y),
                    1 => (y, rows - 1 - x),
                    2 => (columns - 1 - x, rows - 1 - y),
                    _ => (columns - 1 - y, x),
                };
                let start = (row * columns + column) * channels;
                data.extend_from_slice(pixels.data.get(start..start + channels).unwrap_or(&[]));
            }
        }
        let (width, height) = (pixels.width, pixels.height);
        let (width, height) = if self.is_sideways() { (height, width) } else { (width, height) };
        Pixels { width, height, colour: pixels.colour, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clockwise_then_mirrored() {
        // 1 2 3
        // 4 5 6
        let grey = Pixels { width: 3, height: 2, colour: false, data: vec![1, 2, 3, 4, 5, 6] };
        for (quarters, mirrored, width, expected) in [
            (0, false, 3, [1, 2, 3, 4, 5, 6]),
            (1, false, 2, [4, 1, 5, 2, 6, 3]),
            (2, false, 3, [6, 5, 4, 3, 2, 1]),
            (3, false, 2, [3, 6, 2, 5, 1, 4]),
            (0, true, 3, [3, 2, 1, 6, 5, 4]),
            (1, true, 2, [1, 4, 2, 5, 3, 6]),
            (5, false, 2, [4, 1, 5, 2, 6, 3]),
        ] {
            let turned = Turn { quarters, mirrored }.apply(grey.clone());
            assert_eq!((turned.width, &turned.data[..]), (width, &expected[..]), "{quarters}");
        }
        let data = (0..18).collect();
        let colour = Pixels { width: 3, height: 2, colour: true, data };
        let turned = Turn { quarters: 1, mirrored: false }.apply(colour);
        assert_eq!(turned.data[..6], [9, 10, 11, 0, 1, 2]);
        assert_eq!((turned.width, turned.height, turned.data.len()), (2, 3, 18));
    }
}
