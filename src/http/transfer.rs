//! Export and import: instances to places outside of the archive, and from there.
//!
//! Bodies are of the form that Microsoft's server has for its export: a source and a destination,
//! each of a type with settings. Holds: a client names a place by its name alone, and one that its
//! partition may not use is answered as one that does not exist. What is exported as it is needs a
//! permission that de-identified exports do not; of these nothing is shown that names what is stored.
//! The answer is 202 with an operation.
//! Absent: the copying (`exchange`).

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    App,
    admit::{self, Admitted, Export, Store},
    carrier::Carried,
    json_body::{self, members},
    problem::Problem,
    urls::PartitionUrls,
};
use crate::{
    archive::{ArchiveError, TooMany, TransferOf, Undecided},
    config::{DeidentifyConfig, PlaceConfig},
    dicom::{
        Uid,
        deidentify::{NoOption, Options},
    },
    exchange::{Deidentify, ExportRequest, ImportRequest, Layout, Within, path_of},
    query::{self, QueryError},
    tenancy::{PartitionScope, Permission, Scope},
};

/// Resources that an operation shows.
const SHOWN: usize = 100;

/// `POST /export`
pub async fn export(
    State(app): State<App>,
    caller: Admitted<Export>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut body = object(body, "")?;
    let (kind, source) = typed(&mut body, "source")?;
    let (to, mut destination) = typed(&mut body, "destination")?;
    let options = deidentify(&mut body, &app.deidentify)?;
    nothing_else(&body, "")?;
    let scope = match options {
        Some(_) => caller.scope,
        None => {
            // What was decided so far is for de-identified exports.
            let carried = Carried::read(&parts, &app.server, &app.tenancy, Permission::Export)?;
            let (_, scope) = admit::decide(&app, &parts, &carried, Permission::Export).await?;
            PartitionScope::try_from(scope)?
        }
    };
    if to != "configured" {
        let rule = "\"configured\": places are those of the server's configuration";
        return Err(Problem::invalid("destination.type", rule));
    }
    let name = text(&mut destination, "destination.settings", "name")?;
    if PlaceConfig::of(&app.export.destinations, &name, scope.partition()).is_none() {
        let rule = "the name of a destination that the partition may use";
        return Err(Problem::invalid("destination.settings.name", rule));
    }
    let layout = match optional(&mut destination, "destination.settings", "layout")? {
        None => Layout::AsIs,
        Some(layout) => Layout::named(&layout).ok_or_else(|| {
            Problem::invalid("destination.settings.layout", "\"as-is\" or \"dicom\"")
        })?,
    };
    let dicomdir = match destination.remove("dicomdir") {
        None => layout == Layout::Dicom,
        Some(Value::Bool(wanted)) if !wanted || layout == Layout::Dicom => wanted,
        Some(_) => {
            let rule = "true or false, and true of the layout \"dicom\" alone";
            return Err(Problem::invalid("destination.settings.dicomdir", rule));
        }
    };
    nothing_else(&destination, "destination.settings")?;
    let resources = match &*kind {
        "identifiers" => identifiers(source)?,
        "query" => found(&app, &scope, source).await?,
        _ => return Err(Problem::invalid("source.type", "\"identifiers\" or \"query\"")),
    };
    let deidentify = match options {
        Some(options) => {
            let profile = app.archive.deidentification_with(&scope, options).await?;
            Some(Deidentify::by(&profile))
        }
        None => None,
    };
    let request = ExportRequest::new(resources, name, (layout, dicomdir), deidentify);
    let paths: Vec<String> =
        request.resources.iter().take(SHOWN).map(|resource| path_of(resource)).collect();
    let id = Uuid::new_v4();
    let cursor = request.start(scope.partition(), id);
    let is_deidentified = request.deidentify.is_some();
    // Who has what was written may see the operation, and is not to learn from it what that was.
    let shown = if is_deidentified { &[][..] } else { &*paths };
    let of = TransferOf { place: &request.destination, resources: &paths, is_deidentified };
    app.archive.begin_transfer(&scope, id, (shown, of), &request, &cursor).await?;
    Ok(accepted(&caller.urls, id))
}

