//! Layering, errors, masking, and that the reference is complete.

use std::{collections::BTreeSet, ffi::OsString, fs, time::Duration};

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let home = [("HOME", "/home/someone")];
    pairs.iter().chain(&home).map(|(name, value)| (name.into(), value.into())).collect()
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(&Sources { environment: environment(pairs), ..Sources::default() })
}

/// The messages of a load that must fail.
fn messages(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_are_valid() {
    let config = from_environment(&[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.limits.bulk_threshold, 4096);
    assert_eq!(config.delete.grace_period, Duration::from_secs(3 * 86400));
    assert_eq!(config.store.identical, Identical::Success);
    assert!(config.database.url.is_none() && config.blob.access_key_id.is_none());
    assert!(config.data.dir.is_absolute());
}

#[test]
fn later_layers_win() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        "[limits]\nparts = 5\nelement_depth = 6\n[server]\nlisten = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[
            ("COLLIMATOR__LIMITS__ELEMENT_DEPTH", "7"),
            ("COLLIMATOR__SERVER__LISTEN", "127.0.0.1:2"),
            ("COLLIMATOR__FEATURES__ENABLE_DATA_PARTITION", "true"),
            ("COLLIMATOR__CORS__ALLOWED_ORIGINS", "https://a.example, https://b.example:8443"),
            ("COLLIMATOR_OTHER", "not ours"),
        ]),
        flags: vec![("server.listen", "--listen", "127.0.0.1:3".to_owned())],
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.limits.parts, config.limits.element_depth), (5, 7));
    assert_eq!(config.server.listen.port(), 3);
    assert!(config.features.enable_data_partition);
    assert_eq!(config.cors.allowed_origins, ["https://a.example", "https://b.example:8443"]);
    let shown = config.effective();
    assert!(shown.contains("listen = \"127.0.0.1:3\"  # --listen\n"), "{shown}");
    assert!(shown.contains("element_depth = 7  # COLLIMATOR__LIMITS__ELEMENT_DEPTH\n"), "{shown}");
    assert!(shown.contains("frames = 1000000\n"), "{shown}");
}

#[test]
fn all_errors_are_told_together_and_name_the_nearest_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        "stray = 1\n[limit]\nparts = 5\n[limits]\nframe = 1\nheader_bytes = true\n[blob]\nkind = \"tape\"\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[
            ("COLLIMATOR__SERVER__LISTENS", "x"),
            ("COLLIMATOR__LIMITS__PARTS", "many"),
        ]),
        flags: Vec::new(),
    };
    let at = file.path().display();
    let told: BTreeSet<String> = messages(Config::load(&sources)).into_iter().collect();
    let expected = [
        format!("{at}: there is no key stray"),
        format!("{at}: there is no key limit.parts; did you mean limits.parts?"),
        format!("{at}: there is no key limits.frame; did you mean limits.frames?"),
        format!(
            "{at}: limits.header_bytes must be a size such as \"16MiB\", from 1.0 KiB to 1.0 GiB"
        ),
        format!("{at}: blob.kind must be one of \"local\", \"s3\", \"azure\", \"gcs\""),
        "environment: there is no key COLLIMATOR__SERVER__LISTENS; did you mean \
         COLLIMATOR__SERVER__LISTEN?"
            .to_owned(),
        "COLLIMATOR__LIMITS__PARTS: limits.parts must be a whole number from 1 to 1000000"
            .to_owned(),
    ];
    assert_eq!(told, BTreeSet::from(expected));
}

