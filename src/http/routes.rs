//! Every route of the server, on one page (those of who may do what, of links and of the worklist on
//! pages of their own).
//!
//! Holds: a route exists exactly if it stands here; the router, the published documents, the
//! tables of the conformance statement and the attack matrix of the tests are all made from this
//! list. `OPTIONS` is the one method that every path of a service has without a line of its own.

mod access;
mod links;
mod non_patient;
mod transfer;
mod worklist;

use std::sync::LazyLock;

use axum::{Router, http::Method, middleware};

use super::{
    App,
    accept::{Offer, offers},
    audit, bulk_update, bulkdata, capabilities, change_feed, commitment, corrections, delete,
    frames, health,
    layers::{self, head::Security},
    metadata,
    openapi::{self, Routes},
    operation::{
        Operation, Parameter,
        Reach::{self, Operator, Partition, Server},
    },
    operations,
    parameters::{
        ANONYMIZE, AUDIT, CHANGE, CHANGES, CHARSET, CONDITIONAL, DELETE, MATCHING,
        OPERATIONS as WHICH, ORIGINAL, PAGES, RANGES, TAGS, THUMBNAIL, VIEW, WADO_URI,
    },
    partitions, pixeldata, qido, query_tags, removals, rendered, stow, thumbnail, wado, wado_uri,
    webhooks,
};

const STUDY: &str = "/studies/{study}";
const SERIES: &str = "/studies/{study}/series/{series}";
const INSTANCE: &str = "/studies/{study}/series/{series}/instances/{instance}";
const STUDY_METADATA: &str = "/studies/{study}/metadata";
const SERIES_METADATA: &str = "/studies/{study}/series/{series}/metadata";
const INSTANCE_METADATA: &str = "/studies/{study}/series/{series}/instances/{instance}/metadata";
const FRAMES: &str = "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}";
const STUDY_BULK: &str = "/studies/{study}/bulkdata";
const SERIES_BULK: &str = "/studies/{study}/series/{series}/bulkdata";
const INSTANCE_BULK: &str = "/studies/{study}/series/{series}/instances/{instance}/bulkdata";
const STUDY_PIXELS: &str = "/studies/{study}/pixeldata";
const SERIES_PIXELS: &str = "/studies/{study}/series/{series}/pixeldata";
const INSTANCE_PIXELS: &str = "/studies/{study}/series/{series}/instances/{instance}/pixeldata";
const BULK: &str = "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*path}";
const STUDY_RENDERED: &str = "/studies/{study}/rendered";
const SERIES_RENDERED: &str = "/studies/{study}/series/{series}/rendered";
const INSTANCE_RENDERED: &str = "/studies/{study}/series/{series}/instances/{instance}/rendered";
const FRAMES_RENDERED: &str =
    "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered";
const STUDY_THUMBNAIL: &str = "/studies/{study}/thumbnail";
const SERIES_THUMBNAIL: &str = "/studies/{study}/series/{series}/thumbnail";
const INSTANCE_THUMBNAIL: &str = "/studies/{study}/series/{series}/instances/{instance}/thumbnail";
const FRAMES_THUMBNAIL: &str =
    "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail";
const STUDY_SERIES: &str = "/studies/{study}/series";
const STUDY_INSTANCES: &str = "/studies/{study}/instances";
const QUERY_TAGS: &str = "/extendedquerytags";
const TAG: &str = "/extendedquerytags/{tag}";
const TAG_ERRORS: &str = "/extendedquerytags/{tag}/errors";
const OPERATIONS_OF: &str = "/operations";
const OPERATION: &str = "/operations/{operation}";
const REMOVALS: &str = "/removals";
const RETRY: &str = "/removals/$retry";
const BULK_UPDATE: &str = "/studies/$bulkUpdate";
const MERGE: &str = "/patients/$merge";
const ASSIGN: &str = "/studies/$assignPatient";
const MOVE_STUDY: &str = "/studies/{study}/$move";
const MOVE_SERIES: &str = "/studies/{study}/series/{series}/$move";
const UNDELETE: &str = "/studies/{study}/$undelete";
const WEBHOOKS: &str = "/webhooks";
const WEBHOOK: &str = "/webhooks/{webhook}";
const WEBHOOK_SECRET: &str = "/webhooks/{webhook}/$rotateSecret";
const WEBHOOK_TEST: &str = "/webhooks/{webhook}/$test";
const LETTERS: &str = "/webhooks/{webhook}/deadletters";
const LETTERS_REPLAY: &str = "/webhooks/{webhook}/deadletters/$replay";
const LETTER: &str = "/webhooks/{webhook}/deadletters/{letter}";
const LETTER_REPLAY: &str = "/webhooks/{webhook}/deadletters/{letter}/$replay";
const COMMITMENT: &str = "/commitment-requests/{transaction}";
const SERIES_INSTANCES: &str = "/studies/{study}/series/{series}/instances";

