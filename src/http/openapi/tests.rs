//! Routes, prefixes and the documents that are made of them.

use axum::{
    body::Body,
    extract::Path,
    http::{Method, Request, StatusCode},
};
use serde::Deserialize;
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::OverloadConfig,
    control::{Aside, Seats},
    tenancy::Weights,
};

#[derive(Deserialize)]
struct StudyPath {
    study: String,
}

async fn study(Path(path): Path<StudyPath>) -> String {
    path.study
}

fn operation(method: Method, path: &'static str, reach: Reach) -> Operation {
    Operation::new(method, path, reach, "retrieve", "One thing", "§10.4")
}

fn routes() -> Routes {
    Routes::default()
        .add(operation(Method::GET, "/studies/{study}", Reach::Partition), study)
        .add(operation(Method::DELETE, "/studies/{study}", Reach::Partition), study)
        .add(operation(Method::GET, "/partitions", Reach::Server), async || "list")
        .add(operation(Method::GET, "/health/live", Reach::Operator), async || "live")
        .with_capabilities(operation(Method::OPTIONS, "/", Reach::Partition), async || "all")
}

fn router() -> Router {
    let (aside, config) = (Aside::start().unwrap(), OverloadConfig::default());
    let seats = Seats::new(&config, Weights::default(), true);
    let overload = Overload::new(&config, seats, aside);
    let (server, cors) = (ServerConfig::default(), CorsConfig::default());
    routes().into_router(&server, &cors, Security::default(), overload)
}

async fn status(method: Method, path: &str) -> StatusCode {
    let router = router();
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    router.with_state(()).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn what_is_published_is_served_and_nothing_else() {
    let published = routes().published();
    // Two methods and OPTIONS under six prefixes, a list and OPTIONS under three, one more, and
    // the roots, each but `/` with and without its slash.
    assert_eq!(published.len(), 3 * 6 + 2 * 3 + 1 + 11);
    for (method, template) in published {
        let path = template.replace("{study}", "1").replace("{partition}", "p");
        let method = Method::try_from(method.as_str()).unwrap();
        assert_eq!(status(method, &path).await, StatusCode::OK, "{path}");
    }
    for path in ["/v3/studies/1", "/v2/health/live", "/partitions/p/partitions", "/studies/1/"] {
        assert_eq!(status(Method::GET, path).await, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(status(Method::PUT, "/studies/1").await, StatusCode::METHOD_NOT_ALLOWED);
    let probe = status(Method::OPTIONS, "/health/live").await;
    assert_eq!(probe, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn media_types_of_dicom_and_of_renderings_together_are_a_400() {
    for (accept, query, expected) in [
        ("application/dicom, image/png", "", 400),
        ("application/dicom", "?accept=text/html", 400),
        ("*/*", "?accept=application/dicom,image/gif", 400),
        ("application/dicom, image/png;q=0", "", 200),
        ("application/json, text/plain, */*", "", 200),
        ("application/dicom, image/jpeg", "", 200),
    ] {
        let router = router();
        let request = Request::builder()
            .uri(format!("/studies/1{query}"))
            .header("accept", accept)
            .body(Body::empty())
            .unwrap();
        let got = router.with_state(()).oneshot(request).await.unwrap().status();
        assert_eq!(got, expected, "{accept} {query}");
    }
}

#[test]
fn the_document_names_every_operation() {
    let document = OPERATIONS.as_slice();
    let document = document::of(document);
    for operation in OPERATIONS.iter() {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = &document["paths"][operation.path.replace("{*", "{")][&method];
        assert_eq!(described["tags"][0], operation.service, "{}", operation.path);
        for name in operation.path_parameters() {
            let parameters = described["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|one| one["name"] == name && one["in"] == "path"));
        }
        for offer in operation.offers {
            let success = operation.statuses.iter().find(|status| **status < 300).unwrap();
            let answer = &described["responses"][success.to_string()];
            assert!(answer["content"][offer.name()].is_object(), "{}", operation.path);
        }
    }
    let get = &document["paths"]["/studies/{study}"]["get"];
    assert_eq!(get["description"], "DICOM PS3.18 §10.4.1.1");
    assert_eq!(get["operationId"], "RetrieveAStudy");
    assert!(get["responses"]["406"]["content"]["application/problem+json"].is_object());
}

#[test]
fn names_of_operations_are_theirs_alone() {
    let names: BTreeSet<String> = OPERATIONS.iter().map(Operation::id).collect();
    assert_eq!(names.len(), OPERATIONS.len());
}

#[test]
fn every_route_says_what_it_answers() {
    for operation in OPERATIONS.iter() {
        // What changes workitems answers by its status and headers alone (PS3.18 §11.6.3.3).
        let is_bare = operation.method == Method::DELETE || operation.service == "worklist";
        let described = !operation.statuses.is_empty() && (!operation.offers.is_empty() || is_bare);
        assert!(described, "{} {}", operation.method, operation.path);
    }
}

#[test]
fn the_page_shows_every_operation_and_runs_and_loads_nothing() {
    let page = page::of(&document::of(&OPERATIONS));
    for operation in OPERATIONS.iter() {
        assert!(page.contains(&format!("id=\"{}\"", operation.id())), "{}", operation.summary);
    }
    assert!(page.contains("multipart/related; type=&quot;application/dicom&quot;"));
    for never in ["<script", "<link", "<img", "src=", "http:", "https:", "url("] {
        assert!(!page.contains(never), "{never}");
    }
}
