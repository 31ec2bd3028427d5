//! The OpenAPI 3.1 document of a list of routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::http::operation::{Operation, Parameter, Place, Reach, meaning};

/// The document. Paths are those without prefix; the servers of a path say which it has.
pub fn of(operations: &[Operation]) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let methods = paths.entry(operation.path.replace("{*", "{")).or_default();
        methods.insert(operation.method.as_str().to_ascii_lowercase(), describe(operation));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Collimator",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "DICOMweb (PS3.18) in partitions. Operations tagged `partition` \
                also answer under /partitions/{partition}; all but those of operators also \
                under /v1 and /v2. GET takes HEAD along, and every path of a service answers \
                OPTIONS with its capabilities. Errors are application/problem+json (RFC 9457).",
        },
        "servers": servers(Reach::Partition),
        "paths": paths,
        // With none, where authentication is off.
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "components": {
            "schemas": {"Problem": problem_schema()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

/// Where routes of a reach lie.
fn servers(reach: Reach) -> Value {
    let whole = [("/", "As written"), ("/v1", "As in Microsoft's server"), ("/v2", "The same")];
    let mut servers: Vec<Value> = Vec::new();
    let wanted = if reach == Reach::Operator { 1 } else { whole.len() };
    for (url, description) in whole.iter().take(wanted) {
        servers.push(json!({"url": url, "description": description}));
    }
    if reach == Reach::Partition {
        for (url, _) in whole {
            servers.push(json!({
                "url": format!("{}/partitions/{{partition}}", url.trim_end_matches('/')),
                "description": "In a partition",
                "variables": {"partition": {"default": "microsoft.default"}},
            }));
        }
    }
    Value::Array(servers)
}

fn describe(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operation
        .path_parameters()
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    // OpenAPI has no parameter for `Accept`: the contents of the answers say it.
    let others = operation.all_parameters();
    parameters.extend(others.iter().filter(|one| one.name != "Accept").map(parameter));
    let mut tags = vec![operation.service];
    if operation.reach == Reach::Partition {
        tags.push("partition");
    }
    let mut described = json!({
        "operationId": operation.id(),
        "summary": operation.summary,
        "tags": tags,
        "parameters": parameters,
        "responses": responses(operation),
    });
    if !operation.takes.is_empty() {
        let content: Map<String, Value> =
            operation.takes.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        described["requestBody"] = json!({"required": true, "content": content});
    }
    if !operation.section.is_empty() {
        described["description"] = json!(format!("DICOM PS3.18 {}", operation.section));
    }
    if operation.reach != Reach::Partition {
        described["servers"] = servers(operation.reach);
    }
    described
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({"type": "string"});
    if !parameter.options.is_empty() {
        value["enum"] = json!(parameter.options);
    }
    if !parameter.default.is_empty() {
        value["default"] = json!(parameter.default);
    }
    let place = match parameter.place {
        Place::Query => "query",
        Place::Header => "header",
    };
    let mut described = json!({
        "name": parameter.name,
        "in": place,
        "description": parameter.summary,
        "schema": value,
    });
    if parameter.repeats {
        described["schema"] = json!({"type": "array", "items": described["schema"]});
        described["explode"] = json!(true);
    }
    described
}

fn responses(operation: &Operation) -> Value {
    let problem = json!({"application/problem+json": {
        "schema": {"$ref": "#/components/schemas/Problem"}
    }});
    let content: Map<String, Value> =
        operation.offers.iter().map(|offer| (offer.name(), json!({}))).collect();
    let mut responses = Map::new();
    for status in operation.statuses {
        let mut response = json!({"description": meaning(*status)});
        if *status >= 400 {
            response["content"] = problem.clone();
        } else if has_body(*status) && !content.is_empty() {
            response["content"] = Value::Object(content.clone());
        }
        responses.insert(status.to_string(), response);
    }
    if operation.reach == Reach::Partition {
        for status in [401, 403, 429] {
            let response = json!({"description": meaning(status), "content": problem.clone()});
            responses.insert(status.to_string(), response);
        }
    }
    responses.insert("default".into(), json!({"description": "An error.", "content": problem}));
    Value::Object(responses)
}

/// Whether an answer of this status, which is no error, has a body.
pub fn has_body(status: u16) -> bool {
    !matches!(status, 204 | 304)
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            }},
            "available": {"type": "array", "items": {"type": "string"}},
            "request_id": {"type": "string"},
        },
    })
}
