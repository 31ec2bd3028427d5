//! Sending a message: one request, and what came of it.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::{sync::OnceCell, time::Instant};

use super::{Guard, guard::Forbidden, signature::sign};
use crate::{config::WebhooksConfig, telemetry::names};

/// Bytes of an answer that are read, and dropped, so that its connection can be used again.
const READ: usize = 16 * 1024;
const DRAIN: Duration = Duration::from_millis(500);
/// Time after which a connection that nothing is sent on is closed.
const IDLE: Duration = Duration::from_secs(30);

/// A message to be sent.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Where to.
    pub url: &'a str,
    /// Its id: the same each time it is sent.
    pub id: &'a str,
    /// What it is signed with: one signature for each.
    pub secrets: &'a [&'a [u8; 32]],
    /// JSON.
    pub body: &'a Bytes,
}

/// Why a message was not delivered, as a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No answer came in time.
    Timeout,
    /// No connection, or it broke off, or TLS failed.
    Connection,
    /// The URL may not be called, or its name resolves to nothing that may.
    Address,
    /// The answer's status is not one of success.
    Status,
    /// This server cannot send: its certificates cannot be read, for instance.
    Unsendable,
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Address => "address",
            Self::Status => "status",
            Self::Unsendable => "unsendable",
        }
    }
}

/// A message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The answer's status.
    pub status: Option<u16>,
    /// How long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    fn of(reason: Reason) -> Self {
        Self { reason, status: None, retry_after: None }
    }

    /// Whether the receiver wants no more messages, ever.
    pub fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }
}

/// Sends messages. Cheap to clone; its client is made when it is first needed.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    guard: Guard,
    timeout: Duration,
    client: OnceCell<Client>,
}

impl Sender {
    /// A sender by `[webhooks]`.
    pub fn new(config: &WebhooksConfig) -> Self {
        let (guard, timeout) = (Guard::new(config), config.timeout);
        Self(Arc::new(Inner { guard, timeout, client: OnceCell::new() }))
    }

    /// What decides where it may send to.
    pub fn guard(&self) -> &Guard {
        &self.0.guard
    }

    async fn client(&self) -> Result<&Client, Failure> {
        let make = async || {
            let builder = Client::builder()
                .dns_resolver(self.0.guard.clone())
                .no_proxy()
                .redirect(Policy::none())
                .referer(false)
                .timeout(self.0.timeout)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(4)
                .user_agent(concat!("collimator/", env!("CARGO_PKG_VERSION")));
            // It reads the certificates of the system.
            match tokio::task::spawn_blocking(move || builder.build()).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => {
                    tracing::error!(error = %error.without_url(), "webhooks cannot be called");
                }
                Err(error) => tracing::error!(%error, "webhooks cannot be called"),
            }
            Err(Failure::of(Reason::Unsendable))
        };
        self.0.client.get_or_try_init(make).await
    }

    /// Sends a message once.
    ///
    /// # Errors
    /// [`Failure`]: it may have arrived all the same.
    pub async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let sent = self.try_send(message).await;
        let outcome =
            sent.as_ref().map_or_else(|failure| failure.reason.as_str(), |()| "delivered");
        metrics::counter!(names::WEBHOOK_MESSAGES, names::OUTCOME => outcome).increment(1);
        metrics::histogram!(names::WEBHOOK_SECONDS).record(begun.elapsed());
        sent
    }

    async fn try_send(&self, message: &Message<'_>) -> Result<(), Failure> {
        // Looked at each time: the configuration may be another one than when it was written down.
        let url = self.0.guard.check(message.url).map_err(|_| Failure::of(Reason::Address))?;
        let client = self.client().await?;
        let timestamp = OffsetDateTime::now_utc().unix_timestamp();
        let signature = sign(message.secrets.iter().copied(), message.id, timestamp, message.body);
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body.clone());
        let mut answer = request.send().await.map_err(|error| failure(&error))?;
        let status = answer.status();
        let asks = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let retry_after = retry_after(answer.headers()).filter(|_| asks.contains(&status));
        let drained = async {
            let mut left = READ;
            while let Ok(Some(chunk)) = answer.chunk().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        // What it says besides does not matter, nor whether it ends.
        let _ = tokio::time::timeout(DRAIN, drained).await;
        if status.is_success() {
            return Ok(());
        }
        Err(Failure { reason: Reason::Status, status: Some(status.as_u16()), retry_after })
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut below: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = below {
        if cause.is::<Forbidden>() {
            return Failure::of(Reason::Address);
        }
        below = cause.source();
    }
    Failure::of(if error.is_timeout() { Reason::Timeout } else { Reason::Connection })
}

/// How long the receiver asks to wait: a number of seconds, or a moment (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let moment = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some((moment - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_moment() {
        let read =
            |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert!(
            read("99999999999999999999").is_some_and(|wait| wait > Duration::from_secs(1 << 30))
        );
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = read("Fri, 21 Oct 2095 07:28:00 GMT").expect("a moment");
        assert!(later > Duration::from_secs(1 << 30), "{later:?}");
        for text in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
