//! What issuers publish, fetched: discovery (OpenID Connect Discovery 1.0 §4, RFC 8414 §3) and JWK
//! sets.
//!
//! Holds: every answer is bounded in size and time; redirects are not followed, so that an answer
//! comes from where the configuration or a verified discovery document says; no proxy of the
//! environment is used.

use std::time::Duration;

use reqwest::{
    Client, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, HeaderMap},
    redirect::Policy,
};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::jwk::KeySet;
use crate::config::{IssuerConfig, is_loopback};

/// Largest document, in bytes. A key of 4096 bits with a certificate takes some five thousand.
const LARGEST: usize = 512 * 1024;
/// Time for one request, from the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long keys are fresh: at least and at most, whatever the issuer says of it (RFC 9111 §5.2.2),
/// and where it says nothing.
const FRESH_AT_LEAST: Duration = Duration::from_secs(60);
const FRESH_AT_MOST: Duration = Duration::from_secs(3600);
const FRESH_USUALLY: Duration = Duration::from_secs(600);

/// Why keys could not be had. No text of an answer is repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No client could be made.
    #[error("no HTTP client can be made")]
    Client,
    /// No answer, or not a whole one.
    #[error("no answer: {0}")]
    Request(#[from] reqwest::Error),
    /// Another status than 200.
    #[error("the status is {0}")]
    Status(StatusCode),
    /// More than [`LARGEST`] bytes.
    #[error("the answer is too large")]
    TooLarge,
    /// A discovery document that is none, or another issuer's.
    #[error("the discovery document is not one of this issuer: {0}")]
    Discovery(&'static str),
    /// A JWK set that is none, or without a key to be used.
    #[error("there is no key that can be used")]
    Keys,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Fetches what one issuer publishes.
pub(super) struct Fetcher {
    issuer: String,
    url: Url,
    jwks_url: Option<Url>,
    allow_http: bool,
    client: OnceCell<Client>,
}

impl Fetcher {
    pub fn new(config: &IssuerConfig) -> Self {
        Self {
            issuer: config.issuer.clone(),
            url: config.url.clone(),
            jwks_url: config.jwks_url.clone(),
            allow_http: config.allow_http,
            client: OnceCell::new(),
        }
    }

    /// The issuer's keys, and how long they are fresh.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn keys(&self) -> Result<(KeySet, Duration), FetchError> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let (body, headers) = self.get(url).await?;
        Ok((KeySet::read(&body).ok_or(FetchError::Keys)?, freshness(&headers)))
    }

    /// Where the issuer says that its keys are.
    async fn discover(&self) -> Result<Url, FetchError> {
        let [openid, oauth] = discovery_urls(&self.url);
        let body = match self.get(openid).await {
            Err(FetchError::Status(status)) if status.is_client_error() => self.get(oauth).await?.0,
            other => other?.0,
        };
        let Ok(Discovered { issuer, jwks_uri }) = serde_json::from_slice(&body) else {
            return Err(FetchError::Discovery("it is no JSON with issuer and jwks_uri"));
        };
        // Otherwise one issuer could be made to speak for another (OpenID Connect Discovery §4.3).
        if issuer != self.issuer {
            return Err(FetchError::Discovery("its issuer is another one"));
        }
        let url = Url::parse(&jwks_uri).ok().filter(|url| match url.scheme() {
            "https" => true,
            "http" => self.allow_http || (is_loopback(url) && is_loopback(&self.url)),
            _ => false,
        });
        url.ok_or(FetchError::Discovery("its jwks_uri is no https:// URL"))
    }

    async fn get(&self, url: Url) -> Result<(Vec<u8>, HeaderMap), FetchError> {
        let client = self.client().await?;
        let request = client.get(url).header(ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, std::mem::take(answer.headers_mut())))
    }

    async fn client(&self) -> Result<&Client, FetchError> {
        let make = async || {
            let builder = Client::builder()
                .no_proxy()
                .redirect(Policy::none())
                .referer(false)
                .timeout(TIMEOUT)
                .pool_max_idle_per_host(0)
                .user_agent(concat!("collimator/", env!("CARGO_PKG_VERSION")));
            // It reads the certificates of the system.
            let made = tokio::task::spawn_blocking(move || builder.build()).await;
            made.ok().and_then(Result::ok).ok_or(FetchError::Client)
        };
        self.client.get_or_try_init(make).await
    }
}

/// Where an issuer's discovery document is: as OpenID Connect appends it, and as RFC 8414 §3.1 puts
/// it between host and path.
fn discovery_urls(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    [
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

fn freshness(headers: &HeaderMap) -> Duration {
    let said = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut fresh = FRESH_USUALLY;
    for directive in said.flat_map(|text| text.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(&*directive, "no-store" | "no-cache") {
            return FRESH_AT_LEAST;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            fresh = seconds.trim_matches('"').parse().map_or(FRESH_AT_LEAST, Duration::from_secs);
        }
    }
    fresh.clamp(FRESH_AT_LEAST, FRESH_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_where_the_two_standards_put_it() {
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example:8443/realms/x/",
                "/realms/x/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/realms/x",
            ),
        ] {
            let urls = discovery_urls(&Url::parse(issuer).unwrap());
            assert_eq!(urls.map(|url| url.path().to_owned()), [openid, oauth]);
        }
    }

    #[test]
    fn cache_control_counts_within_bounds() {
        for (said, seconds) in [
            ("max-age=900", 900),
            ("public, MAX-AGE=900, must-revalidate", 900),
            ("max-age=1", 60),
            ("max-age=99999999", 3600),
            ("max-age=-1", 60),
            ("max-age=99999999999999999999999", 60),
            ("no-store", 60),
            ("max-age=900, no-cache", 60),
            ("public", 600),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, said.parse().unwrap())]);
            assert_eq!(freshness(&headers).as_secs(), seconds, "{said}");
        }
        assert_eq!(freshness(&HeaderMap::new()).as_secs(), 600);
    }
}
