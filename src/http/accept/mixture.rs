//! Acceptable media types are of DICOM or renderings, never both: 400 (PS3.18 §8.3.3.1, §8.7.5).
//!
//! Holds: only types that can be nothing else count. `image/jpeg` is a codestream and a picture,
//! `application/pdf` a bulk value and a rendering, and `application/json` is what every library
//! sends by itself, so that they go with either; so do wildcards and what weighs nothing.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::AcceptSet;
use crate::{config::MissingAccept, http::problem::Problem};

/// Media types of DICOM that are never renderings (PS3.18 §8.7.3).
const DICOM: [&str; 9] = [
    "application/dicom",
    "application/dicom+json",
    "application/dicom+xml",
    "application/octet-stream",
    "image/dicom-rle",
    "image/jls",
    "image/jpx",
    "image/jphc",
    "video/h265",
];

/// Media types of renderings that are never of DICOM (PS3.18 Table 8.7.4-1).
const RENDERED: [&str; 5] = ["image/gif", "image/png", "text/html", "text/plain", "text/rtf"];

impl AcceptSet {
    /// Whether DICOM and renderings are asked for at once.
    pub fn is_mixed(&self) -> bool {
        let asks = |known: &[&str]| {
            self.ranges().iter().any(|range| range.q > 0 && known.contains(&&*range.media_type))
        };
        asks(&DICOM) && asks(&RENDERED)
    }
}

/// The layer of all routes that refuses such sets. It looks at nothing but the request, so that
/// the answer tells nothing of what is there.
pub async fn refuse_mixtures(request: Request, next: Next) -> Response {
    let set = AcceptSet::of(request.headers(), request.uri().query(), MissingAccept::Any);
    if set.is_mixed() {
        let rule = "media types of DICOM or of renderings, not both (PS3.18 §8.7.5)";
        return Problem::invalid("Accept", rule).into_response();
    }
    next.run(request).await
}
