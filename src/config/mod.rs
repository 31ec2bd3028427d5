//! Configuration sections that the HTTP room takes, one struct per section of the file.
//!
//! Sizes are bytes (`u64`), times are [`Duration`].

use std::time::Duration;

/// `[server]`: where to listen and how long to wait for a client.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `server.listen`: address and port.
    pub listen: String,
    /// `server.public_url`: base of the URLs in answers; empty means: from the request.
    pub public_url: String,
    /// `server.trust_forwarded`: whether `Forwarded` and `X-Forwarded-*` are believed.
    pub trust_forwarded: bool,
    /// `server.drain_timeout`: how long in-flight requests may take after the shutdown signal.
    pub drain_timeout: Duration,
    /// `server.max_connections`: connections served side by side; more wait to be accepted.
    pub max_connections: usize,
    /// `server.header_timeout`: how long a request's header may take to arrive.
    pub header_timeout: Duration,
    /// `server.write_timeout`: how long a client may take nothing of its answer.
    pub write_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            public_url: String::new(),
            trust_forwarded: false,
            drain_timeout: Duration::from_secs(30),
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// `[tenancy]`.
#[derive(Clone, Debug, Default)]
pub struct TenancyConfig {
    /// `tenancy.base_domain`: partitions are named by its subdomains; empty means: they are not.
    pub base_domain: String,
}

/// `[limits]`: bounds on what one request may bring.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// `limits.instance_bytes`: bytes of one part of a Store request.
    pub instance_bytes: u64,
    /// `limits.request_bytes`: bytes of one request body.
    pub request_bytes: u64,
    /// `limits.parts`: parts of one request.
    pub parts: u64,
    /// `limits.body_idle`: how long a request body may bring nothing.
    pub body_idle: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            instance_bytes: 16 << 30,
            request_bytes: 64 << 30,
            parts: 10_000,
            body_idle: Duration::from_secs(60),
        }
    }
}

/// `retrieve.missing_accept`: what a request without `Accept` gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MissingAccept {
    /// As if it had said `*/*`: what every client in the field expects.
    #[default]
    Any,
    /// 406, by the letter of PS3.18 §8.7.5.
    Refuse,
}

/// `[cors]`.
#[derive(Clone, Debug, Default)]
pub struct CorsConfig {
    /// `cors.allowed_origins`: origins whose pages may read answers; `*` for every origin.
    pub allowed_origins: Vec<String>,
}
