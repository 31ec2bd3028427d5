//! A client of HTTP/1.1 over TCP: one connection, one request after another, each waited for.
//!
//! It is its own and not reqwest's because it runs on the same cores as what it measures: it copies
//! an answer once, into a buffer that stays in the cache, and a request not at all. It knows what
//! DICOMweb servers answer: lengths and chunks. No TLS, no redirects, no compression.

use std::{
    io::{IoSlice, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// What is read at once.
const BUFFER: usize = 256 << 10;
/// Longest head of an answer.
const HEAD: usize = 64 << 10;
/// What is kept of the end of an answer: enough for a closing delimiter.
const TAIL: usize = 256;
/// A connection that rested longer than this is not trusted to be open still: servers close idle
/// ones, some after a second.
const RESTED: Duration = Duration::from_millis(500);
/// Longest silence of a server.
const PATIENCE: Duration = Duration::from_secs(300);

/// A base URL, taken apart: `http://HOST:PORT/PATH`, without a slash at the end.
#[derive(Clone, Debug)]
pub struct Base {
    pub authority: String,
    pub path: String,
    /// Lines in the head of every request, each with its end: who asks, for instance.
    pub headers: String,
}

impl std::str::FromStr for Base {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url}: not http://"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { authority, path, headers: String::new() })
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// What is sent: pieces that lie somewhere already, one after the other.
pub trait Body {
    fn length(&self) -> u64;
    /// Hands out every piece, in pairs: a short one and the long one behind it.
    fn pieces(&self, send: Send<'_>) -> std::io::Result<()>;
}

/// Who takes the pieces of a body.
pub type Send<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> std::io::Result<()>;

/// How much of an answer is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The status, the length and the end.
    Tail,
    All,
}

/// An answer that came to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    /// Bytes of the body.
    pub length: u64,
    /// All of the body, or its last bytes.
    pub body: Vec<u8>,
    /// When the first byte of the body came.
    pub first: Instant,
    /// When the last one had come.
    pub done: Instant,
}

/// A connection, opened when it is needed.
pub struct Connection {
    authority: String,
    /// What stands in every head.
    common: String,
    stream: Option<TcpStream>,
    used: Instant,
    buffer: Box<[u8]>,
    /// What of the buffer was read and not yet taken.
    from: usize,
    to: usize,
}

impl Connection {
    pub fn new(base: &Base) -> Self {
        Self {
            authority: base.authority.clone(),
            common: format!("Host: {}\r\n{}", base.authority, base.headers),
            stream: None,
            used: Instant::now(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            from: 0,
            to: 0,
        }
    }

    pub fn get(&mut self, path: &str, accept: &str, keep: Keep) -> anyhow::Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\n{}Accept: {accept}\r\n\r\n", self.common);
        self.exchange(keep, |stream| stream.write_all(head.as_bytes()))
    }

    pub fn post(
        &mut self,
        path: &str,
        content_type: &str,
        accept: &str,
        body: &dyn Body,
    ) -> anyhow::Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\n{}Accept: {accept}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n",
            self.common,
            body.length()
        );
        self.exchange(Keep::All, |stream| {
            stream.write_all(head.as_bytes())?;
            body.pieces(&mut |short, long| write_both(stream, short, long))
        })
    }

    fn exchange(
        &mut self,
        keep: Keep,
        send: impl FnOnce(&mut TcpStream) -> std::io::Result<()>,
    ) -> anyhow::Result<Answer> {
        if self.used.elapsed() > RESTED {
            self.stream = None;
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(&self.authority)?,
        };
        (self.from, self.to) = (0, 0);
        // Who refuses a body may answer before it has come whole, and close.
        let sent = send(&mut stream);
        let answer = self.answer(&mut stream, keep);
        self.used = Instant::now();
        match (answer, sent) {
            (Ok((answer, stays)), Ok(())) => {
                self.stream = stays.then_some(stream);
                Ok(answer)
            }
            (Ok((answer, _)), Err(_)) => Ok(answer),
            (Err(_), Err(error)) => Err(error).context("the request was not taken"),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Reads one answer; whether the connection stays open is beside it.
    fn answer(&mut self, stream: &mut TcpStream, keep: Keep) -> anyhow::Result<(Answer, bool)> {
        let head = self.head(stream)?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("no status: {status_line}"))?;
        let mut stays = status_line.starts_with("HTTP/1.1");
        let (mut length, mut chunked, mut content_type) = (None, false, String::new());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse::<u64>()?),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "content-type" => value.clone_into(&mut content_type),
                "connection" => stays &= !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let mut taken = Taken { keep, length: 0, body: Vec::new(), first: None };
        if chunked {
            loop {
                let line = self.line(stream)?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size =
                    u64::from_str_radix(size, 16).with_context(|| format!("chunk {line}"))?;
                self.take(stream, size, &mut taken)?;
                if size == 0 {
                    while !self.line(stream)?.is_empty() {}
                    break;
                }
                ensure!(self.line(stream)?.is_empty(), "a chunk does not end where it should");
            }
        } else if let Some(length) = length {
            self.take(stream, length, &mut taken)?;
        } else if status != 204 && status != 304 {
            // Ends with the connection.
            stays = false;
            while self.from < self.to || self.fill(stream)? > 0 {
                let waiting = (self.to - self.from) as u64;
                self.take(stream, waiting, &mut taken)?;
            }
        }
        let done = Instant::now();
        let first = taken.first.unwrap_or(done);
        if keep == Keep::Tail && taken.body.len() > TAIL {
            taken.body.drain(..taken.body.len() - TAIL);
        }
        let answer =
            Answer { status, content_type, length: taken.length, body: taken.body, first, done };
        Ok((answer, stays))
    }

    fn head(&mut self, stream: &mut TcpStream) -> anyhow::Result<String> {
        loop {
            let head = self.until(stream, b"\r\n\r\n")?;
            // What announces an answer is not one.
            if !head.starts_with("HTTP/1.1 100") {
                return Ok(head);
            }
        }
    }

    fn line(&mut self, stream: &mut TcpStream) -> anyhow::Result<String> {
        self.until(stream, b"\r\n")
    }

    /// Takes a text up to its end, which is taken too.
    fn until(&mut self, stream: &mut TcpStream, mark: &[u8]) -> anyhow::Result<String> {
        loop {
            let read = &self.buffer[self.from..self.to];
            if let Some(end) = memchr::memmem::find(read, mark) {
                let text = String::from_utf8_lossy(&read[..end]).into_owned();
                self.from += end + mark.len();
                return Ok(text);
            }
            ensure!(read.len() < HEAD, "a head or a line of the answer is too long");
            ensure!(self.fill(stream)? > 0, "the server closed the connection within an answer");
        }
    }

    fn take(
        &mut self,
        stream: &mut TcpStream,
        mut length: u64,
        taken: &mut Taken,
    ) -> anyhow::Result<()> {
        while length > 0 {
            if self.from == self.to && self.fill(stream)? == 0 {
                bail!("the answer broke off");
            }
            let now = length.min((self.to - self.from) as u64) as usize;
            taken.add(&self.buffer[self.from..self.from + now]);
            self.from += now;
            length -= now as u64;
        }
        Ok(())
    }

    /// Reads what is there, behind what waits.
    fn fill(&mut self, stream: &mut TcpStream) -> std::io::Result<usize> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let read = stream.read(&mut self.buffer[self.to..])?;
        self.to += read;
        Ok(read)
    }
}

/// What was taken of a body.
struct Taken {
    keep: Keep,
    length: u64,
    body: Vec<u8>,
    first: Option<Instant>,
}

impl Taken {
    fn add(&mut self, piece: &[u8]) {
        self.first.get_or_insert_with(Instant::now);
        self.length += piece.len() as u64;
        if self.keep == Keep::All {
            self.body.extend_from_slice(piece);
        } else {
            if self.body.len() > 16 * TAIL {
                self.body.drain(..self.body.len() - TAIL);
            }
            self.body.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
        }
    }
}

fn open(authority: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(authority)
        .with_context(|| format!("{authority} takes no connection"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Writes two pieces, in one call as long as the kernel takes them.
fn write_both(stream: &mut TcpStream, short: &[u8], long: &[u8]) -> std::io::Result<()> {
    let mut pieces = [IoSlice::new(short), IoSlice::new(long)];
    let mut pieces = pieces.as_mut_slice();
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match stream.write_vectored(pieces) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut pieces, written),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
