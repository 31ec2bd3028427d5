//! Who calls: the credentials of a request, and what else policies look at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, MatchedPath},
    http::{HeaderName, header, request::Parts},
};
use time::OffsetDateTime;

use super::{App, layers::head::RequestId, problem::Problem};
use crate::{
    identity::Credentials,
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
        let identified = app.identity.identify(&credentials).await?;
        let around = Circumstances {
            address,
            now: OffsetDateTime::now_utc(),
            issued_at: identified.issued_at,
            has_mfa: identified.has_mfa,
        };
        Ok(Self { who: identified.who, around, expires_at: identified.expires_at })
    }

    /// The same caller, at this moment.
    ///
    /// # Errors
    /// 401 where the credential has ended to be good.
    pub fn now(&self) -> Result<Self, Problem> {
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

/// What somebody wants by a request whose credential was refused.
pub fn unknown(parts: &Parts, permission: Permission) -> Deed {
    deed(Principal::Anonymous, address(parts), parts, permission)
}

fn deed(who: Principal, address: IpAddr, parts: &Parts, permission: Permission) -> Deed {
    let id = parts.extensions.get::<RequestId>().map_or("", RequestId::as_str);
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let named = named(route, parts.uri.path());
    Deed::new(who, address, id, permission, (parts.method.as_str(), route), named)
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
