//! The id of a partition: 1 to 32 characters of `a-z 0-9 . _ -`, starting with a letter or digit.

use std::{fmt, str::FromStr};

/// The name of the partition that everything is in when nothing else is said.
const DEFAULT: &str = "microsoft.default";

/// What stands where there is no partition; no text that comes from outside reads as it.
const PLATFORM: &str = "_platform";

/// Longest id, in characters. Also the longest that still fits a host label with room to spare.
const MAX_LENGTH: usize = 32;

/// The isolation unit's id, in lower case. `FromStr` is the only way in from outside, so that a value
/// of this type is always valid, or stands for the platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(Box<str>);

/// Why a text is not a partition id. The text itself is not repeated: it came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a partition id is 1 to 32 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"
)]
pub struct InvalidPartitionId;

impl PartitionId {
    /// The id as stored: lower case, safe in paths, host names and SQL literals.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the audit log keeps what belongs to no partition. It is not one: its first character
    /// is none that an id can begin with, so that nobody can name or create it.
    pub fn platform() -> Self {
        Self(PLATFORM.into())
    }

    /// Whether this is the partition used when none is named and partitions are off.
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT
    }
}

impl Default for PartitionId {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl FromStr for PartitionId {
    type Err = InvalidPartitionId;

    /// Folds ASCII upper case to lower case, then checks the alphabet.
    fn from_str(text: &str) -> Result<Self, InvalidPartitionId> {
        let first_is_alphanumeric = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let in_alphabet = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !first_is_alphanumeric || !in_alphabet || text.len() > MAX_LENGTH {
            return Err(InvalidPartitionId);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_and_keeps_the_alphabet() {
        for (input, expected) in [
            ("clinic1", "clinic1"),
            ("Clinic.One_2-b", "clinic.one_2-b"),
            ("Microsoft.Default", "microsoft.default"),
            ("0", "0"),
        ] {
            assert_eq!(input.parse::<PartitionId>().unwrap().as_str(), expected);
        }
        assert!("MICROSOFT.DEFAULT".parse::<PartitionId>().unwrap().is_default());
        assert!(PartitionId::platform().as_str().parse::<PartitionId>().is_err());
    }

    #[test]
    fn refuses_everything_else() {
        let too_long = "a".repeat(33);
        for input in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "a b",
            "a/b",
            "a'b",
            "klinik\u{fc}",
            "a\0",
            "a,b",
            &too_long,
        ] {
            assert_eq!(input.parse::<PartitionId>(), Err(InvalidPartitionId), "{input:?}");
        }
        assert!("a".repeat(32).parse::<PartitionId>().is_ok());
    }
}
