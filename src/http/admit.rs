//! Who may: the extractor that turns a request into a scope, or a refusal.
//!
//! A handler without [`Admitted`] in its signature is visibly public. (Store decides late, since
//! its first part may name the partition: it calls [`decide`] itself.)

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{
    App,
    caller::Caller,
    carrier::Carried,
    layers::audit::Trail,
    overload::Visit,
    problem::Problem,
    urls::{PartitionUrls, Urls},
};
use crate::{
    archive::{ArchiveError, FeedScope, MayReject, TagScope, Undecided},
    control::ControlError,
    tenancy::{Named, PartitionId, PartitionScope, Permission, Refused, Scope},
};

/// What a request asks for; the scope's type follows from the question.
pub trait Asks: Send + Sync + 'static {
    /// What has to be permitted.
    const PERMISSION: Permission;
    /// One partition or several.
    type Scope: Send;
    /// The URLs that answers are made of.
    type Urls: Send;
    /// Narrows what was decided to what the action needs. `at` says what was named.
    ///
    /// # Errors
    /// Where the scope does not fit the action.
    fn narrow(scope: Scope, urls: Urls, at: At) -> Result<(Self::Scope, Self::Urls), Problem>;
}

/// Whether a request speaks of all partitions or of those that it named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It named none.
    Root,
    /// Of all, which are one: partitions are off.
    Alone,
    /// It named some.
    Named,
}

/// Asks to retrieve.
pub struct Read;
/// Asks to delete.
pub struct Remove;
/// Asks to change what is stored.
pub struct Update;
/// Asks to have it checked that instances are safe.
pub struct Commit;
/// Asks to search.
pub struct Search;
/// Asks to search one partition, which has to be named.
pub struct SearchOne;
/// Asks to have instances exported, de-identified at the least: what is more is asked for once the
/// body has said so.
pub struct Export;
/// Asks to store, where the partition is named before the body.
pub struct Store;
/// Asks to read the change feed.
pub struct ReadChanges;
/// Asks to see extended query tags.
pub struct ReadTags;
/// Asks to change extended query tags.
pub struct ManageTags;
/// Asks to see operations.
pub struct ReadOperations;
/// Asks to cancel operations.
pub struct ManageOperations;
/// Asks to see webhooks.
pub struct ReadWebhooks;
/// Asks to change webhooks.
pub struct ManageWebhooks;
/// Asks to see who may do what.
pub struct ReadPrincipals;
/// Asks to change who may do what.
pub struct ManagePrincipals;
/// Asks to see the policy.
pub struct ReadPolicy;
/// Asks to change the policy.
pub struct ManagePolicy;

macro_rules! asks_in_one {
    ($($question:ty: $permission:expr;)*) => {$(
        impl Asks for $question {
            const PERMISSION: Permission = $permission;
            type Scope = PartitionScope;
            type Urls = PartitionUrls;
            fn narrow(scope: Scope, urls: Urls, _: At) -> Result<(Self::Scope, Self::Urls), Problem> {
                one(scope, &urls)
            }
        }
    )*};
}

asks_in_one!(
    Read: Permission::Retrieve;
    Remove: Permission::Delete;
    Update: Permission::Update;
    Commit: Permission::Commit;
    Export: Permission::ExportDeidentified;
    Store: Permission::Store;
    ReadWebhooks: Permission::ReadWebhooks;
    ManageWebhooks: Permission::ManageWebhooks;
    ReadPrincipals: Permission::ReadPrincipals;
    ManagePrincipals: Permission::ManagePrincipals;
    ReadPolicy: Permission::ReadPolicy;
    ManagePolicy: Permission::ManagePolicy;
);

impl Asks for Search {
    const PERMISSION: Permission = Permission::Search;
    type Scope = Scope;
    type Urls = Urls;
    fn narrow(scope: Scope, urls: Urls, _: At) -> Result<(Scope, Urls), Problem> {
        Ok((scope, urls))
    }
}

impl Asks for SearchOne {
    const PERMISSION: Permission = Permission::Search;
    type Scope = PartitionScope;
    type Urls = PartitionUrls;
    fn narrow(scope: Scope, urls: Urls, at: At) -> Result<(Self::Scope, Self::Urls), Problem> {
        match at {
            At::Root => Err(Refused::PartitionNeeded.into()),
            At::Alone | At::Named => one(scope, &urls),
        }
    }
}

/// Decides anew what who named no partition may read.
///
/// # Errors
/// As [`decide`], for who has no request to answer any more.
pub async fn all_readable(app: &App, caller: &Caller) -> Result<Scope, ArchiveError> {
    let Ok(Caller { who, around, .. }) = caller.again(app).await else {
        return Err(ArchiveError::NotFound);
    };
    match app.partitions.scope(&who, &around, &Named::Nothing, Permission::ReadChanges).await {
        Ok(scope) => Ok(scope),
        Err(ControlError::Refused(_)) => Err(ArchiveError::NotFound),
        Err(ControlError::Index(error)) => Err(error.into()),
    }
}

impl Asks for ReadChanges {
    const PERMISSION: Permission = Permission::ReadChanges;
    /// With whether it is all that there is to read.
    type Scope = (FeedScope, bool);
    type Urls = Urls;
    /// Who names one partition reads that one's feed. Who names none reads the union, also while
    /// there is only one: the numbers in an answer must not change because another came into being.
    fn narrow(scope: Scope, urls: Urls, at: At) -> Result<((FeedScope, bool), Urls), Problem> {
        let scope = match (at, scope.only()) {
            (At::Alone | At::Named, Some(_)) => FeedScope::Partition(scope.try_into()?),
            _ => FeedScope::Union(scope),
        };
        Ok(((scope, at == At::Root), urls))
    }
}

