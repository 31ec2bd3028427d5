//! Conditional requests (RFC 9110 §13) and what caches may keep: one place for entity tags.
//!
//! Absent: `If-Range`, which belongs to ranges ([`super::range`]).

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Whether `If-None-Match` names the representation with this entity tag (with its quotes), by
/// weak comparison; bare tags are taken too, as Microsoft's clients write them.
pub fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    let ours = bare(etag);
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let listed = value.to_str().unwrap_or_default();
        listed.split(',').any(|tag| tag.trim() == "*" || bare(tag) == ours)
    })
}

/// 304 for a client that has this representation already.
pub fn unchanged(etag: &str) -> Response {
    tagged(StatusCode::NOT_MODIFIED.into_response(), etag)
}

/// The answer with its entity tag, kept by the client alone.
pub fn tagged(mut response: Response, etag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}
