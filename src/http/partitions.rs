//! `GET /partitions`: the partitions that the principal may see.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::caller::Caller;
use super::{App, layers::audit::Trail, problem::Problem, urls};
use crate::{
    archive::ArchiveError,
    control::Partition,
    tenancy::{Named, Permission},
};

/// Lists partitions by id. Under `/v1` and `/v2` the members are those of Microsoft's server.
pub async fn list(State(app): State<App>, request: Request) -> Result<Json<Vec<Value>>, Problem> {
    let (parts, _) = request.into_parts();
    let trail = Trail::of(&parts);
    let caller = match Caller::of(&app, &parts).await {
        Ok(caller) => caller,
        Err(problem) => {
            trail.unidentified(&parts, Permission::ListPartitions, &Named::Nothing);
            return Err(problem);
        }
    };
    let deed = Arc::new(caller.deed(&parts, Permission::ListPartitions));
    trail.admitted_to(&deed, &app.audit.platform());
    let listed = app.partitions.list(&caller.who, &caller.around).await;
    let partitions = listed.map_err(ArchiveError::from)?;
    let versioned = !urls::split_version(parts.uri.path()).0.is_empty();
    let shape = if versioned { microsoft } else { own };
    Ok(Json(partitions.iter().map(shape).collect()))
}

fn own(partition: &Partition) -> Value {
    json!({ "partitionId": partition.id.as_str(), "createdDate": created(partition) })
}

fn microsoft(partition: &Partition) -> Value {
    json!({
        "partitionKey": partition.key,
        "partitionName": partition.id.as_str(),
        "createdDate": created(partition),
    })
}

fn created(partition: &Partition) -> String {
    partition.created_at.format(&Rfc3339).unwrap_or_default()
}
