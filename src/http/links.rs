//! Signed URLs: made for who may retrieve something, good for whoever has them.
//!
//! Holds: a link is made for what its maker may retrieve, is there, and has one spelling; what it
//! lets in is that and what lies below it, by GET and HEAD, and everything else is answered as if it
//! did not exist. Absent: what is signed (`identity::Link`), keys (`control::LinkKeys`), parameters
//! ([`link_query`]).

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, Asks, At, one},
    carrier::Carried,
    json_body,
    link_query::{self, Presented},
    managing::Fields,
    place::Place,
    problem::Problem,
    query,
    shown::{moment, no_store},
    urls::{self, PartitionUrls, Urls},
};
use crate::{
    archive::{ArchiveError, Target},
    control::MadeLink,
    dicom::Uid,
    identity::Link,
    tenancy::{Known, Named, PartitionId, PartitionScope, Permission, Scope},
};

/// Most frames that a link names.
const FRAMES: usize = 100;

/// Asks to make signed URLs.
pub struct Share;
/// Asks to revoke signed URLs.
pub struct Revoke;

macro_rules! asks {
    ($($question:ty: $permission:expr;)*) => {$(
        impl Asks for $question {
            const PERMISSION: Permission = $permission;
            type Scope = PartitionScope;
            type Urls = PartitionUrls;
            /// What names its partition by a header needs a URL that says it.
            fn narrow(scope: Scope, urls: Urls, at: At) -> Result<(Self::Scope, Self::Urls), Problem> {
                one(scope, &urls.that_say_all(at != At::Alone))
            }
        }
    )*};
}

asks!(
    Share: Permission::Share;
    Revoke: Permission::ManagePrincipals;
);

/// What the path of a link has to be.
const PATH: &str = "the path of a study, series, instance or frames, or of their metadata, rendered, \
                    thumbnail, bulkdata or pixeldata, such as /studies/1.2.3/metadata: without \
                    partition and query, and with nothing encoded";

/// What somebody wants a link for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    resource: Resource,
    expires: Duration,
}

/// A resource that a link can be for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    target: Target,
    path: String,
}

/// `POST /links`
pub async fn make(
    State(app): State<App>,
    caller: Admitted<Share>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let wanted = wanted(body, app.edge.links.default_expires, app.edge.links.max_expires)?;
    let partition = caller.scope.partition().clone();
    may_retrieve(&app, &caller, &partition).await?;
    app.archive.require(&caller.scope, &wanted.resource.target).await?;
    let id = Uuid::new_v4();
    let Resource { target, path } = wanted.resource;
    let made = MadeLink { id, study: target.study().as_str(), path: &path };
    let key = app.edge.keys.current(&caller.scope, &made).await.map_err(ArchiveError::from)?;
    let ends = OffsetDateTime::now_utc() + wanted.expires;
    let link =
        Link { partition, resource: path.into(), expires: ends.unix_timestamp(), key: key.id, id };
    let url = caller.urls.at(&link.resource);
    let shown = json!({
        "id": link.id.simple().to_string(),
        "url": link_query::signed(&url, &link, &link.sign(key.secret.expose())),
        "path": &*link.resource,
        "method": Link::METHOD,
        "expirationTime": moment(OffsetDateTime::from_unix_timestamp(link.expires).unwrap_or(ends)),
        "key": link.key.simple().to_string(),
    });
    Ok((StatusCode::CREATED, no_store(Json(shown))).into_response())
}

/// `POST /links/$rotate`
pub async fn rotate(
    State(app): State<App>,
    caller: Admitted<Revoke>,
    uri: Uri,
) -> Result<Response, Problem> {
    let overlap =
        if query::is_set(&uri, "now")? { Duration::ZERO } else { app.edge.links.key_overlap };
    let rotated = app.edge.keys.rotate(&caller.scope, overlap).await;
    let rotated = rotated.map_err(ArchiveError::from)?;
    let mut shown = json!({ "key": rotated.id.simple().to_string() });
    if let Some(until) = rotated.before_until {
        shown["previousKeyUntil"] = json!(moment(until));
    }
    Ok(no_store(Json(shown)))
}