const STORE: &str = "§10.5";
const RETRIEVE: &str = "§10.4.1.1";
const RENDERED: &str = "§10.4.1.1.3";
const SMALL: &str = "§10.4.1.1.4";
const URI: &str = "§9";
const SEARCH: &str = "§10.6";

/// Groups of parameters, besides those that every route has.
const NOTHING: &[&[Parameter]] = &[];
const WHOLE: &[&[Parameter]] = &[CONDITIONAL];
const TEXT: &[&[Parameter]] = &[CHARSET, ORIGINAL, CONDITIONAL];
const FILES: &[&[Parameter]] = &[ANONYMIZE, ORIGINAL, CONDITIONAL, RANGES];
const BYTES: &[&[Parameter]] = &[CONDITIONAL, RANGES];

/// Of what may have to be decoded, and of which a range may be asked.
const PIXEL_STATUSES: [u16; 10] = [200, 206, 304, 400, 404, 406, 410, 413, 416, 503];

/// A GET in a partition of something that is there or not.
fn read(
    path: &'static str,
    service: &'static str,
    summary: &'static str,
    section: &'static str,
) -> Operation {
    Operation::new(Method::GET, path, Partition, service, summary, section)
        .statuses(&[200, 206, 304, 400, 404, 406, 410, 503])
}

fn retrieve(path: &'static str, summary: &'static str, gives: &'static [Offer]) -> Operation {
    read(path, "retrieve", summary, RETRIEVE)
        .gives(gives)
        .parameters(FILES)
        .statuses(&PIXEL_STATUSES)
}

fn metadata(path: &'static str, summary: &'static str, gives: &'static [Offer]) -> Operation {
    read(path, "metadata", summary, RETRIEVE)
        .gives(gives)
        .parameters(TEXT)
        .statuses(&[200, 304, 400, 404, 406, 410, 503])
}

/// A GET whose answer takes byte ranges.
fn bytes(path: &'static str, service: &'static str, summary: &'static str) -> Operation {
    read(path, service, summary, RETRIEVE)
        .gives(&offers::FRAMES)
        .parameters(BYTES)
        .statuses(&PIXEL_STATUSES)
}

/// A GET of the values of several items.
fn values(path: &'static str, service: &'static str, summary: &'static str) -> Operation {
    read(path, service, summary, RETRIEVE)
        .gives(&offers::COLLECTION)
        .parameters(WHOLE)
        .statuses(&[200, 206, 304, 400, 404, 406, 410, 413, 503])
}

fn search(path: &'static str, summary: &'static str) -> Operation {
    read(path, "search", summary, SEARCH)
        .gives(&offers::SEARCH)
        .parameters(&[CHARSET, MATCHING, TAGS])
        .statuses(&[200, 204, 400, 404, 406, 413, 503])
}

fn picture(path: &'static str, summary: &'static str, gives: &'static [Offer]) -> Operation {
    read(path, "rendered", summary, RENDERED)
        .gives(gives)
        .parameters(&[VIEW, CONDITIONAL, RANGES])
        .statuses(&[200, 206, 304, 400, 404, 406, 410, 413, 416, 503])
}

