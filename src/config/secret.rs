//! A text that is never shown.

use std::fmt;

use url::Url;
use zeroize::Zeroizing;

/// A secret: keys, and URLs that hold a password. `Debug` and `Display` mask it; its memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into().into_boxed_str()))
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    /// A URL is shown with its password masked, anything else as stars alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MASK: &str = "********";
        // Only URLs of a server hide their secrets in known places; a key such as "abc:def" parses
        // as a URL too.
        let url = Url::parse(&self.0).ok().filter(|_| self.0.contains("://"));
        let Some(mut url) = url else { return f.write_str(MASK) };
        if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
            return f.write_str(MASK);
        }
        if url.query().is_some_and(|query| query.to_ascii_lowercase().contains("pass")) {
            url.set_query(Some(MASK));
        }
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn shows_a_url_without_its_password_and_nothing_of_a_key() {
        for (secret, shown) in [
            ("AKIAEXAMPLE", "********"),
            ("half:half", "********"),
            ("postgres://me:hunter2@db:5432/x", "postgres://me:********@db:5432/x"),
            ("postgres://db/x?user=me&password=hunter2", "postgres://db/x?********"),
            ("postgres://me@db/x", "postgres://me@db/x"),
        ] {
            assert_eq!(Secret::new(secret).to_string(), shown);
            assert_eq!(format!("{:?}", Secret::new(secret)), shown);
        }
    }
}
