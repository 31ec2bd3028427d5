//! The request id, and the headers that every answer has.
//!
//! What a browser may do with an answer is said here for all of them, where the handler does not say
//! it better: an answer is data, which nothing may run, frame or refer from. No answer sets a cookie
//! and none is read.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

use crate::{
    http::{link_query, urls::Encrypted},
    identity::PeerCertificate,
};

/// Longest request id taken from a client, in bytes.
const MAX_ID: usize = 64;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What an answer may depend on besides the URL.
const VARY: HeaderValue = HeaderValue::from_static(
    "accept, accept-charset, accept-encoding, authorization, origin, microsoft.partitionid, x-api-key",
);

/// What data may do in a browser: nothing.
const DATA: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
/// Browsers refuse to show PDF in a sandbox, and show it in a frame of the page that fetched it.
const PDF: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; object-src 'self'");

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What answers say to browsers, by configuration.
#[derive(Clone, Debug, Default)]
pub struct Security {
    is_auth_on: bool,
    hsts: Option<HeaderValue>,
}

impl Security {
    /// With authentication or without; `hsts` is how long browsers are to keep to HTTPS with this
    /// host (RFC 6797), which is said over TLS alone.
    pub fn new(is_auth_on: bool, hsts: Option<Duration>) -> Self {
        let value = |time: Duration| format!("max-age={}", time.as_secs()).parse().ok();
        Self { is_auth_on, hsts: hsts.and_then(value) }
    }
}

/// What the layer knows.
#[derive(Clone, Debug)]
pub struct Common {
    /// Whether pages of other origins may embed answers.
    pub is_open: bool,
    /// What answers say to browsers.
    pub security: Security,
}

/// `collimator/<version>`
const SERVER: HeaderValue =
    HeaderValue::from_static(concat!("collimator/", env!("CARGO_PKG_VERSION")));

/// The id of a request, in its extensions: the client's or a proxy's `x-request-id` where that is
/// harmless, else a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let given = headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| (1..=MAX_ID).contains(&text.len()) && text.bytes().all(harmless));
        match given {
            Some(text) => Self(text.into()),
            None => Self(Uuid::new_v4().simple().to_string().into()),
        }
    }

    /// The id as text: letters, digits and `._-`, at most 64.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The layer.
pub async fn add(State(common): State<Common>, mut request: Request, next: Next) -> Response {
    let Common { is_open, security } = common;
    let is_encrypted = request.extensions().get::<Encrypted>().is_some();
    let is_private = has_credential(&request, security.is_auth_on);
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(header::SERVER, SERVER);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::VARY, VARY);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(hsts) = security.hsts.filter(|_| is_encrypted) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    keep_in(headers);
    if is_private && !headers.contains_key(header::CACHE_CONTROL) {
        // What has a tag is worth asking for again; the rest is not to be kept at all.
        let kept = headers.contains_key(header::ETAG);
        let value = if kept { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    }
    let policy = if is_open { "cross-origin" } else { "same-origin" };
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static(policy));
    weaken_tag(headers);
    response
}

/// Whether an answer is for somebody in particular.
fn has_credential(request: &Request, is_auth_on: bool) -> bool {
    let headers = request.headers();
    let has_certificate = request.extensions().get::<Arc<PeerCertificate>>().is_some();
    headers.contains_key(header::AUTHORIZATION)
        || headers.contains_key(X_API_KEY)
        || request.uri().query().is_some_and(link_query::is_in)
        || (is_auth_on && has_certificate)
}

/// Says what a browser may do with an answer, where nothing else is said.
fn keep_in(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        return;
    }
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let policy = if content_type.starts_with(b"application/pdf") { PDF } else { DATA };
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
}

/// A strong entity tag names exact bytes; those of a compressed answer are not the ones that the
/// handler meant (RFC 9110 §8.8.1).
fn weaken_tag(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return;
    }
    let Some(tag) = headers.get(header::ETAG) else { return };
    if tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(header::ETAG, weak);
    }
}
