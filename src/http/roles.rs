//! Roles: those that every partition has, and those of its own.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    App,
    admit::{Admitted, ManagePrincipals, ReadPrincipals},
    json_body,
    managing::{Fields, PERMISSIONS, RoleName, by, insists, permissions, text},
    problem::Problem,
    query_tags::page,
    shown::put_moment,
};
use crate::{
    archive::ArchiveError,
    control::OwnRole,
    tenancy::{Permission, Permissions, Role},
};

/// `GET /roles`: those that are built in first.
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let (limit, offset) = page(&uri)?;
    let [limit, offset] = [limit, offset].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let own = app.members.roles(&caller.scope).await.map_err(ArchiveError::from)?;
    let all = Role::ALL.into_iter().map(built_in).chain(own.iter().map(shown));
    Ok(Json(all.skip(offset).take(limit).collect()))
}

/// `GET /roles/{role}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    RoleName(name): RoleName,
) -> Result<Json<Value>, Problem> {
    if let Some(role) = Role::of(&name) {
        return Ok(Json(built_in(role)));
    }
    let own = app.members.roles(&caller.scope).await.map_err(ArchiveError::from)?;
    let role = own.iter().find(|role| role.name == name).ok_or_else(Problem::not_found)?;
    Ok(Json(shown(role)))
}

/// `PUT /roles/{role}`
pub async fn put(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    RoleName(name): RoleName,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let insists = insists(&parts.uri)?;
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["permissions", "description"])?;
    let permits = fields.need("permissions", PERMISSIONS, permissions);
    let rule = "a text of up to 256 characters without control characters";
    let description = fields.take("description", rule, text(256)).unwrap_or_default();
    fields.end()?;
    let by = by(&caller, insists);
    let (role, is_new) = app.members.put_role(&by, &name, permits, &description).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(&role))).into_response())
}

/// `DELETE /roles/{role}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    RoleName(name): RoleName,
) -> Result<StatusCode, Problem> {
    app.members.remove_role(&by(&caller, false), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn names(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(Permission::as_str).collect()
}

fn built_in(role: Role) -> Value {
    json!({ "name": role.as_str(), "permissions": names(role.permits()), "builtIn": true })
}

fn shown(role: &OwnRole) -> Value {
    let mut shown = json!({
        "name": role.name,
        "permissions": names(role.permissions),
        "builtIn": false,
        "description": role.description,
    });
    put_moment(&mut shown, "createdTime", Some(role.created_at));
    put_moment(&mut shown, "lastUpdatedTime", Some(role.updated_at));
    shown
}
