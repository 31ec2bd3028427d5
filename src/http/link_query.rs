//! How a signed URL carries its link: in five parameters of the query.
//!
//! They are taken out of the query before a handler sees it, so that handlers read what they always
//! read, and whatever else stands in the query means what it always means. Holds: a query without
//! `signature` is nobody's link and stays as it is; with it, each of the five is there exactly once
//! and spelt as it was written, or there is no link to be verified ([`Presented::Malformed`]).

use std::borrow::Cow;

use axum::{extract::Request, http::Uri, middleware::Next, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use crate::{
    identity::{Link, Signature},
    tenancy::PartitionId,
};

const RESOURCE: &str = "resource";
const EXPIRES: &str = "expires";
const KEY: &str = "key";
const LINK: &str = "link";
const SIGNATURE: &str = "signature";

/// Longest resource, in bytes: three UIDs and a list of frames.
const LONGEST: usize = 1536;

/// What stays as it is in the value of a parameter (RFC 3986 §3.4).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'/');

/// The link of a request, not verified yet; in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// It can be verified, by a key of the partition that the request names.
    Link(Unverified),
    /// Something is missing, doubled or no value.
    Malformed,
}

/// A link whose signature nobody looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    resource: Box<str>,
    expires: i64,
    key: Uuid,
    id: Uuid,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Unverified {
    /// The link, if it is one of this partition.
    pub fn of(&self, partition: PartitionId) -> Link {
        let Self { resource, expires, key, id, .. } = self;
        Link { partition, resource: resource.clone(), expires: *expires, key: *key, id: *id }
    }

    /// The id of the key that it says to be signed with.
    pub fn key(&self) -> Uuid {
        self.key
    }
}

/// A URL with a link and its signature. `url` may have a query.
pub fn signed(url: &str, link: &Link, signature: &Signature) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{separator}{RESOURCE}={}&{EXPIRES}={}&{KEY}={}&{LINK}={}&{SIGNATURE}={}",
        utf8_percent_encode(&link.resource, PLAIN),
        link.expires,
        link.key.simple(),
        link.id.simple(),
        URL_SAFE_NO_PAD.encode(signature.bytes()),
    )
}

/// Whether a query has a signature.
pub fn is_in(query: &str) -> bool {
    query.split('&').any(|pair| name_of(pair) == SIGNATURE)
}

/// A query without its link, where it has one.
pub fn without_link(query: &str) -> Cow<'_, str> {
    if is_in(query) { Cow::Owned(read(query).1) } else { Cow::Borrowed(query) }
}

/// The layer.
pub async fn take(mut request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    if is_in(query) {
        let (presented, rest) = read(query);
        if let Some(uri) = with_query(request.uri(), &rest) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(presented);
        } else {
            request.extensions_mut().insert(Presented::Malformed);
        }
    }
    next.run(request).await
}

/// A parameter's name, as every reader of queries would read it.
fn name_of(pair: &str) -> Cow<'_, str> {
    percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy()
}

/// The link of a query that has one, and what else is in the query.
fn read(query: &str) -> (Presented, String) {
    const NAMES: [&str; 5] = [RESOURCE, EXPIRES, KEY, LINK, SIGNATURE];
    let mut found: [Option<&str>; 5] = [None; 5];
    let mut rest = Vec::new();
    let mut is_plain = true;
    for pair in query.split('&') {
        let name = name_of(pair);
        let Some(at) = NAMES.iter().position(|known| *known == name) else {
            rest.push(pair);
            continue;
        };
        // Spelt otherwise, or there already.
        let value = pair.strip_prefix(NAMES[at]).and_then(|rest| rest.strip_prefix('='));
        is_plain &= value.is_some() && found[at].is_none();
        found[at] = value;
    }
    let presented = match unverified(found).filter(|_| is_plain) {
        Some(link) => Presented::Link(link),
        None => Presented::Malformed,
    };
    (presented, rest.join("&"))
}

