//! Byte ranges of one representation (RFC 9110 §14), for frames, bulk data and whole multipart
//! bodies.
//!
//! One range per request is served; a request for several gets the whole, as it may. Absent:
//! where the bytes come from.

use std::ops::Range;

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::problem::Problem;

/// What a request wants of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: 200.
    Whole,
    /// These bytes, never empty and within the representation: 206.
    Part(Range<u64>),
}

/// Reads `Range` and `If-Range` for a representation of `total` bytes. `etag` is its strong
/// entity tag with the quotes.
///
/// # Errors
/// 416 where the range lies outside. What is no single byte range is ignored.
pub fn wanted(headers: &HeaderMap, total: u64, etag: Option<&str>) -> Result<Wanted, Problem> {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(Wanted::Whole);
    };
    if let Some(condition) = headers.get(header::IF_RANGE) {
        // Dates are never equal: we do not send Last-Modified.
        let same = etag.is_some_and(|etag| {
            !etag.starts_with("W/") && condition.as_bytes().trim_ascii() == etag.as_bytes()
        });
        if !same {
            return Ok(Wanted::Whole);
        }
    }
    let Some((first, last)) = single_range(range) else { return Ok(Wanted::Whole) };
    let part = match (first, last) {
        (Some(first), last) => {
            let end = last.map_or(total, |last| last.saturating_add(1).min(total));
            first..end
        }
        (None, Some(suffix)) => total.saturating_sub(suffix)..total,
        (None, None) => return Ok(Wanted::Whole),
    };
    if part.is_empty() {
        return Err(Problem::range_not_satisfiable(total));
    }
    Ok(Wanted::Part(part))
}

/// Reads `bytes=first-last`, `bytes=first-` or `bytes=-suffix`.
fn single_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit are a position beyond every end.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let ends = (number(first), number(last));
    match ends {
        (Some(first), Some(last)) if first > last => None,
        (None, _) if !first.trim().is_empty() => None,
        (_, None) if !last.trim().is_empty() => None,
        (None, None) => None,
        ends => Some(ends),
    }
}

/// The answer with the wanted bytes, which `body` gives: status, `Content-Length`,
/// `Content-Range` and `Accept-Ranges`.
pub fn answer(wanted: Wanted, total: u64, body: impl FnOnce(Range<u64>) -> Body) -> Response {
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..total),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    let length = range.end.saturating_sub(range.start);
    let mut response = (status, body(range.clone())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1));
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    }
    response
}

/// The bytes of `stream` from `range.start` to `range.end`; the stream is not read beyond.
pub fn slice<S>(stream: S, range: Range<u64>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static,
{
    let start = (stream, range.start, range.end.saturating_sub(range.start));
    futures::stream::try_unfold(start, |(mut stream, mut skip, mut left)| async move {
        while left > 0 {
            let Some(chunk) = stream.next().await else { break };
            let mut chunk = chunk?;
            if skip >= chunk.len() as u64 {
                skip -= chunk.len() as u64;
                continue;
            }
            // Both are below the chunk's length, which is a usize.
            drop(chunk.split_to(usize::try_from(skip)?));
            skip = 0;
            if left < chunk.len() as u64 {
                chunk.truncate(usize::try_from(left)?);
            }
            left -= chunk.len() as u64;
            return Ok(Some((chunk, (stream, skip, left))));
        }
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, total: u64) -> Result<Wanted, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        wanted(&headers, total, None).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn single_ranges_are_served_and_the_rest_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-65535", Ok(Wanted::Part(0..100))),
            ("bytes=0-0", Ok(Wanted::Part(0..1))),
            ("Bytes = 10-19", Ok(Wanted::Part(10..20))),
            ("bytes=99-", Ok(Wanted::Part(99..100))),
            ("bytes=-1", Ok(Wanted::Part(99..100))),
            ("bytes=-1000", Ok(Wanted::Part(0..100))),
            ("bytes=0-99999999999999999999999", Ok(Wanted::Part(0..100))),
            ("bytes=100-", Err(416)),
            ("bytes=100-200", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=99999999999999999999999-", Err(416)),
            ("bytes=5-4", Ok(Wanted::Whole)),
            ("bytes=0-1,3-4", Ok(Wanted::Whole)),
            ("bytes=", Ok(Wanted::Whole)),
            ("bytes=-", Ok(Wanted::Whole)),
            ("bytes=a-b", Ok(Wanted::Whole)),
            ("bytes=1-b", Ok(Wanted::Whole)),
            ("bytes=+1-2", Ok(Wanted::Whole)),
            ("items=0-1", Ok(Wanted::Whole)),
            ("nonsense", Ok(Wanted::Whole)),
        ] {
            assert_eq!(ask(range, 100), expected, "{range}");
        }
        assert_eq!(ask("bytes=0-0", 0), Err(416));
        assert_eq!(ask("bytes=-5", 0), Err(416));
    }

    #[test]
    fn a_changed_representation_comes_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"7\""));
        for (etag, expected) in [
            (Some("\"7\""), Wanted::Part(1..3)),
            (Some("\"8\""), Wanted::Whole),
            (Some("W/\"7\""), Wanted::Whole),
            (None, Wanted::Whole),
        ] {
            assert_eq!(wanted(&headers, 10, etag).unwrap(), expected, "{etag:?}");
        }
    }

    #[tokio::test]
    async fn slices_end_where_they_should() {
        let text = b"abcdefghij";
        for size in 1..=10 {
            for start in 0..10_u64 {
                for end in start + 1..=10 {
                    let chunks: Vec<_> = text
                        .chunks(size)
                        .map(|chunk| Ok::<_, BoxError>(Bytes::copy_from_slice(chunk)))
                        .collect();
                    let slices = slice(futures::stream::iter(chunks), start..end);
                    let got: Vec<Bytes> = slices.map(|chunk| chunk.unwrap()).collect().await;
                    assert_eq!(got.concat(), text[start as usize..end as usize]);
                }
            }
        }
    }

    #[test]
    fn the_answer_says_what_it_holds() {
        let response = answer(Wanted::Part(10..20), 100, |_| Body::empty());
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 10-19/100");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "10");
        let response = answer(Wanted::Whole, 100, |_| Body::empty());
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key(header::CONTENT_RANGE));
        assert_eq!(response.headers()[header::ACCEPT_RANGES], "bytes");
    }
}
