//! `collimator verify` over an archive after all that happened to it: rows, blobs, bytes and feeds
//! say the same, and the chains of the audit log are whole.

use std::{path::Path, process::Command};

use crate::harness::process::program;

/// The archive of a data folder has no damage.
pub async fn is_clean(data: &Path, settings: &[(&str, &str)]) {
    is_clean_in(data, settings, |_| {}).await;
    // Nor has anybody to explain what became of the audit log.
    let arguments = ["audit", "verify", "--data-dir", data.to_str().unwrap()];
    let mut command = program(&arguments, settings);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [said, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(0), "{said}\n{told}");
}

/// The same, with a last change to the command.
pub async fn is_clean_in(
    data: &Path,
    settings: &[(&str, &str)],
    change: impl FnOnce(&mut Command),
) {
    let arguments = ["verify", "--data-dir", data.to_str().unwrap(), "--json"];
    let mut command = program(&arguments, settings);
    change(&mut command);
    // A store in this process has to answer meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [said, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(0), "{said}\n{told}");
    assert!(said.contains("\"clean\":true"), "{said}");
}
