//! The window of a frame that has none: between robust percentiles of its values.
//!
//! Owns that choice: black at the 0.5th, white at the 99.5th percentile of what is no padding, so
//! that a few hot or dead pixels do not darken the rest as they would from minimum to maximum.
//! Where those two are one value, and where there are at most [`FEW`] different values (labels,
//! masks), minimum and maximum are taken. Holds: exact up to [`SAMPLED`] pixels, beyond that an even
//! sample; memory is bounded. Absent: constant frames, which have no window.

use super::samples::Bits;

const LOW: f64 = 0.005;
const HIGH: f64 = 0.995;

/// So few different values are a matter of labels.
const FEW: usize = 16;

/// Pixels that are looked at, at most twice as many.
const SAMPLED: usize = 1 << 20;

/// Values of wide samples that are looked at: those are sorted.
const SORTED: usize = 1 << 16;

/// How often each stored value occurs in a frame of words of 8 or 16 bits, from the least value
/// up.
pub(super) fn histogram(bits: Bits, data: &[u8]) -> Vec<u32> {
    let mut words = vec![0_u32; 1 << bits.allocated().min(16)];
    let mut count = |word: usize| {
        if let Some(count) = words.get_mut(word) {
            *count = count.saturating_add(1);
        }
    };
    if bits.allocated() == 16 {
        let (pixels, _) = data.as_chunks();
        let pixels = pixels.iter().step_by(step(pixels.len(), SAMPLED));
        pixels.for_each(|b| count(u16::from_le_bytes(*b).into()));
    } else {
        data.iter().step_by(step(data.len(), SAMPLED)).for_each(|b| count((*b).into()));
    }
    let (least, _) = bits.range();
    let mut values = vec![0_u32; 1 << bits.stored().min(16)];
    for (word, count) in words.iter().enumerate().filter(|(_, count)| **count > 0) {
        let index =
            usize::try_from(bits.value(word as u64).wrapping_sub(least)).unwrap_or_default();
        if let Some(value) = values.get_mut(index) {
            *value = value.saturating_add(*count);
        }
    }
    values
}

/// Black and white from values and how often they occur; `None` where there are not two.
pub(super) fn of_counts(mut counts: Vec<(f64, u32)>) -> Option<(f64, f64)> {
    counts.retain(|(value, count)| *count > 0 && value.is_finite());
    if !counts.is_sorted_by(|a, b| a.0 <= b.0) {
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let (first, last) = (counts.first()?.0, counts.last()?.0);
    let total: u64 = counts.iter().map(|(_, count)| u64::from(*count)).sum();
    let at = |part: f64| {
        let rank = (part * (total - 1) as f64).round() as u64;
        let mut seen = 0;
        let found = counts.iter().find(|(_, count)| {
            seen += u64::from(*count);
            seen > rank
        });
        found.map_or(last, |(value, _)| *value)
    };
    let percentiles = if counts.len() > FEW { (at(LOW), at(HIGH)) } else { (first, last) };
    [percentiles, (first, last)].into_iter().find(|(black, white)| black < white)
}

/// Black and white of values of any kind. `length`: how many there are.
pub(super) fn of_values(values: impl Iterator<Item = f64>, length: usize) -> Option<(f64, f64)> {
    let sample = values.step_by(step(length, SORTED)).take(2 * SORTED);
    let mut sample: Vec<f64> = sample.filter(|value| value.is_finite()).collect();
    sample.sort_unstable_by(f64::total_cmp);
    of_counts(
        sample
            .chunk_by(|a, b| a == b)
            .filter_map(|run| Some((*run.first()?, run.len() as u32)))
            .collect(),
    )
}

/// An odd step, so that a sample does not follow the columns of a frame.
fn step(length: usize, most: usize) -> usize {
    (length / most) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_count() {
        let mut counts: Vec<_> = (0..1000).map(|n| (f64::from(n), 10)).collect();
        counts.push((1e6, 3));
        assert_eq!(of_counts(counts), Some((5.0, 995.0)));
    }

    #[test]
    fn labels_and_rare_values_are_all_seen() {
        assert_eq!(of_counts(vec![(0.0, 100_000), (1.0, 1), (7.0, 1)]), Some((0.0, 7.0)));
        let mut rare = vec![(0.0, 1_000_000)];
        rare.extend((1..100).map(|n| (f64::from(n), 1)));
        assert_eq!(of_counts(rare), Some((0.0, 99.0)));
        assert_eq!(of_counts(vec![(5.0, 100), (6.0, 0)]), None);
        assert_eq!(of_counts(Vec::new()), None);
    }

    #[test]
    fn order_and_odd_numbers_do_not_matter() {
        let counts = vec![(3.0, 1), (f64::NAN, 9), (1.0, 1), (f64::INFINITY, 9)];
        assert_eq!(of_counts(counts), Some((1.0, 3.0)));
        let values = [f64::NAN, 2.0, -4.0, 2.0];
        assert_eq!(of_values(values.into_iter(), 4), Some((-4.0, 2.0)));
    }
}
