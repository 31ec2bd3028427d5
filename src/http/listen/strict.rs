//! HTTP/1.1 without a second reading: what a client sends is let through only as long as nobody
//! could see the end of a request elsewhere than we do (RFC 9112 §11.2).
//!
//! hyper follows the standard where that lets a server choose: it takes lines that end with LF alone,
//! and, of a request with `Transfer-Encoding` and `Content-Length`, drops the latter without a word.
//! A proxy in front that chooses otherwise would see one request where we see two. So the bytes are
//! looked at before hyper has them, just far enough to know where each head and body ends. Where that
//! is in doubt, the byte that put it there becomes NUL, which no parser takes: hyper answers 400 and
//! closes, and nothing behind it is read.
//!
//! Refused: CR or LF alone within a head or between chunks, lines that go on in the next one, both
//! or repeated lengths, transfer codings other than `chunked`, any in HTTP/1.0. HTTP/2 passes as it
//! is, and so does what a connection is upgraded to, once that was answered with 101.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a line that are kept: longer ones say nothing about lengths.
const LINE: usize = 256;

/// A connection whose requests have one reading.
pub(super) struct Strict<S> {
    socket: S,
    scan: Scan,
    is_upgraded: Arc<AtomicBool>,
}

impl<S> Strict<S> {
    /// `is_upgraded` says that HTTP has ended.
    pub(super) fn new(socket: S, is_upgraded: Arc<AtomicBool>) -> Self {
        Self { socket, scan: Scan::new(), is_upgraded }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.scan.is_broken {
            // As if the client had closed.
            return Poll::Ready(Ok(()));
        }
        if this.is_upgraded.load(Ordering::Acquire) {
            return Pin::new(&mut this.socket).poll_read(context, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        let new = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if let Some(at) = this.scan.feed(new) {
            if let Some(byte) = new.get_mut(at) {
                *byte = 0;
            }
            buffer.set_filled(before + at + 1);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Where in a request the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a line of the head.
    Head,
    /// So many bytes before the end of the body.
    Body(u64),
    /// In the line before a chunk.
    Size,
    /// So many bytes before the end of a chunk.
    Chunk(u64),
    /// In the empty line after one.
    AfterChunk,
    /// In a line after the last one.
    Trailer,
}

/// What the head of a request said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    has_request_line: bool,
    is_old: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// Follows what a client sends.
struct Scan {
    /// How much of the preface was seen; `None` where it is not HTTP/2.
    preface: Option<usize>,
    is_http2: bool,
    is_broken: bool,
    at: At,
    head: Head,
    line: Vec<u8>,
    /// Whether the line has more than is kept.
    is_long: bool,
    has_cr: bool,
}

impl Scan {
    fn new() -> Self {
        Self {
            preface: Some(0),
            is_http2: false,
            is_broken: false,
            at: At::Head,
            head: Head::default(),
            line: Vec::new(),
            is_long: false,
            has_cr: false,
        }
    }

    /// Takes what came; says where it has no one reading.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.is_http2 {
                return None;
            }
            if let At::Body(left) | At::Chunk(left) = self.at {
                let rest = (bytes.len() - at) as u64;
                let taken = left.min(rest);
                at += taken as usize;
                self.at = match (self.at, left - taken) {
                    (At::Body(_), 0) => At::Head,
                    (At::Body(_), left) => At::Body(left),
                    (_, 0) => At::AfterChunk,
                    (_, left) => At::Chunk(left),
                };
                continue;
            }
            self.follow_preface(byte);
            if !self.take(byte) {
                self.is_broken = true;
                return Some(at);
            }
            at += 1;
        }
        None
    }

    fn follow_preface(&mut self, byte: u8) {
        if let Some(seen) = self.preface {
            self.preface = (PREFACE.get(seen) == Some(&byte)).then_some(seen + 1);
            self.is_http2 = self.preface == Some(PREFACE.len());
        }
    }

    /// Takes a byte of a line; whether it has one reading.
    fn take(&mut self, byte: u8) -> bool {
        match (byte, self.has_cr) {
            (b'\n', true) => {
                self.has_cr = false;
                let line = std::mem::take(&mut self.line);
                let is_long = std::mem::take(&mut self.is_long);
                let next = self.end_of_line(&line, is_long);
                // The room is kept for the next line.
                self.line = line;
                self.line.clear();
                match next {
                    Some(next) => self.at = next,
                    None => return false,
                }
                true
            }
            (_, true) | (b'\n', false) => false,
            (b'\r', false) => {
                self.has_cr = true;
                true
            }
            (byte, false) => {
                if self.line.len() < LINE {
                    self.line.push(byte);
                } else {
                    self.is_long = true;
                }
                true
            }
        }
    }

    /// Where the next byte lies, if there is no doubt.
    fn end_of_line(&mut self, line: &[u8], is_long: bool) -> Option<At> {
        match self.at {
            At::Head if line.is_empty() => {
                // Empty lines before a request are passed over (RFC 9112 §2.2).
                let Head { has_request_line, is_old, length, is_chunked } =
                    std::mem::take(&mut self.head);
                match (length, is_chunked) {
                    _ if !has_request_line => Some(At::Head),
                    (Some(_), true) => None,
                    (_, true) if is_old => None,
                    (None, true) => Some(At::Size),
                    (Some(length), false) if length > 0 => Some(At::Body(length)),
                    _ => Some(At::Head),
                }
            }
            At::Head if !self.head.has_request_line => {
                self.head.has_request_line = true;
                self.head.is_old = !is_long && line.ends_with(b"HTTP/1.0");
                Some(At::Head)
            }
            At::Head => self.field(line, is_long).then_some(At::Head),
            At::Size => {
                let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
                // A size that is not over within what is kept is none.
                match hexadecimal(&line[..end])? {
                    0 => Some(At::Trailer),
                    size => Some(At::Chunk(size)),
                }
            }
            At::AfterChunk => line.is_empty().then_some(At::Size),
            At::Trailer if line.is_empty() => Some(At::Head),
            At::Trailer => (!starts_blank(line)).then_some(At::Trailer),
            At::Body(_) | At::Chunk(_) => None,
        }
    }

    /// Takes a line of a head; whether it has one reading.
    fn field(&mut self, line: &[u8], is_long: bool) -> bool {
        if starts_blank(line) {
            return false;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return is_long };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is = |known: &str| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes());
        let (is_length, is_coding) = (is("content-length"), is("transfer-encoding"));
        if !is_length && !is_coding {
            return true;
        }
        if is_long || name.trim_ascii() != name {
            return false;
        }
        if is_coding {
            let is_first = !self.head.is_chunked;
            self.head.is_chunked = true;
            return is_first && value.eq_ignore_ascii_case(b"chunked");
        }
        let is_first = self.head.length.is_none();
        self.head.length = decimal(value);
        is_first && self.head.length.is_some()
    }
}

