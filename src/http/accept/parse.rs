//! Parsing `Accept` headers and the `accept` query parameter into an [`AcceptSet`].
//!
//! Takes what clients send, not only what RFC 9110 §12.5.1 allows: parameters in any order, bare
//! or quoted, also inside the quotes of `type`; `*` for `*/*`; a `+` that the query turned into a
//! space; experimental media types of older clients.

use axum::http::{HeaderMap, header};

use crate::{config::MissingAccept, dicom::Uid};

/// Bytes of all `Accept` values together that are read.
const MAX_BYTES: usize = 8 << 10;
/// Media ranges that are read.
const MAX_RANGES: usize = 64;
/// Parameters of one range that are read.
const MAX_PARAMETERS: usize = 16;

/// The media ranges of one request, those of the query first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptSet {
    ranges: Vec<MediaRange>,
    /// Whether there was an `accept` in the query.
    linked: bool,
}

/// One media range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    /// Whether it stood in the query, which goes before the header.
    pub(super) from_query: bool,
    /// Whether `multipart/related` or `multipart/*` is asked.
    pub(super) multipart: bool,
    /// The media type (for multipart, of the parts) in lower case, such as `application/dicom`;
    /// `*/*` and `type/*` for wildcards.
    pub(super) media_type: String,
    /// `transfer-syntax` parameters in the order given.
    pub(super) syntaxes: Vec<RangeSyntax>,
    /// Weight in thousandths.
    pub(super) q: u16,
}

/// The value of a `transfer-syntax` parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSyntax {
    /// `*`: as stored.
    Any,
    /// That one.
    Uid(Uid),
}

impl AcceptSet {
    /// Reads what a request accepts. `query` is its raw query. A request without the header is
    /// taken for one with `*/*`, or accepts nothing at all, as `missing` says: "the presence of
    /// an Accept query parameter does not eliminate the need for an Accept header" (PS3.18
    /// §8.7.5).
    pub fn of(headers: &HeaderMap, query: Option<&str>, missing: MissingAccept) -> Self {
        let mut budget = MAX_BYTES;
        let mut ranges = Vec::new();
        let (mut linked, mut silent) = (false, true);
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if name == "accept" && !value.trim().is_empty() {
                linked = true;
                read(&value, true, &mut budget, &mut ranges);
            }
        }
        for value in headers.get_all(header::ACCEPT) {
            // Bytes beyond ASCII may stand in a quoted parameter that nobody needs.
            let text = String::from_utf8_lossy(value.as_bytes());
            if !text.trim().is_empty() {
                silent = false;
                read(&text, false, &mut budget, &mut ranges);
            }
        }
        match missing {
            MissingAccept::Any if silent => ranges.push(MediaRange::anything()),
            MissingAccept::Refuse if silent => return Self { ranges: Vec::new(), linked: false },
            MissingAccept::Any | MissingAccept::Refuse => {}
        }
        Self { ranges, linked }
    }

    /// The ranges, in the order in which they stood, those of the query first.
    pub fn ranges(&self) -> &[MediaRange] {
        &self.ranges
    }

    /// Whether the query had a say: then a default is better than a refusal (PS3.18 §8.3.3.1).
    pub(super) fn is_linked(&self) -> bool {
        self.linked
    }
}

impl MediaRange {
    fn anything() -> Self {
        Self {
            from_query: false,
            multipart: false,
            media_type: "*/*".into(),
            syntaxes: Vec::new(),
            q: 1000,
        }
    }
}

fn read(text: &str, from_query: bool, budget: &mut usize, ranges: &mut Vec<MediaRange>) {
    if text.len() > *budget {
        *budget = 0;
        return;
    }
    *budget -= text.len();
    for element in split_outside_quotes(text, ',') {
        if ranges.len() >= MAX_RANGES {
            return;
        }
        ranges.extend(range(element, from_query));
    }
}

