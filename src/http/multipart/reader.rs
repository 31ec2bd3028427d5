//! The bounded streaming reader of request bodies.
//!
//! A state machine over the body's data frames. Content is searched for the delimiter only (no
//! look at its bytes otherwise) and given out as slices. A delimiter line ends as the first one
//! of the body did: CRLF, or LF alone where the sender writes that throughout. What starts like a
//! delimiter but does not end its line as one is content.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use memchr::memmem::Finder;

use super::{
    ContentType, MultipartError, PartHead,
    delimiter::{Delimiter, Tail, overlap, tail},
    part_head::field,
};
use crate::config::LimitsConfig;

/// Bytes of one part's header.
const MAX_HEADER: usize = 16 << 10;
/// Bytes of a refused body that are read and forgotten, so that the client gets to the answer.
const MAX_DISCARDED: u64 = 16 << 20;

/// Reads the parts of a request body, one after another; a body that is not multipart is one part.
pub struct PartReader {
    body: Body,
    /// Received and not yet given out.
    buffer: Bytes,
    ended: bool,
    state: State,
    /// Whether the preamble's next byte starts a line.
    at_line_start: bool,
    /// The header of a part in [`State::Opened`].
    head: Option<PartHead>,
    delimiter: Option<Delimiter>,
    content_type: ContentType,
    limits: Limits,
    received: u64,
    parts: u64,
    in_part: u64,
}

#[derive(Clone, Copy)]
struct Limits {
    part: u64,
    request: u64,
    parts: u64,
    idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body that is one part, not yet opened.
    Single,
    /// Before the first delimiter.
    Preamble,
    /// In the content of a part.
    Content,
    /// In the content of a part that was found too long.
    Oversized,
    /// After a delimiter: the header of a part follows.
    BeforeHeader,
    /// After the header of a part, when it is not clear yet whether it has content.
    Opened,
    /// After the closing delimiter or a fatal error.
    Done,
}

/// The current part of a [`PartReader`].
pub struct Part<'a> {
    /// Its header.
    pub head: PartHead,
    reader: &'a mut PartReader,
}

