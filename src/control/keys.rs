//! API keys: whether one that is presented is good, and who keeps them.
//!
//! Holds: whatever is wrong with a key, the answer is one, and costs one look at its row; only who
//! has the secret is spared the look, while the key is remembered. A key is good for the one partition
//! that it was made in. Absent: the form of keys (`identity`), and what they may do (`access`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Access, AccessRefusal, By,
    members::{OwnRoles, own_roles, sum},
};
use crate::{
    config::AuthConfig,
    index::{ApiKey, Db, IndexError, KeySettings, SecretHash},
    tenancy::{
        Known, PartitionId, PartitionScope, Permissions, Principal, PrincipalKind, Reach, Role,
        Scope,
    },
};

/// Who vouches for API keys.
pub const ISSUER: &str = "api-key";

/// Most keys of one partition.
const MOST: i64 = 1000;
/// Most keys that are remembered.
const MOST_REMEMBERED: usize = 4096;

/// The API keys of partitions. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    db: Db,
    access: Access,
    is_on: bool,
    remembered: Arc<Mutex<Remembered>>,
}

#[derive(Default)]
struct Remembered {
    /// Changes so far, as in `access`.
    changes: u64,
    keys: HashMap<(PartitionId, Uuid), (Instant, Arc<ApiKey>)>,
}

/// Who holds a key that is good.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    /// Who.
    pub who: Principal,
    /// When the key, or the secret that was presented, ends to be good.
    pub expires_at: Option<OffsetDateTime>,
}

/// Why a key is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGood {
    /// There is no such key, or it has another secret.
    Unknown,
    /// It was good once: it is disabled, or its time is over.
    Over,
}

impl Keys {
    /// Those over an opened index.
    pub fn new(db: Db, access: Access, config: &AuthConfig) -> Self {
        let is_on = config.enabled && config.api_keys;
        Self { db, access, is_on, remembered: Arc::default() }
    }

    /// Whether keys are taken.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Who holds a key whose secret has a hash, or why nobody does. Which reason it is, is for counting:
    /// all are answered alike.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn holder(
        &self,
        partition: &PartitionId,
        id: Uuid,
        hash: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<Result<KeyHolder, NotGood>, IndexError> {
        let at = (partition.clone(), id);
        if let Some(key) = self.recall(&at)
            && let Ok(until) = is_good(&key, hash, now)
        {
            return Ok(Ok(holder(partition, &key, until)));
        }
        let changes = self.lock().changes;
        #[expect(clippy::disallowed_methods, reason = "who asks is not known yet")]
        let scope = Scope::for_maintenance(partition);
        let found = self.db.begin_in(&scope).await?.key(id).await?;
        // What is not there is compared like what is.
        let good = match &found {
            Some(key) => is_good(key, hash, now),
            None => {
                std::hint::black_box(matches(&SecretHash([0; 32]), hash));
                Err(NotGood::Unknown)
            }
        };
        let (key, until) = match (found, good) {
            (Some(key), Ok(until)) => (key, until),
            (_, Err(why)) => return Ok(Err(why)),
            (None, Ok(_)) => return Ok(Err(NotGood::Unknown)),
        };
        if !key.is_used {
            self.note(&scope, id).await;
        }
        let held = holder(partition, &key, until);
        self.remember(at, key, changes);
        Ok(Ok(held))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        // Nothing that is done under the lock can be left half-done.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, at: &(PartitionId, Uuid)) -> Option<Arc<ApiKey>> {
        let remembered = self.lock();
        let (since, key) = remembered.keys.get(at)?;
        (since.elapsed() < self.access.life()).then(|| key.clone())
    }

    fn remember(&self, at: (PartitionId, Uuid), key: ApiKey, changes: u64) {
        let life = self.access.life();
        let mut remembered = self.lock();
        if remembered.changes != changes || life.is_zero() {
            return;
        }
        if remembered.keys.len() >= MOST_REMEMBERED {
            remembered.keys.retain(|_, (since, _)| since.elapsed() < life);
        }
        if remembered.keys.len() >= MOST_REMEMBERED {
            remembered.keys.clear();
        }
        remembered.keys.insert(at, (Instant::now(), Arc::new(key)));
    }

    fn forget(&self, partition: &PartitionId, id: Uuid) {
        let mut remembered = self.lock();
        remembered.changes += 1;
        remembered.keys.remove(&(partition.clone(), id));
    }

