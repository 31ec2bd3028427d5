//! From credentials to a principal.

use std::net::IpAddr;

use time::OffsetDateTime;

use crate::{config::AuthConfig, tenancy::Principal};

/// What a request brings to say who asks.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Values of `Authorization`.
    pub authorization: &'a [&'a [u8]],
    /// Values of `x-api-key`.
    pub api_key: &'a [&'a [u8]],
    /// Where it comes from, as far as proxies are trusted.
    pub address: IpAddr,
}

/// Who asks, and what is known of how he said so.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Who.
    pub who: Principal,
    /// When the credential was issued, where it says so.
    pub issued_at: Option<OffsetDateTime>,
    /// When it ends to be good, where it does.
    pub expires_at: Option<OffsetDateTime>,
    /// Whether more than one factor was asked for.
    pub has_mfa: bool,
}

/// Why nobody was found to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential.
    #[error("the request has no credential")]
    Missing,
}

/// Verifies credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticator {
    is_on: bool,
}

impl Authenticator {
    /// One by configuration.
    pub fn new(config: &AuthConfig) -> Self {
        Self { is_on: config.enabled }
    }

    /// Says who asks.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn identify(&self, _: &Credentials<'_>) -> Result<Identified, AuthError> {
        if self.is_on {
            return Err(AuthError::Missing);
        }
        let who = Principal::Anonymous;
        Ok(Identified { who, issued_at: None, expires_at: None, has_mfa: false })
    }
}