impl Part<'_> {
    /// The next bytes of the part; `None` at its end.
    ///
    /// # Errors
    /// See [`PartReader::chunk`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        self.reader.chunk().await
    }

    /// The whole part, for parts that are known to be small.
    ///
    /// # Errors
    /// [`MultipartError::NotSmall`] beyond `limit` bytes; see [`PartReader::chunk`].
    pub async fn collect(self, limit: u64) -> Result<Bytes, MultipartError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.reader.chunk().await? {
            if (all.len() + chunk.len()) as u64 > limit {
                self.reader.state = State::Oversized;
                return Err(MultipartError::NotSmall { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl PartReader {
    /// Opens a request body. `supported` lists the media types that are taken, as the whole body
    /// or as the `type` of a `multipart/related` one, such as `application/dicom`.
    ///
    /// A `Content-Length` beyond the limits is refused here, before the client (with `Expect:
    /// 100-continue`) sends anything.
    ///
    /// # Errors
    /// [`MultipartError::Unsupported`], [`MultipartError::Boundary`],
    /// [`MultipartError::RequestTooLarge`].
    pub fn open(
        headers: &HeaderMap,
        body: Body,
        limits: &LimitsConfig,
        supported: &[&str],
    ) -> Result<Self, MultipartError> {
        let refusal = || {
            let both = |media_type: &&str| {
                [format!("multipart/related; type=\"{media_type}\""), (*media_type).to_owned()]
            };
            MultipartError::Unsupported { supported: supported.iter().flat_map(both).collect() }
        };
        let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
            return Err(refusal());
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(ContentType::parse)
            .ok_or_else(refusal)?;
        let multipart = content_type.essence() == "multipart/related";
        // Without the required `type`, the parts say themselves what they are.
        let root = if multipart {
            content_type.related_type()
        } else {
            Some(content_type.essence().to_owned())
        };
        if root.is_some_and(|root| !supported.contains(&root.as_str())) {
            return Err(refusal());
        }
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > limits.request_bytes) {
            return Err(MultipartError::RequestTooLarge { limit: limits.request_bytes });
        }
        let delimiter = if multipart { Some(Delimiter::new(&content_type)?) } else { None };
        Ok(Self {
            body,
            buffer: Bytes::new(),
            ended: false,
            state: if multipart { State::Preamble } else { State::Single },
            at_line_start: true,
            head: None,
            delimiter,
            content_type,
            limits: Limits {
                part: limits.instance_bytes,
                request: limits.request_bytes,
                parts: limits.parts as u64,
                idle: limits.body_idle,
            },
            received: 0,
            parts: 0,
            in_part: 0,
        })
    }

    /// The request's `Content-Type`.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// Whether the body is multipart (else it is one part by itself).
    pub fn is_multipart(&self) -> bool {
        self.delimiter.is_some()
    }

    /// Goes to the next part, over what was not read of the current one; `None` after the last.
    /// Cancel safe, as [`Self::chunk`].
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn next_part(&mut self) -> Result<Option<Part<'_>>, MultipartError> {
        Ok(self.next_head().await?.map(|head| Part { head, reader: self }))
    }

    /// As [`Self::next_part`], for callers that cannot hold a borrow: the content is then read
    /// with [`Self::chunk`].
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn next_head(&mut self) -> Result<Option<PartHead>, MultipartError> {
        let result = self.find_head().await;
        if result.is_err() {
            self.state = State::Done;
        }
        result
    }

    /// The next bytes of the current part, never empty; `None` at its end. Cancel safe: a call
    /// that is dropped loses nothing (but starts the wait of `limits.body_idle` anew).
    ///
    /// # Errors
    /// [`MultipartError::PartTooLarge`] once, after which the next part can be read; every other
    /// error ends the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        if self.state != State::Content {
            return Ok(None);
        }
        match self.content().await {
            Ok(Some(chunk)) => {
                self.in_part += chunk.len() as u64;
                if self.in_part > self.limits.part {
                    self.state = State::Oversized;
                    return Err(MultipartError::PartTooLarge { limit: self.limits.part });
                }
                Ok(Some(chunk))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.state = State::Done;
                Err(error)
            }
        }
    }

    /// Reads and forgets what is left of a body that was refused, some MiB at most: most clients
    /// look for the answer only after they sent everything, and lose it if the connection breaks.
    pub async fn discard(mut self) {
        let until = self.received.saturating_add(MAX_DISCARDED);
        self.buffer = Bytes::new();
        while self.received < until && matches!(self.fill().await, Ok(true)) {
            self.buffer = Bytes::new();
        }
    }

    async fn find_head(&mut self) -> Result<Option<PartHead>, MultipartError> {
        match self.state {
            State::Single => {
                // A body without a byte has no part, as a multipart one without a delimiter.
                while self.buffer.is_empty() {
                    if !self.fill().await? {
                        self.state = State::Done;
                        return Ok(None);
                    }
                }
                self.state = State::Content;
                let mut headers = HeaderMap::new();
                if let Ok(value) = HeaderValue::from_str(self.content_type.essence()) {
                    headers.insert(header::CONTENT_TYPE, value);
                }
                let content_type = Some(self.content_type.clone());
                return Ok(Some(PartHead { headers, content_type }));
            }
            State::Preamble => self.preamble().await?,
            State::Content | State::Oversized => while self.content().await?.is_some() {},
            State::BeforeHeader | State::Opened | State::Done => {}
        }
        if self.state == State::BeforeHeader {
            if self.parts >= self.limits.parts {
                return Err(MultipartError::TooManyParts { limit: self.limits.parts });
            }
            // Kept, so that a call that is dropped in the next wait loses nothing.
            self.head = Some(self.header().await?);
            self.parts += 1;
            self.in_part = 0;
            self.state = State::Opened;
        }
        if self.state != State::Opened {
            return Ok(None);
        }
        self.state = self.after_header().await?;
        Ok(self.head.take())
    }

    /// What follows the header: content, or the delimiter of a part without content, whose line end
    /// is the header's empty line (RFC 2046 §5.1.1: `MIME-part-headers [CRLF *OCTET]`) and which is
    /// passed.
    async fn after_header(&mut self) -> Result<State, MultipartError> {
        loop {
            let Some(delimiter) = &self.delimiter else { return Ok(State::Content) };
            let bare = delimiter.finder.needle().first() == Some(&b'\n');
            let length = delimiter.dashed.len();
            let undecided = match self.buffer.get(..length) {
                None => delimiter.dashed.starts_with(&self.buffer),
                Some(start) if start != &*delimiter.dashed => false,
                Some(_) => match tail(&self.buffer[length..], bare) {
                    Tail::Content => false,
                    Tail::Undecided => true,
                    Tail::Closing => return Ok(State::Done),
                    Tail::Next { length: line, .. } => {
                        drop(self.buffer.split_to(length + line));
                        return Ok(State::BeforeHeader);
                    }
                },
            };
            if !undecided {
                return Ok(State::Content);
            }
            if !self.fill().await? {
                return Err(MultipartError::Truncated);
            }
        }
    }

    /// Takes the next frame of the body into the buffer; `false` at the end. Copies only where
    /// something is still in the buffer, and that is at most the length of a delimiter line or of
    /// a part's header.
    async fn fill(&mut self) -> Result<bool, MultipartError> {
        while !self.ended {
            let frame = match tokio::time::timeout(self.limits.idle, self.body.frame()).await {
                Err(_) => return Err(MultipartError::Idle),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Ok(Some(Err(_))) => return Err(MultipartError::Truncated),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.received += data.len() as u64;
            if self.received > self.limits.request {
                return Err(MultipartError::RequestTooLarge { limit: self.limits.request });
            }
            if self.buffer.is_empty() {
                self.buffer = data;
            } else {
                // In place where the buffer is ours alone, so that a body that trickles in byte by
                // byte does not copy the same bytes again and again.
                let mut joined = match std::mem::take(&mut self.buffer).try_into_mut() {
                    Ok(own) => own,
                    Err(shared) => BytesMut::from(&shared[..]),
                };
                joined.extend_from_slice(&data);
                self.buffer = joined.freeze();
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Skips to the first delimiter, which may be the very first bytes of the body.
    async fn preamble(&mut self) -> Result<(), MultipartError> {
        let Some(dashed) = self.delimiter.as_ref().map(|delimiter| delimiter.dashed.clone()) else {
            return Ok(());
        };
        let finder = Finder::new(&dashed);
        loop {
            let Some(at) = finder.find(&self.buffer) else {
                // Keep what may be the start of a delimiter, and the byte before it.
                let keep = self.buffer.len().min(dashed.len());
                let skipped = self.buffer.len() - keep;
                if skipped > 0 {
                    self.at_line_start = self.buffer[skipped - 1] == b'\n';
                    drop(self.buffer.split_to(skipped));
                }
                if !self.fill().await? {
                    return Err(MultipartError::Truncated);
                }
                continue;
            };
            let starts_line =
                if at == 0 { self.at_line_start } else { self.buffer[at - 1] == b'\n' };
            let after = at + dashed.len();
            match tail(&self.buffer[after..], true) {
                _ if !starts_line => {
                    self.at_line_start = false;
                    drop(self.buffer.split_to(at + 1));
                }
                Tail::Closing => {
                    self.state = State::Done;
                    return Ok(());
                }
                Tail::Next { length, bare } => {
                    if bare && let Some(delimiter) = &mut self.delimiter {
                        delimiter.use_bare_lines();
                    }
                    drop(self.buffer.split_to(after + length));
                    self.state = State::BeforeHeader;
                    return Ok(());
                }
                Tail::Content => {
                    self.at_line_start = false;
                    drop(self.buffer.split_to(at + 1));
                }
                Tail::Undecided => {
                    if !self.fill().await? {
                        return Err(MultipartError::Truncated);
                    }
                }
            }
        }
    }

    /// The next piece of content; `None` when a delimiter was passed (or a single body ended).
    async fn content(&mut self) -> Result<Option<Bytes>, MultipartError> {
        // Bytes at the start of the buffer that are known not to start a delimiter.
        let mut known = 0;
        loop {
            let Some(delimiter) = &self.delimiter else {
                if self.buffer.is_empty() && !self.fill().await? {
                    self.state = State::Done;
                    return Ok(None);
                }
                return Ok(Some(std::mem::take(&mut self.buffer)));
            };
            let needle = delimiter.finder.needle();
            let Some(at) = delimiter.finder.find(&self.buffer[known..]).map(|at| known + at) else {
                let held = overlap(&self.buffer[known..], needle);
                let free = self.buffer.len() - held;
                if free > 0 {
                    return Ok(Some(self.buffer.split_to(free)));
                }
                if !self.fill().await? {
                    return Err(MultipartError::Truncated);
                }
                continue;
            };
            let after = at + needle.len();
            let bare = needle.first() == Some(&b'\n');
            match tail(&self.buffer[after..], bare) {
                Tail::Content => known = at + 1,
                _ if at > 0 => return Ok(Some(self.buffer.split_to(at))),
                Tail::Closing => {
                    self.state = State::Done;
                    return Ok(None);
                }
                Tail::Next { length, .. } => {
                    drop(self.buffer.split_to(after + length));
                    self.state = State::BeforeHeader;
                    return Ok(None);
                }
                Tail::Undecided => {
                    if !self.fill().await? {
                        return Err(MultipartError::Truncated);
                    }
                }
            }
        }
    }

    /// Reads the header of a part, up to and with its empty line.
    async fn header(&mut self) -> Result<PartHead, MultipartError> {
        let mut headers = HeaderMap::new();
        let (mut start, mut searched) = (0, 0);
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buffer[searched..]) else {
                searched = self.buffer.len();
                if searched > MAX_HEADER {
                    return Err(MultipartError::HeaderTooLarge { limit: MAX_HEADER });
                }
                if !self.fill().await? {
                    return Err(MultipartError::Truncated);
                }
                continue;
            };
            let end = searched + end;
            if end >= MAX_HEADER {
                return Err(MultipartError::HeaderTooLarge { limit: MAX_HEADER });
            }
            let line = &self.buffer[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                drop(self.buffer.split_to(end + 1));
                break;
            }
            field(line, &mut headers)?;
            (start, searched) = (end + 1, end + 1);
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(ContentType::parse);
        Ok(PartHead { headers, content_type })
    }
}