fn thumbnail_of(path: &'static str, summary: &'static str) -> Operation {
    read(path, "thumbnail", summary, SMALL)
        .gives(&offers::THUMBNAIL)
        .parameters(&[THUMBNAIL, CONDITIONAL, RANGES])
        .statuses(&[200, 206, 304, 400, 404, 406, 410, 416, 503])
}

fn wado() -> Operation {
    read("/wado", "wado-uri", "Retrieve an instance by query", URI)
        .gives(&offers::WADO_URI)
        .parameters(&[WADO_URI, CONDITIONAL, RANGES])
        .statuses(&[200, 206, 304, 400, 404, 406, 410, 413, 416, 503])
}

fn store(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::POST, path, Partition, "store", summary, STORE)
        .takes(&[
            "multipart/related; type=\"application/dicom\"",
            "application/dicom",
            "multipart/related; type=\"application/dicom+json\"",
            "application/dicom+json",
            "multipart/related; type=\"application/dicom+xml\"",
            "application/dicom+xml",
        ])
        .gives(&offers::STORED)
        .parameters(&[CHARSET])
        .statuses(&[200, 202, 400, 404, 406, 408, 409, 413, 415, 503])
}

fn remove(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::DELETE, path, Partition, "delete", summary, "")
        .parameters(&[DELETE])
        .statuses(&[202, 204, 400, 404, 503])
}

/// Of what is managed: extended query tags, operations, webhooks, workitems.
fn managed(
    method: Method,
    path: &'static str,
    service: &'static str,
    summary: &'static str,
    statuses: &'static [u16],
) -> Operation {
    Operation::new(method, path, Partition, service, summary, "").statuses(statuses)
}

/// A GET of a list of these.
fn managed_list(path: &'static str, service: &'static str, summary: &'static str) -> Operation {
    managed(Method::GET, path, service, summary, &[200, 400, 404, 503])
        .gives(&offers::OWN_JSON)
        .parameters(&[PAGES])
}

/// A body of extended query tags.
fn tags_of(
    method: Method,
    path: &'static str,
    summary: &'static str,
    ok: &'static [u16],
) -> Operation {
    managed(method, path, "extended-query-tags", summary, ok)
        .takes(&["application/json"])
        .gives(&offers::OWN_JSON)
}

/// Every route of extended query tags and operations.
fn with_tags(routes: Routes<App>) -> Routes<App> {
    const SERVICE: &str = "extended-query-tags";
    let (add, change) = ("Add extended query tags", "Change an extended query tag");
    let one = |method, summary, statuses| {
        managed(method, TAG, SERVICE, summary, statuses).gives(&offers::OWN_JSON)
    };
    let operation = |method, summary, statuses| {
        managed(method, OPERATION, "operations", summary, statuses).gives(&offers::OWN_JSON)
    };
    routes
        .add(
            tags_of(Method::POST, QUERY_TAGS, add, &[202, 400, 404, 408, 409, 413, 415, 503]),
            query_tags::add,
        )
        .add(managed_list(QUERY_TAGS, SERVICE, "List extended query tags"), query_tags::list)
        .add(one(Method::GET, "Get an extended query tag", &[200, 400, 404, 503]), query_tags::get)
        .add(
            tags_of(Method::PATCH, TAG, change, &[200, 400, 404, 408, 413, 415, 503]),
            query_tags::change,
        )
        .add(
            managed(
                Method::DELETE,
                TAG,
                SERVICE,
                "Delete an extended query tag",
                &[204, 400, 404, 409, 503],
            ),
            query_tags::remove,
        )
        .add(
            managed_list(TAG_ERRORS, SERVICE, "Errors of an extended query tag"),
            query_tags::errors,
        )
        .add(
            managed_list(OPERATIONS_OF, "operations", "List operations")
                .parameters(&[PAGES, WHICH]),
            operations::list,
        )
        .add(
            operation(Method::GET, "Get an operation", &[200, 202, 400, 404, 503]),
            operations::get,
        )
        .add(
            operation(Method::DELETE, "Cancel an operation", &[200, 202, 400, 404, 409, 503]),
            operations::cancel,
        )
}

