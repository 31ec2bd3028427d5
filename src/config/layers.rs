//! Layers of configuration: defaults, file, environment and flags become one value per key.
//!
//! Owns the merge, the names of keys in each layer, and the errors. Holds: only keys of
//! `config/default.toml` come out. Absent: types and ranges, which `reader` checks.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// What the environment variables that set keys begin with.
pub const ENVIRONMENT_PREFIX: &str = "COLLIMATOR__";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in `config/default.toml`.
    Default,
    /// The file given by `--config`.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong with the configuration. Values are not repeated: they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key {key}{}", nearest.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The key, as written.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or outside its range.
    #[error("{origin}: {key} must be {expected}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// The key, `section.key`.
        key: &'static str,
        /// What is expected.
        expected: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Combination(String),
}

/// All that is wrong with one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What overrides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file given by `--config`.
    pub file: Option<PathBuf>,
    /// The environment. Only names with [`ENVIRONMENT_PREFIX`] are looked at here; `HOME` and
    /// `XDG_DATA_HOME` give the default of `data.dir`.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags: key, flag with its dashes, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// The value of an environment variable, if it is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.environment.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Layered {
    pub value: Value,
    pub origin: Origin,
}

/// One value for each known key, `section.key`.
pub(super) type Merged = BTreeMap<String, Layered>;

/// Merges all layers over `defaults`. What cannot be merged is told in `errors` and left out.
pub(super) fn merge(defaults: &Table, sources: &Sources, errors: &mut Vec<ConfigError>) -> Merged {
    let mut merged = Merged::new();
    for (key, value) in flatten(defaults) {
        merged.insert(key, Layered { value, origin: Origin::Default });
    }
    if let Some(path) = &sources.file {
        for (key, value) in read_file(path, errors) {
            put(&mut merged, &key, value, Origin::File(path.clone()), errors);
        }
    }
    for (name, value) in &sources.environment {
        // A name that is not Unicode cannot begin a key, and is somebody else's.
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let origin = Origin::Environment(name.to_owned());
        let key = rest.replacen("__", ".", 1).to_ascii_lowercase();
        let upper = rest.bytes().all(|b| !b.is_ascii_lowercase());
        match merged.get_mut(&key) {
            Some(slot) if upper => match value.to_str() {
                Some(text) => {
                    *slot = Layered { value: from_text(text.to_owned(), &slot.value), origin };
                }
                None => {
                    errors.push(ConfigError::Combination(format!("{name} is not Unicode text")))
                }
            },
            _ => errors.push(ConfigError::Unknown {
                origin: Origin::Environment("environment".to_owned()),
                key: name.to_owned(),
                nearest: nearest(&merged, &key).map(|near| variable_of(&near)),
            }),
        }
    }
    for (key, flag, text) in &sources.flags {
        if let Some(slot) = merged.get_mut(*key) {
            let value = from_text(text.clone(), &slot.value);
            *slot = Layered { value, origin: Origin::Flag(flag) };
        }
    }
    merged
}

/// The environment variable that sets `key`.
pub fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replacen('.', "__", 1).to_ascii_uppercase())
}

fn put(
    merged: &mut Merged,
    key: &str,
    value: Value,
    origin: Origin,
    errors: &mut Vec<ConfigError>,
) {
    match merged.get_mut(key) {
        Some(slot) => *slot = Layered { value, origin },
        None => {
            let nearest = nearest(merged, key);
            errors.push(ConfigError::Unknown { origin, key: key.to_owned(), nearest });
        }
    }
}

/// The known key most like `key`, unless even that one is far off.
fn nearest(merged: &Merged, key: &str) -> Option<String> {
    let scored =
        merged.keys().map(|known| (strsim::normalized_damerau_levenshtein(known, key), known));
    // A key that is right but for its section is as near as a slip of the pen.
    let scored = scored.map(|(score, known)| {
        let same_leaf = leaf(known) == leaf(key);
        (if same_leaf { score.max(0.75) } else { score }, known)
    });
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= 0.5).then(|| best.clone())
}

fn leaf(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Reads a text from environment or flag as the type that the default has. What does not read is
/// kept as text: the typed reader then says what was expected.
fn from_text(text: String, like: &Value) -> Value {
    let parsed = match like {
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Float(_) => text.trim().parse().ok().map(Value::Float),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        // As in a file: the only way to write tables.
        Value::Array(_) if text.trim_start().starts_with('[') => {
            let written = format!("list = {text}").parse::<Table>().ok();
            written.and_then(|mut table| table.remove("list")).filter(Value::is_array)
        }
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => None,
    };
    parsed.unwrap_or(Value::String(text))
}

fn read_file(path: &Path, errors: &mut Vec<ConfigError>) -> Vec<(String, Value)> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let reason = error.to_string();
            errors.push(ConfigError::Unreadable { path: path.to_owned(), reason });
            return Vec::new();
        }
    };
    match text.parse::<Table>() {
        Ok(table) => flatten(&table),
        Err(error) => {
            // `Display` would print the line itself, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let reason = error.message().to_owned();
            errors.push(ConfigError::Syntax { path: path.to_owned(), line, reason });
            Vec::new()
        }
    }
}

/// `section.key` and value of everything in a table of tables. A value where a section must be
/// comes out under its bare name, which is no known key.
pub(super) fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (section, content) in table {
        match content {
            Value::Table(keys) => {
                let keys =
                    keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.clone()));
                flat.extend(keys);
            }
            other => flat.push((section.clone(), other.clone())),
        }
    }
    flat
}
