//! Access tokens of the issuers of the configuration, verified.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;

use super::{
    authenticator::{AuthError, Identified},
    claims,
    flaw::Flaw,
    jws::Jws,
    keys::{Keys, NoKey},
    seen::Seen,
};
use crate::config::{AuthConfig, IssuerConfig};

struct Issuer {
    config: IssuerConfig,
    keys: Keys,
}

/// Verifies tokens.
pub(super) struct Tokens {
    /// By `iss`.
    issuers: HashMap<String, Issuer>,
    skew: Duration,
    seen: Seen,
}

impl Tokens {
    pub fn new(config: &AuthConfig) -> Self {
        let issuer = |one: &IssuerConfig| {
            let keys = Keys::new(one, config.jwks_min_refresh);
            (one.issuer.clone(), Issuer { config: one.clone(), keys })
        };
        let issuers = config.issuers.iter().map(issuer).collect();
        Self { issuers, skew: config.clock_skew, seen: Seen::default() }
    }

    /// Who a token speaks for.
    ///
    /// The issuer is picked by `iss` before anything is fetched, and only its keys are looked at:
    /// one issuer can never speak for another. Claims are looked at once the signature is known to
    /// be good.
    ///
    /// # Errors
    /// [`AuthError::Token`], or [`AuthError::Unavailable`] where keys are needed and cannot be had.
    pub async fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Identified, AuthError> {
        if let Some(identified) = self.seen.get(token, now) {
            return Ok(identified);
        }
        let jws = Jws::read(token)?;
        let issuer = jws.claims.get("iss").and_then(serde_json::Value::as_str);
        let issuer = issuer.and_then(|issuer| self.issuers.get(issuer)).ok_or(Flaw::Issuer)?;
        if !issuer.config.algorithms.contains(&jws.algorithm) {
            return Err(Flaw::Algorithm.into());
        }
        let found = issuer.keys.find(jws.kid.as_deref(), jws.algorithm).await;
        let found = found.map_err(|why| match why {
            NoKey::Unknown => AuthError::Token(Flaw::Key),
            NoKey::Unavailable(retry_after) => AuthError::Unavailable { retry_after },
        })?;
        let key = found.key().ok_or(Flaw::Key)?;
        if !key.verifies(jws.algorithm, jws.signed, &jws.signature) {
            return Err(Flaw::Signature.into());
        }
        let identified = claims::read(&issuer.config, &jws.claims, now, self.skew)?;
        self.seen.put(token, &identified, now);
        Ok(identified)
    }

    /// With keys that are there already.
    #[cfg(test)]
    pub fn with_keys(config: &AuthConfig, jwks: &[&serde_json::Value]) -> Self {
        let mut tokens = Self::new(config);
        for (one, jwks) in config.issuers.iter().zip(jwks) {
            if let Some(issuer) = tokens.issuers.get_mut(&one.issuer) {
                issuer.keys = Keys::fixed(one, jwks);
            }
        }
        tokens
    }
}
