//! `/partitions`: those that the principal may see, and new ones.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{
    App, caller::Caller, json_body, layers::audit::Trail, managing::Fields, problem::Problem, urls,
};
use crate::{
    archive::ArchiveError,
    control::{ControlError, Partition},
    tenancy::{Named, PartitionId, Permission},
};

/// Lists partitions by id. Under `/v1` and `/v2` the members are those of Microsoft's server.
pub async fn list(State(app): State<App>, request: Request) -> Result<Json<Vec<Value>>, Problem> {
    let (parts, _) = request.into_parts();
    let trail = Trail::of(&parts);
    let caller = match Caller::of(&app, &parts).await {
        Ok(caller) => caller,
        Err(problem) => {
            trail.unidentified(&app, &parts, Permission::ListPartitions, &Named::Nothing);
            return Err(problem);
        }
    };
    let deed = Arc::new(caller.deed(&parts, Permission::ListPartitions));
    trail.admitted_to(&deed, &app.audit.platform());
    let listed = app.partitions.list(&caller.who, &caller.around).await;
    let partitions = listed.map_err(ArchiveError::from)?;
    Ok(Json(partitions.iter().map(shape(&parts.uri)).collect()))
}

/// `POST /partitions`: makes one come into being.
pub async fn create(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    const PERMISSION: Permission = Permission::ManagePartitions;
    let (parts, body) = request.into_parts();
    let trail = Trail::of(&parts);
    let caller = match Caller::of(&app, &parts).await {
        Ok(caller) => caller,
        Err(problem) => {
            trail.unidentified(&app, &parts, PERMISSION, &Named::Nothing);
            return Err(problem);
        }
    };
    let deed = Arc::new(caller.deed(&parts, PERMISSION));
    trail.admitted_to(&deed, &app.audit.platform());
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut fields = Fields::of(body, &["partitionId"])?;
    let rule = "1 to 32 characters of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
    let id: Option<PartitionId> =
        fields.need("partitionId", rule, |value| Some(Some(value.as_str()?.parse().ok()?)));
    fields.end()?;
    let id = id.ok_or_else(|| Problem::invalid("partitionId", rule))?;
    match app.partitions.create(&deed, &caller.around, &id).await {
        Ok(Some(made)) => Ok((StatusCode::CREATED, Json(shape(&parts.uri)(&made))).into_response()),
        Ok(None) => Err(Problem::conflict("there is such a partition already")),
        Err(ControlError::Refused(refused)) => Err(refused.into()),
        Err(ControlError::Index(error)) => Err(ArchiveError::from(error).into()),
    }
}

fn shape(uri: &Uri) -> fn(&Partition) -> Value {
    let is_versioned = !urls::split_version(uri.path()).0.is_empty();
    if is_versioned { microsoft } else { own }
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
