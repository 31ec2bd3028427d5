//! Keys of one issuer: fetched when they are first needed, kept, and fetched again.
//!
//! Holds: one fetch at a time, which goes on when who asked for it leaves; a key that nobody knows
//! makes one fetch in `auth.jwks_min_refresh`, whatever is asked, and however many ask; while the
//! issuer is away its keys stay good for [`GOOD_FOR`], and it is asked no more often than each
//! [`PAUSE`].

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::{
    fetch::Fetcher,
    jwk::{Key, KeySet},
};
use crate::{
    config::{Algorithm, IssuerConfig},
    telemetry::names,
};

/// How long keys are used that could not be fetched again.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
/// How long keys that are due are used while they are fetched beside requests.
const OVERDUE: Duration = Duration::from_secs(60);
/// Time between a fetch that failed and the next one.
const PAUSE: Duration = Duration::from_secs(5);

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer could not be asked; another try after that time may do.
    Unavailable(Duration),
}

/// What is known of an issuer's keys.
#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Until when they need not be fetched again.
    fresh_until: Option<Instant>,
    /// Until when they are used at all.
    good_until: Option<Instant>,
    /// Fetches that ended, however they did.
    attempts: u64,
    /// When the last fetch failed; `None`: it did not.
    failed: Option<Instant>,
    /// When a fetch was last made for a key that nobody knew.
    looked: Option<Instant>,
}

impl State {
    fn keys(&self, now: Instant) -> Option<&Arc<KeySet>> {
        self.keys.as_ref().filter(|_| self.good_until.is_some_and(|end| now < end))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until.is_some_and(|end| now < end)
    }

    /// Whether keys are due for longer than a fetch beside requests takes, of an issuer that is not
    /// away.
    fn is_old(&self, now: Instant) -> bool {
        self.failed.is_none() && self.fresh_until.is_some_and(|end| end + OVERDUE <= now)
    }

    fn pauses(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now < failed + PAUSE)
    }
}

/// The keys of one issuer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

struct Inner {
    /// What the issuer is called, for the log.
    name: String,
    fetcher: Fetcher,
    min_refresh: Duration,
    state: RwLock<State>,
    fetching: Arc<Mutex<()>>,
}

/// What a key was looked up in.
pub(super) struct Found {
    keys: Arc<KeySet>,
    kid: Option<String>,
    algorithm: Algorithm,
}

impl Found {
    /// The key.
    pub fn key(&self) -> Option<&Key> {
        self.keys.find(self.kid.as_deref(), self.algorithm)
    }
}

impl Keys {
    pub fn new(config: &IssuerConfig, min_refresh: Duration) -> Self {
        Self(Arc::new(Inner {
            name: config.name.clone(),
            fetcher: Fetcher::new(config),
            min_refresh,
            state: RwLock::default(),
            fetching: Arc::default(),
        }))
    }

    /// The key of a name for an algorithm.
    ///
    /// # Errors
    /// [`NoKey`].
    pub async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Found, NoKey> {
        let in_keys = |keys: &Arc<KeySet>| {
            let found = Found { keys: keys.clone(), kid: kid.map(str::to_owned), algorithm };
            found.key().is_some().then_some(found)
        };
        let (mut before, mut now) = (self.0.state(), Instant::now());
        if before.is_old(now) {
            // Nobody asked for a while, and keys may have been taken back since: the issuer is heard
            // first, unless it is known to be away.
            self.refresh(before.attempts, false).await;
            (before, now) = (self.0.state(), Instant::now());
        }
        let may_look = match before.keys(now) {
            Some(keys) => {
                if !before.is_fresh(now) {
                    self.refresh_behind();
                }
                if let Some(found) = in_keys(keys) {
                    return Ok(found);
                }
                !before.pauses(now)
                    && before.looked.is_none_or(|looked| looked + self.0.min_refresh <= now)
            }
            None => !before.pauses(now),
        };
        if may_look {
            self.refresh(before.attempts, before.keys(now).is_some()).await;
        }
        let (after, now) = (self.0.state(), Instant::now());
        if let Some(found) = after.keys(now).and_then(in_keys) {
            return Ok(found);
        }
        match after.failed {
            None if after.keys.is_some() => Err(NoKey::Unknown),
            failed => {
                let left = failed.map(|failed| (failed + PAUSE).saturating_duration_since(now));
                Err(NoKey::Unavailable(left.unwrap_or(PAUSE)))
            }
        }
    }

