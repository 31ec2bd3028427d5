//! API keys of a partition, as who keeps them sees them.
//!
//! Holds: a key is in the answer that made it, and in no other; it never has more than who made it, or
//! who got its new secret. Absent: whether one that a request brings is good (`control`).

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, ManagePrincipals, ReadPrincipals},
    json_body,
    managing::{
        Fields, MOMENT, PERMISSIONS, ROLES, by, id_of, insists, moment_to_come, name, permissions,
        roles,
    },
    problem::Problem,
    query,
    query_tags::page,
    shown::{moment, no_store, put_moment},
};
use crate::{
    archive::ArchiveError,
    control::{ApiKey, KeySettings, SecretHash},
    identity::api_key::{self, NewSecret},
    tenancy::Permission,
};

const NAME: &str = "a text of 1 to 128 characters without control characters";
const STATE: &str = "\"active\" or \"disabled\"";
const OVERLAP: &str = "a time such as 24h, up to 30days, once";

/// For how long a secret that was replaced is good, where nothing is said, and at the most.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

id_of!(
    /// `{key}` of a path: its id.
    Named, "key"
);

/// `GET /apikeys`
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let found = app.keys.list(&caller.scope, page(&uri)?).await.map_err(ArchiveError::from)?;
    Ok(Json(found.iter().map(shown).collect()))
}

/// `POST /apikeys`
pub async fn add(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["name", "roles", "permissions", "expiresTime"])?;
    let settings = KeySettings {
        name: fields.need("name", NAME, name(128)),
        roles: fields.take("roles", ROLES, roles).unwrap_or_default(),
        permissions: fields.take("permissions", PERMISSIONS, permissions).unwrap_or_default(),
        expires_at: fields.take("expiresTime", MOMENT, moment_to_come).flatten(),
        is_disabled: false,
    };
    fields.end()?;
    let (id, secret) = (Uuid::new_v4(), NewSecret::generate());
    let prefix = api_key::prefix(id);
    let kept = (&*prefix, SecretHash(secret.hash()));
    let added = app.keys.add(&by(&caller, false), id, &settings, kept).await?;
    let mut shown = shown(&added);
    shown["key"] = json!(secret.shown(caller.scope.partition(), id));
    let location = caller.urls.at(&format!("/apikeys/{}", id.simple()));
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, no_store(Json(shown))).into_response())
}

/// `GET /apikeys/{key}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    Named(id): Named,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&app.keys.get(&caller.scope, id).await?)))
}

/// `PATCH /apikeys/{key}`
pub async fn change(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let insists = insists(&parts.uri)?;
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let known = ["name", "roles", "permissions", "expiresTime", "state"];
    let mut fields = Fields::of(body, &known)?;
    let name = fields.take("name", NAME, name(128));
    let roles = fields.take("roles", ROLES, roles);
    let permissions = fields.take("permissions", PERMISSIONS, permissions);
    let expires_at = fields.take("expiresTime", MOMENT, moment_to_come);
    let is_disabled = fields.take("state", STATE, |value| match value.as_str()? {
        "active" => Some(false),
        "disabled" => Some(true),
        _ => None,
    });
    fields.end()?;
    let apply = |settings: &mut KeySettings| {
        settings.name = name.unwrap_or_else(|| settings.name.clone());
        settings.roles = roles.unwrap_or_else(|| settings.roles.clone());
        settings.permissions = permissions.unwrap_or(settings.permissions);
        settings.expires_at = expires_at.unwrap_or(settings.expires_at);
        settings.is_disabled = is_disabled.unwrap_or(settings.is_disabled);
    };
    Ok(Json(shown(&app.keys.change(&by(&caller, insists), id, apply).await?)))
}

/// `DELETE /apikeys/{key}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    app.keys.remove(&by(&caller, insists(&uri)?), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /apikeys/{key}/$rotate`
pub async fn rotate(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
    uri: Uri,
) -> Result<Response, Problem> {
    let overlap = overlap(&uri)?;
    let secret = NewSecret::generate();
    let hash = SecretHash(secret.hash());
    let until = app.keys.rotate(&by(&caller, false), id, hash, overlap).await?;
    let key = secret.shown(caller.scope.partition(), id);
    Ok(no_store(Json(json!({ "key": key, "previousSecretUntil": moment(until) }))))
}

fn overlap(uri: &Uri) -> Result<Duration, Problem> {
    let time = |text: &str| humantime::parse_duration(text).ok().filter(|t| *t <= LONGEST_OVERLAP);
    Ok(query::only(uri, "overlap", OVERLAP, time)?.unwrap_or(DEFAULT_OVERLAP))
}

fn shown(key: &ApiKey) -> Value {
    let ApiKey { settings, .. } = key;
    let is_over = settings.expires_at.is_some_and(|at| at <= OffsetDateTime::now_utc());
    let state = match (settings.is_disabled, is_over) {
        (true, _) => "disabled",
        (false, true) => "expired",
        (false, false) => "active",
    };
    let mut shown = json!({
        "id": key.id.simple().to_string(),
        "name": settings.name,
        "prefix": key.prefix,
        "roles": settings.roles,
        "permissions": settings.permissions.iter().map(Permission::as_str).collect::<Vec<_>>(),
        "state": state,
        "createdTime": moment(key.created_at),
        "createdBy": key.created_by,
    });
    put_moment(&mut shown, "expiresTime", settings.expires_at);
    put_moment(&mut shown, "lastUsedTime", key.last_used_at);
    put_moment(&mut shown, "disabledTime", key.disabled_at);
    put_moment(&mut shown, "previousSecretUntil", key.old_hash.map(|(_, until)| until));
    shown
}