/// Reads one element of the list; `None` where it is no media range.
fn range(element: &str, from_query: bool) -> Option<MediaRange> {
    let mut pieces = split_outside_quotes(element, ';');
    let media_type = media_type(pieces.next()?)?;
    let mut range = MediaRange {
        from_query,
        multipart: media_type.starts_with("multipart/"),
        media_type,
        ..MediaRange::anything()
    };
    let mut part_type = None;
    let mut left = MAX_PARAMETERS;
    parameters(pieces, &mut range, &mut part_type, &mut left);
    if range.multipart {
        if !matches!(range.media_type.as_str(), "multipart/related" | "multipart/*") {
            return None;
        }
        // Without the required `type`, any part will do.
        range.media_type = part_type.unwrap_or_else(|| "*/*".into());
    }
    // In a query there are no wildcards (PS3.18 §8.3.3.1).
    let is_wildcard = range.media_type.ends_with("/*");
    (!from_query || !is_wildcard).then_some(range)
}

fn parameters<'a>(
    pieces: impl Iterator<Item = &'a str>,
    range: &mut MediaRange,
    part_type: &mut Option<String>,
    left: &mut usize,
) {
    for piece in pieces {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Some((name, value)) = piece.split_once('=') else { continue };
        let value = unquote(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => range.q = weight(&value),
            "transfer-syntax" => range.syntaxes.extend(range_syntax(&value)),
            "type" if range.multipart && part_type.is_none() => {
                // Some viewers put the parameters inside the quotes of `type`.
                let mut inner = value.split(';');
                *part_type = inner.next().and_then(media_type);
                for piece in inner {
                    if let Some((name, value)) = piece.split_once('=')
                        && name.trim().eq_ignore_ascii_case("transfer-syntax")
                    {
                        range.syntaxes.extend(range_syntax(&unquote(value.trim())));
                    }
                }
            }
            _ => {}
        }
    }
}

/// A `type/subtype` in lower case, with today's name for experimental ones.
fn media_type(text: &str) -> Option<String> {
    let text = text.trim();
    if text == "*" {
        return Some("*/*".into());
    }
    // `application/dicom+json` in a query that was not percent-encoded.
    let lower = text.to_ascii_lowercase().replace(' ', "+");
    let (kind, subtype) = lower.split_once('/')?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if kind.is_empty() || subtype.is_empty() || !kind.bytes().chain(subtype.bytes()).all(token) {
        return None;
    }
    if kind.contains('*') && lower != "*/*" || subtype.contains('*') && subtype != "*" {
        return None;
    }
    let today = match lower.as_str() {
        "image/dicom+jpeg" => "image/jpeg",
        "image/x-dicom-rle" | "image/x-dicom+rle" | "image/dicom+rle" => "image/dicom-rle",
        "image/x-jls" | "image/dicom+jpeg-ls" | "image/dicom+jls" => "image/jls",
        "image/dicom+jp2" => "image/jp2",
        "image/dicom+jpx" => "image/jpx",
        "image/jhc" => "image/jphc",
        _ => return Some(lower),
    };
    Some(today.into())
}

fn range_syntax(text: &str) -> Option<RangeSyntax> {
    match text.trim() {
        "*" => Some(RangeSyntax::Any),
        uid => uid.parse().ok().map(RangeSyntax::Uid),
    }
}

/// A `q` in thousandths. What is none counts as 1, as if it were not there.
fn weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return 1000;
    }
    if whole.bytes().any(|b| b != b'0') {
        return 1000;
    }
    let digit = |at: usize| fraction.as_bytes().get(at).map_or(0, |b| u16::from(b - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

/// Takes double quotes (with their escapes) or single quotes off a value.
fn unquote(text: &str) -> String {
    let inside =
        |quote: char| text.strip_prefix(quote).map(|rest| rest.strip_suffix(quote).unwrap_or(rest));
    if let Some(quoted) = inside('"') {
        let mut plain = String::with_capacity(quoted.len());
        let mut escaped = false;
        for c in quoted.chars() {
            if c == '\\' && !escaped {
                escaped = true;
            } else {
                plain.push(c);
                escaped = false;
            }
        }
        return plain;
    }
    inside('\'').unwrap_or(text).to_owned()
}

/// Splits at a separator that does not stand in double quotes.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let splits = c == separator && !quoted;
        if !escaped && c == '"' {
            quoted = !quoted;
        }
        escaped = quoted && !escaped && c == '\\';
        splits
    })
}
