//! What a request named, what it may touch, and the scope that follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use super::{Deed, Denied, PartitionId, Permission};

/// The partitions that a request named, by whatever carrier, after the carriers agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// No carrier named a partition.
    Nothing,
    /// Exactly one. (Search may also name several, see [`Named::Several`].)
    One(PartitionId),
    /// Search on `microsoft.partitionId=a,b`.
    Several(BTreeSet<PartitionId>),
}

/// What a principal may touch: the partitions that exist and that its credential is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Existing partitions in the principal's reach, and whether it may do there what it asks for.
    pub partitions: BTreeMap<PartitionId, Result<(), Denied>>,
    /// Whether the reach is every partition, those to come included. Such a principal has no
    /// "only partition", even while just one exists: an answer must not change because somebody
    /// else's partition came into being.
    pub every: bool,
    /// Whether the principal may create the partition that it named by storing to it.
    pub may_create: bool,
}

/// Why a request got no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The partition does not exist, or the principal's reach ends before it: one answer for both.
    #[error("no such partition")]
    Hidden,
    /// The partition is in the principal's reach, and does not let it do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The action needs exactly one partition and the request named none (or several).
    #[error("the request must name exactly one partition")]
    PartitionNeeded,
    /// Partitions are off and the request named one other than the default.
    #[error("data partitions are not enabled")]
    PartitionsOff,
}

/// The partitions that one request may touch, and what it does there. Made by [`decide`] only (and,
/// for background work, by [`Scope::for_maintenance`]). Scopes of the same partitions are equal,
/// whoever has them.
#[derive(Clone, Debug)]
pub struct Scope {
    partitions: Arc<[PartitionId]>,
    deed: Option<Arc<Deed>>,
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.partitions == other.partitions
    }
}

impl Eq for Scope {}

impl Hash for Scope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.partitions.hash(state);
    }
}

impl Scope {
    /// The partitions, ascending, each once.
    pub fn partitions(&self) -> &[PartitionId] {
        &self.partitions
    }

    /// What is done with it; `None` in the background.
    pub fn deed(&self) -> Option<&Arc<Deed>> {
        self.deed.as_ref()
    }

    /// The same, with what is done with it.
    #[must_use]
    pub fn for_deed(mut self, deed: Arc<Deed>) -> Self {
        self.deed = Some(deed);
        self
    }

    /// The value of the `collimator.scope` setting: ids joined by commas. The alphabet of
    /// [`PartitionId`] has no comma, quote or backslash, so the text is safe in a SQL literal.
    pub fn as_setting(&self) -> String {
        let ids: Vec<&str> = self.partitions.iter().map(PartitionId::as_str).collect();
        ids.join(",")
    }

    /// The partition, where the scope holds exactly one.
    pub fn only(&self) -> Option<&PartitionId> {
        match &*self.partitions {
            [only] => Some(only),
            _ => None,
        }
    }

    /// A scope for a background task, which acts for no request. One partition at a time, so that
    /// a mistake in a worker stays inside the partition it works for.
    pub fn for_maintenance(partition: &PartitionId) -> PartitionScope {
        PartitionScope(Self::of([partition.clone()]))
    }

    /// What several requests may touch together, for one look on behalf of all of them. What it
    /// shows of a partition is for those alone whose own scope holds it.
    pub fn union<'a>(scopes: impl IntoIterator<Item = &'a Self>) -> Self {
        let all: BTreeSet<&PartitionId> = scopes.into_iter().flat_map(Self::partitions).collect();
        Self::of(all.into_iter().cloned())
    }

    /// Each partition of the scope by itself.
    pub fn each(&self) -> impl Iterator<Item = PartitionScope> {
        let Self { partitions, deed } = self.clone();
        (0..partitions.len()).filter_map(move |at| {
            let only = Arc::new([partitions.get(at)?.clone()]);
            Some(PartitionScope(Self { partitions: only, deed: deed.clone() }))
        })
    }

    fn of(partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        Self { partitions: partitions.into_iter().collect(), deed: None }
    }
}

/// A [`Scope`] of exactly one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionScope(Scope);

impl PartitionScope {
    /// The one partition.
    pub fn partition(&self) -> &PartitionId {
        &self.0.partitions[0]
    }
}

