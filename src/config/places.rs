//! `[import]` and `[export]`: places outside of the archive that instances come from and go to.
//!
//! Holds: a client names a place by its name alone, and only one that its partition may use; secrets
//! stand in files, since a list of tables is shown as it is.

use std::{collections::BTreeSet, io::Read as _, path::PathBuf};

use toml::Value;
use url::Url;

use super::{BlobConfig, BlobKind, Secret, fields::Fields, reader::Reader};
use crate::tenancy::PartitionId;

/// Longest secret that a file can hold, in bytes.
const LONGEST_SECRET: u64 = 64 << 10;
/// Longest name of a place.
const LONGEST_NAME: usize = 64;

/// `[import]`: what `POST /import` and `collimator import` read.
#[derive(Clone, Debug)]
pub struct ImportConfig {
    /// `import.sources`: where clients may have files read.
    pub sources: Vec<PlaceConfig>,
    /// `import.at_once`: batches of files that are read and stored at a time.
    pub at_once: usize,
}

/// `[export]`: what `POST /export` writes.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// `export.destinations`: where clients may have files written.
    pub destinations: Vec<PlaceConfig>,
    /// `export.at_once`: files that are written at a time.
    pub at_once: usize,
    /// `export.max_resources`: most studies, series or instances that a query may find for an export.
    pub max_resources: u32,
}

/// A folder or a bucket.
#[derive(Clone, Debug)]
pub struct PlaceConfig {
    /// `name`: what clients call it.
    pub name: String,
    /// `partitions`: those that may use it; `None`: every one.
    pub partitions: Option<BTreeSet<PartitionId>>,
    /// The other keys, which are those of `[blob]`.
    pub at: BlobConfig,
}

impl ImportConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            sources: PlaceConfig::read_all(r, "import.sources"),
            at_once: r.count("import.at_once", 1..=64),
        }
    }
}

impl ExportConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            destinations: PlaceConfig::read_all(r, "export.destinations"),
            at_once: r.count("export.at_once", 1..=64),
            max_resources: r.count("export.max_resources", 1..=100_000),
        }
    }
}

impl PlaceConfig {
    /// The place of a name that a partition may use.
    pub fn of<'a>(places: &'a [Self], name: &str, partition: &PartitionId) -> Option<&'a Self> {
        let may = |place: &&Self| {
            place.partitions.as_ref().is_none_or(|listed| listed.contains(partition))
        };
        places.iter().filter(may).find(|place| place.name == name)
    }

    /// Reads the whole list. What is wrong with a place is told by its name and the key.
    fn read_all(r: &mut Reader, key: &'static str) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        let Some(tables) = r.tables(key) else { return places };
        for (at, table) in tables.into_iter().enumerate() {
            let name = table.get("name").and_then(Value::as_str).filter(|name| is_name(name));
            let called =
                name.map_or_else(|| format!("{key}[{at}]"), |name| format!("{key}.{name}"));
            let mut fields = Fields::new(called, table);
            let place = Self::read(&mut fields);
            if let Some(place) = &place
                && places.iter().any(|other| other.name == place.name)
            {
                fields.conflict("another one has the same name");
            }
            fields.finish().into_iter().for_each(|what| r.conflict(what));
            places.extend(place);
        }
        places
    }

    fn read(f: &mut Fields) -> Option<Self> {
        let rule = "1 to 64 letters, digits and . _ -";
        let name = f.parsed("name", rule, |value| {
            value.as_str().filter(|name| is_name(name)).map(str::to_owned)
        });
        if f.value("name").is_none() {
            f.refuse("name", rule);
        }
        let listed = f.texts("partitions").unwrap_or_default();
        if f.value("partitions").is_none() {
            f.refuse("partitions", "a list of partitions, or \"*\" for every one");
        }
        let partitions = match listed.as_slice() {
            [all] if all == "*" => None,
            listed => {
                let read: Vec<PartitionId> = f.read_each(
                    "partitions",
                    listed,
                    "a list of partitions, or \"*\" for every one",
                );
                Some(read.into_iter().collect())
            }
        };
        let kinds = [
            ("local", BlobKind::Local),
            ("s3", BlobKind::S3),
            ("azure", BlobKind::Azure),
            ("gcs", BlobKind::Gcs),
        ];
        let kind = f.parsed("kind", "\"local\", \"s3\", \"azure\" or \"gcs\"", |value| {
            let text = value.as_str()?;
            kinds.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
        });
        let kind = kind.unwrap_or(BlobKind::Local);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let endpoint = f.url("endpoint").map(|(text, url)| (text, Url::scheme(&url) == "http"));
        let at = BlobConfig {
            kind,
            dir: f.parsed("dir", "the absolute path of a folder", absolute),
            direct: true,
            bucket: f.parsed("bucket", "a text", text).unwrap_or_default(),
            prefix: f
                .parsed("prefix", "a prefix of keys without a slash at either end", prefix)
                .unwrap_or_default(),
            endpoint: endpoint.as_ref().map(|(url, _)| url.trim_end_matches('/').to_owned()),
            region: f.parsed("region", "a text", text).unwrap_or_else(|| "us-east-1".to_owned()),
            access_key_id: secret(f, "access_key_id_file"),
            secret_access_key: secret(f, "secret_access_key_file"),
            account: f.parsed("account", "a text", text).unwrap_or_default(),
            account_key: secret(f, "account_key_file"),
            service_account_key: secret(f, "service_account_key_file"),
            allow_http: f.flag("allow_http"),
        };
        match kind {
            BlobKind::Local if at.dir.is_none() => f.refuse("dir", "the absolute path of a folder"),
            BlobKind::Local => {}
            _ if at.bucket.is_empty() => f.refuse("bucket", "the name of a bucket or container"),
            _ => {}
        }
        if kind == BlobKind::Azure && at.account.is_empty() {
            f.refuse("account", "the name of a storage account");
        }
        if at.access_key_id.is_some() != at.secret_access_key.is_some() {
            f.conflict("access_key_id_file and secret_access_key_file must be set together");
        }
        if endpoint.is_some_and(|(_, is_plain)| is_plain) && !at.allow_http {
            f.conflict("endpoint is plain http://, which needs allow_http = true");
        }
        Some(Self { name: name?, partitions, at })
    }
}

