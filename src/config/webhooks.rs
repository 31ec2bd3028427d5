//! `[webhooks]`: messages to receivers that tenants name.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::reader::Reader;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// What `webhooks.allowed` can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Addresses.
    Net(IpNet),
    /// A host by its name, in lower case, whatever it resolves to.
    Host(String),
}

impl Destination {
    fn read(text: &str) -> Option<Self> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Some(Self::Net(net));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Net(address.into()));
        }
        let label = |label: &str| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            inner && (1..=63).contains(&label.len())
        };
        // What ends in a number is an address to URLs, and here a mistyped one.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_name = text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit());
        is_name.then(|| Self::Host(text.to_ascii_lowercase()))
    }
}

/// `[webhooks]`: who is told of changes, and how.
#[derive(Clone, Debug)]
pub struct WebhooksConfig {
    /// `webhooks.max_per_partition`: most webhooks of one partition.
    pub max_per_partition: usize,
    /// `webhooks.batch`: most events in one message.
    pub batch: u32,
    /// `webhooks.timeout`: time for one try, from the name to the answer.
    pub timeout: Duration,
    /// `webhooks.max_concurrent`: most messages that are being sent at a time.
    pub max_concurrent: usize,
    /// `webhooks.max_attempts`: tries after which a message is given up.
    pub max_attempts: u32,
    /// `webhooks.retry_first`: wait after the first failure.
    pub retry_first: Duration,
    /// `webhooks.retry_cap`: longest wait between two tries.
    pub retry_cap: Duration,
    /// `webhooks.disable_after`: messages given up in a row after which a webhook is disabled.
    pub disable_after: u32,
    /// `webhooks.max_dead_letters`: most dead letters of a webhook.
    pub max_dead_letters: u32,
    /// `webhooks.secret_overlap`: time for which a secret that was replaced still signs.
    pub secret_overlap: Duration,
    /// `webhooks.allow_http`: whether plain `http://` may be called.
    pub allow_http: bool,
    /// `webhooks.allow_private`: whether any address may be called.
    pub allow_private: bool,
    /// `webhooks.allowed`: addresses and hosts that may be called though they are not public.
    pub allowed: Vec<Destination>,
}

impl WebhooksConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let listed = r.list("webhooks.allowed");
        let allowed: Option<Vec<_>> = listed.iter().map(|text| Destination::read(text)).collect();
        if allowed.is_none() {
            let expected = "a list of host names, addresses such as 10.0.0.7, and networks such as \
                            10.1.0.0/16 or fd00::/8";
            r.refuse("webhooks.allowed", expected);
        }
        let config = Self {
            max_per_partition: r.count("webhooks.max_per_partition", 1..=100),
            batch: r.count("webhooks.batch", 1..=1000),
            timeout: r.time("webhooks.timeout", 1..=5 * MINUTE),
            max_concurrent: r.count("webhooks.max_concurrent", 1..=1000),
            max_attempts: r.count("webhooks.max_attempts", 1..=1000),
            retry_first: r.time("webhooks.retry_first", 0..=HOUR),
            retry_cap: r.time("webhooks.retry_cap", 0..=30 * DAY),
            disable_after: r.count("webhooks.disable_after", 1..=1000),
            max_dead_letters: r.count("webhooks.max_dead_letters", 1..=100_000),
            secret_overlap: r.time("webhooks.secret_overlap", 0..=30 * DAY),
            allow_http: r.flag("webhooks.allow_http"),
            allow_private: r.flag("webhooks.allow_private"),
            allowed: allowed.unwrap_or_default(),
        };
        if config.retry_first > config.retry_cap {
            r.conflict("webhooks.retry_first must not exceed webhooks.retry_cap");
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_networks_addresses_and_names() {
        for (text, shown) in [
            ("10.1.0.0/16", Some("Net(10.1.0.0/16)")),
            ("10.0.0.7", Some("Net(10.0.0.7/32)")),
            ("fd00::/8", Some("Net(fd00::/8)")),
            ("::1", Some("Net(::1/128)")),
            ("Gateway.Example", Some("Host(\"gateway.example\")")),
            ("localhost", Some("Host(\"localhost\")")),
            ("10.0.0", None),
            ("10.0.0.0/33", None),
            ("https://gateway", None),
            ("gateway:8080", None),
            ("a..b", None),
            ("", None),
        ] {
            let read = Destination::read(text).map(|found| format!("{found:?}"));
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }
}
