//! What can be wrong with a request body.

use crate::http::problem::Problem;

/// Why a request body cannot be read. After [`MultipartError::PartTooLarge`] and
/// [`MultipartError::NotSmall`] the next part can still be read; after every other error the body
/// is at its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The media type of the request (or its content coding) is not taken.
    #[error("the request's media type is not taken here")]
    Unsupported {
        /// What is taken, in the words of `Content-Type`.
        supported: Vec<String>,
    },
    /// The `Content-Type` of a multipart body has no usable `boundary` (RFC 2046 §5.1.1).
    #[error("the boundary parameter is missing or not 1 to 70 characters of RFC 2046")]
    Boundary,
    /// The body ended before the closing delimiter, or the client went away.
    #[error("the body ends before its closing delimiter")]
    Truncated,
    /// The header of a part is no header.
    #[error("the header of a part is malformed")]
    Header,
    /// The header of a part is too long.
    #[error("the header of a part is longer than {limit} bytes")]
    HeaderTooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// `limits.parts`
    #[error("more parts than limits.parts allows")]
    TooManyParts {
        /// The bound.
        limit: u64,
    },
    /// `limits.instance_bytes`
    #[error("a part is longer than limits.instance_bytes allows")]
    PartTooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// A part that is collected in memory is longer than its caller expects.
    #[error("a part that must be small is longer than {limit} bytes")]
    NotSmall {
        /// The bound, in bytes.
        limit: u64,
    },
    /// `limits.request_bytes`
    #[error("the body is longer than limits.request_bytes allows")]
    RequestTooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// `limits.body_idle`
    #[error("the body brought nothing for longer than limits.body_idle")]
    Idle,
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        match &error {
            MultipartError::Unsupported { supported } => {
                let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
                Self::unsupported_media_type(&supported)
            }
            MultipartError::Boundary => Self::invalid("Content-Type", error.to_string()),
            MultipartError::Truncated
            | MultipartError::Header
            | MultipartError::HeaderTooLarge { .. } => Self::bad_request(error.to_string()),
            MultipartError::TooManyParts { limit } => Self::too_large("limits.parts", *limit),
            MultipartError::PartTooLarge { limit } => {
                Self::too_large("limits.instance_bytes", *limit)
            }
            MultipartError::NotSmall { limit } => Self::too_large("part", *limit),
            MultipartError::RequestTooLarge { limit } => {
                Self::too_large("limits.request_bytes", *limit)
            }
            MultipartError::Idle => Self::request_timeout(),
        }
    }
}
