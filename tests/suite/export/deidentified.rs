//! Exports of which nothing tells who it is: names, contents, lists and operations.

use super::*;
use crate::harness::{
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT},
    send,
};

const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";
/// What identifies in the files below; UIDs all begin like the last one.
const TELLING: [&str; 7] = ["Doe", "Jane", "PAT77", "ACC77", "Smith", "Somewhere", "1.2.77"];

fn told(study: u32, number: u32) -> Dicom {
    let (study, series) = (format!("1.2.77.{study}"), format!("1.2.77.{study}.1"));
    let mut ct = Dicom::ct(&study, &series, &format!("{series}.{number}"));
    ct.text(0x0008, 0x0050, "SH", "ACC77")
        .text(0x0008, 0x0080, "LO", "Hospital of Somewhere")
        .text(0x0008, 0x0090, "PN", "Smith^John")
        .text(0x0008, 0x1030, "LO", "CT Thorax Doe")
        .text(0x0010, 0x0010, "PN", "Doe^Jane")
        .text(0x0010, 0x0020, "LO", "PAT77")
        .text(0x0020, 0x0013, "IS", &number.to_string());
    ct
}

/// As [`body`], de-identified.
fn hiding(source: &Value, destination: &Value, deidentify: &Value) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&body(source, destination)).unwrap();
    body["deidentify"] = deidentify.clone();
    body.to_string().into_bytes()
}

/// Exports, and looks through everything that is there and told afterwards.
async fn exported(
    server: &Client,
    dir: &Path,
    source: &Value,
    to: &Value,
    how: &Value,
) -> (Value, std::path::PathBuf) {
    let answer = server.post("/export", JSON, hiding(source, to, how)).await.is(202);
    let done = ended(server, answer.header("location")).await;
    let folder = dir.join(done["results"]["path"].as_str().unwrap());
    check_nothing_tells("the operation", done.to_string().as_bytes());
    for (name, bytes) in files(&folder) {
        check_nothing_tells(&name, name.as_bytes());
        check_nothing_tells(&name, &bytes);
    }
    (done, folder)
}

