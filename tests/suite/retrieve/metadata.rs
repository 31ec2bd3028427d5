//! Metadata (PS3.18 §10.4.1.1.5, Annex F).

use serde_json::{Value, json};

use crate::harness::{Answer, Dicom, Server};

#[tokio::test]
async fn at_three_levels_as_one_array() {
    let server = Server::start().await;
    let ct = |series: &str, n: u32| Dicom::ct("1.2.1", series, &format!("{series}.{n}")).file();
    let files: Vec<_> = (0..130).map(|n| ct("1.2.1.1", n)).chain([ct("1.2.1.2", 1)]).collect();
    server.store("/studies", &files).await.is(200);
    let count = |answer: Answer| answer.is(200).json().as_array().unwrap().len();
    assert_eq!(count(server.get("/studies/1.2.1/metadata").await), 131);
    assert_eq!(count(server.get("/studies/1.2.1/series/1.2.1.2/metadata").await), 1);
    let path = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.7/metadata";
    for accept in ["*/*", "application/dicom+json", "application/json", "text/html, */*;q=0.1"] {
        let answer = server.get_as(path, accept).await.is(200);
        let given = if accept == "application/json" { accept } else { "application/dicom+json" };
        assert_eq!(answer.header("content-type"), given, "{accept}");
        assert_eq!(answer.json()[0]["00080018"]["Value"], json!(["1.2.1.1.7"]));
    }
    let problem = server.get_as(path, "text/html").await.problem(406);
    assert!(problem["available"].as_array().unwrap().contains(&json!("application/dicom+json")));
}

#[tokio::test]
async fn attributes_ascend_and_none_is_of_the_file_meta() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1")
        .text(0x0008, 0x0080, "LO", "")
        .text(0x0020, 0x0032, "DS", "1.50\\-2\\3e1")
        .text(0x0008, 0x0008, "CS", "ORIGINAL\\\\AXIAL")
        .bytes(0x0008, 0x0000, "UL", &[4, 0, 0, 0])
        .file();
    server.store("/studies", &[file]).await.is(200);
    let answer = server.get("/studies/1.2.1/metadata").await.is(200);
    let metadata = answer.json();
    let keys: Vec<&String> = metadata[0].as_object().unwrap().keys().collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    assert!(keys.iter().all(|key| !key.starts_with("0002") && !key.ends_with("0000")), "{keys:?}");
    assert_eq!(metadata[0]["00080080"], json!({"vr": "LO"}));
    assert_eq!(metadata[0]["00080008"]["Value"], json!(["ORIGINAL", null, "AXIAL"]));
    assert_eq!(metadata[0]["00280010"], json!({"vr": "US", "Value": [4]}));
    let position = metadata[0]["00200032"]["Value"].as_array().unwrap();
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    };
    assert_eq!(position.iter().map(number).collect::<Vec<f64>>(), [1.5, -2.0, 30.0]);
    assert_eq!(metadata[0]["00100010"]["Value"], json!([{"Alphabetic": "Doe^Jane"}]));
}

#[tokio::test]
async fn a_tag_tells_whether_anything_changed() {
    let server = Server::start().await;
    let ct = |n: u32| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file();
    server.store("/studies", &[ct(1), ct(2)]).await.is(200);
    let path = "/studies/1.2.1/metadata";
    let tag = async || server.get(path).await.is(200).header("etag").to_owned();
    let first = tag().await;
    assert!(first.starts_with('"'), "{first} is not strong");
    let same = server.get_with(path, &[("if-none-match", &first)]).await.is(304);
    assert!(same.body.is_empty());
    assert_eq!(same.header("etag"), first);
    server.get_with(path, &[("if-none-match", "\"other\"")]).await.is(200);
    // Compressed on its way it is the same, as far as a weak tag says.
    let packed = server.get_with(path, &[("accept-encoding", "gzip")]).await.is(200);
    assert_eq!(packed.header("etag"), format!("W/{first}"));
    server.get_with(path, &[("if-none-match", packed.header("etag"))]).await.is(304);
    // Under another address it is not, since it holds URIs, nor in another form.
    let other = server.get_with(path, &[("host", "elsewhere.example")]).await.is(200);
    assert_ne!(other.header("etag"), first);
    let xml = [("accept", "multipart/related; type=\"application/dicom+xml\"")];
    assert_ne!(server.get_with(path, &xml).await.is(200).header("etag"), first);
    // Any change of what the study holds changes it.
    server.store("/studies", &[ct(3)]).await.is(200);
    let second = tag().await;
    assert_ne!(first, second);
    server.delete("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1").await.is(204);
    let third = tag().await;
    assert_ne!(second, third);
    server.get_with(path, &[("if-none-match", &second)]).await.is(200);
}