/// Nobody shares what he may not have himself.
async fn may_retrieve(
    app: &App,
    caller: &Admitted<Share>,
    partition: &PartitionId,
) -> Result<(), Problem> {
    let (named, caller) = (Named::One(partition.clone()), &caller.caller);
    let retrieve = Permission::Retrieve;
    app.partitions.scope(&caller.who, &caller.around, &named, retrieve).await?;
    Ok(())
}

/// Who a request with a link is, if the link is good: for its partition, resource and method.
///
/// # Errors
/// [`Bad`].
pub async fn verify(app: &App, parts: &Parts, presented: &Presented) -> Result<(Known, i64), Bad> {
    let Presented::Link(unverified) = presented else { return Err(Bad::Wrong) };
    let carried = Carried::read(parts, &app.server, &app.tenancy, Permission::Retrieve);
    let partition = match carried.map_err(|error| Bad::Other(error.into()))?.named {
        Named::One(partition) => partition,
        Named::Nothing if !app.partitions.enabled() => PartitionId::default(),
        Named::Nothing | Named::Several(_) => return Err(Bad::Wrong),
    };
    let key = app.edge.keys.get(&partition, unverified.key()).await;
    let key = key.map_err(|error| Bad::Other(ArchiveError::from(error).into()))?;
    let link = unverified.of(partition);
    let is_good = key.is_some_and(|key| link.is_signed(key.expose(), &unverified.signature));
    if !is_good {
        return Err(Bad::Wrong);
    }
    if link.has_expired(OffsetDateTime::now_utc()) {
        return Err(Bad::Other(Problem::unauthorized("the link has expired")));
    }
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    if !is_read || !link.covers(within_partition(parts.uri.path())) {
        return Err(Bad::Other(Problem::not_found()));
    }
    Ok((link.principal(), link.expires))
}

/// Why a link lets nobody in.
#[derive(Debug)]
pub enum Bad {
    /// It is none of ours, or was: as with any credential that is wrong, that counts.
    Wrong,
    /// As the answer says.
    Other(Problem),
}

/// A path without version and partition, as it was sent.
fn within_partition(path: &str) -> &str {
    let (_, rest) = urls::split_version(path);
    let Some(named) = rest.strip_prefix("/partitions/") else { return rest };
    named.find('/').map_or("", |at| &named[at..])
}

fn wanted(body: Value, usual: Duration, most: Duration) -> Result<Wanted, Problem> {
    let mut fields = Fields::of(body, &["path", "method", "expires"])?;
    let found = fields.need("path", PATH, |value| Some(Some(resource(value.as_str()?)?)));
    fields.take("method", "\"GET\"", |value| (value.as_str()? == Link::METHOD).then_some(()));
    let rule = format!("a whole number of seconds, from 1 to {}", most.as_secs());
    let expires = fields.take("expires", rule, |value| {
        let time = Duration::from_secs(value.as_u64()?);
        (!time.is_zero() && time <= most).then_some(time)
    });
    fields.end()?;
    let resource = found.ok_or_else(|| Problem::invalid("path", PATH))?;
    Ok(Wanted { resource, expires: expires.unwrap_or(usual) })
}

/// The resource of a path in its one spelling.
fn resource(path: &str) -> Option<Resource> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let uid = |text: &str| text.parse::<Uid>().ok();
    let mut place = Place::default();
    let rest = match segments.as_slice() {
        ["studies", study, "series", series, "instances", instance, rest @ ..] => {
            place.instance = Some(uid(instance)?);
            place.series = Some(uid(series)?);
            place.study = Some(uid(study)?);
            match rest {
                ["frames", frames, rest @ ..] if is_list(frames) => match rest {
                    [] | ["rendered" | "thumbnail"] => &[],
                    _ => return None,
                },
                rest => rest,
            }
        }
        ["studies", study, "series", series, rest @ ..] => {
            place.series = Some(uid(series)?);
            place.study = Some(uid(study)?);
            rest
        }
        ["studies", study, rest @ ..] => {
            place.study = Some(uid(study)?);
            rest
        }
        _ => return None,
    };
    let is_known =
        matches!(rest, [] | ["metadata" | "rendered" | "thumbnail" | "bulkdata" | "pixeldata"]);
    let target = place.target().ok()?;
    // A UID may be read from more than one spelling, and a link is for one.
    is_known.then(|| Resource { path: path.to_owned(), target }).filter(|it| it.is_plain())
}

