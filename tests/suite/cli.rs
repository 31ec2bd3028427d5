//! The command line and the layers of configuration, on the program itself.

use std::process::Output;

use crate::harness::{
    Dicom, postgres,
    process::{Process, run},
};

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_and_version() {
    for arguments in [["--help"], ["-h"]] {
        let (code, help, _) = said(&run(&arguments, &[]));
        assert_eq!(code, Some(0));
        for word in ["serve", "migrate", "config", "--data-dir", "--listen", "--config"] {
            assert!(help.contains(word), "{word} in {help}");
        }
    }
    let (code, version, _) = said(&run(&["--version"], &[]));
    assert_eq!(
        (code, &*version),
        (Some(0), concat!("collimator ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let (code, _, error) = said(&run(&["swerve"], &[]));
    assert_eq!(code, Some(2));
    assert!(error.contains("serve"), "{error}");
}

#[test]
fn layers_override_each_other_and_secrets_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(
        &file,
        "[server]\nlisten = \"127.0.0.1:1111\"\npublic_url = \"https://dicom.example.org/\"\n\
         [limits]\nparts = 7\n[database]\nurl = \"postgres://me:hunter2@db/x\"\n\
         [blob]\nkind = \"s3\"\nbucket = \"b\"\naccess_key_id = \"k\"\nsecret_access_key = \"s3cr3t\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let data = dir.path().to_str().unwrap();
    let settings = [("limits.parts", "8"), ("search.no_match", "200")];
    let arguments =
        ["config", "check", "--config", file, "--listen", "127.0.0.1:2222", "--data-dir", data];
    let (code, shown, errors) = said(&run(&arguments, &settings));
    assert_eq!(code, Some(0), "{errors}");
    let has = |text: &str| assert!(shown.contains(text), "{text} in {shown}");
    has("listen = \"127.0.0.1:2222\"");
    has("parts = 8");
    has("no_match = 200");
    has("public_url = \"https://dicom.example.org");
    has("--listen");
    has("COLLIMATOR__LIMITS__PARTS");
    assert!(!shown.contains("hunter2") && !shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn what_is_wrong_is_told_all_at_once_with_the_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "[server]\nlisen = \"x\"\n[limits]\nparts = 0\n[nothing]\na = 1\n")
        .unwrap();
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    let settings = [("store.batch_byte", "1"), ("delete.grace_period", "soon-hunter2")];
    let (code, _, errors) = said(&run(&arguments, &settings));
    assert_eq!(code, Some(2));
    for text in [
        "server.lisen; did you mean server.listen?",
        "limits.parts",
        "nothing",
        "did you mean COLLIMATOR__STORE__BATCH_BYTES?",
        "delete.grace_period",
    ] {
        assert!(errors.contains(text), "{text} in {errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
    let (code, _, errors) = said(&run(&["config", "check", "--config", "/no/such/file"], &[]));
    assert_eq!(code, Some(2), "{errors}");
}

#[test]
fn strangers_are_kept_out_while_authentication_is_off() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        for command in [vec!["serve"], vec!["config", "check"], vec![]] {
            let arguments = [command, vec!["--listen", address]].concat();
            let (code, _, error) = said(&run(&arguments, &[]));
            assert_eq!(code, Some(2), "{arguments:?}");
            assert!(error.contains("--insecure-no-auth"), "{error}");
        }
        let known = ["config", "check", "--listen", address, "--insecure-no-auth"];
        assert_eq!(said(&run(&known, &[])).0, Some(0));
    }
}

#[test]
fn migrate_alone_and_again() {
    let data = postgres::tempdir();
    let arguments = ["migrate", "--data-dir", data.path().to_str().unwrap()];
    for _ in 0..2 {
        let (code, output, error) = said(&run(&arguments, &[]));
        assert_eq!((code, &*output), (Some(0), "The schema is up to date.\n"), "{error}");
    }
    // A server that is not to migrate works with that.
    let process = Process::serve(data.path(), &[("database.migrate_on_start", "false")]);
    assert!(process.client.base.starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_database_of_ones_own_is_used_and_nothing_is_started() {
    let data = postgres::tempdir();
    let name = postgres::create("").await;
    let url = postgres::url(&name).await;
    // Without the schema and told not to make it, the server does not start.
    let folder = data.path().to_str().unwrap();
    let refused = run(
        &["serve", "--data-dir", folder, "--listen", "127.0.0.1:0"],
        &[("database.url", &url), ("database.migrate_on_start", "false")],
    );
    assert_eq!(refused.status.code(), Some(1));
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert!(!reason.contains("secret"), "{reason}");

    let process = Process::serve(data.path(), &[("database.url", &url)]);
    let client = process.client.clone();
    client.store("/studies", &[Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()]).await.is(200);
    assert!(!data.path().join("pg").exists(), "no Postgres was started");
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));

    // The rows are in that database, and the bytes are here.
    let process = Process::serve(data.path(), &[("database.url", &url)]);
    process.client.get("/studies/1.2.1").await.is(200);
    let log = std::fs::read_to_string(data.path().join("test.log")).unwrap();
    assert!(!log.contains("secret"), "the password is in the log");
}

#[tokio::test]
async fn the_first_key_is_made_by_who_has_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let settings = [
        ("features.enable_data_partition", "true"),
        ("auth.enabled", "true"),
        ("auth.cache", "0s"),
    ];
    let key = |arguments: &[&str]| {
        said(&run(&[&["key"], arguments, &["--data-dir", data]].concat(), &settings))
    };
    let create = ["create", "--partition", "Clinic1", "--role", "partition-admin"];
    let (code, _, error) = key(&create);
    assert!(code == Some(1) && error.contains("there is no archive"), "{error}");
    let server = Process::serve(dir.path(), &settings);
    let (code, _, error) = key(&create);
    assert!(code == Some(1) && error.contains("there is no partition clinic1"), "{error}");
    let more = ["--create-partition", "--name", "first", "--expires", "90days"];
    let (code, made, error) = key(&[&create[..], &more].concat());
    assert_eq!(code, Some(0), "{error}");
    let made = made.trim();
    let headers = [("x-api-key", made)];
    server.client.get_with("/partitions/clinic1/studies", &headers).await.is(204);
    let (_, listed, _) = key(&["list", "--partition", "clinic1"]);
    let id = &made[4..36];
    assert!(listed.contains(id) && listed.contains("has partition-admin"), "{listed}");
    assert!(listed.contains("first") && !listed.contains(&made[37..80]), "{listed}");
    for wrong in ["operator", "nothing"] {
        let (code, _, error) = key(&["create", "--partition", "clinic1", "--role", wrong]);
        assert!(code == Some(1) && error.contains("no such role"), "{error}");
    }
    let (code, _, error) = key(&["disable", "--partition", "clinic1", id]);
    assert_eq!(code, Some(0), "{error}");
    server.client.get_with("/partitions/clinic1/studies", &headers).await.problem(401);
    let (_, listed, _) = key(&["list", "--partition", "clinic1"]);
    assert!(listed.contains("disabled"), "{listed}");
    let (code, _, _) = key(&["disable", "--partition", "clinic1", &"0".repeat(32)]);
    assert_eq!(code, Some(1));
}
