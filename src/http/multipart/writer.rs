//! The streaming writer of `multipart/related` answers.
//!
//! Written for the parsers in the field: no preamble, CRLF, `Content-Type:` in title case and
//! first, `transfer-syntax` without quotes, part headers far below 1,000 bytes. The boundary
//! follows from the resource and its version, so that byte ranges of two requests fit together
//! (PS3.18 §8.6.1.2). An error in the middle of a part ends the stream with that error, which
//! aborts the connection: a client must not take half an answer for a whole one.

use std::{
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};

use crate::{
    dicom::Uid,
    http::{problem::Problem, range},
};

/// The bytes of one part, or of a whole answer.
pub type PartStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// A boundary: 32 hexadecimal digits, so that it does not occur in content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// The boundary for a resource in one version; the pieces (path, watermark, chosen media type
    /// and syntax) tell it from every other.
    pub fn of(pieces: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for piece in pieces {
            // With the length, so that no two lists of pieces run together alike.
            hash.update((piece.len() as u64).to_be_bytes());
            hash.update(piece);
        }
        let mut text = String::with_capacity(32);
        for byte in hash.finalize().iter().take(16) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The boundary as it stands in the `boundary` parameter.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One part of an answer.
pub struct OutPart {
    content_type: String,
    location: Option<String>,
    length: Option<u64>,
    body: PartStream,
}

impl OutPart {
    /// A part of unknown length. `content_type` may come from [`media_type_with`].
    pub fn new(content_type: impl Into<String>, body: PartStream) -> Self {
        Self { content_type: content_type.into(), location: None, length: None, body }
    }

    /// A part that is in memory.
    pub fn whole(content_type: impl Into<String>, bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self::new(content_type, Box::pin(stream::iter([Ok(bytes)]))).with_length(length)
    }

    /// Says how long the part is, in bytes. A stream that turns out longer or shorter is an error
    /// of the whole answer.
    #[must_use]
    pub fn with_length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Says which resource the part represents.
    #[must_use]
    pub fn with_location(mut self, url: impl Into<String>) -> Self {
        self.location = Some(url.into());
        self
    }

    /// The part as the whole answer, by range where its length is known. The caller says what it
    /// is.
    ///
    /// # Errors
    /// 416.
    pub fn alone(self, request: &HeaderMap, etag: &str) -> Result<Response, Problem> {
        let Some(total) = self.length else {
            return Ok(Body::from_stream(self.body).into_response());
        };
        let wanted = range::wanted(request, total, Some(etag))?;
        let slice = |range| Body::from_stream(range::slice(self.body, range));
        Ok(range::answer(wanted, total, slice))
    }

    /// The delimiter line and header before this part.
    fn opening(&self, boundary: &Boundary, first: bool) -> String {
        let mut text = String::with_capacity(320);
        text.push_str(if first { "--" } else { "\r\n--" });
        text.push_str(&boundary.0);
        // Both values are ours; the check keeps a mistake from becoming a forged header.
        let content_type = Some(self.content_type.as_str()).filter(|text| is_field_value(text));
        text.push_str("\r\nContent-Type: ");
        text.push_str(content_type.unwrap_or("application/octet-stream"));
        if let Some(location) = self.location.as_deref().filter(|text| is_field_value(text)) {
            text.push_str("\r\nContent-Location: ");
            text.push_str(location);
        }
        if let Some(length) = self.length {
            let _ = write!(text, "\r\nContent-Length: {length}");
        }
        text.push_str("\r\n\r\n");
        text
    }
}

fn is_field_value(text: &str) -> bool {
    text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// A media type with its transfer syntax, unquoted, as viewers compare it verbatim.
pub fn media_type_with(media_type: &str, transfer_syntax: &Uid) -> String {
    format!("{media_type}; transfer-syntax={transfer_syntax}")
}

/// A `multipart/related` answer.
pub struct Related {
    media_type: &'static str,
    boundary: Boundary,
}

impl Related {
    /// An answer whose parts are of `media_type` (without parameters).
    pub fn new(media_type: &'static str, boundary: Boundary) -> Self {
        Self { media_type, boundary }
    }

    /// The answer to a request for parts that are all known: with `Content-Length` where all of
    /// them know theirs, and then also by byte range (`Range`, `If-Range` against `etag`).
    ///
    /// # Errors
    /// 416.
    pub fn known(
        self,
        parts: Vec<OutPart>,
        request: &HeaderMap,
        etag: Option<&str>,
    ) -> Result<Response, Problem> {
        let total = self.length(&parts);
        let content_type = self.content_type();
        let mut response = match total {
            Some(total) => {
                let wanted = range::wanted(request, total, etag)?;
                range::answer(wanted, total, |range| {
                    let (skipped, offset) = self.before(&parts, range.start);
                    let parts = parts.into_iter().skip(skipped).map(Ok);
                    let body = self.bytes_from(stream::iter(parts), skipped == 0);
                    let range = range.start - offset..range.end - offset;
                    Body::from_stream(range::slice(body, range))
                })
            }
            None => Body::from_stream(self.bytes(stream::iter(parts.into_iter().map(Ok))))
                .into_response(),
        };
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    }

    /// As [`Self::streamed`], once the first part is there: what goes wrong before it can still be
    /// answered with its own status.
    ///
    /// # Errors
    /// That of the first part.
    pub async fn begun<S>(self, parts: S) -> Result<Response, BoxError>
    where
        S: Stream<Item = Result<OutPart, BoxError>> + Send + 'static,
    {
        let mut parts = Box::pin(parts);
        let first = parts.next().await.transpose()?;
        Ok(self.streamed(stream::iter(first.map(Ok)).chain(parts)))
    }

    /// The answer with parts that are found while it is sent.
    pub fn streamed<S>(self, parts: S) -> Response
    where
        S: Stream<Item = Result<OutPart, BoxError>> + Send + 'static,
    {
        let content_type = self.content_type();
        let mut response = Body::from_stream(self.bytes(parts)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// The answer's own media type.
    pub fn content_type(&self) -> HeaderValue {
        let Self { media_type, boundary: Boundary(boundary) } = self;
        let text = format!("multipart/related; type=\"{media_type}\"; boundary=\"{boundary}\"");
        HeaderValue::from_str(&text)
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/related"))
    }

    /// Bytes of a part's delimiter and header.
    pub fn opening_length(&self, part: &OutPart, first: bool) -> u64 {
        part.opening(&self.boundary, first).len() as u64
    }

    /// Bytes behind the last part, of which there is one at least.
    pub fn closing_length(&self) -> u64 {
        self.closing(false).len() as u64
    }

    fn length(&self, parts: &[OutPart]) -> Option<u64> {
        let mut total = self.closing(parts.is_empty()).len() as u64;
        for (at, part) in parts.iter().enumerate() {
            let opening = part.opening(&self.boundary, at == 0).len() as u64;
            total = total.checked_add(opening)?.checked_add(part.length?)?;
        }
        Some(total)
    }

    /// How many parts end before byte `start` of the answer, and the bytes that they take: their
    /// content need not be read.
    fn before(&self, parts: &[OutPart], start: u64) -> (usize, u64) {
        let mut offset = 0_u64;
        for (at, part) in parts.iter().enumerate() {
            let opening = part.opening(&self.boundary, at == 0).len() as u64;
            let end = offset.saturating_add(opening).saturating_add(part.length.unwrap_or(0));
            if end > start {
                return (at, offset);
            }
            offset = end;
        }
        (parts.len(), offset)
    }

    fn closing(&self, empty: bool) -> String {
        let before = if empty { "" } else { "\r\n" };
        format!("{before}--{}--\r\n", self.boundary.0)
    }

    fn bytes<S>(self, parts: S) -> PartStream
    where
        S: Stream<Item = Result<OutPart, BoxError>> + Send + 'static,
    {
        self.bytes_from(parts, true)
    }

    /// The bytes from a part on, which may be the first.
    pub fn bytes_from<S>(self, parts: S, first: bool) -> PartStream
    where
        S: Stream<Item = Result<OutPart, BoxError>> + Send + 'static,
    {
        let (parts, current) = (Box::pin(parts), None);
        Box::pin(Writer { related: self, parts, current, first, done: false })
    }
}

/// A part's stream was longer or shorter than announced.
#[derive(Debug, thiserror::Error)]
#[error("a part of the answer has another length than announced")]
struct WrongLength;

struct Writer {
    related: Related,
    parts: Pin<Box<dyn Stream<Item = Result<OutPart, BoxError>> + Send>>,
    /// The part being written, and how many bytes it still has to bring.
    current: Option<(PartStream, Option<u64>)>,
    first: bool,
    done: bool,
}

impl Writer {
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if let Some((body, left)) = &mut self.current {
                match ready!(body.poll_next_unpin(context)) {
                    Some(Ok(chunk)) if chunk.is_empty() => continue,
                    Some(Ok(chunk)) => {
                        if let Some(left) = left {
                            match left.checked_sub(chunk.len() as u64) {
                                Some(rest) => *left = rest,
                                None => return Poll::Ready(Some(Err(WrongLength.into()))),
                            }
                        }
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None if left.is_some_and(|left| left > 0) => {
                        return Poll::Ready(Some(Err(WrongLength.into())));
                    }
                    None => self.current = None,
                }
            }
            return match ready!(self.parts.as_mut().poll_next(context)) {
                Some(Ok(part)) => {
                    let opening = part.opening(&self.related.boundary, self.first);
                    self.first = false;
                    self.current = Some((part.body, part.length));
                    Poll::Ready(Some(Ok(opening.into())))
                }
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                None => {
                    self.done = true;
                    Poll::Ready(Some(Ok(self.related.closing(self.first).into())))
                }
            };
        }
    }
}

impl Stream for Writer {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_bytes(context));
        if matches!(item, Some(Err(_))) {
            self.done = true;
            self.current = None;
        }
        Poll::Ready(item)
    }
}
