//! Partitions (`features.enable_data_partition`): how a request names one, and what it gets.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Dicom, PARTITIONS, Server,
    corpus::{RELATED, multipart, multipart_of},
    send,
};

const HOSTED: [(&str, &str); 2] =
    [("features.enable_data_partition", "true"), ("tenancy.base_domain", "dicom.test")];

fn ct(n: u32) -> Vec<u8> {
    let study = format!("1.2.{n}");
    Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1")).file()
}

/// A store whose root part says something.
async fn store_with_root(server: &Server, path: &str, root: &str, file: &[u8]) -> Answer {
    let parts = [("application/json", root.as_bytes()), ("application/dicom", file)];
    server.post(path, RELATED, multipart_of(&parts)).await
}

fn root(partition: &str) -> String {
    json!([{"key": "microsoft.partitionId", "value": partition}]).to_string()
}

fn partition_of(result: &Value) -> &str {
    assert_eq!(result["00650010"], json!({"vr": "LO", "Value": ["COLLIMATOR PARTITION"]}));
    result["00651001"]["Value"][0].as_str().unwrap()
}

#[tokio::test]
async fn off_everything_is_in_the_default_partition() {
    let server = Server::start().await;
    let stored = server.store("/studies", &[ct(1)]).await.is(200);
    assert_eq!(stored.header("location"), format!("{}/studies/1.2.1", server.base));
    // Naming it is naming where everything is.
    server.get("/partitions/microsoft.default/studies/1.2.1").await.is(200);
    server
        .get_with("/studies/1.2.1", &[("microsoft.partitionId", "Microsoft.Default")])
        .await
        .is(200);
    store_with_root(&server, "/studies", &root("microsoft.default"), &ct(1)).await.is(200);
    // Naming another is refused, whether it exists or not, by every carrier.
    for path in [
        "/partitions/clinic1/studies",
        "/studies?microsoft.partitionId=clinic1",
        "/v2/partitions/clinic1/studies/1.2.1",
        "/studies/1.2.1/metadata?microsoft.partitionId=clinic1",
    ] {
        let problem = server.get(path).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains("not enabled"), "{problem}");
    }
    server.get_with("/studies", &[("microsoft.partitionId", "clinic1")]).await.problem(400);
    server.delete("/partitions/clinic1/studies/1.2.1").await.problem(400);
    server.store("/partitions/clinic1/studies", &[ct(1)]).await.problem(400);
    store_with_root(&server, "/studies", &root("clinic1"), &ct(2)).await.problem(400);
    // Results say nothing of partitions.
    let found = server.search("/studies?includefield=all").await;
    assert!(found[0].get("00651001").is_none());
    let list = server.get("/partitions").await.is(200).json();
    assert_eq!(list[0]["partitionId"], "microsoft.default");
}

#[tokio::test]
async fn every_carrier_leads_to_the_same_place() {
    let server = Server::with(&HOSTED).await;
    server.store("/partitions/Clinic1/studies", &[ct(1)]).await.is(200);
    server.store("/studies?microsoft.partitionId=CLINIC1", &[ct(2)]).await.is(200);
    let with_header = async |name: &str, value: &str, n: u32| {
        let request = server.request(Method::POST, "/studies").header("content-type", RELATED);
        send(request.header(name, value).body(multipart(&[ct(n)]))).await.is(200)
    };
    with_header("Microsoft.PartitionId", "clinic1", 3).await;
    with_header("host", "Clinic1.dicom.test:8080", 4).await;
    store_with_root(&server, "/studies", &root("cLinic1"), &ct(5)).await.is(200);
    server.store("/v1/partitions/clinic1/studies", &[ct(6)]).await.is(200);
    server.store("/v2/studies?microsoft.partitionId=clinic1", &[ct(7)]).await.is(200);

    let by = async |path: &str, headers: &[(&str, &str)]| {
        let answer = server.get_with(path, headers).await.is(200);
        answer.json().as_array().unwrap().len()
    };
    assert_eq!(by("/partitions/clinic1/studies", &[]).await, 7);
    assert_eq!(by("/studies?microsoft.partitionId=clinic1", &[]).await, 7);
    assert_eq!(by("/studies", &[("microsoft.partitionId", "CLINIC1")]).await, 7);
    assert_eq!(by("/studies", &[("host", "clinic1.dicom.test")]).await, 7);
    assert_eq!(by("/v2/partitions/clinic%31/studies", &[]).await, 7);
    // All at once, as long as they agree.
    let all = [("microsoft.partitionId", "clinic1"), ("host", "clinic1.dicom.test")];
    assert_eq!(by("/partitions/clinic1/studies?microsoft.partitionId=CLINIC1", &all).await, 7);
    assert_eq!(server.blobs("clinic1").len(), 7);
}

