//! URLs in answers: RetrieveURL, BulkDataURI, Location, in the client's own style.
//!
//! Owns what a request says about the address it came to (scheme, host, prefix) and the paths of
//! resources. Invariant: nothing that is not a plain host, scheme or path from the request gets
//! into an answer; headers that proxies set are believed only with `server.trust_forwarded`
//! (and where `forwarded` believes who sent them).

use std::net::SocketAddr;

use axum::http::{HeaderMap, header, request::Parts};

use url::Url;

use super::{
    carrier::{Carried, Style},
    forwarded,
    problem::Problem,
};
use crate::{
    config::{ServerConfig, TenancyConfig},
    dicom::Uid,
    query::PARTITION_ID,
    tenancy::{Named, PartitionId},
};

/// Longest host with port that is believed, in bytes (DNS allows 253).
const MAX_HOST: usize = 262;
/// Longest `X-Forwarded-Prefix`, in bytes.
const MAX_PREFIX: usize = 512;

/// Why the address of the request cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// `Host` (or what a trusted proxy forwards) is repeated or not a host with optional port.
    #[error("the host is not a host name or address with an optional port")]
    Invalid,
    /// No `Host` at all, and `server.public_url` is not set.
    #[error("the request has no Host header, and the server has no public URL")]
    Missing,
    /// A forwarded scheme or prefix is not one.
    #[error("a forwarded scheme or prefix is not valid")]
    Forwarded,
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Invalid | HostError::Missing => Self::invalid("Host", error.to_string()),
            HostError::Forwarded => Self::invalid("Forwarded", error.to_string()),
        }
    }
}

/// Where answers of one request point: scheme, host, prefix, version and partition style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// Scheme, host, prefix and version, without a slash at the end.
    base: String,
    style: Style,
}

impl Urls {
    /// The base for answers to this request. With partitions on, a request that named none (or a
    /// list, not in the query) gets path style, since its results need a partition to be fetched.
    ///
    /// # Errors
    /// [`HostError`] where the request's own address is needed and unusable.
    pub fn of(
        request: &Parts,
        carried: &Carried,
        server: &ServerConfig,
        tenancy: &TenancyConfig,
        partitions_on: bool,
    ) -> Result<Self, HostError> {
        let mut base = match &server.public_url {
            None => seen(request, forwarded::believes(request, server))?.base()?,
            Some(url) => public_base(url, carried, tenancy),
        };
        base.push_str(split_version(request.uri.path()).0);
        let style = match (carried.style, &carried.named) {
            (Style::Plain, Named::Nothing | Named::Several(_)) if partitions_on => Style::Path,
            (style, _) => style,
        };
        Ok(Self { base, style })
    }

    /// Where the service begins, whatever partition is meant; without a slash at the end.
    pub fn service(&self) -> &str {
        &self.base
    }

    /// Where the service begins in a partition, without a slash at the end, and whether requests
    /// name the partition in their query.
    pub fn service_in(&self, partition: &PartitionId) -> (String, bool) {
        (self.within(partition).head, self.style == Style::Query)
    }

    /// The same for whoever gets one of them and nothing else: what named the partition by a header
    /// names it in the path, while there are partitions.
    #[must_use]
    pub fn that_say_all(self, partitions_on: bool) -> Self {
        let style = match self.style {
            Style::Plain if partitions_on => Style::Path,
            style => style,
        };
        Self { style, ..self }
    }

    /// URLs of what lies in one partition.
    pub fn within(&self, partition: &PartitionId) -> PartitionUrls {
        let (head, tail) = match self.style {
            Style::Plain | Style::Host => (self.base.clone(), String::new()),
            Style::Path => (format!("{}/partitions/{partition}", self.base), String::new()),
            Style::Query => (self.base.clone(), format!("?{PARTITION_ID}={partition}")),
        };
        PartitionUrls { head, tail }
    }
}

/// URLs of what lies in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionUrls {
    head: String,
    tail: String,
}

impl PartitionUrls {
    /// RetrieveURL (0008,1190) of a study.
    pub fn study(&self, study: &Uid) -> String {
        format!("{}/studies/{study}{}", self.head, self.tail)
    }