/// Every route of deletion.
fn with_deletion(routes: Routes<App>) -> Routes<App> {
    const SERVICE: &str = "delete";
    let removals = |method, path, summary| {
        managed(method, path, SERVICE, summary, &[200, 400, 404, 503])
            .gives(&offers::OWN_JSON)
            .parameters(&[PAGES])
    };
    routes
        .add(remove(STUDY, "Delete a study"), delete::delete)
        .add(remove(SERIES, "Delete a series"), delete::delete)
        .add(remove(INSTANCE, "Delete an instance"), delete::delete)
        .add(
            managed(
                Method::POST,
                UNDELETE,
                SERVICE,
                "Undelete a study",
                &[200, 400, 404, 409, 410, 503],
            )
            .gives(&offers::OWN_JSON),
            delete::undelete,
        )
        .add(removals(Method::GET, REMOVALS, "What awaits removal"), removals::list)
        .add(removals(Method::POST, RETRY, "Retry removals that failed"), removals::retry)
}

/// Every route of changes of what is stored.
fn with_update(routes: Routes<App>) -> Routes<App> {
    const STATUSES: &[u16] = &[202, 400, 404, 408, 413, 415, 429, 503];
    const OF_ONE: &[u16] = &[202, 400, 404, 408, 410, 413, 415, 429, 503];
    let of = |path, summary, statuses| {
        managed(Method::POST, path, "update", summary, statuses)
            .takes(&["application/json"])
            .gives(&offers::OWN_JSON)
    };
    routes
        .add(of(BULK_UPDATE, "Change attributes of studies", STATUSES), bulk_update::update)
        .add(of(MERGE, "Merge two patients", STATUSES), corrections::merge)
        .add(of(ASSIGN, "Give studies another patient", STATUSES), corrections::assign)
        .add(of(MOVE_STUDY, "Move a study into another", OF_ONE), corrections::move_into)
        .add(of(MOVE_SERIES, "Move a series into another study", OF_ONE), corrections::move_into)
}

/// Every route of storage commitment.
fn with_commitment(routes: Routes<App>) -> Routes<App> {
    let of = |method, summary, section, statuses| {
        Operation::new(method, COMMITMENT, Partition, "commitment", summary, section)
            .gives(&offers::COMMITTED)
            .parameters(&[CHARSET])
            .statuses(statuses)
    };
    const ASKED: &[u16] = &[200, 202, 400, 404, 406, 408, 409, 413, 415, 429, 503];
    const TOLD: &[u16] = &[200, 202, 400, 404, 406, 410, 503];
    routes
        .add(
            of(Method::POST, "Request storage commitment", "§13.1", ASKED).takes(&[
                "application/dicom+json",
                "application/json",
                "application/dicom+xml",
                "multipart/related; type=\"application/dicom+json\"",
                "multipart/related; type=\"application/dicom+xml\"",
            ]),
            commitment::request,
        )
        .add(of(Method::GET, "Result of storage commitment", "§13.2", TOLD), commitment::get)
}

