//! All layers together, as a client sees them.

#![expect(clippy::disallowed_methods, reason = "routers made for a test")]

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use futures::stream;
use http_body_util::BodyExt;
use tower::ServiceExt as _;

use super::*;
use crate::http::problem;

async fn panics() -> &'static str {
    panic!("patient name")
}

async fn json() -> Response {
    let text = format!("[{}0]", "0,".repeat(2_000));
    ([(header::CONTENT_TYPE, "application/dicom+json"), (header::ETAG, "\"7\"")], text)
        .into_response()
}

async fn dicom() -> Response {
    let chunks = stream::iter([(); 2].map(|()| Ok::<_, axum::BoxError>("x".repeat(4_000))));
    ([(header::CONTENT_TYPE, "application/dicom")], Body::from_stream(chunks)).into_response()
}

fn router(origins: &[&str]) -> Router {
    let cors =
        CorsConfig { allowed_origins: origins.iter().map(|own| (*own).to_owned()).collect() };
    let routes = Router::new()
        .route("/panic", get(panics))
        .route("/json", get(json))
        .route("/dicom", get(dicom))
        .fallback(problem::fallback)
        .method_not_allowed_fallback(problem::method_fallback);
    let services = Services::new([(Method::GET, "/json".to_owned(), "metadata")]);
    Layers::new(services, &ServerConfig::default(), &cors).around(routes)
}

async fn call(
    router: Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn every_answer_has_the_common_headers() {
    for (method, path, status) in [
        (Method::GET, "/json", 200),
        (Method::GET, "/nowhere", 404),
        (Method::POST, "/json", 405),
        (Method::GET, "/panic", 500),
    ] {
        let sent = [("x-request-id", "abc-1.2_3"), ("origin", "https://viewer.org")];
        let (got, headers, _) = call(router(&["*"]), method, path, &sent).await;
        assert_eq!(got, status, "{path}");
        assert_eq!(headers["x-request-id"], "abc-1.2_3", "{path}");
        assert_eq!(headers["server"], concat!("collimator/", env!("CARGO_PKG_VERSION")));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        assert_eq!(headers.get_all("vary").iter().count(), 1);
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("content-range") && exposed.contains("warning"));
    }
}

#[tokio::test]
async fn a_405_says_what_is_allowed() {
    let (status, headers, body) = call(router(&[]), Method::DELETE, "/json", &[]).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers[header::ALLOW], "GET,HEAD");
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    assert!(!body.is_empty());
}

#[tokio::test]
async fn request_ids_that_could_do_harm_are_replaced() {
    let long = "a".repeat(65);
    for given in ["", "a b", "a\"b", "<a>", &long] {
        let (_, headers, _) =
            call(router(&[]), Method::GET, "/json", &[("x-request-id", given)]).await;
        let own = headers["x-request-id"].to_str().unwrap();
        assert!(own != given && own.len() == 32, "{given:?}: {own}");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_under_the_request_id_and_tells_nothing() {
    let (status, headers, body) = call(router(&[]), Method::GET, "/panic", &[]).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains(headers["x-request-id"].to_str().unwrap()), "{text}");
    assert!(!text.contains("patient"), "{text}");
}

#[tokio::test]
async fn preflights_are_answered_for_listed_origins_only() {
    let listed = &["https://viewer.org/"];
    let ask = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "range, x-tenant, evil"),
        ]
    };
    let (status, headers, _) =
        call(router(listed), Method::OPTIONS, "/json", &ask("https://Viewer.org")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(headers["access-control-allow-origin"], "https://Viewer.org");
    assert_eq!(headers["access-control-max-age"], "86400");
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("accept,") && allowed.contains("range"));
    assert!(allowed.ends_with(", x-tenant") && !allowed.contains("evil"), "{allowed}");

    let (_, headers, _) =
        call(router(listed), Method::OPTIONS, "/json", &ask("https://evil.org")).await;
    assert!(!headers.contains_key("access-control-allow-origin"));
    assert!(!headers.contains_key("access-control-allow-methods"));
}