    /// Puts on record that a key was used, once an hour.
    async fn note(&self, scope: &PartitionScope, id: Uuid) {
        let noted = async {
            let mut tx = self.db.begin_in(scope).await?;
            tx.key_use(id).await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "it was not noted that an API key was used");
        }
    }

    /// A page of the keys of a partition, in the order in which they were made.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn list(
        &self,
        scope: &PartitionScope,
        page: (i64, i64),
    ) -> Result<Vec<ApiKey>, IndexError> {
        self.db.begin_in(scope).await?.keys(page).await
    }

    /// A key.
    ///
    /// # Errors
    /// [`AccessRefusal::NotFound`], or a failure of the index.
    pub async fn get(&self, scope: &PartitionScope, id: Uuid) -> Result<ApiKey, AccessRefusal> {
        self.db.begin_in(scope).await?.key(id).await?.ok_or(AccessRefusal::NotFound)
    }

    /// Adds a key whose id, beginning and hash were made already. It has no more than its maker.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn add(
        &self,
        by: &By<'_>,
        id: Uuid,
        settings: &KeySettings,
        kept: (&str, SecretHash),
    ) -> Result<ApiKey, AccessRefusal> {
        let own = self.access.permissions(by.who, by.scope.partition()).await?;
        let mut tx = self.db.begin_access(by.scope).await?;
        let roles = own_roles(&mut tx).await?;
        is_within(&roles, settings, own)?;
        if tx.key_count().await? >= MOST {
            return Err(AccessRefusal::TooMany { limit: MOST });
        }
        tx.key_add(id, settings, kept, &by.name()).await?;
        let added = tx.key(id).await?.ok_or(AccessRefusal::NotFound)?;
        tx.audit_note("key", id.simple().to_string());
        tx.commit().await?;
        tracing::info!(partition = %by.scope.partition(), key = %id, "API key added");
        Ok(added)
    }

    /// Changes what is said of a key.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn change(
        &self,
        by: &By<'_>,
        id: Uuid,
        change: impl FnOnce(&mut KeySettings) + Send,
    ) -> Result<ApiKey, AccessRefusal> {
        let own = self.access.permissions(by.who, by.scope.partition()).await?;
        let mut tx = self.db.begin_access(by.scope).await?;
        let before = tx.key_lock(id).await?.ok_or(AccessRefusal::NotFound)?.settings;
        let mut settings = before.clone();
        change(&mut settings);
        let lasts =
            |is: &KeySettings| is.expires_at.map_or(i64::MAX, OffsetDateTime::unix_timestamp);
        // Who switches a key on again, or has it last longer, gives what it may do.
        let is_more =
            (before.is_disabled && !settings.is_disabled) || lasts(&settings) > lasts(&before);
        if is_more || (&settings.roles, settings.permissions) != (&before.roles, before.permissions)
        {
            let roles = own_roles(&mut tx).await?;
            is_within(&roles, &settings, own)?;
        }
        tx.key_change(id, &settings).await?;
        by.keeps_somebody(&mut tx).await?;
        let changed = tx.key(id).await?.ok_or(AccessRefusal::NotFound)?;
        tx.audit_note("key", id.simple().to_string());
        let done = tx.commit().await;
        self.forget(by.scope.partition(), id);
        done?;
        Ok(changed)
    }

    /// Gives a key another secret, and says until when the one before is good as well. Who does so
    /// gets the key, so that it must not have more than he has.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn rotate(
        &self,
        by: &By<'_>,
        id: Uuid,
        hash: SecretHash,
        overlap: Duration,
    ) -> Result<OffsetDateTime, AccessRefusal> {
        let own = self.access.permissions(by.who, by.scope.partition()).await?;
        let mut tx = self.db.begin_access(by.scope).await?;
        let settings = tx.key_lock(id).await?.ok_or(AccessRefusal::NotFound)?.settings;
        let roles = own_roles(&mut tx).await?;
        is_within(&roles, &settings, own)?;
        let until = tx.key_rotate(id, hash, overlap).await?;
        let done = tx.commit().await;
        self.forget(by.scope.partition(), id);
        done?;
        Ok(until)
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub async fn remove(&self, by: &By<'_>, id: Uuid) -> Result<(), AccessRefusal> {
        let mut tx = self.db.begin_access(by.scope).await?;
        tx.key_lock(id).await?.ok_or(AccessRefusal::NotFound)?;
        tx.key_remove(id).await?;
        by.keeps_somebody(&mut tx).await?;
        let done = tx.commit().await;
        self.forget(by.scope.partition(), id);
        done?;
        tracing::info!(partition = %by.scope.partition(), key = %id, "API key removed");
        Ok(())
    }
}

/// Whether a key may have what it is to have.
fn is_within(
    own_roles: &OwnRoles,
    settings: &KeySettings,
    own: Permissions,
) -> Result<(), AccessRefusal> {
    if settings.roles.is_empty() && settings.permissions == Permissions::NONE {
        return Err(AccessRefusal::Empty);
    }
    let roles = sum(own_roles, &settings.roles)?;
    match roles.or(settings.permissions).is_within(own) {
        true => Ok(()),
        false => Err(AccessRefusal::Beyond),
    }
}

/// Compares in constant time.
fn matches(kept: &SecretHash, hash: &[u8; 32]) -> bool {
    kept.0.ct_eq(hash).into()
}

/// Until when a key is good, or why it is not.
fn is_good(
    key: &ApiKey,
    hash: &[u8; 32],
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, NotGood> {
    let is_new = matches(&key.hash, hash);
    let old = key.old_hash.filter(|(old, until)| matches(old, hash) && *until > now);
    let until = match (is_new, old) {
        (true, _) => key.settings.expires_at,
        (false, Some((_, until))) => {
            Some(key.settings.expires_at.map_or(until, |at| at.min(until)))
        }
        (false, None) => return Err(NotGood::Unknown),
    };
    let is_over = key.settings.is_disabled || until.is_some_and(|until| until <= now);
    if is_over { Err(NotGood::Over) } else { Ok(until) }
}

fn holder(partition: &PartitionId, key: &ApiKey, expires_at: Option<OffsetDateTime>) -> KeyHolder {
    let known = Known {
        kind: PrincipalKind::ApiKey,
        issuer: ISSUER.into(),
        subject: key.id.simple().to_string().into(),
        name: Some(&*key.settings.name).filter(|name| !name.is_empty()).map(Box::from),
        reach: Reach::These(BTreeSet::from([partition.clone()])),
        roles: key.settings.roles.iter().cloned().collect(),
        permissions: key.settings.permissions.and(Role::PartitionAdmin.permits()),
        limit: Permissions::ALL,
        is_operator: false,
        session: None,
        token: None,
    };
    KeyHolder { who: Principal::Known(Arc::new(known)), expires_at }
}
