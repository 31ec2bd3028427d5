//! Reading of one table out of a list of tables, such as an issuer of `auth.issuers`.

use std::{collections::BTreeSet, str::FromStr};

use toml::{Table, Value};
use url::Url;

/// A table whose keys are read one by one. What is wrong is collected, and names the table and the
/// key; values are not repeated.
pub(super) struct Fields<'a> {
    at: String,
    table: &'a Table,
    known: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl<'a> Fields<'a> {
    /// A table, and what it is called in errors.
    pub fn new(at: String, table: &'a Table) -> Self {
        Self { at, table, known: BTreeSet::new(), wrong: Vec::new() }
    }

    /// Notes that the value of `key` is wrong.
    pub fn refuse(&mut self, key: &str, expected: &str) {
        self.wrong.push(format!("{}.{key} must be {expected}", self.at));
    }

    /// Notes that values do not go together.
    pub fn conflict(&mut self, what: &str) {
        self.wrong.push(format!("{}: {what}", self.at));
    }

    /// The value of a key, if it is there.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.table.get(key)
    }

    /// A value as `parse` reads it, if it is there and right.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(self.value(key)?);
        if parsed.is_none() {
            self.refuse(key, expected);
        }
        parsed
    }

    /// Texts: one alone, or a list; none of them empty.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.parsed(key, "a text or a list of texts, none of them empty", texts)
    }

    /// A table of texts or lists of texts.
    pub fn map(&mut self, key: &'static str) -> Option<Vec<(String, Vec<String>)>> {
        self.parsed(key, "a table of texts or lists of texts, none of them empty", |value| {
            let entries = value.as_table()?.iter();
            entries.map(|(name, value)| Some((name.clone(), texts(value)?))).collect()
        })
    }

    /// True or false; false where it is not there.
    pub fn flag(&mut self, key: &'static str) -> bool {
        self.parsed(key, "true or false", Value::as_bool).unwrap_or(false)
    }

    /// Texts, each of them read; `expected` says what they are.
    pub fn read_each<T: FromStr>(
        &mut self,
        key: &'static str,
        listed: &[String],
        expected: &str,
    ) -> Vec<T> {
        let read: Option<Vec<T>> = listed.iter().map(|text| text.parse().ok()).collect();
        if read.is_none() {
            self.refuse(key, expected);
        }
        read.unwrap_or_default()
    }

    /// An `http` or `https` URL without user, query and fragment.
    pub fn url(&mut self, key: &'static str) -> Option<(String, Url)> {
        let expected = "a URL that begins with https://, without user, query and fragment";
        self.parsed(key, expected, |value| {
            let text = filled(value)?;
            let url = Url::parse(text).ok()?;
            let is_plain = url.query().is_none() && url.fragment().is_none();
            let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
            let has_user = !url.username().is_empty() || url.password().is_some();
            (is_plain && is_web && !has_user).then(|| (text.to_owned(), url))
        })
    }

    /// All that is wrong, keys that nobody reads included.
    pub fn finish(mut self) -> Vec<String> {
        for key in self.table.keys().filter(|key| !self.known.contains(key.as_str())) {
            let scored = self.known.iter();
            let scored =
                scored.map(|known| (strsim::normalized_damerau_levenshtein(known, key), known));
            let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|best| best.0 >= 0.5);
            let hint = nearest.map(|(_, known)| format!("; did you mean {known}?"));
            let hint = hint.unwrap_or_default();
            self.wrong.push(format!("{}: there is no key {key}{hint}", self.at));
        }
        self.wrong
    }
}

fn filled(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.trim().is_empty())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(|item| Some(filled(item)?.to_owned())).collect(),
        one => Some(vec![filled(one)?.to_owned()]),
    }
}