#[tokio::test]
async fn options_without_preflight_headers_goes_to_its_route() {
    for origins in [&["*"][..], &[]] {
        let (status, ..) = call(router(origins), Method::OPTIONS, "/json", &[]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let preflight = [("origin", "https://a"), ("access-control-request-method", "GET")];
    let (_, headers, _) = call(router(&[]), Method::OPTIONS, "/json", &preflight).await;
    assert!(!headers.contains_key("access-control-allow-origin"));
    assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
}

#[tokio::test]
async fn json_is_compressed_and_dicom_never() {
    let accept = [("accept-encoding", "gzip, zstd")];
    let (_, headers, body) = call(router(&[]), Method::GET, "/json", &accept).await;
    assert!(["gzip", "zstd"].contains(&headers["content-encoding"].to_str().unwrap()));
    assert_eq!(headers["etag"], "W/\"7\"");
    assert!(body.len() < 1_000);
    let (_, headers, body) = call(router(&[]), Method::GET, "/dicom", &accept).await;
    assert!(!headers.contains_key("content-encoding"));
    assert_eq!(body.len(), 8_000);
    let (_, headers, _) = call(router(&[]), Method::GET, "/nowhere", &accept).await;
    assert!(!headers.contains_key("content-encoding"), "small");
    let (_, headers, _) = call(router(&[]), Method::GET, "/json", &[]).await;
    assert_eq!(headers["etag"], "\"7\"");
}

/// Calls the routes on a runtime of its own, inside of what `observed` sets up for the thread.
fn observed<T>(set_up: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    set_up(&mut || {
        runtime.block_on(async {
            for (method, path) in [
                (Method::GET, "/json?PatientName=Doe"),
                (Method::GET, "/json?PatientName=Doe"),
                (Method::from_bytes(b"BREW").unwrap(), "/json"),
                (Method::GET, "/nowhere/Doe"),
                (Method::GET, "/panic"),
            ] {
                call(router(&[]), method, path, &[("x-request-id", "r-7")]).await;
            }
            let request = Request::builder().uri("/dicom").body(Body::empty()).unwrap();
            drop(router(&[]).oneshot(request).await.unwrap());
        });
    })
}

#[test]
fn metrics_count_by_service_method_and_status() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    observed(|run| metrics::with_local_recorder(&recorder, run));
    let text = handle.render();
    for line in [
        r#"collimator_http_requests_total{service="metadata",method="GET",status="2xx"} 2"#,
        r#"collimator_http_requests_total{service="metadata",method="other",status="4xx"} 1"#,
        r#"collimator_http_requests_total{service="none",method="GET",status="4xx"} 1"#,
        r#"collimator_http_requests_total{service="none",method="GET",status="5xx"} 1"#,
        r#"collimator_http_responses_aborted_total{service="none"} 1"#,
        r#"collimator_http_requests_in_flight{service="metadata"} 0"#,
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert!(!text.contains("Doe"));
}

#[test]
fn the_log_has_routes_and_ids_but_no_paths_queries_or_panics() {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let subscriber = tracing::Dispatch::new(subscriber);
    // While there is one dispatcher only, tracing asks the thread that first passes a callsite
    // whether anyone wants it, and other tests' threads would answer for this one.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
    observed(|run| tracing::dispatcher::with_default(&subscriber, run));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("answered").count(), 6, "{text}");
    assert!(text.contains("r-7") && text.contains("/json"), "{text}");
    assert!(text.contains("a handler panicked"), "{text}");
    for secret in ["Doe", "PatientName", "patient name"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_takes_is_let_go() {
    let (held, mut dropped) = tokio::sync::mpsc::channel::<()>(1);
    let chunks = stream::unfold(held, async |held| Some((Ok::<_, axum::BoxError>("x"), held)));
    let mut body = stall::Guarded::new(Body::from_stream(chunks), Duration::from_millis(1));
    assert!(body.frame().await.unwrap().is_ok());
    // The channel closes when the watchdog drops the stream that holds its other end.
    assert_eq!(dropped.recv().await, None);
    assert!(body.frame().await.unwrap().is_err());
}
