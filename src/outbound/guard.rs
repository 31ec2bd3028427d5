//! What the configuration lets be called: URLs as they are written, and addresses as they are found.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::address::{carried, is_public};
use crate::config::{Destination, WebhooksConfig};

/// Longest URL, in bytes.
const LONGEST: usize = 2048;
/// Names that are looked up at the same time for those who add webhooks, and for how long.
const LOOKUPS: usize = 8;
const LOOKUP: Duration = Duration::from_secs(3);

/// Why a URL is not called. The text never repeats it, and never says what a name resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// It is none.
    #[error("not an absolute URL")]
    NoUrl,
    /// It is too long.
    #[error("longer than 2048 bytes")]
    TooLong,
    /// It is not of the web.
    #[error("its scheme has to be https")]
    Scheme,
    /// It is plain, which `webhooks.allow_http` does not allow.
    #[error("its scheme has to be https (http is for servers with webhooks.allow_http)")]
    Plain,
    /// It has a user name or a password.
    #[error("must have no user name and no password")]
    UserInfo,
    /// Its address, or what its name resolves to, is not one to be called.
    #[error(
        "does not lead to a public address (others are for servers with webhooks.allowed or \
         webhooks.allow_private)"
    )]
    Address,
}

/// A name resolves to nothing that may be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the name resolves to no address that may be called")]
pub(super) struct Forbidden;

