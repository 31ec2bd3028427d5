//! Character sets of answers that are text (PS3.18 §8.7.9): which one a client gets, and how.
//!
//! Owns the choice, from the `charset` parameter of a media type, the `charset` of the query and
//! `Accept-Charset`, in this order. Holds: UTF-8 is what everybody gets who does not want
//! something else more; in every other character set JSON and XML are written in ASCII, with what
//! is beyond it escaped, so that any of them can say everything. (ASCII means ASCII in all of
//! them: those of PS3.18 Annex D that begin otherwise are not offered.) Names that are not known
//! are ignored. Absent: character sets of what is stored ([`crate::dicom::charset`]).

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;

use super::problem::Problem;
use crate::dicom::xml::Encoding;

/// Names that are read of one list.
const MAX_NAMES: usize = 64;

/// Names for MIME, and the other names of each, letters and digits only: common ones, and the
/// defined terms of (0008,0005) (PS3.18 Annex D).
const KNOWN: [(&str, &[&str]); 17] = [
    ("UTF-8", &["isoir192"]),
    ("US-ASCII", &["ascii", "isoir6", "iso2022ir6"]),
    ("ISO-8859-1", &["latin1", "isoir100", "iso2022ir100"]),
    ("ISO-8859-2", &["latin2", "isoir101", "iso2022ir101"]),
    ("ISO-8859-3", &["latin3", "isoir109", "iso2022ir109"]),
    ("ISO-8859-4", &["latin4", "isoir110", "iso2022ir110"]),
    ("ISO-8859-5", &["isoir144", "iso2022ir144"]),
    ("ISO-8859-6", &["isoir127", "iso2022ir127"]),
    ("ISO-8859-7", &["isoir126", "iso2022ir126"]),
    ("ISO-8859-8", &["isoir138", "iso2022ir138"]),
    ("ISO-8859-9", &["latin5", "isoir148", "iso2022ir148"]),
    ("ISO-8859-15", &["latin9", "isoir203", "iso2022ir203"]),
    ("TIS-620", &["isoir166", "iso2022ir166"]),
    ("ISO-2022-JP", &["iso2022ir87", "iso2022ir13iso2022ir87"]),
    ("ISO-2022-KR", &["iso2022ir149"]),
    ("GB18030", &[]),
    ("GBK", &[]),
];

/// The names for MIME of all character sets that there are, UTF-8 first.
pub const NAMES: [&str; KNOWN.len()] = {
    let mut names = [KNOWN[0].0; KNOWN.len()];
    let mut at = 0;
    while at < KNOWN.len() {
        names[at] = KNOWN[at].0;
        at += 1;
    }
    names
};

/// The character set of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static str);

/// The client takes neither UTF-8 nor anything else that there is: 406.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCharset;

impl From<NoCharset> for Problem {
    fn from(_: NoCharset) -> Self {
        let charset = |(name, _): &(&str, _)| format!("charset={name}");
        Self::not_acceptable(KNOWN.iter().map(charset).collect())
    }
}

impl Charset {
    const UTF_8: Self = Self("UTF-8");

    /// The character set for an answer of `media_type`.
    ///
    /// # Errors
    /// [`NoCharset`] where UTF-8 is excluded and nothing else is asked for.
    pub fn of(
        headers: &HeaderMap,
        query: Option<&str>,
        media_type: &str,
    ) -> Result<Self, NoCharset> {
        let mut accept = Vec::new();
        let mut named = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "accept" => accept.push(value.into_owned()),
                "charset" => named.push(value.into_owned()),
                _ => {}
            }
        }
        let texts = |name| {
            let values = headers.get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        accept.extend(texts(header::ACCEPT));
        if let Some(charset) = of_media_type(&accept, media_type) {
            return Ok(charset);
        }
        let listed: Vec<String> = texts(header::ACCEPT_CHARSET).collect();
        for list in [named, listed] {
            if let Some(answer) = best(&list.join(",")) {
                return answer;
            }
        }
        Ok(Self::UTF_8)
    }

    /// `Content-Type`, with the parameter where it is not the default.
    pub fn content_type(self, media_type: &'static str) -> HeaderValue {
        let plain = HeaderValue::from_static(media_type);
        if self == Self::UTF_8 {
            return plain;
        }
        HeaderValue::try_from(self.parameterised(media_type)).unwrap_or(plain)
    }

    /// The media type as text, with the parameter where it is not the default.
    pub fn parameterised(self, media_type: &str) -> String {
        if self == Self::UTF_8 {
            media_type.to_owned()
        } else {
            format!("{media_type}; charset={}", self.0)
        }
    }

    /// What tells an answer in this character set from the same in another: empty for UTF-8.
    pub fn mark(self) -> &'static str {
        if self == Self::UTF_8 { "" } else { self.0 }
    }

    /// How XML is to be written.
    pub fn xml(self) -> Encoding {
        if self == Self::UTF_8 { Encoding::Utf8 } else { Encoding::Ascii(self.0) }
    }

    /// A piece of JSON in this character set. It ends where a character does.
    pub fn json(self, utf8: Bytes) -> Bytes {
        if self == Self::UTF_8 || utf8.is_ascii() {
            return utf8;
        }
        let mut out = Vec::with_capacity(utf8.len() + utf8.len() / 4);
        for c in String::from_utf8_lossy(&utf8).chars() {
            if c.is_ascii() {
                out.push(c as u8);
            } else {
                // Beyond ASCII there are only characters of strings (RFC 8259 §7).
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
                }
            }
        }
        out.into()
    }

    fn named(name: &str) -> Option<Self> {
        let plain = |text: &str| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
        };
        let wanted = plain(name);
        let known = KNOWN.iter().find(|(name, others)| {
            !wanted.is_empty() && (plain(name) == wanted || others.contains(&&*wanted))
        });
        known.map(|(name, _)| Self(name))
    }
}