/// URLs of what is at the root or in a partition, in the client's own style.
pub enum TagUrls {
    /// Where the service begins, without a slash at the end.
    Root(String),
    /// In a partition.
    Partition(PartitionUrls),
}

impl TagUrls {
    /// The URL of a resource; `path` starts with a slash and has no query.
    pub fn at(&self, path: &str) -> String {
        match self {
            Self::Root(service) => format!("{service}{path}"),
            Self::Partition(urls) => urls.at(path),
        }
    }
}

/// What a request speaks of that named no partition, or one.
fn root_or_one(scope: Scope, urls: &Urls, at: At) -> Result<(TagScope, TagUrls), Problem> {
    if at == At::Root {
        return Ok((TagScope::Root(scope), TagUrls::Root(urls.service().to_owned())));
    }
    let service = urls.service().to_owned();
    let (scope, urls) = one(scope, urls)?;
    Ok(match at {
        At::Alone => (TagScope::Alone(scope), TagUrls::Root(service)),
        _ => (TagScope::Partition(scope), TagUrls::Partition(urls)),
    })
}

macro_rules! asks_at_root_or_in_one {
    ($($question:ty: $permission:expr, $scope:ty, $narrow:expr;)*) => {$(
        impl Asks for $question {
            const PERMISSION: Permission = $permission;
            type Scope = $scope;
            type Urls = TagUrls;
            fn narrow(scope: Scope, urls: Urls, at: At) -> Result<($scope, TagUrls), Problem> {
                let narrow: fn(Scope, TagScope) -> $scope = $narrow;
                let (tags, urls) = root_or_one(scope.clone(), &urls, at)?;
                Ok((narrow(scope, tags), urls))
            }
        }
    )*};
}

asks_at_root_or_in_one!(
    ReadTags: Permission::ReadTags, TagScope, |_, tags| tags;
    ManageTags: Permission::ManageTags, TagScope, |_, tags| tags;
    ReadOperations: Permission::ReadOperations, Scope, |scope, _| scope;
    ManageOperations: Permission::ManageOperations, Scope, |scope, _| scope;
);

/// A request that may do what it asks for.
pub struct Admitted<A: Asks> {
    /// What it may touch.
    pub scope: A::Scope,
    /// How answers are addressed.
    pub urls: A::Urls,
    /// Who it is.
    pub caller: Caller,
}

impl<A: Asks> FromRequestParts<App> for Admitted<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let carried = Carried::read(parts, &app.server, &app.tenancy, A::PERMISSION)?;
        let (caller, scope) = decide(app, parts, &carried, A::PERMISSION).await?;
        let urls = urls(app, parts, &carried)?;
        let at = match &carried.named {
            _ if !app.partitions.enabled() => At::Alone,
            Named::Nothing => At::Root,
            Named::One(_) | Named::Several(_) => At::Named,
        };
        let (scope, urls) = A::narrow(scope, urls, at)?;
        Ok(Self { scope, urls, caller })
    }
}

/// Finds out who calls, and has it on the record where nobody is found.
///
/// # Errors
/// As [`Caller::of`].
pub async fn identify(
    app: &App,
    parts: &Parts,
    permission: Permission,
    named: &Named,
) -> Result<Caller, Problem> {
    let caller = Caller::of(app, parts).await;
    if caller.is_err() {
        Trail::of(parts).unidentified(app, parts, permission, named);
    }
    caller
}

/// Decides who calls and what the request may touch, once its carriers agreed.
///
/// # Errors
/// The refusal, as it is answered.
pub async fn decide(
    app: &App,
    parts: &Parts,
    carried: &Carried,
    permission: Permission,
) -> Result<(Caller, Scope), Problem> {
    let trail = Trail::of(parts);
    let caller = identify(app, parts, permission, &carried.named).await?;
    let Caller { who, around, .. } = &caller;
    match app.partitions.scope(who, around, &carried.named, permission).await {
        Ok(scope) => {
            // Not on the record where it is turned away: that is for load, and not for what it
            // wanted.
            Visit::sit(parts, &scope).await?;
            let deed = Arc::new(caller.deed(parts, permission));
            trail.admitted(&deed, &scope);
            Ok((caller, scope.for_deed(deed)))
        }
        Err(ControlError::Refused(refused)) => {
            trail.refused(caller.deed(parts, permission), &carried.named, &refused);
            Err(refused.into())
        }
        Err(error) => {
            trail.undecided(caller.deed(parts, permission), &carried.named);
            Err(error.into())
        }
    }
}

/// Whether a caller may also reject what a partition holds, as strong as deleting it; to be awaited
/// when it is to be known, the partition being there by then.
pub fn may_reject(app: &App, caller: &Caller, partition: &PartitionId) -> MayReject {
    let (app, named) = (app.clone(), Named::One(partition.clone()));
    let Caller { who, around, .. } = caller.clone();
    Box::pin(async move {
        match app.partitions.scope(&who, &around, &named, Permission::Delete).await {
            Ok(_) => Ok(true),
            Err(ControlError::Refused(_)) => Ok(false),
            Err(ControlError::Index(_)) => Err(Undecided),
        }
    })
}

/// The URLs of answers to this request.
///
/// # Errors
/// 400 where the request's own address cannot be used.
pub fn urls(app: &App, parts: &Parts, carried: &Carried) -> Result<Urls, Problem> {
    Ok(Urls::of(parts, carried, &app.server, &app.tenancy, app.partitions.enabled())?)
}

/// The one partition of a scope, and its URLs.
///
/// # Errors
/// 400 where the scope holds several.
pub fn one(scope: Scope, urls: &Urls) -> Result<(PartitionScope, PartitionUrls), Problem> {
    let scope = PartitionScope::try_from(scope)?;
    let urls = urls.within(scope.partition());
    Ok((scope, urls))
}
