//! Export: instances to folders and buckets, as they are and as a File-set.

mod command;
mod deidentified;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{
    Client, Dicom, PARTITIONS, Server, postgres,
    process::Process,
    s3::{BUCKET, KEY, s3},
    server::blobs,
    until,
};

const JSON: &str = "application/json";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.11";

fn ct(study: u32, series: u32, number: u32) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.{series}"));
    let mut ct = Dicom::ct(&study, &series, &format!("{series}.{number}"));
    ct.text(0x0020, 0x0013, "IS", &number.to_string());
    ct.pixels((0..16).map(|pixel| pixel * number as u16).collect()).file()
}

fn destination(name: &str, dir: &Path, partitions: &str) -> String {
    let dir = dir.display();
    format!(
        "[[export.destinations]]\nname = \"{name}\"\ndir = \"{dir}\"\npartitions = {partitions}\n"
    )
}

fn values(values: &[&str]) -> Value {
    json!({"type": "identifiers", "settings": {"values": values}})
}

fn body(source: &Value, destination: &Value) -> Vec<u8> {
    let to = json!({"type": "configured", "settings": destination});
    json!({"source": source, "destination": to}).to_string().into_bytes()
}

/// What an operation came to.
async fn ended(server: &Client, href: &str) -> Value {
    let at = href.find("/partitions").or(href.find("/operations")).unwrap();
    until("the operation ends", async || server.get(&href[at..]).await.status == 200).await;
    server.get(&href[at..]).await.json()
}

