//! What holds for single frames: modality transformation, window and pixel shape, from the
//! functional groups (PS3.3 §C.7.6.16) and from the data set itself.
//!
//! Owns which of them wins: the frame's own group, then the shared one, then the data set. Holds:
//! memory grows with the frames that have groups in the header, by a few bytes each. Absent: tables
//! (there are none in functional groups).

use super::{
    header::pair,
    view::{Function, Window},
};
use crate::dicom::{Tag, data_set::Item};

const SHARED: Tag = Tag(0x5200, 0x9229);
const PER_FRAME: Tag = Tag(0x5200, 0x9230);

/// What holds for one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    /// Rescale Slope and Intercept, from the functional groups or the data set.
    pub rescale: Option<Rescale>,
    /// The first Window Center and Width that can be used.
    pub window: Option<Window>,
    /// Height of a pixel divided by its width.
    pub aspect: f64,
}

/// Rescale Slope and Intercept (PS3.3 §C.11.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rescale {
    pub slope: f64,
    pub intercept: f64,
    /// Of a functional group, which goes before a Modality LUT of the data set.
    pub of_group: bool,
}

/// The groups of all frames, each kept once.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The last one is for frames that have none of their own.
    distinct: Vec<Group>,
    of_frame: Vec<u32>,
}

impl Groups {
    /// Reads the groups of a data set.
    pub fn of(root: Item<'_>) -> Self {
        let shared = root.item(SHARED, 0);
        let base = Group {
            rescale: rescale(root, false),
            window: window(root),
            aspect: aspect(root).unwrap_or(1.0),
        };
        let shared = shared.map_or(base, |item| base.with(item));
        let mut distinct: Vec<Group> = Vec::new();
        let mut of_frame = Vec::new();
        for item in root.items(PER_FRAME) {
            let group = shared.with(item);
            // Neighbours are alike, or all frames differ: looking further back pays nothing.
            if distinct.last() != Some(&group) {
                distinct.push(group);
            }
            of_frame.push(distinct.len().saturating_sub(1) as u32);
        }
        distinct.push(shared);
        Self { distinct, of_frame }
    }

    /// What holds for `frame` (from 1).
    pub fn at(&self, frame: u32) -> Group {
        let index = frame.checked_sub(1).and_then(|index| self.of_frame.get(index as usize));
        let group = index.and_then(|index| self.distinct.get(*index as usize));
        let plain = Group { rescale: None, window: None, aspect: 1.0 };
        group.or(self.distinct.last()).copied().unwrap_or(plain)
    }
}

impl Group {
    fn with(self, item: Item<'_>) -> Self {
        let inner = |element| item.item(Tag(0x0028, element), 0);
        Self {
            rescale: inner(0x9145).and_then(|item| rescale(item, true)).or(self.rescale),
            window: inner(0x9132).and_then(window).or(self.window),
            aspect: inner(0x9110).and_then(aspect).unwrap_or(self.aspect),
        }
    }
}

fn rescale(item: Item<'_>, of_group: bool) -> Option<Rescale> {
    let (slope, intercept) = (item.number(Tag(0x0028, 0x1053)), item.number(Tag(0x0028, 0x1052)));
    if slope.is_none() && intercept.is_none() {
        return None;
    }
    // A slope of 0 would make every picture one grey.
    let slope = slope.filter(|slope| *slope != 0.0 && slope.is_finite()).unwrap_or(1.0);
    let intercept = intercept.filter(|intercept| intercept.is_finite()).unwrap_or(0.0);
    Some(Rescale { slope, intercept, of_group })
}

fn window(item: Item<'_>) -> Option<Window> {
    let function =
        item.text(Tag(0x0028, 0x1056)).map_or(Function::Linear, |term| Function::of(&term));
    let centers = item.numbers(Tag(0x0028, 0x1050));
    let windows = centers.zip(item.numbers(Tag(0x0028, 0x1051)));
    let mut windows = windows.map(|(center, width)| Window { center, width, function });
    windows.find(Window::is_usable)
}

/// Pixel Aspect Ratio, else the first of the spacings (Pixel Spacing, Imager Pixel Spacing, Nominal
/// Scanned Pixel Spacing) that is given; all name the vertical first. Ratios beyond 1 : 20 are
/// taken for errors.
fn aspect(item: Item<'_>) -> Option<f64> {
    let spacings =
        [Tag(0x0028, 0x0034), Tag(0x0028, 0x0030), Tag(0x0018, 0x1164), Tag(0x0018, 0x2010)];
    let (vertical, horizontal) = spacings.iter().find_map(|tag| pair(item, *tag))?;
    Some(vertical / horizontal).filter(|aspect| (0.05..=20.0).contains(aspect))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::data_set::DataSet;

    #[test]
    fn a_frames_own_group_goes_first_then_the_shared_one() {
        let json = br#"{
            "00281050":{"vr":"DS","Value":[1]},"00281051":{"vr":"DS","Value":[10]},
            "00280030":{"vr":"DS","Value":[2,1]},
            "52009229":{"vr":"SQ","Value":[
                {"00289145":{"vr":"SQ","Value":[{"00281052":{"vr":"DS","Value":[-5]},"00281053":{"vr":"DS","Value":[2]}}]}}]},
            "52009230":{"vr":"SQ","Value":[
                {},
                {"00289132":{"vr":"SQ","Value":[{"00281050":{"vr":"DS","Value":[7]},"00281051":{"vr":"DS","Value":[8]},"00281056":{"vr":"CS","Value":["SIGMOID"]}}]},
                 "00289145":{"vr":"SQ","Value":[{"00281052":{"vr":"DS","Value":[1]},"00281053":{"vr":"DS","Value":[0]}}]}},
                {"00289110":{"vr":"SQ","Value":[{"00280030":{"vr":"DS","Value":[1,4]}}]}}]}}"#;
        let data_set = DataSet::parse(json).unwrap();
        let groups = Groups::of(data_set.root());
        let shared = Some(Rescale { slope: 2.0, intercept: -5.0, of_group: true });
        let first = groups.at(1);
        assert_eq!((first.rescale, first.aspect), (shared, 2.0));
        assert_eq!(first.window.unwrap().center, 1.0);
        let second = groups.at(2);
        assert_eq!(second.rescale.unwrap().slope, 1.0);
        assert_eq!(second.window.unwrap().function, Function::Sigmoid);
        assert_eq!(groups.at(3).aspect, 0.25);
        assert_eq!(groups.at(4), first);
        assert_eq!(groups.at(0), first);
    }

    #[test]
    fn windows_that_cannot_be_used_are_passed_over() {
        let json = br#"{"00281050":{"vr":"DS","Value":[1,2]},"00281051":{"vr":"DS","Value":[0,10]},
            "00280034":{"vr":"IS","Value":[1,1000]}}"#;
        let data_set = DataSet::parse(json).unwrap();
        let group = Groups::of(data_set.root()).at(1);
        assert_eq!(group.window.unwrap().center, 2.0);
        assert_eq!(group.aspect, 1.0);
    }
}