#[test]
fn values_out_of_range_and_combinations_are_refused() {
    let check = |pairs: &[(&str, &str)], part: &str| {
        let told = messages(from_environment(pairs));
        assert!(told.iter().any(|message| message.contains(part)), "{part}: {told:?}");
    };
    check(&[("COLLIMATOR__BLOB__KIND", "s3")], "needs blob.bucket");
    check(&[("COLLIMATOR__BLOB__KIND", "azure")], "needs blob.account");
    check(&[("COLLIMATOR__BLOB__ACCESS_KEY_ID", "x")], "must be set together");
    check(&[("COLLIMATOR__BLOB__ENDPOINT", "http://127.0.0.1:1")], "blob.allow_http");
    check(&[("COLLIMATOR__BLOB__ENDPOINT", "ftp://host")], "begins with http:// or https://");
    check(&[("COLLIMATOR__BLOB__PREFIX", "a/../b")], "blob.prefix must be");
    check(&[("COLLIMATOR__DATABASE__APP_URL", "postgres://a@b/c")], "needs database.url");
    check(&[("COLLIMATOR__DATABASE__MAX_CONNECTIONS", "151")], "needs a database.url");
    check(&[("COLLIMATOR__DATABASE__URL", "mysql://a@b/c")], "begins with postgres://");
    check(&[("COLLIMATOR__SEARCH__NO_MATCH", "404")], "search.no_match must be 204 or 200");
    check(&[("COLLIMATOR__LIMITS__BODY_IDLE", "0s")], "from 1s to 1day");
    check(&[("COLLIMATOR__LIMITS__BODY_IDLE", "60")], "a time such as");
    check(&[("COLLIMATOR__LIMITS__REQUEST_BYTES", "1MiB")], "limits.instance_bytes");
    check(&[("COLLIMATOR__STORE__OWN_BLOB_BYTES", "32MiB")], "store.batch_bytes");
    check(&[("COLLIMATOR__OVERLOAD__HEAVY", "256")], "less than overload.working");
    check(&[("COLLIMATOR__OVERLOAD__OPEN", "255")], "must not exceed overload.open");
    check(&[("COLLIMATOR__OVERLOAD__PARTITION_SHARE", "0")], "a whole number from 1");
    check(&[("COLLIMATOR__SERVER__LISTEN", "localhost:80")], "an IP address and a port");
    check(&[("COLLIMATOR__TENANCY__BASE_DOMAIN", "a..b")], "a host name");
    check(&[("COLLIMATOR__CORS__ALLOWED_ORIGINS", "*,https://a.example")], "or \"*\" alone");
    check(&[("COLLIMATOR__TLS__KEY", "/k.pem")], "must be set together");
    check(&[("COLLIMATOR__TLS__CLIENT_AUTH", "required")], "needs tls.certificate");
    check(&[("COLLIMATOR__TLS__CLIENT_CA", "/ca.pem")], "go together");
    check(&[("COLLIMATOR__TLS__PRINCIPALS", "CN=x")], "tls.principals must be a list of tables");
    check(&[("COLLIMATOR__SERVER__TRUSTED_PROXIES", "proxy.example")], "a list of addresses");
    check(&[("COLLIMATOR__LINKS__DEFAULT_EXPIRES", "8days")], "links.max_expires");
    check(&[("COLLIMATOR__AUTH__FAILURES", "0")], "a whole number from 1");
    check(&[("COLLIMATOR__LOG__LEVEL", "info,=")], "log.level must be");
    check(&[("COLLIMATOR__log__LEVEL", "info")], "did you mean COLLIMATOR__LOG__LEVEL?");
}

