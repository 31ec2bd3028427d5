//! Cross-origin requests (Fetch standard), by `cors.allowed_origins`.
//!
//! Without origins nothing is added and preflights are ordinary requests. `OPTIONS` is a
//! preflight only with `Origin` and `Access-Control-Request-Method`; otherwise it asks for
//! capabilities (PS3.18 §8.9) and goes to its route. Absent: credentials mode; tokens travel in
//! `Authorization`, cookies are not used.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::config::CorsConfig;

/// How long a browser may remember a preflight, in seconds. Frames are requested by the thousand;
/// browsers cut this to what they allow.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Headers that pages may send, besides those that start with `x-`.
const REQUEST_HEADERS: &str = "accept, authorization, cache-control, content-type, if-match, \
                               if-none-match, if-range, last-event-id, microsoft.partitionid, pragma, \
                               range, traceparent, tracestate, x-api-key";

/// Headers of answers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "accept-ranges, allow, content-disposition, content-encoding, content-length, \
     content-location, content-range, content-type, erroneous-dicom-attributes, etag, link, location, retry-after, warning, \
     www-authenticate, x-request-id",
);

/// Bytes of `Access-Control-Request-Headers` that are read.
const MAX_REQUESTED: usize = 2 << 10;

/// Which origins may read answers.
#[derive(Clone, Debug)]
pub struct Cors(Arc<Origins>);

#[derive(Debug)]
struct Origins {
    every: bool,
    listed: BTreeSet<String>,
}

impl Cors {
    /// Reads the configuration; origins are compared in lower case and without a slash at the end.
    pub fn new(config: &CorsConfig) -> Self {
        let listed: BTreeSet<String> =
            config.allowed_origins.iter().map(|origin| normal(origin)).collect();
        Self(Arc::new(Origins { every: listed.contains("*"), listed }))
    }

    /// Whether any origin is allowed.
    pub fn is_on(&self) -> bool {
        !self.0.listed.is_empty()
    }

    /// Whether pages of an origin may read answers.
    pub fn lists(&self, origin: &str) -> bool {
        self.0.every || self.0.listed.contains(&normal(origin))
    }

    /// The value of `Access-Control-Allow-Origin` for a request.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        if self.0.every {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        self.lists(text).then(|| origin.clone())
    }
}

fn normal(origin: &str) -> String {
    origin.trim().trim_end_matches('/').to_ascii_lowercase()
}

/// The layer.
pub async fn answer(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    if !cors.is_on() {
        return next.run(request).await;
    }
    let allowed = cors.allowed(request.headers());
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        preflight(request.headers(), allowed.is_some())
    } else {
        next.run(request).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn preflight(request: &HeaderMap, allowed: bool) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, request_headers(request));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    response
}

/// Our list and the `x-` headers that the page wants: viewers are configured with all kinds.
fn request_headers(request: &HeaderMap) -> HeaderValue {
    let requested = request
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_REQUESTED)
        .unwrap_or_default();
    let mut list = REQUEST_HEADERS.to_owned();
    for name in requested.split(',').map(str::trim) {
        let starts = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        if starts && axum::http::HeaderName::from_bytes(name.as_bytes()).is_ok() {
            list.push_str(", ");
            list.push_str(name);
        }
    }
    HeaderValue::from_str(&list).unwrap_or(HeaderValue::from_static(REQUEST_HEADERS))
}
