//! What answers of our own JSON have in common.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment as JSON tells it (RFC 3339).
pub fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Writes a member where there is a moment.
pub fn put_moment(shown: &mut Value, name: &str, at: Option<OffsetDateTime>) {
    if let Some(at) = at {
        shown[name] = Value::String(moment(at));
    }
}

/// An answer that nobody keeps: it holds a secret, or what people did.
pub fn no_store(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
