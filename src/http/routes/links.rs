//! The routes of signed URLs.

use axum::http::Method;

use super::{Routes, managed};
use crate::http::{App, accept::offers, links, parameters::ROTATE};

/// Every route of signed URLs.
pub fn with_links(routes: Routes<App>) -> Routes<App> {
    const SERVICE: &str = "links";
    routes
        .add(
            managed(
                Method::POST,
                "/links",
                SERVICE,
                "Make a signed URL",
                &[201, 400, 404, 408, 410, 413, 415, 503],
            )
            .takes(&["application/json"])
            .gives(&offers::OWN_JSON),
            links::make,
        )
        .add(
            managed(
                Method::POST,
                "/links/$rotate",
                SERVICE,
                "Replace the key of signed URLs",
                &[200, 400, 404, 503],
            )
            .gives(&offers::OWN_JSON)
            .parameters(&[ROTATE]),
            links::rotate,
        )
}