    /// RetrieveURL of a series.
    pub fn series(&self, study: &Uid, series: &Uid) -> String {
        format!("{}/studies/{study}/series/{series}{}", self.head, self.tail)
    }

    /// RetrieveURL of an instance.
    pub fn instance(&self, study: &Uid, series: &Uid, instance: &Uid) -> String {
        self.below(study, series, instance, "")
    }

    /// Content-Location of one frame, counted from 1.
    pub fn frame(&self, study: &Uid, series: &Uid, instance: &Uid, number: u32) -> String {
        self.below(study, series, instance, &format!("/frames/{number}"))
    }

    /// BulkDataURI of one value of an instance. `path` has no slash at its start.
    pub fn bulk_data(&self, study: &Uid, series: &Uid, instance: &Uid, path: &str) -> String {
        self.below(study, series, instance, &format!("/bulkdata/{path}"))
    }

    /// What stands before and after the path of a value in every BulkDataURI of an instance, for
    /// whoever writes many of them.
    pub fn bulk_data_around(&self, study: &Uid, series: &Uid, instance: &Uid) -> (String, &str) {
        let before =
            format!("{}/studies/{study}/series/{series}/instances/{instance}/bulkdata/", self.head);
        (before, &self.tail)
    }

    /// What stands before the UID of a study and at the end of every URL, for whoever writes many
    /// of them.
    pub fn studies_around(&self) -> (String, &str) {
        (format!("{}/studies/", self.head), &self.tail)
    }

    /// Any other resource of the partition; `path` starts with a slash and has no query.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}{}", self.head, self.tail)
    }

    fn below(&self, study: &Uid, series: &Uid, instance: &Uid, rest: &str) -> String {
        let (head, tail) = (&self.head, &self.tail);
        format!("{head}/studies/{study}/series/{series}/instances/{instance}{rest}{tail}")
    }
}

/// Splits `/v1` or `/v2` off a path.
pub fn split_version(path: &str) -> (&str, &str) {
    match path.split_at_checked(3) {
        Some((version @ ("/v1" | "/v2"), rest)) if rest.is_empty() || rest.starts_with('/') => {
            (version, rest)
        }
        _ => ("", path),
    }
}

/// The host that the client asked, in lower case and without port; `None` without `Host`.
///
/// # Errors
/// [`HostError::Invalid`] where it is no host.
pub fn request_host(request: &Parts, server: &ServerConfig) -> Result<Option<String>, HostError> {
    let seen = seen(request, forwarded::believes(request, server))?;
    Ok(seen.authority.map(|authority| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority.as_str(),
        };
        host.to_ascii_lowercase()
    }))
}

/// The address that a request says it came to.
struct Seen {
    scheme: &'static str,
    authority: Option<String>,
    prefix: String,
}

impl Seen {
    fn base(self) -> Result<String, HostError> {
        let authority = self.authority.ok_or(HostError::Missing)?;
        Ok(format!("{}://{authority}{}", self.scheme, self.prefix))
    }
}

fn seen(request: &Parts, believes: bool) -> Result<Seen, HostError> {
    // HTTP/2 says it in `:authority`, which goes before `Host` (RFC 9113 §8.3.1).
    let direct = match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(&request.headers, header::HOST.as_str())?,
    };
    let local = request.extensions.get::<LocalAddress>().copied();
    let is_encrypted = request.extensions.get::<Encrypted>().is_some();
    let scheme = if is_encrypted { "https" } else { "http" };
    let authority = direct.map(host_with_port).transpose()?;
    let mut seen = Seen {
        scheme,
        authority: authority.map(|authority| with_own_port(authority, local, scheme)),
        prefix: String::new(),
    };
    if believes {
        said_by_proxy(&request.headers, &mut seen)?;
    }
    Ok(seen)
}

/// The address of ours that a connection came to, as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress(pub SocketAddr);

/// A request that came over TLS, as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encrypted;

