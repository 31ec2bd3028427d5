//! Small JSON bodies of our own resources.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures::StreamExt;
use serde_json::{Map, Value};

use super::{multipart::ContentType, problem::Problem};
use crate::config::LimitsConfig;

/// Longest body, in bytes: hundreds of tags with room to spare.
const LONGEST: usize = 256 * 1024;

/// Reads a JSON body. A body without a content type is taken for JSON.
///
/// # Errors
/// 400, 408, 413, 415.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &LimitsConfig,
) -> Result<Value, Problem> {
    const TAKEN: [&str; 1] = ["application/json"];
    if let Some(value) = headers.get(header::CONTENT_TYPE) {
        let given = value.to_str().ok().and_then(ContentType::parse);
        if given.is_none_or(|given| given.essence() != TAKEN[0]) {
            return Err(Problem::unsupported_media_type(&TAKEN));
        }
    }
    let (mut stream, mut all) = (body.into_data_stream(), Vec::new());
    loop {
        let next = tokio::time::timeout(limits.body_idle, stream.next()).await;
        match next.map_err(|_| Problem::request_timeout())? {
            Some(Ok(bytes)) if all.len() + bytes.len() <= LONGEST => all.extend_from_slice(&bytes),
            Some(Ok(_)) => return Err(too_long()),
            Some(Err(_)) => return Err(Problem::bad_request("the body broke off")),
            None => break,
        }
    }
    serde_json::from_slice(&all).map_err(|_| Problem::bad_request("the body is not valid JSON"))
}

fn too_long() -> Problem {
    Problem::new(
        axum::http::StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "Too large",
        "the body is longer than 256 KiB",
    )
}

/// The members of an object by their names in lower case, which are read without regard to case.
pub fn members(object: Map<String, Value>) -> Map<String, Value> {
    object.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}
