//! The delimiter between parts, and what makes bytes one.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::{ContentType, MultipartError};

/// White space after a delimiter (RFC 2046 calls it transport padding), in bytes.
const MAX_PADDING: usize = 256;

/// What separates parts.
pub(super) struct Delimiter {
    /// `\r\n--boundary`, or `\n--boundary` once the sender was seen to end lines so.
    pub(super) finder: Finder<'static>,
    /// `--boundary`
    pub(super) dashed: Arc<[u8]>,
}

/// What the bytes after `--boundary` make of it.
pub(super) enum Tail {
    /// `--`: the closing delimiter.
    Closing,
    /// The end of the line, that many bytes after the boundary; whether it was LF alone.
    Next { length: usize, bare: bool },
    /// Not a delimiter.
    Content,
    /// More bytes are needed to tell.
    Undecided,
}

impl Delimiter {
    pub(super) fn new(content_type: &ContentType) -> Result<Self, MultipartError> {
        let boundary = content_type.parameter("boundary").ok_or(MultipartError::Boundary)?;
        // RFC 2046 allows fewer printable characters; the others are sent and do no harm.
        let tolerated = |b: u8| b.is_ascii_graphic() || b == b' ';
        if boundary.is_empty()
            || boundary.len() > 70
            || boundary.ends_with(' ')
            || !boundary.bytes().all(tolerated)
        {
            return Err(MultipartError::Boundary);
        }
        let line = format!("\r\n--{boundary}");
        Ok(Self {
            finder: Finder::new(line.as_bytes()).into_owned(),
            dashed: line.as_bytes()[2..].into(),
        })
    }

    /// From now on, lines end with LF alone.
    pub(super) fn use_bare_lines(&mut self) {
        let line = [b"\n", &*self.dashed].concat();
        self.finder = Finder::new(&line).into_owned();
    }
}

/// Judges what follows `--boundary`.
pub(super) fn tail(after: &[u8], bare: bool) -> Tail {
    match after {
        [] | [b'-'] => return Tail::Undecided,
        [b'-', b'-', ..] => return Tail::Closing,
        _ => {}
    }
    let padding = after.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    if padding > MAX_PADDING {
        return Tail::Content;
    }
    match after.get(padding..).unwrap_or_default() {
        [] | [b'\r'] => Tail::Undecided,
        [b'\r', b'\n', ..] => Tail::Next { length: padding + 2, bare: false },
        [b'\n', ..] if bare => Tail::Next { length: padding + 1, bare: true },
        _ => Tail::Content,
    }
}

/// The length of the longest end of `haystack` with which `needle` starts. The needle's first byte
/// is a line end and occurs in it once more at most, so few places need a look.
pub(super) fn overlap(haystack: &[u8], needle: &[u8]) -> usize {
    let from = haystack.len().saturating_sub(needle.len().saturating_sub(1));
    let end = &haystack[from..];
    let Some(&first) = needle.first() else { return 0 };
    memchr::memchr_iter(first, end)
        .map(|at| &end[at..])
        .find(|end| needle.starts_with(end))
        .map_or(0, <[u8]>::len)
}