/// Decides what may be called. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    allow_http: bool,
    allow_private: bool,
    allowed: Vec<Destination>,
    lookups: Arc<Semaphore>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard by `[webhooks]`.
    pub fn new(config: &WebhooksConfig) -> Self {
        Self(Arc::new(Inner {
            allow_http: config.allow_http,
            allow_private: config.allow_private,
            allowed: config.allowed.clone(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }))
    }

    /// The URL, where what is written may be called. What a name resolves to is another question.
    ///
    /// # Errors
    /// [`UrlRefusal`].
    pub fn check(&self, text: &str) -> Result<Url, UrlRefusal> {
        if text.len() > LONGEST {
            return Err(UrlRefusal::TooLong);
        }
        let mut url = Url::parse(text).map_err(|_| UrlRefusal::NoUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if self.0.allow_http => {}
            "http" => return Err(UrlRefusal::Plain),
            _ => return Err(UrlRefusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefusal::UserInfo);
        }
        let address = match url.host() {
            None => return Err(UrlRefusal::NoUrl),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        if address.is_some_and(|address| !self.may_call(address)) {
            return Err(UrlRefusal::Address);
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// As [`Guard::check`]; a name has to resolve to what may be called as well, as far as that can
    /// be found out in time. One that resolves to nothing is refused alike.
    ///
    /// # Errors
    /// [`UrlRefusal`].
    pub async fn check_resolved(&self, text: &str) -> Result<Url, UrlRefusal> {
        let url = self.check(text)?;
        let Some(Host::Domain(name)) = url.host() else { return Ok(url) };
        // Where many ask at once it is left to the delivery.
        let Ok(permit) = self.0.lookups.clone().try_acquire_owned() else { return Ok(url) };
        let (guard, name) = (self.clone(), name.to_owned());
        // A lookup cannot be called off: it holds its permit until it has ended.
        let lookup = tokio::spawn(async move {
            let found = guard.resolve(&name).await.is_ok();
            drop(permit);
            found
        });
        match tokio::time::timeout(LOOKUP, lookup).await {
            Ok(Ok(false)) => Err(UrlRefusal::Address),
            _ => Ok(url),
        }
    }

    /// The addresses of a name that may be called, with port 0.
    pub(super) async fn resolve(
        &self,
        name: &str,
    ) -> Result<Vec<std::net::SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let is_named = self.is_named(name);
        let found = tokio::net::lookup_host((name, 0)).await?;
        let kept: Vec<_> = found.filter(|at| is_named || self.may_call(at.ip())).collect();
        if kept.is_empty() { Err(Forbidden.into()) } else { Ok(kept) }
    }

    /// Whether the configuration names the host.
    fn is_named(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.0.allowed.iter().any(|it| match it {
            Destination::Host(host) => host.eq_ignore_ascii_case(name),
            Destination::Net(_) => false,
        })
    }

    fn may_call(&self, address: IpAddr) -> bool {
        let inner = match address {
            IpAddr::V6(address) => carried(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let in_net = |address: &IpAddr| {
            self.0.allowed.iter().any(|it| match it {
                Destination::Net(net) => net.contains(address),
                Destination::Host(_) => false,
            })
        };
        self.0.allow_private
            || is_public(address)
            || in_net(&address)
            || inner.as_ref().is_some_and(in_net)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = Self::resolve(&guard, name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[Destination], allow_http: bool, allow_private: bool) -> Guard {
        let allowed = allowed.to_vec();
        Guard::new(&WebhooksConfig {
            allowed,
            allow_http,
            allow_private,
            ..WebhooksConfig::default()
        })
    }

    #[test]
    fn urls_are_refused_by_what_is_written() {
        let strict = guard(&[], false, false);
        for (text, refusal) in [
            ("", UrlRefusal::NoUrl),
            ("/hook", UrlRefusal::NoUrl),
            ("https://", UrlRefusal::NoUrl),
            ("https://[::1", UrlRefusal::NoUrl),
            ("ftp://hooks.example/", UrlRefusal::Scheme),
            ("file:///etc/passwd", UrlRefusal::Scheme),
            ("gopher://hooks.example/", UrlRefusal::Scheme),
            ("javascript:alert(1)", UrlRefusal::Scheme),
            ("http://hooks.example/", UrlRefusal::Plain),
            ("https://me@hooks.example/", UrlRefusal::UserInfo),
            ("https://me:pass@hooks.example/", UrlRefusal::UserInfo),
            ("https://:pass@hooks.example/", UrlRefusal::UserInfo),
            ("https://127.0.0.1/", UrlRefusal::Address),
            ("https://127.1/", UrlRefusal::Address),
            ("https://2130706433/", UrlRefusal::Address),
            ("https://0x7f000001/", UrlRefusal::Address),
            ("https://0177.0.0.1/", UrlRefusal::Address),
            ("https://127.0.0.1./", UrlRefusal::Address),
            ("https://①②⑦.0.0.1/", UrlRefusal::Address),
            ("https://[::1]:8443/", UrlRefusal::Address),
            ("https://[::ffff:169.254.169.254]/", UrlRefusal::Address),
            ("https://169.254.169.254/latest/meta-data/", UrlRefusal::Address),
            ("https://10.0.0.7/", UrlRefusal::Address),
        ] {
            assert_eq!(strict.check(text).unwrap_err(), refusal, "{text}");
        }
        let long = format!("https://hooks.example/{}", "x".repeat(LONGEST));
        assert_eq!(strict.check(&long).unwrap_err(), UrlRefusal::TooLong);
        let kept = strict.check("HTTPS://Hooks.Example:8443/in?key=1#part").unwrap();
        assert_eq!(kept.as_str(), "https://hooks.example:8443/in?key=1");
    }

    #[test]
    fn what_is_configured_may_be_called() {
        let net = |text: &str| Destination::Net(text.parse().unwrap());
        let some = guard(&[net("10.1.0.0/16"), net("fd00::/8")], true, false);
        for (text, fine) in [
            ("http://10.1.2.3/", true),
            ("http://10.2.0.1/", false),
            ("http://[::ffff:10.1.2.3]/", true),
            ("http://[fd00::1]/", true),
            ("http://[fe80::1]/", false),
        ] {
            assert_eq!(some.check(text).is_ok(), fine, "{text}");
        }
        assert!(guard(&[], true, true).check("http://127.0.0.1:8080/").is_ok());
    }

    #[tokio::test]
    async fn names_are_refused_by_what_they_resolve_to() {
        let url = "https://localhost:8443/";
        let strict = guard(&[], false, false);
        assert!(strict.check(url).is_ok());
        assert_eq!(strict.check_resolved(url).await.unwrap_err(), UrlRefusal::Address);
        let nowhere = "https://no-such-name.invalid/";
        assert_eq!(strict.check_resolved(nowhere).await.unwrap_err(), UrlRefusal::Address);
        let named = guard(&[Destination::Host("localhost".into())], false, false);
        assert!(named.check_resolved(url).await.is_ok());
        assert!(named.is_named("LOCALHOST.") && !named.is_named("localhost.example"));
        assert!(named.check("https://127.0.0.1/").is_err());
        let by_net = guard(&[Destination::Net("127.0.0.0/8".parse().unwrap())], false, false);
        let found = by_net.resolve("localhost").await.unwrap();
        assert!(found.iter().all(|at| at.is_ipv4()), "{found:?}");
    }
}
