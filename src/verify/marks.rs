//! Sets of watermarks, one bit each, within a window that bounds their size.

use std::collections::BTreeMap;

/// Watermarks of one window: bits of which at most 16 MiB are held.
pub(super) const WINDOW: i64 = 1 << 27;

/// Words of a piece: 65,536 bits, held once one of them is set.
const WORDS: usize = 1024;

/// A set of watermarks from `from` on.
#[derive(Debug)]
pub(super) struct Marks {
    from: i64,
    pieces: BTreeMap<usize, Box<[u64; WORDS]>>,
}

impl Marks {
    pub(super) fn new(from: i64) -> Self {
        Self { from, pieces: BTreeMap::new() }
    }

    /// Piece, word and bit of a watermark; `None` outside of the window.
    fn place(&self, watermark: i64) -> Option<(usize, usize, u64)> {
        let at = watermark.checked_sub(self.from).filter(|at| (0..WINDOW).contains(at))?;
        let at = usize::try_from(at).ok()?;
        Some((at / (64 * WORDS), at / 64 % WORDS, 1 << (at % 64)))
    }

    pub(super) fn set(&mut self, watermark: i64) {
        if let Some((piece, word, bit)) = self.place(watermark) {
            self.pieces.entry(piece).or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
        }
    }

    pub(super) fn clear(&mut self, watermark: i64) {
        if let Some((piece, word, bit)) = self.place(watermark)
            && let Some(piece) = self.pieces.get_mut(&piece)
        {
            piece[word] &= !bit;
        }
    }

    /// The first of those that are set and not below `from`, at most `limit`.
    pub(super) fn some(&self, from: i64, limit: usize) -> Vec<i64> {
        let first = usize::try_from(from.saturating_sub(self.from)).unwrap_or(0);
        let of_piece = |(piece, words): (&usize, &Box<[u64; WORDS]>)| {
            let begin = piece * 64 * WORDS;
            let found: Vec<usize> = (0..64 * WORDS)
                .filter(|at| words[at / 64] >> (at % 64) & 1 == 1)
                .map(|at| begin + at)
                .filter(|at| *at >= first)
                .collect();
            found
        };
        let pieces = self.pieces.range(first / (64 * WORDS)..);
        let set = pieces.flat_map(of_piece).take(limit);
        set.filter_map(|at| Some(self.from + i64::try_from(at).ok()?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found_and_what_is_outside_is_not_held() {
        let mut marks = Marks::new(1000);
        let inside = [1000, 1063, 1064, 70_000, 1000 + WINDOW - 1];
        for watermark in inside.into_iter().chain([999, 1000 + WINDOW, i64::MIN]) {
            marks.set(watermark);
        }
        assert_eq!(marks.some(0, 100), inside);
        assert_eq!(marks.some(1064, 2), [1064, 70_000]);
        marks.clear(1064);
        marks.clear(5);
        marks.clear(500_000);
        assert_eq!(marks.some(1001, 100), [1063, 70_000, 1000 + WINDOW - 1]);
        assert_eq!(marks.pieces.len(), 3);
    }
}
