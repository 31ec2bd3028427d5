//! Tokens that were verified a short while ago, by their hashes, so that not each request costs a
//! signature.
//!
//! Holds: what is remembered is bounded in number; nothing is remembered of what was refused; an
//! entry is as good as its token was for [`LIFE`] at the most, so that a key which its issuer took
//! back is not outlived by what it had signed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::authenticator::Identified;

/// Most tokens of one generation; there are two.
const MOST: usize = 4096;
/// How long an entry counts.
const LIFE: Duration = Duration::from_secs(300);

type Hash = [u8; 32];

struct Entry {
    identified: Identified,
    until: OffsetDateTime,
}

/// The tokens, in two generations: when the young one is full, it becomes the old one, and what was
/// the old one is forgotten.
#[derive(Default)]
pub(super) struct Seen(Mutex<[HashMap<Hash, Entry>; 2]>);

impl Seen {
    /// Who was found for a token that is still good.
    pub fn get(&self, token: &str, now: OffsetDateTime) -> Option<Identified> {
        let hash = hash(token)?;
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = generations.iter().find_map(|entries| entries.get(&hash))?;
        (now < entry.until).then(|| entry.identified.clone())
    }

    /// Remembers who was found for a token.
    pub fn put(&self, token: &str, identified: &Identified, now: OffsetDateTime) {
        let Some(hash) = hash(token) else { return };
        let until = now.saturating_add(LIFE.try_into().unwrap_or_default());
        let until = identified.expires_at.map_or(until, |end| end.min(until));
        let entry = Entry { identified: identified.clone(), until };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.len() >= MOST {
            *old = std::mem::take(young);
        }
        young.insert(hash, entry);
    }
}

fn hash(token: &str) -> Option<Hash> {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::Principal;

    fn somebody(expires_in: i64, now: OffsetDateTime) -> Identified {
        let expires_at = Some(now + time::Duration::seconds(expires_in));
        Identified { who: Principal::Anonymous, issued_at: None, expires_at, has_mfa: false }
    }

    #[test]
    fn an_entry_ends_with_its_token_or_sooner() {
        let (seen, now) = (Seen::default(), OffsetDateTime::UNIX_EPOCH);
        let after = |seconds| now + time::Duration::seconds(seconds);
        seen.put("a", &somebody(10, now), now);
        seen.put("b", &somebody(100_000, now), now);
        assert!(seen.get("a", after(9)).is_some() && seen.get("a", after(10)).is_none());
        assert!(seen.get("b", after(299)).is_some() && seen.get("b", after(300)).is_none());
        assert!(seen.get("c", now).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (seen, now) = (Seen::default(), OffsetDateTime::UNIX_EPOCH);
        for n in 0..3 * MOST {
            seen.put(&n.to_string(), &somebody(100, now), now);
        }
        let held: usize = seen.0.lock().unwrap().iter().map(HashMap::len).sum();
        assert_eq!(held, 2 * MOST);
        assert!(seen.get("0", now).is_none());
        assert!(seen.get(&(3 * MOST - 1).to_string(), now).is_some());
    }
}
