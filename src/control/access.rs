//! What principals may do in partitions: what these know of them, held against what is asked.
//!
//! What was read is believed for `auth.cache`. Holds: a change made through this process is seen by
//! the next request, also where the old state was being read meanwhile; what is kept is bounded; a
//! request costs one statement at the most, for however many partitions, and none while what it needs
//! is known. Where authentication is off, that is the states of partitions alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    config::AuthConfig,
    index::{Acquaintance, Asker, Db, IndexError, NewMember},
    tenancy::{
        Circumstances, Denied, Known, Membership, PartitionId, Permission, Permissions, Principal,
        PrincipalKind, Reach, Scope, check, permissions,
    },
};

/// Most acquaintances that are kept, and most policies of partitions.
const MOST_KNOWN: usize = 4096;
const MOST_POLICIES: usize = 100_000;

/// Partitions in which one request makes its principal known.
const MOST_SEEN: usize = 16;

/// Decides what principals may do in partitions. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    db: Db,
    life: Duration,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    /// Changes so far: what was being read when one came is not kept.
    changes: u64,
    policies: HashMap<PartitionId, Read>,
    known: HashMap<(PartitionId, Arc<Asker>), Read>,
}

/// What was read, and when.
#[derive(Clone)]
struct Read {
    at: Instant,
    what: Arc<Acquaintance>,
}

impl Cache {
    fn get(&self, partition: &PartitionId, who: Option<&Arc<Asker>>) -> Option<&Read> {
        match who {
            None => self.policies.get(partition),
            Some(who) => self.known.get(&(partition.clone(), who.clone())),
        }
    }

    fn put(&mut self, partition: PartitionId, who: Option<&Arc<Asker>>, read: Read) {
        match who {
            None => self.policies.insert(partition, read),
            Some(who) => self.known.insert((partition, who.clone()), read),
        };
    }

    /// Makes room, where there is little left.
    fn tidy(&mut self, life: Duration) {
        tidy(&mut self.policies, MOST_POLICIES, life);
        tidy(&mut self.known, MOST_KNOWN, life);
    }
}

fn tidy<K: Eq + std::hash::Hash>(kept: &mut HashMap<K, Read>, most: usize, life: Duration) {
    if kept.len() > most {
        kept.retain(|_, read| read.at.elapsed() < life);
    }
    if kept.len() > most {
        kept.clear();
    }
}

/// Who is looked up in partitions; `None`: nobody whom they could know.
fn asker(who: &Principal) -> Option<Arc<Asker>> {
    let Principal::Known(known) = who else { return None };
    let Known { issuer, subject, session, token, .. } = &**known;
    let (issuer, subject) = (issuer.clone(), subject.clone());
    Some(Arc::new(Asker { issuer, subject, session: session.clone(), token: token.clone() }))
}

/// Whether a text can be looked up at all: Postgres has no NUL in texts.
fn is_plain(who: &Asker) -> bool {
    let more = [&who.session, &who.token].into_iter().flatten();
    [&who.issuer, &who.subject].into_iter().chain(more).all(|text| !text.contains('\0'))
}

impl Access {
    /// One over an opened index.
    pub fn new(db: Db, config: &AuthConfig) -> Self {
        Self { db, life: config.cache, cache: Arc::default() }
    }