/// Adds the port of the connection to a host that lacks it, where the host says plainly that the
/// client reached us directly: it is our own address, or `localhost` on loopback. Python's
/// dicomweb-client sends `Host` without the port; behind a proxy a missing port means the proxy's.
fn with_own_port(authority: String, local: Option<LocalAddress>, scheme: &str) -> String {
    let Some(LocalAddress(local)) = local else { return authority };
    let ip = authority.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok();
    let is_localhost = authority.eq_ignore_ascii_case("localhost") && local.ip().is_loopback();
    let usual = if scheme == "https" { 443 } else { 80 };
    if local.port() != usual && (is_localhost || ip == Some(local.ip().to_canonical())) {
        format!("{authority}:{}", local.port())
    } else {
        authority
    }
}

/// Applies `Forwarded` (RFC 7239) or, where that says nothing, `X-Forwarded-*`. The first element
/// of a list is the one that the outermost proxy saw.
fn said_by_proxy(headers: &HeaderMap, seen: &mut Seen) -> Result<(), HostError> {
    let (mut scheme, mut host) = (None, None);
    if let Some(value) = first(headers, "forwarded")? {
        for pair in value.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "proto" => scheme = Some(value),
                "host" => host = Some(value),
                _ => {}
            }
        }
    }
    if scheme.is_none() {
        scheme = first(headers, "x-forwarded-proto")?;
    }
    if host.is_none() {
        host = first(headers, "x-forwarded-host")?;
    }
    match scheme {
        Some(text) if text.eq_ignore_ascii_case("https") => seen.scheme = "https",
        Some(text) if text.eq_ignore_ascii_case("http") => seen.scheme = "http",
        Some(_) => return Err(HostError::Forwarded),
        None => {}
    }
    if let Some(host) = host {
        seen.authority = Some(host_with_port(host)?);
    }
    if let Some(prefix) = first(headers, "x-forwarded-prefix")? {
        seen.prefix = path_prefix(prefix)?;
    }
    Ok(())
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, HostError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| HostError::Invalid),
        (Some(_), Some(_)) => Err(HostError::Invalid),
    }
}

/// The first element of a header that holds a list.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, HostError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| HostError::Forwarded)?;
    Ok(text.split(',').next().map(str::trim).filter(|text| !text.is_empty()))
}

/// Checks `host[:port]`: a name or IPv4 address, or an IPv6 address in brackets (RFC 3986 §3.2.2,
/// without user information and percent-encoding, which no client needs here).
fn host_with_port(text: &str) -> Result<String, HostError> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::Invalid)?;
        let (host, rest) = text.split_at(end + 1);
        let inside = host.trim_matches(['[', ']']);
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::Invalid)?;
        match rest.strip_prefix(':') {
            None if rest.is_empty() => (host, None),
            None => return Err(HostError::Invalid),
            Some(port) => (host, Some(port)),
        }
    } else {
        match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        }
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_name = !host.is_empty() && host.bytes().all(plain);
    let is_address = host.starts_with('[');
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
    if text.len() <= MAX_HOST && (is_name || is_address) && is_port {
        Ok(text.to_owned())
    } else {
        Err(HostError::Invalid)
    }
}

/// Checks a path that goes before ours: it starts with one slash; the one at its end is dropped.
fn path_prefix(text: &str) -> Result<String, HostError> {
    let path = text.trim_end_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let segment = |s: &str| !s.is_empty() && s != "." && s != "..";
    let rest = path.strip_prefix('/').ok_or(HostError::Forwarded)?;
    if path.len() <= MAX_PREFIX && path.bytes().all(plain) && rest.split('/').all(segment) {
        Ok(path.to_owned())
    } else {
        Err(HostError::Forwarded)
    }
}

