//! Who calls: the credentials of a request, and what else policies look at.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::MatchedPath,
    http::{HeaderName, header, request::Parts},
};
use time::OffsetDateTime;

use super::{
    App, forwarded,
    layers::head::RequestId,
    link_query::Presented,
    links::{self, Bad},
    problem::Problem,
};
use crate::{
    archive::ArchiveError,
    control::{KeyHolder, NotGood},
    identity::{
        AuthError, Credentials, PeerCertificate, RetryAfter,
        api_key::{self, Presented as Key, PresentedKey},
    },
    tenancy::{Circumstances, Deed, Known, Permission, Principal},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who calls, and how.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub who: Principal,
    /// What policies look at.
    pub around: Circumstances,
    /// When the credential ends to be good, where it does.
    pub expires_at: Option<OffsetDateTime>,
    /// The API key by which he calls, where it is one.
    key: Option<PresentedKey>,
}

impl Caller {
    /// Finds out who calls: by a signed URL, where it is one, whatever else the request brings;
    /// else by what its headers say; else by the certificate of its connection.
    ///
    /// # Errors
    /// 401; 404 for what a link is not for; 429 after too many credentials that were wrong.
    pub async fn of(app: &App, parts: &Parts) -> Result<Self, Problem> {
        let address = forwarded::address(parts, &app.server);
        if let Some(presented) = parts.extensions.get::<Presented>() {
            // Counted apart: any page can have its reader's browser ask for a link that is wrong.
            let throttle = &app.edge.link_throttle;
            throttle.allows(address)?;
            let verified = links::verify(app, parts, presented).await;
            let (who, end) = verified.map_err(|bad| match bad {
                Bad::Wrong => match throttle.failed(address, None) {
                    Ok(()) => Problem::unauthorized("the link is not valid"),
                    Err(wait) => wait.into(),
                },
                Bad::Other(problem) => problem,
            })?;
            let end = OffsetDateTime::from_unix_timestamp(end).ok();
            return Ok(Self::known(who.into(), address, end));
        }
        let throttle = &app.edge.throttle;
        let values = |name: HeaderName| -> Vec<&[u8]> {
            parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect()
        };
        let (authorization, api_key) = (values(header::AUTHORIZATION), values(X_API_KEY));
        let is_silent = authorization.is_empty() && api_key.is_empty();
        if app.edge.is_auth_on
            && is_silent
            && let Some(peer) = parts.extensions.get::<Arc<PeerCertificate>>()
        {
            return Self::with_certificate(peer, address);
        }
        let credentials = Credentials { authorization: &authorization, api_key: &api_key };
        let is_guarded = app.edge.is_auth_on && !is_silent;
        if is_guarded {
            throttle.allows(address)?;
        }
        if app.edge.is_auth_on && authorization.len() + api_key.len() > 1 {
            // Which one counts is not for the server to guess.
            return Err(AuthError::Ambiguous.into());
        }
        let now = OffsetDateTime::now_utc();
        if app.keys.is_on() {
            match api_key::presented(&credentials) {
                Key::Nothing => {}
                Key::Key(key) => {
                    let id = key.id.simple().to_string();
                    return match Self::by_key(app, key, address).await? {
                        Ok(caller) => Ok(caller),
                        // Nobody guesses a key that was good once.
                        Err(NotGood::Over) => Err(not_a_key(Ok(()))),
                        Err(NotGood::Unknown) => {
                            Err(not_a_key(throttle.failed(address, Some(&id))))
                        }
                    };
                }
                Key::Wrong => return Err(not_a_key(throttle.failed(address, None))),
            }
        }
        let identified = match app.identity.identify(&credentials).await {
            Ok(identified) => identified,
            Err(error) => {
                if is_guarded && is_guess(&error) {
                    throttle.failed(address, None)?;
                }
                return Err(error.into());
            }
        };
        let around = Circumstances {
            address,
            now,
            issued_at: identified.issued_at,
            has_mfa: identified.has_mfa,
        };
        let (who, expires_at) = (identified.who, identified.expires_at);
        Ok(Self { who, around, expires_at, key: None })
    }