impl Deref for PartitionScope {
    type Target = Scope;
    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl TryFrom<Scope> for PartitionScope {
    type Error = Refused;
    fn try_from(scope: Scope) -> Result<Self, Refused> {
        if scope.partitions.len() == 1 { Ok(Self(scope)) } else { Err(Refused::PartitionNeeded) }
    }
}

/// Decides which partitions a request may touch (design §3).
///
/// With partitions off, everything is in the default partition and naming another is refused.
/// With them on: a named partition must be in reach; an unknown one is only let through for
/// [`Permission::Store`] by a principal that may create it (the caller then creates it). With none
/// named, the only partition in reach counts where there is exactly one; otherwise Search sees
/// every partition where it is permitted and the rest is refused.
///
/// # Errors
/// See [`Refused`]. Nothing in the answer tells a partition that is absent from one that is
/// somebody else's.
pub fn decide(
    partitions_on: bool,
    named: &Named,
    grants: &Grants,
    permission: Permission,
) -> Result<Scope, Refused> {
    if !partitions_on {
        let default = PartitionId::default();
        let only_default = match named {
            Named::Nothing => true,
            Named::One(one) => one.is_default(),
            Named::Several(several) => several.iter().all(PartitionId::is_default),
        };
        return if only_default { all_of([&default], grants) } else { Err(Refused::PartitionsOff) };
    }
    match named {
        Named::One(one) => {
            let creates = permission == Permission::Store && grants.may_create;
            if creates && !grants.partitions.contains_key(one) {
                return Ok(Scope::of([one.clone()]));
            }
            all_of([one], grants)
        }
        Named::Several(_) if permission.needs_one_partition() => Err(Refused::PartitionNeeded),
        // As for one: any unknown member hides the whole, so that a list is no oracle either.
        Named::Several(several) => all_of(several, grants),
        Named::Nothing if permission.needs_one_partition() => {
            if grants.partitions.len() == 1 && !grants.every {
                all_of(grants.partitions.keys(), grants)
            } else {
                Err(Refused::PartitionNeeded)
            }
        }
        // What holds for all partitions is for who may do it in all of them.
        Named::Nothing
            if matches!(permission, Permission::ManageTags | Permission::ManageOperations)
                && !grants.every =>
        {
            Err(Refused::PartitionNeeded)
        }
        Named::Nothing => {
            let allowed = grants.partitions.iter().filter(|(_, verdict)| verdict.is_ok());
            let scope = Scope::of(allowed.map(|(partition, _)| partition.clone()));
            match grants.partitions.values().find_map(|verdict| verdict.err()) {
                // Where nothing is permitted, that is the answer, and not that there is nothing.
                Some(denied) if scope.partitions.is_empty() => Err(denied.into()),
                _ => Ok(scope),
            }
        }
    }
}

/// The scope of all of these, where each is in reach and permits it.
fn all_of<'a>(
    partitions: impl IntoIterator<Item = &'a PartitionId> + Clone,
    grants: &Grants,
) -> Result<Scope, Refused> {
    // Hidden first: of a list with something hidden nothing else is told.
    let verdicts = partitions.clone().into_iter().map(|one| grants.partitions.get(one));
    let verdicts: Vec<_> = verdicts.collect::<Option<_>>().ok_or(Refused::Hidden)?;
    verdicts.into_iter().try_for_each(|verdict| *verdict)?;
    Ok(Scope::of(partitions.into_iter().cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PartitionId {
        text.parse().unwrap()
    }

    fn grants(ids: &[&str], may_create: bool) -> Grants {
        let partitions = ids.iter().map(|text| (id(text), Ok(()))).collect();
        Grants { partitions, every: false, may_create }
    }

    fn scope(ids: &[&str]) -> Result<Scope, Refused> {
        Ok(Scope::of(ids.iter().map(|text| id(text))))
    }

    fn check(
        on: bool,
        named: Named,
        grants: &Grants,
        action: Permission,
        expected: Result<Scope, Refused>,
    ) {
        let mut grants = grants.clone();
        if !on {
            grants.partitions = [(PartitionId::default(), Ok(()))].into();
        }
        let got = decide(on, &named, &grants, action);
        assert_eq!(got, expected, "{on} {named:?} {action:?}");
    }

    #[test]
    fn with_partitions_off_there_is_only_the_default() {
        let all = grants(&["microsoft.default"], true);
        for action in
            [Permission::Retrieve, Permission::Store, Permission::Delete, Permission::Search]
        {
            check(false, Named::Nothing, &all, action, scope(&["microsoft.default"]));
            let default = Named::One(PartitionId::default());
            check(false, default, &all, action, scope(&["microsoft.default"]));
            check(false, Named::One(id("a")), &all, action, Err(Refused::PartitionsOff));
        }
    }

    #[test]
    fn an_unknown_partition_is_hidden_unless_store_may_create_it() {
        let (plain, creator) = (grants(&["a", "b"], false), grants(&["a", "b"], true));
        for action in [Permission::Retrieve, Permission::Delete, Permission::Search] {
            check(true, Named::One(id("c")), &plain, action, Err(Refused::Hidden));
            check(true, Named::One(id("c")), &creator, action, Err(Refused::Hidden));
        }
        check(true, Named::One(id("c")), &plain, Permission::Store, Err(Refused::Hidden));
        check(true, Named::One(id("c")), &creator, Permission::Store, scope(&["c"]));
        let mixed = Named::Several([id("a"), id("c")].into());
        check(true, mixed, &creator, Permission::Search, Err(Refused::Hidden));
    }

    #[test]
    fn the_change_feed_is_read_as_searches_are() {
        let two = grants(&["a", "b"], true);
        check(true, Named::Nothing, &two, Permission::ReadChanges, scope(&["a", "b"]));
        check(true, Named::One(id("a")), &two, Permission::ReadChanges, scope(&["a"]));
        check(true, Named::One(id("c")), &two, Permission::ReadChanges, Err(Refused::Hidden));
        let several = Named::Several([id("a"), id("c")].into());
        check(true, several, &two, Permission::ReadChanges, Err(Refused::Hidden));
        check(
            false,
            Named::One(id("a")),
            &two,
            Permission::ReadChanges,
            Err(Refused::PartitionsOff),
        );
    }

    #[test]
    fn none_named_means_all_for_search_and_a_refusal_elsewhere() {
        let (two, one) = (grants(&["a", "b"], false), grants(&["a"], false));
        check(true, Named::Nothing, &two, Permission::Search, scope(&["a", "b"]));
        for action in [Permission::Retrieve, Permission::Store, Permission::Delete] {
            check(true, Named::Nothing, &two, action, Err(Refused::PartitionNeeded));
            check(true, Named::Nothing, &one, action, scope(&["a"]));
            let every = Grants { every: true, ..one.clone() };
            check(true, Named::Nothing, &every, action, Err(Refused::PartitionNeeded));
        }
    }

    #[test]
    fn what_holds_for_all_partitions_is_for_who_may_use_all() {
        let two = grants(&["a", "b"], false);
        let every = Grants { every: true, ..two.clone() };
        check(true, Named::Nothing, &two, Permission::ReadTags, scope(&["a", "b"]));
        check(true, Named::Nothing, &two, Permission::ManageTags, Err(Refused::PartitionNeeded));
        check(true, Named::Nothing, &every, Permission::ManageTags, scope(&["a", "b"]));
        for action in [Permission::ReadTags, Permission::ManageTags] {
            check(true, Named::One(id("a")), &two, action, scope(&["a"]));
            check(true, Named::One(id("c")), &every, action, Err(Refused::Hidden));
            check(false, Named::One(id("a")), &every, action, Err(Refused::PartitionsOff));
            check(false, Named::Nothing, &every, action, scope(&["microsoft.default"]));
        }
    }

    #[test]
    fn webhooks_are_those_of_one_partition() {
        let every = Grants { every: true, ..grants(&["a"], true) };
        for action in [Permission::ReadWebhooks, Permission::ManageWebhooks] {
            check(true, Named::One(id("a")), &every, action, scope(&["a"]));
            check(true, Named::One(id("c")), &every, action, Err(Refused::Hidden));
            check(true, Named::Nothing, &every, action, Err(Refused::PartitionNeeded));
            let several = Named::Several([id("a")].into());
            check(true, several, &every, action, Err(Refused::PartitionNeeded));
            check(false, Named::Nothing, &every, action, scope(&["microsoft.default"]));
        }
    }

    #[test]
    fn a_scope_is_taken_apart() {
        let whole = scope(&["a", "b"]).unwrap();
        let each: Vec<String> = whole.each().map(|one| one.as_setting()).collect();
        assert_eq!(each, ["a", "b"]);
    }

    #[test]
    fn a_union_has_each_partition_once() {
        let scopes = [scope(&["b", "c"]).unwrap(), scope(&["a", "b"]).unwrap()];
        assert_eq!(Scope::union(&scopes).as_setting(), "a,b,c");
    }

    #[test]
    fn the_setting_is_a_plain_list() {
        assert_eq!(scope(&["a", "b.c-d_e"]).unwrap().as_setting(), "a,b.c-d_e");
    }
}