    /// For how long what was read is believed.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// Whether `who`, whose reach these partitions are in, may do something in each of them. Who was
    /// not known in them is from then on.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn verdicts(
        &self,
        who: &Principal,
        around: &Circumstances,
        partitions: BTreeSet<PartitionId>,
        permission: Permission,
    ) -> Result<BTreeMap<PartitionId, Result<(), Denied>>, IndexError> {
        let looked = self.look(who, partitions).await?;
        let verdict = |it: &Acquaintance| verdict(who, it, around, permission);
        let verdicts: BTreeMap<_, _> =
            looked.iter().map(|(id, it)| (id.clone(), verdict(it))).collect();
        self.note(who, &looked, &verdicts).await;
        Ok(verdicts)
    }

    /// What a partition that is in somebody's reach knows of him.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn membership(
        &self,
        who: &Principal,
        partition: &PartitionId,
    ) -> Result<Membership, IndexError> {
        let looked = self.look(who, [partition.clone()].into()).await?;
        Ok(looked.into_iter().next().map(|(_, it)| it.membership.clone()).unwrap_or_default())
    }

    /// What somebody may do in a partition, policies aside.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn permissions(
        &self,
        who: &Principal,
        partition: &PartitionId,
    ) -> Result<Permissions, IndexError> {
        Ok(permissions(who, &self.membership(who, partition).await?))
    }

    /// Forgets what was read of a partition, which has just been changed.
    pub(super) fn forget(&self, partition: &PartitionId) {
        let mut cache = self.lock();
        cache.changes += 1;
        cache.policies.remove(partition);
        cache.known.retain(|(of, _), _| of != partition);
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Nothing that is done under the lock can be left half-done.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What partitions know of who asks: those that are known, and the rest in one statement.
    async fn look(
        &self,
        who: &Principal,
        partitions: BTreeSet<PartitionId>,
    ) -> Result<Vec<(PartitionId, Arc<Acquaintance>)>, IndexError> {
        let who = asker(who);
        if who.as_deref().is_some_and(|who| !is_plain(who)) {
            let membership = Membership { is_revoked: true, ..Membership::default() };
            let nobody = Arc::new(Acquaintance { membership, ..Acquaintance::default() });
            return Ok(partitions.into_iter().map(|id| (id, nobody.clone())).collect());
        }
        let (mut looked, mut missing) = (Vec::with_capacity(partitions.len()), Vec::new());
        let changes = {
            let cache = self.lock();
            for id in partitions {
                let read = cache.get(&id, who.as_ref());
                match read.filter(|read| read.at.elapsed() < self.life) {
                    Some(read) => looked.push((id, read.what.clone())),
                    None => missing.push(id),
                }
            }
            cache.changes
        };
        if missing.is_empty() {
            return Ok(looked);
        }
        let read = self.read(who.as_deref(), missing).await?;
        let mut cache = self.lock();
        // Who looks at very many partitions does not push out everybody else.
        let fits = who.is_none() || read.len() <= MOST_KNOWN / 4;
        if cache.changes == changes && !self.life.is_zero() && fits {
            for (id, what) in &read {
                let read = Read { at: Instant::now(), what: what.clone() };
                cache.put(id.clone(), who.as_ref(), read);
            }
            cache.tidy(self.life);
        }
        looked.extend(read);
        Ok(looked)
    }

    async fn read(
        &self,
        who: Option<&Asker>,
        partitions: Vec<PartitionId>,
    ) -> Result<Vec<(PartitionId, Arc<Acquaintance>)>, IndexError> {
        let scopes = partitions.iter().map(|id| {
            #[expect(clippy::disallowed_methods, reason = "what is read decides on scopes")]
            Scope::for_maintenance(id)
        });
        let scopes: Vec<_> = scopes.collect();
        let mut tx = self.db.begin(&Scope::union(scopes.iter().map(|scope| &**scope))).await?;
        let mut found: BTreeMap<PartitionId, Acquaintance> = match who {
            Some(who) => tx.access_look(who).await?,
            None => {
                let of = |policy| Membership { policy, ..Membership::default() };
                let of = |policy| Acquaintance { membership: of(policy), ..Default::default() };
                let policies = tx.access_policies().await?.into_iter();
                policies.map(|(id, policy)| (id, of(policy))).collect()
            }
        };
        let nothing = Arc::new(Acquaintance::default());
        let known = partitions.into_iter().map(|id| {
            let what = found.remove(&id).map_or_else(|| nothing.clone(), Arc::new);
            (id, what)
        });
        Ok(known.collect())
    }

    /// Puts on record that somebody was seen in partitions that let him in, or would if he had a
    /// role: once an hour, and at his first request. It decides nothing, so that a failure is no
    /// reason to refuse what he asks for.
    async fn note(
        &self,
        who: &Principal,
        looked: &[(PartitionId, Arc<Acquaintance>)],
        verdicts: &BTreeMap<PartitionId, Result<(), Denied>>,
    ) {
        use PrincipalKind::{Certificate, Service, User};
        let Principal::Known(known) = who else { return };
        // Who may go everywhere is known where he goes by name.
        let is_named = looked.len() == 1 || known.reach != Reach::Every;
        if !matches!(known.kind, User | Service | Certificate) || !is_named {
            return;
        }
        let is_in = |id| matches!(verdicts.get(id), Some(Ok(()) | Err(Denied::Permission(_))));
        let unseen = looked.iter().filter(|(id, it)| !it.is_seen && is_in(id));
        for (id, it) in unseen.take(MOST_SEEN) {
            if let Err(error) = self.see(known, id).await {
                tracing::warn!(%error, "it was not noted that a principal was seen");
                return;
            }
            let mut what = Acquaintance::clone(it);
            what.is_seen = true;
            let (what, asker) = (Arc::new(what), asker(who));
            let mut cache = self.lock();
            // As long as it is believed anyway, and only where nothing newer was read meanwhile.
            let read = cache.get(id, asker.as_ref()).filter(|read| Arc::ptr_eq(&read.what, it));
            if let Some(at) = read.map(|read| read.at) {
                cache.put(id.clone(), asker.as_ref(), Read { at, what });
            }
        }
    }

    async fn see(&self, known: &Known, partition: &PartitionId) -> Result<(), IndexError> {
        #[expect(clippy::disallowed_methods, reason = "the server's own note, whatever is asked")]
        let scope = Scope::for_maintenance(partition);
        let name = known.name.as_deref().filter(|name| !name.contains('\0'));
        let seen = NewMember {
            kind: known.kind,
            issuer: known.issuer.to_string(),
            subject: known.subject.to_string(),
            name: name.map(str::to_owned),
            roles: Vec::new(),
        };
        let mut tx = self.db.begin_in(&scope).await?;
        tx.principal_see(&seen).await?;
        tx.commit().await
    }
}

fn verdict(
    who: &Principal,
    it: &Acquaintance,
    around: &Circumstances,
    permission: Permission,
) -> Result<(), Denied> {
    let is_signed_out = match (who, it.valid_from) {
        (Principal::Known(known), Some(from)) => {
            let is_token = matches!(known.kind, PrincipalKind::User | PrincipalKind::Service);
            // A token that does not say when it was issued may be of any age.
            is_token && around.issued_at.is_none_or(|issued_at| issued_at < from)
        }
        _ => false,
    };
    if is_signed_out && !it.membership.is_suspended {
        return Err(Denied::Revoked);
    }
    check(who, &it.membership, around, permission)
}
