//! Probes and metrics: `/health/live`, `/health/ready`, `/metrics`.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, caller::Caller, problem::Problem};
use crate::tenancy::{Denied, Membership, Permission, permissions};

/// 200 while the process serves requests at all.
pub async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "live" }))
}

/// 200 when the database answers, its schema is this server's, and the blob store answers; else
/// 503. Each part is named with `ok` or `failed`; the reasons are in the log.
pub async fn ready(State(app): State<App>) -> Response {
    let checks = app.health.check().await;
    let status = |ok: bool| if ok { "ok" } else { "failed" };
    let all = checks.iter().all(|check| check.ok);
    let parts: serde_json::Map<_, _> =
        checks.iter().map(|check| (check.name.to_owned(), json!(status(check.ok)))).collect();
    let code = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let overall = if all { "ready" } else { "not ready" };
    (code, Json(json!({ "status": overall, "checks": parts }))).into_response()
}

/// The metrics in the text format of Prometheus: of all partitions, so that what one of them grants
/// does not count. Open where authentication is off, and by `auth.open_metrics`.
pub async fn metrics(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    if !app.edge.open_metrics {
        let (parts, _) = request.into_parts();
        let who = Caller::of(&app, &parts).await?.who;
        if !permissions(&who, &Membership::default()).has(Permission::ReadMetrics) {
            return Err(Denied::Permission(Permission::ReadMetrics).into());
        }
    }
    let text = app.metrics.render();
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((headers, text).into_response())
}