/// The configured base; in host style with the partition's host name in it.
fn public_base(url: &Url, carried: &Carried, tenancy: &TenancyConfig) -> String {
    let host = match (carried.style, &carried.named, &tenancy.base_domain) {
        (Style::Host, Named::One(partition), Some(base)) => format!("{partition}.{base}"),
        _ => url.host_str().unwrap_or_default().to_owned(),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;
    use crate::tenancy::Permission;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut parts = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
        for (name, value) in headers {
            let name = axum::http::HeaderName::try_from(*name).unwrap();
            parts.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        parts
    }

    #[test]
    fn a_host_without_port_that_is_ours_gets_it() {
        let local = Some(LocalAddress("127.0.0.1:8080".parse().unwrap()));
        for (host, expected) in [
            ("127.0.0.1", "127.0.0.1:8080"),
            ("localhost", "localhost:8080"),
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("127.0.0.2", "127.0.0.2"),
            ("pacs.org", "pacs.org"),
        ] {
            assert_eq!(with_own_port(host.to_owned(), local, "http"), expected);
        }
        let six = Some(LocalAddress("[::1]:8080".parse().unwrap()));
        assert_eq!(with_own_port("[::1]".to_owned(), six, "http"), "[::1]:8080");
        let usual = Some(LocalAddress("127.0.0.1:80".parse().unwrap()));
        assert_eq!(with_own_port("127.0.0.1".to_owned(), usual, "http"), "127.0.0.1");
        let tls = Some(LocalAddress("127.0.0.1:443".parse().unwrap()));
        assert_eq!(with_own_port("127.0.0.1".to_owned(), tls, "https"), "127.0.0.1");
        assert_eq!(with_own_port("127.0.0.1".to_owned(), usual, "https"), "127.0.0.1:80");
        assert_eq!(with_own_port("127.0.0.1".to_owned(), None, "http"), "127.0.0.1");
    }

    /// The study URL in partition `p` that a request gets.
    fn study(server: &ServerConfig, on: bool, uri: &str, headers: &[(&str, &str)]) -> String {
        let tenancy = TenancyConfig { base_domain: Some("pacs.org".into()) };
        let request = request(uri, headers);
        let carried = match Carried::read(&request, server, &tenancy, Permission::Search) {
            Ok(carried) => carried,
            Err(error) => return error.to_string(),
        };
        match Urls::of(&request, &carried, server, &tenancy, on) {
            Ok(urls) => urls.within(&"p".parse().unwrap()).study(&"1.2".parse().unwrap()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn answers_keep_the_style_of_the_request() {
        let server = ServerConfig::default();
        let host = ("host", "h:1");
        for (on, uri, headers, expected) in [
            (false, "/studies", vec![host], "http://h:1/studies/1.2"),
            (true, "/studies", vec![host], "http://h:1/partitions/p/studies/1.2"),
            (true, "/v2/partitions/p/s", vec![host], "http://h:1/v2/partitions/p/studies/1.2"),
            (false, "/v1/studies", vec![host], "http://h:1/v1/studies/1.2"),
            (false, "/v10/studies", vec![host], "http://h:1/studies/1.2"),
            (
                true,
                "/studies?microsoft.partitionId=p",
                vec![host],
                "http://h:1/studies/1.2?microsoft.partitionId=p",
            ),
            (
                true,
                "/studies?microsoft.partitionId=p,q",
                vec![host],
                "http://h:1/studies/1.2?microsoft.partitionId=p",
            ),
            (true, "/s", vec![host, ("microsoft.partitionId", "p")], "http://h:1/studies/1.2"),
            (true, "/s", vec![("host", "p.pacs.org")], "http://p.pacs.org/studies/1.2"),
            (true, "http://p.pacs.org/s", vec![host], "http://p.pacs.org/studies/1.2"),
            (
                true,
                "/partitions/p/s",
                vec![("host", "[::1]:80")],
                "http://[::1]:80/partitions/p/studies/1.2",
            ),
        ] {
            assert_eq!(study(&server, on, uri, &headers), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn proxies_are_believed_only_when_trusted() {
        let headers = [
            ("host", "inside:8080"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "pacs.example.org"),
            ("x-forwarded-prefix", "/dicom/"),
        ];
        let wary = ServerConfig::default();
        assert_eq!(study(&wary, false, "/s", &headers), "http://inside:8080/studies/1.2");
        let trusting = ServerConfig { trust_forwarded: true, ..ServerConfig::default() };
        assert_eq!(
            study(&trusting, false, "/s", &headers),
            "https://pacs.example.org/dicom/studies/1.2"
        );
        let standard = [
            ("host", "inside"),
            ("forwarded", "for=1.2.3.4;Proto=https;host=\"a.org:8443\", for=5.6.7.8;host=b.org"),
            ("x-forwarded-host", "c.org"),
        ];
        assert_eq!(study(&trusting, false, "/s", &standard), "https://a.org:8443/studies/1.2");
        for bad in [
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-host", "a@b"),
            ("x-forwarded-prefix", "//evil.org"),
            ("x-forwarded-prefix", "/a/../b"),
            ("x-forwarded-prefix", "/a?b"),
            ("x-forwarded-prefix", "relative"),
        ] {
            let answer = study(&trusting, false, "/s", &[("host", "h"), bad]);
            assert!(!answer.starts_with("http"), "{bad:?}: {answer}");
        }
    }

    #[test]
    fn the_configured_base_goes_before_everything() {
        let server = ServerConfig {
            public_url: Some("https://pacs.org:8443/d/".parse().unwrap()),
            ..ServerConfig::default()
        };
        assert_eq!(
            study(&server, false, "/s", &[("host", "x")]),
            "https://pacs.org:8443/d/studies/1.2"
        );
        assert_eq!(study(&server, false, "/s", &[]), "https://pacs.org:8443/d/studies/1.2");
        assert_eq!(
            study(&server, true, "/v2/s", &[("host", "p.pacs.org")]),
            "https://p.pacs.org:8443/d/v2/studies/1.2"
        );
    }

    #[test]
    fn hostile_hosts_are_refused() {
        let server = ServerConfig::default();
        for host in [
            "",
            "a b",
            "a/b",
            "a@b",
            "a\tb",
            "a:b",
            "a:99999",
            "a:+1",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[evil]",
            "a\"b",
            "a<b",
            "a%00b",
            "k\u{fc}nstlich",
            "a?b",
            "a#b",
            "a\\b",
            ":80",
            &"a".repeat(300),
        ] {
            let answer = study(&server, false, "/s", &[("host", host)]);
            assert_eq!(answer, HostError::Invalid.to_string(), "{host:?}");
        }
        let twice = [("host", "a"), ("host", "b")];
        assert_eq!(study(&server, false, "/s", &twice), HostError::Invalid.to_string());
        assert_eq!(study(&server, false, "/s", &[]), HostError::Missing.to_string());
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_request_says_only_plain_bases_come_out(
            host in "[ -~]{0,40}",
            value in "[ -~]{0,40}",
            prefix in "[/.a-z?#%]{0,20}",
        ) {
            let trusting = ServerConfig { trust_forwarded: true, ..ServerConfig::default() };
            let headers = [
                ("host", host.as_str()),
                ("forwarded", &value),
                ("x-forwarded-host", &value),
                ("x-forwarded-prefix", &prefix),
            ];
            let answer = study(&trusting, false, "/s", &headers);
            if let Some(rest) = answer.strip_prefix("http") {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:[]".contains(&b);
                proptest::prop_assert!(rest.bytes().all(plain), "{}", answer);
                proptest::prop_assert!(!rest.contains("/../"), "{}", answer);
            }
        }
    }

    #[test]
    fn resources_have_their_paths() {
        let urls = PartitionUrls { head: "http://h".into(), tail: "?q=1".into() };
        let (a, b, c): (Uid, Uid, Uid) =
            ("1".parse().unwrap(), "2".parse().unwrap(), "3".parse().unwrap());
        assert_eq!(urls.series(&a, &b), "http://h/studies/1/series/2?q=1");
        assert_eq!(urls.instance(&a, &b, &c), "http://h/studies/1/series/2/instances/3?q=1");
        assert_eq!(
            urls.frame(&a, &b, &c, 7),
            "http://h/studies/1/series/2/instances/3/frames/7?q=1"
        );
        let (before, after) = urls.bulk_data_around(&a, &b, &c);
        assert_eq!(urls.bulk_data(&a, &b, &c, "x"), format!("{before}x{after}"));
        let (before, after) = urls.studies_around();
        assert_eq!(urls.study(&a), format!("{before}1{after}"));
        assert_eq!(urls.at("/changefeed"), "http://h/changefeed?q=1");
    }
}
