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

/// Instances that were stored together are read together, others one by one; nobody sees which.
#[tokio::test]
async fn it_is_the_same_however_the_instances_came() {
    let server = Server::start().await;
    let uid = |n: u32| format!("1.2.1.{}.{n}", n % 2);
    let ct = |n: u32| {
        let mut ct = Dicom::ct("1.2.1", &format!("1.2.1.{}", n % 2), &uid(n));
        // Some say so much that they are kept apart.
        let long = if n % 10 == 5 { "very long ".repeat(3000) } else { format!("number {n}") };
        ct.text(0x0020, 0x4000, "LT", &long).file()
    };
    let files = |range: std::ops::Range<u32>| range.map(ct).collect::<Vec<_>>();
    let (study, first_series) =
        ("/studies/1.2.1/metadata", "/studies/1.2.1/series/1.2.1.1/metadata");
    let compare = async |numbers: &[u32]| {
        let mut expected = Vec::new();
        for n in numbers {
            let path =
                format!("/studies/1.2.1/series/1.2.1.{}/instances/{}/metadata", n % 2, uid(*n));
            let one = server.get(&path).await.is(200).body;
            expected.push((n % 2, String::from_utf8(one.to_vec()).unwrap()));
        }
        let array = |wanted: Option<u32>| {
            let wanted =
                expected.iter().filter(|(series, _)| wanted.is_none_or(|one| one == *series));
            let all: Vec<&str> = wanted.map(|(_, json)| &json[1..json.len() - 1]).collect();
            format!("[{}]", all.join(","))
        };
        let given = async |path: &str| {
            String::from_utf8(server.get(path).await.is(200).body.to_vec()).unwrap()
        };
        assert_eq!(given(study).await, array(None));
        assert_eq!(given(first_series).await, array(Some(1)));
        let xml = "multipart/related; type=\"application/dicom+xml\"";
        let parts = server.get_as(study, xml).await.is(200).parts();
        assert_eq!(parts.len(), numbers.len());
        for (part, n) in parts.iter().zip(numbers) {
            assert!(part.header("content-location").ends_with(&format!("/{}/metadata", uid(*n))));
            let text = String::from_utf8(part.body.to_vec()).unwrap();
            assert!(
                text.contains(&format!("/instances/{}/bulkdata/7FE00010\"", uid(*n))),
                "{text}"
            );
        }
    };
    // Many in one request, one alone, then several again.
    server.store("/studies", &files(0..30)).await.is(200);
    server.store("/studies", &files(30..31)).await.is(200);
    server.store("/studies", &files(31..40)).await.is(200);
    let order: Vec<u32> = stored_order(&server, study).await;
    assert_eq!(order.len(), 40);
    compare(&order).await;
    // Deleted from among the first, and from the others.
    for n in [3, 20, 33] {
        let path = format!("/studies/1.2.1/series/1.2.1.{}/instances/{}", n % 2, uid(n));
        server.delete(&path).await.is(204);
    }
    let left: Vec<u32> = order.into_iter().filter(|n| ![3, 20, 33].contains(n)).collect();
    compare(&left).await;
    server.store("/studies", &files(40..50)).await.is(200);
    // What is kept of a pack that is damaged is elsewhere too.
    let mut conn = server.superuser().await;
    let cut = "UPDATE metadata_pack SET pack = substring(pack FOR 50)";
    assert!(sqlx::query(cut).execute(&mut conn).await.unwrap().rows_affected() > 0);
    let order = stored_order(&server, study).await;
    assert_eq!(order.len(), 47);
    compare(&order).await;
    server.delete("/studies/1.2.1").await.is(204);
    server.get(study).await.is(410);
    let packs = sqlx::query("SELECT FROM metadata_pack").fetch_all(&mut conn).await.unwrap();
    assert_eq!(packs.len(), 0);
}

/// The numbers that end the UIDs of instances, in the order in which they are given.
async fn stored_order(server: &Server, path: &str) -> Vec<u32> {
    let all = server.get(path).await.is(200).json();
    let number = |one: &Value| {
        let uid = one["00080018"]["Value"][0].as_str().unwrap();
        uid.rsplit('.').next().unwrap().parse().unwrap()
    };
    all.as_array().unwrap().iter().map(number).collect()
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
