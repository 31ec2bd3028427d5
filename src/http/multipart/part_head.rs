//! The header of a part.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{ContentType, MultipartError};

/// Fields in one part's header.
const MAX_FIELDS: usize = 64;

/// The header of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// All fields.
    pub headers: HeaderMap,
    /// The parsed `Content-Type`; `None` where it is absent or none.
    pub content_type: Option<ContentType>,
}

/// Reads one header field; a line that continues the one before (obsolete folding) is refused.
pub(super) fn field(line: &[u8], headers: &mut HeaderMap) -> Result<(), MultipartError> {
    if headers.len() >= MAX_FIELDS {
        return Err(MultipartError::Header);
    }
    let colon = memchr::memchr(b':', line).ok_or(MultipartError::Header)?;
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    let name = HeaderName::from_bytes(name.trim_ascii_end()).map_err(|_| MultipartError::Header)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| MultipartError::Header)?;
    headers.append(name, value);
    Ok(())
}
