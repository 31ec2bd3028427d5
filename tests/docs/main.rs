//! The documents against the code: what they list is what there is, and what they name exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use collimator::dicom::attributes::{self, Level};
use regex::Regex;

mod tables;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between `<!-- name -->` and `<!-- end of name -->`.
fn section(text: &str, name: &str) -> String {
    let begin = format!("<!-- {name} -->");
    let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("there is no {begin}"));
    let (inside, _) = rest.split_once(&format!("<!-- end of {name} -->")).expect("its end");
    inside.to_owned()
}

/// The documents, by their path from the root.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".into(), "ARCHITECTURE.md".into(), "CHANGELOG.md".into()];
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).expect("docs/") {
        let name = entry.expect("an entry").file_name();
        paths.push(format!("docs/{}", name.to_string_lossy()));
    }
    paths.into_iter().map(|path: String| (path.clone(), read(&path))).collect()
}

#[test]
fn the_readme_lists_every_configuration_key_with_its_default() {
    let defaults: toml::Table = read("config/default.toml").parse().expect("TOML");
    let mut expected = Vec::new();
    for (section, keys) in &defaults {
        for (key, value) in keys.as_table().expect("sections") {
            expected.push((format!("{section}.{key}"), value.to_string()));
        }
    }
    let row = Regex::new(r"(?m)^\| `([a-z_.]+)` \| `([^`]*)` \| \S").expect("a pattern");
    let table = section(&read("README.md"), "configuration");
    let listed: Vec<(String, String)> =
        row.captures_iter(&table).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_conformance_statement_lists_every_matching_key() {
    let table = section(&read("docs/conformance.md"), "matching");
    let row = Regex::new(r"(?m)^\| (study|series|instance) \| (.*) \|$").expect("a pattern");
    let keyword = Regex::new("`([A-Za-z]+)`").expect("a pattern");
    let mut listed = BTreeSet::new();
    for row in row.captures_iter(&table) {
        for keyword in keyword.captures_iter(&row[2]) {
            listed.insert((row[1].to_owned(), keyword[1].to_owned()));
        }
    }
    let level = |level| match level {
        Level::Study => "study",
        Level::Series => "series",
        Level::Instance => "instance",
    };
    let mut expected: BTreeSet<(String, String)> = attributes::TABLE
        .iter()
        .filter(|attribute| attribute.column.is_some())
        .map(|attribute| (level(attribute.level).to_owned(), attribute.keyword.to_owned()))
        .collect();
    // Matched through what is in the study, not by a column.
    for keyword in ["ModalitiesInStudy", "SOPClassesInStudy"] {
        expected.insert(("study".to_owned(), keyword.to_owned()));
    }
    assert_eq!(listed, expected);
}

#[test]
fn the_architecture_shows_every_arrow_between_rooms() {
    let name = Regex::new("`([a-z]+)`").expect("a pattern");
    let table = section(&read("ARCHITECTURE.md"), "arrows");
    let shown: BTreeMap<String, BTreeSet<String>> = table
        .lines()
        .filter_map(|line| {
            let mut names = name.captures_iter(line).map(|found| found[1].to_owned());
            Some((names.next()?, names.collect()))
        })
        .collect();
    let rooms: BTreeSet<&str> = shown.keys().map(String::as_str).collect();
    let mut found = BTreeMap::new();
    for room in &rooms {
        let folder = Path::new(ROOT).join("src").join(room);
        let used: BTreeSet<String> = sources(&folder)
            .iter()
            .flat_map(|source| used_from_crate(source))
            .filter(|used| rooms.contains(used.as_str()) && used != room)
            .collect();
        found.insert((*room).to_owned(), used);
    }
    assert_eq!(shown, found);
    let listed = fs::read_dir(Path::new(ROOT).join("src")).expect("src/");
    let folders: BTreeSet<String> = listed
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a name"))
        // Uses every room.
        .filter(|folder| folder != "app")
        .collect();
    assert!(folders.iter().eq(shown.keys()), "a room is not in the table: {folders:?}");
}

/// What a source names right after `crate::`, alone or in braces; comments left out.
fn used_from_crate(source: &str) -> Vec<String> {
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut used = Vec::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            used.push(word(after));
            continue;
        };
        let mut depth = 0_u32;
        let mut begins = true;
        for (at, character) in list.char_indices() {
            if begins && depth == 0 {
                used.push(word(&list[at..]));
            }
            begins = character == ',' || (begins && character == ' ');
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    used
}

/// Files of this repository that a document names in code marks (with `::name` for what they
/// define) or links to.
#[test]
fn files_tests_and_links_that_documents_name_exist() {
    let named = Regex::new(r"`((?:src|tests|docs|migrations|config|\.ci)/[^`:\s{}]*)(?:::(\w+))?`")
        .expect("a pattern");
    let link = Regex::new(r"\]\(([^)#:]+)\)").expect("a pattern");
    let mut checked = 0;
    for (document, text) in documents() {
        for found in named.captures_iter(&text) {
            let path = Path::new(ROOT).join(&found[1]);
            assert!(path.exists(), "{document} names {}, which is not there", &found[1]);
            if let Some(item) = found.get(2) {
                let item = Regex::new(&format!(r"\b(fn|struct|enum|const) {}\b", item.as_str()))
                    .expect("a pattern");
                let defined = sources(&path).iter().any(|source| item.is_match(source));
                assert!(defined, "{document} names {}, which is not there", &found[0]);
            }
            checked += 1;
        }
        let folder = Path::new(ROOT).join(&document);
        for found in link.captures_iter(&text) {
            let target = folder.parent().expect("a folder").join(&found[1]);
            assert!(target.exists(), "{document} links to {}, which is not there", &found[1]);
            checked += 1;
        }
    }
    assert!(checked > 50, "the documents name {checked} files: the patterns miss them");
}

/// The texts of a file, or of the Rust files below a folder.
fn sources(path: &PathBuf) -> Vec<String> {
    if path.is_file() {
        return vec![fs::read_to_string(path).expect("a text")];
    }
    let entries = fs::read_dir(path).expect("a folder");
    entries.flat_map(|entry| sources(&entry.expect("an entry").path())).collect()
}
