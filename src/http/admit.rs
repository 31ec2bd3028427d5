//! Who may: the extractor that turns a request into a scope, or a refusal.
//!
//! A handler without [`Admitted`] in its signature is visibly public. (Store decides late, since
//! its first part may name the partition: it calls [`decide`] itself.)

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{
    App,
    carrier::Carried,
    problem::Problem,
    urls::{PartitionUrls, Urls},
};
use crate::{
    control::ControlError,
    tenancy::{Action, PartitionScope, Principal, Scope},
};

/// What a request asks for; the scope's type follows from the question.
pub trait Asks: Send + Sync + 'static {
    /// The action to be allowed.
    const ACTION: Action;
    /// One partition or several.
    type Scope: Send;
    /// The URLs that answers are made of.
    type Urls: Send;
    /// Narrows what was decided to what the action needs.
    ///
    /// # Errors
    /// Where the scope does not fit the action.
    fn narrow(scope: Scope, urls: Urls) -> Result<(Self::Scope, Self::Urls), Problem>;
}

/// Asks to retrieve.
pub struct Read;
/// Asks to delete.
pub struct Remove;
/// Asks to search.
pub struct Search;

impl Asks for Read {
    const ACTION: Action = Action::Retrieve;
    type Scope = PartitionScope;
    type Urls = PartitionUrls;
    fn narrow(scope: Scope, urls: Urls) -> Result<(PartitionScope, PartitionUrls), Problem> {
        one(scope, &urls)
    }
}

impl Asks for Remove {
    const ACTION: Action = Action::Delete;
    type Scope = PartitionScope;
    type Urls = PartitionUrls;
    fn narrow(scope: Scope, urls: Urls) -> Result<(PartitionScope, PartitionUrls), Problem> {
        one(scope, &urls)
    }
}

impl Asks for Search {
    const ACTION: Action = Action::Search;
    type Scope = Scope;
    type Urls = Urls;
    fn narrow(scope: Scope, urls: Urls) -> Result<(Scope, Urls), Problem> {
        Ok((scope, urls))
    }
}

/// A request that may do what it asks for.
pub struct Admitted<A: Asks> {
    /// What it may touch.
    pub scope: A::Scope,
    /// How answers are addressed.
    pub urls: A::Urls,
}

impl<A: Asks> FromRequestParts<App> for Admitted<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let carried = Carried::read(parts, &app.server, &app.tenancy, A::ACTION)?;
        let scope = decide(app, &carried, A::ACTION).await?;
        let urls = urls(app, parts, &carried)?;
        let (scope, urls) = A::narrow(scope, urls)?;
        Ok(Self { scope, urls })
    }
}

/// Decides what a request may touch, once its carriers agreed.
///
/// # Errors
/// The refusal, as it is answered.
pub async fn decide(app: &App, carried: &Carried, action: Action) -> Result<Scope, Problem> {
    match app.partitions.scope(&Principal::Anonymous, &carried.named, action).await {
        Ok(scope) => Ok(scope),
        Err(ControlError::Refused(refused)) => Err(refused.into()),
        Err(ControlError::Index(error)) => Err(crate::archive::ArchiveError::from(error).into()),
    }
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
