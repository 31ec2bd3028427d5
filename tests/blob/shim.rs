//! Small reverse proxies before an S3 server that takes anonymous requests: one makes Google Cloud
//! Storage's XML API of it, the others are stores that lie.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// What a proxy does to the requests that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Speaks Google's headers.
    Gcs,
    /// Drops the condition of a put, and answers 200.
    IgnoresConditions,
    /// Sends the whole object whatever the range.
    IgnoresRanges,
    /// Answers 206 and names the range that was asked for, with bytes from elsewhere.
    ShiftsRanges,
    /// Dates every object a day back.
    LivesInThePast,
    /// Ends an upload as told, and says that it failed.
    LosesTheEnd,
}

struct Proxy {
    upstream: String,
    manner: Manner,
    client: reqwest::Client,
}

/// Starts a proxy that makes GCS of the S3 server.
pub async fn gcs(upstream: SocketAddr) -> SocketAddr {
    start(upstream, Manner::Gcs).await
}

/// Starts a proxy of the given manner.
pub async fn start(upstream: SocketAddr, manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let client = crate::servers::client();
    let proxy = Proxy { upstream: format!("http://{upstream}"), manner, client };
    let router = Router::new().fallback(pass).with_state(Arc::new(proxy));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body of a test's size");
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", proxy.upstream);
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let name = name.as_str();
        let dropped = matches!(name, "authorization" | "host" | "content-length")
            || name.starts_with("x-goog-")
            || (proxy.manner == Manner::IgnoresConditions && name == "if-none-match")
            || (proxy.manner == Manner::IgnoresRanges && name == "range");
        if !dropped {
            headers.append(
                parts.headers.keys().find(|k| *k == name).expect("a name").clone(),
                value.clone(),
            );
        }
    }
    if proxy.manner == Manner::Gcs
        && let Some(refused) = proxy.condition(&parts.headers, &url, &mut headers).await
    {
        return refused.into_response();
    }
    proxy.forward(parts.method, &url, headers, body).await
}

impl Proxy {
    async fn forward(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let range = headers.get(header::RANGE).cloned();
        let is_end = method == Method::POST && url.contains("uploadId=");
        if self.manner == Manner::ShiftsRanges && range.is_some() {
            headers.insert(header::RANGE, "bytes=0-99".parse().expect("a header"));
        }
        let sent = self.client.request(method, url).headers(headers).body(body).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        };
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        match self.manner {
            Manner::LosesTheEnd if is_end && status.is_success() => {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            Manner::Gcs => {
                if let Some(etag) = headers.get(header::ETAG) {
                    let generation = generation(etag.as_bytes()).to_string();
                    headers.insert("x-goog-generation", generation.parse().expect("a number"));
                }
            }
            Manner::ShiftsRanges if range.is_some() => {
                let asked =
                    range.and_then(|r| r.to_str().ok().map(|r| r.replace("bytes=", "bytes ")));
                let said = format!("{}/4096", asked.unwrap_or_default());
                headers.insert(header::CONTENT_RANGE, said.parse().expect("a header"));
            }
            Manner::LivesInThePast => {
                let past = "Sat, 01 Jan 2000 00:00:00 GMT".parse().expect("a header");
                headers.insert(header::LAST_MODIFIED, past);
            }
            _ => {}
        }
        let body = answer.bytes().await.unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Turns `x-goog-if-generation-match` into S3's conditions, or into a refusal.
    async fn condition(
        &self,
        asked: &HeaderMap,
        url: &str,
        headers: &mut HeaderMap,
    ) -> Option<StatusCode> {
        let wanted = asked.get("x-goog-if-generation-match")?;
        if wanted == "0" {
            headers.insert(header::IF_NONE_MATCH, "*".parse().expect("a header"));
            return None;
        }
        let found = self.client.head(url).send().await.ok()?;
        let etag = found.headers().get(header::ETAG)?.clone();
        if generation(etag.as_bytes()).to_string().as_bytes() != wanted.as_bytes() {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        headers.insert(header::IF_MATCH, etag);
        None
    }
}

/// A number that changes with the ETag, as a generation does.
fn generation(etag: &[u8]) -> u64 {
    let digits = etag.iter().filter_map(|b| char::from(*b).to_digit(16)).take(12);
    digits.fold(0, |number, digit| number << 4 | u64::from(digit))
}