impl Resource {
    fn is_plain(&self) -> bool {
        let uids = [Some(self.target.study()), self.target.series(), self.target.instance()];
        let mut named = self.path.split('/').skip(2).step_by(2);
        uids.into_iter().flatten().all(|uid| named.next() == Some(uid.as_str()))
    }
}

fn is_list(frames: &str) -> bool {
    let numbers: Vec<&str> = frames.split(',').collect();
    let is_number = |text: &&str| {
        text.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == **text)
    };
    numbers.len() <= FRAMES && numbers.iter().all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_spelling() {
        for path in [
            "/studies/1.2",
            "/studies/1.2/metadata",
            "/studies/1.2/series/3/rendered",
            "/studies/1.2/series/3/instances/4",
            "/studies/1.2/series/3/instances/4/pixeldata",
            "/studies/1.2/series/3/instances/4/frames/1,2",
            "/studies/1.2/series/3/instances/4/frames/7/rendered",
        ] {
            assert_eq!(resource(path).expect(path).path, path);
        }
        for path in [
            "",
            "/",
            "/studies",
            "/studies/",
            "studies/1.2",
            "/studies/1.2/",
            "/studies/1.2/series",
            "/studies/1.2/instances",
            "/studies/1.2/$undelete",
            "/studies/1.2/frames/1",
            "/studies/1.2?x",
            "/studies/1.2/..",
            "/studies/1%2E2",
            "/studies/ 1.2",
            "/Studies/1.2",
            "//studies/1.2",
            "/v2/studies/1.2",
            "/partitions/p/studies/1.2",
            "/studies/1.2/series/3/instances/4/frames/0",
            "/studies/1.2/series/3/instances/4/frames/01",
            "/studies/1.2/series/3/instances/4/frames/+1",
            "/studies/1.2/series/3/instances/4/frames/1,",
            "/studies/1.2/series/3/instances/4/frames/1/metadata",
            "/wado",
            "/metrics",
        ] {
            assert_eq!(resource(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_member() {
        let (usual, most) = (Duration::from_secs(60), Duration::from_secs(100));
        let read = |body| wanted(body, usual, most);
        let path = "/studies/1.2";
        let plain = read(json!({"path": path})).unwrap();
        assert_eq!((plain.expires, &*plain.resource.path), (usual, path));
        let full = json!({"path": path, "method": "GET", "expires": 100});
        assert_eq!(read(full).unwrap().expires, most);
        for (body, fields) in [
            (json!([]), &[][..]),
            (json!({"path": path, "SECRET": 1}), &[]),
            (json!({}), &["path"]),
            (json!({"path": path, "method": "PUT"}), &["method"]),
            (json!({"path": path, "method": "get"}), &["method"]),
            (json!({"path": path, "expires": 101}), &["expires"]),
            (json!({"path": path, "expires": 0}), &["expires"]),
            (json!({"path": path, "expires": -1}), &["expires"]),
            (json!({"path": path, "expires": "SECRET"}), &["expires"]),
            (
                json!({"path": "SECRET", "method": 1, "expires": 1.5}),
                &["path", "method", "expires"],
            ),
        ] {
            let problem = read(body.clone()).unwrap_err();
            assert_eq!(problem.status(), 400, "{body}");
            let told: Vec<&str> = problem.errors().iter().map(|error| &*error.field).collect();
            assert_eq!(told, fields, "{body}");
            assert!(!format!("{problem:?}").contains("SECRET"), "{problem:?}");
        }
    }

    #[test]
    fn a_path_is_compared_without_version_and_partition() {
        for (path, inside) in [
            ("/studies/1", "/studies/1"),
            ("/v1/studies/1", "/studies/1"),
            ("/v2/partitions/p/studies/1", "/studies/1"),
            ("/partitions/%70/studies/1", "/studies/1"),
            ("/partitions/p", ""),
            ("/partitions", "/partitions"),
        ] {
            assert_eq!(within_partition(path), inside);
        }
    }
}
