//! `[auth]`: who may ask.

use super::reader::Reader;

/// `[auth]`: how requests say who asks.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `auth.enabled`: whether requests need a credential.
    pub enabled: bool,
}

impl AuthConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { enabled: r.flag("auth.enabled") }
    }
}
