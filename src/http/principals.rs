//! Principals: who is known in a partition, with which roles, and who is shut out.
//!
//! Holds: what a credential itself gives is not shown and cannot be changed here. Absent: what
//! follows from it (`control`).

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    App,
    admit::{Admitted, ManagePrincipals, ReadPrincipals},
    json_body,
    managing::{Fields, ISSUER, ROLES, by, id_of, insists, name, roles},
    problem::Problem,
    query::{once, pairs},
    query_tags::page,
    shown::{moment, put_moment},
};
use crate::{
    archive::ArchiveError,
    control::{Member, MemberChange, MemberFilter, NewMember, can_be_named},
    tenancy::PrincipalKind,
};

const NAME: &str = "a text of 1 to 128 characters without control characters";
const LONG_NAME: &str = "a text of 1 to 255 characters without control characters";
const KIND: &str = "\"user\", \"service\" or \"certificate\"";
const STATE: &str = "\"active\" or \"suspended\"";

id_of!(
    /// `{principal}` of a path: its id.
    Named, "principal"
);

/// `GET /principals`
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let found = app.members.list(&caller.scope, &filter(&uri)?, page(&uri)?).await;
    Ok(Json(found.map_err(ArchiveError::from)?.iter().map(shown).collect()))
}

/// `POST /principals`
pub async fn add(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["kind", "issuer", "subject", "name", "roles"])?;
    let issuer = |value: &Value| name(255)(value).filter(|issuer| can_be_named(issuer));
    let new = NewMember {
        kind: fields
            .take("kind", KIND, |value| kind(value.as_str()?))
            .unwrap_or(PrincipalKind::User),
        issuer: fields.need("issuer", ISSUER, issuer),
        subject: fields.need("subject", LONG_NAME, name(255)),
        name: fields.take("name", NAME, name(128)),
        roles: fields.take("roles", ROLES, roles).unwrap_or_default(),
    };
    fields.end()?;
    let added = app.members.add(&by(&caller, false), &new).await?;
    let location = caller.urls.at(&format!("/principals/{}", added.id.simple()));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(shown(&added))).into_response())
}

/// `GET /principals/{principal}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    Named(id): Named,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&app.members.get(&caller.scope, id).await?)))
}

/// `PATCH /principals/{principal}`
pub async fn change(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let insists = insists(&parts.uri)?;
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["name", "roles", "state"])?;
    let change = MemberChange {
        name: fields.take("name", NAME, name(128)),
        roles: fields.take("roles", ROLES, roles),
        is_suspended: fields.take("state", STATE, |value| state(value.as_str()?)),
    };
    fields.end()?;
    Ok(Json(shown(&app.members.change(&by(&caller, insists), id, change).await?)))
}

/// `DELETE /principals/{principal}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    app.members.remove(&by(&caller, insists(&uri)?), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /principals/{principal}/$signOut`
pub async fn sign_out(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
) -> Result<Json<Value>, Problem> {
    let from = app.members.sign_out(&by(&caller, false), id).await?;
    Ok(Json(json!({ "validFrom": moment(from) })))
}

fn filter(uri: &Uri) -> Result<MemberFilter, Problem> {
    let mut filter = MemberFilter::default();
    for (name, value) in pairs(uri) {
        let text = || (!value.is_empty() && !value.contains('\0')).then(|| value.to_string());
        match &*name {
            "kind" => once(&mut filter.kind, kind(&value), "kind", KIND)?,
            "issuer" => once(&mut filter.issuer, text(), "issuer", "a text, once")?,
            "subject" => once(&mut filter.subject, text(), "subject", "a text, once")?,
            "state" => once(&mut filter.is_suspended, state(&value), "state", STATE)?,
            _ => {}
        }
    }
    Ok(filter)
}

/// Kinds that partitions know.
fn kind(text: &str) -> Option<PrincipalKind> {
    use PrincipalKind::{Certificate, Service, User};
    PrincipalKind::of(text).filter(|kind| matches!(kind, User | Service | Certificate))
}

fn state(text: &str) -> Option<bool> {
    match text {
        "active" => Some(false),
        "suspended" => Some(true),
        _ => None,
    }
}

fn shown(member: &Member) -> Value {
    let Member { is, .. } = member;
    let mut shown = json!({
        "id": member.id.simple().to_string(),
        "kind": is.kind.as_str(),
        "issuer": is.issuer,
        "subject": is.subject,
        "roles": is.roles,
        "state": if member.suspended_at.is_some() { "suspended" } else { "active" },
        "createdTime": moment(member.created_at),
    });
    if let Some(name) = &is.name {
        shown["name"] = json!(name);
    }
    put_moment(&mut shown, "lastSeenTime", member.last_seen_at);
    put_moment(&mut shown, "suspendedTime", member.suspended_at);
    put_moment(&mut shown, "validFrom", member.valid_from);
    shown
}
