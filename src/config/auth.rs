//! `[auth]`: who may ask.

use std::time::Duration;

use super::{issuer::IssuerConfig, reader::Reader};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// `[auth]`: how requests say who asks.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `auth.enabled`: whether requests need a credential.
    pub enabled: bool,
    /// `auth.clock_skew`: how far clocks of issuers may be off.
    pub clock_skew: Duration,
    /// `auth.jwks_min_refresh`: time between two looks for keys that nobody knows.
    pub jwks_min_refresh: Duration,
    /// `auth.issuers`: whose access tokens are taken. Names are unique, and so are the issuers.
    pub issuers: Vec<IssuerConfig>,
    /// `auth.api_keys`: whether API keys are taken.
    pub api_keys: bool,
    /// `auth.cache`: how long what partitions know of principals is believed.
    pub cache: Duration,
    /// `auth.failures`: credentials that may fail from one address within the window.
    pub failures: u32,
    /// `auth.failure_window`: time in which failures are forgotten.
    pub failure_window: Duration,
    /// `auth.open_metrics`: whether `/metrics` needs no credential.
    pub open_metrics: bool,
}

impl AuthConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            enabled: r.flag("auth.enabled"),
            clock_skew: r.time("auth.clock_skew", 0..=5 * MINUTE),
            jwks_min_refresh: r.time("auth.jwks_min_refresh", 1..=HOUR),
            issuers: IssuerConfig::read_all(r, "auth.issuers"),
            failures: r.count("auth.failures", 1..=1_000_000),
            failure_window: r.time("auth.failure_window", 1..=24 * HOUR),
            open_metrics: r.flag("auth.open_metrics"),
            api_keys: r.flag("auth.api_keys"),
            cache: r.time("auth.cache", 0..=60),
        };
        // Everything that can vouch for somebody; with none of it nobody could ever ask.
        let certificates = r.merged.get("tls.principals").and_then(|slot| slot.value.as_array());
        let vouches = [
            !config.issuers.is_empty(),
            config.api_keys,
            certificates.is_some_and(|principals| !principals.is_empty()),
        ];
        if config.enabled && !vouches.contains(&true) {
            r.conflict(
                "auth.enabled needs somebody who vouches for those who ask: name an issuer of \
                 access tokens in [[auth.issuers]], or certificates in [[tls.principals]], or let API \
                 keys do it (auth.api_keys)",
            );
        }
        config
    }
}