/// `POST /import`
pub async fn import(
    State(app): State<App>,
    caller: Admitted<Store>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let mut body = object(body, "")?;
    let (kind, mut source) = typed(&mut body, "source")?;
    if kind != "configured" {
        let rule = "\"configured\": places are those of the server's configuration";
        return Err(Problem::invalid("source.type", rule));
    }
    let name = text(&mut source, "source.settings", "name")?;
    if PlaceConfig::of(&app.import.sources, &name, caller.scope.partition()).is_none() {
        let rule = "the name of a source that the partition may use";
        return Err(Problem::invalid("source.settings.name", rule));
    }
    let path = optional(&mut source, "source.settings", "path")?.unwrap_or_default();
    if Within::parse(&path).is_none() {
        let rule = "names joined by slashes, none of them . or .., with no slash at either end";
        return Err(Problem::invalid("source.settings.path", rule));
    }
    nothing_else(&source, "source.settings")?;
    let report = match body.remove("report") {
        None => None,
        Some(report) => {
            let mut report = object(report, "report")?;
            let name = text(&mut report, "report", "destination")?;
            nothing_else(&report, "report")?;
            Some(name)
        }
    };
    nothing_else(&body, "")?;
    let partition = caller.scope.partition();
    let exists =
        |name: &String| PlaceConfig::of(&app.export.destinations, name, partition).is_some();
    if !report.as_ref().is_none_or(exists) {
        let rule = "the name of a destination that the partition may use";
        return Err(Problem::invalid("report.destination", rule));
    }
    let may_reject = admit::may_reject(&app, &caller.caller, partition).await;
    let may_reject = may_reject.map_err(|Undecided| ArchiveError::from(Undecided))?;
    let request = ImportRequest { source: name, path, report, may_reject };
    let id = Uuid::new_v4();
    let cursor = request.start(caller.scope.partition(), id);
    let of = TransferOf { place: &request.source, resources: &[], is_deidentified: false };
    app.archive.begin_transfer(&caller.scope, id, (&[], of), &request, &cursor).await?;
    Ok(accepted(&caller.urls, id))
}

fn accepted(urls: &PartitionUrls, id: Uuid) -> Response {
    let id = id.simple().to_string();
    let href = urls.at(&format!("/operations/{id}"));
    let body = Json(json!({ "id": id, "href": href }));
    (StatusCode::ACCEPTED, [(header::LOCATION, href)], body).into_response()
}

fn field(of: &str, name: &str) -> String {
    if of.is_empty() { name.to_owned() } else { format!("{of}.{name}") }
}

/// The members of an object, names in lower case.
fn object(value: Value, of: &str) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(object) => Ok(members(object)),
        _ if of.is_empty() => Err(Problem::bad_request("the body is a JSON object")),
        _ => Err(Problem::invalid(of.to_owned(), "an object")),
    }
}

fn optional(
    object: &mut Map<String, Value>,
    of: &str,
    name: &str,
) -> Result<Option<String>, Problem> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(field(of, name), "a text")),
    }
}

fn text(object: &mut Map<String, Value>, of: &str, name: &str) -> Result<String, Problem> {
    let text = optional(object, of, name)?;
    text.ok_or_else(|| Problem::invalid(field(of, name), "must be given"))
}

/// What has a type and settings.
fn typed(
    body: &mut Map<String, Value>,
    name: &str,
) -> Result<(String, Map<String, Value>), Problem> {
    let value =
        body.remove(name).ok_or_else(|| Problem::invalid(name.to_owned(), "must be given"))?;
    let mut value = object(value, name)?;
    let kind = text(&mut value, name, "type")?;
    let settings = match value.remove("settings") {
        None => Map::new(),
        Some(settings) => object(settings, &field(name, "settings"))?,
    };
    nothing_else(&value, name)?;
    Ok((kind, settings))
}