/// Every route of webhooks.
fn with_webhooks(routes: Routes<App>) -> Routes<App> {
    const SERVICE: &str = "webhooks";
    let one = |method, path, summary, statuses| managed(method, path, SERVICE, summary, statuses);
    let shows = |method, path, summary| {
        one(method, path, summary, &[200, 400, 404, 503]).gives(&offers::OWN_JSON)
    };
    let replays = |path, summary| {
        one(Method::POST, path, summary, &[202, 400, 404, 503]).gives(&offers::OWN_JSON)
    };
    let removes = |path, summary| one(Method::DELETE, path, summary, &[204, 400, 404, 503]);
    let takes = |method, path, summary, statuses| {
        one(method, path, summary, statuses).takes(&["application/json"]).gives(&offers::OWN_JSON)
    };
    const ADDED: &[u16] = &[201, 400, 404, 408, 413, 415, 503];
    const CHANGED: &[u16] = &[200, 400, 404, 408, 413, 415, 503];
    routes
        .add(takes(Method::POST, WEBHOOKS, "Add a webhook", ADDED), webhooks::add)
        .add(managed_list(WEBHOOKS, SERVICE, "List webhooks"), webhooks::list)
        .add(shows(Method::GET, WEBHOOK, "Get a webhook"), webhooks::get)
        .add(takes(Method::PATCH, WEBHOOK, "Change a webhook", CHANGED), webhooks::change)
        .add(removes(WEBHOOK, "Remove a webhook"), webhooks::remove)
        .add(
            shows(Method::POST, WEBHOOK_SECRET, "Replace the secret of a webhook"),
            webhooks::rotate,
        )
        .add(
            shows(Method::POST, WEBHOOK_TEST, "Test a webhook")
                .statuses(&[200, 400, 404, 409, 503]),
            webhooks::test,
        )
        .add(managed_list(LETTERS, SERVICE, "Dead letters of a webhook"), webhooks::letters)
        .add(replays(LETTERS_REPLAY, "Replay all dead letters"), webhooks::replay_all)
        .add(shows(Method::GET, LETTER, "Get a dead letter"), webhooks::letter)
        .add(removes(LETTER, "Remove a dead letter"), webhooks::remove_letter)
        .add(replays(LETTER_REPLAY, "Replay a dead letter"), webhooks::replay)
}

/// A GET of the change feed.
fn changes(
    path: &'static str,
    summary: &'static str,
    parameters: &'static [&'static [Parameter]],
    statuses: &'static [u16],
) -> Operation {
    managed(Method::GET, path, "change-feed", summary, statuses)
        .gives(&offers::OWN_JSON)
        .parameters(parameters)
}

/// A GET of something of the server's own.
fn own(
    path: &'static str,
    reach: Reach,
    service: &'static str,
    summary: &'static str,
    gives: &'static [Offer],
) -> Operation {
    Operation::new(Method::GET, path, reach, service, summary, "")
        .gives(gives)
        .parameters(NOTHING)
        .statuses(&[200, 503])
}

fn health(path: &'static str, summary: &'static str) -> Operation {
    own(path, Operator, "health", summary, &offers::OWN_JSON)
}