#[tokio::test]
async fn carriers_that_disagree_or_are_no_ids() {
    let server = Server::with(&HOSTED).await;
    server.store("/partitions/a/studies", &[ct(1)]).await.is(200);
    server.store("/partitions/b/studies", &[ct(2)]).await.is(200);
    for (path, headers) in [
        ("/partitions/a/studies?microsoft.partitionId=b", vec![]),
        ("/partitions/a/studies", vec![("microsoft.partitionId", "b")]),
        ("/partitions/a/studies", vec![("host", "b.dicom.test")]),
        ("/studies?microsoft.partitionId=a", vec![("microsoft.partitionId", "b")]),
        ("/studies/1.2.1?microsoft.partitionId=a&microsoft.partitionId=b", vec![]),
        ("/studies", vec![("microsoft.partitionId", "a"), ("host", "b.dicom.test")]),
    ] {
        let problem = server.get_with(path, &headers).await.problem(400);
        let text = problem.to_string();
        assert!(text.contains("different partitions"), "{path}: {text}");
    }
    let stored = store_with_root(&server, "/partitions/a/studies", &root("b"), &ct(3)).await;
    stored.problem(400);
    for id in ["", "%20", "-a", "a%2Fb", "%C3%A4", "a%27", &"a".repeat(33)] {
        let answer = server.get(&format!("/studies?microsoft.partitionId={id}")).await;
        answer.problem(400);
        if !id.is_empty() {
            server.get(&format!("/partitions/{id}/studies")).await.problem(400);
        }
    }
    for junk in ["{}", "[1]", "nonsense", "[{\"key\":\"microsoft.partitionId\",\"value\":7}]"] {
        store_with_root(&server, "/studies", junk, &ct(3)).await.problem(400);
    }
    // A list is for searches alone.
    server.get("/studies/1.2.1?microsoft.partitionId=a,b").await.problem(400);
    server.store("/studies?microsoft.partitionId=a,b", &[ct(3)]).await.problem(400);
    assert_eq!(server.count("SELECT count(*) FROM instance").await, 2);
}

#[tokio::test]
async fn naming_none_is_fine_for_search_alone() {
    let server = Server::with(&PARTITIONS).await;
    for (partition, n) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] {
        server.store(&format!("/partitions/{partition}/studies"), &[ct(n)]).await.is(200);
    }
    let problem = server.store("/studies", &[ct(9)]).await.problem(400);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("microsoft.partitionId") && detail.contains("/partitions/"),
        "{detail}"
    );
    server.get("/studies/1.2.1").await.problem(400);
    server.get("/studies/1.2.1/metadata").await.problem(400);
    server.delete("/studies/1.2.1").await.problem(400);

    let found = async |path: &str| {
        let mut found: Vec<(String, String)> = server
            .search(path)
            .await
            .iter()
            .map(|r| {
                (partition_of(r).to_owned(), r["0020000D"]["Value"][0].as_str().unwrap().to_owned())
            })
            .collect();
        found.sort();
        found
    };
    let own = |partition: &str, study: &str| (partition.to_owned(), study.to_owned());
    let all = [own("a", "1.2.1"), own("a", "1.2.4"), own("b", "1.2.2"), own("c", "1.2.3")];
    assert_eq!(found("/studies").await, all);
    assert_eq!(found("/instances").await, all);
    assert_eq!(found("/studies?microsoft.partitionId=A,c").await, [&all[..2], &all[3..]].concat());
    assert_eq!(found("/series?microsoft.partitionId=b").await, all[2..3]);
    // One that does not exist hides the whole list: a list is no oracle.
    server.get("/studies?microsoft.partitionId=b,nowhere").await.problem(404);
    server.get("/studies?microsoft.partitionId=nowhere").await.problem(404);
    // What a result names can be fetched as it stands.
    for result in server.search("/instances").await {
        let url = result["00081190"]["Value"][0].as_str().unwrap();
        let partition = partition_of(&result);
        assert!(url.contains(&format!("/partitions/{partition}/studies/")), "{url}");
        server.get(url).await.is(200);
    }
}

#[tokio::test]
async fn the_same_uids_live_in_two_partitions() {
    let server = Server::with(&PARTITIONS).await;
    let file = |patient: &str| {
        Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").text(0x10, 0x20, "LO", patient).file()
    };
    server.store("/partitions/a/studies", &[file("A")]).await.is(200);
    server.store("/partitions/b/studies", &[file("B")]).await.is(200);
    assert_eq!(server.get("/partitions/a/studies/1.2.1").await.bodies(), [file("A")]);
    assert_eq!(server.get("/partitions/b/studies/1.2.1").await.bodies(), [file("B")]);
    assert_eq!(server.search("/studies?StudyInstanceUID=1.2.1").await.len(), 2);
    server.delete("/partitions/a/studies/1.2.1").await.is(204);
    server.get("/partitions/a/studies/1.2.1").await.problem(410);
    assert_eq!(server.get("/partitions/b/studies/1.2.1").await.bodies(), [file("B")]);
    assert_eq!(server.search("/studies").await.len(), 1);
}

