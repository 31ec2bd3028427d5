//! `/partitions`: those that the principal may see, and new ones.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    App, admit, caller::Caller, json_body, layers::audit::Trail, managing::Fields,
    problem::Problem, shown::moment, urls,
};
use crate::{
    archive::ArchiveError,
    control::{ControlError, Partition},
    tenancy::{Deed, Named, PartitionId, Permission},
};

/// Lists partitions by id. Under `/v1` and `/v2` the members are those of Microsoft's server.
pub async fn list(State(app): State<App>, request: Request) -> Result<Json<Vec<Value>>, Problem> {
    let (parts, _) = request.into_parts();
    let (caller, _) = to_platform(&app, &parts, Permission::ListPartitions).await?;
    let listed = app.partitions.list(&caller.who, &caller.around).await;
    let partitions = listed.map_err(ArchiveError::from)?;
    Ok(Json(partitions.iter().map(shape(&parts.uri)).collect()))
}

/// `POST /partitions`: makes one come into being.
pub async fn create(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (caller, deed) = to_platform(&app, &parts, Permission::ManagePartitions).await?;
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
        Err(ControlError::Refused(refused)) => {
            Trail::of(&parts).refused_by_platform(&deed, &id, &refused);
            Err(refused.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Who calls, and what he does to partitions as such.
async fn to_platform(
    app: &App,
    parts: &Parts,
    permission: Permission,
) -> Result<(Caller, Arc<Deed>), Problem> {
    let caller = admit::identify(app, parts, permission, &Named::Nothing).await?;
    let deed = Arc::new(caller.deed(parts, permission));
    Trail::of(parts).admitted_to_platform(&deed);
    Ok((caller, deed))
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
    moment(partition.created_at)
}
