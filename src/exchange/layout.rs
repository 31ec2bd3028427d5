//! What files of an export are called.
//!
//! Holds: a name is made of numbers and UIDs alone.

use serde::{Deserialize, Serialize};

use crate::archive::Outgoing;

/// Where all files of an export lie, in its own folder.
pub(super) const RESULTS: &str = "results";

/// How files lie in a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layout {
    /// By their UIDs: `{study}/{series}/{instance}.dcm`.
    #[default]
    #[serde(rename = "as-is")]
    AsIs,
    /// As a File-set (PS3.10 §8): names of up to eight characters.
    #[serde(rename = "dicom")]
    Dicom,
}

impl Layout {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsIs => "as-is",
            Self::Dicom => "dicom",
        }
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::AsIs, Self::Dicom].into_iter().find(|layout| layout.name() == name)
    }
}

/// The next number in a File-set: of the study that files were written of last, and of the file.
pub(super) type Counted = Option<(String, u64, u64)>;

/// The File ID of the next file of a File-set, which is of this study, by its components; notes that
/// it is taken.
pub(super) fn file_id(last: &mut Counted, study: &str) -> [String; 3] {
    let (number, file) = match last.take() {
        Some((same, number, file)) if same == study => (number, file + 1),
        Some((_, number, _)) => (number + 1, 1),
        None => (1, 1),
    };
    *last = Some((study.to_owned(), number, file));
    ["DICOM".to_owned(), format!("S{number:07}"), format!("I{file:07}")]
}

/// The name by UIDs.
pub(super) fn by_uids(outgoing: &Outgoing) -> String {
    let Outgoing { study, series, instance, .. } = outgoing;
    format!("{RESULTS}/{study}/{series}/{instance}.dcm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_ids_are_what_ps3_10_allows_and_never_repeat() {
        let mut last = None;
        let ids: Vec<String> = ["1.2", "1.2", "1.3", "1.4"]
            .iter()
            .map(|study| file_id(&mut last, study).join("/"))
            .collect();
        let expected = [
            "DICOM/S0000001/I0000001",
            "DICOM/S0000001/I0000002",
            "DICOM/S0000002/I0000001",
            "DICOM/S0000003/I0000001",
        ];
        assert_eq!(ids, expected);
        let is_character = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        for component in ids.iter().flat_map(|id| id.split('/')) {
            assert!(component.len() <= 8 && component.bytes().all(is_character));
        }
        assert_eq!(Layout::named("dicom"), Some(Layout::Dicom));
        assert_eq!(serde_json::to_string(&Layout::AsIs).unwrap(), "\"as-is\"");
    }
}
