//! The routes of export and import.

use axum::http::Method;

use super::managed;
use crate::http::{App, accept::offers, openapi::Routes, operation::Operation, transfer};

const EXPORT: &str = "/export";
const IMPORT: &str = "/import";

const BEGUN: &[u16] = &[202, 400, 404, 408, 413, 415, 503];

fn begins(path: &'static str, summary: &'static str) -> Operation {
    managed(Method::POST, path, "transfer", summary, BEGUN)
        .takes(&["application/json"])
        .gives(&offers::OWN_JSON)
}

/// Adds them.
pub fn with_transfer(routes: Routes<App>) -> Routes<App> {
    routes
        .add(begins(EXPORT, "Export instances"), transfer::export)
        .add(begins(IMPORT, "Import instances"), transfer::import)
}