fn check_nothing_tells(what: &str, bytes: &[u8]) {
    for text in TELLING {
        let is_there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!is_there, "{text} is in {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_who_it_is_is_in_names_files_lists_or_the_operation() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &[]).await;
    let mut sent = Vec::new();
    for (number, syntax) in [EXPLICIT, IMPLICIT, DEFLATED, BIG].into_iter().enumerate() {
        sent.push(told(1, number as u32 + 1).syntax(syntax).file());
    }
    sent.push(told(2, 1).file());
    // Its pixels may say who it is.
    sent.push(told(2, 2).text(0x0008, 0x0016, "UI", US).text(0x0008, 0x0060, "CS", "US").file());
    server.store("/studies", &sent).await.is(200);
    // It came without a preamble.
    server.store("/studies", &[told(2, 3).file()[132..].to_vec()]).await.is(200);
    let asked = values(&["1.2.77.1", "1.2.77.2", "1.2.77.9", "1.2.77.1/1.2.77.1.8"]);
    let mut written = Vec::new();
    for layout in ["as-is", "dicom", "dicom"] {
        let to = json!({"name": "out", "layout": layout});
        let (done, folder) = exported(&server, out.path(), &asked, &to, &json!(true)).await;
        assert_eq!(done["status"], "succeeded", "{done}");
        let results = &done["results"];
        let of_all =
            ["exported", "refused", "skipped", "failed"].map(|name| results[name].as_u64());
        assert_eq!(of_all, [6, 1, 1, 0].map(Some), "{done}");
        assert_eq!((&done["processed"], &done["total"]), (&json!(7), &json!(7)), "{done}");
        assert!(done["resources"].as_array().is_none_or(Vec::is_empty), "{done}");
        let listed = checked(&folder);
        assert_eq!(listed.len(), 6);
        let errors = lines(&folder.join("errors.log"));
        let mut reasons: Vec<_> =
            errors.iter().map(|line| line["error"].as_str().unwrap().to_owned()).collect();
        reasons.sort_unstable();
        assert!(reasons[0].contains("Burned In Annotation"), "{reasons:?}");
        assert!(reasons[1].contains("no such resource"), "{reasons:?}");
        for line in &errors {
            let mut parts = line["identifier"].as_str().unwrap().split('/');
            assert!(parts.all(|uid| uid.starts_with("2.25.")), "{line}");
        }
        let manifest = lines(&folder.join("manifest.ndjson"));
        for line in &manifest {
            let uid = |name: &str| line[name].as_str().unwrap().to_owned();
            let (study, series, instance) =
                (uid("studyInstanceUid"), uid("seriesInstanceUid"), uid("sopInstanceUid"));
            assert!([&study, &series, &instance].iter().all(|uid| uid.starts_with("2.25.")));
            if layout == "as-is" {
                assert_eq!(uid("file"), format!("results/{study}/{series}/{instance}.dcm"));
            }
            // What is told is what is in the file.
            let bytes = &listed[&uid("file")];
            for text in [&study, &series, &instance] {
                assert!(bytes.windows(text.len()).any(|w| w == text.as_bytes()), "{line}");
            }
            assert_eq!(line["transferSyntaxUid"], EXPLICIT, "{line}");
        }
        if layout == "dicom" {
            let directory = folder.join("results/DICOMDIR");
            let expected = [("PATIENT", 1), ("STUDY", 2), ("SERIES", 2), ("IMAGE", 6)];
            assert_eq!(records(&directory), counts(expected));
            if let Ok(output) = Command::new("dcmdump").arg(&directory).output() {
                let text = String::from_utf8(output.stdout).unwrap();
                assert!(output.status.success() && output.stderr.is_empty(), "{text}");
                for (kind, count) in expected {
                    assert_eq!(text.matches(&format!("[{kind}]")).count(), count, "{kind}: {text}");
                }
            }
        }
        written.push(listed);
    }
    // The same each time, and the same as Retrieve gives.
    assert_eq!(written[1], written[2]);
    let sorted =
        |listed: &BTreeMap<String, Vec<u8>>| listed.values().cloned().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&written[0]), sorted(&written[1]));
    let given = server.get("/studies/1.2.77.1?anonymize=yes").await.is(200).bodies();
    assert_eq!(given.len(), 4);
    assert!(given.iter().all(|file| sorted(&written[0]).contains(file)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_have_less_stay_and_more_as_far_as_the_configuration_lets_it() {
    let out = tempfile::tempdir().unwrap();
    let settings = [
        ("deidentify.retain_patient_characteristics", "true"),
        ("deidentify.on_request", "[\"retain_uids\", \"dates=shift\", \"burnt_in=allow\"]"),
    ];
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &settings).await;
    let mut ct = told(1, 1);
    let ct = ct.text(0x0010, 0x1010, "AS", "042Y").text(0x0008, 0x0020, "DA", "20240102");
    let mut us = told(1, 2);
    let us = us.text(0x0008, 0x0016, "UI", US).text(0x0008, 0x0060, "CS", "US");
    server.store("/studies", &[ct.file(), us.file()]).await.is(200);
    let (one, to) = (values(&["1.2.77.1"]), json!({"name": "out"}));
    let written = async |how: Value| {
        let answer = server.post("/export", JSON, hiding(&one, &to, &how)).await.is(202);
        let done = ended(&server, answer.header("location")).await;
        assert_eq!(done["status"], "succeeded", "{done}");
        let folder = out.path().join(done["results"]["path"].as_str().unwrap());
        checked(&folder)
    };
    let has = |files: &BTreeMap<String, Vec<u8>>, text: &str| {
        files.values().any(|file| file.windows(text.len()).any(|w| w == text.as_bytes()))
    };
    let usual = written(json!({})).await;
    assert_eq!(usual, written(json!(true)).await);
    assert!(usual.len() == 1 && has(&usual, "042Y") && !has(&usual, "1.2.77"));
    let less = written(json!({"retainPatientCharacteristics": false})).await;
    assert!(!has(&less, "042Y"));
    let more = written(json!({"RetainUids": true, "dates": "shift", "burntIn": "allow"})).await;
    assert_eq!(more.len(), 2);
    assert!(has(&more, "1.2.77.1.1.1") && !has(&more, "20240102") && !has(&more, "Doe"));
    assert!(more.keys().all(|name| name.starts_with("results/1.2.77.1/")), "{:?}", more.keys());
    for (how, reason) in [
        (json!({"dates": "keep"}), "dates may not be asked for"),
        (json!({"cleanDescriptors": true}), "clean_descriptors may not be asked for"),
        (json!({"retainSafePrivate": true, "dates": "shift"}), "retain_safe_private"),
        (json!({"dates": "later"}), "\"shift\""),
        (json!({"retainUids": "yes"}), "true or false"),
        (json!({"retainUids": 1}), "texts, true or false"),
        (json!({"retainNames": true}), "not known"),
        (json!("yes"), "an object"),
    ] {
        let refused = server.post("/export", JSON, hiding(&one, &to, &how)).await.problem(400);
        assert_eq!(refused["errors"][0]["field"], "deidentify", "{refused}");
        assert!(refused.to_string().replace("\\\"", "\"").contains(reason), "{reason}: {refused}");
    }
    // It is on the record, with what was exported, since the log is the partition's own.
    let mut conn = server.superuser().await;
    let sql = "SELECT count(*) FROM audit_event WHERE action = 'studies.export-deidentified' \
               AND record LIKE '%\"deidentified\":true%' AND record LIKE '%1.2.77.1%'";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    assert_eq!(count, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_export_deidentified_may_not_export_as_it_is() {
    let out = tempfile::tempdir().unwrap();
    let on = [("features.enable_data_partition", "true"), ("auth.enabled", "true")];
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &on).await;
    let mut conn = server.superuser().await;
    let sql = "INSERT INTO partition (partition_id) VALUES ('north')";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let keeper = server.key("north", "partition-admin").await;
    let post = async |key: &str, path: &str, body: Vec<u8>| {
        let path = format!("/partitions/north{path}");
        send(server.request(reqwest::Method::POST, &path).header("x-api-key", key).body(body)).await
    };
    let key = async |permission: &str| {
        let asked = json!({"name": permission, "permissions": [permission]}).to_string();
        let made = post(&keeper, "/apikeys", asked.into_bytes()).await.is(201);
        made.json()["key"].as_str().unwrap().to_owned()
    };
    let (hides, exports) = (key("studies.export-deidentified").await, key("studies.export").await);
    let reads = key("studies.retrieve").await;
    let (one, to) = (values(&["1.2.77.1"]), json!({"name": "out"}));
    let plain = || body(&one, &to);
    let hidden = || hiding(&one, &to, &json!(true));
    post(&hides, "/export", hidden()).await.is(202);
    post(&exports, "/export", hidden()).await.is(202);
    post(&exports, "/export", plain()).await.is(202);
    for body in [plain(), hiding(&one, &to, &json!(false))] {
        post(&hides, "/export", body).await.problem(403);
    }
    post(&reads, "/export", hidden()).await.problem(403);
    // Nobody learns from the refusal which destinations there are.
    let absent =
        post(&hides, "/export", body(&one, &json!({"name": "nowhere"}))).await.problem(403);
    assert_eq!(absent["detail"], post(&hides, "/export", plain()).await.problem(403)["detail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_it_goes_on_under_the_key_that_it_was_begun_with_or_not_at_all() {
    let (data, out) = (postgres::tempdir(), tempfile::tempdir().unwrap());
    let config = data.path().join("c.toml");
    std::fs::write(&config, destination("out", out.path(), "\"*\"")).unwrap();
    let serve = async || {
        let add = |command: &mut Command| {
            command.arg("--config").arg(&config);
        };
        Process::start(data.path(), &[("export.at_once", "1")], add).ready().await.unwrap()
    };
    let process = serve().await;
    let client = process.client.clone();
    let mut blobs = Vec::new();
    for study in 0..3 {
        let all: Vec<Vec<u8>> = (1..=150).map(|number| told(study, number).file()).collect();
        blobs.push(blob_of(&client, data.path(), &all).await);
    }
    let asked = values(&["1.2.77.0", "1.2.77.1", "1.2.77.2"]);
    let to = json!({"name": "out", "layout": "dicom"});
    let (_, folder) = exported(&client, out.path(), &asked, &to, &json!(true)).await;
    let whole = checked(&folder);
    assert_eq!(whole.len(), 450);
    let held = Held::at(data.path(), &blobs[1]);
    let answer = client.post("/export", JSON, hiding(&asked, &to, &json!(true))).await.is(202);
    let path = format!("/operations/{}", answer.json()["id"].as_str().unwrap());
    let processed = async |client: &Client| client.get(&path).await.json()["processed"].as_u64();
    until("a part is written", async || processed(&client).await > Some(0)).await;
    process.kill();
    held.let_go();
    let folder = out.path().join("microsoft.default").join(path.rsplit('/').next().unwrap());
    let before = files(&folder.join("results")).len();
    assert!(before > 0 && before < 450, "{before}");
    let process = serve().await;
    let done = ended(&process.client, &path).await;
    assert_eq!((&done["status"], &done["processed"]), (&json!("succeeded"), &json!(450)), "{done}");
    let folder = out.path().join(done["results"]["path"].as_str().unwrap());
    assert!(checked(&folder) == whole, "the same as without the kill");
    for (name, bytes) in files(&folder) {
        check_nothing_tells(&name, &bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_under_another_key_is_not_gone_on_with() {
    let out = tempfile::tempdir().unwrap();
    let server = Server::with_file(&destination("out", out.path(), "\"*\""), &[]).await;
    server.store("/studies", &[told(1, 1).file()]).await.is(200);
    // Nothing can be written where a file is in the way of the folder.
    let in_the_way = out.path().join("microsoft.default");
    std::fs::write(&in_the_way, "").unwrap();
    let asked = hiding(&values(&["1.2.77.1"]), &json!({"name": "out"}), &json!(true));
    let answer = server.post("/export", JSON, asked).await.is(202);
    let mut conn = server.superuser().await;
    let gone = sqlx::query("DELETE FROM pseudonym_key").execute(&mut conn).await.unwrap();
    assert_eq!(gone.rows_affected(), 1);
    std::fs::remove_file(&in_the_way).unwrap();
    let done = ended(&server, answer.header("location")).await;
    assert_eq!(done["status"], "failed", "{done}");
    let reason = done["results"]["errors"][0].as_str().unwrap();
    assert!(reason.contains("key of pseudonyms"), "{done}");
}