    /// Who holds an API key, or why nobody does.
    async fn by_key(
        app: &App,
        key: PresentedKey,
        address: IpAddr,
    ) -> Result<Result<Self, NotGood>, Problem> {
        // While all is in one partition, keys of others are nobody's.
        if !app.partitions.enabled() && !key.partition.is_default() {
            return Ok(Err(NotGood::Unknown));
        }
        let now = OffsetDateTime::now_utc();
        let held = app.keys.holder(&key.partition, key.id, &key.hash, now).await;
        let around = Circumstances { address, now, issued_at: None, has_mfa: false };
        let caller = |held: KeyHolder| Self {
            who: held.who,
            around,
            expires_at: held.expires_at,
            key: Some(key),
        };
        Ok(held.map_err(ArchiveError::from)?.map(caller))
    }

    /// The same caller, found out about once more.
    ///
    /// # Errors
    /// As [`Caller::of`].
    pub async fn again(&self, app: &App) -> Result<Self, Problem> {
        match &self.key {
            Some(key) => {
                let held = Self::by_key(app, key.clone(), self.around.address).await?;
                held.map_err(|_| not_a_key(Ok(())))
            }
            None => self.now(),
        }
    }

    /// By a certificate that the handshake verified, perhaps a while ago.
    fn with_certificate(peer: &PeerCertificate, address: IpAddr) -> Result<Self, Problem> {
        let Some(who) = &peer.who else {
            return Err(Problem::unauthorized("the certificate is nobody's that is known here"));
        };
        Self::known(who.clone(), address, Some(peer.expires_at)).now()
    }

    fn known(who: Arc<Known>, address: IpAddr, expires_at: Option<OffsetDateTime>) -> Self {
        let now = OffsetDateTime::now_utc();
        let around = Circumstances { address, now, issued_at: None, has_mfa: false };
        Self { who: Principal::Known(who), around, expires_at, key: None }
    }

    /// The same caller, at this moment.
    ///
    /// # Errors
    /// 401 where the credential has ended to be good.
    fn now(&self) -> Result<Self, Problem> {
        let now = OffsetDateTime::now_utc();
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Problem::unauthorized("the credential has expired"));
        }
        Ok(Self { around: Circumstances { now, ..self.around }, ..self.clone() })
    }

    /// What the caller does by a request.
    pub fn deed(&self, parts: &Parts, permission: Permission) -> Deed {
        deed(self.who.clone(), self.around.address, parts, permission)
    }
}

/// Whether a credential may have been made up: such failures are counted. Those that were good once,
/// or are good elsewhere, say nothing of who has them.
fn is_guess(error: &AuthError) -> bool {
    match error {
        AuthError::Token(flaw) => !flaw.is_of_its_issuer(),
        AuthError::Unknown | AuthError::Unreadable => true,
        AuthError::Missing
        | AuthError::Ambiguous
        | AuthError::Scheme
        | AuthError::Unavailable { .. } => false,
    }
}

/// What is answered to a key that is not good, as the count of such failures says.
fn not_a_key(counted: Result<(), RetryAfter>) -> Problem {
    match counted {
        Ok(()) => Problem::unauthorized("the API key is not valid"),
        Err(wait) => wait.into(),
    }
}

/// What somebody wants by a request whose credential was refused.
pub fn unknown(app: &App, parts: &Parts, permission: Permission) -> Deed {
    let address = forwarded::address(parts, &app.server);
    deed(Principal::Anonymous, address, parts, permission)
}

fn deed(who: Principal, address: IpAddr, parts: &Parts, permission: Permission) -> Deed {
    let id = parts.extensions.get::<RequestId>().map_or("", RequestId::as_str);
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let named = named(route, parts.uri.path());
    Deed::new(who, address, id, permission, (parts.method.as_str(), route), named)
}

/// The parameters of a path and their values, but for the partition, which a scope has.
fn named(route: &str, path: &str) -> Vec<(Box<str>, Box<str>)> {
    let segments = route.split('/').zip(path.split('/'));
    let parameters = segments.filter_map(|(template, value)| {
        let name = template.strip_prefix('{')?.strip_suffix('}')?;
        let is_whole = !name.starts_with('*') && name != "partition" && value.len() <= 64;
        is_whole.then(|| (name.into(), value.into()))
    });
    parameters.collect()
}
