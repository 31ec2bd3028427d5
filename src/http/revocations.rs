//! Revocations: sessions and tokens that a partition does not take any more.

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
    managing::{Fields, ISSUER, MOMENT, by, id_of, moment_to_come, name},
    problem::Problem,
    query_tags::page,
    shown::put_moment,
};
use crate::{
    archive::ArchiveError,
    control::{NewRevocation, Revocation, RevocationKind, can_be_named},
};

const TEXT: &str = "a text of 1 to 255 characters without control characters";

id_of!(
    /// `{revocation}` of a path: its id.
    Named, "revocation"
);

/// `GET /revocations`
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadPrincipals>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let found = app.members.revocations(&caller.scope, page(&uri)?).await;
    Ok(Json(found.map_err(ArchiveError::from)?.iter().map(shown).collect()))
}

/// `POST /revocations`
pub async fn add(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["kind", "issuer", "value", "expiresTime"])?;
    let rule = "\"session\" or \"token\"";
    let kind = fields.need("kind", rule, |value| Some(RevocationKind::of(value.as_str()?)));
    let named = |value: &Value| name(255)(value).filter(|issuer| can_be_named(issuer));
    let issuer = fields.need("issuer", ISSUER, named);
    let value = fields.need("value", TEXT, name(255));
    let expires_at = fields.take("expiresTime", MOMENT, moment_to_come).flatten();
    fields.end()?;
    let kind = kind.ok_or_else(|| Problem::invalid("kind", rule))?;
    let new = NewRevocation { kind, issuer, value, expires_at };
    let added = app.members.revoke(&by(&caller, false), &new).await?;
    let location = caller.urls.at(&format!("/revocations/{}", added.id.simple()));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(shown(&added))).into_response())
}

/// `DELETE /revocations/{revocation}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManagePrincipals>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    app.members.unrevoke(&by(&caller, false), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(revocation: &Revocation) -> Value {
    let NewRevocation { kind, issuer, value, expires_at } = &revocation.of;
    let mut shown = json!({
        "id": revocation.id.simple().to_string(),
        "kind": kind.as_str(),
        "issuer": issuer,
        "value": value,
    });
    put_moment(&mut shown, "revokedTime", Some(revocation.revoked_at));
    put_moment(&mut shown, "expiresTime", *expires_at);
    shown
}
