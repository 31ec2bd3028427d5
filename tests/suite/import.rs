//! Import: by the command, as a process beside a server and alone, and by `POST /import`.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    Client, Dicom, PARTITIONS, Server, postgres,
    process::{Process, program, run},
    s3::{BUCKET, KEY, s3},
    until,
};

const JSON: &str = "application/json";

fn ct(study: u32, number: u32) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.1"));
    Dicom::ct(&study, &series, &format!("{series}.{number}")).file()
}

/// What lies about where images come from: names what becomes of each.
fn heap(dir: &Path) -> Vec<(&'static str, &'static str, &'static str)> {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(at("a/b/c")).unwrap();
    let whole = ct(1, 1);
    std::fs::write(at("a/1.dcm"), &whole).unwrap();
    std::fs::write(at("a/2"), ct(1, 2)).unwrap();
    std::fs::write(at("a/b/c/same.dcm"), &whole).unwrap();
    std::fs::write(at("cut.dcm"), &whole[..whole.len() - 10]).unwrap();
    std::fs::write(at("cut early"), &whole[..140]).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("note.txt"), "no image ".repeat(100)).unwrap();
    std::fs::write(at("short.txt"), "x").unwrap();
    std::fs::write(at("picture.png"), b"\x89PNG\r\n\x1a\n0123456789").unwrap();
    std::os::unix::fs::symlink(dir, at("a/loop")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    std::fs::write(dir.join(OsString::from_vec(b"z\xff\x1b[2J.dcm".to_vec())), ct(1, 3)).unwrap();
    let mut other = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    std::fs::write(at("other.dcm"), other.text(0x0010, 0x0010, "PN", "Else^Who").file()).unwrap();
    let mut directory = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.9");
    let directory = directory.text(0x0008, 0x0016, "UI", "1.2.840.10008.1.3.10").file();
    std::fs::write(at("DICOMDIR"), directory).unwrap();
    vec![
        ("DICOMDIR", "skipped", "a DICOMDIR"),
        ("a/1.dcm", "stored", ""),
        ("a/2", "stored", ""),
        ("a/b/c/same.dcm", "identical", ""),
        ("a/loop", "skipped", "a symbolic link"),
        ("cut early", "failed", ""),
        ("cut.dcm", "failed", "inside an element"),
        ("empty", "skipped", "an empty file"),
        ("link", "skipped", "a symbolic link"),
        ("note.txt", "skipped", "no DICOM file"),
        ("other.dcm", "failed", "other bytes are stored"),
        ("picture.png", "skipped", "no DICOM file"),
        ("short.txt", "skipped", "no DICOM file"),
        ("z\u{fffd}\u{1b}[2J.dcm", "stored", ""),
    ]
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn import(data: &Path, more: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let arguments = [&["import", "--data-dir", data.to_str().unwrap()], more].concat();
    let output = run(&arguments, settings);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_is_imported_beside_a_server_and_alone_and_each_file_is_told_of() {
    let (data, heaped) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let expected = heap(heaped.path());
    let source = heaped.path().to_str().unwrap();
    let (code, _, error) = import(data.path(), &[source], &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no archive"), "{error}");

    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();
    let told = data.path().join("report");
    let report = told.to_str().unwrap();
    let (code, text, error) = import(data.path(), &[source, "--dry-run", "--report", report], &[]);
    assert_eq!(code, Some(2), "{text}{error}");
    assert!(text.contains("to store"), "{text}");
    assert_eq!(client.get("/studies").await.status, 204);

    let (code, text, error) = import(data.path(), &[source, "--report", report], &[]);
    assert_eq!(code, Some(2), "{text}{error}");
    assert!(
        text.starts_with("14 files: 3 stored, 1 there already, 7 no DICOM, 3 failed"),
        "{text}"
    );
    let found = lines(&std::fs::read_to_string(&told).unwrap());
    assert_eq!(found.len(), expected.len());
    for (line, (path, status, reason)) in found.iter().zip(&expected) {
        assert_eq!((line["path"].as_str(), line["status"].as_str()), (Some(*path), Some(*status)));
        let why = line["reason"].as_str().unwrap_or_default();
        assert!(why.contains(reason) && why.is_empty() == (line["reason"].is_null()), "{line}");
        let is_there = ["stored", "identical"].contains(status);
        assert!(!is_there || line["sopInstanceUid"].as_str().unwrap().starts_with("1.2.1.1."));
        assert!(!why.contains("Doe") && !why.contains("Else"), "{line}");
    }
    let mut stored = client.get("/studies/1.2.1").await.is(200).bodies();
    stored.sort();
    let mut sent = [ct(1, 1), ct(1, 2), ct(1, 3)];
    sent.sort();
    assert_eq!(stored, sent, "as they came");

    // Once more, alone: nothing is stored again, and a terminal gets no control characters.
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let (code, text, error) = import(data.path(), &[source], &[]);
    assert_eq!(code, Some(2), "{text}{error}");
    assert!(text.contains("0 stored, 4 there already, 7 no DICOM, 3 failed"), "{text}");
    assert!(text.contains("2 times: a symbolic link"), "{text}");
    assert!(error.contains("cut.dcm: ") && !error.contains('\u{1b}'), "{error}");
    let one = heaped.path().join("a/1.dcm");
    let (code, text, _) = import(data.path(), &[one.to_str().unwrap()], &[]);
    assert_eq!(code, Some(0), "{text}");
    for wrong in [&["/nowhere"][..], &[source, "--partition", "north"], &[source, "--raport", "x"]]
    {
        assert_eq!(import(data.path(), wrong, &[]).0, Some(1), "{wrong:?}");
    }
    let verified = run(&["verify", "--data-dir", data.path().to_str().unwrap()], &[]);
    assert_eq!(verified.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_is_repeated_and_only_into_its_partition() {
    let (data, files) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    const FILES: u32 = 3000;
    for number in 0..FILES {
        let dir = files.path().join(format!("{:02}", number % 50));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(number.to_string()), ct(number % 7, number)).unwrap();
    }
    let settings = PARTITIONS;
    let process = Process::serve(data.path(), &settings);
    let client = process.client.clone();
    let (folder, source) = (data.path().to_str().unwrap(), files.path().to_str().unwrap());
    let (code, _, error) = import(data.path(), &[source, "--partition", "north"], &settings);
    assert_eq!(code, Some(1));
    assert!(error.contains("no partition north"), "{error}");
    let arguments = ["import", "--data-dir", folder, source, "--partition", "north"];
    let arguments = [&arguments[..], &["--create-partition", "--at-once", "2"]].concat();
    let mut command: Command = program(&arguments, &settings);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stored = async |client: &Client| {
        let found = client.get("/partitions/north/studies?includefield=00201208").await;
        let found = if found.status == 200 { found.json() } else { json!([]) };
        let counts = found.as_array().unwrap().iter();
        counts.filter_map(|study| study["00201208"]["Value"][0].as_u64()).sum::<u64>()
    };
    until("some of it is stored", async || stored(&client).await > 0).await;
    child.kill().unwrap();
    child.wait().unwrap();

    let (code, text, error) = import(data.path(), &[source, "--partition", "north"], &settings);
    assert_eq!(code, Some(0), "{text}{error}");
    assert_eq!(stored(&client).await, u64::from(FILES));
    let already = text.split(", ").find_map(|part| part.strip_suffix(" there already"));
    assert!(already.unwrap().parse::<u32>().unwrap() > 0, "{text}");
    let (code, text, _) = import(data.path(), &[source, "--partition", "north"], &settings);
    assert_eq!(code, Some(0));
    assert!(text.starts_with(&format!("{FILES} files: 0 stored, {FILES} there")), "{text}");
    assert_eq!(client.get("/partitions/south/studies").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_imported_like_a_folder() {
    let (address, bucket) = s3().await;
    heap(&bucket.path().join(BUCKET).join("in"));
    // A bucket has no links.
    std::fs::remove_file(bucket.path().join(BUCKET).join("in/a/loop")).unwrap();
    let data = postgres::tempdir();
    let _process = Process::serve(data.path(), &[]);
    let source = format!("s3://{BUCKET}/in/a");
    let arguments = ["import", "--data-dir", data.path().to_str().unwrap(), &source];
    let endpoint = format!("http://{address}");
    let run = |key: &str| {
        let mut command = program(&arguments, &[]);
        command.env("AWS_ENDPOINT_URL", &endpoint).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", KEY.0).env("AWS_SECRET_ACCESS_KEY", key);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    for expected in ["2 stored, 1 there already", "0 stored, 3 there already"] {
        let output = run(KEY.1).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
    }
    let output = run("wrong").await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("wrong"));
}

fn asked(source: &str, path: &str, report: Option<&str>) -> Vec<u8> {
    let mut body = json!({
        "source": {"type": "configured", "settings": {"name": source, "path": path}},
    });
    if let Some(report) = report {
        body["report"] = json!({"destination": report});
    }
    body.to_string().into_bytes()
}

/// What an operation came to.
async fn ended(server: &Client, href: &str) -> Value {
    let path =
        &href[href.find("/partitions").unwrap_or_else(|| href.find("/operations").unwrap())..];
    until("the operation ends", async || server.get(path).await.status == 200).await;
    server.get(path).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_imports_from_sources_that_are_configured() {
    let (inbox, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = heap(&inbox.path().join("heap"));
    std::os::unix::fs::symlink("/etc", inbox.path().join("out")).unwrap();
    let place = |list: &str, name: &str, dir: &Path, partitions: &str| {
        let dir = dir.display();
        format!("[[{list}]]\nname = \"{name}\"\ndir = \"{dir}\"\npartitions = {partitions}\n")
    };
    let file = [
        place("import.sources", "inbox", inbox.path(), "[\"north\"]"),
        place("import.sources", "other", inbox.path(), "[\"south\"]"),
        place("import.sources", "gone", Path::new("/nowhere"), "\"*\""),
        place("export.destinations", "out", out.path(), "[\"north\"]"),
    ]
    .concat();
    let server = Server::with_file(&file, &PARTITIONS).await;
    for partition in ["north", "south"] {
        server.store(&format!("/partitions/{partition}/studies"), &[ct(9, 1)]).await.is(200);
    }
    let north = "/partitions/north/import";
    let answer = server.post(north, JSON, asked("inbox", "heap", Some("out"))).await.is(202);
    let href = answer.header("location").to_owned();
    assert_eq!(answer.json()["href"], href);
    let done = ended(&server, &href).await;
    assert_eq!((&done["type"], &done["status"]), (&json!("import"), &json!("failed")), "{done}");
    let results = &done["results"];
    for (name, count) in [("stored", 3), ("identical", 1), ("skipped", 7), ("failed", 3)] {
        assert_eq!(results[name], count, "{done}");
    }
    assert_eq!(done["processed"], 14);
    assert_eq!(results["reasons"]["a symbolic link"], 2);
    assert!(!done.to_string().contains("note.txt"), "names may be somebody's: {done}");
    let report = results["report"][1].as_str().unwrap();
    assert_eq!(results["report"][0], "out");
    let folder = out.path().join(report);
    let told = lines(&std::fs::read_to_string(&folder).unwrap());
    let told: Vec<_> =
        told.iter().map(|line| (line["path"].as_str(), line["status"].as_str())).collect();
    let wanted: Vec<_> =
        expected.iter().map(|(path, status, _)| (Some(*path), Some(*status))).collect();
    assert_eq!(told, wanted);
    assert!(!folder.with_file_name(".lists").join("report-0000000000").exists());
    assert_eq!(server.search("/partitions/north/instances?StudyInstanceUID=1.2.1").await.len(), 3);
    assert_eq!(server.search("/partitions/south/instances").await.len(), 1);

    // What leads out of a source is refused, before and on the way.
    for path in ["..", "/etc", "a/../..", "heap/", "heap//a", "heap\\a"] {
        let refused = server.post(north, JSON, asked("inbox", path, None)).await.problem(400);
        assert_eq!(refused["errors"][0]["field"], "source.settings.path", "{path}");
    }
    let answer = server.post(north, JSON, asked("inbox", "out", None)).await.is(202);
    let done = ended(&server, answer.header("location")).await;
    assert_eq!(done["results"]["errors"], json!(["the path leads out of the source"]));
    for (source, path) in [("gone", ""), ("inbox", "none")] {
        let answer = server.post(north, JSON, asked(source, path, None)).await.is(202);
        let done = ended(&server, answer.header("location")).await;
        let why = json!(["there is no such file or folder in the source"]);
        assert_eq!((&done["status"], &done["results"]["errors"]), (&json!("failed"), &why));
    }

    // A place that somebody else has is one that nobody has.
    let foreign = server.post(north, JSON, asked("other", "", None)).await.problem(400);
    let absent = server.post(north, JSON, asked("nothing", "", None)).await.problem(400);
    assert_eq!(foreign["errors"], absent["errors"]);
    let south = "/partitions/south/import";
    let foreign = server.post(south, JSON, asked("other", "", Some("out"))).await.problem(400);
    assert_eq!(foreign["errors"][0]["field"], "report.destination");

    for (body, field) in [
        (json!([]), ""),
        (json!({}), "source"),
        (json!({"source": 1}), "source"),
        (json!({"source": {"type": "folder", "settings": {"name": "inbox"}}}), "source.type"),
        (json!({"source": {"type": "configured"}}), "source.settings.name"),
        (
            json!({"source": {"type": "configured", "settings": {"name": "inbox", "dir": "/"}}}),
            "source.settings",
        ),
        (json!({"source": {"type": "configured", "settings": {"name": "inbox"}}, "dir": "/"}), ""),
    ] {
        let refused = server.post(north, JSON, body.to_string().into_bytes()).await.problem(400);
        assert_eq!(refused["errors"][0]["field"].as_str().unwrap_or_default(), field, "{body}");
    }
    server.post(north, "text/plain", asked("inbox", "", None)).await.problem(415);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_on_with_an_import_after_kill_9_and_can_be_told_to_stop() {
    let (data, inbox) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    const FILES: u32 = 2000;
    for number in 0..FILES {
        std::fs::write(inbox.path().join(format!("{number:05}")), ct(1, number)).unwrap();
    }
    let config = data.path().join("c.toml");
    let dir = inbox.path().display();
    let text = format!("[[import.sources]]\nname = \"in\"\ndir = \"{dir}\"\npartitions = \"*\"\n");
    std::fs::write(&config, text).unwrap();
    let serve = async || {
        let add = |command: &mut Command| {
            command.arg("--config").arg(&config);
        };
        Process::start(data.path(), &[("import.at_once", "1")], add).ready().await.unwrap()
    };
    let process = serve().await;
    let client = process.client.clone();
    let answer = client.post("/import", JSON, asked("in", "", None)).await.is(202);
    let path = format!("/operations/{}", answer.json()["id"].as_str().unwrap());
    until("some of it is stored", async || {
        client.get(&path).await.json()["processed"].as_u64() > Some(0)
    })
    .await;
    process.kill();
    let process = serve().await;
    let client = process.client.clone();
    let done = ended(&client, &path).await;
    assert_eq!((&done["status"], &done["processed"]), (&json!("succeeded"), &json!(FILES)));
    let results = &done["results"];
    let sum = results["stored"].as_u64().unwrap() + results["identical"].as_u64().unwrap();
    assert_eq!(sum, u64::from(FILES), "each file was dealt with once: {done}");
    // The rest of a batch whose end nobody noted is found to be there.
    assert!(results["identical"].as_u64().unwrap() <= 512, "{done}");

    // With as many new files behind them, it is not faster than who tells it to stop.
    for number in 0..FILES {
        std::fs::write(inbox.path().join(format!("new{number:05}")), ct(2, number)).unwrap();
    }
    let answer = client.post("/import", JSON, asked("in", "", None)).await.is(202);
    let path = format!("/operations/{}", answer.json()["id"].as_str().unwrap());
    // At once, or once its batch is done.
    assert!([200, 202].contains(&client.delete(&path).await.status));
    let ended = ended(&client, &path).await;
    assert_eq!(ended["status"], "canceled");
    assert!(
        ended["processed"].as_u64().is_some_and(|count| count < u64::from(2 * FILES)),
        "{ended}"
    );
}
