//! Failed credentials, counted, so that nobody can try them by the million.
//!
//! Each address has a bucket of tokens: a failure takes one, and they come back evenly over the
//! window. Who has none left is not looked at, right or wrong. Each name that was tried (the id of a
//! key) has a bucket as well, which all addresses share: where it is empty a wrong credential is
//! answered with 429 in place of 401, and a right one still counts, so that nobody can lock somebody
//! else out. A success gives nothing back: who has a credential of his own gets no more tries at
//! those of others.
//!
//! Holds: memory is bounded. Buckets are kept for two windows at the most, in two halves; where a
//! half is full, the older one goes early.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;

use crate::{config::AuthConfig, telemetry::names};

/// Buckets in one half.
const HALF: usize = 1 << 16;
/// Bytes of a name that tell it from others.
const NAME: usize = 64;

/// There were too many failures: when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many credentials have failed")]
pub struct RetryAfter(pub Duration);

/// Counts failures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Tokens of a full bucket.
    failures: f64,
    window: Duration,
    buckets: Mutex<Buckets>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// An address; of IPv6 the network that one subscriber has.
    Address(IpAddr),
    Name(Box<str>),
}

/// Tokens that were taken and did not come back yet, and when that was so.
#[derive(Clone, Copy, Debug)]
struct Taken {
    count: f64,
    at: Instant,
}

#[derive(Debug)]
struct Buckets {
    young: HashMap<Key, Taken>,
    old: HashMap<Key, Taken>,
    since: Instant,
}

impl Throttle {
    /// One by configuration.
    pub fn new(config: &AuthConfig) -> Self {
        let buckets = Buckets { young: HashMap::new(), old: HashMap::new(), since: Instant::now() };
        Self(Arc::new(Inner {
            failures: f64::from(config.failures),
            window: config.failure_window,
            buckets: Mutex::new(buckets),
        }))
    }

    /// Whether credentials from an address are looked at.
    ///
    /// # Errors
    /// When they will be again.
    pub fn allows(&self, address: IpAddr) -> Result<(), RetryAfter> {
        self.allows_at(address, Instant::now())
    }

    /// Notes that a credential from an address was wrong; `name` is what it called itself.
    ///
    /// # Errors
    /// Where credentials of that name fail too often, wherever from: what to answer.
    pub fn failed(&self, address: IpAddr, name: Option<&str>) -> Result<(), RetryAfter> {
        self.failed_at(address, name, Instant::now())
    }

    fn allows_at(&self, address: IpAddr, now: Instant) -> Result<(), RetryAfter> {
        let allowed = self.0.left(&Key::of(address), now);
        if allowed.is_err() {
            counter!(names::AUTH_THROTTLED).increment(1);
        }
        allowed
    }

    fn failed_at(
        &self,
        address: IpAddr,
        name: Option<&str>,
        now: Instant,
    ) -> Result<(), RetryAfter> {
        counter!(names::AUTH_FAILURES).increment(1);
        self.0.take(Key::of(address), now);
        let Some(name) = name else { return Ok(()) };
        let cut = name.floor_char_boundary(NAME);
        let key = Key::Name(name[..cut].into());
        let left = self.0.left(&key, now);
        self.0.take(key, now);
        left
    }
}

impl Inner {
    /// Tokens that come back in a second.
    fn rate(&self) -> f64 {
        self.failures / self.window.as_secs_f64()
    }

    fn now_of(&self, taken: Taken, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(taken.at).as_secs_f64();
        (taken.count - passed * self.rate()).max(0.0)
    }

    /// Whether there is a token.
    fn left(&self, key: &Key, now: Instant) -> Result<(), RetryAfter> {
        // Maps cannot be left half-changed.
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taken) = buckets.get(key) else { return Ok(()) };
        let lacking = self.now_of(taken, now) + 1.0 - self.failures;
        match lacking > 0.0 {
            true => Err(RetryAfter(Duration::from_secs_f64((lacking / self.rate()).ceil()))),
            false => Ok(()),
        }
    }

    /// Takes a token, where there is one.
    fn take(&self, key: Key, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = now.saturating_duration_since(buckets.since) >= self.window;
        if is_over || buckets.young.len() >= HALF {
            // What is older than a window has all its tokens.
            buckets.old = std::mem::take(&mut buckets.young);
            buckets.since = now;
        }
        let before = buckets.get(&key).map_or(0.0, |taken| self.now_of(taken, now));
        buckets.old.remove(&key);
        buckets.young.insert(key, Taken { count: (before + 1.0).min(self.failures), at: now });
    }
}

impl Buckets {
    fn get(&self, key: &Key) -> Option<Taken> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }
}

impl Key {
    fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(six) => {
                let [a, b, c, d, ..] = six.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            four @ IpAddr::V4(_) => four,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(failures: u32, seconds: u64) -> (Throttle, Instant) {
        let failure_window = Duration::from_secs(seconds);
        let throttle =
            Throttle::new(&AuthConfig { failures, failure_window, ..Default::default() });
        (throttle, Instant::now())
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_failures_and_they_are_forgotten_evenly() {
        let (throttle, start) = throttle(3, 30);
        let (one, other) = (at("192.0.2.1"), at("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(throttle.allows_at(one, start), Ok(()));
            throttle.failed_at(one, None, start).unwrap();
        }
        assert_eq!(throttle.allows_at(one, start), Err(RetryAfter(Duration::from_secs(10))));
        assert_eq!(throttle.allows_at(other, start), Ok(()));
        let later = start + Duration::from_secs(10);
        assert_eq!(throttle.allows_at(one, later), Ok(()));
        throttle.failed_at(one, None, later).unwrap();
        assert!(throttle.allows_at(one, later).is_err());
        assert_eq!(throttle.allows_at(one, later + Duration::from_secs(30)), Ok(()));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_address_is_what_it_maps() {
        let (throttle, now) = throttle(1, 30);
        throttle.failed_at(at("2001:db8:1:2::1"), None, now).unwrap();
        assert!(throttle.allows_at(at("2001:db8:1:2:ffff::9"), now).is_err());
        assert!(throttle.allows_at(at("2001:db8:1:3::1"), now).is_ok());
        throttle.failed_at(at("::ffff:192.0.2.1"), None, now).unwrap();
        assert!(throttle.allows_at(at("192.0.2.1"), now).is_err());
    }

    #[test]
    fn a_name_that_many_try_is_told_to_wait_and_nobody_else_is() {
        let (throttle, now) = throttle(2, 30);
        let answers: Vec<bool> = (1..=4)
            .map(|n| throttle.failed_at(at(&format!("192.0.2.{n}")), Some("key"), now).is_err())
            .collect();
        assert_eq!(answers, [false, false, true, true]);
        assert!(throttle.failed_at(at("192.0.2.9"), Some("another"), now).is_ok());
        // Whoever holds the key is still let in from elsewhere.
        assert!(throttle.allows_at(at("198.51.100.1"), now).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_who_goes_on_is_not_forgotten() {
        let (throttle, now) = throttle(2, 3600);
        let attacker = at("192.0.2.1");
        for n in 0..3 * HALF as u32 {
            if n % 10_000 == 0 {
                throttle.failed_at(attacker, None, now).unwrap();
            }
            throttle.failed_at(IpAddr::V4(n.into()), None, now).unwrap();
        }
        assert!(throttle.allows_at(attacker, now).is_err());
        let buckets = throttle.0.buckets.lock().unwrap();
        assert!(buckets.young.len() <= HALF && buckets.old.len() <= HALF);
    }
}
