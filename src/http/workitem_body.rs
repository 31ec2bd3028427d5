//! A workitem, or what changes one, as a body: one data set of DICOM JSON or XML (PS3.18 §11.1.1).
//!
//! Holds: no more of a body is kept than `worklist.max_workitem_bytes`. Absent: what a workitem has to
//! be (`dicom::ups`).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    metadata::XML,
    multipart::{MultipartError, PartReader},
    problem::Problem,
};
use crate::{
    config::LimitsConfig,
    dicom::sent::{self, Flaw},
};

/// What a body may be, or the one part of a multipart one.
pub const TAKEN: [&str; 4] = [
    "application/dicom+json",
    "application/json",
    XML,
    "multipart/related; type=\"application/dicom+xml\"",
];

/// The data set of a body; `None` where there is no body. One without a content type is taken for
/// JSON.
///
/// # Errors
/// 400, 408, 413, 415.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &LimitsConfig,
    longest: u64,
) -> Result<Option<Map<String, Value>>, Problem> {
    let mut own = headers.clone();
    own.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(TAKEN[0]));
    let unsupported = |error| match error {
        MultipartError::Unsupported { .. } => Problem::unsupported_media_type(&TAKEN),
        error => error.into(),
    };
    let mut reader = PartReader::open(&own, body, limits, &TAKEN[..3]).map_err(unsupported)?;
    let (is_xml, bytes) = match part(&mut reader, longest).await {
        Ok(Some(part)) => part,
        Ok(None) => return Ok(None),
        Err(problem) => {
            reader.discard().await;
            return Err(problem);
        }
    };
    let read = if is_xml { sent::native(&bytes) } else { sent::json(&bytes) };
    Ok(Some(read?))
}

/// Whether the only part is XML, and what it holds.
async fn part(reader: &mut PartReader, longest: u64) -> Result<Option<(bool, Bytes)>, Problem> {
    let root = match reader.is_multipart() {
        true => reader.content_type().related_type(),
        false => Some(reader.content_type().essence().to_owned()),
    };
    let Some(part) = reader.next_part().await? else { return Ok(None) };
    let own = part.head.content_type.as_ref().map(|own| own.essence().to_owned());
    let media_type = own.or(root).unwrap_or_else(|| TAKEN[0].to_owned());
    if !TAKEN[..3].contains(&&*media_type) {
        return Err(Problem::unsupported_media_type(&TAKEN));
    }
    let bytes = part.collect(longest).await.map_err(|error| match error {
        MultipartError::NotSmall { limit } | MultipartError::PartTooLarge { limit } => {
            Problem::too_large("worklist.max_workitem_bytes", limit.min(longest))
        }
        error => error.into(),
    })?;
    if reader.next_head().await?.is_some() {
        return Err(Problem::bad_request("the body has more than one part"));
    }
    Ok(Some((media_type == XML, bytes)))
}

impl From<Flaw> for Problem {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Malformed(_) | Flaw::NotOne => Self::bad_request(flaw.to_string()),
            Flaw::Attribute { at, rule } if at.is_empty() => Self::bad_request(rule),
            Flaw::Attribute { at, rule } => Self::invalid(at, rule),
        }
    }
}
