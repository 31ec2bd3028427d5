//! `GET /partitions`: the partitions that the principal may see.

use axum::{Json, extract::State, http::Uri};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{App, problem::Problem, urls};
use crate::{archive::ArchiveError, control::Partition, tenancy::Principal};

/// Lists partitions by id. Under `/v1` and `/v2` the members are those of Microsoft's server.
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Json<Vec<Value>>, Problem> {
    let partitions =
        app.partitions.list(&Principal::Anonymous).await.map_err(ArchiveError::from)?;
    let versioned = !urls::split_version(uri.path()).0.is_empty();
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