#[test]
fn a_file_that_cannot_be_read_says_which_and_where_but_not_what() {
    let missing = Sources { file: Some("/nonexistent/c.toml".into()), ..Sources::default() };
    assert!(messages(Config::load(&missing))[0].starts_with("/nonexistent/c.toml: cannot be read"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[blob]\nkind = \"s3\"\nsecret_access_key = hunter2\n").unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let told = messages(Config::load(&sources)).join("\n");
    assert!(told.contains(&format!("{}:3: ", file.path().display())), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn secrets_are_masked_and_the_rest_is_valid_toml() {
    let secrets = [
        ("COLLIMATOR__DATABASE__URL", "postgres://me:hunter2@db/x"),
        ("COLLIMATOR__DATABASE__APP_URL", "postgres://db/x?user=app&password=hunter2"),
        ("COLLIMATOR__BLOB__ACCESS_KEY_ID", "hunter2"),
        ("COLLIMATOR__BLOB__SECRET_ACCESS_KEY", "hunter2"),
        ("COLLIMATOR__BLOB__ACCOUNT_KEY", "hunter2"),
        ("COLLIMATOR__BLOB__SERVICE_ACCOUNT_KEY", "{\"private_key\": \"hunter2\"}"),
    ];
    let config = from_environment(&secrets).unwrap();
    for shown in
        [config.effective().to_owned(), format!("{config:?}"), format!("{:?}", config.blob)]
    {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let shown: Table = config.effective().parse().unwrap();
    let keys = |table: &Table| layers::flatten(table).into_iter().map(|(key, _)| key).collect();
    let (shown, known): (BTreeSet<String>, BTreeSet<String>) = (keys(&shown), keys(&defaults()));
    assert_eq!(shown, known);
}

#[test]
fn a_secret_can_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let of = |content: &str, more: &[(&str, &str)]| {
        fs::write(file.path(), content).unwrap();
        let mut pairs = vec![("COLLIMATOR__DATABASE__URL_FILE", path)];
        pairs.extend_from_slice(more);
        from_environment(&pairs)
    };
    let config = of("postgres://me:hunter2@db/x\n", &[]).unwrap();
    assert_eq!(config.database.url.as_ref().unwrap().expose(), "postgres://me:hunter2@db/x");
    assert!(!config.effective().contains("hunter2"), "{}", config.effective());
    let both = ("COLLIMATOR__DATABASE__URL", "postgres://me:hunter2@db/x");
    for (content, more, part) in [
        ("postgres://me:hunter2@db/x", &[both][..], "must not both be set"),
        ("mysql://hunter2@db", &[], "begins with postgres://"),
        (" \n", &[], "a file that can be read"),
        (&"hunter2".repeat(10_000), &[], "a file that can be read"),
    ] {
        let told = messages(of(content, more)).join("\n");
        assert!(told.contains(part) && !told.contains("hunter2"), "{told}");
    }
    let missing = [("COLLIMATOR__BLOB__ACCOUNT_KEY_FILE", "/nonexistent")];
    let told = messages(from_environment(&missing)).join("\n");
    assert!(told.contains("blob.account_key_file must be a file that can be read"), "{told}");
}

#[test]
fn principals_of_certificates_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let load = |text: &str| {
        let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n\
                   client_auth = \"optional\"\n";
        fs::write(file.path(), format!("{tls}{text}")).unwrap();
        let file = Some(file.path().to_owned());
        Config::load(&Sources { file, environment: environment(&[]), ..Sources::default() })
    };
    let entry = "[[tls.principals]]\nmatch = \"CN=ct\"\npartitions = [\"north\"]\n";
    let config = load(&format!("{entry}roles = [\"writer\"]\n")).unwrap();
    assert_eq!(config.tls.principals.len(), 1);
    let told = messages(load(&format!("{entry}{entry}roles = 7\n"))).join("\n");
    assert!(told.contains("in entry 2, roles has to be a list of texts"), "{told}");
}

/// The reference is complete: each key has a comment right above it and is read into a field, and
/// no field reads a key that is not in the reference.
#[test]
fn every_key_is_documented_and_used() {
    let mut documented = BTreeSet::new();
    let (mut section, mut commented) = (String::new(), false);
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(commented, "{section}.{key} has no comment above it");
            documented.insert(format!("{section}.{key}"));
        }
        commented = line.starts_with("# ");
    }
    let sources = Sources { environment: environment(&[]), ..Sources::default() };
    let merged = layers::merge(&defaults(), &sources, &mut Vec::new());
    let mut reader = Reader::new(&merged, Vec::new());
    Config::read(&mut reader, &sources);
    assert_eq!(reader.errors, []);
    let read: BTreeSet<String> = reader.read.iter().map(ToString::to_string).collect();
    assert_eq!(documented, read);
    assert_eq!(documented, merged.keys().cloned().collect());
}

#[test]
fn a_section_alone_has_its_defaults() {
    assert_eq!(LimitsConfig::default().parsing().element_depth, 32);
    assert_eq!(BlobConfig::default().kind, BlobKind::Local);
}
