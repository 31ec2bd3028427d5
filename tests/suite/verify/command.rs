//! The command itself, as a process: exit codes, forms of the report, beside a server and alone.

use std::path::Path;

use serde_json::Value;

use super::instance;
use crate::harness::{
    postgres,
    process::{Process, run},
};

fn verify(data: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let data = data.to_str().unwrap();
    let arguments = [&["verify", "--data-dir", data], more].concat();
    let output = run(&arguments, &[]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn exit_codes_and_reports_beside_a_server_and_alone() {
    let data = postgres::tempdir();
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, _, error) = verify(elsewhere.path(), &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no archive"), "{error}");
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0, "nothing is made");

    let process = Process::serve(data.path(), &[]);
    let files = [instance(1, 1, 1), instance(1, 1, 2)].map(|ct| ct.file());
    process.client.store("/studies", &files).await.is(200);
    let (code, text, error) = verify(data.path(), &[]);
    assert_eq!(code, Some(0), "{text}{error}");
    assert!(text.contains("microsoft.default: clean; 1 studies, 1 series, 2 instances"), "{text}");
    assert!(text.ends_with("Clean.\n"), "{text}");
    process.client.get("/studies/1.2.1").await.is(200);

    for wrong in [&["--partition", "nobody"][..], &["--partition", "no body"], &["--raet", "1"]] {
        let (code, _, error) = verify(data.path(), wrong);
        assert_eq!(code, Some(1), "{wrong:?} {error}");
    }
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));

    let (code, json, _) = verify(data.path(), &["--json", "--rate", "100MiB"]);
    assert_eq!(code, Some(0), "{json}");
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["begin", "partition", "end"]);
    assert_eq!(lines[2]["clean"], true);

    let blob = walk(&data.path().join("blobs/microsoft.default")).pop().unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 4;
    bytes[middle] ^= 0x10;
    std::fs::write(&blob, bytes).unwrap();
    let file = data.path().join("report.jsonl");
    let (code, text, error) = verify(data.path(), &["--report", file.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{text}{error}");
    assert!(text.contains("bytes_differ study 1.2.1 series 1.2.1.1 instance 1.2.1.1."), "{text}");
    assert!(text.contains("What to do"), "{text}");
    let report = std::fs::read_to_string(file).unwrap();
    assert_eq!(report.lines().count(), 4, "{report}");
    assert!(!text.contains("Doe") && !report.contains("Doe"));
    let (code, text, _) = verify(data.path(), &["--quick"]);
    assert_eq!(code, Some(0), "{text}");

    let process = Process::serve(data.path(), &[]);
    assert_eq!(verify(data.path(), &[]).0, Some(2));
    drop(process);
    std::fs::remove_dir_all(data.path().join("blobs")).unwrap();
    let (code, _, error) = verify(data.path(), &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no folder of blobs") && !data.path().join("blobs").exists());
}

#[tokio::test]
async fn a_schema_that_is_older_is_not_touched() {
    let data = postgres::tempdir();
    let name = postgres::create("").await;
    let url = postgres::url(&name).await;
    let folder = data.path().to_str().unwrap();
    let output = run(&["verify", "--data-dir", folder], &[("database.url", &url)]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("collimator migrate") && !error.contains("secret"), "{error}");
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