    /// Fetches the keys, unless somebody did since there had been `attempts`.
    async fn refresh(&self, attempts: u64, is_for_unknown: bool) {
        let turn = self.0.fetching.clone().lock_owned().await;
        if self.0.state().attempts != attempts {
            return;
        }
        let inner = self.0.clone();
        // A task of its own: who leaves early must neither stop it nor have it begun anew.
        let fetch = tokio::spawn(async move { inner.fetch(turn, is_for_unknown).await });
        if let Err(error) = fetch.await {
            tracing::error!(%error, "keys of an issuer could not be fetched");
        }
    }

    /// Has the keys fetched, unless that is being done, and waits for nothing.
    fn refresh_behind(&self) {
        let Ok(turn) = self.0.fetching.clone().try_lock_owned() else { return };
        let (state, now) = (self.0.state(), Instant::now());
        if state.pauses(now) || state.is_fresh(now) {
            return;
        }
        let inner = self.0.clone();
        tokio::spawn(async move { inner.fetch(turn, false).await });
    }

    /// Keys that are never fetched.
    #[cfg(test)]
    pub fn fixed(config: &IssuerConfig, jwks: &serde_json::Value) -> Self {
        let keys = Self::new(config, Duration::from_secs(3600));
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        *keys.0.state.write().unwrap() = State {
            keys: KeySet::read(jwks.to_string().as_bytes()).map(Arc::new),
            fresh_until: Some(later),
            good_until: Some(later),
            looked: Some(now),
            ..State::default()
        };
        keys
    }
}

impl Inner {
    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, turn: OwnedMutexGuard<()>, is_for_unknown: bool) {
        let fetched = self.fetcher.keys().await;
        let now = Instant::now();
        let outcome = if fetched.is_ok() { "ok" } else { "error" };
        metrics::counter!(names::JWKS_FETCHES, names::OUTCOME => outcome).increment(1);
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.attempts += 1;
            if is_for_unknown {
                state.looked = Some(now);
            }
            match fetched {
                Ok((keys, fresh)) => {
                    state.keys = Some(Arc::new(keys));
                    state.fresh_until = Some(now + fresh);
                    state.good_until = Some(now + GOOD_FOR);
                    state.failed = None;
                }
                Err(error) => {
                    state.failed = Some(now);
                    tracing::warn!(issuer = self.name, %error, "the issuer's keys cannot be had");
                }
            }
        }
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    /// An issuer that nobody can reach: its port was somebody's a moment ago.
    fn unreachable() -> IssuerConfig {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let list = format!(
            r#"[{{name = "a", issuer = "http://127.0.0.1:{port}", audience = "a", partitions = "*"}}]"#
        );
        let environment =
            vec![("HOME".into(), "/x".into()), ("COLLIMATOR__AUTH__ISSUERS".into(), list.into())];
        let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap();
        config.auth.issuers[0].clone()
    }

    #[tokio::test]
    async fn keys_outlive_their_freshness_and_not_for_ever() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let coordinate = "A".repeat(43);
        let jwks = serde_json::json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "k", "x": coordinate, "y": coordinate },
        ] });
        let keys = Keys::fixed(&unreachable(), &jwks);
        let find = async || keys.find(Some("k"), Algorithm::Es256).await.map(|_| ());
        keys.0.state.write().unwrap().fresh_until = Some(Instant::now());
        assert_eq!(find().await, Ok(()));
        // The issuer is asked beside that, in vain.
        while keys.0.state().attempts == 0 {
            tokio::task::yield_now().await;
        }
        assert!(keys.0.state().failed.is_some());
        assert_eq!(find().await, Ok(()));
        keys.0.state.write().unwrap().good_until = Some(Instant::now());
        assert!(matches!(find().await, Err(NoKey::Unavailable(wait)) if wait <= PAUSE));
    }
}
