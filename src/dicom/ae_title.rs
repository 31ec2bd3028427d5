//! Application Entity titles (PS3.5 §6.2, AE).

use std::{fmt, str::FromStr};

/// The name of an Application Entity: 1 to 16 printable characters of ASCII, without a backslash;
/// spaces around it do not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle(Box<str>);

/// Why a text is not a title. The text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an AE title is 1 to 16 printable characters of ASCII without a backslash (PS3.5 §6.2)")]
pub struct InvalidAeTitle;

impl AeTitle {
    /// The title as text, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AeTitle {
    type Err = InvalidAeTitle;
    fn from_str(text: &str) -> Result<Self, InvalidAeTitle> {
        let text = text.trim_matches(' ');
        let is_fit = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
        match (1..=16).contains(&text.len()) && text.bytes().all(is_fit) {
            true => Ok(Self(text.into())),
            false => Err(InvalidAeTitle),
        }
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_short_and_printable() {
        for (text, expected) in
            [("A", "A"), (" STORE 1 ", "STORE 1"), ("ABCDEFGHIJKLMNOP ", "ABCDEFGHIJKLMNOP")]
        {
            assert_eq!(text.parse::<AeTitle>().unwrap().as_str(), expected);
        }
        for text in ["", "   ", "ABCDEFGHIJKLMNOPQ", "A\\B", "A\nB", "Ä", "A\u{7f}"] {
            assert_eq!(text.parse::<AeTitle>(), Err(InvalidAeTitle), "{text:?}");
        }
    }
}
