//! What routes say of themselves: capabilities (PS3.18 §8.9), OpenAPI and its page.

use std::collections::BTreeSet;

use collimator::http::{
    operation::{Operation, Reach},
    routes,
};
use serde_json::Value;

use super::server;
use crate::harness::{Answer, Server};

const WADL: &str = "application/vnd.sun.wadl+xml";
const JSON: [(&str, &str); 1] = [("accept", "application/json")];

/// Every method of a tree with the path of its resource.
fn walk(resource: &Value, above: &str, found: &mut BTreeSet<(String, String)>) {
    let path = format!("{above}/{}", resource["@path"].as_str().unwrap());
    for method in resource["method"].as_array().into_iter().flatten() {
        assert!(!method["response"].as_array().unwrap().is_empty());
        let params = method["request"]["param"].as_array().unwrap();
        assert!(
            params
                .iter()
                .all(|param| ["header", "query"].contains(&param["@style"].as_str().unwrap()))
        );
        found.insert((method["@name"].as_str().unwrap().into(), path.clone()));
    }
    let inside: BTreeSet<&str> =
        resource["@path"].as_str().unwrap().split(['{', '}']).skip(1).step_by(2).collect();
    let named = resource["param"].as_array().into_iter().flatten();
    let named: BTreeSet<&str> = named.map(|param| param["@name"].as_str().unwrap()).collect();
    assert_eq!(named, inside, "{path}");
    for below in resource["resource"].as_array().into_iter().flatten() {
        walk(below, &path, found);
    }
}

/// The base and the methods that capabilities in JSON list.
fn listed(answer: &Answer) -> (String, BTreeSet<(String, String)>) {
    assert_eq!(answer.header("content-type"), "application/json");
    let json = answer.json();
    let resources = json["application"]["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 1);
    let mut found = BTreeSet::new();
    for resource in resources[0]["resource"].as_array().unwrap() {
        walk(resource, "", &mut found);
    }
    (resources[0]["@base"].as_str().unwrap().to_owned(), found)
}

/// What capabilities are to list.
fn expected(filter: impl Fn(&Operation) -> bool) -> BTreeSet<(String, String)> {
    let routes = routes();
    let operations = routes.operations().iter().filter(|own| own.method != "OPTIONS");
    operations
        .filter(|own| filter(own))
        .map(|own| (own.method.to_string(), own.path.replace("{*", "{")))
        .collect()
}

#[tokio::test]
async fn the_root_describes_every_route_of_the_service() {
    let server = server(&[("features.enable_data_partition", "true")]).await;
    let all = expected(|own| own.reach != Reach::Operator);
    let within = expected(|own| own.reach == Reach::Partition);
    for (path, base, expected) in [
        ("/", "", &all),
        ("/v2", "/v2", &all),
        ("/v1/", "/v1", &all),
        ("/partitions/North", "/partitions/north", &within),
        ("/v2/partitions/north/", "/v2/partitions/north", &within),
    ] {
        let (got, found) = listed(&server.options(path, &JSON).await.is(200));
        assert_eq!(got, format!("{}{base}", server.base), "{path}");
        assert_eq!(found, *expected, "{path}");
    }
    // In a query it stays there, fixed.
    let answer = server.options("/?microsoft.partitionId=north", &[]).await.is(200);
    assert!(answer.text().contains(&format!("<resources base=\"{}\">", server.base)));
    assert!(answer.text().contains("fixed=\"north\""));
}

#[tokio::test]
async fn a_path_describes_itself_and_what_lies_below() {
    let server = server(&[]).await;
    let answer = server.options("/studies/1.2.3", &JSON).await.is(200);
    let (base, found) = listed(&answer);
    assert_eq!(base, server.base);
    let below = "/studies/{study}";
    assert_eq!(found, expected(|own| own.path.starts_with(below)));
    assert_eq!(answer.header("allow"), "POST, GET, HEAD, DELETE, OPTIONS");
    // As the router itself sees it.
    let refused = server.request(reqwest::Method::PUT, "/studies/1.2.3");
    let refused = crate::harness::send(refused).await.is(405);
    let methods = |text: &str| -> BTreeSet<String> {
        text.split(',').map(|method| method.trim().to_owned()).collect()
    };
    assert_eq!(methods(refused.header("allow")), methods(answer.header("allow")));
}

#[tokio::test]
async fn wadl_is_the_default_and_has_a_tag() {
    let server = server(&[]).await;
    let answer = server.options("/", &[]).await.is(200);
    assert_eq!(answer.header("content-type"), WADL);
    let xml = answer.text();
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"), "{xml}");
    for part in [
        "<application xmlns=\"http://wadl.dev.java.net/2009/02\">",
        "<resource path=\"studies\"><method name=\"POST\" id=\"StoreInstances\">",
        "<param name=\"StudyDate\" style=\"query\"/>",
        "<param name=\"Accept\" style=\"header\" default=\"application/dicom+json\">",
        "<option value=\"multipart/related; type=&quot;application/dicom&quot;; transfer-syntax=*\"/>",
        "<representation mediaType=\"application/problem+json\"/>",
    ] {
        assert!(xml.contains(part), "{part}");
    }
    let tag = answer.header("etag").to_owned();
    let same = server.options("/", &[("if-none-match", &tag)]).await.is(304);
    assert!(same.body.is_empty());
    let other = [JSON[0], ("if-none-match", &tag)];
    assert_ne!(server.options("/", &other).await.is(200).header("etag"), tag);
    let problem = server.options("/", &[("accept", "image/png")]).await.problem(406);
    assert_eq!(problem["available"][0], WADL);
    // Without partitions, naming one is refused as everywhere.
    server.options("/partitions/north", &[]).await.problem(400);
    server.options("/partitions/microsoft.default", &[]).await.is(200);
    server.options("/health/live", &[]).await.problem(405);
    server.options("/nowhere", &[]).await.problem(404);
}

#[tokio::test]
async fn openapi_and_its_page_need_nothing_else() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.is(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    for operation in routes().operations() {
        let path = operation.path.replace("{*", "{");
        let method = operation.method.as_str().to_ascii_lowercase();
        assert!(document["paths"][&path][&method]["operationId"].is_string(), "{path}");
    }
    let page = server.get_as("/docs", "text/html").await.is(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'; "), "{policy}");
    assert!(page.text().contains("<a href=\"openapi.json\">"));
}