async fn exported(server: &Client, path: &str, source: &Value, to: &Value) -> Value {
    let answer = server.post(path, JSON, body(source, to)).await.is(202);
    ended(server, answer.header("location")).await
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files below a folder, by their paths in it; without those that are removed meanwhile, as what
/// served an export alone is when it has ended.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

/// Holds a manifest against what lies beside it, and answers the files that it lists.
fn checked(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = files(folder);
    let mut listed = BTreeMap::new();
    for line in lines(&folder.join("manifest.ndjson")) {
        let name = line["file"].as_str().unwrap();
        let bytes = &all[name];
        assert_eq!(line["bytes"], bytes.len());
        let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(line["sha256"], hash);
        assert!(listed.insert(name.to_owned(), bytes.clone()).is_none(), "{name} twice");
    }
    let results = all.keys().filter(|name| name.starts_with("results/"));
    // But for what a kill left of a file that was being written.
    for name in results.filter(|name| !name.ends_with("/DICOMDIR") && !name.contains('#')) {
        assert!(listed.contains_key(name), "{name} is not in the manifest");
    }
    listed
}

/// How many records of each type (0004,1430) a DICOMDIR has.
fn records(directory: &Path) -> BTreeMap<String, usize> {
    const TYPE: &[u8] = b"\x04\x00\x30\x14CS";
    let bytes = std::fs::read(directory).unwrap();
    assert_eq!(&bytes[128..132], b"DICM");
    let mut found = BTreeMap::new();
    for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(TYPE)) {
        let value = &bytes[at + TYPE.len()..];
        let length = u16::from_le_bytes([value[0], value[1]]) as usize;
        let text = String::from_utf8(value[2..2 + length].to_vec()).unwrap();
        *found.entry(text.trim_end().to_owned()).or_default() += 1;
    }
    found
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.map(|(kind, count)| (kind.to_owned(), count)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn studies_series_and_instances_are_written_by_their_uids() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &[]).await;
    let mut expected = BTreeMap::new();
    for (study, series, number) in
        [(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 2, 1), (3, 1, 1), (3, 1, 2)]
    {
        let file = ct(study, series, number);
        server.store("/studies", &[file.clone()]).await.is(200);
        let uids = format!("1.2.{study}/1.2.{study}.{series}/1.2.{study}.{series}.{number}");
        expected.insert(format!("results/{uids}.dcm"), file);
    }
    // Without a preamble it came, with one it leaves.
    server.store("/studies", &[ct(1, 1, 3)[132..].to_vec()]).await.is(200);
    let whole = server.get("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.3").await.bodies();
    expected.insert("results/1.2.1/1.2.1.1/1.2.1.1.3.dcm".to_owned(), whole[0].clone());
    expected.remove("results/1.2.2/1.2.2.1/1.2.2.1.1.dcm");
    expected.remove("results/1.2.3/1.2.3.1/1.2.3.1.1.dcm");
    let all =
        ["1.2.1", "1.2.1/1.2.1.1", "1.2.2/1.2.2.2", "1.2.3/1.2.3.1/1.2.3.1.2", "1.2.99", "1.2.1"];
    let done = exported(&server, "/export", &values(&all), &json!({"name": "out"})).await;
    assert_eq!((&done["type"], &done["status"]), (&json!("export"), &json!("succeeded")), "{done}");
    let results = &done["results"];
    assert_eq!((&results["exported"], &results["skipped"]), (&json!(6), &json!(1)), "{done}");
    assert_eq!((&done["processed"], &done["total"]), (&json!(6), &json!(6)));
    let id = done["operationId"].as_str().unwrap();
    assert_eq!(results["path"], format!("microsoft.default/{id}"));
    let shown = done["resources"].as_array().unwrap();
    assert!(shown[0].as_str().unwrap().ends_with("/studies/1.2.1"), "{done}");
    assert!(
        shown[2].as_str().unwrap().ends_with("/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.2")
    );
    let folder = out.path().join("microsoft.default").join(id);
    assert_eq!(checked(&folder), expected);
    let errors = lines(&out.path().join(results["errorHref"].as_str().unwrap()));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["identifier"], "1.2.99");
    assert!(errors[0]["timestamp"].is_string() && errors[0]["error"].is_string());
    let lists = ["errors.log", "manifest.ndjson"].map(str::to_owned);
    until("its lists alone are left beside", async || {
        files(&folder).into_keys().filter(|n| !n.starts_with("results")).eq(lists.clone())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_finds_is_exported_and_no_more() {
    let out = tempfile::tempdir().unwrap();
    let file = destination("out", out.path(), "\"*\"");
    let server = Server::with_file(&file, &[("export.max_resources", "3")]).await;
    for study in 1..5 {
        server.store("/studies", &[ct(study, 1, 1), ct(study, 2, 1)]).await.is(200);
    }
    let query = |resource: &str, query: &str| json!({"type": "query", "settings": {"resource": resource, "query": query}});
    let to = json!({"name": "out"});
    for (resource, text, count) in [
        ("studies", "StudyInstanceUID=1.2.1,1.2.2", 4),
        ("series", "StudyInstanceUID=1.2.1,1.2.2&SeriesInstanceUID=1.2.2.1", 1),
        ("instances", "SOPInstanceUID=1.2.3.1.1", 1),
        ("studies", "PatientName=nobody", 0),
    ] {
        let answer = server.post("/export", JSON, body(&query(resource, text), &to)).await;
        let done = ended(&server, answer.is(202).header("location")).await;
        assert_eq!(
            (&done["status"], &done["results"]["exported"]),
            (&json!("succeeded"), &json!(count))
        );
    }
    let refused = server.post("/export", JSON, body(&query("studies", ""), &to)).await.problem(413);
    assert!(refused.to_string().contains("export.max_resources"), "{refused}");
    let twice = "SOPInstanceUID=1.2.3.1.1&SOPInstanceUID=1.2.3.1.1";
    for text in ["PatientNmae=x", "limit=1", "StudyDate=x", twice] {
        server.post("/export", JSON, body(&query("studies", text), &to)).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_set_has_a_directory_that_others_read() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("usb", out.path(), "\"*\""), &[]).await;
    let mut sent = Vec::new();
    for (study, series, number) in [(1, 1, 2), (1, 1, 1), (1, 2, 1), (2, 1, 1)] {
        sent.push(ct(study, series, number));
    }
    let mut report = Dicom::ct("1.2.2", "1.2.2.9", "1.2.2.9.1");
    report.text(0x0008, 0x0016, "UI", SR).text(0x0008, 0x0060, "CS", "SR");
    report.text(0x0010, 0x0010, "PN", "M\u{fc}ller^\u{d6}").text(
        0x0008,
        0x0005,
        "CS",
        "ISO_IR 192",
    );
    report.text(0x0040, 0xA491, "CS", "COMPLETE").text(0x0040, 0xA493, "CS", "UNVERIFIED");
    let mut code = Dicom::item();
    code.text(0x0008, 0x0100, "SH", "1")
        .text(0x0008, 0x0102, "SH", "X")
        .text(0x0008, 0x0104, "LO", "T");
    sent.push(report.sequence(0x0040, 0xA043, vec![code]).file());
    server.store("/studies", &sent).await.is(200);
    let to = json!({"name": "usb", "layout": "dicom"});
    let done = exported(&server, "/export", &values(&["1.2.2", "1.2.1"]), &to).await;
    assert_eq!(
        (&done["status"], &done["results"]["exported"]),
        (&json!("succeeded"), &json!(5)),
        "{done}"
    );
    let folder = out.path().join(done["results"]["path"].as_str().unwrap());
    let listed = checked(&folder);
    let names: Vec<&str> = listed.keys().map(String::as_str).collect();
    let expected = [
        "S0000001/I0000001",
        "S0000001/I0000002",
        "S0000001/I0000003",
        "S0000002/I0000001",
        "S0000002/I0000002",
    ];
    assert_eq!(names, expected.map(|name| format!("results/DICOM/{name}")));
    let mut written: Vec<_> = listed.into_values().collect();
    written.sort();
    sent.sort();
    assert_eq!(written, sent);
    assert!(std::fs::read_to_string(folder.join("errors.log")).unwrap().is_empty());

    // It is DICOM, and every record is reached: DCMTK says so, where it is installed.
    let directory = folder.join("results/DICOMDIR");
    let expected = [("PATIENT", 1), ("STUDY", 2), ("SERIES", 4), ("IMAGE", 4), ("SR DOCUMENT", 1)];
    assert_eq!(records(&directory), counts(expected));
    if let Ok(output) = Command::new("dcmdump").arg(&directory).output() {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        for (kind, count) in expected {
            assert_eq!(text.matches(&format!("[{kind}]")).count(), count, "{kind}: {text}");
        }
        assert!(text.contains(r"[DICOM\S0000002\I0000002]"), "{text}");
    }

    let to = json!({"name": "usb", "layout": "dicom", "dicomdir": false});
    let done = exported(&server, "/export", &values(&["1.2.2"]), &to).await;
    let folder = out.path().join(done["results"]["path"].as_str().unwrap());
    assert_eq!(checked(&folder).len(), 2);
    assert!(!folder.join("results/DICOMDIR").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_those_that_are_configured_for_the_partition() {
    let out = tempfile::tempdir().unwrap();
    let file = [
        destination("out", out.path(), "[\"north\"]"),
        destination("other", out.path(), "[\"south\"]"),
        destination("gone", Path::new("/nowhere"), "\"*\""),
    ];
    let server = Server::with_file(&file.concat(), &PARTITIONS).await;
    for (partition, study) in [("north", 1), ("south", 2)] {
        server.store(&format!("/partitions/{partition}/studies"), &[ct(study, 1, 1)]).await.is(200);
    }
    let north = "/partitions/north/export";
    // Another partition's study is one that does not exist.
    let done =
        exported(&server, north, &values(&["1.2.1", "1.2.2", "1.2.9"]), &json!({"name": "out"}))
            .await;
    assert_eq!((&done["results"]["exported"], &done["results"]["skipped"]), (&json!(1), &json!(2)));
    let errors = lines(&out.path().join(done["results"]["errorHref"].as_str().unwrap()));
    assert_eq!(errors[0]["error"], errors[1]["error"]);
    let id = done["operationId"].as_str().unwrap();
    assert_eq!(server.get(&format!("/partitions/south/operations/{id}")).await.status, 404);
    assert!(out.path().join("north").join(id).is_dir() && !out.path().join("south").exists());

    let post = async |path: &str, body: Vec<u8>| server.post(path, JSON, body).await;
    let one = values(&["1.2.1"]);
    let foreign = post(north, body(&one, &json!({"name": "other"}))).await.problem(400);
    let absent = post(north, body(&one, &json!({"name": "../x"}))).await.problem(400);
    assert_eq!(foreign["errors"], absent["errors"]);
    let done = exported(&server, north, &one, &json!({"name": "gone"})).await;
    assert_eq!(done["status"], "failed");
    assert_eq!(done["results"]["errors"], json!(["the place is not configured as it must be"]));
    assert!(!done.to_string().contains("nowhere"), "{done}");

    for (source, to, field) in [
        (json!({"type": "identifiers"}), json!({"name": "out"}), "source.settings.values"),
        (values(&[]), json!({"name": "out"}), "source.settings.values"),
        (values(&["1.2/../3"]), json!({"name": "out"}), "source.settings.values"),
        (values(&["1.2/3/4/5"]), json!({"name": "out"}), "source.settings.values"),
        (values(&["1.2"]), json!({}), "destination.settings.name"),
        (values(&["1.2"]), json!({"name": "out", "layout": "zip"}), "destination.settings.layout"),
        (
            values(&["1.2"]),
            json!({"name": "out", "dicomdir": true}),
            "destination.settings.dicomdir",
        ),
        (values(&["1.2"]), json!({"name": "out", "path": "/etc"}), "destination.settings"),
        (json!({"type": "all"}), json!({"name": "out"}), "source.type"),
        (json!(["1.2"]), json!({"name": "out"}), "source"),
    ] {
        let refused = post(north, body(&source, &to)).await.problem(400);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    let peers = json!({
        "source": one,
        "destination": {"type": "azureblob", "settings": {"blobContainerUri": "https://x.example"}},
    });
    let refused = post(north, peers.to_string().into_bytes()).await.problem(400);
    assert_eq!(refused["errors"][0]["field"], "destination.type");
    // In Microsoft's own place it answers too.
    let v2 = "/v2/partitions/north/export";
    post(v2, body(&one, &json!({"name": "out"}))).await.is(202);
}

/// Stores, and answers a blob of what was stored.
async fn blob_of(client: &Client, data: &Path, sent: &[Vec<u8>]) -> PathBuf {
    let blobs = || blobs(data, "microsoft.default");
    let before = blobs();
    client.store("/studies", sent).await.is(200);
    blobs().difference(&before).next().unwrap().clone()
}

/// A blob at which whoever opens it stands still: nothing gets past it, however fast it is, until it is
/// let go.
struct Held<'a> {
    blob: &'a Path,
    aside: PathBuf,
}

impl<'a> Held<'a> {
    fn at(data: &Path, blob: &'a Path) -> Self {
        let aside = data.join("aside");
        std::fs::rename(blob, &aside).unwrap();
        assert!(Command::new("mkfifo").arg(blob).status().unwrap().success());
        Self { blob, aside }
    }

    fn let_go(self) {
        std::fs::rename(self.aside, self.blob).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_to_a_bucket_goes_on_after_kill_9_and_writes_nothing_twice() {
    let (address, bucket) = s3().await;
    let data = postgres::tempdir();
    let (id, key) = (data.path().join("id"), data.path().join("key"));
    std::fs::write(&id, KEY.0).unwrap();
    std::fs::write(&key, KEY.1).unwrap();
    let config = data.path().join("c.toml");
    let text = format!(
        "[[export.destinations]]\nname = \"s3\"\npartitions = \"*\"\nkind = \"s3\"\n\
         bucket = \"{BUCKET}\"\nprefix = \"from/here\"\nendpoint = \"http://{address}\"\n\
         allow_http = true\naccess_key_id_file = \"{}\"\nsecret_access_key_file = \"{}\"\n",
        id.display(),
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    let serve = async || {
        let add = |command: &mut Command| {
            command.arg("--config").arg(&config);
        };
        Process::start(data.path(), &[("export.at_once", "1")], add).ready().await.unwrap()
    };
    let process = serve().await;
    let client = process.client.clone();
    let mut sent = BTreeMap::new();
    let mut blobs = Vec::new();
    for study in 0..4_u32 {
        let all: Vec<Vec<u8>> = (0..150).map(|number| ct(study, 1, number)).collect();
        blobs.push(blob_of(&client, data.path(), &all).await);
        sent.extend((0..150).map(|number| {
            let name = format!("results/1.2.{study}/1.2.{study}.1/1.2.{study}.1.{number}.dcm");
            (name, ct(study, 1, number))
        }));
    }
    let held = Held::at(data.path(), &blobs[1]);
    let studies = ["1.2.0", "1.2.1", "1.2.2", "1.2.3"];
    let asked = body(&values(&studies), &json!({"name": "s3"}));
    let answer = client.post("/export", JSON, asked).await.is(202);
    let path = format!("/operations/{}", answer.json()["id"].as_str().unwrap());
    let processed = async |client: &Client| client.get(&path).await.json()["processed"].as_u64();
    until("a part is written", async || processed(&client).await > Some(0)).await;
    process.kill();
    held.let_go();
    let folder = bucket.path().join(BUCKET).join("from/here/microsoft.default");
    let folder = folder.join(path.rsplit('/').next().unwrap());
    let modified = |name: &str| std::fs::metadata(folder.join(name)).unwrap().modified().unwrap();
    let before: Vec<_> = files(&folder.join("results")).into_keys().collect();
    assert!(!before.is_empty() && before.len() < 600, "{}", before.len());
    let whole: Vec<_> = before
        .into_iter()
        .map(|name| format!("results/{name}"))
        .filter(|name| {
            sent.get(name).is_some_and(|file| *file == std::fs::read(folder.join(name)).unwrap())
        })
        .map(|name| (modified(&name), name))
        .collect();
    let process = serve().await;
    let done = ended(&process.client, &path).await;
    assert_eq!((&done["status"], &done["processed"]), (&json!("succeeded"), &json!(600)), "{done}");
    assert_eq!(done["results"]["exported"], 600);
    assert_eq!(checked(&folder), sent);
    for (at, name) in whole {
        assert_eq!(modified(&name), at, "{name} was written twice");
    }
    let piece = folder.join(".lists/manifest-0000000000");
    until("no piece is left", async || !piece.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_told_and_not_written() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &[]).await;
    server.store("/studies", &[ct(1, 1, 1)]).await.is(200);
    server.store("/studies", &[ct(1, 1, 2)]).await.is(200);
    let blobs = server.blobs("microsoft.default");
    let bent = blobs.iter().find(|path| std::fs::read(path).unwrap() == ct(1, 1, 2)).unwrap();
    let mut bytes = std::fs::read(bent).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(bent, bytes).unwrap();
    let done = exported(&server, "/export", &values(&["1.2.1"]), &json!({"name": "out"})).await;
    assert_eq!(done["status"], "failed", "{done}");
    let results = &done["results"];
    assert_eq!((&results["exported"], &results["failed"]), (&json!(1), &json!(1)));
    let folder = out.path().join(results["path"].as_str().unwrap());
    assert_eq!(checked(&folder).len(), 1);
    assert_eq!(files(&folder.join("results")).len(), 1);
    let errors = lines(&folder.join("errors.log"));
    assert_eq!(errors[0]["identifier"], "1.2.1/1.2.1.1/1.2.1.1.2");
    assert!(results["errors"][0].as_str().unwrap().starts_with("1 instances could not"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_finds_is_all_there_whatever_is_stored_meanwhile() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &[]).await;
    let study = |number: u32, date: &str| {
        let mut ct = Dicom::ct(
            &format!("1.2.{number}"),
            &format!("1.2.{number}.1"),
            &format!("1.2.{number}.1.1"),
        );
        ct.text(0x0008, 0x0020, "DA", date).file()
    };
    const STUDIES: u32 = 1_200;
    let before: Vec<Vec<u8>> = (1..=STUDIES).map(|number| study(number, "20200101")).collect();
    for some in before.chunks(400) {
        server.store("/studies", some).await.is(200);
    }
    // The latest come first: each that is stored moves all that are there.
    let storing = async {
        for number in 10_000..10_150 {
            server.store("/studies", &[study(number, "20250101")]).await.is(200);
        }
    };
    let exporting = async {
        let source = json!({"type": "query", "settings": {"query": "StudyDate=20200101-20251231"}});
        let mut all = Vec::new();
        for _ in 0..3 {
            let asked = body(&source, &json!({"name": "out"}));
            let answer = server.post("/export", JSON, asked).await.is(202);
            all.push(answer.header("location").to_owned());
        }
        all
    };
    let ((), exports) = tokio::join!(storing, exporting);
    for href in exports {
        let done = ended(&server, &href).await;
        let folder = out.path().join(done["results"]["path"].as_str().unwrap());
        let listed = lines(&folder.join("manifest.ndjson"));
        let uids: Vec<_> = listed.iter().map(|line| line["studyInstanceUid"].to_string()).collect();
        let distinct: BTreeSet<_> = uids.iter().collect();
        assert_eq!(distinct.len(), uids.len(), "nothing twice");
        for number in 1..=STUDIES {
            assert!(distinct.contains(&format!("\"1.2.{number}\"")), "{number} is missing");
        }
    }
}