/// The `charset` parameter of the first media range that names the media type and has a known one.
fn of_media_type(accept: &[String], media_type: &str) -> Option<Charset> {
    let ranges = accept.iter().flat_map(|value| value.split(',')).take(MAX_NAMES);
    ranges
        .filter(|range| {
            let mut pieces = range.split(';').map(|piece| piece.replace(' ', "+").to_lowercase());
            pieces.any(|piece| {
                let piece = piece.trim_matches('+');
                piece.strip_prefix("type=").unwrap_or(piece).trim_matches(['"', '\'']) == media_type
            })
        })
        .find_map(|range| {
            range.split(';').find_map(|piece| {
                let (name, value) = piece.split_once('=')?;
                name.trim().eq_ignore_ascii_case("charset").then(|| Charset::named(value))?
            })
        })
}

/// The most wanted of a list with weights; `None` where it says nothing.
fn best(list: &str) -> Option<Result<Charset, NoCharset>> {
    let mut others: Option<f64> = None;
    let mut weights: Vec<(Charset, f64)> = Vec::new();
    for element in list.split(',').take(MAX_NAMES) {
        let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
        let q = parameters.split_once('=').filter(|(name, _)| name.trim() == "q");
        let q = q.and_then(|(_, q)| q.trim().parse().ok()).unwrap_or(1.0);
        if name.trim() == "*" {
            others = Some(q);
        } else if let Some(charset) = Charset::named(name)
            && weights.iter().all(|(known, _)| *known != charset)
        {
            weights.push((charset, q));
        }
    }
    let utf8 = weights.iter().find(|(charset, _)| *charset == Charset::UTF_8);
    let utf8 = utf8.map(|(_, q)| *q).or(others);
    // Of those wanted equally UTF-8 is the best, then the first.
    let mut best = utf8.map(|q| (Charset::UTF_8, q));
    for (charset, q) in weights {
        if best.is_none_or(|(_, least)| q > least) {
            best = Some((charset, q));
        }
    }
    match best {
        Some((charset, q)) if q > 0.0 => Some(Ok(charset)),
        // An exclusion of something else leaves UTF-8.
        Some(_) if utf8.is_some() => Some(Err(NoCharset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "application/dicom+xml";

    #[track_caller]
    fn check(accept: &str, query: &str, accept_charset: &str, expect: Result<&str, NoCharset>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        if !accept_charset.is_empty() {
            headers.insert(header::ACCEPT_CHARSET, accept_charset.parse().unwrap());
        }
        let found = Charset::of(&headers, Some(query), XML).map(|charset| charset.0);
        assert_eq!(found, expect, "{accept} | {query} | {accept_charset}");
    }

    #[test]
    fn the_media_type_goes_before_the_query_and_that_before_the_header() {
        let multipart = "multipart/related; type=\"application/dicom+xml\"; charset=\"iso-8859-2\"";
        let inside = "multipart/related; type=\"application/dicom+xml; charset=iso-8859-2\"";
        let other = "application/dicom+json; charset=iso-8859-2";
        check("*/*", "", "", Ok("UTF-8"));
        check(multipart, "charset=gbk", "gb18030", Ok("ISO-8859-2"));
        check(inside, "charset=gbk", "gb18030", Ok("ISO-8859-2"));
        check("*/*", "accept=application/dicom+xml;charset=iso-8859-2", "gbk", Ok("ISO-8859-2"));
        check(other, "charset=gbk", "gb18030", Ok("GBK"));
        check("application/dicom+xml; charset=x", "charset=x", "gb18030", Ok("GB18030"));
        check("*/*", "charset=ISO_IR%20100", "", Ok("ISO-8859-1"));
        check("*/*", "charset=%22ISO%202022%20IR%20149%22", "", Ok("ISO-2022-KR"));
    }

    #[test]
    fn weights_choose_and_utf_8_wins_what_is_equal() {
        for (list, expect) in [
            ("utf-8", Ok("UTF-8")),
            ("big5, x, ISO-8859-1;q=0.2", Ok("ISO-8859-1")),
            ("ISO-8859-1,utf-8;q=0.7,*;q=0.7", Ok("ISO-8859-1")),
            ("ISO-8859-1,utf-8", Ok("UTF-8")),
            ("ISO-8859-1,*", Ok("UTF-8")),
            ("ISO-8859-1;q=0.5,*;q=0.6", Ok("UTF-8")),
            ("ISO-8859-1;q=0.4,ISO-8859-2;q=0.5", Ok("ISO-8859-2")),
            ("big5", Ok("UTF-8")),
            ("big5, ISO-8859-1;q=0", Ok("UTF-8")),
            ("utf-8;q=0", Err(NoCharset)),
            ("*;q=0", Err(NoCharset)),
            ("*;q=0, utf-8", Ok("UTF-8")),
            ("utf-8;q=0, us-ascii;q=0.1", Ok("US-ASCII")),
            ("utf-8;q=x", Ok("UTF-8")),
            (",;,", Ok("UTF-8")),
        ] {
            check("*/*", "", list, expect);
        }
    }

    #[test]
    fn json_says_everything_in_ascii() {
        let text = "{\"a\":\"Größe\\n 山 😀\"}";
        let latin = Charset("ISO-8859-1");
        let escaped = latin.json(Bytes::from(text));
        assert!(escaped.is_ascii());
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&escaped), value(text.as_bytes()));
        assert_eq!(Charset::UTF_8.json(Bytes::from(text)), text);
        assert_eq!(latin.content_type("application/json"), "application/json; charset=ISO-8859-1");
        assert_eq!(Charset::UTF_8.content_type("application/json"), "application/json");
    }
}