/// Every route.
pub fn routes() -> Routes<App> {
    let routes = Routes::default()
        .add(store("/studies", "Store instances"), stow::store)
        .add(store(STUDY, "Store instances of one study"), stow::store)
        .add(retrieve(STUDY, "Retrieve a study", &offers::INSTANCES), wado::retrieve)
        .add(retrieve(SERIES, "Retrieve a series", &offers::INSTANCES), wado::retrieve)
        .add(retrieve(INSTANCE, "Retrieve an instance", &offers::INSTANCE), wado::retrieve)
        .add(metadata(STUDY_METADATA, "Metadata of a study", &offers::METADATA), metadata::retrieve)
        .add(
            metadata(SERIES_METADATA, "Metadata of a series", &offers::METADATA),
            metadata::retrieve,
        )
        .add(
            metadata(INSTANCE_METADATA, "Metadata of an instance", &offers::METADATA_ONE),
            metadata::retrieve,
        )
        .add(bytes(FRAMES, "frames", "Retrieve frames"), frames::retrieve)
        .add(bytes(BULK, "bulkdata", "Retrieve a bulk value"), bulkdata::retrieve)
        .add(values(STUDY_BULK, "bulkdata", "Bulk values of a study"), pixeldata::values)
        .add(values(SERIES_BULK, "bulkdata", "Bulk values of a series"), pixeldata::values)
        .add(values(INSTANCE_BULK, "bulkdata", "Bulk values of an instance"), pixeldata::values)
        .add(values(STUDY_PIXELS, "pixeldata", "Pixel data of a study"), pixeldata::pixels)
        .add(values(SERIES_PIXELS, "pixeldata", "Pixel data of a series"), pixeldata::pixels)
        .add(bytes(INSTANCE_PIXELS, "pixeldata", "Pixel data of an instance"), bulkdata::pixels)
        .add(picture(STUDY_RENDERED, "Render a study", &offers::RENDERED_PARTS), rendered::retrieve)
        .add(
            picture(SERIES_RENDERED, "Render a series", &offers::RENDERED_PARTS),
            rendered::retrieve,
        )
        .add(
            picture(INSTANCE_RENDERED, "Render an instance", &offers::RENDERED),
            rendered::retrieve,
        )
        .add(
            picture(FRAMES_RENDERED, "Render frames", &offers::RENDERED_FRAMES),
            rendered::retrieve_frames,
        )
        .add(thumbnail_of(STUDY_THUMBNAIL, "Thumbnail of a study"), thumbnail::retrieve)
        .add(thumbnail_of(SERIES_THUMBNAIL, "Thumbnail of a series"), thumbnail::retrieve)
        .add(thumbnail_of(INSTANCE_THUMBNAIL, "Thumbnail of an instance"), thumbnail::retrieve)
        .add(thumbnail_of(FRAMES_THUMBNAIL, "Thumbnail of a frame"), thumbnail::retrieve)
        .add(wado(), wado_uri::retrieve)
        .add(search("/studies", "Search for studies"), qido::studies)
        .add(search("/series", "Search for series"), qido::series)
        .add(search("/instances", "Search for instances"), qido::instances)
        .add(search(STUDY_SERIES, "Search for series of a study"), qido::series)
        .add(search(STUDY_INSTANCES, "Search for instances of a study"), qido::instances)
        .add(search(SERIES_INSTANCES, "Search for instances of a series"), qido::instances);
    let routes = non_patient::with_non_patient(with_commitment(with_update(with_deletion(routes))));
    let routes = worklist::with_worklist(with_webhooks(with_tags(routes)));
    transfer::with_transfer(links::with_links(access::with_access(routes)))
        .add(
            changes("/changefeed", "Changes", &[CHANGES, CHANGE], &[200, 400, 404, 503])
                .gives(&offers::CHANGES),
            change_feed::page,
        )
        .add(
            changes("/changefeed/latest", "Latest change", &[CHANGE], &[200, 204, 400, 404, 503]),
            change_feed::latest,
        )
        .add(
            managed(Method::GET, "/audit", "audit", "Read the audit log", &[200, 400, 404, 503])
                .gives(&offers::AUDIT)
                .parameters(&[AUDIT]),
            audit::read,
        )
        .add(
            own("/partitions", Server, "partitions", "List partitions", &offers::OWN_JSON),
            partitions::list,
        )
        .add(
            Operation::new(
                Method::POST,
                "/partitions",
                Server,
                "partitions",
                "Add a partition",
                "",
            )
            .takes(&["application/json"])
            .gives(&offers::OWN_JSON)
            .statuses(&[201, 400, 404, 408, 409, 413, 415, 503]),
            partitions::create,
        )
        .add(health("/health/live", "Whether the process serves"), health::live)
        .add(health("/health/ready", "Whether the server can do its work"), health::ready)
        .add(
            own("/metrics", Operator, "health", "Metrics for Prometheus", &offers::METRICS),
            health::metrics,
        )
        .add(
            own("/openapi.json", Operator, "health", "The routes as OpenAPI", &offers::OWN_JSON),
            openapi::json,
        )
        .add(
            own("/docs", Operator, "health", "The routes for readers", &offers::PAGE),
            openapi::page,
        )
        .with_capabilities(
            Operation::new(Method::OPTIONS, "/", Partition, "capabilities", "Capabilities", "§8.9")
                .gives(&offers::CAPABILITIES)
                .parameters(WHOLE)
                .statuses(&[200, 304, 400, 406]),
            capabilities::describe,
        )
}

/// The descriptions of all routes.
pub static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| routes().operations().to_vec());

/// The router of all routes, with its layers.
pub fn router(app: App) -> Router {
    let security = Security::new(app.edge.is_auth_on, app.edge.hsts);
    let record = middleware::from_fn_with_state(app.audit.clone(), layers::audit::record);
    let overload = app.overload.clone();
    routes().into_router(&app.server, &app.cors, security, overload).layer(record).with_state(app)
}
