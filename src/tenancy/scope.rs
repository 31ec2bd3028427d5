//! Who asks, what they named, and the scope that follows.

use std::{collections::BTreeSet, ops::Deref, sync::Arc};

use super::PartitionId;

/// Who asks. Authentication is off in this release, so there is one kind; every place that must
/// change when there are more matches on this enum exhaustively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: authentication is off.
    Anonymous,
}

/// What a request wants to do. Each service states exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Retrieve one study, series, instance, frame or bulk value.
    Retrieve,
    /// Store instances.
    Store,
    /// Delete a study, series or instance.
    Delete,
    /// Search one or more partitions.
    Search,
    /// List the partitions that the principal may see.
    ListPartitions,
    /// Read the change feed of one or more partitions.
    ReadChanges,
    /// See extended query tags and operations: of one partition, or at the root.
    ReadTags,
    /// Add, change or delete extended query tags, or cancel operations: in one partition, or at
    /// the root, for all.
    ManageTags,
    /// See the webhooks of one partition.
    ReadWebhooks,
    /// Add, change, test or remove webhooks of one partition.
    ManageWebhooks,
}

impl Action {
    /// Whether the action works on exactly one partition.
    pub fn needs_one_partition(self) -> bool {
        match self {
            Self::Retrieve
            | Self::Store
            | Self::Delete
            | Self::ReadWebhooks
            | Self::ManageWebhooks => true,
            Self::Search
            | Self::ListPartitions
            | Self::ReadChanges
            | Self::ReadTags
            | Self::ManageTags => false,
        }
    }
}

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

/// What a principal may touch: the partitions that exist and are granted to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Existing partitions that the principal may use.
    pub partitions: BTreeSet<PartitionId>,
    /// Whether the grant is for every partition, those to come included. Such a principal has no
    /// "only partition", even while just one exists: an answer must not change because somebody
    /// else's partition came into being.
    pub every: bool,
    /// Whether the principal may create a partition by storing to it.
    pub may_create: bool,
}

/// Why a request got no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The partition does not exist, or the principal may not use it: one answer for both.
    #[error("no such partition")]
    Hidden,
    /// The action needs exactly one partition and the request named none (or several).
    #[error("the request must name exactly one partition")]
    PartitionNeeded,
    /// Partitions are off and the request named one other than the default.
    #[error("data partitions are not enabled")]
    PartitionsOff,
}

/// The partitions that one request may touch. Made by [`decide`] only (and, for background work,
/// by [`Scope::for_maintenance`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Arc<[PartitionId]>);

impl Scope {
    /// The partitions, ascending, each once.
    pub fn partitions(&self) -> &[PartitionId] {
        &self.0
    }

    /// The value of the `collimator.scope` setting: ids joined by commas. The alphabet of
    /// [`PartitionId`] has no comma, quote or backslash, so the text is safe in a SQL literal.
    pub fn as_setting(&self) -> String {
        let ids: Vec<&str> = self.0.iter().map(PartitionId::as_str).collect();
        ids.join(",")
    }

    /// The partition, where the scope holds exactly one.
    pub fn only(&self) -> Option<&PartitionId> {
        match &*self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    /// A scope for a background task, which acts for no request. One partition at a time, so that
    /// a mistake in a worker stays inside the partition it works for.
    pub fn for_maintenance(partition: &PartitionId) -> PartitionScope {
        PartitionScope(Scope(Arc::new([partition.clone()])))
    }

    /// What several requests may touch together, for one look on behalf of all of them. What it
    /// shows of a partition is for those alone whose own scope holds it.
    pub fn union<'a>(scopes: impl IntoIterator<Item = &'a Self>) -> Self {
        let all: BTreeSet<&PartitionId> = scopes.into_iter().flat_map(Self::partitions).collect();
        Self::of(all.into_iter().cloned())
    }

    /// Each partition of the scope by itself.
    pub fn each(&self) -> impl Iterator<Item = PartitionScope> {
        let partitions = self.0.clone();
        (0..partitions.len()).filter_map(move |at| {
            let only = partitions.get(at)?.clone();
            Some(PartitionScope(Self(Arc::new([only]))))
        })
    }

    fn of(partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        Self(partitions.into_iter().collect())
    }
}

/// A [`Scope`] of exactly one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionScope(Scope);

impl PartitionScope {
    /// The one partition.
    pub fn partition(&self) -> &PartitionId {
        &self.0.0[0]
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
        if scope.0.len() == 1 { Ok(Self(scope)) } else { Err(Refused::PartitionNeeded) }
    }
}

