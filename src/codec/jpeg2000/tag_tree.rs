//! Tag trees (ISO/IEC 15444-1 §B.10.2): a small array of numbers told by the least of each four.

use super::{super::CodecError, bits::BitReader, bits::BitWriter};

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The number, once known; before that more than any.
    value: u32,
    /// What the number is known not to be less than.
    least: u32,
    /// For writing: whether the number has been told.
    told: bool,
}

/// A tag tree over an array of leaves.
#[derive(Clone, Debug)]
pub(super) struct TagTree {
    /// From the leaves to the root: width and first node.
    levels: Vec<(u32, usize)>,
    nodes: Vec<Node>,
}

impl TagTree {
    pub(super) fn new(mut width: u32, mut height: u32) -> Self {
        let mut levels = Vec::new();
        let mut count = 0_usize;
        while width > 0 && height > 0 {
            levels.push((width, count));
            count += width as usize * height as usize;
            if width == 1 && height == 1 {
                break;
            }
            (width, height) = (width.div_ceil(2), height.div_ceil(2));
        }
        Self { levels, nodes: vec![Node { value: u32::MAX, least: 0, told: false }; count] }
    }

    /// Reads on until it is known whether the leaf's number is below `bound`.
    pub(super) fn below(
        &mut self,
        from: &mut BitReader<'_>,
        x: u32,
        y: u32,
        bound: u32,
    ) -> Result<bool, CodecError> {
        let mut least = 0;
        let mut value = u32::MAX;
        for (level, (width, first)) in self.levels.iter().enumerate().rev() {
            let index = first + ((y >> level) * width + (x >> level)) as usize;
            let Some(node) = self.nodes.get_mut(index) else { break };
            node.least = node.least.max(least);
            while node.least < bound && node.value == u32::MAX {
                if from.bit()? {
                    node.value = node.least;
                } else {
                    node.least += 1;
                }
            }
            least = node.least;
            value = node.value;
        }
        Ok(value < bound)
    }

    /// Sets the numbers of the leaves, row after row, before writing.
    pub(super) fn fill(&mut self, leaves: impl Iterator<Item = u32>) {
        for (node, value) in self.nodes.iter_mut().zip(leaves) {
            node.value = value;
        }
        for pair in 1..self.levels.len() {
            let (Some((width, first)), Some((above, parent))) =
                (self.levels.get(pair - 1).copied(), self.levels.get(pair).copied())
            else {
                return;
            };
            for index in first..parent {
                let (x, y) = ((index - first) as u32 % width, (index - first) as u32 / width);
                let value = self.nodes.get(index).map_or(u32::MAX, |node| node.value);
                let place = parent + (y / 2 * above + x / 2) as usize;
                if let Some(node) = self.nodes.get_mut(place) {
                    node.value = node.value.min(value);
                }
            }
        }
    }

    /// Writes what tells whether the leaf's number is below `bound`.
    pub(super) fn tell(&mut self, to: &mut BitWriter, x: u32, y: u32, bound: u32) {
        let mut least = 0;
        for (level, (width, first)) in self.levels.iter().enumerate().rev() {
            let index = first + ((y >> level) * width + (x >> level)) as usize;
            let Some(node) = self.nodes.get_mut(index) else { return };
            node.least = node.least.max(least);
            while node.least < bound && !node.told {
                if node.value <= node.least {
                    to.bit(true);
                    node.told = true;
                } else {
                    to.bit(false);
                    node.least += 1;
                }
            }
            least = node.least;
        }
    }
}