fn unverified([resource, expires, key, id, signature]: [Option<&str>; 5]) -> Option<Unverified> {
    let resource = percent_decode_str(resource?).decode_utf8().ok()?;
    let is_path = |b: u8| b.is_ascii_alphanumeric() || b"/.,".contains(&b);
    if resource.len() > LONGEST || !resource.starts_with('/') || !resource.bytes().all(is_path) {
        return None;
    }
    Some(Unverified {
        resource: resource.into(),
        expires: expires.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?,
        key: uuid(key?)?,
        id: uuid(id?)?,
        signature: URL_SAFE_NO_PAD.decode(signature?).ok().filter(|bytes| bytes.len() == 32)?,
    })
}

/// A UUID as it was written here: in lower case and without dashes.
fn uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (uuid.simple().to_string() == text).then_some(uuid)
}

fn with_query(uri: &Uri, query: &str) -> Option<Uri> {
    let path = uri.path();
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            partition: "north".parse().unwrap(),
            resource: "/studies/1.2/series/3/instances/4/frames/1,2".into(),
            expires: 1_700_000_000,
            key: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
        }
    }

    #[test]
    fn the_longest_resource_that_a_link_is_made_for_is_read() {
        let uid = "1".repeat(64);
        let frames = vec![u32::MAX.to_string(); 100].join(",");
        let resource =
            format!("/studies/{uid}/series/{uid}/instances/{uid}/frames/{frames}/thumbnail");
        let link = Link { resource: resource.into(), ..link() };
        let url = signed("http://x/y", &link, &link.sign(&[7; 32]));
        let (presented, _) = read(url.split_once('?').unwrap().1);
        let Presented::Link(unverified) = presented else { panic!("{}", link.resource.len()) };
        assert_eq!(unverified.of(link.partition.clone()), link);
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_stays() {
        let url = signed("http://h/studies/1.2?a=%20b", &link(), &link().sign(&[7; 32]));
        let (_, query) = url.split_once('?').unwrap();
        assert!(is_in(query));
        let (presented, rest) = read(&format!("viewport=1,2&{query}&c"));
        let Presented::Link(unverified) = presented else { panic!("{url}") };
        assert_eq!(unverified.of("north".parse().unwrap()), link());
        assert!(link().is_signed(&[7; 32], &unverified.signature));
        assert_ne!(unverified.signature, [7; 32], "the key itself stays where it is");
        assert_eq!(rest, "viewport=1,2&a=%20b&c");
        assert_eq!(unverified.key, Uuid::from_u128(1));
    }

    #[test]
    fn what_is_dropped_doubled_or_spelt_otherwise_is_no_link() {
        let url = signed("http://h/", &link(), &link().sign(&[7; 32]));
        let (_, query) = url.split_once('?').unwrap();
        let pairs: Vec<&str> = query.split('&').collect();
        for (at, pair) in pairs.iter().enumerate() {
            let (name, value) = pair.split_once('=').unwrap();
            let other = |text: String| {
                let mut pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
                pairs[at] = text;
                pairs.join("&")
            };
            let capital = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
            let encoded = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
            for text in [
                format!("{pair}&{pair}"),
                format!("{pair}&{name}="),
                format!("{encoded}={value}"),
                format!("{name}={value}%"),
                format!("{name}={value}%00"),
                name.to_owned(),
                format!("{name}="),
                format!("{name}={}", "9".repeat(2000)),
            ] {
                let query = other(text);
                assert!(is_in(&query), "{query}");
                assert_eq!(read(&query).0, Presented::Malformed, "{query}");
            }
            // Without a signature it is no link at all.
            for text in [String::new(), format!("{capital}={value}")] {
                let query = other(text);
                match name {
                    SIGNATURE => assert!(!is_in(&query), "{query}"),
                    _ => assert_eq!(read(&query).0, Presented::Malformed, "{query}"),
                }
            }
        }
    }
}