/// Decides which partitions a request may touch (design §3).
///
/// With partitions off, everything is in the default partition and naming another is refused.
/// With them on: a named partition must be granted; an unknown one is only let through for
/// [`Action::Store`] by a principal that may create it (the caller then creates it). With none
/// named, the principal's only partition counts where it has exactly one; otherwise Search sees
/// every granted partition and the rest is refused.
///
/// # Errors
/// See [`Refused`]. Nothing in the answer tells a partition that is absent from one that is
/// somebody else's.
pub fn decide(
    partitions_on: bool,
    who: &Principal,
    named: &Named,
    grants: &Grants,
    action: Action,
) -> Result<Scope, Refused> {
    let Principal::Anonymous = who;
    if !partitions_on {
        let default = PartitionId::default();
        let only_default = match named {
            Named::Nothing => true,
            Named::One(one) => one.is_default(),
            Named::Several(several) => several.iter().all(PartitionId::is_default),
        };
        return if only_default { Ok(Scope::of([default])) } else { Err(Refused::PartitionsOff) };
    }
    match named {
        Named::One(one) => {
            let creates = action == Action::Store && grants.may_create;
            if grants.partitions.contains(one) || creates {
                Ok(Scope::of([one.clone()]))
            } else {
                Err(Refused::Hidden)
            }
        }
        Named::Several(_) if action.needs_one_partition() => Err(Refused::PartitionNeeded),
        Named::Several(several) => {
            // As for one: any unknown member hides the whole, so that a list is no oracle either.
            if several.is_subset(&grants.partitions) {
                Ok(Scope::of(several.iter().cloned()))
            } else {
                Err(Refused::Hidden)
            }
        }
        Named::Nothing if action.needs_one_partition() => {
            if grants.partitions.len() == 1 && !grants.every {
                Ok(Scope::of(grants.partitions.iter().cloned()))
            } else {
                Err(Refused::PartitionNeeded)
            }
        }
        // What holds for all partitions is for who may do it in all of them.
        Named::Nothing if action == Action::ManageTags && !grants.every => {
            Err(Refused::PartitionNeeded)
        }
        Named::Nothing => Ok(Scope::of(grants.partitions.iter().cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PartitionId {
        text.parse().unwrap()
    }

    fn grants(ids: &[&str], may_create: bool) -> Grants {
        Grants { partitions: ids.iter().map(|text| id(text)).collect(), every: false, may_create }
    }

    fn scope(ids: &[&str]) -> Result<Scope, Refused> {
        Ok(Scope::of(ids.iter().map(|text| id(text))))
    }

    fn check(
        on: bool,
        named: Named,
        grants: &Grants,
        action: Action,
        expected: Result<Scope, Refused>,
    ) {
        let got = decide(on, &Principal::Anonymous, &named, grants, action);
        assert_eq!(got, expected, "{on} {named:?} {action:?}");
    }

    #[test]
    fn with_partitions_off_there_is_only_the_default() {
        let all = grants(&["microsoft.default"], true);
        for action in [Action::Retrieve, Action::Store, Action::Delete, Action::Search] {
            check(false, Named::Nothing, &all, action, scope(&["microsoft.default"]));
            let default = Named::One(PartitionId::default());
            check(false, default, &all, action, scope(&["microsoft.default"]));
            check(false, Named::One(id("a")), &all, action, Err(Refused::PartitionsOff));
        }
    }

    #[test]
    fn an_unknown_partition_is_hidden_unless_store_may_create_it() {
        let (plain, creator) = (grants(&["a", "b"], false), grants(&["a", "b"], true));
        for action in [Action::Retrieve, Action::Delete, Action::Search] {
            check(true, Named::One(id("c")), &plain, action, Err(Refused::Hidden));
            check(true, Named::One(id("c")), &creator, action, Err(Refused::Hidden));
        }
        check(true, Named::One(id("c")), &plain, Action::Store, Err(Refused::Hidden));
        check(true, Named::One(id("c")), &creator, Action::Store, scope(&["c"]));
        let mixed = Named::Several([id("a"), id("c")].into());
        check(true, mixed, &creator, Action::Search, Err(Refused::Hidden));
    }

    #[test]
    fn the_change_feed_is_read_as_searches_are() {
        let two = grants(&["a", "b"], true);
        check(true, Named::Nothing, &two, Action::ReadChanges, scope(&["a", "b"]));
        check(true, Named::One(id("a")), &two, Action::ReadChanges, scope(&["a"]));
        check(true, Named::One(id("c")), &two, Action::ReadChanges, Err(Refused::Hidden));
        let several = Named::Several([id("a"), id("c")].into());
        check(true, several, &two, Action::ReadChanges, Err(Refused::Hidden));
        check(false, Named::One(id("a")), &two, Action::ReadChanges, Err(Refused::PartitionsOff));
    }

    #[test]
    fn none_named_means_all_for_search_and_a_refusal_elsewhere() {
        let (two, one) = (grants(&["a", "b"], false), grants(&["a"], false));
        check(true, Named::Nothing, &two, Action::Search, scope(&["a", "b"]));
        for action in [Action::Retrieve, Action::Store, Action::Delete] {
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
        check(true, Named::Nothing, &two, Action::ReadTags, scope(&["a", "b"]));
        check(true, Named::Nothing, &two, Action::ManageTags, Err(Refused::PartitionNeeded));
        check(true, Named::Nothing, &every, Action::ManageTags, scope(&["a", "b"]));
        for action in [Action::ReadTags, Action::ManageTags] {
            check(true, Named::One(id("a")), &two, action, scope(&["a"]));
            check(true, Named::One(id("c")), &every, action, Err(Refused::Hidden));
            check(false, Named::One(id("a")), &every, action, Err(Refused::PartitionsOff));
            check(false, Named::Nothing, &every, action, scope(&["microsoft.default"]));
        }
    }

    #[test]
    fn webhooks_are_those_of_one_partition() {
        let every = Grants { every: true, ..grants(&["a"], true) };
        for action in [Action::ReadWebhooks, Action::ManageWebhooks] {
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
