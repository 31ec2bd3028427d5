//! The request id, and the headers that every answer has.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

/// Longest request id taken from a client, in bytes.
const MAX_ID: usize = 64;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What an answer may depend on besides the URL.
const VARY: HeaderValue = HeaderValue::from_static(
    "accept, accept-charset, accept-encoding, origin, microsoft.partitionid",
);

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

/// The layer. `open` says whether pages of other origins may embed answers.
pub async fn add(State(open): State<bool>, mut request: Request, next: Next) -> Response {
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
    let policy = if open { "cross-origin" } else { "same-origin" };
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static(policy));
    weaken_tag(headers);
    response
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
