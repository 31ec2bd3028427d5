//! From credentials to a principal.

use std::{fmt, sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{flaw::Flaw, presented::Presented, tokens::Tokens};
use crate::{config::AuthConfig, telemetry::names, tenancy::Principal};

/// What a request brings to say who asks.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Values of `Authorization`.
    pub authorization: &'a [&'a [u8]],
    /// Values of `x-api-key`.
    pub api_key: &'a [&'a [u8]],
}

/// Who asks, and what is known of how he said so.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Who.
    pub who: Principal,
    /// When the credential was issued, or whoever has it logged in, where it says so; the earlier.
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
    /// There is more than one.
    #[error("the request has more than one credential")]
    Ambiguous,
    /// `Authorization` has another scheme.
    #[error("the scheme of Authorization is not Bearer")]
    Scheme,
    /// A header with a credential cannot be read as one.
    #[error("the credential cannot be read")]
    Unreadable,
    /// The access token is not taken.
    #[error(transparent)]
    Token(#[from] Flaw),
    /// The key is nobody's.
    #[error("the credential is not valid")]
    Unknown,
    /// What is needed to verify the credential cannot be had just now.
    #[error("the keys of the token's issuer cannot be had")]
    Unavailable {
        /// When another try may do.
        retry_after: Duration,
    },
}

impl AuthError {
    /// The word for it, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Scheme => "scheme",
            Self::Unreadable => "unreadable",
            Self::Token(flaw) => flaw.as_str(),
            Self::Unknown => "unknown",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// Verifies credentials. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    is_on: bool,
    tokens: Tokens,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("is_on", &self.0.is_on).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// One by configuration.
    pub fn new(config: &AuthConfig) -> Self {
        Self(Arc::new(Inner { is_on: config.enabled, tokens: Tokens::new(config) }))
    }

    /// Says who asks.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn identify(&self, credentials: &Credentials<'_>) -> Result<Identified, AuthError> {
        if !self.0.is_on {
            let who = Principal::Anonymous;
            return Ok(Identified { who, issued_at: None, expires_at: None, has_mfa: false });
        }
        let identified = self.look_at(credentials).await;
        let outcome = identified.as_ref().map_or_else(|why| why.as_str(), |_| "ok");
        metrics::counter!(names::AUTHENTICATIONS, names::OUTCOME => outcome).increment(1);
        identified
    }

    async fn look_at(&self, credentials: &Credentials<'_>) -> Result<Identified, AuthError> {
        match Presented::read(credentials)? {
            Presented::Nothing => Err(AuthError::Missing),
            Presented::Token(token) => self.0.tokens.verify(token, OffsetDateTime::now_utc()).await,
            // A good API key was found before this (`api_key::presented`).
            Presented::Opaque(_) => Err(AuthError::Unknown),
        }
    }
}
