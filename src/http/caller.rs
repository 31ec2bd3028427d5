//! Who calls: the credentials of a request, and what else policies look at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, MatchedPath},
    http::{HeaderName, header, request::Parts},
};
use time::OffsetDateTime;

use super::{App, layers::head::RequestId, problem::Problem};
use crate::{
    archive::ArchiveError,
    identity::{
        Credentials,
        api_key::{self, Presented, PresentedKey},
    },
    tenancy::{Circumstances, Deed, Permission, Principal},
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
    /// Finds out who calls.
    ///
    /// # Errors
    /// 401.
    pub async fn of(app: &App, parts: &Parts) -> Result<Self, Problem> {
        let address = address(parts);
        let values = |name: HeaderName| -> Vec<&[u8]> {
            parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect()
        };
        let (authorization, api_key) = (values(header::AUTHORIZATION), values(X_API_KEY));
        let credentials = Credentials { authorization: &authorization, api_key: &api_key, address };
        let now = OffsetDateTime::now_utc();
        if app.keys.is_on() {
            match api_key::presented(&credentials) {
                Presented::Nothing => {}
                Presented::Key(key) => return Self::by_key(app, key, address).await,
                Presented::Wrong => return Err(not_a_key()),
            }
        }
        let identified = app.identity.identify(&credentials).await?;
        let around = Circumstances {
            address,
            now,
            issued_at: identified.issued_at,
            has_mfa: identified.has_mfa,
        };
        let (who, expires_at) = (identified.who, identified.expires_at);
        Ok(Self { who, around, expires_at, key: None })
    }

    /// Who holds an API key, whatever is wrong with it answered alike.
    async fn by_key(app: &App, key: PresentedKey, address: IpAddr) -> Result<Self, Problem> {
        let now = OffsetDateTime::now_utc();
        let held = app.keys.holder(&key.partition, key.id, &key.hash, now).await;
        let held = held.map_err(ArchiveError::from)?.ok_or_else(not_a_key)?;
        let around = Circumstances { address, now, issued_at: None, has_mfa: false };
        Ok(Self { who: held.who, around, expires_at: held.expires_at, key: Some(key) })
    }

    /// The same caller, found out about once more.
    ///
    /// # Errors
    /// As [`Caller::of`].
    pub async fn again(&self, app: &App) -> Result<Self, Problem> {
        match &self.key {
            Some(key) => Self::by_key(app, key.clone(), self.around.address).await,
            None => self.now(),
        }
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
        let id = parts.extensions.get::<RequestId>().map_or("", RequestId::as_str);
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let named = named(route, parts.uri.path());
        let call = (parts.method.as_str(), route);
        Deed::new(self.who.clone(), self.around.address, id, permission, call, named)
    }
}

fn not_a_key() -> Problem {
    Problem::unauthorized("the API key is not valid")
}

/// Where a request comes from.
fn address(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical())
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
