//! Operations: how far work is that outlives the request which asked for it.
//!
//! The JSON is that of Microsoft's server, with counts. An answer is 202 until the operation has
//! ended, and 200 from then on.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, ManageOperations, ReadOperations, TagUrls},
    place,
    problem::Problem,
    query::{once, pairs},
    query_tags::{operation_href, page},
    shown::moment,
    urls,
};
use crate::archive::{Canceled, Operation, OperationFilter, OperationKind, OperationState};

/// Seconds after which it is worth asking again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// `{operation}` of a path: its id.
pub struct Named(Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "operation").await?;
        let rule = "a UUID, with or without dashes";
        Uuid::parse_str(&text).map(Self).map_err(|_| Problem::invalid("operation", rule))
    }
}

/// `GET /operations`: newest first.
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadOperations>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let (filter, page) = (filter(&uri)?, page(&uri)?);
    let operations = app.archive.operations(&caller.scope, filter, page).await?;
    let shown = |one| shown(&app, one, &caller.urls, &uri);
    Ok(Json(operations.iter().map(shown).collect()))
}

/// `GET /operations/{operation}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadOperations>,
    Named(id): Named,
    uri: Uri,
) -> Result<Response, Problem> {
    let operation = app.archive.operation(&caller.scope, id).await?;
    Ok(answer(&app, &operation, &caller.urls, &uri))
}

/// `DELETE /operations/{operation}`: cancels it, and answers how far it is now. 409 where it has
/// ended, or is of a kind that is not cancelled.
pub async fn cancel(
    State(app): State<App>,
    caller: Admitted<ManageOperations>,
    Named(id): Named,
    uri: Uri,
) -> Result<Response, Problem> {
    match app.archive.cancel_operation(&caller.scope, id).await? {
        Canceled::Yes(operation) => Ok(answer(&app, &operation, &caller.urls, &uri)),
        Canceled::Ended => Err(Problem::conflict("the operation has ended")),
        Canceled::Never => {
            Err(Problem::conflict("the removal of what was deleted cannot be cancelled"))
        }
    }
}

/// `kind` and `status` of a query; others are not ours to read.
fn filter(uri: &Uri) -> Result<OperationFilter, Problem> {
    let mut filter = OperationFilter::default();
    for (name, value) in pairs(uri) {
        match &*name {
            "kind" => {
                let rule = "reindex, purge, compact, erase, update, import or export, once";
                once(&mut filter.kind, OperationKind::named(&value), "kind", rule)?;
            }
            "status" => {
                let state = match &*value {
                    "completed" => Some(OperationState::Succeeded),
                    name => OperationState::ALL.into_iter().find(|state| state.name() == name),
                };
                let rule = "notStarted, running, succeeded, failed or canceled, once";
                once(&mut filter.state, state, "status", rule)?;
            }
            _ => {}
        }
    }
    Ok(filter)
}

fn answer(app: &App, operation: &Operation, urls: &TagUrls, uri: &Uri) -> Response {
    let body = Json(shown(app, operation, urls, uri));
    if operation.state.has_ended() {
        return body.into_response();
    }
    let location = [(header::LOCATION, operation_href(urls, operation.id))];
    let retry = [(header::RETRY_AFTER, RETRY_AFTER)];
    (StatusCode::ACCEPTED, location, retry, body).into_response()
}

fn shown(app: &App, operation: &Operation, urls: &TagUrls, uri: &Uri) -> Value {
    let is_first_version = urls::split_version(uri.path()).0 == "/v1";
    let status = match operation.state {
        OperationState::Succeeded if is_first_version => "completed",
        state => state.name(),
    };
    let resources = operation.resources.iter().map(|resource| match operation.kind {
        OperationKind::Reindex => urls.at(&format!("/extendedquerytags/{resource}")),
        // Seen from the root, what was erased was in a partition.
        _ => match (urls, &operation.partition) {
            (TagUrls::Root(_), Some(partition)) if app.partitions.enabled() => {
                urls.at(&format!("/partitions/{partition}{resource}"))
            }
            _ => urls.at(resource),
        },
    });
    let mut shown = json!({
        "operationId": operation.id.simple().to_string(),
        "type": operation.kind.name(),
        "createdTime": moment(operation.created_at),
        "lastUpdatedTime": moment(operation.updated_at),
        "status": status,
        "percentComplete": percent(operation),
        "resources": resources.collect::<Vec<_>>(),
        "processed": operation.processed,
        "failed": operation.failed,
    });
    if let Some(total) = operation.total {
        shown["total"] = json!(total);
    }
    if let Some(results) = &operation.results {
        shown["results"] = results.clone();
    }
    if let Some(error) = &operation.error
        && shown["results"].get("errors").is_none()
    {
        shown["results"]["errors"] = json!([error]);
    }
    shown
}

/// 100 means that all is done.
fn percent(operation: &Operation) -> i64 {
    match (operation.state, operation.total) {
        (OperationState::Succeeded, _) => 100,
        (_, Some(total)) if total > 0 => {
            (operation.processed.saturating_mul(100) / total).clamp(0, 99)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_what_is_done_is_complete() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let mut operation = Operation {
            id: Uuid::nil(),
            kind: OperationKind::Purge,
            state: OperationState::Running,
            resources: Vec::new(),
            processed: 0,
            total: None,
            failed: 0,
            created_at: at,
            updated_at: at,
            error: None,
            results: None,
            partition: None,
        };
        assert_eq!(percent(&operation), 0);
        for (processed, total, expected) in [(0, 0, 0), (1, 3, 33), (3, 3, 99), (9, 3, 99)] {
            (operation.processed, operation.total) = (processed, Some(total));
            assert_eq!(percent(&operation), expected);
        }
        operation.state = OperationState::Succeeded;
        assert_eq!(percent(&operation), 100);
    }
    #[test]
    fn a_filter_names_a_kind_and_a_status_once_each() {
        let asked = |query: &str| filter(&format!("/operations?{query}").parse().unwrap());
        let erase = OperationFilter { kind: Some(OperationKind::Erase), state: None };
        let failed = OperationFilter { state: Some(OperationState::Failed), ..erase };
        for (query, expected) in [
            ("limit=1", OperationFilter::default()),
            ("kind=erase", erase),
            ("status=failed&kind=erase", failed),
        ] {
            assert_eq!(asked(query).unwrap(), expected, "{query}");
        }
        for (query, field) in [
            ("kind=", "kind"),
            ("kind=Erase", "kind"),
            ("kind=erase&kind=erase", "kind"),
            ("status=done", "status"),
            ("status=failed&status=running", "status"),
        ] {
            assert_eq!(asked(query).unwrap_err().errors()[0].field, field, "{query}");
        }
    }
}
