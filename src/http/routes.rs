//! Every route of the server, on one page.
//!
//! Holds: a route exists exactly if it stands here; the router, the published document and the
//! attack matrix of the tests are all made from this list.

use axum::{Json, Router, http::Method};

use super::{
    App, bulkdata, delete, frames, health, metadata,
    openapi::{
        Operation,
        Reach::{self, Operator, Partition, Server},
        Routes,
    },
    partitions, qido, stow, wado,
};

const STUDY: &str = "/studies/{study}";
const SERIES: &str = "/studies/{study}/series/{series}";
const INSTANCE: &str = "/studies/{study}/series/{series}/instances/{instance}";
const STUDY_METADATA: &str = "/studies/{study}/metadata";
const SERIES_METADATA: &str = "/studies/{study}/series/{series}/metadata";
const INSTANCE_METADATA: &str = "/studies/{study}/series/{series}/instances/{instance}/metadata";
const FRAMES: &str = "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}";
const BULK: &str = "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*path}";
const STUDY_SERIES: &str = "/studies/{study}/series";
const STUDY_INSTANCES: &str = "/studies/{study}/instances";
const SERIES_INSTANCES: &str = "/studies/{study}/series/{series}/instances";

const STORE: &str = "§10.5";
const RETRIEVE: &str = "§10.4.1.1";
const SEARCH: &str = "§10.6";

fn operation(
    method: Method,
    path: &'static str,
    reach: Reach,
    service: &'static str,
    summary: &'static str,
    section: &'static str,
) -> Operation {
    Operation { method, path, reach, service, summary, section }
}

/// A GET in a partition.
fn read(
    path: &'static str,
    service: &'static str,
    summary: &'static str,
    section: &'static str,
) -> Operation {
    operation(Method::GET, path, Partition, service, summary, section)
}

fn store(path: &'static str, summary: &'static str) -> Operation {
    operation(Method::POST, path, Partition, "store", summary, STORE)
}

fn remove(path: &'static str, summary: &'static str) -> Operation {
    operation(Method::DELETE, path, Partition, "delete", summary, "")
}

fn operator(path: &'static str, summary: &'static str) -> Operation {
    operation(Method::GET, path, Operator, "health", summary, "")
}

/// Every route.
pub fn routes() -> Routes<App> {
    Routes::default()
        .add(store("/studies", "Store instances"), stow::store)
        .add(store(STUDY, "Store instances of one study"), stow::store)
        .add(read(STUDY, "retrieve", "Retrieve a study", RETRIEVE), wado::retrieve)
        .add(read(SERIES, "retrieve", "Retrieve a series", RETRIEVE), wado::retrieve)
        .add(read(INSTANCE, "retrieve", "Retrieve an instance", RETRIEVE), wado::retrieve)
        .add(read(STUDY_METADATA, "metadata", "Metadata of a study", RETRIEVE), metadata::retrieve)
        .add(
            read(SERIES_METADATA, "metadata", "Metadata of a series", RETRIEVE),
            metadata::retrieve,
        )
        .add(
            read(INSTANCE_METADATA, "metadata", "Metadata of an instance", RETRIEVE),
            metadata::retrieve,
        )
        .add(read(FRAMES, "frames", "Retrieve frames", RETRIEVE), frames::retrieve)
        .add(read(BULK, "bulkdata", "Retrieve a bulk value", RETRIEVE), bulkdata::retrieve)
        .add(read("/studies", "search", "Search for studies", SEARCH), qido::studies)
        .add(read("/series", "search", "Search for series", SEARCH), qido::series)
        .add(read("/instances", "search", "Search for instances", SEARCH), qido::instances)
        .add(read(STUDY_SERIES, "search", "Search for series of a study", SEARCH), qido::series)
        .add(
            read(STUDY_INSTANCES, "search", "Search for instances of a study", SEARCH),
            qido::instances,
        )
        .add(
            read(SERIES_INSTANCES, "search", "Search for instances of a series", SEARCH),
            qido::instances,
        )
        .add(remove(STUDY, "Delete a study"), delete::delete)
        .add(remove(SERIES, "Delete a series"), delete::delete)
        .add(remove(INSTANCE, "Delete an instance"), delete::delete)
        .add(
            operation(Method::GET, "/partitions", Server, "partitions", "List partitions", ""),
            partitions::list,
        )
        .add(operator("/health/live", "Whether the process serves"), health::live)
        .add(operator("/health/ready", "Whether the server can do its work"), health::ready)
        .add(operator("/metrics", "Metrics for Prometheus"), health::metrics)
        .add(operator("/openapi.json", "This document"), async || Json(routes().document()))
}

/// The router of all routes, with its layers.
pub fn router(app: App) -> Router {
    routes().into_router(&app.server, &app.cors).with_state(app)
}
