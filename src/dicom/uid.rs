//! Unique identifiers (PS3.5 §9.1).

use std::{fmt, str::FromStr};

use dicom_core::dictionary::UidDictionary as _;
use dicom_dictionary_std::sop_class::StandardSopClassDictionary;

/// A DICOM unique identifier (PS3.5 §9.1): 1 to 64 characters, components of digits joined by
/// single dots. Components with leading zeros are not valid by the letter but are seen in real
/// archives: they are kept, and [`Uid::has_leading_zero`] lets Store warn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

/// Why a text is not a UID. The text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a UID is 1 to 64 characters: components of digits joined by single dots (PS3.5 §9.1)")]
pub struct InvalidUid;

impl Uid {
    /// The UID as text, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a component other than a lone `0` starts with zero, which PS3.5 §9.1 forbids.
    pub fn has_leading_zero(&self) -> bool {
        self.0.split('.').any(|component| component.len() > 1 && component.starts_with('0'))
    }

    /// Reads the value of a UI element: trailing NUL (the standard's padding) and space (seen in
    /// the wild) are dropped before the check.
    ///
    /// # Errors
    /// [`InvalidUid`] where the rest is not a UID.
    pub fn from_value(value: &[u8]) -> Result<Self, InvalidUid> {
        let text = std::str::from_utf8(value).map_err(|_| InvalidUid)?;
        text.trim_end_matches(['\0', ' ']).parse()
    }
}

impl FromStr for Uid {
    type Err = InvalidUid;
    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let component = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit());
        if text.len() <= 64 && text.split('.').all(component) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUid)
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name that PS3.6 gives to a SOP class.
pub fn name_of(sop_class: &str) -> Option<&'static str> {
    StandardSopClassDictionary.by_uid(sop_class).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_archives_hold() {
        for text in ["1", "1.2.840.10008.1.2", "1.2.03.4", "0.0", &"1".repeat(64)] {
            assert_eq!(text.parse::<Uid>().unwrap().as_str(), text);
        }
        assert_eq!(Uid::from_value(b"1.2.3\0").unwrap().as_str(), "1.2.3");
        assert_eq!(Uid::from_value(b"1.2.3  ").unwrap().as_str(), "1.2.3");
        assert!("1.02".parse::<Uid>().unwrap().has_leading_zero());
        assert!(!"1.0.2".parse::<Uid>().unwrap().has_leading_zero());
    }

    #[test]
    fn sop_classes_have_names() {
        assert_eq!(name_of("1.2.840.10008.5.1.4.1.1.2"), Some("CT Image Storage"));
        assert_eq!(name_of("1.2.3"), None);
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", ".", "1.", ".1", "1..2", "1.a", " 1", "1 ", "1\0", "1/2", "-1", &"1".repeat(65)]
        {
            assert_eq!(text.parse::<Uid>(), Err(InvalidUid), "{text:?}");
        }
    }
}
