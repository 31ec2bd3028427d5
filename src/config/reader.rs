//! Typed reading of merged values, with every error collected and every key that was read noted.

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use toml::{Table, Value};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Secret,
    layers::{ConfigError, Merged},
};

/// Longest secret that a file can hold, in bytes.
const LONGEST_SECRET: u64 = 64 << 10;

/// Reads each key once. A value that is wrong is told in `errors` and a placeholder is returned,
/// so that one load tells everything that is wrong; the placeholder never leaves `Config::load`.
pub(super) struct Reader<'a> {
    pub merged: &'a Merged,
    pub errors: Vec<ConfigError>,
    pub read: BTreeSet<&'static str>,
    pub secrets: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub fn new(merged: &'a Merged, errors: Vec<ConfigError>) -> Self {
        Self { merged, errors, read: BTreeSet::new(), secrets: BTreeSet::new() }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.insert(key);
        self.merged.get(key).map(|layered| &layered.value)
    }

    /// Notes that the value of `key` is wrong.
    pub fn refuse(&mut self, key: &'static str, expected: impl Into<String>) {
        if let Some(layered) = self.merged.get(key) {
            let origin = layered.origin.clone();
            self.errors.push(ConfigError::Invalid { origin, key, expected: expected.into() });
        }
    }

    /// Notes that values do not go together.
    pub fn conflict(&mut self, what: impl Into<String>) {
        self.errors.push(ConfigError::Combination(what.into()));
    }

    fn parsed<T>(
        &mut self,
        key: &'static str,
        placeholder: T,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        match self.value(key).and_then(parse) {
            Some(parsed) => parsed,
            None => {
                self.refuse(key, expected);
                placeholder
            }
        }
    }

    pub fn text(&mut self, key: &'static str) -> String {
        self.parsed(key, String::new(), "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A text, `None` if it is empty.
    pub fn optional(&mut self, key: &'static str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// A text that is never shown, `None` if it is empty.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.secrets.insert(key);
        self.optional(key).map(Secret::new)
    }

    /// A secret, or what the file holds that `file_key` names, without white space at its ends.
    pub fn secret_or_file(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        let (own, file) = (self.secret(key), self.path(file_key));
        let Some(file) = file else { return own };
        if own.is_some() {
            self.conflict(format!("{key} and {file_key} must not both be set"));
            return own;
        }
        // What is longer is no key, and an endless file must not be read.
        let read = std::fs::File::open(&file).and_then(|file| {
            // In one piece: what a growing buffer leaves behind is not overwritten.
            let mut text = Zeroizing::new(String::with_capacity(LONGEST_SECRET as usize + 64));
            file.take(LONGEST_SECRET + 1).read_to_string(&mut text)?;
            Ok(text)
        });
        let text = read.ok().filter(|text| text.len() as u64 <= LONGEST_SECRET);
        let secret = text.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty());
        if secret.is_none() {
            let expected = "a file that can be read and holds text, of 64 KiB at the most";
            self.refuse(file_key, expected);
        }
        secret.map(Secret::new)
    }

    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.optional(key).map(PathBuf::from)
    }

    /// A URL with one of the schemes, `None` if empty.
    pub fn url(&mut self, key: &'static str, schemes: &[&str]) -> Option<Url> {
        let text = self.optional(key)?;
        let url = Url::parse(&text).ok().filter(|url| schemes.contains(&url.scheme()));
        let url = url.filter(Url::has_host);
        if url.is_none() {
            self.refuse(key, format!("a URL that begins with {}://", schemes.join(":// or ")));
        }
        url
    }

    pub fn flag(&mut self, key: &'static str) -> bool {
        self.parsed(key, false, "true or false", Value::as_bool)
    }

    pub fn address(&mut self, key: &'static str) -> SocketAddr {
        let expected = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
        let placeholder = SocketAddr::from(([127, 0, 0, 1], 0));
        self.parsed(key, placeholder, expected, |value| value.as_str()?.parse().ok())
    }

    /// A whole number within `range`.
    pub fn count<T: Default + TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> T {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(key, T::default(), &expected, |value| {
            let number = u64::try_from(value.as_integer()?).ok()?;
            range.contains(&number).then_some(number)?.try_into().ok()
        })
    }

    /// A part of one within `range`.
    pub fn share(&mut self, key: &'static str, range: RangeInclusive<f64>) -> f64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.parsed(key, *range.end(), &expected, |value| {
            let number = value
                .as_float()
                .or_else(|| Some(f64::from(i8::try_from(value.as_integer()?).ok()?)));
            number.filter(|number| range.contains(number))
        })
    }

    /// A size in bytes within `range`.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (ByteSize(*range.start()), ByteSize(*range.end()));
        let expected = format!("a size such as \"16MiB\", from {low} to {high}");
        self.parsed(key, 0, &expected, |value| {
            let bytes = match value {
                Value::Integer(bytes) => u64::try_from(*bytes).ok()?,
                Value::String(text) => text.parse::<ByteSize>().ok()?.as_u64(),
                _ => return None,
            };
            range.contains(&bytes).then_some(bytes)
        })
    }

    /// A time within `range` (in seconds).
    pub fn time(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Duration {
        let (low, high) = (Duration::from_secs(*range.start()), Duration::from_secs(*range.end()));
        let shown = |time| humantime::format_duration(time).to_string();
        let expected = format!("a time such as \"30s\", from {} to {}", shown(low), shown(high));
        self.parsed(key, Duration::ZERO, &expected, |value| {
            let time = humantime::parse_duration(value.as_str()?).ok()?;
            (low..=high).contains(&time).then_some(time)
        })
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = format!("one of {}", words.join(", "));
        self.parsed(key, choices[0].1, &expected, |value| {
            let text = value.as_str()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
        })
    }

    /// One of several numbers.
    pub fn number(&mut self, key: &'static str, choices: &[u16]) -> u16 {
        let words: Vec<String> = choices.iter().map(ToString::to_string).collect();
        self.parsed(key, choices[0], &words.join(" or "), |value| {
            let number = u16::try_from(value.as_integer()?).ok()?;
            choices.contains(&number).then_some(number)
        })
    }

    /// A list of texts.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
        self.parsed(key, Vec::new(), "a list of texts", |value| {
            let texts = value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect()
        })
    }

    /// A list of tables.
    pub fn tables(&mut self, key: &'static str) -> Option<Vec<&'a Table>> {
        let listed = self.value(key)?.as_array();
        let tables = listed.and_then(|items| items.iter().map(Value::as_table).collect());
        if tables.is_none() {
            self.refuse(key, "a list of tables");
        }
        tables
    }

    /// A list of networks and addresses.
    pub fn networks(&mut self, key: &'static str) -> Vec<IpNet> {
        let read = |text: &String| match text.parse::<IpNet>() {
            Ok(network) => Some(network),
            Err(_) => text.parse::<IpAddr>().ok().map(Into::into),
        };
        let networks: Option<Vec<_>> = self.list(key).iter().map(read).collect();
        if networks.is_none() {
            let expected = "a list of addresses such as 10.0.0.7 and networks such as 10.1.0.0/16";
            self.refuse(key, expected);
        }
        networks.unwrap_or_default()
    }
}