/// What nobody reads could have been meant to narrow what is copied.
fn nothing_else(object: &Map<String, Value>, of: &str) -> Result<(), Problem> {
    match object.keys().next() {
        None => Ok(()),
        Some(_) if of.is_empty() => {
            Err(Problem::bad_request("the body has a member that is not known"))
        }
        Some(_) => Err(Problem::invalid(of.to_owned(), "has a member that is not known")),
    }
}

/// What is to be done to instances, as far as the configuration lets a request say that.
fn deidentify(
    body: &mut Map<String, Value>,
    config: &DeidentifyConfig,
) -> Result<Option<Options>, Problem> {
    const FIELD: &str = "deidentify";
    let asked = match body.remove(FIELD) {
        None | Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => return Ok(Some(config.options)),
        Some(Value::Object(asked)) => asked,
        Some(_) => return Err(Problem::invalid(FIELD, "true, false or an object")),
    };
    let mut options = config.options;
    for (name, value) in members(asked) {
        let value = match value {
            Value::Bool(value) => value.to_string(),
            Value::String(value) => value,
            _ => return Err(Problem::invalid(FIELD, "has members that are texts, true or false")),
        };
        match options.set(&name, &value) {
            Ok(()) => {}
            Err(NoOption::Name) => {
                return Err(Problem::invalid(FIELD, "has a member that is not known"));
            }
            Err(NoOption::Value(rule)) => {
                return Err(Problem::invalid(FIELD, format!("has a member that must be {rule}")));
            }
        }
    }
    match options.beyond(config.on_request) {
        None => Ok(Some(options)),
        Some(name) => {
            let rule = format!("{name} may not be asked for: see deidentify.on_request");
            Err(Problem::invalid(FIELD, rule))
        }
    }
}

/// The resources that are named one by one.
fn identifiers(mut settings: Map<String, Value>) -> Result<Vec<String>, Problem> {
    const FIELD: &str = "source.settings.values";
    let rule = "UIDs of a study, a study and a series, or these and an instance, joined by slashes";
    let Some(Value::Array(values)) = settings.remove("values") else {
        return Err(Problem::invalid(FIELD, "a list of texts"));
    };
    nothing_else(&settings, "source.settings")?;
    if values.is_empty() {
        return Err(Problem::invalid(FIELD, "a list of at least one"));
    }
    let read = |value: Value| {
        let text = value.as_str()?;
        let parts: Option<Vec<Uid>> = text.split('/').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.len() <= 3).map(|_| text.to_owned())
    };
    let read: Option<Vec<String>> = values.into_iter().map(read).collect();
    read.ok_or_else(|| Problem::invalid(FIELD, rule))
}

/// The resources that a query finds.
async fn found(
    app: &App,
    scope: &PartitionScope,
    mut settings: Map<String, Value>,
) -> Result<Vec<String>, Problem> {
    const FIELD: &str = "source.settings.query";
    let of = "source.settings";
    let level = optional(&mut settings, of, "resource")?;
    let level = query::level_of(level.as_deref().unwrap_or("studies")).ok_or_else(|| {
        let rule = "\"studies\", \"series\" or \"instances\"";
        Problem::invalid("source.settings.resource", rule)
    })?;
    let typed = optional(&mut settings, of, "query")?.unwrap_or_default();
    nothing_else(&settings, of)?;
    let scope = Scope::clone(scope);
    let tags = match query::may_name_tags(&typed)? {
        true => app.archive.search_tags(&scope).await?,
        false => Vec::new(),
    };
    let read = query::read_whole(level, &typed, &app.search, &tags);
    let query = read.map_err(|QueryError { field, reason }| match &*field {
        "" => Problem::invalid(FIELD, reason),
        field => Problem::invalid(FIELD, format!("{field}: {reason}")),
    })?;
    let most = app.export.max_resources;
    match app.archive.found_resources(&scope, query.plan, query.filters, most as usize).await {
        Ok(found) => Ok(found),
        Err(TooMany::Found) => Err(Problem::too_large("export.max_resources", most.into())),
        Err(TooMany::Archive(error)) => Err(error.into()),
    }
}
