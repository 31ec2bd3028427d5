//! Pictures of what has none: the name of a kind of object, light on dark.
//!
//! Holds: nothing but the label is written, and it fits or is left out. Absent: which label.

use super::{MAX_PIXELS, Picture, font};

/// Grey of the card.
const DARK: u8 = 40;

/// Grey of the letters.
const LIGHT: u8 = 208;

/// Part of the width that the label takes, at most: four fifths.
const SHARE: (u32, u32) = (4, 5);

impl Picture {
    /// A card of that size, at least 1 × 1 and at most [`MAX_PIXELS`], with a label in its middle.
    pub fn card(label: &str, width: u32, height: u32) -> Self {
        let width = width.clamp(1, super::MAX_SIDE);
        let most = u32::try_from(MAX_PIXELS / u64::from(width)).unwrap_or(u32::MAX);
        let height = height.clamp(1, most.min(super::MAX_SIDE));
        let (columns, rows) = (width as usize, height as usize);
        let mut data = vec![DARK; columns * rows];
        let lines = font::lines(label, label.len().max(1), 1);
        if let Some(line) = lines.first() {
            let cells: usize = line.iter().map(|cluster| font::cells(cluster.base)).sum();
            let text = font::WIDTH * u32::try_from(cells).unwrap_or(u32::MAX / font::WIDTH).max(1);
            let factor = (width / SHARE.1 * SHARE.0 / text).min(height / (2 * font::HEIGHT));
            let left = width.saturating_sub(text.saturating_mul(factor)) / 2;
            let top = height.saturating_sub(font::HEIGHT.saturating_mul(factor)) / 2;
            font::pixels(line, |x, y| {
                let (x, y) = (left + x * factor, top + y * factor);
                for row in y..y.saturating_add(factor).min(height) {
                    let start = row as usize * columns;
                    let end = x.saturating_add(factor).min(width) as usize;
                    if let Some(pixels) = data.get_mut(start + x as usize..start + end) {
                        pixels.fill(LIGHT);
                    }
                }
            });
        }
        Self { width, height, colour: false, data, icc: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_in_the_middle_and_large() {
        let card = Picture::card("SR", 128, 128);
        assert_eq!((card.width, card.height, card.data.len()), (128, 128, 128 * 128));
        let light: Vec<usize> = (0..card.data.len()).filter(|at| card.data[*at] == LIGHT).collect();
        assert!(light.len() > 200, "{}", light.len());
        let columns = light.iter().map(|at| at % 128);
        let rows = light.iter().map(|at| at / 128);
        let middle = |min: usize, max: usize| (min + max).abs_diff(127);
        assert!(middle(columns.clone().min().unwrap(), columns.max().unwrap()) < 16);
        assert!(middle(rows.clone().min().unwrap(), rows.max().unwrap()) < 16);
        assert_ne!(card, Picture::card("PDF", 128, 128));
        assert_eq!(card, Picture::card("SR", 128, 128));
    }

    #[test]
    fn a_card_of_any_size_can_be_had() {
        for (width, height) in [(1, 1), (1, 500), (500, 1), (0, 0), (7, 33), (1000, 20)] {
            let card = Picture::card("STRUCT", width, height);
            assert_eq!((card.width, card.height), (width.max(1), height.max(1)));
            assert_eq!(card.data.len(), (card.width * card.height) as usize);
        }
        let vast = Picture::card("STRUCT", u32::MAX, u32::MAX);
        assert!(u64::from(vast.width) * u64::from(vast.height) <= MAX_PIXELS);
    }
}
