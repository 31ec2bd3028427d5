//! Where a request comes from: the address of its connection, or what proxies that are trusted say.
//!
//! Holds: a header counts only in a request that came from one of `server.trusted_proxies`, and of a
//! list only as far as trusted proxies wrote it: it is read from its end, where the last proxy added
//! who came to it, up to the first address that is no trusted proxy's. What a client put in front of
//! that is never looked at. Only the header that `server.address_header` names is read, since a
//! proxy that writes one passes on the other as the client sent it.
//!
//! Where a trusted proxy did not say (`unknown`, an obfuscated name, no address at all), the request
//! comes from `0.0.0.0`: nowhere that a policy would let in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, request::Parts},
};

use crate::config::{AddressHeader, ServerConfig};

/// Elements of a list that are looked at, from its end.
const MOST: usize = 32;

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where a request comes from.
pub fn address(request: &Parts, server: &ServerConfig) -> IpAddr {
    let peer = peer(request);
    if !is_trusted(peer, server) {
        return peer;
    }
    let elements = match server.address_header {
        AddressHeader::XForwardedFor => elements(&request.headers, "x-forwarded-for"),
        AddressHeader::Forwarded => elements(&request.headers, "forwarded"),
    };
    let Some(elements) = elements else { return NOWHERE };
    let mut last = peer;
    for element in elements.iter().rev().take(MOST) {
        let text = match server.address_header {
            AddressHeader::XForwardedFor => Some(*element),
            AddressHeader::Forwarded => for_of(element),
        };
        let Some(address) = text.and_then(parse) else { return NOWHERE };
        if !is_trusted(address, server) {
            return address;
        }
        last = address;
    }
    // All of them are proxies: the first one asks for itself.
    last
}

/// Whether what a request says of the scheme and host that its client used is believed: with
/// `server.trust_forwarded`, and from `server.trusted_proxies` alone where there are any.
pub fn believes(request: &Parts, server: &ServerConfig) -> bool {
    server.trust_forwarded
        && (server.trusted_proxies.is_empty() || is_trusted(peer(request), server))
}

fn peer(request: &Parts) -> IpAddr {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(NOWHERE, |peer| peer.0.ip().to_canonical())
}

fn is_trusted(address: IpAddr, server: &ServerConfig) -> bool {
    server.trusted_proxies.iter().any(|network| network.contains(&address))
}

/// The elements of all lines of a header, in order; `None` where it is not text.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Option<Vec<&'a str>> {
    let mut all = Vec::new();
    for line in headers.get_all(name) {
        all.extend(line.to_str().ok()?.split(',').map(str::trim));
    }
    Some(all)
}

/// `for=` of an element of `Forwarded` (RFC 7239 §4), which has it once.
fn for_of(element: &str) -> Option<&str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value.trim()).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// An address with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()))
        .or_else(|_| inside.unwrap_or_default().parse::<std::net::Ipv6Addr>().map(IpAddr::V6));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn server(header: AddressHeader, proxies: &[&str]) -> ServerConfig {
        ServerConfig {
            trusted_proxies: proxies.iter().map(|text| text.parse().unwrap()).collect(),
            address_header: header,
            trust_forwarded: true,
            ..ServerConfig::default()
        }
    }

    fn request(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        let peer: IpAddr = peer.parse().unwrap();
        parts.extensions.insert(ConnectInfo(SocketAddr::from((peer, 1))));
        parts
    }

    #[test]
    fn lists_are_read_from_their_end_to_the_first_that_is_not_trusted() {
        let server = server(AddressHeader::XForwardedFor, &["10.0.0.0/8", "fd00::/8"]);
        for (peer, lines, expected) in [
            ("192.0.2.7", &["1.1.1.1"][..], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9, 1.1.1.1, 10.2.2.2, fd00::1"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.2, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, unknown"], "0.0.0.0"),
            ("10.0.0.1", &["unknown, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1,"], "0.0.0.0"),
            ("10.0.0.1", &["1.1.1.1, \u{fc}"], "0.0.0.0"),
            ("fd00::5", &["1.1.1.1"], "1.1.1.1"),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let found = address(&request(peer, &headers), &server);
            assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_where_it_is_the_one_and_the_other_never() {
        let server = server(AddressHeader::Forwarded, &["10.0.0.0/8"]);
        let ask = |line: &str| {
            let headers = [("forwarded", line), ("x-forwarded-for", "9.9.9.9")];
            address(&request("10.0.0.1", &headers), &server).to_string()
        };
        for (line, expected) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("proto=https;For=\"1.1.1.1:80\";by=10.0.0.1", "1.1.1.1"),
            ("for=9.9.9.9, for=\"[2001:db8::1]:80\", for=10.0.0.2", "2001:db8::1"),
            ("for=1.1.1.1;for=2.2.2.2", "0.0.0.0"),
            ("for=_hidden", "0.0.0.0"),
            ("proto=https", "0.0.0.0"),
            ("nonsense", "0.0.0.0"),
        ] {
            assert_eq!(ask(line), expected, "{line}");
        }
        let other = request("10.0.0.1", &[("x-forwarded-for", "9.9.9.9")]);
        assert_eq!(address(&other, &server).to_string(), "10.0.0.1");
    }

    #[test]
    fn without_trusted_proxies_no_header_says_where_a_request_comes_from() {
        let server = ServerConfig { trust_forwarded: true, ..ServerConfig::default() };
        let headers = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")];
        let found = address(&request("192.0.2.7", &headers), &server);
        assert_eq!(found.to_string(), "192.0.2.7");
    }

    #[test]
    fn scheme_and_host_are_believed_from_trusted_proxies_alone_where_there_are_any() {
        let listed = server(AddressHeader::XForwardedFor, &["10.0.0.0/8"]);
        assert!(believes(&request("10.0.0.1", &[]), &listed));
        assert!(!believes(&request("192.0.2.7", &[]), &listed));
        let any = ServerConfig { trust_forwarded: true, ..ServerConfig::default() };
        assert!(believes(&request("192.0.2.7", &[]), &any));
        let none = ServerConfig { trust_forwarded: false, ..listed };
        assert!(!believes(&request("10.0.0.1", &[]), &none));
    }
}
