//! Requests as a client sends them, and what came back.

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::corpus::{RELATED, multipart};

/// A base URL to send requests to.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    http: reqwest::Client,
    /// Ends every query.
    query: String,
    /// Who asks.
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// One part of a multipart answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub head: String,
    pub body: Vec<u8>,
}

/// An HTTP client of this machine.
pub fn http() -> reqwest::ClientBuilder {
    collimator::app::choose_cryptography();
    reqwest::Client::builder().no_proxy()
}

impl Client {
    pub fn new(base: String) -> Self {
        let http = http().build().unwrap();
        Self { base, http, query: String::new(), token: None }
    }

    /// The same server, by another client: one that has a certificate, or trusts one.
    pub fn through(&self, http: reqwest::Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// The same server over HTTP/2, without being asked whether it speaks it.
    pub fn over_http2(&self) -> Self {
        let http = http().http2_prior_knowledge().build().unwrap();
        Self { http, ..self.clone() }
    }

    /// The same server, with a header in every request.
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )]);
        let http = http().default_headers(headers).build().unwrap();
        Self { http, ..self.clone() }
    }

    /// The same server, with this in the query of every request.
    pub fn with_query(&self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self.clone() }
    }

    /// The same server over the same connections, by somebody who has this token.
    pub fn by(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        let plain = self.base.strip_prefix("http://");
        plain.or(self.base.strip_prefix("https://")).unwrap()
    }

    /// A request to a path of the server, or to a whole URL that it gave.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let base = if path.starts_with('/') { &*self.base } else { "" };
        let separator = match (self.query.is_empty(), path.contains('?')) {
            (true, _) => "",
            (false, true) => "&",
            (false, false) => "?",
        };
        let request = self.http.request(method, format!("{base}{path}{separator}{}", self.query));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        send(self.request(Method::GET, path).header("accept", accept)).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::GET, path);
        let add =
            |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        send(headers.iter().fold(request, add)).await
    }

    pub async fn options(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::OPTIONS, path);
        let add =
            |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        send(headers.iter().fold(request, add)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// Stores files in one multipart request.
    pub async fn store(&self, path: &str, files: &[Vec<u8>]) -> Answer {
        self.post(path, RELATED, multipart(files)).await
    }

    pub async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let request = self.request(Method::POST, path);
        send(request.header("content-type", content_type).body(body)).await
    }

    /// The results of a search; none where the answer is 204.
    pub async fn search(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        match answer.status {
            204 => Vec::new(),
            _ => answer.is(200).json().as_array().unwrap().clone(),
        }
    }

    /// Sends bytes as they are on a connection of its own, and reads to its end (or until the
    /// server waits for more).
    pub async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.authority()).await.unwrap();
        // The server may have closed already, having seen enough.
        let _ = socket.write_all(request).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        answer
    }
}

/// Sends a request and reads the answer.
pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.expect("a whole body") }
}

impl Answer {
    /// This answer, which must have that status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A problem document (RFC 9457) of that status.
    #[track_caller]
    pub fn problem(self, status: u16) -> Value {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        problem
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The parts of a multipart answer, which must be whole.
    #[track_caller]
    pub fn parts(&self) -> Vec<Part> {
        let content_type = self.header("content-type");
        assert!(content_type.starts_with("multipart/related; type=\""), "{content_type}");
        let boundary = content_type.split("boundary=").nth(1).expect("a boundary");
        let boundary = boundary.split(';').next().unwrap().trim_matches('"');
        split(&self.body, boundary)
    }

    /// The bodies of all parts, sorted.
    #[track_caller]
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        let mut bodies: Vec<Vec<u8>> = self.parts().into_iter().map(|part| part.body).collect();
        bodies.sort();
        bodies
    }
}

impl Part {
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        line.unwrap_or_default()
    }
}

#[track_caller]
fn split(body: &[u8], boundary: &str) -> Vec<Part> {
    let delimiter = format!("--{boundary}").into_bytes();
    let next = [b"\r\n".as_slice(), &delimiter].concat();
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    let mut parts = Vec::new();
    let mut rest = body.strip_prefix(delimiter.as_slice()).expect("the first delimiter");
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end_of_head = find(part, b"\r\n\r\n").expect("the end of the part's headers");
        let content = &part[end_of_head + 4..];
        let end = find(content, &next).expect("a delimiter");
        let head = String::from_utf8(part[..end_of_head].to_vec()).unwrap();
        let part = Part { head, body: content[..end].to_vec() };
        let announced = part.header("content-length");
        assert!(announced.is_empty() || announced == part.body.len().to_string(), "{}", part.head);
        parts.push(part);
        rest = &content[end + next.len()..];
    }
    assert!(rest.starts_with(b"--"), "the closing delimiter");
    parts
}
