//! What awaits removal: of each partition, how much, when, and what could not be removed.

use axum::{Json, extract::State, http::Uri};
use serde_json::{Value, json};

use super::{
    App,
    admit::{Admitted, ManageOperations, ReadOperations},
    problem::Problem,
    query_tags::page,
    shown::moment,
};
use crate::archive::Removals;

/// `GET /removals`: the partitions that have something to get rid of.
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadOperations>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let removals = app.archive.removals(&caller.scope, page(&uri)?).await?;
    Ok(Json(removals.iter().map(shown).collect()))
}

/// `POST /removals/$retry`: has what failed tried again now; answers as `GET` does.
pub async fn retry(
    State(app): State<App>,
    caller: Admitted<ManageOperations>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let page = page(&uri)?;
    app.archive.retry_removals(&caller.scope).await?;
    let removals = app.archive.removals(&caller.scope, page).await?;
    Ok(Json(removals.iter().map(shown).collect()))
}

fn shown(removals: &Removals) -> Value {
    let mut shown = json!({
        "partitionName": removals.partition.as_str(),
        "blobs": removals.awaiting,
        "bytes": removals.bytes,
        "failed": removals.failed,
        "compactions": removals.compactions,
        "compactionsFailed": removals.compactions_failed,
        "errors": removals.errors,
    });
    if let Some(next) = removals.next_at {
        shown["next"] = json!(moment(next));
    }
    shown
}
