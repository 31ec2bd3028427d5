//! `[auth]`: who may ask.

use std::time::Duration;

use super::reader::Reader;

/// `[auth]`: how requests say who asks.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `auth.enabled`: whether requests need a credential.
    pub enabled: bool,
    /// `auth.failures`: credentials that may fail from one address within the window.
    pub failures: u32,
    /// `auth.failure_window`: time in which failures are forgotten.
    pub failure_window: Duration,
    /// `auth.open_metrics`: whether `/metrics` needs no credential.
    pub open_metrics: bool,
}

impl AuthConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            enabled: r.flag("auth.enabled"),
            failures: r.count("auth.failures", 1..=1_000_000),
            failure_window: r.time("auth.failure_window", 1..=24 * 3600),
            open_metrics: r.flag("auth.open_metrics"),
        }
    }
}
