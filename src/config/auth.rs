//! `[auth]`: who may ask.

use std::time::Duration;

use super::reader::Reader;

/// `[auth]`: how requests say who asks.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `auth.enabled`: whether requests need a credential.
    pub enabled: bool,
    /// `auth.api_keys`: whether API keys are taken.
    pub api_keys: bool,
    /// `auth.cache`: how long what partitions know of principals is believed.
    pub cache: Duration,
}

impl AuthConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            enabled: r.flag("auth.enabled"),
            api_keys: r.flag("auth.api_keys"),
            cache: r.time("auth.cache", 0..=60),
        }
    }
}
