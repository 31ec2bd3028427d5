//! `collimator export`: beside a server and alone.

use std::process::Stdio;

use super::*;
use crate::harness::process::{program, run};

fn export(data: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["export", "--data-dir", data.to_str().unwrap()], more].concat();
    let output = run(&arguments, &[]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn named(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_or_found_is_copied_and_the_exit_code_says_whether_it_is_all() {
    let (data, out) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let to = |name: &str| named(out.path(), name);
    let (code, _, error) = export(data.path(), &[&to("x"), "1.2.1"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no archive") && !out.path().join("x").exists(), "{error}");

    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();
    for (study, series, number) in [(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1)] {
        client.store("/studies", &[ct(study, series, number)]).await.is(200);
    }
    let (code, text, error) = export(data.path(), &[&to("a"), "1.2.1/1.2.1.1", "1.2.2"]);
    assert_eq!(code, Some(0), "{text}{error}");
    let said = "3 of 3 instances exported, 0 refused, 0 failed, 0 resources not there";
    assert!(text.starts_with(said), "{text}");
    let folder = out.path().join("a");
    let listed = checked(&folder);
    assert_eq!(listed.len(), 3);
    assert_eq!(listed["results/1.2.1/1.2.1.1/1.2.1.1.2.dcm"], ct(1, 1, 2));
    let names: BTreeSet<_> =
        files(&folder).into_keys().filter(|n| !n.starts_with("results")).collect();
    assert_eq!(names, BTreeSet::from(["errors.log".to_owned(), "manifest.ndjson".to_owned()]));
    // What is there is not written over.
    let (code, _, error) = export(data.path(), &[&to("a"), "1.2.1"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("has an export already"), "{error}");

    // Alone, by a query, as a File-set.
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let query = ["--query", "StudyInstanceUID=1.2.1", "--layout", "dicom"];
    let (code, text, error) = export(data.path(), &[&[&*to("b")], &query[..]].concat());
    assert_eq!(code, Some(0), "{text}{error}");
    assert_eq!(checked(&out.path().join("b")).len(), 3);
    assert!(out.path().join("b/results/DICOMDIR").is_file());
    let all = ["--query", "", "--level", "instances", "--deidentify", "--option", "dates=shift"];
    let (code, text, error) = export(data.path(), &[&[&*to("c")], &all[..]].concat());
    assert_eq!(code, Some(0), "{text}{error}");
    let hidden = checked(&out.path().join("c"));
    assert_eq!(hidden.len(), 4);
    for (name, file) in &hidden {
        assert!(!name.contains("/1.2.") && !file.windows(3).any(|w| w == b"Doe"), "{name}");
    }

    let (code, text, _) = export(data.path(), &[&to("d"), "1.2.1", "1.2.99"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("1 resources not there"), "{text}");
    let errors = lines(&out.path().join("d/errors.log"));
    assert_eq!(errors[0]["identifier"], "1.2.99");
    for (wrong, reason) in [
        (&[&*to("e"), "1.2.x"][..], "number 1 of UIDS"),
        (&[&to("e"), "--query", "PatientNmae=x"], "not known"),
        (&[&to("e"), "--query", "StudyDate=x"], "StudyDate"),
        (&[&to("e"), "--query", "limit=1"], "no limit"),
        (&[&to("e"), "--query", "limi%74=1"], "no limit"),
        (&[&to("e"), "--query", "microsoft.partitionId=north"], "names no partition"),
        (&[&to("e"), "1.2.1", "--deidentify", "--option", "names=true"], "no names"),
        (&[&to("e"), "1.2.1", "--deidentify", "--option", "dates=x"], "dates must be"),
        (&[&to("e"), "1.2.1", "--partition", "north"], "enable_data_partition"),
        (&[&to("f/g"), "1.2.1"], "cannot make the folder"),
        (&[&to("e")], "required"),
    ] {
        let (code, _, error) = export(data.path(), wrong);
        assert_eq!(code, Some(1), "{wrong:?}");
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let verified = run(&["verify", "--data-dir", data.path().to_str().unwrap()], &[]);
    assert_eq!(verified.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_killed_goes_on_where_it_was_and_with_nothing_else() {
    let (data, out) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();
    let mut blobs = Vec::new();
    for study in 1..=4 {
        let all: Vec<Vec<u8>> = (0..250).map(|number| ct(study, 1, number)).collect();
        blobs.push(blob_of(&client, data.path(), &all).await);
    }
    for (name, more) in [("as-is", &[][..]), ("hidden", &["--deidentify", "--layout", "dicom"])] {
        let (to, folder) = (named(out.path(), name), data.path().to_str().unwrap());
        let rest = [&["--query", "StudyDescription=", "--at-once", "1"], more].concat();
        let arguments = [&["export", "--data-dir", folder, &to], &rest[..]].concat();
        // Neither of the first study nor of the last one, in whichever order they are found.
        let held = Held::at(data.path(), &blobs[1]);
        let mut command: Command = program(&arguments, &[]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let state = out.path().join(name).join(".lists/state");
        let exported = || {
            let text = std::fs::read_to_string(&state).unwrap_or_default();
            let state: Value = serde_json::from_str(&text).unwrap_or_default();
            state["cursor"]["results"]["exported"].as_u64().unwrap_or(0)
        };
        until("a part is written", async || exported() > 0).await;
        child.kill().unwrap();
        child.wait().unwrap();
        held.let_go();
        let before = exported();
        assert!(before > 0 && before < 1000, "{before}");
        if name == "hidden" {
            // Nor does it tell while it is under way.
            for (file, bytes) in files(&out.path().join(name)) {
                let is_told = bytes.windows(6).any(|w| w == b"1.2.1." || w == b"1.2.3.");
                assert!(!is_told || file.ends_with(".dcm"), "{file}");
            }
        }
        let (code, _, error) = export(data.path(), &[&to, "1.2.1"]);
        assert_eq!(code, Some(1));
        assert!(error.contains("something else"), "{error}");
        let (code, text, error) = export(data.path(), &[&[&*to], &rest[..]].concat());
        assert_eq!(code, Some(0), "{text}{error}");
        assert!(text.starts_with("1000 of 1000 instances exported"), "{text}");
        assert_eq!(checked(&out.path().join(name)).len(), 1000);
        assert!(!state.exists() && !state.with_file_name("begun").exists());
    }
}

/// What was begun as it is does not go on de-identified, nor the other way round, whatever lies in the
/// destination.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_short_goes_on_in_no_other_way() {
    let (data, out) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let process = Process::serve(data.path(), &[]);
    process.client.store("/studies", &[ct(1, 1, 1), ct(1, 1, 2)]).await.is(200);
    let hidden = ["--deidentify"];
    for (name, how, other) in [("as-is", &[][..], &hidden[..]), ("hidden", &hidden, &[])] {
        let to = named(out.path(), name);
        let run = |more: &[&str]| export(data.path(), &[&[&*to, "1.2.1"], more].concat());
        // There is no room for its manifest.
        let manifest = out.path().join(name).join("manifest.ndjson");
        std::fs::create_dir_all(&manifest).unwrap();
        let (code, _, error) = run(how);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("repeated, it goes on"), "{error}");
        let before = files(&out.path().join(name));
        for another in [other, &[how, &["--layout", "dicom"]].concat()[..]] {
            let (code, _, error) = run(another);
            assert_eq!(code, Some(1));
            assert!(error.contains("in another way"), "{another:?}: {error}");
        }
        let (code, _, error) = run(&["--deidentify", "--option", "dates=shift"]);
        assert_eq!(code, Some(1));
        assert!(error.contains("in another way"), "{error}");
        assert_eq!(files(&out.path().join(name)), before);
        std::fs::remove_dir(&manifest).unwrap();
        let (code, text, error) = run(how);
        assert_eq!(code, Some(0), "{text}{error}");
        assert_eq!(checked(&out.path().join(name)).len(), 2);
        assert!(!out.path().join(name).join(".lists/begun").exists());
    }
    // Nor is anything written over that is there.
    let to = named(out.path(), "mine");
    std::fs::create_dir_all(out.path().join("mine/results")).unwrap();
    std::fs::write(out.path().join("mine/results/DICOMDIR"), "mine").unwrap();
    let (code, _, error) = export(data.path(), &[&to, "1.2.1"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("write over"), "{error}");
}
