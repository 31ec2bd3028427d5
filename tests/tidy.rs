//! What keeps the house in order: who may name whom, documents, lengths, and configuration that
//! is used. No server is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules that each module may name as `crate::…`. Layers may be skipped downwards; nothing
/// above is ever named.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["app", "cli"]),
    ("lib", &[]),
    ("cli", &["app", "config", "verify"]),
    (
        "app",
        &[
            "archive",
            "audit",
            "blob",
            "config",
            "control",
            "dimse",
            "exchange",
            "http",
            "identity",
            "index",
            "outbound",
            "postgres",
            "query",
            "telemetry",
            "tenancy",
            "verify",
            "workers",
        ],
    ),
    (
        "http",
        &[
            "archive",
            "exchange",
            "audit",
            "control",
            "identity",
            "outbound",
            "query",
            "render",
            "codec",
            "tenancy",
            "dicom",
            "config",
            "telemetry",
        ],
    ),
    (
        "dimse",
        &[
            "archive",
            "audit",
            "control",
            "identity",
            "query",
            "tenancy",
            "dicom",
            "config",
            "telemetry",
        ],
    ),
    ("query", &["archive", "dicom", "config"]),
    (
        "workers",
        &[
            "archive",
            "exchange",
            "audit",
            "control",
            "outbound",
            "verify",
            "index",
            "blob",
            "tenancy",
            "dicom",
            "config",
            "telemetry",
        ],
    ),
    ("exchange", &["archive", "index", "blob", "tenancy", "dicom", "config"]),
    ("verify", &["audit", "index", "blob", "dicom", "tenancy", "telemetry"]),
    (
        "archive",
        &["audit", "index", "blob", "render", "codec", "dicom", "tenancy", "config", "telemetry"],
    ),
    ("control", &["audit", "index", "blob", "dicom", "tenancy", "config", "telemetry"]),
    ("index", &["audit", "tenancy", "dicom", "config", "telemetry"]),
    ("audit", &["tenancy"]),
    ("blob", &["tenancy", "config", "telemetry"]),
    ("identity", &["tenancy", "config", "telemetry"]),
    ("outbound", &["config", "telemetry"]),
    ("config", &["tenancy", "dicom"]),
    ("postgres", &["telemetry"]),
    ("telemetry", &[]),
    ("render", &["codec", "dicom"]),
    ("codec", &["dicom"]),
    ("tenancy", &[]),
    ("dicom", &[]),
];

/// Longest file, in lines.
const LONGEST: usize = 600;

/// Modules that may make a scope that no request asked for.
const MAINTENANCE: &[&str] = &["tenancy", "workers", "control", "app", "verify"];

fn files(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
    assert!(!found.is_empty());
    found
}

/// The top module that a file of `src/` belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file: without comments, and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Every module that code names behind `start` (`crate::`), also in braces.
fn named(code: &str, start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split(start).skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(name(rest).to_owned());
            continue;
        };
        let (mut depth, mut expects) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects = true,
                c if c.is_ascii_alphabetic() && expects => {
                    found.insert(name(&list[at..]).to_owned());
                    expects = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn the_names_in_a_use_are_found() {
    let code =
        "use crate::{\n    a::{b, c},\n    d,\n};\nlet x = crate::e::f();\npub use crate::g::{h};";
    let expected = ["a", "d", "e", "g"].map(str::to_owned);
    assert_eq!(named(code, "crate::"), BTreeSet::from(expected));
}

#[test]
fn arrows_point_down() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for (path, text) in files("src") {
        let module = module(&path);
        let allowed = layers.get(&*module).unwrap_or_else(|| panic!("{module} has no layer"));
        let start = if module == "main" { "collimator::" } else { "crate::" };
        for other in named(&code(&text), start) {
            let fine = other == module || allowed.contains(&&*other);
            assert!(fine, "{}: {module} must not name {other}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_none_is_too_long() {
    for (path, text) in [files("src"), files("tests")].concat() {
        assert!(text.starts_with("//! "), "{} has no module document", path.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    let later = ["TO", "DO"].concat();
    let words = [later.as_str(), "todo!(", "unimplemented!(", "FIXME", "#[ignore"];
    for (path, text) in [files("src"), files("tests")].concat() {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for word in words {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn scopes_without_a_request_are_made_in_the_background_alone() {
    for (path, text) in files("src") {
        let made = code(&text).contains("for_maintenance");
        let module = module(&path);
        let allowed = MAINTENANCE.contains(&&*module);
        assert!(!made || allowed, "{}: {module} makes a scope of its own", path.display());
    }
}

#[test]
fn every_configuration_key_is_used() {
    let sources: Vec<String> = files("src")
        .into_iter()
        .filter(|(path, _)| module(path) != "config" || path.ends_with("config/sections.rs"))
        .map(|(_, text)| code(&text))
        .collect();
    let defaults: toml::Table = collimator::config::DEFAULT_TOML.parse().unwrap();
    let mut keys = 0;
    for (section, values) in &defaults {
        for key in values.as_table().unwrap().keys() {
            keys += 1;
            // What a file holds in place of a key is used as that is.
            let access = format!(".{}", key.strip_suffix("_file").unwrap_or(key));
            let is_used = sources.iter().any(|text| {
                text.match_indices(&access).any(|(at, _)| {
                    let after = &text[at + access.len()..];
                    // A field of that name, and not the name of the key where it is read.
                    name(after).is_empty() && !after.starts_with('"')
                })
            });
            assert!(is_used, "{section}.{key} is read and used nowhere");
        }
    }
    assert!(keys > 50, "{keys}");
}