fn is_name(name: &str) -> bool {
    let is_in = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_in)
}

fn absolute(value: &Value) -> Option<PathBuf> {
    value.as_str().map(PathBuf::from).filter(|path| path.is_absolute())
}

fn prefix(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let segment = |part: &str| !part.is_empty() && part != "." && part != "..";
    (text.is_empty() || text.split('/').all(segment)).then(|| text.to_owned())
}

/// What the file holds that a key names, without white space at its ends.
fn secret(f: &mut Fields, key: &'static str) -> Option<Secret> {
    f.parsed(key, "a file that can be read and holds text, of 64 KiB at the most", |value| {
        let file = std::fs::File::open(value.as_str()?).ok()?;
        let mut text = zeroize::Zeroizing::new(String::new());
        file.take(LONGEST_SECRET + 1).read_to_string(&mut text).ok()?;
        let trimmed = text.trim();
        let fits = !trimmed.is_empty() && text.len() as u64 <= LONGEST_SECRET;
        fits.then(|| Secret::new(trimmed))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources};
    use super::*;

    fn loaded(text: &str) -> Result<Config, String> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sources = Sources { file: Some(file.path().to_owned()), ..Default::default() };
        Config::load(&sources).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_place_is_found_by_its_name_for_whom_it_is() {
        let text = r#"
            [data]
            dir = "/tmp/none"
            [[export.destinations]]
            name = "usb"
            partitions = ["clinic1", "CLINIC2"]
            dir = "/mnt/usb"
            [[export.destinations]]
            name = "research"
            kind = "s3"
            bucket = "research"
            prefix = "in/here"
            partitions = "*"
        "#;
        let config = loaded(text).unwrap();
        let of = |name: &str, partition: &str| {
            PlaceConfig::of(&config.export.destinations, name, &partition.parse().unwrap())
                .map(|place| place.at.bucket.clone())
        };
        assert_eq!(of("usb", "clinic2").as_deref(), Some(""));
        assert_eq!(of("usb", "clinic3"), None);
        assert_eq!(of("research", "clinic3").as_deref(), Some("research"));
        assert_eq!(of("", "clinic1"), None);
    }

    #[test]
    fn what_is_wrong_is_told_by_place_and_key() {
        let text = r#"
            [data]
            dir = "/tmp/none"
            [[import.sources]]
            name = "a/b"
            [[import.sources]]
            name = "usb"
            partitions = ["-"]
            dir = "usb"
            secret_access_key = "s3cr3t"
            [[import.sources]]
            name = "usb"
            partitions = "*"
            kind = "s3"
            endpoint = "http://127.0.0.1:1"
            prefix = "../x"
        "#;
        let errors = loaded(text).unwrap_err();
        for expected in [
            "import.sources[0].name must be",
            "import.sources[0].partitions must be",
            "import.sources.usb.partitions must be",
            "import.sources.usb.dir must be",
            "import.sources.usb: there is no key secret_access_key",
            "import.sources.usb: another one has the same name",
            "import.sources.usb.bucket must be",
            "import.sources.usb.prefix must be",
            "needs allow_http",
        ] {
            assert!(errors.contains(expected), "{expected}: {errors}");
        }
        assert!(!errors.contains("s3cr3t"));
    }
}