fn starts_blank(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text.trim_ascii_end()).ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the bytes, in pieces of some size, have no one reading; and where they end.
    fn scan(text: &str, piece: usize) -> (Option<usize>, At) {
        let mut scan = Scan::new();
        for (n, piece_of) in text.as_bytes().chunks(piece).enumerate() {
            if let Some(at) = scan.feed(piece_of) {
                return (Some(n * piece + at), scan.at);
            }
        }
        (None, scan.at)
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn what_is_plain_passes_to_its_end() {
        for text in [
            GET,
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:5\r\n\r\n\n\r\n\r\n",
            "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\n\n\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00a\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        ] {
            let twice = format!("{text}{GET}{text}");
            for piece in [1, 2, 7, 1000] {
                assert_eq!(scan(&twice, piece), (None, At::Head), "{text:?} by {piece}");
            }
        }
        let long = format!("GET /{0} HTTP/1.1\r\nX: {0}\r\n{0}: x\r\n\r\n", "x".repeat(1000));
        assert_eq!(scan(&long, 64), (None, At::Head));
    }

    #[test]
    fn what_has_two_readings_is_stopped_there() {
        for (text, rest) in [
            ("GET / HTTP/1.1\r\nX: a", "\nContent-Length: 5\r\n\r\n"),
            ("GET / HTTP/1.1\r\nX: a\r\n", "\n"),
            ("GET / HTTP/1.1", "\n\n"),
            ("GET / HTTP/1.1\r\nX: a\r", "b\r\n\r\n"),
            ("GET / HTTP/1.1\r\nX: a\r\n b\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length: 1, 1\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length: \r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length : 1\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r", "\n"),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r", "\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: identity\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r", "\n\r\n"),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r", "\n"),
            ("GET / HTTP/1.1\r\nnonsense\r", "\n\r\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r", "\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r", "\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1", "\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r", "\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r", "\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n X: y\r", "\n"),
        ] {
            for piece in [1, 3, 1000] {
                for before in ["", GET] {
                    let whole = format!("{before}{text}{rest}{GET}");
                    let stopped = scan(&whole, piece).0;
                    assert_eq!(stopped, Some(before.len() + text.len()), "{whole:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn http_2_passes_as_it_is() {
        let text = format!("{}\n\r\nnonsense: \n", String::from_utf8_lossy(PREFACE));
        for piece in [1, 5, 1000] {
            assert_eq!(scan(&text, piece).0, None);
        }
        // What only begins so is read as HTTP/1.
        assert!(scan("PRI * HTTP/2.0\r\n\r\nSM\r\nX: a\n", 1000).0.is_some());
    }
}
