//! gzip and zstd for text: metadata, search results, documents, problems, metrics.
//!
//! Never for DICOM or frames, be they parts: pixel data does not shrink enough to pay for the time,
//! and byte ranges of an answer must be ranges of its content.

use axum::http::{Response, StatusCode, header};
use http_body::Body;
use tower_http::{CompressionLevel, compression::CompressionLayer, compression::Predicate};

/// Bytes below which an answer is sent as it is: it fits a packet either way.
const WORTH_IT: u64 = 1024;

const MEDIA_TYPES: [&str; 10] = [
    "application/dicom+json",
    "application/dicom+xml",
    "application/json",
    "application/problem+json",
    "application/vnd.sun.wadl+xml",
    "application/xml",
    "text/html",
    "text/plain",
    "text/xml",
    // Of parts that are text: the media type of an answer is compared as this server writes it.
    "multipart/related; type=\"application/dicom+xml\"",
];

/// The layer. The fastest level: metadata shrinks tenfold by it already.
pub fn layer() -> CompressionLayer<TextOnly> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(TextOnly)
}

/// Answers that are worth compressing.
#[derive(Clone, Copy, Debug)]
pub struct TextOnly;

impl Predicate for TextOnly {
    fn should_compress<B: Body>(&self, response: &Response<B>) -> bool {
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let is_text = MEDIA_TYPES.iter().any(|known| {
            let (start, rest) = content_type.split_at_checked(known.len()).unwrap_or_default();
            start.eq_ignore_ascii_case(known) && (rest.is_empty() || rest.starts_with(';'))
        });
        let is_small = response.body().size_hint().upper().is_some_and(|size| size < WORTH_IT);
        is_text && !is_small && response.status() != StatusCode::PARTIAL_CONTENT
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as AxumBody;

    use super::*;

    #[test]
    fn text_is_worth_it_and_pixels_are_not() {
        for (content_type, expect) in [
            ("application/dicom+json", true),
            ("application/dicom+xml", true),
            ("application/dicom+xml; charset=GBK", true),
            ("text/html; charset=utf-8", true),
            ("multipart/related; type=\"application/dicom+xml\"; boundary=\"b\"", true),
            ("multipart/related; type=\"application/dicom\"; boundary=\"b\"", false),
            ("multipart/related; type=\"application/octet-stream\"; boundary=\"b\"", false),
            ("multipart/related; type=\"image/jpeg\"; boundary=\"b\"", false),
            ("application/dicom", false),
            ("application/vnd.sun.wadl+xml", true),
            ("application/pdf", false),
            ("text/htmlx", false),
            ("text", false),
        ] {
            let response = Response::builder().header(header::CONTENT_TYPE, content_type);
            let response = response.body(AxumBody::from(vec![b' '; 2048])).unwrap();
            assert_eq!(TextOnly.should_compress(&response), expect, "{content_type}");
        }
    }
}