#[tokio::test]
async fn partitions_come_into_being_by_a_store_where_that_is_allowed() {
    let server = Server::with(&PARTITIONS).await;
    server.store("/partitions/new/studies", &[b"garbage".to_vec()]).await.is(409);
    server.get("/partitions/new/studies/1.2.1").await.problem(404);
    server.store("/partitions/Clinic1/studies", &[ct(1)]).await.is(200);
    let names = async |server: &Server, path: &str, key: &str| {
        let list = server.get(path).await.is(200).json();
        let names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|partition| {
                assert!(partition["createdDate"].is_string(), "{partition}");
                partition[key].as_str().unwrap().to_owned()
            })
            .collect();
        names
    };
    assert!(names(&server, "/partitions", "partitionId").await.contains(&"clinic1".to_owned()));
    let list = names(&server, "/partitions", "partitionId").await;
    assert!(!list.contains(&"new".to_owned()), "nothing was stored there: {list:?}");
    for path in ["/v1/partitions", "/v2/partitions"] {
        assert_eq!(names(&server, path, "partitionName").await, list);
        assert!(server.get(path).await.json()[0]["partitionKey"].is_number());
    }

    let settings = [PARTITIONS[0], ("partitions.create_on_store", "false")];
    let server = server.restart(&settings).await;
    let unknown = server.store("/partitions/clinic2/studies", &[ct(2)]).await;
    let absent = server.get("/partitions/clinic1/studies/1.2.99").await;
    assert_eq!(unknown.clone().problem(404), absent.clone().problem(404));
    assert_eq!(unknown.body, absent.body);
    server.store("/partitions/clinic1/studies", &[ct(2)]).await.is(200);
    assert_eq!(names(&server, "/partitions", "partitionId").await, list);
}

#[tokio::test]
async fn urls_keep_the_style_of_the_request() {
    let server = Server::with(&HOSTED).await;
    let base = server.base.clone();
    for (path, headers, expected) in [
        ("/partitions/a", vec![], format!("{base}/partitions/a/studies/1.2.1")),
        ("/v2/partitions/A", vec![], format!("{base}/v2/partitions/a/studies/1.2.1")),
        ("?q", vec![], format!("{base}/studies/1.2.1?microsoft.partitionId=a")),
        ("", vec![("microsoft.partitionId", "a")], format!("{base}/studies/1.2.1")),
        ("", vec![("host", "a.dicom.test")], "http://a.dicom.test/studies/1.2.1".to_owned()),
    ] {
        let url = |rest: &str| match path {
            "?q" => format!("{rest}?microsoft.partitionId=a"),
            prefix => format!("{prefix}{rest}"),
        };
        let mut request =
            server.request(Method::POST, &url("/studies")).header("content-type", RELATED);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let stored = send(request.body(multipart(&[ct(1)]))).await.is(200);
        assert_eq!(stored.header("location"), expected);
        assert_eq!(stored.json()["00081190"]["Value"][0], expected);
        let found = server.get_with(&url("/studies"), &headers).await.is(200).json();
        assert_eq!(found[0]["00081190"]["Value"][0], expected);
        let metadata = server.get_with(&url("/studies/1.2.1/metadata"), &headers).await.is(200);
        let bulk = metadata.json()[0]["7FE00010"]["BulkDataURI"].as_str().unwrap().to_owned();
        let (front, back) = expected.split_once("/studies/1.2.1").unwrap();
        assert!(bulk.starts_with(&format!("{front}/studies/1.2.1/series/")), "{bulk}");
        assert!(bulk.ends_with(&format!("/bulkdata/7FE00010{back}")), "{bulk}");
        // A URL given is a URL that works, with the same headers.
        let at = bulk.replace("http://a.dicom.test", &base);
        server.get_with(&at, &headers).await.is(200);
    }
}

#[tokio::test]
async fn the_feature_is_not_turned_off_over_data() {
    let server = Server::with(&PARTITIONS).await;
    server.store("/partitions/clinic1/studies", &[ct(1)]).await.is(200);
    let reason = server.refusal(&[]).await;
    assert!(reason.contains("clinic1") && reason.contains("enable_data_partition"), "{reason}");
    server.store("/partitions/microsoft.default/studies", &[ct(2)]).await.is(200);
    let server = server.restart(&PARTITIONS).await;
    server.get("/partitions/clinic1/studies/1.2.1").await.is(200);
}
