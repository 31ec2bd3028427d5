//! Retrieve Capabilities (PS3.18 §8.9, Annexes G and H): what a service can do, in WADL as XML or
//! as JSON, made from the descriptions of the routes that serve.
//!
//! Holds: the base is the one the client used, with version and partition in its own style; the
//! answer is the same whether the partition and what the path names exist or not. Absent: routes
//! for operators, which belong to no service.

mod tree;
mod wadl;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};

use super::{
    App,
    accept::{AcceptSet, choose, offers::CAPABILITIES},
    admit,
    carrier::Carried,
    conditional,
    operation::{Operation, Reach},
    problem::Problem,
    routes::OPERATIONS,
};
use crate::tenancy::{Named, PartitionId, Permission, Refused};

/// `OPTIONS` at the root of a service: all of it; at a path: what lies there and below.
pub async fn describe(
    State(app): State<App>,
    matched: MatchedPath,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    // Named like a search's, since a list of partitions does no harm here.
    let carried = Carried::read(&parts, &app.server, &app.tenancy, Permission::Search)?;
    refuse_partitions_that_are_off(&app, &carried.named)?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let choice = choose(&accept, &CAPABILITIES)?;
    let urls = admit::urls(&app, &parts, &carried)?;
    let (base, fixed) = match &carried.named {
        Named::One(partition) => {
            let (base, in_query) = urls.service_in(partition);
            (base, in_query.then_some(partition))
        }
        Named::Nothing | Named::Several(_) => (urls.service().to_owned(), None),
    };
    let path = tree::without_prefix(matched.as_str());
    let is_within = matched.as_str() != path && matched.as_str().contains("{partition}");
    let served = OPERATIONS.iter().filter(|operation| match operation.reach {
        Reach::Partition => true,
        Reach::Server => !is_within,
        Reach::Operator => false,
    });
    let application = wadl::application(&base, fixed, &tree::below(path, served));
    let body = if choice.media_type == "application/json" {
        application.to_json().to_string()
    } else {
        application.to_xml()
    };
    let etag = format!("\"{}\"", tag(&body));
    let mut response = if conditional::not_modified(&parts.headers, &etag) {
        conditional::unchanged(&etag)
    } else {
        let content_type = [(header::CONTENT_TYPE, choice.media_type)];
        conditional::tagged((content_type, body).into_response(), &etag)
    };
    if let Ok(methods) = HeaderValue::try_from(methods(path, &OPERATIONS)) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    Ok(response)
}

/// As every other route does, without a look at which partitions there are.
fn refuse_partitions_that_are_off(app: &App, named: &Named) -> Result<(), Refused> {
    let others = match named {
        Named::Nothing => false,
        Named::One(one) => !one.is_default(),
        Named::Several(several) => !several.iter().all(PartitionId::is_default),
    };
    if others && !app.partitions.enabled() { Err(Refused::PartitionsOff) } else { Ok(()) }
}

/// The value of `Allow` for a path.
fn methods(path: &str, operations: &[Operation]) -> String {
    let mut methods = Vec::new();
    for operation in operations.iter().filter(|operation| operation.path == path) {
        methods.push(operation.method.as_str());
        if operation.method == axum::http::Method::GET {
            methods.push("HEAD");
        }
    }
    if !methods.contains(&"OPTIONS") {
        methods.push("OPTIONS");
    }
    methods.join(", ")
}

fn tag(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
